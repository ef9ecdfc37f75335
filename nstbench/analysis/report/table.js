// The table of runs: sorted by a click on a head, filtered by words and conditions.
"use strict";

const collator = new Intl.Collator("en", { numeric: true });

function tableColumns() {
  const columns = study.settings.map(({ name, numeric, values }, place) => ({
    name,
    numeric,
    text: (run) => labelOf(run, name),
    key: (run) => (numeric ? values[run.at[place]] : labelOf(run, name)),
  }));
  const metric = ({ name, better }, place) => ({
    name,
    better,
    numeric: true,
    text: (run) => number(run.metrics[place]),
    key: (run) => run.metrics[place],
  });
  const all = recall("all", "") === "yes";
  const shown = shownMetrics();
  const rest = study.metrics.map((m) => m.name).filter((name) => !shown.includes(name));
  const others = all ? rest : rest.filter((name) => !name.includes("/"));
  for (const name of [...shown, ...others]) columns.push(metric(study.metrics[metricPlace.get(name)], metricPlace.get(name)));
  const plain = (name, key) => ({ name, numeric: true, text: (run) => number(key(run)), key });
  if (study.runs.some((run) => run.losses.total !== undefined)) columns.push(plain("loss", (run) => run.losses.total ?? null));
  columns.push(plain("evaluations", (run) => run.evaluations), plain("seconds", (run) => run.seconds));
  if (study.runs.some((run) => run.state !== "completed")) {
    columns.push({ name: "state", numeric: false, text: stateWord, key: stateWord });
  }
  columns.push({ name: "run", numeric: false, text: (run) => run.name, key: (run) => run.name });
  return columns;
}

const stateWord = (run) => (run.state === "running" ? "unfinished" : run.state);

/** Whether a run contains all words, and meets all conditions, of a filter. */
function matcher(query, columns) {
  const tests = query.split(/\s+/).filter(Boolean).map((token) => {
    const parts = token.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
    const column = parts && columnNamed(parts[1], columns);
    if (!column) return (run, text) => text.includes(token.toLowerCase());
    const [sign, asked] = [parts[2], parts[3]];
    const limit = Number(asked);
    return (run) => {
      const value = column.key(run);
      if (sign === "=" && (Number.isNaN(limit) || typeof value !== "number")) {
        return column.text(run).toLowerCase() === asked.toLowerCase();
      }
      if (typeof value !== "number" || Number.isNaN(limit)) return false;
      return { "<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit, "=": value === limit }[sign];
    };
  });
  const words = (run) => columns.map((column) => column.text(run)).join("\n").toLowerCase();
  return (run) => !tests.length || ((text) => tests.every((test) => test(run, text)))(words(run));
}

function columnNamed(name, columns) {
  const last = columns.filter((column) => column.name.split(/[./]/).pop() === name);
  return columns.find((column) => column.name === name) || (last.length === 1 ? last[0] : null);
}

/** The runs of the table in their order. */
function tableRuns(columns = tableColumns()) {
  const [name, way] = recall("sort", "").split(/:(?=[^:]*$)/);
  const runs = study.runs.filter(matcher(recall("q", ""), columns));
  const column = columns.find((each) => each.name === name);
  if (!column) return runs;
  const sign = way === "down" ? -1 : 1;
  return runs.sort((one, other) => {
    const [a, b] = [column.key(one), column.key(other)];
    const [none, nothing] = [a === null || a === undefined, b === null || b === undefined];
    if (none || nothing) return none - nothing; // runs without a value are last in both orders
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b)));
  });
}

function drawTable() {
  const columns = tableColumns();
  const runs = tableRuns(columns);
  const [name, way] = recall("sort", "").split(/:(?=[^:]*$)/);
  const heads = columns.map((column) => {
    const sorted = column.name === name ? (way === "down" ? "descending" : "ascending") : null;
    const sign = sorted ? (way === "down" ? "▼" : "▲") : "";
    const button = make("button", { type: "button", "data-column": column.name, title: column.better ? `${column.better} is better` : null },
      column.name, column.better ? ` ${arrow(column)}` : "", make("span", { class: "sign", "aria-hidden": "true" }, sign));
    return make("th", { scope: "col", "aria-sort": sorted, class: column.numeric ? "number" : null }, button);
  });
  const rows = runs.map((run) => make("tr", { class: run.state },
    make("td", {}, make("button", { type: "button", class: "enlarge", "data-run": run.name, "aria-label": `Enlarge ${titleOf(run)}` },
      run.picture ? make("img", { src: thumb(run.picture), alt: "", loading: "lazy", decoding: "async", width: 40, height: 40 }) : stateWord(run))),
    columns.map((column) => make("td", { class: column.numeric ? "number" : null }, column.text(run)))));
  const focused = document.activeElement && document.activeElement.dataset.column;
  byId("table-scroller").replaceChildren(make("table", { class: "runs" },
    make("caption", { class: "unseen" }, "Runs; the heads of the columns sort them"),
    make("thead", {}, make("tr", {}, make("td", {}), heads)), make("tbody", {}, rows)));
  if (focused) byId("table-scroller").querySelector(`button[data-column="${CSS.escape(focused)}"]`)?.focus();
  byId("table-count").textContent = `${runs.length} of ${count(study.runs.length, "run")}.`;
  document.dispatchEvent(new Event("table-drawn"));
}

function sortBy(name) {
  const [before, way] = recall("sort", "").split(/:(?=[^:]*$)/);
  const column = tableColumns().find((each) => each.name === name);
  const first = column.better === "higher" ? "down" : "up"; // the best first
  const other = first === "down" ? "up" : "down";
  remember("sort", `${name}:${before === name && way === first ? other : first}`);
  drawTable();
  announce(`Sorted by ${name}`);
}

byId("table-scroller").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.column) sortBy(button.dataset.column);
  else if (button?.dataset.run) openRun(button.dataset.run, tableRuns().map((run) => run.name), button);
});
byId("table-controls").addEventListener("submit", (event) => event.preventDefault());
byId("table-filter").value = recall("q", "");
byId("table-filter").addEventListener("input", (event) => { remember("q", event.target.value); drawTable(); });
byId("table-all").checked = recall("all", "") === "yes";
byId("table-all").addEventListener("change", (event) => { remember("all", event.target.checked ? "yes" : ""); drawTable(); });
