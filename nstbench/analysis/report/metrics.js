// Which metrics are shown, and which run is the best by each.
"use strict";

const metricPlace = new Map(study.metrics.map((metric, place) => [metric.name, place]));

function shownMetrics() {
  const asked = recall("metrics", null);
  const names = asked === null ? study.shown : asked === "none" ? [] : asked.split(",");
  return names.filter((name) => metricPlace.has(name));
}

const arrow = (metric) => ({ higher: "↑", lower: "↓" })[metric.better] || "";
const direction = (metric) => (metric.better ? `${metric.better} is better` : "no direction known");

/** The best runs by each metric among runs that may be compared; none if there is one run, or all are equal. */
function bestOf(runs, names) {
  const best = new Set();
  for (const name of names) {
    const place = metricPlace.get(name);
    const { better, mixed } = study.metrics[place];
    const values = runs.map((run) => run.metrics[place]).filter((value) => value !== null);
    if (!better || mixed || values.length < 2) continue;
    const top = better === "higher" ? Math.max(...values) : Math.min(...values);
    if (values.every((value) => value === top)) continue;
    for (const run of runs) if (run.metrics[place] === top) best.add(`${name}\n${run.name}`);
  }
  return best;
}

function metricChooser(onchange) {
  const shown = new Set(shownMetrics());
  const boxes = study.metrics.map((metric) =>
    tick(`${metric.name} ${arrow(metric)}`, metric.name, shown.has(metric.name), (on) => {
      if (on) shown.add(metric.name);
      else shown.delete(metric.name);
      remember("metrics", [...shown].join(",") || "none");
      onchange();
    }));
  if (!boxes.length) return null;
  return make("details", { class: "chooser" },
    make("summary", {}, "Metrics"), make("fieldset", {}, make("legend", { class: "unseen" }, "Metrics"), boxes));
}
