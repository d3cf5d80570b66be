//! Work queues as a customer sees them: `tasker up` with one worker that performs one task after the other.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tasker_services::{Home, Port, Process, until};

use crate::support::fleet::{Fleet, QUEUE};
use crate::support::platform::Platform;
use crate::support::send;

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands for the usual type of that name in a list of types.
const WORKER: &str = "the worker";

struct Site {
    home: Home,
    port: Port,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    up: Option<Process>,
}

impl Site {
    /// With so many workers in the process itself.
    fn new(workers: u32) -> anyhow::Result<Self> {
        Self::with(workers, json!([]))
    }

    /// The same with schedules.
    fn with(workers: u32, schedules: Value) -> anyhow::Result<Self> {
        let steered = json!({"name": "steered", "delivery": "queue", "then": "worker", "limit_key": "/key"});
        let mut site = Self::idle()?;
        site.configure(json!([WORKER, steered, "backup"]), schedules)?;
        site.start(workers)?;
        Ok(site)
    }

    /// Without a configuration, and with no process.
    fn idle() -> anyhow::Result<Self> {
        let (home, port) = (Home::new("queues")?, Port::free()?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let http = tasker::https::client().timeout(PATIENCE).build()?;
        Ok(Self { home, port, runtime, http, up: None })
    }

    /// What holds from the next start on. `WORKER` stands for the usual type of that name.
    fn configure(&self, mut types: Value, schedules: Value) -> anyhow::Result<()> {
        let worker = json!({"name": "worker", "delivery": "queue", "unique_key": "/key", "attempts": 5});
        types
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter(|one| **one == WORKER)
            .for_each(|one| *one = worker.clone());
        let endpoint = json!({"presence_interval": "1s", "stop_timeout": "10s"});
        self.home.write(
            "config.yaml",
            &json!({"task_types": types, "schedules": schedules, "endpoint": endpoint}).to_string(),
        )?;
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let mut up = self.up.take().context("it does not run")?;
        up.signal(Signal::TERM)?;
        let ended = until("it ends", PATIENCE, || up.ended()?.context("it still runs"))?;
        ensure!(ended.success(), "{ended}");
        Ok(())
    }

    /// Runs a command against the platform to its end.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let output = self.tasker().args(arguments).args(["--api", &self.url("")]).output()?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        ))
    }

    fn metrics(&self) -> anyhow::Result<String> {
        Ok(send(&self.runtime, self.http.get(self.url("/metrics")))?.1)
    }

    /// All that the platform has logged since it was made.
    fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.home.join("up.log"))?)
    }

    fn start(&mut self, workers: u32) -> anyhow::Result<()> {
        let mut command = self.tasker();
        command.args([
            "up",
            "--endpoints",
            "",
            "--concurrency",
            "1",
            "--listen",
            &format!("127.0.0.1:{}", self.port.number()),
        ]);
        command.args(["--workers", &workers.to_string(), "--data-dir"]).arg(self.home.join("data"));
        let mut up = self.home.start("up", &mut command)?;
        up.ready(PATIENCE, || self.get("/ready"))?;
        self.up = Some(up);
        Ok(())
    }

    fn tasker(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
        command.arg("--config").arg(self.home.join("config.yaml")).env_remove("TASKER_API_URL");
        command
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    /// A worker elsewhere, with nothing but the API.
    fn worker(&self, name: &str) -> anyhow::Result<Process> {
        self.worker_with(name, &[])
    }

    fn worker_with(&self, name: &str, more: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.tasker();
        command
            .args(["worker", "--api", &self.url(""), "-e", name, "--data-dir"])
            .arg(self.home.join(name))
            .args(more);
        self.home.start(name, &mut command)
    }

    fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<(u16, Value)> {
        let (status, text) = send(&self.runtime, request)?;
        Ok((status, serde_json::from_str(&text).with_context(|| text.clone())?))
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.send(self.http.get(self.url(path)))?.1)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.send(self.http.post(self.url(path)).json(body))
    }

    fn push(&self, task_type: &str, identifier: &str, members: Value) -> anyhow::Result<Value> {
        let mut body = json!({"identifier": identifier, "payload": {"seconds": 0, "key": identifier}});
        for (name, value) in members.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let (status, task) = self.post(&format!("/{task_type}"), &body)?;
        ensure!(status == 201, "{status}: {task}");
        Ok(task)
    }

    fn pause(&self, task_type: &str, paused: bool) -> anyhow::Result<()> {
        let (status, queue) = self
            .post(&format!("/queues/{task_type}/{}", if paused { "pause" } else { "resume" }), &json!({}))?;
        ensured(status == 200 && queue["paused_at"].is_null() != paused)
    }

    /// The end of a task.
    fn end(&self, task_type: &str, identifier: &str) -> anyhow::Result<Value> {
        until("the task ends", PATIENCE, || {
            let report = self.get(&format!("/{task_type}/{identifier}?wait=5s"))?;
            ensure!(
                ["DONE", "CANCELED", "EXPIRED"].iter().any(|end| report["task"]["status"] == *end),
                "{report}"
            );
            Ok(report)
        })
        .with_context(|| self.up.as_ref().map(Process::log).unwrap_or_default())
    }

    /// Tasks in the order in which they ended.
    fn order(&self, task_type: &str, identifiers: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut ends = Vec::new();
        for identifier in identifiers {
            let report = self.end(task_type, identifier)?;
            ensure!(report["task"]["status"] == "DONE", "{report}");
            ends.push((report["task"]["finished_at"].to_string(), (*identifier).to_owned()));
        }
        ends.sort();
        Ok(ends.into_iter().map(|(_, identifier)| identifier).collect())
    }
}

