//! Claiming, settling, canceling, forgetting.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{Connection, Executor, MySqlConnection};
use tasker::domain::{
    Counts, NewTask, Presence, PresenceState, ReportEvent, ResponseStatus, TaskEvent, TaskId, TaskStatus,
    Timestamp, errnr,
};
use tasker::store::{Accepted, DueTask, Found, ResponseFilter, Settlement};
use uuid::Uuid;

use super::ledger::{
    ALL, Ledger, RETENTION, at, claim_together, finished, fleet, names, received, report, task, tasks,
    together, worker,
};
use super::presence::presence;

fn settlement(id: TaskId, event: Option<TaskEvent>, due_at: Timestamp) -> Settlement {
    Settlement { id, event, found: None, asks: 0, due_at }
}

fn ids(due: &[DueTask]) -> Vec<TaskId> {
    due.iter().map(|due| due.task.id).collect()
}

pub async fn claims_each_due_task_once(ledger: &Ledger) -> Result<()> {
    let batch = tasks(300);
    ledger.store.accept(&batch, at(10), RETENTION).await?;
    assert!(ledger.store.claim_due(at(9), at(100), 1000).await?.is_empty(), "not due yet");
    let other = ledger.another()?;
    let runs = (0..8).map(|run| {
        let store = if run % 2 == 0 { ledger.store.clone() } else { other.clone() };
        move || {
            let store = store.clone();
            async move {
                let due = store.claim_due(at(10), at(100), 10).await?;
                anyhow::ensure!(due.len() <= 10, "claimed {}", due.len());
                Ok(ids(&due))
            }
        }
    });
    let claimed = claim_together(300, runs).await?;
    let distinct: HashSet<TaskId> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (300, 300));
    other.close().await;
    Ok(())
}

pub async fn claims_again_when_a_lease_runs_out(ledger: &Ledger) -> Result<()> {
    let (first, second) = (task("first"), task("second"));
    ledger.store.accept(std::slice::from_ref(&second), at(20), RETENTION).await?;
    ledger.store.accept(std::slice::from_ref(&first), at(10), RETENTION).await?;
    let due = ledger.store.claim_due(at(30), at(60), 1).await?;
    assert_eq!(ids(&due), [first.id], "the oldest comes first");
    assert!(!due[0].frozen);
    assert_eq!((due[0].asks, due[0].task.payload.get()), (0, "\"some data\""));
    assert_eq!(ids(&ledger.store.claim_due(at(30), at(60), 5).await?), [second.id]);
    assert!(ledger.store.claim_due(at(59), at(90), 5).await?.is_empty());
    ledger.store.freeze(&[tasker::store::Freeze { id: first.id, expected: fleet(2) }], at(59)).await?;
    ledger
        .store
        .settle(
            &[Settlement { id: first.id, event: None, found: None, asks: 3, due_at: at(60) }],
            at(59),
            RETENTION,
        )
        .await?;
    let again = ledger.store.claim_due(at(60), at(90), 5).await?;
    assert_eq!(again.len(), 2);
    let first = again.iter().find(|due| due.task.id == first.id).expect("claimed again");
    assert_eq!((first.frozen, first.asks, first.task.counts.expected), (true, 3, 2));
    Ok(())
}

pub async fn claims_what_waits_behind_a_row_that_cannot_be_read(ledger: &Ledger) -> Result<()> {
    let (broken, good) = (task("broken"), task("good"));
    ledger.store.accept(std::slice::from_ref(&broken), at(10), RETENTION).await?;
    ledger.store.accept(std::slice::from_ref(&good), at(20), RETENTION).await?;
    ledger
        .execute("UPDATE task SET target = 'of another version' WHERE identifier = X'62726f6b656e'")
        .await?;
    assert_eq!(ids(&ledger.store.claim_due(at(30), at(60), 1).await?), [], "it is first in line, once");
    assert_eq!(ids(&ledger.store.claim_due(at(30), at(60), 1).await?), [good.id]);
    assert_eq!(ids(&ledger.store.claim_due(at(1000), at(1010), 5).await?), [good.id], "it is left alone");
    ledger.execute("UPDATE task SET target = NULL WHERE identifier = X'62726f6b656e'").await?;
    assert_eq!(ids(&ledger.store.claim_due(at(3630), at(3640), 5).await?), [good.id, broken.id]);
    Ok(())
}

