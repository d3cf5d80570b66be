//! The servers themselves: they come up, survive what tests do to them and leave nothing behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tasker_services::{Home, MariaDb, RabbitMq, start_pair, until};

#[test]
fn a_pair_starts() -> anyhow::Result<()> {
    let begin = Instant::now();
    let (rabbitmq, mariadb) = start_pair()?;
    eprintln!(
        "a pair starts in {:.1?}: {} {} {}",
        begin.elapsed(),
        rabbitmq.url(),
        rabbitmq.management_url(),
        mariadb.url()
    );
    Ok(())
}

#[test]
fn mariadb_comes_back() -> anyhow::Result<()> {
    let mut mariadb = MariaDb::start()?;
    mariadb.kill()?;
    mariadb.restart()?;
    mariadb.pause()?;
    mariadb.resume()?;
    mariadb.restart()
}

#[test]
fn rabbitmq_comes_back() -> anyhow::Result<()> {
    let mut rabbitmq = RabbitMq::start()?;
    rabbitmq.kill()?;
    rabbitmq.restart()?;
    rabbitmq.pause()?;
    rabbitmq.resume()?;
    rabbitmq.restart()
}

/// The test starts itself a second time, as the owner that it kills.
#[test]
fn nothing_is_left_when_the_owner_is_killed() -> anyhow::Result<()> {
    const OWNER: &str = "TASKER_TEST_OWNER";
    if std::env::var_os(OWNER).is_some() {
        return own_until_killed();
    }
    let mut owner = Command::new(std::env::current_exe()?)
        .args(["--exact", "nothing_is_left_when_the_owner_is_killed", "--nocapture"])
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(owner.stdout.take().context("no output")?).lines();
    let said = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("owns ").map(str::to_owned))
        .context("the owner started nothing")?;
    let (group, directory) = said.split_once(' ').context("the owner says what it owns")?;
    ensure!(is_running(group), "the process does not run");
    owner.kill()?;
    owner.wait()?;
    until("the guard clears up", Duration::from_secs(20), || {
        ensure!(!is_running(group), "the process still runs");
        ensure!(!Path::new(directory).exists(), "the directory is still there");
        Ok(())
    })
}

fn own_until_killed() -> anyhow::Result<()> {
    let home = Home::new("owner")?;
    let process = home.start("sleep", Command::new("sleep").arg("3600"))?;
    println!("\nowns {} {}", process.id(), home.path().display());
    std::io::stdout().flush()?;
    // Ends with the pipe, should the test die before it kills.
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Whether a process runs; one that nobody has fetched the exit status of does not.
fn is_running(id: &str) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
