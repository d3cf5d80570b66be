//! The bytes of an item of a message: JSON with a version. `envelope` has the form of version 2 and puts
//! items into lists.
//!
//! An item of an unknown version or kind is refused, not guessed at: the caller puts it on the dead exchange
//! with the reason. Members that a version does not know are ignored, so that a newer sender may add some.
//!
//! Tasks are written in version 1 or 2, by what the receiver reads: `reads` in presence and in the welcome
//! says it. A withdrawal is written in version 3, and sent to those alone who read that. A welcome is written
//! in version 4 for those who read that, and then names its type. Everything else is written in version 1. A
//! command of any version may have a seal (`seal_form`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::envelope::{AudienceText, DeliveryForm, TaskIn, TaskOut, WorkForm};
use super::seal_form::{SealForm, with_seal};
use crate::contract::{self, PresenceKind, WorkerCommand, WorkerPresence, WorkerReport, WorkerReportHead};
use crate::domain::{
    AttemptError, Command, EndpointName, Identifier, Json, Labels, LogPiece, Presence, PresenceState,
    RefusedType, Report, ReportEvent, Revocations, Seal, TaskId, TaskMessage, TaskType, Timestamp,
    WireVersion, WorkPart, errnr, json_check::in_words,
};

/// The version of everything that is neither a task nor a withdrawal.
pub const VERSION: u32 = WireVersion::One.number() as u32;

/// Why a body is not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not JSON, or not of the form.
    #[error("not a message: {}", in_words(.0))]
    Form(#[from] serde_json::Error),
    /// Made by another version of the program.
    #[error("unsupported message version {found}; this program reads {reads}")]
    Version {
        /// What the message says.
        found: u32,
        /// What is read in its place.
        reads: &'static str,
    },
    /// Presence for no type, or for more than anybody performs.
    #[error("presence names {found} task types; expected 1 to {}", Presence::TYPES)]
    Types {
        /// How many it names.
        found: usize,
    },
    /// Of a kind that does not belong here.
    #[error("unknown kind of message `{found}`")]
    Kind {
        /// What the message says.
        found: String,
    },
}

/// What every message starts with. Read first: a message of another version need not have our members.
#[derive(Deserialize)]
struct Head {
    v: u32,
    kind: String,
}

/// The kind of a message of version 1.
///
/// # Errors
/// When it is none, or of another version.
pub fn kind(body: &[u8]) -> Result<String, WireError> {
    let Head { v, kind } = serde_json::from_slice(body)?;
    if v == VERSION { Ok(kind) } else { Err(another(v)) }
}

/// Of what is written in version 1 alone.
const fn another(found: u32) -> WireError {
    WireError::Version { found, reads: "version 1" }
}

/// Head and members of one message on the way out.
#[derive(Serialize)]
struct Tagged<'a, T> {
    v: u32,
    kind: &'a str,
    #[serde(flatten)]
    members: T,
}

/// The bytes of a message of version 1.
///
/// # Panics
/// When the members cannot be JSON: maps with other keys than strings.
pub fn encode(kind: &str, members: impl Serialize) -> Bytes {
    serde_json::to_vec(&Tagged { v: VERSION, kind, members })
        .expect("messages have string keys and finite numbers")
        .into()
}

/// A span as it travels.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The bytes of a message that says its version and kind itself.
fn bytes(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).expect("messages have string keys and finite numbers").into()
}

/// The bytes of a command with a seal, for a receiver that reads this version.
pub fn encode_sealed(command: &Command, version: WireVersion, seal: &Seal) -> Bytes {
    with_seal(&encode_command(command, version), seal)
}

/// The bytes of a command, for a receiver that reads this version.
pub fn encode_command(command: &Command, version: WireVersion) -> Bytes {
    let v = VERSION;
    bytes(&match command {
        Command::Task(task) if version >= WireVersion::Two => return encode_task(task),
        Command::Task(task) => {
            let TaskMessage { work, expires_in, received, attempts } = task.clone();
            let WorkPart { id, task_type, identifier, payload, audience: _, not_after: _ } = work;
            let expires_in_ms = millis(expires_in);
            WorkerCommand::Task { v, id, task_type, identifier, payload, expires_in_ms, received, attempts }
        }
        Command::Cancel { task_id } => WorkerCommand::Cancel { v, task_id: *task_id },
        Command::Withdraw { task_id } => {
            let members = CancelBody { task_id: *task_id };
            return bytes(&Tagged { v: WireVersion::Three.number().into(), kind: "withdraw", members });
        }
        Command::Welcome { session, presence_interval, reads, task_type, revocations } => {
            let (session, presence_interval_ms, reads) =
                (*session, millis(*presence_interval), (*reads).min(version).number().into());
            let task_type = task_type.clone().filter(|_| version >= WireVersion::Four);
            let (v, revocations) = match &task_type {
                None => (v, None),
                Some(_) => (WireVersion::Four.number().into(), revocations.clone()),
            };
            WorkerCommand::Welcome { v, session, presence_interval_ms, reads, task_type, revocations }
        }
    })
}

fn encode_task(TaskMessage { work, expires_in, received, attempts }: &TaskMessage) -> Bytes {
    let v = WireVersion::Two.number().into();
    let WorkPart { id, task_type, identifier, audience, not_after, payload } = work;
    let (audience, not_after_ms) = (audience.map(AudienceText), not_after.map(Timestamp::as_millis));
    let work = WorkForm { v, id: *id, task_type, identifier, audience, not_after_ms, payload };
    let attempts = (!attempts.is_empty()).then_some(attempts.as_slice());
    bytes(&TaskOut {
        v,
        kind: "task",
        work,
        delivery: DeliveryForm { expires_in_ms: millis(*expires_in), received: *received, attempts },
    })
}