fn ensured(holds: bool) -> anyhow::Result<()> {
    ensure!(holds, "not yet");
    Ok(())
}

/// The eight checks that the task manager of seed 000 has of its own queue.
#[test]
fn the_checks_of_the_original() -> anyhow::Result<()> {
    let site = Site::new(1)?;
    // What is pushed is there, and what is fetched is what was pushed.
    let pushed = site.push("worker", "first", json!({}))?;
    ensure!(pushed["status"] == "CREATED" && pushed["queue"]["priority"] == 100, "{pushed}");
    let report = site.end("worker", "first")?;
    ensure!(report["task"]["payload"] == json!({"seconds": 0, "key": "first"}), "{report}");
    ensure!(report["taskResponseList"][0]["endpoint"] == "worker1", "{report}");

    // Priority goes first, then the time of the push; a key waits once, with its newest data; who is too late
    // is skipped; a push without a time to live does not prolong the one before.
    site.pause("worker", true)?;
    for (identifier, priority) in [("c", 100), ("d", 100), ("a", 10), ("b", 20)] {
        site.push("worker", identifier, json!({"priority": priority}))?;
    }
    site.push("worker", "old", json!({"priority": 1, "payload": {"seconds": 0, "key": "k", "data": 1}}))?;
    site.push("worker", "new", json!({"payload": {"seconds": 0, "key": "k", "data": 2}}))?;
    site.push("worker", "late", json!({"ttl": "300ms", "priority": 1}))?;
    site.push("worker", "short", json!({"ttl": "5s", "payload": {"seconds": 0, "key": "s"}}))?;
    let again = site.push("worker", "again", json!({"payload": {"seconds": 0, "key": "s"}}))?;
    let renewed =
        site.push("worker", "renewed", json!({"ttl": "1h", "payload": {"seconds": 0, "key": "r"}}))?;
    ensure!(renewed["expires_at"] != again["expires_at"], "{renewed}");
    ensure!(site.end("worker", "old")?["task"]["status"] == "CANCELED");
    for late in ["late", "again"] {
        ensure!(site.end("worker", late)?["task"]["status"] == "EXPIRED", "{late}");
    }
    site.pause("worker", false)?;
    let order = site.order("worker", &["a", "b", "c", "d", "new", "renewed"])?;
    ensure!(order == ["a", "b", "c", "d", "new", "renewed"], "{order:?}");
    ensure!(site.end("worker", "new")?["task"]["payload"]["data"] == 2);
    let census = site.get("/census?type=worker")?;
    ensure!(census["missing"] == 0 && census["double"] == 0, "{census}");
    Ok(())
}

#[test]
fn what_is_asked_wrongly_is_told() -> anyhow::Result<()> {
    let site = Site::new(0)?;
    for (task_type, member, value) in [
        ("worker", "endpoints", json!(["a"])),
        ("worker", "priority", json!("high")),
        ("worker", "priority", json!(2_000_000)),
        ("worker", "ttl", json!("2d")),
        ("worker", "ttl", json!(5)),
        ("worker", "run_at", json!("tomorrow")),
        ("backup", "priority", json!(1)),
        ("backup", "ttl", json!("1h")),
    ] {
        let (status, problem) =
            site.post(&format!("/{task_type}"), &json!({"identifier": "x", member: value}))?;
        ensure!(
            status == 422 && problem["errors"][0]["pointer"] == format!("/{member}"),
            "{member}: {status} {problem}"
        );
    }
    let (status, _) = site.post("/queues/backup/pause", &json!({}))?;
    ensure!(status == 404, "an endpoint's type has no queue: {status}");
    for (what, body) in [
        ("presence", json!({"v": 9})),
        ("reports", json!({"reports": [1]})),
        ("tasks", json!({"session": 1})),
    ] {
        let (status, problem) = site.post(&format!("/workers/w/{what}"), &body)?;
        ensure!(status == 422 && problem["code"] == "invalid_message", "{what}: {status} {problem}");
    }
    Ok(())
}

