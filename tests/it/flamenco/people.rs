//! The page and the calls for people.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::rig::{Rig, reqwest_client, send, task};

#[tokio::test]
async fn people_see_workers_queue_and_backlog() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("<node>", &["sleep"]).await?;
    rig.worker("b", &["sleep"]).await?;
    rig.tasks(&[task(1, &json!({}))]).await?;
    worker.gets(1).await?;
    let (status, page) = send(reqwest_client().get(&rig.url)).await?;
    ensure!(
        status == 200
            && page.contains("&lt;node&gt;")
            && !page.contains("<node>")
            && page.contains("2 workers, 1 tasks"),
        "{page}"
    );
    ensure!(!page.contains("<script"));
    let answer = reqwest_client().get(format!("{}/as-json", rig.url)).send().await?;
    ensure!(answer.headers()["cache-control"] == "no-cache");
    let report: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(
        report["nr_of_workers"] == 2 && report["nr_of_tasks"] == 1 && report["upstream_queue_size"].is_u64(),
        "{report}"
    );
    ensure!(
        report["workers"][0]["nickname"] == "<node>" && report["workers"][0]["blacklist"] == json!([]),
        "{report}"
    );
    ensure!(report["manager_mode"] == "production" && report["server"]["url"] == rig.server.url, "{report}");
    Ok(())
}

#[tokio::test]
async fn people_act_on_workers() -> Result<()> {
    let rig = Rig::start().await?;
    let worker = rig.worker("a", &["sleep"]).await?;
    for (form, expected) in
        [("action=dance", 400), ("", 400), ("action=ack-timeout", 400), ("action=shutdown&lazy=true", 204)]
    {
        ensure!(rig.action(&worker, form).await? == expected, "{form}");
    }
    let nobody = super::rig::Worker { id: super::rig::id(1), ..worker.clone() };
    ensure!(rig.action(&nobody, "action=shutdown").await? == 404);
    ensure!(
        rig.action(&super::rig::Worker { id: "x".into(), ..worker.clone() }, "action=shutdown").await? == 400
    );
    // A page of somebody else's cannot.
    let request = reqwest_client()
        .post(format!("{}/worker-action/{}", rig.url, worker.id))
        .header("Origin", "http://evil.example");
    ensure!(send(request.body("action=forget-worker")).await?.0 == 403);
    let record = rig.record(&worker).await?;
    ensure!(record.lazy && record.requested == Some(tasker::farm::Request::Shutdown));
    Ok(())
}

#[tokio::test]
async fn a_worker_in_test_mode_gets_a_test_job() -> Result<()> {
    let rig = Rig::with(
        "_meta: {version: 2}\nvariables: {blender: {direction: oneway, values: [{platform: linux, value: /opt/blender}]}}",
        |_| (),
    )
    .await?;
    let worker = rig.worker("a", &["test-blender-render"]).await?;
    ensure!(rig.action(&worker, "action=send-test-job").await? == 400, "it is not in test mode");
    ensure!(worker.post_nothing("ack-status-change/testing").await?.0 == 204);
    ensure!(rig.action(&worker, "action=send-test-job").await? == 200);
    let (status, task) = worker.ask().await?;
    ensure!(
        status == 200 && task["task_type"] == "test-blender-render" && task["job_type"] == "manager-local",
        "{status} {task}"
    );
    let command = task["commands"][1]["settings"]["cmd"].as_str().unwrap_or_default().to_owned();
    ensure!(
        task["commands"][1]["name"] == "exec" && command.starts_with("/opt/blender --background"),
        "{command}"
    );
    let path = format!("tasks/{}/update", task["_id"].as_str().unwrap_or_default());
    ensure!(worker.post(&path, &json!({"task_status": "completed", "log": "rendered"})).await?.0 == 204);
    ensure!(
        worker.ask().await?.0 == 204 && rig.farm.count_updates().await? == 0,
        "the Server knows nothing of it"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_machine_by_its_own_names_looks_after_the_farm() -> anyhow::Result<()> {
    let rig = Rig::with("", |settings| settings.open_to_people = false).await?;
    let port = rig.url.rsplit(':').next().context("a port")?.to_owned();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")] {
        let (status, text) = send(reqwest_client().get(&rig.url).header("Host", &host)).await?;
        ensure!(status == 200, "{host}: {status} {text}");
    }
    // The name of a page that resolves to this machine, and what a proxy here passes on.
    for host in [format!("evil.example:{port}"), "farm.example".to_owned(), format!("192.0.2.1:{port}")] {
        for request in [reqwest_client().get(&rig.url), reqwest_client().post(format!("{}/kick", rig.url))] {
            let (status, text) = send(request.header("Host", &host)).await?;
            ensure!(status == 401 && text.contains("localhost"), "{host}: {status} {text}");
        }
    }
    Ok(())
}
