//! The commands about tasks: submit, status, list, rerun, cancel.

use serde::Serialize;
use uuid::Uuid;

use crate::client::{Client, ClientError, Query, Submitted, TaskName};
use crate::clock::Clock;
use crate::config::span;
use crate::contract::{
    self, Answers, BulkCancel, ProblemCode, Responses, Submission, Task, TaskFilter, TaskWithResponses,
};
use crate::domain::{EndpointName, Identifier, Selector, TaskId, TaskType, json};

use super::args::{Cancel, GROUPS, Global, List, Rerun, Status, Submit, Target, Waiting};
use super::bulk::{self, Deed};
use super::exit::{Code, verdict};
use super::laggards::Laggards;
use super::output::{self, Failure, note, note_json, show};
use super::wait::{self, Audience, AwaitedTask, Interrupts};
use super::{access, answers, approve, batch, input, preview, refusal, render};

pub(super) async fn submit(global: &Global, args: Submit) -> Result<Code, Failure> {
    let task_type = match (args.task_type, &args.batch) {
        (Some(task_type), _) => task_type,
        (None, Some(file)) => return batch::submit(global, file).await,
        (None, None) => return Err(Failure::Usage("which task type?".to_owned())),
    };
    let payload = input::json("--payload", args.payload.as_deref(), args.payload_file.as_deref())?;
    let ordered = args.hand.order(&task_type, payload.as_ref(), &args.endpoints, args.ttl, args.run_at)?;
    let payload = ordered.as_ref().map(json).or(payload);
    let identifier = args.identifier.map_or_else(fresh_identifier, Ok)?;
    let client = access::client(global)?;
    let interrupts = args.waiting.wait.is_some().then(Interrupts::install).transpose()?;
    let (priority, ttl, run_at) = (args.priority, args.ttl.map(span::format), args.run_at);
    let texts = |selectors: Vec<Selector>| selectors.into_iter().map(String::from).collect();
    let Target { selectors, groups, exclude, percent, limit, seed, expect } = args.target;
    let (selectors, exclude) = (texts(selectors), texts(exclude));
    let endpoints = args.endpoints;
    let mut submission = Submission {
        identifier,
        payload,
        endpoints,
        selectors,
        groups,
        exclude,
        percent,
        limit,
        seed,
        expect,
        priority,
        ttl,
        run_at,
    };
    // A person is asked before many servers do something; a program has decided already.
    let asks = !args.yes && output::can_ask(global.json);
    if args.dry_run || asks {
        let preview = client.preview(&task_type, &submission).await;
        match (args.dry_run, preview) {
            (true, preview) => {
                let preview = preview.map_err(|error| refused(global, error, Some(&submission)))?;
                show(global.json, &preview, |screen| preview::text(&preview, screen))?;
                return Ok(Code::Ok);
            }
            (false, Ok(preview)) => preview::confirm(&preview)?,
            // The submission itself fails with the same problem. An API of an older version knows no
            // previews.
            (false, Err(_)) => {}
        }
    }
    // After the preview and the question: everybody who gets a signed order can have it performed.
    if let Some(ordered) = ordered {
        submission.payload = Some(args.hand.sign(ordered)?);
    }
    let submitted = client
        .submit_as(&task_type, &submission, args.strict)
        .await
        .map_err(|error| refused(global, error, Some(&submission)))?;
    follow(global, &client, &submitted, &args.waiting, interrupts).await
}

pub(super) async fn rerun(global: &Global, args: Rerun) -> Result<Code, Failure> {
    let identifier = args.identifier.map_or_else(fresh_identifier, Ok)?;
    let client = access::client(global)?;
    let interrupts = args.waiting.wait.is_some().then(Interrupts::install).transpose()?;
    let (task_type, id) = match args.task_type {
        Some(task_type) => (task_type, args.id),
        None => {
            let task =
                client.status(&TaskName { task_type: None, id: args.id }, None, Responses::None).await?.task;
            (task.task_type, task.id.to_string())
        }
    };
    let answer = match args.answer {
        Some(text) => Some(answers::digest(&client, &task_type, &id, &text).await?),
        None => None,
    };
    let submitted =
        client.rerun(&task_type, &id, &contract::Rerun { identifier, only: args.only, answer }).await?;
    follow(global, &client, &submitted, &args.waiting, interrupts).await
}

