// Appearance, copying, and updating the page while a study runs.
"use strict";

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

function setAppearance(appearance) {
  if (appearance) document.documentElement.dataset.appearance = appearance;
  const dark = (appearance || (DARK.matches ? "dark" : "light")) === "dark";
  byId("appearance").textContent = dark ? "Light appearance" : "Dark appearance";
  byId("appearance").onclick = () => {
    const other = dark ? "light" : "dark";
    try {
      localStorage.setItem("nstbench-appearance", other);
    } catch { /* then it is not stored */ }
    setAppearance(other);
  };
}

let keptAppearance = null;
try {
  keptAppearance = localStorage.getItem("nstbench-appearance");
} catch { /* some browsers store nothing for files */ }
setAppearance(keptAppearance);
DARK.addEventListener("change", () => setAppearance(document.documentElement.dataset.appearance));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch { // not allowed for files in some browsers: the old way
    const area = make("textarea", { class: "unseen" });
    area.value = button.dataset.copy;
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

/** Called by stamp.js: reload the page if it has changed, unless the reader uses a dialog or an input. */
function newest(stamp) {
  const busy = dialog.open || document.activeElement?.matches("input[type=search], select");
  if (stamp === document.body.dataset.stamp || busy) return;
  try {
    sessionStorage.setItem("nstbench-scroll", String(scrollY));
  } catch { /* then the page starts at the top */ }
  location.reload();
}

function follow(seconds) {
  setInterval(() => {
    const script = make("script", { src: `stamp.js?${Date.now()}` });
    script.onload = script.onerror = () => script.remove();
    document.body.append(script);
  }, seconds * 1000);
}

drawGridControls();
drawGrid();
drawTable();
drawTradeoff();
if (recall("run", "")) openRun(recall("run", ""), tilesInOrder().map((each) => each.dataset.run));
try {
  const scroll = sessionStorage.getItem("nstbench-scroll");
  sessionStorage.removeItem("nstbench-scroll");
  if (scroll) window.scrollTo(0, Number(scroll));
} catch { /* as above */ }
if (document.body.dataset.watched) follow(Number(document.body.dataset.watched));
let pageWidth = innerWidth;
window.addEventListener("resize", () => {
  if (innerWidth === pageWidth) return;
  pageWidth = innerWidth;
  drawGrid();
});
