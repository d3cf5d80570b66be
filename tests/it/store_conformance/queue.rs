//! Work queues: who is given which task, what becomes of it when the worker is gone, what waits no longer.

use std::collections::HashSet;

use anyhow::{Context, Result};
use tasker::domain::{
    NewTask, Place, Presence, PresenceState, TaskEvent, TaskId, TaskStatus, Timestamp, UniqueKey, errnr, json,
};
use tasker::store::{
    Accepted, CensusQuery, Given, QueueRule, ResponseFilter, ScheduleRecord, Settlement, Turns,
};
use uuid::Uuid;

use super::ledger::{
    Ledger, RETENTION, at, claim_together, finished, noon, received, task, together, worker,
};
use super::presence::presence;

fn place() -> Place {
    Place {
        priority: 100,
        run_at: None,
        unique: None,
        limit_key: None,
        chains: false,
        parent: None,
        renews: true,
    }
}

/// A task that waits in the queue of `worker`.
fn queued(identifier: &str, place: Place) -> NewTask {
    NewTask { receive_by: at(3600), place: Some(place), ..task(identifier) }
}

fn unique(key: u8) -> Place {
    Place { unique: Some(UniqueKey { scope: "worker".into(), key: [key; 32] }), ..place() }
}

fn rule() -> QueueRule {
    QueueRule { task_type: worker(), attempts: 3, max_running: None, max_per_key: None }
}

fn with_slots(name: &str, slots: u32) -> Presence {
    Presence { slots: Some(slots), home: Uuid::nil(), ..presence(name, &["worker"], PresenceState::Joined) }
}

async fn accept(ledger: &Ledger, tasks: &[NewTask]) -> Result<()> {
    let accepted = ledger.store.accept(tasks, at(10), RETENTION).await?;
    anyhow::ensure!(accepted.iter().all(|accepted| *accepted == Accepted::New), "{accepted:?}");
    Ok(())
}

async fn arrive(ledger: &Ledger, name: &str, slots: u32) -> Result<()> {
    ledger.store.see(&[with_slots(name, slots)], noon()).await?;
    Ok(())
}

async fn give(ledger: &Ledger, now: Timestamp) -> Result<Turns> {
    Ok(ledger.store.give(&[rule()], now, at(20)).await?)
}

fn identifiers(given: &[Given]) -> Vec<&str> {
    given.iter().map(|given| given.task.identifier.as_str()).collect()
}

/// All that would be given, one by one, to one worker that finishes each.
async fn order(ledger: &Ledger, now: Timestamp) -> Result<Vec<String>> {
    let mut order = Vec::new();
    loop {
        let turns = give(ledger, now).await?;
        for Given { task, worker } in &turns.given {
            order.push(task.identifier.as_str().to_owned());
            ledger
                .store
                .apply(&[finished(task.id, worker.as_str(), 0)], &Default::default(), now, RETENTION)
                .await?;
        }
        let settlement = |id: &TaskId| Settlement {
            id: *id,
            event: Some(TaskEvent::Expire),
            found: None,
            asks: 0,
            due_at: now,
        };
        ledger
            .store
            .settle(&turns.expired.iter().map(settlement).collect::<Vec<_>>(), now, RETENTION)
            .await?;
        if turns.given.is_empty() && !turns.more {
            return Ok(order);
        }
    }
}

async fn adds_up(ledger: &Ledger, now: Timestamp) -> Result<()> {
    let census =
        ledger.store.census(&worker(), &CensusQuery { limit: 1000, ..CensusQuery::default() }, now).await?;
    anyhow::ensure!(census.missing == 0 && census.double == 0, "{census:?}");
    Ok(())
}

