//! The command line: what may be asked (`args`; `tree` is what help shows of it), and every command.
//!
//! `tasks`, `answers`, `approve`, `batch`, `bulk`, `explain`, `endpoints`, `groups`, `requests`, `queues` and
//! `schedules` ask the API, `verify` adds up, `audit` checks what was written down, `wait` waits, and
//! `laggards` names those it waits for, `watch` and `logs` follow what goes on, `render` turns answers into
//! text, `picture` draws a request, `table` makes tables, `refusal` into the words of flags, `exit` into exit codes. `access` says where, with which token
//! and whose certificates to trust, `listen` where to listen, `complete` completes names in shells.
//! `configuration` and `initialize` work on the configuration, which `settings` reads, `named_files` looks for the files in it, `tokens`, `enrolment` and `import` on the
//! `database`; `deed` says who does it, and `secret_file` keeps what they print once. `keys` works on the files of signatures.
//! `flamenco` starts a manager of render farms and looks at one. `servers` and `agents` start what `app` puts
//! together, `benches` the bench, and `process` has what all of them begin and end with; `agent` is the command
//! line of the small executable for servers that perform tasks. `simulation` says how simulated endpoints behave, `rehearsal` tries rollouts on them;
//! `stopping` says what a stop waits for.
//!
//! Promise: data on standard output, everything else on standard error; every failure is one clear text and
//! exit code 1.

mod access;
mod agent;
mod agents;
mod answers;
mod approve;
pub mod args;
mod audit;
mod batch;
#[cfg(feature = "bench")]
pub mod bench_args;
#[cfg(feature = "bench")]
mod benches;
mod bulk;
mod choice;
mod complete;
mod configuration;
mod database;
mod deed;
mod endpoints;
mod enrolment;
#[cfg(test)]
#[path = "../transport/contract/examples.rs"]
mod examples;
mod exit;
mod explain;
mod flamenco;
mod global;
mod groups;
mod import;
mod initialize;
mod input;
mod keys;
mod laggards;
mod listen;
mod logs;
mod manual;
mod named_files;
mod output;
mod page;
mod patience;
mod picture;
mod preview;
mod process;
mod queues;
mod refusal;
mod rehearsal;
mod render;
mod request_args;
mod requests;
mod rollout_args;
mod rollout_look;
mod rollout_view;
mod rollouts;
mod schedules;
mod secret_file;
mod servers;
mod settings;
mod signals;
mod simulation;
mod stats;
mod stopping;
mod table;
mod tasks;
mod tokens;
mod tree;
mod verify;
mod version;
mod wait;
mod watch;
mod when;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::app;
use crate::domain::likeness;

pub use agent::{agent_command, agent_main};
pub use args::{Cli, Command};
pub use exit::Code;
pub use global::Global;
pub use output::Failure;
pub use tree::command;

/// Reads the command line. Help, version and usage errors have been printed when this answers a code.
///
/// # Errors
/// The exit code: [`Code::Ok`] after help and version, [`Code::Failure`] after wrong usage (2 means something
/// else here).
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Code> {
    let mut cli: Cli = read(command(), with_two_dashes(words.into_iter().collect()))?;
    cli.global.take_environment();
    Ok(cli)
}

