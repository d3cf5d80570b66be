//! What people see. Pure: values in, text out.
//!
//! Whatever came from elsewhere (error texts, names) has its control characters made visible, so that no endpoint can
//! write to an operator's terminal.

use std::fmt::Write;
use std::iter;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{ResponseStatus, TaskStatus, Timestamp, Token};

use super::client::{Census, Endpoint, Queue, Response, Schedule, Submitted, Task};
use super::verify::Verified;

/// Longest text in a column of a table.
const WIDEST: usize = 100;

/// What a submission answers: one line.
pub(super) fn submitted(submitted: &Submitted) -> String {
    let there = if submitted.repeated { ", was there already" } else { "" };
    format!("{}{there}\n", heading(&submitted.task))
}

/// Type, identifier, status and id of a task.
fn heading(task: &Task) -> String {
    format!("{} {} {} (task {})", task.status.as_str(), task.task_type, visible(task.identifier.as_str()), task.id)
}

/// How a task stands, in a line: `2 of 2 endpoints finished, 1 failed, in 5.0 s`.
pub(super) fn summary(task: &Task, now: Timestamp) -> String {
    let many = |count: u32, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let head = match (task.expected, task.status) {
        (0, TaskStatus::Created) if task.queue.is_some() => "waits for a worker".to_owned(),
        (0, _) if task.queue.is_some() => "no worker had it".to_owned(),
        // Frozen by the API just after it has answered.
        (0, TaskStatus::Created) => "not sent yet".to_owned(),
        (0, _) => format!("no endpoint subscribes to {}", task.task_type),
        (expected, _) => format!("{} of {expected} {} finished", task.finished, if expected == 1 { "endpoint" } else { "endpoints" }),
    };
    let missing = task.expected.saturating_sub(task.received);
    let unreceived = if task.status.is_final() { "did not receive it" } else { "not received yet" };
    let (failed, missing) = (many(task.failed, "failed"), many(missing, unreceived));
    let (canceled, expired) = (many(task.canceled, "canceled"), many(task.expired, "gave up"));
    let (time, word) = task.finished_at.map_or((now, "after"), |end| (end, "in"));
    format!("{head}{failed}{missing}{canceled}{expired}, {word} {}", seconds(time.since(task.start_time)))
}

/// A task with what endpoints did with it, and how it stands in the last line.
pub(super) fn report(task: &Task, responses: &[Response], now: Timestamp) -> String {
    let heard = responses.iter().filter(|response| response.status != ResponseStatus::Expected);
    let mut rows: Vec<[String; 4]> = heard.flat_map(|response| iter::once(row(response)).chain(late(response))).collect();
    let missing = task.missing.iter().flatten();
    let word = if task.status.is_final() { "not received" } else { "not received yet" };
    rows.extend(missing.map(|endpoint| [endpoint.to_string(), word.to_owned(), String::new(), String::new()]));
    let mut text = heading(task) + "\n";
    if !rows.is_empty() {
        text += &table(["ENDPOINT", "STATUS", "ERRNR", "MESSAGE"], &rows);
    }
    _ = writeln!(text, "{}", summary(task, now));
    text
}

fn row(response: &Response) -> [String; 4] {
    let status = match (response.status, response.progress) {
        (ResponseStatus::Created, _) if response.vanished => "vanished".to_owned(),
        (ResponseStatus::Created, Some(percent)) => format!("running, {percent}%"),
        (ResponseStatus::Created, None) => "running".to_owned(),
        (ResponseStatus::Finished, _) if response.attempt > 1 => format!("finished at attempt {}", response.attempt),
        (status, _) => status.as_str().to_lowercase(),
    };
    let message = match response.errmsg.as_deref().unwrap_or_default() {
        "" => response.payload.as_ref().map(|payload| payload.get()).unwrap_or_default(),
        errmsg => errmsg,
    };
    [response.endpoint.to_string(), status, response.errnr.map(|errnr| errnr.to_string()).unwrap_or_default(), visible(message)]
}

/// The answer of an endpoint that came after the end.
fn late(response: &Response) -> Option<[String; 4]> {
    let late = response.late.as_ref()?;
    let what = if late.contradicts { "contradicted later" } else { "answered too late" };
    Some([response.endpoint.to_string(), what.to_owned(), late.errnr.to_string(), visible(&late.errmsg)])
}

