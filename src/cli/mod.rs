//! The command line: what may be asked (`args`), and every command.
//!
//! `client` speaks HTTP with an API and knows nothing of terminals; `tasks`, `queues` and `schedules` ask it, `verify` adds up, `wait` waits, `render` turns answers
//! into text, `exit` into exit codes. `access` says where, with which token and whom to believe, `listen` where to listen. `configuration` and `initialize` work on the configuration, `tokens` on the database. `servers` starts what
//! `app` puts together, and the bench.
//!
//! Promise: data on standard output, everything else on standard error; every failure is one clear text and exit code 1.

mod access;
pub mod args;
pub mod client;
mod configuration;
mod exit;
mod initialize;
mod input;
mod listen;
mod output;
mod queues;
mod render;
mod schedules;
mod servers;
mod signals;
mod tasks;
mod tokens;
mod verify;
mod wait;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

pub use args::{Cli, Command, Global};
pub use exit::Code;
pub use output::Failure;

/// The whole tree of commands.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line. Help, version and usage errors have been printed when this answers a code.
///
/// # Errors
/// The exit code: [`Code::Ok`] after help and version, [`Code::Failure`] after wrong usage (2 means something else here).
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Code> {
    let words: Vec<OsString> = words.into_iter().collect();
    Cli::try_parse_from(&words).map_err(|error| {
        if !error.use_stderr() {
            // Nobody is left to tell when this fails.
            _ = error.print();
            return Code::Ok;
        }
        if words.iter().any(|word| word == "--json") {
            output::note(&output::usage_as_json(&error.render().to_string()));
        } else {
            _ = error.print();
        }
        Code::Failure
    })
}

/// Runs a command. Whatever went wrong has been told.
pub async fn run(cli: Cli) -> Code {
    let Cli { global, command } = cli;
    let done = match command {
        Command::Up(args) => servers::up(&global, args).await,
        Command::Api(args) => servers::api(&global, args).await,
        Command::Endpoint(args) => servers::endpoint(&global, args).await,
        Command::Worker(args) => servers::worker(&global, args).await,
        Command::HttpWorker(args) => servers::http_worker(&global, args).await,
        Command::Bench(args) => servers::bench(&global, args).await,
        Command::Initialize(args) => initialize::run(&global, args).await,
        Command::Submit(args) => tasks::submit(&global, args).await,
        Command::Status(args) => tasks::status(&global, args).await,
        Command::List(args) => tasks::list(&global, args).await,
        Command::Cancel(args) => tasks::cancel(&global, args).await,
        Command::Endpoints(args) => tasks::endpoints(&global, args).await,
        Command::Queue(command) => queues::run(&global, command).await,
        Command::Schedules(args) => schedules::run(&global, args).await,
        Command::Verify(args) => verify::run(&global, args).await,
        Command::Token(command) => tokens::run(&global, command).await,
        Command::Config(command) => configuration::run(&global, command).await,
        Command::Completions { shell } => completions(shell),
    };
    done.unwrap_or_else(|failure| failure.report(global.json))
}

fn completions(shell: clap_complete::Shell) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "tasker", &mut script);
    output::print(&String::from_utf8_lossy(&script)).map(|()| Code::Ok)
}
