// Axes of a plot, drawn at its size on the page, so that the size of its text is fixed.
"use strict";

/** Round numbers within a range. */
function roundTicks(low, high, most) {
  const raw = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(Number((k * step).toPrecision(12)));
  return ticks;
}

/** Powers of ten, with 2 and 5 times them if there are few. */
function powerTicks(low, high, most) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const ticksOf = (factors, stride) => {
    const ticks = [];
    for (let power = first; power <= last; power += stride) for (const factor of factors) ticks.push(Number(`${factor}e${power}`));
    return ticks.filter((each) => each >= low * 0.999 && each <= high * 1.001);
  };
  const dense = ticksOf([1, 2, 5], 1);
  if (dense.length < 2) return roundTicks(low, high, most);
  if (dense.length <= most + 2) return dense;
  return ticksOf([1], Math.max(1, Math.ceil((last - first) / most)));
}

function tickLabel(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(6)));
}

/** A scale from values to pixels. */
function scaleOf(low, high, from, to, logarithmic) {
  const f = logarithmic ? Math.log10 : (value) => value;
  const [a, b] = [f(low), f(high)];
  const scale = (value) => from + ((f(value) - a) / (b - a || 1)) * (to - from);
  scale.low = low;
  scale.high = high;
  return scale;
}

/** An svg with axes; returns it with the group to draw in and the scales. */
function axes(container, { xs, ys, xLabel, yLabel, logX = false, logY = false, label, height = 420 }) {
  const width = Math.max(280, container.clientWidth);
  const tall = Math.min(height, Math.max(260, width * 0.7));
  const padded = ([low, high], logarithmic) => {
    if (logarithmic) return low === high ? [low / 1.5, high * 1.5] : [low * 0.94, high * 1.06];
    const pad = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.05;
    return [low - pad, high + pad];
  };
  const [yLow, yHigh] = padded(ys, logY);
  const [xLow, xHigh] = logX ? xs : xs[0] === 0 ? [0, xs[1] || 1] : padded(xs, logX);
  const yTicks = logY ? powerTicks(yLow, yHigh, tall / 60) : roundTicks(yLow, yHigh, tall / 60);
  const left = 36 + Math.max(...yTicks.map((tick) => tickLabel(tick).length), 1) * 7.5;
  const [right, top, bottom] = [width - 14, 12, tall - 48];
  const x = scaleOf(xLow, xHigh, left, right, logX);
  const y = scaleOf(yLow, yHigh, bottom, top, logY);
  const xTicks = roundTicks(xLow, xHigh, width / 90);
  const inside = draw("g", {});
  const svg = draw("svg", { width, height: tall, viewBox: `0 0 ${width} ${tall}`, role: "img", "aria-label": label },
    yTicks.map((tick) => draw("g", { class: "tick" },
      draw("line", { x1: left, x2: right, y1: y(tick), y2: y(tick) }),
      draw("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickLabel(tick)))),
    xTicks.map((tick) => draw("g", { class: "tick" },
      draw("line", { x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 5, class: "mark" }),
      draw("text", { x: x(tick), y: bottom + 20, "text-anchor": "middle" }, tickLabel(tick)))),
    draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    draw("text", { class: "axis-label", x: (left + right) / 2, y: tall - 6, "text-anchor": "middle" }, xLabel),
    draw("text", { class: "axis-label", transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel),
    inside);
  container.replaceChildren(svg);
  return { svg, inside, x, y, left, right, top, bottom };
}

/** The least and the greatest of many numbers; null for none. */
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

const MARKS = [
  (r) => `M0 ${-r}A${r} ${r} 0 1 1 0 ${r}A${r} ${r} 0 1 1 0 ${-r}Z`,
  (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0 ${-1.3 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`,
  (r) => `M0 ${-1.4 * r}L${1.4 * r} 0L0 ${1.4 * r}L${-1.4 * r} 0Z`,
  (r) => `M0 ${1.3 * r}L${1.2 * r} ${-r}H${-1.2 * r}Z`,
];

const markPath = (place, radius) => MARKS[place % MARKS.length](radius);
