//! What a customer and an operator go through, on the embedded pair and on RabbitMQ with MariaDB, through
//! real processes.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use serde_json::{Value, json};

use crate::support::platform::{PATIENCE, Platform, response_of};

/// Each journey runs on both.
macro_rules! on_both {
    ($($journey:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $journey() -> anyhow::Result<()> { super::$journey(&mut super::Platform::embedded()?) })*
        }
        mod real {
            $(#[test] fn $journey() -> anyhow::Result<()> { super::$journey(&mut super::Platform::real()?) })*
        }
    };
}
on_both!(
    the_test_data_of_the_original_comes_back,
    only_listed_endpoints_perform,
    a_missing_endpoint_is_named,
    a_repeat_is_recognised_and_a_conflict_refused,
    a_cancel_stops_what_runs,
    handlers_fail_in_every_way,
    the_command_line_tells_how_it_went,
);

/// The answer of each endpoint: name, error number, error text, payload.
fn answers(body: &Value) -> Vec<(&str, i64, &str, &Value)> {
    let responses = body["taskResponseList"].as_array().into_iter().flatten();
    let answers = responses.map(|response| {
        let text = |name: &str| response[name].as_str().unwrap_or_default();
        (text("endpoint"), response["errnr"].as_i64().unwrap_or(-1), text("errmsg"), &response["payload"])
    });
    answers.collect()
}

fn the_test_data_of_the_original_comes_back(platform: &mut Platform) -> anyhow::Result<()> {
    let submission = json!({
        "identifier": "e7bd91d0-16ad-11e2-892e-0800200c9a66",
        "payload": {"foo": "bar"},
        "endpoints": ["console1", "console2"],
    });
    for path in ["/worker", "/backup"] {
        let (status, task) = platform.post(path, &submission)?;
        ensure!(status == 201, "{status}: {task}");
        for (member, value) in [
            ("identifier", &submission["identifier"]),
            ("type", &json!(path[1..])),
            ("status", &json!("CREATED")),
        ] {
            ensure!(task[member] == *value, "{member}: {task}");
        }
        ensure!(
            task["payload"] == json!({"foo": "bar"}) && task["endpoints"] == json!(["console1", "console2"]),
            "{task}"
        );
    }
    // The original's samples: 5 s and 20 s.
    let body = platform.task("backup", "e7bd91d0-16ad-11e2-892e-0800200c9a66", "DONE")?;
    let failed = |name| (name, 32, "could not backup!");
    let seen: Vec<_> =
        answers(&body).iter().map(|(name, errnr, errmsg, _)| (*name, *errnr, *errmsg)).collect();
    ensure!(seen == [failed("console1"), failed("console2")], "{body}");
    ensure!(body["task"]["failed"] == 2, "{body}");

    let body = platform.task("worker", "e7bd91d0-16ad-11e2-892e-0800200c9a66", "DONE")?;
    let answers = answers(&body);
    ensure!(
        answers.len() == 2 && answers.iter().all(|(_, errnr, _, payload)| *errnr == 0 && payload.is_object()),
        "{body}"
    );
    Ok(())
}

fn only_listed_endpoints_perform(platform: &mut Platform) -> anyhow::Result<()> {
    let listed = platform.submit("steered", json!({"do": "ok"}), &["console2"])?;
    let body = platform.task("steered", &listed, "DONE")?;
    ensure!(answers(&body).iter().map(|answer| answer.0).eq(["console2"]), "{body}");

    let all = platform.submit("steered", json!({"do": "ok"}), &[])?;
    let body = platform.task("steered", &all, "DONE")?;
    ensure!(answers(&body).iter().map(|answer| answer.0).eq(["console1", "console2"]), "{body}");
    Ok(())
}

fn a_missing_endpoint_is_named(platform: &mut Platform) -> anyhow::Result<()> {
    let identifier = platform.submit("steered", json!({"do": "ok"}), &["console1", "nowhere"])?;
    let body = platform.task("steered", &identifier, "INCOMPLETE")?;
    ensure!(body["task"]["missing"] == json!(["nowhere"]), "{body}");
    ensure!(body["task"]["expected"] == 2 && body["task"]["received"] == 1, "{body}");
    let response = response_of(&body, "nowhere").map(|response| response["status"].clone());
    ensure!(response == Some(json!("EXPECTED")), "{body}");
    Ok(())
}

