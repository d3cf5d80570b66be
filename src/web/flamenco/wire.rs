//! The JSON of Flamenco 2.x. Unknown keys are ignored, and what is missing or `null` is empty, as its other
//! programs have it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::farm::{
    Command, FailedBy, ObjectId, Progress, SleepSchedule, Task, TaskStatus, Timing, UNKNOWN_TYPE, Update,
    Variables, Worker, WorkerReport, optional_id,
};
use crate::store::farm::Barred;

/// Bytes of what a worker says it does; more is cut off.
const LONGEST_ACTIVITY: usize = 4096;
/// The longest type of a task or job.
const LONGEST_TYPE: usize = 190;

fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads an object. A list of its values is refused: it would be taken by their order.
pub(super) fn object<T: serde::de::DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    match body.trim_ascii_start().first() {
        Some(b'[') => Err(serde::de::Error::custom("expected an object, got a list")),
        _ => serde_json::from_slice(body),
    }
}

/// What a worker says to register.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Registration {
    #[serde(deserialize_with = "or_empty")]
    pub secret: String,
    #[serde(deserialize_with = "or_empty")]
    pub platform: String,
    #[serde(deserialize_with = "or_empty")]
    pub supported_task_types: Vec<String>,
    #[serde(deserialize_with = "or_empty")]
    pub nickname: String,
}

/// What a worker says to sign on.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SignOn {
    #[serde(deserialize_with = "or_empty")]
    pub supported_task_types: Vec<String>,
    #[serde(deserialize_with = "or_empty")]
    pub nickname: String,
}

/// The files that a worker has made.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Output {
    #[serde(deserialize_with = "or_empty")]
    pub paths: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MetricsIn {
    #[serde(deserialize_with = "or_empty")]
    timing: Timing,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReportIn {
    #[serde(deserialize_with = "or_empty")]
    task_status: String,
    #[serde(deserialize_with = "or_empty")]
    activity: String,
    #[serde(deserialize_with = "or_empty")]
    task_progress_percentage: i64,
    #[serde(deserialize_with = "or_empty")]
    current_command_idx: i64,
    #[serde(deserialize_with = "or_empty")]
    command_progress_percentage: i64,
    #[serde(deserialize_with = "or_empty")]
    log: String,
    metrics: Option<MetricsIn>,
}

/// What a worker says about a task. A status that nobody knows is left out: a report that is refused would
/// keep all later ones of the worker waiting.
pub(super) fn report_in(body: &[u8]) -> serde_json::Result<WorkerReport> {
    let mut report: ReportIn = object(body)?;
    if !report.log.is_empty() && !report.log.ends_with('\n') {
        report.log.push('\n');
    }
    // All of what the Server is told has to fit into a push.
    report.activity.truncate(report.activity.floor_char_boundary(LONGEST_ACTIVITY));
    Ok(WorkerReport {
        status: report.task_status.parse().ok(),
        raw_status: report.task_status,
        activity: report.activity,
        progress: Progress {
            task: report.task_progress_percentage,
            command: report.current_command_idx,
            in_command: report.command_progress_percentage,
        },
        log: report.log.into(),
        timing: report.metrics.map(|metrics| metrics.timing),
    })
}

#[derive(Deserialize)]
struct CommandIn {
    #[serde(default, deserialize_with = "or_empty")]
    name: String,
    #[serde(default, deserialize_with = "or_empty")]
    settings: Map<String, Value>,
}

#[derive(Deserialize)]
struct TaskIn {
    _id: ObjectId,
    #[serde(default, deserialize_with = "or_empty")]
    _etag: String,
    #[serde(default, with = "optional_id")]
    job: Option<ObjectId>,
    #[serde(default, with = "optional_id")]
    manager: Option<ObjectId>,
    #[serde(default, with = "optional_id")]
    project: Option<ObjectId>,
    #[serde(default, with = "optional_id")]
    user: Option<ObjectId>,
    #[serde(default, deserialize_with = "or_empty")]
    name: String,
    #[serde(default, deserialize_with = "or_empty")]
    status: String,
    #[serde(default, deserialize_with = "or_empty")]
    priority: i32,
    #[serde(default, deserialize_with = "or_empty")]
    job_priority: i32,
    #[serde(default, deserialize_with = "or_empty")]
    job_type: String,
    #[serde(default, deserialize_with = "or_empty")]
    task_type: String,
    #[serde(default, deserialize_with = "or_empty")]
    commands: Vec<CommandIn>,
    #[serde(default, deserialize_with = "or_empty")]
    log: String,
    #[serde(default, deserialize_with = "or_empty")]
    activity: String,
    #[serde(default, deserialize_with = "or_empty")]
    worker: String,
    #[serde(default, deserialize_with = "or_empty")]
    parents: Vec<ObjectId>,
    #[serde(default, deserialize_with = "or_empty")]
    failed_by_workers: Vec<FailedBy>,
    #[serde(default)]
    metrics: Option<MetricsIn>,
}

/// A task as the Server sends it.
pub(super) fn task_in(body: &[u8]) -> serde_json::Result<Task> {
    read_task(object(body)?)
}

fn read_task(task: TaskIn) -> serde_json::Result<Task> {
    use serde::de::Error;
    let status: TaskStatus = task.status.parse().map_err(serde_json::Error::custom)?;
    for (key, text) in [("task_type", &task.task_type), ("job_type", &task.job_type)] {
        if text.len() > LONGEST_TYPE {
            return Err(serde_json::Error::custom(format!(
                "{key} has {} bytes; at most {LONGEST_TYPE} can be kept",
                text.len()
            )));
        }
    }
    let commands = task.commands.into_iter().map(|command| {
        let settings = command.settings.into_iter().map(|(key, value)| (key, whole(value))).collect();
        Command { name: command.name, settings }
    });
    Ok(Task {
        id: task._id,
        etag: task._etag,
        status,
        job: task.job,
        manager: task.manager,
        project: task.project,
        user: task.user,
        name: task.name,
        priority: task.priority,
        job_priority: task.job_priority,
        job_type: task.job_type,
        task_type: if task.task_type.is_empty() { UNKNOWN_TYPE.to_owned() } else { task.task_type },
        commands: commands.collect(),
        log: task.log,
        activity: task.activity,
        worker: task.worker,
        parents: task.parents,
        failed_by: task.failed_by_workers,
        timing: task.metrics.map(|metrics| metrics.timing),
        worker_id: None,
        last_worker_ping: None,
        last_updated: None,
    })
}

/// The same value with whole numbers written without a fraction: workers look whether a number is one.
fn whole(value: Value) -> Value {
    /// Beyond it not every whole number is one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let fraction = number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT);
            fraction.map_or(Value::Number(number), |float| Value::from(float as i64))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(whole).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, whole(value))).collect())
        }
        other => other,
    }
}