#[test]
fn what_a_killed_worker_had_is_performed_by_another() -> anyhow::Result<()> {
    let site = Site::new(0)?;
    let mut first = site.worker("first")?;
    site.push("worker", "long", json!({"payload": {"seconds": 30}}))?;
    let begun = || {
        let report = site.get("/worker/long")?;
        ensure!(report["taskResponseList"][0]["status"] == "CREATED", "{report}");
        Ok(())
    };
    until("the first worker has it", PATIENCE, begun).with_context(|| first.log())?;
    first.kill()?;
    let back = || {
        let report = site.get("/worker/long")?;
        ensure!(
            report["task"]["status"] == "CREATED" && report["task"]["queue"]["attempts"][0]["errnr"] == 69,
            "{report}"
        );
        Ok(())
    };
    until("its lease is lost", PATIENCE, back)?;
    let second = site.worker("second")?;
    let taken = || {
        let report = site.get("/worker/long")?;
        ensure!(report["taskResponseList"][0]["endpoint"] == "second", "{report}");
        Ok(())
    };
    until("the second has it", PATIENCE, taken)?;
    let (status, _) = site.send(site.http.delete(site.url("/worker/long")))?;
    ensure!(status == 200);
    let stopped = || {
        let report = site.get("/worker/long")?;
        ensure!(report["taskResponseList"][0]["status"] == "CANCELED", "{report}");
        Ok(())
    };
    until("it has stopped", PATIENCE, stopped).with_context(|| second.log())
}

#[test]
fn a_worker_that_starts_again_goes_on() -> anyhow::Result<()> {
    let mut site = Site::new(0)?;
    let mut worker = site.worker("w")?;
    site.push("worker", "one", json!({"payload": {"seconds": 0.5}}))?;
    site.push("worker", "two", json!({"payload": {"seconds": 0}}))?;
    ensure!(site.end("worker", "one")?["task"]["failed"] == 0);
    until("its clock is known", PATIENCE, || {
        let page = site.get("/endpoints")?;
        ensure!(
            page["endpoints"][0]["clock_offset_ms"].as_i64().is_some_and(|ms| ms.abs() < 30_000),
            "{page}"
        );
        Ok(())
    })?;
    // SIGTERM while nothing runs: it says goodbye, and nothing waits for it.
    site.end("worker", "two")?;
    worker.signal(Signal::TERM)?;
    let ended = until("it ends", PATIENCE, || worker.ended()?.context("it still runs"))?;
    ensure!(ended.success(), "{ended}");
    // The API is killed and started again under a worker that waits for it.
    let worker = site.worker("w")?;
    site.push("worker", "three", json!({"payload": {"seconds": 1}}))?;
    if let Some(mut up) = site.up.take() {
        up.kill()?;
    }
    site.start(0)?;
    let report = site.end("worker", "three").with_context(|| worker.log())?;
    ensure!(report["task"]["status"] == "DONE" && report["task"]["failed"] == 0, "{report}");
    Ok(())
}

/// A worker with a stop file is given no tasks: they wait in their queue.
#[test]
fn a_worker_with_a_stop_file_is_given_nothing() -> anyhow::Result<()> {
    let site = Site::new(0)?;
    let stop = site.home.join("stop");
    std::fs::write(&stop, "")?;
    let mut command = site.tasker();
    command.args(["worker", "--api", &site.url(""), "-e", "stopped", "--data-dir"]);
    command.arg(site.home.join("stopped")).env("TASKER_ENDPOINT__STOP_FILE", &stop);
    let worker = site.home.start("stopped", &mut command)?;
    site.push("worker", "waits", json!({}))?;
    until("it is told why the task waits", PATIENCE, || {
        let explained = site.get("/worker/waits/explain")?;
        ensure!(explained.to_string().contains("stop_file"), "{explained}");
        Ok(())
    })
    .with_context(|| worker.log())?;
    std::fs::remove_file(&stop)?;
    let report = site.end("worker", "waits").with_context(|| worker.log())?;
    ensured(report["task"]["status"] == "DONE")
}

#[test]
fn a_worker_that_is_to_end_still_hears_cancels() -> anyhow::Result<()> {
    let site = Site::new(0)?;
    // Longer than the test waits: it would not end by itself.
    let mut worker = site.worker_with("w", &["--stop-timeout", "1h"])?;
    site.push("worker", "long", json!({"payload": {"seconds": 300}}))?;
    let first = || Ok::<_, anyhow::Error>(site.get("/worker/long")?["taskResponseList"][0]["status"].clone());
    until("it has begun", PATIENCE, || ensured(first()? == "CREATED")).with_context(|| worker.log())?;
    worker.signal(Signal::TERM)?;
    let drains = || ensured(site.get("/endpoints")?["endpoints"][0]["types"][0]["slots"] == 0);
    until("it takes no more", PATIENCE, drains)?;
    site.push("worker", "next", json!({}))?;
    let (status, _) = site.send(site.http.delete(site.url("/worker/long")))?;
    ensure!(status == 200);
    let ended = until("it ends", PATIENCE, || worker.ended()?.context("it still runs"))?;
    ensure!(ended.success(), "{ended}: {}", worker.log());
    until("the cancel is confirmed", PATIENCE, || ensured(first()? == "CANCELED"))?;
    let _other = site.worker("other")?;
    ensure!(site.end("worker", "next")?["taskResponseList"][0]["endpoint"] == "other");
    Ok(())
}

