//! Which handler performs a task type.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Handler;
use super::executable::{Executable, Executables};
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

    /// The handler for a task that is about to start, or why there is none. Looked up each time, so that an executable can
    /// be added, replaced and removed while the endpoint runs.
    ///
    /// An executable wins over a handler that is compiled in: the directory is in the hands of whoever runs this server
    /// and can change without a new program, so what lies there is the later word. It is also the only way to mend a
    /// compiled-in handler on a server at once.
    pub(super) async fn find(&self, task_type: &TaskType, executables: Option<&Arc<Executables>>) -> Result<Arc<dyn Handler>, String> {
        let builtin = self.builtin.get(task_type);
        let Some(executables) = executables else {
            return builtin.cloned().ok_or_else(|| format!("there is no handler `{task_type}`"));
        };
        let (look, wanted) = (executables.clone(), task_type.clone());
        let found = tokio::task::spawn_blocking(move || look.find(&wanted)).await.map_err(|error| error.to_string())?;
        match (found, builtin) {
            (Ok(Some(program)), _) => Ok(Arc::new(Executable::new(program, executables.clone()))),
            (Ok(None), Some(handler)) => Ok(handler.clone()),
            (Ok(None), None) => Err(format!("there is no handler `{task_type}`, and no executable of this name in {}", show(executables))),
            (Err(reason), _) => Err(reason),
        }
    }
}

fn show(executables: &Executables) -> String {
    PathBuf::from(executables.dir()).display().to_string()
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.builtin.keys()).finish()
    }
}
