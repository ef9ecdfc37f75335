// The enlarged picture: compared with content and style, with the settings of the run and its command.
"use strict";

const dialog = byId("enlarged");
let shownRun = null;
let neighbours = [];
let opener = null;
let against = "content0";

function openRun(name, order, from) {
  const run = study.runs.find((each) => each.name === name);
  if (!run) return;
  neighbours = order && order.includes(name) ? order : study.runs.map((each) => each.name);
  opener = from || opener;
  show(run);
  if (!dialog.open) dialog.showModal();
  byId("enlarged-title").focus();
}

function show(run) {
  shownRun = run;
  remember("run", run.name);
  const place = neighbours.indexOf(run.name);
  dialog.replaceChildren(
    make("div", { class: "bar" },
      make("h2", { id: "enlarged-title", tabindex: "-1" }, titleOf(run)),
      make("span", { class: "place" }, `${place + 1} of ${neighbours.length}`),
      step("Previous", "←", -1), step("Next", "→", 1),
      make("button", { type: "button", class: "quiet", id: "close", onclick: () => dialog.close() }, "Close")),
    make("div", { class: "beside" }, comparison(run), facts(run)));
}

function step(word, sign, by) {
  const place = neighbours.indexOf(shownRun.name) + by;
  return make("button", {
    type: "button", class: "quiet", id: word.toLowerCase(), "aria-label": `${word} picture`, title: `${word} (${sign} key)`,
    disabled: !(place in neighbours), onclick: () => go(by, word.toLowerCase()),
  }, sign);
}

function go(by, focus) {
  const name = neighbours[neighbours.indexOf(shownRun.name) + by];
  const run = study.runs.find((each) => each.name === name);
  if (!run) return;
  const inside = focus || (dialog.contains(document.activeElement) ? document.activeElement.id : "");
  show(run);
  const target = byId(inside);
  (target && !target.disabled ? target : byId("enlarged-title")).focus();
  announce(titleOf(run));
}

/** The canvas over its content or style picture, with a slider between them. */
function comparison(run) {
  const befores = [];
  for (const role of ["content", "style"]) {
    run[role].forEach((sha, place) => {
      const input = study.inputs[sha];
      const which = run[role].length > 1 ? ` ${place + 1}` : "";
      befores.push({ ...input, key: `${role}${place}`, role, label: `${role}${which}: ${input.label}` });
    });
  }
  const pictures = befores.filter((each) => each.picture);
  const chosen = pictures.find((each) => each.key === against) || pictures[0];
  if (!run.picture) {
    const word = { failed: "This run failed before it had a picture.", running: "This run has no picture yet." }[run.state];
    return make("div", { class: "compared" }, make("p", { class: "nothing" }, word || "Its picture cannot be read."));
  }
  const { width, height } = sizeOf(run.picture);
  const frame = make("div", { class: "before-after", style: `--ratio: ${width / height}` },
    make("img", { class: "after", src: large(run.picture), alt: `Result: ${titleOf(run)}`, width, height }));
  const parts = [frame];
  if (chosen) {
    const before = make("img", { class: "before", src: large(chosen.picture), alt: `${chosen.label}` });
    const range = make("input", { type: "range", id: "slider", min: 0, max: 100, step: 1, "aria-label": `Share of the ${chosen.role} picture that is shown` });
    const move = () => {
      frame.style.setProperty("--share", `${range.value}%`);
      range.setAttribute("aria-valuetext", `${range.value} % ${chosen.role}`);
      sliderShare = range.value;
    };
    range.value = sliderShare;
    range.addEventListener("input", move);
    frame.append(before, make("span", { class: "handle", "aria-hidden": "true" }), range,
      make("span", { class: "side left", "aria-hidden": "true" }, chosen.role), make("span", { class: "side right", "aria-hidden": "true" }, "result"));
    move();
    parts.push(make("fieldset", { class: "against" }, make("legend", {}, "Compare with"), pictures.map((each) =>
      make("label", { class: "check" }, make("input", {
        type: "radio", name: "against", id: `against-${each.key}`, value: each.key, checked: each === chosen,
        onchange: () => { against = each.key; show(run); byId(`against-${each.key}`).focus(); },
      }), each.label))));
  }
  for (const each of befores.filter((one) => !one.picture)) {
    parts.push(make("p", { class: "note" }, `The ${each.label} cannot be shown: ${each.reason}.`));
  }
  return make("div", { class: "compared" }, parts);
}

let sliderShare = 50;

function facts(run) {
  const rows = (pairs) => make("dl", {}, pairs.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const known = study.metrics.map((metric, place) => [metric, run.metrics[place]]).filter(([, value]) => value !== null);
  const top = known.filter(([metric]) => !metric.name.includes("/") || shownMetrics().includes(metric.name));
  const more = known.filter((each) => !top.includes(each));
  const line = ([metric, value]) => [`${metric.name} ${arrow(metric)}`, number(value)];
  const effort = [["evaluations", String(run.evaluations)]];
  if (run.seconds !== null) effort.push(["seconds", number(run.seconds)]);
  if (run.device) effort.push(["device", run.device]);
  return make("div", { class: "facts" },
    run.error ? make("p", { class: "notice" }, run.error) : null,
    study.settings.length ? [make("h3", {}, "Settings"), rows(study.settings.map(({ name }) => [name, labelOf(run, name)]))] : null,
    top.length ? [make("h3", {}, "Metrics"), rows(top.map(line))] : null,
    more.length ? make("details", {}, make("summary", {}, `${more.length} more metrics`), rows(more.map(line))) : null,
    Object.keys(run.losses).length ? make("details", {}, make("summary", {}, "Losses at the end"),
      rows(Object.entries(run.losses).map(([name, value]) => [name, number(value)]))) : null,
    make("h3", {}, "Cost"), rows(effort),
    make("h3", {}, "Command"), run.command ? commandBox(run.command) : make("p", {}, "The command is not in its record."),
    make("h3", {}, "Folder"), commandBox(`${study.folder}/${run.name}`));
}

function commandBox(text) {
  return make("div", { class: "command" }, make("code", {}, text), make("button", { type: "button", class: "quiet", "data-copy": text }, "Copy"));
}

dialog.addEventListener("close", () => {
  remember("run", null);
  const from = opener && opener.isConnected ? opener : document.querySelector(`.tile[data-run="${CSS.escape(shownRun.name)}"]`);
  if (from) from.focus();
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.target.matches("input")) return; // arrow keys then move the slider or the choice
  if (event.key === "ArrowLeft") go(-1);
  if (event.key === "ArrowRight") go(1);
});