pub async fn leaves_what_a_cancel_has_set_since(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a1"]).await?;
    ledger.store.apply(&[received(id, "a1")], &Default::default(), at(1), RETENTION).await?;
    let decided = Settlement {
        id,
        event: None,
        found: Some(Found { ended: false, asks: 0 }),
        asks: 1,
        due_at: at(500),
    };
    ledger.store.cancel(id, at(10), RETENTION).await?;
    ledger.store.settle(&[decided], at(11), RETENTION).await?;
    let due = ledger.store.claim_due(at(20), at(600), 5).await?;
    assert_eq!((ids(&due), due[0].asks), (vec![id], 0), "who has it is told again in ten seconds");
    Ok(())
}

pub async fn does_not_wait_for_a_locked_task(ledger: &Ledger) -> Result<()> {
    if !ledger.is_mysql() {
        // One writer: there is no such thing as a locked row.
        return Ok(());
    }
    let batch = tasks(3);
    ledger.store.accept(&batch, at(10), RETENTION).await?;
    let mut conn = MySqlConnection::connect(&ledger.uri).await?;
    let mut holder = conn.begin().await?;
    let lock = sqlx::query("SELECT id FROM task WHERE id = ? FOR UPDATE").bind(batch[1].id.0);
    holder.execute(lock).await?;
    let started = Instant::now();
    let mut claimed = ids(&ledger.store.claim_due(at(10), at(100), 10).await?);
    // And what is claimed holds up no submission.
    assert_eq!(ledger.store.accept(&[task("new")], at(10), RETENTION).await?, [Accepted::New]);
    assert!(started.elapsed() < Duration::from_secs(2), "it waited {:?}", started.elapsed());
    claimed.sort_unstable();
    assert_eq!(claimed, [batch[0].id, batch[2].id]);
    holder.rollback().await?;
    conn.close().await?;
    Ok(())
}

pub async fn settles_by_the_state_it_finds(ledger: &Ledger) -> Result<()> {
    let silent = ledger.one("silent", &["a", "b"]).await?;
    let heard = ledger.one("heard", &["a"]).await?;
    let unpublished = ledger.one("unpublished", &["a"]).await?;
    let nobody = ledger.one("nobody", &[]).await?;
    ledger
        .store
        .apply(&[received(heard, "a"), received(silent, "a")], &Default::default(), at(1), RETENTION)
        .await?;
    let deadline = |id| settlement(id, Some(TaskEvent::ReceiveDeadline), at(60));
    let settlements = [
        deadline(silent),
        deadline(heard),
        settlement(unpublished, Some(TaskEvent::Published), at(60)),
        deadline(nobody),
        deadline(TaskId::new()),
    ];
    let mut moved = ledger.store.settle(&settlements, at(30), RETENTION).await?.moved;
    moved.sort_by_key(|(id, _)| *id);
    assert_eq!(
        moved,
        [(silent, TaskStatus::Incomplete), (unpublished, TaskStatus::Sent), (nobody, TaskStatus::Incomplete)]
    );
    assert_eq!(ledger.task(heard).await?.status, TaskStatus::Sent);
    assert_eq!(ledger.task(unpublished).await?.published_at, Some(at(30)));
    assert!(
        ledger.store.settle(&settlements, at(31), RETENTION).await?.moved.is_empty(),
        "a repeat moves nothing"
    );
    assert_eq!(ledger.store.claim_due(at(59), at(100), 10).await?.len(), 0);
    assert_eq!(ledger.store.claim_due(at(60), at(100), 10).await?.len(), 4);

    // Who was away comes back.
    let applied =
        ledger.store.apply(&[received(silent, "b")], &Default::default(), at(61), RETENTION).await?;
    assert_eq!(applied.moved, [(silent, TaskStatus::Sent)]);
    // A decision taken on old news does not undo the end.
    ledger.store.apply(&[finished(heard, "a", 0)], &Default::default(), at(62), RETENTION).await?;
    let late = [settlement(heard, Some(TaskEvent::Expire), at(70)), settlement(heard, None, at(70))];
    assert!(ledger.store.settle(&late, at(63), RETENTION).await?.moved.is_empty());
    assert_eq!(ledger.task(heard).await?.status, TaskStatus::Done);
    assert!(
        !ids(&ledger.store.claim_due(at(100), at(101), 10).await?).contains(&heard),
        "it is kept, not looked at again"
    );
    Ok(())
}

