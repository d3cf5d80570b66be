//! A whole platform of real processes, as somebody runs it: `tasker up`, or `tasker api` and
//! `tasker endpoint` on RabbitMQ and MariaDB. Tests talk to it over HTTP and the command line, and stop, kill
//! and start its processes.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use super::proxy::Proxy;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tasker::contract::AuditPage;
use tasker_services::{Home, MariaDb, Port, Process, RabbitMq, is_root, start_pair_with, until};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The time in which endpoints should have received a task, in these tests: short, since some wait for it to
/// pass.
pub const RECEIVE: &str = "2s";

/// The account in a private database that processes come in as.
const ACCOUNT: &str = "tasker";

/// Where a platform keeps its data and hands over its messages.
enum Backend {
    /// In one process.
    Embedded,
    /// On servers that other tests use as well; with a virtual host and a database of its own.
    Shared { database: String, amqp_port: u16, management: String, name: String },
    /// On servers of its own, which the test may kill.
    Private { nodes: Vec<RabbitMq>, mariadb: Box<MariaDb> },
}

/// A running platform; all of it ends when it is dropped.
pub struct Platform {
    backend: Backend,
    home: Home,
    port: Port,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    processes: BTreeMap<String, Process>,
}

impl Platform {
    /// `tasker up` with console1 and console2.
    pub fn embedded() -> anyhow::Result<Self> {
        let mut platform = Self::new(Backend::Embedded)?;
        platform.start_up("console1,console2")?;
        Ok(platform)
    }

    /// An API process, and console1 and console2 with a process for each type, on the servers all tests
    /// share.
    pub fn real() -> anyhow::Result<Self> {
        Self::fleet(Self::shared()?)
    }

    /// The same on servers of its own.
    pub fn private() -> anyhow::Result<Self> {
        Self::fleet(Self::own(MariaDb::start)?)
    }

    /// On the servers all tests share, with tables and broker set up and no process started.
    pub fn idle() -> anyhow::Result<Self> {
        Self::initialized(Self::shared()?)
    }

    /// The same on servers of its own.
    pub fn idle_private() -> anyhow::Result<Self> {
        Self::initialized(Self::own(MariaDb::start)?)
    }

    /// The same on this RabbitMQ and a MariaDB of its own.
    pub fn idle_on(rabbitmq: RabbitMq) -> anyhow::Result<Self> {
        let mariadb = Box::new(MariaDb::start()?);
        Self::initialized(Backend::Private { nodes: vec![rabbitmq], mariadb })
    }

    /// The same, and the database can be filled up, if this user may mount a disk for it.
    #[allow(dead_code, reason = "the soak alone fills up disks")]
    pub fn idle_on_own_disk() -> anyhow::Result<Self> {
        Self::initialized(Self::own(if is_root() { MariaDb::start_on_own_disk } else { MariaDb::start })?)
    }

    /// The same on a MariaDB and a RabbitMQ of so many nodes.
    pub fn idle_clustered(nodes: usize) -> anyhow::Result<Self> {
        let (nodes, mariadb) = (RabbitMq::start_cluster(nodes)?, Box::new(MariaDb::start()?));
        Self::initialized(Backend::Private { nodes, mariadb })
    }

    fn shared() -> anyhow::Result<Backend> {
        let shared = |name: &str| {
            std::env::var(name).with_context(|| format!("{name} is not set: run `cargo xtask test`"))
        };
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let amqp: reqwest::Url = shared("TASKER_TEST_AMQP")?.parse()?;
        let database = format!("{}/{name}", shared("TASKER_TEST_MYSQL")?);
        let management = shared("TASKER_TEST_RABBITMQ_API")?;
        let amqp_port = amqp.port().context("TASKER_TEST_AMQP has a port")?;
        Ok(Backend::Shared { database, amqp_port, management, name })
    }

    fn own(mariadb: fn() -> anyhow::Result<MariaDb>) -> anyhow::Result<Backend> {
        let (rabbitmq, mariadb) = start_pair_with(mariadb)?;
        Ok(Backend::Private { nodes: vec![rabbitmq], mariadb: Box::new(mariadb) })
    }

    fn initialized(backend: Backend) -> anyhow::Result<Self> {
        let platform = Self::new(backend)?;
        if matches!(platform.backend, Backend::Private { .. }) {
            // Nothing is forbidden to an administrator, not even to write what is read-only.
            platform.sql(&[
                &format!("CREATE USER {ACCOUNT}@'127.0.0.1' IDENTIFIED BY 'secret'"),
                &format!("GRANT ALL ON tasker.* TO {ACCOUNT}@'127.0.0.1'"),
            ])?;
        }
        platform.tasker(&["initialize", "-d", "-r"])?;
        Ok(platform)
    }

