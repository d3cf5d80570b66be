//! `POST /workers/{name}/...`: for workers that reach nothing but this interface.
//!
//! Reports and presence go to the broker, as if the worker had published them there itself. Tasks are read
//! from the ledger, so any API process can answer, whoever gave them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::problem::Problem;
use super::{Answer, Api, ApiState, access, answer, segment};
use crate::broker::{Address, Message, wire};
use crate::contract::{self, ProblemCode, ProblemItem, TasksGiven, TasksWanted, WorkerReports};
use crate::domain::{Command, EndpointName, Presence, TaskId, TaskType, WireVersion, likeness};
use crate::publisher::Outgoing;
use crate::store::{Owed, StoreError};

/// The longest body: a report may hold an answer of the largest size, and what wraps it.
const LONGEST_BODY: usize = 16 << 20;
/// How long a worker may be kept waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often to look without being told: another process may have given the worker a task.
const LOOK: Duration = Duration::from_secs(1);
/// Tasks given at once.
const GIVEN: usize = 100;
/// Tasks read at once.
const PAGE: u32 = 100;
/// Tasks that a worker may say it has, and is told of in one answer, at most. More than it has slots: some
/// have ended, and their reports are under way.
const MOST_TOLD: usize = 20_000;
/// An answer that is longer ends with the page.
const ANSWER_BYTES: usize = 4 << 20;
/// Bytes of a command beside its payload, as a rule: a signed one with the certificate of its key.
const COMMAND_BYTES: usize = 1_300;
/// What workers are told, and report, in this interface: its lists are those of the requests. Welcomes alone
/// have the newest version that the worker reads; seals go by that version too.
const VERSION: WireVersion = WireVersion::One;
/// How long a message may lie with the broker that says that a worker is there.
const PRESENCE_LIVES: u32 = 3;

