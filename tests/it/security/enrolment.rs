//! How a server gets its user, gets another one, and loses it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::rig::{Server, endpoint, message_queue, start_api};
use crate::support::management;
use crate::support::platform::{PATIENCE, Platform, response_of};
use tasker::broker::account::user_name;
use tasker::enrolment::Invitation;

/// Runs a command of the program that must fail, and say so.
fn refused(platform: &Platform, arguments: &[&str], says: &str) -> anyhow::Result<()> {
    let output = platform.tasker_any(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains(says), "{}: {said}", output.status);
    Ok(())
}

#[test]
fn an_invitation_is_for_one_endpoint_once() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let _api = start_api(&platform, "enforce")?;
    let server = Server::enrolled(&platform, "ep1")?;
    let identity = server.path(&server.identity());
    ensure!(
        std::fs::metadata(&identity)?.permissions().mode() & 0o7777 == 0o600,
        "others can read {identity}"
    );

    // A second use, and an invitation that never was.
    let used = server.path(&server.invitation());
    let enroll = |name: &str, invitation: &str, says: &str| {
        let elsewhere = server.path("elsewhere.json");
        refused(
            &platform,
            &["endpoint", "enroll", name, "--invitation", invitation, "--identity", &elsewhere],
            says,
        )?;
        ensure!(!std::path::Path::new(&elsewhere).exists(), "something was written");
        anyhow::Ok(())
    };
    enroll("ep1", &used, "there is no such invitation")?;
    let (_, unknown) = Invitation::new()?;
    platform.home().write("unknown.invitation", unknown.reveal())?;
    enroll("ep1", &server.path("unknown.invitation"), "there is no such invitation")?;
    platform.home().write("nonsense.invitation", "nonsense")?;
    refused(
        &platform,
        &[
            "endpoint",
            "enroll",
            "ep1",
            "--invitation",
            &server.path("nonsense.invitation"),
            "--identity",
            "x.json",
        ],
        "expected an invitation",
    )?;

    // Another name; its own then still has it.
    server.invite()?;
    enroll("ep2", &used, "the invitation is not for ep2")?;
    server.enroll()?;

    // What the ledger and the API see of it does not open it.
    let ticket = Invitation::parse(&server.invite()?)?.ticket()?;
    let (status, answer) = platform.post("/endpoints/ep1/enrolment", &json!({ "ticket": ticket }))?;
    ensure!(status == 200 && !answer.to_string().contains("password"), "{status}: {answer}");
    let (status, answer) = platform.post("/endpoints/ep1/enrolment", &json!({ "ticket": ticket }))?;
    ensure!(status == 410 && answer["code"] == "invitation_over", "{status}: {answer}");

    // Its time is over.
    let printed = platform.tasker(&["endpoint", "invite", "ep1", "-t", "worker", "--expires", "1ms"])?;
    platform.home().write("late.invitation", &String::from_utf8(printed.stdout)?)?;
    server.count_invitation();
    enroll("ep1", &server.path("late.invitation"), "there is no such invitation")?;

    // Not where others can use it up on the way.
    refused(
        &platform,
        &[
            "endpoint", "enroll", "ep1", "--api", "http://192.0.2.1:8888", "--invitation", &used,
            "--identity", "x.json",
        ],
        "https://",
    )
}

#[test]
fn an_endpoint_changes_its_user_without_an_outage_and_is_cut_off_when_revoked() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let _api = start_api(&platform, "enforce")?;
    let server = Server::enrolled(&platform, "ep1")?;
    let other = Server::enrolled(&platform, "ep2")?;
    let (mut process, _other) = (server.start()?, other.start()?);
    let queue = message_queue(&platform)?;
    let exists = |generation| {
        let user = user_name(&queue, &endpoint("ep1"), generation);
        platform.block_on(management::exists(&["users", &user]))
    };

    // Rotation: the running process keeps its user, and the new one takes over with a restart.
    server.invite()?;
    refused(&platform, &["endpoint", "revoke", "ep1", "--old"], "has not fetched its newest user yet")?;
    let before = platform.submit("worker", json!({"seconds": 0.1}), &[])?;
    platform.task("worker", &before, "DONE")?;
    server.enroll()?;
    process.stop(PATIENCE)?;
    let process = server.start()?;
    ensure!(exists(1) && exists(2), "both users are there until the old one is deleted");
    platform.tasker(&["endpoint", "revoke", "ep1", "--old"])?;
    ensure!(!exists(1) && exists(2), "the old user is deleted");
    let after = platform.submit("worker", json!({"seconds": 0.1}), &[])?;
    let body = platform.task("worker", &after, "DONE")?;
    ensure!(response_of(&body, "ep1").is_some(), "{body}");

    // The list tells who comes in as whom.
    let listed = platform.tasker(&["endpoint", "list", "--json"])?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let generations: Vec<_> =
        listed.as_array().context("a list")?.iter().map(|one| &one["generation"]).collect();
    ensure!(generations == [&json!(2), &json!(1)], "{listed}");
    let unproven = platform.tasker(&["endpoint", "list", "--unproven", "--json"])?;
    ensure!(unproven.stdout.starts_with(b"[]"), "{}", String::from_utf8_lossy(&unproven.stdout));

    // Revoked, it is cut off at once, whoever holds its user.
    let stolen = platform.block_on(server.steal())?;
    platform.tasker(&["endpoint", "revoke", "ep1"])?;
    platform.until("the stolen connection is closed", |_| {
        ensure!(!stolen.status().connected(), "it is open");
        Ok(())
    })?;
    ensure!(platform.block_on(server.steal()).is_err(), "the user is still let in");
    for queue_name in ["it.worker.ep1", "it.control.worker.ep1"] {
        let path = ["queues", &queue.virtual_host, queue_name];
        ensure!(!platform.block_on(management::exists(&path)), "{queue_name} is there");
    }
    let alone = platform.submit("worker", json!({"seconds": 0.1}), &[])?;
    let body = platform.task("worker", &alone, "DONE").with_context(|| process.log())?;
    ensure!(response_of(&body, "ep1").is_none() && response_of(&body, "ep2").is_some(), "{body}");
    Ok(())
}