/// The members of [`WorkerCommand::Task`].
#[derive(Deserialize)]
struct TaskBody {
    id: TaskId,
    #[serde(rename = "type")]
    task_type: TaskType,
    identifier: Identifier,
    payload: Json,
    expires_in_ms: u64,
    #[serde(default)]
    received: bool,
    #[serde(default)]
    attempts: Vec<AttemptError>,
}

/// The members of [`WorkerCommand::Cancel`], and of a withdrawal.
#[derive(Serialize, Deserialize)]
struct CancelBody {
    task_id: TaskId,
}

/// The members of [`WorkerCommand::Welcome`].
#[derive(Deserialize)]
struct WelcomeBody {
    session: Uuid,
    presence_interval_ms: u64,
    #[serde(default)]
    reads: u32,
}

/// The members of a welcome of version 4.
#[derive(Deserialize)]
struct TypedWelcome {
    session: Uuid,
    presence_interval_ms: u64,
    reads: u32,
    #[serde(rename = "type")]
    task_type: TaskType,
    #[serde(default)]
    revocations: Option<Arc<Revocations>>,
}

/// The command in these bytes.
///
/// # Errors
/// See [`WireError`]; never panics, whatever the bytes.
pub fn decode_command(item: &[u8]) -> Result<Command, WireError> {
    decode_versioned(item).map(|(command, _)| command)
}

/// The command in these bytes, and the version that it is written in.
///
/// # Errors
/// See [`WireError`]; never panics, whatever the bytes.
pub fn decode_versioned(item: &[u8]) -> Result<(Command, WireVersion), WireError> {
    let Head { v, kind } = serde_json::from_slice(item)?;
    decode_of(v, &kind, item)
}

/// What every command starts with, and its seal.
#[derive(Deserialize)]
struct SealedHead {
    v: u32,
    kind: String,
    seal: Option<SealForm>,
}

/// The command in these bytes, the version that it is written in, and its seal, which nobody has verified.
///
/// # Errors
/// See [`WireError`]; never panics, whatever the bytes.
pub fn decode_sealed(item: &[u8]) -> Result<(Command, WireVersion, Option<Seal>), WireError> {
    let SealedHead { v, kind, seal } = serde_json::from_slice(item)?;
    let (command, version) = decode_of(v, &kind, item)?;
    Ok((command, version, seal.map(Seal::from)))
}

/// A command of this version and kind.
fn decode_of(v: u32, kind: &str, item: &[u8]) -> Result<(Command, WireVersion), WireError> {
    match v {
        1 => decode_first(kind, item).map(|command| (command, WireVersion::One)),
        2 if kind == "task" => decode_task(item).map(|task| (Command::Task(task), WireVersion::Two)),
        3 if kind == "withdraw" => {
            let CancelBody { task_id } = serde_json::from_slice(item)?;
            Ok((Command::Withdraw { task_id }, WireVersion::Three))
        }
        4 if kind == "welcome" => {
            let TypedWelcome { session, presence_interval_ms, reads, task_type, revocations } =
                serde_json::from_slice(item)?;
            let (presence_interval, reads) =
                (Duration::from_millis(presence_interval_ms), WireVersion::up_to(reads));
            let task_type = Some(task_type);
            let welcome = Command::Welcome { session, presence_interval, reads, task_type, revocations };
            Ok((welcome, WireVersion::Four))
        }
        2..=4 => Err(WireError::Kind { found: kind.to_owned() }),
        found => Err(WireError::Version { found, reads: "versions 1 to 4" }),
    }
}

/// A task of version 2.
fn decode_task(item: &[u8]) -> Result<TaskMessage, WireError> {
    let TaskIn { work, delivery } = serde_json::from_slice(item)?;
    let WorkForm { v, id, task_type, identifier, audience, not_after_ms, payload } = work;
    if v != u32::from(WireVersion::Two.number()) {
        return Err(WireError::Version { found: v, reads: "a `work` of version 2" });
    }
    let (audience, not_after) =
        (audience.map(|AudienceText(audience)| audience), not_after_ms.map(Timestamp::from_millis));
    let work = WorkPart { id, task_type, identifier, audience, not_after, payload };
    let DeliveryForm { expires_in_ms, received, attempts } = delivery;
    Ok(TaskMessage {
        work,
        expires_in: Duration::from_millis(expires_in_ms),
        received,
        attempts: attempts.unwrap_or_default(),
    })
}

/// A command of version 1.
fn decode_first(kind: &str, item: &[u8]) -> Result<Command, WireError> {
    match kind {
        "task" => {
            let TaskBody { id, task_type, identifier, payload, expires_in_ms, received, attempts } =
                serde_json::from_slice(item)?;
            let work = WorkPart { id, task_type, identifier, audience: None, not_after: None, payload };
            Ok(Command::Task(TaskMessage {
                work,
                expires_in: Duration::from_millis(expires_in_ms),
                received,
                attempts,
            }))
        }
        "cancel" => serde_json::from_slice::<CancelBody>(item)
            .map(|body| Command::Cancel { task_id: body.task_id })
            .map_err(Into::into),
        "welcome" => {
            let WelcomeBody { session, presence_interval_ms, reads } = serde_json::from_slice(item)?;
            let (presence_interval, reads) =
                (Duration::from_millis(presence_interval_ms), WireVersion::up_to(reads));
            let (task_type, revocations) = (None, None);
            Ok(Command::Welcome { session, presence_interval, reads, task_type, revocations })
        }
        other => Err(WireError::Kind { found: other.to_owned() }),
    }
}

