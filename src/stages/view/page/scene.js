// What is on the page now: one slide, what has arrived of its layers, and what has gone wrong with it.

import { short } from "./list.js";
import { state } from "./state.js";

export const element = (id) => document.getElementById(id);

export const scene = {
  /** Slides and runs. */
  catalogue: null,
  list: null,
  /** Two pictures; the second is shown beside the first on demand. */
  views: [],
  /** The picture that the other one follows. */
  leading: null,
  /** The open slide's number, and what the server says of it. */
  number: -1,
  about: null,
  /** Counts slides that were asked for: what arrives late is not shown. */
  turn: 0,
  /** What has arrived; `maps` by the run's number. */
  maps: new Map(),
  grid: null,
  tissue: null,
  annotations: null,
  /** What has gone wrong, by what it went wrong with. */
  troubles: new Map(),
  /** The top tiles' numbers, which of them was jumped to, and the values that they are the top of. */
  top: { tiles: [], at: -1, values: null },
};

/** Forgets a slide for another. */
export function clear() {
  Object.assign(scene, { about: null, maps: new Map(), grid: null, tissue: null, annotations: null, troubles: new Map() });
  scene.top = { tiles: [], at: -1, values: null };
}

/** The picture that keys and buttons move. */
export function first() {
  scene.leading = scene.views[0];
  return scene.leading;
}

/** The runs of the two pictures, by name; empty for none. */
export const runNames = () => [state.map, state.compare];

export const runNumber = (name) => scene.catalogue.runs.findIndex((run) => run.name === name);

/** The heatmap of a run, if it has arrived. */
export const mapOf = (name) => scene.maps.get(runNumber(name));

/** A run's name less the folders that all heatmap runs of the slide are in. */
export function shortName(name) {
  const names = (scene.about?.layers.maps ?? []).map((run) => scene.catalogue.runs[run].name);
  return short(names)[names.indexOf(name)] ?? name;
}

/** An element with a text. */
export function item(tag, text, kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