/// Runs commands of the program at the same time.
fn at_once(platform: &Platform, commands: &[&[&str]]) -> anyhow::Result<Vec<Output>> {
    let config = platform.home().join("config.yaml");
    let start = |arguments: &&[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tasker"))
            .args(*arguments)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let children = commands.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    Ok(children.into_iter().map(Child::wait_with_output).collect::<Result<_, _>>()?)
}

#[test]
fn of_those_who_invite_and_revoke_at_the_same_time_each_is_told_what_counts() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let _api = start_api(&platform, "enforce")?;
    let server = Server::enrolled(&platform, "ep1")?;
    let queue = message_queue(&platform)?;
    let invite: &[&str] = &["endpoint", "invite", "ep1", "-t", "worker", "-t", "steered"];
    let revoke: &[&str] = &["endpoint", "revoke", "ep1"];
    for commands in [[invite, invite, invite], [invite, revoke, invite]].repeat(3) {
        let outputs = at_once(&platform, &commands)?;
        let mut working = 0;
        for (command, output) in commands.iter().zip(&outputs) {
            let (out, said) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            ensure!(output.status.success() || said.contains("at the same time"), "{command:?}: {said}");
            if *command == invite && output.status.success() {
                platform.home().write(&server.invitation(), &out)?;
                if server.enroll().is_ok() {
                    platform.block_on(server.steal()).context("an invitation that counts has a user")?;
                    working += 1;
                }
            }
        }
        // The ledger and the broker agree: the newest user is there unless it was revoked.
        let listed = platform.tasker(&["endpoint", "list", "--json"])?;
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let newest = listed[0]["generation"].as_u64().context("a number")?;
        while u64::from(server.invitations()) < newest {
            server.count_invitation();
        }
        let user = user_name(&queue, &endpoint("ep1"), u32::try_from(newest)?);
        let exists = platform.block_on(management::exists(&["users", &user]));
        let is_revoked = !listed[0]["revoked_at"].is_null();
        ensure!(exists != is_revoked, "{listed}: the user of number {newest} exists: {exists}");
        ensure!(working == u32::from(exists), "{working} invitations work: {listed}");
    }
    Ok(())
}

#[test]
fn an_endpoint_performs_what_it_was_invited_for() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let _api = start_api(&platform, "enforce")?;
    let server = Server::enrolled(&platform, "ep1")?;
    let mut process = server.start()?;
    let virtual_host = message_queue(&platform)?.virtual_host;
    let queues = |task_type: &str| {
        [format!("it.{task_type}.ep1"), format!("it.control.{task_type}.ep1")]
            .into_iter()
            .filter(|queue| platform.block_on(management::exists(&["queues", &virtual_host, queue])))
            .count()
    };
    ensure!((queues("worker"), queues("steered")) == (2, 2), "both have queues");

    // Invited for less: what the old user could do ends with it.
    server.invite_for(&["worker"])?;
    server.enroll()?;
    let before = platform.submit("steered", json!({"do": "ok"}), &["ep1"])?;
    platform.task("steered", &before, "DONE").context("the running process keeps its user")?;
    process.stop(PATIENCE)?;
    platform.tasker(&["endpoint", "revoke", "ep1", "--old"])?;
    ensure!((queues("worker"), queues("steered")) == (2, 0), "the queues of the old user are gone");

    // It still says that it performs both.
    let identity = server.path(&server.identity());
    let arguments = ["endpoint", "-e", "ep1", "-t", "worker", "-t", "steered", "--identity", &identity];
    let process = platform.launch("ep1", &arguments.map(str::to_owned), &[])?;
    platform.subscribed("ep1", &["worker"]).with_context(|| process.log())?;
    platform.until("it is told", |platform| {
        let listed = platform.tasker(&["endpoint", "list", "--json"])?;
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        ensure!(listed[0]["uninvited"] == json!(["steered"]), "{listed}");
        Ok(())
    })?;
    let (_, page) = platform.get("/endpoints")?;
    let types = page["endpoints"][0]["types"].as_array().context("types")?;
    let steered = types.iter().find(|one| one["type"] == "steered").context("it is known for steered")?;
    let trouble = steered["trouble"].as_str().unwrap_or_default();
    ensure!(steered["subscribed"] == false && trouble.starts_with("not_invited: "), "{page}");
    let all = platform.submit("steered", json!({"do": "ok"}), &[])?;
    let (_, body) = platform.get(&format!("/steered/{all}"))?;
    ensure!(response_of(&body, "ep1").is_none(), "{body}");
    ensure!(queues("steered") == 0, "nobody makes them again");

    platform.tasker(&["endpoint", "revoke", "ep1"])?;
    ensure!((queues("worker"), queues("steered")) == (0, 0), "all are gone");

    // All of that is in the audit log.
    let told = platform.tasker(&["audit", "list", "--action", "endpoint.", "--json"])?;
    let told: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    let entries = told["entries"].as_array().context("entries")?;
    let actions: Vec<_> = entries.iter().rev().filter_map(|entry| entry["action"].as_str()).collect();
    let wanted = [
        "endpoint.invite", "endpoint.enroll", "endpoint.rotate", "endpoint.enroll", "endpoint.revoke_old",
        "endpoint.revoke",
    ];
    ensure!(actions == wanted, "{told}");
    for entry in entries {
        let by_endpoint = entry["action"] == "endpoint.enroll";
        ensure!((entry["actor"] == "endpoint ep1") == by_endpoint, "{entry}");
    }
    Ok(())
}

