//! The commands that ask the API: submit, status, list, cancel, endpoints.

use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::span;
use crate::domain::{Identifier, Json, TaskId, TaskType};

use super::args::{Cancel, Endpoints, EndpointsAction, Global, List, Status, Submit, Waiting};
use super::client::{Client, Query, Report, Responses, Submission};
use super::exit::{Code, verdict};
use super::output::{self, Failure, note, print, print_json};
use super::{access, input, render, wait};

pub(super) async fn submit(global: &Global, args: Submit) -> Result<Code, Failure> {
    let payload = payload(&args)?;
    let identifier = args.identifier.map_or_else(fresh_identifier, Ok)?;
    let client = access::client(global)?;
    let (priority, ttl, run_at) = (args.priority, args.ttl.map(span::format), args.run_at);
    let submission = Submission { identifier, payload, endpoints: args.endpoints, priority, ttl, run_at };
    let submitted = client.submit(&args.task_type, &submission).await?;
    for warning in &submitted.task.warnings {
        note(&format!("tasker: warning: {warning}"));
    }
    if args.waiting.wait.is_none() {
        if global.json {
            print_json(&submitted.task)?;
        } else {
            print(&render::submitted(&submitted))?;
        }
        return Ok(Code::Ok);
    }
    let shown = args.waiting.all.then_some(Responses::All);
    settle(global, &client, &args.task_type, submitted.task.id, &args.waiting, shown).await
}

fn fresh_identifier() -> Result<Identifier, Failure> {
    Uuid::new_v4().to_string().parse().map_err(|error| Failure::Usage(format!("{error}")))
}

fn payload(args: &Submit) -> Result<Option<Json>, Failure> {
    let (text, source) = match (&args.payload, &args.payload_file) {
        (Some(text), _) => (text.clone(), "--payload".to_owned()),
        (None, Some(path)) => {
            let text = input::read(path, u64::MAX);
            let name = input::name(path);
            (text.map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?, name)
        }
        (None, None) => return Ok(None),
    };
    let raw: Box<RawValue> = serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{source}: not JSON: {error}")))?;
    Ok(Some(Arc::from(raw)))
}

pub(super) async fn status(global: &Global, args: Status) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let shown = args.responses.or(args.waiting.all.then_some(Responses::All));
    if args.waiting.wait.is_some() {
        // Waiting goes by our id: an identifier may be forgotten and given again meanwhile.
        let task = client.status(&args.task_type, &args.id, None, Responses::None).await?.task;
        return settle(global, &client, &args.task_type, task.id, &args.waiting, shown).await;
    }
    let report = client.status(&args.task_type, &args.id, None, asked(shown)).await?;
    show(global, report, shown)
}

/// Waits and shows what there is then.
async fn settle(
    global: &Global,
    client: &Client,
    task_type: &TaskType,
    id: TaskId,
    waiting: &Waiting,
    shown: Option<Responses>,
) -> Result<Code, Failure> {
    let watched = !global.json && output::is_watched();
    let code = wait::until_settled(client, task_type, id, waiting.wait.flatten(), watched).await?;
    let report = client.status(task_type, &id.to_string(), None, asked(shown)).await?;
    show(global, report, shown)?;
    if code == Code::TimedOut && !global.json {
        note("tasker: the wait was over first; the task goes on");
    }
    Ok(code)
}

/// What to ask for: the names of missing endpoints come with the task.
fn asked(shown: Option<Responses>) -> Responses {
    shown.unwrap_or(Responses::Failed)
}

fn show(global: &Global, mut report: Report, shown: Option<Responses>) -> Result<Code, Failure> {
    let code = verdict(&report.task).unwrap_or(Code::Ok);
    if global.json {
        print_json(&report)?;
        return Ok(code);
    }
    match shown {
        Some(Responses::Failed | Responses::None) => report.task.missing = None,
        Some(Responses::Missing) => report.responses.clear(),
        Some(Responses::All) | None => {}
    }
    print(&render::report(&report.task, &report.responses, Clock::system().now()))?;
    Ok(code)
}

pub(super) async fn list(global: &Global, args: List) -> Result<Code, Failure> {
    let List { task_type, status, identifier, since, until, page } = args;
    let query = Query { status, identifier, since, until, limit: Some(page.limit), cursor: page.cursor };
    let page = access::client(global)?.list(&task_type, &query).await?;
    if global.json {
        print_json(&page)?;
    } else {
        print(&render::tasks(&page.tasks))?;
        more(page.next_cursor.as_deref());
    }
    Ok(Code::Ok)
}

pub(super) async fn cancel(global: &Global, args: Cancel) -> Result<Code, Failure> {
    let task = access::client(global)?.cancel(&args.task_type, &args.id).await?;
    if global.json {
        print_json(&task)?;
    } else {
        print(&render::report(&task, &[], Clock::system().now()))?;
    }
    Ok(Code::Ok)
}

pub(super) async fn endpoints(global: &Global, args: Endpoints) -> Result<Code, Failure> {
    if let Some(EndpointsAction::Forget { name, force }) = args.action {
        let forgotten = access::client(global)?.forget_endpoint(&name, force).await?;
        if global.json {
            print_json(&forgotten)?;
        } else {
            print(&format!("{} is forgotten\n", forgotten.name))?;
            if forgotten.open > 0 {
                note(&format!("responses it still owes, which stay expected until their tasks end: {}", forgotten.open));
            }
        }
        return Ok(Code::Ok);
    }
    let page = access::client(global)?.endpoints(Some(args.page.limit), args.page.cursor.as_deref()).await?;
    if global.json {
        print_json(&page)?;
    } else {
        print(&render::endpoints(&page.endpoints))?;
        more(page.next_cursor.as_deref());
    }
    Ok(Code::Ok)
}

fn more(cursor: Option<&str>) {
    if let Some(cursor) = cursor {
        note(&format!("there are more: --cursor {cursor}"));
    }
}
