//! What the manager asks and tells the Server.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tasker::farm::TaskStatus;
use tokio::time::Instant;

use super::rig::{JOB, MANAGER, Rig, id, task, until};
use super::server::{Answer, acknowledged};

#[tokio::test]
async fn c07_tells_of_its_start_until_the_server_knows() -> Result<()> {
    let mut rig = Rig::start().await?;
    rig.server.until_asked("startup", 1).await?;
    let count = AtomicUsize::new(0);
    rig.server.answers(move |asked| {
        let first = asked.call() == "startup" && count.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| Answer::empty(503))
    });
    rig.restart().await?;
    let told = rig.server.until_asked("startup", 3).await?;
    let (last, body) = (&told[2], told[2].json());
    ensure!(last.path == format!("/api/flamenco/managers/{MANAGER}/startup") && last.method == "POST");
    ensure!(last.headers["authorization"] == format!("Basic {}", STANDARD.encode("mgr-secret:")));
    ensure!(
        body["_meta"]["version"] == 2
            && body["nr_of_workers"] == 0
            && body["worker_task_types"] == json!([])
            && body["variables"].is_object()
    );
    // Once it knows, it is not told again: the next tries would have come by now.
    tokio::time::sleep(Duration::from_millis(250)).await;
    ensure!(rig.server.asked("startup").len() == 3);
    Ok(())
}

#[tokio::test]
async fn c08_downloads_what_is_new() -> Result<()> {
    let mut rig = Rig::start().await?;
    let first = rig.server.until_asked("depsgraph", 1).await?;
    ensure!(!first[0].headers.contains_key("x-flamenco-if-updated-since"));
    let time = "2026-03-02T09:14:58.120000+00:00";
    rig.server.answers(move |asked| {
        (asked.call() == "depsgraph").then(|| {
            let answer = Answer::json(&json!({"depsgraph": [task(1, &json!({})), {"_id": "broken"}]}));
            Answer { headers: vec![("X-Flamenco-Last-Updated", time.to_owned())], ..answer }
        })
    });
    rig.kick().await?;
    until("the note", async || rig.farm.note("depsgraph-last-modified").await.map_err(Into::into)).await?;
    let before = rig.task(1).await?;
    // What says nothing, what fails and what cannot be read leaves all as it is, whatever else it brings.
    let changed =
        json!({"depsgraph": [task(1, &json!({"name": "changed"})), task(2, &json!({}))]}).to_string();
    for (status, body) in [
        (204, ""),
        (304, ""),
        (500, &*changed),
        (302, &changed),
        (200, "{\"depsgraph\": 3}"),
        (200, "{\"depsgraph\": ["),
    ] {
        let body = body.to_owned();
        rig.server.answers(move |asked| {
            let headers = vec![("X-Flamenco-Last-Updated", "other".to_owned())];
            (asked.call() == "depsgraph").then(|| Answer {
                headers,
                body: body.clone(),
                ..Answer::empty(status)
            })
        });
        for _ in 0..2 {
            // The second download comes once the first one has been looked at.
            let count = rig.server.asked("depsgraph").len();
            rig.kick().await?;
            let asked = rig.server.until_asked("depsgraph", count + 1).await?;
            ensure!(asked.last().context("one")?.headers["x-flamenco-if-updated-since"] == time, "{status}");
        }
        ensure!(rig.task(1).await? == before && rig.farm.count_tasks().await? == 1, "{status}");
    }
    // Tasks without a time are kept, and the time stays.
    let empty = json!({"depsgraph": [task(3, &json!({}))]});
    rig.server.answers(move |asked| (asked.call() == "depsgraph").then(|| Answer::json(&empty)));
    rig.kick().await?;
    until("the task", async || Ok((rig.farm.count_tasks().await? == 2).then_some(()))).await?;
    rig.server.answers(|_| None);
    let count = rig.server.asked("depsgraph").len();
    rig.restart().await?;
    let asked = rig.server.until_asked("depsgraph", count + 1).await?;
    ensure!(asked.last().context("one")?.headers["x-flamenco-if-updated-since"] == time);
    ensure!(rig.task(1).await? == before);
    Ok(())
}

