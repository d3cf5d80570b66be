//! What workers call.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::registration_token;
use super::reply::{Reply, Request};
use super::route::WorkerCall;
use super::secrets::{basic, hashed};
use super::site::Site;
use super::upstream::Check;
use super::wire::{self, Output, Registration, SignOn};
use crate::domain::Timestamp;
use crate::farm::{ObjectId, Task, TaskStatus, Worker, WorkerStatus};
use crate::request_body::Body;
use crate::store::Result;
use crate::store::farm::{Asked, Reported};

/// Tasks of one request of which the Server is asked whether they have changed.
const ROUNDS: usize = 3;

/// Answers a worker.
pub(super) async fn answer(
    site: &Site,
    worker: ObjectId,
    call: WorkerCall,
    request: &Request,
    body: Body,
) -> Result<Reply> {
    match call {
        WorkerCall::SignOn => sign_on(site, worker, request, &body).await,
        WorkerCall::SignOff => sign_off(site, worker).await,
        WorkerCall::Task => task(site, worker, request).await,
        WorkerCall::Update(task) => update(site, worker, task, request, body).await,
        WorkerCall::Return(task) => give_back(site, worker, task, request).await,
        WorkerCall::MayRun(task) => may_run(site, worker, task, request).await,
        WorkerCall::StatusChange => status_change(site, worker, request).await,
        WorkerCall::Acknowledge(status) => acknowledge(site, worker, status).await,
        // It does not become that: it ends, and signs off.
        WorkerCall::AcknowledgeShutdown => Ok(Reply::empty(204)),
        WorkerCall::OutputProduced => Ok(output_produced(&body)),
    }
}

/// The worker whose id and secret a request shows.
pub(super) async fn who(site: &Site, request: &Request) -> Result<Option<ObjectId>> {
    let Some((worker, secret)) = basic(request.authorization.as_deref()) else { return Ok(None) };
    let Some(kept) = site.farm.secret(worker).await? else { return Ok(None) };
    Ok(site.secrets.fits(worker, kept, secret).await.then_some(worker))
}

pub(super) fn unauthorized(call: WorkerCall) -> Reply {
    let why = "unknown worker, or wrong secret";
    let reply = match call {
        WorkerCall::MayRun(_) => Reply::json(401, &may_not(why)),
        _ => Reply::text(401, why),
    };
    reply.with("WWW-Authenticate", "Basic realm=\"Flamenco Manager\"")
}

/// The answer to a worker that has been deleted meanwhile.
fn gone(call: WorkerCall) -> Reply {
    let why = "this worker has been deleted";
    match call {
        WorkerCall::MayRun(_) => Reply::json(403, &may_not(why)),
        WorkerCall::Return(_) => Reply::json(403, &json!({"message": why})),
        _ => Reply::text(403, why),
    }
}

fn may_not(why: &str) -> Value {
    json!({"may_keep_running": false, "reason": why})
}

fn bad_json(error: &serde_json::Error) -> Reply {
    Reply::text(400, format!("the body is not the JSON that is expected here: {error}"))
}

/// The answer to a worker that may not register.
pub(super) fn refused_newcomer(site: &Site, request: &Request) -> Option<Reply> {
    let secret = site.settings.registration_secret.as_ref()?;
    let valid = registration_token::is_valid(
        request.authorization.as_deref(),
        secret.reveal(),
        seconds(site.clock.now()),
    );
    (!valid).then(|| Reply::text(403, "a token signed with the worker_registration_secret is needed"))
}

/// Registers a worker.
pub(super) async fn register(site: &Site, request: &Request, body: Body) -> Result<Reply> {
    let now = site.clock.now();
    let registration: Registration = match wire::object(&body.bytes) {
        Ok(registration) => registration,
        Err(error) => return Ok(bad_json(&error)),
    };
    let short = |text: &str, most| text.chars().take(most).collect::<String>();
    let mut worker = Worker::new(
        ObjectId::new(now),
        short(&registration.nickname, 1000),
        short(&registration.platform, 64),
        registration.supported_task_types,
    );
    // Until its next call it is known by its port too.
    worker.address = request
        .peer
        .map(|peer| std::net::SocketAddr::new(peer, request.peer_port).to_string())
        .unwrap_or_default();
    worker.software = short(&request.user_agent, 1000);
    let secret = tokio::task::spawn_blocking(move || hashed(&registration.secret)).await;
    let Ok(Ok(secret)) = secret else {
        return Ok(Reply::text(500, "the secret cannot be hashed: the system has no random bytes"));
    };
    site.farm.register(&worker, &secret).await?;
    tracing::info!(worker = %worker.id, nickname = %worker.nickname, "a worker has registered");
    Ok(Reply::json(200, &wire::worker_out(&worker)))
}

