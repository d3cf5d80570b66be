//! Which task has brought which order: an order is performed once, whoever sends it again and how.
//!
//! One file for each type in the directory of the endpoint, since one process at a time performs a type. An
//! order has a line when a task with it is taken, before the journal has the task, and another one before the
//! handler begins. So a task of which the journal knows nothing is taken again only while its order has not
//! begun. What [`Orders::admit`] and [`Orders::begin`] have noted survives the end of the process and the
//! loss of power.
//!
//! A line that a crash has cut short was promised to nobody, and is left out. A line that the disk has damaged
//! may be about any order: until a person has looked at the file, no order of the type is taken that the file
//! does not name.

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

/// What is written to see whether a file takes lines again: room for one, and no line.
const PROBE: [u8; 256] = [b'\n'; 256];

/// How much later than twice the tolerance an order is forgotten: the clocks of API processes are a little
/// apart.
const SLACK: Duration = Duration::from_secs(60);

/// How long after its end an order is remembered, by the time of the ledger. An endpoint begins an order for as
/// long after its end as clocks may be off, by a clock that may be behind by as much.
pub(super) fn margin(tolerance: Duration) -> Duration {
    tolerance.saturating_mul(2).saturating_add(SLACK)
}

/// That a task brings an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    pub(super) order: Uuid,
    pub(super) task: TaskId,
    /// Until when the order may be begun, in milliseconds since 1970.
    pub(super) until_ms: i64,
}

/// A line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    used: Use,
    begun: bool,
}

/// How a line is written.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    used: Use,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    begun: bool,
    /// Tells a damaged line. Earlier versions write none, and read past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sum: Option<u32>,
}

impl Line {
    fn sum(&self) -> u32 {
        let Self { used: Use { order, task, until_ms }, begun } = self;
        crc32fast::hash(format!("{order} {task} {until_ms} {begun}").as_bytes())
    }

    fn write(&self, text: &mut Vec<u8>) -> io::Result<()> {
        let Self { used, begun } = *self;
        serde_json::to_writer(&mut *text, &Written { used, begun, sum: Some(self.sum()) })?;
        text.push(b'\n');
        Ok(())
    }
}

/// What a piece of a file is, between two ends of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Line(Line),
    /// The beginning of a line, or nothing: whatever was to be written there was promised to nobody.
    Torn,
    Damaged,
}

impl Piece {
    fn of(bytes: &[u8]) -> Self {
        // A file may have grown before its content came.
        let filled = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let bytes = &bytes[..filled];
        match serde_json::from_slice::<Written>(bytes) {
            Ok(Written { used, begun, sum }) => {
                let line = Line { used, begun };
                if sum.is_none_or(|sum| sum == line.sum()) { Self::Line(line) } else { Self::Damaged }
            }
            // Only the end of a line has a brace that closes.
            Err(error) if error.is_eof() && !bytes.ends_with(b"}") => Self::Torn,
            Err(_) => Self::Damaged,
        }
    }
}

/// What a file says.
#[derive(Debug, Default)]
struct Book {
    orders: HashMap<Uuid, Line>,
    /// How many lines were cut short.
    torn: usize,
    /// The numbers of the damaged lines.
    damaged: Vec<usize>,
}

impl Book {
    fn read(text: &[u8]) -> Self {
        let mut book = Self::default();
        let pieces = (1..).zip(text.split(|byte| *byte == b'\n')).filter(|(_, piece)| !piece.is_empty());
        for (number, piece) in pieces {
            match Piece::of(piece) {
                Piece::Line(line) => book.note(line),
                Piece::Torn => book.torn += 1,
                Piece::Damaged => book.damaged.push(number),
            }
        }
        book
    }

    /// Adds a line. The first task that brought an order keeps it, and what has begun stays so.
    fn note(&mut self, line: Line) {
        let known = self.orders.entry(line.used.order).or_insert(line);
        known.begun |= line.begun && line.used.task == known.used.task;
    }