#[tokio::test]
async fn c09_a_download_replaces_what_is_idle() -> Result<()> {
    let rig = Rig::start().await?;
    rig.tasks(&[task(1, &json!({"task_type": ""}))]).await?;
    ensure!(rig.task(1).await?.task_type == "unknown");
    rig.tasks(&[task(1, &json!({"status": "paused", "priority": 3, "name": "new"})), task(2, &json!({}))])
        .await?;
    until("the new version", async || Ok((rig.task(1).await?.name == "new").then_some(()))).await?;
    let new = rig.task(1).await?;
    ensure!(new.status == TaskStatus::Paused && new.priority == 3);
    Ok(())
}

#[tokio::test]
async fn a_download_takes_no_task_from_a_worker_while_the_server_knows_less() -> Result<()> {
    let rig = Rig::with("cancel_task_fetch_max_interval: 1h", |settings| {
        settings.push_interval = Duration::from_secs(3600)
    })
    .await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    rig.tasks(&[task(1, &json!({})), task(2, &json!({}))]).await?;
    ensure!(
        rig.status(1).await? == TaskStatus::Active && worker.may_run(1).await?["may_keep_running"] == true
    );
    Ok(())
}

/// Here each push is late by what a busy machine makes of it, so that only the earliest times are checked.
/// The exact times of the check are in the table of the pusher itself.
#[tokio::test]
async fn c34_pushes_by_count_and_by_time() -> Result<()> {
    // At once when nothing was ever pushed, and then when there are enough.
    let rig = Rig::with("cancel_task_fetch_max_interval: 1h\ntask_update_push_max_count: 3", |settings| {
        settings.push_interval = Duration::from_secs(3600);
    })
    .await?;
    let first = rig.server.until_asked("task-update-batch", 1).await?;
    ensure!(first[0].json() == json!([]));
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure!(rig.server.asked("task-update-batch").len() == 1, "two wait");
    ensure!(worker.update(1, &json!({"activity": "x"})).await? == 204);
    let pushes = rig.server.until_asked("task-update-batch", 2).await?;
    ensure!(pushes[1].json().as_array().map(Vec::len) == Some(3));

    // A single one waits for its interval; without any an empty push follows after the other.
    let (push, cancel) = (Duration::from_millis(700), Duration::from_millis(1500));
    let rig =
        Rig::with("", |settings| (settings.push_interval, settings.cancel_interval) = (push, cancel)).await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.farm.download(&[super::scheduling::known_task(1)]).await?;
    rig.server.until_asked("task-update-batch", 1).await?;
    let (pushes, last) = (rig.server.asked("task-update-batch").len(), Instant::now());
    let asked = rig.server.until_asked("task-update-batch", pushes + 1).await?;
    ensure!(
        asked[pushes].json() == json!([]) && last.elapsed() >= cancel - Duration::from_millis(200),
        "{:?}",
        last.elapsed()
    );
    let last = Instant::now();
    worker.gets(1).await?;
    let asked = rig.server.until_asked("task-update-batch", pushes + 2).await?;
    ensure!(last.elapsed() >= push - Duration::from_millis(200), "{:?}", last.elapsed());
    // On a machine that is busy for so long an empty one may have come first.
    let next = asked[pushes + 1].json();
    ensure!(next.as_array().is_some_and(|updates| matches!(updates.len(), 0 | 2)), "{next}");
    rig.server.until_update("the assignment", |update| update["task_status"] == "active").await?;
    Ok(())
}

