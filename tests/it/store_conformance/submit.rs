//! Accepting, freezing, publishing.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::value::RawValue;
use tasker::domain::{Counts, Json, NewTask, ResponseStatus, Target, TaskId, TaskStatus, TaskType, json};
use tasker::store::{Accepted, Freeze, Release, ResponseFilter};

use super::ledger::{
    ALL, Ledger, RETENTION, at, fleet, names, noon, received, task, tasks, together, worker,
};

pub async fn tells_new_from_repeat_and_conflict(ledger: &Ledger) -> Result<()> {
    let first = task("a");
    assert_eq!(ledger.store.accept(std::slice::from_ref(&first), at(10), RETENTION).await?, [Accepted::New]);
    let repeat = task("a");
    let conflict = NewTask { digest: [8; 32], ..task("a") };
    let other_type = NewTask { task_type: "backup".parse()?, ..task("a") };
    let new = task("b");
    let twice = task("b");
    let thrice = NewTask { digest: [9; 32], ..task("b") };
    let answers = ledger
        .store
        .accept(&[repeat, new.clone(), conflict, other_type, twice, thrice], at(10), RETENTION)
        .await?;
    let existing = |id, same| Accepted::Existing { id, same };
    let expected = [
        existing(first.id, true),
        Accepted::New,
        existing(first.id, false),
        Accepted::New,
        existing(new.id, true),
        existing(new.id, false),
    ];
    assert_eq!(answers, expected);
    assert_eq!(ledger.store.accept(&[], at(10), RETENTION).await?, []);

    let stored = ledger.task(first.id).await?;
    assert_eq!((stored.status, stored.counts), (TaskStatus::Created, Counts::default()));
    assert_eq!((stored.start_time, stored.receive_by, stored.expires_at), (noon(), at(30), at(3600)));
    assert_eq!((stored.published_at, stored.finished_at), (None, None));
    Ok(())
}

pub async fn keeps_large_batches(ledger: &Ledger) -> Result<()> {
    let mut batch = tasks(1000);
    let long: Json = RawValue::from_string(format!("\"{}\"", "x".repeat(900_000)))?.into();
    for task in batch.iter_mut().step_by(100) {
        task.payload = long.clone();
    }
    let answers = ledger.store.accept(&batch, at(10), RETENTION).await?;
    assert!(answers.iter().all(|answer| *answer == Accepted::New));
    assert_eq!(ledger.task(batch[0].id).await?.payload.get(), long.get());
    let again: Vec<NewTask> = tasks(1000);
    let answers = ledger.store.accept(&again, at(10), RETENTION).await?;
    for (answer, task) in answers.iter().zip(&batch) {
        assert_eq!(*answer, Accepted::Existing { id: task.id, same: true });
    }
    Ok(())
}

pub async fn accepts_an_identifier_once_however_many_try(ledger: &Ledger) -> Result<()> {
    let runs = (0..8).map(|_| {
        let store = ledger.store.clone();
        let mut batch = tasks(60);
        fastrand::shuffle(&mut batch);
        async move {
            Ok(batch
                .iter()
                .map(|task| task.identifier.clone())
                .zip(store.accept(&batch, at(10), RETENTION).await?)
                .zip(batch.clone())
                .collect::<Vec<_>>())
        }
    });
    let mut winners: HashMap<_, TaskId> = HashMap::new();
    let answers: Vec<_> = together(runs).await?.concat();
    for ((identifier, answer), task) in &answers {
        if *answer == Accepted::New {
            assert!(winners.insert(identifier.clone(), task.id).is_none(), "{identifier} was new twice");
        }
    }
    assert_eq!(winners.len(), 60);
    for ((identifier, answer), _) in &answers {
        if let Accepted::Existing { id, same } = answer {
            assert_eq!((id, same), (&winners[identifier], &true));
        }
    }
    Ok(())
}

