//! `tasker answers`: what the endpoints of a task said, in groups of equal answers; and the same where
//! `status` would have too many rows.

use std::fmt::Write as _;

use crate::client::{Client, TaskName};
use crate::clock::Clock;
use crate::contract::{AnswerGroup, Answers, Exemplar, Responses, Task};
use crate::domain::{AnswerChange, AnswerDigest, EndpointName, ResponseStatus, TaskType, Timestamp};

use super::access;
use super::args;
use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure, print_json, show};
use super::render::{self, count, thousands};
use super::table::{self, Colour, Screen};

/// Digits of an answer's name that people read and may type.
const SHOWN: usize = 8;
/// Digits that must be typed at least.
const LEAST: usize = 6;
/// Groups that the API gives at most.
const MOST: u32 = 100;
/// Names of endpoints that are told of a group without an answer.
const NAMED: usize = 10;
/// Lines of a terminal that an answer takes at most.
const LINES: usize = 10;

pub(super) async fn run(global: &Global, args: args::Answers) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let task = client
        .status(&TaskName { task_type: args.task_type, id: args.id }, None, Responses::None)
        .await?
        .task;
    let id = task.id.to_string();
    if let Some(text) = args.answer {
        let digest = digest(&client, &task.task_type, &id, &text).await?;
        members(global, args.jsonl, &client, &task, digest).await?;
        return Ok(Code::Ok);
    }
    let answers = client.answers(&task.task_type, &id, args.limit).await?;
    match args.jsonl {
        true => answers.groups.iter().try_for_each(print_json)?,
        false => show(global.json, &answers, |screen| text(&task, &answers, Clock::system().now(), screen))?,
    }
    Ok(Code::Ok)
}

