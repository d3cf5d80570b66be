//! Workers that really perform tasks: in this process, or in processes of their own on a real broker.

use std::sync::Arc;
use std::time::Duration;

use super::stack::{Stack, WorkerChild};
use crate::app::EndpointProcess;
use crate::domain::EndpointName;
use crate::handlers;

/// Workers, wherever they run.
pub(super) enum Workers {
    Here(Vec<EndpointProcess>),
    Processes(Vec<Option<WorkerChild>>),
}

impl Workers {
    /// Starts workers of these names with so many slots each, and waits until all are subscribed.
    pub async fn start(
        stack: &Stack,
        names: &[EndpointName],
        slots: u32,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let workers = match stack.has_processes() {
            true => Self::Processes(
                names
                    .iter()
                    .map(|name| stack.worker(name, slots).map(Some))
                    .collect::<anyhow::Result<_>>()?,
            ),
            false => Self::here(stack, names, slots)?,
        };
        for name in names {
            stack.customer.subscribed(name.as_str(), patience).await?;
        }
        Ok(workers)
    }

    fn here(stack: &Stack, names: &[EndpointName], slots: u32) -> anyhow::Result<Self> {
        let mut settings = (*stack.config).clone();
        settings.endpoint.data_dir = stack.directory().to_owned();
        let settings = Arc::new(settings);
        let start = |name: &EndpointName| {
            let builtin = handlers::builtin(&settings.endpoint);
            EndpointProcess::start(settings.clone(), name.clone(), &[], Some(slots), stack.link(), builtin)
        };
        Ok(Self::Here(names.iter().map(start).collect::<Result<_, _>>()?))
    }

    /// Lets them end in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Here(here) => {
                drop(futures::future::join_all(here.into_iter().map(EndpointProcess::stop)).await)
            }
            Self::Processes(children) => {
                for child in children.into_iter().flatten() {
                    child.stop().await?;
                }
            }
        }
        Ok(())
    }
}
