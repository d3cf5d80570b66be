//! `tasker flamenco-manager`, and `tasker flamenco`: who works on the farm and on what. The latter works on
//! the manager's database itself, and so needs no manager that runs.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::args::{FlamencoCommand, FlamencoManager, Global};
use super::exit::Code;
use super::output::{self, Failure, note, print};
use super::render::visible;
use super::servers::{begin, ended};
use super::table::{Narrow, Table};
use crate::app::FlamencoProcess;
use crate::config::{Database, Log, LogFormat};
use crate::farm::{ObjectId, Request, Task, Worker};
use crate::flamenco::{self, FILE, Settings};
use crate::store::farm::Farm;
use crate::store::{self, SharedStore};
use crate::telemetry::start_logging;

/// Connections to a database server.
const CONNECTIONS: u32 = 16;

/// `tasker flamenco-manager`.
pub(super) async fn manager(global: &Global, args: FlamencoManager) -> Result<Code, Failure> {
    let signals = begin()?;
    let filter = match (args.debug, args.verbose) {
        (true, _) => "debug,sqlx=info,hyper_util=info,reqwest=info",
        (false, true) => "info",
        (false, false) => "warn",
    };
    let format = if global.json { LogFormat::Json } else { LogFormat::Text };
    start_logging(&Log { filter: filter.to_owned(), format }, &[]).map_err(Failure::Usage)?;
    let settings = settings(global)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    if args.cleanslate || args.purgequeue {
        let store = open(&settings).await?;
        let done = clean(&Farm::new(store.clone()), &args).await;
        store.close().await;
        return done;
    }
    // First what fails most often, before any file is made.
    let listener = listen(&settings.listen)?;
    let store = open(&settings).await?;
    let (scheme, server) = (if settings.tls.is_some() { "https" } else { "http" }, settings.server.clone());
    let process = FlamencoProcess::start(settings, store, listener)?;
    // It serves as well when nobody reads this.
    _ = print(&format!(
        "Flamenco Manager of tasker {} listens on {scheme}://{}/ for {server}\n",
        env!("CARGO_PKG_VERSION"),
        process.address
    ));
    let asked = signals.told_to_stop(process.died()).await;
    process.stop().await;
    ended(asked)
}

/// Deletes tasks or updates once somebody has pressed ENTER.
async fn clean(farm: &Farm, args: &FlamencoManager) -> Result<Code, Failure> {
    for (wanted, what, count) in [
        (args.cleanslate, "tasks", farm.count_tasks().await?),
        (args.purgequeue, "updates that the Server has not got", farm.count_updates().await?),
    ] {
        if !wanted {
            continue;
        }
        if count == 0 {
            print(&format!("There are no {what}.\n"))?;
            continue;
        }
        print(&format!("{count} {what} will be deleted. Press ENTER to go on, or Ctrl-C to keep them.\n"))?;
        // Read where it may wait: a signal still ends the program.
        let read = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new())).await;
        read.map_err(io::Error::other).flatten()?;
        let deleted = if what == "tasks" {
            flamenco::forget_downloads(farm).await?
        } else {
            farm.delete_all_updates().await?
        };
        print(&format!("{deleted} {what} were deleted.\n"))?;
    }
    Ok(Code::Ok)
}

fn settings(global: &Global) -> Result<Settings, Failure> {
    if global.mode.is_some() {
        return Err(Failure::Usage(format!(
            "there is one configuration, {FILE} in the working directory: name another with --config, not with -m"
        )));
    }
    let path = global.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
    Settings::read(&path).map_err(|error| Failure::Setup(error.to_string()))
}

/// The manager's database, with its tables.
async fn open(settings: &Settings) -> Result<SharedStore, Failure> {
    let store = store::open(&Database {
        verbose: false,
        uri: settings.database.clone(),
        max_connections: CONNECTIONS,
    })?;
    store.migrate().await?;
    Ok(store)
}

fn listen(address: &str) -> Result<TcpListener, Failure> {
    let failed = |error: io::Error| {
        Failure::Setup(format!("cannot listen on {address}: {error}; set another address with `listen`"))
    };
    let addresses: Vec<_> = address.to_socket_addrs().map_err(failed)?.collect();
    TcpListener::bind(&*addresses).map_err(failed)
}

/// `tasker flamenco`.
pub(super) async fn run(global: &Global, command: FlamencoCommand) -> Result<Code, Failure> {
    let store = open(&settings(global)?).await?;
    let done = on_farm(global, command, &Farm::new(store.clone())).await;
    store.close().await;
    done
}

