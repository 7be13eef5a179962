// One picture of a slide: OpenSeadragon, the layers over it, a scale bar, and what cannot be shown.

import { Overlay } from "./overlay.js";
import * as data from "./data.js";

/** Round lengths of a scale bar, µm. */
const LENGTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
const LONGEST_BAR_PX = 140;

// OpenSeadragon would lay a style into the page, which the page's own rules forbid; it looks for an element of this name first. In no
// namespace of a browser the element does nothing.
const standIn = document.createElementNS("urn:wsi", "style");
standIn.setAttribute("data-openseadragon-mobile-css", "");
document.head.append(standIn);

/** Further tries of a tile. */
const RETRIES = 2;

export class SlideView {
  constructor(section) {
    this.section = section;
    this.picture = section.querySelector(".picture");
    this.viewer = window.OpenSeadragon({
      element: this.picture,
      tabIndex: "",
      drawer: "canvas",
      showNavigationControl: false,
      keyboardNavEnabled: false,
      loadTilesWithAjax: true,
      imageLoaderLimit: 6,
      preserveImageSizeOnResize: true,
      tileRetryMax: RETRIES,
      timeout: 600_000, // the first look at a slide without coarse levels takes its time
      tileRetryDelay: 1000,
      animationTime: window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
      maxZoomPixelRatio: 4,
      minZoomImageRatio: 0.6,
      visibilityRatio: 0.3,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
    });
    this.overlay = new Overlay(section.querySelector(".overlay"), this.viewer);
    this.about = null;
    this.viewer.addHandler("tile-load-failed", (event) => this.lost(event));
    this.viewer.addHandler("update-viewport", () => this.measure());
  }

  say(text) {
    const message = this.section.querySelector(".message");
    message.textContent = text;
    message.hidden = !text;
  }

  caption(text) {
    this.section.querySelector(".caption").textContent = text;
  }

  /** Shows a slide, or why it cannot be shown. Resolves when the first tiles are on their way. */
  async open(number, about, catalogue) {
    this.about = about;
    this.overlay.clear();
    this.reason = null;
    this.say("");
    this.section.querySelector(".scale").hidden = true;
    if (about.error) {
      this.viewer.close();
      this.overlay.ask();
      this.say(`This slide cannot be shown: ${about.error}`);
      return;
    }
    this.overlay.finest = about.levels - 1;
    const [tileWidth, tileHeight] = about.tile;
    const opened = new Promise((resolve) => this.viewer.addOnceHandler("open", resolve));
    this.viewer.open({
      width: about.width,
      height: about.height,
      tileWidth,
      tileHeight,
      minLevel: Math.max(0, about.levels - 1 - Math.floor(Math.log2(Math.max(about.width / tileWidth, about.height / tileHeight, 1)))- 1),
      maxLevel: about.levels - 1,
      getTileUrl: (level, x, y) => `/api/slides/${number}/tiles/${level}/${x}/${y}?of=${catalogue.viewer}`,
    });
    await opened;
  }

  /** Marks what cannot be read where it is, and says why. */
  async lost({ tile, tiledImage, tries }) {
    const now = () => this.about && tiledImage === this.viewer.world.getItemAt(0);
    if (tries <= RETRIES || !now()) return;
    const { width } = this.about;
    const { x, y, width: wide, height: high } = tile.bounds;
    const reason = await data.reason(tile.getUrl());
    // Read after all, or another slide is open meanwhile.
    if (!reason || !now()) return;
    const { unreadable } = this.overlay;
    unreadable.push({ box: [x * width, y * width, wide * width, high * width], level: tile.level });
    this.overlay.ask();
    this.reason ??= reason;
    const count = unreadable.length;
    const detail = `${count === 1 ? "a place" : `${count} places`}, striped, cannot be read. ${count === 1 ? "It" : "The first"}: ${this.reason}`;
    this.section.dispatchEvent(new CustomEvent("trouble", { detail }));
  }

  /** Middle of the picture and zoom, as a link holds them. */
  place() {
    const image = this.viewer.world.getItemAt(0);
    if (!image) return null;
    const middle = image.viewportToImageCoordinates(this.viewer.viewport.getCenter(true));
    return [middle.x, middle.y, image.viewportToImageZoom(this.viewer.viewport.getZoom(true))];
  }

  show([x, y, zoom], immediately = false) {
    const image = this.viewer.world.getItemAt(0);
    if (!image) return;
    const { viewport } = this.viewer;
    viewport.zoomTo(image.imageToViewportZoom(zoom), null, immediately);
    viewport.panTo(image.imageToViewportCoordinates(new window.OpenSeadragon.Point(x, y)), immediately);
  }

  /** The whole slide, or what of it was scanned. */
  home(immediately = false) {
    const image = this.viewer.world.getItemAt(0);
    if (!image) return;
    const [x, y, wide, high] = this.about.bounds ?? [0, 0, this.about.width, this.about.height];
    this.viewer.viewport.fitBounds(image.imageToViewportRectangle(x, y, wide, high), immediately);
  }

  zoom(by) {
    this.viewer.viewport?.zoomBy(by);
    this.viewer.viewport?.applyConstraints();
  }

  pan(x, y) {
    const { viewport } = this.viewer;
    if (!this.viewer.world.getItemAt(0)) return;
    viewport.panBy(viewport.deltaPointsFromPixels(new window.OpenSeadragon.Point(x, y)));
    viewport.applyConstraints();
  }

  /** Level-0 pixels under a place on the screen; null beside the slide. */
  under(clientX, clientY) {
    const frame = this.overlay.frame();
    if (!frame) return null;
    const box = this.picture.getBoundingClientRect();
    const [x, y] = [(clientX - box.left - frame.left) / frame.scale, (clientY - box.top - frame.top) / frame.scale];
    return x >= 0 && y >= 0 && x < this.about.width && y < this.about.height ? [x, y] : null;
  }

  /** A bar of a round length. */
  measure() {
    const bar = this.section.querySelector(".scale");
    const frame = this.overlay.frame();
    bar.hidden = !frame || !this.about?.mpp;
    if (bar.hidden) return;
    const pixels = (length) => (length / this.about.mpp[0]) * frame.scale;
    const length = LENGTHS.findLast((length) => pixels(length) <= LONGEST_BAR_PX) ?? LENGTHS[0];
    bar.dataset.length = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
    bar.querySelector("span").style.width = `${pixels(length)}px`;
  }
}