/// The tasks of a download: those that can be read, and what is wrong with the others.
pub(super) fn download_in(body: &[u8]) -> serde_json::Result<(Vec<Task>, Vec<String>)> {
    #[derive(Deserialize)]
    struct Depsgraph {
        #[serde(default, deserialize_with = "or_empty")]
        depsgraph: Vec<Value>,
    }
    Ok(tasks_in(object::<Depsgraph>(body)?.depsgraph))
}

/// The tasks of a chunk, as [`download_in`].
pub(super) fn chunk_in(body: &[u8]) -> serde_json::Result<(Vec<Task>, Vec<String>)> {
    Ok(tasks_in(serde_json::from_slice::<Vec<Value>>(body)?))
}

fn tasks_in(values: Vec<Value>) -> (Vec<Task>, Vec<String>) {
    let (mut tasks, mut wrong) = (Vec::new(), Vec::new());
    for value in values {
        let id = value.get("_id").and_then(Value::as_str).unwrap_or("without an id").to_owned();
        match serde_json::from_value(value).and_then(read_task) {
            Ok(task) => tasks.push(task),
            Err(error) => wrong.push(format!("task {id}: {error}")),
        }
    }
    (tasks, wrong)
}

/// What the Server answers to a push.
pub(super) struct Pushed {
    /// Updates that it has.
    pub handled: Vec<ObjectId>,
    /// Tasks that it wants canceled.
    pub cancel: Vec<ObjectId>,
    /// Tasks of which it wants the logs, with their jobs.
    pub logs: Vec<(ObjectId, ObjectId)>,
}

/// Reads the answer to a push.
pub(super) fn pushed_in(body: &[u8]) -> serde_json::Result<Pushed> {
    #[derive(Deserialize)]
    struct LogIn {
        job: ObjectId,
        task: ObjectId,
    }
    #[derive(Deserialize)]
    struct PushedIn {
        #[serde(default, deserialize_with = "or_empty")]
        handled_update_ids: Vec<ObjectId>,
        #[serde(default, deserialize_with = "or_empty")]
        cancel_task_ids: Vec<ObjectId>,
        #[serde(default, deserialize_with = "or_empty")]
        upload_task_file_queue: Vec<LogIn>,
    }
    let pushed: PushedIn = object(body)?;
    let logs = pushed.upload_task_file_queue.into_iter().map(|log| (log.job, log.task)).collect();
    Ok(Pushed { handled: pushed.handled_update_ids, cancel: pushed.cancel_task_ids, logs })
}

