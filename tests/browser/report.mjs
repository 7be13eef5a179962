// A report's page in Chromium: `node tests/browser/report.mjs PAGE.html SCREENSHOTS [MOST-SECONDS]`.
//
// Fails on any message of the console, any request beyond the file, a page that scrolls sideways, a picture without words, a serious finding
// of axe, or a page that takes too long. Needs the packages `playwright-core` and `axe-core`, and Chromium (CHROMIUM, else /usr/bin/chromium).
import { createRequire } from 'node:module';
import { mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const [page, shots, most = '2'] = process.argv.slice(2);
if (!page || !shots) {
  console.error('usage: node report.mjs PAGE.html SCREENSHOTS [MOST-SECONDS]');
  process.exit(2);
}
const address = pathToFileURL(resolve(page)).href;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
mkdirSync(shots, { recursive: true });

const faults = [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
for (const width of [1400, 390]) {
  for (const colorScheme of ['light', 'dark']) {
    const where = `${width} px, ${colorScheme}`;
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const tab = await context.newPage();
    tab.on('console', (message) => faults.push(`${where}: console: ${message.text()}`));
    tab.on('pageerror', (error) => faults.push(`${where}: ${error.message}`));
    tab.on('request', (request) => {
      // Pictures inside the page are requests to Chromium, too.
      if (request.url() !== address && !request.url().startsWith('data:')) faults.push(`${where}: asks for ${request.url()}`);
    });
    const started = performance.now();
    await tab.goto(address, { waitUntil: 'load' });
    const seconds = (performance.now() - started) / 1000;
    if (seconds > Number(most)) faults.push(`${where}: took ${seconds.toFixed(2)} s to load`);
    const sideways = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (sideways > 0) faults.push(`${where}: the page scrolls sideways by ${sideways} px`);
    // What is folded is part of the page.
    await tab.evaluate(() => document.querySelectorAll('details').forEach((one) => { one.open = true; }));
    const open = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (open > 0) faults.push(`${where}: with everything open, the page scrolls sideways by ${open} px`);
    await tab.evaluate(axe);
    const found = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    for (const { id, impact, help, nodes } of found.violations) {
      const line = `${where}: axe: ${impact}: ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.target.join(' ')).join(' | ')}`;
      if (['serious', 'critical'].includes(impact)) faults.push(line);
      else console.log(line);
    }
    await tab.screenshot({ path: join(shots, `report-${width}-${colorScheme}.png`), fullPage: true });
    console.log(`${where}: ${seconds.toFixed(2)} s`);
    if (width === 1400 && colorScheme === 'dark') {
      // On paper it is black on white, whatever the screen.
      await tab.emulateMedia({ media: 'print' });
      const ground = await tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
      if (ground !== 'rgb(255, 255, 255)') faults.push(`print: the ground is ${ground}`);
      await tab.setViewportSize({ width: 718, height: 1000 });
      const cut = await tab.evaluate(() => [...document.querySelectorAll('main > section .wide')]
        .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => `${one.ariaLabel} by ${one.scrollWidth - one.clientWidth} px`));
      if (cut.length > 0) faults.push(`print: cut off: ${cut.join('; ')}`);
      await tab.pdf({ path: join(shots, 'report.pdf'), format: 'A4' });
    }
    await context.close();
  }
}
await browser.close();
faults.forEach((fault) => console.error(fault));
console.log(faults.length === 0 ? 'no fault' : `${faults.length} faults`);
process.exit(faults.length === 0 ? 0 : 1);
