//! What a command tells the shell.

use crate::contract::{Rollout, Task};
use crate::domain::rollout::RolloutStatus;
use crate::domain::{Counts, RequestStatus, TaskStatus};

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// It worked.
    Ok = 0,
    /// Wrong usage, no connection, or refused by the API.
    Failure = 1,
    /// Some endpoints finished with an error, or did not finish in time; the request failed.
    SomeFailed = 2,
    /// Some endpoints did not receive the task.
    SomeMissing = 3,
    /// No endpoint has finished.
    NobodyAnswered = 4,
    /// The task or the request was canceled.
    Canceled = 5,
    /// A rollout has halted, so that somebody has to decide; or it was rolled back.
    Halted = 6,
    /// The wait timed out; the task or the request goes on.
    TimedOut = 124,
    /// SIGINT (Ctrl-C) ended a wait; the task or the request goes on.
    Interrupted = 130,
    /// SIGTERM ended a wait; the task or the request goes on.
    Terminated = 143,
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// What came of a task; nothing while it is worth waiting.
///
/// An `INCOMPLETE` task may go on for hours, until a server that is down comes back. Nobody at a terminal
/// means to wait for that: it counts as settled once all who have received it are through. A task that was
/// sent while nobody subscribed stays without an endpoint, so there is nothing to wait for until its
/// deadline.
pub fn verdict(task: &Task) -> Option<Code> {
    let Counts { expected, received, finished, failed, canceled, expired } = task.counts;
    let through = finished + canceled + expired;
    let settled = task.status.is_final()
        || task.status == TaskStatus::Incomplete && through >= received
        || nobody_subscribes(task);
    settled.then_some(match task.status {
        TaskStatus::Canceled => Code::Canceled,
        _ if finished == 0 => Code::NobodyAnswered,
        _ if received < expected => Code::SomeMissing,
        _ if failed > 0 || finished < expected => Code::SomeFailed,
        _ => Code::Ok,
    })
}

/// What came of a request; nothing while it is worth waiting.
pub fn verdict_on_request(status: RequestStatus) -> Option<Code> {
    match status {
        RequestStatus::Queuing | RequestStatus::Inprogress => None,
        RequestStatus::Completed => Some(Code::Ok),
        RequestStatus::Failed => Some(Code::SomeFailed),
        RequestStatus::Canceled => Some(Code::Canceled),
    }
}

/// What came of a rollout; nothing while it goes on by itself. One that waits for nothing but endpoints that
/// are away has come to rest.
pub fn verdict_on_rollout(rollout: &Rollout) -> Option<Code> {
    let counts = &rollout.counts;
    let missing = counts.unreachable + counts.absent + counts.skipped + counts.superseded;
    let rests = counts.in_flight() == 0 && counts.pending == 0;
    match rollout.status {
        RolloutStatus::Done => Some(Code::Ok),
        RolloutStatus::Halted if counts.in_flight() == 0 => Some(Code::Halted),
        RolloutStatus::Aborted => Some(Code::Canceled),
        RolloutStatus::RolledBack | RolloutStatus::RollbackFailed => Some(Code::Halted),
        RolloutStatus::Partial | RolloutStatus::Settling if rollout.status.is_final() || rests => {
            Some(match counts.ok {
                0 => Code::NobodyAnswered,
                _ if counts.failed > 0 => Code::SomeFailed,
                _ if missing > 0 => Code::SomeMissing,
                _ => Code::Ok,
            })
        }
        _ => None,
    }
}

/// Whether a task was sent when no endpoint subscribed to its type.
fn nobody_subscribes(task: &Task) -> bool {
    task.queue.is_none() && task.counts.expected == 0 && task.status == TaskStatus::Sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples::task;
    use TaskStatus as S;

    #[test]
    fn tells_the_shell_what_became_of_a_task() {
        let table = [
            // status, expected, received, finished, failed, canceled, expired
            (S::Created, [2, 0, 0, 0, 0, 0], None),
            (S::Sent, [0, 0, 0, 0, 0, 0], Some(Code::NobodyAnswered)),
            (S::Sent, [2, 1, 0, 0, 0, 0], None),
            (S::Sent, [2, 2, 1, 1, 0, 0], None),
            (S::Incomplete, [3, 2, 1, 0, 0, 0], None),
            (S::Incomplete, [3, 2, 2, 0, 0, 0], Some(Code::SomeMissing)),
            (S::Incomplete, [3, 2, 2, 2, 0, 0], Some(Code::SomeMissing)),
            (S::Incomplete, [1, 0, 0, 0, 0, 0], Some(Code::NobodyAnswered)),
            (S::Incomplete, [0, 0, 0, 0, 0, 0], Some(Code::NobodyAnswered)),
            (S::Done, [2, 2, 2, 0, 0, 0], Some(Code::Ok)),
            (S::Done, [2, 2, 2, 1, 0, 0], Some(Code::SomeFailed)),
            (S::Done, [2, 2, 2, 2, 0, 0], Some(Code::SomeFailed)),
            (S::Canceled, [2, 2, 1, 1, 1, 0], Some(Code::Canceled)),
            (S::Canceled, [0, 0, 0, 0, 0, 0], Some(Code::Canceled)),
            (S::Expired, [3, 2, 2, 0, 0, 1], Some(Code::SomeMissing)),
            (S::Expired, [2, 2, 1, 0, 0, 1], Some(Code::SomeFailed)),
            (S::Expired, [2, 0, 0, 0, 0, 2], Some(Code::NobodyAnswered)),
        ];
        for (status, [expected, received, finished, failed, canceled, expired], code) in table {
            let task = Task {
                status,
                counts: Counts { expected, received, finished, failed, canceled, expired },
                ..task()
            };
            assert_eq!(verdict(&task), code, "{task:?}");
        }
    }
}