pub async fn gives_the_best_first(ledger: &Ledger) -> Result<()> {
    let by = |priority| Place { priority, ..place() };
    let later =
        |identifier: &str, seconds| NewTask { start_time: at(seconds), ..queued(identifier, by(100)) };
    accept(ledger, &[later("third", 3), later("second", 2), queued("first", by(10)), later("fourth", 4)])
        .await?;
    assert!(give(ledger, noon()).await?.given.is_empty(), "nobody is there");
    arrive(ledger, "w", 1).await?;
    let turns = give(ledger, noon()).await?;
    assert_eq!(identifiers(&turns.given), ["first"], "there is room for one");
    let id = turns.given[0].task.id;
    let task = ledger.task(id).await?;
    assert_eq!((task.status, task.counts.expected, task.counts.received), (TaskStatus::Sent, 1, 0));
    assert!(give(ledger, noon()).await?.given.is_empty(), "it has not finished");
    ledger
        .store
        .apply(&[received(id, "w"), finished(id, "w", 0)], &Default::default(), at(1), RETENTION)
        .await?;
    assert_eq!(ledger.task(id).await?.status, TaskStatus::Done);
    assert_eq!(order(ledger, at(5)).await?, ["second", "third", "fourth"]);
    adds_up(ledger, at(5)).await
}

pub async fn gives_each_once_and_never_more_than_fits(ledger: &Ledger) -> Result<()> {
    let tasks: Vec<NewTask> = (0..300).map(|number| queued(&format!("task {number}"), place())).collect();
    accept(ledger, &tasks).await?;
    for (name, slots) in [("a", 40), ("b", 60), ("c", 70)] {
        arrive(ledger, name, slots).await?;
    }
    let other = ledger.another()?;
    let runs = (0..6).map(|run| {
        let store = if run % 2 == 0 { ledger.store.clone() } else { other.clone() };
        move || {
            let store = store.clone();
            async move { Ok(store.give(&[rule()], noon(), at(20)).await?.given) }
        }
    });
    let given = claim_together(170, runs).await?;
    assert!(ledger.store.give(&[rule()], noon(), at(20)).await?.given.is_empty(), "no slot is left");
    let distinct: HashSet<TaskId> = given.iter().map(|given| given.task.id).collect();
    assert_eq!((given.len(), distinct.len()), (170, 170), "as many as there are slots, none twice");
    for (name, slots) in [("a", 40), ("b", 60), ("c", 70)] {
        assert_eq!(given.iter().filter(|given| given.worker.as_str() == name).count(), slots, "{name}");
    }
    other.close().await;
    adds_up(ledger, noon()).await
}

async fn accept_and_give(ledger: &Ledger, rule: QueueRule, tasks: &[NewTask]) -> Result<Vec<Option<String>>> {
    let accepted = ledger.store.accept_and_give(tasks, &[rule], at(10), RETENTION).await?;
    let worker = |accepted| match accepted {
        Accepted::Given(worker) => Ok(Some(worker.to_string())),
        Accepted::New => Ok(None),
        Accepted::Existing { .. } => anyhow::bail!("{accepted:?}"),
    };
    accepted.into_iter().map(worker).collect()
}

