//! `tasker explain`: why a task does not run.

use std::fmt::Write as _;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::client::TaskName;
use crate::clock::Clock;
use crate::contract::{Explanation, ReasonGroup};
use crate::domain::{EndpointName, Reason, TaskType, Timestamp};

use super::access;
use super::exit::Code;
use super::global::Global;
use super::output::{Failure, show};
use super::render::{age, clock, visible};
use super::table::{Cell, Narrow, Screen, Table};

/// `tasker explain`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct Explain {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Identifier or task id
    #[arg(value_name = "ID", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// Why it does not run at this endpoint
    #[arg(short = 'e', long = "endpoint", value_name = "NAME")]
    pub of_endpoint: Option<EndpointName>,
}

pub(super) async fn run(global: &Global, args: Explain) -> Result<Code, Failure> {
    let Explain { task_type, id, of_endpoint } = args;
    let explanation =
        access::client(global)?.explain(&TaskName { task_type, id }, of_endpoint.as_ref()).await?;
    show(global.json, &explanation, |screen| text(&explanation, Clock::system().now(), screen))?;
    Ok(Code::Ok)
}

/// The reasons, each with what is known of it, and the endpoints by reason.
fn text(explanation: &Explanation, now: Timestamp, screen: Screen) -> String {
    let Explanation { task_type, identifier, status, endpoint, reasons, endpoints, uncounted, .. } =
        explanation;
    let mut text = format!("{task_type} {} is {}", visible(identifier.as_str()), status.as_str());
    if let Some(endpoint) = endpoint {
        _ = write!(text, "; at {endpoint}:");
    }
    text.push('\n');
    for reason in reasons {
        text += &one(reason, now);
    }
    if !endpoints.is_empty() {
        text += &groups(endpoints, now, screen);
    }
    if *uncounted > 0 {
        _ = writeln!(text, "endpoints that were not looked at: {uncounted}");
    }
    text
}

fn one(reason: &Reason, now: Timestamp) -> String {
    let mut text = format!("{}: {}\n", reason.code, visible(&reason.text));
    if let Some(since) = reason.since {
        _ = writeln!(text, "  since {} ({} ago)", clock(since), age(now.since(since)));
    }
    let evidence = &reason.evidence;
    if let Some(by) = &evidence.by {
        _ = writeln!(text, "  by the token {by}");
    }
    if !evidence.tasks.is_empty() {
        let ids: Vec<_> = evidence.tasks.iter().map(ToString::to_string).collect();
        _ = writeln!(text, "  tasks: {}", ids.join(", "));
    }
    if let Some(progress) = evidence.progress {
        _ = writeln!(text, "  progress: {progress} %");
    }
    if let Some(attempts) = evidence.attempts {
        _ = writeln!(text, "  attempts: {attempts}");
    }
    if let Some(likely) = &evidence.suggestion {
        _ = writeln!(text, "  did you mean {}?", visible(likely));
    }
    if let Some(next) = &reason.next {
        _ = match next.at {
            Some(at) if at > now => {
                writeln!(text, "  next: {}, {} (in {})", visible(&next.what), clock(at), age(at.since(now)))
            }
            Some(_) => writeln!(text, "  next: {}, any moment", visible(&next.what)),
            None => writeln!(text, "  next: {}", visible(&next.what)),
        };
    }
    text
}

fn groups(groups: &[ReasonGroup], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new([
        ("COUNT", Narrow::Keep),
        ("REASON", Narrow::Keep),
        ("SINCE", Narrow::Drop),
        ("ENDPOINTS", Narrow::Cut),
    ]);
    for ReasonGroup { code, count, endpoints, example } in groups {
        let names: Vec<_> = endpoints.iter().map(EndpointName::as_str).collect();
        let more = if usize::try_from(*count).is_ok_and(|count| count > names.len()) { ", ..." } else { "" };
        let since =
            example.since.map_or_else(|| "-".to_owned(), |since| format!("{} ago", age(now.since(since))));
        let names = format!("{}{more}", names.join(", "));
        table.push([Cell::from(count.to_string()), code.as_str().into(), since.into(), names.into()]);
    }
    table.text(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Evidence, Next, ReasonCode, TaskId, TaskStatus};

    #[test]
    fn reasons_are_read_from_top_to_bottom() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let reason = |code| Reason {
            code,
            text: "as it is".into(),
            since: Some(at(40)),
            evidence: Evidence::default(),
            next: None,
        };
        let mut held = reason(ReasonCode::QueuePaused);
        held.evidence.by = Some("ann".parse().expect("a name"));
        held.next = Some(Next { at: Some(at(160)), what: "the task expires".into() });
        let name = |text: &str| text.parse::<EndpointName>().expect("a name");
        let group = ReasonGroup {
            code: ReasonCode::EndpointGone,
            count: 3,
            endpoints: vec![name("web1"), name("web2")],
            example: reason(ReasonCode::EndpointGone),
        };
        let explanation = Explanation {
            id: TaskId(uuid::Uuid::nil()),
            identifier: "nightly".parse().expect("an identifier"),
            task_type: "worker".parse().expect("a type"),
            status: TaskStatus::Sent,
            endpoint: None,
            reasons: vec![held],
            endpoints: vec![group],
            uncounted: 0,
        };
        let expected = "\
worker nightly is SENT
queue_paused: as it is
  since 1970-01-01 00:00:40Z (1m ago)
  by the token ann
  next: the task expires, 1970-01-01 00:02:40Z (in 1m)
COUNT  REASON         SINCE   ENDPOINTS
3      endpoint_gone  1m ago  web1, web2, ...
";
        assert_eq!(text(&explanation, at(100), Screen::PLAIN), expected);
    }
}
