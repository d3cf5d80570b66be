//! What workers call to come and go: registration, secrets, sign-on and sign-off, statuses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tasker::farm::{Request, TaskStatus, WorkerStatus};

use super::rig::{Rig, Worker, id, reqwest_client, send, task, until};
use super::server::Answer;

#[tokio::test]
async fn c01_registers_each_time_anew() -> Result<()> {
    let rig = Rig::start().await?;
    let body = json!({"secret": "very-secret", "platform": "linux", "supported_task_types": ["sleep"], "nickname": "a", "unknown": [1]});
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (status, text) =
            send(reqwest_client().post(format!("{}/register-worker", rig.url)).json(&body)).await?;
        ensure!(status == 200 && !text.contains("secret"), "{status} {text}");
        let answer: Value = serde_json::from_str(&text)?;
        ids.push(answer["_id"].as_str().context("an id")?.to_owned());
        ensure!(
            answer["status"] == ""
                && answer["status_requested"] == ""
                && answer["sleep_schedule"].is_object(),
            "{answer}"
        );
    }
    ensure!(
        ids[0] != ids[1]
            && ids.iter().all(|id| id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit())),
        "{ids:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c02_keeps_no_secret_and_lets_nobody_in_without() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.registered("a", &["sleep"]).await?;
    let kept = rig.farm.secret(worker.id.parse()?).await?.context("a hash")?;
    ensure!(!kept.windows(6).any(|part| part == b"secret"));
    ensure!(worker.post("sign-on", &json!({})).await?.0 == 204);
    for (user, password) in [(worker.id.clone(), "wrong"), (id(9), "x"), ("somebody".into(), "x")] {
        let request = reqwest_client().post(format!("{}/task", rig.url)).basic_auth(user, Some(password));
        let answer = request.send().await?;
        let header = answer.headers().get("WWW-Authenticate").context("a header")?.to_str()?.to_owned();
        ensure!(
            answer.status() == 401 && header == "Basic realm=\"Flamenco Manager\"",
            "{} {header}",
            answer.status()
        );
    }
    for header in [None, Some("Basic ???"), Some("Bearer x")] {
        let request = reqwest_client().post(format!("{}/sign-off", rig.url));
        let request = header.map_or_else(
            || request.try_clone().expect("no stream"),
            |header| request.try_clone().expect("no stream").header("Authorization", header),
        );
        ensure!(send(request).await?.0 == 401);
    }
    // A worker that was deleted is unknown.
    ensure!(rig.action(&worker, "action=forget-worker").await? == 204 && worker.ask().await?.0 == 401);
    Ok(())
}

#[tokio::test]
async fn c03_registers_with_a_token_where_one_is_needed() -> Result<()> {
    let rig = Rig::with("worker_registration_secret: ' shared '", |_| ()).await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let token = |secret: &str, from: f64| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({"alg": "HS256", "typ": "JWT"})),
            part(json!({"exp": from + 900.25, "iat": from}))
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
    };
    let register = async |header: Option<String>| {
        let request =
            reqwest_client().post(format!("{}/register-worker", rig.url)).json(&json!({"secret": "x"}));
        let request = header.map_or_else(
            || request.try_clone().expect("no stream"),
            |header| request.try_clone().expect("no stream").header("Authorization", header),
        );
        anyhow::Ok(send(request).await?.0)
    };
    for refused in [
        None,
        Some(token("other", now - 5.5)),
        Some(token("shared", now - 1000.5)),
        Some(token("shared", now + 500.5)),
    ] {
        ensure!(register(refused).await? == 403);
    }
    ensure!(rig.farm.workers().await?.is_empty());
    ensure!(register(Some(token("shared", now - 5.5))).await? == 200);
    Ok(())
}

#[tokio::test]
async fn c04_refuses_bad_json() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    for body in ["{\"nickname\":", "{\"nickname\": 3}", ""] {
        let post = |path: &str| {
            reqwest_client()
                .post(format!("{}/{path}", rig.url))
                .basic_auth(&worker.id, Some(&worker.secret))
                .body(body)
        };
        ensure!(
            send(post("register-worker")).await?.0 == 400 && send(post("sign-on")).await?.0 == 400,
            "{body}"
        );
    }
    ensure!(rig.farm.workers().await?.len() == 1 && rig.record(&worker).await?.nickname == "a");
    Ok(())
}

#[tokio::test]
async fn c05_signs_on() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    ensure!(rig.record(&worker).await?.current_task.is_some());
    ensure!(worker.post("sign-on", &json!({})).await?.0 == 204);
    let record = rig.record(&worker).await?;
    ensure!(
        record.status == WorkerStatus::Starting
            && record.current_task.is_none()
            && record.task_types == ["sleep"]
    );
    ensure!(
        record.nickname == "a" && record.address == "127.0.0.1" && record.software == "Flamenco-Worker/2.5"
    );
    ensure!(rig.server.asked("update").is_empty());
    Ok(())
}