pub async fn gives_new_ones_at_once_to_who_has_room(ledger: &Ledger) -> Result<()> {
    arrive(ledger, "w", 2).await?;
    let late = |identifier, priority| queued(identifier, Place { priority, ..place() });
    let tasks = [late("a", 3), late("b", 1), late("c", 2)];
    let w = || Some("w".to_owned());
    assert_eq!(
        accept_and_give(ledger, rule(), &tasks).await?,
        [None, w(), w()],
        "there is room for the best two"
    );
    let [a, b, _] = &tasks;
    let task = ledger.task(b.id).await?;
    assert_eq!((task.status, task.counts.expected, task.counts.received), (TaskStatus::Sent, 1, 0));
    assert_eq!(task.published_at, Some(b.start_time));
    assert_eq!(
        ledger.store.claim_due(at(10), at(20), 10).await?.len(),
        2,
        "whoever gave them may be gone before it told the worker"
    );
    assert!(give(ledger, noon()).await?.given.is_empty(), "there is no more room");
    adds_up(ledger, noon()).await?;

    // As after a commit whose news was lost: the same tasks, and by now another worker.
    arrive(ledger, "x", 5).await?;
    assert_eq!(
        accept_and_give(ledger, rule(), &tasks).await?,
        [None, None, None],
        "recorded, queued and given before"
    );
    assert_eq!(identifiers(&give(ledger, noon()).await?.given), ["a"]);
    for (id, name) in [(a.id, "x"), (b.id, "w")] {
        ledger.store.apply(&[finished(id, name, 0)], &Default::default(), at(1), RETENTION).await?;
        assert_eq!(ledger.task(id).await?.status, TaskStatus::Done);
    }
    assert_eq!(accept_and_give(ledger, rule(), &tasks).await?, [None, None, None], "and ended");
    let again = [NewTask { id: TaskId::new(), ..b.clone() }, late("d", 1)];
    let answers = ledger.store.accept_and_give(&again, &[rule()], at(10), RETENTION).await?;
    assert_eq!(answers, [Accepted::Existing { id: b.id, same: true }, Accepted::Given("x".parse()?)]);
    assert_eq!(ledger.store.responses(b.id, ResponseFilter::All, None, 10).await?.len(), 1);
    adds_up(ledger, at(1)).await
}

pub async fn gives_nothing_at_once_that_has_to_wait(ledger: &Ledger) -> Result<()> {
    let mut number = 0;
    let mut try_one = async |rule: QueueRule, place: Place| {
        number += 1;
        Ok::<_, anyhow::Error>(
            accept_and_give(ledger, rule, &[queued(&format!("task {number}"), place)]).await?.pop().flatten(),
        )
    };
    assert_eq!(try_one(rule(), place()).await?, None, "nobody is there");
    arrive(ledger, "w", 50).await?;
    assert_eq!(try_one(rule(), place()).await?, None, "one waits before it");
    assert_eq!(order(ledger, noon()).await?, ["task 1", "task 2"]);
    for (why, rule, place) in [
        ("a limit of the type", QueueRule { max_running: Some(9), ..rule() }, place()),
        ("a limit of its key", QueueRule { max_per_key: Some(9), ..rule() }, place()),
        ("a key", rule(), Place { limit_key: Some([1; 32]), ..place() }),
        ("one of a kind", rule(), unique(1)),
        ("a time", rule(), Place { run_at: Some(at(1000)), ..place() }),
    ] {
        assert_eq!(try_one(rule, place).await?, None, "{why}");
        order(ledger, noon()).await?;
    }
    ledger.store.pause(&worker(), true, None, noon()).await?;
    assert_eq!(try_one(rule(), place()).await?, None, "paused");
    ledger.store.pause(&worker(), false, None, noon()).await?;
    order(ledger, noon()).await?;
    assert_eq!(try_one(rule(), place()).await?, Some("w".to_owned()), "and now nothing is in its way");
    ledger
        .store
        .see(&[Presence { slots: Some(0), state: PresenceState::Alive, ..with_slots("w", 0) }], noon())
        .await?;
    assert_eq!(try_one(rule(), place()).await?, None, "it takes no more");
    adds_up(ledger, noon()).await
}

pub async fn gives_at_once_and_in_turn_no_more_than_fits(ledger: &Ledger) -> Result<()> {
    arrive(ledger, "a", 40).await?;
    arrive(ledger, "b", 60).await?;
    let other = ledger.another()?;
    let runs = (0..6).map(|run| {
        let store = if run % 2 == 0 { ledger.store.clone() } else { other.clone() };
        async move {
            let mut given = Vec::new();
            for batch in 0..10 {
                let tasks: Vec<NewTask> =
                    (0..5).map(|number| queued(&format!("task {run} {batch} {number}"), place())).collect();
                for (task, accepted) in
                    tasks.iter().zip(store.accept_and_give(&tasks, &[rule()], at(10), RETENTION).await?)
                {
                    match accepted {
                        Accepted::Given(worker) => given.push((task.id, worker)),
                        Accepted::New => {}
                        Accepted::Existing { .. } => anyhow::bail!("{accepted:?}"),
                    }
                }
                given.extend(
                    store
                        .give(&[rule()], noon(), at(20))
                        .await?
                        .given
                        .into_iter()
                        .map(|given| (given.task.id, given.worker)),
                );
            }
            Ok(given)
        }
    });
    let given = together(runs).await?.concat();
    let distinct: HashSet<TaskId> = given.iter().map(|(id, _)| *id).collect();
    assert_eq!((given.len(), distinct.len()), (100, 100), "as many as there are slots, none twice");
    for (name, slots) in [("a", 40), ("b", 60)] {
        assert_eq!(given.iter().filter(|(_, worker)| worker.as_str() == name).count(), slots, "{name}");
    }
    other.close().await;
    adds_up(ledger, noon()).await
}

