// Bad days of the page on the real program, in Debian's Chromium: `cargo xtask dashboard --measure` runs it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Platform, Proxy, until } from "./platform.mjs";
import { stage } from "./stage.mjs";

const on = stage();

test("names, payloads and answers are text, whatever is in them", async () => {
  const hostile = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>`;
  await on.platform.submit("worker", hostile, { payload: { seconds: 0, html: "</pre><script>alert(3)</script>", "<b>": "javascript:alert(4)" } });
  await on.platform.submit("worker", "‮gnp.exe\u200b", { payload: "\u2028<svg onload=alert(5)>" });
  await on.platform.whenEnded("worker", hostile);
  await on.at("/dashboard/tasks", async (page) => {
    await page.getByRole("link", { name: hostile, exact: true }).click();
    await page.getByText("✓").first().waitFor();
    assert.equal(await page.locator("h1").innerText(), `worker / ${hostile}`);
    await page.getByRole("link", { name: "Payload" }).click();
    await page.getByText("</pre><script>alert(3)</script>").waitFor();
    assert.equal(await page.locator("main img, main script, main svg[onload], main b").count(), 0);
  });
  await on.at(`/dashboard/tasks/worker/none?endpoint=${encodeURIComponent(hostile)}&state=${encodeURIComponent(hostile)}&tab=x`, async (page) => {
    await page.getByRole("alert").waitFor();
    assert.equal(await page.locator("main img, main script").count(), 0);
  });
});

test("what handlers answer and say and endpoints say of themselves is text, whatever is in it", async () => {
  const html = "<img src=x onerror=alert(1)><b>bold</b>";
  const own = await Platform.start({
    config: `task_types: [answers, fails]\nendpoint: {labels: {site: "${html}"}}\n`,
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
    for (const path of [
      "tasks/answers/nasty?endpoint=web1", "tasks/answers/nasty?tab=answers", "tasks/fails/nasty?endpoint=web2", "tasks/fails/nasty?tab=answers", "tasks/fails/nasty?tab=log",
      "endpoints", "endpoints/web1",
    ]) {
      await on.at(`/dashboard/${path}`, inert, { platform: own });
    }
  } finally {
    await own.stop();
  }
});

test("an API that is killed is told, and what is shown is right again when it is back", async () => {
  const own = await Platform.start();
  try {
    await own.submit("worker", "through-it-all", { payload: { seconds: 600 } });
    await on.at("/dashboard/tasks/worker/through-it-all", async (page) => {
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      await own.kill();
      await page.locator(".contact", { hasText: "as of" }).waitFor();
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      await own.up();
      const back = Date.now();
      await page.locator(".contact.ok").waitFor();
      const healed = Date.now() - back;
      assert.ok(healed < 10_000, `it took ${healed} ms`);
      await own.request("DELETE", "/worker/through-it-all");
      await page.locator(".summary .state", { hasText: "canceled" }).waitFor();
      page.wrongs = page.wrongs.filter((wrong) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE/.test(wrong));
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("what one has written outlives an API that is away, and is submitted once it is back", async () => {
  const own = await Platform.start();
  try {
    await on.at("/dashboard/submit?type=worker", async (page) => {
      await page.getByLabel("Identifier").fill("patient");
      await page.getByLabel("Payload").fill('{"seconds": 0}');
      await own.kill();
      await page.getByRole("button", { name: "Preview" }).click();
      await page.getByRole("alert").waitFor();
      await own.up();
      await page.locator(".contact.ok").waitFor();
      assert.equal(await page.getByLabel("Identifier").inputValue(), "patient");
      await page.getByRole("button", { name: "Preview" }).click();
      await page.getByRole("button", { name: "Submit to 3 endpoints" }).click();
      await page.getByRole("heading", { name: "patient" }).waitFor();
      page.wrongs = page.wrongs.filter((wrong) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_CONNECTION_RESET/.test(wrong));
    }, { platform: own });
  } finally {
    await own.stop();
  }
});

test("a tab that nobody looks at reads nothing, and is right again when somebody does", async () => {
  const identifier = `asleep-${Date.now()}`;
  await on.platform.submit("worker", identifier, { payload: { seconds: 600 } });
  await on.at(`/dashboard/tasks/worker/${identifier}`, async (page) => {
    await page.locator(".summary .state", { hasText: "running" }).waitFor();
    await page.locator(".contact", { hasText: "live" }).waitFor();
    const show = (seen) =>
      page.evaluate((seen) => {
        Object.defineProperty(document, "hidden", { value: !seen, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, seen);
    await page.clock.install();
    await show(false);
    // It has left the stream.
    await page.locator(".contact", { hasText: "up to date" }).waitFor();
    await page.evaluate(() => {
      window.asked = [];
      const { fetch, EventSource } = window;
      window.fetch = (path, ...rest) => window.asked.push(path) && fetch(path, ...rest);
      window.EventSource = class extends EventSource {
        constructor(path) {
          super(path);
          window.asked.push(path);
        }
      };
    });
    await page.clock.fastForward("08:00:00");
    await on.platform.request("DELETE", `/worker/${identifier}`);
    await on.platform.whenEnded("worker", identifier);
    assert.deepEqual(await page.evaluate(() => window.asked), []);
    await page.locator(".summary .state", { hasText: "running" }).waitFor();
    await show(true);
    await page.locator(".summary .state", { hasText: "canceled" }).waitFor();
    await page.clock.fastForward("00:00:05");
    await page.locator(".contact", { hasText: "live" }).waitFor();
  });
});

test("a stream that is cut for an hour is told, what happens meanwhile is seen, and it comes back", async () => {
  let cut = false;
  const streams = new Set();
  const proxy = await Proxy.start(on.platform, "", (request, response) => {
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
    await on.platform.submit("worker", identifier, { payload: { seconds: 600 } });
    await on.at(`/dashboard/tasks/worker/${identifier}`, async (page) => {
      await page.locator(".contact", { hasText: "live" }).waitFor();
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      cut = true;
      for (const response of streams) response.destroy();
      await page.locator(".contact", { hasText: "up to date" }).waitFor();
      await page.clock.install();
      await page.clock.fastForward("01:00:00");
      await on.platform.request("DELETE", `/worker/${identifier}`);
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
  await on.platform.large("all-failed", 50_000);
  on.platform.paint("all-failed", [0, 100, 100, 100, 100]);
  await on.at("/dashboard/tasks/worker/all-failed?state=failed", async (page) => {
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
    await on.at("/dashboard/tasks", async (page) => {
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

test("seven tabs have one stream, and the next one leads when the first is closed", async () => {
  const context = await on.browser.chromium.newContext();
  // A stream that a browser has closed is noticed with the next heartbeat.
  const isOne = () => until("one stream", async () => (await on.platform.metric("tasker_event_streams")) === 1);
  const tabs = [];
  for (let number = 0; number < 7; number++) {
    const page = await on.browser.open(on.platform, { context });
    await page.goto(`${on.platform.url}/dashboard/queues`);
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

test("seven tabs are right again after the API was killed under them", async () => {
  const own = await Platform.start();
  const context = await on.browser.chromium.newContext();
  try {
    await own.submit("worker", "under-seven", { payload: { seconds: 600 } });
    const tabs = [];
    for (let number = 0; number < 7; number++) {
      const page = await on.browser.open(own, { context });
      await page.goto(`${own.url}/dashboard/tasks/worker/under-seven`);
      await page.locator(".summary .state", { hasText: "running" }).waitFor();
      tabs.push(page);
    }
    await own.kill();
    for (const page of tabs) await page.locator(".contact", { hasText: "as of" }).waitFor();
    await own.up();
    await own.request("DELETE", "/worker/under-seven");
    for (const page of tabs) {
      await page.locator(".summary .state", { hasText: "canceled" }).waitFor();
      await page.locator(".contact", { hasText: "live" }).waitFor();
      assert.deepEqual(page.wrongs.filter((wrong) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE/.test(wrong)), []);
    }
    await until("one stream", async () => (await own.metric("tasker_event_streams")) === 1);
  } finally {
    await context.close();
    await own.stop();
  }
});

for (const [off, words] of [[3_600_000, "1 h ahead"], [-3_600_000, "1 h behind"]]) {
  test(`a clock that is ${words} changes no time that is shown`, async () => {
    const context = await on.browser.chromium.newContext({ viewport: { width: 1280, height: 800 } });
    await context.addInitScript((off) => {
      const right = Date.now.bind(Date);
      Date.now = () => right() + off;
    }, off);
    const page = await on.browser.open(on.platform, { context });
    await page.goto(`${on.platform.url}/dashboard/tasks/worker/long-job`);
    await page.getByText(`This machine's clock is ${words}`).waitFor();
    await page.getByText("expires in 23 h").waitFor();
    await context.close();
  });
}

test("a link on another site opens a page, and no site shows it in a frame", async () => {
  const context = await on.browser.chromium.newContext();
  const page = await context.newPage();
  await page.route("https://wiki.example/**", (route) =>
    route.fulfill({ contentType: "text/html", body: `<a href="${on.platform.url}/dashboard/tasks">tasks</a><iframe src="${on.platform.url}/dashboard"></iframe>` }),
  );
  await page.goto("https://wiki.example/");
  const frame = page.frames().find((frame) => frame !== page.mainFrame());
  assert.ok(!(await frame?.content().catch(() => ""))?.includes("app.js"), "a frame shows nothing of it");
  await page.getByRole("link", { name: "tasks" }).click();
  await page.getByRole("heading", { name: "Tasks" }).waitFor();
  await context.close();
});
