//! An endpoint over the in-process broker, with the test as the API.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tasker::broker::{Address, wire};
use tasker::config::{OnStop, TypePolicy};
use tasker::domain::{
    Command, Outcome, PresenceState, ReportEvent, TaskId, TaskMessage, WireVersion, errnr, json,
};
use tasker::endpoint::{Agent, AgentError, Context, Handler, Health, JournalError, Registry, Work};
use tokio::sync::{Semaphore, mpsc};

use crate::api_side::{ApiSide, PATIENCE, Running, policy, soon, task_type, until};

/// A handler that says when it starts and ends when it is told to.
#[derive(Clone)]
pub struct Gate {
    started: mpsc::UnboundedSender<(TaskId, u32)>,
    pub open: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<(TaskId, u32)>) {
        let (started, starts) = mpsc::unbounded_channel();
        (Self { started, open: Arc::new(Semaphore::new(0)) }, starts)
    }

    pub fn registry(&self) -> Registry {
        Registry::new().with(task_type("gate"), self.clone()).with(task_type("other"), self.clone())
    }

    pub fn let_through(&self, count: usize) {
        self.open.add_permits(count);
    }
}

#[async_trait]
impl Handler for Gate {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        let _ = self.started.send((work.id, work.attempt));
        tokio::select! {
            permit = self.open.acquire() => permit.expect("never closed").forget(),
            () = context.canceled() => return Outcome::failed(1, "told to stop"),
        }
        Outcome::Done(json(&work.attempt))
    }
}

