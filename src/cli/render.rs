//! What people see. Pure: values in, text out.
//!
//! Whatever came from elsewhere (error texts, names) has its control characters made visible, so that no
//! endpoint can write to an operator's terminal.

use std::cmp::Ordering;
use std::fmt::Write;
use std::iter;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::client::Submitted;
use crate::config::size;
use crate::contract::{Endpoint, Subscription, Task, TaskApproval, TaskResponse};
use crate::domain::{
    BUILT_IN, Counts, EndpointName, Json, Quota, ResponseStatus, TaskStatus, Timestamp, Token,
};
use crate::shell;

use super::exit::{Code, verdict};
use super::table::{Cell, Colour, Narrow, Screen, Table};

/// What a submission answers: one line.
pub(super) fn submitted(submitted: &Submitted, screen: Screen) -> String {
    let there = if submitted.repeated { ", was there already" } else { "" };
    format!("{}{there}\n", heading(&submitted.task, screen))
}

/// What is waited for: one line.
pub(super) fn begun(submitted: &Submitted) -> String {
    let Task { task_type, identifier, id, .. } = &submitted.task;
    let what = if submitted.repeated { "was there already:" } else { "submitted" };
    format!("{what} {task_type} {} (task {id})", visible(identifier.as_str()))
}

/// Type and name of a task as they can be typed at any shell.
pub(super) fn typed(task: &Task) -> String {
    let identifier = task.identifier.as_str();
    let safe =
        !identifier.starts_with('-') && !matches!(identifier, "." | "..") && shell::is_plain(identifier);
    match safe {
        true => format!("{} {identifier}", task.task_type),
        false => format!("{} {}", task.task_type, task.id),
    }
}

/// Status, type, identifier and id of a task.
pub(super) fn heading(task: &Task, screen: Screen) -> String {
    let status = screen.paint(task.status.as_str(), colour(task));
    format!("{status} {} {} (task {})", task.task_type, visible(task.identifier.as_str()), task.id)
}

/// How good it is how a task stands.
fn colour(task: &Task) -> Colour {
    match (task.status, verdict(task)) {
        (_, Some(Code::Ok)) => Colour::Good,
        (TaskStatus::Canceled, _) => Colour::Open,
        (TaskStatus::Incomplete, _) | (_, Some(_)) => Colour::Bad,
        (_, None) if task.counts.failed > 0 => Colour::Bad,
        (_, None) => Colour::Plain,
    }
}

/// How a task stands, in a line: `2 of 2 endpoints finished, 1 failed, in 5.0 s`.
pub(super) fn summary(task: &Task, now: Timestamp) -> String {
    let approval = task.approval.as_ref().filter(|approval| !approval.is_complete());
    if let Some(approval) = approval.filter(|_| task.status == TaskStatus::Created) {
        return waiting_for_approval(approval);
    }
    let replaced = task.queue.as_ref().and_then(|queue| queue.replaced_by);
    let head = match (task.counts.expected, task.status) {
        (0, TaskStatus::Canceled) if let Some(newer) = replaced => format!("replaced by task {newer}"),
        (0, TaskStatus::Created) if task.queue.is_some() => "waits for a worker".to_owned(),
        (0, _) if task.queue.is_some() => "no worker had it".to_owned(),
        // Frozen by the API just after it has answered.
        (0, TaskStatus::Created) => "not sent yet".to_owned(),
        (0, TaskStatus::Canceled) if task.published_at.is_none() => "canceled before it was sent".to_owned(),
        (0, TaskStatus::Expired) if task.published_at.is_none() => "expired before it was sent".to_owned(),
        (0, _) => format!("no endpoint subscribes to {}", task.task_type),
        (expected, _) => {
            format!(
                "{} of {expected} {} finished",
                task.counts.finished,
                if expected == 1 { "endpoint" } else { "endpoints" }
            )
        }
    };
    let (time, word) = task.finished_at.map_or((now, "after"), |end| (end, "in"));
    iter::once(head)
        .chain(others(task))
        .chain([format!("{word} {}", seconds(time.since(task.start_time)))])
        .collect::<Vec<_>>()
        .join(", ")
}

