//! Bodies of requests: who may send one, how long, and how much of all of them is held.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::rig::{Rig, Worker, id, task, until};

const LONGEST: usize = 64 << 20;

/// Sends the head of a request, and as much of its body as is given.
async fn begin(rig: &Rig, path: &str, worker: &Worker, length: usize, body: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(rig.url.trim_start_matches("http://")).await?;
    let secret = STANDARD.encode(format!("{}:{}", worker.id, worker.secret));
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {secret}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    Ok(stream)
}

/// The status of the answer.
async fn status(stream: &mut TcpStream) -> Result<u16> {
    let mut head = [0; 12];
    tokio::time::timeout(Duration::from_secs(90), stream.read_exact(&mut head))
        .await
        .context("no answer")??;
    Ok(std::str::from_utf8(&head)?.split(' ').nth(1).context("a status")?.parse()?)
}

#[tokio::test]
async fn who_is_not_let_in_is_answered_before_the_body() -> Result<()> {
    let rig = Rig::with("worker_registration_secret: shared", |_| ()).await?;
    let nobody = Worker { url: rig.url.clone(), id: id(1), secret: "x".into() };
    let update = format!("tasks/{}/update", id(1));
    for (path, expected) in [
        (&*update, 401),
        ("sign-on", 401),
        ("output-produced", 401),
        ("register-worker", 403),
        ("nowhere", 404),
    ] {
        // Nothing of the body is ever sent.
        let mut stream = begin(&rig, path, &nobody, LONGEST, b"").await?;
        ensure!(status(&mut stream).await? == expected, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn who_may_not_act_is_answered_before_the_body() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.registered("a", &["sleep"]).await?;
    let mut stream = TcpStream::connect(rig.url.trim_start_matches("http://")).await?;
    let path = format!("worker-action/{}", worker.id);
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nContent-Length: 100\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    ensure!(status(&mut stream).await? == 403);
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_long_keeps_no_later_report_waiting() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    let path = format!("tasks/{}/update", id(1));
    // Workers drop what gets this answer, and send anything else again for ever.
    let mut stream = begin(&rig, &path, &worker, LONGEST + 1, &vec![b' '; LONGEST + 1]).await?;
    ensure!(status(&mut stream).await? == 409);
    let mut stream = begin(&rig, "sign-on", &worker, LONGEST, b"").await?;
    ensure!(status(&mut stream).await? == 413);
    // A long one is taken.
    let log = "x".repeat(8 << 20);
    ensure!(
        worker
            .update(1, &json!({"log": log, "activity": "y".repeat(100_000), "task_status": "completed"}))
            .await?
            == 204
    );
    let written = std::fs::read_to_string(rig.log(1))?;
    ensure!(written.ends_with(&format!("{log}\n")));
    let update = rig.server.until_update("the end", |update| update["task_status"] == "completed").await?;
    let length = |key: &str| update[key].as_str().map_or(0, str::len);
    ensure!(
        length("log_tail") < 20_000 && length("activity") == 4096,
        "{} {}",
        length("log_tail"),
        length("activity")
    );
    Ok(())
}

#[tokio::test]
async fn all_bodies_together_have_a_limit_and_nobody_waits_for_it() -> Result<()> {
    // The bodies that are held must not run out of time before the refusal has come, however busy the machine
    // is.
    let rig = Rig::with("", |settings| settings.times.answer = Duration::from_secs(600)).await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    let path = format!("tasks/{}/update", id(1));
    // Two bodies that lack their last byte hold nearly all there is.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(begin(&rig, &path, &worker, LONGEST, &vec![b' '; LONGEST - 1]).await?);
    }
    let large = json!({"log": "x".repeat(1 << 20)});
    until("the refusal", async || Ok((worker.update(1, &large).await? == 503).then_some(()))).await?;
    let asked = Instant::now();
    ensure!(worker.may_run(1).await? == json!({"may_keep_running": true}) && worker.ask().await?.0 == 200);
    ensure!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    held.clear();
    until("room", async || Ok((worker.update(1, &large).await? == 204).then_some(()))).await
}
