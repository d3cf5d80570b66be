//! A manager in this process with its own database, a scripted Server, and scripted workers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tasker::app::FlamencoProcess;
use tasker::config::{Database, Secret};
use tasker::farm::{ObjectId, TaskStatus};
use tasker::flamenco::Settings;
use tasker::store::farm::Farm;
use tempfile::TempDir;

use super::server::Server;

pub const MANAGER: &str = "5e90aa11bb22cc33dd44ee00";
pub const JOB: &str = "5e90c0000000000000000c01";

/// The id of a task, by its number.
pub fn id(number: u32) -> String {
    format!("5e90d000000000000000{number:04x}")
}

/// A task as the Server sends it: of type `sleep`, claimed by the manager.
pub fn task(number: u32, more: &Value) -> Value {
    let mut task = json!({
        "_id": id(number), "_etag": format!("etag{number}"), "job": JOB, "manager": MANAGER, "project": "5e90e0000000000000000e01",
        "user": "5e90f0000000000000000f01", "name": format!("task {number}"), "status": "claimed-by-manager", "priority": 50,
        "job_priority": 50, "job_type": "sleep", "task_type": "sleep", "commands": [{"name": "echo", "settings": {"message": "hi"}}],
        "_updated": "2026-03-02T09:14:58.120000+00:00",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        task[key] = value.clone();
    }
    task
}

/// Waits for something that has to come.
pub async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = tokio::time::Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(tokio::time::Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A running manager with what it needs.
pub struct Rig {
    pub server: Server,
    pub farm: Farm,
    pub url: String,
    pub directory: TempDir,
    pub settings: Settings,
    process: Option<FlamencoProcess>,
}

impl Rig {
    /// A manager that pushes at once, and whose timers do not run during a test.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with("", |_| ()).await
    }

    /// The same with more settings, and changed times.
    pub async fn with(more: &str, change: impl FnOnce(&mut Settings)) -> anyhow::Result<Self> {
        let (server, directory) = (Server::start().await?, tempfile::tempdir()?);
        let text = format!(
            "manager_id: {MANAGER}\nmanager_secret: mgr-secret\nflamenco: {}\ntask_logs_path: {}\ndatabase_url: sqlite://{}\n\
             task_update_push_max_interval: 0s\nuser_authentication: {{disableSecurity: true}}\n{more}\n",
            server.url,
            directory.path().join("logs").display(),
            directory.path().join("farm.sqlite").display(),
        );
        let mut settings = Settings::parse(Path::new("flamenco-manager.yaml"), &text)?;
        settings.times.push = Duration::from_millis(20);
        settings.times.notify = (Duration::from_millis(50), Duration::from_millis(50));
        // Machines are busy: only tests of the limit itself have it.
        settings.times.answer = Duration::from_secs(30);
        settings.times.check = (Duration::from_secs(20), Duration::from_secs(25));
        change(&mut settings);
        let mut rig = Self {
            server,
            farm: Farm::new(store_at(settings.database.reveal()).await?),
            url: String::new(),
            directory,
            settings,
            process: None,
        };
        rig.up().await?;
        Ok(rig)
    }

    async fn up(&mut self) -> anyhow::Result<()> {
        let store = store_at(self.settings.database.reveal()).await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let process = FlamencoProcess::start(self.settings.clone(), store, listener)?;
        self.url = format!("http://{}", process.address);
        self.process = Some(process);
        Ok(())
    }

    /// Stops the manager and starts it again on its database.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
        self.up().await
    }

    /// Has the manager these tasks, as if it had downloaded them.
    pub async fn tasks(&self, tasks: &[Value]) -> anyhow::Result<()> {
        let tasks = tasks.to_vec();
        let body = json!({"depsgraph": tasks});
        self.server
            .answers(move |asked| (asked.call() == "depsgraph").then(|| super::server::Answer::json(&body)));
        self.kick().await?;
        // They are kept in their order, a few hundred at a time.
        let (first, last) = (tasks.first().context("tasks")?, tasks.last().context("tasks")?);
        until("the tasks", async || {
            for task in [first, last] {
                let id: ObjectId = task["_id"].as_str().context("an id")?.parse()?;
                if self.farm.task(id).await?.is_none_or(|kept| kept.etag != task["_etag"]) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
        self.server.answers(|_| None);
        Ok(())
    }

    /// Has it fetch tasks.
    pub async fn kick(&self) -> anyhow::Result<()> {
        let (status, _) = send(reqwest_client().post(format!("{}/kick", self.url))).await?;
        ensure!(status == 200, "kick: {status}");
        Ok(())
    }

    /// A worker that has registered and signed on: of platform linux, for these types.
    pub async fn worker(&self, nickname: &str, types: &[&str]) -> anyhow::Result<Worker> {
        let worker = self.registered(nickname, types).await?;
        ensure!(worker.post("sign-on", &json!({})).await?.0 == 204);
        Ok(worker)
    }

    /// A worker that has registered.
    pub async fn registered(&self, nickname: &str, types: &[&str]) -> anyhow::Result<Worker> {
        register(&self.url, nickname, types).await
    }

    /// A task as the manager has it.
    pub async fn task(&self, number: u32) -> anyhow::Result<tasker::farm::Task> {
        self.farm.task(id(number).parse()?).await?.with_context(|| format!("task {number}"))
    }

    /// The status of a task.
    pub async fn status(&self, number: u32) -> anyhow::Result<TaskStatus> {
        Ok(self.task(number).await?.status)
    }

    /// A worker as the manager has it.
    pub async fn record(&self, worker: &Worker) -> anyhow::Result<tasker::farm::Worker> {
        self.farm.worker(worker.id.parse()?).await?.context("the worker")
    }

    /// The file with the log of a task.
    pub fn log(&self, number: u32) -> PathBuf {
        self.directory
            .path()
            .join("logs")
            .join(format!("job-{}", &JOB[..4]))
            .join(JOB)
            .join(format!("task-{}.txt", id(number)))
    }

    /// Acts on a worker as people do.
    pub async fn action(&self, worker: &Worker, form: &str) -> anyhow::Result<u16> {
        let request =
            reqwest_client().post(format!("{}/worker-action/{}", self.url, worker.id)).body(form.to_owned());
        Ok(send(request.header("Content-Type", "application/x-www-form-urlencoded")).await?.0)
    }
}

/// Registers a worker with a manager.
pub async fn register(url: &str, nickname: &str, types: &[&str]) -> anyhow::Result<Worker> {
    register_by(&reqwest_client(), url, nickname, types).await
}

/// The same through a client.
pub async fn register_by(
    client: &reqwest::Client,
    url: &str,
    nickname: &str,
    types: &[&str],
) -> anyhow::Result<Worker> {
    let secret = format!("secret of {nickname}");
    let body =
        json!({"secret": secret, "platform": "linux", "supported_task_types": types, "nickname": nickname});
    let (status, answer) = send(client.post(format!("{url}/register-worker")).json(&body)).await?;
    ensure!(status == 200, "{status} {answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    let id = answer["_id"].as_str().context("an id")?.to_owned();
    Ok(Worker { url: url.to_owned(), id, secret })
}

pub async fn store_at(uri: &str) -> anyhow::Result<tasker::store::SharedStore> {
    let store = tasker::store::open(&Database { verbose: false, uri: Secret::new(uri), max_connections: 8 })?;
    store.migrate().await?;
    Ok(store)
}

/// A client for all tests: it keeps no connection, which would belong to the test that made it.
pub fn reqwest_client() -> reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let client =
            tasker::https::client().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0);
        client.build().expect("a client")
    });
    CLIENT.clone()
}