/// A [`WorkerReport`] of any kind: reports come by the thousand, so the bytes are read once.
#[derive(Deserialize)]
struct AnyReport<'a> {
    v: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    task_id: TaskId,
    #[serde(rename = "type")]
    task_type: TaskType,
    endpoint: EndpointName,
    home: Uuid,
    percent: Option<f64>,
    errnr: Option<i32>,
    #[serde(default)]
    errmsg: String,
    /// `null` is no answer, as for every reader of the API.
    payload: Option<Json>,
    attempt: Option<u32>,
    #[serde(default)]
    attempts: Vec<AttemptError>,
    log: Option<String>,
    first_line: Option<u64>,
    run: Option<Uuid>,
    begun: Option<bool>,
}

impl AnyReport<'_> {
    /// As a report of this version.
    fn read(self) -> Result<Report, WireError> {
        let Self { v, kind, task_id, task_type, endpoint, home, percent, errnr, errmsg, payload, .. } = self;
        let Self { attempt, attempts, log, first_line, run, begun, .. } = self;
        if v != VERSION {
            return Err(another(v));
        }
        let missing = |member| serde_json::Error::custom(format!("missing field `{member}`"));
        let event = match &*kind {
            "received" if begun == Some(true) => ReportEvent::Begun,
            "received" => ReportEvent::Received,
            "canceled" => ReportEvent::Canceled,
            // Lines of a log: for older versions, progress of 0 percent with members that they do not know.
            "progress" if first_line.is_some() => {
                let (first, text) = (first_line.unwrap_or_default(), log.ok_or_else(|| missing("log"))?);
                ReportEvent::Log(LogPiece { attempt: attempt.unwrap_or(1), first, text })
            }
            // As far as it can be shown; the cast ends at its limits.
            "progress" => ReportEvent::Progress { percent: percent.ok_or_else(|| missing("percent"))? as u8 },
            "finished" => {
                let (errnr, attempt) =
                    (errnr.ok_or_else(|| missing("errnr"))?, attempt.ok_or_else(|| missing("attempt"))?);
                ReportEvent::Finished { errnr, errmsg, payload, attempt, attempts, log, run }
            }
            other => return Err(WireError::Kind { found: other.to_owned() }),
        };
        Ok(Report { task_id, task_type, endpoint, home, event: event.bounded() })
    }
}

/// The bytes of a report.
pub fn encode_report(report: &Report) -> Bytes {
    let Report { task_id, task_type, endpoint, home, event } = report.clone();
    let head = WorkerReportHead { v: VERSION, task_id, task_type, endpoint, home };
    bytes(&match event {
        ReportEvent::Received => WorkerReport::Received { head, begun: false },
        // For older versions a receipt with a member that they do not know.
        ReportEvent::Begun => WorkerReport::Received { head, begun: true },
        ReportEvent::Canceled => WorkerReport::Canceled(head),
        ReportEvent::Progress { percent } => {
            WorkerReport::Progress { head, percent, attempt: None, first_line: None, log: None }
        }
        ReportEvent::Log(LogPiece { attempt, first, text }) => WorkerReport::Progress {
            head,
            percent: 0,
            attempt: Some(attempt),
            first_line: Some(first),
            log: Some(text),
        },
        ReportEvent::Finished { errnr, errmsg, payload, attempt, attempts, log, run } => {
            WorkerReport::Finished { head, errnr, errmsg, payload, attempt, attempts, log, run }
        }
    })
}

/// The report in these bytes, within the bounds of [`ReportEvent::bounded`]. One that says that a task has
/// finished, and not readably how, is a failure: the work was done, and its response must end.
///
/// # Errors
/// See [`WireError`]; never panics, whatever the bytes.
pub fn decode_report(body: &[u8]) -> Result<Report, WireError> {
    let error =
        match serde_json::from_slice::<AnyReport>(body).map_err(WireError::from).and_then(AnyReport::read) {
            Err(WireError::Form(error)) => error,
            read => return read,
        };
    match kind(body)?.as_str() {
        "finished" => {}
        "received" | "canceled" | "progress" => return Err(error.into()),
        other => return Err(WireError::Kind { found: other.to_owned() }),
    }
    let Ok(WorkerReportHead { task_id, task_type, endpoint, home, .. }) = serde_json::from_slice(body) else {
        return Err(error.into());
    };
    let event = ReportEvent::Finished {
        errnr: errnr::BAD_ANSWER,
        errmsg: format!("the report of its end cannot be read: {}", in_words(&error)),
        payload: None,
        attempt: 1,
        attempts: Vec::new(),
        log: None,
        run: None,
    };
    Ok(Report { task_id, task_type, endpoint, home, event })
}

/// What lies in the queue of presence.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly every message is the large one")]
pub enum Heard {
    /// The word of an endpoint.
    Presence(Presence),
    /// The word of the API process that reads the queue: all that lay before it has been read.
    Probe(Uuid),
}

/// The members of a probe.
#[derive(Serialize, Deserialize)]
struct ProbeBody {
    id: Uuid,
}

/// The bytes of a probe of the queue of presence.
pub fn encode_probe(id: Uuid) -> Bytes {
    encode("probe", ProbeBody { id })
}

/// The message of the queue of presence in these bytes.
///
/// # Errors
/// See [`WireError`]; never panics, whatever the bytes.
pub fn decode_heard(body: &[u8]) -> Result<Heard, WireError> {
    match kind(body)?.as_str() {
        "probe" => Ok(Heard::Probe(serde_json::from_slice::<ProbeBody>(body)?.id)),
        kind => presence_of(kind, body).map(Heard::Presence),
    }
}