fn a_repeat_is_recognised_and_a_conflict_refused(platform: &mut Platform) -> anyhow::Result<()> {
    let body = json!({"identifier": "again", "payload": {"do": "ok", "n": 1}});
    let (status, first) = platform.post("/steered", &body)?;
    ensure!(status == 201, "{first}");
    platform.task("steered", "again", "DONE")?;
    // The order of members does not matter, what they say does.
    let (status, second) =
        platform.post("/steered", &json!({"payload": {"n": 1, "do": "ok"}, "identifier": "again"}))?;
    ensure!(status == 200 && second["id"] == first["id"] && second["status"] == "DONE", "{status}: {second}");
    let (status, third) =
        platform.post("/steered", &json!({"identifier": "again", "payload": {"do": "ok", "n": 2}}))?;
    ensure!(status == 409 && third["existing_id"] == first["id"], "{status}: {third}");
    Ok(())
}

fn a_cancel_stops_what_runs(platform: &mut Platform) -> anyhow::Result<()> {
    let identifier = platform.submit("steered", json!({"do": "hang"}), &["console1", "nowhere"])?;
    platform.response("steered", &identifier, "console1", "CREATED")?;
    let (status, task) = platform.delete(&format!("/steered/{identifier}"))?;
    ensure!(status == 200 && task["status"] == "CANCELED", "{status}: {task}");
    platform.response("steered", &identifier, "nowhere", "CANCELED")?;
    platform.response("steered", &identifier, "console1", "CANCELED")?;
    let (status, task) = platform.delete(&format!("/steered/{identifier}"))?;
    ensure!(status == 200 && task["status"] == "CANCELED", "a repeat: {status}: {task}");
    let done = platform.submit("steered", json!({"do": "ok"}), &["console1"])?;
    platform.task("steered", &done, "DONE")?;
    let (status, problem) = platform.delete(&format!("/steered/{done}"))?;
    ensure!(status == 409 && problem["code"] == "already_ended", "{status}: {problem}");
    Ok(())
}

fn handlers_fail_in_every_way(platform: &mut Platform) -> anyhow::Result<()> {
    let outcome = |payload: Value| -> anyhow::Result<Value> {
        let identifier = platform.submit("steered", payload, &["console1"])?;
        let body = platform.task("steered", &identifier, "DONE")?;
        Ok(response_of(&body, "console1").cloned().unwrap_or_default())
    };
    let panicked = outcome(json!({"do": "panic"}))?;
    ensure!(panicked["errnr"] == 70, "{panicked}");
    let failed = outcome(json!({"do": "fail", "errnr": 9}))?;
    ensure!(failed["errnr"] == 9 && failed["attempt"] == 1, "{failed}");
    let retried = outcome(json!({"do": "retry", "times": 2}))?;
    ensure!(retried["errnr"] == 0 && retried["attempt"] == 3, "{retried}");
    ensure!(retried["attempts"].as_array().is_some_and(|attempts| attempts.len() == 2), "{retried}");
    let spent = outcome(json!({"do": "retry", "times": 9}))?;
    ensure!(spent["errnr"] == 75 && spent["attempt"] == 3, "{spent}");
    Ok(())
}

