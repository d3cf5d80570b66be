//! Tasks that a filter means: how many they are, before something is done to them.

use std::sync::Arc;

use super::Api;
use super::problem::Problem;
use crate::contract::{BulkAnswer, ProblemCode, TaskBrief};
use crate::domain::{Task, TaskId, TaskType, Timestamp};
use crate::store::{SharedStore, StoreError, Sweep, Swept};

/// Tasks that are counted.
const COUNTED: usize = 100_000;

/// Tasks of which something is done in one request.
pub(super) const BATCH: usize = 1000;

/// Tasks that an answer names.
const EXAMPLES: usize = 5;

/// Tasks that a filter means, oldest first.
#[derive(Debug)]
pub(super) struct Matching {
    ids: Vec<TaskId>,
    more: bool,
    as_of: Timestamp,
    /// Whether the request has told that time: then tasks may have ended since.
    told: bool,
    /// How many of them may be touched; none before somebody has said how many are expected.
    expected: Option<usize>,
}

/// What came of the tasks that a request has tried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Came {
    /// Done, so that the filter does not mean them any more.
    pub done: u32,
    /// They could not be, and the filter still means them.
    pub refused: u32,
    /// They could not be, and the filter does not mean them any more: something else has happened to them
    /// meanwhile.
    pub gone: u32,
}

impl Matching {
    /// Looks for what these sweeps mean and `keep` leaves of it, as of a time: now, unless the request has
    /// told another.
    pub(super) async fn find<F>(
        api: &Api,
        sweeps: Vec<Sweep>,
        told: Option<Timestamp>,
        keep: impl Fn(SharedStore, TaskType, Vec<TaskId>) -> F,
    ) -> Result<Self, Problem>
    where
        F: Future<Output = Result<Vec<TaskId>, StoreError>> + Send + 'static,
    {
        let mut ids = Vec::new();
        let as_of = match told {
            Some(as_of) => as_of,
            None => api.now()?,
        };
        for sweep in sweeps {
            let mut after = None;
            while ids.len() <= COUNTED {
                let (store, of, from) = (Arc::clone(&api.state.store), sweep.clone(), after);
                let Swept { ids: found, next } =
                    api.run(async move { store.sweep(&of, as_of, from).await }).await?;
                ids.extend(
                    api.run(keep(Arc::clone(&api.state.store), sweep.task_type.clone(), found)).await?,
                );
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        let more = ids.len() > COUNTED;
        ids.sort_unstable();
        ids.truncate(COUNTED);
        Ok(Self { ids, more, as_of, told: told.is_some(), expected: None })
    }

    /// The tasks that may be touched, oldest first; none for a preview. If the request tells `as_of`, these are
    /// at most as many as were expected: tasks may have ended since, and later tasks do not count. Without
    /// `as_of` the number must be equal, because fewer tasks may be other tasks than those that were counted.
    ///
    /// # Errors
    /// When there is another number than was expected, and the request does not say of what time.
    pub(super) fn expected(&mut self, expect: Option<u32>, dry_run: bool) -> Result<&[TaskId], Problem> {
        let Some(expect) = expect else { return Ok(&[]) };
        let count = self.count();
        if !self.told && self.more {
            let text =
                format!("more than {count} tasks match: narrow the filter, or send `as_of` of a preview");
            return Err(Problem::count_moved(count, text));
        }
        if !self.told && count != expect {
            let text = format!(
                "{count} {} now, and {expect} {} expected: look again, and send `as_of` of that preview, so that tasks may end and come meanwhile",
                if count == 1 { "task matches" } else { "tasks match" },
                if expect == 1 { "was" } else { "were" },
            );
            return Err(Problem::count_moved(count, text));
        }
        let expected = self.ids.len().min(usize::try_from(expect).unwrap_or(usize::MAX));
        self.expected = Some(expected);
        Ok(if dry_run { &[] } else { &self.ids[..expected] })
    }

    /// What to answer when so much came of it.
    pub(super) async fn answer(&self, api: &Api, came: Came) -> Result<BulkAnswer, Problem> {
        let Came { done, refused, gone } = came;
        let (store, some) =
            (Arc::clone(&api.state.store), self.ids.iter().take(EXAMPLES).copied().collect::<Vec<_>>());
        let tasks = api.run(async move {
            let mut tasks = Vec::new();
            for id in some {
                tasks.extend(store.find(id).await?);
            }
            Ok::<_, StoreError>(tasks)
        });
        let examples = tasks.await?.iter().map(brief).collect();
        let matched = self.count();
        Ok(BulkAnswer {
            matched,
            more: self.more,
            done,
            refused: refused + gone,
            left: self.expected.map_or(matched, count).saturating_sub(done + gone),
            as_of: Some(self.as_of),
            examples,
        })
    }

    fn count(&self) -> u32 {
        count(self.ids.len())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A task in a few words.
pub(super) fn brief(task: &Task) -> TaskBrief {
    TaskBrief {
        id: task.id,
        task_type: task.task_type.clone(),
        identifier: task.identifier.clone(),
        status: task.status,
        start_time: task.start_time,
    }
}

/// That a filter cannot be used.
pub(super) fn invalid(pointer: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(
        ProblemCode::InvalidSubmission,
        vec![crate::contract::ProblemItem::new(pointer, message)],
    )
}