/// Who has signed a task that waits for signatures, and who may: `waits for approval: 1 of 2 signed (alice); bob
/// may sign`.
fn waiting_for_approval(approval: &TaskApproval) -> String {
    let TaskApproval { signed, others, needed } = approval;
    let names = |names: &[String], between: &str| visible(&names.join(between));
    let by = if signed.is_empty() { String::new() } else { format!(" ({})", names(signed, ", ")) };
    let others = if others.is_empty() { "nobody else".to_owned() } else { names(others, " or ") };
    format!("waits for approval: {} of {needed} signed{by}; {others} may sign", signed.len())
}

/// What became of endpoints besides finishing: `1 failed`, `2 canceled (1 never received it)`. Each endpoint
/// is counted once.
fn others(task: &Task) -> impl Iterator<Item = String> {
    let Counts { expected, received, finished, failed, canceled, expired, .. } = task.counts;
    let unreceived = expected.saturating_sub(received);
    let ended = canceled + expired;
    // Those that perform a task which has ended hear of it a moment later.
    let open = task.status == TaskStatus::Canceled || task.status == TaskStatus::Expired;
    let telling = if open { received.saturating_sub(finished + ended.saturating_sub(unreceived)) } else { 0 };
    // Rows that a cancel or the end of the task has closed may never have been received.
    let (apart, within) = if ended > 0 { (0, unreceived) } else { (unreceived, 0) };
    let never = move |count: u32| match within {
        0 => String::new(),
        within if within >= count && count == ended => " without having received it".to_owned(),
        within if count == ended => format!(" ({within} never received it)"),
        _ => String::new(),
    };
    let waited = if task.status.is_final() { "did not receive it" } else { "not received yet" };
    let counts = [
        (failed, "failed", String::new()),
        (apart, waited, String::new()),
        (canceled, "canceled", never(canceled)),
        (expired, "gave up", never(expired)),
        (telling, "being told", String::new()),
    ];
    counts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, never)| format!("{count} {what}{never}"))
}

/// A task with the endpoints that are missing and what the others did with it, and how it stands in the last
/// line.
pub(super) fn report(
    task: &Task,
    missing: &[EndpointName],
    responses: &[TaskResponse],
    now: Timestamp,
    screen: Screen,
) -> String {
    let mut heard: Vec<&TaskResponse> =
        responses.iter().filter(|response| response.status != ResponseStatus::Expected).collect();
    heard.sort_by(|one, other| natural(one.endpoint.as_str(), other.endpoint.as_str()));
    let mut missing: Vec<&EndpointName> = missing.iter().collect();
    missing.sort_by(|one, other| natural(one.as_str(), other.as_str()));
    let mut table = Table::new([
        ("ENDPOINT", Narrow::Keep),
        ("STATUS", Narrow::Keep),
        ("ERRNR", Narrow::Keep),
        ("MESSAGE", Narrow::Cut),
    ]);
    heard
        .into_iter()
        .flat_map(|response| iter::once(row(response)).chain(late(response)))
        .for_each(|row| table.push(row));
    let (word, colour) = match task.status {
        TaskStatus::Incomplete => ("not received yet", Colour::Bad),
        status if status.is_final() => ("not received", Colour::Bad),
        _ => ("not received yet", Colour::Open),
    };
    for endpoint in missing {
        table.push([endpoint.as_str().into(), Cell::new(word, colour), "".into(), "".into()]);
    }
    let mut text = heading(task, screen) + "\n";
    if !table.is_empty() {
        text += &table.text(screen);
    }
    _ = writeln!(text, "{}", summary(task, now));
    if let Some(error) = task.queue.as_ref().and_then(|queue| queue.successor_error.as_deref()) {
        _ = writeln!(text, "nothing was queued after it: {}", visible(error));
    }
    text
}

fn row(response: &TaskResponse) -> [Cell; 4] {
    let (status, colour) = standing(response);
    let message = match response.errmsg.as_str() {
        "" => response.payload.as_ref().map(answered).unwrap_or_default(),
        errmsg => last_line_first(errmsg),
    };
    let errnr = response.errnr.map(|errnr| errnr.to_string()).unwrap_or_default();
    [
        response.endpoint.as_str().into(),
        Cell::new(status, colour),
        Cell::new(errnr, colour),
        visible(&message).into(),
    ]
}