/// Shows what was submitted, and waits for its end where that was asked for.
async fn follow(
    global: &Global,
    client: &Client,
    submitted: &Submitted,
    waiting: &Waiting,
    interrupts: Option<Interrupts>,
) -> Result<Code, Failure> {
    for warning in &submitted.task.warnings {
        output::warn(warning);
    }
    if let Some(approval) = submitted.task.approval.as_ref().filter(|_| !global.json) {
        note(&format!(
            "tasker: {}; the task waits for others: tasker approve {} --key FILE",
            approve::told(approval),
            render::typed(&submitted.task)
        ));
    }
    if let Some(stopped) = submitted.task.stopped.filter(|_| !global.json) {
        note(&stopped_ones(stopped, &submitted.task.task_type));
    }
    let Some(interrupts) = interrupts else {
        show(global.json, &submitted.task, |screen| render::submitted(submitted, screen))?;
        return Ok(Code::Ok);
    };
    // Before the wait: a person who interrupts it must know the name of the submission.
    match global.json {
        true => note_json(&Begun { submitted: Name::of(&submitted.task) }),
        false => note(&render::begun(submitted)),
    }
    settle(global, client, &submitted.task, waiting, None, interrupts).await
}

/// What a person is told of endpoints that the task is not for since they are stopped.
fn stopped_ones(stopped: u64, task_type: &TaskType) -> String {
    let which = if stopped == 1 {
        "1 known endpoint is".to_owned()
    } else {
        format!("{stopped} known endpoints are")
    };
    format!(
        "tasker: {which} stopped and not expected (`tasker endpoints --type {task_type} --gone`; `--expect known` expects them too)"
    )
}

/// A refusal for those who are told: a program reads the API's own words.
pub(super) fn refused(global: &Global, error: ClientError, submission: Option<&Submission>) -> ClientError {
    if global.json { error } else { refusal::with_flags(error, submission) }
}

/// A task that is waited for, as programs are told of it.
#[derive(Serialize)]
struct Begun<'a> {
    submitted: Name<'a>,
}

#[derive(Serialize)]
struct Name<'a> {
    #[serde(rename = "type")]
    task_type: &'a TaskType,
    identifier: &'a Identifier,
    id: TaskId,
}

impl<'a> Name<'a> {
    fn of(task: &'a Task) -> Self {
        Self { task_type: &task.task_type, identifier: &task.identifier, id: task.id }
    }
}

fn fresh_identifier() -> Result<Identifier, Failure> {
    Uuid::new_v4().to_string().parse().map_err(|error| Failure::Usage(format!("{error}")))
}

pub(super) async fn status(global: &Global, args: Status) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let (name, shown) =
        (TaskName { task_type: args.task_type, id: args.id }, args.waiting.shown(global.json));
    let told = |error| {
        if global.json { error } else { refusal::of_two_words(error, &name) }
    };
    if args.waiting.wait.is_some() {
        // Waiting goes by our id: an identifier may be forgotten and given again meanwhile.
        let task = client.status(&name, None, Responses::None).await.map_err(told)?.task;
        // Only now: an interruption of the question ends the command at once.
        return settle(
            global,
            &client,
            &task,
            &args.waiting,
            args.of_endpoint.as_ref(),
            Interrupts::install()?,
        )
        .await;
    }
    match &args.of_endpoint {
        Some(endpoint) => {
            show_answer(global, &client.answer_of(&name, endpoint).await.map_err(told)?, endpoint)
        }
        None => show_report(global, &Report::read(&client, &name, shown).await.map_err(told)?, shown),
    }
}

/// Waits and shows what there is then.
async fn settle(
    global: &Global,
    client: &Client,
    task: &Task,
    waiting: &Waiting,
    of_endpoint: Option<&EndpointName>,
    mut interrupts: Interrupts,
) -> Result<Code, Failure> {
    let (name, shown) = (TaskName::of(task), waiting.shown(global.json));
    let outcome = async {
        let laggards = Laggards::default();
        let ask = async |wait| {
            let task = client.status(&name, Some(wait), Responses::None).await?.task;
            let slow = laggards.of(client, &task).await;
            Ok(AwaitedTask { task, slow })
        };
        let code = wait::until_settled(ask, waiting.wait.flatten(), Audience::of(global.json)).await?;
        let report = match of_endpoint {
            Some(endpoint) => Report::Rows(client.answer_of(&name, endpoint).await?),
            None => Report::read(client, &name, shown).await?,
        };
        Ok((code, report))
    };
    let outcome = interrupts.unless_one(outcome).await?;
    let code = match &outcome {
        Ok((code, report)) => {
            match (of_endpoint, report) {
                (Some(endpoint), Report::Rows(report)) => show_answer(global, report, endpoint)?,
                (_, report) => show_report(global, report, shown)?,
            };
            *code
        }
        Err(code) => *code,
    };
    let (name, api) = (render::typed(task), access::flags(global));
    let commands = [format!("tasker status {name}{api} --wait"), format!("tasker cancel {name}{api}")];
    wait::say_it_goes_on(global.json, "task", code, &commands);
    if let (Ok((_, Report::Rows(TaskWithResponses { task, .. }))), Code::NobodyAnswered) = (&outcome, code)
        && !(global.json || task.status.is_final())
    {
        note(&format!("why: tasker explain {name}{api}; cancel: {}", commands[1]));
    }
    Ok(code)
}

