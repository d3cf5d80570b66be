//! What there is to say why a task does not run.

use anyhow::{Context, Result};
use tasker::domain::{
    LinePlace, NewTask, Place, Presence, PresenceNow, PresenceState, ReasonCode, RefusedType, ResponseStatus,
    RunLimits, Snapshot, Standing, TaskId, TokenName,
};
use tasker::store::{Freeze, QueueRule};
use uuid::Uuid;

use super::ledger::{Ledger, RETENTION, at, finished, name, names, noon, received, task, worker};
use super::presence::presence;

async fn look(ledger: &Ledger, id: TaskId) -> Result<Snapshot> {
    ledger.store.explain(id, None).await?.context("the task is there")
}

async fn look_at(ledger: &Ledger, id: TaskId, endpoint: &str) -> Result<(Vec<ReasonCode>, Standing)> {
    let snapshot = ledger.store.explain(id, Some(&name(endpoint))).await?.context("the task is there")?;
    let standing = snapshot.standing.clone().context("a standing")?;
    Ok((snapshot.reasons_at(&standing).iter().map(|reason| reason.code).collect(), standing))
}

pub async fn explains_how_a_task_stands_at_endpoints(ledger: &Ledger) -> Result<()> {
    use ReasonCode as C;
    assert!(ledger.store.explain(TaskId::new(), None).await?.is_none());
    for (name, state) in [
        ("here", PresenceState::Alive),
        ("done", PresenceState::Alive),
        ("left", PresenceState::Leaving),
        ("other", PresenceState::Alive),
    ] {
        ledger.store.see(&[presence(name, &["worker"], PresenceState::Joined)], noon()).await?;
        ledger.store.see(&[presence(name, &["worker"], state)], at(1)).await?;
    }
    let refused = RefusedType { task_type: worker(), held: false, reason: C::HandlerMissing.told("none") };
    let lacking = Presence { refused: vec![refused], ..presence("lacking", &[], PresenceState::Alive) };
    ledger.store.see(&[lacking], at(2)).await?;
    let submitted = task("a");
    let id = submitted.id;
    ledger.store.accept(&[submitted], at(10), RETENTION).await?;
    ledger
        .store
        .freeze(&[Freeze { id, expected: names(&["here", "done", "left", "lacking", "nobody"]) }], at(2))
        .await?;
    ledger.store.mark_published(&[id], at(2)).await?;
    ledger
        .store
        .apply(&[received(id, "here"), finished(id, "done", 3)], &Default::default(), at(3), RETENTION)
        .await?;

    let (codes, standing) = look_at(ledger, id, "here").await?;
    let owed = standing.response.context("a response")?;
    assert_eq!((owed.status, owed.received_at, owed.errnr), (ResponseStatus::Created, Some(at(3)), None));
    let subscription = standing.subscription.context("a subscription")?;
    assert_eq!(
        (subscription.presence, subscription.last_seen, standing.last_seen),
        (PresenceNow::There, at(1), Some(at(1)))
    );
    assert_eq!((codes, owed.home), (vec![C::Received], subscription.home));
    assert_eq!(look_at(ledger, id, "done").await?.0, [C::Failed]);
    assert_eq!(look_at(ledger, id, "left").await?.0, [C::EndpointStopped]);
    assert_eq!(look_at(ledger, id, "nobody").await?.0, [C::NeverHeardOf]);
    assert_eq!(look_at(ledger, id, "lacking").await?.0, [C::HandlerMissing]);
    assert_eq!(look_at(ledger, id, "other").await?.0, [C::NotExpected]);
    assert_eq!(look_at(ledger, id, "unheard").await?.0, [C::NotExpected, C::NeverHeardOf]);

    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = ledger.store.standings(id, &worker(), after, 2).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.endpoint.clone());
        seen.extend(page.into_iter().map(|standing| standing.endpoint));
    }
    assert_eq!(seen, names(&["done", "here", "lacking", "left", "nobody"]));
    Ok(())
}

fn queued(identifier: &str, place: Place) -> NewTask {
    NewTask { receive_by: at(3600), place: Some(place), ..task(identifier) }
}

fn place(limit_key: Option<[u8; 32]>) -> Place {
    Place { priority: 100, run_at: None, unique: None, limit_key, chains: false, parent: None, renews: true }
}

