// What test_report_browser.py asks of the page; put into it after it was opened.
"use strict";

const plain = (text) => text.replaceAll("\u200b", "").trim();

window.checks = {
  texts: (selector) => [...document.querySelectorAll(selector)].map((e) => plain(e.innerText ?? e.textContent)),

  focused() {
    const e = document.activeElement;
    return e.dataset.run || e.id || e.name || e.innerText || e.tagName;
  },

  row: (place) => [...document.querySelectorAll(".grid tbody tr")[place].querySelectorAll("td")]
    .map((td) => [...td.querySelectorAll(".tile")].map((tile) => tile.dataset.run).join(" ")),

  best: () => [...document.querySelectorAll(".metric.best")]
    .map((metric) => `${metric.closest(".tile").dataset.run} ${plain(metric.textContent)}`),

  /** Red, green, blue and alpha of a colour of CSS. */
  rgb(css) {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  },

  /** Relative luminance, 0 to 1, as WCAG 2 defines it. */
  luminance(css) {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = this.rgb(css).slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  },

  paperAndInk() {
    const { backgroundColor, color } = getComputedStyle(document.body);
    return [this.luminance(backgroundColor), this.luminance(color)];
  },

  /** Texts whose contrast is below WCAG's AA. */
  faint() {
    const behind = (e) => {
      const css = getComputedStyle(e).backgroundColor;
      return this.rgb(css)[3] === 255 || !e.parentElement ? css : behind(e.parentElement);
    };
    const hasText = (e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return [...document.querySelectorAll("body *")]
      .filter((e) => hasText(e) && e.checkVisibility() && !e.closest(".unseen, svg"))
      .map((e) => {
        const [a, b] = [this.luminance(getComputedStyle(e).color), this.luminance(behind(e))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), `${e.className} ${e.textContent.slice(0, 30)}`];
      })
      .filter(([ratio]) => ratio < 4.5)
      .map(([ratio, text]) => `${text} ${ratio.toFixed(2)}`);
  },

  /** Controls and pictures that a screen reader could not name. */
  nameless() {
    const name = (e) => e.ariaLabel || e.innerText || e.labels?.[0]?.innerText || e.querySelector("img")?.alt || "";
    const controls = [...document.querySelectorAll("button, select, input, a")];
    return [
      ...controls.filter((e) => e.checkVisibility() && !name(e).trim()),
      ...document.querySelectorAll("img:not([alt])"),
    ].map((e) => e.outerHTML);
  },

  headings: () => [...document.querySelectorAll("h1, h2, h3")].map((h) => Number(h.tagName[1])),
};
