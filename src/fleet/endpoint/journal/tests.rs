//! The journal as its callers see it, on a real directory.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::index::Index;
use super::segments::Segments;
use super::*;
use crate::broker::wire;
use crate::domain::{AttemptError, Report, ReportEvent, Timestamp, json};

const LARGE: Options = Options::new(256 << 20, Duration::from_secs(3600));

fn task(id: TaskId, bytes: usize) -> Record {
    let time = Timestamp::from_micros(1_000_000);
    let message = vec![b'x'; bytes].into();
    Record::Task(StoredTask {
        id,
        expires_at: time,
        not_before: time,
        started: 0,
        attempts: vec![],
        deadline: None,
        restarting: None,
        message,
    })
}

/// A report with an answer of so many bytes.
fn outcome(id: TaskId, bytes: usize) -> Record {
    let attempts = vec![AttemptError { attempt: 1, errnr: 75, errmsg: "busy".into() }];
    let payload = Some(json(&"o".repeat(bytes)));
    let run = Some(Uuid::from_u128(id.0.as_u128() ^ 1));
    let event = ReportEvent::Finished {
        errnr: 0,
        errmsg: String::new(),
        payload,
        attempt: 2,
        attempts,
        log: None,
        run,
    };
    Record::Outcome { id, report: report(id, event) }
}

fn canceled(id: TaskId) -> Record {
    Record::Canceled { id, report: report(id, ReportEvent::Canceled) }
}

fn report(task_id: TaskId, event: ReportEvent) -> Bytes {
    let (task_type, endpoint) = ("worker".parse().expect("a type"), "console1".parse().expect("an endpoint"));
    wire::encode_report(&Report { task_id, task_type, endpoint, home: Uuid::nil(), event })
}

/// The report that a journal has in full.
fn full(journal: &Journal, id: TaskId) -> Option<Bytes> {
    match journal.read_end(id).expect("reads") {
        Some(Ended::Report(report)) => Some(report),
        _ => None,
    }
}

/// What must not change when only a digest is left.
fn sense(known: Vec<(TaskId, Option<State>)>) -> Vec<(TaskId, Option<State>)> {
    let same =
        |state| if state == Some(State::Digest) { Some(State::Finished { reported: true }) } else { state };
    known.into_iter().map(|(id, state)| (id, same(state))).collect()
}

fn open(dir: &Path, options: Options) -> Journal {
    let (journal, damages) = Journal::open(dir, options, &[]).expect("opens");
    assert_eq!(damages, []);
    journal
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "journal"));
    files.sort();
    files
}

#[tokio::test]
async fn remembers_over_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let ids: Vec<TaskId> = (0..5).map(|_| TaskId::new()).collect();
    let journal = open(dir.path(), LARGE);
    journal.take(ids.iter().map(|id| task(*id, 10)).collect()).await.expect("taken");
    journal
        .note(vec![Record::Started { id: ids[0], attempt: 1 }, Record::Started { id: ids[1], attempt: 1 }])
        .await
        .expect("noted");
    journal
        .keep(vec![outcome(ids[0], 5), Record::Canceled { id: ids[2], report: Bytes::from_static(b"c") }])
        .await
        .expect("kept");
    journal.note(vec![Record::Reported { id: ids[2] }, Record::Parked { id: ids[4] }]).await.expect("noted");
    journal.close().await;
    assert!(matches!(journal.keep(vec![]).await, Err(JournalError::Closed)));

    let journal = open(dir.path(), LARGE);
    assert_eq!((journal.pending(), journal.unreported()), (vec![ids[1], ids[3]], vec![ids[0]]));
    let Record::Outcome { report, .. } = outcome(ids[0], 5) else { panic!("an outcome") };
    assert_eq!(full(&journal, ids[0]), Some(report));
    let read = journal.read_task(ids[1]).expect("reads").expect("is pending");
    assert_eq!((read.started, read.message.len()), (1, 10));
    assert_eq!(
        (journal.state(ids[2]), journal.state(ids[4])),
        (Some(State::Canceled { reported: true }), Some(State::Parked))
    );
    assert_eq!(journal.read_attempts(ids[4]).expect("reads"), Some(vec![]), "it can be asked for");
    assert!(journal.read_task(ids[0]).expect("reads").is_none(), "it has ended");
}

