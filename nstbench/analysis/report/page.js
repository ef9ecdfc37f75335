// Making elements, formatting numbers, naming runs. Text is inserted as text, never as HTML.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function make(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function draw(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

const byId = (id) => document.getElementById(id);

/** A number with three significant digits, as short as possible. */
function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1).replace("e+", "e");
  if (size >= 100) return size >= 1000 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(0);
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(size)))));
}

const settingPlace = new Map(study.settings.map((setting, place) => [setting.name, place]));

/** A run's value of a setting, as shown. */
function labelOf(run, name) {
  const place = settingPlace.get(name);
  return study.settings[place].labels[run.at[place]];
}

/** The title of a run: its values of all settings that differ between runs. */
function titleOf(run, without = []) {
  const names = study.settings.map((setting) => setting.name).filter((name) => !without.includes(name));
  return names.map((name) => named(name, labelOf(run, name))).join(" · ") || run.name;
}

/** A name that may be broken at separators. */
const breakable = (text) => text.replace(/[_./+]/g, "$&\u200b");

/** A label: some values are clear alone, others get the name of the setting. */
function named(name, label) {
  const alone = ["content", "style", "loss.style", "loss.content", "loss.regularizer"].includes(name);
  return alone ? label : `${name.split(".").slice(-2).join(".")} ${label}`;
}

/** A colour that is distinct from the others, for light and dark; numbers go from violet to yellow. */
function colour(place, count, numeric) {
  const share = count > 1 ? place / (count - 1) : 0;
  if (numeric) {
    const hue = 300 - 240 * share;
    return `light-dark(oklch(${0.4 + 0.25 * share} 0.15 ${hue}), oklch(${0.62 + 0.25 * share} 0.14 ${hue}))`;
  }
  const hue = (258 + (360 * place) / Math.max(count, 3)) % 360;
  const step = count > 6 ? 0.07 * ((place % 3) - 1) : 0;
  return `light-dark(oklch(${0.53 + step} 0.15 ${hue}), oklch(${0.76 + step} 0.13 ${hue}))`;
}

function choice(label, name, options, chosen, onchange) {
  const select = make("select", { name }, options.map(([value, text]) =>
    make("option", { value, selected: String(value) === String(chosen) }, text)));
  select.addEventListener("change", () => onchange(select.value));
  return make("label", {}, label, select);
}

function tick(label, name, checked, onchange) {
  const box = make("input", { type: "checkbox", name, checked });
  box.addEventListener("change", () => onchange(box.checked));
  return make("label", { class: "check" }, box, label);
}

const thumb = (name) => `pictures/thumb/${name}`;
const large = (name) => `pictures/large/${name}`;

function sizeOf(name) {
  const [, width, height] = name.match(/-(\d+)x(\d+)\.webp$/);
  return { width: Number(width), height: Number(height) };
}

function announce(text) {
  byId("announcer").textContent = text;
}
