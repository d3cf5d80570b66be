//! Rollouts: recorded once, moved by one process at a time, and counted as their targets stand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::value::RawValue;
use tasker::domain::rollout::{
    Allow, Amount, Approval, Asker, CatchUp, Command, Edit, EditedWave, EventKind, Healthy, InFlightOnStop,
    OnBreach, PlannedDomain, PlannedWave, Probe, ProbeOn, Refusal, Rollback, RollbackOn, RolloutSettings,
    RolloutStatus, TargetState, View, WaveAnew, WavePhase, WaveTerms, WavesAnew, decide,
};
use tasker::domain::{
    EndpointName, Labels, NewTask, Presence, PresenceState, ReportEvent, TaskId, TaskStatus, Timestamp,
    errnr, json,
};
use tasker::store::{
    AdvancedRollout, Commanded, NewRollout, RolloutBatches, RolloutCensusQuery, RolloutDecision, RolloutPick,
    RolloutQuery, RolloutRecord, RolloutRecorded, RolloutTargetQuery, SharedStore,
};
use uuid::Uuid;

use super::ledger::{
    Ledger, RETENTION, at, finished, fleet, name, noon, received, report, task, together, worker,
};
use super::presence::presence;

fn terms() -> WaveTerms {
    WaveTerms {
        window: Amount::Count(100),
        receive_within: Duration::from_secs(30),
        finish_within: Duration::from_secs(60),
        healthy: None,
        failed: Some(Amount::Count(0)),
        unreachable: None,
        soak: Duration::ZERO,
        probe: None,
        approval: None,
    }
}

/// A rollout of waves of these endpoints.
fn rollout(identifier: &str, waves: &[&[EndpointName]]) -> NewRollout {
    let wave = |targets: &&[EndpointName]| PlannedWave {
        name: None,
        targets: targets.to_vec(),
        absent: 0,
        window: u32::try_from(targets.len()).expect("few"),
        allowed_failed: Some(0),
        allowed_unreachable: None,
        terms: terms(),
    };
    NewRollout {
        id: Uuid::now_v7(),
        identifier: identifier.parse().expect("a name"),
        task_type: worker(),
        lane: "worker".into(),
        subject: None,
        ranks_at: None,
        payload: json(&"new"),
        document: json(&identifier),
        digest: [7; 32],
        settings: RolloutSettings {
            catch_up: CatchUp::Run,
            catch_up_for: Duration::from_secs(600),
            ..RolloutSettings::default()
        },
        plan: tasker::domain::rollout::Plan {
            waves: waves.iter().map(wave).collect(),
            allowed_failed: None,
            allowed_unreachable: None,
            max_absent: None,
            domains: Vec::new(),
            domain_of: HashMap::new(),
            odd: Vec::new(),
        },
        created_by: None,
        parent: None,
        created: noon(),
        start_at: Some(noon()),
        expires_at: at(100_000),
    }
}

/// Has these endpoints be there, each with a home of its own kind.
async fn there(ledger: &Ledger, names: &[EndpointName], now: Timestamp) -> Result<()> {
    let said: Vec<_> =
        names.iter().map(|name| presence(name.as_str(), &["worker"], PresenceState::Alive)).collect();
    ledger.store.see(&said, now).await?;
    Ok(())
}

async fn pass(store: &SharedStore, id: Uuid, now: Timestamp) -> Result<Option<AdvancedRollout>> {
    let decision: Arc<RolloutDecision> = Arc::new(move |view: View| decide(&view, now));
    let batches = RolloutBatches { lease_until: now.after(Duration::from_secs(10)), retention: RETENTION };
    Ok(store.advance_rollout(id, decision, batches, now).await?)
}

/// Passes until there is nothing more to do at once; answers the tasks.
async fn passes(store: &SharedStore, id: Uuid, now: Timestamp) -> Result<Vec<NewTask>> {
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let Some(advanced) = pass(store, id, now).await? else { return Ok(tasks) };
        tasks.extend(advanced.tasks);
        if advanced.due_at.is_none_or(|due| due > now) {
            return Ok(tasks);
        }
    }
    anyhow::bail!("it spins")
}

async fn answer(
    ledger: &Ledger,
    task: &NewTask,
    endpoint: &EndpointName,
    errnr: i32,
    now: Timestamp,
) -> Result<()> {
    let reports = [finished(task.id, endpoint.as_str(), errnr)];
    let applied = ledger.store.apply(&reports, &Default::default(), now, RETENTION).await?;
    ensure!(applied.rollouts.iter().copied().eq(task.rollout), "{applied:?}");
    Ok(())
}

async fn found(ledger: &Ledger, identifier: &str) -> Result<RolloutRecord> {
    ledger.store.rollout(&identifier.parse()?).await?.context("it is gone")
}

async fn states(ledger: &Ledger, id: Uuid) -> Result<Vec<(String, TargetState, u32)>> {
    let query = RolloutTargetQuery { limit: 1_000, ..RolloutTargetQuery::default() };
    let targets = ledger.store.rollout_targets(id, &query).await?;
    Ok(targets.into_iter().map(|target| (target.endpoint.to_string(), target.state, target.round)).collect())
}

async fn command(
    ledger: &Ledger,
    id: Uuid,
    asked: Command,
    pick: RolloutPick,
    now: Timestamp,
) -> Result<Commanded> {
    let by = Asker { name: "ann".parse()?, approves: true, administers: false };
    let done = ledger.store.command_rollout(id, asked, pick, None, Some(by), now).await?;
    done.context("it is gone")
}

async fn counts_are_right(ledger: &Ledger) -> Result<()> {
    let query = RolloutCensusQuery { limit: 100, ..RolloutCensusQuery::default() };
    let census = ledger.store.rollout_census(&query).await?;
    ensure!(
        census.missing == 0 && census.flaws.is_empty() && census.accounted == census.accepted,
        "{census:?}"
    );
    Ok(())
}

