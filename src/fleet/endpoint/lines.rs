//! The lines that running handlers log, on their way to the API while they run.
//!
//! They are worth less than answers: what finds no room, or cannot be sent at once, is dropped, and its
//! number shows that. Nothing of them is journaled. A handler that logs nothing costs nothing, and one that
//! ends before its first lines were sent tells them with its answer alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::{LogPiece, TaskId, TaskType};

/// Bytes of lines that wait for one task at most, and of all together.
const OF_TASK: usize = 16 << 10;
const OF_ALL: usize = 1 << 20;

/// The lines that wait.
#[derive(Debug, Default)]
pub(super) struct Lines {
    piles: Mutex<HashMap<TaskId, Pile>>,
    /// Length of `piles`, to be read without the lock.
    tasks: AtomicUsize,
    /// Bytes in all piles.
    held: AtomicUsize,
    wake: Notify,
    /// Rung when the last lines of an attempt are there: whoever follows them waits for its end.
    last: Notify,
}

/// Lines of one attempt.
#[derive(Debug)]
struct Pile {
    task_type: TaskType,
    attempt: u32,
    /// Lines before those that wait.
    first: u64,
    /// Lines in all.
    next: u64,
    text: String,
    /// Whether any were sent.
    sent: bool,
    over: bool,
}

impl Lines {
    /// Adds a line of an attempt.
    pub(super) fn push(&self, id: TaskId, task_type: &TaskType, attempt: u32, line: &str) {
        let mut piles = self.lock();
        let pile = piles.entry(id).or_insert_with(|| Pile::new(task_type.clone(), attempt));
        if pile.attempt != attempt {
            self.held.fetch_sub(pile.text.len(), Ordering::Relaxed);
            *pile = Pile { sent: pile.sent, ..Pile::new(task_type.clone(), attempt) };
        }
        let before = pile.text.len();
        pile.push(line, self.held.load(Ordering::Relaxed));
        let after = pile.text.len();
        self.held.fetch_add(after, Ordering::Relaxed);
        self.held.fetch_sub(before, Ordering::Relaxed);
        self.tasks.store(piles.len(), Ordering::Release);
        drop(piles);
        self.wake.notify_one();
    }

    /// An attempt is over. Where nothing of it was sent, its answer tells the lines.
    pub(super) fn end(&self, id: TaskId) {
        if self.tasks.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut piles = self.lock();
        let Some(pile) = piles.get_mut(&id) else { return };
        pile.over = true;
        if !pile.sent || pile.text.is_empty() {
            self.held.fetch_sub(pile.text.len(), Ordering::Relaxed);
            piles.remove(&id);
        } else {
            self.last.notify_one();
        }
        self.tasks.store(piles.len(), Ordering::Release);
    }