/// An id, or nothing as an empty text.
fn id_out(id: Option<ObjectId>) -> Value {
    Value::String(id.map(|id| id.to_string()).unwrap_or_default())
}

/// A task as a worker gets it.
pub(super) fn task_out(task: &Task) -> Value {
    let commands: Vec<Value> = task
        .commands
        .iter()
        .map(|command| json!({"name": command.name, "settings": command.settings}))
        .collect();
    let out = json!({
        "_id": task.id,
        "job": id_out(task.job),
        "manager": id_out(task.manager),
        "project": id_out(task.project),
        "user": id_out(task.user),
        "name": task.name,
        "status": task.status.as_str(),
        "priority": task.priority,
        "job_priority": task.job_priority,
        "job_type": task.job_type,
        "task_type": task.task_type,
        "commands": commands,
    });
    with(
        out,
        [
            ("_etag", text_out(&task.etag)),
            ("log", text_out(&task.log)),
            ("activity", text_out(&task.activity)),
            ("worker", text_out(&task.worker)),
            ("parents", (!task.parents.is_empty()).then(|| json!(task.parents))),
            ("failed_by_workers", (!task.failed_by.is_empty()).then(|| json!(task.failed_by))),
            ("metrics", task.timing.as_ref().map(timing_out)),
        ],
    )
}

