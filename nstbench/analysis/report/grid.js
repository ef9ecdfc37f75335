// The grid: two settings as rows and columns, the others as filters, metrics under each picture.
"use strict";


function drawGridControls() {
  const { rows, columns, filters } = arrangement();
  const names = study.settings.map((setting) => setting.name);
  const axes = [["none", "–"], ...names.map((name) => [name, name])];
  const redraw = () => { drawGridControls(); drawGrid(); };
  const setAxis = (key, other, before) => (value) => {
    // A setting that is on the other axis is exchanged.
    if (value !== "none" && value === other.value) remember(other.key, before || "none");
    remember(key, value);
    redraw();
  };
  const controls = [];
  if (names.length) {
    controls.push(choice("Rows", "rows", axes, rows || "none", setAxis("rows", { key: "cols", value: columns }, rows)));
    controls.push(choice("Columns", "cols", axes, columns || "none", setAxis("cols", { key: "rows", value: rows }, columns)));
  }
  for (const setting of study.settings) {
    if (setting.name === rows || setting.name === columns) continue;
    const options = [["all", "all"], ...setting.labels.map((label, place) => [place, label])];
    controls.push(choice(setting.name, `only.${setting.name}`, options, filters.get(setting.name) ?? "all", (value) => {
      remember(`only.${setting.name}`, value === "all" ? "all" : setting.labels[value]);
      redraw();
    }));
  }
  if (rows && study.metrics.length) {
    const orders = [["name", "value"], ...study.metrics.filter((m) => m.better).map((m) => [m.name, `mean ${m.name}`])];
    controls.push(choice("Order of rows", "order", orders, recall("order", "name"), (value) => {
      remember("order", value);
      drawGrid();
    }));
  }
  if (study.metrics.length && study.runs.length > 1) {
    const scopes = [["pictures", "for the same pictures"], ["row", "in each row"], ["column", "in each column"], ["none", "nowhere"]];
    controls.push(choice("Mark the best", "best", scopes, recall("best", "pictures"), (value) => {
      remember("best", value);
      drawGrid();
    }));
  }
  const slider = make("input", { type: "range", name: "edge", min: 64, max: 320, step: 4, value: recall("edge", 160) });
  slider.addEventListener("input", () => { remember("edge", slider.value); setEdge(Number(slider.value)); });
  controls.push(make("label", {}, "Size of pictures", slider));
  controls.push(metricChooser(() => { drawGrid(); drawTable(); }));
  const open = document.querySelector("#grid-controls .chooser[open]");
  const focused = document.activeElement && document.activeElement.name;
  byId("grid-controls").replaceChildren(...controls.filter(Boolean));
  if (open) byId("grid-controls").querySelector(".chooser").open = true;
  if (focused) byId("grid-controls").elements[focused]?.focus();
}

function gridRuns() {
  const { filters } = arrangement();
  const held = [...filters].map(([name, value]) => [settingPlace.get(name), value]);
  return study.runs.filter((run) => held.every(([place, value]) => run.at[place] === value));
}

/** Runs by row and column; empty rows and columns are left out. */
function gridCells(runs, rows, columns) {
  const placeOf = (name) => (run) => (name ? run.at[settingPlace.get(name)] : -1);
  const [down, across] = [placeOf(rows), placeOf(columns)];
  const cells = new Map();
  for (const run of runs) {
    const key = `${down(run)},${across(run)}`;
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(run);
  }
  const sorted = (of) => [...new Set(runs.map(of))].sort((a, b) => a - b);
  return { cells, rowValues: orderedRows(runs, sorted(down), down), columnValues: sorted(across) };
}

