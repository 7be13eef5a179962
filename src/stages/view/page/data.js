// What the viewer's server says, fetched and unpacked.

const ASK_AGAIN = 5;
const WAIT_MS = 1000;

/** The sentence with which a request was refused. */
export class Refused extends Error {}

/** An answer; a busy server is asked again. */
async function answer(path) {
  for (let turn = 1; ; turn += 1) {
    let response;
    try {
      response = await fetch(path);
    } catch {
      throw new Refused("The viewer does not answer: it has ended, or the tunnel to it has. Start `wsi view` again.");
    }
    if (response.ok) return response;
    if (response.status !== 503 || turn === ASK_AGAIN) throw new Refused((await response.text()).trim());
    await new Promise((again) => setTimeout(again, WAIT_MS));
  }
}

export const json = async (path) => (await answer(path)).json();

/** Why a path cannot be read, if it cannot. */
export async function reason(path) {
  try {
    await answer(path);
    return "";
  } catch (error) {
    return error.message;
  }
}

/** Tiles as columns of numbers: `{side, tiles, columns: Map(name → Float32Array)}`. */
export async function tiles(path) {
  const buffer = await (await answer(path)).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const columns = new Map();
  header.columns.forEach((name, place) => {
    columns.set(name, new Float32Array(buffer, 4 + length + 4 * header.tiles * place, header.tiles));
  });
  return { side: header.side, tiles: header.tiles, columns };
}

/** Outlines with their paths in level-0 pixels: `[{group, colour, path, box}]`. */
export async function outlines(path) {
  return (await json(path)).map(({ group, colour, rings }) => {
    const drawn = new Path2D();
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (const ring of rings) {
      for (let at = 0; at < ring.length; at += 2) {
        const [x, y] = [ring[at], ring[at + 1]];
        if (at === 0) drawn.moveTo(x, y);
        else drawn.lineTo(x, y);
        box[0] = Math.min(box[0], x);
        box[1] = Math.min(box[1], y);
        box[2] = Math.max(box[2], x);
        box[3] = Math.max(box[3], y);
      }
      drawn.closePath();
    }
    return { group, colour, path: drawn, box };
  });
}