pub async fn takes_back_what_a_worker_leaves(ledger: &Ledger) -> Result<()> {
    accept(ledger, &[queued("begun", Place { priority: 1, ..place() }), queued("on its way", place())])
        .await?;
    arrive(ledger, "w", 2).await?;
    let given = give(ledger, noon()).await?.given;
    let begun = given[0].task.id.min(given[1].task.id);
    ledger.store.apply(&[received(begun, "w")], &Default::default(), at(1), RETENTION).await?;
    assert_eq!(ledger.store.take_back(&[rule()], at(1), RETENTION).await?.returned, 0, "it is there");
    ledger.store.miss(at(100)).await?;
    assert_eq!(ledger.store.take_back(&[rule()], at(100), RETENTION).await?.returned, 2);
    let task = ledger.task(begun).await?;
    let attempts = task.queued.as_ref().map(|queued| queued.attempts.clone()).unwrap_or_default();
    assert_eq!((task.status, task.counts.expected, attempts.len()), (TaskStatus::Created, 0, 1));
    assert_eq!((attempts[0].attempt, attempts[0].errnr), (1, errnr::LOST));
    // The report of the other may have been lost with the worker.
    let other = ledger.task(given.iter().map(|given| given.task.id).max().context("two were given")?).await?;
    let lost: Vec<_> = other
        .queued
        .iter()
        .flat_map(|queued| &queued.attempts)
        .map(|attempt| attempt.errmsg.as_str())
        .collect();
    assert_eq!(lost, ["lost: the worker w was given it, may have begun, and is gone"]);
    assert_eq!(
        ledger.store.mark_published(&[begun], at(100)).await?,
        0,
        "asked for again just before: it waits all the same"
    );
    assert_eq!(ledger.task(begun).await?.status, TaskStatus::Created);
    let applied =
        ledger.store.apply(&[finished(begun, "w", 0)], &Default::default(), at(101), RETENTION).await?;
    assert_eq!((applied.unknown, applied.to_stop.len()), (1, 0), "it is nobody's now");
    assert!(!applied.room);
    adds_up(ledger, at(101)).await?;

    // The others that have it lose it, too: the third time was the last.
    for name in ["x", "y"] {
        arrive(ledger, name, 1).await?;
        let given = give(ledger, noon()).await?.given;
        assert_eq!(identifiers(&given), ["begun"], "in its old place");
        assert_eq!(given[0].worker.as_str(), name);
        let applied =
            ledger.store.apply(&[received(begun, name)], &Default::default(), at(102), RETENTION).await?;
        assert!(!applied.room, "it runs");
        let leaves = Presence { state: PresenceState::Leaving, ..with_slots(name, 1) };
        ledger.store.see(&[leaves], at(103)).await?;
        ledger.store.take_back(&[rule()], at(103), RETENTION).await?;
    }
    let task = ledger.task(begun).await?;
    let responses = ledger.store.responses(begun, ResponseFilter::All, None, 10).await?;
    assert_eq!((task.status, task.counts.failed, responses.len()), (TaskStatus::Done, 1, 1));
    assert_eq!(
        (responses[0].errnr, responses[0].attempt, responses[0].attempts.len()),
        (Some(errnr::LOST), 3, 2)
    );
    adds_up(ledger, at(104)).await
}

