// The pictures of docs/dashboard.md: `node e2e/pictures.mjs`. The large task is painted into the ledger, since thousands of endpoints take thousands of processes.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Browser, Platform, furnish, until } from "./platform.mjs";

const OUT = fileURLToPath(new URL("../../../../docs/images/", import.meta.url));
const NUMBER = 6000;
/** So many of a hundred: finished, failed, running, lost with its endpoint, never received. */
const PARTS = [78, 9, 8, 1, 4];

const config = "task_types: [worker, backup, {name: builds, delivery: queue}]\nschedules: [{name: nightly, type: backup, cron: '30 3 * * *'}]\n";
const platform = await Platform.start({ config });
const browser = await Browser.start();
try {
  await furnish(platform);
  const endpoints = Array.from({ length: NUMBER }, (_, number) => `web-${String(number).padStart(4, "0")}`);
  await platform.submit("worker", "release-2.1", { payload: { seconds: 600 }, endpoints });
  await until("the frozen set", async () => (await platform.request("GET", "/worker/release-2.1?responses=none")).task.expected === NUMBER);
  paint();
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
  await platform.stop();
}

/** Gives the large task states as they are in the middle of a rollout. */
function paint() {
  const data = join(platform.directory, "data");
  const ledger = join(data, readdirSync(data).find((name) => name.endsWith(".db")));
  const bound = PARTS.map((_, place) => PARTS.slice(0, place + 1).reduce((sum, part) => sum + part, 0));
  // Spread evenly, and the same each time.
  const lot = "((CAST(substr(endpoint, 5) AS INTEGER) * 7919 + CAST(substr(endpoint, 5) AS INTEGER) * CAST(substr(endpoint, 5) AS INTEGER) * 13) % 10007 % 100)";
  const of = "task_id = (SELECT id FROM task WHERE identifier = CAST('release-2.1' AS BLOB))";
  const now = "last_modified_time";
  const sql = [
    `UPDATE response SET status = 2, errnr = 0, attempt = 1, start_time = ${now} WHERE ${of} AND ${lot} < ${bound[0]};`,
    `UPDATE response SET status = 2, errnr = 28, errmsg = 'no space left on /var', attempt = 1, start_time = ${now} WHERE ${of} AND ${lot} >= ${bound[0]} AND ${lot} < ${bound[1]};`,
    `UPDATE response SET status = 1, progress = 40, attempt = 1, start_time = ${now} WHERE ${of} AND ${lot} >= ${bound[1]} AND ${lot} < ${bound[2]};`,
    `UPDATE response SET status = 2, errnr = 69, errmsg = 'the outcome will never be known', start_time = ${now} WHERE ${of} AND ${lot} >= ${bound[2]} AND ${lot} < ${bound[3]};`,
    `UPDATE task SET received = (SELECT COUNT(*) FROM response WHERE ${of} AND start_time IS NOT NULL), finished = (SELECT COUNT(*) FROM response WHERE ${of} AND status = 2),`,
    `  failed = (SELECT COUNT(*) FROM response WHERE ${of} AND errnr <> 0) WHERE identifier = CAST('release-2.1' AS BLOB);`,
  ];
  execFileSync("sqlite3", ["-cmd", ".timeout 20000", ledger, sql.join("\n")]);
}
