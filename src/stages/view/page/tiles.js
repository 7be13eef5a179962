// Single tiles: the one under the cursor, and those at the top.

import { element, first, item, mapOf, runNames, scene, shortName } from "./scene.js";
import { state } from "./state.js";
import { ranking, told } from "./values.js";

const TOP_TILES = 10;
/** Share of the picture that a tile takes that was jumped to. */
const TILE_SHARE = 0.3;

const corner = ({ columns }, tile) => [columns.get("x")[tile], columns.get("y")[tile]];

/** The list of the top tiles. */
export function fillTop() {
  const tiles = mapOf(state.map);
  const values = tiles && ranking(tiles);
  if (values && scene.top.values !== values) {
    const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
    scene.top = { tiles: order.slice(0, TOP_TILES), at: -1, values };
  }
  const rows = scene.top.tiles.map((tile, place) => {
    const button = document.createElement("button");
    button.type = "button";
    const [x, y] = corner(tiles, tile);
    button.append(item("span", `${place + 1}.`), item("span", `x ${x}, y ${y}`), item("span", told(values[tile])));
    button.setAttribute("aria-current", place === scene.top.at);
    button.addEventListener("click", () => jump(place));
    const row = document.createElement("li");
    row.append(button);
    return row;
  });
  if (rows.length === 0) rows.push(item("li", "No heatmap of this slide is shown.", "soft"));
  const had = element("top").contains(document.activeElement);
  element("top").replaceChildren(...rows);
  if (had) element("top").querySelectorAll("button")[scene.top.at]?.focus();
}

/** Goes to a top tile, counted from 0; after the last comes the first. */
export function jump(place) {
  const { top } = scene;
  const tiles = mapOf(state.map);
  if (!tiles || top.tiles.length === 0) return;
  top.at = (place + top.tiles.length) % top.tiles.length;
  const [x, y] = corner(tiles, top.tiles[top.at]).map((at) => at + tiles.side / 2);
  const { clientWidth, clientHeight } = first().picture;
  first().show([x, y, (TILE_SHARE * Math.min(clientWidth, clientHeight)) / tiles.side]);
  showTile([x, y]);
  fillTop();
  element("status").textContent = `Top tile ${top.at + 1} of ${top.tiles.length}`;
}

/** What is known of a place on the slide, level-0 pixels; null: of none. */
export function showTile(place) {
  const { about, views, grid } = scene;
  const rows = [];
  const row = (name, value) => rows.push(item("dt", name), item("dd", value));
  views.forEach((view) => (view.overlay.marks = []));
  if (place) {
    const [x, y] = place.map(Math.floor);
    row("x, y", `${x}, ${y} px`);
    if (about.mpp) row("", `${(x * about.mpp[0]).toFixed(1)}, ${(y * about.mpp[1]).toFixed(1)} µm`);
    runNames().forEach((name, which) => {
      const tiles = mapOf(name) ?? (which === 0 ? grid : null);
      const tile = tiles ? covering(tiles, place) : -1;
      if (tile < 0) return;
      views[which].overlay.marks = [[...corner(tiles, tile), tiles.side]];
      if (state.compare) row(shortName(name), "");
      if (which === 0) row("tile", `${corner(tiles, tile).join(", ")} px`);
      for (const [column, values] of tiles.columns) {
        if (column !== "x" && column !== "y") row(column.replace(/^p_/, "").replace(/^attention_/, "branch "), told(values[tile]));
      }
    });
  }
  element("tile-hint").hidden = rows.length > 0;
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
