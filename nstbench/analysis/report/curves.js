// Loss curves of runs, against evaluations or seconds.
"use strict";

let curvesOf = null;
let curveLines = [];
let curvePlot = null;
let pointed = -1;

/** Called by data-curves.js, which is large and comes last. */
function drawCurves(curves) {
  curvesOf = new Map(study.runs.map((run, place) => [run.name, curves[place]]));
  drawCurveControls(curves);
  // Drawn when it becomes visible, as a thousand lines take long.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    redrawCurves();
    new ResizeObserver(redrawCurves).observe(byId("curves"));
    document.addEventListener("grid-drawn", () => { if (recall("of", "grid") === "grid") redrawCurves(); });
    document.addEventListener("table-drawn", () => { if (recall("of", "grid") === "table") redrawCurves(); });
  }, { rootMargin: "300px" }).observe(byId("curves"));
}

function drawCurveControls(curves) {
  const terms = [...new Set(curves.flatMap((curve) => Object.keys(curve || {})))].filter((name) => !["evaluation", "seconds"].includes(name));
  if (!terms.length) return;
  const set = (name) => (value) => { remember(name, value); redrawCurves(); };
  const colours = study.settings.map(({ name }) => [name, name]);
  byId("curves-controls").replaceChildren(
    choice("Loss", "term", terms.map((term) => [term, term]), recall("term", "total"), set("term")),
    choice("Against", "x", [["evaluation", "evaluations"], ["seconds", "seconds"]], recall("x", "evaluation"), set("x")),
    ...(colours.length ? [choice("Colour", "by", colours, colourSetting(), set("by"))] : []),
    choice("Runs", "of", [["grid", "in the grid"], ["table", "in the table"], ["all", "all"]], recall("of", "grid"), set("of")),
    tick("Logarithmic", "log", recall("log", "yes") === "yes", (on) => set("log")(on ? "yes" : "no")));
}

function colourSetting() {
  const asked = recall("by", study.start.rows || study.start.columns);
  return settingPlace.has(asked) ? asked : study.settings[0]?.name || "";
}

function curveRuns() {
  return { grid: gridRuns, table: () => tableRuns(), all: () => study.runs }[recall("of", "grid")]?.() || study.runs;
}

function redrawCurves() {
  if (!curvesOf) return;
  const term = recall("term", "total");
  const against = recall("x", "evaluation");
  const logarithmic = recall("log", "yes") === "yes";
  const by = colourSetting();
  curveLines = curveRuns().flatMap((run) => {
    const curve = curvesOf.get(run.name);
    if (!curve || !curve[term] || !curve[against]) return [];
    const points = curve[against].map((x, k) => [x, curve[term][k]])
      .filter(([x, y]) => x !== null && y !== null && (!logarithmic || y > 0));
    return points.length ? [{ run, points, place: by ? run.at[settingPlace.get(by)] : 0 }] : [];
  });
  pointed = -1;
  if (!curveLines.length) {
    byId("curves-plot").replaceChildren(make("p", {}, "None of these runs has a curve of this loss."));
    byId("curves-legend").replaceChildren();
    byId("curves-note").textContent = "";
    return;
  }
  const setting = by ? study.settings[settingPlace.get(by)] : { labels: [""], numeric: false };
  curvePlot = axes(byId("curves-plot"), {
    xs: extent(curveLines.flatMap((line) => line.points.map((point) => point[0]))),
    ys: extent(curveLines.flatMap((line) => line.points.map((point) => point[1]))),
    logY: logarithmic,
    xLabel: against === "evaluation" ? "evaluations" : "seconds",
    yLabel: `${term === "total" ? "total loss" : `weighted ${term} loss`}${logarithmic ? " (logarithmic)" : ""}`,
    label: `${count(curveLines.length, "curve")} of the ${term} loss. Arrow keys select a run.`,
  });
  const { svg, inside, x, y } = curvePlot;
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("class", curveLines.length > 150 ? "lines many" : "lines");
  for (const line of curveLines) {
    const d = line.points.map(([px, py], k) => `${k ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
    line.path = draw("path", { d, style: `--c: ${colour(line.place, setting.labels.length, setting.numeric)}` });
    inside.append(line.path);
  }
  svg.addEventListener("pointermove", pointAtCurve);
  svg.addEventListener("pointerleave", () => emphasize(-1));
  svg.addEventListener("click", () => { if (pointed >= 0) openRun(curveLines[pointed].run.name, curveLines.map((line) => line.run.name), svg); });
  svg.addEventListener("keydown", moveAmongCurves);
  svg.addEventListener("blur", () => emphasize(-1));
  drawCurveLegend(setting);
  emphasize(-1);
}

function drawCurveLegend(setting) {
  const places = [...new Set(curveLines.map((line) => line.place))].sort((a, b) => a - b);
  const only = (place) => { for (const line of curveLines) line.path.classList.toggle("faint", place !== null && line.place !== place); };
  let held = null;
  byId("curves-legend").replaceChildren(...(setting.name ? places : []).map((place) => {
    const button = make("button", { type: "button", class: "key", "aria-pressed": "false" },
      make("span", { class: "swatch", style: `--c: ${colour(place, setting.labels.length, setting.numeric)}` }), setting.labels[place]);
    button.addEventListener("pointerenter", () => only(place));
    button.addEventListener("pointerleave", () => only(held));
    button.addEventListener("click", () => {
      held = held === place ? null : place;
      for (const each of byId("curves-legend").querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button && held !== null));
      only(held);
    });
    return make("li", {}, button);
  }));
}

function pointAtCurve(event) {
  const box = curvePlot.svg.getBoundingClientRect();
  const [px, py] = [event.clientX - box.x, event.clientY - box.y];
  let [best, least] = [-1, 24 ** 2];
  curveLines.forEach((line, place) => {
    if (line.path.classList.contains("faint")) return;
    for (let k = 0; k < line.points.length; k++) {
      const [ax, ay] = [curvePlot.x(line.points[k][0]), curvePlot.y(line.points[k][1])];
      const next = line.points[Math.min(k + 1, line.points.length - 1)];
      const [bx, by] = [curvePlot.x(next[0]), curvePlot.y(next[1])];
      const length = (bx - ax) ** 2 + (by - ay) ** 2;
      const share = length ? Math.max(0, Math.min(1, ((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / length)) : 0;
      const far = (px - ax - share * (bx - ax)) ** 2 + (py - ay - share * (by - ay)) ** 2;
      if (far < least) [best, least] = [place, far];
    }
  });
  if (best !== pointed) emphasize(best);
}

function moveAmongCurves(event) {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (by) {
    event.preventDefault();
    emphasize((pointed + by + curveLines.length) % curveLines.length);
  } else if (event.key === "Enter" && pointed >= 0) {
    openRun(curveLines[pointed].run.name, curveLines.map((line) => line.run.name), curvePlot.svg);
  }
}

function emphasize(place) {
  if (pointed >= 0) curveLines[pointed].path.classList.remove("pointed");
  pointed = place;
  if (place < 0) {
    byId("curves-note").textContent = `${count(curveLines.length, "curve")}. Point at one, or select one with the arrow keys, to see the name of its run here.`;
    return;
  }
  const { run, path, points } = curveLines[place];
  path.classList.add("pointed");
  path.parentNode.append(path); // above the others
  const [x, y] = points[points.length - 1];
  byId("curves-note").textContent = `${titleOf(run)}: ${number(y)} after ${number(x)} ${recall("x", "evaluation") === "evaluation" ? "evaluations" : "s"}`;
}

byId("curves-controls").addEventListener("submit", (event) => event.preventDefault());
