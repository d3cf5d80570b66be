//! What the command line says when something is wrong: which value, what was expected, what to do.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use anyhow::ensure;

use crate::support::place::Place;

const CONFIG: &str = "
task_types: [backup, worker, {name: builds, delivery: queue}]
manager: {message_queue: {host: 127.0.0.1, port: 1, username: u, password: p}}
schedules: [{name: nightly, type: backup, cron: '0 3 1 1 *', time_zone: Europe/Berlin}]
";

#[test]
fn names_that_nothing_has_come_back_with_those_there_are() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write("c.yaml", CONFIG)?;
    let up = place.up("--config c.yaml --listen 127.0.0.1:0 --endpoints console1")?;
    let said = |line: &str| place.refused(&format!("{line} --api {}", up.api));
    for (line, text) in [
        (
            "submit wroker",
            r#"unknown task type "wroker" (configured: backup, worker, builds); did you mean worker?"#,
        ),
        ("status worker nope", r#"task "nope" of type worker not found"#),
        ("cancel worker nope", r#"task "nope" of type worker not found"#),
        ("queue pause worker", r#"task type "worker" has no work queue (those that have one: builds)"#),
        ("queue pause biulds", r#"unknown work queue "biulds" (configured: builds); did you mean builds?"#),
        (
            "schedules run nigthly",
            r#"unknown schedule "nigthly" (configured: nightly); did you mean nightly?"#,
        ),
        ("endpoints forget cosnole1", r#"unknown endpoint "cosnole1" (known: "#),
    ] {
        let said = said(line)?;
        ensure!(said.starts_with(&format!("tasker: {text}")), "{line}: {said}");
    }
    for (line, text) in [
        (
            "endpoint -e x -t wroker --config c.yaml",
            "unknown task type \"wroker\" (configured: backup, worker, builds); did you mean worker?",
        ),
        ("token revoke nobody", "unknown token \"nobody\" (there are: none) in "),
    ] {
        let said = place.refused(line)?;
        ensure!(said.contains(text), "{line}: {said}");
    }
    let warned = place.good(&format!("submit worker --endpoints cosnole1 --api {}", up.api))?;
    ensure!(warned.err.contains(r#"tasker: warning: endpoint "cosnole1" was never heard of"#), "{warned:?}");
    Ok(())
}

#[test]
fn payloads_that_cannot_be_sent_are_named() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write("payload.json", "{'a': 1}")?;
    place.write("large.json", &format!("\"{}\"", "x".repeat(2 << 20)))?;
    let up = place.up("--listen 127.0.0.1:0 --endpoints console1")?;
    let line = |more: &str| format!("submit worker {more} --api {}", up.api);
    let fed = place.fed(&line("--payload-file -"), "{")?;
    ensure!(fed.code == Some(1) && fed.err.starts_with("tasker: standard input: not JSON: "), "{fed:?}");
    ensure!(
        place.refused(&line("--payload-file payload.json"))?.starts_with("tasker: payload.json: not JSON: ")
    );
    ensure!(place.refused(&line("--payload {"))?.starts_with("tasker: --payload: not JSON: "));
    ensure!(
        place
            .refused(&line("--payload @payload.json"))?
            .ends_with("; --payload-file reads a file, and - standard input\n")
    );
    ensure!(
        place
            .refused(&line("--payload-file nowhere.json"))?
            .starts_with("tasker: cannot read nowhere.json: ")
    );
    let large = place.refused(&line("--payload-file large.json"))?;
    ensure!(large.contains("bytes (2.0 MiB), the limit is 1MiB (api.body_limit)"), "{large}");
    Ok(())
}

#[test]
fn tips_are_of_what_may_have_been_meant() -> anyhow::Result<()> {
    let place = Place::new()?;
    for (line, flag) in [
        ("rerun first --failed", "--failed"),
        ("submit worker --to web1", "--to"),
        ("submit worker --run-at -5m", "-5"),
    ] {
        let refused = place.refused(line)?;
        ensure!(
            refused.starts_with(&format!("error: unexpected argument '{flag}' found\n"))
                && !refused.contains("tip:"),
            "{refused}"
        );
        ensure!(!refused.contains("--ca-file") && !refused.contains("--token-file"), "{refused}");
    }
    let meant = place.refused("submit worker --paylod 1")?;
    ensure!(meant.contains("a similar argument exists: '--payload'"), "{meant}");
    let pattern = place.refused("submit worker --endpoints web*")?;
    ensure!(pattern.contains("a pattern is a selector: --match 'name=web*'"), "{pattern}");
    let priority = place.refused("submit worker --priority high")?;
    ensure!(priority.contains("expected a whole number, such as 0 or -5"), "{priority}");
    Ok(())
}

#[test]
fn an_empty_identifier_is_wrong_usage() -> anyhow::Result<()> {
    let place = Place::new()?;
    for (line, argument) in [
        ("request show", "<TOKEN>"),
        ("request cancel x", "<TOKEN>..."),
        ("status worker", "<ID>"),
        ("cancel worker x", "[ID]..."),
        ("cancel --identifier", "--identifier <PREFIX>"),
    ] {
        let said = place.command(line).arg("").output()?;
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let wanted = format!("error: a value is required for '{argument}' but none was supplied");
        ensure!(said.status.code() == Some(1) && text.starts_with(&wanted), "{line}: {text}");
    }
    let said = place.command("rollout show").arg("").output()?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(text.starts_with("error: invalid value '' for '<ROLLOUT>'"), "{text}");
    Ok(())
}

#[test]
fn an_api_of_an_older_version_is_told_as_such() -> anyhow::Result<()> {
    let place = Place::new()?;
    for (line, path, problem) in [
        // As 0.1.0 answers: to it, `audit` is a task type like any other.
        (
            "audit list",
            "/audit",
            r#"{"status":404,"code":"unknown_task_type","detail":"there is no task type `audit`"}"#,
        ),
        (
            "audit verify",
            "/audit",
            r#"{"status":404,"code":"unknown_task_type","detail":"unknown task type \"audit\" (configured: worker)","value":"audit"}"#,
        ),
        (
            "rollout show x",
            "/rollouts/x",
            r#"{"status":404,"code":"not_found","detail":"there is nothing at \"/rollouts/x\""}"#,
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let served = std::thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let head = BufReader::new(stream.try_clone()?).lines();
            head.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{problem}",
                problem.len()
            )
        });
        let said = place.refused(&format!("{line} --api {url}"))?;
        let wanted = format!(
            "tasker: the API at {url} does not offer {path} as this program asks for it: it is of an older version, "
        );
        ensure!(said.starts_with(&wanted) && said.contains("docs/upgrade.md"), "{line}: {said}");
        ensure!(served.join().is_ok_and(|served| served.is_ok()), "{line}: it was not asked");
    }
    Ok(())
}

#[test]
fn a_client_of_the_other_scheme_is_told_so_and_fills_no_log() -> anyhow::Result<()> {
    let place = Place::new()?;
    let mut command = place.command("up --listen 127.0.0.1:0 --endpoints console1");
    command.env("RUST_LOG", "info,tasker=debug");
    let up = place.up_by(command)?;
    let secure = up.api.replace("http://", "https://");
    let said = place.refused(&format!("endpoints --api {secure}"))?;
    ensure!(said.contains("does not speak https: use http://"), "{said}");
    tasker_services::until("the log tells of it", std::time::Duration::from_secs(60), || {
        let log = place.log()?;
        ensure!(
            log.contains("a connection ended without a request") && log.contains("peer=127.0.0.1:"),
            "{log}"
        );
        ensure!(!log.contains("ERROR"), "{log}");
        Ok(())
    })
}

#[test]
fn what_is_wrong_with_a_configuration_goes_to_standard_error() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write("c.yaml", "task_types: [worker]\napi: {prot: 1}")?;
    for line in ["config check --config c.yaml", "config show --config c.yaml", "api --config c.yaml"] {
        let said = place.refused(line)?;
        ensure!(
            said.starts_with(
                "tasker: the configuration is not valid: api.prot: unknown key; did you mean `port`?"
            ),
            "{line}: {said}"
        );
    }
    ensure!(
        place
            .refused("config check --config nowhere.yaml")?
            .starts_with("tasker: cannot read the configuration file nowhere.yaml")
    );
    place.write("c.yaml", "task_types: [worker]\nschedules: [{name: s, type: wroker, cron: '0 3 * * *'}]")?;
    let said = place.refused("config check --config c.yaml")?;
    ensure!(
        said.contains(
            r#"schedules[0].type: unknown task type "wroker" (configured: worker); did you mean worker?"#
        ),
        "{said}"
    );
    place.write("c.yaml", "task_types: [worker]")?;
    let good = place.good("config check --config c.yaml")?;
    ensure!(good.out == "ok\n" && good.err.is_empty(), "{good:?}");
    // Programs read one document, good or not.
    let json = place.any("config check --config nowhere.yaml --json")?;
    ensure!(json.code == Some(1) && json.out.contains(r#""ok":false"#), "{json:?}");
    Ok(())
}