pub async fn records_a_rollout_once(ledger: &Ledger) -> Result<()> {
    let (endpoints, new) = (fleet(2_500), |identifier: &str, endpoints: &[EndpointName]| {
        rollout(identifier, &[&endpoints[..1], &endpoints[1..]])
    });
    let first = new("r", &endpoints);
    assert_eq!(ledger.store.record_rollout(first.clone()).await?, RolloutRecorded::New);
    assert_eq!(
        ledger.store.record_rollout(NewRollout { id: Uuid::now_v7(), ..first.clone() }).await?,
        RolloutRecorded::Same(first.id)
    );
    let other = NewRollout { id: Uuid::now_v7(), digest: [8; 32], ..first.clone() };
    assert_eq!(ledger.store.record_rollout(other).await?, RolloutRecorded::Other(first.id));
    let tries = (0..4).map(|_| {
        let (store, new) =
            (ledger.store.clone(), NewRollout { id: Uuid::now_v7(), ..new("together", &endpoints[..50]) });
        async move { Ok(store.record_rollout(new).await?) }
    });
    let recorded = together(tries.collect::<Vec<_>>()).await?;
    assert_eq!(
        recorded.iter().filter(|recorded| **recorded == RolloutRecorded::New).count(),
        1,
        "{recorded:?}"
    );
    let record = found(ledger, "r").await?;
    assert_eq!(record.waves.iter().map(|wave| wave.size).collect::<Vec<_>>(), [1, 2_499]);
    assert_eq!((record.status, record.events), (RolloutStatus::Created, 1));
    assert_eq!(ledger.store.rollout_document(first.id).await?.expect("it is there").get(), "\"r\"");
    let page = |after| RolloutTargetQuery { after, limit: 1_000, ..RolloutTargetQuery::default() };
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let targets = ledger.store.rollout_targets(first.id, &page(after)).await?;
        let Some(last) = targets.last() else { break };
        after = Some((last.wave, last.position));
        names.extend(targets.into_iter().map(|target| target.endpoint));
    }
    assert_eq!(names, endpoints, "in the order of their turns");
    let (list, more) = ledger.store.rollouts(&RolloutQuery { limit: 1, ..RolloutQuery::default() }).await?;
    assert!(more && list[0].identifier.as_str() == "together" && list[0].waves.len() == 2, "{list:?}");
    counts_are_right(ledger).await
}

pub async fn goes_wave_by_wave_with_frozen_batches(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(4);
    there(ledger, &endpoints, noon()).await?;
    let new = rollout("r", &[&endpoints[..1], &endpoints[1..]]);
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    assert_eq!(ledger.store.due_rollouts(noon(), 10).await?, [id]);
    let tasks = passes(&ledger.store, id, noon()).await?;
    assert_eq!(tasks.iter().map(|task| task.identifier.as_str()).collect::<Vec<_>>(), ["rollout-r-w1-b1"]);
    let task = ledger.task(tasks[0].id).await?;
    assert_eq!(
        (task.status, task.counts.expected, task.endpoints.clone()),
        (TaskStatus::Created, 1, vec![endpoints[0].clone()])
    );
    assert_eq!(
        ledger
            .store
            .freeze(&[tasker::store::Freeze { id: task.id, expected: endpoints.clone() }], noon())
            .await?,
        [],
        "it is frozen"
    );
    let holds = ledger.store.rollout_holds(None, 10).await?;
    assert_eq!(holds.iter().map(|hold| hold.endpoint.clone()).collect::<Vec<_>>(), [endpoints[0].clone()]);
    assert!(passes(&ledger.store, id, at(1)).await?.is_empty(), "the next wave waits");
    answer(ledger, &tasks[0], &endpoints[0], 0, at(2)).await?;
    let tasks = passes(&ledger.store, id, at(2)).await?;
    assert_eq!(tasks[0].identifier.as_str(), "rollout-r-w2-b2");
    for endpoint in &endpoints[1..] {
        answer(ledger, &tasks[0], endpoint, 0, at(3)).await?;
    }
    passes(&ledger.store, id, at(3)).await?;
    let record = found(ledger, "r").await?;
    assert_eq!((record.status, record.ended_at), (RolloutStatus::Done, Some(at(3))));
    assert!(record.waves.iter().all(|wave| wave.phase == WavePhase::Passed));
    assert!(
        states(ledger, id).await?.iter().all(|(_, state, round)| (*state, *round) == (TargetState::Ok, 1))
    );
    assert!(
        ledger.store.rollout_holds(None, 10).await?.is_empty()
            && ledger.store.due_rollouts(at(99_999), 10).await?.is_empty()
    );
    let events = ledger.store.rollout_events(id, 0, 100).await?;
    assert!(events.iter().map(|event| event.seq).eq(1..=record.events), "{events:?}");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["created", "started", "wave_began", "wave_passed", "wave_began", "wave_passed", "ended"]
    );
    counts_are_right(ledger).await
}

pub async fn halts_over_its_budget_until_somebody_decides(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(3);
    there(ledger, &endpoints, noon()).await?;
    let new = rollout("r", &[&endpoints[..2], &endpoints[2..]]);
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    answer(ledger, &tasks[0], &endpoints[0], 32, at(1)).await?;
    answer(ledger, &tasks[0], &endpoints[1], 0, at(1)).await?;
    passes(&ledger.store, id, at(1)).await?;
    let record = found(ledger, "r").await?;
    assert_eq!(
        (record.status, record.reason.as_deref()),
        (RolloutStatus::Halted, Some("wave 1 of 2: 1 failed, allowed 0"))
    );
    assert!(passes(&ledger.store, id, at(5)).await?.is_empty(), "nothing starts");
    assert_eq!(
        ledger.store.rollout_waits().await?,
        [("approval", None), ("soak", None), ("halted", Some(at(1)))]
    );
    let plain = command(ledger, id, Command::Resume(Allow::default()), RolloutPick::Nobody, at(5)).await?;
    assert!(matches!(plain, Commanded::Refused(Refusal::WrongState(_))), "{plain:?}");
    let stale = ledger
        .store
        .command_rollout(id, Command::Abort { roll_back: false }, RolloutPick::Nobody, Some(1), None, at(5))
        .await?;
    assert!(matches!(stale, Some(Commanded::Stale(revision)) if revision == record.revision), "{stale:?}");
    let retried =
        command(ledger, id, Command::Retry, RolloutPick::States(vec![TargetState::Failed], None), at(5))
            .await?;
    assert!(matches!(retried, Commanded::Done { moved: 1, .. }), "{retried:?}");
    let resumed = command(ledger, id, Command::Resume(Allow::default()), RolloutPick::Nobody, at(5)).await?;
    assert!(matches!(resumed, Commanded::Done { .. }), "{resumed:?}");
    let tasks = passes(&ledger.store, id, at(6)).await?;
    assert_eq!(tasks[0].endpoints, [endpoints[0].clone()]);
    answer(ledger, &tasks[0], &endpoints[0], 32, at(7)).await?;
    passes(&ledger.store, id, at(7)).await?;
    let raised = Command::Resume(Allow { failed: Some(1), unreachable: None });
    assert!(matches!(command(ledger, id, raised, RolloutPick::Nobody, at(8)).await?, Commanded::Done { .. }));
    let tasks = passes(&ledger.store, id, at(8)).await?;
    answer(ledger, &tasks[0], &endpoints[2], 0, at(9)).await?;
    passes(&ledger.store, id, at(9)).await?;
    let record = found(ledger, "r").await?;
    assert_eq!((record.status, record.waves[0].allowed_failed), (RolloutStatus::Partial, Some(1)));
    let told = states(ledger, id).await?;
    assert_eq!(told[0], ("ep0".to_owned(), TargetState::Failed, 2));
    let actors: Vec<_> =
        ledger.store.rollout_events(id, 0, 100).await?.into_iter().filter_map(|event| event.actor).collect();
    assert_eq!(actors.len(), 3, "who asked for it is remembered: {actors:?}");
    counts_are_right(ledger).await
}