/// Tokens, one a line.
pub(super) fn tokens(tokens: &[Token], now: Timestamp) -> String {
    fn words<T>(items: impl IntoIterator<Item = T>, word: impl Fn(T) -> String) -> String {
        items.into_iter().map(word).collect::<Vec<_>>().join(",")
    }
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            let expires = match token.expires_at {
                None => "never".to_owned(),
                Some(end) if token.is_expired(now) => format!("{} (is over)", clock(end)),
                Some(end) => clock(end),
            };
            let types = if token.is_unlimited() { "all".to_owned() } else { words(&token.task_types, ToString::to_string) };
            let worker = token.worker.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            [token.name.to_string(), words(&token.scopes, ToString::to_string), types, worker, clock(token.created_at), expires]
        })
        .collect();
    table(["NAME", "SCOPES", "TYPES", "WORKER", "CREATED", "EXPIRES"], &rows)
}

/// Tasks, one a line.
pub(super) fn tasks(tasks: &[Task]) -> String {
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| {
            let missing = task.expected.saturating_sub(task.received);
            [
                task.status.as_str().to_owned(),
                visible(task.identifier.as_str()),
                clock(task.start_time),
                format!("{}/{}", task.finished, task.expected),
                task.failed.to_string(),
                missing.to_string(),
                task.id.to_string(),
            ]
        })
        .collect();
    table(["STATUS", "IDENTIFIER", "SUBMITTED", "FINISHED", "FAILED", "MISSING", "TASK"], &rows)
}

/// Endpoints, one a line.
pub(super) fn endpoints(endpoints: &[Endpoint]) -> String {
    let types = |endpoint: &Endpoint| {
        let types = endpoint.types.iter().map(|one| match (&one.trouble, one.slots) {
            (Some(trouble), _) if !one.subscribed => format!("{} (not subscribed: {})", one.task_type, visible(trouble)),
            _ if !one.subscribed => format!("{} (gone)", one.task_type),
            (Some(trouble), _) => format!("{} ({})", one.task_type, visible(trouble)),
            (None, Some(0)) => format!("{} (takes no more)", one.task_type),
            (None, Some(slots)) => format!("{} ({slots} at a time)", one.task_type),
            (None, None) => one.task_type.to_string(),
        });
        let types = types.zip(&endpoint.types).map(|(text, one)| match &one.standby {
            Some(standby) => format!("{text} (standby since {})", clock(standby.since)),
            None => text,
        });
        types.collect::<Vec<_>>().join(", ")
    };
    let rows: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let offset = endpoint.clock_offset_ms.map_or_else(|| "-".to_owned(), ahead);
            [endpoint.name.to_string(), clock(endpoint.last_seen), visible(&endpoint.version), offset, types(endpoint)]
        })
        .collect();
    table(["ENDPOINT", "LAST SEEN", "VERSION", "CLOCK", "TYPES"], &rows)
}

/// Work queues, one a line.
pub(super) fn queues(queues: &[Queue]) -> String {
    let row = |queue: &Queue| {
        let state = if queue.paused_at.is_some() { "paused" } else { "open" };
        let oldest = queue.oldest.map_or_else(|| "-".to_owned(), clock);
        let [waiting, held, delayed, running] = [queue.waiting, queue.held, queue.delayed, queue.running].map(|count| count.to_string());
        [queue.task_type.to_string(), state.to_owned(), waiting, held, delayed, running, oldest]
    };
    table(["TYPE", "QUEUE", "WAITING", "HELD", "DELAYED", "RUNNING", "WAITING SINCE"], &queues.iter().map(row).collect::<Vec<_>>())
}

/// Schedules, one a line; below, the last error of each that has one.
pub(super) fn schedules(schedules: &[Schedule]) -> String {
    let row = |schedule: &Schedule| {
        let times = format!("{} {}", schedule.cron, schedule.time_zone);
        let local = schedule.next_local.as_deref().map(|time| visible(&time.replacen('T', " ", 1)));
        let local = match schedule.paused_at {
            Some(_) => "paused".to_owned(),
            None => local.unwrap_or_else(|| "-".to_owned()),
        };
        let next = schedule.next.map_or_else(|| "-".to_owned(), clock);
        [visible(&schedule.name), schedule.task_type.to_string(), visible(&times), visible(&schedule.missed), local, next]
    };
    let head = ["SCHEDULE", "TYPE", "TIMES", "MISSED", "NEXT", "NEXT (UTC)"];
    let mut text = table(head, &schedules.iter().map(row).collect::<Vec<_>>());
    for schedule in schedules {
        if let Some(at) = schedule.paused_at {
            let name = visible(&schedule.name);
            _ = writeln!(text, "{name}: paused since {}; `tasker schedules resume {name}` goes on with the times to come", clock(at));
        }
        if let (Some(error), Some(at)) = (&schedule.last_error, schedule.last_error_at) {
            _ = writeln!(text, "{}: last error, at {}: {}", visible(&schedule.name), clock(at), visible(error));
        }
    }
    text
}