#[tokio::test]
async fn is_for_one_process_alone() {
    let dir = TempDir::new().expect("a directory");
    let journal = open(dir.path(), LARGE);
    let error = Journal::open(dir.path(), LARGE, &[]).expect_err("it is in use");
    assert!(
        matches!(error, JournalError::InUse { .. })
            && error.to_string().contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
    journal.close().await;
    open(dir.path(), LARGE);
}

#[tokio::test]
async fn a_full_journal_takes_no_tasks_but_outcomes() {
    let dir = TempDir::new().expect("a directory");
    let options = Options::new(1 << 20, Duration::from_secs(3600));
    let journal = open(dir.path(), options);
    let mut ids = Vec::new();
    loop {
        let id = TaskId::new();
        match journal.take(vec![task(id, 10_000)]).await {
            Ok(()) => ids.push(id),
            Err(error) => break assert!(matches!(error, JournalError::Full), "{error}"),
        }
    }
    assert!(ids.len() > 90, "{} tasks filled it", ids.len());
    // Said by the thread that writes, at about the time of the refusal.
    journal.health().wait_for(|health| *health == Health::Full).await.expect("the journal lives");
    for id in &ids {
        journal.keep(vec![outcome(*id, 100)]).await.expect("an outcome is always written");
    }
    // Each outcome makes its task's message garbage: half of all is enough to have room again.
    journal.health().wait_for(|health| *health == Health::Room).await.expect("the journal lives");
    journal.take(vec![task(TaskId::new(), 10)]).await.expect("there is room again");
    assert_eq!(journal.unreported(), ids);
    journal.close().await;
    assert_eq!(open(dir.path(), options).unreported(), ids);
}

#[tokio::test]
async fn old_segments_go_and_what_lives_moves_on() {
    let dir = TempDir::new().expect("a directory");
    let options = Options::new(1 << 20, Duration::from_secs(3600));
    let journal = open(dir.path(), options);
    let (waiting, unsent) = (TaskId::new(), TaskId::new());
    journal.take(vec![task(waiting, 100), task(unsent, 100)]).await.expect("taken");
    journal.note(vec![Record::Started { id: waiting, attempt: 2 }]).await.expect("noted");
    journal.keep(vec![outcome(unsent, 7)]).await.expect("kept");
    let first = TaskId::new();
    for id in std::iter::once(first).chain((0..500).map(|_| TaskId::new())) {
        journal.take(vec![task(id, 5_000)]).await.expect("taken");
        journal.keep(vec![outcome(id, 100)]).await.expect("kept");
        journal.note(vec![Record::Reported { id }]).await.expect("noted");
    }
    let on_disk: u64 = files(dir.path()).iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(on_disk < options.limit, "{on_disk} bytes");
    for _ in 0..2 {
        assert_eq!(journal.state(waiting), Some(State::Pending { started: 2 }));
        assert_eq!(journal.read_task(waiting).expect("reads").expect("waits").message.len(), 100);
        assert!(full(&journal, unsent).is_some());
        assert_eq!(journal.state(first), Some(State::Digest), "of the first ones a digest is left");
        journal.close().await;
        open(dir.path(), options).close().await;
    }
    let journal = open(dir.path(), options);
    assert_eq!((journal.pending(), journal.unreported()), (vec![waiting], vec![unsent]));
    assert_eq!(journal.state(waiting), Some(State::Pending { started: 2 }));
}

/// A task that was taken, performed and reported.
async fn perform(journal: &Journal, id: TaskId, bytes: usize) -> Result<(), JournalError> {
    journal.take(vec![task(id, bytes)]).await?;
    journal.note(vec![Record::Started { id, attempt: 2 }]).await?;
    journal.keep(vec![outcome(id, bytes)]).await?;
    journal.note(vec![Record::Reported { id }]).await
}

#[tokio::test]
async fn what_ran_is_known_however_little_room_there_is() {
    let dir = TempDir::new().expect("a directory");
    let options = Options::new(1 << 20, Duration::from_secs(3600));
    let journal = open(dir.path(), options);
    let (parked, withdrawn) = (TaskId::new(), TaskId::new());
    let waited = StoredTask {
        id: parked,
        expires_at: Timestamp::from_micros(1),
        not_before: Timestamp::from_micros(1),
        started: 0,
        attempts: vec![AttemptError { attempt: 1, errnr: 75, errmsg: "busy".into() }],
        deadline: None,
        restarting: None,
        message: Bytes::from_static(b"message"),
    };
    journal.take(vec![Record::Task(waited)]).await.expect("taken");
    journal
        .keep(vec![Record::Parked { id: parked }, canceled(withdrawn), Record::Reported { id: withdrawn }])
        .await
        .expect("kept");
    let ids: Vec<_> = (0..1500).map(|_| TaskId::new()).collect();
    for id in &ids {
        perform(&journal, *id, 3_000).await.expect("performed");
    }
    let on_disk: u64 = files(dir.path()).iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(on_disk < options.limit, "{on_disk} bytes");
    journal.close().await;
    let journal = open(dir.path(), options);
    let states: Vec<_> = ids.iter().map(|id| journal.state(*id)).collect();
    let digests = states.iter().filter(|state| **state == Some(State::Digest)).count();
    assert!(
        digests > 1000
            && states
                .iter()
                .all(|state| matches!(state, Some(State::Digest | State::Finished { reported: true })))
    );
    // The first has moved most often, and says the same as ever.
    let Some(Ended::Digest(digest)) = journal.read_end(ids[0]).expect("reads") else { panic!("a digest") };
    let Some(ReportEvent::Finished { errnr: 0, attempt: 2, attempts, run, payload: None, .. }) =
        digest.event()
    else {
        panic!("{digest:?}")
    };
    assert_eq!(
        (attempts.len(), attempts[0].errnr, run),
        (1, 75, Some(Uuid::from_u128(ids[0].0.as_u128() ^ 1)))
    );
    assert_eq!(digest.task_type.expect("a type").as_str(), "worker");
    let attempts = journal.read_attempts(parked).expect("reads").expect("is parked");
    assert_eq!((journal.state(parked), attempts.len(), attempts[0].errnr), (Some(State::Parked), 1, 75));
    assert_eq!(journal.state(withdrawn), Some(State::Canceled { reported: true }));
    let Some(Ended::Digest(digest)) = journal.read_end(withdrawn).expect("reads") else { panic!("a digest") };
    assert!(matches!(digest.event(), Some(ReportEvent::Canceled)));
}

#[tokio::test]
async fn digests_alone_may_fill_it_and_none_is_forgotten_for_that() {
    let dir = TempDir::new().expect("a directory");
    let options = Options::new(32 << 10, Duration::from_secs(3600));
    let journal = open(dir.path(), options);
    let mut ids = Vec::new();
    loop {
        let id = TaskId::new();
        match perform(&journal, id, 10).await {
            Ok(()) => ids.push(id),
            Err(error) => break assert!(matches!(error, JournalError::Full), "{error}"),
        }
    }
    let mut health = journal.health();
    let crowded = health.wait_for(|health| *health != Health::Room).await.expect("the journal lives").clone();
    let trouble = crowded.trouble().expect("trouble");
    assert!(
        matches!(crowded, Health::Crowded { number: false, .. })
            && trouble.contains("endpoint.journal_limit"),
        "{trouble}"
    );
    assert!(ids.len() > 200, "{} tasks filled it", ids.len());
    journal.close().await;
    let journal = open(dir.path(), options);
    assert!(ids.iter().all(|id| journal.state(*id).is_some()));
    journal.close().await;
    // What is over makes room: the copies are as old as what they were copied from.
    let journal = open(dir.path(), Options { remember: Duration::ZERO, ..options });
    let id = TaskId::new();
    while perform(&journal, id, 10).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(ids.iter().all(|id| journal.state(*id).is_none()));
}

#[tokio::test]
async fn too_many_are_forgotten_only_when_nobody_asks_for_them() {
    let dir = TempDir::new().expect("a directory");
    let options = Options { remember_at_most: 320, ..Options::new(1 << 20, Duration::from_secs(3600)) };
    let journal = open(dir.path(), options);
    let mut ids = Vec::new();
    loop {
        let id = TaskId::new();
        match perform(&journal, id, 10).await {
            Ok(()) => ids.push(id),
            Err(error) => break assert!(matches!(error, JournalError::Full), "{error}"),
        }
    }
    let mut health = journal.health();
    let crowded = health.wait_for(|health| *health != Health::Room).await.expect("the journal lives").clone();
    let trouble = crowded.trouble().expect("trouble");
    assert!(
        matches!(crowded, Health::Crowded { number: true, .. }) && trouble.contains("endpoint.remember"),
        "{trouble}"
    );
    assert!(ids.len() >= 320 && ids.iter().all(|id| journal.state(*id).is_some()), "{}", ids.len());
    journal.close().await;

    // Longer than a busy machine may keep this test from asking, and short enough to wait for.
    let journal = open(dir.path(), Options { quiet: Duration::from_millis(200), ..options });
    // Asked for once lasts a while, so it is asked for again and again.
    for _ in 0..1000 {
        journal.ask(ids[0]);
        let id = TaskId::new();
        while let Err(error) = perform(&journal, id, 10).await {
            assert!(matches!(error, JournalError::Full), "{error}");
            journal.ask(ids[0]);
        }
        ids.push(id);
    }
    journal.ask(ids[0]);
    let known = ids.iter().filter(|id| journal.state(**id).is_some()).count();
    assert!(known <= 321, "{known} are known");
    assert!(journal.state(ids[0]).is_some(), "it was asked for");
    assert!(journal.state(ids[1]).is_none() && journal.state(ids[ids.len() - 1]).is_some());
}

#[tokio::test]
async fn what_is_too_old_is_forgotten() {
    let dir = TempDir::new().expect("a directory");
    let (old, waiting, parked) = (TaskId::new(), TaskId::new(), TaskId::new());
    let journal = open(dir.path(), LARGE);
    journal.take(vec![task(old, 10), task(waiting, 10), task(parked, 10)]).await.expect("taken");
    journal.keep(vec![outcome(old, 10), Record::Parked { id: parked }]).await.expect("kept");
    journal.note(vec![Record::Reported { id: old }]).await.expect("noted");
    journal.close().await;
    // A damaged file is never written to again: it is old at once.
    let file = files(dir.path()).pop().expect("a segment");
    let mut bytes = fs::read(&file).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("writes");
    let aged = fs::File::options().write(true).open(&file).expect("opens");
    aged.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).expect("ages");

    // What a file says of its age is not believed: the clock may have been moved.
    let (journal, damages) = Journal::open(dir.path(), LARGE, &[]).expect("opens");
    assert!(matches!(damages[..], [Damage { torn: false, .. }]), "{damages:?}");
    journal.keep(vec![Record::Reported { id: old }]).await.expect("kept");
    let known = [old, parked].map(|id| journal.state(id));
    assert_eq!(known, [Some(State::Finished { reported: true }), Some(State::Parked)]);
    journal.close().await;
    assert!(file.exists());

    let short = Options { remember: Duration::ZERO, ..LARGE };
    let (journal, _) = Journal::open(dir.path(), short, &[]).expect("opens");
    journal.keep(vec![Record::Reported { id: old }]).await.expect("kept");
    assert_eq!(journal.state(old), None);
    assert_eq!((journal.pending(), journal.state(parked)), (vec![waiting], None));
    journal.close().await;
    assert!(file.with_extension("damaged").exists() && !file.exists());
    assert_eq!(open(dir.path(), LARGE).pending(), [waiting]);
}

