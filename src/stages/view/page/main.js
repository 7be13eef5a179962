// The page: a list of slides, one picture or two of the chosen one, layers over it, keys.

import * as data from "./data.js";
import { List, describe, short } from "./list.js";
import { SlideView } from "./slide.js";
import { LAYERS, read, remember, state, written } from "./state.js";

const element = (id) => document.getElementById(id);
const TOP_TILES = 10;
/** Pixels of the screen that an arrow key moves the slide by. */
const STEP_PX = 90;
/** Share of the picture that a tile takes that was jumped to. */
const TILE_SHARE = 0.3;

let catalogue;
let list;
let views;
let number = -1;
let about = null;
/** Counts slides that were asked for: what arrives late is not shown. */
let turn = 0;
/** What has arrived for the open slide; `maps` by the run's number. */
let layers = { maps: new Map(), grid: null, tissue: null, annotations: null };
let troubles = new Map();
let top = { tiles: [], at: -1 };

const runNumber = (name) => catalogue.runs.findIndex((run) => run.name === name);
const first = () => views[0];

start();

async function start() {
  try {
    catalogue = await data.json("/api/catalogue");
  } catch (error) {
    element("status").textContent = error.message;
    return;
  }
  read(location.hash);
  views = [new SlideView(element("first")), new SlideView(element("second"))];
  makeLayers();
  list = new List(catalogue, open);
  listen();
  follow();
  paintLegend();
  if (catalogue.notes.length > 0) element("status").textContent = catalogue.notes.join(" ");
  if (window.matchMedia("(max-width: 760px)").matches) showList(false);
  const wanted = catalogue.slides.findIndex(([id]) => id === state.slide);
  if (state.slide && wanted < 0) element("status").textContent = `There is no slide '${state.slide}' here.`;
  const there = catalogue.slides.findIndex(([, there]) => there);
  await open(wanted >= 0 ? wanted : Math.max(0, there), wanted >= 0 ? state.place : null);
}

/** Shows a slide, at a place if one is given. */
async function open(chosen, place = null) {
  const mine = (turn += 1);
  number = chosen;
  state.slide = catalogue.slides[chosen][0];
  state.place = place;
  list.mark(chosen);
  element("title").textContent = state.slide;
  const said = list.said().get(chosen);
  element("verdict").textContent = said ? describe(said) : "";
  element("verdict").classList.toggle("wrong", said?.wrong ?? false);
  document.title = `${state.slide} – wsi view`;
  remember();
  layers = { maps: new Map(), grid: null, tissue: null, annotations: null };
  troubles = new Map();
  top = { tiles: [], at: -1 };
  showTile(null);
  fillTop();
  try {
    about = await data.json(`/api/slides/${chosen}`);
  } catch (error) {
    about = { id: state.slide, error: error.message, layers: { maps: [], grids: [], tissue: [], annotations: false } };
  }
  if (mine !== turn) return;
  chooseRuns();
  await Promise.all(views.filter((view) => !view.section.hidden).map((view) => view.open(chosen, about, catalogue)));
  if (mine !== turn) return;
  if (place) views.forEach((view) => view.show(place, true));
  else first().home(true);
  await load(mine);
}

/** The runs that have a heatmap of this slide, into the two choices. */
function chooseRuns() {
  const maps = about.layers.maps;
  const names = maps.map((run) => catalogue.runs[run].name);
  if (!names.includes(state.map)) state.map = names[0] ?? "";
  if (!names.includes(state.compare) || state.compare === state.map) state.compare = "";
  const [map, compare] = [element("map-run"), element("compare-run")];
  const shorter = new Map(short(names).map((name, place) => [names[place], name]));
  map.replaceChildren(...names.map((name) => new Option(shorter.get(name), name)));
  if (names.length === 0) map.add(new Option("none of this slide", ""));
  map.disabled = names.length < 2;
  map.value = state.map;
  const others = names.filter((name) => name !== state.map);
  compare.replaceChildren(new Option("nothing", ""), ...others.map((name) => new Option(shorter.get(name), name)));
  compare.value = state.compare;
  compare.disabled = others.length === 0;
  element("second").hidden = !state.compare;
}

