//! The closed set of reasons why a task does not run, or how far it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{EndpointName, Task, TaskId, Timestamp, TokenName};

/// Declares the codes with their words, so that none can be left out of [`ReasonCode::ALL`].
macro_rules! codes {
    ($($(#[$meta:meta])* $code:ident = $word:literal,)+) => {
        /// Why a task does not run, as a word that programs may branch on. `docs/api.md` says what to do
        /// about each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ReasonCode {
            $($(#[$meta])* $code,)+
        }

        impl ReasonCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $word,)+
                }
            }
        }
    };
}

codes! {
    /// The broker has not confirmed the task yet.
    NotPublished = "not_published",
    /// No endpoint was subscribed when the task was submitted.
    NobodySubscribed = "nobody_subscribed",
    /// The endpoint does not have to perform the task.
    NotExpected = "not_expected",
    /// No endpoint of this name is known.
    NeverHeardOf = "never_heard_of",
    /// The endpoint is known and never subscribed to the type.
    NotSubscribed = "not_subscribed",
    /// The presence of the endpoint ended without a goodbye.
    EndpointGone = "endpoint_gone",
    /// The endpoint was stopped properly.
    EndpointStopped = "endpoint_stopped",
    /// The journal that has received the task does not have the endpoint's name any more.
    JournalGone = "journal_gone",
    /// The endpoint has nothing that performs the type.
    HandlerMissing = "handler_missing",
    /// The journal of the endpoint has no room for tasks.
    JournalFull = "journal_full",
    /// The journal of the endpoint cannot be written.
    JournalFailing = "journal_failing",
    /// The endpoint cannot read its file of labels. It takes tasks all the same.
    LabelsUnread = "labels_unread",
    /// The endpoint cannot consume its queue.
    BrokerRefused = "broker_refused",
    /// The endpoint was not invited for the type.
    NotInvited = "not_invited",
    /// The endpoint has refused a message for its signature.
    SignatureRefused = "signature_refused",
    /// The clock of the endpoint is wrong, so that it cannot judge signatures.
    ClockOff = "clock_off",
    /// Somebody has put a file on the server that keeps tasks from beginning.
    StopFile = "stop_file",
    /// The endpoint says that something else is wrong.
    EndpointTrouble = "endpoint_trouble",
    /// A second process of the endpoint's name, with another journal, is kept out.
    Fenced = "fenced",
    /// A second process of the endpoint's name stands by.
    StandsBy = "stands_by",
    /// The endpoint was sent the task, has not confirmed it, and is asked again.
    RetryAt = "retry_at",
    /// More persons have to sign it.
    WaitsForApproval = "waits_for_approval",
    /// Somebody has paused the queue.
    QueuePaused = "queue_paused",
    /// The task is not to begin before a time.
    WaitsForRunAt = "waits_for_run_at",
    /// As many tasks with its limit key run as may.
    LimitKeyHeld = "limit_key_held",
    /// As many tasks of its type run as may.
    LimitReached = "limit_reached",
    /// No worker takes tasks of the type.
    NoWorker = "no_worker",
    /// All workers of the type have as many tasks as they take.
    WorkersBusy = "workers_busy",
    /// Other tasks of the queue are before it.
    WaitsBehind = "waits_behind",
    /// The endpoint has received it and has not said that it has begun.
    Received = "received",
    /// The endpoint has received it and has not finished.
    Running = "running",
    /// It was canceled, and the endpoint has not confirmed that it stopped.
    Stopping = "stopping",
    /// It was performed without an error.
    Done = "done",
    /// It was performed, and an endpoint finished with an error.
    Failed = "failed",
    /// It was canceled.
    Canceled = "canceled",
    /// A newer task with its unique key has taken its place.
    Replaced = "replaced",
    /// Its time was over.
    Expired = "expired",
}

impl ReasonCode {
    /// A text for people that begins with the code: what an endpoint tells of its trouble.
    pub fn told(self, text: impl fmt::Display) -> String {
        format!("{}: {text}", self.as_str())
    }

    /// Whether an endpoint with this trouble takes no tasks. One that has several tells those first.
    pub const fn hinders(self) -> bool {
        !matches!(self, Self::LabelsUnread)
    }

