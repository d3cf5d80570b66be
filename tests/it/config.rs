//! The configuration files that come with the program.

use std::path::{Path, PathBuf};

use tasker::config::{ConfigError, ConfigFile, Environment, Loaded, Sources, load};

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
    let other = loaded.warnings.iter().filter(|warning| !warning.message.contains("everybody on this machine can read"));
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
    assert_eq!(keys(config.for_provisioning().expect_err("no administrator")), ["rabbitmq.username", "rabbitmq.password"]);
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
        format!(
            "cannot read the configuration file {}: there is no such file; go where it is, or name another with --config",
            absent.display()
        )
    );
    let latin = directory.path().join("latin.yaml");
    std::fs::write(&latin, b"task_types: [w\xf6rker]").expect("writes");
    assert_eq!(text(latin.clone()), format!("cannot read the configuration file {}: it is not UTF-8 text", latin.display()));
    assert!(text(directory.path().to_owned()).contains("directory"));
}
