use super::*;
use crate::domain::{Counts, Queued, json};
use ReasonCode as C;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn task(status: TaskStatus, counts: Counts) -> Task {
    Task {
        id: TaskId::new(),
        identifier: "i".parse().expect("an identifier"),
        task_type: "worker".parse().expect("a type"),
        status,
        payload: json(&""),
        endpoints: vec![],
        target: None,
        rerun_of: None,
        queued: None,
        counts,
        start_time: at(0),
        published_at: (status != TaskStatus::Created).then(|| at(1)),
        finished_at: status.is_final().then(|| at(90)),
        receive_by: at(30),
        expires_at: at(100),
        held: false,
    }
}

fn expected(expected: u32) -> Counts {
    Counts { expected, ..Counts::default() }
}

fn snapshot(task: Task) -> Snapshot {
    Snapshot { task, frozen: true, asks: 2, due_at: at(40), line: None, standing: None }
}

/// A task of a work queue that waits, while there is a worker with room.
fn waiting(place: LinePlace) -> Snapshot {
    let queued = Queued {
        priority: 1,
        run_at: Some(at(20)),
        attempts: vec![],
        parent: None,
        replaced_by: None,
        successor_error: None,
    };
    let line = Line {
        place,
        since: at(2),
        paused: None,
        ahead: 0,
        of_key: None,
        running: 1,
        workers: Workers { present: 2, slots: 4, room: 3, ..Workers::default() },
    };
    Snapshot {
        line: Some(line),
        ..snapshot(Task { queued: Some(queued), ..task(TaskStatus::Created, expected(0)) })
    }
}

fn with_line(place: LinePlace, change: impl FnOnce(&mut Line)) -> Snapshot {
    let mut snapshot = waiting(place);
    change(snapshot.line.as_mut().expect("a line"));
    snapshot
}

fn owed(status: ResponseStatus) -> Owed {
    let received_at = (status != ResponseStatus::Expected).then(|| at(5));
    Owed { status, errnr: None, received_at, changed_at: at(50), home: Some(Uuid::nil()), progress: Some(7) }
}

fn subscribed(presence: PresenceNow) -> Subscribed {
    Subscribed { presence, last_seen: at(10), home: Some(Uuid::nil()), trouble: None, second: None }
}

fn standing(response: Option<Owed>, subscription: Option<Subscribed>) -> Standing {
    Standing { endpoint: "web1".parse().expect("a name"), response, subscription, last_seen: Some(at(10)) }
}

fn codes(reasons: &[Reason]) -> Vec<ReasonCode> {
    reasons.iter().map(|reason| reason.code).collect()
}

/// A snapshot of a task with two endpoints, and how it stands at one of them.
fn at_endpoint(status: TaskStatus, standing: Standing) -> Vec<Reason> {
    snapshot(task(status, expected(2))).reasons_at(&standing)
}

