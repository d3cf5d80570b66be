//! Sends what the outbox holds, for as long as it takes.
//!
//! A note leaves the outbox only for the time of one publish: without the broker's confirm it goes back. A
//! final report that was confirmed is noted in the journal; if that note is lost, the report is sent once
//! more, which changes nothing.
//!
//! A report that is refused, and would be so again, waits for itself: it holds back no others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::journal::{Ended, Record};
use super::outbox::Note;
use super::performer::Core;
use crate::backoff::Backoff;
use crate::broker::{About, Address, BrokerError, Message, SharedBroker};
use crate::domain::{ReportEvent, TaskId};

/// Reports in one publish.
const BATCH: usize = 256;

/// Bytes in one publish: the rest goes back for the next.
const BATCH_BYTES: usize = 2 << 20;

/// The wait for a report that was refused.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(600) };

/// How often reports were refused, and when last.
#[derive(Default)]
struct Refusals(HashMap<TaskId, (u32, Instant)>);

impl Refusals {
    /// When a report may be sent again that was refused now.
    fn next(&mut self, id: TaskId) -> Instant {
        let now = Instant::now();
        // A report that was not sent again for so long has left the outbox.
        self.0.retain(|_, (_, last)| now.saturating_duration_since(*last) < 2 * REFUSED.max);
        let (times, last) = self.0.entry(id).or_insert((0, now));
        (*times, *last) = (times.saturating_add(1), now);
        now + REFUSED.jittered(*times)
    }

    fn forget(&mut self, id: TaskId) {
        self.0.remove(&id);
    }
}

/// Sends until `stop` has fired and nothing is left to send, or the broker is closed.
pub(super) async fn send_reports(core: Arc<Core>, broker: SharedBroker, stop: CancellationToken) {
    let mut failures = 0u32;
    let mut refusals = Refusals::default();
    let mut link = broker.link();
    loop {
        let taken = tokio::select! {
            biased;
            taken = core.outbox.take(BATCH) => taken,
            () = stop.cancelled() => {
                if core.outbox.is_empty() {
                    return;
                }
                // What is left are receipts that are held back for a moment.
                core.outbox.take(BATCH).await
            }
        };
        let (ready, rest) = resolve(&core, taken).await;
        core.outbox.put_back(rest);
        let messages = ready.iter().map(|(_, _, message)| message.clone()).collect();
        let results = broker.publish(messages).await;
        let mut confirmed = Vec::new();
        let mut again = Vec::new();
        let (mut reason, mut refused, mut taken) = (None, 0usize, 0usize);
        for ((id, note, _), result) in ready.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    taken += 1;
                    refusals.forget(id);
                    if matches!(note, Note::Ended(_)) {
                        confirmed.push(Record::Reported { id });
                    }
                }
                Err(BrokerError::Closed) => return,
                Err(error @ BrokerError::Refused { .. }) => {
                    refused += 1;
                    tracing::error!(task = %id, %error, "a report is refused; it is sent again later, behind others");
                    core.outbox.put_off(id, note, refusals.next(id));
                }
                Err(error) => {
                    reason = Some(error);
                    again.push((id, note));
                }
            }
        }
        if !confirmed.is_empty() {
            crate::failpoint::REPORTER_CONFIRMED.reach();
            if let Err(error) = core.journal.note(confirmed).await {
                tracing::warn!(%error, "cannot note in the journal that reports were confirmed: they are sent again after a restart");
            }
        }
        let Some(error) = reason else {
            failures = if refused > 0 && taken == 0 { failures.saturating_add(1) } else { 0 };
            if failures > 0 {
                // Perhaps all are, so the next ones are not tried at once.
                tokio::time::sleep(Backoff::CONNECTION.jittered(failures)).await;
            }
            continue;
        };
        failures = failures.saturating_add(1);
        tracing::warn!(%error, reports = again.len(), "reports could not be sent; retrying");
        core.outbox.put_back(again);
        tokio::time::sleep(Backoff::CONNECTION.jittered(failures)).await;
        let disconnected =
            matches!(error, BrokerError::Disconnected { .. } | BrokerError::ApiUnreachable { .. });
        if disconnected && link.wait_for(|link| link.up).await.is_ok() {
            failures = 0;
        }
    }
}