pub async fn takes_back_what_another_memory_had(ledger: &Ledger) -> Result<()> {
    accept(ledger, &[queued("a", place()), queued("b", place())]).await?;
    arrive(ledger, "w", 2).await?;
    let given = give(ledger, noon()).await?.given;
    ledger.store.apply(&[received(given[0].task.id, "w")], &Default::default(), at(1), RETENTION).await?;
    ledger.store.miss(at(100)).await?;
    ledger
        .store
        .see(
            &[Presence { home: Uuid::from_u128(9), instance: Uuid::from_u128(9), ..with_slots("w", 2) }],
            at(100),
        )
        .await?;
    let back = ledger.store.take_back(&[rule()], at(100), RETENTION).await?;
    assert_eq!(back.returned, 1, "what was not received is still its own");
    Ok(())
}

pub async fn one_of_a_key_waits(ledger: &Ledger) -> Result<()> {
    let payload = |text: &str, task: NewTask| NewTask { payload: json(&text), ..task };
    accept(
        ledger,
        &[payload("old", queued("old", Place { priority: 1, ..unique(1) })), queued("other", unique(2))],
    )
    .await?;
    let new = NewTask { start_time: at(1), expires_at: at(7200), ..payload("new", queued("new", unique(1))) };
    accept(ledger, std::slice::from_ref(&new)).await?;
    let old = ledger.store.find_by_identifier(&worker(), &"old".parse()?).await?.expect("kept");
    assert_eq!(
        (old.status, old.queued.and_then(|queued| queued.replaced_by)),
        (TaskStatus::Canceled, Some(new.id))
    );
    // Two in one batch: the later stays.
    let twins = [
        NewTask { start_time: at(2), ..queued("twin 1", unique(3)) },
        NewTask { start_time: at(3), ..queued("twin 2", unique(3)) },
    ];
    accept(ledger, &twins).await?;
    // One without a time of its own has what was left to the one before, whatever it says itself.
    let short = Place { renews: false, ..unique(2) };
    accept(ledger, &[NewTask { start_time: at(4), expires_at: at(9000), ..queued("other again", short) }])
        .await?;
    let other = ledger.store.find_by_identifier(&worker(), &"other again".parse()?).await?.expect("kept");
    assert_eq!(other.expires_at, at(3600));
    assert_eq!(ledger.task(new.id).await?.expires_at, at(7200), "this one has its own");
    // One that follows a task yields to one that waits.
    let follows = Place { parent: Some(old.id), ..unique(1) };
    accept(ledger, &[NewTask { start_time: at(5), ..queued("follows", follows) }]).await?;
    let follows = ledger.store.find_by_identifier(&worker(), &"follows".parse()?).await?.expect("kept");
    assert_eq!(
        (follows.status, follows.queued.and_then(|queued| queued.replaced_by)),
        (TaskStatus::Canceled, Some(new.id))
    );

    arrive(ledger, "w", 1).await?;
    let given = give(ledger, noon()).await?.given;
    assert_eq!(
        (identifiers(&given), given[0].task.payload.get()),
        (vec!["new"], "\"new\""),
        "in its new place"
    );
    // While it runs another one may wait.
    accept(ledger, &[NewTask { start_time: at(6), ..queued("next", unique(1)) }]).await?;
    // And has its place when the first comes back.
    ledger.store.miss(at(100)).await?;
    ledger.store.take_back(&[rule()], at(100), RETENTION).await?;
    assert_eq!(ledger.task(new.id).await?.status, TaskStatus::Canceled);
    ledger.store.see(&[Presence { instance: Uuid::from_u128(9), ..with_slots("w", 1) }], at(100)).await?;
    assert_eq!(order(ledger, at(100)).await?, ["twin 2", "other again", "next"]);
    adds_up(ledger, at(100)).await
}

