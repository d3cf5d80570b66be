//! The time of day jumps under running processes, and between two lives of a process.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{all_is_accounted_for, load_for};
use crate::support::clock::Shift;
use crate::support::fleet::{Fleet, TYPE};
use crate::support::loader::{Loader, marks};
use crate::support::platform::Platform;

const DAY: i64 = 24 * 3600;

/// The year in the last line of a process's log.
fn year(fleet: &mut Fleet, name: &str) -> anyhow::Result<i32> {
    let log = fleet.process(name)?.log();
    let line = log.lines().last().context("an empty log")?;
    line.get(..4).and_then(|year| year.parse().ok()).with_context(|| line.to_owned())
}

#[test]
fn clocks_jump() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let (api, endpoint) =
        (Shift::new(platform.home(), "api.clock")?, Shift::new(platform.home(), "endpoint.clock")?);
    let mut fleet = Fleet::new(platform)?;
    fleet.start_api("api1", &api.environment)?;
    fleet.start_api("api2", &[])?;
    fleet.start_endpoint("console1", &endpoint.environment)?;
    fleet.start_endpoint("console2", &[])?;
    fleet.ready()?;
    let today = year(&mut fleet, "api1")?;
    let loader = Loader::start(&fleet, 30);
    // Under running processes, and under an API process that starts: it goes by the database's clock.
    for jump in [800 * DAY, -800 * DAY, 0] {
        api.set(jump)?;
        endpoint.set(jump)?;
        load_for(&mut fleet, &loader, 20)?;
        fleet.kill("api1")?;
        load_for(&mut fleet, &loader, 20)?;
        let there = year(&mut fleet, "api1")? - today;
        ensure!(
            jump.signum() == i64::from(there.signum()),
            "api1 is {there} years from here after a jump of {jump} s"
        );
    }
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}

/// What is left of a task when its endpoint ends, and what must have run of it in the end.
struct Left {
    id: String,
    what: &'static str,
    /// By the first life.
    ran: &'static [&'static str],
    /// By all lives.
    run: &'static [&'static str],
    answer: Value,
}

/// The attempts at a task that began, by the handlers' own account.
fn attempts(fleet: &Fleet, id: &str) -> Vec<String> {
    let marked = fs::read_to_string(marks(fleet)).unwrap_or_default();
    marked
        .lines()
        .filter_map(|line| line.strip_prefix(id))
        .filter_map(|rest| rest.rsplit(' ').next().map(str::to_owned))
        .collect()
}

/// An endpoint is killed and starts again when it is another year for it: it loses nothing of what it had,
/// runs nothing twice and lets nothing wait for years.
#[test]
fn an_endpoint_starts_again_in_another_year() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let clock = Shift::new(platform.home(), "clock")?;
    let mut fleet = Fleet::new(platform)?;
    fleet.start_api("api1", &[])?;
    fleet.start_endpoint("console1", &clock.environment)?;
    for jump in [800 * DAY, -800 * DAY] {
        clock.set(0)?;
        fleet.kill("console1")?;
        fleet.ready()?;
        let mut left = Vec::new();
        let again = json!({"do": "retry", "times": 1, "after_ms": 3_600_000});
        let long = json!({"do": "ok", "seconds": 8, "answer": 7});
        for (what, payload, ran, run, answer) in [
            ("waits an hour for its second attempt", again, &["1"][..], &["1", "2"][..], json!(2)),
            ("runs", long.clone(), &["1"], &["1", "2"], json!(7)),
            ("runs", long.clone(), &["1"], &["1", "2"], json!(7)),
            ("runs", long.clone(), &["1"], &["1", "2"], json!(7)),
            ("runs", long.clone(), &["1"], &["1", "2"], json!(7)),
            ("waits for its turn", long, &[], &["1"], json!(7)),
        ] {
            let id = submitted(&fleet, payload)?;
            fleet.until("it is where it should be", |fleet| {
                let (_, body) = fleet.get(&format!("/{TYPE}/{id}"))?;
                ensure!(body["task"]["received"] == 1 && attempts(fleet, &id) == ran, "{body}");
                Ok(())
            })?;
            left.push(Left { id, what, ran, run, answer });
        }
        fleet.kill("console1")?;
        clock.set(jump)?;
        for Left { id, what, ran, run, answer } in left {
            fleet.until("it is done", |fleet| {
                let (_, body) = fleet.get(&format!("/{TYPE}/{id}"))?;
                let response = &body["taskResponseList"][0];
                let done = response["status"] == "FINISHED"
                    && response["errnr"] == 0
                    && response["payload"] == answer;
                ensure!(done && body["task"]["status"] == "DONE", "{jump} s from here, what {what}: {body}");
                Ok(())
            })?;
            let executed = attempts(&fleet, &id);
            ensure!(
                executed == run,
                "{jump} s from here, what {what}, after {ran:?}: it executed {executed:?}"
            );
        }
        let year = year(&mut fleet, "console1")?;
        clock.set(0)?;
        ensure!(
            i64::from(year - self::year(&mut fleet, "api1")?).signum() == jump.signum(),
            "it is {year} for console1"
        );
    }
    let url = fleet.urls().into_iter().next().context("there is no API process")?;
    fleet.platform.tasker(&["verify", "--ended", "--api", &url])?;
    crate::support::oracle::nothing_is_left(&mut fleet)
}

