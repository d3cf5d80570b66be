//! What an endpoint left behind when it ran with another set of types, and so in another directory.
//!
//! Whoever opens a journal looks at the directories beside it and takes over all that belongs to its own
//! types, whether it waits, was interrupted, or is remembered for repeats. It is on disk here before it is
//! marked as gone there. Cut short anywhere in between, the next start finds it in both places, knows it
//! already and only makes the marks: what has ended in either place does not begin again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::error::JournalError;
use super::index::{Index, State, locked};
use super::lock::{LOCK, lock};
use super::record::Record;
use super::segments::{BATCH, Damage, Options, Segments};
use crate::broker::wire;
use crate::domain::{Command, TaskId, TaskType};
use crate::endpoint::directory;
use crate::endpoint::leftovers::Leftovers;

/// Marks that are written in one piece.
const MARKS: usize = 8192;

/// The journal that takes over.
pub(super) struct Heir<'a> {
    pub(super) dir: &'a Path,
    pub(super) types: &'a [&'a TaskType],
    pub(super) options: Options,
    pub(super) segments: &'a mut Segments,
    pub(super) index: &'a Mutex<Index>,
}

impl Heir<'_> {
    /// Takes over from all siblings. Those of a living process are left alone, if it performs none of our
    /// types.
    ///
    /// # Errors
    /// [`JournalError::InUse`] when a living process performs one of our types, [`JournalError::Open`] when a
    /// disk refuses: without what is there a task could be performed twice.
    pub(super) fn take_over(&mut self) -> Result<Vec<Damage>, JournalError> {
        let mut damages = Vec::new();
        for sibling in self.siblings().map_err(JournalError::open(self.dir))? {
            match lock(&sibling) {
                Ok(lock) => {
                    damages.extend(self.take_over_from(&sibling, lock).map_err(JournalError::open(&sibling))?)
                }
                Err(JournalError::InUse { ref holder, .. }) if !self.competes(&sibling, holder) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(damages)
    }

    /// Whether a living process performs one of our types. The lock file may be empty when the disk is full.
    fn competes(&self, sibling: &Path, holder: &str) -> bool {
        let name = sibling.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let said = holder.split_once(':').map_or("", |(_, types)| types);
        let mut theirs = name.split('+').chain(said.split_ascii_whitespace());
        theirs.any(|theirs| self.types.iter().any(|own| own.as_str() == theirs))
    }

    fn siblings(&self) -> std::io::Result<Vec<PathBuf>> {
        let Some(parent) = self.dir.parent() else { return Ok(Vec::new()) };
        let mut siblings = Vec::new();
        for entry in fs::read_dir(parent)? {
            let path = entry?.path();
            // A directory without a lock is none of ours.
            if path != self.dir && path.join(LOCK).exists() {
                siblings.push(path);
            }
        }
        siblings.sort_unstable();
        Ok(siblings)
    }

    fn take_over_from(&mut self, sibling: &Path, lock: File) -> std::io::Result<Vec<Damage>> {
        // What is still at work there would go on beside the attempt that follows here.
        let groups = sibling.join(directory::RUNNING);
        let (_, ended) = Leftovers::sweep(groups.clone())?;
        let mut theirs = Index::default();
        let (mut segments, damages) = Segments::open(sibling, self.options, &mut theirs)?;
        let theirs = Mutex::new(theirs);
        // What there is no room for is not worth the way.
        segments.reclaim(&theirs)?;
        let Taken { ids, live, left } = self.copy(&segments, &theirs)?;
        // From here on it is safe with us.
        self.segments.sync()?;
        for ids in ids.chunks(MARKS) {
            let marks: Vec<_> = ids.iter().map(|id| Record::Moved { id: *id }).collect();
            segments.append(&marks, &theirs)?;
        }
        segments.sync()?;
        if ids.len() + ended > 0 {
            let (from, remembered) = (sibling.display(), ids.len() - live);
            tracing::info!(%from, live, remembered, ended, "took over tasks left under another set of types");
        }
        if !left {
            segments.clear(&theirs)?;
            drop(lock);
            // What is left is for people to look at, or will be found empty by the next start.
            let _ = fs::remove_dir(groups);
            let _ = fs::remove_file(sibling.join(LOCK)).and_then(|()| fs::remove_dir(sibling));
        }
        Ok(damages)
    }

    fn copy(&mut self, segments: &Segments, theirs: &Mutex<Index>) -> std::io::Result<Taken> {
        let mut taken = Taken { ids: Vec::new(), live: 0, left: false };
        let (mut batch, mut size) = (Vec::new(), 0);
        segments.each(theirs, |record, state| {
            if !type_of(&record).is_some_and(|task_type| self.types.contains(&&task_type)) {
                taken.left = true;
                return Ok(());
            }
            let id = record.id();
            taken.ids.push(id);
            taken.live += usize::from(state.is_live());
            let news = match locked(self.index).state(id) {
                None => true,
                // It ended there; or it is what an earlier start copied.
                Some(State::Pending { .. }) => !matches!(state, State::Pending { .. }),
                Some(State::Parked) => !matches!(state, State::Pending { .. } | State::Parked),
                Some(State::Finished { .. } | State::Canceled { .. } | State::Digest | State::Unknown) => {
                    false
                }
            };
            if news {
                size += record.size();
                batch.push(record);
                match state {
                    State::Parked => batch.push(Record::Parked { id }),
                    State::Finished { reported: true } | State::Canceled { reported: true } => {
                        batch.push(Record::Reported { id })
                    }
                    State::Pending { .. }
                    | State::Finished { .. }
                    | State::Canceled { .. }
                    | State::Digest
                    | State::Unknown => {}
                }
            }
            if size >= BATCH as u64 {
                self.segments.append(&batch, self.index)?;
                batch.clear();
                size = 0;
            }
            Ok(())
        })?;
        if !batch.is_empty() {
            self.segments.append(&batch, self.index)?;
        }
        Ok(taken)
    }
}

/// What was found of our types.
struct Taken {
    ids: Vec<TaskId>,
    /// How many of them are not done with.
    live: usize,
    /// Whether there is something of other types too.
    left: bool,
}

/// `None` for what this version does not understand: it stays where it is.
fn type_of(record: &Record) -> Option<TaskType> {
    match record {
        Record::Task(task) => match wire::decode_command(&task.message) {
            Ok(Command::Task(task)) => Some(task.work.task_type),
            _ => None,
        },
        Record::Outcome { report, .. } | Record::Canceled { report, .. } => {
            wire::decode_report(report).ok().map(|report| report.task_type)
        }
        Record::Digest(digest) => digest.task_type.clone(),
        Record::Started { .. } | Record::Reported { .. } | Record::Parked { .. } | Record::Moved { .. } => {
            None
        }
    }
}

/// Keeps others of the same endpoint from opening their journals meanwhile; freed when dropped.
pub(super) fn alone(dir: &Path) -> Result<File, JournalError> {
    let parent = dir.parent().unwrap_or(dir);
    File::open(parent).and_then(|parent| parent.lock().map(|()| parent)).map_err(JournalError::open(parent))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Report, ReportEvent, TaskMessage, Timestamp, WireVersion, WorkPart, json};
    use crate::endpoint::journal::Journal;
    use crate::endpoint::journal::record::{Digest, DigestEnd, StoredTask};

    const OPTIONS: Options = Options::new(1 << 20, Duration::from_secs(3600));

    fn named(name: &str) -> TaskType {
        name.parse().expect("a type")
    }

    fn task(id: TaskId, name: &str) -> Record {
        let (expires_in, time) = (Duration::from_secs(60), Timestamp::from_micros(7));
        let identifier = "1".parse().expect("an identifier");
        let work = WorkPart {
            id,
            task_type: named(name),
            identifier,
            audience: None,
            not_after: None,
            payload: json(&1),
        };
        let task = TaskMessage { work, expires_in, received: false, attempts: vec![] };
        let message = wire::encode_command(&Command::Task(task), WireVersion::NEWEST);
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

    fn report(id: TaskId, name: &str) -> bytes::Bytes {
        let endpoint = "console1".parse().expect("an endpoint");
        wire::encode_report(&Report {
            task_id: id,
            task_type: named(name),
            endpoint,
            home: Uuid::nil(),
            event: ReportEvent::Canceled,
        })
    }

    /// One task of a type in each state: waiting, interrupted, ended, reported, withdrawn, parked, digested.
    fn of_all_states(name: &str) -> ([TaskId; 7], Vec<Record>) {
        let ids @ [_, interrupted, ended, reported, withdrawn, parked, digested] =
            [(); 7].map(|()| TaskId::new());
        let mut records: Vec<_> = ids.iter().map(|id| task(*id, name)).collect();
        records.push(Record::Started { id: interrupted, attempt: 2 });
        records.push(Record::Outcome { id: ended, report: report(ended, name) });
        records.push(Record::Outcome { id: reported, report: report(reported, name) });
        records.push(Record::Reported { id: reported });
        records.push(Record::Canceled { id: withdrawn, report: report(withdrawn, name) });
        records.push(Record::Parked { id: parked });
        let end = DigestEnd::Finished { errnr: 0, attempt: 1, run: None };
        records.push(Record::Digest(Digest {
            id: digested,
            task_type: Some(named(name)),
            age: 7,
            end,
            attempts: vec![],
        }));
        (ids, records)
    }

    const STATES: [State; 7] = [
        State::Pending { started: 0 },
        State::Pending { started: 2 },
        State::Finished { reported: false },
        State::Finished { reported: true },
        State::Canceled { reported: false },
        State::Parked,
        State::Digest,
    ];

    /// A directory that a process with these records left behind.
    fn left_behind(dir: &Path, records: &[Record]) {
        fs::create_dir_all(dir).expect("a directory");
        drop(lock(dir).expect("free"));
        let (mut segments, _) = Segments::open(dir, OPTIONS, &mut Index::default()).expect("opens");
        for record in records {
            segments.append(std::slice::from_ref(record), &Mutex::default()).expect("written");
        }
    }

    /// What a process with these types knows after its start.
    fn started(dir: &Path, types: &[&str]) -> Mutex<Index> {
        fs::create_dir_all(dir).expect("a directory");
        let _lock = lock(dir).expect("free");
        let types: Vec<_> = types.iter().map(|name| named(name)).collect();
        let types: Vec<_> = types.iter().collect();
        let mut index = Index::default();
        let (mut segments, _) = Segments::open(dir, OPTIONS, &mut index).expect("opens");
        let index = Mutex::new(index);
        let mut heir = Heir { dir, types: &types, options: OPTIONS, segments: &mut segments, index: &index };
        heir.take_over().expect("taken over");
        index
    }

    fn states(index: &Mutex<Index>, ids: [TaskId; 7]) -> [Option<State>; 7] {
        ids.map(|id| locked(index).state(id))
    }

    fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> =
            fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
        files.into_iter().map(|path| (path.clone(), fs::read(path).expect("reads"))).collect()
    }

    fn restore(dir: &Path, was: &[(PathBuf, Vec<u8>)]) {
        fs::create_dir_all(dir).expect("a directory");
        drop(lock(dir).expect("free"));
        files(dir).iter().for_each(|(path, _)| fs::remove_file(path).expect("removed"));
        was.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("written"));
    }

    #[test]
    fn what_is_ours_moves_and_the_rest_stays() {
        let home = TempDir::new().expect("a directory");
        let [old, new, other] = ["backup+worker", "worker", "backup"].map(|name| home.path().join(name));
        let (ours, mut records) = of_all_states("worker");
        let (strangers, more) = of_all_states("backup");
        records.extend(more);
        left_behind(&old, &records);
        let expected = STATES.map(Some);
        for _ in 0..2 {
            let index = started(&new, &["worker"]);
            assert_eq!((states(&index, ours), states(&index, strangers)), (expected, [None; 7]));
        }
        // What moved is not found again by those who come back to the old set.
        let index = Mutex::default();
        Segments::open(&old, OPTIONS, &mut locked(&index)).expect("opens");
        assert_eq!(states(&index, strangers), expected);
        assert_eq!(states(&index, ours), [None; 7]);
        // The last of it goes, and the directory with it; and all the way back.
        assert_eq!(states(&started(&other, &["backup"]), strangers), expected);
        assert!(!old.exists());
        let index = started(&old, &["backup", "worker"]);
        assert_eq!((states(&index, ours), states(&index, strangers)), (expected, expected));
        assert!(!new.exists() && !other.exists());
    }

    #[test]
    fn what_has_ended_here_does_not_begin_again() {
        let home = TempDir::new().expect("a directory");
        let (old, new) = (home.path().join("worker"), home.path().join("backup+worker"));
        let (ids, records) = of_all_states("worker");
        left_behind(&old, &records);
        left_behind(
            &new,
            &[Record::Outcome { id: ids[0], report: report(ids[0], "worker") }, task(ids[2], "worker")],
        );
        let mut expected = STATES.map(Some);
        expected[0] = Some(State::Finished { reported: false });
        assert_eq!(states(&started(&new, &["backup", "worker"]), ids), expected);
        assert!(!old.exists());
    }

    /// The end may come at any byte of the copy, and at any byte of the marks behind it.
    #[test]
    fn cut_short_anywhere_it_is_done_again() {
        let home = TempDir::new().expect("a directory");
        let (old, new) = (home.path().join("backup+worker"), home.path().join("worker"));
        let (ids, mut records) = of_all_states("worker");
        let (_, more) = of_all_states("backup");
        records.extend(more);
        left_behind(&old, &records);
        let before = files(&old);
        let expected = states(&started(&new, &["worker"]), ids);
        let (copy, marked) = (files(&new), files(&old));
        let ([(path, copied)], [(_, unmarked)], [(old_path, marked)]) = (&copy[..], &before[..], &marked[..])
        else {
            panic!("one segment each");
        };
        for cut in 0..copied.len() {
            restore(&old, &before);
            fs::write(path, &copied[..cut]).expect("written");
            assert_eq!(states(&started(&new, &["worker"]), ids), expected, "copy cut at {cut}");
        }
        assert!(marked.starts_with(unmarked));
        for cut in unmarked.len()..marked.len() {
            restore(&new, &copy);
            fs::write(old_path, &marked[..cut]).expect("written");
            assert_eq!(states(&started(&new, &["worker"]), ids), expected, "marks cut at {cut}");
            // Whoever comes back to the old set instead finds each once as well.
            let again = started(&old, &["backup", "worker"]);
            assert_eq!(states(&again, ids), expected, "marks cut at {cut}");
            assert!(!new.exists());
        }
    }

    #[tokio::test]
    async fn a_living_process_keeps_its_types() {
        let home = TempDir::new().expect("a directory");
        let [worker, backup, echo] = ["worker", "backup", "echo"].map(named);
        let open = |name: &str, types: &[&TaskType]| Journal::open(&home.path().join(name), OPTIONS, types);
        let (living, _) = open("some_hash", &[&worker, &backup]).expect("opens");
        open("echo", &[&echo]).expect("shares nothing").0.close().await;
        let error = open("backup+echo", &[&backup, &echo]).expect_err("backup is performed already");
        assert!(matches!(&error, JournalError::InUse { dir, .. } if dir.ends_with("some_hash")), "{error}");
        living.close().await;
        open("backup+echo", &[&backup, &echo]).expect("it is free").0.close().await;
    }

    #[tokio::test]
    async fn of_all_that_start_at_once_one_has_it() {
        let home = TempDir::new().expect("a directory");
        let (ids, records) = of_all_states("worker");
        left_behind(&home.path().join("worker"), &records);
        let types = ["worker", "a", "b", "c"].map(named);
        let [worker, others @ ..] = &types;
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = |other| {
                Journal::open(&home.path().join(format!("{other}+worker")), OPTIONS, &[other, worker])
            };
            let threads: Vec<_> = others.iter().map(|other| scope.spawn(move || open(other))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let (one, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert!(refused.iter().all(|error| matches!(error, Err(JournalError::InUse { .. }))), "{refused:?}");
        let [Ok((journal, _))] = &one[..] else { panic!("{one:?}") };
        assert_eq!(ids.map(|id| journal.state(id)), STATES.map(Some));
    }
}