/** Fetches the layers that are shown and not here yet. */
async function load(mine = turn) {
  const wants = [];
  const want = (key, there, path, take, get) => {
    if (there && !troubles.has(key)) wants.push(fetchLayer(mine, key, path, take, get));
  };
  const visible = (key) => state.layers[key].shown;
  const base = `/api/slides/${number}`;
  for (const name of [state.map, state.compare]) {
    const run = runNumber(name);
    const needed = name && (visible("attention") || visible("class")) && !layers.maps.has(run);
    want(`map of ${name}`, needed, `${base}/maps/${run}`, (tiles) => layers.maps.set(run, tiles), data.tiles);
  }
  const [grids, tissue] = [about.layers.grids, about.layers.tissue];
  want("grid", visible("grid") && !layers.grid && grids.length, `${base}/grids/${grids[0]}`, (tiles) => (layers.grid = tiles), data.tiles);
  want("tissue", visible("tissue") && !layers.tissue && tissue.length, `${base}/tissue/${tissue[0]}`, (shapes) => (layers.tissue = shapes), data.outlines);
  want(
    "annotations",
    visible("annotations") && !layers.annotations && about.layers.annotations,
    `${base}/annotations`,
    (shapes) => (layers.annotations = shapes),
    data.outlines,
  );
  refresh();
  await Promise.all(wants);
}

async function fetchLayer(mine, key, path, take, get) {
  try {
    const layer = await get(path);
    if (mine !== turn) return;
    take(layer);
    if (layer.columns) outside(key, layer);
  } catch (error) {
    if (mine !== turn) return;
    troubles.set(key, error.message);
  }
  refresh();
}

/** Says so where a run was made from another slide of this name. */
function outside(key, { side, tiles, columns }) {
  if (about.error) return;
  const [xs, ys] = [columns.get("x"), columns.get("y")];
  let out = 0;
  for (let tile = 0; tile < tiles; tile += 1) {
    const inside = xs[tile] >= 0 && ys[tile] >= 0 && xs[tile] + side <= about.width && ys[tile] + side <= about.height;
    if (!inside) out += 1;
  }
  if (out > 0) troubles.set(`${key} places`, `${out} of ${tiles} tiles lie outside the slide; the run was made from another file.`);
}

/** Lays what is here over the pictures, and says what is not. */
function refresh() {
  const opacity = (key) => state.layers[key].opacity / 100;
  const visible = (key) => state.layers[key].shown;
  [state.map, state.compare].forEach((name, which) => {
    const { overlay, section } = views[which];
    const tiles = layers.maps.get(runNumber(name));
    overlay.fills = [];
    for (const key of ["attention", "class"]) {
      const values = tiles && visible(key) && values_of(tiles, key);
      if (values) overlay.fills.push({ tiles, opacity: opacity(key), colours: catalogue.colours, hues: hues(values) });
    }
    overlay.grid = visible("grid") && layers.grid ? { tiles: layers.grid, opacity: opacity("grid") } : null;
    overlay.tissue = visible("tissue") && layers.tissue ? { shapes: layers.tissue, opacity: opacity("tissue") } : null;
    overlay.drawn = visible("annotations") && layers.annotations ? { shapes: layers.annotations, opacity: opacity("annotations") } : null;
    overlay.ask();
    if (!section.hidden) views[which].caption(state.compare ? name : "");
  });
  fillTop();
  showLayers();
  const notes = [...troubles].map(([key, reason]) => `${key}: ${reason}`);
  for (const name of [state.map, state.compare]) {
    const note = catalogue.runs[runNumber(name)]?.note;
    if (note) notes.unshift(`${name}: ${note}`);
  }
  catalogue.runs.forEach((run) => {
    if (run.stage !== "heatmap" && run.note) notes.push(`${run.name}: ${run.note}`);
  });
  element("notes").replaceChildren(...notes.map((note) => item("li", note)));
}

/** The numbers that a layer paints: attention by its percentile, a class by its score. */
function values_of({ columns }, key) {
  if (key === "class") return columns.get(`p_${state.class}`) ?? [...columns].find(([name]) => name.startsWith("p_"))?.[1];
  return (state.branch && ranked(columns.get(state.branch))) || columns.get("percentile");
}

const rankings = new WeakMap();