function orderedRows(runs, values, down) {
  const place = metricPlace.get(recall("order", "name"));
  if (place === undefined) return values;
  const sign = study.metrics[place].better === "higher" ? -1 : 1;
  const mean = new Map(values.map((value) => {
    const of = runs.filter((run) => down(run) === value && run.metrics[place] !== null);
    return [value, of.length ? of.reduce((sum, run) => sum + run.metrics[place], 0) / of.length : null];
  }));
  const key = (value) => (mean.get(value) === null ? Infinity : sign * mean.get(value));
  return [...values].sort((a, b) => (key(a) === key(b) ? a - b : key(a) - key(b)));
}

function bestInGrid(runs, rows, columns, metrics) {
  const scope = recall("best", "pictures");
  if (scope === "none") return new Set();
  const keys = {
    pictures: (run) => JSON.stringify([run.content, run.style]),
    row: (run) => (rows ? labelOf(run, rows) : ""),
    column: (run) => (columns ? labelOf(run, columns) : ""),
  };
  const groups = Map.groupBy(runs, keys[scope] || keys.pictures);
  return new Set([...groups.values()].flatMap((group) => [...bestOf(group, metrics)]));
}

function drawGrid() {
  const { rows, columns } = arrangement();
  const runs = gridRuns();
  const metrics = shownMetrics();
  const { cells, rowValues, columnValues } = gridCells(runs, rows, columns);
  const most = Math.max(1, ...[...cells.values()].map((of) => of.length));
  const varying = study.settings.map((setting) => setting.name).filter((name, place) => name !== rows &&
    name !== columns && [...cells.values()].some((of) => of.some((run) => run.at[place] !== of[0].at[place])));
  const best = bestInGrid(runs, rows, columns, metrics);
  const body = rowValues.map((row) => make("tr", {},
    rows ? head("row", rows, row) : null,
    columnValues.map((column) => make("td", {}, make("div", { class: "cell" },
      (cells.get(`${row},${column}`) || []).map((run) => tile(run, varying, metrics, best)))))));
  const heads = columns ? make("thead", {}, make("tr", {},
    rows ? make("td", { class: "corner" }, make("span", {}, breakable(rows)), make("span", {}, breakable(columns))) : null,
    columnValues.map((column) => head("col", columns, column)))) : null;
  const scroller = byId("grid-scroller");
  const table = make("table", { class: "grid" },
    make("caption", { class: "unseen" }, `Pictures by ${[rows, columns].filter(Boolean).join(" and ") || "run"}`),
    heads, make("tbody", {}, body));
  scroller.replaceChildren(table);
  fitEdge(columnValues.length, most, Boolean(rows));
  byId("grid-count").textContent = `${runs.length} of ${count(study.runs.length, "run")}.`;
  byId("grid-note").textContent = noteOnGrid(metrics, runs);
  const first = table.querySelector(".tile");
  if (first) first.tabIndex = 0;
  document.dispatchEvent(new Event("grid-drawn"));
}

const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function noteOnGrid(metrics, runs) {
  const known = metrics.map((name) => study.metrics[metricPlace.get(name)]);
  const ways = known.filter((m) => m.better).map((m) => `${m.name} ${arrow(m)} ${m.better} is better`);
  const where = { pictures: "of those shown with the same pictures", row: "in its row", column: "in its column" };
  const scope = where[recall("best", "pictures")];
  const said = ways.length ? [`${ways.join(", ")}.`] : [];
  if (known.length && scope && runs.length > 1) said.push(`★ is the best ${scope}.`);
  for (const m of known.filter((each) => each.mixed)) {
    said.push(`${m.name} was computed with different settings, so no run is marked as the best.`);
  }
  return said.join(" ");
}

/** The head of a row or column; of pictures, with the picture. */
function head(scope, name, place) {
  const setting = study.settings[settingPlace.get(name)];
  const label = setting.labels[place];
  const run = study.runs.find((each) => each.at[settingPlace.get(name)] === place);
  const pictures = name === "content" || name === "style" ? run[name].map((sha) => study.inputs[sha]) : [];
  return make("th", { scope, title: String(setting.values[place] ?? label) }, make("div", { class: "head" },
    pictures.map((each) => (each.picture
      ? make("img", { src: thumb(each.picture), alt: `${name} picture ${each.label}`, ...sizeOf(each.picture) })
      : make("span", { class: "gone" }, each.reason))),
    make("span", { class: "label" }, breakable(label))));
}