/// Posts a task for the endpoint that marks what it does; answers its id.
fn submitted(fleet: &Fleet, mut payload: Value) -> anyhow::Result<String> {
    payload["mark"] = json!(marks(fleet));
    let url = fleet.urls().into_iter().next().context("there is no API process")?;
    let body = json!({"identifier": uuid::Uuid::new_v4(), "payload": payload, "endpoints": ["console1"]});
    let answer: Value = fleet.platform.block_on(async {
        let request = tasker::https::client().build()?.post(format!("{url}/{TYPE}")).json(&body);
        anyhow::Ok(request.send().await?.error_for_status()?.json().await?)
    })?;
    Ok(answer["id"].as_str().with_context(|| answer.to_string())?.to_owned())
}

/// The database's clock is set under two API processes, forward and back again. Nobody is thought gone for
/// that, so no task is frozen without anybody who must answer.
#[test]
fn the_clock_of_the_database_is_set() -> anyhow::Result<()> {
    let mut platform = Platform::idle_private()?;
    let clock = Shift::new(platform.home(), "database.clock")?;
    platform.servers().1.restart_with(&clock.environment)?;
    let mut fleet = Fleet::usual(platform)?;
    let urls = fleet.urls();
    let mut submitted = Vec::new();
    for (times, jump) in [(1, 300), (2, 0)] {
        clock.set(jump)?;
        let (set, mut noticed) = (Instant::now(), None::<Instant>);
        // Longer than it takes until every endpoint is heard of again.
        while noticed.is_none_or(|noticed| noticed.elapsed() < Duration::from_secs(5)) {
            let url = &urls[submitted.len() % urls.len()];
            let body = json!({"identifier": uuid::Uuid::new_v4(), "payload": {"do": "ok", "seconds": 0}});
            let answer: Value = fleet.platform.block_on(async {
                let request = tasker::https::client().build()?.post(format!("{url}/{TYPE}")).json(&body);
                anyhow::Ok(request.send().await?.error_for_status()?.json().await?)
            })?;
            submitted.push(answer["id"].as_str().with_context(|| answer.to_string())?.to_owned());
            if noticed.is_none() {
                let heard = |name| {
                    anyhow::Ok(
                        fleet.process(name)?.log().matches("the database's clock was set").count() >= times,
                    )
                };
                let all: Vec<bool> =
                    ["api1", "api2"].into_iter().map(heard).collect::<anyhow::Result<_>>()?;
                noticed = all.iter().all(|heard| *heard).then(Instant::now);
                ensure!(
                    noticed.is_some() || set.elapsed() < Duration::from_secs(90),
                    "not every API process noticed a step to {jump} s: {all:?}"
                );
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    for id in &submitted {
        fleet.until("both endpoints have done it", |fleet| {
            let (_, body) = fleet.get(&format!("/{TYPE}/{id}"))?;
            ensure!(body["task"]["status"] == "DONE" && body["task"]["expected"] == 2, "{body}");
            Ok(())
        })?;
    }
    crate::support::oracle::nothing_is_left(&mut fleet)
}

/// The clock of an endpoint's server is set forward and back under the endpoint. It is told, and nothing else
/// comes of it.
#[test]
fn a_clock_that_is_off_is_told() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let clock = Shift::new(platform.home(), "endpoint.clock")?;
    let mut fleet = Fleet::new(platform)?;
    fleet.start_api("api1", &[])?;
    fleet.start_endpoint("console1", &clock.environment)?;
    fleet.ready()?;
    for (shift, trouble) in
        [(0, None), (300, Some("ahead of the database's")), (-300, Some("behind the database's")), (0, None)]
    {
        clock.set(shift)?;
        fleet.until("the offsets are told", |fleet| {
            let (_, page) = fleet.get("/endpoints")?;
            let endpoints = page["endpoints"].as_array().context("a list")?;
            ensure!(endpoints.len() == 1, "{page}");
            for endpoint in endpoints {
                let offset = endpoint["clock_offset_ms"].as_i64().context("it is not known yet")?;
                ensure!((offset - shift * 1000).abs() < 30_000, "{shift}: {page}");
                let told = endpoint["types"][0]["trouble"].as_str();
                ensure!(
                    told.is_some() == trouble.is_some()
                        && told.unwrap_or_default().ends_with(trouble.unwrap_or_default()),
                    "{page}"
                );
            }
            Ok(())
        })?;
    }
    let id = submitted(&fleet, json!({"do": "ok", "seconds": 0}))?;
    fleet.until("it is done", |fleet| {
        let (_, body) = fleet.get(&format!("/{TYPE}/{id}"))?;
        ensure!(body["task"]["status"] == "DONE" && body["task"]["failed"] == 0, "{body}");
        Ok(())
    })
}
