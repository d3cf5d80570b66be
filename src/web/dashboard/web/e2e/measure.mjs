// Figures of the page with a task for 50,000 endpoints. Fails where one is far beyond its bar: machines differ, and others work beside it.
import { readFileSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { Browser, Platform, Proxy, until } from "./platform.mjs";

const NUMBER = 50_000;
/** How far beyond its bar a figure may be before this fails. */
const ROOM = 4;
/** Changes of states in a second, and of how many events they come. */
const [CHANGES, EVENTS] = [2000, 4];
/** Seconds of that load. */
const LOAD = 30;
const VIEWERS = 20;

const figures = [];

function figure(name, value, bar, unit, room = ROOM) {
  figures.push({ name, value, bar, unit, fails: value > bar * room });
  console.error(`${name}: ${value.toFixed(2)} ${unit}`);
}

const percentile = (values, part) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];
const rest = (ms) => new Promise((done) => setTimeout(done, ms));

const dist = new URL("../../dist/assets/", import.meta.url);
const packed = (name) => gzipSync(readFileSync(new URL(name, dist)), { level: 9 }).length / 1024;
figure("script, compressed", packed("app.js"), 60, "KiB", 1);
figure("style, compressed", packed("app.css"), 12, "KiB", 1);
figure("all files", readdirSync(dist).reduce((sum, name) => sum + readFileSync(new URL(name, dist)).length, 0) / 1024, 170, "KiB", 1);

const browser = await Browser.start();
const platform = await Platform.start();
try {
  const id = await platform.large("fifty-thousand", NUMBER);
  await firstLoad();
  await underLoad(id);
  await fromCommitToPixel();
  await viewers(id);
  await afterAKill();
} finally {
  await platform.stop();
}
try {
  await fleet();
} finally {
  await browser.stop();
}

for (const { name, value, bar, unit, fails } of figures) {
  const shown = Math.abs(value) < 10 ? value.toFixed(1) : Math.round(value).toString();
  console.log(`${name.padEnd(58)} ${shown.padStart(7)} ${unit.padEnd(4)} bar ${String(bar).padStart(5)}${value > bar ? "  missed" : ""}${fails ? ", by far" : ""}`);
}
if (figures.some(({ fails }) => fails)) process.exit(1);

/** Bars 1 and 2: what comes first, and what it takes. */
async function firstLoad() {
  // What the ledger takes for the states alone, without any page.
  const spans = [];
  for (let round = 0; round < 3; round++) {
    const begun = performance.now();
    await (await fetch(`${platform.url}/worker/fifty-thousand/states`)).arrayBuffer();
    spans.push(performance.now() - begun);
  }
  for (const [words, slower, paint, grid] of [["", 1, 500, 1000], [", processor four times slower", 4, 3000, 3000]]) {
    const page = await browser.open(platform);
    const devtools = await page.context().newCDPSession(page);
    await page.goto(`${platform.url}/dashboard/settings`);
    await devtools.send("Emulation.setCPUThrottlingRate", { rate: slower });
    await page.goto(`${platform.url}/dashboard/tasks/worker/fifty-thousand`, { waitUntil: "commit" });
    await page.waitForFunction(() => document.querySelector("canvas")?.width > 100, null, { polling: 20 });
    const [first, all] = await page.evaluate(() => [performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0, performance.now()]);
    figure(`first paint${words}`, first, paint, "ms");
    figure(`grid of ${NUMBER}${words}`, all, grid, "ms");
    if (slower === 1) {
      figure("of that: the API reads and sends the states", percentile(spans, 0.5), grid, "ms");
      await page.waitForTimeout(2000);
      figure("heap", await heap(devtools), 50, "MiB", 1.5);
      figure("memory of the renderer", await renderer(), 200, "MiB", 1.5);
      figure("nodes of the document", await nodes(devtools), 3000, "", 1.5);
    }
    if (page.wrongs.length > 0) throw new Error(page.wrongs.join("\n"));
    await page.context().close();
  }
}

async function heap(devtools) {
  await devtools.send("HeapProfiler.collectGarbage");
  return (await devtools.send("Runtime.getHeapUsage")).usedSize / 2 ** 20;
}

