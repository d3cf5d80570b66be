//! Which part of a key a question touches. No I/O.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::{Task, Timestamp};

/// Ids carry the time of the process that made them, start times that of the database. A clock that is off by
/// more breaks certificates long before it breaks this.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// The least id a task accepted at or after a time can have. Without it, a list of the last hour that does
/// not fill its page would walk through all history.
pub(super) fn ids_from(since: Timestamp) -> Uuid {
    least_id(since.before(SKEW))
}

/// An id above all that tasks accepted before a time can have.
pub(super) fn ids_until(until: Timestamp) -> Uuid {
    least_id(until.after(SKEW))
}

/// The least id that a process can have made at a time by its own clock.
pub(super) fn least_id(time: Timestamp) -> Uuid {
    const LAST: u128 = (1 << 48) - 1;
    let millis = u128::try_from(time.as_micros() / 1000).unwrap_or(0).min(LAST);
    Uuid::from_u128(millis << 80)
}

/// The first text after all that begin with these bytes; `None` when there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

/// The newest of tasks that were read by status.
pub(super) fn newest(mut tasks: Vec<Task>, limit: u32) -> Vec<Task> {
    tasks.sort_unstable_by_key(|task| std::cmp::Reverse(task.id));
    tasks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_lie_in_the_window_of_their_time() {
        let now = Timestamp::from(chrono::Utc::now());
        let id = Uuid::now_v7();
        assert!(ids_from(now) < id && id < ids_until(now));
        let old = now.before(Duration::from_secs(48 * 3600));
        assert!(ids_until(old) < id);
    }

    proptest! {
        #[test]
        fn a_prefix_ends_where_it_should(prefix in proptest::collection::vec(any::<u8>(), 0..6), rest in proptest::collection::vec(any::<u8>(), 0..6)) {
            let text = [prefix.clone(), rest].concat();
            prop_assert!(prefix_end(&prefix).is_none_or(|end| text < end));
            if let Some(end) = prefix_end(&prefix) {
                prop_assert!(!end.starts_with(&prefix));
            }
        }
    }
}
