//! Copies that go out together share a signature, if their receivers read that, and each is judged alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker::broker::wire;
use tasker::domain::{BatchPath, Command, Presence, PresenceState, Seal, Signature, TaskId, WireVersion};
use tasker::signing::{Moment, Situation, Trust, Verified};
use uuid::Uuid;

use super::rig::endpoint;
use super::signatures::{Signed, Thief};
use crate::support::platform::Platform;
use crate::support::presence::presence_of_its_own;

/// Submits tasks at the same time, one for each list of endpoints. Answers their ids in order.
fn submit_together(platform: &Platform, lists: &[&[&str]]) -> anyhow::Result<Vec<TaskId>> {
    let task = |endpoints: &&[&str]| json!({"type": "steered", "identifier": Uuid::new_v4(), "payload": {"do": "ok"}, "endpoints": endpoints});
    let tasks: Vec<Value> = lists.iter().map(task).collect();
    let (status, answer) = platform.post("/tasks", &json!(tasks))?;
    ensure!(status == 200, "{status}: {answer}");
    let results = answer["results"].as_array().context("results")?;
    results.iter().map(|one| Ok(one["task"]["id"].as_str().context("an id")?.parse()?)).collect()
}

/// A copy of each of these tasks.
fn copies_of(
    platform: &Platform,
    thief: &Thief,
    ids: &[TaskId],
) -> anyhow::Result<BTreeMap<TaskId, (Command, WireVersion, Seal)>> {
    let (mut copies, until) = (BTreeMap::new(), Instant::now() + Duration::from_secs(60));
    while copies.len() < ids.len() {
        ensure!(Instant::now() < until, "{} of {} copies went by", copies.len(), ids.len());
        for item in platform.block_on(thief.next())? {
            if let Ok((Command::Task(task), version, Some(seal))) = wire::decode_sealed(&item)
                && ids.contains(&task.work.id)
            {
                copies.insert(task.work.id, (Command::Task(task), version, seal));
            }
        }
    }
    Ok(copies)
}

/// How an endpoint judges a copy that comes by itself, and that has seen no other.
fn judge(signed: &Signed, name: &str, command: &Command, seal: &Seal) -> anyhow::Result<()> {
    let trust = Trust::read(signed.path("trust.yaml").as_ref())?;
    let situation = Situation {
        endpoint: &endpoint(name),
        moment: Moment::Arrives,
        now: tasker::clock::Clock::system().now(),
        tolerance: Duration::from_secs(60),
        revoked: &BTreeSet::new(),
        verified: &Verified::new(),
    };
    let judged = trust.judge(command, Some(seal), situation);
    ensure!(judged.is_ok(), "{judged:?}: {seal:?}");
    Ok(())
}

fn signatures<'a>(seals: impl Iterator<Item = &'a Seal>) -> BTreeSet<Signature> {
    seals.map(|seal| seal.signature).collect()
}

#[test]
fn copies_share_signatures_under_load_and_no_paths() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let _api = signed.start_api()?;
    let thief = platform.block_on(Thief::come(platform))?;
    let _one = signed.start("ep1")?;
    let ids = submit_together(platform, &[&["ep1"][..]; 300])?;
    let copies = copies_of(platform, &thief, &ids)?;
    platform.until("all are done", |platform| {
        let (_, counts) = platform.get("/steered?status=DONE&limit=1000")?;
        let done = counts["tasks"].as_array().map(Vec::len);
        ensure!(done == Some(300), "{done:?} of 300");
        Ok(())
    })?;
    let seals = || copies.values().map(|(.., seal)| seal);
    let (made, most) =
        (signatures(seals()).len(), seals().filter_map(|seal| Some(seal.batch.as_ref()?.of())).max());
    ensure!(made < 100 && most.is_some_and(|most| (4..=BatchPath::MOST).contains(&most)), "{made}, {most:?}");
    for (command, _, seal) in copies.values() {
        judge(&signed, "ep1", command, seal)?;
    }
    ensure!(signed.quarantine("ep1")?.is_empty() && signed.counted()?.is_empty());

    // Two that share one.
    let mut of_signature: BTreeMap<Signature, Vec<_>> = BTreeMap::new();
    for copy in copies.values() {
        of_signature.entry(copy.2.signature).or_default().push(copy);
    }
    let pair = of_signature.into_values().find(|copies| copies.len() > 1).context("two that share one")?;
    let ((command, version, seal), (other, _, of_other)) = (pair[0], pair[1]);
    let other_batch = copies.values().find(|(.., one)| one.signature != seal.signature).map(|(.., one)| one);
    let mut forgeries = vec![
        (command, Seal { batch: of_other.batch.clone(), ..seal.clone() }),
        (command, of_other.clone()),
        (other, seal.clone()),
        (command, Seal { batch: None, ..seal.clone() }),
    ];
    forgeries.extend(other_batch.map(|one| (command, Seal { batch: one.batch.clone(), ..seal.clone() })));
    for (command, seal) in &forgeries {
        let body = wire::encode_sealed(command, *version, seal);
        platform.block_on(thief.publish(("it.steered.to", "ep1"), &body))?;
    }
    platform.until("all of it is refused as forged", |_| {
        let found = signed.quarantine("ep1")?;
        ensure!(found == [("forged".to_owned(), forgeries.len())].into(), "{found:?}");
        Ok(())
    })?;
    ensure!(signed.strange_reports()? == 0);
    let after = platform.submit("steered", json!({"do": "ok"}), &["ep1"])?;
    platform.task("steered", &after, "DONE").map(drop)
}

/// An endpoint of the version before cannot be misled: it would read past the path.
#[test]
fn those_who_do_not_read_paths_get_signatures_of_their_own() -> anyhow::Result<()> {
    let signed = Signed::new()?;
    let platform = &signed.platform;
    let _api = signed.start_api()?;
    let thief = platform.block_on(Thief::come(platform))?;
    let _one = signed.start("ep1")?;
    let old = Presence {
        interval: Duration::from_secs(60),
        reads: WireVersion::Four,
        ..presence_of_its_own("old", &["steered"], PresenceState::Joined)
    };
    platform.block_on(thief.publish(("it.presence", ""), &wire::encode_presence(&old)))?;
    platform.subscribed("old", &["steered"])?;
    let lists = [&["ep1"][..], &["old"], &["ep1", "old"], &[]];
    let ids = submit_together(platform, &lists.repeat(50))?;
    let copies = copies_of(platform, &thief, &ids)?;
    let (mut new, mut alone) = (Vec::new(), Vec::new());
    for (id, list) in ids.iter().zip(lists.iter().cycle()) {
        let (command, _, seal) = copies.get(id).context("a copy")?;
        let receivers = if list.is_empty() { lists[2] } else { list };
        for receiver in receivers {
            judge(&signed, receiver, command, seal)?;
        }
        if receivers.contains(&"old") { alone.push(seal) } else { new.push(seal) }
    }
    ensure!(alone.iter().all(|seal| seal.batch.is_none()), "a path went to who does not read it");
    ensure!(signatures(alone.iter().copied()).len() == 150);
    let made = signatures(new.iter().copied()).len();
    ensure!(made < 25, "{made} signatures of 50 copies that could share them");
    Ok(())
}