/** Percentiles of a branch, which the run holds for the mean alone. */
function ranked(values) {
  if (!values) return null;
  if (!rankings.has(values)) {
    const order = Float32Array.from(values).sort();
    const place = (value) => {
      let [low, high] = [0, order.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (order[middle] < value) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    rankings.set(values, Float32Array.from(values, (value) => (place(value) + 0.5) / order.length));
  }
  return rankings.get(values);
}

const painted = new WeakMap();

function hues(values) {
  if (!painted.has(values)) {
    const last = catalogue.colours.length - 1;
    painted.set(values, Uint8Array.from(values, (value) => Math.round(Math.min(1, Math.max(0, value || 0)) * last)));
  }
  return painted.get(values);
}

// ---- the panel ---------------------------------------------------------------------------------

function item(tag, text, kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function makeLayers() {
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
      refresh();
    });
    row.append(label, slider);
    if (key === "attention" || key === "class") {
      const choice = document.createElement("select");
      choice.setAttribute("aria-label", key === "class" ? "Class" : "Attention branch");
      choice.addEventListener("change", () => {
        state[key === "class" ? "class" : "branch"] = choice.value;
        remember();
        refresh();
      });
      row.append(choice);
    }
    row.append(item("small", ""));
    element("layers").append(row);
  });
}

function showLayers() {
  const tiles = layers.maps.get(runNumber(state.map));
  const there = {
    attention: !tiles || tiles.columns.has("attention"),
    class: about.layers.maps.length > 0,
    tissue: about.layers.tissue.length > 0,
    grid: about.layers.grids.length > 0,
    annotations: about.layers.annotations,
  };
  there.attention &&= about.layers.maps.length > 0;
  const why = {
    attention: about.layers.maps.length > 0 ? "this model has no attention" : "no heatmap run of this slide",
    class: "no heatmap run of this slide",
    tissue: "no tile run of this slide",
    grid: "no tile run of this slide",
    annotations: catalogue.annotations ? "nothing was drawn on this slide" : "none given (--annotations)",
  };
  for (const { key } of LAYERS) {
    const row = element(`layer-${key}`);
    row.classList.toggle("absent", !there[key]);
    row.querySelector("input[type=checkbox]").checked = state.layers[key].shown;
    row.querySelector("input[type=range]").value = state.layers[key].opacity;
    row.querySelector("small").textContent = there[key] ? "" : why[key];
  }
  const names = [...(tiles?.columns.keys() ?? [])];
  const fill = (key, options, chosen) => {
    const choice = element(`layer-${key}`).querySelector("select");
    choice.hidden = options.length < 2;
    const texts = options.map(([, text]) => text).join("\n");
    if (choice.dataset.options !== texts) {
      choice.dataset.options = texts;
      choice.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    }
    choice.value = options.some(([value]) => value === chosen) ? chosen : (options[0]?.[0] ?? "");
  };
  const branches = names.filter((name) => /^attention_\d+$/.test(name));
  fill("attention", branches.length ? [["", "mean of the branches"], ...branches.map((name) => [name, `branch ${name.slice(10)}`])] : [], state.branch);
  const classes = names.filter((name) => name.startsWith("p_")).map((name) => name.slice(2));
  if (classes.length && !classes.includes(state.class)) {
    // A class that is looked for is seldom the first, which is what healthy slides are called.
    const said = list.said().get(number);
    state.class = classes.includes(said?.predicted) ? said.predicted : classes[0];
  }
  fill("class", classes.map((name) => [name, name]), state.class);
  const shown = ["class", "attention"].find((key) => state.layers[key].shown && there[key]);
  element("legend").hidden = !shown || !tiles;
  element("legend-low").textContent = "0";
  element("legend-high").textContent = "1";
  element("legend-name").textContent = shown === "class" ? `score of ${state.class}` : "attention, percentile";
}

function paintLegend() {
  const canvas = document.querySelector("#legend canvas");
  const pen = canvas.getContext("2d");
  catalogue.colours.forEach((colour, place) => {
    const step = canvas.width / catalogue.colours.length;
    pen.fillStyle = colour;
    pen.fillRect(Math.floor(place * step), 0, Math.ceil(step), canvas.height);
  });
}

function toggle(key, shown = !state.layers[key].shown) {
  state.layers[key].shown = shown;
  remember();
  load();
}

