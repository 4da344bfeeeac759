"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll(".drawing")];
  const boxes = [...document.querySelectorAll("#models input[type=checkbox]")];
  const isNarrow = matchMedia("(max-width: 62rem)");
  const hidden = new Set();
  const axis = { gridcolor: "#e6eaee", linecolor: "#8c959f", zeroline: false, automargin: true, ticks: "outside", tickcolor: "#8c959f", ticklen: 4, exponentformat: "power" };
  const config = { displaylogo: false, responsive: true, displayModeBar: "hover", modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]] };

  const axisOf = (own) => {
    const merged = { ...axis, ...own, title: { ...(own.title || {}), standoff: 8 } };
    return merged;
  };
  const layoutOf = (own) => ({
    ...own, xaxis: axisOf(own.xaxis || {}), yaxis: axisOf(own.yaxis || {}), autosize: true,
    margin: { l: 52, r: 14, t: 26, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 12, color: "#333a42" },
    legend: { orientation: "h", y: -0.25, x: 0, font: { size: 11 } }, modebar: { bgcolor: "rgba(255,255,255,0.85)", color: "#6e7781", activecolor: "#0b5cad" }, hoverlabel: { align: "left", namelength: -1 },
    // A finger that drags wants to scroll the page; the buttons of the figure still zoom.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  });
  const visible = (data) => data.map((trace) => !hidden.has(trace.meta));

  function draw(plot) {
    if (plot.dataset.drawn || plot.offsetParent === null) return;
    plot.dataset.drawn = "yes";
    const { data, layout } = figures[plot.dataset.figure];
    const shown = visible(data);
    Plotly.newPlot(plot, data.map((trace, i) => ({ ...trace, visible: shown[i] })), layoutOf(layout), config);
  }

  // Figures are drawn as they come near the window: a page of many is usable at once.
  const watcher = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => draw(e.target)), { rootMargin: "500px" });
  plots.forEach((plot) => watcher.observe(plot));
  addEventListener("beforeprint", () => plots.forEach(draw));

  // Keys on a figure: + and - zoom, arrows move, 0 shows all.
  function moved(range, shift, scale) {
    const middle = (range[0] + range[1]) / 2, half = (range[1] - range[0]) / 2;
    return [middle + shift * half - half * scale, middle + shift * half + half * scale];
  }
  const moves = { "+": [0, 0, 0.7], "=": [0, 0, 0.7], "-": [0, 0, 1 / 0.7], ArrowLeft: [-0.3, 0, 1], ArrowRight: [0.3, 0, 1], ArrowUp: [0, 0.3, 1], ArrowDown: [0, -0.3, 1] };
  plots.forEach((plot) => plot.addEventListener("keydown", (event) => {
    if (!plot.layout || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") Plotly.relayout(plot, { "xaxis.autorange": true, "yaxis.autorange": true });
    else if (moves[event.key]) {
      const [x, y, scale] = moves[event.key];
      Plotly.relayout(plot, { "xaxis.range": moved(plot.layout.xaxis.range, x, scale), "yaxis.range": moved(plot.layout.yaxis.range, y, scale) });
    } else return;
    event.preventDefault();
  }));

  // On a narrow screen the panel with the models' colours is folded: each row of figures has a key of its own.
  const keys = [...document.querySelectorAll(".figures")].map((grid) => {
    const key = document.createElement("p");
    key.className = "key";
    grid.before(key);
    return key;
  });
  function fillKeys() {
    const shown = boxes.filter((box) => box.checked).map((box) => box.closest("label"));
    for (const key of keys) {
      key.replaceChildren(...shown.map((label) => {
        const entry = document.createElement("span");
        entry.append(label.querySelector("svg").cloneNode(true), label.textContent);
        return entry;
      }));
    }
  }

  // Choice of models and of the prompt set.
  function showModels() {
    hidden.clear();
    boxes.filter((box) => !box.checked).forEach((box) => hidden.add(box.value));
    document.querySelectorAll("tr[data-model], figure[data-model]").forEach((element) => { element.hidden = hidden.has(element.dataset.model); });
    plots.filter((plot) => plot.dataset.drawn && plot.data).forEach((plot) => Plotly.restyle(plot, { visible: visible(plot.data) }));
    fillKeys();
    const count = boxes.length - hidden.size;
    document.querySelector("#panel > summary").textContent = `Contents and models (${count} of ${boxes.length})`;
  }
  const setAll = (checked) => { boxes.forEach((box) => { if (!box.closest("label").hidden) box.checked = checked; }); showModels(); };
  boxes.forEach((box) => box.addEventListener("change", showModels));
  document.getElementById("all-models").addEventListener("click", () => setAll(true));
  document.getElementById("no-models").addEventListener("click", () => setAll(false));
  const find = document.getElementById("find-model");
  if (find) find.addEventListener("input", () => boxes.forEach((box) => {
    box.closest("label").hidden = !box.value.toLowerCase().includes(find.value.toLowerCase());
  }));
  const chosen = document.getElementById("prompt-set");
  function showSet() {
    document.querySelectorAll("[data-set]").forEach((element) => { element.hidden = element.dataset.set !== chosen.value; });
    document.querySelectorAll(".figures").forEach((grid) => { grid.hidden = [...grid.children].every((card) => card.hidden && card.dataset.set); grid.previousElementSibling.hidden = grid.hidden; });
    plots.filter((plot) => plot.offsetParent !== null).forEach((plot) => {
      if (plot.dataset.drawn) Plotly.Plots.resize(plot);
      else if (plot.getBoundingClientRect().top < innerHeight + 500 && plot.getBoundingClientRect().bottom > -500) draw(plot);
    });
  }
  if (chosen) { chosen.addEventListener("change", showSet); showSet(); }
  showModels();

  // Sorting: numbers by value, whatever has no value last.
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement, column = head.cellIndex, body = head.closest("table").tBodies[0];
    const isUp = head.getAttribute("aria-sort") !== "ascending", isNumber = head.classList.contains("number");
    const key = (row) => isNumber ? (row.cells[column].dataset.v ?? "") : row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNumber ? (Number(x.replace("inf", "Infinity")) > Number(y.replace("inf", "Infinity")) ? 1 : -1) * (x !== y) : x.localeCompare(y);
      return isUp ? order : -order;
    });
    head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    body.append(...rows);
  }));

  document.querySelectorAll(".csv").forEach((button) => button.addEventListener("click", () => {
    const block = button.closest(".block"), table = block.querySelector("table");
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
    const lines = [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells].map((cell) => cell.dataset.v ?? quoted(cell.textContent)).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = (block.closest("section").id + "-" + (block.querySelector("h3, summary").textContent.trim().toLowerCase().replace(/\W+/g, "-"))) + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }));

  // On a narrow screen the panel starts closed, and closes when it has led somewhere.
  const panel = document.getElementById("panel");
  const fit = () => { panel.open = !isNarrow.matches; };
  isNarrow.addEventListener("change", fit);
  fit();
  panel.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", () => { if (isNarrow.matches) panel.open = false; }));
})();
