//! What `docs/upgrade.md` says about endpoints and API processes of different versions: each is sent what it
//! reads.
//!
//! `tests/fixtures/version1` has what a process of version 1 wrote: messages as they went through a broker,
//! and the journal of an endpoint that was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tasker::broker::wire::{self, Heard};
use tasker::broker::{Address, envelope};
use tasker::domain::{
    Command, LogPiece, PresenceState, Report, ReportEvent, TaskId, TaskMessage, WireVersion,
};
use tasker::handlers;

use crate::api_side::{ApiSide, policy, soon, task_type, until};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version1").join(name)
}

fn lines(name: &str) -> Vec<String> {
    fs::read_to_string(fixture(name)).expect("a fixture").lines().map(str::to_owned).collect()
}

#[test]
fn messages_of_version_1_are_read_and_written_as_they_were() {
    let commands = lines("commands.jsonl");
    for line in &commands {
        let (command, version) = wire::decode_versioned(line.as_bytes()).expect("a command");
        assert_eq!(version, WireVersion::One);
        match command {
            // A welcome says more today. Version 1 reads past what it does not know.
            Command::Welcome { reads, .. } => assert_eq!(reads, WireVersion::One),
            command => assert_eq!(wire::encode_command(&command, WireVersion::One), line.as_bytes()),
        }
    }
    let reports = lines("reports.jsonl");
    for line in &reports {
        let report = wire::decode_report(line.as_bytes()).expect("a report");
        assert_eq!(wire::encode_report(&report), line.as_bytes());
    }
    let presence = lines("presence.jsonl");
    for line in &presence {
        match wire::decode_heard(line.as_bytes()).expect("presence") {
            Heard::Presence(presence) => assert_eq!(presence.reads, WireVersion::One),
            Heard::Probe(id) => assert_eq!(wire::encode_probe(id), line.as_bytes()),
        }
    }
    assert_eq!([commands.len(), reports.len(), presence.len()], [9, 11, 5]);
}

