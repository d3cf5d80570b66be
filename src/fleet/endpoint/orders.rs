//! Which task has brought which order: an order is performed once, whoever sends it again and how.
//!
//! One file for each type in the directory of the endpoint, since one process at a time performs a type. An
//! order has a line when a task with it is taken, before the journal has the task, and another one before the
//! handler begins. So a task of which the journal knows nothing is taken again only while its order has not
//! begun. What [`Orders::admit`] and [`Orders::begin`] have noted survives the end of the process and the
//! loss of power.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::directory;
use crate::domain::{TaskId, TaskType, Timestamp};

/// How long after its end an order is remembered: clocks may be set back.
const MARGIN: Duration = Duration::from_secs(3600);

/// That a task brings an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    pub(super) order: Uuid,
    pub(super) task: TaskId,
    /// Until when the order may be begun, in milliseconds since 1970.
    pub(super) until_ms: i64,
}

/// A line of a file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    used: Use,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    begun: bool,
}

/// Whether a task may perform the order that it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Granted,
    /// Another task has brought it.
    OfAnother,
    /// It has begun under this task, which the journal has forgotten.
    Forgotten,
}

type Known = BTreeMap<TaskType, HashMap<Uuid, Line>>;

/// The orders of one endpoint.
#[derive(Debug)]
pub(super) struct Orders {
    dir: PathBuf,
    known: Mutex<Known>,
}

