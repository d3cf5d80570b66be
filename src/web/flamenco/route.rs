//! Which path is which call.

use crate::farm::{ObjectId, WorkerStatus};

/// A call. An id that is none is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Register,
    Worker(WorkerCall),
    Person(PersonCall),
}

/// What a worker calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerCall {
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
}

/// What people call, and programs that look after the farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PersonCall {
    RedirectToServer(Option<ObjectId>),
    Kick,
    LogFile { job: Option<ObjectId>, task: Option<ObjectId> },
    Page,
    AsJson,
    WorkerAction(Option<ObjectId>),
    SleepSchedule(Option<ObjectId>),
}

impl Call {
    /// Bytes of its body at most. Reports bring logs.
    pub const fn longest_body(self) -> usize {
        match self {
            Self::Worker(WorkerCall::Update(_)) => 64 << 20,
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
        [""] => (Call::Person(PersonCall::Page), GET),
        ["register-worker"] => (Call::Register, POST),
        ["sign-on"] => (Call::Worker(WorkerCall::SignOn), POST),
        ["sign-off"] => (Call::Worker(WorkerCall::SignOff), POST),
        ["task"] => (Call::Worker(WorkerCall::Task), POST),
        ["tasks", task, "update"] => (Call::Worker(WorkerCall::Update(id(task))), POST),
        ["tasks", task, "return"] => (Call::Worker(WorkerCall::Return(id(task))), POST),
        ["tasks", task, "redir-to-server"] => (Call::Person(PersonCall::RedirectToServer(id(task))), ANY),
        ["may-i-run", task] if !task.is_empty() => (Call::Worker(WorkerCall::MayRun(id(task))), GET),
        ["status-change"] => (Call::Worker(WorkerCall::StatusChange), GET),
        ["ack-status-change", "shutdown"] => (Call::Worker(WorkerCall::AcknowledgeShutdown), POST),
        ["ack-status-change", status] if !status.is_empty() => {
            (Call::Worker(WorkerCall::Acknowledge(status.parse().ok())), POST)
        }
        ["output-produced"] => (Call::Worker(WorkerCall::OutputProduced), POST),
        ["kick"] => (Call::Person(PersonCall::Kick), ANY),
        ["logfile", job, task] if !task.is_empty() => {
            (Call::Person(PersonCall::LogFile { job: id(job), task: id(task) }), ANY)
        }
        ["as-json"] => (Call::Person(PersonCall::AsJson), GET),
        ["worker-action", worker] if !worker.is_empty() => {
            (Call::Person(PersonCall::WorkerAction(id(worker))), POST)
        }
        ["set-sleep-schedule", worker] if !worker.is_empty() => {
            (Call::Person(PersonCall::SleepSchedule(id(worker))), POST)
        }
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
            ("POST", "/task", Route::To(Call::Worker(WorkerCall::Task))),
            ("GET", "/task", Route::WrongMethod),
            ("POST", "/task/", Route::Elsewhere("/task")),
            ("POST", &*update, Route::To(Call::Worker(WorkerCall::Update(id)))),
            ("POST", "/tasks/1/update", Route::To(Call::Worker(WorkerCall::Update(None)))),
            ("PUT", "/tasks/1/update", Route::WrongMethod),
            ("GET", "/tasks/1/redir-to-server", Route::To(Call::Person(PersonCall::RedirectToServer(None)))),
            ("GET", "/may-i-run/1", Route::To(Call::Worker(WorkerCall::MayRun(None)))),
            ("GET", "/may-i-run/1/", Route::Elsewhere("/may-i-run/1")),
            ("GET", "/may-i-run/", Route::Unknown),
            (
                "POST",
                "/ack-status-change/asleep",
                Route::To(Call::Worker(WorkerCall::Acknowledge(Some(WorkerStatus::Asleep)))),
            ),
            ("POST", "/ack-status-change/odd", Route::To(Call::Worker(WorkerCall::Acknowledge(None)))),
            ("POST", "/ack-status-change/shutdown", Route::To(Call::Worker(WorkerCall::AcknowledgeShutdown))),
            ("GET", "/", Route::To(Call::Person(PersonCall::Page))),
            ("DELETE", "/kick", Route::To(Call::Person(PersonCall::Kick))),
            ("GET", "/logfile/1/2", Route::To(Call::Person(PersonCall::LogFile { job: None, task: None }))),
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