#[test]
fn a_success_is_followed_once() -> anyhow::Result<()> {
    let site = Site::new(1)?;
    let task = site.push("steered", "good", json!({"payload": {"do": "ok", "seconds": 0, "key": "g"}}))?;
    site.push("steered", "bad", json!({"payload": {"do": "fail", "errnr": 3, "errmsg": "no", "key": "b"}}))?;
    site.end("steered", "bad")?;
    let next = format!("after-{}", task["id"].as_str().context("an id")?);
    let report = site.end("worker", &next)?;
    ensure!(
        report["task"]["queue"]["parent"] == task["id"] && report["task"]["payload"]["key"] == "g",
        "{report}"
    );
    ensure!(report["task"]["expires_at"] == task["expires_at"], "without a new time to live: {report}");
    let tasks = site.get("/worker")?;
    ensure!(
        tasks["tasks"].as_array().is_some_and(|tasks| tasks.len() == 1),
        "nothing follows a failure: {tasks}"
    );
    Ok(())
}

#[test]
fn what_is_to_begin_later_waits() -> anyhow::Result<()> {
    let site = Site::new(1)?;
    let at = chrono::Utc::now() + Duration::from_secs(5);
    let task = site.push("worker", "later", json!({"run_at": at.to_rfc3339()}))?;
    ensure!(task["queue"]["run_at"].is_string(), "{task}");
    ensure!(site.get("/queues")?["queues"][0]["delayed"] == 1);
    let report = site.end("worker", "later")?;
    let published: chrono::DateTime<chrono::Utc> =
        report["task"]["published_at"].as_str().context("a time")?.parse()?;
    ensure!(published >= at, "{published} is before {at}");
    Ok(())
}

#[test]
fn a_time_at_the_end_of_the_calendar_can_be_read_by_everybody() -> anyhow::Result<()> {
    let site = Site::new(0)?;
    site.push("worker", "far", json!({"run_at": "9999-12-31T23:59:59Z"}))?;
    site.push("worker", "farther", json!({"run_at": "9999-12-31T23:59:59.5-14:00", "ttl": "1h"}))?;
    for task in site.get("/worker")?["tasks"].as_array().context("tasks")? {
        for time in [&task["expires_at"], &task["receive_by"], &task["queue"]["run_at"]] {
            let time = time.as_str().context("a time")?;
            ensure!(
                time.starts_with("9999-12-31T23:59:59") && chrono::DateTime::parse_from_rfc3339(time).is_ok(),
                "{time}"
            );
        }
    }
    // The command line is a strict client.
    for (words, said) in [
        (["list", "worker"].as_slice(), "farther"),
        (&["status", "worker", "far"], "CREATED worker far"),
        (&["cancel", "worker", "far"], ""),
    ] {
        let output = site.tasker().args(words).args(["--api", &site.url("")]).output()?;
        ensure!(!String::from_utf8_lossy(&output.stderr).contains("API"), "{words:?}: {output:?}");
        ensure!(String::from_utf8_lossy(&output.stdout).contains(said), "{words:?}: {output:?}");
    }
    ensure!(site.get("/worker/far")?["task"]["status"] == "CANCELED");
    Ok(())
}

/// The times for which the schedule `tick` has submitted tasks.
fn times(tasks: &Value) -> anyhow::Result<Vec<i64>> {
    let mut times = Vec::new();
    for task in tasks["tasks"].as_array().context("tasks")? {
        let time = task["identifier"]
            .as_str()
            .and_then(|name| name.strip_prefix("tick-"))
            .context("a name and a time")?;
        times.push(time.parse::<chrono::DateTime<chrono::Utc>>()?.timestamp());
    }
    times.sort_unstable();
    Ok(times)
}

#[test]
fn a_schedule_has_one_task_a_time_however_many_submit_it() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let path = platform.home().join("config.yaml");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    config["schedules"] = json!([{"name": "tick", "type": "worker", "cron": "* * * * * *", "missed": "all"}]);
    std::fs::write(&path, config.to_string())?;
    let own = config["api"]["port"].to_string();
    let start = |name: &str, address: &str| {
        platform.launch(name, &["api".to_owned(), "--listen".to_owned(), address.to_owned()], &[])
    };
    let _first = start("first", &format!("127.0.0.1:{own}"))?;
    let mut others = [start("second", "127.0.0.1:0")?, start("third", "127.0.0.1:0")?];
    let seen = |platform: &Platform| times(&platform.get("/worker?limit=1000")?.1);
    for round in 0..3 {
        let from =
            platform.until("times come", |platform| seen(platform)?.last().copied().context("none yet"))?;
        platform.until("more come", |platform| {
            ensured(seen(platform)?.last().is_some_and(|last| *last > from + 2))
        })?;
        // One goes and one comes, in the middle of whatever they do.
        others[round % 2].kill()?;
        others[round % 2] = start(&format!("round-{round}"), "127.0.0.1:0")?;
    }
    let times = seen(&platform)?;
    ensure!(times.windows(2).all(|two| two[1] == two[0] + 1), "each second once: {times:?}");
    Ok(())
}