async function nodes(devtools) {
  await devtools.send("Performance.enable");
  return (await devtools.send("Performance.getMetrics")).metrics.find(({ name }) => name === "Nodes").value;
}

/** The largest renderer of the browser; what it shares with others counts in parts. */
async function renderer() {
  const session = await browser.chromium.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const sizes = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${id}/smaps_rollup`, "utf8"))?.[1] ?? 0));
  await session.detach();
  return Math.max(...sizes) / 1024;
}

/** Bars 2 and 3: events of 2,000 changes a second, told by a proxy so that no API holds them up, while somebody scrolls. */
async function underLoad(id) {
  const { generation } = await platform.request("GET", "/worker/fifty-thousand/names");
  const proxy = await Proxy.start(platform, "", (request, response) => {
    if (!request.url.startsWith("/events?")) return false;
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const tell = (vector) => response.write(`event: task\ndata: ${JSON.stringify({ watch: `task:${id}`, id, generation, count: NUMBER, ...vector })}\n\n`);
    tell({ states: Buffer.alloc(NUMBER / 2, 0x11).toString("base64") });
    let round = 0;
    const timer = setInterval(() => tell({ changes: changes(round++).toString("base64") }), 1000 / EVENTS);
    response.on("close", () => clearInterval(timer));
    return true;
  });
  try {
    const page = await browser.open(proxy);
    const devtools = await page.context().newCDPSession(page);
    await page.goto(`${proxy.url}/dashboard/tasks/worker/fifty-thousand`);
    await page.locator(".contact", { hasText: "live" }).waitFor();
    await page.waitForFunction(() => document.querySelector("canvas")?.width > 100);
    await page.waitForTimeout(3000);
    const before = await heap(devtools);
    await page.evaluate(() => {
      window.gaps = [];
      window.long = [];
      new PerformanceObserver((list) => window.long.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
      let last = performance.now();
      const tick = (now) => {
        window.gaps.push(now - last);
        last = now;
        requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    });
    await page.mouse.move(600, 600);
    const end = Date.now() + LOAD * 1000;
    for (let turn = 0; Date.now() < end; turn++) {
      await page.mouse.wheel(0, turn % 40 < 20 ? 120 : -120);
      await rest(50);
    }
    const [gaps, long, changed] = await page.evaluate(() => [window.gaps, window.long, document.querySelector(".legend").textContent]);
    if (!/ok/.test(changed)) throw new Error(`the events had no effect: ${changed}`);
    figure(`a frame while one scrolls at ${CHANGES} changes/s, 95 of 100`, percentile(gaps, 0.95), 34, "ms");
    figure("the longest task meanwhile", Math.max(0, ...long), 50, "ms");
    figure(`more heap after ${LOAD} s of that`, (await heap(devtools)) - before, 5, "MiB");
    if (page.wrongs.length > 0) throw new Error(page.wrongs.join("\n"));
    await page.context().close();
  } finally {
    await proxy.stop();
  }
}

/** The changes of an event, as the API writes them: every hundredth endpoint has another state. */
function changes(round) {
  const bytes = [];
  for (let at = 0, before = -1; at < CHANGES / EVENTS; at++) {
    const place = at * 100 + (round % 100);
    for (let number = (place - before - 1) * 16 + [4, 6, 6, 7][(round + at) % 4]; ; number = Math.floor(number / 128)) {
      bytes.push(number < 128 ? number : (number % 128) + 128);
      if (number < 128) break;
    }
    before = place;
  }
  return Buffer.from(bytes);
}

/** Bar 4: from the commit of a change to what one sees of it. */
async function fromCommitToPixel() {
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
  await page.context().close();
  figure("from commit to pixel, median", percentile(spans, 0.5), 300, "ms");
  figure("from commit to pixel, slowest of 20", percentile(spans, 1), 1000, "ms");
}

/** Streams of events that somebody else reads. */
function watching(on, id, number) {
  const ends = Array.from({ length: number }, () => {
    const stop = new AbortController();
    const read = async () => {
      const answer = await fetch(`${on.url}/events?watch=task:${id}`, { signal: stop.signal });
      for await (const _ of answer.body);
    };
    read().catch(() => {});
    return stop;
  });
  return () => ends.forEach((stop) => stop.abort());
}

/** Bar 6: how often the ledger is looked at for twenty who watch, against one. */
async function viewers(id) {
  const looks = [];
  for (const number of [1, VIEWERS]) {
    const leave = watching(platform, id, number);
    await until("the streams", async () => (await platform.metric("tasker_event_streams")) >= number);
    await rest(1000);
    const before = await platform.metric('tasker_live_reads_total{of="task"}');
    await rest(5000);
    looks.push((await platform.metric('tasker_live_reads_total{of="task"}')) - before);
    leave();
  }
  figure(`looks at the ledger for ${VIEWERS} viewers, times those for one`, looks[1] / looks[0], 1.1, "");
}

/** Bar 7: the API is killed, what it knew changes, and it comes back: from then on until the grid is what the ledger says, cell by cell. */
async function afterAKill() {
  const page = await browser.open(platform);
  await page.goto(`${platform.url}/dashboard/tasks/worker/fifty-thousand`);
  await page.locator(".contact", { hasText: "live" }).waitFor();
  await page.waitForFunction(() => document.querySelector("canvas")?.width > 100);
  await platform.kill();
  platform.paint("fifty-thousand", [78, 9, 8, 1, 4]);
  await page.locator(".contact", { hasText: "as of" }).waitFor();
  const up = platform.up();
  await until("the API", () => fetch(`${platform.url}/ready`).then((answer) => answer.ok, () => false));
  const back = performance.now();
  await page.waitForFunction(() => document.querySelector(".legend")?.textContent.includes("failed"), null, { polling: 20 });
  const seen = performance.now() - back;
  await up;
  const told = new Uint8Array(await (await fetch(`${platform.url}/worker/fifty-thousand/states`)).arrayBuffer());
  const wrong = await page.evaluate(differing, [[...told], NUMBER]);
  figure("right again after the API was killed", seen, 3000, "ms");
  figure("cells that are not as the ledger says", wrong, 0, "", 1);
  await page.context().close();
}

/** Compares the pixels of the grid with a vector: cells of one state have one colour, and cells of two states have two. */
function differing([bytes, number]) {
  const canvas = document.querySelector("canvas");
  const cell = Math.max(...[1, 2, 3, 4, 5, 6].filter((size) => Math.floor(canvas.width / size) * Math.floor(canvas.height / size) >= number));
  const columns = Math.floor(canvas.width / cell);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Map();
  let wrong = 0;
  for (let place = 0; place < number; place++) {
    const code = place & 1 ? bytes[place >> 1] & 15 : bytes[place >> 1] >> 4;
    const at = 4 * (Math.floor(place / columns) * cell * canvas.width + (place % columns) * cell);
    const colour = (data[at] << 16) | (data[at + 1] << 8) | data[at + 2];
    if (!colours.has(code) && ![...colours.values()].includes(colour)) colours.set(code, colour);
    if (colours.get(code) !== colour) wrong++;
  }
  return wrong;
}

/** Bar 6: how much longer a fleet takes for its tasks while twenty watch. */
async function fleet() {
  const own = await Platform.start({ config: "task_types: [update]\n", endpoints: "", args: ["--simulate", "2000"] });
  try {
    await until("the fleet", async () => (await own.request("GET", "/endpoints/names")).names.length === 2000);
    const spans = { 0: [], [VIEWERS]: [] };
    for (let round = 0; round < 10; round++) {
      const number = round % 2 === 0 ? 0 : VIEWERS;
      const { id } = await own.submit("update", `round-${round}`, { payload: {} });
      const leave = watching(own, id, number);
      const { task } = await own.whenEnded("update", `round-${round}`);
      leave();
      if (task.finished !== 2000) throw new Error(`${task.finished} of 2000 have finished`);
      // The first of each warms up.
      if (round > 1) spans[number].push(Date.parse(task.finished_at) - Date.parse(task.start_time));
    }
    figure(`how much longer a fleet of 2000 takes with ${VIEWERS} viewers`, (percentile(spans[VIEWERS], 0.5) / percentile(spans[0], 0.5) - 1) * 100, 5, "%", 10);
  } finally {
    await own.stop();
  }
}
