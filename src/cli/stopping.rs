//! Tells whoever stops a server what the stop waits for, and what it has ended.

use std::time::Duration;

use crate::endpoint::{AgentHandle, RunningTask};

use super::output;

/// Tasks that are named at most.
const NAMED: usize = 5;

/// The endpoints and workers of a process that stops.
pub(super) struct Stopping(Vec<AgentHandle>);

impl Stopping {
    /// Says what is waited for, and for how long at most.
    pub(super) fn begin(agents: Vec<AgentHandle>, within: Duration) -> Self {
        let running: Vec<_> = agents.iter().flat_map(AgentHandle::running).collect();
        if !running.is_empty() {
            say(&waits(&running, within));
        }
        Self(agents)
    }

    /// Says which tasks were ended before they were through.
    pub(super) fn end(self) {
        let stopped: Vec<_> = self.0.iter().flat_map(AgentHandle::stopped).collect();
        if !stopped.is_empty() {
            say(&ended(&stopped));
        }
    }
}

/// To the person at the terminal; without one, to the log in its form.
fn say(text: &str) {
    match output::is_watched() {
        true => output::note(text),
        false => tracing::info!("{text}"),
    }
}

fn waits(running: &[RunningTask], within: Duration) -> String {
    let (long, short): (Vec<_>, Vec<_>) = running.iter().partition(|task| task.waited_for);
    let most = format!("at most {} s", within.as_secs());
    let time = match (short.len(), long.len()) {
        (_, 0) => most,
        (0, _) => "until they end (`on_stop: wait`)".to_owned(),
        (_, long) => format!("{most}, for {long} of them until they end (`on_stop: wait`)"),
    };
    let (verb, them) = if running.len() == 1 { ("is", "it") } else { ("are", "them") };
    format!(
        "stopping: {} {verb} running, waiting {time}; Ctrl-C again ends {them}\n{}",
        count(running),
        list(running)
    )
}

fn ended(stopped: &[RunningTask]) -> String {
    let (verb, each) = if stopped.len() == 1 { ("was", "") } else { ("were", " of each") };
    format!(
        "stopped: {} still ran and {verb} ended, which is a failed attempt{each}\n{}",
        count(stopped),
        list(stopped)
    )
}

fn count(tasks: &[RunningTask]) -> String {
    if tasks.len() == 1 { "1 task".to_owned() } else { format!("{} tasks", tasks.len()) }
}

fn list(tasks: &[RunningTask]) -> String {
    let named =
        tasks.iter().take(NAMED).map(|task| format!("  {} {} at {}", task.task_type, task.id, task.endpoint));
    let more = tasks.len().saturating_sub(NAMED);
    named.chain((more > 0).then(|| format!("  and {more} more"))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(waited_for: &[bool]) -> Vec<RunningTask> {
        let id = "0190a6c8-5f5e-7c3a-8000-000000000001".parse().expect("an id");
        let (task_type, endpoint) =
            (|| "update".parse().expect("a type"), || "web1".parse().expect("a name"));
        waited_for
            .iter()
            .map(|&waited_for| RunningTask { id, task_type: task_type(), endpoint: endpoint(), waited_for })
            .collect()
    }

    #[test]
    fn says_for_what_and_how_long_it_waits() {
        let first = |waited_for: &[bool]| {
            waits(&tasks(waited_for), Duration::from_secs(30)).lines().next().map(str::to_owned)
        };
        let table: [(&[bool], &str); 4] = [
            (&[false], "stopping: 1 task is running, waiting at most 30 s; Ctrl-C again ends it"),
            (&[false, false], "stopping: 2 tasks are running, waiting at most 30 s; Ctrl-C again ends them"),
            (
                &[true, true],
                "stopping: 2 tasks are running, waiting until they end (`on_stop: wait`); Ctrl-C again ends them",
            ),
            (
                &[true, false],
                "stopping: 2 tasks are running, waiting at most 30 s, for 1 of them until they end (`on_stop: wait`); Ctrl-C again ends them",
            ),
        ];
        for (waited_for, text) in table {
            assert_eq!(first(waited_for).as_deref(), Some(text));
        }
        assert_eq!(list(&tasks(&[false; 7])).lines().last(), Some("  and 2 more"));
    }

    #[test]
    fn says_what_it_has_ended() {
        let text = ended(&tasks(&[false]));
        assert_eq!(
            text,
            "stopped: 1 task still ran and was ended, which is a failed attempt\n  update 0190a6c8-5f5e-7c3a-8000-000000000001 at web1"
        );
        assert!(
            ended(&tasks(&[false, false])).starts_with(
                "stopped: 2 tasks still ran and were ended, which is a failed attempt of each\n"
            )
        );
    }
}