#[tokio::test]
async fn a_disk_that_is_well_again_is_noticed_with_nothing_to_write() {
    let dir = TempDir::new().expect("a directory");
    let (here, away) = (dir.path().join("here"), dir.path().join("away"));
    let journal = open(&here, SMALL);
    journal.take(vec![task(TaskId::new(), 300)]).await.expect("taken");
    fs::rename(&here, &away).expect("renamed");
    let id = TaskId::new();
    let error = journal.note(vec![outcome(id, 10)]).await.expect_err("there is nowhere to write to");
    assert!(matches!(error, JournalError::Write(_)), "{error}");
    let mut health = journal.health();
    health.wait_for(|health| matches!(health, Health::Failing { .. })).await.expect("the journal lives");
    // Nothing was asked of the disk, so nothing is known to be better.
    journal.keep(vec![]).await.expect("nothing is kept");
    assert!(matches!(*health.borrow(), Health::Failing { .. }));
    fs::rename(&away, &here).expect("renamed");
    let back = tokio::time::timeout(3 * RETRY.max, health.wait_for(|health| *health == Health::Room)).await;
    back.map(drop).unwrap_or_else(|_| panic!("{:?}", journal.health().borrow().clone()));
    assert_eq!(journal.state(id), None);
}

#[tokio::test]
async fn many_at_once_share_the_disk() {
    let dir = TempDir::new().expect("a directory");
    let journal = open(dir.path(), LARGE);
    let ids: Vec<TaskId> = (0..500).map(|_| TaskId::new()).collect();
    let all = ids.iter().map(|id| journal.take(vec![task(*id, 50)]));
    for taken in futures::future::join_all(all).await {
        taken.expect("taken");
    }
    journal.close().await;
    assert_eq!(open(dir.path(), LARGE).pending(), ids);
}

