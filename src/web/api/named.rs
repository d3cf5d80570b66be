//! What the path of a request names.

use std::sync::Arc;

use actix_web::HttpRequest;

use super::access;
use super::problem::Problem;
use super::segment::segment;
use super::state::Api;
use super::unknown;
use crate::config::TypePolicy;
use crate::domain::{Identifier, Task, TaskId, TaskType};
use crate::store::{SharedStore, StoreError};

/// The configured type in a path.
pub fn task_type<'a>(api: &'a Api, request: &HttpRequest) -> Result<&'a TypePolicy, Problem> {
    let name = segment(request, 0)?;
    api.policy(&name).ok_or_else(|| unknown::task_type(api, request, &name))
}

/// The task of a type that a path names. One of others is unknown to a token that is limited to its own.
pub async fn task(
    api: &Api,
    request: &HttpRequest,
    policy: &TypePolicy,
    name: &TaskName,
) -> Result<Task, Problem> {
    let (store, task_type, wanted) = (Arc::clone(&api.state.store), policy.name.clone(), name.clone());
    let own = access::only_own(request);
    let found = api.run(async move {
        match (wanted.find(&store, &task_type).await?, own) {
            (Some(task), Some(own)) => {
                let is_own = store.submitter(task.id).await?.as_deref() == Some(own.as_str());
                Ok::<_, StoreError>(Some(task).filter(|_| is_own))
            }
            (found, _) => Ok(found),
        }
    });
    found.await?.ok_or_else(|| Problem::unknown_task(&policy.name, &name.text))
}

/// The ways a path may name a task.
#[derive(Debug, Clone)]
pub struct TaskName {
    /// As it was given.
    pub text: String,
    /// Where it may be the name that a customer gave.
    pub identifier: Option<Identifier>,
    /// Where it may be an id of ours.
    pub id: Option<TaskId>,
}

impl TaskName {
    /// The name in the path of a request. Any text is one, if only one that no task has.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let text = segment(request, 1)?;
        Ok(Self { identifier: text.parse().ok(), id: text.parse().ok(), text })
    }

    /// Looks for the customer's name first: an identifier may look like an id of ours.
    async fn find(&self, store: &SharedStore, task_type: &TaskType) -> Result<Option<Task>, StoreError> {
        if let Some(identifier) = &self.identifier
            && let Some(task) = store.find_by_identifier(task_type, identifier).await?
        {
            return Ok(Some(task));
        }
        let Some(id) = self.id else { return Ok(None) };
        Ok(store.find(id).await?.filter(|task| task.task_type == *task_type))
    }
}
