// Draws the layers over a slide, on a canvas that follows the picture. Only what is in sight is drawn.

/** Narrower tiles of a grid are filled: their edges would be all there is. */
const NARROWEST_GRID_PX = 5;

export class Overlay {
  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    this.clear();
    this.asked = false;
    for (const event of ["update-viewport", "open", "resize"]) viewer.addHandler(event, () => this.ask());
    new ResizeObserver(() => this.ask()).observe(canvas);
  }

  clear() {
    /** `{tiles, hues}`: hues are places in the colour map. */
    this.fills = [];
    this.grid = null;
    this.tissue = null;
    this.drawn = null;
    this.marks = [];
    /** Number of the slide's finest level. */
    this.finest = 0;
    /** What cannot be read: `box`, `[x, y, width, height]` of the slide, and the `level` of the tile. */
    this.unreadable = [];
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  /** Screen pixels per level-0 pixel, and where level 0 begins on the screen. */
  frame() {
    const image = this.viewer.world.getItemAt(0);
    if (!image) return null;
    const { Point } = window.OpenSeadragon;
    const corner = image.imageToViewerElementCoordinates(new Point(0, 0));
    const end = image.imageToViewerElementCoordinates(new Point(image.getContentSize().x, 0));
    return { left: corner.x, top: corner.y, scale: (end.x - corner.x) / image.getContentSize().x };
  }

  draw() {
    const dense = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (this.canvas.width !== Math.round(width * dense)) this.canvas.width = Math.round(width * dense);
    if (this.canvas.height !== Math.round(height * dense)) this.canvas.height = Math.round(height * dense);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const frame = this.frame();
    if (!frame) return;
    const { left, top, scale } = frame;
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const sight = { left, top, scale, width, height };
    for (const fill of this.fills) {
      pen.globalAlpha = fill.opacity;
      eachInSight(fill.tiles, sight, (tile, x, y, wide, high) => {
        pen.fillStyle = fill.colours[fill.hues[tile]];
        pen.fillRect(x, y, wide, high);
      });
    }
    if (this.grid) this.drawGrid(pen, sight);
    pen.setTransform(dense * scale, 0, 0, dense * scale, dense * left, dense * top);
    if (this.tissue) outline(pen, sight, this.tissue, "#0072b2", 1.5, 0.25);
    if (this.drawn) outline(pen, sight, this.drawn, "#d00000", 2.5, 0);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.globalAlpha = 1;
    // A coarse tile that is lost says nothing of the finer ones over it, which are what is looked at.
    const level = Math.floor(this.finest + Math.min(0, Math.log2(scale * dense)));
    for (const { box, level: of } of this.unreadable) if (of >= level) hatch(pen, sight, box);
    for (const [x, y, side] of this.marks) {
      for (const [colour, thick] of [["#000000", 4], ["#ffffff", 2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = thick;
        pen.strokeRect(left + scale * x, top + scale * y, scale * side, scale * side);
      }
    }
  }

  drawGrid(pen, sight) {
    const { tiles, opacity } = this.grid;
    const wide = tiles.side * sight.scale >= NARROWEST_GRID_PX;
    pen.globalAlpha = wide ? opacity : opacity * 0.35;
    pen.strokeStyle = pen.fillStyle = "#0072b2";
    pen.lineWidth = 1;
    pen.beginPath();
    eachInSight(tiles, sight, (tile, x, y, across, down) => {
      if (wide) pen.rect(x + 0.5, y + 0.5, across, down);
      else pen.fillRect(x, y, across, down);
    });
    pen.stroke();
  }
}

/** Tiles that are in sight, each with its whole pixels on the screen; neighbours share none. */
function eachInSight({ side, tiles, columns }, { left, top, scale, width, height }, act) {
  const [xs, ys] = [columns.get("x"), columns.get("y")];
  for (let tile = 0; tile < tiles; tile += 1) {
    const [x, y] = [Math.round(left + scale * xs[tile]), Math.round(top + scale * ys[tile])];
    const [right, bottom] = [Math.round(left + scale * (xs[tile] + side)), Math.round(top + scale * (ys[tile] + side))];
    if (right >= 0 && bottom >= 0 && x <= width && y <= height) act(tile, x, y, Math.max(1, right - x), Math.max(1, bottom - y));
  }
}

/** Outlines, in level-0 pixels. */
function outline(pen, { left, top, scale, width, height }, { shapes, opacity }, usual, thick, filled) {
  pen.lineWidth = thick / scale;
  for (const { path, box, colour } of shapes) {
    const out = left + scale * box[2] < 0 || top + scale * box[3] < 0 || left + scale * box[0] > width || top + scale * box[1] > height;
    if (out) continue;
    pen.strokeStyle = pen.fillStyle = colour || usual;
    pen.globalAlpha = opacity * filled;
    if (filled > 0) pen.fill(path, "evenodd");
    pen.globalAlpha = opacity;
    pen.stroke(path);
  }
}

/** A place that cannot be read: stripes, which no tissue has. */
function hatch(pen, { left, top, scale }, [x, y, wide, high]) {
  const [from, to] = [left + scale * x, left + scale * (x + wide)];
  const [above, below] = [top + scale * y, top + scale * (y + high)];
  pen.save();
  pen.beginPath();
  pen.rect(from, above, to - from, below - above);
  pen.clip();
  pen.fillStyle = "#808080";
  pen.fillRect(from, above, to - from, below - above);
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 2;
  pen.beginPath();
  for (let at = from - (below - above); at < to; at += 12) {
    pen.moveTo(at, below);
    pen.lineTo(at + (below - above), above);
  }
  pen.stroke();
  if (to - from > 110) {
    pen.fillStyle = "#ffffff";
    pen.fillRect(from + 4, above + 5, 98, 20);
    pen.fillStyle = "#000000";
    pen.font = "13px system-ui, sans-serif";
    pen.fillText("cannot be read", from + 8, above + 19);
  }
  pen.restore();
}