/** The tiles of highest attention; of highest score for the class where there is none. */
function fillTop() {
  const tiles = layers.maps.get(runNumber(state.map));
  const rows = [];
  const values = tiles && (tiles.columns.get(state.branch) ?? tiles.columns.get("attention") ?? values_of(tiles, "class"));
  if (values && top.values !== values) {
    const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
    top = { tiles: order.slice(0, TOP_TILES), at: -1, values };
  }
  top.tiles.forEach((tile, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(item("span", `${place + 1}.`), item("span", `x ${tiles.columns.get("x")[tile]}, y ${tiles.columns.get("y")[tile]}`));
    button.append(item("span", value_of(values[tile])));
    button.setAttribute("aria-current", place === top.at);
    button.addEventListener("click", () => jump(place));
    const row = document.createElement("li");
    row.append(button);
    rows.push(row);
  });
  if (rows.length === 0) rows.push(item("li", "No heatmap of this slide is shown.", "soft"));
  const had = element("top").contains(document.activeElement);
  element("top").replaceChildren(...rows);
  if (had) element("top").querySelectorAll("button")[top.at]?.focus();
}

function jump(place) {
  const tiles = layers.maps.get(runNumber(state.map));
  if (!tiles || top.tiles.length === 0) return;
  top.at = (place + top.tiles.length) % top.tiles.length;
  const tile = top.tiles[top.at];
  const [x, y] = [tiles.columns.get("x")[tile], tiles.columns.get("y")[tile]];
  const { clientWidth, clientHeight } = first().picture;
  first().show([x + tiles.side / 2, y + tiles.side / 2, (TILE_SHARE * Math.min(clientWidth, clientHeight)) / tiles.side]);
  showTile([x + tiles.side / 2, y + tiles.side / 2]);
  fillTop();
  element("status").textContent = `Top tile ${top.at + 1} of ${top.tiles.length}`;
}

const value_of = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : value.toFixed(4));

/** What is known of a place on the slide, level-0 pixels. */
function showTile(place) {
  const rows = [];
  const row = (name, value) => rows.push(item("dt", name), item("dd", value));
  views.forEach((view) => (view.overlay.marks = []));
  if (place) {
    const [x, y] = place.map(Math.floor);
    row("x, y", `${x}, ${y} px`);
    if (about.mpp) row("", `${(x * about.mpp[0]).toFixed(1)}, ${(y * about.mpp[1]).toFixed(1)} µm`);
    [state.map, state.compare].forEach((name, which) => {
      const tiles = layers.maps.get(runNumber(name)) ?? (which === 0 ? layers.grid : null);
      const tile = tiles ? covering(tiles, place) : -1;
      if (tile < 0) return;
      if (state.compare) row(name, "");
      views[which].overlay.marks = [[tiles.columns.get("x")[tile], tiles.columns.get("y")[tile], tiles.side]];
      if (which === 0) row("tile", `${tiles.columns.get("x")[tile]}, ${tiles.columns.get("y")[tile]} px`);
      for (const [column, values] of tiles.columns) {
        if (column !== "x" && column !== "y") row(column.replace(/^p_/, "").replace("_", " "), value_of(values[tile]));
      }
    });
  } else {
    row("", "Point at the slide, or press n.");
  }
  element("tile").replaceChildren(...rows);
  views.forEach((view) => view.overlay.ask());
}

/** The tile over a place; of several the last, which is drawn on top. */
function covering({ side, tiles, columns }, [x, y]) {
  const [xs, ys] = [columns.get("x"), columns.get("y")];
  for (let tile = tiles - 1; tile >= 0; tile -= 1) {
    if (x >= xs[tile] && y >= ys[tile] && x < xs[tile] + side && y < ys[tile] + side) return tile;
  }
  return -1;
}

// ---- what people do ----------------------------------------------------------------------------