/// The bytes of a presence message.
pub fn encode_presence(presence: &Presence) -> Bytes {
    let presence = presence.clone();
    let Presence {
        endpoint,
        instance,
        home,
        session,
        task_types: types,
        refused,
        state,
        interval,
        sent_at,
        version,
        trouble,
        slots,
        reads,
        labels,
        restricted,
        refusals,
        unsigned,
        revocations,
        proven: _,
    } = presence;
    let refusals = refusals.into_iter().map(|(fault, count)| (fault.as_str().to_owned(), count)).collect();
    let labels = labels.into();
    let refused = refused
        .into_iter()
        .map(|RefusedType { task_type, held, reason }| contract::RefusedType { task_type, held, reason })
        .collect();
    let kind = match state {
        PresenceState::Joined => PresenceKind::Joined,
        PresenceState::Alive => PresenceKind::Alive,
        PresenceState::Leaving => PresenceKind::Leaving,
    };
    let (v, interval_ms, sent_at_ms, reads) =
        (VERSION, millis(interval), sent_at.map(Timestamp::as_millis), reads.number().into());
    let message = WorkerPresence {
        v,
        kind,
        endpoint,
        instance,
        home,
        session,
        types,
        refused,
        interval_ms,
        sent_at_ms,
        version,
        trouble,
        slots,
        reads,
        labels,
        restricted,
        refusals,
        unsigned,
        revocations,
    };
    bytes(&message)
}

/// The presence in these bytes. What it says is believed within bounds: a longer interval, more slots and
/// longer texts are cut down.
///
/// # Errors
/// See [`WireError`]; never panics, whatever the bytes.
pub fn decode_presence(body: &[u8]) -> Result<Presence, WireError> {
    presence_of(&kind(body)?, body)
}

fn presence_of(kind: &str, body: &[u8]) -> Result<Presence, WireError> {
    let state = match kind {
        "joined" => PresenceState::Joined,
        "alive" => PresenceState::Alive,
        "leaving" => PresenceState::Leaving,
        other => return Err(WireError::Kind { found: other.to_owned() }),
    };
    let presence: WorkerPresence = serde_json::from_slice(body)?;
    let WorkerPresence {
        endpoint,
        instance,
        home,
        session,
        types: task_types,
        refused,
        interval_ms,
        sent_at_ms,
        version,
        trouble,
        slots,
        reads,
        labels,
        restricted,
        refusals,
        unsigned,
        revocations,
        ..
    } = presence;
    // Those of a newer version have no name here.
    let known = |(word, count): (String, u32)| Some((word.parse().ok()?, count.min(Presence::REFUSALS)));
    let refusals = refusals.into_iter().filter_map(known).collect();
    let unsigned = unsigned.min(Presence::REFUSALS);
    let types = task_types.len() + refused.len();
    if types == 0 || types > Presence::TYPES {
        return Err(WireError::Types { found: types });
    }
    let interval =
        Duration::from_millis(interval_ms).clamp(Presence::SHORTEST_INTERVAL, Presence::LONGEST_INTERVAL);
    let (version, trouble, slots) =
        (shortened(version), trouble.map(shortened), slots.map(|slots| slots.min(Presence::SLOTS)));
    let refused = refused.into_iter().map(|contract::RefusedType { task_type, held, reason }| RefusedType {
        task_type,
        held,
        reason: shortened(reason),
    });
    let refused = refused.collect();
    let (sent_at, reads, labels) =
        (sent_at_ms.map(Timestamp::from_millis), WireVersion::up_to(reads), Labels::believed(labels));
    Ok(Presence {
        endpoint,
        instance,
        home,
        session,
        task_types,
        refused,
        state,
        interval,
        sent_at,
        version,
        trouble,
        slots,
        reads,
        labels,
        restricted,
        refusals,
        unsigned,
        revocations,
        proven: false,
    })
}