pub async fn keeps_what_is_not_healthy_failed(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(3);
    there(ledger, &endpoints, noon()).await?;
    let mut new = rollout("r", &[&endpoints[..2], &endpoints[2..]]);
    let selectors = vec!["release=2".parse()?];
    new.plan.waves[0].terms.healthy =
        Some(Healthy { stays: Duration::ZERO, within: Duration::from_secs(10), selectors });
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    answer(ledger, &tasks[0], &endpoints[0], 0, at(1)).await?;
    answer(ledger, &tasks[0], &endpoints[1], errnr::INTERRUPTED, at(1)).await?;
    passes(&ledger.store, id, at(1)).await?;
    // Another process of the second endpoint is there by now.
    let labels = Labels::of([("release".to_owned(), "2".to_owned())]).expect("a label");
    let back = presence(endpoints[1].as_str(), &["worker"], PresenceState::Alive);
    ledger.store.see(&[Presence { instance: Uuid::from_u128(9), ..back.clone() }], at(2)).await?;
    passes(&ledger.store, id, at(2)).await?;
    let query = RolloutTargetQuery { limit: 10, ..RolloutTargetQuery::default() };
    let second = ledger.store.rollout_targets(id, &query).await?.swap_remove(1);
    assert_eq!(
        (second.state, second.note.as_deref()),
        (TargetState::Verifying, Some("the endpoint ended while the handler ran"))
    );
    ledger.store.see(&[Presence { instance: Uuid::from_u128(9), labels, ..back }], at(3)).await?;
    for second in [12, 13, 20, 60] {
        assert!(passes(&ledger.store, id, at(second)).await?.is_empty(), "nothing starts over a bad release");
        let first = ledger.store.rollout_targets(id, &query).await?.swap_remove(0);
        assert_eq!((first.state, first.errnr), (TargetState::Failed, Some(0)), "{first:?}");
        assert!(first.note.is_some_and(|note| note.starts_with("not healthy within 10s")));
    }
    assert_eq!(states(ledger, id).await?[1].1, TargetState::Ok);
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Halted);
    counts_are_right(ledger).await
}

pub async fn rolls_back_what_has_changed(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(5);
    there(ledger, &endpoints, noon()).await?;
    let mut new = rollout("r", &[&endpoints[..1], &endpoints[1..4], &endpoints[4..]]);
    let minute = Duration::from_secs(60);
    let rollback = Rollback {
        task_type: worker(),
        payload: json(&"old"),
        on: RollbackOn::Changed,
        window: Amount::Count(1),
        receive_within: minute,
        finish_within: minute,
        healthy: None,
    };
    (new.settings.on_breach, new.settings.rollback) = (OnBreach::Rollback, Some(rollback));
    let document = r#"{"rollback":{"payload":{"version":6.10},"window":1}}"#;
    new.document = serde_json::from_str::<Box<RawValue>>(document)?.into();
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    // Somebody else has the name that its rollback would have.
    let taken = NewRollout { start_at: None, ..rollout("r-rollback", &[&endpoints[4..]]) };
    ledger.store.record_rollout(taken).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    answer(ledger, &tasks[0], &endpoints[0], 0, at(1)).await?;
    let tasks = passes(&ledger.store, id, at(1)).await?;
    answer(ledger, &tasks[0], &endpoints[1], 32, at(2)).await?;
    passes(&ledger.store, id, at(2)).await?;
    let record = found(ledger, "r").await?;
    assert_eq!(
        (record.status, record.rolls_back, record.undone_by),
        (RolloutStatus::Aborting, true, None),
        "two are in flight"
    );
    answer(ledger, &tasks[0], &endpoints[2], 0, at(3)).await?;
    // The last one hears nothing of it.
    passes(&ledger.store, id, at(3)).await?;
    passes(&ledger.store, id, at(40)).await?;
    let record = found(ledger, "r").await?;
    let name = record.undone_by.context("it is made")?;
    assert_eq!(
        (record.status, record.reason.as_deref()),
        (RolloutStatus::RollingBack, Some("wave 2 of 3: 1 failed, allowed 0"))
    );
    assert!(name.as_str().starts_with("r-rollback-"), "{name}");
    let undone = found(ledger, name.as_str()).await?;
    assert_eq!((undone.parent, undone.lane.as_str(), undone.payload.get()), (Some(id), "worker", "\"old\""));
    let document = ledger.store.rollout_document(undone.id).await?.context("it is there")?;
    assert!(
        document.get().contains(r#""payload":{"version":6.10}"#) && document.get().contains(r#""window":1"#),
        "{document}"
    );
    let names: Vec<String> = states(ledger, undone.id).await?.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["ep2", "ep1", "ep0"], "who has received something, newest first");
    let aborted =
        command(ledger, id, Command::Abort { roll_back: true }, RolloutPick::Nobody, at(41)).await?;
    assert!(matches!(aborted, Commanded::Refused(Refusal::WrongState(_))), "{aborted:?}");
    for second in 41..44 {
        let tasks = passes(&ledger.store, undone.id, at(second)).await?;
        assert_eq!(
            tasks.iter().map(|task| task.endpoints.len()).sum::<usize>(),
            1,
            "its window is 1: {tasks:?}"
        );
        answer(ledger, &tasks[0], &tasks[0].endpoints[0], if second == 42 { 5 } else { 0 }, at(second))
            .await?;
        passes(&ledger.store, id, at(second)).await?;
        assert_eq!(found(ledger, "r").await?.status, RolloutStatus::RollingBack);
    }
    passes(&ledger.store, undone.id, at(44)).await?;
    assert_eq!(found(ledger, name.as_str()).await?.status, RolloutStatus::Partial);
    passes(&ledger.store, id, at(44)).await?;
    let record = found(ledger, "r").await?;
    assert_eq!((record.status, record.ended_at), (RolloutStatus::RollbackFailed, Some(at(44))));
    assert_eq!(record.reason.as_deref(), Some("wave 2 of 3: 1 failed, allowed 0"));
    let kinds: Vec<&str> = ledger
        .store
        .rollout_events(id, 0, 100)
        .await?
        .iter()
        .map(|event| event.kind.as_str())
        .rev()
        .take(3)
        .collect();
    assert_eq!(kinds, ["ended", "rolling_back", "target_unreachable"]);
    counts_are_right(ledger).await
}

/// How an endpoint is rolled back.
fn back() -> Rollback {
    let minute = Duration::from_secs(60);
    Rollback {
        task_type: worker(),
        payload: json(&"old"),
        on: RollbackOn::Changed,
        window: Amount::Count(10),
        receive_within: minute,
        finish_within: minute,
        healthy: None,
    }
}

/// Passes, and has each endpoint that is started succeed; answers who was started.
async fn succeed(ledger: &Ledger, id: Uuid, now: Timestamp) -> Result<Vec<EndpointName>> {
    let mut started = Vec::new();
    for task in passes(&ledger.store, id, now).await? {
        for endpoint in &task.endpoints {
            answer(ledger, &task, endpoint, 0, now).await?;
            started.push(endpoint.clone());
        }
    }
    Ok(started)
}