    /// Takes some lines of each task, up to so many bytes, and forgets the tasks that do not run any more.
    pub(super) fn take(
        &self,
        most: usize,
        runs: impl Fn(TaskId) -> bool,
    ) -> Vec<(TaskId, TaskType, LogPiece)> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut piles = self.lock();
        for (id, pile) in piles.iter_mut().filter(|(_, pile)| !pile.text.is_empty()) {
            if bytes > 0 && bytes + pile.text.len() > most {
                continue;
            }
            bytes += pile.text.len();
            let text = std::mem::take(&mut pile.text);
            taken.push((
                *id,
                pile.task_type.clone(),
                LogPiece { attempt: pile.attempt, first: pile.first, text },
            ));
            (pile.first, pile.sent) = (pile.next, true);
        }
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        piles.retain(|id, pile| !pile.text.is_empty() || !pile.over && runs(*id));
        self.tasks.store(piles.len(), Ordering::Release);
        taken
    }

    /// Waits until there are some.
    pub(super) async fn any(&self) {
        while self.held.load(Ordering::Relaxed) == 0 {
            self.wake.notified().await;
        }
    }

    /// Waits until the last lines of an attempt are there.
    pub(super) async fn last(&self) {
        self.last.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Pile>> {
        self.piles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pile {
    const fn new(task_type: TaskType, attempt: u32) -> Self {
        Self { task_type, attempt, first: 0, next: 0, text: String::new(), sent: false, over: false }
    }

    /// Adds a line; `held` bytes are in all piles.
    fn push(&mut self, line: &str, held: usize) {
        // One line feed ends it: text with several is several lines.
        for line in line.split('\n') {
            let line = &line[..line.floor_char_boundary(OF_TASK - 1)];
            if held + line.len() > OF_ALL {
                // The oldest of its own go.
                self.text.clear();
                self.first = self.next;
            }
            if held < OF_ALL {
                self.text.push_str(line);
                self.text.push('\n');
            } else {
                self.first = self.next + 1;
            }
            self.next += 1;
        }
        while self.text.len() > OF_TASK
            && let Some(end) = self.text.find('\n')
        {
            self.text.drain(..=end);
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 256 << 10;

    fn worker() -> TaskType {
        "worker".parse().expect("a type")
    }

    fn pieces(lines: &Lines, most: usize) -> Vec<(u32, u64, String)> {
        lines
            .take(most, |_| true)
            .into_iter()
            .map(|(_, _, piece)| (piece.attempt, piece.first, piece.text))
            .collect()
    }

    fn is_empty(lines: &Lines) -> bool {
        lines.lock().is_empty()
            && lines.held.load(Ordering::Relaxed) == 0
            && lines.tasks.load(Ordering::Relaxed) == 0
    }

    #[test]
    fn lines_are_numbered_across_pieces() {
        let (lines, id) = (Lines::default(), TaskId::new());
        lines.push(id, &worker(), 1, "a");
        lines.push(id, &worker(), 1, "b\nc");
        assert_eq!(pieces(&lines, BATCH), [(1, 0, "a\nb\nc\n".to_owned())]);
        lines.push(id, &worker(), 1, "d");
        lines.end(id);
        assert_eq!(pieces(&lines, BATCH), [(1, 3, "d\n".to_owned())], "what is left is sent after the end");
        assert!(is_empty(&lines));
    }

    #[test]
    fn what_ends_before_anything_was_sent_leaves_nothing() {
        let (lines, id) = (Lines::default(), TaskId::new());
        lines.end(id);
        lines.push(id, &worker(), 1, "a");
        lines.end(id);
        assert_eq!(pieces(&lines, BATCH), []);
        assert!(is_empty(&lines));
    }

    #[test]
    fn the_next_attempt_counts_anew() {
        let (lines, id) = (Lines::default(), TaskId::new());
        lines.push(id, &worker(), 1, "a");
        assert_eq!(pieces(&lines, BATCH).len(), 1);
        lines.push(id, &worker(), 1, "lost");
        lines.push(id, &worker(), 2, "b");
        assert_eq!(pieces(&lines, BATCH), [(2, 0, "b\n".to_owned())]);
        lines.end(id);
        assert!(is_empty(&lines));
    }

    #[test]
    fn the_oldest_are_dropped_and_their_number_shows() {
        let (lines, id) = (Lines::default(), TaskId::new());
        for number in 0..3000 {
            lines.push(id, &worker(), 1, &format!("line {number:04}"));
        }
        let (_, first, text) = pieces(&lines, BATCH).pop().expect("a piece");
        assert!(
            text.len() <= OF_TASK
                && text.starts_with(&format!("line {first:04}\n"))
                && text.ends_with("line 2999\n"),
            "{first}"
        );
        lines.push(id, &worker(), 1, &"x".repeat(2 * OF_TASK));
        let (_, first, text) = pieces(&lines, BATCH).pop().expect("a piece");
        assert_eq!((first, text.len()), (3000, OF_TASK));
    }

    #[test]
    fn all_together_have_a_bound() {
        let lines = Lines::default();
        let ids: Vec<TaskId> = (0..100).map(|_| TaskId::new()).collect();
        for id in &ids {
            for _ in 0..20 {
                lines.push(*id, &worker(), 1, &"x".repeat(1000));
            }
        }
        assert!(lines.held.load(Ordering::Relaxed) <= OF_ALL + 1001, "{lines:?}");
        let sum: usize = lines.lock().values().map(|pile| pile.text.len()).sum();
        assert_eq!(lines.held.load(Ordering::Relaxed), sum);
        while !pieces(&lines, BATCH).is_empty() {}
        ids.iter().for_each(|id| lines.end(*id));
        assert!(is_empty(&lines));
    }
}
