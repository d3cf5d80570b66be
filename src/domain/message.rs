//! What travels through the broker, as values. `broker::wire` gives them their bytes.

use std::time::Duration;

use uuid::Uuid;

use super::{AttemptError, EndpointName, Identifier, Json, ResponseEvent, TaskId, TaskType, errnr};

/// What the API tells endpoints.
#[derive(Debug, Clone)]
pub enum Command {
    /// Perform this.
    Task(TaskMessage),
    /// Stop this if it runs, never start it otherwise.
    Cancel {
        /// Which task.
        task_id: TaskId,
    },
    /// The ledger knows you as subscribed since this message's place in the queue.
    ///
    /// Sent through the endpoint's own task queue, so that it also proves that the endpoint consumes. What lies in the
    /// queue before it was published when the endpoint may not have been expected: it is dropped, the API asks again
    /// for all that is owed.
    Welcome {
        /// The session of the presence message this answers.
        session: Uuid,
        /// How often to send presence from now on.
        presence_interval: Duration,
    },
}

/// One task on its way to endpoints.
#[derive(Debug, Clone)]
pub struct TaskMessage {
    /// Our name for it.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// The customer's data.
    pub payload: Json,
    /// How long from now on it is worth starting. A span and not a time: clocks of servers differ.
    pub expires_in: Duration,
    /// Whether the ledger knows that this endpoint has received it before. Whoever has forgotten it then must not run it
    /// again: nobody knows how far the first run came.
    pub received: bool,
    /// What became of attempts elsewhere; the next one is numbered after them.
    pub attempts: Vec<AttemptError>,
}

/// What an endpoint tells the API about one task.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which task.
    pub task_id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// Who answers.
    pub endpoint: EndpointName,
    /// Which memory of the endpoint answers, see [`Presence::home`].
    pub home: Uuid,
    /// What happened.
    pub event: ReportEvent,
}

/// What happened at the endpoint.
#[derive(Debug, Clone)]
pub enum ReportEvent {
    /// It is in the journal.
    Received,
    /// The handler says how far it is.
    Progress {
        /// Percent, 0 to 100.
        percent: u8,
    },
    /// The handler ended, all attempts included.
    Finished {
        /// 0 for success.
        errnr: i32,
        /// What went wrong, empty on success.
        errmsg: String,
        /// What the handler answered.
        payload: Option<Json>,
        /// The attempt that decided, from 1.
        attempt: u32,
        /// What earlier attempts died of.
        attempts: Vec<AttemptError>,
        /// The last lines the handler logged.
        log: Option<String>,
        /// The execution that decided, made anew for each; none when it was not a handler that decided. Two of them for one
        /// response prove that a task was run twice.
        run: Option<Uuid>,
    },
    /// It was stopped, or never started, because of a cancel.
    Canceled,
}

impl ReportEvent {
    /// That nobody knows what came of it, and why ([`errnr::LOST`]).
    pub fn lost(why: &str) -> Self {
        Self::Finished {
            errnr: errnr::LOST,
            errmsg: format!("lost: {why}"),
            payload: None,
            attempt: 1,
            attempts: Vec::new(),
            log: None,
            run: None,
        }
    }

    /// Whether it says that nobody knows what came of it.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Finished { errnr: errnr::LOST, run: None, .. })
    }

    /// What this means for the response's status; progress says no more than that it was received.
    pub const fn response_event(&self) -> ResponseEvent {
        match self {
            Self::Received | Self::Progress { .. } => ResponseEvent::Received,
            Self::Finished { .. } => ResponseEvent::Finished,
            Self::Canceled => ResponseEvent::Canceled,
        }
    }
}

/// What an endpoint process says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Its name.
    pub endpoint: EndpointName,
    /// The process: made anew at every start.
    pub instance: Uuid,
    /// The endpoint's memory: made once for its data directory, the same over restarts. A process of the same name with
    /// another home knows nothing of what this one has taken.
    pub home: Uuid,
    /// The connection: made anew at every connect.
    pub session: Uuid,
    /// The types it consumes.
    pub task_types: Vec<TaskType>,
    /// Coming, staying or going.
    pub state: PresenceState,
    /// The interval it keeps; it is thought gone after three of them.
    pub interval: Duration,
    /// Its version of the program.
    pub version: String,
    /// Why it takes no tasks although it is there, such as a full disk.
    pub trouble: Option<String>,
    /// Of a worker: how many tasks it performs at the same time, of all its types together; 0 while it takes no more.
    pub slots: Option<u32>,
}

impl Presence {
    /// The shortest interval that is believed.
    pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
    /// The longest interval that is believed: nobody is thought there for ever.
    pub const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
    /// Types at most.
    pub const TYPES: usize = 1000;
    /// Slots at most that are believed.
    pub const SLOTS: u32 = 10_000;
    /// Characters of its texts that are kept.
    pub const TEXT_LENGTH: usize = 255;
}

/// Coming, staying or going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceState {
    /// Consuming since just now, and not welcomed yet.
    Joined,
    /// Still here.
    Alive,
    /// Stopping on purpose: not to be expected for tasks without a list.
    Leaving,
}
