//! Where tasks run: in the runtime of the caller, or in one that the runner had to bring.

use tokio::runtime::{Handle, Runtime};

pub(super) struct TaskRuntime {
    handle: Handle,
    own: Option<Runtime>,
}

impl TaskRuntime {
    /// That of the caller, without a runtime of its own.
    pub(super) const fn of_caller(handle: Handle) -> Self {
        Self { handle, own: None }
    }

    /// One that ends with this.
    pub(super) fn own(runtime: Runtime) -> Self {
        Self { handle: runtime.handle().clone(), own: Some(runtime) }
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for TaskRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.own.take() {
            // The last owner may be a task of this very runtime, which could not wait for itself.
            runtime.shutdown_background();
        }
    }
}
