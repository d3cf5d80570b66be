//! What endpoints report.

use std::time::Duration;

use anyhow::Result;
use tasker::domain::{
    AttemptError, Counts, EndpointName, LateAnswer, LiveLog, LogPiece, NewTask, Presence, PresenceState,
    Report, ReportEvent, ResponseStatus, TaskEvent, TaskId, TaskStatus, errnr, json,
};
use tasker::store::{Applied, Freeze, LogPlace, LoggedLines, ResponseFilter, ResponseLog, Settlement};
use uuid::Uuid;

use super::ledger::{
    ALL, Ledger, RETENTION, at, finished, fleet, name, names, noon, received, report, shared, task, tasks,
    together,
};
use super::presence::presence;

fn tally(applied: &Applied) -> [u64; 4] {
    [applied.changed, applied.repeated, applied.adopted, applied.unknown]
}

pub async fn moves_rows_counts_and_task(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b"]).await?;
    let applied = ledger.store.apply(&[received(id, "a")], &Default::default(), at(1), RETENTION).await?;
    assert_eq!((tally(&applied), applied.moved), ([1, 0, 0, 0], vec![(id, TaskStatus::Sent)]));
    let applied = ledger.store.apply(&[finished(id, "a", 0)], &Default::default(), at(2), RETENTION).await?;
    assert!(!applied.room, "no worker of a queue has it");
    assert_eq!((tally(&applied), applied.moved), ([1, 0, 0, 0], vec![]));
    // Finished without a word before: it was received all the same.
    let applied = ledger.store.apply(&[finished(id, "b", 32)], &Default::default(), at(3), RETENTION).await?;
    assert_eq!((tally(&applied), applied.moved), ([1, 0, 0, 0], vec![(id, TaskStatus::Done)]));
    let task = ledger.task(id).await?;
    assert_eq!(
        task.counts,
        Counts { expected: 2, received: 2, finished: 2, failed: 1, canceled: 0, expired: 0 }
    );
    assert_eq!((task.status, task.finished_at), (TaskStatus::Done, Some(at(3))));
    let failed = ledger.store.responses(id, ResponseFilter::Failed, None, ALL).await?;
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0].endpoint, failed[0].status, failed[0].errnr),
        (&name("b"), ResponseStatus::Finished, Some(32))
    );
    assert_eq!((failed[0].start_time, failed[0].last_modified_time), (Some(at(3)), at(3)));
    let all = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
    assert_eq!((all[0].start_time, all[0].last_modified_time), (Some(at(1)), at(2)));

    // Kept for its retention, and due to be forgotten then.
    assert!(ledger.store.claim_due(at(4000), at(5000), 10).await?.is_empty());
    assert_eq!(ledger.store.claim_due(at(3).after(RETENTION), at(5000).after(RETENTION), 10).await?.len(), 1);
    Ok(())
}

pub async fn ignores_repeats_and_stragglers(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b"]).await?;
    let batch = [
        finished(id, "a", 5),
        received(id, "a"),
        finished(id, "a", 0),
        report(id, "a", ReportEvent::Canceled),
        finished(id, "a", 5),
    ];
    assert_eq!(
        tally(&ledger.store.apply(&batch, &Default::default(), at(1), RETENTION).await?),
        [1, 3, 0, 0]
    );
    assert_eq!(
        tally(&ledger.store.apply(&batch, &Default::default(), at(2), RETENTION).await?),
        [0, 5, 0, 0]
    );
    let counts = Counts { expected: 2, received: 1, finished: 1, failed: 1, ..Counts::default() };
    assert_eq!(ledger.task(id).await?.counts, counts);
    let responses = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
    assert_eq!((responses[0].errnr, responses[0].last_modified_time), (Some(5), at(1)));
    let progress = |percent| report(id, "b", ReportEvent::Progress { percent });
    for (percent, tally_, shown) in
        [(40, [1, 0, 0, 0], 40), (40, [0, 1, 0, 0], 40), (20, [0, 1, 0, 0], 40), (250, [1, 0, 0, 0], 100)]
    {
        assert_eq!(
            tally(&ledger.store.apply(&[progress(percent)], &Default::default(), at(3), RETENTION).await?),
            tally_,
            "{percent}"
        );
        assert_eq!(
            ledger.store.responses(id, ResponseFilter::All, None, ALL).await?[1].progress,
            Some(shown)
        );
    }
    assert_eq!(ledger.task(id).await?.counts.received, 2);
    assert_eq!(tally(&ledger.store.apply(&[], &Default::default(), at(4), RETENTION).await?), [0; 4]);
    Ok(())
}

