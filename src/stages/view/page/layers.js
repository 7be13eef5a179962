// Fetches the layers that are shown, lays them over the pictures, and says what cannot be shown.

import * as data from "./data.js";
import { showLayers } from "./panel.js";
import { element, item, mapOf, runNames, runNumber, scene, shortName } from "./scene.js";
import { remember, state } from "./state.js";
import { fillTop } from "./tiles.js";
import { hues, painted } from "./values.js";

const shown = (key) => state.layers[key].shown;

export function toggle(key, visible = !shown(key)) {
  state.layers[key].shown = visible;
  remember();
  load();
}

/** Fetches what is shown and not here yet. */
export async function load() {
  const { about, number, turn } = scene;
  if (!about) return; // the slide is being opened, which loads them
  const wanted = [];
  const want = (key, wants, path, get, take) => {
    if (wants && !scene.troubles.has(key)) wanted.push(fetchLayer(turn, key, () => get(`/api/slides/${number}/${path}`), take));
  };
  for (const name of runNames().filter(Boolean)) {
    const run = runNumber(name);
    const wants = (shown("attention") || shown("class")) && !scene.maps.has(run);
    want(`heatmap ${shortName(name)}`, wants, `maps/${run}`, data.tiles, (tiles) => scene.maps.set(run, tiles));
  }
  const { grids, tissue, annotations } = about.layers;
  want("grid", shown("grid") && !scene.grid && grids.length > 0, `grids/${grids[0]}`, data.tiles, (tiles) => (scene.grid = tiles));
  want("tissue", shown("tissue") && !scene.tissue && tissue.length > 0, `tissue/${tissue[0]}`, data.outlines, (found) => (scene.tissue = found));
  const drawn = shown("annotations") && !scene.annotations && annotations;
  want("annotations", drawn, "annotations", data.outlines, (found) => (scene.annotations = found));
  refresh();
  await Promise.all(wanted);
}

async function fetchLayer(turn, key, get, take) {
  try {
    const layer = await get();
    if (turn !== scene.turn) return;
    take(layer);
    if (layer.columns) tellOutside(key, layer);
  } catch (error) {
    if (turn !== scene.turn) return;
    scene.troubles.set(key, error.message);
  }
  refresh();
}

/** Says so where a run was made from another file of the slide's name. */
function tellOutside(key, { side, tiles, columns }) {
  const { error, width, height } = scene.about;
  if (error) return;
  const [xs, ys] = [columns.get("x"), columns.get("y")];
  let outside = 0;
  for (let tile = 0; tile < tiles; tile += 1) {
    const inside = xs[tile] >= 0 && ys[tile] >= 0 && xs[tile] + side <= width && ys[tile] + side <= height;
    if (!inside) outside += 1;
  }
  if (outside > 0) scene.troubles.set(`${key}: places`, `${outside} of ${tiles} tiles lie outside the slide; the run was made from another file.`);
}

/** Lays what is here over the pictures. */
export function refresh() {
  const opacity = (key) => state.layers[key].opacity / 100;
  const { colours } = scene.catalogue;
  runNames().forEach((name, which) => {
    const { overlay, section } = scene.views[which];
    const tiles = mapOf(name);
    const fill = (key) => {
      const values = tiles && shown(key) ? painted(tiles, key) : null;
      return values ? [{ tiles, opacity: opacity(key), colours, hues: hues(values, colours) }] : [];
    };
    const shapes = (key, found) => (found && shown(key) ? { shapes: found, opacity: opacity(key) } : null);
    overlay.fills = ["attention", "class"].flatMap(fill);
    overlay.grid = scene.grid && shown("grid") ? { tiles: scene.grid, opacity: opacity("grid") } : null;
    overlay.tissue = shapes("tissue", scene.tissue);
    overlay.drawn = shapes("annotations", scene.annotations);
    overlay.ask();
    if (!section.hidden) scene.views[which].caption(state.compare ? shortName(name) : "");
  });
  fillTop();
  showLayers();
  tellTroubles();
}

function tellTroubles() {
  const { runs } = scene.catalogue;
  // Runs that are not shown are nobody's trouble, but for tile and probe runs, which are always in use.
  const used = runs.filter(({ stage, name, note }) => note && (stage !== "heatmap" || runNames().includes(name)));
  const notes = [...used.map(({ name, note }) => `${name}: ${note}`), ...[...scene.troubles].map(([key, reason]) => `${key}: ${reason}`)];
  element("notes").replaceChildren(...notes.map((note) => item("li", note)));
}