/// Segments of 256 bytes.
const SMALL: Options = Options::new(16 << 10, Duration::from_secs(3600));

/// All files of a journal with what is in them.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn content(dir: &Path) -> Files {
    files(dir).into_iter().map(|path| (path.clone(), fs::read(path).expect("reads"))).collect()
}

fn restore(dir: &Path, was: &Files) {
    files(dir).into_iter().for_each(|path| fs::remove_file(path).expect("removed"));
    was.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("written"));
}

fn opened(dir: &Path, options: Options) -> (Segments, Mutex<Index>, Vec<Damage>) {
    let mut index = Index::default();
    let (segments, damages) = Segments::open(dir, options, &mut index).expect("opens");
    (segments, Mutex::new(index), damages)
}

/// Tasks of all states over several segments, some overruled by records in later ones; and where each record
/// lies.
fn several_segments(dir: &Path) -> (Vec<(Record, u32, u64)>, Files) {
    let ids: Vec<TaskId> = (0..6).map(|_| TaskId::new()).collect();
    let mut records: Vec<_> = ids.iter().map(|id| task(*id, 60)).collect();
    records.extend(ids.iter().step_by(2).map(|id| Record::Started { id: *id, attempt: 1 }));
    records.extend(ids.iter().step_by(3).map(|id| outcome(*id, 50)));
    records.push(Record::Reported { id: ids[3] });
    records.push(canceled(ids[4]));
    records.push(Record::Parked { id: ids[5] });
    let (mut segments, index, _) = opened(dir, SMALL);
    let mut places = Vec::new();
    for record in records {
        let active = segments.append(std::slice::from_ref(&record), &index).expect("written");
        places.push((record, active.number, active.file.metadata().expect("a file").len()));
    }
    segments.sync().expect("on disk");
    let files = content(dir);
    assert!(files.len() >= 5, "{} segments", files.len());
    (places, files)
}