/// What an endpoint does with a task, and how good that is.
fn standing(response: &TaskResponse) -> (String, Colour) {
    let (status, good) = (response.status, response.errnr == Some(0));
    match (status, response.progress) {
        (ResponseStatus::Created, _) if response.vanished => ("vanished".to_owned(), Colour::Bad),
        // Also of a handler that logs lines and does not say how far it is.
        (ResponseStatus::Created, Some(0)) => ("running".to_owned(), Colour::Plain),
        (ResponseStatus::Created, Some(percent)) => (format!("running, {percent}%"), Colour::Plain),
        // It waits for its turn there, or the endpoint is of a version that does not say when it begins.
        (ResponseStatus::Created, None) => ("received".to_owned(), Colour::Plain),
        (ResponseStatus::Finished, _) => {
            let colour = if good { Colour::Good } else { Colour::Bad };
            let again = if response.attempt > 1 {
                format!(" at attempt {}", response.attempt)
            } else {
                String::new()
            };
            (format!("finished{again}"), colour)
        }
        (ResponseStatus::Expired, _) => (status.as_str().to_lowercase(), Colour::Bad),
        (ResponseStatus::Canceled | ResponseStatus::Expected, _) => {
            (status.as_str().to_lowercase(), Colour::Open)
        }
    }
}