#[tokio::test]
async fn a_task_is_performed_and_reported_once() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["echo", "worker"]).await;
    let payload = r#"{"b":1.0,"a":"é"}"#;
    let id = api.submit("echo", payload).await;
    // The handler is quick, so there is no receipt before it, unless the machine was too busy to let it be.
    let mut report = api.report().await;
    if matches!(report.event, ReportEvent::Received | ReportEvent::Begun) {
        report = api.report().await;
    }
    assert_eq!((report.task_id, report.endpoint.as_str()), (id, "console1"));
    let ReportEvent::Finished { errnr: 0, payload: Some(answer), attempt: 1, .. } = report.event else {
        panic!("{report:?}")
    };
    assert_eq!(answer.get(), payload);

    let id = api.submit("worker", r#"{"seconds":0.3}"#).await;
    assert_eq!(api.receipt().await.task_id, id);
    assert_eq!(
        api.finished(id).await,
        (0, String::new(), Some(r#"{"endpoint":"console1","seconds":0.3}"#.to_owned()))
    );
    endpoint.stopped().await;
    assert!(api.unexpected().is_empty());
}

#[tokio::test]
async fn a_task_that_has_waited_for_its_turn_tells_when_it_begins() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let one = TypePolicy { concurrency: 1, ..policy("gate") };
    let endpoint = api.start(api.config(vec![one]), gate.registry()).await;
    api.welcome().await;
    let first = api.submit("gate", "1").await;
    soon("the start", starts.recv()).await;
    assert_eq!(api.receipt().await.task_id, first);
    let second = api.submit("gate", "2").await;
    let waits = api.receipt().await;
    assert!(waits.task_id == second && matches!(waits.event, ReportEvent::Received), "{waits:?}");
    gate.let_through(1);
    api.finished(first).await;
    soon("the start", starts.recv()).await;
    let begun = api.report().await;
    assert!(
        begun.task_id == second && matches!(begun.event, ReportEvent::Progress { percent: 0 }),
        "{begun:?}"
    );
    gate.let_through(1);
    api.finished(second).await;
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_repeat_is_answered_and_not_run() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let task = ApiSide::task("gate", "1");
    api.send_task(&task).await;
    soon("the start", starts.recv()).await;
    api.receipt().await;
    api.send_task(&task).await;
    api.send_task(&task).await;
    assert_eq!(api.receipt().await.task_id, task.work.id, "a repeat of a running task is received again");
    gate.let_through(10);
    api.finished(task.work.id).await;
    for _ in 0..2 {
        api.send_task(&task).await;
        assert_eq!(api.finished(task.work.id).await, (0, String::new(), Some("1".to_owned())));
    }
    endpoint.stopped().await;
    assert!(starts.try_recv().is_err(), "it ran once");

    // It is remembered over a restart too.
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    api.send_task(&task).await;
    assert_eq!(api.finished(task.work.id).await.0, 0);
    assert!(starts.try_recv().is_err(), "it ran once");
    endpoint.stopped().await;
}

#[tokio::test]
async fn nothing_counts_before_the_welcome() {
    let mut api = ApiSide::new().await;
    let config = tasker::endpoint::AgentConfig {
        welcome_timeout: Duration::from_millis(50),
        ..api.config(vec![policy("echo")])
    };
    let builtin = tasker::handlers::builtin(&config.settings);
    let mut endpoint = api.start(config, builtin).await;
    let first = api.presence().await;
    assert_eq!((first.state, first.task_types.as_slice()), (PresenceState::Joined, &[task_type("echo")][..]));
    let (sent, now) = (first.sent_at.expect("it tells its time"), tasker::clock::Clock::system().now());
    assert!(sent <= now && now.since(sent) < PATIENCE, "{sent} is not now, {now}");
    api.submit("echo", "1").await;
    // Asked for again and again, in the same session.
    loop {
        let again = api.presence().await;
        assert_eq!(again.session, first.session);
        if again.state == PresenceState::Joined {
            break;
        }
    }
    // A welcome for another session is none.
    let mut stranger = first.clone();
    stranger.session = uuid::Uuid::new_v4();
    api.welcome_session(&stranger).await;
    api.submit("echo", "2").await;
    api.welcome_session(&first).await;
    let id = api.submit("echo", "3").await;
    assert_eq!(api.finished(id).await.2.as_deref(), Some("3"));

    // A new connection is a new session.
    api.broker.cut();
    assert!(soon("the cut", endpoint.handle.wait_for(|state| !state.connected)).await);
    assert!(!endpoint.handle.state().is_ready());
    api.broker.restore();
    let second = loop {
        let presence = api.presence().await;
        if presence.session != first.session {
            break presence;
        }
    };
    assert_eq!((second.state, second.instance), (PresenceState::Joined, first.instance));
    api.submit("echo", "4").await;
    api.welcome_session(&second).await;
    let id = api.submit("echo", "5").await;
    assert_eq!(api.finished(id).await.2.as_deref(), Some("5"));
    assert!(endpoint.handle.state().is_ready());
    endpoint.stopped().await;
    loop {
        let last = api.presence().await;
        if last.state == PresenceState::Leaving {
            break assert_eq!(last.session, second.session);
        }
    }
}

/// An endpoint that performs one task at a time, with a task that runs and one that waits.
async fn one_runs_and_one_waits(
    api: &mut ApiSide,
    gate: &Gate,
    starts: &mut mpsc::UnboundedReceiver<(TaskId, u32)>,
) -> (Running, TaskId, TaskId) {
    let mut one = policy("gate");
    one.concurrency = 1;
    let mut endpoint = api.start(api.config(vec![one]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let running = api.submit("gate", "1").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((running, 1)));
    let waiting = api.submit("gate", "2").await;
    while api.report().await.task_id != waiting {}
    (endpoint, running, waiting)
}

#[tokio::test]
async fn a_cancel_stops_what_runs_and_keeps_what_waits_from_running() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let (endpoint, running, waiting) = one_runs_and_one_waits(&mut api, &gate, &mut starts).await;
    api.cancel("gate", waiting).await;
    let report = api.end().await;
    assert!(report.task_id == waiting && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    api.cancel("gate", running).await;
    let report = api.end().await;
    assert!(report.task_id == running && matches!(report.event, ReportEvent::Canceled), "{report:?}");

    // One that overtakes its task.
    let task = ApiSide::task("gate", "3");
    api.cancel("gate", task.work.id).await;
    let report = api.end().await;
    assert!(report.task_id == task.work.id && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    api.send_task(&task).await;
    let report = api.end().await;
    assert!(report.task_id == task.work.id && matches!(report.event, ReportEvent::Canceled), "{report:?}");

    // The lane is free again, and nothing of all this was started.
    gate.let_through(1);
    let after = api.submit("gate", "4").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((after, 1)));
    api.finished(after).await;
    // What is done cannot be undone.
    api.cancel("gate", after).await;
    assert_eq!(api.finished(after).await.0, 0);
    endpoint.stopped().await;
}

#[tokio::test]
async fn what_is_withdrawn_does_not_begin_and_what_has_begun_goes_on() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let (endpoint, running, waiting) = one_runs_and_one_waits(&mut api, &gate, &mut starts).await;
    // What runs goes on, and its endpoint says that it has it.
    api.withdraw("gate", running).await;
    assert_eq!(api.receipt().await.task_id, running);
    api.withdraw("gate", waiting).await;
    let report = api.end().await;
    assert!(report.task_id == waiting && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    // One that overtakes its task.
    let task = ApiSide::task("gate", "3");
    api.withdraw("gate", task.work.id).await;
    for sends in [false, true] {
        if sends {
            api.send_task(&task).await;
        }
        let report = api.end().await;
        assert!(
            report.task_id == task.work.id && matches!(report.event, ReportEvent::Canceled),
            "{report:?}"
        );
    }
    gate.let_through(1);
    assert_eq!(api.finished(running).await.0, 0);
    // What is done cannot be undone, and of all the others none was started.
    api.withdraw("gate", running).await;
    assert_eq!(api.finished(running).await.0, 0);
    assert!(starts.try_recv().is_err());
    endpoint.stopped().await;
}

#[tokio::test]
async fn what_waits_for_its_next_attempt_has_begun() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["steered"]).await;
    let task = ApiSide::task("steered", r#"{"do": "retry", "times": 1, "after_ms": 1000}"#);
    let item = wire::encode_command(&Command::Task(task.clone()), WireVersion::Two);
    api.send_bytes(Address::All(task_type("steered")), item.clone()).await;
    let journal = api.dir.path().join("data/console1/steered/0000000001.journal");
    // Once as it was taken, and once with what the first attempt died of.
    let copies = || {
        std::fs::read(&journal).unwrap_or_default().windows(item.len()).filter(|bytes| *bytes == item).count()
    };
    until("the first attempt to end", || copies() == 2).await;
    api.withdraw("steered", task.work.id).await;
    assert_eq!(api.finished(task.work.id).await.0, 0);
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_queue_speaks_for_its_own_type_alone() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let policies = ["gate", "other"].map(policy).to_vec();
    let mut endpoint = api.start(api.config(policies), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;

    // A task through the queue of another type, or past all queues, goes to the dead ones.
    let stray = ApiSide::task("gate", "1");
    api.send(Address::All(task_type("other")), &Command::Task(stray.clone())).await;
    api.send(
        Address::Control(task_type("gate"), vec!["console1".parse().expect("a name")]),
        &Command::Task(stray.clone()),
    )
    .await;
    until("two dead messages", || api.broker.dead().len() == 2).await;
    let mut reasons: Vec<String> = api.broker.dead().into_iter().map(|(reason, _)| reason).collect();
    reasons.sort_unstable();
    assert!(reasons[0].contains("came through the control queue"), "{reasons:?}");
    assert!(reasons[1].contains("`gate` came through the queue for `other`"), "{reasons:?}");

    // A cancel through the queue of another type stops nothing; a stray welcome changes nothing.
    let running = api.submit("gate", "2").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((running, 1)), "the stray was started");
    api.cancel("other", running).await;
    let stray = Command::Welcome {
        session: TaskId::new().0,
        presence_interval: Duration::from_secs(1),
        reads: WireVersion::One,
        task_type: None,
        revocations: None,
    };
    api.send(Address::Named(task_type("gate"), vec!["console1".parse().expect("a name")]), &stray).await;
    gate.let_through(1);
    assert_eq!(api.finished(running).await.0, 0);
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_welcome_is_for_the_type_through_whose_queue_it_comes() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let endpoint = api.start(api.config(["gate", "other"].map(policy).to_vec()), gate.registry()).await;
    let mut joined = api.presence().await;
    assert_eq!((joined.state, joined.task_types.len()), (PresenceState::Joined, 2));
    joined.task_types = vec![task_type("gate")];
    api.welcome_session(&joined).await;
    api.submit("other", "0").await;
    let task = api.submit("gate", "1").await;
    assert_eq!(
        soon("the start", starts.recv()).await,
        Some((task, 1)),
        "a task of a type that was not welcomed was started"
    );
    assert!(!endpoint.handle.state().welcomed);
    gate.let_through(1);
    api.finished(task).await;
    endpoint.stopped().await;
}

#[tokio::test]
async fn who_stands_by_says_so_and_takes_over() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut first = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", first.handle.wait_for(|state| state.welcomed)).await;

    // The same name with a memory of its own, and one type more.
    let mut config = api.config(["gate", "other"].map(policy).to_vec());
    config.settings.data_dir = api.dir.path().join("second");
    let mut second = api.start(config, gate.registry()).await;
    let standing_by = loop {
        let presence = api.presence().await;
        if !presence.refused.is_empty() {
            break presence;
        }
    };
    assert_eq!((&standing_by.refused[0].task_type, standing_by.refused[0].held), (&task_type("gate"), true));
    assert_eq!(
        (standing_by.state, &standing_by.task_types),
        (PresenceState::Joined, &vec![task_type("other")])
    );
    api.welcome_session(&standing_by).await;
    soon("the welcome", second.handle.wait_for(|state| state.welcomed)).await;

    first.stopped().await;
    // It joins with what it has taken over, in the same session.
    let joined = loop {
        let presence = api.presence().await;
        if presence.state == PresenceState::Joined && presence.instance == standing_by.instance {
            break presence;
        }
    };
    assert_eq!(
        (joined.session, joined.task_types.clone(), joined.refused.len()),
        (standing_by.session, vec![task_type("gate")], 0)
    );
    api.welcome_session(&joined).await;
    soon("the welcome", second.handle.wait_for(|state| state.welcomed)).await;
    let task = api.submit("gate", "1").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((task, 1)));
    gate.let_through(1);
    api.finished(task).await;
    second.stopped().await;
}