/// Shows what became of a task that is settled.
pub(super) async fn show_settled(global: &Global, client: &Client, name: &TaskName) -> Result<(), Failure> {
    show_report(global, &Report::read(client, name, None).await?, None).map(drop)
}

/// A task with what is to be shown of its endpoints.
enum Report {
    Rows(TaskWithResponses),
    Groups(Task, Answers),
}

impl Report {
    async fn read(client: &Client, name: &TaskName, shown: Option<Responses>) -> Result<Self, ClientError> {
        // The names of missing endpoints come with the task.
        let report = match client.status(name, None, shown.unwrap_or(Responses::Few)).await {
            // An API of an older version does not know `few`.
            Err(error) if shown.is_none() && error.code() == ProblemCode::InvalidQuery.as_str() => {
                let task = client.status(name, None, Responses::None).await?.task;
                let few = task.counts.expected <= Responses::ENDPOINTS;
                let which = if few { Responses::All } else { Responses::Failed };
                client.status(&TaskName::of(&task), None, which).await?
            }
            report => report?,
        };
        let task = &report.task;
        if shown.is_some() || task.counts.finished <= Responses::ANSWERS {
            return Ok(Self::Rows(report));
        }
        // An API of an older version knows no groups.
        match client.answers(&task.task_type, &task.id.to_string(), GROUPS).await {
            Ok(answers) => Ok(Self::Groups(report.task, answers)),
            Err(_) => Ok(Self::Rows(client.status(&TaskName::of(task), None, Responses::Failed).await?)),
        }
    }
}

fn show_report(global: &Global, report: &Report, shown: Option<Responses>) -> Result<Code, Failure> {
    let report = match report {
        Report::Rows(report) => report,
        Report::Groups(task, groups) => {
            show(global.json, groups, |screen| answers::text(task, groups, Clock::system().now(), screen))?;
            return Ok(verdict(task).unwrap_or(Code::Ok));
        }
    };
    let TaskWithResponses { task, responses } = report;
    show(global.json, report, |screen| {
        let missing = task.missing.as_deref().unwrap_or_default();
        let (missing, responses) = match shown {
            Some(Responses::Failed | Responses::None) => (&[][..], &responses[..]),
            Some(Responses::Missing) => (missing, &[][..]),
            Some(Responses::All | Responses::Few) | None => (missing, &responses[..]),
        };
        render::report(task, missing, responses, Clock::system().now(), screen)
    })?;
    Ok(verdict(task).unwrap_or(Code::Ok))
}

fn show_answer(
    global: &Global,
    report: &TaskWithResponses,
    endpoint: &EndpointName,
) -> Result<Code, Failure> {
    let Some(response) = report.responses.first() else {
        return Err(Failure::Usage(format!(
            "this task is not for the endpoint `{endpoint}`: `tasker status ... --all` lists those that it is for"
        )));
    };
    show(global.json, report, |screen| {
        render::answer(&report.task, response, Clock::system().now(), screen)
    })?;
    Ok(verdict(&report.task).unwrap_or(Code::Ok))
}

/// What people read when there are no tasks, and when none fits the filters.
const NONE: &str = "no tasks: `tasker submit TYPE` submits one";
const NONE_SUCH: &str = "no such tasks: `tasker list` without filters shows all";

