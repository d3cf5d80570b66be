//! Asks many servers the same thing at once: `cargo run --release --example http_tasks -- URL [URL...]`.
//!
//! The engine is used as a library here: no broker, no database, no endpoint.

use std::process::ExitCode;
use std::time::Duration;

use tasker::http_tasks::{Method, Task, TaskList, TaskRunner};

fn main() -> ExitCode {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    match tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(ask(urls))) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} did not answer");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many did not answer.
async fn ask(urls: Vec<String>) -> anyhow::Result<usize> {
    let runner = TaskRunner::local("http-tasks-example").build()?;
    let source = Task::template(Method::GET).timeout(Duration::from_secs(10)).retries(2);
    let mut list: TaskList<String> = runner.task_list(&source, urls.len());
    for (task, url) in list.iter_mut().zip(urls) {
        task.set_url(&url)?.set_tag(url);
    }
    let mut batch = runner.launch(list)?;
    let mut failed = 0;
    while let Some(task) = batch.next().await {
        let (tag, took) = (&task.tag, task.timings.total);
        match &task.result {
            Ok(response) => {
                println!("{tag}: {} and {} bytes after {took:.1?}", response.status, response.body.len())
            }
            Err(error) => {
                failed += 1;
                println!("{tag}: {} ({} attempts, {took:.1?})", error.explain(), task.attempts);
            }
        }
    }
    runner.shutdown(Duration::from_secs(1)).await;
    Ok(failed)
}
