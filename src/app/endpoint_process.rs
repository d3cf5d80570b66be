//! The endpoint role: an agent and the link it answers through.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::broker::SharedBroker;
use crate::config::{Config, OnStop};
use crate::domain::{EndpointName, TaskType, likeness};
use crate::endpoint::{Agent, AgentConfig, AgentHandle, Registry};
use crate::service::Service;

/// A running endpoint role.
#[derive(Debug)]
pub struct EndpointProcess {
    /// Tells how it is.
    pub handle: AgentHandle,
    agent: Service,
    broker: SharedBroker,
    died: CancellationToken,
    within: Duration,
}

impl EndpointProcess {
    /// Starts an endpoint for some of the configured types; none given means all. With `slots` it is a
    /// worker, which performs so many tasks of work queues at the same time; without, it performs the types
    /// that every endpoint performs.
    ///
    /// # Errors
    /// When a type is not configured, or is of the other kind, or the journal cannot be opened.
    pub fn start(
        config: Arc<Config>,
        name: EndpointName,
        types: &[TaskType],
        slots: Option<u32>,
        broker: SharedBroker,
        registry: Registry,
    ) -> anyhow::Result<Self> {
        let mut policies = config.task_types.clone();
        if let Some(unknown) = types.iter().find(|wanted| config.policy(wanted).is_none()) {
            let known = policies.iter().map(|policy| policy.name.as_str());
            bail!(likeness::unknown("task type", unknown.as_str(), "configured", known).text);
        }
        policies.retain(|policy| match types.is_empty() {
            true => policy.queue.is_some() == slots.is_some(),
            false => types.contains(&policy.name),
        });
        if let Some(other) = policies.iter().find(|policy| policy.queue.is_some() != slots.is_some()) {
            match slots {
                None => {
                    bail!("`{}` has a work queue: its tasks are performed by `tasker worker`", other.name)
                }
                Some(_) => {
                    bail!("`{}` has no work queue: its tasks are performed by `tasker endpoint`", other.name)
                }
            }
        }
        if policies.is_empty() {
            bail!(
                "no configured task type {} a work queue",
                if slots.is_some() { "has" } else { "is without" }
            );
        }
        let waits = policies.iter().any(|policy| policy.on_stop == OnStop::Wait);
        let settings =
            AgentConfig { slots, ..AgentConfig::new(name.clone(), policies, config.endpoint.clone()) };
        let agent = Agent::open(settings, broker.clone(), registry)
            .with_context(|| format!("{name} cannot start"))?;
        let (handle, died) = (agent.handle(), CancellationToken::new());
        let run = |stop| async move {
            if let Err(error) = agent.run(stop).await {
                tracing::error!(%error, "the endpoint ended");
            }
        };
        // The agent bounds its own stop; a little more, so that it is not cut off while it says goodbye.
        let within = match waits {
            true => Duration::MAX,
            false => config.endpoint.stop_timeout + Duration::from_secs(10),
        };
        Ok(Self { handle, agent: Service::start("endpoint", &died, run), broker, died, within })
    }

    /// Canceled when the agent has ended on its own: the process should end too.
    pub const fn died(&self) -> &CancellationToken {
        &self.died
    }

    /// Stops taking tasks, lets handlers finish, sends the last reports, closes the link.
    pub async fn stop(self) {
        self.agent.stop(self.within).await;
        self.broker.close().await;
    }
}
