//! The command line as it is read: defaults, refusals and their exit codes.

use std::ffi::OsString;
use std::process;
use std::time::Duration;

use anyhow::{bail, ensure};
use tasker::cli::args::{Configuration, Role};
use tasker::cli::bench_args::Bench;
use tasker::cli::{Cli, Code, Command, parse};
use tasker::config::ConfigFile;
use tasker::contract::Responses;

fn read(line: &str) -> Result<Cli, Code> {
    parse(std::iter::once("tasker").chain(line.split_whitespace()).map(OsString::from))
}

fn command(line: &str) -> Command {
    read(line).unwrap_or_else(|_| panic!("`tasker {line}` is valid")).command
}

#[test]
fn the_trees_hold_together() {
    tasker::cli::command().debug_assert();
    tasker::cli::agent_command().debug_assert();
}

#[test]
fn every_command_is_explained_with_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "`{path}` says nothing about itself");
        if command.get_subcommands().next().is_none() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(path.trim()), "`{path}` has no example:\n{after}");
        }
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "`{path}` does not explain {}", argument.get_id());
        }
        // clap's own `help` needs no example.
        command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
            .for_each(|inner| check(inner, &path));
    }
    check(&tasker::cli::command(), "");
    check(&tasker::cli::agent_command(), "");
}

/// A variable of a script that is not set must not name everything, or something else.
#[test]
fn what_is_named_has_a_name() {
    const NAMES: [&str; 9] =
        ["ACTION", "ANSWER", "ID", "KEY", "PREFIX", "SCHEDULE", "STATUS", "TOKEN", "WORKER"];
    fn check(command: &clap::Command, path: &str, taken: &mut Vec<String>, seen: &mut usize) {
        for argument in command.get_arguments() {
            let names = argument.get_value_names().unwrap_or_default();
            let named = argument.is_positional() || names.iter().any(|name| NAMES.contains(&name.as_str()));
            if !named || argument.get_num_args().is_none_or(|number| number.max_values() == 0) {
                continue;
            }
            *seen += 1;
            // Alone, so that nothing else is missing.
            let alone = clap::Arg::new("alone").value_parser(argument.get_value_parser().clone());
            if clap::Command::new("tasker").arg(alone).try_get_matches_from(["tasker", ""]).is_ok() {
                taken.push(format!("{path} {}", argument.get_id()));
            }
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            check(inner, &format!("{path} {}", inner.get_name()), taken, seen);
        }
    }
    let (mut taken, mut seen) = (Vec::new(), 0);
    check(&tasker::cli::command(), "tasker", &mut taken, &mut seen);
    // What has been typed up to a TAB may be nothing.
    taken.retain(|path| !path.starts_with("tasker __complete "));
    assert!(taken.is_empty() && seen > 60, "{seen} arguments; these may be empty: {taken:?}");
}