pub async fn keeps_identifiers_and_payloads_to_the_byte(ledger: &Ledger) -> Result<()> {
    let longest = "😀".repeat(191);
    let identifiers = [
        "A", "a", "a ", " a", "ä", "a\u{308}", "résumé", "resume", "😀", "😁", "ﬀ", "ff", "%", "_", "\\",
        "'; DROP TABLE task", &longest,
    ];
    let batch: Vec<NewTask> = identifiers.iter().map(|identifier| task(identifier)).collect();
    let answers = ledger.store.accept(&batch, at(10), RETENTION).await?;
    assert!(answers.iter().all(|answer| *answer == Accepted::New), "{answers:?}");
    for task in &batch {
        let found = ledger.store.find_by_identifier(&worker(), &task.identifier).await?;
        assert_eq!(found.map(|found| (found.id, found.identifier)), Some((task.id, task.identifier.clone())));
    }
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let payloads = [
        r#"{"b":1.0,  "a":12345678901234567890123}"#,
        r#""\ud800 \u0000 \/ é 😀""#,
        "1e400",
        r#"{"a":1,"a":2}"#,
        &deep,
        "\"\"",
        " [ ] ",
    ];
    for (number, payload) in payloads.into_iter().enumerate() {
        let payload: Json = RawValue::from_string(payload.trim().to_owned())?.into();
        let task = NewTask {
            payload: payload.clone(),
            endpoints: names(&["b", "a", "B"]),
            ..task(&format!("payload {number}"))
        };
        ledger.store.accept(std::slice::from_ref(&task), at(10), RETENTION).await?;
        let stored = ledger.task(task.id).await?;
        assert_eq!(stored.payload.get(), payload.get());
        assert_eq!(stored.endpoints, names(&["b", "a", "B"]));
    }
    Ok(())
}

pub async fn freezes_once(ledger: &Ledger) -> Result<()> {
    let batch = tasks(20);
    ledger.store.accept(&batch, at(10), RETENTION).await?;
    let runs = (0..4).map(|number: usize| {
        let (store, batch) = (ledger.store.clone(), batch.clone());
        let expected = fleet(number + 1);
        let sets: Vec<Freeze> =
            batch.iter().map(|task| Freeze { id: task.id, expected: expected.clone() }).collect();
        async move {
            Ok(store.freeze(&sets, noon()).await?.into_iter().map(|id| (id, number + 1)).collect::<Vec<_>>())
        }
    });
    let frozen: Vec<(TaskId, usize)> = together(runs).await?.concat();
    assert_eq!(frozen.len(), 20, "each is frozen by one call");
    for (id, expected) in frozen {
        let responses = ledger.store.responses(id, ResponseFilter::All, None, ALL).await?;
        assert_eq!((responses.len(), ledger.task(id).await?.counts.expected as usize), (expected, expected));
        assert!(
            responses
                .iter()
                .all(|response| response.status == ResponseStatus::Expected && response.start_time.is_none())
        );
    }

    let (empty, doubled, ended) = (task("empty"), task("doubled"), task("ended"));
    ledger.store.accept(&[empty.clone(), doubled.clone(), ended.clone()], at(10), RETENTION).await?;
    ledger.store.cancel(ended.id, at(1), RETENTION).await?;
    let sets = [
        Freeze { id: ended.id, expected: fleet(1) },
        Freeze { id: doubled.id, expected: names(&["b", "a", "b", "A"]) },
        Freeze { id: TaskId::new(), expected: fleet(1) },
        Freeze { id: empty.id, expected: Vec::new() },
    ];
    let mut frozen = ledger.store.freeze(&sets, noon()).await?;
    frozen.sort_unstable();
    assert_eq!(frozen, [empty.id, doubled.id]);
    assert_eq!(ledger.store.freeze(&sets, noon()).await?, []);
    assert_eq!(ledger.task(doubled.id).await?.counts.expected, 3);
    assert_eq!(ledger.store.missing(doubled.id).await?, names(&["A", "a", "b"]));
    Ok(())
}

pub async fn freezes_a_fleet(ledger: &Ledger) -> Result<()> {
    let id = ledger.frozen(&[task("fleet")], &fleet(10_000)).await?[0];
    assert_eq!(ledger.task(id).await?.counts, Counts { expected: 10_000, ..Counts::default() });
    assert_eq!(ledger.store.missing(id).await?.len(), 10_000);
    // More rows than one transaction should hold.
    ledger.frozen(&tasks(7), &fleet(7000)).await?;
    Ok(())
}

