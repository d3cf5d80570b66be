//! How many rows go into one statement.
//!
//! A prepared statement is cached by its text, so a list has one of a few lengths: it is filled up to the
//! next power of two with repeats, which neither an `IN` list nor an idempotent insert minds.

use std::sync::Arc;

use crate::domain::{ReportEvent, TaskId};

/// Rows with many columns in one statement at most.
pub(super) const WIDE_ROWS: usize = 256;
/// Rows with few columns in one statement at most.
pub(super) const NARROW_ROWS: usize = 1024;
/// Keys in one `IN` list at most.
pub(super) const KEYS: usize = 512;
/// Responses touched in one transaction at most, unless a single task has more: longer ones hold up
/// everybody.
pub(super) const ROWS: usize = 20_000;
/// Bytes in one statement at most; a quarter of the smallest packet limit a server of ours comes with.
pub(super) const BYTES: usize = 4 << 20;

/// Bytes of payload that one question reads at most: the rest is asked for next.
pub(super) const READ_BYTES: usize = 16 << 20;

/// Ids once each, in the order of locks.
pub(super) fn sorted(ids: &[TaskId]) -> Arc<[TaskId]> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids.into()
}

/// A count of rows as a number to add up.
pub(super) fn rows(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Bytes of what an endpoint says, in a statement.
pub(super) fn answer_bytes(event: &ReportEvent) -> usize {
    match event {
        ReportEvent::Finished { errmsg, payload, attempts, log, .. } => {
            let attempts: usize = attempts.iter().map(|attempt| attempt.errmsg.len() + 64).sum();
            errmsg.len()
                + payload.as_ref().map_or(0, |json| json.get().len())
                + attempts
                + log.as_ref().map_or(0, String::len)
        }
        _ => 0,
    }
}

/// Cuts rows into runs of at most `rows` rows and about [`BYTES`] bytes; a row that is longer goes alone.
pub(super) fn runs<T>(items: &[T], rows: usize, bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let size = bytes(item);
        if at > start && (at - start >= rows || sum + size > BYTES) {
            runs.push(&items[start..at]);
            (start, sum) = (at, 0);
        }
        sum += size;
    }
    if start < items.len() {
        runs.push(&items[start..]);
    }
    runs
}

/// The items followed by repeats of the last up to the next power of two.
pub(super) fn padded<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let repeats = items.len().next_power_of_two() - items.len();
    items.iter().chain(items.last().into_iter().cycle().take(if items.is_empty() { 0 } else { repeats }))
}

/// The items followed by repeats of the shortest up to the next power of two, unless that would double a
/// heavy statement.
pub(super) fn padded_rows<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &T> {
    let lightest = items.iter().min_by_key(|item| bytes(item));
    let repeats = items.len().next_power_of_two() - items.len();
    let affordable = lightest.is_some_and(|item| bytes(item) * repeats <= BYTES / 16);
    items.iter().chain(lightest.into_iter().cycle().take(if affordable { repeats } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_cover_everything_within_limits(sizes in proptest::collection::vec(0usize..BYTES * 2, 0..200), rows in 1usize..64) {
            let runs = runs(&sizes, rows, |size| *size);
            prop_assert_eq!(runs.concat(), sizes.clone());
            for run in runs {
                prop_assert!(run.len() <= rows && !run.is_empty());
                prop_assert!(run.len() == 1 || run.iter().sum::<usize>() <= BYTES);
            }
        }

        #[test]
        fn lists_have_few_lengths(length in 0usize..600) {
            let items: Vec<usize> = (0..length).collect();
            let padded: Vec<usize> = padded(&items).copied().collect();
            prop_assert!(padded.starts_with(&items));
            prop_assert!(length == 0 && padded.is_empty() || padded.len().is_power_of_two());
        }
    }
}