    /// Why an order that it does not name cannot be taken.
    fn objection(&self, file: &str) -> Option<String> {
        let first = self.damaged.first()?;
        let count = self.damaged.len();
        Some(format!(
            "damaged lines in {file}: {count}, the first is line {first}; orders that the file does not name may have begun, so none of them \
             is taken; once all older orders have ended, delete these lines and restart the endpoint"
        ))
    }
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

type Books = BTreeMap<TaskType, Book>;

/// The orders of one endpoint.
#[derive(Debug)]
pub(super) struct Orders {
    dir: PathBuf,
    /// How long after its end an order is remembered.
    margin: Duration,
    /// Held while a file is written.
    books: Mutex<Books>,
    /// Why orders of these types cannot be noted.
    failing: Mutex<BTreeMap<TaskType, String>>,
}

impl Orders {
    /// Reads what is known of these types.
    pub(super) fn open<'t>(
        dir: &Path,
        task_types: impl IntoIterator<Item = &'t TaskType>,
        margin: Duration,
    ) -> io::Result<Self> {
        let (mut books, mut failing) = (Books::new(), BTreeMap::new());
        for task_type in task_types {
            let name = file(task_type);
            let path = dir.join(&name);
            let text = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let book = Book::read(&text);
            if book.torn > 0 {
                tracing::info!(path = %path.display(), lines = book.torn, "lines of the file of orders were cut short by a crash, and are left out");
            }
            if let Some(objection) = book.objection(&name) {
                tracing::error!(path = %path.display(), lines = ?book.damaged, "{objection}");
                failing.insert(task_type.clone(), objection);
            }
            books.insert(task_type.clone(), book);
        }
        Ok(Self { dir: dir.to_owned(), margin, books: Mutex::new(books), failing: Mutex::new(failing) })
    }

    /// Notes that a task of this type brings an order; `remembered` when the journal knows the task. Waits
    /// for the disk.
    pub(super) fn admit(&self, task_type: &TaskType, one: Use, remembered: bool) -> io::Result<Admission> {
        let mut books = self.books();
        match books.get(task_type).and_then(|book| book.orders.get(&one.order)) {
            Some(Line { used, .. }) if used.task != one.task => Ok(Admission::OfAnother),
            Some(Line { begun: true, .. }) if !remembered => Ok(Admission::Forgotten),
            Some(_) => Ok(Admission::Granted),
            None => self
                .note(&mut books, task_type, Line { used: one, begun: false })
                .map(|()| Admission::Granted),
        }
    }

    /// Notes that the handler of a task begins with an order. Returns whether it may: not if another task has
    /// brought it. Waits for the disk.
    pub(super) fn begin(&self, task_type: &TaskType, one: Use) -> io::Result<bool> {
        let mut books = self.books();
        match books.get(task_type).and_then(|book| book.orders.get(&one.order)) {
            Some(Line { used, .. }) if used.task != one.task => Ok(false),
            Some(Line { begun: true, .. }) => Ok(true),
            _ => self.note(&mut books, task_type, Line { used: one, begun: true }).map(|()| true),
        }
    }

    /// Forgets what is long over at this time, which must be one that the API has confirmed. Waits for the
    /// disk.
    pub(super) fn forget(&self, now: Timestamp) -> io::Result<()> {
        let over = |line: &Line| Timestamp::from_millis(line.used.until_ms).after(self.margin) <= now;
        let mut books = self.books();
        // The damaged lines of a file stay for a person to look at.
        let due = |book: &Book| book.damaged.is_empty() && book.orders.values().any(over);
        for (task_type, book) in books.iter_mut().filter(|(_, book)| due(book)) {
            let kept: HashMap<Uuid, Line> =
                book.orders.iter().filter(|(_, line)| !over(line)).map(|(id, line)| (*id, *line)).collect();
            let mut text = Vec::new();
            kept.values().try_for_each(|line| line.write(&mut text))?;
            directory::replace(&self.dir, &file(task_type), &text)?;
            book.orders = kept;
        }
        Ok(())
    }