/// Has the first wave succeed and pauses before the next.
async fn pause_after_first(ledger: &Ledger, id: Uuid, now: Timestamp) -> Result<()> {
    succeed(ledger, id, now).await?;
    let paused = command(ledger, id, Command::Pause, RolloutPick::Nobody, now).await?;
    assert!(matches!(paused, Commanded::Done { .. }), "{paused:?}");
    passes(&ledger.store, id, now).await?;
    Ok(())
}

async fn resume(ledger: &Ledger, id: Uuid, now: Timestamp) -> Result<()> {
    let asked = Command::Resume(Allow { failed: Some(9), unreachable: None });
    let resumed = command(ledger, id, asked, RolloutPick::Nobody, now).await?;
    assert!(matches!(resumed, Commanded::Done { .. }), "{resumed:?}");
    Ok(())
}

pub async fn leaves_to_a_newer_rollout_what_it_has_started(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(4);
    there(ledger, &endpoints, noon()).await?;
    let of = |subject: &str, identifier: &str, waves: &[&[EndpointName]]| NewRollout {
        subject: Some(subject.to_owned()),
        ..rollout(identifier, waves)
    };
    let older = of("web", "older", &[&endpoints[..1], &endpoints[1..]]);
    let newer = of("web", "newer", &[&endpoints[..3]]);
    let other = of("db", "other", &[&endpoints]);
    for new in [&older, &newer, &other] {
        ledger.store.record_rollout(new.clone()).await?;
    }
    let open = ledger.store.rollouts_of_lane("worker").await?;
    let open: Vec<_> = open.iter().map(|one| (one.identifier.as_str(), one.subject.as_deref())).collect();
    assert_eq!(open, [("older", Some("web")), ("newer", Some("web")), ("other", Some("db"))]);
    pause_after_first(ledger, older.id, noon()).await?;
    assert_eq!(succeed(ledger, newer.id, at(1)).await?.len(), 3);
    passes(&ledger.store, newer.id, at(1)).await?;
    assert_eq!(found(ledger, "newer").await?.status, RolloutStatus::Done);
    assert!(!ledger.store.forget_rollout(at(9)).await?, "the older one has to know what it has started");
    assert_eq!(succeed(ledger, other.id, at(2)).await?.len(), 4, "it changes something else");
    passes(&ledger.store, other.id, at(2)).await?;
    resume(ledger, older.id, at(3)).await?;
    // What ends at an endpoint after it was looked at is found once the endpoint is held.
    let blind: Arc<RolloutDecision> = Arc::new(|mut view: View| {
        view.next.iter_mut().for_each(|next| next.overtaken_by = None);
        decide(&view, at(3))
    });
    let batches = RolloutBatches { lease_until: at(13), retention: RETENTION };
    let refused = ledger.store.advance_rollout(older.id, blind, batches, at(3)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(succeed(ledger, older.id, at(3)).await?, [endpoints[3].clone()]);
    passes(&ledger.store, older.id, at(3)).await?;
    let record = found(ledger, "older").await?;
    assert_eq!((record.status, record.subject.as_deref()), (RolloutStatus::Partial, Some("web")));
    let query = RolloutTargetQuery { states: vec![TargetState::Superseded], limit: 9, ..Default::default() };
    let left = ledger.store.rollout_targets(older.id, &query).await?;
    let left: Vec<_> =
        left.iter().map(|one| (one.endpoint.as_str(), one.round, one.note.as_deref())).collect();
    let note = Some("left to newer, which is newer and has started it");
    assert_eq!(left, [("ep1", 0, note), ("ep2", 0, note)]);
    assert_eq!(
        told_of(ledger, older.id, EventKind::Superseded).await?,
        ["2 targets: left to newer, which is newer and has started them"]
    );
    assert!(ledger.store.forget_rollout(at(2)).await?, "nobody has to know any more");
    counts_are_right(ledger).await
}

pub async fn rolls_back_nothing_that_a_newer_rollout_has_started(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(4);
    there(ledger, &endpoints, noon()).await?;
    let of = |identifier: &str, waves: &[&[EndpointName]]| NewRollout {
        subject: Some("web".to_owned()),
        ..rollout(identifier, waves)
    };
    let mut older = of("older", &[&endpoints[..2], &endpoints[2..]]);
    older.settings.rollback = Some(back());
    older.document = json(&serde_json::json!({"subject": "web", "rollback": {"payload": "old"}}));
    let newer = of("newer", &[&endpoints[1..2], &endpoints[..1]]);
    for new in [&older, &newer] {
        ledger.store.record_rollout(new.clone()).await?;
    }
    pause_after_first(ledger, older.id, noon()).await?;
    pause_after_first(ledger, newer.id, at(1)).await?;
    command(ledger, older.id, Command::Abort { roll_back: true }, RolloutPick::Nobody, at(2)).await?;
    passes(&ledger.store, older.id, at(2)).await?;
    let name = found(ledger, "older").await?.undone_by.context("it is made")?;
    let undone = found(ledger, name.as_str()).await?;
    assert_eq!((undone.subject.as_deref(), undone.ranks_at), (Some("web"), Some(noon())));
    assert_eq!(
        succeed(ledger, undone.id, at(3)).await?,
        endpoints[..1],
        "the other one is left to the newer"
    );
    passes(&ledger.store, undone.id, at(3)).await?;
    let undone = found(ledger, name.as_str()).await?;
    assert_eq!((undone.status, undone.started_at), (RolloutStatus::Partial, Some(at(3))));
    passes(&ledger.store, older.id, at(3)).await?;
    assert_eq!(
        found(ledger, "older").await?.status,
        RolloutStatus::RolledBack,
        "all that was to be undone is"
    );
    // The rollback began later, and is as old as what it undoes.
    resume(ledger, newer.id, at(4)).await?;
    assert_eq!(succeed(ledger, newer.id, at(4)).await?, endpoints[..1]);
    passes(&ledger.store, newer.id, at(4)).await?;
    assert_eq!(found(ledger, "newer").await?.status, RolloutStatus::Done);
    counts_are_right(ledger).await
}

pub async fn catches_up_until_a_newer_rollout_of_the_subject_begins(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(2);
    ledger.known(&endpoints, noon()).await?;
    there(ledger, &endpoints[..1], noon()).await?;
    let of = |subject: &str, identifier: &str| {
        let mut new = rollout(identifier, &[&endpoints]);
        (new.subject, new.settings.catch_up) = (Some(subject.to_owned()), CatchUp::Latest);
        new
    };
    let (older, other, newer) = (of("web", "older"), of("db", "other"), of("web", "newer"));
    for new in [&older, &other, &newer] {
        ledger.store.record_rollout(new.clone()).await?;
    }
    let told = async |id: Uuid| -> Result<TargetState> { Ok(states(ledger, id).await?[1].1) };
    for (second, id) in (0..).zip([older.id, other.id]) {
        succeed(ledger, id, at(second)).await?;
        passes(&ledger.store, id, at(second)).await?;
    }
    passes(&ledger.store, older.id, at(3)).await?;
    assert_eq!(told(older.id).await?, TargetState::Absent, "the other one changes something else");
    succeed(ledger, newer.id, at(4)).await?;
    for id in [older.id, other.id] {
        passes(&ledger.store, id, at(5)).await?;
    }
    assert_eq!(
        (told(older.id).await?, told(other.id).await?),
        (TargetState::Superseded, TargetState::Absent)
    );
    counts_are_right(ledger).await
}

/// A wave: what it is called, where it stands, and its endpoints in the order of their turns.
type Told = (Option<String>, WavePhase, Vec<String>);

pub async fn puts_what_has_not_begun_into_other_waves(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(9);
    there(ledger, &endpoints, noon()).await?;
    let mut new = rollout("r", &[&endpoints[..1], &endpoints[1..6], &endpoints[6..]]);
    new.plan.waves[1].window = 2;
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    succeed(ledger, id, noon()).await?;
    let tasks = passes(&ledger.store, id, at(1)).await?;
    assert_eq!(tasks[0].endpoints, endpoints[1..3]);
    answer(ledger, &tasks[0], &endpoints[1], 0, at(2)).await?;
    answer(ledger, &tasks[0], &endpoints[2], 32, at(2)).await?;
    passes(&ledger.store, id, at(2)).await?;
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Halted);
    let skip = RolloutPick::Endpoints(vec![name("ep8")]);
    command(ledger, id, Command::Skip, skip, at(2)).await?;

    let runs = |window| EditedWave {
        window,
        allowed_failed: Some(1),
        allowed_unreachable: None,
        terms: WaveTerms { soak: Duration::from_secs(u64::from(window) - 1), ..terms() },
    };
    let edit = async |waves: &[(&str, &[usize])], second: u64| -> Result<()> {
        let waves = waves.iter().map(|(called, places)| WaveAnew {
            name: Some((*called).to_owned()),
            runs: runs(1),
            targets: places.iter().map(|place| endpoints[*place].clone()).collect(),
        });
        let record = found(ledger, "r").await?;
        let edit = Edit {
            told: "waves: [1] -> [2]".to_owned(),
            changes: true,
            document: json(&"edited"),
            settings: record.settings,
            expires_at: record.expires_at,
            allowed_failed: None,
            allowed_unreachable: None,
            waves: vec![runs(7)],
            anew: Some(WavesAnew { first: 1, is_open: true, waves: waves.collect() }),
        };
        let asked = Command::Edit(Arc::new(edit));
        let done = command(ledger, id, asked, RolloutPick::Nobody, at(second)).await?;
        assert!(matches!(done, Commanded::Done { .. }), "{done:?}");
        counts_are_right(ledger).await
    };
    let waves = async || -> Result<Vec<Told>> {
        let query = RolloutTargetQuery { limit: 1_000, ..RolloutTargetQuery::default() };
        let targets = ledger.store.rollout_targets(id, &query).await?;
        let record = found(ledger, "r").await?;
        let of = |number: u32| targets.iter().filter(move |target| target.wave == number);
        let wave = |(number, wave): (u32, &tasker::domain::rollout::WaveState)| {
            assert_eq!(wave.size as usize, of(number).count());
            (wave.name.clone(), wave.phase, of(number).map(|target| target.endpoint.to_string()).collect())
        };
        Ok((0..).zip(&record.waves).map(wave).collect())
    };
    let is = |called: &str, phase, of: &[usize]| {
        (
            Some(called.to_owned()),
            phase,
            of.iter().map(|place| endpoints[*place].to_string()).collect::<Vec<_>>(),
        )
    };
    // More waves, in another order; then fewer; a place is never taken twice meanwhile.
    edit(&[("a", &[5]), ("b", &[7, 3]), ("c", &[4]), ("d", &[6, 8])], 3).await?;
    let first = (None, WavePhase::Passed, vec!["ep0".to_owned()]);
    let (open, waits) = (WavePhase::Admitting, WavePhase::Waiting);
    let expected = [
        first.clone(),
        is("a", open, &[1, 2, 5]),
        is("b", waits, &[7, 3]),
        is("c", waits, &[4]),
        is("d", waits, &[6, 8]),
    ];
    assert_eq!(waves().await?, expected);
    edit(&[("e", &[6, 3]), ("f", &[4, 5, 7, 8])], 4).await?;
    edit(&[("e", &[3, 6]), ("f", &[7, 5, 4, 8])], 5).await?;
    let expected = [first, is("e", open, &[1, 2, 3, 6]), is("f", waits, &[7, 5, 4, 8])];
    assert_eq!(waves().await?, expected);
    let record = found(ledger, "r").await?;
    assert_eq!((record.waves[0].window, record.waves[1].window, record.waves[2].window), (1, 1, 1));
    assert_eq!(record.waves[2].terms.soak, Duration::ZERO);

    resume(ledger, id, at(6)).await?;
    let mut started = Vec::new();
    for second in 6..20 {
        started.extend(succeed(ledger, id, at(second)).await?);
    }
    let expected: Vec<_> = [3, 6, 7, 5, 4].into_iter().map(|place: usize| endpoints[place].clone()).collect();
    assert_eq!(started, expected, "in the order of their new turns, one at a time");
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Partial);
    assert!(states(ledger, id).await?.iter().all(|(_, _, rounds)| *rounds <= 1), "each once");
    counts_are_right(ledger).await
}