/// Applies reports in batches by several processes at once and sums up.
async fn apply_crossing(
    ledger: &Ledger,
    mut reports: Vec<Report>,
    size: usize,
) -> Result<(Vec<(TaskId, TaskStatus)>, [u64; 4])> {
    fastrand::shuffle(&mut reports);
    let stores = [ledger.store.clone(), ledger.another()?];
    let batches = shared(reports.chunks(size).map(<[Report]>::to_vec).collect::<Vec<_>>());
    let runs = (0..8).map(|run| {
        let (store, batches) = (stores[run % 2].clone(), batches.clone());
        async move {
            let (mut moved, mut sum) = (Vec::new(), [0; 4]);
            for batch in batches.iter().skip(run).step_by(8) {
                let applied = store.apply(batch, &Default::default(), at(1), RETENTION).await?;
                sum.iter_mut().zip(tally(&applied)).for_each(|(sum, number)| *sum += number);
                moved.extend(applied.moved);
            }
            Ok((moved, sum))
        }
    });
    let (mut moved, mut sum) = (Vec::new(), [0; 4]);
    for (some, numbers) in together(runs).await? {
        moved.extend(some);
        sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    stores[1].close().await;
    Ok((moved, sum))
}

pub async fn counts_exactly_with_several_appliers_of_one_task(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(600);
    let id = ledger.frozen(&[task("one")], &endpoints).await?[0];
    let mut reports = Vec::new();
    for (number, endpoint) in endpoints.iter().enumerate() {
        let errnr = i32::from(number % 5 == 0);
        reports.extend([
            received(id, endpoint.as_str()),
            finished(id, endpoint.as_str(), errnr),
            finished(id, endpoint.as_str(), errnr),
        ]);
    }
    let (moved, [changed, repeated, adopted, unknown]) = apply_crossing(ledger, reports, 70).await?;
    assert_eq!((changed + repeated, adopted, unknown), (1800, 0, 0));
    assert!((600..=1200).contains(&changed), "{changed}");
    assert_eq!(moved.iter().filter(|(_, status)| *status == TaskStatus::Done).count(), 1, "it ends once");
    assert_eq!(
        ledger.task(id).await?.counts,
        Counts { expected: 600, received: 600, finished: 600, failed: 120, ..Counts::default() }
    );
    Ok(())
}

pub async fn counts_exactly_with_reports_of_many_tasks_crossing(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(25);
    let ids = ledger.frozen(&tasks(25), &endpoints).await?;
    let mut reports = Vec::new();
    for id in &ids {
        for endpoint in &endpoints {
            reports.extend([
                received(*id, endpoint.as_str()),
                finished(*id, endpoint.as_str(), 0),
                received(*id, endpoint.as_str()),
            ]);
        }
    }
    let (moved, [changed, repeated, ..]) = apply_crossing(ledger, reports, 100).await?;
    assert_eq!(changed + repeated, 25 * 25 * 3);
    assert_eq!(moved.iter().filter(|(_, status)| *status == TaskStatus::Done).count(), 25);
    for id in ids {
        let task = ledger.task(id).await?;
        let counts = Counts { expected: 25, received: 25, finished: 25, ..Counts::default() };
        assert_eq!((task.status, task.counts), (TaskStatus::Done, counts));
    }
    Ok(())
}

pub async fn adopts_only_into_open_frozen_tasks_without_list(ledger: &Ledger) -> Result<()> {
    let open = ledger.one("open", &["a"]).await?;
    let listed = ledger.one_listed("listed", &["a"]).await?;
    let unfrozen = task("unfrozen");
    ledger.store.accept(std::slice::from_ref(&unfrozen), at(10), RETENTION).await?;
    let ended = ledger.one("ended", &["a"]).await?;
    ledger.store.apply(&[finished(ended, "a", 0)], &Default::default(), at(1), RETENTION).await?;
    let nobody = ledger.one("nobody", &[]).await?;
    ledger.known(&names(&["late"]), noon()).await?;

    let reports = [listed, unfrozen.id, ended, TaskId::new()].map(|id| received(id, "late"));
    assert_eq!(
        tally(&ledger.store.apply(&reports, &Default::default(), at(2), RETENTION).await?),
        [0, 0, 0, 4]
    );
    // The last expected one and an unexpected one in the same batch: both count, whichever comes first.
    let applied = ledger
        .store
        .apply(
            &[finished(open, "a", 0), received(open, "late"), received(open, "late")],
            &Default::default(),
            at(3),
            RETENTION,
        )
        .await?;
    assert_eq!((tally(&applied), applied.moved), ([1, 1, 1, 0], vec![(open, TaskStatus::Sent)]));
    let counts = Counts { expected: 2, received: 2, finished: 1, ..Counts::default() };
    assert_eq!(ledger.task(open).await?.counts, counts);
    let applied =
        ledger.store.apply(&[finished(open, "late", 0)], &Default::default(), at(4), RETENTION).await?;
    assert_eq!((tally(&applied), applied.moved), ([1, 0, 0, 0], vec![(open, TaskStatus::Done)]));
    let applied =
        ledger.store.apply(&[finished(nobody, "late", 3)], &Default::default(), at(4), RETENTION).await?;
    assert_eq!((tally(&applied), applied.moved), ([0, 0, 1, 0], vec![(nobody, TaskStatus::Done)]));
    assert_eq!(
        ledger.task(nobody).await?.counts,
        Counts { expected: 1, received: 1, finished: 1, failed: 1, ..Counts::default() }
    );
    // Whoever has run it although it has ended is in the ledger, and it stays ended.
    let applied = ledger
        .store
        .apply(
            &[finished(ended, "late", 0), finished(ended, "late", 0)],
            &Default::default(),
            at(5),
            RETENTION,
        )
        .await?;
    assert_eq!((tally(&applied), applied.moved), ([0, 1, 1, 0], vec![]));
    let task = ledger.task(ended).await?;
    assert_eq!((task.status, task.finished_at), (TaskStatus::Done, Some(at(1))));
    assert_eq!(task.counts, Counts { expected: 2, received: 2, finished: 2, ..Counts::default() });
    assert_eq!(
        tally(
            &ledger
                .store
                .apply(&[finished(listed, "late", 0)], &Default::default(), at(5), RETENTION)
                .await?
        ),
        [0, 0, 0, 1]
    );
    Ok(())
}

pub async fn adopts_nobody_who_can_have_got_no_copy(ledger: &Ledger) -> Result<()> {
    let open = ledger.one("open", &["a"]).await?;
    let ended = ledger.one("ended", &["a"]).await?;
    ledger.store.mark_published(&[open, ended], at(1)).await?;
    ledger.store.apply(&[finished(ended, "a", 0)], &Default::default(), at(2), RETENTION).await?;
    // Never there; there for another type; there only when the task was long on its way.
    let other = Presence {
        task_types: vec!["backup".parse()?],
        ..presence("other", &["worker"], PresenceState::Alive)
    };
    ledger.store.see(&[other], at(0)).await?;
    ledger.known(&names(&["joined"]), at(60)).await?;
    for id in [open, ended] {
        let before = ledger.task(id).await?;
        let reports = ["ghost", "other", "joined"].map(|name| finished(id, name, 0));
        let applied = ledger.store.apply(&reports, &Default::default(), at(61), RETENTION).await?;
        assert_eq!((tally(&applied), applied.unsubscribed), ([0, 0, 0, 1], 2));
        let task = ledger.task(id).await?;
        assert_eq!((task.status, task.counts), (before.status, before.counts));
        assert_eq!(ledger.store.responses(id, ResponseFilter::All, None, ALL).await?.len(), 1);
    }
    Ok(())
}

pub async fn believes_only_who_has_it(ledger: &Ledger) -> Result<()> {
    let id = ledger.one_listed("listed", &["a", "b", "c"]).await?;
    // Listed, and never there.
    let absent = NewTask { endpoints: names(&["absent"]), ..task("absent") };
    ledger.store.accept(std::slice::from_ref(&absent), at(10), RETENTION).await?;
    ledger.store.freeze(&[Freeze { id: absent.id, expected: names(&["absent"]) }], noon()).await?;
    let refused = async |report: Report, unknown, unsubscribed, foreign| {
        let before = ledger.task(report.task_id).await?;
        let applied =
            ledger.store.apply(std::slice::from_ref(&report), &Default::default(), at(1), RETENTION).await?;
        assert_eq!(
            (tally(&applied), applied.unsubscribed, applied.foreign),
            ([0, 0, 0, unknown], unsubscribed, foreign),
            "{report:?}"
        );
        let task = ledger.task(report.task_id).await?;
        anyhow::ensure!(
            (task.status, task.counts) == (before.status, before.counts),
            "{report:?} has changed {task:?}"
        );
        anyhow::Ok(())
    };
    let of_another_type = |report| Report { task_type: "backup".parse().expect("a type"), ..report };
    let of_another = |report| Report { home: Uuid::from_u128(99), ..report };
    for event in [ReportEvent::Received, ReportEvent::Canceled, finished(id, "a", 0).event] {
        // A worker that is told to cancel what it does not know cannot tell its type.
        if !matches!(event, ReportEvent::Canceled) {
            refused(of_another_type(report(id, "a", event.clone())), 1, 0, 0).await?;
        }
        refused(of_another(report(id, "a", event.clone())), 0, 0, 1).await?;
        refused(report(absent.id, "absent", event), 0, 1, 0).await?;
    }
    // Once somebody has it, nobody else's word counts, whatever is known of them.
    ledger
        .store
        .apply(&[received(id, "a"), received(id, "b")], &Default::default(), at(2), RETENTION)
        .await?;
    refused(of_another(finished(id, "a", 0)), 0, 0, 1).await?;
    let successor = Presence { instance: Uuid::from_u128(5), ..of(Uuid::from_u128(5)) };
    ledger.store.see(&[successor], at(3)).await?;
    refused(Report { home: Uuid::from_u128(5), ..finished(id, "a", 0) }, 0, 0, 1).await?;
    refused(
        Report { home: Uuid::from_u128(6), event: ReportEvent::lost("it says"), ..finished(id, "a", 0) },
        0,
        0,
        1,
    )
    .await?;
    // But for one thing: who has the name now does not know what the one before had.
    let lost = Report {
        home: Uuid::from_u128(5),
        event: ReportEvent::lost("it is not known here"),
        ..received(id, "a")
    };
    assert_eq!(
        tally(&ledger.store.apply(&[lost], &Default::default(), at(4), RETENTION).await?),
        [1, 0, 0, 0]
    );
    // What the one before had done, and nobody has heard of until now, is as good as new.
    ledger.store.see(&[Presence { endpoint: name("c"), ..of(Uuid::from_u128(5)) }], at(5)).await?;
    assert_eq!(
        tally(
            &ledger
                .store
                .apply(&[finished(id, "b", 0), finished(id, "c", 0)], &Default::default(), at(6), RETENTION)
                .await?
        ),
        [2, 0, 0, 0]
    );
    let task = ledger.task(id).await?;
    assert_eq!(task.counts, Counts { expected: 3, received: 3, finished: 3, failed: 1, ..Counts::default() });
    assert_eq!(task.status, TaskStatus::Done);
    Ok(())
}

/// Endpoint a with a memory of its own.
fn of(home: Uuid) -> Presence {
    Presence { home, session: Uuid::from_u128(9), ..presence("a", &["worker"], PresenceState::Joined) }
}

pub async fn ends_what_was_stopped_unasked(ledger: &Ledger) -> Result<()> {
    let id = ledger.one_listed("a", &["a", "b"]).await?;
    let stopped = report(id, "a", ReportEvent::Canceled);
    let applied = ledger
        .store
        .apply(&[received(id, "a"), stopped.clone(), stopped], &Default::default(), at(1), RETENTION)
        .await?;
    assert_eq!((tally(&applied), applied.moved), ([2, 1, 0, 0], vec![(id, TaskStatus::Sent)]));
    let applied = ledger
        .store
        .apply(&[report(id, "b", ReportEvent::Canceled)], &Default::default(), at(2), RETENTION)
        .await?;
    assert_eq!((tally(&applied), applied.moved), ([1, 0, 0, 0], vec![(id, TaskStatus::Done)]));
    assert_eq!(
        ledger.task(id).await?.counts,
        Counts { expected: 2, received: 2, finished: 2, failed: 2, ..Counts::default() }
    );
    for response in ledger.store.responses(id, ResponseFilter::All, None, ALL).await? {
        assert_eq!((response.status, response.errnr), (ResponseStatus::Finished, Some(errnr::STOPPED)));
        assert!(response.errmsg.contains("was not canceled"), "{}", response.errmsg);
    }
    Ok(())
}

pub async fn leaves_a_canceled_task_canceled(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b", "c"]).await?;
    ledger
        .store
        .apply(&[received(id, "a"), received(id, "b")], &Default::default(), at(1), RETENTION)
        .await?;
    ledger.store.cancel(id, at(2), RETENTION).await?;
    let late = [
        finished(id, "a", 0),
        report(id, "b", ReportEvent::Canceled),
        finished(id, "c", 0),
        received(id, "d"),
    ];
    let applied = ledger.store.apply(&late, &Default::default(), at(3), RETENTION).await?;
    assert_eq!((tally(&applied), applied.late, applied.moved), ([2, 0, 0, 1], 1, vec![]));
    let task = ledger.task(id).await?;
    assert_eq!((task.status, task.finished_at), (TaskStatus::Canceled, Some(at(2))));
    assert_eq!(
        task.counts,
        Counts { expected: 3, received: 2, finished: 1, failed: 0, canceled: 2, expired: 0 }
    );
    // With the last row closed there is nothing left to give up: next it is forgotten.
    assert!(ledger.store.claim_due(at(7200), at(9000), 10).await?.is_empty());
    assert_eq!(ledger.store.claim_due(at(2).after(RETENTION), at(3).after(RETENTION), 10).await?.len(), 1);
    Ok(())
}

pub async fn leaves_an_expired_task_expired(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b"]).await?;
    ledger.store.apply(&[received(id, "a")], &Default::default(), at(1), RETENTION).await?;
    let expire = Settlement { id, event: Some(TaskEvent::Expire), found: None, asks: 1, due_at: at(9999) };
    ledger.store.settle(&[expire], at(3600), RETENTION).await?;
    let applied = ledger
        .store
        .apply(
            &[finished(id, "a", 0), received(id, "b"), received(id, "c")],
            &Default::default(),
            at(3601),
            RETENTION,
        )
        .await?;
    assert_eq!((tally(&applied), applied.late), ([0, 1, 0, 1], 1));
    let task = ledger.task(id).await?;
    assert_eq!(task.status, TaskStatus::Expired);
    assert_eq!(
        task.counts,
        Counts { expected: 2, received: 1, finished: 1, failed: 1, canceled: 0, expired: 1 },
        "a is not there"
    );
    Ok(())
}

pub async fn keeps_the_first_answer_that_came_after_the_end(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b", "c"]).await?;
    ledger
        .store
        .apply(&[received(id, "a"), finished(id, "c", 0)], &Default::default(), at(1), RETENTION)
        .await?;
    let expire = Settlement { id, event: Some(TaskEvent::Expire), found: None, asks: 1, due_at: at(9999) };
    ledger.store.settle(&[expire], at(3600), RETENTION).await?;
    let (task, before) =
        (ledger.task(id).await?, ledger.store.responses(id, ResponseFilter::All, None, ALL).await?);
    // Of one that had it and was lost, of one that was never heard of, and another than the first.
    let late = [
        finished(id, "a", 3),
        finished(id, "a", 0),
        finished(id, "b", 0),
        finished(id, "c", 5),
        finished(id, "c", 6),
    ];
    let applied = ledger.store.apply(&late, &Default::default(), at(3601), RETENTION).await?;
    assert_eq!((tally(&applied), applied.late, applied.contradicting), ([0, 2, 0, 0], 2, 1));
    let applied = ledger.store.apply(&late, &Default::default(), at(3602), RETENTION).await?;
    assert_eq!((tally(&applied), applied.late, applied.contradicting), ([0, 5, 0, 0], 0, 0), "one each");
    let now = ledger.task(id).await?;
    assert_eq!(
        (now.status, now.counts, now.finished_at),
        (task.status, task.counts, task.finished_at),
        "nothing has changed"
    );
    let responses = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
    for (was, is) in before.iter().zip(&responses) {
        assert_eq!(
            (was.status, was.errnr, was.last_modified_time),
            (is.status, is.errnr, is.last_modified_time)
        );
        assert_eq!(was.late, None);
    }
    let kept: Vec<_> = responses.into_iter().filter_map(|response| response.late).collect();
    let told = |late: &LateAnswer| (late.contradicts, late.errnr, late.errmsg.clone(), late.time);
    let wanted = [
        (false, 3, "could not: 3".to_owned()),
        (false, 0, String::new()),
        (true, 5, "could not: 5".to_owned()),
    ];
    assert_eq!(
        kept.iter().map(told).collect::<Vec<_>>(),
        wanted.map(|(contradicts, errnr, errmsg)| (contradicts, errnr, errmsg, at(3601)))
    );
    Ok(())
}

pub async fn tells_that_a_task_ran_twice(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b"]).await?;
    let ended = |run: u128| {
        let run = Some(Uuid::from_u128(run));
        let event = ReportEvent::Finished {
            errnr: 0,
            errmsg: String::new(),
            payload: None,
            attempt: 1,
            attempts: vec![],
            log: None,
            run,
        };
        report(id, "a", event)
    };
    for (run, doubled) in [(1, 0), (1, 0), (2, 1), (2, 0), (3, 0)] {
        assert_eq!(
            ledger.store.apply(&[ended(run)], &Default::default(), at(1), RETENTION).await?.doubled,
            doubled,
            "{run}"
        );
    }
    assert_eq!(
        ledger.task(id).await?.counts,
        Counts { expected: 2, received: 1, finished: 1, ..Counts::default() }
    );
    Ok(())
}

pub async fn keeps_what_an_endpoint_says(ledger: &Ledger) -> Result<()> {
    let endpoints: Vec<EndpointName> = fleet(40);
    let tasks = [NewTask { endpoints: endpoints.clone(), ..task("a") }];
    let id = ledger.frozen(&tasks, &endpoints).await?[0];
    let attempts = vec![AttemptError { attempt: 1, errnr: -7, errmsg: "too 😀 soon\n'\"\\".into() }];
    // Together more than one statement holds.
    let payload = json(&"é😀".repeat(50_000));
    let reports: Vec<Report> = endpoints
        .iter()
        .map(|endpoint| {
            let event = ReportEvent::Finished {
                errnr: i32::MIN,
                errmsg: "Ärger\0\n".into(),
                payload: Some(payload.clone()),
                attempt: 2,
                attempts: attempts.clone(),
                log: Some("last line 😀".into()),
                run: None,
            };
            report(id, endpoint.as_str(), event)
        })
        .collect();
    let applied = ledger
        .store
        .apply(&reports, &Default::default(), at(1).after(Duration::from_micros(123_456)), RETENTION)
        .await?;
    assert_eq!((tally(&applied), applied.moved), ([40, 0, 0, 0], vec![(id, TaskStatus::Done)]));
    let responses = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
    let mut sorted = names(&[]);
    sorted.extend(endpoints);
    sorted.sort();
    assert_eq!(responses.iter().map(|response| response.endpoint.clone()).collect::<Vec<_>>(), sorted);
    for response in responses {
        assert_eq!(
            (response.task_id, response.status, response.errnr),
            (id, ResponseStatus::Finished, Some(i32::MIN))
        );
        assert_eq!(
            (response.errmsg.as_str(), response.attempt, &response.attempts),
            ("Ärger\0\n", 2, &attempts)
        );
        assert_eq!(response.payload.map(|json| json.get().to_owned()).as_deref(), Some(payload.get()));
        assert_eq!(response.log.as_deref(), Some("last line 😀"));
        assert_eq!(response.start_time, Some(at(1).after(Duration::from_micros(123_456))));
    }
    Ok(())
}

pub async fn keeps_what_handlers_log(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b", "c"]).await?;
    let piece = |attempt, first, text: &str| LogPiece { attempt, first, text: text.to_owned() };
    let lines =
        |endpoint: &str, home, piece| LoggedLines { task_id: id, endpoint: name(endpoint), home, piece };
    let store = &ledger.store;
    let told = [lines("a", Uuid::nil(), piece(1, 0, "one\n"))];
    assert_eq!(store.append_logs(&told, at(1)).await?, 0, "nobody has the task yet");
    let log = |piece| report(id, "a", ReportEvent::Log(piece));
    store
        .apply(
            &[log(piece(1, 0, "one\n")), received(id, "b"), received(id, "c")],
            &Default::default(),
            at(1),
            RETENTION,
        )
        .await?;
    let responses = store.responses(id, ResponseFilter::All, None, ALL).await?;
    assert_eq!(
        responses.iter().map(|response| response.progress).collect::<Vec<_>>(),
        [Some(0), None, None],
        "what logs runs"
    );
    let batch = [
        lines("a", Uuid::nil(), piece(1, 0, "one\n")),
        lines("b", Uuid::nil(), piece(1, 0, "ein\u{df} \u{1f680}\n")),
        lines("a", Uuid::nil(), piece(1, 3, "four\n")),
        lines("a", Uuid::from_u128(7), piece(1, 4, "of another home\n")),
        lines("nobody", Uuid::nil(), piece(1, 0, "of nobody\n")),
        LoggedLines { task_id: TaskId::new(), ..lines("a", Uuid::nil(), piece(1, 0, "of no task\n")) },
    ];
    assert_eq!(store.append_logs(&batch, at(2)).await?, 3);
    assert_eq!(store.append_logs(&batch, at(3)).await?, 0, "repeats");
    let a = store.log_of(id, &name("a")).await?.expect("a log");
    assert_eq!(
        (a.log.text.as_str(), a.log.next, a.time),
        ("one\n\u{2026} 2 lines left out\nfour\n", 4, at(2))
    );
    assert!(
        store.log_of(id, &name("c")).await?.is_none() && store.log_of(id, &name("nobody")).await?.is_none()
    );
    assert_eq!(store.append_logs(&[lines("a", Uuid::nil(), piece(2, 0, "again\n"))], at(4)).await?, 1);
    // One whose lines have all come with its answer.
    let end = ReportEvent::Finished {
        errnr: 0,
        errmsg: String::new(),
        payload: None,
        attempt: 1,
        attempts: Vec::new(),
        log: Some("quick\n".to_owned()),
        run: None,
    };
    store.apply(&[report(id, "c", end)], &Default::default(), at(5), RETENTION).await?;
    let list = async |after: Option<LogPlace>, limit| {
        let logs = store.logs(id, after, limit).await?;
        let told = |log: &ResponseLog| (log.endpoint.to_string(), log.log.text.clone());
        anyhow::Ok((
            logs.iter().map(told).collect::<Vec<_>>(),
            logs.last().map(|log| LogPlace { time: log.time, endpoint: log.endpoint.clone() }),
        ))
    };
    let (all, _) = list(None, 10).await?;
    let of = |endpoint: &str, text: &str| (endpoint.to_owned(), text.to_owned());
    let of_a = of("a", "one\n\u{2026} 2 lines left out\nfour\n--- attempt 2 ---\nagain\n");
    assert_eq!(all, [of("b", "ein\u{df} \u{1f680}\n"), of_a.clone(), of("c", "quick\n")]);
    let (page, place) = list(None, 1).await?;
    assert_eq!(page.len(), 1);
    assert_eq!(list(place, 1).await?.0, [of_a]);
    // No more than that is kept, and nothing of a task that is forgotten.
    let long = format!("{}\n", "x".repeat(30 << 10));
    for first in 1..5 {
        assert_eq!(store.append_logs(&[lines("a", Uuid::nil(), piece(2, first, &long))], at(6)).await?, 1);
    }
    let a = store.log_of(id, &name("a")).await?.expect("a log").log;
    assert!(
        a.text.len() <= LiveLog::KEPT && a.begin() > 0 && a.text.ends_with(&long),
        "{} from {}",
        a.text.len(),
        a.begin()
    );
    assert_eq!(store.ended_at(id, &name("a")).await?, None);
    store.apply(&[finished(id, "a", 0), finished(id, "b", 0)], &Default::default(), at(7), RETENTION).await?;
    assert_eq!(
        (store.ended_at(id, &name("a")).await?, store.ended_at(id, &name("nobody")).await?),
        (Some(at(7)), None)
    );
    assert_eq!(
        store.append_logs(&[lines("a", Uuid::nil(), piece(2, 5, "the last\n"))], at(8)).await?,
        1,
        "what was still on its way"
    );
    assert_eq!(store.forget(&[id]).await?, 1);
    assert_eq!(store.append_logs(&[lines("a", Uuid::nil(), piece(2, 6, "too late\n"))], at(9)).await?, 0);
    assert!(store.log_of(id, &name("a")).await?.is_none() && store.logs(id, None, 10).await?.is_empty());
    Ok(())
}
