//! What a shell completes: commands, flags and their values, and what the API knows: task types, endpoints,
//! groups, rollouts, schedules and actions of requests.
//!
//! In bash, zsh and fish the script of `tasker completions` runs `tasker __complete` at each TAB, so nothing
//! has to be renewed when commands change, and all three complete the same. An engine of our own for that:
//! the one of `clap_complete` is not stable yet. A TAB must not take long and must not print errors: an API
//! that does not answer soon, or refuses, completes nothing.

use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::Shell;

use crate::client::{Client, ClientError};

use super::args::Global;
use super::exit::Code;
use super::output::{Failure, print};
use super::render::natural;
use super::{access, tree};

/// How long a TAB may take.
const PATIENCE: Duration = Duration::from_millis(800);

/// Names of endpoints that are asked for at most.
const ENDPOINTS: u32 = 1000;

/// Rollouts that are asked for, the newest ones.
const ROLLOUTS: u32 = 100;

const BASH: &str = r#"# Completion of tasker in bash.
_tasker() {
    local IFS=$'\n'
    COMPREPLY=($(tasker __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o default -o bashdefault -F _tasker tasker
"#;

const ZSH: &str = r#"#compdef tasker
# Completion of tasker in zsh.
_tasker() {
    local -a found
    found=("${(@f)$(tasker __complete zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found[1]" ]]; then
        compadd -V tasker -- "${found[@]}"
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _tasker ]]; then
    _tasker "$@"
else
    compdef _tasker tasker
fi
"#;

const FISH: &str = r#"# Completion of tasker in fish.
function __tasker_complete
    set -l found (tasker __complete fish (commandline -cp | string collect) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c tasker -f -k -a '(__tasker_complete)'
"#;

/// `tasker completions`.
pub(super) fn script(shell: Shell) -> Result<Code, Failure> {
    let text = match shell {
        Shell::Bash => BASH.to_owned(),
        Shell::Zsh => ZSH.to_owned(),
        Shell::Fish => FISH.to_owned(),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut tree::command(), "tasker", &mut script);
            String::from_utf8_lossy(&script).into_owned()
        }
    };
    print(&text).map(|()| Code::Ok)
}

/// `tasker __complete`: what may take the place of the last word of a line, one a line.
pub(super) async fn answer(shell: Shell, line: &str) -> Result<Code, Failure> {
    let words = words(line);
    let commands = tree::command();
    let place = Place::of(&commands, &words);
    let begun = words.last().map_or("", String::as_str);
    let mut candidates = place.fixed(begun);
    if let Some(known) = place.known() {
        candidates
            .extend(matching(place.value(begun), ask(known, &global(&words)).await.unwrap_or_default()));
    }
    // For bash a word begins after these, for the others what stands before is part of the word.
    let rest = begun.len() - place.value(begun).len();
    let kept = if shell == Shell::Bash { "" } else { &begun[..rest] };
    let text: String = candidates.into_iter().map(|candidate| format!("{kept}{candidate}\n")).collect();
    print(&text).map(|()| Code::Ok)
}

/// The words of a line, the last of which may be empty. Quotes only keep blanks together: this reads what is
/// about to be typed.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => {
                if words.last().is_some_and(|word| !word.is_empty()) {
                    words.push(String::new());
                }
            }
            (c, _) => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words
}

/// What the API may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    TaskTypes,
    Endpoints,
    Actions,
    Groups,
    Rollouts,
    Schedules,
}

/// Where in the tree of commands the last word of a line stands.
struct Place<'a> {
    command: &'a Command,
    /// The option whose value it is.
    option: Option<&'a Arg>,
    /// Words before it that are neither commands nor options.
    positionals: usize,
}

impl<'a> Place<'a> {
    fn of(tree: &'a Command, words: &[String]) -> Self {
        let mut place = Self { command: tree, option: None, positionals: 0 };
        let (last, before) =
            words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
        for word in before.iter().skip(1) {
            match place.option.take() {
                Some(_) => {}
                None if word.starts_with('-') => {
                    place.option = place.option_of(word).filter(|_| !word.contains('='))
                }
                None => match place.command.find_subcommand(word) {
                    Some(inner) => (place.command, place.positionals) = (inner, 0),
                    None => place.positionals += 1,
                },
            }
        }
        if place.option.is_none() && last.starts_with("--") && last.contains('=') {
            place.option = place.option_of(last);
        }
        place
    }