pub async fn send_get(url: &str) -> anyhow::Result<(u16, String)> {
    send(reqwest_client().get(url)).await
}

pub async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<(u16, String)> {
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A scripted worker.
#[derive(Clone)]
pub struct Worker {
    pub url: String,
    pub id: String,
    pub secret: String,
}

impl Worker {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = reqwest_client().request(method, format!("{}/{path}", self.url));
        request.basic_auth(&self.id, Some(&self.secret)).header("User-Agent", "Flamenco-Worker/2.5")
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let (status, body) = send(self.request(Method::GET, path)).await?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let (status, body) = send(self.request(Method::POST, path).json(body)).await?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    /// A POST without body and type, as workers send it.
    pub async fn post_nothing(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let (status, body) = send(self.request(Method::POST, path).header("Content-Length", "0")).await?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    /// Asks for a task.
    pub async fn ask(&self) -> anyhow::Result<(u16, Value)> {
        self.post_nothing("task").await
    }

    /// Asks for a task and has to get this one.
    pub async fn gets(&self, number: u32) -> anyhow::Result<Value> {
        let (status, body) = self.ask().await?;
        ensure!(status == 200 && body["_id"] == id(number), "task {number} expected, got {status} {body}");
        Ok(body)
    }

    /// Says something about a task.
    pub async fn update(&self, number: u32, body: &Value) -> anyhow::Result<u16> {
        Ok(self.post(&format!("tasks/{}/update", id(number)), body).await?.0)
    }

    /// Says that a task is this now.
    pub async fn reports(&self, number: u32, status: &str) -> anyhow::Result<()> {
        let answer = self
            .update(number, &json!({"task_status": status, "activity": status, "metrics": {"timing": {}}}))
            .await?;
        ensure!(answer == 204, "{status}: {answer}");
        Ok(())
    }

    /// Performs a task.
    pub async fn performs(&self, number: u32) -> anyhow::Result<()> {
        self.gets(number).await?;
        self.reports(number, "completed").await
    }

    pub async fn may_run(&self, number: u32) -> anyhow::Result<Value> {
        let (status, body) = self.get(&format!("may-i-run/{}", id(number))).await?;
        ensure!(status == 200, "{status} {body}");
        Ok(body)
    }

    pub async fn gives_back(&self, number: u32) -> anyhow::Result<(u16, Value)> {
        self.post_nothing(&format!("tasks/{}/return", id(number))).await
    }
}