pub(super) async fn list(global: &Global, args: List) -> Result<Code, Failure> {
    let List { task_type, status, failed, identifier, since, until, wide, page } = args;
    input::check_interval(since, until)?;
    let query =
        Query { status, failed, identifier, since, until, limit: Some(page.limit), cursor: page.cursor };
    let page = access::client(global)?
        .list(task_type.as_ref(), &query)
        .await
        .map_err(|error| refused(global, error, None))?;
    let all = task_type.is_none() && query == Query { limit: query.limit, ..Query::default() };
    let none = page.tasks.is_empty().then_some(if all { NONE } else { NONE_SUCH });
    output::list(global.json, &page, none, |screen| {
        render::tasks(&page.tasks, Clock::system().now(), wide, screen)
    })?;
    more(global, page.next_cursor.as_deref());
    Ok(Code::Ok)
}

pub(super) async fn cancel(global: &Global, args: Cancel) -> Result<Code, Failure> {
    let client = access::client(global)?;
    if args.names.is_empty() {
        let Cancel { of_type: types, status, identifier, since, until, sure, .. } = args;
        let filter = TaskFilter { types, status, identifier, since, until };
        let send = async |expected: bulk::Expected| {
            let bulk::Expected { number: expect, as_of } = expected;
            let cancel = BulkCancel { filter: filter.clone(), expect, as_of, dry_run: false };
            client.cancel_matching(&cancel).await
        };
        return bulk::carry_out(global, Deed { asked: "Cancel", done: "canceled" }, &sure, send).await;
    }
    let (task_type, ids) = type_and_ids(&args.names);
    let Some(task_type) = task_type else { return cancel_each(global, &client, None, ids, None).await };
    match cancel_each(global, &client, Some(&task_type), ids, Some(ProblemCode::UnknownTaskType)).await {
        // Then it was not a type and all of the words are ids, unless there is no such task either: it was
        // meant to be a type.
        Err(Failure::Client(not_a_type)) if not_a_type.code() == ProblemCode::UnknownTaskType.as_str() => {
            match cancel_each(global, &client, None, &args.names, Some(ProblemCode::UnknownTask)).await {
                Err(Failure::Client(error)) if error.code() == ProblemCode::UnknownTask.as_str() => {
                    Err(not_a_type.into())
                }
                done => done,
            }
        }
        done => done,
    }
}

/// The task type that several words begin with, if it can be one, and the ids.
fn type_and_ids(names: &[String]) -> (Option<TaskType>, &[String]) {
    match names {
        [first, rest @ ..] if !rest.is_empty() && first.parse::<TaskId>().is_err() => match first.parse() {
            Ok(task_type) => (Some(task_type), rest),
            Err(_) => (None, names),
        },
        _ => (None, names),
    }
}

/// Cancels these tasks, each whatever comes of the others.
///
/// # Errors
/// When the first one is refused with the code `give_up`.
async fn cancel_each(
    global: &Global,
    client: &Client,
    task_type: Option<&TaskType>,
    ids: &[String],
    give_up: Option<ProblemCode>,
) -> Result<Code, Failure> {
    let mut code = Code::Ok;
    for (place, id) in ids.iter().enumerate() {
        let name = TaskName { task_type: task_type.cloned(), id: id.clone() };
        match client.cancel(&name).await {
            Ok(task) => show(global.json, &task, |screen| {
                render::report(&task, &[], &[], Clock::system().now(), screen)
            })?,
            Err(error) if place == 0 && give_up.is_some_and(|code| error.code() == code.as_str()) => {
                return Err(error.into());
            }
            Err(error) if ids.len() > 1 && !global.json => {
                note(&format!("tasker: {id}: {error}"));
                code = Code::Failure;
            }
            Err(error) => code = Failure::from(error).report(global.json),
        }
    }
    Ok(code)
}

/// Tells a person that a page is not the last; a program finds the cursor in it.
pub(super) fn more(global: &Global, cursor: Option<&str>) {
    if let Some(cursor) = cursor.filter(|_| !global.json) {
        note(&format!("there are more: --cursor {cursor}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_words_may_be_a_type() {
        let id = "0190a6c8-5f5e-7c3a-8000-000000000001";
        let a_id = "a190a6c8-5f5e-7c3a-8000-000000000001";
        for (words, task_type, ids) in [
            (&["worker", "x"][..], Some("worker"), 1),
            (&["worker", "x", "y"], Some("worker"), 2),
            (&["worker"], None, 1),
            (&[id, id], None, 2),
            (&[a_id, id], None, 2),
            (&["a.b", id], None, 2),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (found, rest) = type_and_ids(&words);
            assert_eq!((found.as_ref().map(TaskType::as_str), rest.len()), (task_type, ids), "{words:?}");
        }
    }
}
