// What one does with the page on the real program, in Debian's Chromium: `cargo xtask dashboard --measure` runs it.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Farm, Platform, Proxy, until } from "./platform.mjs";
import { idle, stage } from "./stage.mjs";

const on = stage();

test("filters, tabs and selections are in the address", async () => {
  await on.at("/dashboard/tasks", async (page) => {
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
  await on.at("/dashboard/submit?type=worker", async (page) => {
    const identifier = `by-hand-${Date.now()}`;
    await page.getByLabel("Identifier").fill(identifier);
    await page.getByLabel("Payload").fill('{"seconds": 600, "id": 12345678901234567890}');
    await page.getByLabel("those that fit a selector or are in a group").check();
    await page.getByLabel("Selector", { exact: true }).fill("name=console*");
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByRole("heading", { name: "2 endpoints would perform it" }).waitFor();
    await page.getByRole("button", { name: "Submit to 2 endpoints" }).click();
    await page.getByRole("heading", { name: identifier }).waitFor();
    const told = await on.platform.request("GET", `/worker/${identifier}?responses=none`);
    assert.deepEqual(told.task.endpoints, ["console1", "console2"]);
    await page.getByRole("link", { name: "Payload" }).click();
    await page.getByText("12345678901234567890").waitFor();
    await page.getByRole("button", { name: "Cancel …" }).click();
    await page.getByRole("dialog").getByText("2 of 2 endpoints have not finished").waitFor();
    await page.getByRole("button", { name: "Cancel the task" }).click();
    await page.locator(".summary .state", { hasText: "canceled" }).waitFor();
    assert.equal((await on.platform.request("GET", `/worker/${identifier}?responses=none`)).task.status, "CANCELED");
  });
});

test("what is wrong with a submission is said where it is", async () => {
  await on.at("/dashboard/submit?type=deploy", async (page) => {
    await page.getByLabel("Payload").fill('{"release": 7');
    await page.getByText("This is not JSON").waitFor();
    assert.equal(await page.getByRole("button", { name: "Preview" }).isDisabled(), true);
    await page.getByLabel("Payload").fill('{"release": 7}');
    await page.getByRole("button", { name: "Preview" }).click();
    await page.getByRole("alert").getByText("/payload/release").waitFor();
  });
});

test("a rerun asks for whom and leads to the new task", async () => {
  await on.at("/dashboard/tasks/backup/nightly-2026-11-28", async (page) => {
    await page.getByRole("button", { name: "Rerun …" }).click();
    await page.getByLabel("Identifier of the new task").fill(`again-${Date.now()}`);
    await page.getByRole("button", { name: "Rerun for 3" }).click();
    await page.getByText("A rerun of").waitFor();
  });
});

test("equal answers are one group, from which one goes on", async () => {
  await on.at("/dashboard/tasks/backup/nightly-2026-11-28?tab=answers", async (page) => {
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
    await on.at("/dashboard/tasks/speak/talk?tab=log", async (page) => {
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
    await on.at("/dashboard/rollouts", async (page) => {
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

test("a halted rollout is mended: retried, skipped, allowed, rerun and rolled back", async () => {
  const update = `#!/bin/sh\ncat > /dev/null\n[ "$TASKER_ENDPOINT" != web3 ] || { echo 'disk full' >&2; exit 32; }\n`;
  const own = await Platform.start({ config: "task_types: [update, downgrade]\n", handlers: { update, downgrade: "#!/bin/sh\ncat > /dev/null\n" }, endpoints: "web1,web2,web3,web4" });
  try {
    const waves = [{ name: "canary", endpoints: ["web1", "web3"] }, "rest"];
    const begin = (identifier) => own.request("POST", "/rollouts", { identifier, type: "update", waves, rollback: { type: "downgrade" } });
    const halted = (page) => page.locator(".summary .state", { hasText: "halted" }).waitFor();
    await begin("allowed");
    await on.at("/dashboard/rollouts/allowed", async (page) => {
      await halted(page);
      await page.getByRole("button", { name: "Resume …" }).click();
      assert.equal(await page.getByLabel("Endpoints of a wave that may fail").inputValue(), "1");
      await page.getByRole("dialog").getByRole("button", { name: "Resume" }).click();
      await page.locator(".summary .state", { hasText: "partial" }).waitFor();
      await page.getByRole("button", { name: "Rerun …" }).click();
      await page.getByLabel("Identifier of the new rollout").fill("again");
      await page.getByRole("button", { name: "Rerun for 1" }).click();
      await page.getByRole("heading", { name: "again" }).waitFor();
      await halted(page);
      await page.getByRole("button", { name: "Skip", exact: true }).click();
      await page.getByText("web3 is skipped.").waitFor();
      await page.locator("tbody .state", { hasText: "skipped" }).waitFor();
    }, { platform: own });
    await begin("undone");
    await on.at("/dashboard/rollouts/undone?wave=1", async (page) => {
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
  for (const number of [1, 2, 3]) await on.platform.submit("worker", prefix + number, { payload: { seconds: 600 } });
  await on.at("/dashboard/tasks", async (page) => {
    assert.equal(await page.getByRole("button", { name: "Cancel all that fit …" }).isDisabled(), true);
    await page.goto(`${on.platform.url}/dashboard/tasks?q=${prefix}&status=DONE`);
    await page.getByText("No task fits these filters.").waitFor();
    assert.equal(await page.getByRole("button", { name: "Cancel all that fit …" }).isDisabled(), true);
    await page.goto(`${on.platform.url}/dashboard/tasks?q=${prefix}`);
    await page.getByRole("button", { name: "Cancel all that fit …" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("3 tasks are meant now").waitFor();
    await on.platform.submit("worker", `${prefix}4`, { payload: { seconds: 600 } });
    assert.equal(await dialog.getByRole("button", { name: "Cancel 3 tasks" }).isDisabled(), true);
    await dialog.getByLabel("Type the number 3 to go on").fill("3");
    await dialog.getByRole("button", { name: "Cancel 3 tasks" }).click();
    await page.getByText("3 tasks are canceled.").waitFor();
    const open = await on.platform.request("GET", `/worker/${prefix}4`);
    assert.notEqual(open.task.status, "CANCELED", "it came after the number was told");
    await page.getByRole("button", { name: "Cancel all that fit …" }).click();
    await dialog.getByText("1 task is meant now").waitFor();
    await dialog.getByRole("button", { name: "Cancel 1 task" }).click();
    await page.getByText("1 task is canceled.").waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll("tbody .state")].every((state) => state.textContent.includes("canceled")));
  });
});

test("failed tasks are found, and chips tell how many are open", async () => {
  const prefix = `sought-${Date.now()}-`;
  for (const [type, name] of [["worker", "good"], ["backup", "bad"]]) {
    await on.platform.submit(type, prefix + name, { payload: { seconds: 0 }, endpoints: ["console1"] });
    await on.platform.whenEnded(type, prefix + name);
  }
  await on.platform.submit("worker", `${prefix}open`, { payload: { seconds: 600 } });
  await until("it is sent", async () => (await on.platform.request("GET", `/worker/${prefix}open`)).task.status === "SENT");
  const { open } = await on.platform.request("GET", "/tasks/counts");
  const running = open.filter(({ status }) => status === "SENT").reduce((sum, { count }) => sum + count, 0);
  await on.at("/dashboard/tasks", async (page) => {
    const chips = page.getByRole("group", { name: "Status" });
    await chips.getByRole("link", { name: `running ${running}` }).waitFor();
    await page.goto(`${on.platform.url}/dashboard/tasks?q=${prefix}`);
    await page.getByRole("link", { name: `${prefix}good` }).waitFor();
    await chips.getByRole("link", { name: "failed" }).click();
    await page.getByRole("link", { name: `${prefix}good` }).waitFor({ state: "detached" });
    await page.getByRole("link", { name: `${prefix}bad` }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), 1);
    assert.equal(await page.getByRole("button", { name: "Cancel all that fit …" }).isDisabled(), true);
  });
});

test("buttons in tables are in sight on a telephone", async () => {
  await on.at("/dashboard/queues", async (page) => {
    for (const path of ["queues", "schedules", "groups"]) {
      await page.goto(`${on.platform.url}/dashboard/${path}`);
      await page.locator("td.acts button").first().waitFor();
      for (const button of await page.locator("td.acts button").all()) {
        const { x, width } = await button.boundingBox();
        assert.ok(x >= 0 && x + width <= 390, `${path}: ${await button.textContent()} is at ${x}, ${width} wide`);
      }
    }
  }, { width: 390 });
});

test("what has ended without success is queued again", async () => {
  const identifier = `again-${Date.now()}`;
  await on.platform.submit("builds", identifier, { payload: { tag: "v3" } });
  await on.platform.request("DELETE", `/builds/${identifier}`);
  await on.at(`/dashboard/tasks?type=builds&q=${identifier}`, async (page) => {
    await page.getByRole("button", { name: "Queue again …" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("No task is meant now").waitFor();
    await dialog.getByLabel("been canceled").check();
    await dialog.getByRole("button", { name: "Queue 1 task" }).click();
    await page.getByText("1 task is queued again.").waitFor();
  });
});

test("a group is stored, changed, chosen for a task, and deleted", async () => {
  await on.at("/dashboard/groups", async (page) => {
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

    await page.goto(`${on.platform.url}/dashboard/groups?q=consoles`);
    await row.getByRole("button", { name: "Delete …" }).click();
    await page.getByRole("button", { name: "Delete the group" }).click();
    await page.getByText("consoles is deleted.").waitFor();
    await page.getByText("No group fits.").waitFor();
  });
});

test("a render farm shows its jobs, what workers do, and why tasks fail", async () => {
  await on.at("/dashboard/render", async (page) => {
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
    await on.at("/dashboard/render", (page) => page.getByText("No render farm is known here.").waitFor(), { platform: own });
  } finally {
    await own.stop();
  }
});

test("a payload folds, and is copied as it was written", async () => {
  const identifier = `folds-${Date.now()}`;
  await on.platform.request("POST", "/worker", { identifier, payload: { seconds: 0, deep: { list: Array.from({ length: 150 }, (_, number) => ({ number })) } } });
  await on.at(`/dashboard/tasks/worker/${identifier}?tab=payload`, async (page) => {
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
  await on.at("/dashboard/tasks/worker/long-job", async (page) => {
    await page.locator(".summary").getByText(/^usually takes /).waitFor();
  });
});

test("a queue is paused and goes on", async () => {
  await on.at("/dashboard/queues", async (page) => {
    await page.getByRole("button", { name: "Pause" }).click();
    await page.locator("td .state", { hasText: "paused" }).waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.locator("td .state", { hasText: "open" }).waitFor();
  });
});

test("new tasks wait until one asks for them, and focus stays", async () => {
  await on.at("/dashboard/tasks", async (page) => {
    await page.getByRole("link", { name: "release-check" }).focus();
    const before = await page.locator("tbody tr").count();
    await on.platform.submit("worker", `later-${Date.now()}`, { payload: { seconds: 0 } });
    await page.getByRole("button", { name: "Show 1 new" }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), before);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "release-check");
    await page.getByRole("button", { name: "Show 1 new" }).click();
    await page.waitForFunction((rows) => document.querySelectorAll("tbody tr").length === rows, before + 1);
  });
});

test("the whole way by keyboard", async () => {
  await on.at("/dashboard", async (page) => {
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
  await on.platform.submit("worker", identifier, { payload: { seconds: 3 } });
  await on.at(`/dashboard/tasks/worker/${identifier}`, async (page) => {
    await page.locator(".summary .state", { hasText: "running" }).waitFor();
    await page.getByText("live", { exact: false }).first().waitFor();
    await page.locator(".summary .state", { hasText: "done" }).waitFor();
    await page.locator(".countlink", { hasText: "3 ok" }).waitFor();
  });
});

test("a proxy may have it below a path of its own", async () => {
  const own = await Platform.start({ token: "admin", config: "task_types: [worker, {name: builds, delivery: queue}]\n" });
  const proxy = await Proxy.start(own, "/ops/tasker");
  try {
    await own.submit("worker", "a/b", { payload: { seconds: 0 } });
    await own.whenEnded("worker", "a/b");
    // The page reports every request that is not below the path.
    await on.at("/", async (page) => {
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
