//! The checks of `docs/http-tasks.md`, by their numbers, against servers of this process.

mod bodies;
mod connections;
mod endings;
mod handler;
mod lists;
mod redirects;
mod remote;
mod server;
mod times;
mod tls;

use std::time::Duration;

use tasker::http_tasks::{Batch, Completion, Method, RetryPolicy, RunnerBuilder, Task, TaskList, TaskRunner};

use self::server::PATIENCE;

/// Waits that do not make a test slow.
fn quick() -> RetryPolicy {
    RetryPolicy { backoff_max: Duration::from_millis(5), ..RetryPolicy::default() }
}

fn local() -> RunnerBuilder {
    TaskRunner::local("svc").retry(quick())
}

fn runner() -> TaskRunner {
    local().build().expect("a runner")
}

fn get(url: &str) -> Task {
    Task::new(Method::GET, url).expect("a task")
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// All of a batch, in the order of the list.
async fn all<T>(batch: Batch<T>) -> Vec<Completion<T>> {
    tokio::time::timeout(PATIENCE, batch.join()).await.expect("the batch ends").into_completions()
}

/// One task to its end.
async fn one(runner: &TaskRunner, task: Task) -> Completion {
    let mut list = TaskList::new();
    list.push(task, ());
    let batch = runner.launch(list).expect("launched");
    // Longer than any test's task takes, also when the clock is paused.
    tokio::time::timeout(Duration::from_secs(300), batch.join())
        .await
        .expect("the task ends")
        .into_completions()
        .remove(0)
}