/// Sums by type, what is wrong, and a verdict.
pub(super) fn verified(verified: &[Verified]) -> String {
    let rows: Vec<_> = verified
        .iter()
        .map(|Verified { task_type, census }| {
            let Census { accepted, accounted, missing, expected, open, executions, interrupted, double, .. } = census;
            let numbers = [accepted, accounted, missing, expected, open, executions, interrupted, double].map(ToString::to_string);
            let [accepted, accounted, missing, expected, open, executions, interrupted, double] = numbers;
            [task_type.to_string(), accepted, accounted, missing, expected, open, executions, interrupted, double]
        })
        .collect();
    let head = ["TYPE", "ACCEPTED", "ACCOUNTED", "MISSING", "RESPONSES", "OPEN", "EXECUTIONS", "INTERRUPTED", "DOUBLE"];
    let mut text = table(head, &rows);
    for Verified { task_type, census } in verified {
        for flaw in &census.flaws {
            _ = writeln!(text, "{task_type} {} (task {}): {}", visible(flaw.identifier.as_str()), flaw.id, visible(&flaw.reason));
        }
    }
    let sum = |of: fn(&Census) -> u64| verified.iter().map(|one| of(&one.census)).sum::<u64>();
    let (missing, double, excess) = (sum(|census| census.missing), sum(|census| census.double), sum(|census| census.excess));
    text += &match (missing, double, excess) {
        (0, 0, 0) => "all that was accepted is accounted for, nothing was run twice\n".to_owned(),
        (missing, double, 0) => format!("{missing} tasks do not add up, {double} responses were run twice\n"),
        (missing, double, excess) => {
            format!(
                "{missing} tasks do not add up, {double} responses were run twice, {excess} had more attempts than their policy allows\n"
            )
        }
    };
    text
}

/// Milliseconds ahead or behind, in seconds with a sign.
fn ahead(offset_ms: i64) -> String {
    let tenths = (offset_ms.unsigned_abs() + 50) / 100;
    let sign = if offset_ms < 0 && tenths > 0 { '-' } else { '+' };
    format!("{sign}{}.{}s", tenths / 10, tenths % 10)
}