#[test]
fn a_schedule_has_one_task_a_time() -> anyhow::Result<()> {
    let every_second = json!([{"name": "tick", "type": "steered", "cron": "* * * * * *", "payload": "{\"do\": \"ok\"}", "missed": "all"}]);
    let mut site = Site::with(0, every_second)?;
    let times = |site: &Site| times(&site.get("/steered?limit=1000")?);
    let some = |site: &Site, count: usize| {
        until("the times come", PATIENCE, || ensured(times(site)?.len() >= count))
    };
    some(&site, 2)?;
    let schedule = &site.get("/schedules")?["schedules"][0];
    let told = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
    ensure!(
        (told("name"), told("type"), told("cron")) == ("tick".into(), "steered".into(), "* * * * * *".into()),
        "{schedule}"
    );
    ensure!(
        (told("time_zone"), told("missed")) == ("UTC".into(), "all".into())
            && told("next") > told("done_until"),
        "{schedule}"
    );
    let mut command = site.tasker();
    let listed = command.args(["schedules", "--api", &site.url("")]).output()?;
    ensure!(String::from_utf8_lossy(&listed.stdout).contains("* * * * * * UTC"), "{listed:?}");
    // What passes while nobody is there is made up for, and nothing is submitted twice.
    if let Some(mut up) = site.up.take() {
        up.kill()?;
    }
    let before = chrono::Utc::now().timestamp();
    until("two seconds pass", PATIENCE, || ensured(chrono::Utc::now().timestamp() > before + 2))?;
    site.start(0)?;
    until("it goes on", PATIENCE, || ensured(times(&site)?.last().is_some_and(|last| *last > before + 2)))?;
    let times = times(&site)?;
    ensure!(times.windows(2).all(|two| two[1] == two[0] + 1), "each second once: {times:?}");
    Ok(())
}

/// The lines of a log about one time.
fn lines_about<'a>(log: &'a str, level: &str, time: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(level) && line.contains(time.trim_end_matches('Z'))).collect()
}

#[test]
fn nobody_takes_a_name_that_tasker_gives() -> anyhow::Result<()> {
    let mut site = Site::with(0, json!([{"name": "nightly", "type": "backup", "cron": "0 0 1 1 *"}]))?;
    let (after, worker) = (format!("after-{}", uuid::Uuid::now_v7()), json!({"seconds": 0}));
    for (task_type, identifier, word) in [
        ("backup", "nightly-2031-01-01T00:00:00Z", "schedule `nightly`"),
        ("backup", "nightly-2031-06-05T04:03:02Z", "schedule `nightly`"),
        ("worker", after.as_str(), "type `steered`"),
    ] {
        let (status, problem) =
            site.post(&format!("/{task_type}"), &json!({"identifier": identifier, "payload": worker}))?;
        ensure!(
            status == 422 && problem["errors"][0]["pointer"] == "/identifier",
            "{identifier}: {status} {problem}"
        );
        ensure!(
            problem["errors"][0]["message"]
                .as_str()
                .is_some_and(|text| text.contains("reserved") && text.contains(word)),
            "{problem}"
        );
    }
    for (task_type, identifier) in
        [("worker", "nightly-2031-01-01T00:00:00Z"), ("backup", after.as_str()), ("backup", "nightly")]
    {
        let (status, answer) =
            site.post(&format!("/{task_type}"), &json!({"identifier": identifier, "payload": worker}))?;
        ensure!(status == 201, "{identifier}: {status} {answer}");
    }
    site.stop()
}

/// A name may have been taken before there was a schedule: by another task, or by the same one too early.
#[test]
fn a_time_whose_name_is_taken_is_told() -> anyhow::Result<()> {
    let mut site = Site::with(0, json!([]))?;
    let time = |after: i64| {
        chrono::DateTime::from_timestamp(chrono::Utc::now().timestamp() + after, 0).context("a time")
    };
    let mut taken = Vec::new();
    for after in 0..30 {
        let time = time(after)?.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let payload = if after % 2 == 0 { json!("mine") } else { json!("ours") };
        let (status, answer) =
            site.post("/backup", &json!({"identifier": format!("tick-{time}"), "payload": payload}))?;
        ensure!(status == 201, "{status}: {answer}");
        taken.push(time);
    }
    site.stop()?;
    let tick = json!({"name": "tick", "type": "backup", "cron": "* * * * * *", "missed": "all", "payload": "\"ours\""});
    site.configure(json!([WORKER, "backup"]), json!([tick]))?;
    site.start(0)?;
    let schedule = |site: &Site| Ok::<_, anyhow::Error>(site.get("/schedules")?["schedules"][0].clone());
    until("it goes on behind those that are taken", PATIENCE, || {
        let schedule = schedule(&site)?;
        ensure!(schedule["done_until"].as_str() > taken.last().map(String::as_str), "{schedule}");
        Ok(())
    })?;
    let (log, schedule) = (site.log()?, schedule(&site)?);
    let told = lines_about(&log, "ERROR", &taken[29]);
    ensure!(told.len() == 1 && told[0].contains("tick"), "{told:?}\n{log}");
    ensure!(lines_about(&log, "ERROR", &taken[28]).len() == 1, "the other content is told too\n{log}");
    ensure!(
        !log.lines().any(|line| line.contains("submitted a scheduled task")
            && line.contains(taken[29].trim_end_matches('Z'))),
        "{log}"
    );
    let error = schedule["last_error"].as_str().context("no error")?;
    ensure!(error.contains(&taken[29]) && schedule["last_error_at"].is_string(), "{schedule}");
    let (_, listed) = site.run(&["schedules"])?;
    ensure!(listed.contains("tick: last error") && listed.contains(&taken[29]), "{listed}");
    let metrics = site.metrics()?;
    let counted =
        "tasker_unsubmitted_total{by=\"schedule\",reason=\"identifier_taken\",task_type=\"backup\"}";
    ensure!(metrics.contains(counted), "{metrics}");
    site.stop()
}

