//! The tree of commands, as help, manual and completion show it.

use clap::CommandFactory;

use super::args::Cli;

/// Global options with the commands that have no use for them, so that their help does not show them there.
const NO_API: [&str; 14] = [
    "up", "api", "endpoint", "http-worker", "bench", "initialize", "token", "config", "completions",
    "version", "man", "__complete", "flamenco-manager", "flamenco",
];
const NO_JSON: [&str; 9] =
    ["up", "api", "endpoint", "worker", "http-worker", "bench", "completions", "man", "__complete"];
const NO_FILE: [&str; 4] = ["completions", "version", "man", "__complete"];

const HIDDEN: [(&[&str], &[&str]); 3] = [
    (&NO_API, &["api", "token_file", "ca_file", "insecure"]),
    (&NO_JSON, &["json"]),
    (&NO_FILE, &["mode", "config"]),
];

/// The whole tree of commands.
pub fn command() -> clap::Command {
    without(Cli::command(), &HIDDEN)
}

/// The same tree, with options hidden that commands have no use for.
pub(super) fn without(mut command: clap::Command, hidden: &[(&[&str], &[&str])]) -> clap::Command {
    // Only now each command has the global options.
    command.build();
    for (names, options) in hidden {
        for name in *names {
            command = command.mut_subcommand(name, |inner| hide(inner, options));
        }
    }
    command
}

/// Hides options of a command and of those below it.
fn hide(command: clap::Command, options: &[&str]) -> clap::Command {
    let command = command.mut_args(|option| {
        if options.contains(&option.get_id().as_str()) { option.hide(true) } else { option }
    });
    command.mut_subcommands(|inner| hide(inner, options))
}