/// An index that was told all records but those of a segment of which a byte lies within `lost`.
fn told_but(places: &[(Record, u32, u64)], segment: u32, lost: &Range<u64>) -> Vec<(TaskId, Option<State>)> {
    let (mut index, mut damaged, mut start) = (Index::default(), false, record::HEADER as u64);
    let mut before = None;
    for (place, (record, number, end)) in (0..).zip(places) {
        if before != Some(*number) {
            (before, start) = (Some(*number), record::HEADER as u64);
            damaged |= *number == segment && lost.start < start;
        }
        let at = index::Location { segment: 1, place, length: 1 };
        if *number == segment && lost.start < *end && start < lost.end {
            damaged = true;
        } else if damaged {
            index.apply_after_damage(record, at);
        } else {
            index.apply(record, at);
        }
        start = *end;
    }
    known(&index)
}

fn number(path: &Path) -> u32 {
    path.file_stem().and_then(|stem| stem.to_str()).expect("a name").parse().expect("a number")
}

/// A write that was never answered may be there in part, as zeros from anywhere on, or with its first page
/// missing.
#[test]
fn the_last_of_several_segments_may_end_anywhere() {
    let dir = TempDir::new().expect("a directory");
    let (places, files) = several_segments(dir.path());
    let (path, bytes) = files.last().expect("segments");
    for cut in 0..=bytes.len() {
        let zeros = bytes.len() - cut;
        let holed = [vec![0; zeros.min(20)], bytes[cut..].iter().skip(20).copied().collect()].concat();
        for tail in [vec![], vec![0; zeros], vec![0; 4096], holed] {
            restore(dir.path(), &files);
            fs::write(path, [&bytes[..cut], &tail].concat()).expect("written");
            let (mut segments, index, _) = opened(dir.path(), SMALL);
            let good = if cut < record::HEADER { 0 } else { cut as u64 };
            let number = number(path);
            // A hole in what is zero anyway is none.
            let (whole, all) = (told_but(&places, number, &(good..u64::MAX)), told_but(&places, 0, &(0..0)));
            let around = told_but(&places, number, &(cut as u64..cut as u64 + 20));
            let known = known(&locked(&index));
            assert!([whole, around, all].contains(&known), "cut at {cut}, then {} bytes", tail.len());
            let more = TaskId::new();
            segments.append(&[outcome(more, 3)], &index).expect("goes on");
            let (_, again, _) = opened(dir.path(), SMALL);
            assert_eq!(
                self::known(&locked(&again)),
                self::known(&locked(&index)),
                "cut at {cut}, then {} bytes",
                tail.len()
            );
        }
    }
}

/// A disk may return other bytes than were written anywhere: that record is lost, and nothing else.
#[test]
fn a_flipped_bit_in_any_of_several_segments_costs_one_record() {
    let dir = TempDir::new().expect("a directory");
    let (places, files) = several_segments(dir.path());
    for (path, bytes) in &files {
        for place in 0..bytes.len() {
            restore(dir.path(), &files);
            let mut bytes = bytes.clone();
            bytes[place] ^= 1 << (place % 8);
            fs::write(path, &bytes).expect("written");
            let (_, index, damages) = opened(dir.path(), SMALL);
            let lost = place as u64..place as u64 + 1;
            assert_eq!(
                known(&locked(&index)),
                told_but(&places, number(path), &lost),
                "byte {place} of {}",
                path.display()
            );
            assert!(damages.len() == 1 && damages[0].places == 1 && damages[0].path == *path, "{damages:?}");
        }
    }
}