pub async fn gives_up_open_rows(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["away", "done", "elsewhere", "running", "vanished"]).await?;
    let unfrozen = task("unfrozen");
    ledger.store.accept(std::slice::from_ref(&unfrozen), at(10), RETENTION).await?;
    let all = ["elsewhere", "running", "vanished"];
    let there: Vec<_> = all.iter().map(|name| presence(name, &["worker"], PresenceState::Alive)).collect();
    ledger.store.see(&there, at(0)).await?;
    ledger.store.apply(&all.map(|name| received(id, name)), &Default::default(), at(1), RETENTION).await?;
    ledger.store.apply(&[finished(id, "done", 1)], &Default::default(), at(1), RETENTION).await?;
    // One is heard of no more, one only as a process that knows nothing of what the first had received.
    let later = |name, home| Presence {
        home: Uuid::from_u128(home),
        ..presence(name, &["worker"], PresenceState::Alive)
    };
    ledger.store.see(&[later("running", 0)], at(3599)).await?;
    assert_eq!(ledger.store.miss(at(3599)).await?.subscriptions, 2);
    ledger.store.see(&[later("elsewhere", 9)], at(3599)).await?;
    let vanished = async || {
        let responses = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
        anyhow::Ok(
            responses
                .into_iter()
                .filter(|response| response.vanished)
                .map(|response| response.endpoint)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(vanished().await?, names(&["elsewhere", "vanished"]));
    let expire = |id| settlement(id, Some(TaskEvent::Expire), at(1));
    let settled = ledger.store.settle(&[expire(id), expire(unfrozen.id)], at(3600), RETENTION).await?;
    assert_eq!(
        settled.ended.iter().map(|(of, ended)| (of, ended.expired)).collect::<Vec<_>>(),
        [(&worker(), 1), (&worker(), 1)]
    );
    let mut moved = settled.moved;
    moved.sort_by_key(|(id, _)| *id);
    assert_eq!(moved, [(id, TaskStatus::Expired), (unfrozen.id, TaskStatus::Expired)]);
    let task = ledger.task(id).await?;
    assert_eq!(
        task.counts,
        Counts { expected: 5, received: 4, finished: 3, failed: 3, canceled: 0, expired: 2 }
    );
    assert_eq!(task.finished_at, Some(at(3600)));
    let responses = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
    let states: Vec<_> = responses.iter().map(|response| (response.status, response.errnr)).collect();
    let lost = (ResponseStatus::Finished, Some(errnr::LOST));
    let expired = (ResponseStatus::Expired, None);
    assert_eq!(states, [expired, (ResponseStatus::Finished, Some(1)), lost, expired, lost]);
    assert!(responses[2].errmsg.starts_with("lost: "), "{}", responses[2].errmsg);
    assert_eq!((responses[0].last_modified_time, responses[2].last_modified_time), (at(3600), at(3600)));
    assert_eq!(vanished().await?, names(&[]));
    assert_eq!(ledger.store.missing(id).await?, names(&["away"]), "it still tells who never had it");

    // More rows than one transaction should touch.
    let many = ledger.frozen(&tasks(5), &fleet(6000)).await?;
    let settled = ledger
        .store
        .settle(&many.iter().map(|id| expire(*id)).collect::<Vec<_>>(), at(3600), RETENTION)
        .await?;
    assert_eq!((settled.moved.len(), settled.ended.len()), (5, 5));
    for id in many {
        assert_eq!(ledger.task(id).await?.counts.expired, 6000);
    }
    Ok(())
}

pub async fn cancels_once(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["away", "done", "running"]).await?;
    ledger
        .store
        .apply(&[received(id, "running"), finished(id, "done", 0)], &Default::default(), at(1), RETENTION)
        .await?;
    let outcome = ledger.store.cancel(id, at(2), RETENTION).await?.expect("it is there");
    assert_eq!(
        (outcome.changed, outcome.refused, outcome.to_stop),
        (true, false, names(&["away", "running"]))
    );
    assert_eq!((outcome.task.status, outcome.task.finished_at), (TaskStatus::Canceled, Some(at(2))));
    assert_eq!(
        outcome.task.counts,
        Counts { expected: 3, received: 2, finished: 1, failed: 0, canceled: 1, expired: 0 }
    );
    let states: Vec<_> = ledger
        .store
        .responses(id, ResponseFilter::All, None, ALL)
        .await?
        .iter()
        .map(|response| response.status)
        .collect();
    assert_eq!(states, [ResponseStatus::Canceled, ResponseStatus::Finished, ResponseStatus::Created]);

    let again = ledger.store.cancel(id, at(3), RETENTION).await?.expect("it is there");
    assert_eq!(
        (again.changed, again.refused, again.to_stop),
        (false, false, names(&["running"])),
        "told once more"
    );
    assert_eq!(again.task.finished_at, Some(at(2)));

    let done = ledger.one("done", &["a"]).await?;
    ledger.store.apply(&[finished(done, "a", 0)], &Default::default(), at(1), RETENTION).await?;
    let refused = ledger.store.cancel(done, at(2), RETENTION).await?.expect("it is there");
    assert_eq!((refused.changed, refused.refused, refused.to_stop), (false, true, names(&[])));
    assert_eq!(refused.task.status, TaskStatus::Done);
    assert!(ledger.store.cancel(TaskId::new(), at(2), RETENTION).await?.is_none());

    let fresh = task("fresh");
    ledger.store.accept(std::slice::from_ref(&fresh), at(10), RETENTION).await?;
    let outcomes = together((0..4).map(|_| {
        let (store, id) = (ledger.store.clone(), fresh.id);
        async move { Ok(store.cancel(id, at(2), RETENTION).await?.is_some_and(|outcome| outcome.changed)) }
    }));
    assert_eq!(outcomes.await?.into_iter().filter(|changed| *changed).count(), 1);
    Ok(())
}

