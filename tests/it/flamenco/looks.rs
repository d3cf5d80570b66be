//! A farm through the interface of an API process, which has no manager of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tasker_services::{Home, Port, Process};

use super::manager::tasker;
use super::rig::{JOB, Rig, id, send_get, task};

/// Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A `tasker up` that shows a farm; it ends when it is dropped.
struct Api {
    url: String,
    _process: Process,
    _home: Home,
    _port: Port,
}

impl Api {
    fn start(farm: &Path) -> Result<Self> {
        let (home, port) = (Home::new("flamenco-looks")?, Port::free()?);
        home.write(
            "config.yaml",
            &format!("task_types: [worker]\nflamenco: {{uri: 'sqlite://{}'}}\n", farm.display()),
        )?;
        let listen = format!("127.0.0.1:{}", port.number());
        let mut command = tasker(home.path(), &["up", "--config", "config.yaml", "--listen", &listen]);
        let mut process = home.start("up", &mut command)?;
        process.ready(PATIENCE, || {
            let said = std::fs::read_to_string(home.join("up.log"))?;
            ensure!(said.contains("Ctrl-C stops it"), "{said}");
            Ok(())
        })?;
        Ok(Self { url: format!("http://{listen}"), _process: process, _home: home, _port: port })
    }

    async fn get(&self, path: &str) -> Result<(u16, Value)> {
        let (status, body) = send_get(&format!("{}{path}", self.url)).await?;
        Ok((status, serde_json::from_str(&body)?))
    }