/// Each code once, from a snapshot that it alone is to be said of.
fn of_each_code() -> Vec<(ReasonCode, Vec<Reason>)> {
    use PresenceNow::{Gone, Stopped, There};
    use ResponseStatus as R;
    use TaskStatus as S;
    let all = |snapshot: Snapshot| snapshot.reasons(RunLimits::default());
    let limits = RunLimits { of_type: Some(1), of_key: Some(1) };
    let owes = || Some(owed(R::Expected));
    let troubled = |trouble: &str| Subscribed { trouble: Some(trouble.to_owned()), ..subscribed(There) };
    let second = |other| Subscribed { second: Some((at(3), other)), ..subscribed(There) };
    let answer = |errnr| Some(Owed { errnr: Some(errnr), ..owed(R::Finished) });
    let unknown = Standing { last_seen: None, ..standing(owes(), None) };
    let replaced = {
        let mut snapshot = waiting(LinePlace::Nothing);
        snapshot.task.status = S::Canceled;
        snapshot.task.queued.as_mut().expect("queued").replaced_by = Some(TaskId::new());
        snapshot
    };
    let with = |counts: Counts, status| snapshot(task(status, counts));
    let troubles = [
        C::HandlerMissing,
        C::JournalFull,
        C::JournalFailing,
        C::BrokerRefused,
        C::NotInvited,
        C::SignatureRefused,
        C::ClockOff,
        C::StopFile,
        C::EndpointTrouble,
    ];
    let troubles = troubles.map(|code| {
        let trouble =
            if code == C::EndpointTrouble { "the disk smokes".to_owned() } else { code.told("so it is") };
        (code, at_endpoint(S::Sent, standing(owes(), Some(troubled(&trouble)))))
    });
    let rest = [
        (C::NotPublished, all(with(expected(2), S::Created))),
        (C::NobodySubscribed, all(with(expected(0), S::Sent))),
        (C::LabelsUnread, {
            let labels = troubled(&C::LabelsUnread.told("so it is"));
            at_endpoint(S::Sent, standing(None, Some(labels)))
        }),
        (C::NotExpected, at_endpoint(S::Sent, standing(None, Some(subscribed(There))))),
        (C::NeverHeardOf, at_endpoint(S::Sent, unknown)),
        (C::NotSubscribed, at_endpoint(S::Sent, standing(owes(), None))),
        (C::EndpointGone, at_endpoint(S::Sent, standing(owes(), Some(subscribed(Gone))))),
        (C::EndpointStopped, at_endpoint(S::Sent, standing(owes(), Some(subscribed(Stopped))))),
        (C::JournalGone, {
            let other = Subscribed { home: Some(Uuid::max()), ..subscribed(There) };
            at_endpoint(S::Sent, standing(Some(owed(R::Created)), Some(other)))
        }),
        (C::Fenced, at_endpoint(S::Sent, standing(owes(), Some(second(true))))),
        (C::StandsBy, at_endpoint(S::Sent, standing(owes(), Some(second(false))))),
        (
            C::WaitsForApproval,
            vec![Reason::waits_for_approval(
                "the task waits for others".to_owned(),
                &task(S::Created, expected(0)),
            )],
        ),
        (C::RetryAt, at_endpoint(S::Sent, standing(owes(), Some(subscribed(There))))),
        (C::QueuePaused, all(with_line(LinePlace::Worker, |line| line.paused = Some((at(1), None))))),
        (C::WaitsForRunAt, all(waiting(LinePlace::Time))),
        (
            C::LimitKeyHeld,
            all(with_line(LinePlace::Key, |line| line.of_key = Some((1, vec![TaskId::new()])))),
        ),
        (C::LimitReached, waiting(LinePlace::Worker).reasons(limits)),
        (C::NoWorker, all(with_line(LinePlace::Worker, |line| line.workers = Workers::default()))),
        (C::WorkersBusy, all(with_line(LinePlace::Worker, |line| line.workers.room = 0))),
        (C::WaitsBehind, all(with_line(LinePlace::Worker, |line| line.ahead = 3))),
        (C::Running, at_endpoint(S::Sent, standing(Some(owed(R::Created)), Some(subscribed(There))))),
        (C::Received, {
            let silent = Owed { progress: None, ..owed(R::Created) };
            at_endpoint(S::Sent, standing(Some(silent), Some(subscribed(There))))
        }),
        (C::Stopping, at_endpoint(S::Canceled, standing(Some(owed(R::Created)), Some(subscribed(There))))),
        (C::Done, at_endpoint(S::Sent, standing(answer(0), Some(subscribed(There))))),
        (C::Failed, at_endpoint(S::Sent, standing(answer(3), Some(subscribed(There))))),
        (C::Canceled, at_endpoint(S::Canceled, standing(Some(owed(R::Canceled)), Some(subscribed(There))))),
        (C::Replaced, all(replaced)),
        (C::Expired, at_endpoint(S::Expired, standing(Some(owed(R::Expired)), Some(subscribed(There))))),
    ];
    troubles.into_iter().chain(rest).collect()
}

#[test]
fn each_code_has_a_row_and_comes_first_in_it() {
    let rows = of_each_code();
    for code in ReasonCode::ALL {
        let of_code: Vec<_> = rows.iter().filter(|(of, _)| of == code).collect();
        let [(_, reasons)] = of_code.as_slice() else { panic!("{code} has {} rows", of_code.len()) };
        assert_eq!(reasons.first().map(|reason| reason.code), Some(*code), "{reasons:?}");
    }
}

#[test]
fn reasons_are_sentences_and_what_is_open_says_what_is_next() {
    let ended = [C::NotExpected, C::Done, C::Failed, C::Canceled, C::Replaced, C::Expired];
    for (code, reasons) in of_each_code() {
        let first = &reasons[0];
        assert!(first.text.len() > 20 && !first.text.ends_with('.'), "{first:?}");
        assert_eq!(first.next.is_none(), ended.contains(&code), "{first:?}");
    }
}

#[test]
fn all_that_is_in_the_way_is_told_in_order() {
    let limits = RunLimits { of_type: Some(1), of_key: Some(2) };
    let snapshot = with_line(LinePlace::Worker, |line| {
        line.paused = Some((at(1), Some("ann".parse().expect("a name"))));
        line.of_key = Some((2, vec![TaskId::new(), TaskId::new()]));
        line.ahead = Line::MOST_AHEAD + 1;
        line.workers = Workers {
            present: 1,
            in_trouble: 1,
            troubled: vec![("w".parse().expect("a name"), "journal_full: x".into())],
            ..Workers::default()
        };
    });
    let reasons = snapshot.reasons(limits);
    let order =
        [C::QueuePaused, C::LimitKeyHeld, C::LimitReached, C::NoWorker, C::JournalFull, C::WaitsBehind];
    assert_eq!(codes(&reasons), order, "{reasons:?}");
    assert_eq!(reasons[0].evidence.by.as_ref().map(TokenName::as_str), Some("ann"));
    assert_eq!((reasons[1].evidence.tasks.len(), reasons[1].evidence.limit), (2, Some(2)));
    assert_eq!((reasons[5].evidence.ahead, reasons[5].evidence.more), (Some(10_000), true));
    assert!(reasons[5].text.starts_with("more than 10000"), "{}", reasons[5].text);
    let below = RunLimits { of_type: Some(2), of_key: Some(3) };
    assert_eq!(
        codes(&snapshot.reasons(below)),
        [C::QueuePaused, C::NoWorker, C::JournalFull, C::WaitsBehind]
    );
}