    fn fleet(backend: Backend) -> anyhow::Result<Self> {
        let mut platform = Self::initialized(backend)?;
        platform.start_api()?;
        for name in ["console1", "console2"] {
            platform.start_endpoint(name, &["worker"])?;
            platform.start_endpoint(name, &["backup", "steered"])?;
        }
        for name in ["console1", "console2"] {
            platform.subscribed(name, &["worker", "backup", "steered"])?;
        }
        Ok(platform)
    }

    fn new(backend: Backend) -> anyhow::Result<Self> {
        let home = Home::new("platform")?;
        let port = Port::free()?;
        let (database, amqp_port, management, virtual_host) = match &backend {
            Backend::Embedded => {
                ("sqlite:///unused".to_owned(), 5672, "http://127.0.0.1:15672/api".to_owned(), "tasker")
            }
            Backend::Shared { database, amqp_port, management, name } => {
                (database.clone(), *amqp_port, management.clone(), name.as_str())
            }
            Backend::Private { nodes, mariadb } => {
                (account_url(mariadb), nodes[0].port(), nodes[0].management_url(), "tasker")
            }
        };
        let config = json!({
            "task_types": ["worker", "backup", {"name": "steered", "attempts": 3, "backoff": {"first": "100ms", "max": "200ms"}}],
            "api": {"port": port.number(), "wait_for_endpoints_timeout": RECEIVE},
            "manager": {
                "db": {"uri": database},
                "message_queue": {
                    "host": "127.0.0.1", "port": amqp_port, "username": virtual_host, "password": "secret",
                    "virtual_host": virtual_host, "exchange": "it",
                },
            },
            "rabbitmq": {"apiurl": management, "username": "guest", "password": "guest"},
            "endpoint": {"data_dir": home.join("journals"), "presence_interval": "1s", "stop_timeout": "5s"},
        });
        home.write("config.yaml", &config.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let http = tasker::https::client().timeout(PATIENCE).build()?;
        Ok(Self { backend, home, port, runtime, http, processes: BTreeMap::new() })
    }

    /// The servers of a private platform.
    pub fn servers(&mut self) -> (&mut RabbitMq, &mut MariaDb) {
        match &mut self.backend {
            Backend::Private { nodes, mariadb } => (&mut nodes[0], mariadb),
            _ => panic!("only a private platform may break its servers"),
        }
    }

    /// The nodes of a private platform's RabbitMQ.
    pub fn nodes(&mut self) -> &mut [RabbitMq] {
        match &mut self.backend {
            Backend::Private { nodes, .. } => nodes,
            _ => panic!("only a private platform may break its servers"),
        }
    }

    fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_tasker"))
    }

    fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("TASKER_API_URL", self.url("")).current_dir(self.home.path());
        command
    }

    /// Runs a command of the program to its end, which must be good.
    pub fn tasker(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.tasker_with(arguments, &[])
    }

    /// The same with settings in the environment.
    pub fn tasker_with(&self, arguments: &[&str], settings: &[(&str, String)]) -> anyhow::Result<Output> {
        let output = self.commanded(arguments).envs(settings.iter().cloned()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "tasker {} ends with {}: {said}",
            arguments.join(" "),
            output.status
        );
        Ok(output)
    }

    /// Runs a command of the program to its end, whichever.
    pub fn tasker_any(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.commanded(arguments).output()?)
    }

    fn commanded(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(self.home.join("config.yaml"));
        command
    }

    /// Starts `tasker up` with these endpoints, on the data that is there.
    pub fn start_up(&mut self, endpoints: &str) -> anyhow::Result<()> {
        let listen = format!("127.0.0.1:{}", self.port.number());
        let mut command = self.command();
        command
            .args(["up", "--listen", &listen, "--endpoints", endpoints, "--data-dir"])
            .arg(self.home.join("data"));
        self.spawn("up", command)?;
        for name in endpoints.split(',') {
            self.subscribed(name, &["worker", "backup", "steered"])?;
        }
        Ok(())
    }

    /// Starts the API process.
    pub fn spawn_api(&mut self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.arg("api");
        self.spawn("api", command)
    }

    /// Starts the API process and waits until it is ready.
    pub fn start_api(&mut self) -> anyhow::Result<()> {
        self.spawn_api()?;
        self.until("the API is ready", |platform| {
            let (status, body) = platform.get("/ready")?;
            ensure!(status == 200, "{status}: {body}");
            Ok(())
        })
    }

    /// Starts an endpoint process for these types, of the program that servers have for it.
    pub fn start_endpoint(&mut self, name: &str, types: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command_of(env!("CARGO_BIN_EXE_tasker-agent"));
        command.args(["endpoint", "-e", name]);
        types.iter().for_each(|task_type| _ = command.args(["-t", task_type]));
        self.spawn(&format!("{name}-{}", types[0]), command)
    }

    /// The same, with a journal in another directory: as if on another server.
    pub fn start_endpoint_in(&mut self, directory: &str, name: &str, types: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args(["endpoint", "-e", name, "--data-dir"]).arg(self.home.join(directory));
        types.iter().for_each(|task_type| _ = command.args(["-t", task_type]));
        self.spawn(&format!("{name}-{}", types[0]), command)
    }

    /// Starts a process of the program with these variables in its environment; it is in the caller's hands.
    pub fn launch(
        &self,
        name: &str,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> anyhow::Result<Process> {
        let mut command = self.command();
        // A worker would look for its tasks there.
        command
            .args(arguments)
            .env_remove("TASKER_API_URL")
            .arg("--config")
            .arg(self.home.join("config.yaml"));
        command.envs(environment.iter().cloned());
        self.home.start(name, &mut command)
    }

    /// Configures these task types instead of those that are there. For processes that are not started yet.
    pub fn set_types(&self, types: Value) -> anyhow::Result<()> {
        let path = self.home.join("config.yaml");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        config["task_types"] = types;
        Ok(std::fs::write(&path, config.to_string())?)
    }

    /// Where its files are.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Where its database is.
    pub fn database(&self) -> String {
        match &self.backend {
            Backend::Embedded => panic!("an embedded platform has no database server"),
            Backend::Shared { database, .. } => database.clone(),
            Backend::Private { mariadb, .. } => account_url(mariadb),
        }
    }

    /// Has the administrator of a private platform's database do something.
    pub fn sql(&self, statements: &[&str]) -> anyhow::Result<()> {
        let Backend::Private { mariadb, .. } = &self.backend else {
            panic!("only a private platform may break its servers")
        };
        self.block_on(async {
            let mut administrator = MySqlConnection::connect(&mariadb.url()).await?;
            for statement in statements {
                administrator
                    .execute(AssertSqlSafe((*statement).to_owned()))
                    .await
                    .with_context(|| (*statement).to_owned())?;
            }
            Ok(administrator.close().await?)
        })
    }

    /// Ends all connections of the platform's processes to its private database.
    pub fn end_connections(&self) -> anyhow::Result<()> {
        let Backend::Private { mariadb, .. } = &self.backend else {
            panic!("only a private platform may break its servers")
        };
        self.block_on(async {
            let mut administrator = MySqlConnection::connect(&mariadb.url()).await?;
            for connection in super::sessions(&mut administrator, "user", ACCOUNT).await? {
                // It may have ended by itself meanwhile.
                let _ = administrator.execute(AssertSqlSafe(format!("KILL {connection}"))).await;
            }
            Ok(administrator.close().await?)
        })
    }

    /// Its virtual host in the broker, with the user that processes come in as.
    pub fn amqp(&self) -> String {
        let (port, name) = match &self.backend {
            Backend::Embedded => panic!("an embedded platform has no broker of its own"),
            Backend::Shared { amqp_port, name, .. } => (*amqp_port, name.as_str()),
            Backend::Private { nodes, .. } => (nodes[0].port(), "tasker"),
        };
        format!("amqp://{name}:secret@127.0.0.1:{port}/{name}")
    }

    /// A proxy to one of its servers.
    pub fn proxy_to(&self, server: &str) -> anyhow::Result<Proxy> {
        let port = reqwest::Url::parse(server)?.port().context("a server has a port")?;
        Ok(self.block_on(Proxy::to(([127, 0, 0, 1], port).into())))
    }

    /// Runs something asynchronous to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Whether a process is in the platform's hands.
    pub fn has(&self, name: &str) -> bool {
        self.processes.contains_key(name)
    }

    /// Takes a process out of the platform's hands.
    pub fn take(&mut self, name: &str) -> Process {
        self.processes.remove(name).unwrap_or_else(|| panic!("there is no process {name}"))
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        command.arg("--config").arg(self.home.join("config.yaml"));
        let process = self.home.start(name, &mut command)?;
        self.processes.insert(name.to_owned(), process);
        Ok(())
    }

    /// A process: `up`, `api`, or `<endpoint>-<first type>`.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("there is no process {name}"))
    }

    /// Waits until an endpoint is subscribed to these types.
    pub fn subscribed(&self, name: &str, types: &[&str]) -> anyhow::Result<()> {
        self.until(&format!("{name} is subscribed to {types:?}"), |platform| {
            let (_, page) = platform.get("/endpoints")?;
            for task_type in types {
                let there = page["endpoints"].as_array().into_iter().flatten().any(|endpoint| {
                    let subscribed = |one: &Value| one["type"] == *task_type && one["subscribed"] == true;
                    endpoint["name"] == name
                        && endpoint["types"].as_array().is_some_and(|types| types.iter().any(subscribed))
                });
                ensure!(there, "not to {task_type}: {page}");
            }
            Ok(())
        })
    }

    /// Asks until the answer is good; shows the logs of all processes when it never is.
    pub fn until<T>(&self, what: &str, probe: impl Fn(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        until(what, PATIENCE, || probe(self)).with_context(|| self.logs())
    }

    fn logs(&self) -> String {
        self.processes.iter().map(|(name, process)| format!("--- {name}\n{}\n", process.log())).collect()
    }

    /// Where its API is.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<(u16, Value)> {
        let (status, text) = super::send(&self.runtime, request)?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// GET: status and body.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        self.answer(self.http.get(self.url(path)))
    }

    /// POST: status and body.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.answer(self.http.post(self.url(path)).json(body))
    }

    /// DELETE: status and body.
    pub fn delete(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        self.answer(self.http.delete(self.url(path)))
    }

    /// How often each actor has done this to each subject, as the audit log adds it up. An API process writes what
    /// it has added up when it stops, too.
    pub fn audited(&self, action: &str) -> anyhow::Result<BTreeMap<(String, String), u64>> {
        let (status, page) = self.get(&format!("/audit?limit=1000&action={action}"))?;
        ensure!(status == 200, "{status}: {page}");
        let page: AuditPage = serde_json::from_value(page)?;
        let mut counts = BTreeMap::new();
        for entry in page.entries {
            let detail: Value = serde_json::from_str(entry.detail.context("a detail")?.get())?;
            let count = detail["count"].as_u64().with_context(|| detail.to_string())?;
            *counts.entry((entry.actor, entry.subject)).or_default() += count;
        }
        Ok(counts)
    }

    /// Posts a task that must be taken, under a new identifier; answers that.
    pub fn submit(&self, task_type: &str, payload: Value, endpoints: &[&str]) -> anyhow::Result<String> {
        let identifier = uuid::Uuid::new_v4().to_string();
        let body = json!({"identifier": identifier, "payload": payload, "endpoints": endpoints});
        let (status, answer) = self.post(&format!("/{task_type}"), &body)?;
        ensure!(status == 201, "{status}: {answer}");
        Ok(identifier)
    }

    /// Waits until a task has this status; answers it with its responses.
    pub fn task(&self, task_type: &str, identifier: &str, status: &str) -> anyhow::Result<Value> {
        self.until(&format!("{task_type} {identifier} is {status}"), |platform| {
            let (code, body) = platform.get(&format!("/{task_type}/{identifier}?wait=1s"))?;
            ensure!(code == 200 && body["task"]["status"] == status, "{code}: {body}");
            Ok(body)
        })
    }

    /// Waits until the response of an endpoint has this status.
    pub fn response(
        &self,
        task_type: &str,
        identifier: &str,
        endpoint: &str,
        status: &str,
    ) -> anyhow::Result<Value> {
        self.until(&format!("{endpoint}'s response is {status}"), |platform| {
            let (_, body) = platform.get(&format!("/{task_type}/{identifier}"))?;
            let response = response_of(&body, endpoint).with_context(|| body.to_string())?;
            ensure!(response["status"] == status, "{response}");
            Ok(response.clone())
        })
    }
}

/// The address of a private platform's database, with the account of its processes.
fn account_url(mariadb: &MariaDb) -> String {
    format!("mysql://{ACCOUNT}:secret@127.0.0.1:{}/tasker", mariadb.port())
}

/// The response of an endpoint in the answer of `GET /{type}/{id}`.
pub fn response_of<'a>(body: &'a Value, endpoint: &str) -> Option<&'a Value> {
    body["taskResponseList"].as_array()?.iter().find(|response| response["endpoint"] == endpoint)
}