pub async fn takes_back_what_was_not_received(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(4);
    there(ledger, &endpoints, noon()).await?;
    let new = rollout("r", &[&endpoints]);
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    let task = &tasks[0];
    let says = async |report, second| {
        let applied = ledger.store.apply(&[report], &Default::default(), at(second), RETENTION).await;
        applied.map(|applied| applied.to_withdraw.len())
    };
    assert_eq!(says(received(task.id, "ep0"), 1).await?, 0, "nothing is taken back yet");
    let paused = command(ledger, id, Command::Pause, RolloutPick::Nobody, at(2)).await?;
    assert!(matches!(paused, Commanded::Done { .. }), "{paused:?}");
    let pass_at = |second| pass(&ledger.store, id, at(second));
    let taken_back = pass_at(2).await?.context("it is open")?.withdrawn;
    assert_eq!(taken_back, [(task.id, endpoints[1..].to_vec())], "those who have not said that they have it");
    assert!(pass_at(3).await?.context("it is open")?.withdrawn.is_empty(), "once");
    let open = ledger.store.open_rows(&[task.id]).await?.remove(&task.id).context("open rows")?;
    assert_eq!(open.iter().map(|row| row.withdrawn).collect::<Vec<_>>(), [false, true, true, true]);
    let owed = ledger.store.owed_by(&endpoints[1], &[worker()], None, 10).await?;
    assert!(matches!(&owed[..], [owed] if owed.row.withdrawn), "{owed:?}");
    // The first has not begun it; the second has, and is told again when its receipt comes; the third says
    // nothing.
    assert_eq!(says(report(task.id, "ep1", ReportEvent::Canceled), 4).await?, 0);
    assert_eq!(
        (says(received(task.id, "ep2"), 4).await?, says(received(task.id, "ep2"), 4).await?),
        (1, 0),
        "told again once"
    );
    passes(&ledger.store, id, at(4)).await?;
    answer(ledger, task, &endpoints[0], 0, at(5)).await?;
    answer(ledger, task, &endpoints[2], 0, at(5)).await?;
    assert!(passes(&ledger.store, id, at(5)).await?.is_empty(), "nothing starts while it is paused");
    let stand = async || {
        states(ledger, id)
            .await
            .map(|states| states.into_iter().map(|(_, state, round)| (state, round)).collect::<Vec<_>>())
    };
    assert_eq!(
        stand().await?,
        [(TargetState::Ok, 1), (TargetState::Pending, 1), (TargetState::Ok, 1), (TargetState::Sent, 1)]
    );
    let resumed = command(ledger, id, Command::Resume(Allow::default()), RolloutPick::Nobody, at(6)).await?;
    assert!(matches!(resumed, Commanded::Done { .. }), "{resumed:?}");
    let again = passes(&ledger.store, id, at(6)).await?;
    assert_eq!(
        again.iter().map(|task| task.endpoints.clone()).collect::<Vec<_>>(),
        [vec![endpoints[1].clone()]]
    );
    // A task that is not received in time is taken back while the rollout runs, too. Once its endpoint has
    // confirmed that, it is started again.
    let late = pass_at(36).await?.context("it is open")?.withdrawn;
    assert_eq!(late, [(again[0].id, vec![endpoints[1].clone()])], "the other one has been told");
    assert_eq!(
        stand().await?,
        [
            (TargetState::Ok, 1),
            (TargetState::Unreachable, 2),
            (TargetState::Ok, 1),
            (TargetState::Unreachable, 1)
        ]
    );
    says(report(task.id, "ep3", ReportEvent::Canceled), 37).await?;
    let last = passes(&ledger.store, id, at(37)).await?;
    assert_eq!(
        last.iter().map(|task| task.endpoints.clone()).collect::<Vec<_>>(),
        [vec![endpoints[3].clone()]]
    );
    let ended = ledger.task(task.id).await?;
    assert_eq!(
        (ended.status, ended.counts.finished, ended.counts.canceled, ended.counts.open()),
        (TaskStatus::Canceled, 2, 2, 0)
    );
    answer(ledger, &last[0], &endpoints[3], 0, at(38)).await?;
    // A receipt of what was taken back: it is in flight again.
    says(received(again[0].id, "ep1"), 38).await?;
    passes(&ledger.store, id, at(38)).await?;
    assert_eq!(stand().await?[1], (TargetState::Sent, 2));
    answer(ledger, &again[0], &endpoints[1], 0, at(39)).await?;
    passes(&ledger.store, id, at(39)).await?;
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Done);
    assert_eq!(told_of(ledger, id, EventKind::Withdrawn).await?, ["3 targets", "ep1"]);
    counts_are_right(ledger).await
}

