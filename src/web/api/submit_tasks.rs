//! `POST /tasks`: takes many submissions at once.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde_json::value::RawValue;

use super::body::{self, Limit};
use super::members::pointer;
use super::problem::Problem;
use super::query::Query;
use super::submit_task::{admit, before, record_all};
use super::{Answer, Api, access, allowance, answer, approvals, submission, target, unknown};
use crate::admission::Asked;
use crate::contract::{self, BatchAnswer, BatchVerdict, ProblemCode, ProblemItem, TaskBrief};
use crate::domain::json_check::kind;
use crate::domain::{EndpointName, Member, Members, NewTask, TaskType};

/// Submissions in one request.
const MOST: usize = 1000;

/// Those of them that choose their endpoints by labels: each looks at all endpoints of its type.
const MOST_TARGETS: usize = 20;

/// Bytes that the body may have.
const LONGEST_BODY: usize = 16 << 20;

/// Odd exclusions that an answer names.
const MOST_ODD: usize = 20;

/// Submits many tasks.
///
/// Each element is a submission as for `POST /{type}`, with the member `type` besides. They are recorded
/// together, and each has a result of its own in the same place: what is wrong with one does not keep the
/// others from being recorded. The request can be repeated as it is.
#[utoipa::path(
    post, path = "/tasks", operation_id = "submitTasks", tag = "tasks",
    request_body(content = contract::Batch, content_type = "application/json"),
    responses(
        (status = 200, description = "What came of each", body = BatchAnswer),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_submission`: the body is not a list of submissions, or is too long", body = contract::Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`, `overloaded`", body = contract::Problem, content_type = "application/problem+json", headers(("Retry-After" = u32))),
    )
)]
pub async fn submit_tasks(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    Query::new(request.query_string()).finish()?;
    let body = api.body(&request, payload, Limit { bytes: LONGEST_BODY, setting: None }).await?;
    let elements = elements(body::json(&body)?)
        .map_err(|item| Problem::invalid(ProblemCode::InvalidSubmission, vec![item]))?;
    let mut results: Vec<Option<BatchVerdict>> = Vec::with_capacity(elements.len());
    let (mut tasks, mut places, mut targets) = (Vec::new(), Vec::new(), Targets::default());
    for (place, element) in elements.into_iter().enumerate() {
        let task = match admitted(&api, &request, element) {
            Ok((task, asked)) => {
                reached(&api, &request, targets.choose(&api, &request, task, asked).await?).await?
            }
            Err(problem) => Err(problem),
        };
        results.push(match task {
            Ok(Chosen::Now(task, asked)) => {
                tasks.push((*task, asked));
                places.push(place);
                None
            }
            Ok(Chosen::Before(task)) => {
                Some(BatchVerdict { status: StatusCode::OK.as_u16(), task: Some(task), problem: None })
            }
            Err(problem) => Some(refused(&problem)),
        });
    }
    drop(body);
    let counted = allowance::check_submissions(&api, &request, tasks.iter().map(|(task, _)| task)).await?;
    let mut endpoints: Vec<EndpointName> =
        tasks.iter().flat_map(|(task, _)| task.endpoints.iter().cloned()).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let outcomes = record_all(&api, &request, tasks).await?;
    let is_new = |outcome: &&Result<(StatusCode, _), _>| {
        outcome.as_ref().is_ok_and(|(status, _)| *status == StatusCode::CREATED)
    };
    counted.settle(&api, outcomes.iter().filter(is_new).count());
    for (place, outcome) in places.into_iter().zip(outcomes) {
        results[place] = Some(match outcome {
            Ok((status, task)) => BatchVerdict { status: status.as_u16(), task: Some(task), problem: None },
            Err(problem) => refused(&problem),
        });
    }
    let mut warnings = api.heard.warnings(&endpoints).await;
    warnings.extend(targets.odd.into_iter().take(MOST_ODD));
    let results: Vec<BatchVerdict> = results.into_iter().flatten().collect();
    let capacity = 1024 + results.len() * 320;
    api.room(&request, capacity).await?;
    answer(StatusCode::OK, &BatchAnswer { results, warnings }, capacity)
}

/// What of it the token may reach.
async fn reached(
    api: &Api,
    request: &HttpRequest,
    chosen: Result<Chosen, Problem>,
) -> Result<Result<Chosen, Problem>, Problem> {
    let Ok(Chosen::Now(task, _)) = &chosen else { return Ok(chosen) };
    let Some(policy) = api.state.config.policy(&task.task_type) else { return Ok(chosen) };
    match allowance::check_reach(api, request, policy, task).await {
        Err(problem) if problem.code() == ProblemCode::InvalidSubmission => Ok(Err(problem)),
        verdict => verdict.map(|()| chosen),
    }
}

fn refused(problem: &Problem) -> BatchVerdict {
    let problem = problem.body("");
    BatchVerdict { status: problem.status, task: None, problem: Some(problem) }
}

/// The submissions of a body: a list, or an object with one.
fn elements(text: &str) -> Result<Vec<&RawValue>, ProblemItem> {
    let wrong = |error: serde_json::Error| ProblemItem::new("", error.to_string());
    let (list, at) = match text.trim_start().bytes().next() {
        Some(b'[') => (text, ""),
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(wrong)?;
            if let Some((name, _)) = members.iter().find(|(name, _)| name != "tasks") {
                return Err(ProblemItem::new(
                    pointer(name),
                    "is not a member of a list of submissions (tasks)",
                ));
            }
            match members.as_slice() {
                [(_, list)] => (list.get(), "/tasks"),
                [] => return Err(ProblemItem::new("/tasks", "is missing")),
                _ => return Err(ProblemItem::new("/tasks", "occurs twice")),
            }
        }
        _ => {
            return Err(ProblemItem::new(
                "",
                "must be an array of submissions, or an object with the member `tasks`",
            ));
        }
    };
    let elements: Vec<&RawValue> =
        serde_json::from_str(list).map_err(|_| ProblemItem::new(at, "must be an array of submissions"))?;
    match elements.len() {
        0..=MOST => Ok(elements),
        many => Err(ProblemItem::new(at, format!("has {many} submissions, {MOST} are allowed"))),
    }
}