#[test]
fn a_success_whose_successor_has_no_name_tells_it() -> anyhow::Result<()> {
    let mut site = Site::with(0, json!([]))?;
    let task = site.push("steered", "first", json!({"payload": {"do": "ok", "seconds": 0, "key": "f"}}))?;
    let next = format!("after-{}", task["id"].as_str().context("an id")?);
    site.stop()?;
    // Somebody takes the name where nobody knows what it is for. Even the same content is another task.
    site.configure(json!([WORKER, {"name": "steered", "delivery": "queue"}]), json!([]))?;
    site.start(0)?;
    let other = site.push("worker", &next, json!({"payload": {"do": "ok", "seconds": 0, "key": "f"}}))?;
    site.stop()?;
    site.configure(json!([WORKER, {"name": "steered", "delivery": "queue", "then": "worker"}]), json!([]))?;
    site.start(1)?;
    site.end("steered", "first")?;
    let told = until("it is told", PATIENCE, || {
        let queue = site.get("/steered/first")?["task"]["queue"].clone();
        Ok(queue["successor_error"].as_str().with_context(|| queue.to_string())?.to_owned())
    })?;
    ensure!(told.contains(&next) && told.contains(other["id"].as_str().context("an id")?), "{told}");
    let (log, metrics) = (site.log()?, site.metrics()?);
    ensure!(log.lines().any(|line| line.contains("ERROR") && line.contains(&next)), "{log}");
    let counted =
        "tasker_unsubmitted_total{by=\"successor\",reason=\"identifier_taken\",task_type=\"steered\"} 1";
    ensure!(metrics.contains(counted), "{metrics}");
    site.stop()
}

const SCHEMA: &str = r#"{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "t": {"maxLength": 1}}}"#;