fn read<C: FromArgMatches>(command: clap::Command, words: Vec<OsString>) -> Result<C, Code> {
    let read = command.try_get_matches_from(&words).and_then(|matches| C::from_arg_matches(&matches));
    read.map_err(without_far_fetched_tips).map_err(in_words).map_err(|error| {
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

/// The error of a flag that does not exist without a tip that nobody can have meant, and without the usage
/// line that shows it.
fn without_far_fetched_tips(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (typed, tip) = (text(ContextKind::InvalidArg), text(ContextKind::SuggestedArg));
    if error.kind() == ErrorKind::UnknownArgument && likeness::nearest(&typed, [tip.as_str()]).is_none() {
        for kind in [ContextKind::SuggestedArg, ContextKind::Suggested, ContextKind::Usage] {
            error.remove(kind);
        }
    }
    error
}

/// The error of a value that is no number, in words that say what was expected.
fn in_words(error: clap::Error) -> clap::Error {
    let expected = match std::error::Error::source(&error).map(ToString::to_string).as_deref() {
        Some("invalid digit found in string" | "cannot parse integer from empty string") => "a whole number",
        Some("number too large to fit in target type") => "a smaller whole number",
        Some("number too small to fit in target type") => "a larger whole number",
        Some("invalid float literal" | "cannot parse float from empty string") => "a number",
        _ => return error,
    };
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (value, flag) = (text(ContextKind::InvalidValue), text(ContextKind::InvalidArg));
    let told = format!(
        "invalid value '{value}' for '{flag}': expected {expected}\n\nFor more information, try '--help'.\n"
    );
    clap::Error::raw(error.kind(), told)
}

/// The program of `tasker`. It is here and not in the executable, because the compiler would generate its
/// futures a second time there.
pub fn main(words: std::env::ArgsOs) -> ExitCode {
    start("tasker", parse(words).map(run))
}

/// How long the process waits at its end for threads that read files: a file system that does not answer
/// must not keep it.
const LAST_READS: Duration = Duration::from_secs(5);

/// Runs what the command line asks for, if it could be read.
fn start(name: &str, asked: Result<impl Future<Output = Code>, Code>) -> ExitCode {
    app::keep_files_from_children();
    let program = match asked {
        Ok(program) => program,
        Err(code) => return code.into(),
    };
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(program);
            runtime.shutdown_timeout(LAST_READS);
            code.into()
        }
        Err(error) => {
            eprintln!("{name}: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The flags of `tasker flamenco-manager` may have one dash, as its predecessor's have.
fn with_two_dashes(mut words: Vec<OsString>) -> Vec<OsString> {
    const FLAGS: [&str; 5] = ["-debug", "-verbose", "-json", "-cleanslate", "-purgequeue"];
    if let Some(at) = words.iter().position(|word| word == "flamenco-manager") {
        for word in words.iter_mut().skip(at + 1).filter(|word| FLAGS.iter().any(|flag| *word == flag)) {
            *word = [OsString::from("-"), std::mem::take(word)].into_iter().collect();
        }
    }
    words
}

/// Runs a command. Whatever went wrong has been told.
async fn run(cli: Cli) -> Code {
    let Cli { global, command } = cli;
    let done = match command {
        Command::Up(args) => servers::up(&global, args).await,
        Command::Api(args) => servers::api(&global, args).await,
        Command::Endpoint(args) => endpoint(&global, args).await,
        Command::Worker(args) => agents::worker(&global, args).await,
        Command::HttpWorker(args) => agents::http_worker(&global, args).await,
        Command::FlamencoManager(args) => flamenco::manager(&global, args).await,
        Command::Flamenco(command) => flamenco::run(&global, command).await,
        #[cfg(feature = "bench")]
        Command::Bench(args) => benches::bench(&global, args).await,
        Command::Initialize(args) => initialize::run(&global, args).await,
        Command::Submit(args) => tasks::submit(&global, args).await,
        Command::Status(args) => tasks::status(&global, args).await,
        Command::Explain(args) => explain::run(&global, args).await,
        Command::Approve(args) => approve::run(&global, args).await,
        Command::Watch(args) => watch::run(&global, args).await,
        Command::Logs(args) => logs::run(&global, args).await,
        Command::List(args) => tasks::list(&global, args).await,
        Command::Answers(args) => answers::run(&global, args).await,
        Command::Rerun(args) => tasks::rerun(&global, args).await,
        Command::Cancel(args) => tasks::cancel(&global, args).await,
        Command::Endpoints(args) => endpoints::run(&global, args).await,
        Command::Group(command) => groups::run(&global, command).await,
        Command::Queue(command) => queues::run(&global, command).await,
        Command::Schedules(args) => schedules::run(&global, args).await,
        Command::Request(command) => requests::run(&global, command).await,
        Command::Rollout(command) => rollouts::run(&global, command).await,
        Command::Stats(args) => stats::run(&global, args).await,
        Command::Verify(args) => verify::run(&global, args).await,
        Command::Audit(command) => audit::run(&global, command).await,
        Command::Token(command) => tokens::run(&global, command).await,
        Command::Key(command) => keys::run(&global, command),
        Command::Config(command) => configuration::run(&global, command).await,
        Command::Completions { shell } => complete::script(shell),
        Command::Complete { shell, line } => complete::answer(shell, &line).await,
        Command::Man { directory } => manual::write(&directory),
        Command::Version => version::show("tasker", global.json),
    };
    done.unwrap_or_else(|failure| failure.report(global.json))
}

/// `tasker endpoint`: runs one, or does what its subcommand says.
async fn endpoint(global: &Global, args: args::Endpoint) -> Result<Code, Failure> {
    match (args.action, args.run) {
        (Some(action), _) => enrolment::run(global, action).await,
        (None, Some(args)) => agents::endpoint(global, args).await,
        (None, None) => Err(Failure::Usage("which endpoint? Name it with -e".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is typed in the place of a number, the answer says what was expected, and not how the program
    /// reads numbers.
    #[test]
    fn what_is_no_number_is_told_with_what_was_expected() {
        fn check(tree: &clap::Command, command: &clap::Command, path: &[&str], told: &mut Vec<String>) {
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                for typed in ["x", "", "-3", "1.5.5", "99999999999999999999999"] {
                    let flag = format!("--{option}={typed}");
                    let words = path.iter().copied().chain([flag.as_str()]);
                    if let Err(error) = tree.clone().try_get_matches_from(words)
                        && error.kind() == ErrorKind::ValueValidation
                    {
                        told.push(in_words(error).to_string());
                    }
                }
            }
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                check(tree, inner, &[path, &[inner.get_name()]].concat(), told);
            }
        }
        let (tree, mut told) = (command(), Vec::new());
        check(&tree, &tree, &["tasker"], &mut told);
        for text in &told {
            let of_program =
                ["digit found", "parse", "literal", "target type"].iter().any(|word| text.contains(word));
            assert!(!of_program && text.starts_with("error: invalid value '"), "{text}");
        }
        let limit = "error: invalid value 'x' for '--limit <N>': expected a whole number\n";
        assert!(told.iter().any(|text| text.starts_with(limit)), "{told:?}");
    }
}