/// The texts of the events of a kind.
async fn told_of(ledger: &Ledger, id: Uuid, kind: EventKind) -> Result<Vec<String>> {
    let events = ledger.store.rollout_events(id, 0, 100).await?;
    Ok(events.into_iter().filter(|event| event.kind == kind).filter_map(|event| event.text).collect())
}

pub async fn stops_what_is_in_flight_where_that_is_asked_for(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(3);
    there(ledger, &endpoints, noon()).await?;
    let mut new = rollout("r", &[&endpoints]);
    new.settings.in_flight = InFlightOnStop::Stop;
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    let task = &tasks[0];
    let say = async |report, second| {
        ledger.store.apply(&[report], &Default::default(), at(second), RETENTION).await
    };
    say(received(task.id, "ep0"), 1).await?;
    let told = |second| async move {
        let advanced = pass(&ledger.store, id, at(second)).await?.context("it is open")?;
        let names = |told: Vec<(TaskId, Vec<EndpointName>)>| {
            told.into_iter().flat_map(|(_, names)| names).collect::<Vec<_>>()
        };
        anyhow::Ok((names(advanced.withdrawn), names(advanced.stopped)))
    };
    assert_eq!(told(1).await?, (vec![], vec![]), "it runs");
    command(ledger, id, Command::Abort { roll_back: false }, RolloutPick::Nobody, at(2)).await?;
    assert_eq!(told(2).await?, (endpoints[1..].to_vec(), endpoints[..1].to_vec()));
    // One of the others has begun, and its receipt was late. Both are told until they have answered.
    say(received(task.id, "ep1"), 3).await?;
    say(report(task.id, "ep2", ReportEvent::Canceled), 3).await?;
    assert_eq!(told(3).await?, (vec![], endpoints[..2].to_vec()));
    say(report(task.id, "ep0", ReportEvent::Canceled), 4).await?;
    answer(ledger, task, &endpoints[1], 0, at(4)).await?;
    passes(&ledger.store, id, at(4)).await?;
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Aborted);
    let stand: Vec<TargetState> = states(ledger, id).await?.into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(
        stand,
        [TargetState::Failed, TargetState::Ok, TargetState::Pending],
        "who has begun and was stopped has failed"
    );
    assert_eq!(told_of(ledger, id, EventKind::Stopped).await?, ["ep0", "ep1"]);
    counts_are_right(ledger).await
}

pub async fn starts_so_many_of_a_failure_domain(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(300);
    there(ledger, &endpoints, noon()).await?;
    let mut new = rollout("r", &[&endpoints]);
    new.plan.waves[0].window = 4;
    // The first domain has more endpoints than a pass reads.
    let domain = |name: &str, size, places| PlannedDomain { name: name.to_owned(), size, places };
    new.plan.domains =
        vec![domain("rack=1", 298, Some(1)), domain("rack=2", 1, Some(1)), domain("rack=", 1, None)];
    new.plan.domain_of =
        endpoints.iter().enumerate().map(|(n, name)| (name.clone(), n.saturating_sub(297))).collect();
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let started =
        |tasks: &[NewTask]| tasks.iter().flat_map(|task| task.endpoints.clone()).collect::<Vec<_>>();
    let tasks = passes(&ledger.store, id, noon()).await?;
    assert_eq!(
        started(&tasks),
        [&endpoints[..1], &endpoints[298..]].concat(),
        "one of each, and the one without a limit"
    );
    assert!(passes(&ledger.store, id, at(2)).await?.is_empty(), "a place is free, and no endpoint for it");
    answer(ledger, &tasks[0], &endpoints[0], 0, at(3)).await?;
    let next = passes(&ledger.store, id, at(3)).await?;
    assert_eq!(started(&next), endpoints[1..2], "in the pass that sees the answer");
    let query = RolloutTargetQuery { limit: 1, after: Some((0, 297)), ..RolloutTargetQuery::default() };
    assert_eq!(ledger.store.rollout_targets(id, &query).await?[0].domain.as_deref(), Some("rack=2"));
    counts_are_right(ledger).await
}

