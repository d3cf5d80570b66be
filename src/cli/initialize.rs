//! `tasker initialize`: what must be there before the first process starts.

use std::io::{self, IsTerminal};

use crate::broker::provision::provision;
use crate::config::{Database, Management, MessageQueue};
use crate::store::{self, StoreError};

use super::args::{Global, Initialize};
use super::exit::Code;
use super::output::{self, Failure, note, print};
use super::settings;

pub(super) async fn run(global: &Global, args: Initialize) -> Result<Code, Failure> {
    let parts: Vec<&str> = [(args.database, "manager.db"), (args.rabbitmq, "rabbitmq")]
        .into_iter()
        .filter_map(|(used, part)| used.then_some(part))
        .collect();
    let config = settings::read(global.file(), &parts)?;
    // Nothing is touched before everything that is needed is known to be there.
    let db = args.database.then(|| config.database()).transpose()?;
    let broker = args.rabbitmq.then(|| config.for_provisioning()).transpose()?;
    if args.reset {
        confirm(&args, broker)?;
    }
    if let Some(db) = db {
        let done = database(db, args.reset).await?;
        print(&format!("database: {done}\n"))?;
    }
    if let Some((queue, management)) = broker {
        for step in rabbitmq(queue, management, args.reset).await? {
            print(&format!("rabbitmq: {step}\n"))?;
        }
    }
    Ok(Code::Ok)
}

/// Nothing is deleted by accident: either `--yes`, or a person who types it.
fn confirm(args: &Initialize, broker: Option<(&MessageQueue, &Management)>) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let mut losses = Vec::new();
    if args.database {
        losses.push("all tasks and tokens in the database manager.db.uri names".to_owned());
    }
    if let Some((queue, _)) = broker {
        losses.push(format!(
            "virtual host {} with all its queues, and user {}",
            queue.virtual_host, queue.username
        ));
    }
    let losses = losses.join(", and ");
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::Usage(format!(
            "--reset deletes {losses}: add --yes to do so without being asked"
        )));
    }
    note(&format!("This deletes {losses}. Type yes to go on:"));
    if output::answer()? == "yes" { Ok(()) } else { Err(Failure::Usage("nothing was deleted".to_owned())) }
}

/// Brings the schema up to date; with `reset`, drops what is there first. Answers what was done.
async fn database(db: &Database, reset: bool) -> Result<&'static str, Failure> {
    let store = store::open(db).map_err(setup)?;
    let before = store.check_schema().await;
    let done = if reset { store.reset().await } else { store.migrate().await };
    store.close().await;
    done.map_err(setup)?;
    Ok(match before {
        _ if reset => "created the tables anew",
        Ok(()) => "the tables are there",
        Err(StoreError::NoTables { .. }) => "created the tables",
        Err(_) => "updated the tables",
    })
}

/// Creates virtual host, user and permissions; with `reset`, deletes what is there first.
async fn rabbitmq(
    queue: &MessageQueue,
    management: &Management,
    reset: bool,
) -> Result<Vec<String>, Failure> {
    provision(management, queue, reset).await.map_err(setup)
}

fn setup(error: impl std::fmt::Display) -> Failure {
    Failure::Setup(error.to_string())
}
