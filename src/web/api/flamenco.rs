//! `GET /flamenco/jobs`, `/tasks`, `/tasks/{id}` and `/workers`: a render farm, for those who look at it.
//!
//! What acts on a farm are its manager and `tasker flamenco`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::query::{self, Query};
use super::{Answer, Api, answer, list_tasks, segment};
use crate::contract::{
    self, FlamencoJob, FlamencoJobPage, FlamencoTask, FlamencoTaskDetail, FlamencoTaskPage, FlamencoWorker,
    FlamencoWorkerList, ProblemCode,
};
use crate::farm::TaskStatus;
use crate::store::StoreError;
use crate::store::farm::{FarmTaskOrder, FarmTaskQuery};

/// Jobs or tasks on a page when nothing is said.
const DEFAULT_LIMIT: u32 = 100;

/// What was found in the farm's database, which is another one than the ledger.
async fn of_farm<T: Send + 'static>(
    api: &Api,
    look: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, Problem> {
    api.run(async move { look.await.map_err(FarmError) }).await
}

struct FarmError(StoreError);

impl From<FarmError> for Problem {
    fn from(FarmError(error): FarmError) -> Self {
        let problem = Self::from(&error);
        match problem.code() {
            ProblemCode::DatabaseUnavailable => problem.saying(
                "the database of the render farm (flamenco.uri) cannot be reached now; everything else goes on",
            ),
            _ => problem,
        }
    }
}

/// Lists the jobs of the farm by the states of their tasks, the newest first.
///
/// Only tasks that the manager has are counted: it forgets old ones.
#[utoipa::path(
    get, path = "/flamenco/jobs", operation_id = "listFlamencoJobs", tag = "farm",
    params(
        ("limit" = Option<u32>, Query, description = "Jobs on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of jobs", body = FlamencoJobPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_jobs(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let limit = query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT);
    let before = query.take("cursor", query::object_id);
    query.finish()?;
    let farm = api.state.farm.clone();
    let page = of_farm(&api, async move { farm.jobs(before, limit).await }).await?;
    let jobs: Vec<_> = page.items.into_iter().map(FlamencoJob::from).collect();
    let room = 256 + jobs.len() * 256;
    answer(StatusCode::OK, &FlamencoJobPage { jobs, next_cursor: page.next }, room)
}

/// Lists the tasks that the farm's manager has.
#[utoipa::path(
    get, path = "/flamenco/tasks", operation_id = "listFlamencoTasks", tag = "farm",
    params(
        ("job" = Option<String>, Query, description = "Only tasks of the job of this id"),
        ("status" = Option<String>, Query, description = "Only tasks of these states, separated by commas, such as `failed,soft-failed`"),
        ("order" = Option<String>, Query, description = "`oldest`, as without it: the first that the Server made come first. `latest`: those that changed last come first; a task that changes meanwhile may be left out of the pages that follow"),
        ("limit" = Option<u32>, Query, description = "Tasks on a page, 1 to 1000, by default 100", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before; the list goes on in the order of that page"),
    ),
    responses(
        (status = 200, description = "A page of tasks", body = FlamencoTaskPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_tasks(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let job = query.take("job", query::object_id);
    let statuses = query
        .take("status", |text| query::words(text, &TaskStatus::ALL, TaskStatus::as_str))
        .unwrap_or_default();
    let limit = query.take("limit", query::limit).unwrap_or(DEFAULT_LIMIT);
    let order = query.take("order", |text| match text {
        "oldest" => Ok(FarmTaskOrder::Oldest(None)),
        "latest" => Ok(FarmTaskOrder::Latest(None)),
        _ => Err("must be oldest or latest".to_owned()),
    });
    let place = query.take("cursor", query::read_farm_task_cursor);
    query.finish()?;
    api.room(&request, list_tasks::ROOM).await?;
    let farm = api.state.farm.clone();
    let wanted = FarmTaskQuery { job, statuses, order: place.or(order).unwrap_or_default(), most: limit };
    let page = of_farm(&api, async move { farm.tasks(wanted).await }).await?;
    let next_cursor = page.next.map(query::farm_task_cursor);
    let room = 256 + page.items.len() * 512;
    let tasks = page.items.into_iter().map(FlamencoTask::from).collect();
    answer(StatusCode::OK, &FlamencoTaskPage { tasks, next_cursor }, room)
}

/// Shows a task of the farm: what it does, and the end of its log.
#[utoipa::path(
    get, path = "/flamenco/tasks/{id}", operation_id = "showFlamencoTask", tag = "farm",
    params(("id" = String, Path, description = "The id of a task")),
    responses(
        (status = 200, description = "The task", body = FlamencoTaskDetail),
        (status = 404, description = "`unknown_task`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_task(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let text = segment(&request, 2)?;
    let unknown = |why: String| Problem::new(ProblemCode::UnknownTask, why).about(&text, None);
    let id =
        query::object_id(&text).map_err(|error| unknown(format!("no task can have this id: it {error}")))?;
    let farm = api.state.farm.clone();
    let found = of_farm(&api, async move { farm.task_with_log(id).await }).await?;
    let (task, log_tail) =
        found.ok_or_else(|| unknown(format!("the farm has no task {id}; GET /flamenco/tasks lists them")))?;
    answer(StatusCode::OK, &FlamencoTaskDetail::new(task, log_tail), 4096)
}

/// Lists the workers of the farm, and what each does.
#[utoipa::path(
    get, path = "/flamenco/workers", operation_id = "listFlamencoWorkers", tag = "farm",
    responses((status = 200, description = "All workers that have registered", body = FlamencoWorkerList))
)]
pub async fn list_workers(api: web::Data<Api>) -> Answer {
    let farm = api.state.farm.clone();
    let workers = of_farm(&api, async move { farm.workers().await }).await?;
    let room = 256 + workers.len() * 512;
    let workers = workers.into_iter().map(FlamencoWorker::from).collect();
    answer(StatusCode::OK, &FlamencoWorkerList { workers }, room)
}