#[tokio::test]
async fn the_journal_of_version_1_is_taken_over() {
    let mut api = ApiSide::new().await;
    let config = api.config(vec![policy("steered")]);
    let home = config.settings.data_dir.join("console1");
    fs::create_dir_all(home.join("steered")).expect("a directory");
    fs::copy(fixture("steered.journal"), home.join("steered/0000000001.journal")).expect("copies");
    let builtin = handlers::builtin(&config.settings);
    let mut endpoint = api.start(config, builtin).await;
    let presence = api.welcome().await;
    assert_eq!(presence.reads, WireVersion::NEWEST);
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let tasks: Vec<TaskMessage> = lines("commands.jsonl")
        .iter()
        .filter_map(|line| match wire::decode_command(line.as_bytes()) {
            Ok(Command::Task(task)) if task.work.task_type == task_type("steered") => Some(task),
            _ => None,
        })
        .collect();
    let ended: Vec<String> = lines("reports.jsonl")
        .into_iter()
        .filter(|line| !line.contains("received") && !line.contains("progress"))
        .collect();
    let mut hanging: Option<TaskId> = None;
    for task in tasks {
        let id = task.work.id;
        // Asked for in version 2.
        api.send_task(&TaskMessage { received: true, ..task.clone() }).await;
        match task.work.identifier.as_str() {
            // It ran when the process was killed, and the machine has been started anew since: it goes on.
            "hangs" => hanging = Some(id),
            _ => {
                let report = api.end().await;
                let written = wire::encode_report(&report);
                assert!(
                    report.task_id == id && ended.iter().any(|line| line.as_bytes() == written),
                    "{report:?}"
                );
            }
        }
    }
    let hanging = hanging.expect("one hangs");
    api.cancel("steered", hanging).await;
    let report = api.end().await;
    assert!(report.task_id == hanging && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    endpoint.stopped().await;
}

/// How many reports the next messages have each, until so many tasks have ended. A task that takes long is
/// reported as received before, and as begun.
async fn sizes(api: &mut ApiSide, mut tasks: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    while tasks > 0 {
        let body = api.body().await;
        let reports: Vec<_> =
            envelope::items(&body).iter().map(|item| wire::decode_report(item).expect("a report")).collect();
        sizes.push(reports.len());
        tasks -= reports
            .iter()
            .filter(|report| matches!(report.event, ReportEvent::Finished { .. } | ReportEvent::Canceled))
            .count();
    }
    sizes
}

#[tokio::test]
async fn an_api_of_version_1_is_sent_one_report_a_message() {
    let mut api = ApiSide::new().await;
    let config = api.config(vec![policy("echo")]);
    let builtin = handlers::builtin(&config.settings);
    let mut endpoint = api.start(config, builtin).await;
    let presence = loop {
        match api.presence().await {
            presence if presence.state == PresenceState::Joined => break presence,
            _ => {}
        }
    };
    let all = Address::All(task_type("echo"));
    let old = |command: &Command| wire::encode_command(command, WireVersion::One);
    let welcome = Command::Welcome {
        session: presence.session,
        presence_interval: Duration::from_secs(10),
        reads: WireVersion::One,
        task_type: None,
        revocations: None,
    };
    api.send_bytes(Address::Named(task_type("echo"), vec![presence.endpoint.clone()]), old(&welcome)).await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    // Cut off, reports wait for each other.
    let send = async |api: &ApiSide, version: WireVersion| {
        let item = |_| wire::encode_command(&Command::Task(ApiSide::task("echo", "1")), version);
        let items: Vec<Bytes> = (0..20).map(item).collect();
        match version {
            WireVersion::One => {
                for item in items {
                    api.send_bytes(all.clone(), item).await;
                }
            }
            WireVersion::Two | WireVersion::Three | WireVersion::Four | WireVersion::Five => {
                api.send_bytes(all.clone(), envelope::list(&items)).await
            }
        }
    };
    send(&api, WireVersion::One).await;
    assert!(sizes(&mut api, 20).await.iter().all(|size| *size == 1));
    // An API process of version 2 has been started: what asks in version 2 reads lists. Then it is the old
    // one again.
    send(&api, WireVersion::Two).await;
    assert!(sizes(&mut api, 20).await.iter().any(|size| *size > 1), "no two reports went together");
    send(&api, WireVersion::One).await;
    assert!(sizes(&mut api, 20).await.iter().all(|size| *size == 1));
    endpoint.stopped().await;
}

#[tokio::test]
async fn rubbish_among_tasks_takes_nothing_away_from_the_others() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["echo"]).await;
    let tasks = [ApiSide::task("echo", "1"), ApiSide::task("echo", "2")];
    let [first, second] =
        tasks.each_ref().map(|task| wire::encode_command(&Command::Task(task.clone()), WireVersion::Two));
    let stranger = wire::encode_command(&Command::Task(ApiSide::task("backup", "1")), WireVersion::Two);
    let cut = first.slice(..first.len() - 3);
    let list = envelope::list(&[first, "rubbish".into(), cut.clone(), stranger.clone(), second]);
    api.send_bytes(Address::All(task_type("echo")), list).await;
    let ended = [api.end().await.task_id, api.end().await.task_id];
    for task in &tasks {
        assert!(ended.contains(&task.work.id));
    }
    let dead = api.broker.dead();
    assert_eq!(
        dead.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(),
        [Bytes::from("rubbish"), cut, stranger]
    );
    assert!(dead[2].0.starts_with("a task of type `backup`"), "{dead:?}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_retry_leaves_the_message_as_it_came() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["steered"]).await;
    let task = ApiSide::task("steered", r#"{"do": "retry", "times": 1, "after_ms": 600000}"#);
    let item = wire::encode_command(&Command::Task(task), WireVersion::Two);
    api.send_bytes(Address::All(task_type("steered")), envelope::list(&[item.clone(), "rubbish".into()]))
        .await;
    let journal = api.dir.path().join("data/console1/steered/0000000001.journal");
    // Once as it was taken, and once with what the first attempt died of.
    let copies =
        || fs::read(&journal).unwrap_or_default().windows(item.len()).filter(|bytes| *bytes == item).count();
    until("the first attempt to end", || copies() == 2).await;
    endpoint.stopped().await;
}

#[test]
fn lines_of_a_log_are_progress_for_an_older_api() {
    let piece = LogPiece { attempt: 2, first: 7, text: "a line\n".to_owned() };
    let (task_id, endpoint) = (TaskId::new(), "console1".parse().expect("a name"));
    let report = Report {
        task_id,
        task_type: task_type("echo"),
        endpoint,
        home: uuid::Uuid::nil(),
        event: ReportEvent::Log(piece.clone()),
    };
    let bytes = wire::encode_report(&report);
    let written: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    // What version 1 reads of it; it reads past members that it does not know.
    assert_eq!(
        (&written["v"], &written["kind"], &written["percent"]),
        (&1.into(), &"progress".into(), &0.into())
    );
    assert!(
        matches!(wire::decode_report(&bytes).expect("a report").event, ReportEvent::Log(read) if read == piece)
    );
}
