//! Which path is which call.

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call<'p> {
    Register,
    SignOn,
    SignOff,
    Task,
    Update(&'p str),
    Return(&'p str),
    MayRun(&'p str),
    StatusChange,
    Acknowledge(&'p str),
    OutputProduced,
    RedirectToServer(&'p str),
    Kick,
    LogFile { job: &'p str, task: &'p str },
    Page,
    AsJson,
    WorkerAction(&'p str),
    SleepSchedule(&'p str),
}

/// Where a request leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    To(Call<'p>),
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
fn call(path: &str) -> Option<(Call<'_>, &'static [&'static str])> {
    const POST: &[&str] = &["POST"];
    const GET: &[&str] = &["GET", "HEAD"];
    const ANY: &[&str] = &[];
    let mut parts = ["/"; 4];
    let mut count = 0;
    for part in path.strip_prefix('/')?.split('/') {
        *parts.get_mut(count)? = part;
        count += 1;
    }
    Some(match parts[..count] {
        [""] => (Call::Page, GET),
        ["register-worker"] => (Call::Register, POST),
        ["sign-on"] => (Call::SignOn, POST),
        ["sign-off"] => (Call::SignOff, POST),
        ["task"] => (Call::Task, POST),
        ["tasks", id, "update"] => (Call::Update(id), POST),
        ["tasks", id, "return"] => (Call::Return(id), POST),
        ["tasks", id, "redir-to-server"] => (Call::RedirectToServer(id), ANY),
        ["may-i-run", id] if !id.is_empty() => (Call::MayRun(id), GET),
        ["status-change"] => (Call::StatusChange, GET),
        ["ack-status-change", status] if !status.is_empty() => (Call::Acknowledge(status), POST),
        ["output-produced"] => (Call::OutputProduced, POST),
        ["kick"] => (Call::Kick, ANY),
        ["logfile", job, task] if !task.is_empty() => (Call::LogFile { job, task }, ANY),
        ["as-json"] => (Call::AsJson, GET),
        ["worker-action", worker] if !worker.is_empty() => (Call::WorkerAction(worker), POST),
        ["set-sleep-schedule", worker] if !worker.is_empty() => (Call::SleepSchedule(worker), POST),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        for (method, path, expected) in [
            ("POST", "/task", Route::To(Call::Task)),
            ("GET", "/task", Route::WrongMethod),
            ("POST", "/task/", Route::Elsewhere("/task")),
            ("POST", "/tasks/1/update", Route::To(Call::Update("1"))),
            ("PUT", "/tasks/1/update", Route::WrongMethod),
            ("GET", "/tasks/1/redir-to-server", Route::To(Call::RedirectToServer("1"))),
            ("GET", "/may-i-run/1", Route::To(Call::MayRun("1"))),
            ("GET", "/may-i-run/1/", Route::Elsewhere("/may-i-run/1")),
            ("GET", "/may-i-run/", Route::Unknown),
            ("GET", "/", Route::To(Call::Page)),
            ("DELETE", "/kick", Route::To(Call::Kick)),
            ("GET", "/logfile/1/2", Route::To(Call::LogFile { job: "1", task: "2" })),
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
