//! Which path is which call.

use crate::farm::{ObjectId, WorkerStatus};

/// A call. An id that is none is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Register,
    SignOn,
    SignOff,
    Task,
    Update(Option<ObjectId>),
    Return(Option<ObjectId>),
    MayRun(Option<ObjectId>),
    StatusChange,
    /// A status that nobody knows is absent.
    Acknowledge(Option<WorkerStatus>),
    AcknowledgeShutdown,
    OutputProduced,
    RedirectToServer(Option<ObjectId>),
    Kick,
    LogFile {
        job: Option<ObjectId>,
        task: Option<ObjectId>,
    },
    Page,
    AsJson,
    WorkerAction(Option<ObjectId>),
    SleepSchedule(Option<ObjectId>),
}

impl Call {
    /// Bytes of its body at most. Reports bring logs.
    pub const fn longest_body(self) -> usize {
        match self {
            Self::Update(_) => 64 << 20,
            _ => 1 << 20,
        }
    }
}

/// Where a request leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    To(Call),
    /// The path takes other methods.
    WrongMethod,
    /// The same path without the slash at its end.
    Elsewhere(&'p str),
    Unknown,
}

/// Finds the call.
pub(super) fn route<'p>(method: &str, path: &'p str) -> Route<'p> {
    let Some((call, methods)) = call(path) else {
        return match path.strip_suffix('/') {
            Some(shorter) if shorter != "/" && call(shorter).is_some() => Route::Elsewhere(shorter),
            _ => Route::Unknown,
        };
    };
    if methods.is_empty() || methods.contains(&method) { Route::To(call) } else { Route::WrongMethod }
}

/// The call of a path, with its methods; none for one that takes any.
fn call(path: &str) -> Option<(Call, &'static [&'static str])> {
    const POST: &[&str] = &["POST"];
    const GET: &[&str] = &["GET", "HEAD"];
    const ANY: &[&str] = &[];
    let mut parts = ["/"; 4];
    let mut count = 0;
    for part in path.strip_prefix('/')?.split('/') {
        *parts.get_mut(count)? = part;
        count += 1;
    }
    let id = |text: &str| text.parse().ok();
    Some(match parts[..count] {
        [""] => (Call::Page, GET),
        ["register-worker"] => (Call::Register, POST),
        ["sign-on"] => (Call::SignOn, POST),
        ["sign-off"] => (Call::SignOff, POST),
        ["task"] => (Call::Task, POST),
        ["tasks", task, "update"] => (Call::Update(id(task)), POST),
        ["tasks", task, "return"] => (Call::Return(id(task)), POST),
        ["tasks", task, "redir-to-server"] => (Call::RedirectToServer(id(task)), ANY),
        ["may-i-run", task] if !task.is_empty() => (Call::MayRun(id(task)), GET),
        ["status-change"] => (Call::StatusChange, GET),
        ["ack-status-change", "shutdown"] => (Call::AcknowledgeShutdown, POST),
        ["ack-status-change", status] if !status.is_empty() => (Call::Acknowledge(status.parse().ok()), POST),
        ["output-produced"] => (Call::OutputProduced, POST),
        ["kick"] => (Call::Kick, ANY),
        ["logfile", job, task] if !task.is_empty() => (Call::LogFile { job: id(job), task: id(task) }, ANY),
        ["as-json"] => (Call::AsJson, GET),
        ["worker-action", worker] if !worker.is_empty() => (Call::WorkerAction(id(worker)), POST),
        ["set-sleep-schedule", worker] if !worker.is_empty() => (Call::SleepSchedule(id(worker)), POST),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let known = "5e90d0000000000000000d01";
        let id: Option<ObjectId> = known.parse().ok();
        let update = format!("/tasks/{known}/update");
        for (method, path, expected) in [
            ("POST", "/task", Route::To(Call::Task)),
            ("GET", "/task", Route::WrongMethod),
            ("POST", "/task/", Route::Elsewhere("/task")),
            ("POST", &*update, Route::To(Call::Update(id))),
            ("POST", "/tasks/1/update", Route::To(Call::Update(None))),
            ("PUT", "/tasks/1/update", Route::WrongMethod),
            ("GET", "/tasks/1/redir-to-server", Route::To(Call::RedirectToServer(None))),
            ("GET", "/may-i-run/1", Route::To(Call::MayRun(None))),
            ("GET", "/may-i-run/1/", Route::Elsewhere("/may-i-run/1")),
            ("GET", "/may-i-run/", Route::Unknown),
            ("POST", "/ack-status-change/asleep", Route::To(Call::Acknowledge(Some(WorkerStatus::Asleep)))),
            ("POST", "/ack-status-change/odd", Route::To(Call::Acknowledge(None))),
            ("POST", "/ack-status-change/shutdown", Route::To(Call::AcknowledgeShutdown)),
            ("GET", "/", Route::To(Call::Page)),
            ("DELETE", "/kick", Route::To(Call::Kick)),
            ("GET", "/logfile/1/2", Route::To(Call::LogFile { job: None, task: None })),
            ("GET", "/logfile/1/2/3/4", Route::Unknown),
            ("GET", "/tasks/1", Route::Unknown),
            ("GET", "//", Route::Unknown),
            ("GET", "", Route::Unknown),
            ("GET", "*", Route::Unknown),
        ] {
            assert_eq!(route(method, path), expected, "{method} {path}");
        }
    }
}
