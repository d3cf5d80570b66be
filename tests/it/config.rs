//! The configuration files that come with the program.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use tasker::config::{ConfigError, ConfigFile, Environment, Loaded, Sources, load};

use crate::support::place::Place;
use tasker_services::Port;

fn shipped(name: &str, environment: Environment) -> Result<Loaded, ConfigError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    load(&Sources { file: ConfigFile::Path(path), environment, flags: Vec::new() })
}

fn keys(error: ConfigError) -> Vec<String> {
    error.problems().into_iter().map(|problem| problem.key).collect()
}

#[test]
fn development_has_all_that_every_command_needs() {
    let loaded = shipped("development.config.yaml", Environment::default()).expect("valid");
    // Its passwords are those of a trial, and the rights of the file are those of a checkout.
    let other = loaded
        .warnings
        .iter()
        .filter(|warning| !warning.message.contains("everybody on this machine can read"));
    assert_eq!(other.count(), 0, "{:?}", loaded.warnings);
    assert_eq!(loaded.config.begun().count(), 0);
    let (db, queue) = loaded.config.for_api().expect("an API can start");
    assert_eq!(db.uri.reveal(), "mysql://tasker:tasker@localhost:3306/tasker");
    assert_eq!((queue.exchange.as_str(), queue.virtual_host.as_str()), ("tasker_local", "tasker"));
    assert!(loaded.config.for_provisioning().is_ok());
}

#[test]
fn production_takes_all_that_is_secret_from_the_environment() {
    let all = Environment::of([
        ("TASKER_DB_HOST", "db.example"),
        ("TASKER_DB_PASSWORD", "p%40ss"),
        ("TASKER_MQ_HOST", "mq.example"),
        ("TASKER_MQ_PASSWORD", "p: @#ss"),
        ("RABBITMQ_ADMIN_USER", "admin"),
        ("RABBITMQ_ADMIN_PASSWORD", "secret"),
    ]);
    let loaded = shipped("production.config.yaml", all).expect("valid");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let (db, queue) = loaded.config.for_api().expect("an API can start");
    assert_eq!(db.uri.reveal(), "mysql://tasker:p%40ss@db.example:3306/tasker?ssl-mode=VERIFY_IDENTITY");
    assert_eq!((queue.password.reveal(), queue.tls, queue.port), ("p: @#ss", true, 5671));
    assert_eq!(loaded.config.management().expect("given").apiurl, "https://mq.example:15671/api");
}

