// The panel's layers: a box, an opacity and perhaps a choice for each, why one is absent, and the legend.

import { element, item, mapOf, scene } from "./scene.js";
import { LAYERS, remember, state } from "./state.js";

/** Which part of the state a layer's choice sets, and what it is called. */
const CHOICES = { attention: ["branch", "Attention branch"], class: ["class", "Class"] };

/** The rows. `toggle(key, shown)` is called with the box, `changed()` after everything else. */
export function makeLayers(toggle, changed) {
  LAYERS.forEach(({ key, name }, place) => {
    const row = document.createElement("div");
    row.className = "layer";
    row.id = `layer-${key}`;
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", id: `show-${key}` });
    label.append(box, name, item("kbd", place + 1));
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, step: 5 });
    slider.setAttribute("aria-label", `${name}: opacity`);
    box.addEventListener("change", () => toggle(key, box.checked));
    slider.addEventListener("input", () => {
      state.layers[key].opacity = Number(slider.value);
      remember();
      changed();
    });
    row.append(label, slider);
    if (CHOICES[key]) row.append(choice(...CHOICES[key], changed));
    row.append(item("small", ""));
    element("layers").append(row);
  });
  paintLegend();
}

function choice(name, label, changed) {
  const made = document.createElement("select");
  made.setAttribute("aria-label", label);
  made.addEventListener("change", () => {
    state[name] = made.value;
    remember();
    changed();
  });
  return made;
}

function paintLegend() {
  const canvas = document.querySelector("#legend canvas");
  const pen = canvas.getContext("2d");
  const { colours } = scene.catalogue;
  const step = canvas.width / colours.length;
  colours.forEach((colour, place) => {
    pen.fillStyle = colour;
    pen.fillRect(Math.floor(place * step), 0, Math.ceil(step), canvas.height);
  });
}

/** Why a layer is not there; empty where it is. */
function missing(key) {
  const { layers } = scene.about;
  const tiles = mapOf(state.map);
  const run = layers.maps.length > 0 ? "" : "no heatmap run of this slide";
  return {
    attention: run || (tiles && !tiles.columns.has("attention") ? "this model has no attention" : ""),
    class: run,
    tissue: layers.tissue.length > 0 ? "" : "no tile run of this slide",
    grid: layers.grids.length > 0 ? "" : "no tile run of this slide",
    annotations: layers.annotations ? "" : scene.catalogue.annotations ? "nothing was drawn on this slide" : "none given (--annotations)",
  }[key];
}

/** Brings the rows to what is shown. */
export function showLayers() {
  for (const { key } of LAYERS) {
    const row = element(`layer-${key}`);
    row.classList.toggle("absent", missing(key) !== "");
    row.querySelector("input[type=checkbox]").checked = state.layers[key].shown;
    row.querySelector("input[type=range]").value = state.layers[key].opacity;
    row.querySelector("small").textContent = missing(key);
  }
  const tiles = mapOf(state.map);
  const names = [...(tiles?.columns.keys() ?? [])];
  const branches = names.filter((name) => /^attention_\d+$/.test(name)).map((name) => [name, `branch ${name.slice("attention_".length)}`]);
  fill("attention", branches.length > 0 ? [["", "mean of the branches"], ...branches] : [], state.branch);
  const classes = names.filter((name) => name.startsWith("p_")).map((name) => name.slice("p_".length));
  if (classes.length > 0 && !classes.includes(state.class)) {
    const said = scene.list.said().get(scene.number);
    state.class = classes.includes(said?.predicted) ? said.predicted : classes[0];
  }
  fill("class", classes.map((name) => [name, name]), state.class);
  const shown = ["class", "attention"].find((key) => state.layers[key].shown && !missing(key));
  element("legend").hidden = !shown || !tiles;
  element("legend-low").textContent = "0";
  element("legend-high").textContent = "1";
  element("legend-name").textContent = shown === "class" ? `score of ${state.class}` : "attention, percentile";
}

/** Puts `[value, text]` into a layer's choice. */
function fill(key, options, chosen) {
  const choice = element(`layer-${key}`).querySelector("select");
  choice.hidden = options.length < 2;
  const texts = options.map(([, text]) => text).join("\n");
  if (choice.dataset.options !== texts) {
    choice.dataset.options = texts;
    choice.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  }
  choice.value = options.some(([value]) => value === chosen) ? chosen : (options[0]?.[0] ?? "");
}