/// The end may come at any byte of what moves forward, with the old segment still there, and right after it
/// went.
#[test]
fn what_moves_forward_may_be_cut_short_anywhere() {
    let dir = TempDir::new().expect("a directory");
    let (_, files) = several_segments(dir.path());
    for _ in files {
        let (mut segments, index, _) = opened(dir.path(), SMALL);
        let (before, was) = (content(dir.path()), known(&locked(&index)));
        let oldest = number(&before[0].0);
        segments.retire(oldest, &index).expect("retired");
        let (after, is) = (content(dir.path()), known(&locked(&index)));
        let live = |known: &[(TaskId, Option<State>)]| -> Vec<_> {
            known.iter().filter(|(_, state)| state.is_some_and(State::is_live)).copied().collect()
        };
        assert_eq!(live(&is), live(&was));
        assert_eq!(sense(is.clone()), sense(was.clone()), "nothing is forgotten");
        let (_, again, _) = opened(dir.path(), SMALL);
        assert_eq!(known(&locked(&again)), is, "nothing begins again when an old segment goes");

        // The files that were written to, one after the other.
        let mut present = before.clone();
        for (path, bytes) in &after {
            let from = before.iter().find(|(old, _)| old == path).map_or(0, |(_, bytes)| bytes.len());
            for cut in from..bytes.len() {
                restore(dir.path(), &present);
                fs::write(path, &bytes[..cut]).expect("written");
                let (mut segments, index, damages) = opened(dir.path(), SMALL);
                assert_eq!(
                    sense(known(&locked(&index))),
                    sense(was.clone()),
                    "{} cut at {cut}",
                    path.display()
                );
                assert!(damages.iter().all(|damage| damage.torn));
                segments.retire(oldest, &index).expect("retired");
                let (_, again, _) = opened(dir.path(), SMALL);
                assert_eq!(known(&locked(&again)), is, "{} cut at {cut}, retired again", path.display());
            }
            present.retain(|(old, _)| old != path);
            present.push((path.clone(), bytes.clone()));
        }
        restore(dir.path(), &after);
    }
}

/// The task was asked for, performed and reported; the disk destroyed one of these records, whichever: it
/// does not run again.
#[tokio::test]
async fn what_was_reported_does_not_run_again_whatever_record_of_it_is_lost() {
    for lost in 0..4 {
        let dir = TempDir::new().expect("a directory");
        let (id, waiting) = (TaskId::new(), TaskId::new());
        let records = [
            task(id, 10),
            Record::Started { id, attempt: 1 },
            outcome(id, 10),
            Record::Reported { id },
            task(waiting, 10),
        ];
        let (file, ends) = written(dir.path(), &records);
        let mut bytes = fs::read(&file).expect("reads");
        bytes[usize::try_from(ends[lost]).expect("small") - 3] ^= 8;
        fs::write(&file, bytes).expect("writes");
        for start in 0..3 {
            let short =
                Options { remember: if start == 1 { Duration::ZERO } else { LARGE.remember }, ..LARGE };
            let (journal, _) = Journal::open(dir.path(), short, &[]).expect("opens");
            assert!(!journal.pending().contains(&id), "record {lost}, start {start}");
            assert!(journal.pending().contains(&waiting), "what lies behind is performed");
            if start == 0 {
                assert!(journal.state(id).is_some(), "record {lost} was lost and the task forgotten");
            }
            journal.close().await;
        }
    }
}

/// What could be read once and cannot be any more is not kept as if it were there, nor forgotten: it would
/// run twice.
#[test]
fn what_a_disk_loses_later_is_known_to_be_lost() {
    let dir = TempDir::new().expect("a directory");
    let (_, files) = several_segments(dir.path());
    let (mut segments, index, _) = opened(dir.path(), SMALL);
    let (path, bytes) = &files[0];
    let were = locked(&index).lie_in(number(path));
    fs::write(path, [&bytes[..record::HEADER], &b"~".repeat(bytes.len() - record::HEADER)].concat())
        .expect("written");
    segments.retire(number(path), &index).expect("retired");
    assert!(!were.is_empty() && were.iter().all(|id| locked(&index).state(*id) == Some(State::Unknown)));
    assert!(path.with_extension("damaged").exists());
    let (_, again, _) = opened(dir.path(), SMALL);
    assert_eq!(known(&locked(&again)), known(&locked(&index)));
    assert_eq!(locked(&again).live_bytes(), locked(&index).live_bytes());
}

