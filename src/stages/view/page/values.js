// The numbers of tiles: which of them a layer paints, in which colour, and how they are written.

import { state } from "./state.js";

/** The numbers that a layer paints: attention by its percentile, a class by its score; nothing where there is nothing. */
export function painted({ columns }, key) {
  if (key === "class") return columns.get(`p_${state.class}`) ?? columns.get([...columns.keys()].find((name) => name.startsWith("p_")));
  const branch = columns.get(state.branch);
  return branch ? ranked(branch) : columns.get("percentile");
}

/** The numbers that tiles are ranked by: attention, or a class's score for a model without it. */
export function ranking(tiles) {
  return tiles.columns.get(state.branch) ?? tiles.columns.get("attention") ?? painted(tiles, "class");
}

const rankings = new WeakMap();

/** Percentiles of a branch, which the run holds for the mean alone: the share of the values below, those equal counted half. */
function ranked(values) {
  if (!rankings.has(values)) {
    const order = Float32Array.from(values).sort();
    rankings.set(values, Float32Array.from(values, (value) => (below(order, value, false) + below(order, value, true)) / (2 * order.length)));
  }
  return rankings.get(values);
}

/** How many of the rising values are below one, or not above it. */
function below(order, value, equal) {
  let [low, high] = [0, order.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order[middle] < value || (equal && order[middle] === value)) low = middle + 1;
    else high = middle;
  }
  return low;
}

const places = new WeakMap();

/** Places in a map of so many colours of values from 0 to 1. */
export function hues(values, colours) {
  if (!places.has(values)) {
    const last = colours.length - 1;
    places.set(values, Uint8Array.from(values, (value) => Math.round(Math.min(1, Math.max(0, value || 0)) * last)));
  }
  return places.get(values);
}

/** A number in few characters. */
export const told = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : value.toFixed(4));