/// Prints who gave an answer.
async fn members(
    global: &Global,
    jsonl: bool,
    client: &Client,
    task: &Task,
    digest: AnswerDigest,
) -> Result<(), Failure> {
    let (mut cursor, mut all) = (None::<String>, Vec::new());
    loop {
        let page =
            client.responses(&task.task_type, &task.id.to_string(), Some(digest), cursor.as_deref()).await?;
        match (jsonl, global.json) {
            (true, _) => page.responses.iter().try_for_each(print_json)?,
            (false, true) => all.extend(page.responses),
            (false, false) => {
                let names = page.responses.iter().map(|response| format!("{}\n", response.endpoint));
                output::print(&names.collect::<String>())?;
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if global.json && !jsonl { print_json(&all) } else { Ok(()) }
}

/// The answer that a person means: by its whole name, or by the beginning of the name of one that the task
/// has.
pub(super) async fn digest(
    client: &Client,
    task_type: &TaskType,
    id: &str,
    text: &str,
) -> Result<AnswerDigest, Failure> {
    if let Ok(digest) = text.parse() {
        return Ok(digest);
    }
    if text.len() < LEAST
        || text.len() > AnswerDigest::DIGITS
        || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Err(Failure::Usage(format!(
            "{text:?} is not the name of an answer: expected {LEAST} to {} hexadecimal digits, as `tasker answers` shows them",
            AnswerDigest::DIGITS
        )));
    }
    let answers = client.answers(task_type, id, MOST).await?;
    let digests: Vec<AnswerDigest> = answers.groups.iter().filter_map(|group| group.answer).collect();
    one_of(&digests, text).map_err(Failure::Usage)
}

fn one_of(digests: &[AnswerDigest], text: &str) -> Result<AnswerDigest, String> {
    let begins = text.to_ascii_lowercase();
    let fitting: Vec<_> = digests.iter().filter(|digest| digest.to_string().starts_with(&begins)).collect();
    let names =
        |digests: &[&AnswerDigest]| digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match fitting[..] {
        [digest] => Ok(*digest),
        [] => {
            let there = digests.iter().take(NAMED).map(short).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "it has none".to_owned() } else { format!("it has {there}") };
            Err(format!("no answer to the task begins with {text}: {there}"))
        }
        _ => Err(format!("{text} begins {} answers: {}; give more digits", fitting.len(), names(&fitting))),
    }
}

fn short(digest: &AnswerDigest) -> String {
    digest.to_string()[..SHOWN].to_owned()
}

/// A task with its groups, and how it stands in the last line.
pub(super) fn text(task: &Task, answers: &Answers, now: Timestamp, screen: Screen) -> String {
    let mut text = render::heading(task, screen) + "\n";
    for group in &answers.groups {
        text += &head(task, group, screen);
        if let Some(exemplar) = &group.exemplar {
            text += &body(group, exemplar, screen);
        }
    }
    let more = answers.more;
    if more.groups > 0 {
        let (groups, endpoints) = (count(more.groups, "smaller group"), count(more.endpoints, "endpoint"));
        _ = writeln!(text, "{groups} of {endpoints} not shown: --limit shows up to {MOST}");
    }
    _ = writeln!(text, "{}", render::summary(task, now));
    text
}

/// How many endpoints did what.
fn head(task: &Task, group: &AnswerGroup, screen: Screen) -> String {
    let endpoints = count(group.count, "endpoint");
    let (what, colour) = match (group.status, group.errnr) {
        (ResponseStatus::Finished, Some(0)) => ("succeeded".to_owned(), Colour::Good),
        (ResponseStatus::Finished, Some(errnr)) => (format!("failed with {errnr}"), Colour::Bad),
        (ResponseStatus::Finished, None) => {
            ("answered an older version of the API, which made no groups".to_owned(), Colour::Plain)
        }
        (ResponseStatus::Expected, _) => ("did not receive it yet".to_owned(), Colour::Open),
        (ResponseStatus::Created, _) => ("did not finish yet".to_owned(), Colour::Plain),
        (ResponseStatus::Canceled, _) => ("canceled".to_owned(), Colour::Open),
        (ResponseStatus::Expired, _) => ("gave up: the time was over".to_owned(), Colour::Bad),
    };
    let names = match (&group.exemplar, group.answer) {
        (Some(exemplar), Some(answer)) if group.count == 1 => {
            format!(": {} (answer {})", exemplar.endpoint, short(&answer))
        }
        (Some(exemplar), Some(answer)) => {
            format!(", such as {} (answer {})", exemplar.endpoint, short(&answer))
        }
        _ if group.status == ResponseStatus::Expected => named(task.missing.as_deref().unwrap_or_default()),
        _ => String::new(),
    };
    format!("{}{names}\n", screen.paint(&format!("{endpoints} {what}"), colour))
}

/// The first of some names.
fn named(names: &[EndpointName]) -> String {
    let mut sorted: Vec<&str> = names.iter().map(EndpointName::as_str).collect();
    sorted.sort_by(|one, other| render::natural(one, other));
    let more = sorted.len().saturating_sub(NAMED);
    sorted.truncate(NAMED);
    match (sorted.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(": {}", sorted.join(", ")),
        (false, more) => format!(": {}, and {} more", sorted.join(", "), thousands(more as u64)),
    }
}

/// What they said, and what sets it apart: as much as a terminal has room for.
fn body(group: &AnswerGroup, exemplar: &Exemplar, screen: Screen) -> String {
    let message = exemplar.errmsg.lines().rev().map(str::trim_end).filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = message.map(render::visible).collect();
    lines.extend(
        exemplar
            .payload
            .iter()
            .flat_map(|payload| render::answered(payload).lines().map(render::visible).collect::<Vec<_>>()),
    );
    if exemplar.payload_omitted {
        lines.push(format!("(a long answer: `tasker status ... --endpoint {}` shows it)", exemplar.endpoint));
    }
    if let Some(difference) = group.difference.as_ref().filter(|_| exemplar.payload.is_some()) {
        let payload = difference
            .changes
            .iter()
            .filter_map(|change| Some((change.at.strip_prefix("/payload")?, change)));
        let mut apart: Vec<String> = payload
            .filter(|(place, _)| !place.is_empty())
            .map(|(place, change)| apart(place, change))
            .collect();
        if difference.more > 0 {
            apart.push(format!("{} more", count(difference.more.into(), "difference")));
        }
        if !apart.is_empty() {
            lines.push(format!("unlike the largest group: {}", apart.join("; ")));
        }
    }
    // Two blanks stand before each line; what is longer than a line goes on in the next one.
    let (width, mut left) = screen.width().map_or((usize::MAX, usize::MAX), |width| (width - 2, LINES));
    let mut text = String::new();
    for line in lines {
        if left == 0 {
            break;
        }
        let shown = table::cut(&line, width.saturating_mul(left));
        left = left.saturating_sub(table::width(&shown).div_ceil(width).max(1));
        _ = writeln!(text, "  {shown}");
    }
    text
}

fn apart(place: &str, change: &AnswerChange) -> String {
    let place = render::visible(place);
    match (change.largest.as_deref().map(render::visible), change.here.as_deref().map(render::visible)) {
        (Some(largest), Some(here)) => format!("{place} is {here} and not {largest}"),
        (Some(largest), None) => format!("{place} is missing and not {largest}"),
        (None, Some(here)) => format!("{place} is there, {here}"),
        (None, None) => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;
    use crate::contract::MoreAnswers;
    use crate::domain::{Counts, Difference, TaskStatus, json};

    fn digest_of(byte: u8) -> AnswerDigest {
        AnswerDigest::from_bytes([byte; 16])
    }

    fn group(digest: u8, count: u64, errnr: i32, errmsg: &str) -> AnswerGroup {
        let exemplar = Exemplar {
            endpoint: "web1".parse().expect("a name"),
            errmsg: errmsg.to_owned(),
            payload: (errnr == 0).then(|| json(&serde_json::json!({"version": digest}))),
            payload_omitted: false,
        };
        AnswerGroup {
            answer: Some(digest_of(digest)),
            status: ResponseStatus::Finished,
            errnr: Some(errnr),
            count,
            exemplar: Some(exemplar),
            difference: None,
        }
    }

    fn unanswered(status: ResponseStatus, count: u64) -> AnswerGroup {
        AnswerGroup { answer: None, status, errnr: None, count, exemplar: None, difference: None }
    }

    #[test]
    fn says_how_many_said_what() {
        let change = AnswerChange {
            at: "/payload/version".to_owned(),
            largest: Some("1".to_owned()),
            here: Some("2".to_owned()),
        };
        let groups = vec![
            group(1, 9_950, 0, ""),
            unanswered(ResponseStatus::Expected, 12),
            AnswerGroup {
                difference: Some(Difference { changes: vec![change], more: 1 }),
                ..group(2, 48, 0, "")
            },
            group(3, 1, 3, "cannot dump\n\nno disk\x1b[2J\n"),
        ];
        let task = Task {
            status: TaskStatus::Incomplete,
            counts: Counts {
                expected: 10_011,
                received: 9_999,
                finished: 9_999,
                failed: 1,
                ..Counts::default()
            },
            missing: Some((0..12).map(|number| format!("db{number}").parse().expect("a name")).collect()),
            ..examples::task()
        };
        let answers = Answers { groups, more: MoreAnswers { groups: 1, endpoints: 1200 } };
        let text = text(&task, &answers, task.start_time, Screen::PLAIN);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "9,950 endpoints succeeded, such as web1 (answer 01010101)",
                r#"  {"version":1}"#,
                "12 endpoints did not receive it yet: db0, db1, db2, db3, db4, db5, db6, db7, db8, db9, and 2 more",
                "48 endpoints succeeded, such as web1 (answer 02020202)",
                r#"  {"version":2}"#,
                "  unlike the largest group: /version is 2 and not 1; 1 difference more",
                "1 endpoint failed with 3: web1 (answer 03030303)",
                r"  no disk\u{1b}[2J",
                "  cannot dump",
                "1 smaller group of 1,200 endpoints not shown: --limit shows up to 100",
                "9999 of 10011 endpoints finished, 1 failed, 12 not received yet, after 0.0 s",
            ]
        );
    }

    #[test]
    fn takes_no_more_lines_of_a_terminal_than_ten() {
        let long = group(
            1,
            5,
            1,
            &(0..40).map(|line| format!("{line} {}", "x".repeat(70))).collect::<Vec<_>>().join("\n"),
        );
        let answers = Answers { groups: vec![long], more: MoreAnswers::default() };
        let lines =
            |screen| text(&examples::task(), &answers, examples::task().start_time, screen).lines().count();
        assert_eq!((lines(Screen::of_width(80)), lines(Screen::PLAIN)), (2 + 10 + 1, 2 + 40 + 1));
        let one_line = group(1, 5, 1, &"y".repeat(2000));
        let shown = body(&one_line, one_line.exemplar.as_ref().expect("an answer"), Screen::of_width(80));
        assert!(shown.chars().count() <= 2 + 800 + 2 && shown.ends_with("…\n"), "{shown}");
        // Nothing in a line takes one as well, and an ideograph takes two columns.
        let shown = |text: &str| {
            let group = group(1, 5, 1, text);
            body(&group, group.exemplar.as_ref().expect("an answer"), Screen::of_width(80))
        };
        assert_eq!(shown(&"y\n\n".repeat(20)).lines().count(), LINES);
        assert!(table::width(&shown(&"漢".repeat(2000))) <= 2 + LINES * 78);
    }

    #[test]
    fn an_answer_is_found_by_the_beginning_of_its_name() {
        let digests = [digest_of(0xab), digest_of(0xac)];
        assert_eq!(one_of(&digests, "ABABAB"), Ok(digests[0]));
        assert!(one_of(&digests, "a").is_err_and(|told| told.contains("begins 2 answers")));
        assert!(one_of(&digests, "123456").is_err_and(|told| told.contains("it has abababab, acacacac")));
        assert!(one_of(&[], "123456").is_err_and(|told| told.contains("it has none")));
    }
}