/// A text of an endpoint's own, as much of it as is kept.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(Presence::TEXT_LENGTH) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Audience, BatchPath, Certificate, KeyId, Purpose, Recipients, SIGNATURE, SealFault, SealHead, json,
        json_check, statement, tree,
    };
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn report(event: ReportEvent) -> Report {
        Report {
            task_id: TaskId::new(),
            task_type: "backup".parse().expect("a type"),
            endpoint: "console1".parse().expect("an endpoint"),
            home: Uuid::new_v4(),
            event,
        }
    }

    #[test]
    fn a_task_keeps_its_payload_to_the_byte() {
        let text = r#"{"b":1.0,"a":12345678901234567890123, "s":"\u00e9"}"#;
        let payload: Json = serde_json::from_str(text).expect("JSON");
        let work = WorkPart {
            id: TaskId::new(),
            task_type: "worker".parse().expect("a type"),
            identifier: "é 1".parse().expect("an identifier"),
            audience: Some(Audience::All),
            not_after: Some(Timestamp::FIRST),
            payload,
        };
        let attempts = vec![AttemptError { attempt: 1, errnr: 69, errmsg: "lost".into() }];
        let task = Command::Task(TaskMessage {
            work,
            expires_in: Duration::from_secs(90),
            received: true,
            attempts,
        });
        for version in [WireVersion::One, WireVersion::Two] {
            let (read, of) = decode_versioned(&encode_command(&task, version)).expect("decodes");
            let Command::Task(read) = read else { panic!("another kind came back") };
            assert_eq!((read.work.payload.get(), of), (text, version));
        }
    }

    #[test]
    fn what_is_said_of_a_delivery_leaves_the_work_as_it_is() {
        #[derive(Deserialize)]
        struct Parts<'a> {
            #[serde(borrow)]
            work: &'a serde_json::value::RawValue,
        }
        let work = WorkPart {
            id: TaskId(Uuid::from_u128(7)),
            task_type: "worker".parse().expect("a type"),
            identifier: "é \"1\"".parse().expect("an identifier"),
            audience: Some(Audience::of(&["b".parse().expect("a name"), "a".parse().expect("a name")])),
            not_after: Some(Timestamp::from_micros(1_700_000_000_123_456)),
            payload: serde_json::from_str("{\n \"a\" : 1.0}").expect("JSON"),
        };
        let written = "{\"v\":2,\"id\":\"00000000-0000-0000-0000-000000000007\",\"type\":\"worker\",\"identifier\":\"é \\\"1\\\"\",\
            \"audience\":\"sha256:kRFp3arxRq_1OfWMJsSJrzuJLf8P4oPBwmTGWuWqWaI\",\"not_after_ms\":1700000000123,\"payload\":{\n \"a\" : 1.0}}";
        for (expires_in, received, attempts) in [(90, false, 0), (5, true, 2)] {
            let attempts = vec![AttemptError { attempt: 1, errnr: 69, errmsg: "lost".into() }; attempts];
            let task = TaskMessage {
                work: work.clone(),
                expires_in: Duration::from_secs(expires_in),
                received,
                attempts,
            };
            let item = encode_command(&Command::Task(task), WireVersion::Two);
            assert_eq!(serde_json::from_slice::<Parts>(&item).expect("JSON").work.get(), written);
        }
        let names = |names: &[&str]| {
            Audience::of(&names.iter().map(|name| name.parse().expect("a name")).collect::<Vec<_>>())
        };
        assert_eq!((names(&[]), names(&["a", "b"])), (Audience::All, work.audience.expect("one")));
        assert_ne!(names(&["ab"]), names(&["a", "b"]));
    }

    #[test]
    fn a_path_that_cannot_be_one_is_not_read() {
        let hashes = |count: usize| "A".repeat((count * 32 * 8).div_ceil(6));
        let read = |batch: &str| {
            let sig = "A".repeat(86);
            let item = format!(
                r#"{{"v":1,"kind":"cancel","task_id":"{}","seal":{{"by":"9f86d081884c7d65","at_ms":1,"until_ms":2,"to":"*","sig":"{sig}","batch":{batch}}}}}"#,
                Uuid::nil()
            );
            decode_sealed(item.as_bytes())
                .map(|(_, _, seal)| seal.expect("a seal").batch.map(|path| path.of()))
        };
        for (at, of, count) in [(0, 2, 1), (1, 2, 1), (4, 5, 1), (0, 5, 3), (255, 256, 8)] {
            let batch = format!(r#"{{"at":{at},"of":{of},"path":"{}"}}"#, hashes(count));
            assert_eq!(read(&batch).expect("a path"), Some(of), "{batch}");
        }
        assert_eq!(read("null").expect("none"), None);
        let of = |at: &str, of: &str, path: &str| format!(r#"{{"at":{at},"of":{of},"path":"{path}"}}"#);
        for batch in [
            // Too long, too short, and no whole hashes.
            of("0", "2", &hashes(2)),
            of("0", "5", &hashes(2)),
            of("0", "2", ""),
            of("0", "2", &hashes(1)[1..]),
            of("0", "257", &hashes(9)),
            of("0", "256", &hashes(100_000)),
            // No such place.
            of("2", "2", &hashes(1)),
            of("0", "1", ""),
            of("0", "0", ""),
            of("-1", "2", &hashes(1)),
            of("0.5", "2", &hashes(1)),
            of("0", "18446744073709551615", &hashes(64)),
            of("18446744073709551616", "2", &hashes(1)),
            // Not base64url.
            of("0", "2", &format!("+{}", &hashes(1)[1..])),
            of("0", "2", &format!("{}=", hashes(1))),
            of("0", "2", "é"),
            r#"{"at":0,"of":2}"#.to_owned(),
            format!(r#"{{"of":2,"path":"{}"}}"#, hashes(1)),
            r#""batch""#.to_owned(),
            "[]".to_owned(),
        ] {
            assert!(matches!(read(&batch), Err(WireError::Form(_))), "{}", &batch[..batch.len().min(90)]);
        }
    }

    #[test]
    fn commands_and_presence_come_back() {
        let session = Uuid::new_v4();
        for version in [WireVersion::One, WireVersion::Two] {
            let back = |command| decode_command(&encode_command(&command, version)).expect("decodes");
            let welcome = Command::Welcome {
                session,
                presence_interval: Duration::from_secs(10),
                reads: version,
                task_type: None,
                revocations: None,
            };
            assert!(
                matches!(back(welcome), Command::Welcome { session: read, reads, .. } if (read, reads) == (session, version))
            );
            let task_id = TaskId::new();
            assert!(
                matches!(back(Command::Cancel { task_id }), Command::Cancel { task_id: read } if read == task_id)
            );
            assert!(
                matches!(back(Command::Withdraw { task_id }), Command::Withdraw { task_id: read } if read == task_id)
            );
        }
        let presence = Presence {
            endpoint: "console1".parse().expect("an endpoint"),
            instance: Uuid::new_v4(),
            home: Uuid::new_v4(),
            session,
            task_types: vec!["worker".parse().expect("a type")],
            refused: vec![RefusedType {
                task_type: "backup".parse().expect("a type"),
                held: true,
                reason: "in use".into(),
            }],
            state: PresenceState::Leaving,
            interval: Duration::from_secs(10),
            sent_at: Some(Timestamp::from_micros(1_700_000_000_123_000)),
            version: "0.1.0".into(),
            trouble: Some("the disk is full".into()),
            slots: Some(3),
            reads: WireVersion::Two,
            labels: Labels::of([("site".to_owned(), "berlin".to_owned())]).expect("a label"),
            restricted: true,
            refusals: [(SealFault::Forged, 3)].into(),
            unsigned: 2,
            revocations: Some(0),
            proven: false,
        };
        assert_eq!(decode_presence(&encode_presence(&presence)).expect("decodes"), presence);
    }

    #[test]
    fn reports_come_back() {
        let attempts = vec![AttemptError { attempt: 1, errnr: 75, errmsg: "busy".into() }];
        let event = ReportEvent::Finished {
            errnr: 32,
            errmsg: "could not backup!".into(),
            payload: Some(json(&[1, 2])),
            attempt: 2,
            attempts: attempts.clone(),
            log: Some("line\n".into()),
            run: Some(Uuid::new_v4()),
        };
        let read = decode_report(&encode_report(&report(event))).expect("decodes");
        let ReportEvent::Finished { errnr: 32, payload: Some(payload), attempt: 2, attempts: read, .. } =
            read.event
        else {
            panic!("another event came back: {:?}", read.event);
        };
        assert_eq!((payload.get(), read), ("[1,2]", attempts));
        assert!(matches!(
            decode_report(&encode_report(&report(ReportEvent::Received))),
            Ok(Report { event: ReportEvent::Received, .. })
        ));
    }

    #[test]
    fn an_end_that_cannot_be_read_is_a_failure() {
        let read = |members: &str, kind: &str| {
            let id = Uuid::nil();
            let body = format!(
                r#"{{"v":1,"kind":"{kind}","task_id":"{id}","type":"worker","endpoint":"a","home":"{id}"{members}}}"#
            );
            decode_report(body.as_bytes()).map(|report| report.event)
        };
        for (members, reason) in [
            ("", "the member `errnr` is missing"),
            (r#","errnr":0"#, "the member `attempt` is missing"),
            (r#","errnr":1e99,"attempt":1"#, "invalid type"),
            (r#","errnr":4294967296,"attempt":1"#, "invalid value"),
            (r#","errnr":0,"attempt":1,"errmsg":"\ud800""#, "unexpected end of hex escape"),
            (r#","errnr":0,"attempt":1,"log":["x"]"#, "invalid type"),
            (r#","errnr":0,"errnr":1,"attempt":1"#, "is there twice"),
        ] {
            let event = read(members, "finished").expect("it tells whose end it is");
            let ReportEvent::Finished { errnr: errnr::BAD_ANSWER, errmsg, .. } = event else {
                panic!("{members}: {event:?}")
            };
            assert!(
                errmsg.starts_with("the report of its end cannot be read: ") && errmsg.contains(reason),
                "{members}: {errmsg}"
            );
        }
        let event = read(r#","errnr":0,"attempt":1,"payload":[1e400]"#, "finished").expect("decodes");
        assert!(
            matches!(event, ReportEvent::Finished { errnr: errnr::BAD_ANSWER, payload: None, .. }),
            "{event:?}"
        );
        for (percent, shown) in [("300", 100), ("-5", 0), ("41.9", 41), ("1e99", 100)] {
            let event = read(&format!(r#","percent":{percent}"#), "progress").expect("decodes");
            assert!(
                matches!(event, ReportEvent::Progress { percent } if percent == shown),
                "{percent}: {event:?}"
            );
        }
        assert!(matches!(read("", "progress"), Err(WireError::Form(_))));
        // Who it is about has to be readable.
        let anonymous =
            br#"{"v":1,"kind":"finished","task_id":"01a2225e-7492-755d-9b1b-06ba37a9ef55","type":"worker","errnr":0,"attempt":1}"#;
        assert!(matches!(decode_report(anonymous), Err(WireError::Form(_))));
    }

    #[test]
    fn presence_is_believed_within_bounds() {
        let said = |types: usize, interval_ms: u64, slots: u64, text: &str| {
            let types: Vec<String> = (0..types).map(|number| format!("type{number}")).collect();
            let id = Uuid::nil();
            let body = serde_json::json!({"v": 1, "kind": "alive", "endpoint": "a", "instance": id, "home": id, "session": id, "types": types,
                "interval_ms": interval_ms, "slots": slots, "version": text, "trouble": text});
            decode_presence(body.to_string().as_bytes())
        };
        let (hour, tenth) = (Duration::from_secs(3600), Duration::from_millis(100));
        for (interval_ms, interval) in
            [(0, tenth), (100, tenth), (3_600_000, hour), (1 << 63, hour), (u64::MAX, hour)]
        {
            let read = said(1, interval_ms, u64::from(u32::MAX), &"é".repeat(100_000)).expect("decodes");
            assert_eq!((read.interval, read.slots), (interval, Some(10_000)), "{interval_ms}");
            assert_eq!(
                [read.version, read.trouble.expect("a trouble")].map(|text| text.chars().count()),
                [255, 255]
            );
        }
        assert_eq!(said(1000, 1, 1, "").expect("decodes").task_types.len(), 1000);
        for types in [0, 1001] {
            assert!(matches!(said(types, 1, 1, ""), Err(WireError::Types { found }) if found == types));
        }
    }

    #[test]
    fn strangers_are_refused_with_the_reason() {
        assert!(matches!(
            decode_command(br#"{"v":5,"kind":"task"}"#),
            Err(WireError::Version { found: 5, .. })
        ));
        for other in [
            &br#"{"v":1,"kind":"dance"}"#[..],
            br#"{"v":1,"kind":"withdraw"}"#,
            br#"{"v":2,"kind":"welcome"}"#,
            br#"{"v":3,"kind":"task"}"#,
            br#"{"v":4,"kind":"task"}"#,
        ] {
            assert!(matches!(decode_command(other), Err(WireError::Kind { .. })));
        }
        let task = |work: &str| {
            let work = work.replace(
                '@',
                r#""id":"00000000-0000-0000-0000-000000000000","type":"worker","identifier":"1","payload":1"#,
            );
            decode_command(
                format!(r#"{{"v":2,"kind":"task","work":{{{work}}},"delivery":{{"expires_in_ms":1}}}}"#)
                    .as_bytes(),
            )
        };
        assert!(task(r#""v":2,@,"audience":"*","more":1"#).is_ok() && task(r#""v":2,@"#).is_ok());
        assert!(matches!(task(r#""v":3,@"#), Err(WireError::Version { found: 3, .. })));
        for wrong in ["@", r#""v":2,@,"audience":"me""#, r#""v":2,@,"audience":"sha256:AAAA""#, r#""v":2"#] {
            assert!(matches!(task(wrong), Err(WireError::Form(_))), "{wrong}");
        }
        for body in [
            &b""[..],
            b"{}",
            b"\xff\xfe",
            br#"{"v":1,"kind":"task","id":"x"}"#,
            br#"{"v":2,"kind":"task"}"#,
            br#"{"v":4,"kind":"welcome"}"#,
        ] {
            assert!(matches!(decode_command(body), Err(WireError::Form(_))));
        }
    }

    fn uuids() -> impl Strategy<Value = Uuid> {
        any::<u128>().prop_map(Uuid::from_u128)
    }

    fn names() -> impl Strategy<Value = (TaskType, EndpointName, Identifier)> {
        // Prefixed, so that no reserved name comes out.
        ("t[A-Za-z0-9_-]{0,63}", "[A-Za-z0-9._-]{1,128}", "[^\\p{Cc}]{1,191}")
            .prop_filter_map("a reserved name", |(a, b, c)| {
                Some((a.parse().ok()?, b.parse().ok()?, c.parse().ok()?))
            })
    }

    /// Any JSON text, with spaces and escapes as they come.
    fn payloads() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just(" true".to_owned()),
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?",
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            Just(r#""\u00e9\ud83d\ude00""#.to_owned()),
        ];
        let json = leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[ {}]", items.join(" ,"))),
                proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                    let members: Vec<_> = members
                        .into_iter()
                        .map(|(key, value)| format!("{}:{value}", serde_json::Value::from(key)))
                        .collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        });
        json.prop_map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    fn spans() -> impl Strategy<Value = Duration> {
        any::<u64>().prop_map(Duration::from_millis)
    }

    fn commands() -> impl Strategy<Value = Command> {
        let audience = prop_oneof![
            Just(None),
            Just(Some(Audience::All)),
            any::<[u8; 32]>().prop_map(|hash| Some(Audience::Listed(hash)))
        ];
        let work = (uuids(), names(), payloads(), audience, proptest::option::of(times())).prop_map(
            |(id, (task_type, _, identifier), payload, audience, not_after)| WorkPart {
                id: TaskId(id),
                task_type,
                identifier,
                audience,
                not_after,
                payload,
            },
        );
        let task =
            (work, spans(), any::<bool>(), attempts()).prop_map(|(work, expires_in, received, attempts)| {
                Command::Task(TaskMessage { work, expires_in, received, attempts })
            });
        let reads = prop_oneof![
            Just(WireVersion::One),
            Just(WireVersion::Two),
            Just(WireVersion::Three),
            Just(WireVersion::Four),
            Just(WireVersion::Five)
        ];
        let keys = proptest::collection::btree_set(any::<u64>(), 0..3);
        let revocations = (any::<u64>(), keys, any::<u8>()).prop_map(|(serial, keys, byte)| {
            let keys = keys.into_iter().map(|key| KeyId::of(&key.to_be_bytes())).collect();
            Arc::new(Revocations { serial, keys, signature: [byte; SIGNATURE] })
        });
        let of_type =
            proptest::option::of((names().prop_map(|(of, ..)| of), proptest::option::of(revocations)));
        prop_oneof![
            task,
            uuids().prop_map(|id| Command::Cancel { task_id: TaskId(id) }),
            uuids().prop_map(|id| Command::Withdraw { task_id: TaskId(id) }),
            (uuids(), spans(), reads, of_type).prop_map(|(session, presence_interval, reads, of_type)| {
                let (task_type, revocations) = of_type.unzip();
                let revocations = revocations.flatten();
                Command::Welcome { session, presence_interval, reads, task_type, revocations }
            }),
        ]
    }

    fn seals() -> impl Strategy<Value = Seal> {
        let tags = proptest::collection::vec(any::<[u8; 8]>(), 0..=Recipients::MOST);
        let to = prop_oneof![Just(Recipients::All), tags.prop_map(Recipients::Listed)];
        let signature = || {
            proptest::collection::vec(any::<u8>(), SIGNATURE)
                .prop_map(|bytes| <[u8; SIGNATURE]>::try_from(bytes).expect("64 bytes"))
        };
        let types = proptest::collection::vec(names().prop_map(|(task_type, ..)| task_type), 0..3);
        let purpose = prop_oneof![Just(Purpose::Tasks), Just(Purpose::Http)];
        let certificate = (any::<[u8; 32]>(), purpose, types, times(), times(), signature()).prop_map(
            |(public, purpose, types, not_before, not_after, signature)| Certificate {
                public,
                purpose,
                types,
                not_before,
                not_after,
                signature,
            },
        );
        let certificate = proptest::option::of(certificate);
        let batch = (2..=BatchPath::MOST, any::<prop::sample::Index>())
            .prop_map(|(of, at)| tree(vec![&b"a statement"[..]; of]).1.swap_remove(at.index(of)));
        let signed = (signature(), proptest::option::of(batch), certificate);
        (any::<u64>(), times(), times(), to, proptest::option::of(times()), signed).prop_map(
            |(key, issued_at, not_after, to, answers, (signature, batch, certificate))| Seal {
                head: SealHead { by: KeyId::of(&key.to_be_bytes()), issued_at, not_after, to, answers },
                signature,
                batch,
                certificate,
            },
        )
    }

    fn attempts() -> impl Strategy<Value = Vec<AttemptError>> {
        let attempt = (any::<u32>(), any::<i32>(), any::<String>())
            .prop_map(|(attempt, errnr, errmsg)| AttemptError { attempt, errnr, errmsg });
        proptest::collection::vec(attempt, 0..4)
    }

    fn events() -> impl Strategy<Value = ReportEvent> {
        use proptest::option::of;
        let answers = of(payloads().prop_filter("no answer", |payload| payload.get() != "null"));
        let answers = answers.prop_filter("refused", |answer| {
            answer.as_ref().is_none_or(|answer| json_check::check(answer.get().as_bytes()).is_ok())
        });
        let finished = (
            any::<i32>(),
            any::<String>(),
            answers,
            any::<u32>(),
            attempts(),
            of(any::<String>()),
            of(uuids()),
        );
        prop_oneof![
            Just(ReportEvent::Received),
            Just(ReportEvent::Begun),
            Just(ReportEvent::Canceled),
            (0u8..=100).prop_map(|percent| ReportEvent::Progress { percent }),
            (1u32..9, 0u64..99, "(.{0,9}\n){1,3}")
                .prop_map(|(attempt, first, text)| ReportEvent::Log(LogPiece { attempt, first, text })),
            finished.prop_map(|(errnr, errmsg, payload, attempt, attempts, log, run)| {
                ReportEvent::Finished { errnr, errmsg, payload, attempt, attempts, log, run }
            }),
        ]
    }

    /// To the millisecond.
    fn times() -> impl Strategy<Value = Timestamp> {
        (Timestamp::FIRST.as_micros() / 1000..=Timestamp::LAST.as_micros() / 1000)
            .prop_map(|ms| Timestamp::from_micros(ms * 1000))
    }

    fn presences() -> impl Strategy<Value = Presence> {
        let state = prop_oneof![
            Just(PresenceState::Joined),
            Just(PresenceState::Alive),
            Just(PresenceState::Leaving)
        ];
        let types = proptest::collection::vec(names(), 1..5);
        let text = || any::<String>().prop_map(shortened);
        let refused = proptest::collection::vec((names(), any::<bool>(), text()), 0..3);
        let texts = (text(), proptest::option::of(text()), proptest::option::of(0..=Presence::SLOTS));
        let spans = (100u64..=3_600_000).prop_map(Duration::from_millis);
        let times = (spans, proptest::option::of(times()));
        ([uuids(), uuids(), uuids()], names(), (types, refused), state, times, texts).prop_map(
            |(
                [instance, home, session],
                (_, endpoint, _),
                (types, refused),
                state,
                (interval, sent_at),
                (version, trouble, slots),
            )| {
                Presence {
                    endpoint,
                    instance,
                    home,
                    session,
                    task_types: types.into_iter().map(|(task_type, ..)| task_type).collect(),
                    refused: refused
                        .into_iter()
                        .map(|((task_type, ..), held, reason)| RefusedType { task_type, held, reason })
                        .collect(),
                    state,
                    interval,
                    sent_at,
                    version,
                    trouble,
                    slots,
                    reads: WireVersion::up_to(slots.unwrap_or(1)),
                    labels: Labels::default(),
                    restricted: false,
                    refusals: BTreeMap::default(),
                    unsigned: 0,
                    revocations: None,
                    proven: false,
                }
            },
        )
    }

    proptest! {
        // A payload has no equality of its own: what is printed of both sides shows every byte.
        #[test]
        fn every_command_comes_back(command in commands()) {
            let read = decode_command(&encode_command(&command, WireVersion::NEWEST))?;
            prop_assert_eq!(format!("{read:?}"), format!("{command:?}"));
            let old = decode_command(&encode_command(&command, WireVersion::One))?;
            prop_assert_eq!(format!("{old:?}"), format!("{:?}", command.in_version(WireVersion::One)));
        }

        /// A seal changes nothing for those who know none, and what it is of reads as it was signed.
        #[test]
        fn every_seal_comes_back(command in commands(), seal in seals()) {
            let place = "prod".parse().expect("an environment");
            for version in [WireVersion::One, WireVersion::Two, WireVersion::Four, WireVersion::Five] {
                let sealed = encode_sealed(&command, version, &seal);
                let (read, _, found) = decode_sealed(&sealed)?;
                prop_assert_eq!(found.as_ref(), Some(&seal));
                let bare = encode_command(&command, version);
                prop_assert_eq!(encode_command(&read, version), &bare);
                prop_assert!(decode_sealed(&bare)?.2.is_none());
                let (past, _) = decode_versioned(&sealed)?;
                prop_assert_eq!(encode_command(&past, version), bare);
                let signed = |command| statement::of_copy(&place, &seal.head, command);
                prop_assert_eq!(signed(&read), signed(&command.clone().in_version(version)));
            }
        }

        #[test]
        fn every_report_comes_back(event in events(), id in uuids(), home in uuids(), (task_type, endpoint, _) in names()) {
            let report = Report { task_id: TaskId(id), task_type, endpoint, home, event };
            let read = decode_report(&encode_report(&report))?;
            prop_assert_eq!(format!("{read:?}"), format!("{report:?}"));
        }

        #[test]
        fn every_presence_comes_back(presence in presences()) {
            prop_assert_eq!(decode_presence(&encode_presence(&presence))?, presence);
        }

        #[test]
        fn rubbish_never_panics(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = (decode_sealed(&body), decode_command(&body), decode_report(&body), decode_presence(&body), decode_heard(&body));
        }
    }
}