/// Takes in what a worker has to report about its tasks.
#[utoipa::path(
    post, path = "/workers/{name}/reports", operation_id = "reportTasks", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    request_body(content = WorkerReports, content_type = "application/json"),
    responses(
        (status = 204, description = "They are with the broker"),
        (status = 409, description = "`name_taken`: by an endpoint that gets its tasks through the broker", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`broker_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn reports(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let worker = worker(&request)?;
    let WorkerReports { reports } =
        api.read(&request, payload, LONGEST_BODY, |error| invalid("", error)).await?;
    sessions(&api, &worker).await?;
    let mut messages = Vec::with_capacity(reports.len());
    for (at, report) in reports.into_iter().enumerate() {
        let body = Bytes::from(Box::<str>::from(report).into_string());
        let pointer = format!("/reports/{at}");
        match wire::decode_report(&body) {
            Ok(report) if report.endpoint == worker => {
                access::check_types(&request, [&report.task_type])?;
                check_queues(&api, [&report.task_type], format!("{pointer}/type"))?;
                messages.push(Message { persistent: true, ..Message::new(Address::Responses, body) });
            }
            Ok(report) => return Err(invalid(pointer, format!("is a report of {}", report.endpoint))),
            Err(error) => return Err(invalid(pointer, error.to_string())),
        }
    }
    publish(&api, messages).await
}

/// Takes in that a worker is there.
#[utoipa::path(
    post, path = "/workers/{name}/presence", operation_id = "sayPresence", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    request_body(content = contract::WorkerPresence, content_type = "application/json"),
    responses(
        (status = 204, description = "It is with the broker"),
        (status = 409, description = "`name_taken`: by an endpoint that gets its tasks through the broker", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`broker_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn presence(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let worker = worker(&request)?;
    let message: Box<RawValue> =
        api.read(&request, payload, LONGEST_BODY, |error| invalid("", error)).await?;
    let body = Bytes::from(Box::<str>::from(message).into_string());
    let presence = wire::decode_presence(&body).map_err(|error| invalid("", error.to_string()))?;
    if presence.endpoint != worker {
        return Err(invalid("", format!("is presence of {}", presence.endpoint)));
    }
    access::check_types(&request, &presence.task_types)?;
    check_queues(&api, &presence.task_types, "/types")?;
    sessions(&api, &worker).await?;
    let expires_in = Some(presence.interval.saturating_mul(PRESENCE_LIVES));
    publish(&api, vec![Message { expires_in, ..Message::new(Address::Presence, body) }]).await
}

/// Gives a worker the tasks that are its own and it has not received, and tells it which to stop. Waits for
/// some if there are none.
#[utoipa::path(
    post, path = "/workers/{name}/tasks", operation_id = "fetchTasks", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    request_body(content = TasksWanted, content_type = "application/json"),
    responses(
        (status = 200, description = "What there is for the worker", body = TasksGiven),
        (status = 409, description = "`name_taken`: by an endpoint that gets its tasks through the broker", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_message`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waits`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn tasks(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let worker = worker(&request)?;
    let wanted: Arc<TasksWanted> =
        Arc::new(api.read(&request, payload, LONGEST_BODY, |error| invalid("", error)).await?);
    if wanted.types.is_empty() || wanted.types.len() > Presence::TYPES {
        return Err(invalid(
            "/types",
            format!("expected 1 to {} task types, got {}", Presence::TYPES, wanted.types.len()),
        ));
    }
    for (pointer, ids) in [("/known", &wanted.known), ("/stopped", &wanted.stopped)] {
        if ids.len() > MOST_TOLD {
            return Err(invalid(pointer, format!("expected at most {MOST_TOLD} tasks, got {}", ids.len())));
        }
    }
    access::check_types(&request, &wanted.types)?;
    check_queues(&api, &wanted.types, "/types")?;
    let until = Instant::now() + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
    let mut place = None;
    loop {
        let mut waiting = api.state.desk.subscribe(worker.clone());
        let sessions = sessions(&api, &worker).await?;
        let reads = reads(&wanted, &sessions);
        let (state, of, name) = (api.state.clone(), wanted.clone(), worker.clone());
        let commands = match reads {
            Some(reads) => api.run(async move { commands(&state, &name, &of, reads).await }).await?,
            None => Vec::new(),
        };
        // What has been read since is for a token that is still good.
        access::check_again(&api, &request)?;
        let left = until.saturating_duration_since(Instant::now());
        if !commands.is_empty() || left.is_zero() || api.stop.is_cancelled() {
            return answer(StatusCode::OK, &TasksGiven { commands }, 4096);
        }
        if place.is_none() {
            place = Some(api.waits.worker(access::token_id(&request), &worker)?);
        }
        tokio::select! {
            () = waiting.ended() => {}
            () = api.stop.cancelled() => {}
            () = tokio::time::sleep(left.min(LOOK)) => {}
        }
    }
}

/// What a worker reads that is there, with this session, for all the types that it names; none where it is
/// not.
fn reads(wanted: &TasksWanted, sessions: &Sessions) -> Option<WireVersion> {
    let one = |name| sessions.get(name).filter(|(session, _)| *session == wanted.session);
    let all: Option<Vec<_>> = wanted.types.iter().map(|name| one(name).map(|(_, reads)| *reads)).collect();
    all?.into_iter().min()
}

/// What there is to tell a worker, within bounds. What does not fit comes with a later answer, when some of
/// this has been received or has ended.
async fn commands(
    state: &ApiState,
    worker: &EndpointName,
    wanted: &TasksWanted,
    reads: WireVersion,
) -> Result<Vec<Box<RawValue>>, StoreError> {
    let mut commands = if wanted.all { welcomes(state, wanted, reads) } else { Vec::new() };
    let (known, stopped): (HashSet<TaskId>, HashSet<TaskId>) =
        (wanted.known.iter().copied().collect(), wanted.stopped.iter().copied().collect());
    let (mut after, mut bytes) = (None, 0);
    let most = if wanted.all { MOST_TOLD } else { GIVEN };
    loop {
        let page = state.store.owed_anew(worker, &wanted.types, wanted.all, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.task.id);
        for Owed { task, row } in page {
            let command = if task.status.is_final() {
                (!stopped.contains(&task.id)).then_some(Command::Cancel { task_id: task.id })
            } else {
                (wanted.all || !known.contains(&task.id)).then(|| {
                    Command::Task(Outgoing::from(task).message(row.home.is_some(), state.clock.now()))
                })
            };
            if let Some(command) = command {
                bytes += match &command {
                    Command::Task(task) => task.work.payload.get().len() + COMMAND_BYTES,
                    Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => {
                        COMMAND_BYTES
                    }
                };
                commands.push((command, VERSION));
            }
        }
        if commands.len() >= most || bytes >= ANSWER_BYTES {
            break;
        }
    }
    let commands = state.sealer.encode(commands, worker, reads).await;
    let raw =
        |body: Bytes| String::from_utf8(body.into()).ok().and_then(|text| RawValue::from_string(text).ok());
    Ok(commands.into_iter().filter_map(raw).collect())
}

/// The welcomes of a worker: one for each type, the first of them with the list of revoked keys; or one for
/// all types, where the worker knows no others.
fn welcomes(state: &ApiState, wanted: &TasksWanted, reads: WireVersion) -> Vec<(Command, WireVersion)> {
    let (session, presence_interval) = (wanted.session, state.config.endpoint.presence_interval);
    let welcome = |task_type, revocations| Command::Welcome {
        session,
        presence_interval,
        reads: VERSION,
        task_type,
        revocations,
    };
    if reads < WireVersion::Four {
        return vec![(welcome(None, None), VERSION)];
    }
    let lists = std::iter::once(state.sealer.revocations().cloned()).chain(std::iter::repeat(None));
    let types = wanted.types.iter().cloned();
    types.zip(lists).map(|(name, list)| (welcome(Some(name), list), WireVersion::Four)).collect()
}

/// For each type of a worker its session and what that reads.
type Sessions = HashMap<TaskType, (Uuid, WireVersion)>;

/// The types that a worker has said it is there for, each with its session. An endpoint that gets tasks of
/// its own through the broker is nobody who asks for them here: whoever came under its name would read them.
async fn sessions(api: &Api, worker: &EndpointName) -> Result<Sessions, Problem> {
    let (store, name) = (Arc::clone(&api.state.store), worker.clone());
    let sessions = api.run(async move { store.sessions(&name).await }).await?;
    match sessions
        .keys()
        .find(|name| api.state.config.policy(name).is_some_and(|policy| policy.queue.is_none()))
    {
        None => Ok(sessions),
        Some(other) => {
            let detail = format!(
                "`{worker}` is an endpoint that gets tasks of the type `{other}` through the broker: give the worker another name"
            );
            Err(Problem::new(ProblemCode::NameTaken, detail))
        }
    }
}

/// Refuses types that have no work queue: their tasks are not for workers.
fn check_queues<'a>(
    api: &Api,
    types: impl IntoIterator<Item = &'a TaskType>,
    pointer: impl Into<String>,
) -> Result<(), Problem> {
    let has_queue =
        |name: &&TaskType| api.state.config.policy(name).is_some_and(|policy| policy.queue.is_some());
    match types.into_iter().find(|name| !has_queue(name)) {
        None => Ok(()),
        Some(other) => {
            let queues = api.state.config.of_delivery(true).map(|policy| policy.name.as_str());
            Err(invalid(pointer, likeness::unknown("work queue", other.as_str(), "configured", queues).text))
        }
    }
}

fn worker(request: &HttpRequest) -> Result<EndpointName, Problem> {
    segment(request, 1)?.parse().map_err(|error| Problem::new(ProblemCode::BadPath, format!("{error}")))
}

fn invalid(pointer: impl Into<String>, message: String) -> Problem {
    Problem::invalid(ProblemCode::InvalidMessage, vec![ProblemItem::new(pointer, message)])
}

async fn publish(api: &Api, messages: Vec<Message>) -> Answer {
    let broker = api.state.broker.clone();
    let results = api.run(async move { Ok::<_, Problem>(broker.publish(messages).await) }).await?;
    match results.into_iter().find_map(Result::err) {
        None => Ok(HttpResponse::NoContent().finish()),
        Some(error) => Err(Problem::broker_unavailable(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::{Value, json};

    use crate::api::document;
    use crate::broker::wire;
    use crate::contract::TasksWanted;
    use crate::domain::{
        AttemptError, Command, Labels, Presence, PresenceState, RefusedType, Report, ReportEvent, TaskId,
        TaskMessage, TaskType, Timestamp, WireVersion, WorkPart, json as raw,
    };
    use uuid::Uuid;

    /// What a schema of the description has against a value.
    fn faults(schema: &str, value: &Value) -> Vec<String> {
        let mut document: Value = serde_json::from_str(&document()).expect("JSON");
        document["$ref"] = json!(format!("#/components/schemas/{schema}"));
        let validator =
            jsonschema::options().should_validate_formats(true).build(&document).expect("a schema");
        validator.iter_errors(value).map(|error| error.to_string()).collect()
    }

    fn value(body: &[u8]) -> Value {
        serde_json::from_slice(body).expect("JSON")
    }

    fn builds() -> TaskType {
        "builds".parse().expect("a type")
    }

    fn attempt() -> AttemptError {
        AttemptError { attempt: 1, errnr: 69, errmsg: "lost".to_owned() }
    }

    #[test]
    fn what_is_written_satisfies_the_description() {
        let presence = Presence {
            endpoint: "site7".parse().expect("a name"),
            instance: Uuid::new_v4(),
            home: Uuid::new_v4(),
            session: Uuid::new_v4(),
            task_types: vec![builds()],
            refused: vec![RefusedType { task_type: builds(), held: true, reason: "held".to_owned() }],
            state: PresenceState::Joined,
            interval: Duration::from_secs(10),
            sent_at: Some(Timestamp::from_micros(1_700_000_000_123_000)),
            version: "0.1.0".to_owned(),
            trouble: Some("disk full".to_owned()),
            slots: Some(4),
            reads: WireVersion::NEWEST,
            labels: Labels::default().with_platform(),
            restricted: false,
            refusals: BTreeMap::new(),
            unsigned: 0,
            revocations: None,
            proven: false,
        };
        let bare = Presence {
            labels: Labels::default(),
            refused: vec![],
            sent_at: None,
            trouble: None,
            slots: None,
            state: PresenceState::Alive,
            ..presence.clone()
        };
        let leaving = Presence { state: PresenceState::Leaving, ..bare.clone() };
        for presence in [presence, bare, leaving] {
            assert_eq!(
                faults("WorkerPresence", &value(&wire::encode_presence(&presence))),
                [""; 0],
                "{presence:?}"
            );
        }

        let finished = |payload, attempts, log, run| ReportEvent::Finished {
            errnr: 1,
            errmsg: "x".into(),
            payload,
            attempt: 2,
            attempts,
            log,
            run,
        };
        for event in [
            ReportEvent::Received,
            ReportEvent::Begun,
            ReportEvent::Canceled,
            ReportEvent::Progress { percent: 7 },
            finished(None, vec![], None, None),
            finished(
                Some(raw(&json!({"a": [1]}))),
                vec![attempt()],
                Some("line".to_owned()),
                Some(Uuid::new_v4()),
            ),
        ] {
            let report = Report {
                task_id: TaskId::new(),
                task_type: builds(),
                endpoint: "site7".parse().expect("a name"),
                home: Uuid::new_v4(),
                event,
            };
            let reports = json!({"reports": [value(&wire::encode_report(&report))]});
            assert_eq!(faults("WorkerReports", &reports), [""; 0], "{report:?}");
        }

        let task = TaskMessage {
            work: WorkPart {
                id: TaskId::new(),
                task_type: builds(),
                identifier: "a".parse().expect("an identifier"),
                audience: None,
                not_after: None,
                payload: raw(&json!({"branch": "main"})),
            },
            expires_in: Duration::from_secs(90),
            received: true,
            attempts: vec![attempt()],
        };
        let new = TaskMessage { received: false, attempts: vec![], ..task.clone() };
        for command in [
            Command::Task(task),
            Command::Task(new),
            Command::Cancel { task_id: TaskId::new() },
            Command::Welcome {
                session: Uuid::new_v4(),
                presence_interval: Duration::from_secs(10),
                reads: WireVersion::One,
                task_type: None,
                revocations: None,
            },
        ] {
            let given = json!({"commands": [value(&wire::encode_command(&command, WireVersion::One))]});
            assert_eq!(faults("TasksGiven", &given), [""; 0], "{command:?}");
        }

        let wanted = TasksWanted {
            session: Uuid::new_v4(),
            types: vec![builds()],
            all: true,
            known: vec![TaskId::new()],
            stopped: vec![],
            wait_ms: 5,
        };
        assert_eq!(faults("TasksWanted", &serde_json::to_value(wanted).expect("JSON")), [""; 0]);
    }

    #[test]
    fn the_description_refuses_what_is_refused() {
        for (schema, wrong) in [
            ("WorkerPresence", json!(null)),
            ("WorkerPresence", json!({"v": 1, "kind": "joined"})),
            ("WorkerReports", json!({"reports": [{"v": 1, "kind": "lost"}]})),
            ("WorkerReports", json!({"reports": [], "more": 1})),
            ("TasksWanted", json!({"types": []})),
        ] {
            assert_ne!(faults(schema, &wrong), [""; 0], "{schema} {wrong}");
        }
    }
}
