//! The tree of commands, as help, manual and completion show it.

use clap::CommandFactory;

use super::args::Cli;

/// Global options with the commands that have no use for them, so that their help does not show them there.
const NO_API: &[&str] = &[
    "up", "api", "endpoint", "http-worker", "initialize", "token", "config", "completions", "version", "man",
    "__complete", "flamenco-manager", "flamenco",
];
const NO_JSON: &[&str] =
    &["up", "api", "endpoint", "worker", "http-worker", "completions", "man", "__complete"];
const NO_FILE: &[&str] = &["completions", "version", "man", "__complete"];

const HIDDEN: &[(&[&str], &[&str])] = &[
    (NO_API, &["api", "token_file", "ca_file", "insecure"]),
    (NO_JSON, &["json"]),
    (NO_FILE, &["mode", "config"]),
    #[cfg(feature = "bench")]
    (&["bench"], &["api", "token_file", "ca_file", "insecure", "json"]),
];

/// The whole tree of commands.
pub fn command() -> clap::Command {
    without(Cli::command(), HIDDEN)
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