    /// The code that the trouble of an endpoint begins with. Endpoints of older versions name none.
    pub fn of_trouble(trouble: &str) -> Self {
        let word = trouble.split_once(':').map_or("", |(word, _)| word);
        word.parse().unwrap_or(Self::EndpointTrouble)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReasonCode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(())
    }
}

/// One reason why a task does not run, or how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// What to branch on.
    pub code: ReasonCode,
    /// The same for people.
    pub text: String,
    /// Since when it holds; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub since: Option<Timestamp>,
    /// Facts of the ledger that show the reason.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    #[schema(required = false)]
    pub evidence: Evidence,
    /// What happens next by itself; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub next: Option<Next>,
}

/// What happens next by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Next {
    /// When; absent where it happens as soon as something else has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub at: Option<Timestamp>,
    /// What.
    pub what: String,
}

/// Facts that show that a reason holds. Each code has the members that make sense for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Evidence {
    /// The endpoint or worker that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub endpoint: Option<EndpointName>,
    /// The token with which somebody paused the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub by: Option<TokenName>,
    /// Tasks that hold the limit key, or the task that has taken the place; some of them where there are
    /// many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<uuid::Uuid>, required = false)]
    pub tasks: Vec<TaskId>,
    /// How many tasks run at the same time at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub limit: Option<u32>,
    /// How many of them run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub running: Option<u32>,
    /// How many tasks are before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub ahead: Option<u32>,
    /// Whether there are more than `ahead` says: they are counted up to 10,000.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub more: bool,
    /// How many workers are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub workers: Option<u32>,
    /// How many tasks they perform at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub slots: Option<u32>,
    /// How often the task was sent or asked for, or how many attempts were lost with their worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub attempts: Option<u32>,
    /// The error number of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub errnr: Option<i32>,
    /// Percent done, as the handler last said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub progress: Option<u8>,
    /// When the endpoint had received it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub received_at: Option<Timestamp>,
    /// What the endpoint says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub trouble: Option<String>,
    /// The known name that is most like the unknown one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub suggestion: Option<String>,
}

impl Evidence {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Reason {
    pub(super) fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), since: None, evidence: Evidence::default(), next: None }
    }

    /// That a task waits for persons to sign it, and for whom.
    pub fn waits_for_approval(text: String, task: &Task) -> Self {
        Self::new(ReasonCode::WaitsForApproval, text)
            .since(task.start_time)
            .then(task.expires_at, "the task expires, unless `tasker approve` has added what it lacks")
    }

    pub(super) fn since(self, since: impl Into<Option<Timestamp>>) -> Self {
        Self { since: since.into(), ..self }
    }

    pub(super) fn with(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }

    pub(super) fn then(self, at: impl Into<Option<Timestamp>>, what: &str) -> Self {
        Self { next: Some(Next { at: at.into(), what: what.to_owned() }), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_json_and_read_back() {
        for code in ReasonCode::ALL {
            assert_eq!(serde_json::to_string(code).expect("JSON"), format!("\"{code}\""));
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!("".parse::<ReasonCode>(), Err(()));
    }

    #[test]
    fn trouble_begins_with_its_code() {
        let told = ReasonCode::JournalFull.told("no room: none at all");
        assert_eq!(
            (told.as_str(), ReasonCode::of_trouble(&told)),
            ("journal_full: no room: none at all", ReasonCode::JournalFull)
        );
        for text in ["", "disk full", "what: ever", "journal_full"] {
            assert_eq!(ReasonCode::of_trouble(text), ReasonCode::EndpointTrouble, "{text}");
        }
    }

    #[test]
    fn only_what_is_known_is_written() {
        let reason = Reason::new(ReasonCode::Done, "over");
        assert_eq!(serde_json::to_string(&reason).expect("JSON"), r#"{"code":"done","text":"over"}"#);
        let reason = reason
            .with(Evidence { ahead: Some(10_000), more: true, ..Evidence::default() })
            .then(None, "this");
        let text = serde_json::to_string(&reason).expect("JSON");
        assert_eq!(
            text,
            r#"{"code":"done","text":"over","evidence":{"ahead":10000,"more":true},"next":{"what":"this"}}"#
        );
        assert_eq!(serde_json::from_str::<Reason>(&text).expect("reads what it writes"), reason);
    }
}
