//! Queues what follows a success, as the `then` of a type says.
//!
//! Promise: each success has one successor, whatever ends a process: the successor's identifier is made from the task before it, so
//! that queueing it again changes nothing, and the task before leaves its queue only afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::place::{Asked, new_task};
use crate::config::{Config, Successor};
use crate::domain::{Json, NewTask, Task, TaskId, TaskType, Timestamp, json, value_at};
use crate::store::{SharedStore, StoreError};

/// Queues successors.
#[derive(Debug)]
pub struct Successors {
    config: Arc<Config>,
    store: SharedStore,
    /// Types that have a successor.
    types: Vec<TaskType>,
}

impl Successors {
    /// For the types of this configuration.
    pub fn new(config: Arc<Config>, store: SharedStore) -> Self {
        let chains = |policy: &&crate::config::TypePolicy| policy.queue.as_ref().is_some_and(|queue| queue.then.is_some());
        let types = config.of_delivery(true).filter(chains).map(|policy| policy.name.clone()).collect();
        Self { config, store, types }
    }

    /// Queues what is to be queued now. Answers whether anything was.
    ///
    /// # Errors
    /// When the store cannot be reached; it is done by the next call.
    pub async fn queue(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.types.is_empty() {
            return Ok(false);
        }
        let ended = self.store.to_succeed(&self.types).await?;
        let tasks: Vec<NewTask> = ended.iter().filter_map(|task| self.successor(task, now)).collect();
        self.store.accept(&tasks, now, self.config.tasks.retention).await?;
        crate::failpoint::reach("successors.queued");
        self.store.succeeded(&ended.iter().map(|task| task.id).collect::<Vec<TaskId>>()).await?;
        Ok(!ended.is_empty())
    }

    /// The task after this one, if there is time left and its type is configured still.
    fn successor(&self, task: &Task, now: Timestamp) -> Option<NewTask> {
        let then = self.config.policy(&task.task_type)?.queue.as_ref()?.then.as_ref()?;
        let policy = self.config.policy(&then.task_type)?;
        if task.expires_at <= now {
            tracing::info!(task_id = %task.id, "nothing is queued after a task whose time is over");
            return None;
        }
        let identifier = format!("after-{}", task.id).parse().ok()?;
        let asked = Asked { priority: then.priority, ..Asked::default() };
        let mut next = new_task(policy, identifier, payload(then, &task.payload), asked, now);
        next.expires_at = task.expires_at;
        next.receive_by = task.expires_at;
        let place = next.place.as_mut()?;
        (place.parent, place.renews) = (Some(task.id), true);
        Some(next)
    }
}

/// The payload of a successor: the same, or made of members of the one before; what is not there is null.
fn payload(then: &Successor, before: &Json) -> Json {
    let Some(members) = &then.payload else { return before.clone() };
    let taken: HashMap<&str, Option<&RawValue>> =
        members.iter().map(|(name, pointer)| (name.as_str(), value_at(before, pointer.as_str()))).collect();
    json(&taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_the_same_or_made_of_members() {
        let config = |payload: &str| {
            let text =
                format!("task_types:\n  - {{name: a, delivery: queue, then: {{type: b{payload}}}}}\n  - {{name: b, delivery: queue}}\n");
            let config = Config::from_yaml(&text).expect("valid");
            config.task_types[0].queue.clone().expect("a queue").then.expect("a successor")
        };
        let before: Json = serde_json::from_str(r#"{"tag": "x", "image": {"tag": 1.0}}"#).expect("JSON");
        assert_eq!(payload(&config(""), &before).get(), before.get());
        let made = payload(&config(", payload: [tag, image=/image/tag, gone]"), &before);
        let made: serde_json::Value = serde_json::from_str(made.get()).expect("JSON");
        assert_eq!(made, serde_json::json!({"tag": "x", "image": 1.0, "gone": null}));
    }
}
