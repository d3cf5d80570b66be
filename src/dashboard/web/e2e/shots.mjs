// Pictures of every page in both themes and two widths: `node e2e/shots.mjs DIRECTORY`.
import { mkdirSync } from "node:fs";
import { Browser, Platform, furnish } from "./platform.mjs";

const out = process.argv[2] ?? "/tmp/shots";
const only = process.argv[3];
mkdirSync(out, { recursive: true });

const PAGES = [
  ["overview", "/dashboard"],
  ["tasks", "/dashboard/tasks"],
  ["task", "/dashboard/tasks/backup/nightly-2026-11-28?endpoint=console1"],
  ["task-running", "/dashboard/tasks/worker/long-job"],
  ["task-timeline", "/dashboard/tasks/worker/for-nobody-yet?tab=timeline"],
  ["endpoints", "/dashboard/endpoints"],
  ["endpoint", "/dashboard/endpoints/web1"],
  ["queues", "/dashboard/queues"],
  ["schedules", "/dashboard/schedules"],
  ["requests", "/dashboard/requests"],
  ["submit", "/dashboard/submit?type=deploy"],
  ["settings", "/dashboard/settings"],
];

const empty = await Platform.start({ endpoints: "" });
const platform = await Platform.start();
const browser = await Browser.start();
try {
  await furnish(platform);
  for (const theme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const page = await browser.open(platform, { width, height: width === 390 ? 800 : 760, theme });
      const shoot = async (name, at, path) => {
        if (only && name !== only) return;
        await page.goto(at.url + path, { waitUntil: "load" });
        await page.waitForTimeout(900);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        if (wide) console.log(`${name} is wider than ${width}`);
        await page.screenshot({ path: `${out}/${name}-${theme}-${width}.png` });
      };
      for (const [name, path] of PAGES) await shoot(name, platform, path);
      await shoot("first", empty, "/dashboard");
      for (const wrong of page.wrongs.filter((wrong) => !wrong.includes(empty.url))) console.log(wrong);
      await page.context().close();
    }
  }
} finally {
  await browser.stop();
  await platform.stop();
  await empty.stop();
}
