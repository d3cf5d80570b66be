// Figures of the page with a task for 50,000 endpoints. Fails where one is far beyond its bar: machines differ, and others work beside it.
import { readFileSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { Browser, Platform, until } from "./platform.mjs";

const NUMBER = 50_000;
/** How far beyond its bar a figure may be before this fails. */
const ROOM = 4;

const figures = [];

function figure(name, value, bar, unit, room = ROOM) {
  figures.push({ name, value, bar, unit, fails: value > bar * room });
}

const percentile = (values, part) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];

const dist = new URL("../../dist/assets/", import.meta.url);
const packed = (name) => gzipSync(readFileSync(new URL(name, dist)), { level: 9 }).length / 1024;
figure("script, compressed", packed("app.js"), 60, "KiB", 1);
figure("style, compressed", packed("app.css"), 12, "KiB", 1);
figure("all files", readdirSync(dist).reduce((sum, name) => sum + readFileSync(new URL(name, dist)).length, 0) / 1024, 150, "KiB", 1);

const platform = await Platform.start();
const browser = await Browser.start();
try {
  const endpoints = Array.from({ length: NUMBER }, (_, number) => `e${String(number).padStart(5, "0")}`);
  await platform.submit("worker", "fifty-thousand", { payload: { seconds: 0 }, endpoints });
  await until("the frozen set", async () => (await platform.request("GET", "/worker/fifty-thousand?responses=none")).task.expected === NUMBER);

  const drawn = () => document.querySelector("canvas")?.width > 100;
  for (const [words, slower, paint, grid] of [["", 1, 500, 1000], [", processor four times slower", 4, 3000, 3000]]) {
    const page = await browser.open(platform);
    const devtools = await page.context().newCDPSession(page);
    await page.goto(`${platform.url}/dashboard/settings`);
    await devtools.send("Emulation.setCPUThrottlingRate", { rate: slower });
    await page.goto(`${platform.url}/dashboard/tasks/worker/fifty-thousand`, { waitUntil: "commit" });
    await page.waitForFunction(drawn, null, { polling: 20 });
    const [first, all] = await page.evaluate(() => [performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0, performance.now()]);
    figure(`first paint${words}`, first, paint, "ms");
    figure(`grid of ${NUMBER}${words}`, all, grid, "ms");
    if (slower === 1) {
      await page.waitForTimeout(2000);
      await devtools.send("HeapProfiler.collectGarbage");
      const { usedSize } = await devtools.send("Runtime.getHeapUsage");
      figure("heap", usedSize / 2 ** 20, 50, "MiB", 1.5);
      await devtools.send("Performance.enable");
      const { metrics } = await devtools.send("Performance.getMetrics");
      figure("nodes of the document", metrics.find(({ name }) => name === "Nodes").value, 3000, "", 1.5);
    }
    if (page.wrongs.length > 0) throw new Error(page.wrongs.join("\n"));
    await page.context().close();
  }

  // From the commit of a change to what one sees of it.
  const page = await browser.open(platform);
  const spans = [];
  for (let number = 0; number < 20; number++) {
    const identifier = `seen-${number}`;
    await platform.submit("worker", identifier, { payload: { seconds: 600 }, endpoints: ["console1"] });
    await page.goto(`${platform.url}/dashboard/tasks/worker/${identifier}`);
    await page.locator(".contact", { hasText: "live" }).waitFor();
    await page.locator(".summary .state.run").waitFor();
    await page.evaluate(() => {
      const state = document.querySelector(".summary");
      new MutationObserver(() => {
        if (state.textContent.includes("canceled")) window.seenAt ??= Date.now();
      }).observe(state, { subtree: true, childList: true, characterData: true });
    });
    await platform.request("DELETE", `/worker/${identifier}`);
    const committed = Date.now();
    await page.waitForFunction(() => window.seenAt !== undefined);
    spans.push(Math.max(0, (await page.evaluate(() => window.seenAt)) - committed));
  }
  figure("from commit to pixel, median", percentile(spans, 0.5), 300, "ms");
  figure("from commit to pixel, slowest of 20", percentile(spans, 1), 1000, "ms");
} finally {
  await browser.stop();
  await platform.stop();
}

for (const { name, value, bar, unit, fails } of figures) {
  const shown = value < 10 ? value.toFixed(1) : Math.round(value).toString();
  console.log(`${name.padEnd(52)} ${shown.padStart(7)} ${unit.padEnd(4)} bar ${String(bar).padStart(5)}${value > bar ? "  missed" : ""}${fails ? ", by far" : ""}`);
}
if (figures.some(({ fails }) => fails)) process.exit(1);
