// A platform of its own for a test, and a browser that tells whatever a page does that it must not.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const TASKER = process.env.TASKER ?? new URL("../../../../target/debug/tasker", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

const CONFIG = `
task_types:
  - worker
  - backup
  - name: deploy
    schema: '{"type": "object", "required": ["release"], "properties": {"release": {"type": "string", "examples": ["v2.1"]}}}'
  - {name: builds, delivery: queue}
schedules:
  - {name: nightly, type: backup, cron: "30 3 * * *"}
  - {name: hourly, type: worker, cron: "5 * * * *", payload: '{"seconds": 1}'}
`;

const ENDPOINTS = "console1,console2,web1";

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Waits for something, and answers it. */
export async function until(what, check, patience = 60_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what} did not happen in time`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

export class Platform {
  static async start(options = {}) {
    const platform = new Platform();
    platform.directory = mkdtempSync(join(tmpdir(), "tasker-dashboard-"));
    platform.port = await freePort();
    platform.url = `http://127.0.0.1:${platform.port}`;
    writeFileSync(join(platform.directory, "config.yaml"), options.config ?? CONFIG);
    platform.options = options;
    for (const [type, text] of Object.entries(options.handlers ?? {})) {
      mkdirSync(join(platform.directory, "jobs"), { recursive: true });
      writeFileSync(join(platform.directory, "jobs", type), text, { mode: 0o755 });
    }
    if (options.token) platform.secret = await platform.command(["token", "create", "--name", "page", "--scope", options.token]);
    await platform.up();
    return platform;
  }

  get #place() {
    return ["--config", join(this.directory, "config.yaml"), "--data-dir", join(this.directory, "data")];
  }

  async command(args) {
    const process = spawn(TASKER, [...args, ...this.#place], { cwd: this.directory, stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    process.stdout.on("data", (bytes) => (out += bytes));
    process.stderr.on("data", (bytes) => (err += bytes));
    const code = await new Promise((done) => process.on("close", done));
    if (code !== 0) throw new Error(`tasker ${args.join(" ")} ended with ${code}: ${err}`);
    return out.trim();
  }

  async up() {
    const args = ["up", ...this.#place, "--endpoints", this.options.endpoints ?? ENDPOINTS];
    if (this.options.handlers) args.push("--handlers-dir", join(this.directory, "jobs"));
    this.process = spawn(TASKER, args, {
      cwd: this.directory,
      env: { ...process.env, TASKER_API__PORT: String(this.port) },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let err = "";
    this.process.stderr.on("data", (bytes) => (err = (err + bytes).slice(-4000)));
    this.ended = new Promise((done) => this.process.on("close", done));
    await until("the start of tasker", async () => {
      if (this.process.exitCode !== null) throw new Error(err);
      return fetch(`${this.url}/ready`).then((answer) => answer.ok, () => false);
    });
    const wanted = (this.options.endpoints ?? ENDPOINTS).split(",").filter(Boolean).length;
    await until("the presence of its endpoints", async () => {
      const { endpoints } = await this.request("GET", "/endpoints");
      return endpoints.filter(({ types }) => types.some((type) => type.subscribed)).length >= wanted;
    });
  }

  /** Ends it as `kill -9` does. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    rmSync(this.directory, { recursive: true, force: true });
  }

  async request(method, path, body) {
    const headers = { "Content-Type": "application/json", ...(this.secret ? { Authorization: `Bearer ${this.secret}` } : {}) };
    const answer = await fetch(this.url + path, { method, headers, body: body === undefined ? (method === "POST" ? "{}" : undefined) : JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? undefined : answer.json();
  }

  submit(type, identifier, rest = {}) {
    return this.request("POST", `/${type}`, { identifier, ...rest });
  }

  whenEnded(type, identifier) {
    return this.request("GET", `/${type}/${encodeURIComponent(identifier)}?wait=30s`);
  }
}

/** A reverse proxy that has a platform below a path of its own, as nginx and others do. */
export class Proxy {
  static async start(platform, prefix) {
    const proxy = new Proxy();
    proxy.server = http.createServer((request, response) => {
      if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end("not below the path");
      const { method, headers } = request;
      const on = http.request(platform.url + request.url.slice(prefix.length), { method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      on.on("error", () => response.destroy());
      response.on("close", () => on.destroy());
      request.pipe(on);
    });
    await new Promise((done) => proxy.server.listen(0, "127.0.0.1", done));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}${prefix}`;
    return proxy;
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }
}

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"] });
    return browser;
  }

  /** A page that keeps what it must not do in `page.wrongs`. */
  async open(platform, { width = 1280, height = 800, theme = "light", context } = {}) {
    const own = context ?? (await this.chromium.newContext({
      viewport: { width, height },
      colorScheme: theme,
      reducedMotion: "reduce",
      locale: "en-GB",
      timezoneId: "Europe/Berlin",
    }));
    const page = await own.newPage();
    page.wrongs = [];
    page.on("pageerror", (error) => page.wrongs.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => {
      page.wrongs.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("console", (message) => {
      // A request that fails is told by the page itself.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.wrongs.push(`console: ${message.text()}`);
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(`${platform.url}/`)) page.wrongs.push(`a request to ${request.url()}`);
    });
    // Without compiling tasker again: the files of a folder, with the headers that tasker sends.
    const dist = process.env.DASHBOARD_DIST;
    if (dist) {
      await page.route(/\/dashboard\/assets\/app\.(js|css)/, async (route) => {
        const answer = await route.fetch();
        const name = new URL(route.request().url()).pathname.split("/").at(-1);
        await route.fulfill({ response: answer, body: readFileSync(join(dist, "assets", name)) });
      });
    }
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    });
    page.setDefaultTimeout(30_000);
    return page;
  }

  async stop() {
    await this.chromium.close();
  }
}

/** Fills a platform with a bit of everything. */
export async function furnish(platform) {
  await platform.submit("worker", "release-check", { payload: { seconds: 0 } });
  await platform.submit("backup", "nightly-2026-11-28", { payload: { foo: "bar" } });
  await platform.submit("worker", "web1-only", { payload: { seconds: 0 }, endpoints: ["web1"] });
  await platform.whenEnded("worker", "release-check");
  await platform.whenEnded("backup", "nightly-2026-11-28");
  await platform.submit("worker", "long-job", { payload: { seconds: 600 } });
  await platform.submit("builds", "image-17", { payload: { tag: "v2" } });
  await platform.submit("worker", "for-nobody-yet", { payload: { seconds: 0 }, endpoints: ["web9", "web1"] });
  await platform.request("POST", "/rollouts", { identifier: "careful", type: "worker", payload: { seconds: 0 }, waves: [1, "rest"], approval: { before: [2] } });
  await platform.request("PUT", "/groups/everything", { match: "name=*" });
  await platform.request("PUT", "/groups/web", { match: "name=web* and os=linux and not site in (lab, staging)" });
  await platform.request("POST", "/requests", { action: "release", params: { tag: "v2" }, steps: [{ name: "build", jobs: ["builds"] }, { name: "check", jobs: ["builds"] }] });
}
