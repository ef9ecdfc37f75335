// The state of the view, in the part of the address after #, so that it can be linked and is kept when reloading.
"use strict";

const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

function remember(name, value) {
  if (value === null || value === undefined || value === "") state.delete(name);
  else state.set(name, value);
  const url = `#${state}`;
  try {
    history.replaceState(null, "", url);
  } catch {
    location.replace(url); // some browsers do not rewrite addresses of files
  }
}

function recall(name, fallback) {
  return state.has(name) ? state.get(name) : fallback;
}

/** Rows, columns and filters of the grid, from the address if this study has these settings. */
function arrangement() {
  const known = (name) => name === "" || settingPlace.has(name);
  let rows = recall("rows", study.start.rows);
  let columns = recall("cols", study.start.columns);
  if (rows === "none") rows = "";
  if (columns === "none") columns = "";
  if (!known(rows)) rows = study.start.rows;
  if (!known(columns)) columns = study.start.columns;
  if (columns === rows) columns = "";
  const filters = new Map();
  for (const setting of study.settings) {
    const { name, values, labels } = setting;
    if (name === rows || name === columns) continue;
    const asked = recall(`only.${name}`, null);
    const place = asked === null ? study.start.filters[name] ?? -1 : labels.indexOf(asked);
    if (place >= 0 && place < values.length) filters.set(name, place);
  }
  return { rows, columns, filters };
}

window.addEventListener("hashchange", () => {
  if (location.hash.includes("=") && location.hash !== `#${state}`) location.reload(); // another view was linked
});
