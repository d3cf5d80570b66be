//! Everything that went through the broker, to be delivered again.

use std::collections::BTreeMap;

use super::fleet::{Fleet, TYPE};
use super::queues::Queues;

/// Copies of all that went through the broker: by queue, every body that came to it.
pub struct Tap {
    queues: Queues,
    seen: BTreeMap<String, Vec<Vec<u8>>>,
    random: fastrand::Rng,
}

impl Tap {
    /// Taps the queues of a fleet; what is repeated comes in an order of this seed.
    pub async fn of(fleet: &Fleet, seed: u64) -> anyhow::Result<Self> {
        let queues = Queues::of(&fleet.platform).await?;
        let mut seen = BTreeMap::new();
        let queued = fleet.queues().iter().map(|queue| (queue.as_str(), fleet.workers()));
        for (task_type, names) in queued.chain([(TYPE, fleet.endpoints())]) {
            let (all, named) = (format!("it.{task_type}"), format!("it.{task_type}.to"));
            for name in names {
                let queue = format!("it.{task_type}.{name}");
                queues.tap(&tap(&queue), &[(&all, ""), (&named, &name)]).await?;
                seen.insert(queue, Vec::new());
            }
        }
        queues.tap(&tap("it.responses"), &[("it.responses", "")]).await?;
        seen.insert("it.responses".to_owned(), Vec::new());
        Ok(Self { queues, seen, random: fastrand::Rng::with_seed(seed) })
    }

    /// Puts everything so far into its queue again, so many times, in any order.
    pub async fn repeat(&mut self, times: usize) -> anyhow::Result<()> {
        let mut sends = Vec::new();
        for (queue, bodies) in &mut self.seen {
            bodies.extend(self.queues.drain(&tap(queue)).await?);
            sends.extend(
                bodies.iter().flat_map(|body| std::iter::repeat_n((queue.as_str(), body.as_slice()), times)),
            );
        }
        self.random.shuffle(&mut sends);
        for (queue, body) in sends {
            self.queues.put(queue, body).await?;
        }
        Ok(())
    }
}

fn tap(queue: &str) -> String {
    format!("{queue}.tap")
}
