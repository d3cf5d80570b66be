//! What people call, and programs that look after the farm.
//!
//! From this machine, by its local names, everybody may; from others only if
//! `user_authentication.disableSecurity` says so. A browser that was sent here by a page of somebody else's
//! may not.

use serde_json::{Value, json};
use url::form_urlencoded;

use super::log_files::Log;
use super::overview::{self, Overview};
use super::page;
use super::reply::{Reply, Request};
use super::route::PersonCall;
use super::site::Site;
use super::{test_job, wire};
use crate::domain::Authority;
use crate::farm::{InvalidObjectId, ObjectId, Request as Wanted, Worker, WorkerStatus};
use crate::request_body::Body;
use crate::store::Result;

/// What people may have done to a worker.
const ACTIONS: &str =
    "set-status, shutdown, ack-timeout, forget-worker, forget-blacklist-line, send-test-job";

/// Answers people.
pub(super) async fn answer(site: &Site, call: PersonCall, request: &Request, body: Body) -> Result<Reply> {
    match call {
        PersonCall::Page => Ok(page::render(&overview::take(site).await?, site.clock.now())),
        PersonCall::AsJson => {
            let overview = overview::take(site).await?;
            Ok(Reply::json(200, &as_json(site, &overview))
                .with("Cache-Control", "no-cache")
                .with("Connection", "close"))
        }
        PersonCall::Kick => {
            site.download.notify_one();
            Ok(Reply::text(200, "tasks are being fetched from the Server"))
        }
        PersonCall::LogFile { job, task } => log_file(site, job, task, request).await,
        PersonCall::WorkerAction(worker) => action(site, worker, &body).await,
        PersonCall::SleepSchedule(worker) => sleep_schedule(site, worker, request, &body).await,
        PersonCall::RedirectToServer(task) => Ok(redirect(site, task)),
    }
}

/// The answer to somebody who may not look after the farm.
pub(super) fn refused(site: &Site, call: PersonCall, request: &Request) -> Option<Reply> {
    if let PersonCall::RedirectToServer(_) = call {
        return None;
    }
    // By name as well: a page may have its own name resolved to this machine, and a proxy here sends what
    // comes from everywhere.
    let local_name = request.host.is_empty()
        || Authority::parse(request.host.as_bytes()).is_some_and(|host| host.is_local());
    let here = local_name && request.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    if !here && !site.settings.open_to_people {
        let why = "only this machine may look, as localhost; set user_authentication.disableSecurity to true to let everybody in your network";
        return Some(Reply::text(401, why));
    }
    let elsewhere = request
        .origin
        .as_ref()
        .is_some_and(|origin| origin.split_once("://").is_none_or(|(_, host)| host != request.host));
    elsewhere.then(|| Reply::text(403, "a page of another site sent this request"))
}

fn as_json(site: &Site, overview: &Overview) -> Value {
    let workers: Vec<Value> = overview
        .workers
        .iter()
        .map(|(worker, barred)| {
            let mut out = wire::worker_out(worker);
            out["blacklist"] = json!(barred);
            out
        })
        .collect();
    json!({
        "nr_of_workers": overview.workers.len(),
        "nr_of_tasks": overview.tasks,
        "upstream_queue_size": overview.updates,
        "version": env!("CARGO_PKG_VERSION"),
        "workers": workers,
        "manager_name": overview.name,
        "manager_mode": site.settings.mode,
        "server": {"name": site.settings.server.host_str().unwrap_or_default(), "url": overview.server},
    })
}

fn redirect(site: &Site, task: Option<ObjectId>) -> Reply {
    match task {
        Some(task) => {
            Reply::empty(307).with("Location", site.upstream.address(&format!("/flamenco/tasks/{task}")))
        }
        None => Reply::text(404, InvalidObjectId.to_string()),
    }
}

