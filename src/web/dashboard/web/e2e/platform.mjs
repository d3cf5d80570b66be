// A platform of its own for a test, and a browser that tells whatever a page does that it must not.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const TASKER = process.env.TASKER ?? new URL("../../../../../target/debug/tasker", import.meta.url).pathname;
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
    args.push(...(this.options.args ?? []));
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

  /** A task for so many endpoints that nobody has heard of, once its set is frozen: `web-00000` and on. */
  async large(identifier, number) {
    const endpoints = Array.from({ length: number }, (_, at) => `web-${String(at).padStart(5, "0")}`);
    const { id } = await this.submit("worker", identifier, { payload: { seconds: 0 }, endpoints });
    await until("the frozen set", async () => (await this.request("GET", `/worker/${identifier}?responses=none`)).task.expected === number);
    return id;
  }

  /** Writes into the ledger how the endpoints of such a task fared: so many of a hundred finished, failed, run, are lost, have not received it. */
  paint(identifier, parts) {
    const bound = parts.map((_, place) => parts.slice(0, place + 1).reduce((sum, part) => sum + part, 0));
    // Spread evenly, and the same each time.
    const number = "CAST(substr(endpoint, 5) AS INTEGER)";
    const lot = `((${number} * 7919 + ${number} * ${number} * 13) % 10007 % 100)`;
    const of = `task_id = (SELECT id FROM task WHERE identifier = CAST('${identifier}' AS BLOB))`;
    const now = "start_time = last_modified_time";
    const sql = [
      `UPDATE response SET status = 2, errnr = 0, attempt = 1, ${now} WHERE ${of} AND ${lot} < ${bound[0]};`,
      `UPDATE response SET status = 2, errnr = 28, errmsg = 'no space left on /var', attempt = 1, ${now} WHERE ${of} AND ${lot} >= ${bound[0]} AND ${lot} < ${bound[1]};`,
      `UPDATE response SET status = 1, progress = 40, attempt = 1, ${now} WHERE ${of} AND ${lot} >= ${bound[1]} AND ${lot} < ${bound[2]};`,
      `UPDATE response SET status = 2, errnr = 69, errmsg = 'the outcome will never be known', ${now} WHERE ${of} AND ${lot} >= ${bound[2]} AND ${lot} < ${bound[3]};`,
      `UPDATE task SET received = (SELECT COUNT(*) FROM response WHERE ${of} AND start_time IS NOT NULL), finished = (SELECT COUNT(*) FROM response WHERE ${of} AND status = 2),`,
      `  failed = (SELECT COUNT(*) FROM response WHERE ${of} AND errnr <> 0) WHERE identifier = CAST('${identifier}' AS BLOB);`,
    ];
    execFileSync("sqlite3", ["-cmd", ".timeout 20000", join(this.directory, "data", "tasker.db"), `BEGIN IMMEDIATE; ${sql.join("\n")} COMMIT;`]);
  }

  /** What a metric says. */
  async metric(line) {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Number(text.split("\n").find((one) => one.startsWith(`${line} `))?.slice(line.length + 1) ?? 0);
  }
}

/** A Flamenco Manager on the ledger of a platform, with a Server that has some tasks for it, and with workers. */
export class Farm {
  static JOBS = ["5e90c0000000000000000c01", "5e90c1000000000000000c02"];

  static task(number, job, more = {}) {
    return {
      _id: `5e90d000000000000000${String(number).padStart(4, "0")}`, _etag: `e${number}`, job: Farm.JOBS[job], manager: "5e90aa11bb22cc33dd44ee00",
      project: "5e90e0000000000000000e01", user: "5e90f0000000000000000f01", name: `blender-render-${number * 10}-${number * 10 + 9}`, status: "claimed-by-manager",
      priority: 50, job_priority: 50, job_type: "blender-render", task_type: "blender-render",
      commands: [{ name: "blender_render", settings: { filepath: "{job_storage}/shot.blend", frames: `${number * 10}-${number * 10 + 9}` } }], ...more,
    };
  }

