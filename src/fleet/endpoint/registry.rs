//! Which handler performs a task type.

use std::collections::HashMap;
use std::sync::Arc;

use super::Handler;
use super::executable::{Executable, Executables};
use super::unfit::Unfit;
use crate::config::Output;
use crate::domain::TaskType;

/// Handlers by task type: those compiled in, and the executables of a directory.
#[derive(Clone, Default)]
pub struct Registry {
    builtin: HashMap<TaskType, Arc<dyn Handler>>,
}

impl Registry {
    /// One without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler, or replaces the one of this type.
    #[must_use]
    pub fn with(mut self, task_type: TaskType, handler: impl Handler) -> Self {
        self.builtin.insert(task_type, Arc::new(handler));
        self
    }

    /// The types that have a handler without any executable.
    pub fn task_types(&self) -> impl Iterator<Item = &TaskType> {
        self.builtin.keys()
    }

    /// The handler for a task that is about to start, or why there is none. Looked up each time, so that an
    /// executable can be added, replaced and removed while the endpoint runs.
    ///
    /// An executable wins over a handler that is compiled in: the directory is in the hands of whoever runs
    /// this server and can change without a new program, so what lies there is the later word. It is also the
    /// only way to mend a compiled-in handler on a server at once.
    ///
    /// `output` says what an executable writes.
    pub(super) async fn find(
        &self,
        task_type: &TaskType,
        executables: Option<&Arc<Executables>>,
        output: Output,
    ) -> Result<Arc<dyn Handler>, String> {
        let builtin = self.builtin.get(task_type);
        let Some(executables) = executables else {
            return builtin.cloned().ok_or_else(|| none(task_type));
        };
        let (look, wanted, compiled_in) = (executables.clone(), task_type.clone(), builtin.is_some());
        let found = tokio::task::spawn_blocking(move || match look.dir.find(&wanted).transpose() {
            None if compiled_in => Ok(None),
            None => Err(format!("{}, and {}", none(&wanted), look.dir.why_none(&wanted))),
            found => Ok(found),
        });
        match (found.await.map_err(|error| error.to_string())??, builtin) {
            (Some(found), _) => Ok(Arc::new(Executable::new(found, executables.clone(), output))),
            (None, Some(handler)) => Ok(handler.clone()),
            (None, None) => Err(none(task_type)),
        }
    }

    /// Why there is nothing that performs a type until somebody changes that. What passes by itself is no
    /// reason. Asks the system about files: not for an async worker.
    pub(super) fn lacks(&self, task_type: &TaskType, executables: Option<&Executables>) -> Option<String> {
        match self.unfit(task_type, executables)? {
            Unfit::ForNow(_) => None,
            Unfit::UntilMended(reason) => Some(reason),
        }
    }

    /// Why the tasks of a type cannot be performed as things are. Asks the system about files: not for an
    /// async worker.
    pub(super) fn trouble(&self, task_type: &TaskType, executables: Option<&Executables>) -> Option<String> {
        self.unfit(task_type, executables).map(|unfit| unfit.reason().to_owned())
    }

    fn unfit(&self, task_type: &TaskType, executables: Option<&Executables>) -> Option<Unfit> {
        match executables.map_or(Ok(None), |executables| executables.dir.find(task_type)) {
            Err(unfit) => Some(unfit),
            Ok(None) if !self.builtin.contains_key(task_type) => {
                let more = match executables {
                    Some(executables) => executables.dir.why_none(task_type),
                    None => "endpoint.handlers_dir is not set".to_owned(),
                };
                Some(Unfit::UntilMended(format!("{}, and {more}", none(task_type))))
            }
            Ok(_) => None,
        }
    }
}

fn none(task_type: &TaskType) -> String {
    format!("there is no handler `{task_type}`")
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.builtin.keys()).finish()
    }
}