fn seconds(now: Timestamp) -> f64 {
    now.as_micros() as f64 / 1e6
}

async fn sign_on(site: &Site, worker: ObjectId, request: &Request, body: &Body) -> Result<Reply> {
    let sign_on: SignOn = match wire::object(&body.bytes) {
        Ok(sign_on) => sign_on,
        Err(error) => return Ok(bad_json(&error)),
    };
    let seen = site.seen(request);
    let change = move |worker: &mut Worker| {
        worker.seen(&seen);
        worker.sign_on(sign_on.supported_task_types.clone(), sign_on.nickname.clone())
    };
    let Some((worker, types_changed)) = site.farm.change_worker(worker, change).await? else {
        return Ok(gone(WorkerCall::SignOn));
    };
    tracing::info!(worker = %worker.identifier(), "a worker has signed on");
    if types_changed {
        site.types_changed.notify_one();
    }
    Ok(Reply::empty(204))
}

async fn sign_off(site: &Site, worker: ObjectId) -> Result<Reply> {
    let Some(lines) = site.farm.sign_off(worker, site.clock.now()).await? else {
        return Ok(gone(WorkerCall::SignOff));
    };
    site.logs.append(lines).await;
    Ok(Reply::empty(204))
}

async fn task(site: &Site, worker: ObjectId, request: &Request) -> Result<Reply> {
    let (each, all) = site.settings.times.check;
    let until = Instant::now() + all;
    for _ in 0..ROUNDS {
        let (worker, mut task) = match site.farm.ask(worker, &site.seen(request)).await? {
            Asked::Gone => return Ok(gone(WorkerCall::Task)),
            Asked::Told(request) => {
                return Ok(Reply::json(423, &json!({"status_requested": request.as_str()})));
            }
            Asked::NoTypes => return Ok(Reply::text(406, "this worker supports no type of task")),
            Asked::Nothing => {
                site.kick_for_idle();
                return Ok(Reply::empty(204));
            }
            Asked::Offered(offered) => *offered,
        };
        if !task.is_local()
            && has_changed(site, &task, each.min(until.saturating_duration_since(Instant::now()))).await?
        {
            continue;
        }
        // The log of an earlier run is put aside before anything of this one comes.
        if task.status != TaskStatus::Active {
            site.logs.rotate(task.job, task.id).await;
        }
        // Another worker may have got it after all, if this took long.
        let Some(assigned) = site.farm.assign(worker.id, task.id, site.clock.now()).await? else { continue };
        site.logs.append(vec![assigned.line]).await;
        tracing::info!(worker = %worker.identifier(), task = %task.id, again = assigned.again, "a task was handed out");
        task.status = TaskStatus::Active;
        site.settings.variables.expand_task(&mut task, &worker.platform);
        return Ok(Reply::json(200, &wire::task_out(&task)));
    }
    // The Server changes tasks faster than they can be looked at. It may want them canceled, and it has newer
    // ones.
    site.push.notify_one();
    site.download.notify_one();
    Ok(Reply::empty(204))
}

/// Asks the Server whether a task has changed, and keeps what it says.
async fn has_changed(site: &Site, task: &Task, within: std::time::Duration) -> Result<bool> {
    let check = match within.is_zero() {
        true => Check::Unknown("there is no time left to ask".to_owned()),
        false => site.upstream.check(task, within).await,
    };
    match check {
        Check::Same => Ok(false),
        Check::Unknown(reason) => {
            tracing::warn!(task = %task.id, why = %reason, "nobody knows whether this task has changed: it is handed out as it is");
            Ok(false)
        }
        Check::Changed(mut new) => {
            new.last_updated = Some(site.clock.now());
            site.farm.replace(&new).await?;
            Ok(true)
        }
        Check::Gone(reason) => {
            tracing::info!(task = %task.id, why = %reason, "this task is not to be handed out any more");
            site.farm.drop_task(task.id, site.clock.now()).await?;
            Ok(true)
        }
    }
}

