//! What travels through the broker, as values. `broker::wire` gives them their bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    AttemptError, EndpointName, Identifier, Json, Labels, LogPiece, ResponseEvent, Revocations, SealFault,
    TaskId, TaskType, Timestamp, errnr, json_check,
};

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
    /// Never start this. Let it go on if it has begun.
    Withdraw {
        /// Which task.
        task_id: TaskId,
    },
    /// The ledger knows you as subscribed since this message's place in the queue.
    ///
    /// Sent through the endpoint's own task queue, so that it also proves that the endpoint consumes. What
    /// lies in the queue before it was published when the endpoint may not have been expected: it is dropped,
    /// the API asks again for all that is owed.
    Welcome {
        /// The session of the presence message this answers.
        session: Uuid,
        /// How often to send presence from now on.
        presence_interval: Duration,
        /// What the API reads.
        reads: WireVersion,
        /// The type whose queue it went to. None in a message of version 1, 2 or 3, and of those that come
        /// over HTTP: there it is for all types.
        task_type: Option<TaskType>,
        /// The keys that count no more, as far as the API knows. None as above.
        revocations: Option<Arc<Revocations>>,
    },
}

impl Command {
    /// What it is about: a task, or the session that is welcomed.
    pub const fn subject(&self) -> Uuid {
        match self {
            Self::Task(task) => task.work.id.0,
            Self::Cancel { task_id } | Self::Withdraw { task_id } => task_id.0,
            Self::Welcome { session, .. } => *session,
        }
    }

    /// What of it travels in a version: what its reader sees, and so what is signed.
    #[must_use]
    pub fn in_version(self, version: WireVersion) -> Self {
        match self {
            Self::Task(TaskMessage { work, expires_in, received, attempts })
                if version == WireVersion::One =>
            {
                let work = WorkPart { audience: None, not_after: None, ..work };
                Self::Task(TaskMessage { work, expires_in, received, attempts })
            }
            // A newer number than the reader knows is read as its newest.
            Self::Welcome { session, presence_interval, reads, task_type, revocations } => {
                let knows_types = version >= WireVersion::Four;
                Self::Welcome {
                    session,
                    presence_interval,
                    reads: reads.min(version),
                    task_type: task_type.filter(|_| knows_types),
                    revocations: revocations.filter(|_| knows_types),
                }
            }
            other => other,
        }
    }
}

/// A version of the bytes of messages (`broker::wire`). Each side says what it reads, and is sent no newer
/// one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireVersion {
    /// One message, one item; a task is flat. Who says nothing reads this.
    #[default]
    One,
    /// A message may hold many items, and a task has a part that never changes.
    Two,
    /// A task may be withdrawn ([`Command::Withdraw`]).
    Three,
    /// A welcome names the type whose queue it is for, and may bring a list of keys that count no more.
    Four,
    /// Messages that go out together may share a signature ([`BatchPath`](super::BatchPath)).
    Five,
}

impl WireVersion {
    /// The newest that this program reads.
    pub const NEWEST: Self = Self::Five;

    /// As it travels.
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Five => 5,
        }
    }

    /// What somebody reads who reads versions up to this one.
    pub const fn up_to(number: u32) -> Self {
        match number {
            0 | 1 => Self::One,
            2 => Self::Two,
            3 => Self::Three,
            4 => Self::Four,
            _ => Self::Five,
        }
    }
}

/// The immutable part of a task: every message about the task has the same one.
#[derive(Debug, Clone)]
pub struct WorkPart {
    /// Our name for it.
    pub id: TaskId,
    /// Its type.
    pub task_type: TaskType,
    /// The customer's name for it.
    pub identifier: Identifier,
    /// Whom it is for. None in a message of version 1.
    pub audience: Option<Audience>,
    /// When it is given up, by the clock of the ledger. None in a message of version 1.
    pub not_after: Option<Timestamp>,
    /// The customer's data.
    pub payload: Json,
}

/// Whom a task is for, without telling one endpoint the names of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever performs its type.
    All,
    /// Listed endpoints: the SHA-256 of their names in order, each followed by a line feed.
    Listed([u8; 32]),
}

impl Audience {
    /// Of a task with this list of endpoints.
    pub fn of(endpoints: &[EndpointName]) -> Self {
        if endpoints.is_empty() {
            return Self::All;
        }
        let mut names: Vec<&str> = endpoints.iter().map(EndpointName::as_str).collect();
        names.sort_unstable();
        let mut hash = Sha256::new();
        for name in names {
            hash.update(name);
            hash.update(b"\n");
        }
        Self::Listed(hash.finalize().into())
    }
}