    async fn shows(&self, path: &str) -> Result<Value> {
        let (status, body) = self.get(path).await?;
        ensure!(status == 200, "{path}: {status} {body}");
        Ok(body)
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page["tasks"].as_array().into_iter().flatten().filter_map(|task| task["id"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_shows_jobs_workers_and_logs_of_a_manager() -> Result<()> {
    const OTHER_JOB: &str = "5e90c1000000000000000c02";
    let rig = Rig::start().await?;
    rig.tasks(&[
        task(1, &json!({"commands": [{"name": "echo", "settings": {"message": "<hi>"}}]})),
        task(2, &json!({})),
        task(3, &json!({"job": OTHER_JOB, "job_type": "blender-render", "job_priority": 70})),
    ])
    .await?;
    let worker = rig.worker("node-a", &["sleep"]).await?;
    let api = Api::start(&rig.directory.path().join("farm.sqlite"))?;

    let jobs = api.shows("/flamenco/jobs").await?;
    ensure!(
        jobs["jobs"][0]
            == json!({"id": OTHER_JOB, "job_type": "blender-render", "priority": 70, "created_at": "2020-04-10T18:54:56.000000Z",
                      "total": 1, "tasks": {"claimed-by-manager": 1}}),
        "{jobs}"
    );
    ensure!(jobs["jobs"][1]["id"] == JOB && jobs["jobs"][1]["total"] == 2 && jobs["next_cursor"].is_null());
    let first = api.shows("/flamenco/jobs?limit=1").await?;
    ensure!(
        first["next_cursor"] == OTHER_JOB && first["jobs"].as_array().is_some_and(|jobs| jobs.len() == 1)
    );
    let second = api.shows(&format!("/flamenco/jobs?limit=1&cursor={OTHER_JOB}")).await?;
    ensure!(second["jobs"][0]["id"] == JOB, "{second}");

    // What the manager takes in is shown at once: both read one database.
    worker.gets(3).await?;
    let log = "Fra:1 Mem:200M\nError: out of <b>memory</b>\n";
    let report =
        json!({"task_status": "failed", "activity": "blender died", "log": log, "metrics": {"timing": {}}});
    ensure!(worker.update(3, &report).await? == 204);
    let failing = api.shows("/flamenco/tasks?status=failed,soft-failed").await?;
    ensure!(ids(&failing) == [id(3)] && failing["tasks"][0]["worker"] == "node-a", "{failing}");
    let detail = api.shows(&format!("/flamenco/tasks/{}", id(3))).await?;
    ensure!(
        detail["log_tail"] == log
            && detail["activity"] == "blender died"
            && detail["failed_by"][0].as_str().is_some_and(|by| by.contains("node-a")),
        "{detail}"
    );
    let other = api.shows(&format!("/flamenco/tasks/{}", id(1))).await?;
    ensure!(other["log_tail"].is_null() && other["commands"][0]["settings"]["message"] == "<hi>", "{other}");
    let of_job = api.shows(&format!("/flamenco/tasks?job={JOB}&limit=1")).await?;
    ensure!(ids(&of_job) == [id(1)] && of_job["next_cursor"] == id(1), "{of_job}");
    let next = api.shows(&format!("/flamenco/tasks?job={JOB}&cursor={}", id(1))).await?;
    ensure!(ids(&next) == [id(2)], "{next}");
    // The one that failed changed last; the others were made known in one moment.
    let mut latest = api.shows("/flamenco/tasks?order=latest&limit=1").await?;
    for wanted in [3, 2, 1] {
        ensure!(ids(&latest) == [id(wanted)], "{latest}");
        let Some(cursor) = latest["next_cursor"].as_str() else { break };
        latest = api.shows(&format!("/flamenco/tasks?limit=1&cursor={cursor}")).await?;
    }
    ensure!(ids(&latest) == [id(1)] && latest["next_cursor"].is_null(), "{latest}");
    let workers = api.shows("/flamenco/workers").await?;
    ensure!(
        workers["workers"][0]["nickname"] == "node-a"
            && workers["workers"][0]["current_task"] == id(3)
            && workers["workers"][0]["status"] == "awake",
        "{workers}"
    );

    for (path, status, code) in [
        (format!("/flamenco/tasks/{}", id(9)), 404, "unknown_task"),
        ("/flamenco/tasks/9".to_owned(), 404, "unknown_task"),
        ("/flamenco/tasks?status=broken".to_owned(), 422, "invalid_query"),
        ("/flamenco/tasks?job=9".to_owned(), 422, "invalid_query"),
        ("/flamenco/tasks?order=newest".to_owned(), 422, "invalid_query"),
        ("/flamenco/tasks?cursor=c9".to_owned(), 422, "invalid_query"),
        ("/flamenco/jobs?limit=0".to_owned(), 422, "invalid_query"),
    ] {
        let (told, problem) = api.get(&path).await?;
        ensure!(told == status && problem["code"] == code, "{path}: {told} {problem}");
    }
    // The command has the same.
    let settings = format!(
        "manager_id: {}\nmanager_secret: s\nflamenco: http://127.0.0.1:1/\ndatabase_url: sqlite://{}\n",
        super::rig::MANAGER,
        rig.directory.path().join("farm.sqlite").display()
    );
    std::fs::write(rig.directory.path().join("flamenco-manager.yaml"), settings)?;
    let says = |arguments: &[&str]| -> Result<String> {
        let output = tasker(rig.directory.path(), arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let table = says(&["flamenco", "jobs"])?;
    ensure!(table.contains(OTHER_JOB) && table.contains("blender-render"), "{table}");
    let listed: Value =
        serde_json::from_str(&says(&["flamenco", "tasks", "--status", "failed,soft-failed", "--json"])?)?;
    ensure!(ids(&listed) == [id(3)], "{listed}");
    let listed: Value = serde_json::from_str(&says(&["flamenco", "tasks", "--latest", "--json"])?)?;
    ensure!(ids(&listed) == [id(3), id(2), id(1)], "{listed}");
    let shown: Value = serde_json::from_str(&says(&["flamenco", "task", &id(3), "--json"])?)?;
    ensure!(shown == detail, "{shown}");
    let text = says(&["flamenco", "task", &id(3)])?;
    ensure!(
        text.contains("activity: blender died\n") && text.contains("  Error: out of <b>memory</b>\n"),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farm_that_is_not_there_is_told_and_never_made() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let farm = directory.path().join("farm.sqlite");
    let api = Api::start(&farm)?;
    let (status, problem) = api.get("/flamenco/jobs").await?;
    ensure!(status == 503 && problem["code"] == "database_unavailable", "{status} {problem}");
    ensure!(!farm.exists());
    // The rest of the API does not depend on it.
    ensure!(api.get("/ready").await?.0 == 200 && api.get("/tasks").await?.0 == 200);
    Ok(())
}