fn the_command_line_tells_how_it_went(platform: &mut Platform) -> anyhow::Result<()> {
    let cases: [(&[&str], i32); 4] = [
        (&["submit", "steered", "--payload", r#"{"do":"ok"}"#, "--wait", "60s"], 0),
        (&["submit", "steered", "--payload", r#"{"do":"fail"}"#, "--wait", "60s"], 2),
        (&["submit", "steered", "--payload", r#"{"do":"ok"}"#, "-e", "console1,nowhere", "--wait", "60s"], 3),
        (
            &[
                "submit", "steered", "--identifier", "hangs", "--payload", r#"{"do":"hang"}"#, "-e",
                "console1", "--wait", "1s",
            ],
            124,
        ),
    ];
    for (arguments, code) in cases {
        let output = platform.tasker_any(arguments)?;
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(code), "{arguments:?} ends with {}: {said}", output.status);
    }
    let listed = platform.tasker(&["list", "steered", "--json"])?;
    let page: Value = serde_json::from_slice(&listed.stdout)?;
    ensure!(page["tasks"].as_array().is_some_and(|tasks| tasks.len() == 4), "{page}");
    platform.until("the endpoint has said that it runs", |platform| {
        let (_, explained) = platform.get("/steered/hangs/explain?endpoint=console1")?;
        ensure!(explained["reasons"][0]["code"] == "running", "{explained}");
        Ok(())
    })?;
    let verified = platform.tasker(&["verify"])?;
    let table = String::from_utf8(verified.stdout)?;
    let row = table.lines().find(|line| line.starts_with("steered")).unwrap_or_default();
    ensure!(row.split_whitespace().eq(["steered", "4", "4", "0", "7", "2", "6", "0", "0"]), "{table}");
    ensure!(table.ends_with("all that was accepted is accounted for, nothing was run twice\n"), "{table}");
    let open = platform.tasker_any(&["verify", "steered", "--ended"])?;
    ensure!(open.status.code() == Some(2), "responses are open: {}", open.status);
    Ok(())
}

#[test]
fn data_survives_a_restart_and_who_was_away_catches_up() -> anyhow::Result<()> {
    let mut platform = Platform::embedded()?;
    let identifier = platform.submit("steered", json!({"do": "ok"}), &["console1", "console3"])?;
    platform.task("steered", &identifier, "INCOMPLETE")?;
    platform.process("up").stop(PATIENCE)?;
    platform.start_up("console2,console3")?;
    let body = platform.task("steered", &identifier, "DONE")?;
    ensure!(body["task"]["missing"] == json!([]) && body["task"]["finished"] == 2, "{body}");
    Ok(())
}

#[test]
fn an_endpoint_that_was_away_catches_up() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    platform.process("console2-backup").stop(PATIENCE)?;
    let identifier = platform.submit("steered", json!({"do": "ok"}), &["console1", "console2"])?;
    let body = platform.task("steered", &identifier, "INCOMPLETE")?;
    ensure!(body["task"]["missing"] == json!(["console2"]), "{body}");
    // Whoever has left is not expected for a task without a list.
    let without = platform.submit("steered", json!({"do": "ok"}), &[])?;
    let body = platform.task("steered", &without, "DONE")?;
    ensure!(body["task"]["expected"] == 1, "{body}");

    platform.start_endpoint("console2", &["backup", "steered"])?;
    platform.task("steered", &identifier, "DONE")?;
    let body = platform.task("steered", &without, "DONE")?;
    ensure!(response_of(&body, "console2").is_none(), "it performed a task it was not expected for: {body}");
    Ok(())
}

#[test]
fn what_a_crash_interrupts_is_another_attempt() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    let identifier = platform.submit("worker", json!({"seconds": 3}), &["console1"])?;
    platform.response("worker", &identifier, "console1", "CREATED")?;
    platform.process("console1-worker").kill()?;
    platform.start_endpoint("console1", &["worker"])?;
    let body = platform.task("worker", &identifier, "DONE")?;
    let response = response_of(&body, "console1").cloned().unwrap_or_default();
    ensure!(
        response["errnr"] == 0 && response["attempt"] == 2 && response["attempts"][0]["errnr"] == 71,
        "{response}"
    );
    Ok(())
}

#[test]
fn a_stopping_endpoint_finishes_what_runs() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    let identifier = platform.submit("worker", json!({"seconds": 2}), &["console1"])?;
    platform.response("worker", &identifier, "console1", "CREATED")?;
    platform.process("console1-worker").stop(PATIENCE)?;
    let body = platform.task("worker", &identifier, "DONE")?;
    ensure!(response_of(&body, "console1").is_some_and(|response| response["attempt"] == 1), "{body}");
    Ok(())
}

#[test]
fn broker_and_database_may_go_and_come() -> anyhow::Result<()> {
    let mut platform = Platform::private()?;
    platform.servers().0.kill()?;
    platform.until("the API says that the broker is away", |platform| {
        let (status, body) = platform.get("/ready")?;
        ensure!(status == 503 && body["broker"] != "ok" && body["database"] == "ok", "{status}: {body}");
        Ok(())
    })?;
    let identifier = platform.submit("steered", json!({"do": "ok"}), &[])?;
    platform.servers().0.restart()?;
    let body = platform.task("steered", &identifier, "DONE")?;
    ensure!(body["task"]["finished"] == 2, "{body}");

    platform.servers().1.kill()?;
    platform.until("the API says that the database is away", |platform| {
        let (status, body) = platform.get("/ready")?;
        ensure!(status == 503 && body["database"] != "ok" && body["broker"] == "ok", "{status}: {body}");
        Ok(())
    })?;
    let (status, problem) = platform.post("/steered", &json!({"identifier": "lost", "payload": {}}))?;
    ensure!(status == 503 && problem["code"] == "database_unavailable", "{status}: {problem}");
    platform.servers().1.restart()?;
    platform.until("the API is ready", |platform| {
        ensure!(platform.get("/ready")?.0 == 200);
        Ok(())
    })?;
    let identifier = platform.submit("steered", json!({"do": "ok"}), &["console1", "console2"])?;
    platform.task("steered", &identifier, "DONE")?;
    Ok(())
}

#[test]
fn processes_wait_for_broker_and_database_at_the_start() -> anyhow::Result<()> {
    let mut platform = Platform::idle_private()?;
    // In order, since RabbitMQ writes what was set up to its disk a little later.
    platform.servers().0.stop()?;
    platform.servers().1.kill()?;
    for name in ["console1", "console2"] {
        platform.start_endpoint(name, &["backup", "steered"])?;
    }
    platform.spawn_api()?;
    platform.until("the API answers without either", |platform| {
        let (status, body) = platform.get("/ready")?;
        ensure!(status == 503 && body["broker"] != "ok" && body["database"] != "ok", "{status}: {body}");
        ensure!(platform.get("/heartbeat")?.0 == 200);
        Ok(())
    })?;
    let (rabbitmq, mariadb) = platform.servers();
    std::thread::scope(|scope| {
        let broker = scope.spawn(|| rabbitmq.restart());
        mariadb.restart()?;
        broker.join().map_err(|_| anyhow!("the thread that starts RabbitMQ panicked"))?
    })?;
    for name in ["console1", "console2"] {
        platform.subscribed(name, &["steered"])?;
    }
    let identifier = platform.submit("steered", json!({"do": "ok"}), &["console1", "console2"])?;
    platform.task("steered", &identifier, "DONE")?;
    Ok(())
}

#[test]
fn a_second_process_of_the_same_name_takes_over_when_the_first_goes() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    let mut first = platform.take("console1-backup");
    platform.start_endpoint_in("elsewhere", "console1", &["backup", "steered"])?;
    let together = platform.submit("steered", json!({"do": "ok"}), &["console1"])?;
    let body = platform.task("steered", &together, "DONE")?;
    ensure!(answers(&body).len() == 1, "{body}");
    first.stop(Duration::from_secs(30))?;
    let after = platform.submit("steered", json!({"do": "ok"}), &["console1"])?;
    platform.task("steered", &after, "DONE")?;
    Ok(())
}

#[test]
fn who_vanishes_is_shown_and_told_of_the_cancel_when_it_returns() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    let identifier = platform.submit("steered", json!({"do": "hang"}), &["console1"])?;
    platform.response("steered", &identifier, "console1", "CREATED")?;
    platform.process("console1-backup").kill()?;
    platform.until("console1 is shown as vanished", |platform| {
        let (_, body) = platform.get(&format!("/steered/{identifier}"))?;
        ensure!(
            response_of(&body, "console1").is_some_and(|response| response["vanished"] == true),
            "{body}"
        );
        Ok(())
    })?;
    let shown = platform.tasker_any(&["status", "steered", &identifier, "--all"])?;
    ensure!(String::from_utf8_lossy(&shown.stdout).contains("console1  vanished"), "{shown:?}");
    // Nobody is there to hear of it.
    let (status, task) = platform.delete(&format!("/steered/{identifier}"))?;
    ensure!(status == 200 && task["status"] == "CANCELED", "{status}: {task}");
    platform.start_endpoint("console1", &["backup", "steered"])?;
    let response = platform.response("steered", &identifier, "console1", "CANCELED")?;
    ensure!(response["vanished"] == false, "{response}");
    platform.tasker(&["verify", "--ended"])?;
    Ok(())
}

#[test]
fn what_was_received_is_lost_with_the_journal_and_not_run_again() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    let identifier = platform.submit("steered", json!({"do": "ok", "seconds": 600.0}), &["console1"])?;
    platform.response("steered", &identifier, "console1", "CREATED")?;
    platform.process("console1-backup").kill()?;
    let meanwhile = platform.submit("steered", json!({"do": "ok"}), &["console1"])?;
    // The same name with an empty disk: let in once the first has been silent for long enough.
    platform.start_endpoint_in("new-disk", "console1", &["backup", "steered"])?;
    let body = platform.task("steered", &identifier, "DONE")?;
    let response = response_of(&body, "console1").cloned().unwrap_or_default();
    ensure!(
        response["errnr"] == 69 && response["errmsg"].as_str().is_some_and(|text| text.starts_with("lost")),
        "{response}"
    );
    // What the first had not received is performed as ever.
    let body = platform.task("steered", &meanwhile, "DONE")?;
    ensure!(answers(&body).iter().all(|(_, errnr, ..)| *errnr == 0), "{body}");
    platform.tasker(&["verify", "--ended"])?;
    Ok(())
}