#[test]
fn the_queue_of_an_endpoint_without_a_handler_is_made_once() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let path = platform.home().join("config.yaml");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    config["task_types"].as_array_mut().context("types")?.push(json!("ghost"));
    let handlers = platform.home().join("handlers");
    std::fs::create_dir(&handlers)?;
    config["endpoint"]["handlers_dir"] = json!(handlers);
    std::fs::write(&path, config.to_string())?;
    let environment = [("RUST_LOG".to_owned(), "tasker=debug".to_owned())];
    let _api = platform.launch("api", &["api".to_owned()], &environment)?;
    platform.until("the API is ready", |platform| {
        let (status, body) = platform.get("/ready")?;
        ensure!(status == 200, "{status}: {body}");
        Ok(())
    })?;
    let server = Server::invited_for(&platform, "ep1", &["worker", "ghost"])?;
    server.enroll()?;
    let identity = server.path(&server.identity());
    let arguments = ["endpoint", "-e", "ep1", "-t", "worker", "-t", "ghost", "--identity", &identity];
    let process = platform.launch("ep1", &arguments.map(str::to_owned), &[])?;
    platform.subscribed("ep1", &["worker"]).with_context(|| process.log())?;
    let made = || {
        let line = |line: &&str| line.contains("admitted") && line.contains("ghost");
        let log = std::fs::read_to_string(platform.home().join("api.log"))?;
        anyhow::Ok(log.lines().filter(line).count())
    };
    // Each presence says that there is no handler.
    let heard = RefCell::new(BTreeSet::new());
    platform.until("five presences came", |platform| {
        let (_, page) = platform.get("/endpoints")?;
        let types = page["endpoints"][0]["types"].as_array().context("types")?;
        let ghost = types.iter().find(|one| one["type"] == "ghost").context("it is known")?;
        let trouble = ghost["trouble"].as_str().unwrap_or_default();
        ensure!(trouble.starts_with("handler_missing: "), "{page}");
        let mut heard = heard.borrow_mut();
        heard.insert(page["endpoints"][0]["last_seen"].to_string());
        ensure!(heard.len() >= 5, "{heard:?}");
        Ok(())
    })?;
    let times = made()?;
    ensure!(times == 1, "{times} times");
    let virtual_host = message_queue(&platform)?.virtual_host;
    let path = ["queues", &virtual_host, "it.ghost.ep1"];
    ensure!(platform.block_on(management::exists(&path)), "it has one");
    Ok(())
}

#[test]
fn the_start_of_an_api_process_names_its_configuration() -> anyhow::Result<()> {
    let mut platform = Platform::idle()?;
    platform.start_api()?;
    let shown = platform.tasker(&["config", "show"])?;
    ensure!(!String::from_utf8(shown.stdout.clone())?.contains("secret"), "secrets are shown");
    let sha256: String = Sha256::digest(&shown.stdout).iter().map(|byte| format!("{byte:02x}")).collect();
    platform.until("it is in the audit log", |platform| {
        let (_, page) = platform.get("/audit?action=process.start")?;
        ensure!(page["entries"][0]["detail"]["config_sha256"] == *sha256, "{sha256}: {page}");
        Ok(())
    })
}

#[test]
fn an_identity_that_others_can_read_is_not_used() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let _api = start_api(&platform, "warn")?;
    let server = Server::enrolled(&platform, "ep1")?;
    let identity = server.path(&server.identity());
    let start = ["endpoint", "-e", "ep1", "-t", "worker", "--identity", &identity];
    refused(&platform, &[&start[..2], &["ep2"], &start[3..]].concat(), "is that of ep1, and ep2 is started")?;
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o640))?;
    refused(&platform, &start, "others on this machine may read it (mode 0640)")
}