/// Makes messages of notes; what does not fit into one publish is handed back.
async fn resolve(
    core: &Arc<Core>,
    taken: Vec<(TaskId, Note)>,
) -> (Vec<(TaskId, Note, Message)>, Vec<(TaskId, Note)>) {
    let in_journal = taken.iter().any(|(_, note)| matches!(note, Note::Ended(None)));
    if !in_journal {
        return read(core, taken);
    }
    let from = core.clone();
    // A task of the blocking pool that fails has lost its notes; the journal still has them for the next
    // start.
    tokio::task::spawn_blocking(move || read(&from, taken)).await.unwrap_or_default()
}

/// A note with the message that tells of it.
type Ready = (TaskId, Note, Message);

fn read(core: &Core, taken: Vec<(TaskId, Note)>) -> (Vec<Ready>, Vec<(TaskId, Note)>) {
    let (mut ready, mut rest, mut bytes, reads) = (Vec::new(), Vec::new(), 0, core.api_reads());
    for (id, note) in taken {
        if bytes > BATCH_BYTES {
            rest.push((id, note));
            continue;
        }
        let body = match &note {
            Note::Received(task_type) => core.report(id, task_type.clone(), ReportEvent::Received),
            Note::Begun(task_type) => core.report(id, task_type.clone(), ReportEvent::Begun),
            Note::Progress(task_type, percent) => {
                core.report(id, task_type.clone(), ReportEvent::Progress { percent: *percent })
            }
            Note::Ended(Some(report)) => report.clone(),
            Note::Ended(None) => match core.journal.read_end(id) {
                Ok(Some(Ended::Report(report))) => report,
                Ok(Some(Ended::Digest(digest))) => match (digest.task_type.clone(), digest.event()) {
                    (Some(task_type), Some(event)) => core.report(id, task_type, event),
                    _ => continue,
                },
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(task = %id, %error, "a report in the journal cannot be read");
                    continue;
                }
            },
        };
        bytes += body.len();
        // Progress is worth nothing when it is late.
        let persistent = !matches!(note, Note::Progress(..));
        let about = About::Task { id, asked: None };
        ready.push((
            id,
            note,
            Message { persistent, reads, about, ..Message::new(Address::Responses, body) },
        ));
    }
    (ready, rest)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::endpoint::lane::Lane;
    use crate::endpoint::testing::{self, Scripted};

    #[tokio::test(start_paused = true)]
    async fn a_refused_report_waits_for_itself_and_holds_back_no_others() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let core = Arc::new(testing::core(dir.path(), Arc::new(Lane::new(testing::policy(), None)), None));
        let refused = |message: &Message| match message.body.starts_with(b"bad") {
            true => Err(BrokerError::Refused { reason: "of another type".to_owned() }),
            false => Ok(()),
        };
        let broker = Scripted::new(1000, refused);
        let mut published = broker.published.subscribe();
        let [bad, good, late] = [(); 3].map(|()| TaskId::new());
        let stored = |id, report: &'static [u8]| Record::Outcome { id, report: Bytes::from_static(report) };
        core.journal
            .keep(vec![stored(bad, b"bad"), stored(good, b"good"), stored(late, b"late")])
            .await
            .expect("kept");
        core.outbox.ended(bad, None);
        core.outbox.ended(good, None);
        let stop = CancellationToken::new();
        let reporter = tokio::spawn(send_reports(core.clone(), broker, stop.clone()));
        let mut bodies = async |count| {
            let all = published.wait_for(|all| all.len() >= count).await.expect("it runs");
            all.iter().map(|(at, message)| (*at, message.body.clone())).collect::<Vec<_>>()
        };
        let first = bodies(2).await;
        assert_eq!((&first[0].1[..], &first[1].1[..]), (&b"bad"[..], &b"good"[..]));
        core.outbox.ended(late, None);
        let all = bodies(5).await;
        let told: Vec<_> = all.iter().map(|(_, body)| &body[..]).collect();
        assert_eq!(told, [&b"bad"[..], b"good", b"late", b"bad", b"bad"]);
        let waits = [all[3].0 - all[0].0, all[4].0 - all[3].0];
        assert!(waits[0] >= REFUSED.first / 2 && waits[1] >= REFUSED.first, "{waits:?}");
        stop.cancel();
        reporter.await.expect("a stop does not wait for it");
        assert_eq!(core.journal.unreported(), [bad]);
    }
}