#[tokio::test]
async fn c35_what_is_not_acknowledged_is_sent_again() -> Result<()> {
    let mut rig = Rig::with("", |_| ()).await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    rig.server.answers(|asked| (asked.call() == "task-update-batch").then(|| Answer::empty(500)));
    worker.gets(1).await?;
    ensure!(worker.update(1, &json!({"activity": "third"})).await? == 204);
    rig.server.until_update("a push that fails", |update| update["activity"] == "third").await?;
    ensure!(rig.farm.count_updates().await? == 3);
    rig.server.answers(|asked| {
        (asked.call() == "task-update-batch").then(|| Answer { body: "<html>".into(), ..Answer::empty(200) })
    });
    rig.restart().await?;
    let before = rig.server.asked("task-update-batch").len();
    rig.server.until_asked("task-update-batch", before + 1).await?;
    ensure!(rig.farm.count_updates().await? == 3, "they outlive a restart");
    // Two of three.
    let ids = |push: &Value| {
        push.as_array().into_iter().flatten().map(|update| update["_id"].clone()).collect::<Vec<_>>()
    };
    rig.server.answers(move |asked| {
        (asked.call() == "task-update-batch").then(|| {
            let handled: Vec<_> = ids(&asked.json()).into_iter().take(2).collect();
            Answer::json(&json!({"modified_count": handled.len(), "handled_update_ids": handled}))
        })
    });
    until("the acknowledgements", async || Ok((rig.farm.count_updates().await? == 0).then_some(()))).await?;
    let pushes: Vec<_> = rig
        .server
        .asked("task-update-batch")
        .iter()
        .map(|push| ids(&push.json()))
        .filter(|ids| !ids.is_empty())
        .collect();
    let (full, last) = (&pushes[pushes.len() - 2], pushes.last().context("a push")?);
    ensure!(full.len() == 3 && *last == full[2..], "{pushes:?}");
    ensure!(
        pushes[..pushes.len() - 1].iter().all(|push| full.starts_with(push)),
        "always in the same order: {pushes:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c36_tasks_are_canceled() -> Result<()> {
    let rig = Rig::with("", |settings| settings.cancel_interval = Duration::from_millis(50)).await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({})), task(3, &json!({"job_priority": 1}))]).await?;
    worker.gets(1).await?;
    rig.server.until_update("the assignment", |update| update["activity"].is_string()).await?;
    // Once for each.
    let list = |ids: Vec<String>| {
        let told = AtomicUsize::new(0);
        move |asked: &super::server::Asked| {
            let first = asked.call() == "task-update-batch" && told.fetch_add(1, Ordering::SeqCst) == 0;
            first.then(|| acknowledged(asked, &json!({"cancel_task_ids": ids})))
        }
    };
    let told = async |number: u32| {
        let of_task = |update: &Value| update["task_id"] == id(number);
        rig.server
            .until_update("the end", |update| of_task(update) && update["task_status"] == "canceled")
            .await?;
        anyhow::Ok(rig.server.updates().into_iter().filter(of_task).collect::<Vec<_>>())
    };
    let first_of = |told: &[Value]| {
        told[0]["activity"].is_string()
            && told[0]["log_tail"].is_string()
            && told[0].get("task_status").is_none()
    };
    let before = rig.server.updates().len();
    rig.server.answers(list(vec![id(1), id(3), id(77)]));
    for number in [3, 77] {
        let told = told(number).await?;
        ensure!(told.len() == 2 && first_of(&told) && told[1].get("activity").is_none(), "{told:?}");
    }
    ensure!(
        rig.status(1).await? == TaskStatus::CancelRequested && rig.status(3).await? == TaskStatus::Canceled
    );
    ensure!(rig.farm.task(id(77).parse()?).await?.is_none(), "what nobody knows is not made");
    ensure!(worker.may_run(1).await?["may_keep_running"] == false);
    ensure!(worker.gives_back(1).await?.0 == 204 && rig.status(1).await? == TaskStatus::CancelRequested);
    ensure!(worker.update(1, &json!({"log": "stopped"})).await? == 204);
    rig.server.until_update("the rest of the log", |update| update["log_tail"] == "stopped\n").await?;
    // Of the first listing, and of what was given back, nothing was told.
    ensure!(rig.server.updates().len() == before + 5, "{:?}", &rig.server.updates()[before..]);
    rig.server.answers(list(vec![id(1)]));
    let told = told(1).await?;
    ensure!(first_of(&told[told.len() - 2..]), "{told:?}");
    ensure!(rig.status(1).await? == TaskStatus::Canceled);
    Ok(())
}

