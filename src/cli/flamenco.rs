//! `tasker flamenco-manager`, and `tasker flamenco`: who works on the farm and on what. The latter works on
//! the manager's database itself, and so needs no manager that runs.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::path::PathBuf;

use serde_json::json;

use super::args::{FlamencoCommand, FlamencoManager, Global};
use super::exit::Code;
use super::output::{self, Failure, note, print};
use super::process::{begin, ended};
use super::render::visible;
use super::table::{Narrow, Table};
use crate::app::FlamencoProcess;
use crate::config::{Database, Log, LogFormat};
use crate::contract::{FlamencoJob, FlamencoTask, FlamencoTaskDetail, FlamencoWorker};
use crate::farm::{ObjectId, Request, TaskStatus, Worker};
use crate::flamenco::{self, FILE, Settings};
use crate::store::farm::{Farm, FarmTaskOrder, FarmTaskQuery};
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
        // The input has ended, so nobody has pressed a key.
        if read.map_err(io::Error::other).flatten()? == 0 {
            return Err(Failure::Usage(format!("nobody pressed ENTER, so the {count} {what} are kept")));
        }
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

fn database(settings: &Settings) -> Database {
    Database { verbose: false, uri: settings.database.clone(), max_connections: CONNECTIONS }
}

/// The manager's database, with its tables.
async fn open(settings: &Settings) -> Result<SharedStore, Failure> {
    let store = store::open(&database(settings))?;
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
    // The manager makes it: what others make, it may not be able to use.
    let store = store::open_existing(&database(&settings(global)?))?;
    store.check_schema().await?;
    let done = on_farm(global, command, &Farm::new(store.clone())).await;
    store.close().await;
    done
}

async fn on_farm(global: &Global, command: FlamencoCommand, farm: &Farm) -> Result<Code, Failure> {
    match command {
        FlamencoCommand::Workers => {
            let workers: Vec<_> = farm.workers().await?.into_iter().map(FlamencoWorker::from).collect();
            output::show(global.json, &json!({"workers": workers}), |screen| {
                workers_table(&workers).text(screen)
            })?;
        }
        FlamencoCommand::Jobs(args) => {
            let page = farm.jobs(args.before, args.limit).await?;
            let jobs: Vec<_> = page.items.into_iter().map(FlamencoJob::from).collect();
            output::show(global.json, &json!({"jobs": jobs}), |screen| jobs_table(&jobs).text(screen))?;
        }
        FlamencoCommand::Tasks(args) => {
            let order = match args.latest {
                true => FarmTaskOrder::Latest(None),
                false => FarmTaskOrder::Oldest(args.after),
            };
            let query = FarmTaskQuery { job: args.job, statuses: args.status, order, most: args.limit };
            let page = farm.tasks(query).await?;
            let tasks: Vec<_> = page.items.into_iter().map(FlamencoTask::from).collect();
            output::show(global.json, &json!({"tasks": tasks}), |screen| tasks_table(&tasks).text(screen))?;
        }
        FlamencoCommand::Task { id } => {
            let Some((task, log_tail)) = farm.task_with_log(id).await? else {
                return Err(Failure::Setup(format!(
                    "the farm has no task {id}; `tasker flamenco tasks` lists them"
                )));
            };
            let task = FlamencoTaskDetail::new(task, log_tail);
            output::show(global.json, &task, |_| task_text(&task))?;
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

fn dash() -> String {
    "-".to_owned()
}

fn workers_table(workers: &[FlamencoWorker]) -> Table<6> {
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
        table.push([
            worker.id.to_string().into(),
            visible(&worker.nickname).into(),
            if worker.status.is_empty() { "registered" } else { &worker.status }.into(),
            worker.status_requested.clone().unwrap_or_else(dash).into(),
            worker.current_task.map_or_else(dash, |task| task.to_string()).into(),
            worker.last_activity.map_or_else(dash, |time| time.to_string()).into(),
        ]);
    }
    table
}

fn jobs_table(jobs: &[FlamencoJob]) -> Table<7> {
    use Narrow::{Drop, Keep};
    let mut table = Table::new([
        ("JOB", Keep),
        ("TYPE", Keep),
        ("PRIORITY", Drop),
        ("TASKS", Keep),
        ("COMPLETED", Keep),
        ("ACTIVE", Keep),
        ("FAILED", Keep),
    ]);
    for job in jobs {
        let of = |statuses: &[TaskStatus]| -> String {
            let count: u64 = statuses.iter().filter_map(|status| job.tasks.get(status)).sum();
            count.to_string()
        };
        table.push([
            job.id.to_string().into(),
            visible(&job.job_type).into(),
            job.priority.to_string().into(),
            job.total.to_string().into(),
            of(&[TaskStatus::Completed]).into(),
            of(&[TaskStatus::Active, TaskStatus::CancelRequested]).into(),
            of(&[TaskStatus::Failed, TaskStatus::SoftFailed]).into(),
        ]);
    }
    table
}

fn tasks_table(tasks: &[FlamencoTask]) -> Table<6> {
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

/// A task for a person. Its worker wrote most of that, so it is shown as text and never moves the cursor.
fn task_text(detail: &FlamencoTaskDetail) -> String {
    let task = &detail.task;
    let mut text = format!("{} {} (task {})\n", task.status.as_str(), visible(&task.name), task.id);
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("{name}: {}\n", visible(value));
        }
    };
    fact("type", &task.task_type);
    fact("job", &task.job.map(|job| job.to_string()).unwrap_or_default());
    fact("worker", &task.worker);
    fact("activity", &task.activity);
    fact("failed on", &task.failed_by.join(", "));
    for command in &detail.commands {
        fact("command", &format!("{} {}", command.name, json!(command.settings)));
    }
    if let Some(log) = &detail.log_tail {
        text += "log, its end:\n";
        for line in log.lines() {
            text += &format!("  {}\n", visible(line));
        }
    }
    text
}