  static async start(platform, tasks) {
    const farm = new Farm();
    let told = false;
    farm.server = http.createServer(async (request, response) => {
      let body = "";
      for await (const piece of request) body += piece;
      if (request.url.includes("/task-update-batch")) {
        const ids = JSON.parse(body).map((update) => update._id);
        return response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ modified_count: ids.length, handled_update_ids: ids }));
      }
      if (request.url.includes("/depsgraph") && !told) {
        told = true;
        return response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ depsgraph: tasks }));
      }
      response.writeHead(request.url.includes("/api/flamenco/tasks/") ? 304 : 204).end();
    });
    await new Promise((done) => farm.server.listen(0, "127.0.0.1", done));
    farm.directory = mkdtempSync(join(tmpdir(), "tasker-farm-"));
    const port = await freePort();
    farm.url = `http://127.0.0.1:${port}`;
    const settings = `manager_id: 5e90aa11bb22cc33dd44ee00\nmanager_secret: s\nflamenco: http://127.0.0.1:${farm.server.address().port}/\nlisten: 127.0.0.1:${port}\n`;
    // Nobody calls in the name of the workers again, and none of them is to be silent for that.
    const patience = "active_worker_timeout_interval: 24h\nactive_task_timeout_interval: 24h\n";
    writeFileSync(join(farm.directory, "flamenco-manager.yaml"), `${settings}${patience}database_url: sqlite://${join(platform.directory, "data", "tasker.db")}\n`);
    farm.process = spawn(TASKER, ["flamenco-manager"], { cwd: farm.directory, stdio: ["ignore", "ignore", "pipe"] });
    let err = "";
    farm.process.stderr.on("data", (bytes) => (err = (err + bytes).slice(-4000)));
    farm.ended = new Promise((done) => farm.process.on("close", done));
    await until("the tasks of the farm", async () => {
      if (farm.process.exitCode !== null) throw new Error(err);
      return tasks.length === (await platform.request("GET", "/flamenco/tasks")).tasks.length;
    });
    return farm;
  }

  /** A worker that has signed on. */
  async worker(nickname) {
    const secret = `secret of ${nickname}`;
    const post = async (path, body, headers = {}) => {
      const answer = await fetch(this.url + path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) });
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
      return answer.status === 204 ? undefined : answer.json();
    };
    const { _id } = await post("/register-worker", { secret, platform: "linux", supported_task_types: ["blender-render"], nickname });
    const known = { Authorization: `Basic ${Buffer.from(`${_id}:${secret}`).toString("base64")}` };
    await post("/sign-on", {}, known);
    await post("/ack-status-change/awake", {}, known);
    return {
      takes: () => post("/task", {}, known),
      says: (task, more) => post(`/tasks/${task._id}/update`, { metrics: { timing: { render: 5 } }, ...more }, known),
    };
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A reverse proxy that has a platform below a path of its own, as nginx and others do. What `take` takes, it answers itself. */
export class Proxy {
  static async start(platform, prefix, take = () => false) {
    const proxy = new Proxy();
    proxy.server = http.createServer((request, response) => {
      if (take(request, response)) return;
      if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end("not below the path");
      const { method } = request;
      // Before there is a token, a platform has no name but its own address.
      const headers = { ...request.headers };
      if (!platform.secret) headers.host = new URL(platform.url).host;
      if (!platform.secret && headers.origin) headers.origin = platform.url;
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
    browser.chromium = await chromium.launch({
      executablePath: CHROMIUM,
      args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
      env: { ...process.env, FONTCONFIG_FILE: fileURLToPath(new URL("./fonts.conf", import.meta.url)) },
    });
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

/** Fills a platform with a bit of everything; answers the farm that has to be stopped. */
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
  const farm = await Farm.start(platform, [...[0, 1, 2, 3].map((number) => Farm.task(number, 0)), Farm.task(9, 1, { priority: 1, job_priority: 1 })]);
  const a = await farm.worker("node-a");
  await farm.worker("<b>node</b>");
  await a.says(await a.takes(), { task_status: "completed", activity: "done", log: "Saved: 0009.png\n" });
  // Of two workers the other one may still succeed: it waits for that one.
  await a.says(await a.takes(), { task_status: "failed", activity: "blender died", log: "Fra:10 Mem:1G\n<script>out of memory</script>\n" });
  await a.says(await a.takes(), { task_status: "active", activity: "Fra:21 Mem:120M" });
  return farm;
}
