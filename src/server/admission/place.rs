//! A submission to a task: its deadlines, and its place if its type has a work queue.

use std::time::Duration;

use crate::config::{Pointer, TypePolicy};
use crate::domain::{
    EndpointName, Identifier, Json, NewTask, Place, Target, TaskId, Timestamp, UniqueKey, digest,
    digest_of_target, payload_key,
};

/// What a submission may ask for, beside the policy of its type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The endpoints that are to perform it.
    pub endpoints: Vec<EndpointName>,
    /// What the endpoints must be, where they are not named.
    pub target: Option<Target>,
    /// See [`Place::priority`].
    pub priority: Option<i32>,
    /// How long it is worth starting.
    pub ttl: Option<Duration>,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
}

/// The task of a submission. Its life begins when it may begin.
pub(super) fn new_task(
    policy: &TypePolicy,
    identifier: Identifier,
    payload: Json,
    asked: Asked,
    now: Timestamp,
) -> NewTask {
    let Asked { endpoints, target, priority, ttl, run_at } = asked;
    let run_at = run_at.filter(|run_at| *run_at > now);
    let queue = policy.queue.as_ref();
    let ttl = ttl.or_else(|| queue.and_then(|queue| queue.ttl));
    let expires_at = run_at.unwrap_or(now).after(ttl.unwrap_or(policy.expires_after));
    let key = |pointer: &Option<Pointer>| {
        pointer.as_ref().and_then(|pointer| payload_key(&payload, pointer.as_str()))
    };
    let place = queue.map(|queue| Place {
        priority: priority.unwrap_or(queue.priority),
        run_at,
        unique: key(&queue.unique_key).map(|key| UniqueKey { scope: queue.unique_scope.clone(), key }),
        limit_key: key(&queue.limit_key),
        chains: queue.then.is_some(),
        parent: None,
        renews: ttl.is_some(),
    });
    NewTask {
        id: TaskId::new(),
        task_type: policy.name.clone(),
        digest: match &target {
            Some(target) => digest_of_target(payload.get(), target),
            None => digest(payload.get(), &endpoints),
        },
        identifier,
        endpoints,
        target,
        start_time: now,
        // A task that waits for its turn is not overdue.
        receive_by: if place.is_some() { expires_at } else { now.after(policy.wait_for_endpoints_timeout) },
        expires_at,
        place,
        payload,
        submitted_by: None,
        source: None,
        rerun_of: None,
        followed: false,
        rollout: None,
        held: false,
    }
}