/// One task on its way to endpoints: what it is, and what this delivery of it says.
#[derive(Debug, Clone)]
pub struct TaskMessage {
    /// What it is.
    pub work: WorkPart,
    /// How long from now on it is worth starting. A span and not a time: clocks of servers differ.
    pub expires_in: Duration,
    /// Whether the ledger knows that this endpoint has received it before. Whoever has forgotten it then must
    /// not run it again: nobody knows how far the first run came.
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
    /// It is in the journal, and waits there. An endpoint of an older version sends this of a task that has
    /// begun, too.
    Received,
    /// It is in the journal, and has begun.
    Begun,
    /// The handler says how far it is.
    Progress {
        /// Percent, 0 to 100.
        percent: u8,
    },
    /// The handler has logged these lines. Worth less than all else: they may be left out anywhere on the
    /// way.
    Log(LogPiece),
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
        /// The execution that decided, made anew for each; none when it was not a handler that decided. Two
        /// of them for one response prove that a task was run twice.
        run: Option<Uuid>,
    },
    /// It was stopped, or never started, because of a cancel.
    Canceled,
}

impl ReportEvent {
    /// Bytes of an answer at most: as much as an endpoint may be configured to send.
    pub const PAYLOAD: usize = 8 << 20;
    /// Bytes of an error text, and of the lines of a log, at most.
    pub const TEXT: usize = 64 << 10;
    /// Bytes of the lines of one piece of a log at most: an endpoint sends fewer.
    pub const LINES: usize = 32 << 10;
    /// Earlier attempts at most: no policy allows more.
    pub const ATTEMPTS: usize = 100;
    /// Bytes of the error text of an earlier attempt at most.
    pub const ATTEMPT_TEXT: usize = 4 << 10;

    /// The same within bounds. An answer that is too long, or that not every reader can read, is left out:
    /// the response fails with [`errnr::BAD_ANSWER`] and says so, unless it has failed anyway. Of texts that
    /// are too long a part is kept, and says so.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Progress { percent } => Self::Progress { percent: percent.min(100) },
            Self::Log(piece) => Self::Log(LogPiece { text: beginning(piece.text, Self::LINES), ..piece }),
            Self::Finished { errnr, errmsg, payload, attempt, mut attempts, log, run } => {
                let errmsg = beginning(errmsg, Self::TEXT);
                attempts.truncate(Self::ATTEMPTS);
                for attempt in &mut attempts {
                    attempt.errmsg = beginning(std::mem::take(&mut attempt.errmsg), Self::ATTEMPT_TEXT);
                }
                let bounded = Self::Finished {
                    errnr,
                    errmsg,
                    payload,
                    attempt,
                    attempts,
                    log: log.map(|log| end(log, Self::TEXT)),
                    run,
                };
                match bounded.objection() {
                    Some(objection) => bounded.without_answer(&objection),
                    None => bounded,
                }
            }
            other => other,
        }
    }

    /// What is wrong with the answer.
    fn objection(&self) -> Option<String> {
        let Self::Finished { payload: Some(payload), .. } = self else { return None };
        let length = payload.get().len();
        if length > Self::PAYLOAD {
            return Some(format!("the answer has {length} bytes, the limit is {}", Self::PAYLOAD));
        }
        json_check::check(payload.get().as_bytes())
            .err()
            .map(|fault| format!("the answer is refused: {fault}"))
    }

    /// The same without the answer, and with the reason.
    #[must_use]
    pub fn without_answer(self, objection: &str) -> Self {
        match self {
            Self::Finished { errnr, errmsg, attempt, attempts, log, run, .. } => {
                let errmsg =
                    if errmsg.is_empty() { objection.to_owned() } else { format!("{errmsg}\n{objection}") };
                let errnr = if errnr == 0 { errnr::BAD_ANSWER } else { errnr };
                Self::Finished { errnr, errmsg, payload: None, attempt, attempts, log, run }
            }
            other => other,
        }
    }

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
            Self::Received | Self::Begun | Self::Progress { .. } | Self::Log(_) => ResponseEvent::Received,
            Self::Finished { .. } => ResponseEvent::Finished,
            Self::Canceled => ResponseEvent::Canceled,
        }
    }
}

/// The beginning of a text that is too long, and how long it was.
fn beginning(mut text: String, limit: usize) -> String {
    let length = text.len();
    if length > limit {
        text.truncate(text.floor_char_boundary(limit - MARK));
        text.push_str(&format!("\n[cut: it had {length} bytes]"));
    }
    text
}

/// How long it was, and the end of a text that is too long.
fn end(text: String, limit: usize) -> String {
    let length = text.len();
    if length <= limit {
        return text;
    }
    format!("[cut: it had {length} bytes]\n{}", &text[text.ceil_char_boundary(length - (limit - MARK))..])
}

/// Bytes that a mark takes at most.
const MARK: usize = 48;

