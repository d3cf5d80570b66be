//! Sends the lines of running handlers now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::performer::Core;
use super::presence::Session;
use crate::broker::{About, Address, Message, SharedBroker};
use crate::domain::ReportEvent;

/// Bytes of lines in one publish.
const BATCH: usize = 256 << 10;

/// Lines are sent at most so often, and on large fleets as much less often as presence is: in ten parts of
/// its interval.
const EVERY: Duration = Duration::from_secs(1);
const PARTS: u32 = 10;

/// Sends lines until `stop` has fired. What cannot be sent at once is dropped.
pub(super) async fn send_lines(
    core: Arc<Core>,
    broker: SharedBroker,
    sessions: watch::Receiver<Session>,
    stop: CancellationToken,
) {
    loop {
        let stopped = stop.run_until_cancelled(core.lines.any()).await.is_none();
        let every = (sessions.borrow().interval / PARTS).max(EVERY);
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = core.lines.last() => {}
            }
        };
        let stopped = stopped || stop.run_until_cancelled(pause).await.is_none();
        let reads = core.api_reads();
        let messages =
            core.lines.take(BATCH, |id| core.at_work.runs(id)).into_iter().map(|(id, task_type, piece)| {
                let body = core.report(id, task_type, ReportEvent::Log(piece));
                Message {
                    persistent: false,
                    reads,
                    about: About::Task { id, asked: None },
                    ..Message::new(Address::Responses, body)
                }
            });
        let messages: Vec<Message> = messages.collect();
        if !messages.is_empty() && broker.link().borrow().up {
            let failed = broker.publish(messages).await.into_iter().find_map(Result::err);
            if let Some(error) = failed {
                tracing::debug!(%error, "lines of running handlers could not be sent and are left out");
            }
        }
        if stopped {
            return;
        }
    }
}