pub async fn one_of_a_key_waits_however_many_come(ledger: &Ledger) -> Result<()> {
    let stores = [ledger.another()?, ledger.another()?, ledger.another()?];
    for round in 0..10 {
        let runs = stores.iter().cloned().enumerate().map(|(process, store)| async move {
            let task = queued(&format!("{process} in round {round}"), unique(round));
            let accepted = store.accept(std::slice::from_ref(&task), at(10), RETENTION).await?;
            anyhow::ensure!(accepted == [Accepted::New], "{accepted:?}");
            Ok(task.id)
        });
        let mut waiting = 0;
        for id in together(runs.collect::<Vec<_>>()).await? {
            let task = ledger.store.find(id).await?.context("the task is there")?;
            let replaced_by = task.queued.and_then(|queued| queued.replaced_by);
            match task.status {
                TaskStatus::Created => waiting += 1,
                TaskStatus::Canceled => {
                    assert!(replaced_by.is_some_and(|other| other != id), "{replaced_by:?}")
                }
                other => anyhow::bail!("{id} is {other:?}"),
            }
        }
        assert_eq!(waiting, 1, "of round {round}");
        let queues = ledger.store.queues(&[worker()]).await?;
        assert_eq!(queues[0].waiting, u64::from(round) + 1, "each that is not canceled has a place");
    }
    for store in stores {
        store.close().await;
    }
    adds_up(ledger, noon()).await
}

pub async fn drops_what_is_too_late(ledger: &Ledger) -> Result<()> {
    let late = NewTask { expires_at: at(50), ..queued("late", Place { priority: 1, ..place() }) };
    accept(ledger, &[late.clone(), queued("in time", place())]).await?;
    arrive(ledger, "w", 1).await?;
    assert_eq!(order(ledger, at(51)).await?, ["in time"]);
    assert_eq!(ledger.task(late.id).await?.status, TaskStatus::Expired);
    adds_up(ledger, at(52)).await
}

pub async fn keeps_limits(ledger: &Ledger) -> Result<()> {
    let keyed = |identifier: &str, key: u8, seconds| NewTask {
        start_time: at(seconds),
        ..queued(identifier, Place { limit_key: Some([key; 32]), ..place() })
    };
    accept(
        ledger,
        &[keyed("a1", 1, 1), keyed("a2", 1, 2), keyed("a3", 1, 3), keyed("b1", 2, 4), keyed("c1", 3, 5)],
    )
    .await?;
    arrive(ledger, "w", 10).await?;
    let rules = [QueueRule { max_running: Some(2), max_per_key: Some(1), ..rule() }];
    let given = async || ledger.store.give(&rules, at(5), at(20)).await.map(|turns| turns.given);
    let first = given().await?;
    assert_eq!(identifiers(&first), ["a1", "b1"]);
    assert!(given().await?.is_empty());
    let queue = &ledger.store.queues(&[worker()]).await?[0];
    assert_eq!((queue.waiting, queue.held, queue.running), (1, 2, 2));
    let end = async |given: &Given| {
        ledger.store.apply(&[finished(given.task.id, "w", 0)], &Default::default(), at(6), RETENTION).await
    };
    end(&first[0]).await?;
    let second = given().await?;
    assert_eq!(identifiers(&second), ["a2"], "the first of its key goes on");
    end(&first[1]).await?;
    assert_eq!(identifiers(&given().await?), ["c1"], "a3 is held");
    end(&second[0]).await?;
    assert_eq!(identifiers(&given().await?), ["a3"]);
    // What is held is looked at again when the limits are others.
    accept(ledger, &[keyed("a4", 1, 6)]).await?;
    assert!(given().await?.is_empty());
    ledger.store.release_held(&[worker()]).await?;
    let wider = [QueueRule { max_per_key: Some(2), ..rule() }];
    let turns = ledger.store.give(&wider, at(6), at(20)).await?;
    assert_eq!(identifiers(&turns.given), ["a4"]);
    adds_up(ledger, at(6)).await
}