async fn log_file(
    site: &Site,
    job: Option<ObjectId>,
    task: Option<ObjectId>,
    request: &Request,
) -> Result<Reply> {
    let (Some(job), Some(task)) = (job, task) else { return Ok(Reply::text(404, "there is no such log")) };
    let whole = ["Wget/", "curl/"].iter().any(|program| request.user_agent.starts_with(program));
    let reply = |body| Reply {
        status: 200,
        headers: vec![("Content-Type", "text/plain; charset=utf-8".to_owned())],
        body,
    };
    Ok(match site.logs.read(job, task, whole).await {
        Ok(Some(Log::Text(text))) => reply(text),
        Ok(Some(Log::Compressed(bytes))) => reply(bytes).with("Content-Encoding", "gzip"),
        Ok(None) => Reply::text(404, "there is no such log"),
        Err(error) => {
            tracing::error!(%task, %error, "cannot read the log of a task");
            Reply::text(500, "the log cannot be read")
        }
    })
}

async fn action(site: &Site, worker: Option<ObjectId>, body: &Body) -> Result<Reply> {
    let Some(worker) = worker else { return Ok(no_worker_id()) };
    let Some(status) = site.farm.worker(worker).await?.map(|worker| worker.status) else {
        return Ok(Reply::text(404, format!("there is no worker {worker}")));
    };
    let fields: std::collections::HashMap<String, String> =
        form_urlencoded::parse(&body.bytes).into_owned().collect();
    let field = |name: &str| fields.get(name).map_or("", |value| &**value);
    let lazy = field("lazy") == "true";
    match field("action") {
        "set-status" => match Wanted::by_people(field("status")) {
            Ok(wanted) => ask_for(site, worker, wanted, lazy).await,
            Err(refused) => Ok(Reply::text(400, refused)),
        },
        "shutdown" => ask_for(site, worker, Wanted::Shutdown, lazy).await,
        "ack-timeout" => Ok(match site.farm.change_worker(worker, Worker::acknowledge_timeout).await? {
            Some((_, true)) => Reply::empty(204),
            _ => Reply::text(400, "this worker has not timed out"),
        }),
        "forget-worker" => {
            let lines = site.farm.remove_worker(worker, None, site.clock.now()).await?;
            site.logs.append(lines.unwrap_or_default()).await;
            Ok(Reply::empty(204))
        }
        "forget-blacklist-line" => match field("job_id").parse() {
            Ok(job) => match site.farm.admit_again(worker, job, field("task_type")).await? {
                true => Ok(Reply::empty(204)),
                false => Ok(Reply::text(400, "this worker is not barred from that")),
            },
            Err(error) => Ok(Reply::text(400, format!("job_id: {error}"))),
        },
        "send-test-job" if status != WorkerStatus::Testing => {
            Ok(Reply::text(400, "only a worker that was started with --test gets a test job"))
        }
        "send-test-job" => {
            let task = test_job::task(site.clock.now());
            site.farm.download(std::slice::from_ref(&task)).await?;
            Ok(Reply::text(
                200,
                format!("task {} waits for a worker that supports {}", task.id, task.task_type),
            ))
        }
        other => Ok(Reply::text(400, format!("unknown action {other:?} (expected: {ACTIONS})"))),
    }
}

async fn ask_for(site: &Site, worker: ObjectId, wanted: Wanted, lazy: bool) -> Result<Reply> {
    site.farm.change_worker(worker, move |worker| worker.request(wanted, lazy)).await?;
    Ok(Reply::empty(204))
}

fn no_worker_id() -> Reply {
    Reply::text(400, format!("the path ends with the id of a worker: {InvalidObjectId}"))
}

async fn sleep_schedule(
    site: &Site,
    worker: Option<ObjectId>,
    request: &Request,
    body: &Body,
) -> Result<Reply> {
    let Some(worker) = worker else { return Ok(no_worker_id()) };
    if request.content_type != "application/json" {
        return Ok(Reply::text(406, "the Content-Type must be application/json"));
    }
    let schedule = match wire::sleep_in(&body.bytes) {
        Ok(schedule) => schedule,
        Err(error) => return Ok(Reply::text(400, error.to_string())),
    };
    let changed = site.farm.change_worker(worker, move |worker| worker.sleep = schedule.clone()).await?;
    Ok(if changed.is_some() {
        Reply::empty(204)
    } else {
        Reply::text(404, format!("there is no worker {worker}"))
    })
}
