//! `docs/backup.md`, rehearsed: its commands back a running platform up and restore it, and what it promises
//! of tasks holds.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_services::{Home, Port};

use crate::support::page::{Reader, blocks};
use crate::support::platform::{PATIENCE, Platform};

/// How one of the two databases is handled.
trait Kind {
    /// The first words of its commands on the page.
    const COMMANDS: [&'static str; 2];
    /// Lets the reader's commands reach the database of the platform.
    fn prepare(platform: &mut Platform, reader: &mut Reader) -> anyhow::Result<()>;
    /// Starts everything, with console1 or without it.
    fn start(platform: &mut Platform, console1: bool) -> anyhow::Result<()>;
    /// Ends what `start` started.
    fn stop(platform: &mut Platform) -> anyhow::Result<()>;
    /// Restores while only that is stopped which the page says.
    fn restore(platform: &mut Platform, reader: &Reader, command: &str) -> anyhow::Result<()>;
}

struct MariaDb;

impl Kind for MariaDb {
    const COMMANDS: [&'static str; 2] = ["mariadb-dump ", "mariadb "];

    fn prepare(platform: &mut Platform, reader: &mut Reader) -> anyhow::Result<()> {
        reader.administers(platform.servers().1)
    }

    fn start(platform: &mut Platform, console1: bool) -> anyhow::Result<()> {
        platform.start_api()?;
        for name in ["console1", "console2"].into_iter().skip(usize::from(!console1)) {
            platform.start_endpoint(name, &["steered"])?;
            platform.subscribed(name, &["steered"])?;
        }
        Ok(())
    }

    fn stop(platform: &mut Platform) -> anyhow::Result<()> {
        for name in ["api", "console1-steered", "console2-steered"] {
            if platform.has(name) {
                platform.take(name).stop(PATIENCE)?;
            }
        }
        Ok(())
    }

    fn restore(platform: &mut Platform, reader: &Reader, command: &str) -> anyhow::Result<()> {
        platform.take("api").stop(PATIENCE)?;
        reader.runs(command)?;
        platform.start_api()
    }
}

struct Sqlite;

impl Kind for Sqlite {
    const COMMANDS: [&'static str; 2] = ["sqlite3 ", "rm -f /var/lib/tasker/tasker.db "];

    fn prepare(platform: &mut Platform, reader: &mut Reader) -> anyhow::Result<()> {
        reader.replace("/var/lib/tasker/", format!("{}/", platform.home().join("data").display()));
        Ok(())
    }

    fn start(platform: &mut Platform, console1: bool) -> anyhow::Result<()> {
        platform.start_up(if console1 { "console1,console2" } else { "console2" })
    }

    fn stop(platform: &mut Platform) -> anyhow::Result<()> {
        platform.take("up").stop(PATIENCE)
    }

    fn restore(platform: &mut Platform, reader: &Reader, command: &str) -> anyhow::Result<()> {
        Self::stop(platform)?;
        reader.runs(command)?;
        Self::start(platform, true)
    }
}

#[test]
fn a_restored_mariadb_runs_nothing_twice_that_it_knows() -> anyhow::Result<()> {
    rehearse::<MariaDb>(Platform::idle_private()?)
}

#[test]
fn a_restored_sqlite_runs_nothing_twice_that_it_knows() -> anyhow::Result<()> {
    let mut platform = Platform::embedded()?;
    Sqlite::stop(&mut platform)?;
    rehearse::<Sqlite>(platform)
}

/// What makes the directory of the copies, which only its owner reads.
const DIRECTORY: &str = "install -d -m 700";

fn rehearse<K: Kind>(mut platform: Platform) -> anyhow::Result<()> {
    let mut reader = Reader::new(platform.home())?;
    let backups = platform.home().join("backups");
    fs::create_dir(&backups)?;
    reader.replace("/var/backups/", format!("{}/", backups.display()));
    K::prepare(&mut platform, &mut reader)?;
    reader.runs(&command(DIRECTORY)?)?;
    let [backup, restore] = K::COMMANDS.map(command);
    let (backup, restore) = (backup?, restore?);

    // One task has ended before the backup, one is open then, and one comes after it.
    K::start(&mut platform, true)?;
    let both = ["console1", "console2"];
    submit(&platform, "ended", &both)?;
    platform.task("steered", "ended", "DONE")?;
    K::stop(&mut platform)?;
    K::start(&mut platform, false)?;
    submit(&platform, "open", &both)?;
    platform.response("steered", "open", "console2", "FINISHED")?;
    reader.runs(&backup)?;
    K::stop(&mut platform)?;
    K::start(&mut platform, true)?;
    platform.task("steered", "open", "DONE")?;
    submit(&platform, "later", &both)?;
    platform.task("steered", "later", "DONE")?;
    for name in ["ended", "open", "later"] {
        runs(&platform, name, &[("console1", 1), ("console2", 1)])?;
    }

    K::restore(&mut platform, &reader, &restore)?;
    let (status, there) = platform.get("/steered/ended")?;
    ensure!(status == 200 && there["task"]["status"] == "DONE", "{status}: {there}");
    platform.task("steered", "open", "DONE")?;
    let (status, answer) = platform.get("/steered/later")?;
    ensure!(status == 404, "{status}: {answer}");
    for name in ["ended", "open"] {
        runs(&platform, name, &[("console1", 1), ("console2", 1)])?;
    }
    submit(&platform, "later", &both)?;
    platform.task("steered", "later", "DONE")?;
    runs(&platform, "later", &[("console1", 2), ("console2", 2)])?;
    platform.tasker(&["verify"]).map(drop)
}

#[test]
fn a_restored_queue_is_performed_from_the_journal_or_again() -> anyhow::Result<()> {
    let (home, port) = (Home::new("backup")?, Port::free()?);
    home.write(
        "config.yaml",
        "task_types: [{name: steered, delivery: queue}]\nendpoint: {presence_interval: 1s}",
    )?;
    let mut reader = Reader::new(&home)?;
    reader.replace("/var/lib/tasker/", format!("{}/", home.join("data").display()));
    reader.replace("/var/backups/", format!("{}/", home.path().display()));
    let url = format!("http://127.0.0.1:{}", port.number());
    reader.set("TASKER_API_URL", &url);
    let start = || {
        let mut up = Command::new(env!("CARGO_BIN_EXE_tasker"));
        up.args(["up", "--endpoints", "", "--data-dir"])
            .arg(home.join("data"))
            .arg("--config")
            .arg(home.join("config.yaml"));
        let mut up = home.start("up", up.arg("--listen").arg(url.trim_start_matches("http://")))?;
        up.ready(PATIENCE, || reader.runs("curl -fsS $TASKER_API_URL/ready"))?;
        Ok::<_, anyhow::Error>(up)
    };
    let payload = json!({"do": "ok", "mark": home.join("mark")});
    let submit = format!("tasker submit steered --identifier waits --payload '{payload}'");
    let resume = "tasker queue resume steered && tasker status steered waits --wait 1m";
    let ran = || Ok::<_, anyhow::Error>(fs::read_to_string(home.join("mark"))?.lines().count());

    let mut up = start()?;
    reader.runs(&format!("tasker queue pause steered && {submit}"))?;
    reader.runs(&command(DIRECTORY)?)?;
    reader.runs(&command(Sqlite::COMMANDS[0])?)?;
    reader.runs(resume)?;
    up.stop(PATIENCE)?;
    ensure!(ran()? == 1, "it ran {} times", ran()?);

    let restore = command(Sqlite::COMMANDS[1])?;
    reader.runs(&restore)?;
    let mut up = start()?;
    // It is paused, as it was.
    reader.runs(resume)?;
    up.stop(PATIENCE)?;
    ensure!(ran()? == 1, "the worker that has performed it ran it again: {}", ran()?);

    reader.runs(&restore)?;
    fs::remove_dir_all(home.join("data/endpoints/worker1"))?;
    let mut up = start()?;
    reader.runs(resume)?;
    up.stop(PATIENCE)?;
    ensure!(ran()? == 2, "another worker did not run it: {}", ran()?);
    Ok(())
}

/// The block of the page that begins like this.
fn command(words: &str) -> anyhow::Result<String> {
    let found = blocks("docs/backup.md")?.into_iter().find(|block| block.starts_with(words));
    found.with_context(|| format!("docs/backup.md has no command `{words}`"))
}

fn mark(platform: &Platform, name: &str) -> PathBuf {
    platform.home().join(&format!("{name}.mark"))
}

fn submit(platform: &Platform, name: &str, endpoints: &[&str]) -> anyhow::Result<()> {
    let payload: Value = json!({"do": "ok", "mark": mark(platform, name)});
    let (status, answer) = platform
        .post("/steered", &json!({"identifier": name, "payload": payload, "endpoints": endpoints}))?;
    ensure!(status == 201, "{status}: {answer}");
    Ok(())
}

/// How often each endpoint really ran a task.
fn runs(platform: &Platform, name: &str, expected: &[(&str, usize)]) -> anyhow::Result<()> {
    let lines = fs::read_to_string(mark(platform, name)).with_context(|| name.to_owned())?;
    for (endpoint, times) in expected {
        let ran = lines.lines().filter(|line| line.split(' ').nth(1) == Some(endpoint)).count();
        ensure!(ran == *times, "{endpoint} ran {name} {ran} times, not {times}:\n{lines}");
    }
    Ok(())
}
