//! `tasker schedules`: run, pause and resume, as they are typed.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tasker_services::until;

use crate::support::place::{Place, Up};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = "
task_types: [worker, {name: builds, delivery: queue}]
schedules:
  - {name: tick, type: builds, cron: '* * * * * *', missed: all, payload: '0'}
  - {name: yearly, type: worker, cron: '0 12 1 1 *', time_zone: Europe/Berlin, payload: '{\"seconds\": 0}', endpoints: [console1]}
";

struct Site {
    place: Place,
    up: Option<Up>,
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let place = Place::new()?;
        place.write("c.yaml", CONFIG)?;
        let mut site = Self { place, up: None };
        site.start()?;
        Ok(site)
    }

    /// Starts the platform, after an end of the one before.
    fn start(&mut self) -> anyhow::Result<()> {
        self.up = None;
        self.up =
            Some(self.place.up("--config c.yaml --listen 127.0.0.1:0 --endpoints console1 --workers 0")?);
        Ok(())
    }

    fn line(&self, line: &str) -> anyhow::Result<String> {
        Ok(format!("{line} --api {}", self.up.as_ref().context("it runs")?.api))
    }

    fn json(&self, line: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.place.good(&self.line(&format!("{line} --json"))?)?.out)?)
    }

    fn good(&self, line: &str) -> anyhow::Result<String> {
        Ok(self.place.good(&self.line(line)?)?.out)
    }

    /// The times for which `tick` has submitted tasks, in seconds, in order.
    fn ticks(&self) -> anyhow::Result<Vec<i64>> {
        let page = self.json("list builds --limit 1000 --identifier tick-2")?;
        let time = |task: &Value| {
            let time =
                task["identifier"].as_str().and_then(|name| name.strip_prefix("tick-")).context("a name")?;
            Ok(chrono::DateTime::parse_from_rfc3339(time)?.timestamp())
        };
        let mut times = page["tasks"]
            .as_array()
            .context("tasks")?
            .iter()
            .map(time)
            .collect::<anyhow::Result<Vec<_>>>()?;
        times.sort_unstable();
        Ok(times)
    }

    /// Waits until there is a task for a time after this one.
    fn ticks_after(&self, time: i64) -> anyhow::Result<i64> {
        until("it ticks", PATIENCE, || self.ticks()?.into_iter().find(|tick| *tick > time).context("no tick"))
    }
}

#[test]
fn a_schedule_runs_now_under_a_name_of_its_own() -> anyhow::Result<()> {
    let site = Site::new()?;
    let said = site.good("schedules run yearly")?;
    ensure!(said.starts_with("CREATED worker yearly-run-2"), "{said}");
    let task = site.json("schedules run yearly")?;
    ensure!(
        task["endpoints"] == serde_json::json!(["console1"]) && task["payload"]["seconds"] == 0,
        "{task}"
    );
    let identifier = task["identifier"].as_str().context("a name")?;
    let done = site.json(&format!("status worker {identifier} --wait 60s"))?;
    ensure!(done["task"]["status"] == "DONE", "{done}");
    ensure!(site.json("list worker")?["tasks"].as_array().map(Vec::len) == Some(2), "two tasks");
    Ok(())
}

#[test]
fn a_schedule_shows_its_next_time_twice() -> anyhow::Result<()> {
    let site = Site::new()?;
    let list = site.good("schedules")?;
    let line = list.lines().find(|line| line.starts_with("yearly")).context("a line")?;
    ensure!(line.contains("-01-01 12:00:00+01:00") && line.contains("-01-01 11:00:00"), "{list}");
    let schedule = site.json("schedules")?["schedules"][1].clone();
    ensure!(
        schedule["next_local"].as_str().is_some_and(|time| time.ends_with("-01-01T12:00:00+01:00")),
        "{schedule}"
    );
    ensure!(
        schedule["next"].as_str().is_some_and(|time| time.ends_with("-01-01T11:00:00.000000Z")),
        "{schedule}"
    );
    Ok(())
}

#[test]
fn a_paused_schedule_submits_nothing_until_it_is_resumed() -> anyhow::Result<()> {
    let mut site = Site::new()?;
    site.ticks_after(0)?;
    let said = site.good("schedules pause tick")?;
    ensure!(said.contains("paused since") && said.contains("`tasker schedules resume tick`"), "{said}");
    let paused = site.json("schedules")?["schedules"][0].clone();
    ensure!(
        paused["next"].is_null() && paused["next_local"].is_null() && paused["paused_at"].is_string(),
        "{paused}"
    );
    let since =
        chrono::DateTime::parse_from_rfc3339(paused["paused_at"].as_str().context("a time")?)?.timestamp();
    // It is the ledger that knows: so does the next process, and it catches nothing up though the schedule
    // says so.
    site.start()?;
    ensure!(
        site.json("schedules")?["schedules"][0]["paused_at"] == paused["paused_at"],
        "again is as before"
    );
    let asked = site.json("schedules run tick")?;
    ensure!(asked["status"] == "CREATED", "{asked}");
    until("some times pass", PATIENCE, || {
        let now = chrono::Utc::now().timestamp();
        ensure!(now > since + 3, "{now}");
        Ok(())
    })?;
    let before = site.ticks()?;
    ensure!(before.iter().all(|tick| *tick <= since), "{before:?} since {since}");
    let resumed = site.json("schedules resume tick")?;
    ensure!(resumed["paused_at"].is_null() && resumed["next"].is_string(), "{resumed}");
    let first = site.ticks_after(since)?;
    ensure!(first > since + 3, "{first} is made up for, paused since {since}");
    Ok(())
}
