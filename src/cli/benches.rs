//! `tasker bench`: starts what is measured, and lets go of it whatever comes of the measurement.

use std::time::Duration;

use super::args::Global;
use super::bench_args::Bench;
use super::exit::Code;
use super::output::{Failure, note, print};
use super::process::load;
use super::signals::Signals;
use crate::bench::{self, By, Calls, Farming, Load, Queueing, Requesting, Rolling, Stack};
use crate::config::{ConfigFile, Delivery, Flag};

fn bench_load(count: u64, concurrency: u32, rate: Option<f64>, payload_bytes: u32) -> Load {
    Load {
        count: count as usize,
        concurrency: concurrency as usize,
        rate,
        payload_bytes: payload_bytes as usize,
    }
}

/// `tasker bench`.
pub(super) async fn bench(global: &Global, args: Bench) -> Result<Code, Failure> {
    match args {
        Bench::Tasks(args) => {
            let load = bench_load(args.count, args.concurrency, args.rate, args.payload_bytes);
            on_a_stack(global, Delivery::Fanout, async |stack| bench::run_tasks(stack, load).await).await
        }
        Bench::Fleet(args) => {
            on_a_stack(global, Delivery::Fanout, async |stack| {
                bench::run_fleet(stack, args.endpoints as usize, args.tasks as usize).await
            })
            .await
        }
        Bench::Rollout(args) => {
            let [endpoints, waves, create, old] =
                [args.endpoints, args.waves, args.create, args.old].map(|number| number as usize);
            let rolling = Rolling { endpoints, waves, create, old };
            on_a_stack(global, Delivery::Fanout, async |stack| bench::run_rollout(stack, rolling).await).await
        }
        Bench::Queue(args) => {
            let load = bench_load(args.count, args.concurrency, None, args.payload_bytes);
            let queueing = Queueing { load, workers: args.workers, slots: args.slots, kills: args.kills };
            on_a_stack(global, Delivery::Queue, async |stack| bench::run_queue(stack, queueing).await).await
        }
        Bench::Requests(args) => {
            let load = bench_load(args.count, args.concurrency, args.rate, args.params_bytes);
            let requesting = Requesting { load, workers: args.workers, slots: args.slots };
            on_a_stack(global, Delivery::Queue, async |stack| bench::run_requests(stack, requesting).await)
                .await
        }
        Bench::Http(args) => {
            let calls = Calls {
                count: args.count as usize,
                delay: Duration::from_millis(args.delay),
                rounds: args.rounds as usize,
                hosts: args.hosts as usize,
                retries: args.retries,
            };
            let by = match args.workers {
                None => By::Here,
                Some(workers) => {
                    let config = load(global.file(), quiet())?;
                    By::Workers(workers as usize, Box::new(config.for_http_worker()?.clone()))
                }
            };
            unless_told(bench::run_http(calls, by)).await
        }
        Bench::Flamenco(args) => {
            let phase = Duration::from_secs(args.seconds.into());
            let (workers, tasks) = (args.workers as usize, args.tasks as usize);
            unless_told(bench::run_flamenco(Farming { workers, tasks, phase })).await
        }
        Bench::HttpServer(args) => {
            bench::run_http_server(&args.hosts, Duration::from_millis(args.delay)).await?;
            Ok(Code::Ok)
        }
    }
}

/// Measures on the configured database and broker when a file was named, embedded otherwise.
async fn on_a_stack(
    global: &Global,
    delivery: Delivery,
    measure: impl AsyncFnOnce(&Stack) -> anyhow::Result<String>,
) -> Result<Code, Failure> {
    let signals = Signals::install()?;
    let stack = match global.named_file() {
        Some(file) => Stack::real(load(file, quiet())?, delivery).await?,
        None => Stack::embedded(load(ConfigFile::Embedded, quiet())?, delivery).await?,
    };
    let measured = signals.unless_told(async {
        print(&format!("bench        {}\n", stack.describe()))?;
        print(&measure(&stack).await?)
    });
    let measured = measured.await;
    // Whatever came of it, nothing is left behind.
    let removed = stack.stop().await;
    if let (Some(Err(_)), Err(error)) = (&measured, &removed) {
        note(&format!("tasker: what the bench made could not be removed: {error:#}"));
    }
    let code = finished(measured)?;
    removed?;
    Ok(code)
}

/// Measures what leaves nothing on servers, so that it may be cut off.
async fn unless_told(measure: impl Future<Output = anyhow::Result<String>>) -> Result<Code, Failure> {
    let signals = Signals::install()?;
    finished(signals.unless_told(async { print(&measure.await?) }).await)
}

fn finished(measured: Option<Result<(), Failure>>) -> Result<Code, Failure> {
    let Some(measured) = measured else {
        note("interrupted before all was measured");
        return Ok(Code::Interrupted);
    };
    measured.map(|()| Code::Ok)
}

/// The figures are what is to be read.
fn quiet() -> Vec<Flag> {
    vec![Flag { key: "log.filter", value: bench::LOG_FILTER.to_owned(), name: "bench" }]
}