/// Columns as wide as their longest text, no blanks at the end of lines.
fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let width = |column: usize| std::iter::once(&head).chain(rows).map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text of others on one line: control characters visible, bounded.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == WIDEST {
            shown.push('…');
            break;
        }
        // Direction marks reorder what stands around them; separators break the line for some terminals and editors; and what takes no
        // room makes two texts look the same.
        let unseen = matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
        match c {
            '\n' => shown.push_str(" | "),
            c if c.is_control() || unseen => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

fn clock(time: Timestamp) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::tests::{response, task};
    use crate::cli::client::{Subscription, Task};
    use crate::domain::LateAnswer;

    fn after(seconds: u64) -> Timestamp {
        task().start_time.after(Duration::from_secs(seconds))
    }

    #[test]
    fn sums_up_in_one_line() {
        let done = Task { expected: 2, received: 2, finished: 2, status: TaskStatus::Done, finished_at: Some(after(5)), ..task() };
        let table = [
            (task(), "not sent yet, after 9.0 s"),
            (Task { queue: Some(serde_json::json!({})), ..task() }, "waits for a worker, after 9.0 s"),
            (
                Task { queue: Some(serde_json::json!({})), status: TaskStatus::Expired, finished_at: Some(after(5)), ..task() },
                "no worker had it, in 5.0 s",
            ),
            (Task { status: TaskStatus::Incomplete, ..task() }, "no endpoint subscribes to backup, after 9.0 s"),
            (Task { failed: 1, ..done.clone() }, "2 of 2 endpoints finished, 1 failed, in 5.0 s"),
            (Task { expected: 1, received: 1, finished: 1, ..done.clone() }, "1 of 1 endpoint finished, in 5.0 s"),
            (
                Task { status: TaskStatus::Expired, expected: 3, received: 1, finished: 1, failed: 1, expired: 2, ..done.clone() },
                "1 of 3 endpoints finished, 1 failed, 2 did not receive it, 2 gave up, in 5.0 s",
            ),
            (Task { finished: 1, canceled: 1, ..done.clone() }, "1 of 2 endpoints finished, 1 canceled, in 5.0 s"),
            (Task { finished: 1, expired: 1, ..done }, "1 of 2 endpoints finished, 1 gave up, in 5.0 s"),
        ];
        for (task, line) in table {
            assert_eq!(summary(&task, after(9)), line);
        }
    }

    #[test]
    fn reports_failed_and_missing_endpoints() {
        let missing = Some(vec!["console3".parse().expect("a name")]);
        let task = Task { status: TaskStatus::Incomplete, expected: 3, received: 2, finished: 2, failed: 1, missing, ..task() };
        let text = "\
INCOMPLETE backup e7bd91d0-16ad-11e2-892e-0800200c9a66 (task 0190a6c8-5f5e-7c3a-8000-000000000001)
ENDPOINT  STATUS            ERRNR  MESSAGE
console1  finished          32     could not backup!
console3  not received yet
2 of 3 endpoints finished, 1 failed, 1 not received yet, after 30.0 s
";
        assert_eq!(report(&task, &[response()], after(30)), text);
        let late = |contradicts| Some(LateAnswer { contradicts, errnr: 3, errmsg: "full".into(), run: None, time: after(9) });
        for (contradicts, line) in
            [(false, "console1  answered too late  3      full"), (true, "console1  contradicted later  3      full")]
        {
            let shown = report(&task, &[Response { late: late(contradicts), ..response() }], after(30));
            assert!(shown.lines().any(|shown| shown == line), "no {line:?} in {shown}");
        }
    }

    #[test]
    fn shows_progress_attempts_and_answers() {
        let running = Response { status: ResponseStatus::Created, errnr: None, errmsg: None, progress: Some(40), ..response() };
        assert_eq!(row(&running), ["console1", "running, 40%", "", ""]);
        let payload = Some(crate::domain::json(&serde_json::json!({"took": 1.0})));
        let second = Response { errnr: Some(0), errmsg: Some(String::new()), attempt: 2, payload, ..response() };
        assert_eq!(row(&second), ["console1", "finished at attempt 2", "0", "{\"took\":1.0}"]);
    }

    #[test]
    fn others_cannot_write_to_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\nc\u{202e}d\t"), "a\\u{1b}[2Jb | c\\u{202e}d\\t");
        for unseen in ['\u{85}', '\u{2028}', '\u{2029}', '\u{200b}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{2066}', '\u{e0041}', '\u{3164}']
        {
            assert_eq!(visible(&format!("a{unseen}b")), format!("a{}b", unseen.escape_default()));
        }
        assert_eq!(visible("ä — 日本 ❤\u{fe0f}"), "ä — 日本 ❤\u{fe0f}");
        assert_eq!(visible(&"x".repeat(200)).chars().count(), WIDEST + 1);
    }

    #[test]
    fn lists_tasks_and_endpoints() {
        let lines = tasks(&[Task { expected: 2, received: 1, finished: 1, ..task() }]);
        assert_eq!(
            lines,
            "\
STATUS   IDENTIFIER                            SUBMITTED             FINISHED  FAILED  MISSING  TASK
CREATED  e7bd91d0-16ad-11e2-892e-0800200c9a66  2024-07-12 10:00:00Z  1/2       0       1        0190a6c8-5f5e-7c3a-8000-000000000001
"
        );
        let subscription = |name: &str, subscribed| Subscription {
            task_type: name.parse().expect("a name"),
            subscribed,
            trouble: None,
            slots: None,
            standby: None,
        };
        let endpoint = Endpoint {
            name: "console1".parse().expect("a name"),
            last_seen: task().start_time,
            version: "0.1.0".to_owned(),
            clock_offset_ms: Some(-312_049),
            types: vec![subscription("worker", true), subscription("backup", false)],
        };
        let old = Endpoint { clock_offset_ms: None, types: vec![subscription("worker", true)], ..endpoint.clone() };
        let well = Endpoint { clock_offset_ms: Some(-3), ..old.clone() };
        assert_eq!(
            endpoints(&[endpoint, old, well]),
            "\
ENDPOINT  LAST SEEN             VERSION  CLOCK    TYPES
console1  2024-07-12 10:00:00Z  0.1.0    -312.0s  worker, backup (gone)
console1  2024-07-12 10:00:00Z  0.1.0    -        worker
console1  2024-07-12 10:00:00Z  0.1.0    +0.0s    worker
"
        );
    }
}