    /// The option with a value that a word names.
    fn option_of(&self, word: &str) -> Option<&'a Arg> {
        let name = word.split('=').next().unwrap_or(word);
        let named = |arg: &&Arg| {
            let long = name.strip_prefix("--").is_some_and(|name| {
                arg.get_long() == Some(name)
                    || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
            });
            let short = name
                .strip_prefix('-')
                .is_some_and(|name| arg.get_short().is_some_and(|short| name == short.to_string()));
            long || short
        };
        self.command.get_arguments().find(named).filter(|arg| arg.get_action().takes_values())
    }

    /// The part of the last word that is a value: without the flag that it may begin with.
    fn value<'w>(&self, word: &'w str) -> &'w str {
        match (self.option, word.split_once('=')) {
            (Some(_), Some((flag, value))) if flag.starts_with("--") => value,
            _ => word,
        }
    }

    /// The option or the positional argument that the last word gives a value.
    fn argument(&self) -> Option<&'a Arg> {
        let positional = || {
            let all: Vec<_> = self.command.get_positionals().collect();
            let last =
                all.last().filter(|last| matches!(last.get_action(), clap::ArgAction::Append)).copied();
            all.get(self.positionals).copied().or(last)
        };
        self.option.or_else(positional)
    }

    /// What is known without asking anybody.
    fn fixed(&self, begun: &str) -> Vec<String> {
        let begins = |text: &str| text.starts_with(self.value(begun));
        let values = |arg: &Arg| {
            arg.get_possible_values()
                .into_iter()
                .filter(|value| !value.is_hide_set())
                .map(|value| value.get_name().to_owned())
        };
        let mut found: Vec<String> = match self.option {
            Some(option) => values(option).collect(),
            None if begun.starts_with('-') => {
                let shown = self.command.get_arguments().filter(|arg| !arg.is_hide_set());
                shown.filter_map(Arg::get_long).map(|long| format!("--{long}")).collect()
            }
            None => {
                let commands = self
                    .command
                    .get_subcommands()
                    .filter(|inner| !inner.is_hide_set())
                    .map(|inner| inner.get_name().to_owned());
                let commands: Vec<_> = if self.positionals == 0 { commands.collect() } else { Vec::new() };
                commands.into_iter().chain(self.argument().into_iter().flat_map(values)).collect()
            }
        };
        match self.option.filter(|option| option.get_value_delimiter().is_some()) {
            Some(_) => matching(self.value(begun), found),
            None => {
                found.retain(|text| begins(text));
                found
            }
        }
    }

    /// What the API is asked for.
    fn known(&self) -> Option<Known> {
        let argument = self.argument()?;
        let value = argument.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
        match (self.command.get_name(), argument.get_id().as_str(), value) {
            // Servers are started with a configuration, where no API may run yet.
            ("up" | "endpoint" | "worker", ..) => None,
            ("submit" | "skip" | "retry", "endpoints", _)
            | ("status" | "explain" | "logs", "of_endpoint", _)
            | ("forget", "name", _) => Some(Known::Endpoints),
            ("cancel" | "watch", "names", _) if self.positionals == 0 => Some(Known::TaskTypes),
            (_, _, Some("TYPE")) => Some(Known::TaskTypes),
            (_, _, Some("ACTION")) => Some(Known::Actions),
            (_, "groups", _) | (_, _, Some("GROUP")) => Some(Known::Groups),
            (_, _, Some("ROLLOUT")) => Some(Known::Rollouts),
            (_, _, Some("SCHEDULE")) => Some(Known::Schedules),
            _ => None,
        }
    }
}

/// What the API that is named on the line, or in the environment, answers.
async fn ask(known: Known, global: &Global) -> Option<Vec<String>> {
    let client = access::quiet_client(global).ok()?;
    tokio::time::timeout(PATIENCE, names(known, &client)).await.ok()?.ok()
}

async fn names(known: Known, client: &Client) -> Result<Vec<String>, ClientError> {
    Ok(match known {
        Known::TaskTypes => client.index().await?.task_types.iter().map(ToString::to_string).collect(),
        Known::Actions => client.index().await?.actions,
        Known::Groups => client.groups().await?.groups.iter().map(|group| group.name.to_string()).collect(),
        Known::Schedules => {
            client.schedules().await?.schedules.iter().map(|schedule| schedule.name.to_string()).collect()
        }
        Known::Rollouts => {
            let page = client.rollouts(&[], Some(ROLLOUTS), None).await?;
            page.rollouts.iter().map(|rollout| rollout.identifier.to_string()).collect()
        }
        Known::Endpoints => client
            .endpoints(None, Some(ENDPOINTS), None)
            .await?
            .endpoints
            .iter()
            .map(|endpoint| endpoint.name.to_string())
            .collect(),
    })
}

/// The flags that say which API is meant, out of a line that need not be complete.
fn global(words: &[String]) -> Global {
    let value = |flag: &str| {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix(flag) {
                Some("") => return words.next().cloned(),
                Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
                _ => {}
            }
        }
        None
    };
    let (token_file, ca_file) = (value("--token-file").map(Into::into), value("--ca-file").map(Into::into));
    let insecure = words.iter().any(|word| word == "--insecure");
    let (config, mode) = (value("--config").map(Into::into), value("--mode").or_else(|| value("-m")));
    let mut global =
        Global { api: value("--api"), token_file, ca_file, insecure, config, mode, ..Global::default() };
    global.take_environment();
    global
}