#[tokio::test]
async fn c06_tells_the_server_of_changed_types() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.worker("b", &["debug", "sleep"]).await?;
    let tries = std::sync::atomic::AtomicU32::new(0);
    rig.server.answers(move |asked| {
        let first = asked.call() == "update" && tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        first.then(|| Answer::empty(500))
    });
    ensure!(
        worker
            .post("sign-on", &json!({"supported_task_types": ["video-encoding", "sleep"], "nickname": "c"}))
            .await?
            .0
            == 204
    );
    let notices = rig.server.until_asked("update", 2).await?;
    let notice = notices[1].json();
    ensure!(
        notice["worker_task_types"] == json!(["debug", "sleep", "video-encoding"])
            && notice["nr_of_workers"] == 2,
        "{notice}"
    );
    ensure!(rig.record(&worker).await?.nickname == "c");
    Ok(())
}

#[tokio::test]
async fn c29_c30_may_run() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[task(1, &json!({})), task(2, &json!({}))]).await?;
    a.gets(1).await?;
    let assigned = rig.task(1).await?.last_worker_ping;
    ensure!(a.may_run(1).await? == json!({"may_keep_running": true}));
    let pinged = rig.task(1).await?.last_worker_ping;
    ensure!(pinged > assigned, "{pinged:?}");
    for (worker, number) in [(&a, 9), (&b, 1), (&b, 2)] {
        let refused = worker.may_run(number).await?;
        ensure!(refused["may_keep_running"] == false && refused["reason"].is_string(), "{refused}");
        ensure!(refused.as_object().context("a map")?.len() == 2, "{refused}");
    }
    ensure!(rig.task(1).await?.last_worker_ping == pinged);
    let wrong = Worker { secret: "wrong".into(), ..a.clone() };
    let (status, body) = wrong.get(&format!("may-i-run/{}", id(1))).await?;
    ensure!(status == 401 && body["may_keep_running"] == false, "{status} {body}");
    let (status, body) = a.get("may-i-run/xyz").await?;
    ensure!(status == 404 && body["may_keep_running"] == false, "{status} {body}");
    Ok(())
}

#[tokio::test]
async fn c31_lazy_and_immediate_requests() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    ensure!(rig.action(&worker, "action=set-status&status=asleep&lazy=true").await? == 204);
    ensure!(worker.may_run(1).await? == json!({"may_keep_running": true, "status_requested": "asleep"}));
    ensure!(worker.ask().await? == (423, json!({"status_requested": "asleep"})));
    ensure!(rig.action(&worker, "action=set-status&status=asleep&lazy=false").await? == 204);
    let refused = worker.may_run(1).await?;
    ensure!(refused["may_keep_running"] == false && refused["status_requested"] == "asleep", "{refused}");
    ensure!(rig.action(&worker, "action=set-status&status=offline").await? == 400);
    // Waking up ends no task, and is told by the next request for one.
    ensure!(rig.action(&worker, "action=set-status&status=awake").await? == 204);
    ensure!(worker.may_run(1).await?["may_keep_running"] == true);
    let refused = worker.may_run(7).await?;
    ensure!(refused["may_keep_running"] == false && refused.get("status_requested").is_none(), "{refused}");
    ensure!(worker.ask().await? == (423, json!({"status_requested": "awake"})));
    Ok(())
}

#[tokio::test]
async fn c32_acknowledgements() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    ensure!(rig.action(&worker, "action=set-status&status=asleep").await? == 204);
    ensure!(worker.get("status-change").await? == (200, json!({"status_requested": "asleep"})));
    ensure!(worker.post_nothing("ack-status-change/asleep").await?.0 == 204);
    ensure!(
        rig.record(&worker).await?.status == WorkerStatus::Asleep
            && worker.get("status-change").await?.0 == 204
    );
    ensure!(rig.action(&worker, "action=shutdown").await? == 204);
    ensure!(worker.post_nothing("ack-status-change/shutdown").await?.0 == 204);
    ensure!(rig.record(&worker).await?.requested == Some(Request::Shutdown));
    ensure!(worker.post_nothing("ack-status-change/testing").await?.0 == 204);
    let record = rig.record(&worker).await?;
    ensure!(record.status == WorkerStatus::Testing && record.requested.is_none());
    ensure!(
        worker.ask().await?.0 == 204 && rig.record(&worker).await?.status == WorkerStatus::Testing,
        "tests go on"
    );
    Ok(())
}