#[tokio::test]
async fn c39_logs_are_uploaded_and_old_tasks_deleted() -> Result<()> {
    let rig = Rig::with("task_cleanup_max_age: 1h", |settings| {
        settings.times.cleanup = (Duration::from_millis(50), Duration::from_millis(50));
        settings.cancel_interval = Duration::from_millis(50);
    })
    .await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    ensure!(worker.update(1, &json!({"log": "all of it"})).await? == 204);
    let told = AtomicUsize::new(0);
    rig.server.answers(move |asked| {
        let first = asked.call() == "task-update-batch" && told.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| acknowledged(asked, &json!({"upload_task_file_queue": [{"job": JOB, "task": id(1)}, {"job": JOB, "task": id(9)}]})))
    });
    let uploads = rig.server.until_asked("attach-task-log", 2).await?;
    for (upload, (number, text)) in uploads.iter().zip([(1, "all of it"), (9, "no log")]) {
        ensure!(
            upload.path.ends_with(&id(number))
                && upload.headers["content-type"].starts_with("multipart/form-data; boundary=")
        );
        let begin = upload.body.windows(4).position(|four| four == b"\r\n\r\n").context("a part")? + 4;
        let head = String::from_utf8_lossy(&upload.body[..begin]).into_owned();
        ensure!(
            head.contains(&format!("filename=\"task-{}.txt.gz\"", id(number)))
                && head.contains("text/plain+gzip"),
            "{head}"
        );
        let mut log = String::new();
        GzDecoder::new(&upload.body[begin..]).read_to_string(&mut log)?;
        ensure!(log.contains(text), "{log}");
    }
    // Only what nobody has touched for long is deleted.
    let mut old = rig.task(1).await?;
    let long_ago = tasker::clock::Clock::system().now().before(Duration::from_secs(7200));
    for (number, ping, updated) in [(20, Some(long_ago), None), (21, None, Some(long_ago)), (22, None, None)]
    {
        (old.id, old.last_worker_ping, old.last_updated) = (id(number).parse()?, ping, updated);
        old.status = TaskStatus::Completed;
        rig.farm.download(std::slice::from_ref(&old)).await?;
    }
    until("the clean-up", async || Ok((rig.farm.count_tasks().await? == 1).then_some(()))).await?;
    ensure!(rig.status(1).await? == TaskStatus::Active);
    Ok(())
}

#[tokio::test]
async fn compressed_pushes_fall_back() -> Result<()> {
    for takes in [true, false] {
        let rig = Rig::with("compress_pushes: true", |_| ()).await?;
        rig.server.answers(move |asked| {
            let packed = asked.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
            (asked.call() == "task-update-batch" && packed).then(|| {
                if !takes {
                    return Answer::empty(415);
                }
                let mut text = String::new();
                _ = GzDecoder::new(&*asked.body).read_to_string(&mut text);
                let ids: Vec<Value> = serde_json::from_str::<Vec<Value>>(&text)
                    .unwrap_or_default()
                    .iter()
                    .map(|update| update["_id"].clone())
                    .collect();
                Answer::json(&json!({"handled_update_ids": ids}))
            })
        });
        let worker = rig.worker("a", &["sleep"]).await?;
        rig.farm.download(&[super::scheduling::known_task(1)]).await?;
        worker.gets(1).await?;
        until("the push", async || Ok((rig.farm.count_updates().await? == 0).then_some(()))).await?;
        let packed = rig
            .server
            .asked("task-update-batch")
            .iter()
            .filter(|push| push.headers.contains_key("content-encoding"))
            .count();
        let plain = rig.server.updates().len();
        ensure!(if takes { packed >= 1 && plain == 0 } else { plain == 2 }, "{takes} {packed} {plain}");
    }
    Ok(())
}

#[tokio::test]
async fn tasks_of_old_servers_come_in_chunks() -> Result<()> {
    let rig = Rig::with("task_fetch: chunks\ndownload_task_recheck_throttle: 0s", |_| ()).await?;
    let (common, rare) = (rig.worker("a", &["sleep"]).await?, rig.worker("b", &["rare"]).await?);
    // The Server hands out its tasks in their order, each once.
    let next = AtomicUsize::new(1);
    rig.server.answers(move |asked| {
        let size: usize = asked
            .path
            .strip_prefix(&format!("/flamenco/scheduler/tasks/{MANAGER}?chunk_size="))?
            .parse()
            .ok()?;
        let first = next.fetch_add(size, Ordering::SeqCst);
        let chunk: Vec<Value> = (first..(first + size).min(61))
            .map(|number| {
                task(
                    u32::try_from(number).expect("small"),
                    &if number == 60 { json!({"task_type": "rare"}) } else { json!({}) },
                )
            })
            .collect();
        Some(if chunk.is_empty() { Answer::empty(204) } else { Answer::json(&Value::Array(chunk)) })
    });
    // Behind 59 tasks of another type that nobody performs.
    until("the rare task", async || {
        let (status, body) = rare.ask().await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok((status == 200 && body["_id"] == id(60)).then_some(()))
    })
    .await?;
    common.performs(1).await
}
