//! Sends what the outbox holds, for as long as it takes.
//!
//! A note leaves the outbox only for the time of one publish: without the broker's confirm it goes back. A
//! final report that was confirmed is noted in the journal; if that note is lost, the report is sent once
//! more, which changes nothing.

use std::sync::Arc;

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

/// Sends until `stop` has fired and nothing is left to send, or the broker is closed.
pub(super) async fn send_reports(core: Arc<Core>, broker: SharedBroker, stop: CancellationToken) {
    let mut failures = 0u32;
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
        let mut reason = None;
        for ((id, note, _), result) in ready.into_iter().zip(results) {
            match result {
                Ok(()) if matches!(note, Note::Ended(_)) => confirmed.push(Record::Reported { id }),
                Ok(()) => {}
                Err(BrokerError::Closed) => return,
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
            failures = 0;
            continue;
        };
        failures = failures.saturating_add(1);
        tracing::warn!(%error, reports = again.len(), "reports could not be sent; retrying");
        core.outbox.put_back(again);
        tokio::time::sleep(Backoff::CONNECTION.jittered(failures)).await;
        if matches!(error, BrokerError::Disconnected { .. }) && link.wait_for(|link| link.up).await.is_ok() {
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