#[tokio::test]
async fn a_deaf_handler_is_dropped_on_cancel() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["steered"]).await;
    let id = api.submit("steered", r#"{"do":"hang","deaf":true}"#).await;
    api.receipt().await;
    api.cancel("steered", id).await;
    let report = api.end().await;
    assert!(report.task_id == id && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn attempts_follow_one_another() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["steered"]).await;
    let id = api.submit("steered", r#"{"do":"retry","times":2,"log":["é"],"progress":[50]}"#).await;
    let report = api.end().await;
    assert_eq!(report.task_id, id);
    let ReportEvent::Finished { errnr: 0, payload: Some(answer), attempt: 3, attempts, log, .. } =
        report.event
    else {
        panic!("{report:?}")
    };
    assert_eq!((answer.get(), log.as_deref()), ("3", Some("é\n")));
    let numbers: Vec<_> = attempts.iter().map(|one| (one.attempt, one.errnr)).collect();
    assert_eq!(numbers, [(1, errnr::TRY_AGAIN), (2, errnr::TRY_AGAIN)]);

    let id = api.submit("steered", r#"{"do":"retry","times":9,"after_ms":1}"#).await;
    let report = api.end().await;
    assert_eq!(report.task_id, id);
    let ReportEvent::Finished { errnr: errnr::TRY_AGAIN, attempt: 3, attempts, errmsg, .. } = report.event
    else {
        panic!("{report:?}")
    };
    assert_eq!((attempts.len(), errmsg.as_str()), (2, "attempt 3 was asked to be tried again"));
    endpoint.stopped().await;
}

#[tokio::test]
async fn every_bad_end_is_an_ordinary_failure() {
    let mut api = ApiSide::new().await;
    let mut steered = policy("steered");
    steered.time_limit = Duration::from_millis(50);
    let mut config = api.config(vec![steered, policy("nobody"), policy("echo")]);
    config.settings.output_limit = 100;
    // It was there when the endpoint subscribed, and is gone.
    let nobody = api.handlers_dir().join("nobody");
    std::fs::create_dir_all(api.handlers_dir()).expect("a directory");
    std::fs::write(&nobody, "#!/bin/sh\n").expect("writes");
    std::fs::set_permissions(&nobody, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("changes");
    let endpoint = api.started_as(config).await;
    std::fs::remove_file(nobody).expect("removes");
    let long = format!("\"{}\"", "x".repeat(100));
    let table = [
        ("steered", r#"{"do":"panic"}"#, errnr::PANIC, "the handler panicked: the payload asked for it"),
        ("steered", r#"{"do":"fail","errnr":7,"errmsg":"no"}"#, 7, "no"),
        ("steered", r#"{"do":"hang"}"#, errnr::TIME_LIMIT, "the time limit of 50ms passed"),
        ("steered", r#"{"do":"hang","deaf":true}"#, errnr::TIME_LIMIT, "the time limit of 50ms passed"),
        ("steered", r#""nonsense""#, 64, "the payload says nothing to do"),
        ("nobody", "1", errnr::NO_HANDLER, "there is no handler `nobody`"),
        ("echo", &long, errnr::BAD_ANSWER, "the answer has 102 bytes, the limit is 100"),
    ];
    for (name, payload, errnr, errmsg) in table {
        let id = api.submit(name, payload).await;
        let (found, text, answer) = api.finished(id).await;
        assert_eq!((found, answer), (errnr, None), "{payload}: {text}");
        assert!(text.starts_with(errmsg), "{payload}: {text}");
    }
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_crash_costs_an_attempt_and_nothing_else() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let config = || {
        let mut one = policy("gate");
        one.concurrency = 1;
        one.attempts = 2;
        vec![one]
    };
    let mut endpoint = api.start(api.config(config()), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let running = api.submit("gate", "1").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((running, 1)));
    let waiting = api.submit("gate", "2").await;
    while api.report().await.task_id != waiting {}
    endpoint.kill().await;

    // Nobody has to send anything again: not even a welcome is needed.
    gate.let_through(1);
    let endpoint = api.start(api.config(config()), gate.registry()).await;
    let (first, second) = (soon("a start", starts.recv()).await.expect("lives"), api.end().await);
    assert!([(waiting, 1), (running, 2)].contains(&first), "{first:?}");
    assert_eq!(second.task_id, first.0);
    let (third, _) = soon("a start", starts.recv()).await.expect("lives");
    assert_ne!(third, first.0);
    if third == waiting {
        gate.let_through(1);
        assert_eq!(api.finished(waiting).await.2.as_deref(), Some("1"));
        endpoint.kill().await;
        return;
    }
    // The second crash of the same task was one too many.
    endpoint.kill().await;
    let endpoint = api.start(api.config(config()), gate.registry()).await;
    let report = api.end().await;
    let ReportEvent::Finished { errnr: errnr::INTERRUPTED, attempt: 2, ref attempts, .. } = report.event
    else {
        panic!("{report:?}")
    };
    assert_eq!((report.task_id, attempts.len(), attempts[0].errnr), (running, 1, errnr::INTERRUPTED));
    endpoint.stopped().await;
}

#[tokio::test]
async fn another_set_of_types_goes_on_where_the_last_ended() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let one_at_a_time = || TypePolicy { concurrency: 1, ..policy("gate") };
    let mut endpoint = api.start(api.config(vec![one_at_a_time()]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let finished = ApiSide::task("gate", "1");
    api.send_task(&finished).await;
    soon("the start", starts.recv()).await;
    gate.let_through(1);
    api.finished(finished.work.id).await;
    let running = api.submit("gate", "2").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((running, 1)));
    let waiting = ApiSide::task("gate", "3");
    api.send_task(&waiting).await;
    while api.report().await.task_id != waiting.work.id {}
    endpoint.kill().await;

    let mut endpoint = api.start(api.config(vec![policy("backup"), one_at_a_time()]), gate.registry()).await;
    gate.let_through(2);
    let mut ended = [soon("a start", starts.recv()).await, soon("a start", starts.recv()).await];
    ended.sort_unstable();
    let mut expected = [Some((running, 2)), Some((waiting.work.id, 1))];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    for _ in 0..2 {
        let report = api.end().await;
        assert!([running, waiting.work.id].contains(&report.task_id), "{report:?}");
    }
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    for (task, answer) in [(&finished, "1"), (&waiting, "1")] {
        api.send_task(task).await;
        assert_eq!(api.finished(task.work.id).await.2.as_deref(), Some(answer));
    }
    endpoint.stopped().await;
    assert!(starts.try_recv().is_err() && api.unexpected().is_empty(), "each ran once");
}

#[tokio::test]
async fn reports_wait_for_the_broker() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let id = api.submit("gate", "1").await;
    soon("the start", starts.recv()).await;
    api.receipt().await;
    api.broker.cut();
    soon("the cut", endpoint.handle.wait_for(|state| !state.connected)).await;
    gate.let_through(1);
    // Ended without a broker, and the process is gone before it is back.
    endpoint.stopped().await;
    let endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.broker.restore();
    assert_eq!(api.finished(id).await.2.as_deref(), Some("1"));
    assert!(starts.try_recv().is_err(), "it ran once");
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_full_journal_says_so_and_recovers() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut config = api.config(vec![policy("gate")]);
    config.settings.journal_limit = 256 << 10;
    let mut endpoint = api.start(config, gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let payload = format!("\"{}\"", "x".repeat(4000));
    let mut ids = std::collections::HashSet::new();
    for _ in 0..100 {
        ids.insert(api.submit("gate", &payload).await);
    }
    assert!(
        soon("the journal to fill", endpoint.handle.wait_for(|state| state.journal == Health::Full)).await
    );
    assert!(!endpoint.handle.state().is_ready());
    gate.let_through(100);
    while !ids.is_empty() {
        let report = api.end().await;
        assert!(ids.remove(&report.task_id), "{report:?}");
    }
    assert!(soon("room", endpoint.handle.wait_for(|state| state.is_ready())).await);
    for _ in 0..100 {
        assert!(starts.try_recv().is_ok_and(|(_, attempt)| attempt == 1));
    }
    assert!(starts.try_recv().is_err(), "each ran once");
    endpoint.stopped().await;
}

/// Answers with as many bytes as it is told to, and says so.
struct Verbose(mpsc::UnboundedSender<TaskId>);

#[async_trait]
impl Handler for Verbose {
    async fn run(&self, work: &Work, _: &Context) -> Outcome {
        let _ = self.0.send(work.id);
        Outcome::Done(json(&"x".repeat(20_000)))
    }
}

#[tokio::test]
async fn a_journal_short_of_room_runs_nothing_twice() {
    let mut api = ApiSide::new().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let mut config = api.config(vec![policy("gate")]);
    config.settings.journal_limit = 1 << 20;
    let registry = || Registry::new().with(task_type("gate"), Verbose(started.clone()));
    let mut endpoint = api.start(config.clone(), registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let tasks: Vec<_> =
        (0..300).map(|_| ApiSide::task("gate", &format!("\"{}\"", "x".repeat(5_000)))).collect();
    let mut runs = HashMap::new();
    for task in &tasks {
        api.send_task(task).await;
        let report = api.end().await;
        let ReportEvent::Finished { errnr: 0, run: Some(run), .. } = report.event else {
            panic!("{report:?}")
        };
        runs.insert(report.task_id, run);
        assert_eq!(soon("the start", starts.recv()).await, Some(task.work.id));
    }
    for restarted in [false, true] {
        if restarted {
            endpoint.stopped().await;
            endpoint = api.start(config.clone(), registry()).await;
            api.welcome().await;
            soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
        }
        // The ledger may not know yet that it was received: then what is left must not come before the full
        // report, which is on its way.
        let (mut receipts, mut full) = (0, 0);
        for task in &tasks {
            api.send_task(task).await;
            let report = api.report().await;
            assert_eq!(report.task_id, task.work.id);
            match report.event {
                ReportEvent::Received | ReportEvent::Begun => receipts += 1,
                ReportEvent::Progress { percent: 0 } => {}
                ReportEvent::Finished { errnr: 0, payload: Some(_), .. } => full += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(receipts > 200 && receipts + full == tasks.len(), "{receipts} receipts, {full} full answers");
        // It knows, and has heard no more: what is left is better than nothing.
        let mut poor = 0;
        for task in &tasks {
            api.send_task(&TaskMessage { received: true, ..task.clone() }).await;
            let report = api.end().await;
            let ReportEvent::Finished { errnr: 0, errmsg, payload, run, attempt: 1, .. } = report.event
            else {
                panic!("{report:?}")
            };
            assert_eq!((report.task_id, run), (task.work.id, runs.get(&task.work.id).copied()));
            assert_eq!(payload.is_none(), errmsg.contains("endpoint.journal_limit"), "{errmsg}");
            poor += usize::from(payload.is_none());
        }
        assert!(poor >= receipts, "{poor} of {receipts}");
        assert!(starts.try_recv().is_err(), "one ran twice");
    }
    endpoint.stopped().await;
}

#[tokio::test]
async fn one_directory_is_for_one_endpoint() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["echo", "worker"]).await;
    let open = |types: [&str; 2]| {
        Agent::open(api.config(types.map(policy).into()), api.broker.connect(), Registry::new())
    };
    let error = open(["worker", "echo"]).expect_err("it is in use");
    assert!(matches!(error, AgentError::Journal(JournalError::InUse { .. })), "{error}");
    let error = open(["echo", "backup"]).expect_err("one of its types is performed already");
    assert!(matches!(error, AgentError::Journal(JournalError::InUse { .. })), "{error}");
    open(["upper", "backup"]).expect("another set of types is another directory");
    endpoint.stopped().await;
    open(["echo", "worker"]).expect("it is free again");
}

#[tokio::test]
async fn a_stop_waits_for_what_runs_and_takes_no_more() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let id = api.submit("gate", "1").await;
    soon("the start", starts.recv()).await;
    endpoint.stop.cancel();
    loop {
        if api.presence().await.state == PresenceState::Leaving {
            break;
        }
    }
    assert!(!endpoint.join.is_finished(), "it waits for its handler");
    gate.let_through(1);
    endpoint.stopped().await;
    assert_eq!(api.finished(id).await.2.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_a_stop_interrupts_is_a_failed_attempt() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut config = api.config(vec![policy("gate")]);
    config.settings.stop_timeout = Duration::from_millis(200);
    let mut endpoint = api.start(config.clone(), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let id = api.submit("gate", "1").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((id, 1)));
    endpoint.stopped().await;
    gate.let_through(1);
    let endpoint = api.start(config, gate.registry()).await;
    assert_eq!(soon("the start", starts.recv()).await, Some((id, 2)));
    let report = api.end().await;
    let ReportEvent::Finished { errnr: 0, attempt: 2, attempts, .. } = report.event else {
        panic!("{report:?}")
    };
    assert!(
        matches!(&attempts[..], [one] if one.attempt == 1 && one.errnr == errnr::INTERRUPTED),
        "{attempts:?}"
    );
    assert!(attempts[0].errmsg.contains("stopped"), "{attempts:?}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_stop_is_the_end_of_a_task_with_no_attempt_left() {
    for (attempts, on_stop) in [(1, OnStop::Rerun), (3, OnStop::Fail)] {
        let mut api = ApiSide::new().await;
        let (gate, mut starts) = Gate::new();
        let mut config = api.config(vec![TypePolicy { attempts, on_stop, ..policy("gate") }]);
        config.settings.stop_timeout = Duration::from_millis(200);
        let mut endpoint = api.start(config.clone(), gate.registry()).await;
        api.welcome().await;
        soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
        let id = api.submit("gate", "1").await;
        assert_eq!(soon("the start", starts.recv()).await, Some((id, 1)));
        endpoint.stopped().await;
        // Reported before the process ends.
        let (number, text, _) = api.finished(id).await;
        assert!(number == errnr::INTERRUPTED && text.contains("stopped"), "{number}: {text}");
        gate.let_through(1);
        let mut endpoint = api.start(config, gate.registry()).await;
        api.welcome().await;
        soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
        // One behind it shows that it is not run again.
        let other = api.submit("gate", "2").await;
        assert_eq!(soon("the start", starts.recv()).await, Some((other, 1)));
        endpoint.stopped().await;
    }
}

#[tokio::test]
async fn what_outlives_three_stops_is_poison() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut config = api.config(vec![TypePolicy { attempts: 100, ..policy("gate") }]);
    config.settings.stop_timeout = Duration::from_millis(200);
    let task = ApiSide::task("gate", "1");
    for attempt in 1..=3 {
        let mut endpoint = api.start(config.clone(), gate.registry()).await;
        api.welcome().await;
        soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
        api.send_task(&task).await;
        assert_eq!(soon("the start", starts.recv()).await, Some((task.work.id, attempt)));
        endpoint.stopped().await;
    }
    let report = api.end().await;
    let ReportEvent::Finished { errnr: errnr::INTERRUPTED, errmsg, attempt: 3, attempts, .. } = report.event
    else {
        panic!("{report:?}");
    };
    assert!(errmsg.starts_with("poison: 3 times") && attempts.len() == 2, "{errmsg}: {attempts:?}");
}

#[tokio::test]
async fn a_stop_waits_as_long_as_the_policy_says() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut config = api.config(vec![TypePolicy { on_stop: OnStop::Wait, ..policy("gate") }]);
    config.settings.stop_timeout = Duration::from_millis(100);
    let mut endpoint = api.start(config, gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let id = api.submit("gate", "1").await;
    assert_eq!(soon("the start", starts.recv()).await, Some((id, 1)));
    endpoint.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(1), &mut endpoint.join).await;
    assert!(ended.is_err(), "it waits ten times its stop_timeout: {ended:?}");
    gate.let_through(1);
    endpoint.stopped().await;
    let report = api.end().await;
    assert!(
        report.task_id == id && matches!(report.event, ReportEvent::Finished { errnr: 0, attempt: 1, .. }),
        "{report:?}"
    );
}

/// Says that it restarts the endpoint, and waits for that.
struct Upgrade(mpsc::UnboundedSender<TaskId>);

#[async_trait]
impl Handler for Upgrade {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        context.restarting(json(&"on its way")).await;
        context.restarting(json(&"upgraded")).await;
        let _ = self.0.send(work.id);
        context.canceled().await;
        Outcome::failed(1, "told to stop")
    }
}

#[tokio::test]
async fn a_handler_that_restarts_its_endpoint_has_ended_with_that() {
    for (on_stop, graceful) in
        [(OnStop::Fail, false), (OnStop::Rerun, true), (OnStop::Wait, true), (OnStop::Wait, false)]
    {
        let mut api = ApiSide::new().await;
        let (said, mut starts) = mpsc::unbounded_channel();
        let registry = || Registry::new().with(task_type("gate"), Upgrade(said.clone()));
        let mut config = api.config(vec![TypePolicy { on_stop, ..policy("gate") }]);
        config.settings.stop_timeout = Duration::from_millis(200);
        let mut endpoint = api.start(config.clone(), registry()).await;
        api.welcome().await;
        soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
        let id = api.submit("gate", "1").await;
        assert_eq!(soon("the start", starts.recv()).await, Some(id));
        if graceful {
            endpoint.stopped().await
        } else {
            endpoint.kill().await
        }
        let endpoint = api.start(config, registry()).await;
        let report = api.end().await;
        let ReportEvent::Finished { errnr: 0, payload: Some(answer), attempt: 1, attempts, .. } =
            report.event
        else {
            panic!("{on_stop:?}, {graceful}: {report:?}")
        };
        assert_eq!((report.task_id, answer.get(), attempts.len()), (id, "\"upgraded\"", 0));
        endpoint.stopped().await;
        assert!(starts.try_recv().is_err(), "it ran once");
    }
}

#[tokio::test]
async fn what_is_not_for_us_is_put_aside() {
    let mut api = ApiSide::new().await;
    let endpoint = api.started(&["echo"]).await;
    let to = Address::All(task_type("echo"));
    api.send_bytes(to.clone(), "rubbish".into()).await;
    api.send(to, &Command::Task(ApiSide::task("backup", "1"))).await;
    let id = api.submit("echo", "1").await;
    assert_eq!(api.finished(id).await.0, 0);
    let dead = api.broker.dead();
    assert_eq!(dead.len(), 2);
    assert!(dead[0].0.starts_with("not a message") && dead[0].1 == "rubbish", "{dead:?}");
    assert_eq!(dead[1].0, "a task of type `backup` came through the queue for `echo`");
    assert!(wire::decode_command(&dead[1].1).is_ok());
    endpoint.stopped().await;
}

/// Counts how many of it run at once.
#[derive(Clone, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Handler for Crowd {
    async fn run(&self, _: &Work, _: &Context) -> Outcome {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Outcome::Done(json(&()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_run_a_few_at_a_time() {
    let mut api = ApiSide::new().await;
    let crowd = Crowd::default();
    let mut endpoint = api
        .start(api.config(vec![policy("crowd")]), Registry::new().with(task_type("crowd"), crowd.clone()))
        .await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..500 {
        ids.insert(api.submit("crowd", "1").await);
    }
    while !ids.is_empty() {
        let report = api.end().await;
        assert!(ids.remove(&report.task_id), "reported twice: {report:?}");
    }
    assert_eq!(crowd.most.load(Ordering::SeqCst), 4);
    endpoint.stopped().await;
}

#[tokio::test]
async fn an_expired_task_is_not_started() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut one = policy("gate");
    one.concurrency = 1;
    let mut endpoint = api.start(api.config(vec![one]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let first = api.submit("gate", "1").await;
    soon("the start", starts.recv()).await;
    let mut short = ApiSide::task("gate", "2");
    short.expires_in = Duration::from_millis(1);
    api.send_task(&short).await;
    let last = api.submit("gate", "3").await;
    // Both are in the journal, and the short one's time is over by any clock.
    while api.report().await.task_id != last {}
    let sent = std::time::Instant::now();
    until("the short one's end", || sent.elapsed() > Duration::from_millis(5)).await;
    gate.let_through(2);
    assert_eq!(api.finished(first).await.0, 0);
    assert_eq!(soon("the start", starts.recv()).await, Some((last, 1)));
    assert_eq!(api.finished(last).await.0, 0);
    endpoint.stopped().await;
    assert!(PATIENCE > Duration::ZERO && starts.try_recv().is_err());
}

/// Its deadline may be that of a wrong clock: only the API knows.
#[tokio::test]
async fn what_looks_expired_goes_on_when_it_is_asked_for() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut one = policy("gate");
    one.concurrency = 1;
    // One that runs and two that wait when the process ends; the first has no time left then, and the others
    // neither.
    let short = |name| TaskMessage { expires_in: Duration::from_millis(200), ..ApiSide::task("gate", name) };
    let (running, waiting, withdrawn) = (short("1"), short("2"), short("3"));
    let mut endpoint = api.start(api.config(vec![one.clone()]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    for task in [&running, &waiting, &withdrawn] {
        api.send_task(task).await;
        while api.report().await.task_id != task.work.id {}
    }
    let received = std::time::Instant::now();
    assert_eq!(soon("the start", starts.recv()).await, Some((running.work.id, 1)));
    endpoint.kill().await;
    until("their end", || received.elapsed() > Duration::from_millis(200)).await;

    // Twice, since what was parked stays so.
    let mut endpoint = api.start(api.config(vec![one.clone()]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    endpoint.stopped().await;
    endpoint = api.start(api.config(vec![one]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    api.cancel("gate", withdrawn.work.id).await;
    let report = api.report().await;
    assert!(
        report.task_id == withdrawn.work.id && matches!(report.event, ReportEvent::Canceled),
        "{report:?}"
    );
    gate.let_through(2);
    for (task, attempt) in [(&waiting, 1), (&running, 2)] {
        for _ in 0..3 {
            api.send_task(&TaskMessage {
                received: true,
                expires_in: Duration::from_secs(3600),
                ..task.clone()
            })
            .await;
        }
        assert_eq!(soon("the start", starts.recv()).await, Some((task.work.id, attempt)));
        let report = api.end().await;
        let ReportEvent::Finished { errnr: 0, attempt: last, attempts, .. } = report.event else {
            panic!("{report:?}")
        };
        assert_eq!((report.task_id, last, attempts.len() + 1), (task.work.id, attempt, attempt as usize));
    }
    endpoint.stopped().await;
    assert!(starts.try_recv().is_err(), "one ran once more");
}

#[tokio::test]
async fn what_was_received_and_forgotten_is_not_run_again() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let task = TaskMessage { received: true, ..ApiSide::task("gate", "1") };
    for _ in 0..2 {
        api.send_task(&task).await;
        let (number, text, answer) = api.finished(task.work.id).await;
        assert_eq!((number, answer), (errnr::LOST, None), "{text}");
    }
    endpoint.stopped().await;
    assert!(starts.try_recv().is_err(), "it was run");
}

#[tokio::test]
async fn what_ends_the_process_three_times_is_poison() {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut many = policy("gate");
    many.attempts = 100;
    let task = ApiSide::task("gate", "1");
    for attempt in 1..=3 {
        let mut endpoint = api.start(api.config(vec![many.clone()]), gate.registry()).await;
        api.welcome().await;
        soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
        api.send_task(&task).await;
        assert_eq!(soon("the start", starts.recv()).await, Some((task.work.id, attempt)));
        endpoint.kill().await;
    }
    let endpoint = api.start(api.config(vec![many.clone()]), gate.registry()).await;
    let report = api.end().await;
    let ReportEvent::Finished { errnr: errnr::INTERRUPTED, errmsg, attempt: 3, attempts, .. } = report.event
    else {
        panic!("{report:?}");
    };
    assert!(errmsg.starts_with("poison: 3 times") && attempts.len() == 2, "{errmsg}: {attempts:?}");
    endpoint.stopped().await;
    assert!(starts.try_recv().is_err(), "it was run a fourth time");
}