#[test]
fn a_schema_holds_at_every_door() -> anyhow::Result<()> {
    let mut site = Site::idle()?;
    let types = json!([
        {"name": "worker", "delivery": "queue", "schema": SCHEMA, "trim": true},
        {"name": "steered", "delivery": "queue", "then": "worker"},
    ]);
    let scheduled = |payload: &str| json!([{"name": "tick", "type": "worker", "cron": "* * * * * *", "payload": payload}]);
    // What a schedule carries is refused before anything starts.
    site.configure(types.clone(), scheduled(r#"{"n": "one"}"#))?;
    let (good, said) = site.run(&["config", "check"])?;
    ensure!(!good && said.contains("schedules[0].payload") && said.contains("/n"), "{said}");
    let (good, said) = site.run(&["config", "check", "--for", "worker"])?;
    ensure!(good && !said.contains("schedules"), "a worker submits nothing: {said}");
    let started = site
        .tasker()
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(site.home.join("data"))
        .output()?;
    ensure!(
        !started.status.success()
            && String::from_utf8_lossy(&started.stderr).contains("schedules[0].payload"),
        "{started:?}"
    );

    site.configure(types, scheduled(r#"{"n": 1, "seconds": 0, "t": " x "}"#))?;
    ensure!(site.run(&["config", "check"])?.0);
    site.start(1)?;
    let (status, problem) = site.post("/worker", &json!({"identifier": "w", "payload": {"n": "one"}}))?;
    ensure!(status == 422 && problem["errors"][0]["pointer"] == "/payload/n", "{status}: {problem}");
    let report = until("a scheduled task comes", PATIENCE, || {
        let page = site.get("/worker?limit=1")?;
        page["tasks"].get(0).map(|task| task["payload"].clone()).context("none yet")
    })?;
    ensure!(report == json!({"n": 1, "seconds": 0, "t": "x"}), "{report}");
    // What a success hands on is checked, told, and stops nothing else.
    let payload = |n: Value| json!({"payload": {"do": "ok", "seconds": 0, "n": n, "t": " y "}});
    let bad = site.push("steered", "bad", payload(json!("CANARY")))?;
    let good = site.push("steered", "good", payload(json!(7)))?;
    let next = |task: &Value| format!("after-{}", task["id"].as_str().unwrap_or_default());
    let report = site.end("worker", &next(&good))?;
    ensure!(report["task"]["payload"]["t"] == "y", "trimmed: {report}");
    let told = until("it is told", PATIENCE, || {
        let queue = site.get("/steered/bad")?["task"]["queue"].clone();
        Ok(queue["successor_error"].as_str().with_context(|| queue.to_string())?.to_owned())
    })?;
    ensure!(told.contains("/n") && told.contains("integer"), "{told}");
    let (status, _) = site.send(site.http.get(site.url(&format!("/worker/{}", next(&bad)))))?;
    ensure!(status == 404, "nothing is queued: {status}");
    site.push("steered", "later", payload(json!(8)))?;
    site.end("steered", "later")?;
    let (log, metrics) = (site.log()?, site.metrics()?);
    let told = log
        .lines()
        .filter(|line| line.contains("ERROR") && line.contains(bad["id"].as_str().unwrap_or_default()))
        .count();
    ensure!(told == 1, "it is told {told} times: {log}");
    ensure!(!log.contains("CANARY"), "a payload's value is in the log: {log}");
    let counted =
        "tasker_unsubmitted_total{by=\"successor\",reason=\"invalid_payload\",task_type=\"steered\"} 1";
    ensure!(metrics.contains(counted), "{metrics}");
    ensure!(site.get("/steered/good")?["task"]["queue"]["successor_error"].is_null());
    site.stop()
}

#[test]
fn null_is_no_unique_key() -> anyhow::Result<()> {
    let mut site = Site::new(0)?;
    for identifier in ["one", "two"] {
        site.push("worker", identifier, json!({"payload": {"seconds": 0, "key": null}}))?;
        site.push("worker", &format!("{identifier}-k"), json!({"payload": {"seconds": 0, "key": "null"}}))?;
    }
    for (identifier, status) in
        [("one", "CREATED"), ("two", "CREATED"), ("one-k", "CANCELED"), ("two-k", "CREATED")]
    {
        let task = site.get(&format!("/worker/{identifier}"))?["task"].clone();
        ensure!(task["status"] == status, "{task}");
    }
    site.stop()
}

/// More times than one pass submits, the newest among them.
#[test]
fn all_that_was_missed_is_made_up_for() -> anyhow::Result<()> {
    const MISSED: i64 = 1500;
    let mut site = Site::with(0, json!([]))?;
    site.stop()?;
    let begin = chrono::Utc::now().timestamp() - MISSED;
    let uri = tasker::config::Secret::new(format!("sqlite://{}", site.home.join("data/tasker.db").display()));
    let until_then = tasker::domain::Timestamp::from_micros(begin * 1_000_000);
    site.runtime.block_on(async {
        let store =
            tasker::store::open(&tasker::config::Database { verbose: false, uri, max_connections: 1 })?;
        store.set_schedule_done("tick", until_then).await?;
        store.close().await;
        anyhow::Ok(())
    })?;
    site.configure(
        json!([WORKER, "backup"]),
        json!([{"name": "tick", "type": "worker", "cron": "* * * * * *", "missed": "all"}]),
    )?;
    site.start(0)?;
    until("all of them come", PATIENCE, || {
        let queue = site.get("/queues")?["queues"][0].clone();
        ensure!(queue["waiting"].as_i64() >= Some(MISSED), "{queue}");
        Ok(())
    })?;
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = site.get(&format!("/worker?limit=1000{cursor}"))?;
        all.extend(times(&page)?);
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    all.sort_unstable();
    ensure!(
        all.first() == Some(&(begin + 1)) && all.windows(2).all(|two| two[1] == two[0] + 1),
        "each second once from {begin}: {all:?}"
    );
    let log = site.log()?;
    ensure!(
        log.lines().any(|line| line.contains("WARN") && line.contains("tick") && line.contains("left=")),
        "no warning"
    );
    site.stop()
}

/// What one API process is told of a queue holds for the other one too, whichever of them gives tasks to
/// workers.
#[test]
fn two_api_processes_obey_one_pause() -> anyhow::Result<()> {
    const OTHER: &str = "other";
    let types = [QUEUE, OTHER].map(|name| json!({"name": name, "delivery": "queue"}));
    let mut fleet = Fleet::with_queues(Platform::idle()?, types.to_vec())?;
    for name in ["api1", "api2"] {
        fleet.start_api(name, &[])?;
    }
    fleet.start_worker("worker1", &[])?;
    fleet.ready()?;
    let (http, apis) = (tasker::https::client().timeout(PATIENCE).build()?, fleet.urls());
    let mark = fleet.platform.home().join("mark");
    let ask = |fleet: &Fleet, request: reqwest::RequestBuilder| -> anyhow::Result<Value> {
        fleet.platform.block_on(async { Ok(request.send().await?.error_for_status()?.json().await?) })
    };
    let is_done = |fleet: &Fleet, api: &str, task_type: &str, identifier: &str| -> anyhow::Result<()> {
        let told = ask(fleet, http.get(format!("{api}/{task_type}/{identifier}")))?;
        ensure!(told["task"]["status"] == "DONE", "{told}");
        Ok(())
    };
    ask(&fleet, http.post(format!("{}/queues/{QUEUE}/pause", apis[0])).json(&json!({})))?;
    for (api, identifier) in apis.iter().zip(["one", "two"]) {
        for task_type in [QUEUE, OTHER] {
            let body = json!({"identifier": identifier, "payload": {"mark": mark, "seconds": 0}});
            ask(&fleet, http.post(format!("{api}/{task_type}")).json(&body))?;
        }
    }
    // The worker has room, and tasks that were submitted later are given to it.
    for identifier in ["one", "two"] {
        fleet.until("the other queue goes on", |fleet| is_done(fleet, &apis[0], OTHER, identifier))?;
    }
    for api in &apis {
        let listed = ask(&fleet, http.get(format!("{api}/queues")))?;
        let paused = listed["queues"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|queue| queue["type"] == QUEUE)
            .context("a queue")?;
        ensure!(
            paused["paused_at"].is_string() && paused["waiting"] == 2 && paused["running"] == 0,
            "{listed}"
        );
    }
    ask(&fleet, http.post(format!("{}/queues/{QUEUE}/resume", apis[1])).json(&json!({})))?;
    for (api, identifier) in apis.iter().zip(["two", "one"]) {
        fleet.until("the paused queue goes on", |fleet| is_done(fleet, api, QUEUE, identifier))?;
    }
    Ok(())
}

/// Many tasks at once, and why one of them does not run, with nothing but commands.
#[test]
fn many_tasks_at_once_and_why_one_waits() -> anyhow::Result<()> {
    let site = Site::new(1)?;
    site.pause("worker", true)?;
    let line = |identifier: &str, seconds: Value| {
        json!({"type": "worker", "identifier": identifier, "payload": {"seconds": seconds, "key": identifier}}).to_string()
    };
    let lines = [
        line("w0", json!(0)),
        line("w1", json!(0)),
        String::new(),
        line("bad", json!("x")),
        line("w3", json!(0)),
    ];
    site.home.write("tasks.jsonl", &lines.join("\n"))?;
    let file = site.home.join("tasks.jsonl").display().to_string();
    let said = |arguments: &[&str], good: bool, words: &[&str]| -> anyhow::Result<()> {
        let (ok, text) = site.run(arguments)?;
        ensure!(ok == good && words.iter().all(|word| text.contains(word)), "{arguments:?}: {text}");
        Ok(())
    };
    said(&["submit", "--batch", &file], true, &["submitted: 4, submitted before: 0, refused: 0"])?;
    said(&["submit", "--batch", &file], true, &["submitted: 0, submitted before: 4, refused: 0"])?;
    site.home.write(
        "wrong.jsonl",
        &[line("w9", json!(0)), r#"{"type": "wroker", "identifier": "x"}"#.to_owned()].join("\n"),
    )?;
    let wrong = site.home.join("wrong.jsonl").display().to_string();
    said(&["submit", "--batch", &wrong], false, &["submitted: 1,", "refused: 1", "line 2:", "did you mean"])?;

    said(
        &["explain", "worker", "w1"],
        true,
        &["worker w1 is CREATED", "queue_paused: ", "waits_behind: tasks of the queue before it: 1"],
    )?;
    said(&["explain", "w1", "--endpoint", "worker1"], true, &["not_expected: "])?;
    let filter = ["cancel", "--type", "worker", "--identifier", "w"];
    let with = |more: &[&'static str]| [&filter[..], more].concat();
    said(&with(&["--dry-run"]), true, &["4 tasks match", "w0", "w9", "--expect 4 --as-of 20"])?;
    said(&with(&[]), false, &["nothing was done", "--expect 4 --as-of 20"])?;
    said(&with(&["--expect", "3"]), false, &["4 tasks match now, and 3 were expected"])?;
    said(&with(&["--expect", "5"]), false, &["4 tasks match now, and 5 were expected"])?;
    said(&with(&["--as-of", "1s"]), false, &["--expect"])?;
    said(&with(&["--expect", "4", "--as-of", "1h"]), true, &["canceled: 0"])?;
    said(&with(&["--expect", "4"]), true, &["canceled: 4"])?;
    said(&with(&["--yes"]), true, &["0 tasks match"])?;
    ensure!(site.end("worker", "w0")?["task"]["status"] == "CANCELED");

    site.pause("worker", false)?;
    let failed = site.end("worker", "bad")?;
    ensure!(failed["task"]["failed"] == 1, "{failed}");
    said(&["explain", "bad"], true, &["failed: 1 of 1 finished with an error"])?;
    said(&["queue", "requeue", "worker", "--dry-run"], true, &["1 task matches", "bad"])?;
    said(&["queue", "requeue", "worker", "--expect", "1"], true, &["requeued: 1"])?;
    let again = format!("again-{}", failed["task"]["id"].as_str().context("an id")?);
    let second = site.end("worker", &again)?;
    ensure!(second["task"]["rerun_of"] == failed["task"]["id"] && second["task"]["failed"] == 1, "{second}");
    Ok(())
}
