// The viewer as people use it: `node view.mjs RUNS SLIDES ANNOTATIONS PICTURES`, with `wsi` on the PATH. RUNS holds heatmaps of the slides by two
// models; screenshots go into PICTURES.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { SIZES, accessible, browsing, fail, same, until } from "./browser.mjs";

const [runs, slides, annotations, pictures] = process.argv.slice(2);
const viewer = spawn("wsi", ["view", runs, "--slides", slides, "--annotations", annotations], { stdio: ["ignore", "pipe", "inherit"] });
const lines = createInterface({ input: viewer.stdout })[Symbol.asyncIterator]();

/** The next link that the program prints. */
async function link() {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) fail("the viewer has ended");
    const found = value.match(/http:\S+/);
    if (found) return found[0];
  }
}

/** The middle of a slide's largest polygon. */
function tumour(slide) {
  const { features } = JSON.parse(readFileSync(join(annotations, `${slide}.geojson`), "utf8"));
  const rings = features.map(({ geometry }) => (geometry.type === "Polygon" ? geometry.coordinates[0] : geometry.coordinates[0][0]));
  const boxes = rings.map((ring) => {
    const [xs, ys] = [ring.map(([x]) => x), ring.map(([, y]) => y)];
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  });
  boxes.sort((a, b) => (b[2] - b[0]) * (b[3] - b[1]) - (a[2] - a[0]) * (a[3] - a[1]));
  const [left, top, right, bottom] = boxes[0] ?? fail(`nothing was drawn on ${slide}`);
  return { x: Math.round((left + right) / 2), y: Math.round((top + bottom) / 2), wide: right - left };
}

/** Opacity of the layers' canvas in the middle of the picture, 0 to 255. */
const painted = (section) => {
  const canvas = document.querySelector(`${section} .overlay`);
  const half = [Math.floor(canvas.width / 2), Math.floor(canvas.height / 2)];
  const pixels = canvas.getContext("2d").getImageData(half[0] - 4, half[1] - 4, 8, 8).data;
  return Math.max(...pixels.filter((_, place) => place % 4 === 3));
};

/** Whether the picture itself has come: OpenSeadragon's canvas is not of one colour. */
const shown = () => {
  const canvas = document.querySelector("#first .picture canvas");
  if (!canvas || canvas.width === 0) return false;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const first = pixels.slice(0, 3).join();
  for (let at = 0; at < pixels.length; at += 4 * 997) {
    if (pixels[at + 3] > 0 && pixels.slice(at, at + 3).join() !== first) return true;
  }
  return false;
};

const title = () => document.getElementById("title").textContent;