pub async fn pauses(ledger: &Ledger) -> Result<()> {
    accept(ledger, &[queued("a", place())]).await?;
    arrive(ledger, "w", 1).await?;
    assert!(ledger.store.pause(&worker(), true, None, at(1)).await?);
    assert!(!ledger.store.pause(&worker(), true, None, at(2)).await?, "it was already");
    assert!(give(ledger, noon()).await?.given.is_empty());
    assert_eq!(ledger.store.queues(&[worker()]).await?[0].paused_at, Some(at(1)));
    assert!(ledger.store.pause(&worker(), false, None, at(3)).await?);
    assert_eq!(give(ledger, noon()).await?.given.len(), 1);
    Ok(())
}

pub async fn begins_no_sooner_than_asked(ledger: &Ledger) -> Result<()> {
    let later = queued("later", Place { run_at: Some(at(60)), ..place() });
    accept(ledger, std::slice::from_ref(&later)).await?;
    arrive(ledger, "w", 1).await?;
    assert!(give(ledger, at(59)).await?.given.is_empty());
    assert!(ledger.store.claim_due(at(59), at(70), 10).await?.is_empty());
    let due = ledger.store.claim_due(at(60), at(70), 10).await?;
    assert_eq!(due.iter().map(|due| due.task.id).collect::<Vec<_>>(), [later.id]);
    ledger.store.make_ready(&[later.id]).await?;
    assert_eq!(give(ledger, at(60)).await?.given.len(), 1);
    Ok(())
}

pub async fn cancels_what_waits_and_what_runs(ledger: &Ledger) -> Result<()> {
    let (waits, runs) = (queued("waits", place()), queued("runs", Place { priority: 1, ..place() }));
    accept(ledger, &[waits.clone(), runs.clone()]).await?;
    arrive(ledger, "w", 1).await?;
    give(ledger, noon()).await?;
    ledger.store.apply(&[received(runs.id, "w")], &Default::default(), at(1), RETENTION).await?;
    let outcome = ledger.store.cancel(runs.id, at(2), RETENTION).await?.expect("there");
    assert_eq!(outcome.to_stop.len(), 1);
    assert!(give(ledger, noon()).await?.given.is_empty(), "its worker has not stopped it yet");
    let outcome = ledger.store.cancel(waits.id, at(2), RETENTION).await?.expect("there");
    assert_eq!((outcome.to_stop.len(), outcome.task.status), (0, TaskStatus::Canceled));
    ledger.store.miss(at(100)).await?;
    let back = ledger.store.take_back(&[rule()], at(100), RETENTION).await?;
    assert_eq!(back.returned, 0, "a canceled task does not wait again");
    assert_eq!(ledger.task(runs.id).await?.counts.canceled, 1);
    assert_eq!(ledger.store.queues(&[worker()]).await?[0].running, 0);
    adds_up(ledger, at(101)).await
}

pub async fn tells_what_is_to_be_followed(ledger: &Ledger) -> Result<()> {
    let chains = || Place { chains: true, ..place() };
    let (good, bad) = (queued("good", chains()), queued("bad", chains()));
    accept(ledger, &[good.clone(), bad.clone()]).await?;
    arrive(ledger, "w", 2).await?;
    give(ledger, noon()).await?;
    let applied = ledger
        .store
        .apply(&[finished(good.id, "w", 0), finished(bad.id, "w", 1)], &Default::default(), at(1), RETENTION)
        .await?;
    assert!(applied.room);
    let ended = ledger.store.to_succeed(&[worker()]).await?;
    assert_eq!(ended.iter().map(|task| task.id).collect::<Vec<_>>(), [good.id], "only after a success");
    assert_eq!(ended[0].queued.as_ref().and_then(|queued| queued.successor_error.clone()), None);
    ledger.store.succeeded(&[good.id], &[]).await?;
    assert!(ledger.store.to_succeed(&[worker()]).await?.is_empty());
    // What goes wrong is told by the task before, which leaves its queue all the same.
    let wrong = queued("wrong", Place { chains: true, ..place() });
    accept(ledger, std::slice::from_ref(&wrong)).await?;
    give(ledger, noon()).await?;
    ledger.store.apply(&[finished(wrong.id, "w", 0)], &Default::default(), at(1), RETENTION).await?;
    ledger.store.succeeded(&[wrong.id], &[(wrong.id, "not é".to_owned())]).await?;
    assert!(ledger.store.to_succeed(&[worker()]).await?.is_empty());
    let told = ledger
        .store
        .find(wrong.id)
        .await?
        .and_then(|task| task.queued)
        .and_then(|queued| queued.successor_error);
    assert_eq!(told.as_deref(), Some("not é"));
    Ok(())
}

