// The page on the real program, in Debian's Chromium: `cargo xtask dashboard --measure` runs it.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { compare } from "./looks.mjs";
import { Browser, Farm, Platform, Proxy, furnish, until } from "./platform.mjs";

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

let platform;
let browser;
let farm;

before(async () => {
  browser = await Browser.start();
  platform = await Platform.start();
  farm = await furnish(platform);
});

after(async () => {
  await farm?.stop();
  await browser?.stop();
  await platform?.stop();
});

/** A page at a place, closed afterwards, which must not have done anything wrong. */
async function at(path, see, options = {}) {
  const on = options.platform ?? platform;
  const page = await browser.open(on, options);
  try {
    await page.goto(on.url + path);
    await see(page);
    assert.deepEqual(page.wrongs, []);
  } finally {
    await page.context().close();
  }
}

const idle = (page) => page.waitForFunction(() => !document.querySelector("[aria-busy=true]") && document.querySelector("main h1, main .empty"));

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
  const blank = await browser.chromium.newPage();
  const wrong = [];
  for (const theme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const page = await browser.open(platform, { theme, width });
      for (const [name, path] of LOOKS) {
        await page.goto(platform.url + path);
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
  await at("/dashboard", async (page) => {
    for (const path of PAGES) {
      await page.goto(platform.url + path);
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
      const page = await browser.open(platform, { theme, width });
      for (const path of PAGES) {
        await page.goto(platform.url + path);
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

test("names, payloads and answers are text, whatever is in them", async () => {
  const hostile = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>`;
  await platform.submit("worker", hostile, { payload: { seconds: 0, html: "</pre><script>alert(3)</script>", "<b>": "javascript:alert(4)" } });
  await platform.submit("worker", "‮gnp.exe\u200b", { payload: "\u2028<svg onload=alert(5)>" });
  await platform.whenEnded("worker", hostile);
  await at("/dashboard/tasks", async (page) => {
    await page.getByRole("link", { name: hostile, exact: true }).click();
    await page.getByText("✓").first().waitFor();
    assert.equal(await page.locator("h1").innerText(), `worker / ${hostile}`);
    await page.getByRole("link", { name: "Payload" }).click();
    await page.getByText("</pre><script>alert(3)</script>").waitFor();
    assert.equal(await page.locator("main img, main script, main svg[onload], main b").count(), 0);
  });
  await at(`/dashboard/tasks/worker/none?endpoint=${encodeURIComponent(hostile)}&state=${encodeURIComponent(hostile)}&tab=x`, async (page) => {
    await page.getByRole("alert").waitFor();
    assert.equal(await page.locator("main img, main script").count(), 0);
  });
});

test("what handlers answer and say is text, whatever is in it", async () => {
  const html = "<img src=x onerror=alert(1)><b>bold</b>";
  const own = await Platform.start({
    config: "task_types: [answers, fails]\n",
    handlers: {
      answers: `#!/bin/sh\ncat > /dev/null\necho '{"${html}": ["${html}", {"__proto__": "${html}"}]}'\n`,
      fails: `#!/bin/sh\ncat > /dev/null\necho '${html}' >&2\nexit 32\n`,
    },
    endpoints: "web1,web2",
  });
  try {
    for (const type of ["answers", "fails"]) {
      await own.submit(type, "nasty");
      await own.whenEnded(type, "nasty");
    }
    const inert = async (page) => {
      await page.getByText(html).first().waitFor();
      assert.equal(await page.locator("main img, main b b, pre b, .json b, td b").count(), 0);
    };
    for (const path of ["answers/nasty?endpoint=web1", "answers/nasty?tab=answers", "fails/nasty?endpoint=web2", "fails/nasty?tab=answers", "fails/nasty?tab=log"]) {
      await at(`/dashboard/tasks/${path}`, inert, { platform: own });
    }
  } finally {
    await own.stop();
  }
});

test("filters, tabs and selections are in the address", async () => {
  await at("/dashboard/tasks", async (page) => {
    await page.getByLabel("Task type").selectOption("worker");
    await page.getByRole("group", { name: "Status" }).getByRole("link", { name: "done" }).click();
    await page.getByLabel("Identifier begins with").fill("release");
    await page.waitForURL((url) => url.searchParams.get("q") === "release");
    const filtered = new URL(page.url());
    assert.equal(filtered.search, "?type=worker&status=DONE&q=release");
    await page.getByRole("link", { name: "release-check" }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), 1);
    await page.reload();
    await page.getByRole("link", { name: "release-check" }).waitFor();
    assert.equal(await page.getByLabel("Identifier begins with").inputValue(), "release");
    await page.getByRole("link", { name: "release-check" }).click();
    await page.getByRole("link", { name: "console2" }).click();
    await page.getByRole("complementary", { name: "Endpoint console2" }).waitFor();
    assert.equal(new URL(page.url()).search, "?endpoint=console2");
    await page.goBack();
    await page.goBack();
    assert.equal(page.url(), filtered.href);
    await page.getByRole("link", { name: "Clear" }).click();
    assert.equal(new URL(page.url()).search, "");
  });
});

test("a task is submitted after one has seen for whom, and canceled", async () => {
  await at("/dashboard/submit?type=worker", async (page) => {
    const identifier = `by-hand-${Date.now()}`;
    await page.getByLabel("Identifier").fill(identifier);
    await page.getByLabel("Payload").fill('{"seconds": 600, "id": 12345678901234567890}');
    await page.getByLabel("those that fit a selector or are in a group").check();
    await page.getByLabel("Selector", { exact: true }).fill("name=console*");
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByRole("heading", { name: "2 endpoints would perform it" }).waitFor();
    await page.getByRole("button", { name: "Submit to 2 endpoints" }).click();
    await page.getByRole("heading", { name: identifier }).waitFor();
    const told = await platform.request("GET", `/worker/${identifier}?responses=none`);
    assert.deepEqual(told.task.endpoints, ["console1", "console2"]);
    await page.getByRole("link", { name: "Payload" }).click();
    await page.getByText("12345678901234567890").waitFor();
    await page.getByRole("button", { name: "Cancel …" }).click();
    await page.getByRole("dialog").getByText("2 of 2 endpoints have not finished").waitFor();
    await page.getByRole("button", { name: "Cancel the task" }).click();
    await page.locator(".summary .state", { hasText: "canceled" }).waitFor();
    assert.equal((await platform.request("GET", `/worker/${identifier}?responses=none`)).task.status, "CANCELED");
  });
});

test("what is wrong with a submission is said where it is", async () => {
  await at("/dashboard/submit?type=deploy", async (page) => {
    await page.getByLabel("Payload").fill('{"release": 7');
    await page.getByText("This is not JSON").waitFor();
    assert.equal(await page.getByRole("button", { name: "Preview" }).isDisabled(), true);
    await page.getByLabel("Payload").fill('{"release": 7}');
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByRole("alert").getByText("/payload/release").waitFor();
  });
});

test("a rerun asks for whom and leads to the new task", async () => {
  await at("/dashboard/tasks/backup/nightly-2026-11-28", async (page) => {
    await page.getByRole("button", { name: "Rerun …" }).click();
    await page.getByLabel("Identifier of the new task").fill(`again-${Date.now()}`);
    await page.getByRole("button", { name: "Rerun for 3" }).click();
    await page.getByText("A rerun of").waitFor();
  });
});

test("equal answers are one group, from which one goes on", async () => {
  await at("/dashboard/tasks/backup/nightly-2026-11-28?tab=answers", async (page) => {
    const group = page.locator(".groups > li");
    await group.getByText("code 32").waitFor();
    assert.equal(await group.count(), 1);
    assert.equal(await group.locator("b").innerText(), "3");
    await group.getByRole("link", { name: "Endpoints" }).click();
    await page.getByText("with one answer").waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 3);
    await page.goBack();
    await page.getByRole("button", { name: "Rerun these …" }).click();
    await page.getByRole("button", { name: "Rerun for 3" }).click();
    await page.getByText("A rerun of").waitFor();
  });
});

test("what handlers log is shown while they run", async () => {
  const speak = "#!/bin/sh\ncat > /dev/null\necho '<b>first</b> line' >&2\nwhile [ ! -e go ]; do sleep 0.2; done\necho 'last line' >&2\n";
  const own = await Platform.start({ config: "task_types: [speak]\n", handlers: { speak: speak.replace("-e go", '-e "$(dirname "$0")/../go"') }, endpoints: "web1,web2" });
  try {
    await own.submit("speak", "talk");
    await at("/dashboard/tasks/speak/talk?tab=log", async (page) => {
      await page.getByRole("region", { name: "Log of web2" }).getByText("<b>first</b> line").waitFor();
      assert.equal(await page.getByText("last line").count(), 0);
      await page.getByRole("region", { name: "Log of web1" }).getByRole("link", { name: "web1" }).click();
      const detail = page.getByRole("complementary", { name: "Endpoint web1" });
      await detail.getByText("<b>first</b> line").waitFor();
      writeFileSync(join(own.directory, "go"), "");
      await detail.getByText("last line").waitFor();
      assert.equal((await detail.locator("pre").filter({ hasText: "last line" }).innerText()).match(/first/g).length, 1);
      const [file] = await Promise.all([page.waitForEvent("download"), detail.getByRole("button", { name: "Download as text" }).click()]);
      assert.equal(file.suggestedFilename(), "talk-web1.log");
      assert.equal(readFileSync(await file.path(), "utf8"), "<b>first</b> line\nlast line\n");
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("a rollout that waits is approved, and one that is halted says why", async () => {
  const own = await Platform.start({ config: "task_types: [worker, backup]\n", endpoints: "web1,web2,web3,web4" });
  try {
    await own.request("POST", "/rollouts", { identifier: "release", type: "worker", payload: { seconds: 0 }, waves: [1, "rest"], approval: { before: [2] } });
    await own.request("POST", "/rollouts", { identifier: "broken", type: "backup", payload: {}, waves: [1, "rest"] });
    await at("/dashboard/rollouts", async (page) => {
      await page.locator("td .state", { hasText: "halted" }).waitFor();
      await page.getByRole("link", { name: "broken" }).click();
      await page.getByText("1 failed, allowed 0").waitFor();
      await page.getByRole("link", { name: "Events" }).click();
      await page.locator(".timeline li").first().waitFor();
      await page.goto(`${own.url}/dashboard/rollouts/release`);
      await page.getByRole("button", { name: "Approve" }).click();
      await page.locator(".summary .state", { hasText: "done" }).waitFor();
      await page.waitForFunction(() => document.querySelectorAll("table")[1]?.querySelectorAll("tbody tr").length === 4);
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("a halted rollout is mended: retried, left out, allowed, rerun and rolled back", async () => {
  const update = `#!/bin/sh\ncat > /dev/null\n[ "$TASKER_ENDPOINT" != web3 ] || { echo 'disk full' >&2; exit 32; }\n`;
  const own = await Platform.start({ config: "task_types: [update, downgrade]\n", handlers: { update, downgrade: "#!/bin/sh\ncat > /dev/null\n" }, endpoints: "web1,web2,web3,web4" });
  try {
    const waves = [{ name: "canary", endpoints: ["web1", "web3"] }, "rest"];
    const begin = (identifier) => own.request("POST", "/rollouts", { identifier, type: "update", waves, rollback: { type: "downgrade" } });
    const halted = (page) => page.locator(".summary .state", { hasText: "halted" }).waitFor();
    await begin("allowed");
    await at("/dashboard/rollouts/allowed", async (page) => {
      await halted(page);
      await page.getByRole("button", { name: "Go on …" }).click();
      assert.equal(await page.getByLabel("Endpoints of a wave that may fail").inputValue(), "1");
      await page.getByRole("dialog").getByRole("button", { name: "Go on" }).click();
      await page.locator(".summary .state", { hasText: "partial" }).waitFor();
      await page.getByRole("button", { name: "Rerun …" }).click();
      await page.getByLabel("Identifier of the new rollout").fill("again");
      await page.getByRole("button", { name: "Rerun for 1" }).click();
      await page.getByRole("heading", { name: "again" }).waitFor();
      await halted(page);
      await page.getByRole("button", { name: "Leave out", exact: true }).click();
      await page.getByText("web3 is left out.").waitFor();
      await page.locator("tbody .state", { hasText: "left out" }).waitFor();
    }, { platform: own });
    await begin("undone");
    await at("/dashboard/rollouts/undone?wave=1", async (page) => {
      await halted(page);
      await page.getByRole("button", { name: "Retry …" }).click();
      await page.getByRole("button", { name: "Retry 1 endpoint" }).click();
      await page.getByText("1 endpoint is tried again.").waitFor();
      await page.getByRole("button", { name: "Abort …" }).click();
      await page.getByLabel("Then roll back all endpoints that have received it").check();
      await page.getByRole("button", { name: "Abort and roll back" }).click();
      await page.locator(".summary .state", { hasText: "rolled back" }).waitFor();
      await page.getByText("2 of 2 endpoints").waitFor();
      await page.getByRole("link", { name: "undone-rollback" }).click();
      await page.getByRole("heading", { name: "undone-rollback" }).waitFor();
      await page.getByText("Rolls back undone").waitFor();
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("all tasks that a filter means are canceled, and never another number than one has seen", async () => {
  const prefix = `bulk-${Date.now()}-`;
  for (const number of [1, 2, 3]) await platform.submit("worker", prefix + number, { payload: { seconds: 600 } });
  await at("/dashboard/tasks", async (page) => {
    assert.equal(await page.getByRole("button", { name: "Cancel all that fit …" }).isDisabled(), true);
    await page.goto(`${platform.url}/dashboard/tasks?q=${prefix}&status=DONE`);
    await page.getByText("No task fits these filters.").waitFor();
    assert.equal(await page.getByRole("button", { name: "Cancel all that fit …" }).isDisabled(), true);
    await page.goto(`${platform.url}/dashboard/tasks?q=${prefix}`);
    await page.getByRole("button", { name: "Cancel all that fit …" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("3 tasks are meant now").waitFor();
    await platform.submit("worker", `${prefix}4`, { payload: { seconds: 600 } });
    assert.equal(await dialog.getByRole("button", { name: "Cancel 3 tasks" }).isDisabled(), true);
    await dialog.getByLabel("Type the number 3 to go on").fill("3");
    await dialog.getByRole("button", { name: "Cancel 3 tasks" }).click();
    await dialog.getByText("4 tasks match now, and 3 were expected").waitFor();
    await dialog.getByLabel("Type the number 4 to go on").fill("4");
    await dialog.getByRole("button", { name: "Cancel 4 tasks" }).click();
    await page.getByText("4 tasks are canceled.").waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll("tbody .state")].every((state) => state.textContent.includes("canceled")));
  });
});

test("what has ended without success is queued again", async () => {
  const identifier = `again-${Date.now()}`;
  await platform.submit("builds", identifier, { payload: { tag: "v3" } });
  await platform.request("DELETE", `/builds/${identifier}`);
  await at(`/dashboard/tasks?type=builds&q=${identifier}`, async (page) => {
    await page.getByRole("button", { name: "Queue again …" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("No task is meant now").waitFor();
    await dialog.getByLabel("been canceled").check();
    await dialog.getByRole("button", { name: "Queue 1 task" }).click();
    await page.getByText("1 task is queued again.").waitFor();
  });
});

test("a group is stored, changed, chosen for a task, and deleted", async () => {
  await at("/dashboard/groups", async (page) => {
    await page.getByRole("button", { name: "New group …" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("consoles");
    await dialog.getByLabel("Selector").fill("name=console");
    await dialog.getByText("0 endpoints fit now.").waitFor();
    await dialog.getByLabel("Selector").fill("name=console*");
    await dialog.getByText("2 endpoints fit now.").waitFor();
    await dialog.getByLabel("Name").fill("everything");
    await dialog.getByText("There is a group of this name").waitFor();
    assert.equal(await dialog.getByRole("button", { name: "Store the group" }).isDisabled(), true);
    await dialog.getByLabel("Name").fill("consoles");
    await dialog.getByRole("button", { name: "Store the group" }).click();
    const row = page.getByRole("row", { name: "consoles" });
    await row.getByRole("cell", { name: "2", exact: true }).waitFor();

    await row.getByRole("button", { name: "Change …" }).click();
    await dialog.getByLabel("Selector").fill("name=");
    await dialog.getByRole("status").filter({ hasText: "selector" }).waitFor();
    assert.equal(await dialog.getByRole("button", { name: "Change the group" }).isDisabled(), true);
    await dialog.getByLabel("Selector").fill("name=console* or name=web1");
    await dialog.getByRole("button", { name: "Change the group" }).click();
    await row.getByRole("cell", { name: "3", exact: true }).waitFor();
    await page.keyboard.press("Escape");

    await row.getByRole("link", { name: "New task" }).click();
    await page.getByLabel("Task type").selectOption("worker");
    const identifier = `of-a-group-${Date.now()}`;
    await page.getByLabel("Identifier").fill(identifier);
    await page.getByLabel("Except").fill("name=console2");
    await page.getByLabel("How many").selectOption("limit");
    assert.equal(await page.getByRole("button", { name: "Preview" }).isDisabled(), true);
    await page.getByLabel("So many at most").fill("1");
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByRole("heading", { name: "1 endpoint would perform it" }).waitFor();
    await page.getByRole("button", { name: "Submit to 1 endpoint" }).click();
    await page.getByText("For at most 1 of the endpoints of @consoles, except name=console2.").waitFor();
    await page.getByRole("link", { name: "Submit a copy" }).click();
    await page.getByRole("button", { name: "Without the group consoles" }).waitFor();
    assert.equal(await page.getByLabel("Except").inputValue(), "name=console2");
    assert.equal(await page.getByLabel("So many at most").inputValue(), "1");

    await page.goto(`${platform.url}/dashboard/groups?q=consoles`);
    await row.getByRole("button", { name: "Delete …" }).click();
    await page.getByRole("button", { name: "Delete the group" }).click();
    await page.getByText("consoles is deleted.").waitFor();
    await page.getByText("No group fits.").waitFor();
  });
});

test("a render farm shows its jobs, what workers do, and why tasks fail", async () => {
  await at("/dashboard/render", async (page) => {
    const jobs = page.getByRole("region", { name: "Jobs" }).getByRole("row");
    await jobs.filter({ hasText: "1 of 4" }).filter({ hasText: "running" }).waitFor();
    const workers = page.getByRole("region", { name: "Workers" }).getByRole("row");
    await workers.filter({ hasText: "node-a" }).filter({ hasText: "working" }).filter({ hasText: "Fra:21 Mem:120M" }).waitFor();
    await workers.filter({ hasText: "<b>node</b>" }).filter({ hasText: "idle" }).waitFor();
    await page.getByRole("region", { name: "Failing tasks" }).getByRole("link", { name: "blender-render-10-19" }).click();
    const detail = page.getByRole("complementary", { name: "Task of the farm" });
    await detail.getByText("<script>out of memory</script>").waitFor();
    assert.equal(await page.locator("main script, main b").count(), 0);
    await detail.getByText('"10-19"').waitFor();
    await detail.getByRole("link", { name: Farm.JOBS[0] }).click();
    await page.waitForURL((url) => url.searchParams.get("job") === Farm.JOBS[0]);
    await page.getByRole("heading", { name: `Tasks of job ${Farm.JOBS[0]}` }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 4);
    await page.getByRole("link", { name: "All jobs" }).click();
    await jobs.filter({ hasText: Farm.JOBS[1] }).filter({ hasText: "0 of 1" }).filter({ hasText: "waiting" }).waitFor();
  });
  const own = await Platform.start({ endpoints: "" });
  try {
    await at("/dashboard/render", (page) => page.getByText("No render farm is known here.").waitFor(), { platform: own });
  } finally {
    await own.stop();
  }
});

test("a payload folds, and is copied as it was written", async () => {
  const identifier = `folds-${Date.now()}`;
  await platform.request("POST", "/worker", { identifier, payload: { seconds: 0, deep: { list: Array.from({ length: 150 }, (_, number) => ({ number })) } } });
  await at(`/dashboard/tasks/worker/${identifier}?tab=payload`, async (page) => {
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    const list = page.locator("summary").filter({ hasText: '"list"' });
    await list.getByText("150 elements").waitFor();
    assert.equal(await page.getByText('{"number":99}').count(), 0);
    await list.click();
    await page.getByText('{"number":99}').waitFor();
    await page.getByRole("button", { name: "Show more (50 are left)" }).click();
    await page.getByText('{"number":149}').waitFor();
    await page.getByRole("button", { name: "Copy" }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    assert.equal(copied.deep.list[149].number, 149);
    await page.locator("summary").filter({ hasText: '"deep"' }).click();
    await list.waitFor({ state: "detached" });
  });
});

test("a running task says how long such a task takes", async () => {
  await at("/dashboard/tasks/worker/long-job", async (page) => {
    await page.locator(".summary").getByText(/^usually takes /).waitFor();
  });
});

test("a queue is paused and goes on", async () => {
  await at("/dashboard/queues", async (page) => {
    await page.getByRole("button", { name: "Pause" }).click();
    await page.locator("td .state", { hasText: "paused" }).waitFor();
    await page.getByRole("button", { name: "Go on" }).click();
    await page.locator("td .state", { hasText: "open" }).waitFor();
  });
});

test("new tasks wait until one asks for them, and focus stays", async () => {
  await at("/dashboard/tasks", async (page) => {
    await page.getByRole("link", { name: "release-check" }).focus();
    const before = await page.locator("tbody tr").count();
    await platform.submit("worker", `later-${Date.now()}`, { payload: { seconds: 0 } });
    await page.getByRole("button", { name: "Show 1 new" }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), before);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "release-check");
    await page.getByRole("button", { name: "Show 1 new" }).click();
    await page.waitForFunction((rows) => document.querySelectorAll("tbody tr").length === rows, before + 1);
  });
});

test("the whole way by keyboard", async () => {
  await at("/dashboard", async (page) => {
    await idle(page);
    await page.keyboard.press("g");
    await page.keyboard.press("t");
    await page.waitForURL("**/dashboard/tasks");
    await page.getByRole("link", { name: "release-check" }).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("release-check");
    await page.waitForURL((url) => url.searchParams.get("q") === "release-check");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "console1" }).waitFor();
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: "Endpoint console1" }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("t");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
    await page.keyboard.press("p");
    await page.getByText("paused").waitFor();
  });
});

test("what a page shows comes by itself", async () => {
  const identifier = `live-${Date.now()}`;
  await platform.submit("worker", identifier, { payload: { seconds: 3 } });
  await at(`/dashboard/tasks/worker/${identifier}`, async (page) => {
    await page.locator(".summary .state", { hasText: "running" }).waitFor();
    await page.getByText("live", { exact: false }).first().waitFor();
    await page.locator(".summary .state", { hasText: "done" }).waitFor();
    await page.locator(".countlink", { hasText: "3 ok" }).waitFor();
  });
});

test("an API that is killed is told, and what is shown is right again when it is back", async () => {
  const own = await Platform.start();
  try {
    await own.submit("worker", "through-it-all", { payload: { seconds: 8 } });
    await at("/dashboard/tasks/worker/through-it-all", async (page) => {
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      await own.kill();
      await page.locator(".contact", { hasText: "as of" }).waitFor();
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      await own.up();
      const back = Date.now();
      await page.locator(".contact.ok").waitFor();
      const healed = Date.now() - back;
      assert.ok(healed < 10_000, `it took ${healed} ms`);
      await page.locator(".summary .state", { hasText: "done" }).waitFor();
      page.wrongs = page.wrongs.filter((wrong) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE/.test(wrong));
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("a stream that is cut for an hour is told, what happens meanwhile is seen, and it comes back", async () => {
  let cut = false;
  const streams = new Set();
  const proxy = await Proxy.start(platform, "", (request, response) => {
    if (!request.url.startsWith("/events?")) return false;
    if (cut) response.writeHead(502).end();
    else {
      streams.add(response);
      response.on("close", () => streams.delete(response));
    }
    return cut;
  });
  try {
    const identifier = `cut-${Date.now()}`;
    await platform.submit("worker", identifier, { payload: { seconds: 600 } });
    await at(`/dashboard/tasks/worker/${identifier}`, async (page) => {
      await page.locator(".contact", { hasText: "live" }).waitFor();
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      cut = true;
      for (const response of streams) response.destroy();
      await page.locator(".contact", { hasText: "up to date" }).waitFor();
      await page.clock.install();
      await page.clock.fastForward("01:00:00");
      await platform.request("DELETE", `/worker/${identifier}`);
      await page.locator(".summary .state", { hasText: "canceled" }).waitFor();
      cut = false;
      await page.clock.fastForward("00:01:00");
      await page.locator(".contact", { hasText: "live" }).waitFor();
      page.wrongs = page.wrongs.filter((wrong) => !/EventSource|ERR_/.test(wrong));
    }, { platform: proxy });
  } finally {
    await proxy.stop();
  }
});

test("fifty thousand failures are a number, a grid and a group of answers, and nobody reruns them by a slip", async () => {
  await platform.large("all-failed", 50_000);
  platform.paint("all-failed", [0, 100, 100, 100, 100]);
  await at("/dashboard/tasks/worker/all-failed?state=failed", async (page) => {
    await page.locator(".countlink", { hasText: "50,000 failed" }).waitFor();
    await page.locator(".legend", { hasText: "failed 50,000" }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 100);
    assert.ok((await page.evaluate(() => document.querySelectorAll("*").length)) < 3000);
    await page.getByRole("link", { name: "Next 100" }).click();
    await page.getByRole("link", { name: "web-00100" }).waitFor();
    await page.getByRole("link", { name: "Answers" }).click();
    await page.locator(".groups > li b", { hasText: "50,000" }).waitFor();
    await page.getByRole("button", { name: "Rerun …", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("Type the number 50000 to go on").waitFor();
    assert.equal(await dialog.getByRole("button", { name: "Rerun for 50,000" }).isDisabled(), true);
  });
});

test("one logs in with a token, sees what it may do, and is out when it is revoked", async () => {
  const own = await Platform.start({ token: "read", config: "task_types: [worker]\n" });
  try {
    await at("/dashboard/tasks", async (page) => {
      await page.getByLabel("Token").fill("tasker_nobody-has-this-one");
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByRole("alert").getByText("no valid token").waitFor();
      await page.getByLabel("Token").fill(own.secret);
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByText("There is no task yet").waitFor();
      const [cookie] = await page.context().cookies();
      assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ["tasker", true, "Strict"]);
      assert.ok(!cookie.value.includes(own.secret));
      assert.equal(await page.evaluate((secret) => JSON.stringify({ ...localStorage, ...sessionStorage }).includes(secret), own.secret), false);
      await page.goto(`${own.url}/dashboard/submit`);
      const button = page.getByRole("button", { name: "Preview" });
      assert.deepEqual([await button.isDisabled(), await button.getAttribute("title")], [true, "This needs a token with the scope `submit`"]);
      await page.goto(`${own.url}/dashboard/tasks?status=DONE`);
      await page.getByText("No task fits").waitFor();
      await own.command(["token", "revoke", "page"]);
      await page.getByLabel("Token").waitFor();
      assert.equal(new URL(page.url()).search, "?status=DONE", "one comes back to where one was");
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("a proxy may have it below a path of its own", async () => {
  const own = await Platform.start({ token: "admin", config: "task_types: [worker, {name: builds, delivery: queue}]\n" });
  const proxy = await Proxy.start(own, "/ops/tasker");
  try {
    await own.submit("worker", "a/b", { payload: { seconds: 0 } });
    await own.whenEnded("worker", "a/b");
    // The page reports every request that is not below the path.
    await at("/", async (page) => {
      await page.getByLabel("Token").fill(own.secret);
      await page.getByRole("button", { name: "Log in" }).click();
      await page.waitForURL(`${proxy.url}/dashboard`);
      await page.getByRole("link", { name: "a/b" }).click();
      await page.waitForURL(`${proxy.url}/dashboard/tasks/worker/a%2Fb`);
      await page.reload();
      await page.locator(".summary .state", { hasText: "done" }).waitFor();
      await page.locator(".contact", { hasText: "live" }).waitFor();
      await page.getByRole("link", { name: "Queues" }).click();
      await page.getByRole("button", { name: "Pause" }).click();
      await page.locator("td .state", { hasText: "paused" }).waitFor();
      await page.reload();
      await page.locator("td .state", { hasText: "paused" }).waitFor();
    }, { platform: proxy });
  } finally {
    await proxy.stop();
    await own.stop();
  }
});

test("seven tabs have one stream, and the next one leads when the first is closed", async () => {
  const context = await browser.chromium.newContext();
  // A stream that a browser has closed is noticed with the next heartbeat.
  const isOne = () => until("one stream", async () => /^tasker_event_streams 1$/m.test(await (await fetch(`${platform.url}/metrics`)).text()));
  const tabs = [];
  for (let number = 0; number < 7; number++) {
    const page = await browser.open(platform, { context });
    await page.goto(`${platform.url}/dashboard/queues`);
    await page.locator(".contact", { hasText: "live" }).waitFor();
    tabs.push(page);
  }
  await isOne();
  await tabs[0].close();
  for (const page of tabs.slice(1)) await page.locator(".contact", { hasText: "live" }).waitFor();
  await isOne();
  await tabs[6].locator(".contact", { hasText: "live" }).waitFor();
  for (const page of tabs.slice(1)) assert.deepEqual(page.wrongs, []);
  await context.close();
});

for (const [off, words] of [[3_600_000, "1 h ahead"], [-3_600_000, "1 h behind"]]) {
  test(`a clock that is ${words} changes no time that is shown`, async () => {
    const context = await browser.chromium.newContext({ viewport: { width: 1280, height: 800 } });
    await context.addInitScript((off) => {
      const right = Date.now.bind(Date);
      Date.now = () => right() + off;
    }, off);
    const page = await browser.open(platform, { context });
    await page.goto(`${platform.url}/dashboard/tasks/worker/long-job`);
    await page.getByText(`This machine's clock is ${words}`).waitFor();
    await page.getByText("given up in 23 h").waitFor();
    await context.close();
  });
}

test("a link on another site opens a page, and no site shows it in a frame", async () => {
  const context = await browser.chromium.newContext();
  const page = await context.newPage();
  await page.route("https://wiki.example/**", (route) =>
    route.fulfill({ contentType: "text/html", body: `<a href="${platform.url}/dashboard/tasks">tasks</a><iframe src="${platform.url}/dashboard"></iframe>` }),
  );
  await page.goto("https://wiki.example/");
  const frame = page.frames().find((frame) => frame !== page.mainFrame());
  assert.ok(!(await frame?.content().catch(() => ""))?.includes("app.js"), "a frame shows nothing of it");
  await page.getByRole("link", { name: "tasks" }).click();
  await page.getByRole("heading", { name: "Tasks" }).waitFor();
  await context.close();
});