/// An object with these members besides, as far as there are values for them.
fn with<const N: usize>(mut object: Value, members: [(&'static str, Option<Value>); N]) -> Value {
    for (key, value) in members {
        if let Some(value) = value {
            object[key] = value;
        }
    }
    object
}

/// A text, unless it is empty.
fn text_out(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!(text))
}

/// How long the phases of a task took.
fn timing_out(timing: &Timing) -> Value {
    json!({"timing": timing})
}

/// An update as the Server gets it.
pub(super) fn update_out(update: &Update) -> Value {
    let out = json!({
        "_id": update.id,
        "task_id": update.task,
        "received_on_manager": update.queued_at,
        "task_progress_percentage": update.progress.task,
        "current_command_idx": update.progress.command,
        // The Server's own name for the same number.
        "current_command_index": update.progress.command,
        "command_progress_percentage": update.progress.in_command,
        "worker": update.worker,
    });
    with(
        out,
        [
            ("task_status", update.status.map(|status| json!(status.as_str()))),
            ("activity", text_out(&update.activity)),
            ("log_tail", update.log_tail.as_ref().map(|tail| json!(tail))),
            ("failed_by_workers", update.failed_by.as_ref().map(|failed_by| json!(failed_by))),
            ("metrics", update.timing.as_ref().map(timing_out)),
        ],
    )
}

/// A worker as it gets itself, and as people see it.
pub(super) fn worker_out(worker: &Worker) -> Value {
    let out = json!({
        "_id": worker.id,
        "nickname": worker.nickname,
        "platform": worker.platform,
        "address": worker.address,
        "software": worker.software,
        "status": worker.status.as_str(),
        "status_requested": worker.requested.map_or("", |request| request.as_str()),
        "lazy_status_request": worker.lazy,
        "supported_task_types": worker.task_types,
        "time_cost": 0,
        "sleep_schedule": worker.sleep,
    });
    with(
        out,
        [
            ("current_task", worker.current_task.map(|id| json!(id))),
            ("current_job", worker.current_job.map(|id| json!(id))),
            ("current_task_status", text_out(&worker.current_task_status)),
            ("current_task_updated", worker.current_task_updated.map(|time| json!(time))),
            ("last_activity", worker.last_activity.map(|time| json!(time))),
        ],
    )
}

/// What a worker is barred from, as people see it.
pub(super) fn barred_out(barred: &Barred) -> Value {
    json!({"_created": barred.since, "worker_id": barred.worker, "job_id": id_out(barred.job), "task_type": barred.task_type})
}

/// A sleep schedule as people send it.
pub(super) fn sleep_in(body: &[u8]) -> serde_json::Result<SleepSchedule> {
    Ok(object::<SleepSchedule>(body)?.tidied())
}

/// What the Server is told of this manager.
pub(super) fn notice_out(own_url: &str, variables: &Variables, workers: &[Worker]) -> Value {
    let types: std::collections::BTreeSet<&String> =
        workers.iter().flat_map(|worker| &worker.task_types).collect();
    let variables: BTreeMap<&String, Value> = variables
        .0
        .iter()
        .map(|(name, variable)| (name, json!({"direction": variable.direction, "values": variable.values})))
        .collect();
    json!({
        "_meta": {"version": 2},
        "manager_url": own_url,
        "variables": variables,
        "nr_of_workers": workers.len(),
        "worker_task_types": types,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use proptest::prelude::*;

    const ID: &str = "5e90d0000000000000000d01";

    fn task(more: &str) -> String {
        format!("{{\"_id\": \"{ID}\", \"status\": \"queued\"{more}}}")
    }

    #[test]
    fn numbers_stay_whole() {
        let read = task_in(
            task(r#", "commands": [{"name": "c", "settings": {"a": 3, "b": 1.0, "c": 0.5, "d": [2.0, {"e": -4.0}], "f": 1e300}}]"#)
                .as_bytes(),
        );
        let out = task_out(&read.expect("a task"))["commands"][0]["settings"].to_string();
        assert_eq!(out, r#"{"a":3,"b":1,"c":0.5,"d":[2,{"e":-4}],"f":1e+300}"#);
    }

    #[test]
    fn what_is_missing_or_null_is_empty() {
        let bare = task_in(task("").as_bytes()).expect("a task");
        let nulls = r#", "job": null, "user": "", "name": null, "commands": null, "parents": null, "priority": null, "failed_by_workers": null, "metrics": null, "_links": {}"#;
        assert_eq!(task_in(task(nulls).as_bytes()).expect("a task"), bare);
        assert_eq!(bare.task_type, "unknown");
        let out = task_out(&bare);
        let keys: Vec<_> = out.as_object().expect("a map").keys().cloned().collect();
        let expected = [
            "_id", "commands", "job", "job_priority", "job_type", "manager", "name", "priority", "project",
            "status", "task_type", "user",
        ];
        assert_eq!(keys, expected);
        assert_eq!(out["job"], "");
    }

    #[test]
    fn what_cannot_be_a_task_is_refused_alone() {
        for wrong in
            [r#", "job": "x""#, r#", "priority": "high""#, r#", "parents": ["x"]"#, r#", "commands": [3]"#]
        {
            assert!(task_in(task(wrong).as_bytes()).is_err(), "{wrong}");
        }
        assert!(task_in(format!("{{\"_id\": \"{ID}\", \"status\": \"running\"}}").as_bytes()).is_err());
        let body = format!("{{\"depsgraph\": [{}, {{\"_id\": 3}}, {}]}}", task(""), task(r#", "name": "b""#));
        let (tasks, wrong) = download_in(body.as_bytes()).expect("a download");
        assert_eq!((tasks.len(), wrong.len()), (2, 1));
        assert!(download_in(b"[]").is_err() && chunk_in(b"{}").is_err());
    }

    #[test]
    fn updates_say_only_what_there_is() {
        let id: ObjectId = ID.parse().expect("an id");
        let mut update = Update::new(id, Timestamp::from_micros(0));
        let keys = |update: &Update| {
            update_out(update).as_object().expect("a map").keys().cloned().collect::<Vec<_>>()
        };
        let always = [
            "_id",
            "command_progress_percentage",
            "current_command_idx",
            "current_command_index",
            "received_on_manager",
            "task_id",
            "task_progress_percentage",
            "worker",
        ];
        assert_eq!(keys(&update), always);
        update.timing = Some(Timing::new());
        assert_eq!(update_out(&update)["metrics"], json!({"timing": {}}), "never null");
    }

    #[test]
    fn answers_of_the_server_are_read() {
        let pushed = pushed_in(
            format!(
                "{{\"modified_count\": 1, \"handled_update_ids\": [\"{ID}\"], \"cancel_task_ids\": null}}"
            )
            .as_bytes(),
        )
        .expect("an answer");
        assert_eq!((pushed.handled.len(), pushed.cancel.len(), pushed.logs.len()), (1, 0, 0));
        assert!(
            pushed_in(b"{\"handled_update_ids\": [\"x\"]}").is_err()
                && pushed_in(b"").is_err()
                && pushed_in(b" []").is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_read_can_be_written_and_read_again(name in ".*", number in any::<f64>(), text in ".*", priority in any::<i32>()) {
            let settings = json!({"number": number, "text": text});
            let more = format!(", \"name\": {}, \"priority\": {priority}, \"commands\": [{{\"name\": \"c\", \"settings\": {settings}}}]", json!(name));
            let read = task_in(task(&more).as_bytes()).expect("a task");
            let again = task_in(task_out(&read).to_string().as_bytes()).expect("again");
            prop_assert_eq!(again, read);
        }
    }
}
