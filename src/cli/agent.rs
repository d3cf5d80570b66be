//! The executable `tasker-agent`: what a server needs to perform tasks, under the names that the commands have
//! in `tasker`.
//!
//! It is small because it reaches neither the store nor the API nor the bench, and so is linked without them.
//! A process touches less of a smaller program, which is most of the memory of an endpoint that has nothing
//! to do. Keep it so: no command here may lead to these modules.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::args::{Enroll, HttpWorker, RunEndpoint, Worker};
use super::exit::Code;
use super::global::Global;
use super::{agents, enrolment, tree, version};

/// Performs tasks on a server: the part of tasker that endpoints and workers need.
#[derive(Debug, Parser)]
#[command(
    name = "tasker-agent",
    version = version::TEXT,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Examples:
  tasker-agent endpoint -m production -e web1
  tasker-agent worker --api https://tasker.example.net --name site7 -t worker

Each command works as in `tasker`, which has all others; `enroll` is `tasker endpoint enroll` there.

Environment:
  TASKER_API_URL       address of the API for `enroll`, as --api
  TASKER_TOKEN         token to show to the API
  TASKER_TOKEN_FILE    file that holds the token, as --token-file
  TASKER_CA_FILE       file with CA certificates, as --ca-file
  TASKER_section__key  overrides a configuration key: TASKER_ENDPOINT__DATA_DIR"
)]
struct Agent {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start an endpoint: runs the handlers of its task types on this server
    #[command(after_help = "Example:\n  tasker-agent endpoint -m production -e web1 -t worker -t backup")]
    Endpoint(RunEndpoint),
    /// Start a worker: takes tasks from work queues, one for each slot it has free
    #[command(
        after_help = "Example:\n  tasker-agent worker -m production --name build1 -t warmers --concurrency 1"
    )]
    Worker(Worker),
    /// Perform HTTP tasks of others
    #[command(after_help = "Example:\n  tasker-agent http-worker -m production --pool bmc")]
    HttpWorker(HttpWorker),
    /// Fetch the broker user that this endpoint was invited to
    #[command(
        after_help = "Example:\n  tasker-agent enroll web1 --api https://h:3000 --invitation web1.invitation"
    )]
    Enroll(Enroll),
    /// Show the version, and the commit it was built from
    #[command(after_help = "Example:\n  tasker-agent version")]
    Version,
}

/// Global options with the commands that have no use for them.
const HIDDEN: [(&[&str], &[&str]); 3] = [
    (&["endpoint", "http-worker", "version"], &["api", "token_file", "ca_file", "insecure"]),
    (&["endpoint", "worker", "http-worker"], &["json"]),
    (&["version"], &["mode", "config"]),
];

/// The tree of its commands.
pub fn agent_command() -> clap::Command {
    tree::without(Agent::command(), &HIDDEN)
}

/// The program of `tasker-agent`.
pub fn agent_main(words: std::env::ArgsOs) -> ExitCode {
    super::start("tasker-agent", super::read::<Agent>(agent_command(), words.collect()).map(run))
}

async fn run(Agent { mut global, command }: Agent) -> Code {
    global.take_environment();
    let done = match command {
        Command::Endpoint(args) => agents::endpoint(&global, args).await,
        Command::Worker(args) => agents::worker(&global, args).await,
        Command::HttpWorker(args) => agents::http_worker(&global, args).await,
        Command::Enroll(args) => enrolment::enroll(&global, args).await,
        Command::Version => version::show("tasker-agent", global.json),
    };
    done.unwrap_or_else(|failure| failure.report(global.json))
}