pub async fn probes_a_wave_before_the_next(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(3);
    there(ledger, &endpoints, noon()).await?;
    let mut new = rollout("r", &[&endpoints[..2], &endpoints[2..]]);
    let minute = Duration::from_secs(60);
    new.plan.waves[0].terms.probe = Some(Probe {
        task_type: worker(),
        payload: json(&"probe"),
        on: ProbeOn::Wave,
        ok: Amount::Percent(10_000),
        expect: [("".to_owned(), serde_json::json!(0))].into(),
        passes: 1,
        tries: 2,
        every: Duration::from_secs(10),
        receive_within: minute,
        finish_within: minute,
    });
    // Somebody has taken the names of the next tries before they were reserved.
    let taken: Vec<NewTask> = (2..70).map(|number| task(&format!("rollout-r-w1-p{number}"))).collect();
    ledger.store.accept(&taken, at(10), RETENTION).await?;
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    for endpoint in &endpoints[..2] {
        answer(ledger, &tasks[0], endpoint, 0, at(1)).await?;
    }
    let try_at = |second| async move {
        for _ in 0..5 {
            let advanced = pass(&ledger.store, id, at(second)).await?.context("it is open")?;
            ensure!(advanced.tasks.is_empty(), "the next wave waits: {advanced:?}");
            if let Some(probe) = advanced.probe {
                return Ok(probe);
            }
        }
        anyhow::bail!("it is not tried")
    };
    let first = try_at(1).await?;
    assert_eq!(
        (first.identifier.as_str(), first.payload.get(), &first.endpoints[..]),
        ("rollout-r-w1-p70", "\"probe\"", &endpoints[..2])
    );
    assert!(pass(&ledger.store, id, at(2)).await?.context("it is open")?.probe.is_none(), "one at a time");
    answer(ledger, &first, &endpoints[0], 0, at(3)).await?;
    answer(ledger, &first, &endpoints[1], 9, at(3)).await?;
    assert!(passes(&ledger.store, id, at(3)).await?.is_empty());
    let second = try_at(13).await?;
    answer(ledger, &second, &endpoints[0], 0, at(14)).await?;
    let last = finished(second.id, endpoints[1].as_str(), 0);
    let ReportEvent::Finished { errnr, errmsg, attempt, attempts, log, run, .. } = last.event else {
        anyhow::bail!("not an end")
    };
    let other = ReportEvent::Finished { payload: Some(json(&7)), errnr, errmsg, attempt, attempts, log, run };
    ledger.store.apply(&[report(second.id, "ep1", other)], &Default::default(), at(14), RETENTION).await?;
    passes(&ledger.store, id, at(14)).await?;
    let record = found(ledger, "r").await?;
    let reason = "wave 1 did not pass its probe: 1 of 2 ok, needed 2: failure 2 of 2: ep1:  is 7, expected 0";
    assert_eq!(
        (record.status, record.reason.as_deref(), record.waves[0].phase),
        (RolloutStatus::Halted, Some(reason), WavePhase::Probing)
    );
    // It is tried anew once somebody lets it go on.
    let resumed = command(ledger, id, Command::Resume(Allow::default()), RolloutPick::Nobody, at(20)).await?;
    assert!(matches!(resumed, Commanded::Done { .. }), "{resumed:?}");
    let third = try_at(20).await?;
    for endpoint in &endpoints[..2] {
        answer(ledger, &third, endpoint, 0, at(21)).await?;
    }
    let tasks = passes(&ledger.store, id, at(21)).await?;
    assert_eq!(
        tasks.iter().map(|task| task.endpoints.clone()).collect::<Vec<_>>(),
        [endpoints[2..].to_vec()]
    );
    let events = ledger.store.rollout_events(id, 0, 100).await?;
    let told: Vec<_> = events
        .into_iter()
        .filter(|event| event.kind == EventKind::Probed)
        .filter_map(|event| event.text)
        .collect();
    assert_eq!(told[0], "1 of 2 ok, needed 2: failure 1 of 2: ep1: errnr 9 could not: 9");
    assert_eq!((told.len(), told[2].as_str()), (3, "2 of 2 ok: 1 of 1 passes"));
    counts_are_right(ledger).await
}

pub async fn adds_rollouts_up(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(3);
    there(ledger, &endpoints, noon()).await?;
    let new: Vec<NewRollout> = (0..3)
        .map(|n| NewRollout { lane: format!("lane{n}"), ..rollout(&format!("r{n}"), &[&endpoints]) })
        .collect();
    for new in &new {
        ledger.store.record_rollout(new.clone()).await?;
    }
    let tasks = passes(&ledger.store, new[0].id, noon()).await?;
    for endpoint in &endpoints {
        answer(ledger, &tasks[0], endpoint, 0, at(1)).await?;
    }
    passes(&ledger.store, new[0].id, at(1)).await?;
    passes(&ledger.store, new[1].id, at(1)).await?;
    let query = |after, limit| RolloutCensusQuery { after, limit, ..RolloutCensusQuery::default() };
    let first = ledger.store.rollout_census(&query(None, 2)).await?;
    assert_eq!(
        (first.accepted, first.accounted, first.missing, first.open, first.next),
        (2, 2, 0, 1, Some(new[1].id))
    );
    let rest = ledger.store.rollout_census(&query(first.next, 2)).await?;
    assert_eq!((rest.accepted, rest.open, rest.next), (1, 1, None));
    let early = RolloutCensusQuery { until: Some(noon()), ..query(None, 10) };
    assert_eq!(ledger.store.rollout_census(&early).await?.accepted, 0);
    // A wave that counts wrong, one that nobody looks at, and one that ended and keeps an endpoint from
    // others.
    let id = |n: usize| new[n].id.simple().to_string();
    ledger
        .execute(&format!(
            "UPDATE rollout_hold SET rollout = X'{}' WHERE lane = 'lane1' AND endpoint = 'ep0'",
            id(0)
        ))
        .await?;
    ledger.execute(&format!("UPDATE rollout_wave SET count_ok = 1 WHERE rollout = X'{}'", id(1))).await?;
    ledger.execute(&format!("UPDATE rollout SET due_at = NULL WHERE id = X'{}'", id(2))).await?;
    let census = ledger.store.rollout_census(&query(None, 10)).await?;
    assert_eq!((census.accepted, census.accounted, census.missing, census.open), (3, 0, 3, 2));
    let told: Vec<String> =
        census.flaws.into_iter().map(|flaw| format!("{} {}", flaw.rollout, flaw.reason)).collect();
    assert_eq!(
        told,
        [
            "r0 is DONE and holds 1 endpoints",
            "r1 wave 1 counts 1 endpoints as OK; there are 0",
            "r2 is CREATED and is not looked at again"
        ]
    );
    Ok(())
}

