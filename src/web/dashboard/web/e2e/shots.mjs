// Pictures of every page in both themes and two widths: `node e2e/shots.mjs DIRECTORY [NAME,...]`.
import { mkdirSync } from "node:fs";
import { Browser, Platform, furnish } from "./platform.mjs";

const out = process.argv[2] ?? "/tmp/shots";
const only = process.argv[3];
mkdirSync(out, { recursive: true });

const PAGES = [
  ["overview", "/dashboard"],
  ["tasks", "/dashboard/tasks"],
  ["tasks-cancel", "/dashboard/tasks?type=worker", (page) => page.getByRole("button", { name: "Cancel all that fit …" }).click()],
  ["tasks-queue-again", "/dashboard/tasks?type=builds", (page) => page.getByRole("button", { name: "Queue again …" }).click()],
  ["tasks-none", "/dashboard/tasks?q=none"],
  ["task", "/dashboard/tasks/backup/nightly-2026-11-28?endpoint=console1"],
  ["task-running", "/dashboard/tasks/worker/long-job"],
  ["task-log", "/dashboard/tasks/worker/long-job?tab=log"],
  ["task-answers", "/dashboard/tasks/backup/nightly-2026-11-28?tab=answers"],
  ["task-rerun", "/dashboard/tasks/backup/nightly-2026-11-28", (page) => page.getByRole("button", { name: "Rerun …" }).click()],
  ["task-why", "/dashboard/tasks/worker/for-nobody-yet?tab=why"],
  ["task-large", "/dashboard/tasks/worker/release-2.1"],
  ["task-large-failed", "/dashboard/tasks/worker/release-2.1?state=failed&endpoint=web-00007"],
  ["task-timeline", "/dashboard/tasks/worker/for-nobody-yet?tab=timeline"],
  ["endpoints", "/dashboard/endpoints"],
  ["endpoint", "/dashboard/endpoints/web1"],
  ["groups", "/dashboard/groups"],
  ["groups-change", "/dashboard/groups", (page) => page.getByRole("button", { name: "Change …" }).last().click()],
  ["queues", "/dashboard/queues"],
  ["schedules", "/dashboard/schedules"],
  ["audit", "/dashboard/audit"],
  ["rollouts", "/dashboard/rollouts"],
  ["rollout", "/dashboard/rollouts/careful"],
  ["rollout-events", "/dashboard/rollouts/careful?tab=events"],
  ["rollout-halted", "/dashboard/rollouts/broken"],
  ["rollout-go-on", "/dashboard/rollouts/broken", (page) => page.getByRole("button", { name: "Resume …" }).click()],
  ["rollout-retry", "/dashboard/rollouts/broken", (page) => page.getByRole("button", { name: "Retry …" }).click()],
  ["rollout-abort", "/dashboard/rollouts/broken", (page) => page.getByRole("button", { name: "Abort …" }).click()],
  ["requests", "/dashboard/requests"],
  ["render", "/dashboard/render"],
  ["render-task", "/dashboard/render?task=5e90d0000000000000000001"],
  ["render-job", "/dashboard/render?job=5e90c0000000000000000c01"],
  ["task-payload", "/dashboard/tasks/worker/long-job?tab=payload"],
  ["submit", "/dashboard/submit?type=deploy"],
  ["submit-groups", "/dashboard/submit?type=worker&groups=web,everything", (page) => page.getByRole("button", { name: "Preview" }).click()],
  ["settings", "/dashboard/settings"],
  ["keys", "/dashboard/queues", (page) => page.keyboard.press("?")],
  ["missing", "/dashboard/no/such/page"],
  ["missing-task", "/dashboard/tasks/worker/no-such-task"],
];

const empty = await Platform.start({ endpoints: "" });
const locked = await Platform.start({ endpoints: "", token: "read" });
const platform = await Platform.start();
const browser = await Browser.start();
let farm;
try {
  farm = await furnish(platform);
  await platform.request("POST", "/rollouts", { identifier: "broken", type: "backup", payload: {}, waves: [1, "rest"], rollback: { type: "worker" } });
  await platform.large("release-2.1", 6000);
  platform.paint("release-2.1", [78, 9, 8, 1, 4]);
  const { requests } = await platform.request("GET", "/requests");
  PAGES.push(["request", `/dashboard/requests/${requests[0].token}`]);
  for (const theme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const page = await browser.open(platform, { width, height: width === 390 ? 800 : 760, theme });
      const shoot = async (name, at, path, act) => {
        if (only && !only.split(",").includes(name)) return;
        await page.goto(at.url + path, { waitUntil: "load" });
        await page.waitForTimeout(900);
        if (act) {
          await act(page);
          await page.waitForTimeout(600);
        }
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        if (wide) console.log(`${name} is wider than ${width}`);
        await page.screenshot({ path: `${out}/${name}-${theme}-${width}.png` });
      };
      for (const [name, path, act] of PAGES) await shoot(name, platform, path, act);
      await shoot("first", empty, "/dashboard");
      await shoot("first-groups", empty, "/dashboard/groups");
      await shoot("first-render", empty, "/dashboard/render");
      for (const name of ["tasks", "endpoints", "schedules", "queues", "rollouts", "requests"]) await shoot(`first-${name}`, empty, `/dashboard/${name}`);
      await shoot("login", locked, "/dashboard/tasks");
      for (const wrong of page.wrongs.filter((wrong) => !wrong.includes(empty.url) && !wrong.includes(locked.url))) console.log(wrong);
      await page.context().close();
    }
  }
} finally {
  await browser.stop();
  await farm?.stop();
  await platform.stop();
  await empty.stop();
  await locked.stop();
}