/// What an endpoint process says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Its name.
    pub endpoint: EndpointName,
    /// The process: made anew at every start.
    pub instance: Uuid,
    /// The endpoint's memory: made once for its data directory, the same over restarts. A process of the same
    /// name with another home knows nothing of what this one has taken.
    pub home: Uuid,
    /// The connection: made anew at every connect.
    pub session: Uuid,
    /// The types it consumes.
    pub task_types: Vec<TaskType>,
    /// The types it is to consume and cannot now.
    pub refused: Vec<RefusedType>,
    /// Coming, staying or going.
    pub state: PresenceState,
    /// The interval it keeps; it is thought gone after three of them.
    pub interval: Duration,
    /// When it was sent, by the sender's clock. None from a version that did not tell.
    pub sent_at: Option<Timestamp>,
    /// Its version of the program.
    pub version: String,
    /// Why it takes no tasks although it is there, such as a full disk.
    pub trouble: Option<String>,
    /// Of a worker: how many tasks it performs at the same time, of all its types together; 0 while it takes
    /// no more.
    pub slots: Option<u32>,
    /// What it reads.
    pub reads: WireVersion,
    /// What it says of itself.
    pub labels: Labels,
    /// Whether its broker user may not declare anything: the API makes its queues, also those of refused
    /// types.
    pub restricted: bool,
    /// Messages that it has refused for their signatures since it told so last.
    pub refusals: BTreeMap<SealFault, u32>,
    /// Messages without a signature that it has taken since it told so last, where signatures are preferred.
    pub unsigned: u32,
    /// The number of the newest list of keys that count no more which it has; 0 before the first. None where
    /// such lists are not looked at.
    pub revocations: Option<u64>,
    /// Whether the broker has verified that the endpoint sent it. Not part of the message.
    pub proven: bool,
}

impl Presence {
    /// The shortest interval that is believed.
    pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
    /// The longest interval that is believed: nobody is thought there for ever.
    pub const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
    /// How far the clock of an endpoint may be off before that is trouble.
    pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
    /// Types at most.
    pub const TYPES: usize = 1000;
    /// Slots at most that are believed.
    pub const SLOTS: u32 = 10_000;
    /// Characters of its texts that are kept.
    pub const TEXT_LENGTH: usize = 255;
    /// Refused messages of one kind at most that are believed.
    pub const REFUSALS: u32 = 1_000_000;
}

/// A type whose queue a process cannot consume now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedType {
    /// The type.
    pub task_type: TaskType,
    /// Whether another process consumes the queue, and this one stands by to take over.
    pub held: bool,
    /// What the broker said.
    pub reason: String,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json;
    use proptest::prelude::*;

    fn finished(
        errnr: i32,
        errmsg: String,
        payload: Option<Json>,
        log: Option<String>,
        attempts: Vec<AttemptError>,
    ) -> ReportEvent {
        ReportEvent::Finished { errnr, errmsg, payload, attempt: 1, attempts, log, run: None }
    }

    #[test]
    fn an_answer_that_cannot_be_kept_fails_and_says_why() {
        let text = |text: String| serde_json::from_str::<Json>(&text).expect("JSON to this reader");
        for (answer, reason) in [
            (
                text(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
                "nested deeper than 128 levels",
            ),
            (text(r#"["\ud800"]"#.to_owned()), "lone surrogate"),
            (text("1e99999".to_owned()), "out of range"),
            (json(&"x".repeat(ReportEvent::PAYLOAD)), "8388610 bytes, the limit is 8388608"),
        ] {
            for (number, errmsg, wanted) in [(0, "", errnr::BAD_ANSWER), (3, "full", 3)] {
                let bounded =
                    finished(number, errmsg.to_owned(), Some(answer.clone()), Some("log".into()), vec![])
                        .bounded();
                let ReportEvent::Finished { errnr, errmsg: read, payload: None, log: Some(log), .. } =
                    bounded
                else {
                    panic!("{reason}: {number} is taken");
                };
                assert_eq!((errnr, log.as_str()), (wanted, "log"));
                assert!(read.starts_with(errmsg) && read.contains(reason), "{read}");
            }
        }
        let edge = json(&"x".repeat(ReportEvent::PAYLOAD - 2));
        assert!(matches!(
            finished(0, String::new(), Some(edge), None, vec![]).bounded(),
            ReportEvent::Finished { errnr: 0, payload: Some(_), .. }
        ));
    }

    proptest! {
        #[test]
        fn texts_are_cut_with_a_mark(unit in "[a-z\u{e9}\u{1f600}]{1,4}", times in 0usize..200_000, attempts in 0usize..300) {
            let text = unit.repeat(times);
            let attempt = AttemptError { attempt: 1, errnr: 1, errmsg: text.clone() };
            let bounded = finished(1, text.clone(), None, Some(text.clone()), vec![attempt; attempts.min(usize::from(text.len() < 9000) * 300)]);
            let ReportEvent::Finished { errmsg, log: Some(log), attempts, .. } = bounded.bounded() else { panic!("another event") };
            prop_assert!(attempts.len() <= ReportEvent::ATTEMPTS);
            prop_assert!(attempts.iter().all(|attempt| attempt.errmsg.len() <= ReportEvent::ATTEMPT_TEXT));
            prop_assert!(errmsg.len() <= ReportEvent::TEXT && log.len() <= ReportEvent::TEXT);
            if text.len() <= ReportEvent::TEXT {
                prop_assert!(errmsg == text && log == text);
            } else {
                let mark = format!("[cut: it had {} bytes]", text.len());
                prop_assert!(errmsg.ends_with(&mark) && log.starts_with(&mark));
                let (kept, last) = (errmsg.split_once('\n').expect("a mark").0, log.split_once('\n').expect("a mark").1);
                prop_assert!(text.starts_with(kept) && text.ends_with(last) && kept.len().min(last.len()) > ReportEvent::TEXT - 64);
            }
        }
    }
}