/// The last line says what went wrong, those before it what came before.
pub(super) fn last_line_first(text: &str) -> String {
    text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

/// The answer of an endpoint that came after the end.
fn late(response: &TaskResponse) -> Option<[Cell; 4]> {
    let late = response.late.as_ref()?;
    let what = if late.contradicts { "contradicted later" } else { "answered too late" };
    let message = visible(&last_line_first(&late.errmsg));
    Some([
        response.endpoint.as_str().into(),
        Cell::new(what, Colour::Bad),
        late.errnr.to_string().into(),
        message.into(),
    ])
}

/// All that is known of one endpoint's answer.
pub(super) fn answer(task: &Task, response: &TaskResponse, now: Timestamp, screen: Screen) -> String {
    let (status, colour) = standing(response);
    let time = |time: Timestamp| format!("{} ({} ago)", clock(time), age(now.since(time)));
    let never = || "never".to_owned();
    let mut facts = vec![
        ("endpoint", response.endpoint.to_string()),
        ("status", screen.paint(&status, colour)),
        (
            "errnr",
            response.errnr.map_or_else(|| "-".to_owned(), |errnr| screen.paint(&errnr.to_string(), colour)),
        ),
        ("received", response.start_time.map_or_else(never, time)),
        ("changed", time(response.last_modified_time)),
    ];
    if let Some(late) = &response.late {
        let what = if late.contradicts { "contradicts the answer" } else { "came after the end" };
        facts
            .push(("late", format!("{} {what}, {}: {}", late.errnr, time(late.time), visible(&late.errmsg))));
    }
    let mut text = heading(task, screen) + "\n";
    for (name, fact) in facts {
        _ = writeln!(text, "{name:<10}{fact}");
    }
    let attempts =
        response.attempts.iter().map(|one| format!("attempt {}: {} {}", one.attempt, one.errnr, one.errmsg));
    let parts = [
        ("earlier attempts", attempts.collect::<Vec<_>>().join("\n")),
        ("message", response.errmsg.clone()),
        ("answer", response.payload.as_ref().map(answered).unwrap_or_default()),
        ("log", response.log.clone().unwrap_or_default()),
    ];
    for (name, part) in parts.into_iter().filter(|(_, part)| !part.trim().is_empty()) {
        _ = writeln!(text, "\n{name}:");
        part.lines().for_each(|line| _ = writeln!(text, "  {}", visible(&line.replace('\t', "    "))));
    }
    text
}

/// The answer of a handler as people read it: a text of several lines, such as a script prints, without
/// quotes; all else as JSON.
pub(super) fn answered(payload: &Json) -> String {
    match serde_json::from_str::<String>(payload.get()) {
        Ok(text) if text.trim().contains('\n') => text.trim_end().to_owned(),
        _ => payload.get().to_owned(),
    }
}

/// Tokens, one a line.
pub(super) fn tokens(tokens: &[Token], now: Timestamp, screen: Screen) -> String {
    fn words<T>(items: impl IntoIterator<Item = T>, word: impl Fn(T) -> String) -> String {
        items.into_iter().map(word).collect::<Vec<_>>().join(",")
    }
    use Narrow::{Cut, Drop, Keep};
    let mut table = Table::new([
        ("NAME", Keep),
        ("SCOPES", Keep),
        ("TYPES", Cut),
        ("WORKER", Keep),
        ("QUOTA", Cut),
        ("CREATED", Drop),
        ("EXPIRES", Keep),
    ]);
    for token in tokens {
        let expires = match token.expires_at {
            None => Cell::from("never"),
            Some(end) if token.is_expired(now) => Cell::new(format!("{} (is over)", clock(end)), Colour::Bad),
            Some(end) => clock(end).into(),
        };
        let types = if token.is_unlimited() {
            "all".to_owned()
        } else {
            words(&token.task_types, ToString::to_string)
        };
        let worker = token.worker.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let scopes = words(&token.scopes, ToString::to_string);
        table.push([
            token.name.to_string().into(),
            scopes.into(),
            types.into(),
            worker.into(),
            quota(&token.quota).into(),
            clock(token.created_at).into(),
            expires,
        ]);
    }
    table.text(screen)
}

fn quota(quota: &Quota) -> String {
    let Quota { rate, burst, open, endpoints, waits, bytes } = quota;
    let number = |name: &str, number: &Option<u32>| number.map(|number| format!("{name} {number}"));
    let limits = [
        rate.map(|rate| rate.to_string()),
        number("burst", burst),
        number("open", open),
        number("endpoints", endpoints),
        number("waits", waits),
        bytes.map(|bytes| format!("{}/s", size::format(bytes))),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if limits.is_empty() { "-".to_owned() } else { limits.join(", ") }
}

/// Tasks, one a line; with their ids if it may be `wide`.
pub(super) fn tasks(tasks: &[Task], now: Timestamp, wide: bool, screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let last = if wide { "TASK" } else { "" };
    let columns = [
        ("STATUS", Keep),
        ("TYPE", Keep),
        ("SUBMITTED", Drop),
        ("AGE", Keep),
        ("FINISHED", Keep),
        ("IDENTIFIER", Keep),
        (last, Keep),
    ];
    let mut table = Table::new(columns);
    for task in tasks {
        let counts = iter::once(format!("{}/{}", task.counts.finished, task.counts.expected))
            .chain(others(task))
            .collect::<Vec<_>>()
            .join(", ");
        let id = if wide { task.id.to_string() } else { String::new() };
        table.push([
            Cell::new(task.status.as_str(), colour(task)),
            task.task_type.as_str().into(),
            clock(task.start_time).into(),
            age(now.since(task.start_time)).into(),
            Cell::new(counts, if task.counts.failed > 0 { Colour::Bad } else { Colour::Plain }),
            visible(task.identifier.as_str()).into(),
            id.into(),
        ]);
    }
    table.text(screen)
}

/// Whether an endpoint is there, as far as can be told: one that has no subscription may say why.
pub(super) fn is_present(endpoint: &Endpoint) -> bool {
    endpoint.types.iter().any(|one| one.subscribed || one.trouble.is_some())
}

/// Endpoints, one a line.
pub(super) fn endpoints(endpoints: &[Endpoint], now: Timestamp, screen: Screen) -> String {
    let state = |endpoint: &Endpoint| match is_present(endpoint) {
        false if endpoint.stopped => Cell::new("stopped", Colour::Open),
        false => Cell::new("gone", Colour::Bad),
        true if endpoint.types.iter().any(|one| one.trouble.is_some()) => Cell::new("trouble", Colour::Open),
        true => Cell::new("present", Colour::Good),
    };
    use Narrow::{Cut, Drop, Keep};
    let columns = [
        ("ENDPOINT", Keep),
        ("STATE", Keep),
        ("LAST SEEN", Drop),
        ("AGE", Keep),
        ("VERSION", Drop),
        ("CLOCK", Drop),
        ("TYPES", Cut),
        ("LABELS", Cut),
    ];
    let mut table = Table::new(columns);
    let mut sorted: Vec<&Endpoint> = endpoints.iter().collect();
    sorted.sort_by(|one, other| natural(one.name.as_str(), other.name.as_str()));
    for endpoint in sorted {
        let (seen, heard) = (clock(endpoint.last_seen), age(now.since(endpoint.last_seen)));
        let (version, offset) =
            (visible(&endpoint.version), endpoint.clock_offset_ms.map_or_else(|| "-".to_owned(), ahead));
        let name = endpoint.name.as_str();
        table.push([
            name.into(),
            state(endpoint),
            seen.into(),
            heard.into(),
            version.into(),
            offset.into(),
            types(endpoint).into(),
            labels(endpoint).into(),
        ]);
    }
    table.text(screen)
}

/// The task types of an endpoint and what is to be said of each. Types that have the same trouble, such as a stop
/// file, share its text: `worker and backup (not subscribed: ...)`.
fn types(endpoint: &Endpoint) -> String {
    // Of one that is gone as a whole its state says so.
    let present = is_present(endpoint);
    let of_type = |one: &Subscription| {
        let told = match (&one.trouble, one.slots) {
            (Some(trouble), _) if !one.subscribed => format!(" (not subscribed: {})", visible(trouble)),
            _ if !one.subscribed && present => " (gone)".to_owned(),
            (Some(trouble), _) => format!(" ({})", visible(trouble)),
            (None, Some(0)) => " (takes no more)".to_owned(),
            (None, Some(slots)) => format!(" ({slots} at a time)"),
            (None, None) => String::new(),
        };
        match &one.standby {
            Some(standby) => format!("{told} (standby since {})", clock(standby.since)),
            None => told,
        }
    };
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for one in &endpoint.types {
        let (told, troubled) = (of_type(one), one.trouble.is_some());
        match groups.iter_mut().find(|(_, text)| troubled && *text == told) {
            Some((names, _)) => names.push(one.task_type.as_str()),
            None => groups.push((vec![one.task_type.as_str()], told)),
        }
    }
    let group = |(names, told): (Vec<&str>, String)| format!("{}{told}", names.join(" and "));
    groups.into_iter().map(group).collect::<Vec<_>>().join(", ")
}

/// What it says of itself, without the facts that every endpoint has.
fn labels(endpoint: &Endpoint) -> String {
    let own = endpoint.labels.iter().filter(|(key, _)| !BUILT_IN.contains(&key.as_str()));
    let text = own.map(|(key, value)| visible(&format!("{key}={value}"))).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Milliseconds ahead or behind, in seconds with a sign.
fn ahead(offset_ms: i64) -> String {
    let tenths = (offset_ms.unsigned_abs() + 50) / 100;
    let sign = if offset_ms < 0 && tenths > 0 { '-' } else { '+' };
    format!("{sign}{}.{}s", tenths / 10, tenths % 10)
}

/// The order that a person expects of names with numbers in them: `web2` before `web12`.
pub(super) fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let ((a, rest_of_one), (b, rest_of_other)) = (part(one), part(other));
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = match digits(a) && digits(b) {
            true => {
                let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
                a.len().cmp(&b.len()).then(a.cmp(b))
            }
            false => a.cmp(b),
        };
        match order {
            // `web1` and `web01` are two names all the same.
            Ordering::Equal if rest_of_one.is_empty() && rest_of_other.is_empty() => return a.cmp(b),
            Ordering::Equal => (one, other) = (rest_of_one, rest_of_other),
            order => return order,
        }
    }
}

/// The digits that a text begins with, or all before the next digit; and the rest.
fn part(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    text.split_at(text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len()))
}

