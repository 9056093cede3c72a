"use strict";

// The index: sort and filter the papers, and count those shown.
const form = document.querySelector("#filters");
if (form) {
  const list = document.querySelector(".timeline");
  const papers = [...list.children];
  const order = document.querySelector("#order");
  const compared = (key) => (a, b) => (isNaN(a[key]) ? a[key].localeCompare(b[key]) : a[key] - b[key]);
  const arrange = () => {
    const key = order.value.replace("-", "");
    const sign = order.value.startsWith("-") ? -1 : 1;
    const by = compared(key);
    list.append(...[...papers].sort((a, b) => sign * by(a.dataset, b.dataset)));
    list.dataset.order = order.value;
    const wanted = document.querySelector("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = document.querySelector("#verdict-all").checked;
    for (const paper of papers) {
      paper.classList.toggle("never", !wanted.every((word) => paper.dataset.words.includes(word)));
      const marks = paper.querySelector("details");
      if (marks && String(all) !== marks.dataset.all) {
        marks.open = !all;
        marks.dataset.all = all;
      }
    }
    const shown = papers.filter((paper) => getComputedStyle(paper).display !== "none").length;
    document.querySelector("#count").value = shown === 1 ? "1 paper" : `${shown} papers`;
    document.querySelector(".none").hidden = shown > 0;
  };
  form.addEventListener("change", arrange);
  form.addEventListener("input", arrange);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(arrange));
  addEventListener("pageshow", arrange);
}

// The target of a link may be folded away: a line of YAML, or a claim not run.
const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target) return;
  let folded = target.closest("details:not([open])");
  if (!folded) return;
  for (; folded; folded = folded.parentElement.closest("details:not([open])")) folded.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
addEventListener("pageshow", unfold);
// Following the same link twice fires no hashchange.
document.addEventListener("click", (event) => {
  if (event.target.closest("a")?.hash === location.hash) unfold();
});

// A paper's page: Vega-Lite draws the curves, those within <details> once it is open.
const views = [];
const hidden = () => [...document.querySelectorAll("input[name=arm]:not(:checked)")].map((box) => box.value);
const draw = async (figures) => {
  const config = JSON.parse(document.querySelector("#chart-config").textContent);
  const options = { config, renderer: "svg", actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  for (const figure of figures) {
    figure.classList.add("drawn");
    const chart = JSON.parse(figure.querySelector("script").textContent);
    const { view } = await vegaEmbed(figure.querySelector(".chart"), chart, options);
    views.push(view.signal("hidden", hidden()));
    await view.runAsync();
  }
};
document.addEventListener("change", (event) => {
  if (event.target.name === "arm") views.forEach((view) => view.signal("hidden", hidden()).runAsync());
});
if (document.querySelector("#chart-config")) draw(document.querySelectorAll("figure.curve:not(details *)"));
document.querySelectorAll("details.more").forEach((more) => {
  more.addEventListener("toggle", () => draw(more.querySelectorAll("figure.curve:not(.drawn)")));
});
