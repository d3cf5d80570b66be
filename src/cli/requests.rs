//! `tasker request`: steps of jobs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::exit::{Code, verdict_on_request};
use super::global::Global;
use super::output::{self, Failure, note, note_json, show};
use super::request_args::{
    ListRequests, NamedRequests, RequestCommand, RetryRequests, ShowRequest, StepFlag, SubmitRequest,
    WaitForRequest,
};
use super::tasks::more;
use super::wait::{self, Audience, Interrupts};
use super::{access, input, picture, refusal};
use crate::client::{Client, ClientError, RequestQuery};
use crate::clock::Clock;
use crate::contract::{Request, RequestStep, RequestSubmission, RequestToken};
use crate::domain::{Json, json};
use crate::shell;

/// The action of a request that names none.
const AD_HOC: &str = "ad-hoc";

pub(super) async fn run(global: &Global, command: RequestCommand) -> Result<Code, Failure> {
    match command {
        RequestCommand::Submit(args) => submit(global, args).await,
        RequestCommand::Show(args) => status(global, args).await,
        RequestCommand::List(args) => list(global, args).await,
        RequestCommand::Cancel(NamedRequests { tokens }) => {
            let client = access::client(global)?;
            let cancel = async |token: &str| client.cancel_request(token).await;
            each(global, &tokens, cancel, |request| draw(global, request, false).map(drop)).await
        }
        RequestCommand::Retry(args) => retry(global, args).await,
        RequestCommand::Import(args) => super::import::run(global, args).await,
    }
}

async fn submit(global: &Global, args: SubmitRequest) -> Result<Code, Failure> {
    let params = params(&args)?;
    let client = access::client(global)?;
    let interrupts = args.waiting.wait.is_some().then(Interrupts::install).transpose()?;
    let action = args.action.unwrap_or_else(|| AD_HOC.to_owned());
    let steps = args.steps.into_iter().enumerate().map(named).collect();
    let submission = RequestSubmission { action, params, steps, request_token: args.request_token };
    let submitted = client.submit_request(&submission).await.map_err(|error| refused(global, error));
    let (RequestToken { token }, repeated) = submitted?;
    let what = if repeated { "was there already:" } else { "submitted" };
    let begun = format!("{what} {} (request {token})", submission.action);
    let Some(mut interrupts) = interrupts else {
        show(global.json, &RequestToken { token }, |_| format!("{begun}\n"))?;
        return Ok(Code::Ok);
    };
    // Before the wait: a person who interrupts it must know the name of the submission.
    match global.json {
        true => note_json(&Begun { submitted: RequestToken { token: token.clone() } }),
        false => note(&begun),
    }
    settle(global, &client, &token, &args.waiting, &mut interrupts).await
}

/// A request that is waited for, as programs are told of it.
#[derive(Serialize)]
struct Begun {
    submitted: RequestToken,
}

/// A step with the name that it was given, or one by its place.
fn named((place, StepFlag { name, when, jobs }): (usize, StepFlag)) -> RequestStep {
    RequestStep { name: name.unwrap_or_else(|| format!("step{}", place + 1)), jobs, when }
}

fn params(args: &SubmitRequest) -> Result<Option<Json>, Failure> {
    if args.members.is_empty() {
        return input::json("--params", args.params.as_deref(), args.params_file.as_deref());
    }
    let mut members = BTreeMap::new();
    for (key, value) in &args.members {
        if members.insert(key, value).is_some() {
            return Err(Failure::Usage(format!("--param gives `{key}` twice")));
        }
    }
    Ok(Some(json(&members)))
}

/// A refusal for those who are told: a program reads the API's own words.
fn refused(global: &Global, error: ClientError) -> ClientError {
    if global.json { error } else { refusal::with_flags_of_request(error) }
}

async fn status(global: &Global, args: ShowRequest) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let request = client.request_of(&args.token, None).await?;
    if args.waiting.wait.is_some() && !request.status.is_final() {
        // Only now: an interruption of the question ends the command at once.
        return settle(global, &client, &args.token, &args.waiting, &mut Interrupts::install()?).await;
    }
    draw(global, &request, args.waiting.all)
}

/// Waits and shows what there is then.
async fn settle(
    global: &Global,
    client: &Client,
    token: &str,
    waiting: &WaitForRequest,
    interrupts: &mut Interrupts,
) -> Result<Code, Failure> {
    let outcome = async {
        let ask = async |wait: Duration| client.request_of(token, Some(wait)).await;
        let code = wait::until_settled(ask, waiting.wait.flatten(), Audience::of(global.json)).await?;
        Ok((code, client.request_of(token, None).await?))
    };
    let code = match interrupts.unless_one(outcome).await? {
        Ok((code, request)) => {
            draw(global, &request, waiting.all)?;
            code
        }
        Err(code) => code,
    };
    goes_on(global, token, code);
    Ok(code)
}