/** Two pictures of one slide move together; the address says where they are. */
function follow() {
  let leader = null;
  views.forEach((view, which) => {
    view.viewer.addHandler("update-viewport", () => {
      if (!about || about.error) return;
      const place = view.place();
      if (which === 0 && place) {
        state.place = place;
        remember();
      }
      const other = views[1 - which];
      if (other.section.hidden || leader === other || !place) return;
      leader = view;
      other.show(place, true);
      leader = null;
    });
    view.section.addEventListener("trouble", ({ detail }) => {
      troubles.set("slide", detail);
      refresh();
    });
    let asked = null;
    const point = (clientX, clientY) => {
      if (!asked) {
        requestAnimationFrame(() => {
          if (about) showTile(view.under(...asked));
          asked = null;
        });
      }
      asked = [clientX, clientY];
    };
    view.picture.addEventListener("pointermove", (event) => point(event.clientX, event.clientY));
    view.picture.addEventListener("pointerdown", (event) => point(event.clientX, event.clientY));
  });
}

function showList(shown = element("list-panel").hidden) {
  element("list-panel").hidden = !shown;
  element("columns").classList.toggle("narrow", !shown);
  element("list-toggle").setAttribute("aria-expanded", shown);
}

async function copy() {
  const link = `${location.origin}/${written()}`;
  history.replaceState(null, "", written());
  try {
    await navigator.clipboard.writeText(link);
    element("status").textContent = "The link is copied.";
  } catch {
    element("status").textContent = "The browser lets nothing be copied; the address bar holds the link.";
  }
}

function listen() {
  element("list-toggle").addEventListener("click", () => showList());
  element("copy").addEventListener("click", copy);
  element("help-open").addEventListener("click", () => element("help").showModal());
  element("zoom-in").addEventListener("click", () => first().zoom(1.6));
  element("zoom-out").addEventListener("click", () => first().zoom(1 / 1.6));
  element("home").addEventListener("click", () => first().home());
  element("said-by").addEventListener("change", () => open(number, state.place));
  element("map-run").addEventListener("change", () => rerun("map"));
  element("compare-run").addEventListener("change", () => rerun("compare"));
  window.addEventListener("hashchange", () => {
    read(location.hash);
    const wanted = catalogue.slides.findIndex(([id]) => id === state.slide);
    if (wanted >= 0) open(wanted, state.place);
  });
  document.addEventListener("keydown", key);
}

/** Another run for one of the two pictures. */
async function rerun(which) {
  state[which] = element(`${which}-run`).value;
  top = { tiles: [], at: -1 };
  const was = element("second").hidden;
  chooseRuns();
  if (was && state.compare) {
    await views[1].open(number, about, catalogue);
    if (first().place()) views[1].show(first().place(), true);
  }
  remember();
  await load();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  const { target } = event;
  const writes = target.matches("input[type=search], select");
  if (event.key === "Escape" && target.id === "search") element("list").focus();
  if (target.id === "search" && (event.key === "Enter" || event.key === "ArrowDown")) {
    list.step(list.cursor < 0 ? 1 : 0);
    element("list").focus();
    if (event.key === "Enter") list.choose();
    event.preventDefault();
    return;
  }
  if (writes) return;
  const inList = target.id === "list";
  const slides = target.matches("input[type=range]");
  const arrows = { ArrowLeft: [-STEP_PX, 0], ArrowRight: [STEP_PX, 0], ArrowUp: [0, -STEP_PX], ArrowDown: [0, STEP_PX] };
  const acts = {
    "/": () => {
      showList(true);
      element("search").focus();
      element("search").select();
    },
    j: () => list.step(1),
    k: () => list.step(-1),
    n: () => jump(top.at + 1),
    p: () => jump(top.at < 0 ? -1 : top.at - 1),
    "+": () => first().zoom(1.6),
    "=": () => first().zoom(1.6),
    "-": () => first().zoom(1 / 1.6),
    0: () => first().home(),
    "?": () => element("help").showModal(),
  };
  LAYERS.forEach(({ key }, place) => (acts[place + 1] = () => toggle(key)));
  if (inList || (target === document.body && event.key === "Enter")) acts.Enter = () => list.choose();
  if (inList) {
    acts.ArrowDown = () => list.step(1);
    acts.ArrowUp = () => list.step(-1);
    acts.Home = () => list.move(0);
    acts.End = () => list.move(Infinity);
  } else if (!slides && arrows[event.key]) {
    acts[event.key] = () => first().pan(...arrows[event.key]);
  }
  if (Object.hasOwn(acts, event.key)) {
    acts[event.key]();
    event.preventDefault();
  }
}
