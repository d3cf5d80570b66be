//! Who keeps a wait up: the endpoints of a task that have received it and have not finished.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::client::{Client, ClientError};
use crate::contract::Task;
use crate::domain::{EndpointName, PartState, States};

use super::render::natural;

/// How often the API is asked for them.
const EVERY: Duration = Duration::from_secs(2);

/// They are asked for once no more than so many endpoints, or one in so many, have not finished: before, they
/// are no news.
const FEW: u32 = 20;
const ONE_IN: u32 = 20;

/// Asks who they are, now and then.
#[derive(Debug, Default)]
pub(super) struct Laggards(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    asked: Option<Instant>,
    /// The names of all endpoints, and what their list is called.
    all: Option<(String, Vec<EndpointName>)>,
    slow: Vec<EndpointName>,
}

impl Laggards {
    /// The endpoints that have begun and not finished, as they were a moment ago. None while most have not,
    /// and where the API cannot tell.
    pub(super) async fn of(&self, client: &Client, task: &Task) -> Vec<EndpointName> {
        let (open, expected) = (task.counts.open(), task.counts.expected);
        if task.counts.received == 0 || open == 0 || open > FEW.max(expected / ONE_IN) {
            return Vec::new();
        }
        let mut known = self.0.lock().await;
        if known.asked.is_none_or(|asked| asked.elapsed() >= EVERY) {
            known.asked = Some(Instant::now());
            known.slow = known.ask(client, task).await.unwrap_or_default();
        }
        known.slow.clone()
    }
}

impl Known {
    async fn ask(&mut self, client: &Client, task: &Task) -> Result<Vec<EndpointName>, ClientError> {
        let id = task.id.to_string();
        let (generation, states) = client.states(&task.task_type, &id).await?;
        if self.all.as_ref().is_none_or(|(known, _)| *known != generation) {
            let list = client.names(&task.task_type, &id).await?;
            self.all = Some((list.generation, list.names));
        }
        Ok(self.all.as_ref().map(|(_, names)| slow(&states, names)).unwrap_or_default())
    }
}

fn slow(states: &States, names: &[EndpointName]) -> Vec<EndpointName> {
    let begun = |code| {
        matches!(
            PartState::from_code(code),
            Some(PartState::Received | PartState::Running | PartState::Retry | PartState::Vanished)
        )
    };
    let mut slow: Vec<EndpointName> =
        states.iter().zip(names).filter(|(code, _)| begun(*code)).map(|(_, name)| name.clone()).collect();
    slow.sort_by(|one, other| natural(one.as_str(), other.as_str()));
    slow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_begun_and_not_finished_are_slow() {
        let names: Vec<EndpointName> =
            (1..=12).map(|number| format!("web{number}").parse().expect("a name")).collect();
        let codes = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 3];
        let slow = slow(&codes.into_iter().collect(), &names);
        assert_eq!(
            slow.iter().map(EndpointName::as_str).collect::<Vec<_>>(),
            ["web2", "web3", "web4", "web9", "web12"]
        );
    }
}