/// Says that a request goes on, if its wait ended before it.
fn goes_on(global: &Global, token: &str, code: Code) {
    let (token, api) = (shell::word(token), access::flags(global));
    let commands =
        [format!("tasker request show {token}{api} --wait"), format!("tasker request cancel {token}{api}")];
    wait::say_it_goes_on(global.json, "request", code, &commands);
}

fn draw(global: &Global, request: &Request, whole: bool) -> Result<Code, Failure> {
    show(global.json, request, |screen| picture::picture(request, Clock::system().now(), whole, screen))?;
    Ok(verdict_on_request(request.status).unwrap_or(Code::Ok))
}

/// What people read when there are no requests, and when none fits the filters.
const NONE: &str = "no requests: `tasker request submit` makes one";
const NONE_SUCH: &str = "no such requests: `tasker request list` without filters shows all";

async fn list(global: &Global, args: ListRequests) -> Result<Code, Failure> {
    let ListRequests { status, request_token, action, since, until, page } = args;
    input::check_interval(since, until)?;
    let (limit, cursor) = (Some(page.limit), page.cursor);
    let query = RequestQuery { status, request_token, action, since, until, limit, cursor };
    let page = access::client(global)?.requests(&query).await.map_err(|error| refused(global, error))?;
    let all = RequestQuery { limit: query.limit, ..RequestQuery::default() };
    let none = page.requests.is_empty().then_some(if query == all { NONE } else { NONE_SUCH });
    output::list(global.json, &page, none, |screen| {
        picture::requests(&page.requests, Clock::system().now(), screen)
    })?;
    more(global, page.next_cursor.as_deref());
    Ok(Code::Ok)
}

/// A request that runs again and is waited for, as programs are told of it.
#[derive(Serialize)]
struct Resumed {
    retried: RequestToken,
}

async fn retry(global: &Global, args: RetryRequests) -> Result<Code, Failure> {
    let RetryRequests { named: NamedRequests { tokens }, waiting } = args;
    let client = access::client(global)?;
    let again = async |token: &str| client.retry_request(token).await;
    let Some(limit) = waiting.wait else {
        return each(global, &tokens, again, |request| draw(global, request, waiting.all).map(drop)).await;
    };
    let mut interrupts = Interrupts::install()?;
    let mut resumed = Vec::new();
    let begun = |request: &Request| {
        match global.json {
            true => note_json(&Resumed { retried: RequestToken { token: request.token.clone() } }),
            false => note(&format!("retried {} (request {})", request.action, request.token)),
        }
        resumed.push(request.token.clone());
        Ok(())
    };
    let mut code = match interrupts.unless_one(each(global, &tokens, again, begun)).await? {
        Ok(code) => code,
        Err(stopped) => {
            resumed.iter().for_each(|token| goes_on(global, token, stopped));
            return Ok(stopped);
        }
    };
    // All of them run by now, so the time counts for all.
    let started = Instant::now();
    for (number, token) in resumed.iter().enumerate() {
        let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        let waiting = WaitForRequest { wait: Some(left), ..waiting };
        let ended = match settle(global, &client, token, &waiting, &mut interrupts).await {
            Ok(ended) => ended,
            // The others are waited for all the same.
            Err(error) => error.report(global.json),
        };
        if matches!(ended, Code::Interrupted | Code::Terminated) {
            resumed[number + 1..].iter().for_each(|token| goes_on(global, token, ended));
            return Ok(ended);
        }
        if code == Code::Ok {
            code = ended;
        }
    }
    Ok(code)
}

/// Does something to each of these requests, whatever comes of the others, and tells how it stands then.
async fn each(
    global: &Global,
    tokens: &[String],
    act: impl AsyncFn(&str) -> Result<Request, ClientError>,
    mut told: impl FnMut(&Request) -> Result<(), Failure>,
) -> Result<Code, Failure> {
    let mut code = Code::Ok;
    for token in tokens {
        match act(token).await {
            Ok(request) => told(&request)?,
            Err(error) if tokens.len() > 1 && !global.json => {
                note(&format!("tasker: {token}: {error}"));
                code = Code::Failure;
            }
            Err(error) => code = Failure::from(error).report(global.json),
        }
    }
    Ok(code)
}