/// The task of an element, if its type admits it.
fn admitted(api: &Api, request: &HttpRequest, element: &RawValue) -> Result<(NewTask, Asked), Problem> {
    let invalid = |item| Problem::invalid(ProblemCode::InvalidSubmission, vec![item]);
    if !element.get().starts_with('{') {
        return Err(invalid(ProblemItem::new("", format!("must be an object, not {}", kind(element)))));
    }
    let Members(mut members) = serde_json::from_str(element.get())
        .map_err(|error| invalid(ProblemItem::new("", error.to_string())))?;
    let is_type = |(name, _): &(Cow<'_, str>, &RawValue)| name == "type";
    let at =
        members.iter().position(is_type).ok_or_else(|| invalid(ProblemItem::new("/type", "is missing")))?;
    let (_, value) = members.remove(at);
    if members.iter().any(is_type) {
        return Err(invalid(ProblemItem::new("/type", "occurs twice")));
    }
    let name: String = serde_json::from_str(value.get())
        .map_err(|_| invalid(ProblemItem::new("/type", format!("must be a string, not {}", kind(value)))))?;
    if !access::covers(request, &name) {
        return Err(Problem::insufficient_scope("this token is good for other task types"));
    }
    let policy = api.policy(&name).ok_or_else(|| unknown::named_type(api, request, &name))?;
    let submission = submission::read(&members, policy)
        .map_err(|problems| Problem::invalid(ProblemCode::InvalidSubmission, problems))?;
    admit(api, policy, submission, "/payload", request)
}

/// What is to be done about a submission whose endpoints are chosen.
enum Chosen {
    /// It is to be recorded.
    Now(Box<NewTask>, Asked),
    /// It was made before, and would not be recorded now.
    Before(TaskBrief),
}

/// The endpoints of types, read once, and how many submissions have chosen among them.
#[derive(Default)]
struct Targets {
    members: HashMap<TaskType, Vec<Member>>,
    chosen: usize,
    /// What is odd about their exclusions.
    odd: BTreeSet<String>,
}

impl Targets {
    /// The task with its endpoints. What is wrong with it alone is in the inner result.
    async fn choose(
        &mut self,
        api: &Api,
        request: &HttpRequest,
        mut task: NewTask,
        asked: Asked,
    ) -> Result<Result<Chosen, Problem>, Problem> {
        if let Err(refused) = approvals::complete(api, &task, "/payload") {
            return Ok(seen(api, request, &task, refused).await);
        }
        let policy = api.state.config.policy(&task.task_type);
        let (Some(target), Some(policy)) = (&task.target, policy) else {
            return Ok(Ok(Chosen::Now(Box::new(task), asked)));
        };
        self.chosen += 1;
        if self.chosen > MOST_TARGETS {
            let message = format!(
                "at most {MOST_TARGETS} submissions of a request choose their endpoints; submit the others in another one"
            );
            return Ok(Err(Problem::invalid(
                ProblemCode::InvalidSubmission,
                vec![ProblemItem::new("/match", message)],
            )));
        }
        if !self.members.contains_key(&task.task_type) {
            self.members.insert(task.task_type.clone(), target::members(api, policy).await?);
        }
        let members = self.members.get(&task.task_type).map_or(&[][..], Vec::as_slice);
        Ok(match target::choose(api, policy, members, target, &task.identifier).await {
            Ok((chosen, odd)) => {
                self.odd.extend(odd);
                task.endpoints = chosen;
                Ok(Chosen::Now(Box::new(task), asked))
            }
            Err(nobody) => seen(api, request, &task, nobody).await,
        })
    }
}

/// What came of a submission that would be refused now: the task that it has made before, if there is one.
async fn seen(api: &Api, request: &HttpRequest, task: &NewTask, refused: Problem) -> Result<Chosen, Problem> {
    let existing = before(api, request, task).await?.ok_or(refused)?;
    Ok(Chosen::Before(super::matching::brief(&existing)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_submissions_has_two_forms_and_an_end() {
        assert_eq!(elements(r#" [{}, 1] "#).expect("a list").len(), 2);
        assert_eq!(elements(r#"{"tasks": [{}]}"#).expect("a list").len(), 1);
        assert!(elements("[]").expect("a list").is_empty());
        let most = format!("[{}]", vec!["1"; MOST].join(","));
        assert_eq!(elements(&most).expect("a list").len(), MOST);
        let more = format!("[{}]", vec!["1"; MOST + 1].join(","));
        for (text, pointer) in [
            ("1", ""),
            ("{}", "/tasks"),
            (r#"{"tasks": 1}"#, "/tasks"),
            (r#"{"tasks": [], "tasks": []}"#, "/tasks"),
            (r#"{"tasks": [], "more": 1}"#, "/more"),
            (more.as_str(), ""),
        ] {
            let item = elements(text).expect_err(pointer);
            assert_eq!(item.pointer, pointer, "{}", item.message);
        }
    }
}
