//! What is said of a database or broker that cannot be used: what is wrong, and what to do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tasker_services::{Home, until};

use crate::support::management;
use crate::support::place::Place;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the shared servers are.
fn shared(name: &str) -> anyhow::Result<reqwest::Url> {
    let address =
        std::env::var(name).with_context(|| format!("{name} is not set: run `cargo xtask test`"))?;
    Ok(address.parse()?)
}

fn port_of(name: &str) -> anyhow::Result<u16> {
    shared(name)?.port().context("it has a port")
}

/// A port that takes connections, reads something and answers so.
fn answers(answer: &'static [u8]) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // Ends with the process of the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut bytes = [0; 8];
                _ = stream.read(&mut bytes);
                _ = stream.write_all(answer);
            });
        }
    });
    Ok(port)
}

/// A port that speaks first.
fn greets(greeting: &'static [u8]) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            _ = stream.write_all(greeting);
        }
    });
    Ok(port)
}

/// A port that nobody listens on.
fn nobody() -> anyhow::Result<tasker_services::Port> {
    tasker_services::Port::free()
}

fn database(uri: &str) -> String {
    format!("task_types: [worker]\nmanager: {{db: {{uri: '{uri}'}}}}")
}

#[test]
fn a_database_that_keeps_us_out_says_why() -> anyhow::Result<()> {
    let (place, port) = (Place::new()?, port_of("TASKER_TEST_MYSQL")?);
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let administer = |statements: &[String]| {
        runtime.block_on(async {
            let mut administrator = MySqlConnection::connect(shared("TASKER_TEST_MYSQL")?.as_str()).await?;
            for statement in statements {
                administrator
                    .execute(AssertSqlSafe(statement.clone()))
                    .await
                    .with_context(|| statement.clone())?;
            }
            anyhow::Ok(administrator.close().await?)
        })
    };
    administer(&[
        format!("CREATE DATABASE {name}"),
        format!("CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'secret'"),
        format!("CREATE USER {name}@localhost IDENTIFIED BY 'secret'"),
    ])?;
    let free = nobody()?;
    let (other, waiting) = (greets(b"220 mail.example ESMTP, not a database\r\n")?, answers(b"")?);
    let user =
        |password: &str, database: &str| format!("mysql://{name}:{password}@127.0.0.1:{port}/{database}");
    let table = [
        (
            user("wrong", &name),
            vec![format!("does not let user `{name}` in with this password"), "1045".to_owned()],
        ),
        (
            user("secret", &name),
            vec![
                format!("user `{name}` may not use the database `{name}`"),
                format!("GRANT ALL ON {name}.* TO {name}"),
            ],
        ),
        (
            format!("mysql://u:p@127.0.0.1:{}/x", free.number()),
            vec![format!("nothing listens at 127.0.0.1:{}", free.number())],
        ),
        (
            "mysql://u:p@nowhere.invalid/x?ssl-mode=VERIFY_IDENTITY".to_owned(),
            vec!["the host name `nowhere.invalid` is not known".to_owned()],
        ),
        (
            format!("mysql://u:p@127.0.0.1:{other}/x"),
            vec![format!("127.0.0.1:{other} ended the connection without a hello of MySQL")],
        ),
        (
            format!("mysql://u:p@127.0.0.1:{waiting}/x"),
            vec![format!("something listens at 127.0.0.1:{waiting} and does not say hello")],
        ),
    ];
    for (uri, words) in table {
        place.write("c.yaml", &database(&uri))?;
        for line in ["initialize -d --config c.yaml", "config check --connect --config c.yaml"] {
            let said = place.refused(line)?;
            for word in &words {
                ensure!(said.contains(word.as_str()), "{word} in {line} for {uri}: {said}");
            }
            ensure!(
                said.starts_with("tasker: ") && !said.contains("wrong@") && !said.contains(":secret"),
                "{line}: {said}"
            );
        }
    }
    // One who may create nothing, where there is nothing.
    administer(&[
        format!("GRANT SELECT ON {name}.* TO {name}@'127.0.0.1'"),
        format!("GRANT SELECT ON {name}.* TO {name}@localhost"),
    ])?;
    place.write("c.yaml", &database(&user("secret", &name)))?;
    let said = place.refused("initialize -d --config c.yaml")?;
    ensure!(said.contains(&format!("user `{name}` has too few rights")) && said.contains("1142"), "{said}");
    administer(&[
        format!("DROP DATABASE {name}"),
        format!("DROP USER {name}@'127.0.0.1', {name}@localhost"),
    ])?;
    // The administrator may create what is missing, and an API process does not.
    let api = format!("{}/{name}", shared("TASKER_TEST_MYSQL")?.as_str().trim_end_matches('/'));
    let queue = "message_queue: {host: 127.0.0.1, port: 1, username: u, password: p}";
    place.write(
        "c.yaml",
        &format!("task_types: [worker]\napi: {{port: 0}}\nmanager: {{db: {{uri: '{api}'}}, {queue}}}"),
    )?;
    for line in ["api --config c.yaml", "config check --connect --for api --config c.yaml"] {
        let said = place.refused(line)?;
        ensure!(
            said.contains(&format!("the server has no database `{name}`"))
                && said.contains("`tasker initialize --database`"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn a_running_api_says_in_its_log_why_it_has_no_database() -> anyhow::Result<()> {
    let (home, port) = (Home::new("trouble")?, port_of("TASKER_TEST_MYSQL")?);
    let free = nobody()?;
    let config = format!(
        "task_types: [worker]\napi: {{port: 0}}\nmanager:\n  db: {{uri: 'mysql://nobody:wrong@127.0.0.1:{port}/x'}}\n  \
         message_queue: {{host: 127.0.0.1, port: {}, username: u, password: p}}",
        free.number()
    );
    home.write("c.yaml", &config)?;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tasker"));
    let api = home.start("api", command.args(["api", "--config", "c.yaml"]))?;
    until("the log tells why", PATIENCE, || {
        let log = api.log();
        for words in [
            "starting without the database",
            "the database keeps this process out; trying again",
            "does not let user `nobody` in with this password",
            &format!("nothing listens at 127.0.0.1:{}; start the broker", free.number()),
        ] {
            ensure!(log.contains(words), "{words} in {log}");
        }
        Ok(())
    })
}

#[test]
fn a_broker_that_keeps_us_out_says_why() -> anyhow::Result<()> {
    let (place, amqp) = (Place::new()?, port_of("TASKER_TEST_AMQP")?);
    let administrator = management::configuration();
    let management_port = port_of("TASKER_TEST_RABBITMQ_API")?;
    let (free, silent) = (nobody()?, answers(b"")?);
    // What a server of TLS says to somebody who does not speak it: a fatal alert.
    let tls = answers(b"\x15\x03\x03\x00\x02\x02\x46")?;
    let (user, password) = (administrator.username.as_str(), administrator.password.reveal());
    let queue = |port: u16, user: &str, password: &str, more: &str| {
        format!("{{host: 127.0.0.1, port: {port}, username: {user}, password: {password}, {more}}}")
    };
    let table = [
        (
            queue(amqp, user, "wrong", "virtual_host: /"),
            vec![format!("does not let user `{user}` in with this password"), "403".to_owned()],
        ),
        (
            queue(amqp, user, password, "virtual_host: nowhere"),
            vec!["no virtual host `nowhere`".to_owned(), "--rabbitmq".to_owned()],
        ),
        (
            queue(free.number(), "u", "p", "virtual_host: x"),
            vec![format!("nothing listens at 127.0.0.1:{}", free.number())],
        ),
        (
            queue(management_port, "u", "p", "virtual_host: x"),
            vec![format!("127.0.0.1:{management_port} speaks HTTP")],
        ),
        (
            queue(tls, "u", "p", "virtual_host: x"),
            vec![format!("127.0.0.1:{tls} speaks TLS"), "tls: true".to_owned()],
        ),
        (
            queue(silent, "u", "p", "virtual_host: x"),
            vec![format!("127.0.0.1:{silent} ends the connection without a word")],
        ),
        (
            queue(amqp, "u", "p", "tls: true"),
            vec![format!("127.0.0.1:{amqp} does not speak TLS"), "tls: false".to_owned()],
        ),
        (
            "{host: nowhere.invalid, username: u, password: p, tls: true}".to_owned(),
            vec![
                "the host name `nowhere.invalid` is not known; correct manager.message_queue.host".to_owned(),
            ],
        ),
    ];
    for (queue, words) in table {
        place.write("c.yaml", &format!("task_types: [worker]\nmanager: {{message_queue: {queue}}}"))?;
        let said = place.refused("config check --for endpoint --connect --config c.yaml")?;
        for word in &words {
            ensure!(said.contains(word.as_str()), "{word} for {queue}: {said}");
        }
    }
    // Two that are away: each is told in a line of its own.
    place.write(
        "c.yaml",
        &format!(
            "task_types: [worker]\nmanager: {{db: {{uri: 'mysql://u:p@127.0.0.1:{}/x'}}, message_queue: {}}}",
            free.number(),
            queue(free.number(), "u", "p", "virtual_host: x")
        ),
    )?;
    let said = place.refused("config check --for api --connect --config c.yaml")?;
    ensure!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("tasker: ")), "{said}");
    place.write(
        "c.yaml",
        &format!(
            "task_types: [worker]\nmanager: {{message_queue: {}}}",
            queue(amqp, user, password, "virtual_host: /")
        ),
    )?;
    ensure!(place.good("config check --for endpoint --connect --config c.yaml")?.out == "ok\n");
    Ok(())
}

#[test]
fn a_management_interface_that_is_not_there_says_why() -> anyhow::Result<()> {
    let place = Place::new()?;
    let free = nobody()?;
    let (amqp, port) = (port_of("TASKER_TEST_AMQP")?, port_of("TASKER_TEST_RABBITMQ_API")?);
    for (address, words) in [
        (format!("http://127.0.0.1:{}/api", free.number()), "rabbitmq-plugins enable rabbitmq_management"),
        (format!("http://127.0.0.1:{amqp}/api"), "does not answer as HTTP does"),
        (format!("https://127.0.0.1:{port}/api"), "does not speak TLS; write http://"),
        ("https://nowhere.invalid/api".to_owned(), "the host name is not known"),
    ] {
        let queue = "{host: 127.0.0.1, username: u, password: p}";
        let text = format!(
            "task_types: [worker]\nmanager: {{message_queue: {queue}}}\nrabbitmq: {{apiurl: '{address}', username: u, password: p}}"
        );
        place.write("c.yaml", &text)?;
        let said = place.refused("initialize -r --config c.yaml")?;
        ensure!(
            said.starts_with("tasker: no answer from the management interface at ") && said.contains(words),
            "{address}: {said}"
        );
    }
    Ok(())
}