/// Where the disk failed while something moved forward, nobody knows what of it is there.
#[test]
fn what_moved_to_where_the_disk_failed_moves_again() {
    let dir = TempDir::new().expect("a directory");
    let (_, files) = several_segments(dir.path());
    let (mut segments, index, _) = opened(dir.path(), SMALL);
    let was = sense(known(&locked(&index)));
    let oldest = number(&files[0].0);
    let were = locked(&index).lie_in(oldest);
    segments.sync_state().faults.store(1, Ordering::Relaxed);
    segments.retire(oldest, &index).expect_err("the disk failed");
    let failed = segments.sync_state().take_failed().expect("a segment");
    assert!(locked(&index).lie_in(failed).iter().any(|id| were.contains(id)), "something has moved there");
    assert!(files[0].0.exists(), "it is all that is surely there");
    segments.retire(oldest, &index).expect("retired");
    assert!(!files[0].0.exists());
    // The disk has nothing of what came then.
    let failed = super::segments::path(dir.path(), failed);
    let had = files.iter().find(|(path, _)| *path == failed).map_or(0, |(_, bytes)| bytes.len());
    fs::File::options().write(true).open(&failed).expect("opens").set_len(had as u64).expect("cut");
    let (_, again, _) = opened(dir.path(), SMALL);
    assert_eq!(sense(known(&locked(&again))), was);
}

#[test]
fn a_file_that_cannot_be_removed_does_not_outlive_younger_ones() {
    let dir = TempDir::new().expect("a directory");
    let (_, files) = several_segments(dir.path());
    let (path, mut bytes) = files[0].clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("written");
    let (mut segments, index, _) = opened(dir.path(), SMALL);
    let was = sense(known(&locked(&index)));
    // A damaged file is kept under this name.
    let in_the_way = path.with_extension("damaged");
    fs::create_dir(&in_the_way).expect("a directory");
    for _ in 0..2 {
        segments.renew(&index).expect_err("the file cannot be renamed");
        assert!(files.iter().all(|(path, _)| path.exists()), "younger ones wait");
    }
    fs::remove_dir(&in_the_way).expect("removed");
    segments.renew(&index).expect("retired");
    assert!(in_the_way.is_file() && files.iter().all(|(path, _)| !path.exists()));
    let (_, again, _) = opened(dir.path(), SMALL);
    assert_eq!(sense(known(&locked(&again))), was);
}

/// What an index knows, in an order.
fn known(index: &Index) -> Vec<(TaskId, Option<State>)> {
    index.ids(|_| true).into_iter().map(|id| (id, index.state(id))).collect()
}

/// An index that was told these records.
fn told(records: &[Record]) -> Vec<(TaskId, Option<State>)> {
    let mut index = Index::default();
    for (place, record) in (0..).zip(records) {
        index.apply(record, index::Location { segment: 1, place, length: 1 });
    }
    known(&index)
}

/// Writes records one by one; returns the file and where each ended.
fn written(dir: &Path, records: &[Record]) -> (PathBuf, Vec<u64>) {
    let index = Mutex::default();
    let (mut segments, _) = Segments::open(dir, LARGE, &mut Index::default()).expect("opens");
    let mut ends = Vec::new();
    for record in records {
        segments.append(std::slice::from_ref(record), &index).expect("writes");
        ends.push(segments.bytes());
    }
    (files(dir).pop().expect("a segment"), ends)
}