#[test]
fn a_task_that_expired_says_what_was_in_its_way() {
    let mut queued = with_line(LinePlace::Nothing, |line| {
        line.workers = Workers { last_seen: Some(at(91)), ..Workers::default() };
        line.paused = Some((at(89), None));
    });
    queued.task.status = TaskStatus::Expired;
    queued.task.finished_at = Some(at(90));
    let reasons = queued.reasons(RunLimits::default());
    assert_eq!(
        codes(&reasons),
        [C::Expired, C::QueuePaused],
        "the last worker left after the end: {reasons:?}"
    );
    assert!(reasons.iter().all(|reason| reason.next.is_none()));

    let late = Owed { received_at: None, ..owed(ResponseStatus::Expired) };
    let gone = subscribed(PresenceNow::Gone);
    assert_eq!(
        codes(&at_endpoint(TaskStatus::Expired, standing(Some(late.clone()), Some(gone.clone())))),
        [C::Expired, C::EndpointGone]
    );
    let after = Subscribed { last_seen: at(60), ..gone };
    assert_eq!(codes(&at_endpoint(TaskStatus::Expired, standing(Some(late), Some(after)))), [C::Expired]);
}

#[test]
fn the_end_of_a_task_is_its_own_reason() {
    let of = |status, counts: Counts| codes(&snapshot(task(status, counts)).reasons(RunLimits::default()));
    assert_eq!(of(TaskStatus::Done, Counts { finished: 2, received: 2, ..expected(2) }), [C::Done]);
    assert_eq!(
        of(TaskStatus::Done, Counts { finished: 2, received: 2, failed: 1, ..expected(2) }),
        [C::Failed]
    );
    assert_eq!(of(TaskStatus::Canceled, Counts { canceled: 2, ..expected(2) }), [C::Canceled]);
    assert_eq!(of(TaskStatus::Canceled, Counts { canceled: 1, ..expected(2) }), [C::Canceled, C::Stopping]);
    assert_eq!(of(TaskStatus::Expired, Counts { expired: 2, ..expected(2) }), [C::Expired]);
    assert_eq!(of(TaskStatus::Sent, expected(2)), [], "it depends on the endpoint");
}

#[test]
fn a_task_that_a_worker_has_stands_as_it_does_at_the_worker() {
    let mut snapshot = waiting(LinePlace::Nothing);
    snapshot.task.status = TaskStatus::Sent;
    snapshot.standing =
        Some(standing(Some(owed(ResponseStatus::Created)), Some(subscribed(PresenceNow::There))));
    let reasons = snapshot.reasons(RunLimits::default());
    assert_eq!(codes(&reasons), [C::Running]);
    assert_eq!(reasons[0].evidence.endpoint.as_ref().map(EndpointName::as_str), Some("web1"));
    assert_eq!((reasons[0].since, reasons[0].evidence.progress), (Some(at(5)), Some(7)));
}

#[test]
fn trouble_of_an_endpoint_that_is_silent_since_is_old() {
    let refused = Subscribed { trouble: Some("broker_refused: x".into()), ..subscribed(PresenceNow::Gone) };
    let with = |last_seen| Standing {
        last_seen: Some(last_seen),
        ..standing(Some(owed(ResponseStatus::Expected)), Some(refused.clone()))
    };
    assert_eq!(codes(&at_endpoint(TaskStatus::Sent, with(at(11)))), [C::BrokerRefused, C::EndpointGone]);
    assert_eq!(codes(&at_endpoint(TaskStatus::Sent, with(at(10)))), [C::EndpointGone]);
    let never = |trouble: Option<&str>| Subscribed {
        trouble: trouble.map(str::to_owned),
        ..subscribed(PresenceNow::Never)
    };
    let of = |trouble| {
        codes(&at_endpoint(
            TaskStatus::Sent,
            standing(Some(owed(ResponseStatus::Expected)), Some(never(trouble))),
        ))
    };
    assert_eq!((of(Some("handler_missing: x")), of(None)), (vec![C::HandlerMissing], vec![C::NotSubscribed]));
}

#[test]
fn a_summary_counts_all_and_names_some() {
    let mut summary = Summary::default();
    let name = |number: usize| format!("web{number:02}").parse::<EndpointName>().expect("a name");
    for number in 0..30 {
        let code = if number % 3 == 0 { C::EndpointGone } else { C::Running };
        summary.add(name(number), vec![Reason::new(code, number.to_string()), Reason::new(C::Fenced, "too")]);
    }
    summary.add(name(31), Vec::new());
    let groups = summary.groups();
    let told: Vec<_> = groups
        .iter()
        .map(|group| (group.example.code, group.count, group.endpoints.len(), group.example.text.as_str()))
        .collect();
    assert_eq!(told, [(C::Running, 20, 10, "1"), (C::EndpointGone, 10, 10, "0")]);
    assert_eq!(groups[1].endpoints[1].as_str(), "web03");
}