pub async fn adds_approvals_while_a_task_waits(ledger: &Ledger) -> Result<()> {
    let until = task("held").expires_at;
    let held = task("held").held_until(until);
    ledger.store.accept(std::slice::from_ref(&held), at(10), RETENTION).await?;
    assert!(ledger.task(held.id).await?.held);
    // Nobody looks at it before it expires.
    assert_eq!(ledger.store.claim_due(at(3599), at(3600), 10).await?.len(), 0);
    assert_eq!(ledger.store.held_tasks(&worker()).await?, 1);
    let [one, other, both] = ["one", "other", "both"].map(|text| json(&text));
    let approve =
        async |before, after, release| ledger.store.approve(held.id, before, after, release, at(90)).await;
    assert!(approve(&held.payload, &one, None).await?);
    // Two persons who sign at once: the second has to look again.
    assert!(!approve(&held.payload, &other, None).await?);
    assert_eq!(ledger.task(held.id).await?.payload.get(), one.get());
    assert_eq!(ledger.store.claim_due(at(3599), at(3600), 10).await?.len(), 0);
    let release = Some(Release { due_at: at(100), receive_by: at(130), expires_at: at(700) });
    assert!(!ledger.store.approve(held.id, &one, &both, release, until).await?, "its time is over");
    assert!(approve(&one, &both, release).await?);
    assert!(!approve(&both, &one, None).await?, "it does not wait any more");
    assert_eq!(ledger.store.held_tasks(&worker()).await?, 0);
    assert!(!ledger.task(held.id).await?.held);
    let found = ledger.task(held.id).await?;
    assert_eq!((found.payload.get(), found.receive_by, found.expires_at), (both.get(), at(130), at(700)));
    assert_eq!(ledger.store.claim_due(at(100), at(110), 10).await?.len(), 1);
    // The submission may be repeated as it was.
    let again = NewTask { id: TaskId::new(), ..held.clone() };
    let again = ledger.store.accept(&[again], at(10), RETENTION).await?;
    assert_eq!(again, [Accepted::Existing { id: held.id, same: true }]);
    ledger.store.freeze(&[Freeze { id: held.id, expected: fleet(1) }], at(101)).await?;
    assert!(!approve(&both, &one, None).await?, "it is on its way");
    let canceled = task("canceled").held_until(until);
    ledger.store.accept(std::slice::from_ref(&canceled), at(10), RETENTION).await?;
    ledger.store.cancel(canceled.id, at(1), RETENTION).await?;
    assert!(!ledger.task(canceled.id).await?.held);
    assert!(!ledger.store.approve(canceled.id, &canceled.payload, &one, None, at(2)).await?);
    // Others are due before they expire, also where they need not be received before.
    let others = [task("usual"), NewTask { receive_by: until, ..task("slow") }];
    ledger.store.accept(&others, at(10), RETENTION).await?;
    for other in &others {
        assert!(!ledger.task(other.id).await?.held);
        assert!(!ledger.store.approve(other.id, &other.payload, &one, None, at(2)).await?);
    }
    Ok(())
}

pub async fn publishes_what_has_not_moved_on(ledger: &Ledger) -> Result<()> {
    let plain = ledger.one("plain", &["a"]).await?;
    let answered = ledger.one("answered", &["a"]).await?;
    let canceled = ledger.one("canceled", &["a"]).await?;
    ledger.store.apply(&[received(answered, "a")], &Default::default(), at(1), RETENTION).await?;
    ledger.store.cancel(canceled, at(1), RETENTION).await?;
    let ids = [answered, plain, TaskId::new(), canceled];
    assert_eq!(ledger.store.mark_published(&ids, at(2)).await?, 1);
    assert_eq!(ledger.store.mark_published(&ids, at(3)).await?, 0);
    for (id, status) in
        [(plain, TaskStatus::Sent), (answered, TaskStatus::Sent), (canceled, TaskStatus::Canceled)]
    {
        let task = ledger.task(id).await?;
        assert_eq!((task.status, task.published_at), (status, Some(at(2))));
    }
    // Nobody has to look before the receive deadline, and then at both.
    assert_eq!(ledger.store.claim_due(at(29), at(60), 10).await?.len(), 0);
    assert_eq!(ledger.store.claim_due(at(30), at(60), 10).await?.len(), 2);
    let other: TaskType = "backup".parse()?;
    assert!(
        ledger
            .store
            .list(&other, &tasker::store::TaskQuery { limit: 10, ..Default::default() })
            .await?
            .is_empty()
    );
    Ok(())
}

pub async fn keeps_what_endpoints_had_to_be(ledger: &Ledger) -> Result<()> {
    let target: Target = serde_json::from_str(
        r#"{"match":["site=k\u00f6ln"],"exclude":["name=web1"],"percent":10,"limit":3,"seed":"x"}"#,
    )?;
    let aimed = NewTask { target: Some(target.clone()), endpoints: names(&["web2"]), ..task("aimed") };
    let plain = task("plain");
    ledger.store.accept(&[aimed.clone(), plain.clone()], at(0), RETENTION).await?;
    let of = async |id| anyhow::Ok(ledger.store.find(id).await?.expect("it is there").target);
    assert_eq!((of(aimed.id).await?, of(plain.id).await?), (Some(target), None));
    Ok(())
}