async function desk(page, origin) {
  await until(page, shown, "the first slide's picture");
  await accessible(page, "the first slide");

  // The keyboard alone: search, open, jump, layers.
  const slide = await page.evaluate(async () => {
    const { slides, runs } = await (await fetch("/api/catalogue")).json();
    const run = runs.find((run) => run.stage === "heatmap");
    return slides[run.said.find(([, label]) => run.classes[label] !== "normal")[0]][0];
  });
  await page.keyboard.press("/");
  same(await page.evaluate(() => document.activeElement.id), "search", "focus after /");
  await page.keyboard.type(slide);
  await page.keyboard.press("Enter");
  await until(page, (slide) => document.getElementById("title").textContent === slide, "the slide that was searched", slide);
  await until(page, () => document.querySelectorAll("#top button").length === 10, "ten top tiles");
  await page.keyboard.press("n");
  await until(page, () => document.querySelector("#top button").getAttribute("aria-current") === "true", "the first top tile");
  await until(page, () => /x=\d+&y=\d+&z=/.test(location.hash), "the place in the address");
  await page.waitForTimeout(1200); // its way there
  const values = await page.evaluate(() => document.getElementById("tile").textContent);
  for (const word of ["px", "µm", "attention", "percentile", "normal"]) if (!values.includes(word)) fail(`'${word}' is not told of the tile: ${values}`);
  if ((await page.evaluate(painted, "#first")) < 100) fail("no attention is painted over the top tile");
  await page.keyboard.press("1");
  await until(page, () => !document.getElementById("show-attention").checked, "attention switched off");
  await page.waitForTimeout(300);
  await page.keyboard.press("5");
  await page.waitForTimeout(300);
  const without = await page.evaluate(painted, "#first");
  await page.keyboard.press("1");
  await page.keyboard.press("5");
  await page.waitForTimeout(300);
  if (without >= (await page.evaluate(painted, "#first"))) fail("the layer's key changes nothing");
  await page.screenshot({ path: join(pictures, "view-top-tile.png") });

  // Every control can be reached by Tab, and is seen where it is.
  const reached = new Set();
  for (let step = 0; step < 60; step += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName));
  }
  for (const name of ["search", "list", "picture", "zoom-in", "map-run", "show-grid", "copy"]) if (!reached.has(name)) fail(`Tab does not reach '${name}'`);

  // A link restores the view, in another window of the browser.
  const place = await page.evaluate(() => location.hash);
  const again = await page.context().newPage();
  await again.goto(`${origin}/${place}`);
  await until(again, (slide) => document.getElementById("title").textContent === slide, "the link's slide", slide);
  await until(again, shown, "the link's picture");
  await again.waitForTimeout(1500);
  const numbers = (hash) => ["x", "y", "z"].map((name) => Number(new URLSearchParams(hash.slice(1)).get(name)));
  const [before, after] = [numbers(place), numbers(await again.evaluate(() => location.hash))];
  before.forEach((value, which) => {
    if (Math.abs(value - after[which]) > Math.max(2, 0.01 * value)) fail(`the link led to ${after}, not to ${before}`);
  });
  await again.close();

  // A tumour that was drawn, with the attention over it, by two models.
  const { x, y, wide } = tumour(slide);
  await page.evaluate((hash) => (location.hash = hash), `#slide=${slide}&x=${x}&y=${y}&z=${(500 / wide).toFixed(3)}&layers=attention:60,annotations:100,tissue:60`);
  await page.waitForTimeout(500);
  await until(page, () => document.querySelectorAll("#top button").length === 10, "the map of the drawn slide");
  await page.waitForTimeout(800);
  if ((await page.evaluate(painted, "#first")) < 100) fail("no attention is painted over the tumour");
  same(await page.evaluate(() => document.getElementById("notes").textContent), "", "troubles");
  const other = await page.evaluate(() => document.getElementById("compare-run").options[1]?.value ?? "");
  await page.selectOption("#compare-run", other || fail("there is no second heatmap of the slide"));
  await until(page, () => !document.getElementById("second").hidden && document.querySelector("#second .picture canvas"), "the second picture");
  await page.waitForTimeout(1500);
  if ((await page.evaluate(painted, "#second")) < 100) fail("no attention is painted in the second picture");
  const zoom = new URLSearchParams((await page.evaluate(() => location.hash)).slice(1)).get("z");
  if (Math.abs(zoom - 500 / wide) > 0.05) fail(`the second picture changed the zoom from ${500 / wide} to ${zoom}`);
  const bars = await page.evaluate(() => [...document.querySelectorAll(".scale")].map((bar) => `${bar.dataset.length} ${bar.clientWidth}`));
  same(bars[0], bars[1], "the scale of the two pictures");
  await accessible(page, "two runs");
  await page.screenshot({ path: join(pictures, "view-two-runs.png") });
  await page.keyboard.press("?");
  await page.screenshot({ path: join(pictures, "view-help.png") });
}

async function phone(page) {
  await until(page, shown, "the first slide's picture");
  same(await page.evaluate(() => document.getElementById("list-panel").hidden), true, "the list is folded away on a phone");
  const box = await page.locator("#first").boundingBox();
  same(Math.round(box.width), SIZES.phone.width, "width of the picture");
  same(await page.evaluate(() => document.documentElement.scrollWidth), SIZES.phone.width, "width of the page");
  await accessible(page, "a phone");
  await page.screenshot({ path: join(pictures, "view-phone.png"), fullPage: true });
  const was = await page.evaluate(title);
  await page.click("#list-toggle");
  await page.fill("#search", "lung_00");
  await accessible(page, "a phone's list");
  await page.screenshot({ path: join(pictures, "view-phone-list.png") });
  await page.locator("#list li").nth(1).click();
  await until(page, (was) => document.getElementById("title").textContent !== was, "another slide", was);
  same(await page.evaluate(() => document.getElementById("list-panel").hidden), true, "the list is folded away again");
}

try {
  await browsing(async (open) => {
    for (const [name, options, test] of [
      ["desk", { viewport: SIZES.desk, colorScheme: "light" }, desk],
      ["desk at night", { viewport: SIZES.desk, colorScheme: "dark" }, desk],
      ["phone", { viewport: SIZES.phone, colorScheme: "light", hasTouch: true, isMobile: true }, phone],
      ["phone at night", { viewport: SIZES.phone, colorScheme: "dark", hasTouch: true, isMobile: true }, phone],
    ]) {
      const address = await link();
      const { origin } = new URL(address);
      const context = await open(options, origin);
      const page = await context.newPage();
      await page.goto(address);
      await test(page, origin);
      await page.screenshot({ path: join(pictures, `view-${name.replaceAll(" ", "-")}.png`) });
      await context.close();
      console.log(`view: ${name}: as it should be`);
    }
  });
} finally {
  viewer.kill("SIGINT");
}
const code = await new Promise((ended) => (viewer.exitCode === null ? viewer.on("exit", ended) : ended(viewer.exitCode)));
same(code, 0, "how the viewer ended");