async fn update(
    site: &Site,
    worker: ObjectId,
    task: Option<ObjectId>,
    request: &Request,
    mut body: Body,
) -> Result<Reply> {
    let Some(task) = task else { return Ok(Reply::text(404, "there is no such task")) };
    let report = match wire::report_in(&body.bytes) {
        Ok(report) => report,
        Err(error) => return Ok(bad_json(&error)),
    };
    // Its share stays taken, since the report holds the same log.
    body.bytes = Vec::new();
    if report.status.is_none() && !report.raw_status.is_empty() {
        tracing::warn!(%task, status = %report.raw_status, "a worker reported a status that nobody knows; it is left out");
    }
    match site.farm.report(worker, task, report, site.settings.failures, &site.seen(request)).await {
        Ok(Reported::Gone) => Ok(gone(WorkerCall::Update(None))),
        Ok(Reported::Unknown) => Ok(Reply::text(404, "there is no such task")),
        Ok(Reported::Taken) => Ok(Reply::text(409, "another worker has this task")),
        Ok(Reported::Accepted(lines)) => {
            site.logs.append(lines).await;
            Ok(Reply::empty(204))
        }
        // It would never be taken, and would keep all later reports of this worker waiting.
        Err(error) if error.is_row_fault() => {
            tracing::error!(%task, %error, "a report cannot be kept");
            Ok(Reply::text(409, "this report cannot be kept"))
        }
        Err(error) => Err(error),
    }
}

async fn give_back(
    site: &Site,
    worker: ObjectId,
    task: Option<ObjectId>,
    request: &Request,
) -> Result<Reply> {
    let unknown = || Reply::json(404, &json!({"message": "there is no such task"}));
    let Some(task) = task else { return Ok(unknown()) };
    let Some((known, lines)) = site.farm.give_back(worker, task, &site.seen(request)).await? else {
        return Ok(gone(WorkerCall::Return(None)));
    };
    site.logs.append(lines).await;
    Ok(if known { Reply::empty(204) } else { unknown() })
}

async fn may_run(site: &Site, worker: ObjectId, task: Option<ObjectId>, request: &Request) -> Result<Reply> {
    let Some(task) = task else { return Ok(Reply::json(404, &may_not("unknown task"))) };
    let Some(may_run) = site.farm.may_run(worker, task, &site.seen(request)).await? else {
        return Ok(gone(WorkerCall::MayRun(None)));
    };
    let mut body = json!({"may_keep_running": may_run.refused.is_none()});
    if let Some(reason) = &may_run.refused {
        body["reason"] = json!(reason);
    }
    // A worker that is refused and told to be awake would fetch tasks twice from then on; its next request
    // for a task tells it too.
    let awake = Some(crate::farm::Request::Awake);
    if let Some(requested) =
        may_run.requested.filter(|_| may_run.refused.is_none() || may_run.requested != awake)
    {
        body["status_requested"] = json!(requested.as_str());
    }
    Ok(Reply::json(200, &body))
}

async fn status_change(site: &Site, worker: ObjectId, request: &Request) -> Result<Reply> {
    let seen = site.seen(request);
    let Some((worker, ())) = site.farm.change_worker(worker, move |worker| worker.seen(&seen)).await? else {
        return Ok(gone(WorkerCall::StatusChange));
    };
    Ok(match worker.requested {
        Some(requested) => Reply::json(200, &json!({"status_requested": requested.as_str()})),
        None => Reply::empty(204),
    })
}

async fn acknowledge(site: &Site, worker: ObjectId, status: Option<WorkerStatus>) -> Result<Reply> {
    let Some(status) = status else {
        tracing::warn!(%worker, "a worker acknowledged a status that nobody knows; it stays what it is");
        return Ok(Reply::empty(204));
    };
    let changed = site.farm.change_worker(worker, move |worker| worker.acknowledge(status)).await?;
    Ok(if changed.is_some() { Reply::empty(204) } else { gone(WorkerCall::Acknowledge(Some(status))) })
}

/// Previews of output are not kept.
fn output_produced(body: &Body) -> Reply {
    match wire::object::<Output>(&body.bytes) {
        Ok(output) if output.paths.is_empty() => Reply::text(422, "paths is empty"),
        Ok(_) => Reply::empty(204),
        Err(error) => bad_json(&error),
    }
}
