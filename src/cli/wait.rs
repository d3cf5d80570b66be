//! Waits until a task is settled, with a progress bar for whoever watches.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::backoff::Backoff;
use crate::domain::{TaskId, TaskType};

use super::client::{Client, ClientError, Responses, Task};
use super::exit::{Code, verdict};

/// How long each question lies at the API. The API answers at once when a task *ends*; that it became incomplete, or how
/// many have finished, is only seen by asking again.
const WATCHED: Duration = Duration::from_millis(500);
const UNWATCHED: Duration = Duration::from_secs(3);

/// How long the API may be away meanwhile.
const OUTAGE: Duration = Duration::from_secs(60);

/// Waits, at most for `limit`. Answers the verdict, or [`Code::TimedOut`].
pub(super) async fn until_settled(
    client: &Client,
    task_type: &TaskType,
    id: TaskId,
    limit: Option<Duration>,
    watched: bool,
) -> Result<Code, ClientError> {
    let started = Instant::now();
    let left = || limit.map_or(Duration::MAX, |limit| limit.saturating_sub(started.elapsed()));
    let slice = if watched { WATCHED } else { UNWATCHED };
    let bar = bar(watched);
    let id = id.to_string();
    let (mut failures, mut answered) = (0, Instant::now());
    loop {
        let asked = Instant::now();
        let wait = slice.min(left());
        match client.status(task_type, &id, Some(wait), Responses::None).await {
            Ok(report) => {
                (failures, answered) = (0, Instant::now());
                show(&bar, &report.task);
                if let Some(code) = verdict(&report.task) {
                    bar.finish_and_clear();
                    return Ok(code);
                }
            }
            Err(error) if error.is_transient() && answered.elapsed() < OUTAGE => {
                failures += 1;
                bar.set_message("the API does not answer, trying again");
                tokio::time::sleep(Backoff::CONNECTION.jittered(failures).min(left())).await;
            }
            Err(error) => {
                bar.finish_and_clear();
                return Err(error);
            }
        }
        if left().is_zero() {
            bar.finish_and_clear();
            return Ok(Code::TimedOut);
        }
        // An API that does not hold questions must not be asked without pause.
        tokio::time::sleep(wait.saturating_sub(asked.elapsed()).min(slice)).await;
    }
}

fn bar(watched: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} endpoints {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, task: &Task) {
    bar.set_length(task.expected.into());
    bar.set_position((task.finished + task.canceled + task.expired).into());
    let failed = if task.failed > 0 { format!("{} failed", task.failed) } else { String::new() };
    let missing = task.missing.as_ref().map_or(0, Vec::len);
    let waiting = if missing > 0 { format!(" waiting for {missing}") } else { String::new() };
    bar.set_message(failed + &waiting);
}