/// The names that a word may become. Of a list it is the last name that is not complete.
fn matching(begun: &str, mut names: Vec<String>) -> Vec<String> {
    let (before, last) = begun.rsplit_once(',').map_or(("", begun), |(before, last)| (before, last));
    let taken: Vec<&str> = before.split(',').collect();
    names.retain(|name| name.starts_with(last) && !taken.contains(&name.as_str()));
    names.sort_by(|one, other| natural(one, other));
    let kept = &begun[..begun.len() - last.len()];
    names.into_iter().map(|name| format!("{kept}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(line: &str) -> Vec<String> {
        let (commands, words) = (tree::command(), words(line));
        Place::of(&commands, &words).fixed(words.last().map_or("", String::as_str))
    }

    fn known(line: &str) -> Option<Known> {
        let (commands, words) = (tree::command(), words(line));
        Place::of(&commands, &words).known()
    }

    #[test]
    fn completes_commands_flags_and_their_values() {
        assert_eq!(fixed("tasker can"), ["cancel"]);
        assert_eq!(fixed("tasker -m production token cr"), ["create"]);
        assert_eq!(fixed("tasker submit worker --payload-"), ["--payload-file"]);
        assert_eq!(fixed("tasker status x --responses fa"), ["failed"]);
        assert_eq!(fixed("tasker status x --responses=fa"), ["failed"]);
        assert_eq!(fixed("tasker completions z"), ["zsh"]);
        assert_eq!(fixed("tasker list --status C"), ["CANCELED", "CREATED"]);
        assert_eq!(fixed("tasker cancel --status=SENT,I"), ["SENT,INCOMPLETE"]);
        assert_eq!(fixed("tasker request list --status Q"), ["Queuing"]);
        assert_eq!(
            fixed("tasker rollout list --status RO"),
            ["ROLLBACK_FAILED", "ROLLED_BACK", "ROLLING_BACK"]
        );
        assert_eq!(fixed("tasker rollout targets r --state FAILED,U"), ["FAILED,UNREACHABLE"]);
        assert_eq!(fixed("tasker submit worker "), [""; 0]);
        assert!(fixed("tasker up --").iter().all(|flag| flag != "--api"), "hidden where it does nothing");
        assert!(fixed("tasker ").iter().all(|name| name != "__complete"));
    }

    #[test]
    fn knows_where_types_and_endpoints_stand() {
        use Known::{Actions, Endpoints, Groups, Rollouts, Schedules, TaskTypes};
        for (line, wanted) in [
            ("tasker submit ", Some(TaskTypes)),
            ("tasker submit worker ", None),
            ("tasker submit worker --endpoints ", Some(Endpoints)),
            ("tasker submit worker -e a,", Some(Endpoints)),
            ("tasker submit worker --endpoint=a", Some(Endpoints)),
            ("tasker submit worker --payload '{\"a\": 1}' -e ", Some(Endpoints)),
            ("tasker status ", Some(TaskTypes)),
            ("tasker status worker x --endpoint ", Some(Endpoints)),
            ("tasker cancel ", Some(TaskTypes)),
            ("tasker cancel worker ", None),
            ("tasker verify worker b", Some(TaskTypes)),
            ("tasker endpoints --type ", Some(TaskTypes)),
            ("tasker endpoints forget ", Some(Endpoints)),
            ("tasker queue pause ", Some(TaskTypes)),
            ("tasker request submit ", Some(Actions)),
            ("tasker request submit a ", None),
            ("tasker request list --action ", Some(Actions)),
            ("tasker rollout show ", Some(Rollouts)),
            ("tasker rollout retry kernel --endpoints ", Some(Endpoints)),
            ("tasker rollout edit k", Some(Rollouts)),
            ("tasker rollout run ", None),
            ("tasker group set ", Some(Groups)),
            ("tasker group set web ", None),
            ("tasker submit worker --group a,", Some(Groups)),
            ("tasker schedules run ", Some(Schedules)),
            ("tasker audit list --action ", None),
            ("tasker up --endpoints ", None),
            ("tasker endpoint -t ", None),
            ("tasker ", None),
        ] {
            assert_eq!(known(line), wanted, "{line}");
        }
    }

    #[test]
    fn completes_the_last_name_of_a_list() {
        let names = || ["web12", "web2", "db1"].map(str::to_owned).to_vec();
        assert_eq!(matching("", names()), ["db1", "web2", "web12"]);
        assert_eq!(matching("w", names()), ["web2", "web12"]);
        assert_eq!(matching("web2,w", names()), ["web2,web12"]);
        assert_eq!(matching("x", names()), [""; 0]);
    }

    #[test]
    fn finds_the_api_on_the_line() {
        let read = global(&words("tasker --api=http://h:1 submit --token-file t wor"));
        assert_eq!(
            (read.api.as_deref(), read.token_file.as_deref()),
            (Some("http://h:1"), Some(std::path::Path::new("t")))
        );
        assert_eq!(global(&words("tasker --api http://h:2")).api.as_deref(), Some("http://h:2"));
        let flag = |line: &str| global(&words(line)).file_flag();
        assert_eq!(flag("tasker -m production submit w").as_deref(), Some("-m production"));
        assert_eq!(flag("tasker submit w --config=f.yaml").as_deref(), Some("--config f.yaml"));
    }
}