function tile(run, varying, metrics, best) {
  const what = titleOf(run);
  const picture = run.picture
    ? make("img", { src: thumb(run.picture), alt: what, loading: "lazy", decoding: "async", ...sizeOf(run.picture) })
    : make("span", { class: "nothing" }, run.state === "running" ? "unfinished" : run.state === "failed" ? "failed" : "no picture");
  const tags = varying.map((name) => named(name, labelOf(run, name))).join(" · ");
  const lines = run.state !== "completed" ? [] : metrics.map((name) => {
    const place = metricPlace.get(name);
    const isBest = best.has(`${name}\n${run.name}`);
    return make("span", { class: isBest ? "metric best" : "metric" },
      make("span", {}, breakable(name)), " ",
      make("b", {}, number(run.metrics[place]), isBest ? make("span", { class: "star" }, "★") : null,
        isBest ? make("span", { class: "unseen" }, " best") : null));
  });
  const button = make("button", { type: "button", class: `tile ${run.state}`, tabindex: "-1", title: what, "data-run": run.name },
    make("span", { class: "frame" }, picture),
    run.state === "failed" && run.picture ? make("span", { class: "badge" }, "failed") : null,
    tags ? make("span", { class: "tags" }, tags) : null, lines);
  return button;
}

/** As many pictures side by side as can be seen well, unless a size was chosen. */
function fitEdge(columns, most, withHeads) {
  const scroller = byId("grid-scroller");
  const chosen = Number(recall("edge", 0));
  const narrow = scroller.clientWidth < 700;
  const room = scroller.clientWidth - (withHeads ? (narrow ? 84 : 134) : 0) - 10 * columns - 4;
  const fitting = Math.floor(room / (columns * Math.min(most, 4))) - 10;
  const edge = chosen || Math.max(88, Math.min(208, fitting));
  const abreast = columns === 1 ? Math.max(1, Math.floor(room / (edge + 10))) : 4;
  scroller.style.setProperty("--abreast", Math.min(most, abreast));
  setEdge(edge);
}

function setEdge(edge) {
  byId("grid-scroller").style.setProperty("--edge", `${edge}px`);
  const slider = byId("grid-controls").elements.edge;
  if (slider) slider.value = edge;
}

function tilesInOrder() {
  return [...document.querySelectorAll("#grid-scroller .tile")];
}

/** Arrow keys: go to the next picture in that direction on the screen. */
function moveInGrid(event) {
  const from = event.target.closest(".tile");
  const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  if (!from || !(event.key in ways)) return;
  event.preventDefault();
  const [dx, dy] = ways[event.key];
  const middle = (node) => {
    const box = node.querySelector(".frame").getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = middle(from);
  let nearest = null;
  let least = Infinity;
  for (const each of tilesInOrder()) {
    if (each === from) continue;
    const [ex, ey] = middle(each);
    const along = (ex - x) * dx + (ey - y) * dy;
    const aside = Math.abs((ex - x) * dy) + Math.abs((ey - y) * dx);
    if (along < 8 || (dx && aside > from.offsetHeight / 2)) continue;
    if (along + 3 * aside < least) [nearest, least] = [each, along + 3 * aside];
  }
  if (!nearest) return;
  from.tabIndex = -1;
  nearest.tabIndex = 0;
  nearest.focus();
}

byId("grid-scroller").addEventListener("keydown", moveInGrid);
byId("grid-scroller").addEventListener("click", (event) => {
  const clicked = event.target.closest(".tile");
  if (clicked) openRun(clicked.dataset.run, tilesInOrder().map((each) => each.dataset.run), clicked);
});
byId("grid-controls").addEventListener("submit", (event) => event.preventDefault());
