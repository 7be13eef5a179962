// A browser that fails the test on an error on its console, on a request to anybody but the page's own server, and on findings of axe-core that
// keep people out. Needs the packages `playwright-core` and `axe-core`, and Chromium (CHROMIUM, else /usr/bin/chromium).

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const SIZES = { desk: { width: 1400, height: 900 }, phone: { width: 390, height: 844 } };

export function fail(what) {
  throw new Error(what);
}

export function same(found, wanted, what) {
  if (found !== wanted) fail(`${what}: ${found}, wanted ${wanted}`);
}

/** Waits until `true_of` is, in the page. */
export async function until(page, true_of, what, argument) {
  await page.waitForFunction(true_of, argument, { timeout: 20_000 }).catch(() => fail(`in vain: ${what}`));
}

/** Runs `test(open)` in a browser; `open(options, origin)` gives a new context that may speak to its origin alone. */
export async function browsing(test) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  // Our libraries are not the browser's.
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], env: { ...process.env, LD_LIBRARY_PATH: "" } });
  const troubles = [];
  try {
    await test(async (options, origin) => {
      const context = await browser.newContext(options);
      context.on("console", (message) => {
        if (message.type() === "error") troubles.push(`console: ${message.text()}`);
      });
      context.on("weberror", (error) => troubles.push(`script: ${error.error().stack}`));
      context.on("request", (request) => {
        const url = new URL(request.url());
        if (!["blob:", "data:"].includes(url.protocol) && url.origin !== origin) troubles.push(`a request to ${url.origin}`);
      });
      return context;
    });
  } catch (error) {
    troubles.unshift(error.stack);
  } finally {
    await browser.close();
  }
  if (troubles.length > 0) fail([...new Set(troubles)].join("\n"));
}

/** What keeps people out of the page as it is now. */
export async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = grave.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html).join(" ")}`);
  if (told.length > 0) fail(`axe-core on ${what}:\n${told.join("\n")}`);
}
