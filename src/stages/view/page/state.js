// What is shown, as the part of the address behind `#`: a link restores it.

/** Layers by their keys, in the order of drawing, lowest first where they are drawn. */
export const LAYERS = [
  { key: "attention", name: "Attention", shown: true, opacity: 60 },
  { key: "class", name: "Class score", shown: false, opacity: 60 },
  { key: "tissue", name: "Tissue", shown: false, opacity: 60 },
  { key: "grid", name: "Grid", shown: false, opacity: 80 },
  { key: "annotations", name: "Annotations", shown: true, opacity: 100 },
];

export const state = {
  slide: "",
  /** Middle of the picture, level-0 pixels, and screen pixels per level-0 pixel; null: the whole slide. */
  place: null,
  map: "",
  compare: "",
  branch: "",
  class: "",
  layers: Object.fromEntries(LAYERS.map(({ key, shown, opacity }) => [key, { shown, opacity }])),
};

/** Takes what an address says; what it leaves out stays as it is. */
export function read(address) {
  const given = new URLSearchParams(address.replace(/^#/, ""));
  for (const name of ["slide", "map", "compare", "branch", "class"]) {
    if (given.has(name)) state[name] = given.get(name);
  }
  const place = ["x", "y", "z"].map((name) => Number.parseFloat(given.get(name)));
  state.place = place.every(Number.isFinite) && place[2] > 0 ? place : null;
  if (given.has("layers")) {
    for (const layer of Object.values(state.layers)) layer.shown = false;
    for (const part of given.get("layers").split(",")) {
      const [key, opacity] = part.split(":");
      const percent = Number.parseInt(opacity, 10);
      if (Object.hasOwn(state.layers, key)) {
        state.layers[key] = { shown: true, opacity: Number.isFinite(percent) ? Math.min(100, Math.max(0, percent)) : 60 };
      }
    }
  }
}

/** The address of what is shown. */
export function written() {
  const given = new URLSearchParams();
  for (const name of ["slide", "map", "compare", "branch", "class"]) {
    if (state[name]) given.set(name, state[name]);
  }
  if (state.place) {
    const [x, y, zoom] = state.place;
    given.set("x", Math.round(x));
    given.set("y", Math.round(y));
    given.set("z", Number(zoom.toPrecision(4)));
  }
  const shown = Object.entries(state.layers).filter(([, layer]) => layer.shown);
  given.set("layers", shown.map(([key, layer]) => `${key}:${layer.opacity}`).join(","));
  return `#${given}`;
}

let waiting = 0;

/** Writes the address, soon: a browser counts how often. */
export function remember() {
  clearTimeout(waiting);
  waiting = setTimeout(() => history.replaceState(null, "", written()), 200);
}
