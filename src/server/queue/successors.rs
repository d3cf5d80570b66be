//! Queues what follows a success, as the `then` of a type says.
//!
//! Promise: each success has one successor, whatever ends a process: the successor's identifier is made from
//! the task before it, so that queueing it again changes nothing, and the task before leaves its queue only
//! afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::admission::{Admission, Asked, Unsubmitted, of_successor};
use crate::config::{Config, Successor};
use crate::domain::{Json, NewTask, ReasonCode, Task, TaskType, Timestamp, json, value_at};
use crate::ledger::Ledger;
use crate::store::{Accepted, SharedStore, StoreError};
use crate::telemetry::SharedMetrics;

/// Queues successors.
#[derive(Debug)]
pub struct Successors {
    config: Arc<Config>,
    admission: Arc<Admission>,
    store: SharedStore,
    ledger: Ledger,
    metrics: SharedMetrics,
    /// Types that have a successor.
    types: Vec<TaskType>,
}

impl Successors {
    /// For the types of this configuration.
    pub fn new(
        config: Arc<Config>,
        admission: Arc<Admission>,
        store: SharedStore,
        ledger: Ledger,
        metrics: SharedMetrics,
    ) -> Self {
        let chains = |policy: &&crate::config::TypePolicy| {
            policy.queue.as_ref().is_some_and(|queue| queue.then.is_some())
        };
        let types = config.of_delivery(true).filter(chains).map(|policy| policy.name.clone()).collect();
        Self { config, admission, store, ledger, metrics, types }
    }

    /// Queues what is to be queued now. Answers whether anything was. What can never be queued is told in the
    /// log and in the task before, and is not tried again.
    ///
    /// # Errors
    /// When the store cannot be reached; it is done by the next call.
    pub async fn queue(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.types.is_empty() {
            return Ok(false);
        }
        let ended = self.store.to_succeed(&self.types).await?;
        if ended.is_empty() {
            return Ok(false);
        }
        let (mut seen_to, mut failed) = (Vec::with_capacity(ended.len()), Vec::new());
        let (mut before, mut successors) = (Vec::new(), Vec::new());
        for task in &ended {
            match self.successor(task, now) {
                Ok(Some(successor)) => {
                    before.push(task);
                    successors.push(successor);
                }
                Ok(None) => seen_to.push(task.id),
                Err(why) => {
                    failed.push((task.id, self.report(task, &why)));
                    seen_to.push(task.id);
                }
            }
        }
        let accepted = self.accept(&successors, now).await?;
        crate::failpoint::SUCCESSORS_QUEUED.reach();
        for (task, accepted) in before.into_iter().zip(accepted) {
            match accepted {
                Err(error) => failed.push((task.id, self.report(task, &Unsubmitted::Row(error.to_string())))),
                Ok(Accepted::Existing { id, .. }) => match self.store.find(id).await? {
                    // Queued before, here or by another process.
                    Some(existing)
                        if existing.queued.as_ref().is_some_and(|queued| queued.parent == Some(task.id)) => {}
                    Some(existing) => {
                        failed.push((task.id, self.report(task, &Unsubmitted::taken(existing))))
                    }
                    // Forgotten meanwhile: the next pass finds the identifier free.
                    None => continue,
                },
                Ok(_) => {}
            }
            seen_to.push(task.id);
        }
        self.store.succeeded(&seen_to, &failed).await?;
        Ok(true)
    }

    /// Records successors: together, or one by one when one of them cannot be recorded, which must not hold up
    /// the others.
    async fn accept(
        &self,
        successors: &[NewTask],
        now: Timestamp,
    ) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
        match self.ledger.accept_successors(successors, now).await {
            Err(error) if error.is_row_fault() => {}
            accepted => return Ok(accepted?.into_iter().map(Ok).collect()),
        }
        let mut accepted = Vec::with_capacity(successors.len());
        for successor in successors {
            match self.ledger.accept_successors(std::slice::from_ref(successor), now).await {
                Err(error) if error.is_row_fault() => accepted.push(Err(error)),
                one => accepted.extend(one?.into_iter().map(Ok)),
            }
        }
        Ok(accepted)
    }

    /// The task after this one, if there is time left.
    fn successor(&self, task: &Task, now: Timestamp) -> Result<Option<NewTask>, Unsubmitted> {
        let then =
            self.config.policy(&task.task_type).and_then(|policy| policy.queue.as_ref()?.then.as_ref());
        let followed = then.and_then(|then| Some((then, self.config.policy(&then.task_type)?)));
        let (Some((then, policy)), Ok(identifier)) = (followed, of_successor(task.id)) else {
            return Ok(None);
        };
        if task.expires_at <= now {
            tracing::info!(task = %task.id, reason = %ReasonCode::Expired, "no successor is queued after an expired task");
            return Ok(None);
        }
        let asked = Asked { priority: then.priority, ..Asked::default() };
        let next = self.admission.task(policy, identifier, payload(then, &task.payload), asked, now);
        let mut next = next.map_err(Unsubmitted::Payload)?;
        next.expires_at = task.expires_at;
        next.receive_by = task.expires_at;
        if let Some(place) = next.place.as_mut() {
            (place.parent, place.renews) = (Some(task.id), true);
        }
        Ok(Some(next))
    }

    /// Tells that nothing is queued after a task, and answers the text.
    fn report(&self, task: &Task, why: &Unsubmitted) -> String {
        self.metrics
            .unsubmitted
            .with_label_values(&["successor", task.task_type.as_str(), why.reason()])
            .inc();
        tracing::error!(task = %task.id, task_type = %task.task_type, %why, "the successor of a task was not queued");
        format!("the successor is not queued: {why}")
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
            let text = format!(
                "task_types:\n  - {{name: a, delivery: queue, then: {{type: b{payload}}}}}\n  - {{name: b, delivery: queue}}\n"
            );
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
