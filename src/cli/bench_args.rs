//! What `tasker bench` may be asked.

use clap::{Args, Subcommand};

/// `tasker bench`.
#[derive(Debug, Clone, Subcommand)]
pub enum Bench {
    /// Many small tasks, each to one endpoint
    ///
    /// Without -m or --config it measures the embedded platform.
    #[command(after_help = "Example:\n  tasker bench tasks --count 20000 --concurrency 64 -m development")]
    Tasks(BenchTasks),
    /// Few tasks, each to many simulated endpoints
    ///
    /// Without -m or --config it measures the embedded platform.
    #[command(after_help = "Example:\n  tasker bench fleet --endpoints 1000 --tasks 10 -m development")]
    Fleet(BenchFleet),
    /// Rollouts in waves over simulated endpoints
    ///
    /// Without -m or --config it measures the embedded platform. It runs a rollout beside a task for the
    /// whole fleet, stops some by a failure, creates large ones, and runs the first again beside many old
    /// endpoints.
    #[command(after_help = "Example:\n  tasker bench rollout --endpoints 10000 --waves 20 -m development")]
    Rollout(BenchRollout),
    /// Many small tasks through a work queue, each performed by one worker
    ///
    /// Without -m or --config it measures the embedded platform.
    #[command(
        after_help = "Example:\n  tasker bench queue --count 20000 --workers 2 --kills 4 -m development"
    )]
    Queue(BenchQueue),
    /// Many requests of three steps - one job, three, one - through a work queue
    ///
    /// Without -m or --config it measures the embedded platform.
    #[command(after_help = "Example:\n  tasker bench requests --count 5000 --concurrency 64 -m development")]
    Requests(BenchRequests),
    /// Many HTTP calls at once, to servers of its own
    ///
    /// Measures the engine behind the handler `http`, without broker and database.
    #[command(after_help = "Example:\n  tasker bench http --count 16000 --delay 1000")]
    Http(BenchHttp),
    /// A Flamenco Manager with simulated workers
    #[command(after_help = "Example:\n  tasker bench flamenco --workers 1000 --tasks 100000")]
    Flamenco(BenchFlamenco),
    /// A server process of `tasker bench http`
    #[command(
        hide = true,
        after_help = "Example:\n  tasker bench http-server --hosts 127.0.0.1,127.0.0.2 --delay 1000"
    )]
    HttpServer(BenchHttpServer),
}

/// `tasker bench tasks`.
#[derive(Debug, Clone, Args)]
pub struct BenchTasks {
    /// Tasks to submit
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub count: u64,
    /// Submissions at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Submissions a second, evenly spread [default: as fast as they go]
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Size of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub payload_bytes: u32,
}

/// `tasker bench queue`.
#[derive(Debug, Clone, Args)]
pub struct BenchQueue {
    /// Tasks to submit
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub count: u64,
    /// Submissions at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Size of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub payload_bytes: u32,
    /// Workers; processes of their own on a real broker
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub workers: u32,
    /// Tasks that each worker performs at the same time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: u32,
    /// Kill a worker so many times; every other one is not started again, and another takes its place
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub kills: u32,
}

/// `tasker bench requests`.
#[derive(Debug, Clone, Args)]
pub struct BenchRequests {
    /// Requests to submit
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub count: u64,
    /// Submissions at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Submissions a second, evenly spread [default: as fast as they go]
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Size of the params of each request
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    pub params_bytes: u32,
    /// Workers; processes of their own on a real broker
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub workers: u32,
    /// Jobs that each worker performs at the same time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: u32,
}

/// `tasker bench http`.
#[derive(Debug, Clone, Args)]
pub struct BenchHttp {
    /// Calls in each round
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// How long the servers take for each call
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub delay: u64,
    /// Rounds; only the first one has to connect
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Addresses of the servers, from 127.0.0.1 on
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=254))]
    pub hosts: u32,
    /// Retries of each call
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
    /// Have the calls made by so many worker processes, over the broker of -m or --config [default: by this
    /// process]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub workers: Option<u32>,
}

/// `tasker bench http-server`.
#[derive(Debug, Clone, Args)]
pub struct BenchHttpServer {
    /// Addresses to listen on
    #[arg(long, value_name = "IP", value_delimiter = ',', required = true)]
    pub hosts: Vec<std::net::IpAddr>,
    /// How long to take for each request
    #[arg(long, value_name = "MS")]
    pub delay: u64,
}

/// `tasker bench fleet`.
#[derive(Debug, Clone, Args)]
pub struct BenchFleet {
    /// Endpoints to simulate, many on each connection
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub endpoints: u32,
    /// Tasks to submit, one after the other
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub tasks: u64,
}

/// `tasker bench rollout`.
#[derive(Debug, Clone, Args)]
pub struct BenchRollout {
    /// Endpoints to simulate, many on each connection
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub endpoints: u32,
    /// Waves of the rollout, all of the same size
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub waves: u32,
    /// Endpoints of the largest rollout to create; they are away
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    pub create: u32,
    /// Endpoints of ended rollouts to run the rollout beside
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub old: u32,
}

/// `tasker bench flamenco`.
#[derive(Debug, Clone, Args)]
pub struct BenchFlamenco {
    /// Workers that ask for tasks
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// Tasks in the queue
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(200..=10_000_000))]
    pub tasks: u32,
    /// Seconds in which workers ask for tasks, and then send updates
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(6..=3600))]
    pub seconds: u32,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("expected a number above 0".to_owned()) }
}