pub async fn tells_how_long_rollouts_wait(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(2);
    there(ledger, &endpoints, noon()).await?;
    let approval = Approval {
        count: 1,
        from: Vec::new(),
        not_creator: false,
        within: Duration::from_secs(600),
        otherwise: OnBreach::Halt,
    };
    for (n, endpoint) in endpoints.iter().enumerate() {
        let mut new = NewRollout {
            lane: format!("lane{n}"),
            ..rollout(&format!("r{n}"), &[std::slice::from_ref(endpoint)])
        };
        let terms = &mut new.plan.waves[0].terms;
        (terms.approval, terms.soak) =
            if n == 0 { (Some(approval.clone()), Duration::ZERO) } else { (None, Duration::from_secs(600)) };
        let id = new.id;
        ledger.store.record_rollout(new).await?;
        for task in passes(&ledger.store, id, noon()).await? {
            answer(ledger, &task, endpoint, 0, at(3)).await?;
        }
        passes(&ledger.store, id, at(4)).await?;
    }
    assert_eq!(
        ledger.store.rollout_waits().await?,
        [("approval", Some(noon())), ("soak", Some(at(4))), ("halted", None)]
    );
    Ok(())
}

pub async fn forgets_rollouts_that_ended_long_ago(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(2);
    there(ledger, &endpoints, noon()).await?;
    let (ended, open) = (
        rollout("ended", &[&endpoints]),
        NewRollout { lane: "other".into(), ..rollout("open", &[&endpoints]) },
    );
    for new in [&ended, &open] {
        ledger.store.record_rollout(new.clone()).await?;
    }
    let tasks = passes(&ledger.store, ended.id, noon()).await?;
    passes(&ledger.store, open.id, noon()).await?;
    for endpoint in &endpoints {
        answer(ledger, &tasks[0], endpoint, 0, at(1)).await?;
    }
    passes(&ledger.store, ended.id, at(1)).await?;
    assert!(!ledger.store.forget_rollout(at(1)).await?, "it ended at that time");
    let tries = (0..3).map(|_| {
        let store = ledger.store.clone();
        async move { Ok(store.forget_rollout(at(2)).await?) }
    });
    together(tries.collect::<Vec<_>>()).await?;
    assert!(!ledger.store.forget_rollout(at(99_999)).await?, "the other one is open");
    assert!(ledger.store.rollout(&ended.identifier).await?.is_none());
    assert!(
        states(ledger, ended.id).await?.is_empty()
            && ledger.store.rollout_events(ended.id, 0, 10).await?.is_empty()
    );
    assert_eq!(
        (states(ledger, open.id).await?.len(), ledger.store.rollout_holds(None, 10).await?.len()),
        (2, 2)
    );
    assert_eq!(
        ledger.store.record_rollout(ended).await?,
        RolloutRecorded::New,
        "its identifier is free again"
    );
    counts_are_right(ledger).await
}

pub async fn waits_for_who_is_away_and_starts_them_when_they_return(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(3);
    ledger.known(&endpoints, noon()).await?;
    there(ledger, &endpoints[..2], noon()).await?;
    let new = rollout("r", &[&endpoints]);
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let tasks = passes(&ledger.store, id, noon()).await?;
    answer(ledger, &tasks[0], &endpoints[0], 0, at(1)).await?;
    // One hears nothing of it.
    passes(&ledger.store, id, at(1)).await?;
    passes(&ledger.store, id, at(31)).await?;
    let told: Vec<TargetState> = states(ledger, id).await?.into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(told, [TargetState::Ok, TargetState::Unreachable, TargetState::Absent]);
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Settling);
    // It answers after all; the other one returns.
    answer(ledger, &tasks[0], &endpoints[1], 0, at(40)).await?;
    there(ledger, &endpoints[2..], at(40)).await?;
    let tasks = passes(&ledger.store, id, at(41)).await?;
    assert_eq!(tasks[0].endpoints, [endpoints[2].clone()]);
    answer(ledger, &tasks[0], &endpoints[2], 0, at(42)).await?;
    passes(&ledger.store, id, at(42)).await?;
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Done);
    counts_are_right(ledger).await
}

pub async fn moves_an_endpoint_in_one_rollout_of_a_lane_at_a_time(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(2);
    there(ledger, &endpoints, noon()).await?;
    let (first, second) = (rollout("a", &[&endpoints[..1]]), rollout("b", &[&endpoints]));
    let elsewhere = NewRollout { lane: "other".into(), ..rollout("c", &[&endpoints]) };
    for new in [&first, &second, &elsewhere] {
        ledger.store.record_rollout(new.clone()).await?;
    }
    let a = passes(&ledger.store, first.id, noon()).await?;
    let b = passes(&ledger.store, second.id, noon()).await?;
    assert_eq!(
        (a[0].endpoints.clone(), b[0].endpoints.clone()),
        (vec![name("ep0")], vec![name("ep1")]),
        "the held one is passed over"
    );
    assert_eq!(
        passes(&ledger.store, elsewhere.id, noon()).await?[0].endpoints.len(),
        2,
        "another lane is not held"
    );
    answer(ledger, &a[0], &name("ep0"), 0, at(1)).await?;
    passes(&ledger.store, first.id, at(1)).await?;
    let b = passes(&ledger.store, second.id, at(2)).await?;
    assert_eq!(b[0].endpoints, [name("ep0")]);
    // Started at the same time, no endpoint is in flight twice.
    let many: Vec<NewRollout> = (0..4)
        .map(|n| NewRollout { lane: "crowded".into(), ..rollout(&format!("m{n}"), &[&endpoints]) })
        .collect();
    for new in &many {
        ledger.store.record_rollout(new.clone()).await?;
    }
    let runs = many.iter().map(|new| {
        let (store, id) = (ledger.store.clone(), new.id);
        async move { passes(&store, id, at(3)).await }
    });
    let started = together(runs.collect::<Vec<_>>()).await?;
    let mut names: Vec<_> = started.into_iter().flatten().flat_map(|task| task.endpoints).collect();
    names.sort_unstable();
    assert_eq!(names, endpoints);
    assert!(ledger.store.free_rollout_hold("crowded", &name("ep0")).await?);
    assert!(!ledger.store.free_rollout_hold("crowded", &name("ep0")).await?);
    counts_are_right(ledger).await
}

pub async fn a_rollout_is_moved_by_one_of_many(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(200);
    there(ledger, &endpoints, noon()).await?;
    let new = rollout("r", &[&endpoints]);
    let id = new.id;
    ledger.store.record_rollout(new).await?;
    let runs = (0..6).map(|_| {
        let store = ledger.store.clone();
        async move { passes(&store, id, noon()).await }
    });
    let tasks: Vec<NewTask> = together(runs.collect::<Vec<_>>()).await?.into_iter().flatten().collect();
    assert_eq!((tasks.len(), tasks[0].endpoints.len()), (1, 200), "started once");
    let task = Arc::new(tasks[0].clone());
    let answers = endpoints.chunks(50).map(|some| {
        let (store, task, some) = (ledger.store.clone(), task.clone(), some.to_vec());
        async move {
            for endpoint in &some {
                store
                    .apply(&[finished(task.id, endpoint.as_str(), 0)], &Default::default(), at(1), RETENTION)
                    .await?;
            }
            passes(&store, id, at(1)).await
        }
    });
    together(answers.collect::<Vec<_>>()).await?;
    passes(&ledger.store, id, at(2)).await?;
    assert_eq!(found(ledger, "r").await?.status, RolloutStatus::Done);
    counts_are_right(ledger).await
}