pub async fn explains_how_a_task_waits(ledger: &Ledger) -> Result<()> {
    use ReasonCode as C;
    let rule = QueueRule { task_type: worker(), attempts: 3, max_running: None, max_per_key: Some(1) };
    let limits = RunLimits { of_type: None, of_key: Some(1) };
    let codes =
        |snapshot: &Snapshot| snapshot.reasons(limits).iter().map(|reason| reason.code).collect::<Vec<_>>();
    let key = Some([7; 32]);
    let later = Place { run_at: Some(at(1000)), ..place(None) };
    let tasks = [
        queued("first", place(key)),
        queued("second", place(key)),
        queued("third", place(None)),
        queued("later", later),
    ];
    ledger.store.accept(&tasks, at(10), RETENTION).await?;
    let [first, second, third, later] = tasks.map(|task| task.id);
    assert_eq!(codes(&look(ledger, first).await?), [C::NoWorker, C::WaitsBehind]);
    let snapshot = look(ledger, third).await?;
    let line = snapshot.line.context("a line")?;
    assert_eq!((line.ahead, line.workers.present, line.workers.last_seen), (2, 0, None));
    assert_eq!(codes(&look(ledger, later).await?), [C::WaitsForRunAt, C::NoWorker]);

    // A worker of two slots gets the first and the third; the second is held by its key.
    let with_slots = |slots| Presence {
        slots: Some(slots),
        home: Uuid::nil(),
        ..presence("w", &["worker"], PresenceState::Joined)
    };
    ledger.store.see(&[with_slots(2)], noon()).await?;
    let given = ledger.store.give(std::slice::from_ref(&rule), noon(), at(20)).await?.given;
    assert_eq!(given.first().map(|given| given.task.id), Some(first));
    _ = ledger.store.give(&[rule], noon(), at(20)).await?;
    let held = look(ledger, second).await?;
    let reasons = held.reasons(limits);
    assert_eq!(held.line.as_ref().map(|line| line.place), Some(LinePlace::Key));
    assert_eq!((reasons[0].code, &reasons[0].evidence.tasks), (C::LimitKeyHeld, &vec![first]));
    assert_eq!(codes(&held), [C::LimitKeyHeld, C::WorkersBusy], "the third has the other slot");
    assert_eq!(
        codes(&look(ledger, first).await?),
        [C::RetryAt],
        "the worker has it and has not confirmed it"
    );
    ledger.store.apply(&[received(first, "w")], &Default::default(), at(2), RETENTION).await?;
    assert_eq!(codes(&look(ledger, first).await?), [C::Received]);

    let ann: TokenName = "ann".parse()?;
    ledger.store.pause(&worker(), true, Some(&ann), at(5)).await?;
    let reasons = look(ledger, second).await?.reasons(limits);
    assert_eq!(
        (reasons[0].code, reasons[0].since, &reasons[0].evidence.by),
        (C::QueuePaused, Some(at(5)), &Some(ann.clone()))
    );
    assert_eq!(ledger.store.queues(&[worker()]).await?[0].paused_by, Some(ann));
    ledger.store.pause(&worker(), false, None, at(6)).await?;
    assert_eq!(ledger.store.queues(&[worker()]).await?[0].paused_by, None);
    ledger.store.apply(&[finished(first, "w", 0)], &Default::default(), at(7), RETENTION).await?;
    let done = look(ledger, first).await?;
    assert_eq!((codes(&done), done.line.is_none()), (vec![C::Done], true));
    Ok(())
}

pub async fn explains_at_the_same_cost_however_many_wait(ledger: &Ledger) -> Result<()> {
    let many: Vec<NewTask> =
        (0..11_000).map(|number| queued(&format!("task {number}"), place(None))).collect();
    for some in many.chunks(1000) {
        ledger.store.accept(some, at(10), RETENTION).await?;
    }
    let last = many.last().context("many")?.id;
    let before = ledger.rows_read("queued_task").await?;
    let line = look(ledger, last).await?.line.context("a line")?;
    assert_eq!(line.ahead, 10_001, "one more than are counted");
    let front = look(ledger, many[5].id).await?.line.context("a line")?;
    assert_eq!(front.ahead, 5);
    if let (Some(before), Some(after)) = (before, ledger.rows_read("queued_task").await?) {
        // Two looks at the front of the line.
        anyhow::ensure!(after - before <= 2 * 10_020, "{} rows", after - before);
    }
    Ok(())
}
