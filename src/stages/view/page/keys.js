// What the keyboard does.

import { toggle } from "./layers.js";
import { element, first, scene } from "./scene.js";
import { LAYERS } from "./state.js";
import { jump } from "./tiles.js";

/** Pixels of the screen that an arrow moves the slide by. */
const STEP_PX = 90;
const ARROWS = { ArrowLeft: [-STEP_PX, 0], ArrowRight: [STEP_PX, 0], ArrowUp: [0, -STEP_PX], ArrowDown: [0, STEP_PX] };
export const ZOOM_STEP = 1.6;

/** `search()` opens the list and puts the cursor into its search. */
export function listenToKeys(search) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
    const act = event.target.id === "search" ? inSearch(event.key) : elsewhere(event, search);
    if (act) {
      act();
      event.preventDefault();
    }
  });
}

function inSearch(key) {
  const { list } = scene;
  const leave = () => {
    if (list.cursor < 0) list.step(0);
    element("list").focus();
  };
  const enter = () => {
    leave();
    list.choose();
  };
  return { Enter: enter, ArrowDown: leave, Escape: leave }[key];
}

function elsewhere({ key, target }, search) {
  if (target.matches("select")) return null;
  const { list, top } = scene;
  const layer = LAYERS[Number(key) - 1];
  if (layer) return () => toggle(layer.key);
  const inList = {
    Enter: () => list.choose(),
    ArrowDown: () => list.step(1),
    ArrowUp: () => list.step(-1),
    Home: () => list.move(0),
    End: () => list.move(Infinity),
  };
  const everywhere = {
    "/": search,
    j: () => list.step(1),
    k: () => list.step(-1),
    n: () => jump(top.at + 1),
    p: () => jump(top.at < 0 ? -1 : top.at - 1),
    "+": () => first().zoom(ZOOM_STEP),
    "=": () => first().zoom(ZOOM_STEP),
    "-": () => first().zoom(1 / ZOOM_STEP),
    0: () => first().home(),
    "?": () => element("help").showModal(),
  };
  if (target.id === "list" && inList[key]) return inList[key];
  if (target === document.body && key === "Enter") return inList.Enter;
  // A slider's arrows are its own.
  if (ARROWS[key] && !target.matches("input[type=range]")) return () => first().pan(...ARROWS[key]);
  return Object.hasOwn(everywhere, key) ? everywhere[key] : null;
}