#[tokio::test]
async fn c33_signs_off() -> Result<()> {
    let rig = Rig::start().await?;
    let (a, b) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    rig.tasks(&[task(1, &json!({}))]).await?;
    a.gets(1).await?;
    ensure!(a.post_nothing("sign-off").await?.0 == 204);
    ensure!(rig.status(1).await? == TaskStatus::ClaimedByManager);
    let record = rig.record(&a).await?;
    ensure!(record.status == WorkerStatus::Offline && record.requested.is_none());
    let update = rig
        .server
        .until_update("the task that was given back", |update| update["task_status"] == "claimed-by-manager")
        .await?;
    ensure!(
        update["worker"] == "-" && update["activity"].is_string() && update["log_tail"].is_string(),
        "{update}"
    );
    b.gets(1).await?;
    for (ask, expected) in [
        ("", Some(Request::Asleep)),
        ("action=shutdown", Some(Request::Asleep)),
        ("action=set-status&status=awake", None),
    ] {
        ensure!(a.post_nothing("ack-status-change/asleep").await?.0 == 204);
        if !ask.is_empty() {
            ensure!(rig.action(&a, ask).await? == 204);
        }
        ensure!(a.post_nothing("sign-off").await?.0 == 204);
        ensure!(rig.record(&a).await?.requested == expected, "{ask}");
    }
    Ok(())
}

#[tokio::test]
async fn output_paths_methods_and_slashes() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    ensure!(worker.post("output-produced", &json!({"paths": ["/a.jpg"]})).await?.0 == 204);
    ensure!(worker.post("output-produced", &json!({"paths": []})).await?.0 == 422);
    ensure!(worker.post("output-produced", &json!({"paths": 3})).await?.0 == 400);
    ensure!(worker.get("task").await?.0 == 405 && worker.get("nowhere").await?.0 == 404);
    let answer = reqwest_client().get(format!("{}/may-i-run/{}/", rig.url, id(1))).send().await?;
    ensure!(
        answer.status() == 301 && answer.headers()["location"] == format!("/may-i-run/{}", id(1)).as_str()
    );
    let answer = reqwest_client().get(format!("{}/tasks/{}/redir-to-server", rig.url, id(1))).send().await?;
    ensure!(
        answer.status() == 307
            && answer.headers()["location"] == format!("{}flamenco/tasks/{}", rig.server.url, id(1)).as_str()
    );
    let plain = STANDARD.encode("x:y");
    ensure!(
        send(
            reqwest_client()
                .post(format!("{}/task", rig.url))
                .header("Authorization", format!("Basic {plain}"))
        )
        .await?
        .0 == 401
    );
    Ok(())
}

#[tokio::test]
async fn sleep_schedules_are_followed() -> Result<()> {
    let rig = Rig::with("", |settings| {
        settings.times.sleep = (Duration::from_millis(20), Duration::from_millis(20));
    })
    .await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    let set = async |body: &str, kind: &str| {
        let request = reqwest_client()
            .post(format!("{}/set-sleep-schedule/{}", rig.url, worker.id))
            .body(body.to_owned());
        anyhow::Ok(send(request.header("Content-Type", kind)).await?.0)
    };
    ensure!(set("{}", "text/plain").await? == 406 && set("{", "application/json").await? == 400);
    ensure!(set("{\"schedule_active\": true, \"time_start\": \"25:00\"}", "application/json").await? == 400);
    ensure!(
        set("{\"schedule_active\": true, \"time_start\": \"\", \"days_of_week\": \"\"}", "application/json")
            .await?
            == 204
    );
    until("the request", async || {
        Ok((rig.record(&worker).await?.requested == Some(Request::Asleep)).then_some(()))
    })
    .await?;
    ensure!(worker.ask().await?.0 == 423);
    Ok(())
}

#[tokio::test]
async fn workers_that_signed_off_long_ago_are_removed() -> Result<()> {
    let rig = Rig::with("worker_cleanup_max_age: 1ms", |settings| {
        (settings.times.grace, settings.times.removals) =
            (Duration::from_millis(20), Duration::from_millis(20));
    })
    .await?;
    let (gone, awake) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["sleep"]).await?);
    ensure!(awake.ask().await?.0 == 204 && gone.post_nothing("sign-off").await?.0 == 204);
    until("the removal", async || Ok(rig.farm.worker(gone.id.parse()?).await?.is_none().then_some(())))
        .await?;
    ensure!(gone.ask().await?.0 == 401, "it has to register anew");
    ensure!(rig.record(&awake).await?.status == WorkerStatus::Awake);
    Ok(())
}
