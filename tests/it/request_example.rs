//! The example of requests whole: its configuration with the environment of the original, its handlers,
//! MariaDB, and three small services, of which one is down and comes back.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tasker_services::{Home, Port, Process, until};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(90);
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/requests.config.yaml");
const HANDLERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/requests");

/// A service with user accounts. Knows the user 333.
struct Service {
    port: Port,
    calls: Arc<Mutex<Vec<String>>>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Service {
    fn down() -> anyhow::Result<Self> {
        Ok(Self { port: Port::free()?, calls: Arc::default(), running: None })
    }

    fn up() -> anyhow::Result<Self> {
        let mut service = Self::down()?;
        service.start()?;
        Ok(service)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port.number()))?;
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), self.calls.clone());
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up is its own affair.
                _ = answer(stream, &calls);
            }
        });
        self.running = Some((stop, thread));
        Ok(())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.store(true, Ordering::SeqCst);
            _ = TcpStream::connect(("127.0.0.1", self.port.number()));
            _ = thread.join();
        }
    }
}

fn answer(stream: TcpStream, calls: &Mutex<Vec<String>>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (method, path) = first.split_once(' ').context("no request")?;
    let path = path.split(' ').next().unwrap_or_default();
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
    let known = path.split('?').next() == Some("/users/333");
    let (status, body) = match (method, known) {
        ("GET", true) => ("200 OK", r#"{"id": 333, "email": "ada@example.net"}"#),
        ("DELETE", true) => ("200 OK", "{}"),
        _ => ("404 Not Found", "{}"),
    };
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    reader.get_mut().write_all(answer.as_bytes())?;
    Ok(())
}

/// A database with nothing in it, and the `tasker up` on it.
struct Site {
    home: Home,
    port: Port,
    database: String,
    services: [Service; 3],
    up: Option<Process>,
}

impl Site {
    fn new(services: [Service; 3]) -> anyhow::Result<Self> {
        let database = format!("t{}", uuid::Uuid::new_v4().simple());
        Ok(Self { home: Home::new("requests")?, port: Port::free()?, database, services, up: None })
    }

    /// As its unit starts it, with this directory and port.
    fn command(&self, data: &str, port: u16) -> anyhow::Result<Command> {
        let mut command = tasker();
        command
            .args(["up", "--use-database", "--config", CONFIG, "--endpoints", "", "--data-dir"])
            .arg(self.home.join(data));
        let server: reqwest::Url = shared()?.parse()?;
        command
            .env("PORT", port.to_string())
            .env("ENV", "test")
            .env("TASKER_ENDPOINT__HANDLERS_DIR", HANDLERS);
        command.env("DB_USER", server.username()).env("DB_PASS", server.password().unwrap_or_default());
        let port = server.port().context("a database server has a port")?.to_string();
        command
            .env("DB_HOST", server.host_str().unwrap_or_default())
            .env("DB_PORT", port)
            .env("DB_NAME", &self.database);
        for (name, service) in ["URL_SERVICE1", "URL_SERVICE2", "URL_SERVICE3"].iter().zip(&self.services) {
            command.env(name, service.url());
        }
        Ok(command)
    }

    fn start(&mut self, more: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = self.command("data", self.port.number())?;
        command.envs(more.iter().copied());
        let mut up = self.home.start("up", &mut command)?;
        up.ready(PATIENCE, || {
            let said = self.says(&["endpoints", "--json"])?;
            ensure!(said.1.matches(r#""subscribed":true"#).count() == 4, "{said:?}");
            Ok(())
        })?;
        self.up = Some(up);
        Ok(())
    }

    /// What a command prints, and how it ends.
    fn says(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let api = format!("http://127.0.0.1:{}", self.port.number());
        let output = tasker().args(arguments).args(["--api", &api]).current_dir(self.home.path()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let said = self.says(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&said.1).with_context(|| format!("{said:?}"))
    }

    fn submit(&self) -> anyhow::Result<String> {
        let token =
            self.json(&["request", "submit", "retrieve_user", "--param", "id=333", "--param", "email="])?;
        Ok(token["token"].as_str().context("a token")?.to_owned())
    }

    fn log(&self) -> String {
        self.up.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Runs a statement of a producer.
    fn sql(&self, statement: &str) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut conn = MySqlConnection::connect(&format!("{}/{}", shared()?, self.database)).await?;
            sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut conn).await?;
            Ok(conn.close().await?)
        })
    }
}

fn shared() -> anyhow::Result<String> {
    std::env::var("TASKER_TEST_MYSQL").context("TASKER_TEST_MYSQL is not set: run `cargo xtask test`")
}

fn tasker() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    for name in ["TASKER_TOKEN", "TASKER_API_URL", "WRK_ENABLED", "WRK_JOB_CRON"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn a_user_is_deleted_everywhere_once_every_service_is_back() -> anyhow::Result<()> {
    let mut site = Site::new([Service::up()?, Service::down()?, Service::up()?])?;
    site.start(&[])?;
    let token = site.submit()?;
    let jobs = |request: &Value, name: &str| -> Vec<Value> {
        request["jobs"].as_array().into_iter().flatten().filter(|job| job["name"] == name).cloned().collect()
    };
    // The service that is down has its job tried again; the attempt stays, with its error.
    let waiting = until("the job is tried again", PATIENCE, || {
        let request = site.json(&["request", "show", &token])?;
        ensure!(jobs(&request, "service2DeleteUser").len() >= 2, "{request}");
        Ok(request)
    })
    .with_context(|| site.log())?;
    let second = jobs(&waiting, "service2DeleteUser");
    ensure!(waiting["status"] == "Inprogress" && waiting["step"] == 1, "{waiting}");
    ensure!(
        second[0]["status"] == "retry"
            && second[0]["error"].as_str().is_some_and(|error| error.contains("refused")),
        "{waiting}"
    );
    let (code, drawn, _) = site.says(&["request", "show", &token])?;
    ensure!(
        code == Some(0)
            && drawn.contains("✓ service1_retrieve_user")
            && drawn.contains("↻ service2DeleteUser"),
        "{drawn}"
    );

    site.services[1].start()?;
    let (code, drawn, told) = site.says(&["request", "show", &token, "--wait", "80s"])?;
    ensure!(
        code == Some(0)
            && drawn.starts_with("Completed retrieve_user")
            && drawn.contains("4 of 4 jobs completed"),
        "{drawn}{told}"
    );
    let request = site.json(&["request", "show", &token])?;
    ensure!(
        request["extras"] == json!({"email": "ada@example.net"})
            && request["params"] == json!({"id": 333, "email": ""}),
        "{request}"
    );
    // What the first step has found out reaches the second.
    let deleted = "DELETE /users/333?email=ada%40example.net".to_owned();
    assert_eq!(site.services[0].calls(), ["GET /users/333".to_owned(), deleted.clone()]);
    assert_eq!((site.services[1].calls(), site.services[2].calls()), (vec![deleted.clone()], vec![deleted]));

    // A user whom nobody knows ends the request at its first step.
    let (code, drawn, _) =
        site.says(&["request", "submit", "retrieve_user", "--param", "id=7", "--wait", "80s"])?;
    ensure!(
        code == Some(2)
            && drawn.starts_with("Failed retrieve_user")
            && drawn.contains("URL_SERVICE1 answers 404"),
        "{drawn}"
    );
    Ok(())
}

#[test]
fn a_producer_inserts_rows_as_before_and_switches_the_worker_off() -> anyhow::Result<()> {
    let mut site = Site::new([Service::up()?, Service::up()?, Service::up()?])?;
    site.start(&[("WRK_ENABLED", "false")])?;
    site.sql(
        r#"INSERT INTO requests (token, request_token, action, params, steps) VALUES ('from-sql', 'r1', 'retrieve_user',
           '{"id": 333, "email": ""}', '[{"name": "service1_retrieve_user", "jobs": ["service1GetUser"]}]')"#,
    )?;
    let token = site.submit()?;
    // The HTTP side answers; nothing goes on.
    let (code, _, told) = site.says(&["request", "show", "from-sql", "--wait", "2s"])?;
    ensure!(code == Some(124) && told.contains("the request goes on"), "{told}");
    for token in ["from-sql", &token] {
        ensure!(site.json(&["request", "show", token])?["status"] == "Queuing", "{token}");
    }
    let mut off = site.up.take().context("it runs")?;
    off.stop(PATIENCE)?;
    drop(off);

    site.start(&[])?;
    for token in ["from-sql", &token] {
        let (code, drawn, told) = site.says(&["request", "show", token, "--wait", "80s"])?;
        ensure!(code == Some(0) && drawn.starts_with("Completed"), "{drawn}{told}");
    }
    Ok(())
}

#[test]
fn a_database_is_served_by_one_process() -> anyhow::Result<()> {
    let mut site = Site::new([Service::up()?, Service::up()?, Service::up()?])?;
    site.start(&[])?;
    let token = site.submit()?;
    let second = site.command("elsewhere", Port::free()?.number())?.output()?;
    let told = String::from_utf8_lossy(&second.stderr);
    ensure!(
        second.status.code() == Some(1)
            && told.contains("another `tasker up` uses the database of manager.db"),
        "{told}"
    );
    let (code, drawn, told) = site.says(&["request", "show", &token, "--wait", "80s"])?;
    ensure!(code == Some(0) && drawn.starts_with("Completed"), "{drawn}{told}");
    // A process that was killed holds nothing.
    site.up.take().context("it runs")?.kill()?;
    site.start(&[])
}