#[test]
fn help_fits_a_narrow_terminal() {
    fn check(command: &clap::Command, path: &str, wide: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // Sentences are wrapped; an example or a row of a table would break in the middle.
        let rows = help.lines().filter(|line| line.starts_with(' ')).map(str::to_owned);
        let shown = command.clone().term_width(80).render_long_help().to_string();
        // clap does not wrap usage.
        let shown = shown.lines().filter(|line| !line.starts_with("Usage:"));
        let lines = rows.chain(shown.map(|line| line.trim_end().to_owned()));
        wide.extend(lines.filter(|line| line.chars().count() > 80).map(|line| format!("{path}: {line}")));
        command.get_subcommands().for_each(|inner| check(inner, &path, wide));
    }
    let mut wide = Vec::new();
    check(&tasker::cli::command(), "", &mut wide);
    check(&tasker::cli::agent_command(), "", &mut wide);
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

/// Whether a program takes a line.
type CanBeTyped<'a> = &'a dyn Fn(&str) -> bool;

#[test]
fn every_example_can_be_typed() {
    fn examples(command: &clap::Command, program: &str, lines: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // What follows two blanks explains the example.
        lines.extend(
            help.lines()
                .filter_map(|line| Some(line.split_once(program)?.1.split("  ").next()?.trim().to_owned())),
        );
        command.get_subcommands().for_each(|inner| examples(inner, program, lines));
    }
    let of_agent = |line: &str| {
        let words = ["tasker-agent"].into_iter().chain(line.split_whitespace());
        tasker::cli::agent_command().try_get_matches_from(words).is_ok()
    };
    let programs: [(_, _, _, CanBeTyped<'_>); 2] = [
        (tasker::cli::command(), "tasker ", 16, &|line| read(line).is_ok()),
        (tasker::cli::agent_command(), "tasker-agent ", 5, &of_agent),
    ];
    for (tree, program, least, can_be_typed) in programs {
        let mut lines = Vec::new();
        examples(&tree, program, &mut lines);
        assert!(lines.len() >= least, "{lines:?}");
        for line in lines {
            // What stands between quotes is one word.
            let parts = line.split(" > ").next().unwrap_or_default().split('\'').enumerate();
            let typed: String = parts
                .map(|(place, part)| if place % 2 == 1 { part.replace(' ', "") } else { part.to_owned() })
                .collect();
            assert!(can_be_typed(&typed), "{program}{line}");
        }
    }
}

/// What makes the program of servers small: nothing of the ledger, the API's pages and the bench is in it.
#[test]
fn the_program_of_servers_has_no_ledger_in_it() -> anyhow::Result<()> {
    // The programs of this build are large, and this one is built to search them.
    let has = |program: &str, text: &str| {
        let found = process::Command::new("grep").args(["-qaF", "-e", text, program]).status()?;
        match found.code() {
            Some(code @ (0 | 1)) => Ok(code == 0),
            _ => bail!("grep ended with {found}"),
        }
    };
    for text in
        ["CREATE TABLE response (", "CREATE TABLE x(%.*s INT", "(Sec-Fetch-Site)", " killed meanwhile"]
    {
        ensure!(has(env!("CARGO_BIN_EXE_tasker"), text)?, "nothing would be found: `{text}`");
        ensure!(!has(env!("CARGO_BIN_EXE_tasker-agent"), text)?, "tasker-agent has `{text}` in it");
    }
    Ok(())
}

#[test]
fn servers_have_their_defaults() {
    let Command::Up(up) = command("up") else { panic!("another command") };
    let names: Vec<_> = up.endpoints.iter().flatten().map(|name| name.as_str()).collect();
    assert_eq!((up.listen, names), (None, vec!["console1", "console2"]));
    assert_eq!(up.data_dir.to_str(), Some("./tasker-data"));
    let Command::Endpoint(endpoint) = command("endpoint -e web1 -t worker -t backup") else {
        panic!("another command")
    };
    let endpoint = endpoint.run.expect("an endpoint to run");
    let name = Some(endpoint.endpoint.as_str());
    assert_eq!((name, endpoint.tasktypes.len(), endpoint.data_dir), (Some("web1"), 2, None));
    let Command::Bench(Bench::Tasks(bench)) = command("bench tasks --count 5") else {
        panic!("another command")
    };
    assert_eq!((bench.count, bench.concurrency, bench.payload_bytes, bench.rate), (5, 64, 100, None));
    let Command::Bench(Bench::Fleet(bench)) = command("bench fleet --endpoints 5") else {
        panic!("another command")
    };
    assert_eq!((bench.endpoints, bench.tasks), (5, 10));
    let Command::Bench(Bench::Http(bench)) = command("bench http --count 5") else {
        panic!("another command")
    };
    assert_eq!((bench.count, bench.delay, bench.rounds, bench.hosts, bench.retries), (5, 1000, 3, 8, 3));
}

#[test]
fn a_file_is_named_by_mode_or_path() {
    let file =
        |line: &str| read(line).map(|cli| (cli.global.named_file(), cli.global.file())).expect("valid");
    let mode = |name: &str| ConfigFile::Mode(name.to_owned());
    assert_eq!(file("up"), (None, mode("development")));
    assert_eq!(file("-m production api"), (Some(mode("production")), mode("production")));
    assert_eq!(
        file("api --mode staging").1.path().as_deref().and_then(std::path::Path::to_str),
        Some("config/staging.config.yaml")
    );
    assert_eq!(file("config check --config x.yaml").1, ConfigFile::Path("x.yaml".into()));
}

#[test]
fn submissions_take_endpoints_and_waits_in_several_ways() {
    for line in [
        "submit worker --endpoints a,b",
        "submit worker -e a -e b",
        "submit worker --endpoint a --endpoints b",
    ] {
        let Command::Submit(submit) = command(line) else { panic!("another command") };
        assert_eq!(
            submit.endpoints.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
            ["a", "b"],
            "{line}"
        );
    }
    for (line, wait) in [
        ("submit worker", None),
        ("submit worker --wait", Some(None)),
        ("submit worker --wait 1m30s", Some(Some(Duration::from_secs(90)))),
        ("submit worker --wait=1s --all", Some(Some(Duration::from_secs(1)))),
    ] {
        let Command::Submit(submit) = command(line) else { panic!("another command") };
        assert_eq!(submit.waiting.wait, wait, "{line}");
    }
    let Command::Status(status) = command("status worker x --responses missing --wait") else {
        panic!("another command")
    };
    assert_eq!(
        (status.id.as_str(), status.waiting.responses, status.waiting.wait),
        ("x", Some(Responses::Missing), Some(None))
    );
    let Command::List(list) =
        command("list worker --status done,SENT --since 2024-07-12T12:00:00+02:00 --limit 5")
    else {
        panic!("another command")
    };
    assert_eq!((list.status.len(), list.page.limit), (2, 5));
    assert_eq!(list.since.map(|time| time.to_string()).as_deref(), Some("2024-07-12T10:00:00.000000Z"));
    let Command::Submit(submit) = command("submit worker --run-at 5m") else { panic!("another command") };
    let later = submit.run_at.expect("a time").since(tasker::clock::Clock::system().now());
    assert!((Duration::from_secs(1)..=Duration::from_secs(300)).contains(&later), "{later:?}");
    let Command::Submit(submit) = command("submit worker --run-at 2024-07-12T10:00:00Z") else {
        panic!("another command")
    };
    assert_eq!(submit.run_at.map(|time| time.to_string()).as_deref(), Some("2024-07-12T10:00:00.000000Z"));
    let Command::Config(Configuration::Check { roles, identity: None, connect: false }) =
        command("config check --for api --for endpoint")
    else {
        panic!("another command")
    };
    assert_eq!(roles, [Role::Api, Role::Endpoint]);
}

#[test]
fn a_type_may_be_left_out() {
    let Command::Status(status) = command("status x") else { panic!("another command") };
    assert_eq!((status.task_type, status.id.as_str()), (None, "x"));
    let Command::Status(status) = command("status worker x -e web3") else { panic!("another command") };
    assert_eq!(
        (status.task_type.is_some(), status.of_endpoint.as_ref().map(|name| name.as_str())),
        (true, Some("web3"))
    );
    let Command::List(list) = command("list --wide") else { panic!("another command") };
    assert!(list.task_type.is_none() && list.wide);
    let Command::Cancel(cancel) = command("cancel worker x y") else { panic!("another command") };
    assert_eq!(cancel.names, ["worker", "x", "y"]);
    for line in ["worker -e w", "worker --name w", "worker --endpoint w --type worker"] {
        let Command::Worker(worker) = command(line) else { panic!("another command") };
        assert_eq!(worker.endpoint.as_str(), "w", "{line}");
    }
}

#[test]
fn help_shows_the_global_options_that_matter() {
    let tree = tasker::cli::command();
    let shows = |name: &str, option: &str| {
        let inner = tree.find_subcommand(name).unwrap_or_else(|| panic!("no command {name}"));
        inner.get_arguments().any(|argument| argument.get_id() == option && !argument.is_hide_set())
    };
    assert!(
        shows("submit", "api") && shows("worker", "api") && shows("up", "mode") && shows("submit", "json")
    );
    assert!(
        !shows("up", "api")
            && !shows("endpoint", "json")
            && !shows("completions", "config")
            && !shows("bench", "insecure")
    );
    // What is not shown is taken all the same.
    assert!(read("up --api http://h:1").is_ok());
}

#[test]
fn wrong_usage_is_code_1_and_help_0() {
    for line in ["--help", "--version", "submit --help", "help up", "bench tasks -h"] {
        assert_eq!(read(line).err(), Some(Code::Ok), "{line}");
    }
    for line in [
        "",
        "fly",
        "up --listen nowhere",
        "up --endpoints a/b",
        "up --mode a --config b",
        "up --mode ../x",
        "endpoint",
        "endpoint -e a -t metrics",
        "submit",
        "submit a.b",
        "submit worker --wait 30",
        "submit worker --payload 1 --payload-file x",
        "submit worker --endpoints a,,b",
        "status",
        "rerun",
        "answers",
        "answers x --limit 0",
        "answers x --limit 101",
        "status a.b x",
        "status x -e web1 --all",
        "cancel",
        "cancel x --type worker",
        "cancel --status SENT --yes --dry-run",
        "submit worker --batch x",
        "submit --batch x --payload 1",
        "queue requeue",
        "queue requeue builds --only slow",
        "explain",
        "status worker x --all --responses none",
        "list worker --status FINE",
        "list worker --since yesterday",
        "list worker --limit 0",
        "list worker --limit 1001",
        "initialize",
        "initialize --reset",
        "initialize -d --yes",
        "bench",
        "bench tasks --count 0",
        "completions csh",
        "--json fly",
    ] {
        assert_eq!(read(line).err(), Some(Code::Failure), "{line}");
    }
}
