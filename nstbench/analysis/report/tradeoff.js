// E/C: the trade-off of style and content of each compared value, with its front.
"use strict";

function drawTradeoff() {
  const { message, points, fronts, style, content, notes } = study.tradeoff;
  if (message || !points.length) {
    byId("tradeoff-note").textContent = message || "There are no points to draw.";
    return;
  }
  const means = `A point is a mean of runs over pictures and seeds. A line is a front: the points that no other of the same ${study.tradeoff.by} dominates; they are filled.`;
  byId("tradeoff-note").replaceChildren(...[means, ...notes].map((text) => make("p", {}, text)));
  drawTradeoffLegend(fronts);
  byId("tradeoff-controls").replaceChildren(tick("Intervals (95 %)", "intervals", withIntervals(), (on) => {
    remember("intervals", on ? "yes" : "no");
    redraw();
  }));
  const redraw = () => drawTradeoffPlot(points, fronts, style, content);
  redraw();
  new ResizeObserver(redraw).observe(byId("tradeoff"));
}

/** Intervals are hidden by default if there are many points. */
const withIntervals = () => recall("intervals", study.tradeoff.points.length > 12 ? "no" : "yes") === "yes";

/** Mark and colour of a value; the colour is that of the curves if these are coloured by the same setting. */
function markOf(fronts, name) {
  const labels = study.settings[settingPlace.get(study.tradeoff.by)]?.labels || [];
  const names = fronts.every((front) => labels.includes(front.of)) ? labels : fronts.map((front) => front.of);
  const place = Math.max(0, names.indexOf(name));
  return { place, style: `--c: ${colour(place, names.length, false)}` };
}

function drawTradeoffPlot(points, fronts, style, content) {
  const intervals = withIntervals();
  const reach = (name) => points.flatMap((p) => (intervals ? [p[name], p[`${name}_low`], p[`${name}_high`]] : [p[name]]));
  const known = (values) => values.filter((value) => value !== null && value !== undefined);
  const axisLabel = (what, { name, better }) => `${what}: ${name}, ${better} is better`;
  const plot = axes(byId("tradeoff-plot"), {
    xs: extent(known(reach("content"))),
    ys: extent(known(reach("style"))),
    xLabel: axisLabel("content", content),
    yLabel: axisLabel("style", style),
    label: `Trade-off of ${count(points.length, "point")}; the table below has the fronts.`,
    height: 520,
  });
  const { inside, x, y } = plot;
  plot.svg.setAttribute("class", "tradeoff");
  const worst = (a, b, better) => (better === "higher" ? Math.min(a, b) : Math.max(a, b));
  for (const front of fronts) {
    const on = points.filter((p) => p.of === front.of && p.on_front).sort((a, b) => a.content - b.content);
    if (on.length < 2) continue;
    let d = `M${x(on[0].content)} ${y(on[0].style)}`;
    for (let k = 1; k < on.length; k++) { // the border of the dominated area has steps
      const [a, b] = [on[k - 1], on[k]];
      d += `L${x(worst(a.content, b.content, content.better))} ${y(worst(a.style, b.style, style.better))}L${x(b.content)} ${y(b.style)}`;
    }
    inside.append(draw("path", { class: "front", d, "data-of": front.of, style: markOf(fronts, front.of).style }));
  }
  for (const p of points) {
    const { place, style: ink } = markOf(fronts, p.of);
    const [px, py] = [x(p.content), y(p.style)];
    const whiskers = [];
    if (intervals && known([p.content_low]).length) whiskers.push(draw("line", { class: "whisker", x1: x(p.content_low), x2: x(p.content_high), y1: py, y2: py }));
    if (intervals && known([p.style_low]).length) whiskers.push(draw("line", { class: "whisker", x1: px, x2: px, y1: y(p.style_low), y2: y(p.style_high) }));
    inside.append(draw("g", { class: p.on_front ? "point" : "point behind", "data-of": p.of, style: ink },
      draw("title", {}, `${p.of}${p.at ? `, ${p.at}` : ""}: ${content.name} ${number(p.content)}, ${style.name} ${number(p.style)}; ${count(p.runs, "run")}`),
      whiskers, draw("path", { class: "dot", d: markPath(place, 5), transform: `translate(${px} ${py})` })));
  }
  labelPoints(plot, points, fronts);
}

/** A name beside one point of each value, if it fits. */
function labelPoints({ inside, x, y, left, right, top, bottom }, points, fronts) {
  const taken = points.map((p) => [x(p.content) - 7, y(p.style) - 7, x(p.content) + 7, y(p.style) + 7]);
  const free = (box) => box[0] > left && box[2] < right && box[1] > top && box[3] < bottom &&
    taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
  for (const front of fronts) {
    const own = points.filter((p) => p.of === front.of).sort((a, b) => Number(b.on_front) - Number(a.on_front));
    const wide = front.of.length * 6.9 + 2;
    const spot = own.flatMap((p) => {
      const [px, py] = [x(p.content), y(p.style)];
      return [[px + 10, py - 7], [px - 10 - wide, py - 7], [px - wide / 2, py - 24], [px - wide / 2, py + 10]]
        .map(([bx, by]) => [bx, by, bx + wide, by + 14]);
    }).find(free);
    if (!spot) continue;
    taken.push(spot);
    inside.append(draw("text", { class: "point-label", x: spot[0], y: spot[1] + 11, "data-of": front.of }, front.of));
  }
}

function drawTradeoffLegend(fronts) {
  const emphasis = (name) => {
    for (const each of document.querySelectorAll("#tradeoff-plot [data-of]")) each.classList.toggle("faint", name !== null && each.dataset.of !== name);
  };
  let held = null;
  const rows = fronts.map((front) => {
    const { place, style } = markOf(fronts, front.of);
    const button = make("button", { type: "button", class: "key", "aria-pressed": "false" },
      draw("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true", style }, draw("path", { class: "dot", d: markPath(place, 5) })), front.of);
    button.addEventListener("pointerenter", () => emphasis(front.of));
    button.addEventListener("pointerleave", () => emphasis(held));
    button.addEventListener("click", () => {
      held = held === front.of ? null : front.of;
      for (const each of byId("tradeoff-legend").querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button && held !== null));
      emphasis(held);
    });
    const interval = front.share_low === null || front.share_low === undefined ? "" : `${number(front.share_low)} to ${number(front.share_high)}`;
    return make("tr", {}, make("th", { scope: "row" }, button), make("td", { class: "number" }, number(front.share)),
      make("td", { class: "number" }, interval), make("td", { class: "number" }, String(front.points)));
  });
  byId("tradeoff-legend").replaceChildren(make("div", { class: "scroller short", tabindex: "0", role: "region", "aria-label": "Fronts" },
    make("table", { class: "runs" }, make("caption", { class: "unseen" }, "Fronts, the best first"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, study.tradeoff.by),
        ["hypervolume", "95 %", "points"].map((each) => make("th", { scope: "col", class: "number" }, each)))),
      make("tbody", {}, rows))));
}
