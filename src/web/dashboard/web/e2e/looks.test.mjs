// How every page of the real program looks in Debian's Chromium, and that everybody can use it: `cargo xtask dashboard --measure` runs it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { compare } from "./looks.mjs";
import { Farm } from "./platform.mjs";
import { idle, stage } from "./stage.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const PAGES = [
  "/dashboard",
  "/dashboard/tasks",
  "/dashboard/tasks?status=DONE&type=worker",
  "/dashboard/tasks/backup/nightly-2026-11-28?endpoint=console1",
  "/dashboard/tasks/worker/long-job?tab=why",
  "/dashboard/tasks/backup/nightly-2026-11-28?tab=answers",
  "/dashboard/tasks/worker/long-job?tab=log",
  "/dashboard/tasks/worker/long-job?tab=payload",
  "/dashboard/tasks/worker/long-job?tab=timeline",
  "/dashboard/endpoints",
  "/dashboard/endpoints/web1",
  "/dashboard/groups",
  "/dashboard/queues",
  "/dashboard/schedules",
  "/dashboard/rollouts",
  "/dashboard/rollouts/careful",
  "/dashboard/rollouts/careful?tab=events",
  "/dashboard/requests",
  "/dashboard/render",
  `/dashboard/render?job=${Farm.JOBS[0]}`,
  "/dashboard/render?task=5e90d0000000000000000001",
  "/dashboard/submit?type=deploy",
  "/dashboard/audit",
  "/dashboard/settings",
  "/dashboard/no/such/page",
];

const on = stage();

/** What is the same each time, as long as no test has changed anything. */
const LOOKS = [
  ["tasks", "/dashboard/tasks?type=backup"],
  ["task", "/dashboard/tasks/backup/nightly-2026-11-28?endpoint=console1"],
  ["payload", "/dashboard/tasks/worker/long-job?tab=payload"],
  ["endpoints", "/dashboard/endpoints"],
  ["groups", "/dashboard/groups"],
  ["queues", "/dashboard/queues"],
  ["schedules", "/dashboard/schedules"],
  ["render", "/dashboard/render"],
  ["submit", "/dashboard/submit?type=deploy"],
  ["settings", "/dashboard/settings"],
];

test("pages look as they did", async () => {
  const blank = await on.browser.chromium.newPage();
  const wrong = [];
  for (const theme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const page = await on.browser.open(on.platform, { theme, width });
      for (const [name, path] of LOOKS) {
        await page.goto(on.platform.url + path);
        await idle(page);
        await page.locator(".contact.ok").waitFor();
        wrong.push(...(await compare(page, blank, `${name}-${theme}-${width}`)));
      }
      await page.context().close();
    }
  }
  await blank.close();
  assert.deepEqual(wrong, []);
});

test("nothing moves once it is there", async () => {
  await on.at("/dashboard", async (page) => {
    for (const path of PAGES) {
      await page.goto(on.platform.url + path);
      await idle(page);
      const moved = await page.evaluate(async () => {
        const shifts = [];
        const observer = new PerformanceObserver((list) => {
          for (const shift of list.getEntries()) {
            if (!shift.hadRecentInput) shifts.push([shift.value, ...shift.sources.map(({ node }) => node?.nodeName + "." + (node?.className ?? ""))]);
          }
        });
        observer.observe({ type: "layout-shift", buffered: false });
        await new Promise((done) => setTimeout(done, 1200));
        return shifts.filter(([value]) => value > 0.01);
      });
      assert.deepEqual(moved, [], path);
    }
  });
});

for (const theme of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    test(`every page can be used by everybody: ${theme}, ${width} px`, async () => {
      const page = await on.browser.open(on.platform, { theme, width });
      for (const path of PAGES) {
        await page.goto(on.platform.url + path);
        await idle(page);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, `${path} is wider than the screen`);
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
        assert.deepEqual(found, [], path);
      }
      assert.deepEqual(page.wrongs, []);
      await page.context().close();
    });
  }
}