pub async fn gives_up_what_a_cancel_left_open(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a", "b"]).await?;
    ledger
        .store
        .apply(&[received(id, "a"), received(id, "b")], &Default::default(), at(1), RETENTION)
        .await?;
    ledger.store.cancel(id, at(2), RETENTION).await?;
    ledger
        .store
        .apply(&[report(id, "a", ReportEvent::Canceled)], &Default::default(), at(3), RETENTION)
        .await?;
    assert!(ledger.store.claim_due(at(11), at(4000), 10).await?.is_empty());
    assert_eq!(ids(&ledger.store.claim_due(at(12), at(4000), 10).await?), [id], "who has it is told again");
    ledger.store.settle(&[settlement(id, None, at(40))], at(12), RETENTION).await?;
    assert!(ledger.store.claim_due(at(39), at(4000), 10).await?.is_empty());
    assert_eq!(ids(&ledger.store.claim_due(at(40), at(4000), 10).await?), [id]);
    let expire = settlement(id, Some(TaskEvent::Expire), at(5000));
    assert!(ledger.store.settle(&[expire], at(3600), RETENTION).await?.moved.is_empty(), "it stays canceled");
    let task = ledger.task(id).await?;
    assert_eq!(task.status, TaskStatus::Canceled);
    assert_eq!(
        task.counts,
        Counts { expected: 2, received: 2, finished: 1, failed: 1, canceled: 1, expired: 0 },
        "nobody is there"
    );
    assert!(ledger.store.claim_due(at(9000), at(9001), 10).await?.is_empty());
    assert_eq!(ids(&ledger.store.claim_due(at(2).after(RETENTION), at(3).after(RETENTION), 10).await?), [id]);
    Ok(())
}

pub async fn forgets_only_what_has_ended(ledger: &Ledger) -> Result<()> {
    let open = ledger.one("open", &["a"]).await?;
    let done = ledger.one("done", &["a"]).await?;
    let fleets = ledger.frozen(&[task("fleet 1"), task("fleet 2")], &fleet(12_000)).await?;
    ledger.store.apply(&[finished(done, "a", 0)], &Default::default(), at(1), RETENTION).await?;
    for id in &fleets {
        ledger.store.cancel(*id, at(1), RETENTION).await?;
    }
    let all = [fleets.as_slice(), &[open, done, done, TaskId::new()]].concat();
    assert_eq!(ledger.store.forget(&all).await?, 3);
    assert_eq!(ledger.store.forget(&all).await?, 0);
    assert_eq!(ledger.task(open).await?.counts.expected, 1);
    for id in [fleets[0], fleets[1], done] {
        assert!(ledger.store.find(id).await?.is_none());
        assert!(ledger.store.responses(id, ResponseFilter::All, None, ALL).await?.is_empty());
    }
    let again: NewTask = task("done");
    assert_eq!(
        ledger.store.accept(&[again], at(10), RETENTION).await?,
        [Accepted::New],
        "its identifier is free again"
    );
    Ok(())
}