pub async fn costs_the_same_however_many_wait(ledger: &Ledger) -> Result<()> {
    arrive(ledger, "w", 1).await?;
    let mut read = Vec::new();
    for (round, many) in [10, 4000].into_iter().enumerate() {
        let tasks: Vec<NewTask> =
            (0..many).map(|number| queued(&format!("{round} {number}"), place())).collect();
        accept(ledger, &tasks).await?;
        let Some(before) = ledger.rows_read("queued_task").await? else { return Ok(()) };
        let given = give(ledger, noon()).await?.given;
        let after = ledger.rows_read("queued_task").await?.unwrap_or_default();
        read.push(after - before);
        ledger
            .store
            .apply(&[finished(given[0].task.id, "w", 0)], &Default::default(), at(1), RETENTION)
            .await?;
    }
    assert!(read[1] <= read[0] + 2, "rows read at 10 and at 4,000: {read:?}");
    Ok(())
}

pub async fn remembers_how_far_schedules_are(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    assert_eq!(store.schedule("nightly").await?, None);
    for (until, done) in [(at(10), at(10)), (at(5), at(10)), (at(20), at(20))] {
        store.set_schedule_done("nightly", until).await?;
        assert_eq!(
            store.schedule("nightly").await?.map(|record| record.done_until),
            Some(done),
            "it never goes back"
        );
    }
    for (error, when) in [("first", at(30)), ("last é", at(40))] {
        store.set_schedule_error("nightly", error, when).await?;
        let last_error = Some((error.to_owned(), when));
        assert_eq!(
            store.schedule("nightly").await?,
            Some(ScheduleRecord { done_until: at(20), last_error, paused_at: None })
        );
    }
    store.set_schedule_done("nightly", at(50)).await?;
    assert!(
        store.schedule("nightly").await?.is_some_and(|record| record.last_error.is_some()),
        "an error stays"
    );
    store.set_schedule_error("hourly", "has not begun", at(1)).await?;
    assert_eq!(store.schedule("hourly").await?, None);
    Ok(())
}

pub async fn remembers_which_schedules_are_paused(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let record = async |name: &str| {
        Ok::<_, anyhow::Error>(
            store.schedule(name).await?.map(|record| (record.done_until, record.paused_at)),
        )
    };
    store.set_schedule_done("nightly", at(10)).await?;
    assert!(!store.pause_schedule("nightly", false, at(11)).await?, "it is not paused");
    assert_eq!(record("nightly").await?, Some((at(10), None)));
    assert!(store.pause_schedule("nightly", true, at(20)).await?);
    assert!(!store.pause_schedule("nightly", true, at(30)).await?, "it is paused already");
    assert_eq!(record("nightly").await?, Some((at(10), Some(at(20)))));
    assert!(store.pause_schedule("nightly", false, at(40)).await?);
    assert_eq!(record("nightly").await?, Some((at(40), None)), "what has passed is seen to");
    // One that has not begun; and another process may be ahead.
    assert!(store.pause_schedule("hourly", true, at(5)).await?);
    assert_eq!(record("hourly").await?, Some((at(5), Some(at(5)))));
    store.set_schedule_done("hourly", at(9)).await?;
    assert!(store.pause_schedule("hourly", false, at(7)).await?);
    assert_eq!(record("hourly").await?, Some((at(9), None)));
    Ok(())
}