async fn on_farm(global: &Global, command: FlamencoCommand, farm: &Farm) -> Result<Code, Failure> {
    match command {
        FlamencoCommand::Workers => {
            let workers = farm.workers().await?;
            let list: Vec<Value> = workers.iter().map(worker_as_json).collect();
            output::show(global.json, &json!({"workers": list}), |screen| {
                workers_table(&workers).text(screen)
            })?;
        }
        FlamencoCommand::Tasks(args) => {
            let tasks = farm.tasks_after(args.after, args.limit).await?;
            let list: Vec<Value> = tasks.iter().map(task_as_json).collect();
            output::show(global.json, &json!({"tasks": list}), |screen| tasks_table(&tasks).text(screen))?;
        }
        FlamencoCommand::SetStatus(args) => {
            let wanted = Request::by_people(&args.status).map_err(Failure::Usage)?;
            let worker = find(farm, &args.worker).await?;
            farm.change_worker(worker.id, move |worker| worker.request(wanted, args.lazy)).await?;
            let when = if args.lazy { "after its task" } else { "as soon as it asks" };
            note(&format!(
                "worker {} ({}) is told to become {} {when}",
                worker.id,
                worker.nickname,
                wanted.as_str()
            ));
        }
    }
    Ok(Code::Ok)
}

/// The worker of an id, or the only one of a nickname.
async fn find(farm: &Farm, name: &str) -> Result<Worker, Failure> {
    let workers = farm.workers().await?;
    let id: Option<ObjectId> = name.parse().ok();
    let mut named = workers.into_iter().filter(|worker| Some(worker.id) == id || worker.nickname == name);
    match (named.next(), named.next()) {
        (Some(worker), None) => Ok(worker),
        (None, _) => {
            Err(Failure::Setup(format!("there is no worker {name:?}; `tasker flamenco workers` lists them")))
        }
        (Some(_), Some(_)) => {
            Err(Failure::Setup(format!("several workers are called {name:?}; name one by its id")))
        }
    }
}

fn worker_as_json(worker: &Worker) -> Value {
    json!({
        "id": worker.id,
        "nickname": worker.nickname,
        "address": worker.address,
        "status": worker.status.as_str(),
        "status_requested": worker.requested.map(|request| request.as_str()),
        "current_task": worker.current_task,
        "last_activity": worker.last_activity,
        "task_types": worker.task_types,
    })
}

fn task_as_json(task: &Task) -> Value {
    json!({
        "id": task.id,
        "name": task.name,
        "status": task.status.as_str(),
        "job": task.job,
        "job_priority": task.job_priority,
        "priority": task.priority,
        "task_type": task.task_type,
        "worker": task.worker,
        "activity": task.activity,
    })
}

fn workers_table(workers: &[Worker]) -> Table<6> {
    use Narrow::{Drop, Keep};
    let columns = [
        ("WORKER", Keep),
        ("NICKNAME", Keep),
        ("STATUS", Keep),
        ("REQUESTED", Keep),
        ("TASK", Keep),
        ("LAST SEEN", Drop),
    ];
    let mut table = Table::new(columns);
    for worker in workers {
        let dash = || "-".to_owned();
        table.push([
            worker.id.to_string().into(),
            visible(&worker.nickname).into(),
            if worker.status.as_str().is_empty() { "registered" } else { worker.status.as_str() }.into(),
            worker.requested.map_or_else(dash, |request| request.as_str().to_owned()).into(),
            worker.current_task.map_or_else(dash, |task| task.to_string()).into(),
            worker.last_activity.map_or_else(dash, |time| time.to_string()).into(),
        ]);
    }
    table
}

fn tasks_table(tasks: &[Task]) -> Table<6> {
    use Narrow::{Drop, Keep};
    let mut table = Table::new([
        ("TASK", Keep),
        ("NAME", Keep),
        ("STATUS", Keep),
        ("TYPE", Keep),
        ("WORKER", Keep),
        ("PRIORITY", Drop),
    ]);
    for task in tasks {
        table.push([
            task.id.to_string().into(),
            visible(&task.name).into(),
            task.status.as_str().into(),
            visible(&task.task_type).into(),
            visible(&task.worker).into(),
            format!("{}/{}", task.job_priority, task.priority).into(),
        ]);
    }
    table
}
