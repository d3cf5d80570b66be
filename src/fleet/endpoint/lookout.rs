//! Which of its types an endpoint has a handler for.
//!
//! A type without one is not subscribed to: its tasks would fail here, and those of a work queue would be
//! missing elsewhere. When its handler is there, the endpoint subscribes. One that is removed later is not
//! noticed here: tasks that come meanwhile fail (127), and its presence tells the trouble.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::performer::Core;
use crate::domain::{ReasonCode, TaskType};

/// Looks for the first time, and says what is missing.
pub(super) async fn look(core: &Arc<Core>) {
    let all = core.lanes.keys().cloned().collect();
    let unperformed = lacking(core, all).await;
    if let Some(trouble) = core.executables.as_ref().and_then(|executables| executables.dir.trouble()) {
        tracing::warn!(endpoint = %core.endpoint, "endpoint.handlers_dir: {trouble}");
    }
    for (task_type, trouble) in &unperformed {
        let code = ReasonCode::HandlerMissing;
        tracing::warn!(endpoint = %core.endpoint, %task_type, reason = %code, "not subscribed to `{task_type}`, until it has a handler: {trouble}");
    }
    core.unperformed.send_replace(unperformed);
}

/// Looks again and again for what was missing.
pub(super) async fn look_again(core: Arc<Core>, every: Duration) {
    loop {
        let missing: Vec<TaskType> = core.unperformed.borrow().keys().cloned().collect();
        // What is compiled in does not change.
        if missing.is_empty() || core.executables.is_none() {
            return;
        }
        tokio::time::sleep(every).await;
        let still = lacking(&core, missing).await;
        core.unperformed.send_if_modified(|unperformed| {
            let before = unperformed.len();
            for task_type in unperformed.keys().filter(|task_type| !still.contains_key(*task_type)) {
                tracing::info!(endpoint = %core.endpoint, %task_type, "`{task_type}` has a handler now: subscribing");
            }
            unperformed.retain(|task_type, _| still.contains_key(task_type));
            unperformed.len() < before
        });
    }
}

/// Those of the types that nothing performs.
async fn lacking(core: &Arc<Core>, types: Vec<TaskType>) -> BTreeMap<TaskType, String> {
    let looking = core.clone();
    let look = move || {
        let reason = |task_type: &TaskType| looking.registry.lacks(task_type, looking.executables.as_deref());
        types
            .into_iter()
            .filter_map(|task_type| Some((reason(&task_type)?, task_type)))
            .map(|(reason, task_type)| (task_type, reason))
            .collect()
    };
    // One that cannot look believes that all is there, and answers 127 if it is not.
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
