// The page: a list of slides, one picture or two of the chosen one, layers over it.

import * as data from "./data.js";
import { ZOOM_STEP, listenToKeys } from "./keys.js";
import { load, refresh, toggle } from "./layers.js";
import { List, describe } from "./list.js";
import { makeLayers } from "./panel.js";
import { clear, element, first, runNames, scene, shortName } from "./scene.js";
import { SlideView } from "./slide.js";
import { read, remember, state, written } from "./state.js";
import { fillTop, showTile } from "./tiles.js";

start();

async function start() {
  try {
    scene.catalogue = await data.json("/api/catalogue");
  } catch (error) {
    element("status").textContent = error.message;
    return;
  }
  const { slides, notes } = scene.catalogue;
  read(location.hash);
  scene.views = [new SlideView(element("first")), new SlideView(element("second"))];
  scene.list = new List(scene.catalogue, (number) => {
    // On a phone the list lies over everything else.
    if (isNarrow()) showList(false);
    open(number);
  });
  makeLayers(toggle, refresh);
  listen();
  follow();
  element("status").textContent = notes.join(" ");
  if (isNarrow()) showList(false);
  const wanted = slides.findIndex(([id]) => id === state.slide);
  if (state.slide && wanted < 0) element("status").textContent = `There is no slide '${state.slide}' here.`;
  const there = slides.findIndex(([, there]) => there);
  await open(wanted >= 0 ? wanted : Math.max(0, there), wanted >= 0 ? state.place : null);
}

/** Shows a slide, at a place if one is given. */
async function open(number, place = null) {
  const turn = (scene.turn += 1);
  const { catalogue, list, views } = scene;
  [scene.number, state.slide, state.place] = [number, catalogue.slides[number][0], place];
  list.mark(number);
  const said = list.said().get(number);
  element("title").textContent = state.slide;
  element("verdict").textContent = said ? describe(said) : "";
  element("verdict").classList.toggle("wrong", said?.wrong ?? false);
  document.title = `${state.slide} – wsi view`;
  remember();
  clear();
  showTile(null);
  fillTop();
  let about;
  try {
    about = await data.json(`/api/slides/${number}`);
  } catch (error) {
    about = { id: state.slide, error: error.message, layers: { maps: [], grids: [], tissue: [], annotations: false } };
  }
  if (turn !== scene.turn) return;
  scene.about = about;
  chooseRuns();
  await Promise.all(views.filter((view) => !view.section.hidden).map((view) => view.open(number, about, catalogue)));
  if (turn !== scene.turn) return;
  if (place) views.forEach((view) => view.show(place, true));
  else first().home(true);
  await load();
}

/** The runs that have a heatmap of the slide, into the two choices. */
function chooseRuns() {
  const names = scene.about.layers.maps.map((run) => scene.catalogue.runs[run].name);
  if (!names.includes(state.map)) state.map = names[0] ?? "";
  if (!names.includes(state.compare) || state.compare === state.map) state.compare = "";
  const [map, compare] = [element("map-run"), element("compare-run")];
  map.replaceChildren(...names.map((name) => new Option(shortName(name), name)));
  if (names.length === 0) map.add(new Option("none of this slide", ""));
  map.disabled = names.length < 2;
  map.value = state.map;
  const others = names.filter((name) => name !== state.map);
  compare.replaceChildren(new Option("nothing", ""), ...others.map((name) => new Option(shortName(name), name)));
  compare.disabled = others.length === 0;
  compare.value = state.compare;
  element("second").hidden = !state.compare;
}

/** Another run for one of the two pictures. */
async function rerun(which) {
  const before = runNames().join();
  state[which] = element(`${which}-run`).value;
  const [, second] = scene.views;
  const alone = second.section.hidden;
  chooseRuns();
  if (before === runNames().join()) return;
  scene.top = { tiles: [], at: -1, values: null };
  if (alone && state.compare) {
    await second.open(scene.number, scene.about, scene.catalogue);
    const place = first().place();
    if (place) second.show(place, true);
  }
  remember();
  await load();
}

/** Two pictures of one slide move together: the one that was touched last leads. The address says where they are. */
function follow() {
  first();
  scene.views.forEach((view, which) => {
    const lead = () => (scene.leading = view);
    for (const event of ["pointerdown", "wheel"]) view.section.addEventListener(event, lead, { capture: true, passive: true });
    view.viewer.addHandler("update-viewport", () => {
      const place = scene.about && !scene.about.error && view.place();
      if (!place) return;
      if (which === 0) {
        state.place = place;
        remember();
      }
      const other = scene.views[1 - which];
      if (scene.leading === view && !other.section.hidden) other.show(place, true);
    });
    view.section.addEventListener("trouble", ({ detail }) => {
      scene.troubles.set("slide", detail);
      refresh();
    });
    let asked = null;
    const point = ({ clientX, clientY }) => {
      if (!asked) {
        requestAnimationFrame(() => {
          if (scene.about && !scene.about.error) showTile(view.under(...asked));
          asked = null;
        });
      }
      asked = [clientX, clientY];
    };
    for (const event of ["pointermove", "pointerdown"]) view.picture.addEventListener(event, point);
  });
}

const isNarrow = () => window.matchMedia("(max-width: 760px)").matches;

function showList(shown = element("list-panel").hidden) {
  element("list-panel").hidden = !shown;
  element("columns").classList.toggle("narrow", !shown);
  element("list-toggle").setAttribute("aria-expanded", shown);
}

async function copy() {
  history.replaceState(null, "", written());
  try {
    await navigator.clipboard.writeText(location.href);
    element("status").textContent = "The link is copied.";
  } catch {
    element("status").textContent = "The browser lets nothing be copied; the address bar holds the link.";
  }
}

function listen() {
  element("list-toggle").addEventListener("click", () => showList());
  element("copy").addEventListener("click", copy);
  element("help-open").addEventListener("click", () => element("help").showModal());
  element("zoom-in").addEventListener("click", () => first().zoom(ZOOM_STEP));
  element("zoom-out").addEventListener("click", () => first().zoom(1 / ZOOM_STEP));
  element("home").addEventListener("click", () => first().home());
  element("said-by").addEventListener("change", () => open(scene.number, state.place));
  element("map-run").addEventListener("change", () => rerun("map"));
  element("compare-run").addEventListener("change", () => rerun("compare"));
  window.addEventListener("hashchange", () => {
    read(location.hash);
    const wanted = scene.catalogue.slides.findIndex(([id]) => id === state.slide);
    if (wanted >= 0) open(wanted, state.place);
  });
  listenToKeys(() => {
    showList(true);
    element("search").focus();
    element("search").select();
  });
}
