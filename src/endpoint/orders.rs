//! Which task has brought which order: an order is performed once, whoever sends it again and how.
//!
//! One file for each type in the directory of the endpoint, since one process at a time performs a type. What
//! [`Orders::admit`] has admitted survives the end of the process and the loss of power.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// The orders of one endpoint.
#[derive(Debug)]
pub(super) struct Orders {
    dir: PathBuf,
    known: Mutex<HashMap<Uuid, TaskId>>,
}

impl Orders {
    /// Reads what is known of these types, and forgets what is long over.
    pub(super) fn open<'t>(
        dir: &Path,
        task_types: impl IntoIterator<Item = &'t TaskType>,
        now: Timestamp,
    ) -> io::Result<Self> {
        let mut known = HashMap::new();
        for task_type in task_types {
            let path = file(dir, task_type);
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            // The last line may be torn: nobody was told that it is there.
            let all = text.lines().filter_map(|line| serde_json::from_str::<Use>(line).ok());
            let kept: Vec<Use> =
                all.filter(|one| Timestamp::from_millis(one.until_ms).after(MARGIN) > now).collect();
            let fresh = path.with_extension("new");
            let _ = fs::remove_file(&fresh);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&lines(&kept)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            known.extend(kept.into_iter().map(|one| (one.order, one.task)));
        }
        File::open(dir)?.sync_all()?;
        Ok(Self { dir: dir.to_owned(), known: Mutex::new(known) })
    }

    /// Notes a use by a task of this type. Returns whether the order may be performed: not if another task
    /// has brought it. Waits for the disk.
    pub(super) fn admit(&self, task_type: &TaskType, one: Use) -> io::Result<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = known.get(&one.order) {
            return Ok(*task == one.task);
        }
        let path = file(&self.dir, task_type);
        let new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        // A torn line before it must not swallow this one.
        file.write_all(&[b"\n", lines(&[one])?.as_slice()].concat())?;
        file.sync_data()?;
        if new {
            File::open(&self.dir)?.sync_all()?;
        }
        known.insert(one.order, one.task);
        Ok(true)
    }
}

fn file(dir: &Path, task_type: &TaskType) -> PathBuf {
    dir.join(format!("{task_type}.orders"))
}

fn lines(uses: &[Use]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for one in uses {
        serde_json::to_writer(&mut text, one)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_belongs_to_the_task_that_brought_it_first() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let update: TaskType = "update".parse().expect("a type");
        let open = |secs: i64| {
            let now = Timestamp::from_micros(secs * 1_000_000);
            Orders::open(dir.path(), [&update], now).expect("opens")
        };
        let (one, other) = (TaskId(Uuid::from_u128(1)), TaskId(Uuid::from_u128(2)));
        let of = |order, task, secs: i64| Use { order: Uuid::from_u128(order), task, until_ms: secs * 1000 };
        let orders = open(0);
        let admit = |orders: &Orders, uses: &[Use]| -> Vec<bool> {
            uses.iter().map(|one| orders.admit(&update, *one).expect("written")).collect()
        };
        let uses = [of(7, one, 100), of(7, other, 100), of(8, other, 9000)];
        assert_eq!(admit(&orders, &uses), [true, false, true]);
        assert_eq!(admit(&orders, &uses[1..2]), [false]);
        drop(orders);
        // A crash has left half a line.
        let path = dir.path().join("update.orders");
        let mut text = fs::read(&path).expect("read");
        text.extend(b"{\"order\":");
        fs::write(&path, text).expect("written");
        let orders = open(3000);
        assert_eq!(admit(&orders, &[of(9, one, 9000)]), [true]);
        assert_eq!(admit(&orders, &uses), [true, false, true]);
        drop(orders);
        // What is long over is forgotten, the rest is not.
        let orders = open(4000);
        let again = [of(7, other, 9000), of(8, one, 9000), of(9, other, 9000), of(9, one, 9000)];
        assert_eq!(admit(&orders, &again), [true, false, false, true]);
    }
}