#[test]
fn production_endpoints_need_no_secret_but_the_brokers() {
    let fleet = Environment::of([("TASKER_MQ_HOST", "mq.example"), ("TASKER_MQ_PASSWORD", "secret")]);
    let config = shipped("production.config.yaml", fleet).expect("valid").config;
    assert!(config.for_endpoint().is_ok());
    assert_eq!(keys(config.for_api().expect_err("no database")), ["manager.db.uri"]);
    assert_eq!(
        keys(config.for_provisioning().expect_err("no administrator")),
        ["rabbitmq.username", "rabbitmq.password"]
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = |path: PathBuf| {
        let sources = Sources { file: ConfigFile::Path(path), ..Sources::default() };
        load(&sources).expect_err("cannot be read").to_string()
    };
    let absent = directory.path().join("absent.yaml");
    assert_eq!(
        text(absent.clone()),
        format!("cannot read the configuration file {}: there is no such file", absent.display())
    );
    let latin = directory.path().join("latin.yaml");
    std::fs::write(&latin, b"task_types: [w\xf6rker]").expect("writes");
    assert_eq!(
        text(latin.clone()),
        format!("cannot read the configuration file {}: it is not UTF-8 text", latin.display())
    );
    assert!(text(directory.path().to_owned()).contains("directory"));
}

#[test]
fn a_platform_listens_where_its_configuration_says() -> anyhow::Result<()> {
    let place = Place::new()?;
    let (one, other) = (Port::free()?, Port::free()?);
    place.write(
        "c.yaml",
        &format!("task_types: [worker]\napi: {{host: localhost, port: {}}}", one.number()),
    )?;
    let (one, other) = (format!("127.0.0.1:{}", one.number()), format!("127.0.0.1:{}", other.number()));
    ensure!(place.up("--config c.yaml")?.api == format!("http://{one}"));
    // Each layer goes before the one below it.
    let port = other.rsplit_once(':').unwrap_or_default().1;
    let mut command = place.command("up --config c.yaml");
    command.env("TASKER_API__PORT", port);
    ensure!(place.up_by(command)?.api == format!("http://{other}"));
    for listen in [port, &format!(":{port}"), &format!("localhost:{port}"), &other] {
        let mut command = place.command(&format!("up --config c.yaml --listen {listen}"));
        command.env("TASKER_API__PORT", "1");
        ensure!(place.up_by(command)?.api == format!("http://{other}"), "{listen}");
    }
    Ok(())
}

#[test]
fn a_client_finds_the_api_of_its_configuration() -> anyhow::Result<()> {
    let place = Place::new()?;
    let (one, other) = (Port::free()?, Port::free()?);
    let text =
        |port: &Port| format!("task_types: [worker]\napi: {{host: '0.0.0.0', port: {}}}", port.number());
    place.write("config/development.config.yaml", &text(&one))?;
    place.write("config/staging.config.yaml", &text(&other))?;
    let safe = format!(
        "task_types: [worker]\napi: {{host: '::', port: {}, tls: {{certificate: c, key: k}}}}",
        other.number()
    );
    place.write("config/safe.config.yaml", &safe)?;
    // Nobody listens: the text names the address.
    for (line, address) in [
        ("endpoints", format!("http://127.0.0.1:{}", one.number())),
        ("endpoints -m staging", format!("http://127.0.0.1:{}", other.number())),
        ("endpoints --config config/staging.config.yaml", format!("http://127.0.0.1:{}", other.number())),
        ("endpoints -m safe", format!("https://[::1]:{}", other.number())),
        ("endpoints -m staging --api http://127.0.0.1:1", "http://127.0.0.1:1".to_owned()),
    ] {
        let said = place.refused(line)?;
        ensure!(said.starts_with(&format!("tasker: no API answers at {address} ")), "{line}: {said}");
    }
    let of = |line: &str, name: &str, value: &str| -> anyhow::Result<String> {
        Ok(String::from_utf8(place.command(line).env(name, value).output()?.stderr)?)
    };
    ensure!(
        of("endpoints -m staging", "TASKER_API_URL", "http://127.0.0.1:2")?
            .contains("at http://127.0.0.1:2 ")
    );
    ensure!(of("endpoints", "TASKER_API__PORT", "3")?.contains("at http://127.0.0.1:3 "));
    Ok(())
}

#[test]
fn a_client_does_without_a_configuration_that_nobody_has_named() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write("config/development.config.yaml", "task_types: []\napi: {prot: 1}")?;
    let said = place.any("endpoints")?.err;
    ensure!(
        said.starts_with(
            "tasker: warning: taking http://127.0.0.1:8888 for the API, since the configuration has"
        ),
        "{said}"
    );
    // One that was named must be right.
    let said = place.refused("endpoints -m development")?;
    ensure!(said.starts_with("tasker: the configuration") && said.contains("did you mean `port`?"), "{said}");
    place.write("c.yaml", "task_types: [worker]\napi: {port: 0}")?;
    ensure!(place.refused("endpoints --config c.yaml")?.contains("name the API with --api URL"));
    Ok(())
}

#[test]
fn a_mode_without_a_file_says_where_it_was_looked_for() -> anyhow::Result<()> {
    let said = Place::new()?.refused("endpoints -m nowhere")?;
    for words in [
        "config/nowhere.config.yaml",
        "/etc/tasker/nowhere.config.yaml",
        "the directory that has `config/`",
        "--config FILE",
    ] {
        ensure!(said.contains(words), "{words} in {said}");
    }
    Ok(())
}

#[test]
fn a_worker_takes_the_broker_unless_it_is_told_otherwise() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write("c.yaml", "task_types: [{name: q, delivery: queue}]")?;
    // Without a broker it ends at once, and says which it would take.
    let said =
        place.command("worker -e w --config c.yaml").env("TASKER_API_URL", "http://127.0.0.1:1").output()?;
    ensure!(String::from_utf8(said.stderr)?.contains("manager.message_queue.host"));
    Ok(())
}

#[test]
fn an_address_that_is_taken_comes_with_the_way_out() -> anyhow::Result<()> {
    let place = Place::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let said = place.refused(&format!("up --listen {}", taken.local_addr()?))?;
    ensure!(
        said.contains("another process listens there") && said.contains("--listen 127.0.0.1:PORT"),
        "{said}"
    );
    // An address that is for documentation only.
    let said = place.refused("up --listen 192.0.2.1:8888")?;
    ensure!(said.contains("this machine does not have the address") && said.contains("--listen"), "{said}");
    ensure!(!place.path().join("tasker-data").exists(), "no file is made before");
    let said = place.refused("up --listen 127.0.0.1:0 --data-dir /proc/tasker")?;
    ensure!(
        said.contains(
            "cannot create the directory /proc/tasker; name one that you may write to with --data-dir"
        ),
        "{said}"
    );
    Ok(())
}