/// A text of others on one line, control characters visible. The colours that programs print are left out.
pub(super) fn visible(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text.chars());
    loop {
        if let Some(after) = after_colour(rest.as_str()) {
            rest = after.chars();
            continue;
        }
        let Some(c) = rest.next() else { return shown };
        // Direction marks reorder what stands around them; separators break the line for some terminals and
        // editors; and what takes no room makes two texts look the same.
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
}

/// What comes after a sequence that sets a colour or a face (SGR), where the text begins with one.
fn after_colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    parameters.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':').strip_prefix('m')
}

/// A moment, to the second.
pub(super) fn clock(time: Timestamp) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M:%SZ").to_string()
}

pub(super) fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A span in its two largest units: `45s`, `5m12s`, `3h20m`, `2d4h`.
pub(super) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    let (large, small) = match seconds {
        0..60 => return format!("{seconds}s"),
        60..3_600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds % 3_600 / 60, "m")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
    };
    let rest = if small.0 > 0 { format!("{}{}", small.0, small.1) } else { String::new() };
    format!("{}{}{rest}", large.0, large.1)
}

/// A number of things.
pub(super) fn count(number: u64, thing: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {thing}{s}", thousands(number))
}

/// A number as people read it: `1,204`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples::{response, task};
    use crate::contract::{Queued, Subscription};
    use crate::domain::LateAnswer;

    fn counts([expected, received, finished, failed, canceled, expired]: [u32; 6]) -> Counts {
        Counts { expected, received, finished, failed, canceled, expired }
    }

    fn after(seconds: u64) -> Timestamp {
        task().start_time.after(Duration::from_secs(seconds))
    }

    #[test]
    fn sums_up_in_one_line() {
        let done = Task {
            counts: counts([2, 2, 2, 0, 0, 0]),
            status: TaskStatus::Done,
            finished_at: Some(after(5)),
            ..task()
        };
        let queue = Queued {
            priority: 0,
            run_at: None,
            attempts: vec![],
            parent: None,
            replaced_by: None,
            successor_error: None,
        };
        let queued = Task { queue: Some(queue.clone()), ..task() };
        let canceled =
            Task { status: TaskStatus::Canceled, published_at: None, finished_at: Some(after(5)), ..task() };
        let newer = Queued { replaced_by: Some(task().id), ..queue };
        let approval = TaskApproval {
            signed: vec!["alice".into()],
            others: vec!["bob".into(), "carol".into()],
            needed: 2,
        };
        let table = [
            (task(), "not sent yet, after 9.0 s"),
            (
                Task { approval: Some(approval), ..task() },
                "waits for approval: 1 of 2 signed (alice); bob or carol may sign",
            ),
            (canceled.clone(), "canceled before it was sent, in 5.0 s"),
            (
                Task { published_at: Some(after(1)), ..canceled.clone() },
                "no endpoint subscribes to backup, in 5.0 s",
            ),
            (
                Task { queue: Some(newer), ..canceled },
                "replaced by task 0190a6c8-5f5e-7c3a-8000-000000000001, in 5.0 s",
            ),
            (queued.clone(), "waits for a worker, after 9.0 s"),
            (
                Task { status: TaskStatus::Expired, finished_at: Some(after(5)), ..queued },
                "no worker had it, in 5.0 s",
            ),
            (
                Task { status: TaskStatus::Incomplete, ..task() },
                "no endpoint subscribes to backup, after 9.0 s",
            ),
            (
                Task { counts: counts([2, 2, 2, 1, 0, 0]), ..done.clone() },
                "2 of 2 endpoints finished, 1 failed, in 5.0 s",
            ),
            (
                Task { counts: counts([1, 1, 1, 0, 0, 0]), ..done.clone() },
                "1 of 1 endpoint finished, in 5.0 s",
            ),
            (
                Task { status: TaskStatus::Expired, counts: counts([3, 1, 1, 1, 0, 2]), ..done.clone() },
                "1 of 3 endpoints finished, 1 failed, 2 gave up without having received it, in 5.0 s",
            ),
            (
                Task { counts: counts([2, 2, 1, 0, 1, 0]), ..done.clone() },
                "1 of 2 endpoints finished, 1 canceled, in 5.0 s",
            ),
            (
                Task { counts: counts([2, 1, 0, 0, 2, 0]), status: TaskStatus::Canceled, ..done.clone() },
                "0 of 2 endpoints finished, 2 canceled (1 never received it), in 5.0 s",
            ),
            (
                Task { counts: counts([3, 2, 0, 0, 1, 0]), status: TaskStatus::Canceled, ..done.clone() },
                "0 of 3 endpoints finished, 1 canceled without having received it, 2 being told, in 5.0 s",
            ),
            (
                Task { counts: counts([2, 2, 1, 0, 0, 1]), ..done },
                "1 of 2 endpoints finished, 1 gave up, in 5.0 s",
            ),
        ];
        for (task, line) in table {
            assert_eq!(summary(&task, after(9)), line);
        }
    }

    #[test]
    fn reports_failed_and_missing_endpoints() {
        let missing = ["console3".parse().expect("a name")];
        let task = Task { status: TaskStatus::Incomplete, counts: counts([3, 2, 2, 1, 0, 0]), ..task() };
        let text = "\
INCOMPLETE backup e7bd91d0-16ad-11e2-892e-0800200c9a66 (task 0190a6c8-5f5e-7c3a-8000-000000000001)
ENDPOINT  STATUS            ERRNR  MESSAGE
console1  finished          32     could not backup!
console3  not received yet
2 of 3 endpoints finished, 1 failed, 1 not received yet, after 30.0 s
";
        assert_eq!(report(&task, &missing, &[response()], after(30), Screen::PLAIN), text);
        let late = |contradicts| {
            Some(LateAnswer { contradicts, errnr: 3, errmsg: "full".into(), run: None, time: after(9) })
        };
        for (contradicts, line) in [
            (false, "console1  answered too late  3      full"),
            (true, "console1  contradicted later  3      full"),
        ] {
            let shown = report(
                &task,
                &missing,
                &[TaskResponse { late: late(contradicts), ..response() }],
                after(30),
                Screen::PLAIN,
            );
            assert!(shown.lines().any(|shown| shown == line), "no {line:?} in {shown}");
        }
    }

    #[test]
    fn shows_progress_attempts_and_answers() {
        let running = TaskResponse {
            status: ResponseStatus::Created,
            errnr: None,
            errmsg: String::new(),
            progress: Some(40),
            ..response()
        };
        assert_eq!(row(&running).map(|cell| cell.text), ["console1", "running, 40%", "", ""]);
        let payload = Some(crate::domain::json(&serde_json::json!({"took": 1.0})));
        let second =
            TaskResponse { errnr: Some(0), errmsg: String::new(), attempt: 2, payload, ..response() };
        assert_eq!(
            row(&second).map(|cell| cell.text),
            ["console1", "finished at attempt 2", "0", "{\"took\":1.0}"]
        );
        let apt = TaskResponse {
            errmsg: "Reading package lists...\n\nE: Could not get lock\n".to_owned(),
            ..response()
        };
        assert_eq!(row(&apt).map(|cell| cell.text)[3], "E: Could not get lock | Reading package lists...");
    }

    #[test]
    fn others_cannot_write_to_the_terminal() {
        assert_eq!(visible("\u{1b}[1;31mERR\u{1b}[0m \u{1b}[38:5:1mx\u{1b}["), "ERR x\\u{1b}[");
        assert_eq!(visible("a\u{1b}[2Jb\nc\u{202e}d\t"), "a\\u{1b}[2Jb | c\\u{202e}d\\t");
        for unseen in [
            '\u{85}', '\u{2028}', '\u{2029}', '\u{200b}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{2066}',
            '\u{e0041}', '\u{3164}',
        ] {
            assert_eq!(visible(&format!("a{unseen}b")), format!("a{}b", unseen.escape_default()));
        }
        assert_eq!(visible("ä — 日本 ❤\u{fe0f}"), "ä — 日本 ❤\u{fe0f}");
    }

    #[test]
    fn lists_tasks_and_endpoints() {
        let one = [Task { counts: counts([2, 1, 1, 0, 0, 0]), ..task() }];
        let lines = tasks(&one, after(125), true, Screen::PLAIN);
        assert_eq!(
            lines,
            "\
STATUS   TYPE    SUBMITTED             AGE   FINISHED                 IDENTIFIER                            TASK
CREATED  backup  2024-07-12 10:00:00Z  2m5s  1/2, 1 not received yet  e7bd91d0-16ad-11e2-892e-0800200c9a66  0190a6c8-5f5e-7c3a-8000-000000000001
"
        );
        assert!(!tasks(&one, after(125), false, Screen::PLAIN).contains("0190a6c8"));
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
            labels: [("site".to_owned(), "berlin".to_owned())].into(),
            stopped: false,
            types: vec![subscription("worker", true), subscription("backup", false)],
        };
        let (name, types) = ("console12".parse().expect("a name"), vec![subscription("worker", false)]);
        let gone = Endpoint { name, types, clock_offset_ms: None, labels: [].into(), ..endpoint.clone() };
        let name = "console13".parse().expect("a name");
        let stopped = Endpoint { name, stopped: true, ..gone.clone() };
        let (name, types) = ("console2".parse().expect("a name"), vec![subscription("worker", true)]);
        let well = Endpoint { name, types, clock_offset_ms: Some(-3), ..endpoint.clone() };
        assert_eq!(
            endpoints(&[gone, stopped, well, endpoint], after(3600), Screen::PLAIN),
            "\
ENDPOINT   STATE    LAST SEEN             AGE  VERSION  CLOCK    TYPES                  LABELS
console1   present  2024-07-12 10:00:00Z  1h   0.1.0    -312.0s  worker, backup (gone)  site=berlin
console2   present  2024-07-12 10:00:00Z  1h   0.1.0    +0.0s    worker                 site=berlin
console12  gone     2024-07-12 10:00:00Z  1h   0.1.0    -        worker                 -
console13  stopped  2024-07-12 10:00:00Z  1h   0.1.0    -        worker                 -
"
        );
    }

    #[test]
    fn types_share_the_text_of_their_trouble() {
        let subscription = |name: &str, trouble: Option<&str>| Subscription {
            task_type: name.parse().expect("a name"),
            subscribed: trouble.is_none(),
            trouble: trouble.map(str::to_owned),
            slots: None,
            standby: None,
        };
        let stop = Some("stop_file: /etc/tasker/stop");
        let endpoint = Endpoint {
            name: "console1".parse().expect("a name"),
            last_seen: task().start_time,
            version: String::new(),
            clock_offset_ms: None,
            labels: [].into(),
            stopped: false,
            types: vec![subscription("a", stop), subscription("b", None), subscription("c", stop)],
        };
        assert_eq!(types(&endpoint), "a and c (not subscribed: stop_file: /etc/tasker/stop), b");
    }

    #[test]
    fn names_with_numbers_come_in_their_order() {
        let mut names = ["web12", "web3", "db", "web1a", "web1", "web003", "web", "10", "9", "web3.b"];
        names.sort_by(|one, other| natural(one, other));
        assert_eq!(names, ["9", "10", "db", "web", "web1", "web1a", "web003", "web3", "web3.b", "web12"]);
    }

    #[test]
    fn a_text_of_several_lines_is_no_json() {
        let shown = |payload: &str| answered(&serde_json::from_str(payload).expect("JSON"));
        assert_eq!(shown(r#""HOME=/root\nLANG=C\n""#), "HOME=/root\nLANG=C");
        for same in [r#""one line""#, r#""one line\n""#, r#"{"a": "b\nc"}"#, "6.10"] {
            assert_eq!(shown(same), same);
        }
    }

    #[test]
    fn ages_have_two_units() {
        let table = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (312, "5m12s"),
            (3600, "1h"),
            (12_000, "3h20m"),
            (187_200, "2d4h"),
            (864_000, "10d"),
        ];
        for (seconds, text) in table {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn one_answer_is_shown_whole() {
        let log = Some("line 1\n\u{1b}[2Jline 2".to_owned());
        let whole = TaskResponse { log, errmsg: "first\nlast".to_owned(), ..response() };
        let text = answer(&task(), &whole, after(65), Screen::PLAIN);
        for wanted in [
            "status    finished\n",
            "received  2024-07-12 10:00:00Z (1m5s ago)\n",
            "\nmessage:\n  first\n  last\n",
            "\nlog:\n  line 1\n  \\u{1b}[2Jline 2\n",
        ] {
            assert!(text.contains(wanted), "no {wanted:?} in {text}");
        }
    }

    #[test]
    fn colours_say_how_it_went() {
        let done = Task { counts: counts([1, 1, 1, 0, 0, 0]), status: TaskStatus::Done, ..task() };
        assert_eq!(colour(&done), Colour::Good);
        assert_eq!(colour(&Task { counts: counts([1, 1, 1, 1, 0, 0]), ..done.clone() }), Colour::Bad);
        assert_eq!(colour(&Task { status: TaskStatus::Incomplete, ..task() }), Colour::Bad);
        assert_eq!(
            (colour(&task()), colour(&Task { status: TaskStatus::Canceled, ..done })),
            (Colour::Plain, Colour::Open)
        );
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
