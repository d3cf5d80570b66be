// The pictures of docs/dashboard.md: `node e2e/pictures.mjs`. The large task is painted into the ledger, since thousands of endpoints take thousands of processes.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Browser, Platform, furnish, until } from "./platform.mjs";

const OUT = fileURLToPath(new URL("../../../../../docs/images/", import.meta.url));
const NUMBER = 6000;

const config = "task_types: [worker, backup, {name: builds, delivery: queue}]\nschedules: [{name: nightly, type: backup, cron: '30 3 * * *'}]\n";
const platform = await Platform.start({ config });
const browser = await Browser.start();
let farm;
try {
  farm = await furnish(platform);
  const endpoints = Array.from({ length: NUMBER }, (_, number) => `web-${String(number).padStart(4, "0")}`);
  await platform.submit("worker", "release-2.1", { payload: { seconds: 600 }, endpoints });
  await until("the frozen set", async () => (await platform.request("GET", "/worker/release-2.1?responses=none")).task.expected === NUMBER);
  platform.paint("release-2.1", [78, 9, 8, 1, 4]);
  mkdirSync(OUT, { recursive: true });
  for (const [name, theme, path, see] of [
    ["overview", "light", "/dashboard", ".table"],
    ["task", "light", "/dashboard/tasks/worker/release-2.1?state=failed", "canvas"],
    ["task-dark", "dark", "/dashboard/tasks/worker/release-2.1?state=failed", "canvas"],
  ]) {
    const page = await browser.open(platform, { theme, width: 1100, height: 720 });
    await page.goto(platform.url + path);
    await page.locator(see).first().waitFor();
    await page.waitForTimeout(1500);
    await page.screenshot({ path: join(OUT, `dashboard-${name}.png`) });
    await page.context().close();
  }
} finally {
  await browser.stop();
  await farm?.stop();
  await platform.stop();
}