    /// Why orders cannot be noted, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        self.failing().values().next().cloned()
    }

    /// Looks whether the files take lines again that did not: nobody else would, where trouble keeps tasks
    /// away. Waits for the disk.
    pub(super) fn try_again(&self) {
        let books = self.books();
        let failing: Vec<TaskType> = self.failing().keys().cloned().collect();
        for task_type in failing {
            let damaged = books.get(&task_type).is_some_and(|book| !book.damaged.is_empty());
            if !damaged && self.append(&task_type, &PROBE).is_ok() {
                tracing::info!(%task_type, "orders can be noted again");
                self.failing().remove(&task_type);
            }
        }
    }

    /// Adds the line of an order to its file.
    fn note(&self, books: &mut Books, task_type: &TaskType, line: Line) -> io::Result<()> {
        let book = books.entry(task_type.clone()).or_default();
        if let Some(objection) = book.objection(&file(task_type)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, objection));
        }
        // A torn line before it must not swallow this one.
        let mut text = vec![b'\n'];
        let written = line.write(&mut text).and_then(|()| self.append(task_type, &text));
        match &written {
            Ok(()) => {
                book.note(line);
                self.failing().remove(task_type);
            }
            Err(error) => _ = self.failing().insert(task_type.clone(), error.to_string()),
        }
        written
    }

    fn append(&self, task_type: &TaskType, text: &[u8]) -> io::Result<()> {
        let path = self.dir.join(file(task_type));
        let new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(text)?;
        file.sync_data()?;
        if new {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<TaskType, String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(task_type: &TaskType) -> String {
    format!("{task_type}.orders")
}

/// Reads the text of a fuzz target, writes what it has understood, and reads that: both readings must be the
/// same, and the second must find no damage.
#[cfg(fuzzing)]
pub fn read_orders(text: &[u8]) {
    let book = Book::read(text);
    let mut written = Vec::new();
    book.orders.values().try_for_each(|line| line.write(&mut written)).expect("memory takes it");
    let again = Book::read(&written);
    assert!(again.orders == book.orders && again.torn == 0 && again.damaged.is_empty());
}

#[cfg(test)]
mod tests {
    use super::Admission::{Forgotten, Granted, OfAnother};
    use super::*;

    fn update() -> TaskType {
        "update".parse().expect("a type")
    }

    fn open(dir: &Path) -> Orders {
        Orders::open(dir, [&update()], Duration::from_secs(3600)).expect("opens")
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
        text.extend(b"{\"order\":\"0000");
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
        let orders = Orders::open(dir.path(), [&backup], Duration::ZERO).expect("opens");
        let one = of(7, TaskId(Uuid::from_u128(1)), 100);
        assert!(orders.admit(&update(), one, false).is_err());
        assert!(orders.begin(&update(), one).is_err());
        assert_eq!(orders.admit(&backup, one, false).expect("written"), Granted);
        // It is trouble until the file can be written, which is tried without a task.
        orders.try_again();
        assert!(orders.trouble().is_some());
        fs::remove_dir(dir.path().join("update.orders")).expect("removed");
        orders.try_again();
        assert_eq!(orders.trouble(), None);
        assert_eq!(orders.admit(&update(), one, false).expect("written"), Granted);
        let again = Orders::open(dir.path(), [&update()], Duration::ZERO).expect("opens");
        assert_eq!((again.trouble(), again.admit(&update(), one, false).expect("read")), (None, Granted));
    }

    #[test]
    fn orders_are_remembered_for_twice_the_tolerance() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (one, other) = (TaskId(Uuid::from_u128(1)), TaskId(Uuid::from_u128(2)));
        for (tolerance, secs) in [(1, 62), (60, 180), (7200, 14_460)] {
            assert_eq!(margin(Duration::from_secs(tolerance)), Duration::from_secs(secs));
        }
        let margin = margin(Duration::from_secs(7200));
        let orders = Orders::open(dir.path(), [&update()], margin).expect("opens");
        assert_eq!(admit(&orders, of(7, one, 1000), false), Granted);
        for (now, admission) in [(15_459, OfAnother), (15_460, Granted)] {
            orders.forget(Timestamp::from_millis(now * 1000)).expect("written");
            assert_eq!(admit(&orders, of(7, other, 1000), false), admission, "{now}");
        }
    }

    /// The text of a file with these lines.
    fn text(lines: &[Line]) -> Vec<u8> {
        let mut text = Vec::new();
        lines.iter().try_for_each(|line| line.write(&mut text)).expect("memory takes it");
        text
    }

    #[test]
    fn lines_that_a_crash_cuts_short_are_told_from_damaged_ones() {
        let line = Line { used: of(7, TaskId(Uuid::from_u128(1)), 100), begun: true };
        let whole = text(&[line]);
        let whole = whole.trim_ascii_end();
        assert_eq!(Piece::of(whole), Piece::Line(line));
        // As an earlier version wrote it.
        let plain = serde_json::to_vec(&Written { used: line.used, begun: true, sum: None }).expect("JSON");
        assert_eq!(Piece::of(&plain), Piece::Line(line));
        for end in 0..whole.len() {
            let torn = [&whole[..end], &[0; 3]].concat();
            assert_eq!(Piece::of(&torn), Piece::Torn, "{}", String::from_utf8_lossy(&torn));
        }
        // Whatever bit of it is flipped, it is not taken for another line.
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[at] ^= 1 << bit;
                let piece = Piece::of(&flipped);
                let shown = String::from_utf8_lossy(&flipped);
                assert!(piece == Piece::Damaged || piece == Piece::Line(line), "{piece:?}: {shown}");
            }
        }
    }

    #[test]
    fn an_order_that_a_damaged_line_may_name_is_not_taken() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("update.orders");
        let (one, other) = (TaskId(Uuid::from_u128(1)), TaskId(Uuid::from_u128(2)));
        let lines = [7, 8].map(|order| Line { used: of(order, one, 100), begun: true });
        let mut damaged = text(&lines);
        damaged[20] ^= 1;
        fs::write(&path, &damaged).expect("written");
        let orders = open(dir.path());
        let trouble = orders.trouble().expect("trouble");
        assert!(trouble.starts_with("damaged lines in update.orders: 1, the first is line 1; "), "{trouble}");
        // The damaged line may be about either of these orders, and the order may have begun.
        for order in [7, 9] {
            assert!(orders.admit(&update(), of(order, other, 100), false).is_err(), "{order}");
            assert!(orders.begin(&update(), of(order, one, 100)).is_err(), "{order}");
        }
        // The whole line is about this one.
        assert_eq!(admit(&orders, of(8, one, 100), false), Forgotten);
        assert_eq!(admit(&orders, of(8, other, 100), false), OfAnother);
        assert!(orders.begin(&update(), of(8, one, 100)).expect("read"));
        // Nothing changes the file before a person has looked at it.
        orders.forget(Timestamp::from_millis(i64::MAX / 2000)).expect("nothing to do");
        orders.try_again();
        assert_eq!((fs::read(&path).expect("read"), orders.trouble()), (damaged, Some(trouble)));
        fs::write(&path, text(&lines[1..])).expect("written");
        let orders = open(dir.path());
        assert_eq!((orders.trouble(), admit(&orders, of(9, one, 100), false)), (None, Granted));
    }

    proptest::proptest! {
        // Each step waits for the disk.
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

        /// An order is of the first task that brought it, and begins for no other, however often the process
        /// ends in between and whatever a crash leaves of the last line.
        #[test]
        fn an_order_begins_for_one_task_alone(
            steps in proptest::collection::vec((0_u128..3, 1_u128..4, 0..4_u8, 0..200_usize), 1..40),
        ) {
            let dir = tempfile::TempDir::new().expect("a directory");
            let path = dir.path().join("update.orders");
            let (mut owners, mut begun) = (HashMap::new(), std::collections::HashSet::new());
            let mut orders = open(dir.path());
            for (order, task, step, torn) in steps {
                let one = of(order, TaskId(Uuid::from_u128(task)), 100);
                match step {
                    0 | 1 => {
                        let expected = match owners.entry(order).or_insert(task) {
                            owner if *owner != task => OfAnother,
                            _ if step == 0 && begun.contains(&order) => Forgotten,
                            _ => Granted,
                        };
                        assert_eq!(admit(&orders, one, step == 1), expected);
                    }
                    2 => {
                        let may = *owners.entry(order).or_insert(task) == task;
                        assert_eq!(orders.begin(&update(), one).expect("written"), may);
                        if may {
                            begun.insert(order);
                        }
                    }
                    _ => {
                        let line = text(&[Line { used: one, begun: true }]);
                        // Without its end, nobody was told of it.
                        let torn = &line[..torn.min(line.len() - 2)];
                        let mut file = fs::read(&path).unwrap_or_default();
                        file.push(b'\n');
                        file.extend(torn);
                        fs::write(&path, file).expect("written");
                        orders = open(dir.path());
                        assert_eq!(orders.trouble(), None);
                    }
                }
            }
        }
    }
}