impl Orders {
    /// Reads what is known of these types.
    pub(super) fn open<'t>(
        dir: &Path,
        task_types: impl IntoIterator<Item = &'t TaskType>,
    ) -> io::Result<Self> {
        let mut known = Known::new();
        for task_type in task_types {
            let path = dir.join(file(task_type));
            let text = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let orders = known.entry(task_type.clone()).or_default();
            let mut unreadable = 0;
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match serde_json::from_slice::<Line>(line) {
                    Ok(line) => note(orders, line),
                    // The last line may be torn: nobody was told that it is there.
                    Err(_) => unreadable += 1,
                }
            }
            if unreadable > 0 {
                tracing::warn!(path = %path.display(), lines = unreadable, "lines of the file of orders cannot be read, and are left out");
            }
        }
        Ok(Self { dir: dir.to_owned(), known: Mutex::new(known) })
    }

    /// Notes that a task of this type brings an order; `remembered` when the journal knows the task. Waits
    /// for the disk.
    pub(super) fn admit(&self, task_type: &TaskType, one: Use, remembered: bool) -> io::Result<Admission> {
        let mut known = self.known();
        match known.get(task_type).and_then(|orders| orders.get(&one.order)) {
            Some(Line { used, .. }) if used.task != one.task => Ok(Admission::OfAnother),
            Some(Line { begun: true, .. }) if !remembered => Ok(Admission::Forgotten),
            Some(_) => Ok(Admission::Granted),
            None => self
                .write(&mut known, task_type, Line { used: one, begun: false })
                .map(|()| Admission::Granted),
        }
    }

    /// Notes that the handler of a task begins with an order. Returns whether it may: not if another task has
    /// brought it. Waits for the disk.
    pub(super) fn begin(&self, task_type: &TaskType, one: Use) -> io::Result<bool> {
        let mut known = self.known();
        match known.get(task_type).and_then(|orders| orders.get(&one.order)) {
            Some(Line { used, .. }) if used.task != one.task => Ok(false),
            Some(Line { begun: true, .. }) => Ok(true),
            _ => self.write(&mut known, task_type, Line { used: one, begun: true }).map(|()| true),
        }
    }

    /// Forgets what is long over at this time, which must be one that the API has confirmed. Waits for the
    /// disk.
    pub(super) fn forget(&self, now: Timestamp) -> io::Result<()> {
        let over = |line: &Line| Timestamp::from_millis(line.used.until_ms).after(MARGIN) <= now;
        let mut known = self.known();
        for (task_type, orders) in known.iter_mut().filter(|(_, orders)| orders.values().any(over)) {
            let kept: HashMap<Uuid, Line> =
                orders.iter().filter(|(_, line)| !over(line)).map(|(id, line)| (*id, *line)).collect();
            directory::replace(&self.dir, &file(task_type), &lines(kept.values())?)?;
            *orders = kept;
        }
        Ok(())
    }

    fn write(&self, known: &mut Known, task_type: &TaskType, line: Line) -> io::Result<()> {
        let path = self.dir.join(file(task_type));
        let new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        // A torn line before it must not swallow this one.
        file.write_all(&[b"\n", lines([&line])?.as_slice()].concat())?;
        file.sync_data()?;
        if new {
            File::open(&self.dir)?.sync_all()?;
        }
        note(known.entry(task_type.clone()).or_default(), line);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a line. The first task that brought an order keeps it, and what has begun stays so.
fn note(orders: &mut HashMap<Uuid, Line>, line: Line) {
    let known = orders.entry(line.used.order).or_insert(line);
    known.begun |= line.begun && line.used.task == known.used.task;
}

fn file(task_type: &TaskType) -> String {
    format!("{task_type}.orders")
}

fn lines<'l>(all: impl IntoIterator<Item = &'l Line>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in all {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::Admission::{Forgotten, Granted, OfAnother};
    use super::*;

    fn update() -> TaskType {
        "update".parse().expect("a type")
    }

    fn open(dir: &Path) -> Orders {
        Orders::open(dir, [&update()]).expect("opens")
    }

    fn of(order: u128, task: TaskId, secs: i64) -> Use {
        Use { order: Uuid::from_u128(order), task, until_ms: secs * 1000 }
    }

    fn admit(orders: &Orders, one: Use, remembered: bool) -> Admission {
        orders.admit(&update(), one, remembered).expect("written")
    }

    #[test]
    fn an_order_belongs_to_the_task_that_brought_it_first() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (one, other) = (TaskId(Uuid::from_u128(1)), TaskId(Uuid::from_u128(2)));
        let orders = open(dir.path());
        let uses = [of(7, one, 100), of(7, other, 100), of(8, other, 9000)];
        let all = |orders: &Orders| uses.map(|one| admit(orders, one, false));
        assert_eq!(all(&orders), [Granted, OfAnother, Granted]);
        assert!(!orders.begin(&update(), uses[1]).expect("read"));
        drop(orders);
        // A crash has left half a line.
        let path = dir.path().join("update.orders");
        let mut text = fs::read(&path).expect("read");
        text.extend(b"{\"order\":\xff");
        fs::write(&path, text).expect("written");
        let orders = open(dir.path());
        assert_eq!(admit(&orders, of(9, one, 9000), false), Granted);
        assert_eq!(all(&orders), [Granted, OfAnother, Granted]);
        let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
        // Opened again, all is there. What is long over is forgotten when the time is known, the rest is not.
        for (now, first) in [(3000, OfAnother), (4000, Granted)] {
            orders.forget(at(now)).expect("written");
            let orders = open(dir.path());
            assert_eq!(admit(&orders, of(7, other, 9000), false), first, "{now}");
            let rest = [of(8, one, 9000), of(9, other, 9000), of(9, one, 9000)];
            assert_eq!(rest.map(|one| admit(&orders, one, false)), [OfAnother, OfAnother, Granted]);
        }
    }

    #[test]
    fn what_has_begun_is_begun_again_only_for_a_task_that_the_journal_knows() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (one, other) = (TaskId(Uuid::from_u128(1)), TaskId(Uuid::from_u128(2)));
        let orders = open(dir.path());
        let first = of(7, one, 9000);
        assert_eq!(admit(&orders, first, false), Granted);
        drop(orders);
        // The process ended before the journal had the task, or the handler began: it comes again.
        let orders = open(dir.path());
        assert_eq!(admit(&orders, first, false), Granted);
        assert!(orders.begin(&update(), first).expect("written"));
        // A task that waited here before its type needed orders was not admitted.
        assert!(orders.begin(&update(), of(8, other, 9000)).expect("written"));
        for orders in [orders, open(dir.path())] {
            assert_eq!(
                [true, false].map(|remembered| admit(&orders, first, remembered)),
                [Granted, Forgotten]
            );
            assert_eq!(admit(&orders, of(8, other, 9000), false), Forgotten);
            // The next attempt.
            assert!(orders.begin(&update(), first).expect("read"));
        }
        let orders = open(dir.path());
        orders.forget(Timestamp::from_micros(0)).expect("nothing to do");
        assert_eq!(admit(&orders, of(9, one, 1), false), Granted);
        orders.forget(Timestamp::from_micros(4_000_000_000)).expect("written");
        assert_eq!(admit(&open(dir.path()), first, false), Forgotten);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_trouble_of_its_type_alone() {
        let dir = tempfile::TempDir::new().expect("a directory");
        fs::create_dir(dir.path().join("update.orders")).expect("a directory in the place of the file");
        let backup = "backup".parse().expect("a type");
        let orders = Orders::open(dir.path(), [&backup]).expect("opens");
        let one = of(7, TaskId(Uuid::from_u128(1)), 100);
        assert!(orders.admit(&update(), one, false).is_err());
        assert!(orders.begin(&update(), one).is_err());
        assert_eq!(orders.admit(&backup, one, false).expect("written"), Granted);
    }
}