/// Somebody removes the directory of a running endpoint, or replaces it. The journal takes no task then, since
/// it would be gone after a restart.
#[tokio::test]
async fn a_directory_that_goes_away_is_noticed_with_and_without_work() {
    let root = TempDir::new().expect("a directory");
    let (dir, away) = (root.path().join("journal"), root.path().join("away"));
    let (journal, _) = Journal::open(&dir, LARGE, &[]).expect("opens");
    let mut health = journal.health();
    journal.take(vec![task(TaskId::new(), 10)]).await.expect("there is room");
    fs::rename(&dir, &away).expect("moves");
    journal.look();
    let gone =
        tokio::time::timeout(RETRY.max, health.wait_for(|health| matches!(health, Health::Failing { .. })));
    let trouble = gone.await.expect("in time").expect("open").trouble().expect("a trouble");
    assert!(
        trouble.starts_with("journal_failing: ") && trouble.contains("journal is gone: put it back"),
        "{trouble}"
    );
    let refused = journal.take(vec![task(TaskId::new(), 10)]).await;
    assert!(matches!(refused, Err(JournalError::Write(_))), "{refused:?}");
    fs::create_dir(&dir).expect("another one");
    let refused = journal.take(vec![task(TaskId::new(), 10)]).await.expect_err("it is another one");
    assert!(refused.to_string().contains("was replaced"), "{refused}");
    fs::remove_dir(&dir).expect("removed");
    fs::rename(&away, &dir).expect("moves back");
    let back = tokio::time::timeout(2 * RETRY.max, health.wait_for(|health| *health == Health::Room));
    back.await.expect("in time").expect("open");
    let id = TaskId::new();
    journal.take(vec![task(id, 10)]).await.expect("there is room");
    let [file] = &files(&dir)[..] else { panic!("one segment") };
    fs::remove_file(file).expect("removed");
    let refused = journal.take(vec![task(TaskId::new(), 10)]).await;
    assert!(matches!(refused, Err(JournalError::Write(_))), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Power may go at any byte: what was there before is there after, and it goes on from there.
    #[test]
    fn a_cut_anywhere_loses_the_end_alone(records in record::tests::records()) {
        prop_assume!(!records.is_empty());
        let dir = TempDir::new()?;
        let (file, ends) = written(dir.path(), &records);
        let bytes = fs::read(&file)?;
        for cut in 0..=bytes.len() {
            fs::write(&file, &bytes[..cut])?;
            let whole = ends.iter().take_while(|end| **end <= cut as u64).count();
            let index = Mutex::new(Index::default());
            let (mut segments, damages) = Segments::open(dir.path(), LARGE, &mut index.lock().expect("not poisoned"))?;
            prop_assert_eq!(known(&index.lock().expect("not poisoned")), told(&records[..whole]));
            prop_assert!(damages.iter().all(|damage| damage.torn));
            // Written to and read again: nothing of the cut is left in the way.
            let more = Record::Outcome { id: TaskId::new(), report: Bytes::from_static(b"more") };
            segments.append(std::slice::from_ref(&more), &index)?;
            let mut again = Index::default();
            let (_, damages) = Segments::open(dir.path(), LARGE, &mut again)?;
            prop_assert_eq!(damages, vec![]);
            let all: Vec<Record> = records[..whole].iter().cloned().chain([more]).collect();
            prop_assert_eq!(known(&again), told(&all));
            for left in files(dir.path()) {
                fs::remove_file(left)?;
            }
        }
    }

    /// A disk may return other bytes than were written, anywhere within a record: that record is lost,
    /// nothing else is, nothing that was never written appears, and all of that is so again at the next
    /// start.
    #[test]
    fn other_bytes_within_a_record_cost_that_record_alone(records in record::tests::records(), other in proptest::collection::vec(1u8.., 1..40)) {
        prop_assume!(!records.is_empty());
        let dir = TempDir::new()?;
        let (file, ends) = written(dir.path(), &records);
        let bytes = fs::read(&file)?;
        let number = number(&file);
        let places: Vec<_> = records.iter().cloned().zip(&ends).map(|(record, end)| (record, number, *end)).collect();
        for place in 0..bytes.len() {
            let end = if place < record::HEADER { record::HEADER as u64 } else { *ends.iter().find(|end| **end > place as u64).expect("a record") };
            let end = end.min(place as u64 + other.len() as u64);
            let mut bytes = bytes.clone();
            for (byte, mask) in bytes[place..usize::try_from(end)?].iter_mut().zip(&other) {
                *byte ^= mask;
            }
            fs::write(&file, &bytes)?;
            let index = Mutex::new(Index::default());
            let (mut segments, damages) = Segments::open(dir.path(), LARGE, &mut index.lock().expect("not poisoned"))?;
            let expected = told_but(&places, number, &(place as u64..end));
            prop_assert_eq!(known(&index.lock().expect("not poisoned")), expected.clone());
            prop_assert_eq!(damages.len(), 1);
            let more = Record::Outcome { id: TaskId::new(), report: Bytes::from_static(b"more") };
            segments.append(std::slice::from_ref(&more), &index)?;
            let mut again = Index::default();
            Segments::open(dir.path(), LARGE, &mut again)?;
            prop_assert_eq!(known(&again), known(&index.lock().expect("not poisoned")));
            for left in files(dir.path()) {
                fs::remove_file(left)?;
            }
        }
    }
}
