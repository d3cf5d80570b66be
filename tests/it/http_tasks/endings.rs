//! Ends before the end: cancel, drop, close, shutdown, panic: C24, C25.

use std::sync::Arc;
use std::time::Duration;

use tasker::http_tasks::{CanceledBy, Event, LaunchError, Limit, RunnerBuilder, TaskError, TaskList};
use tokio::time::Instant;

use super::server::{Reply, Server, ok};
use super::{all, get, local, millis, runner};

fn is_canceled(result: &Result<tasker::http_tasks::Response, TaskError>) -> bool {
    matches!(result, Err(TaskError::Canceled { by: CanceledBy::Caller }))
}

#[tokio::test]
async fn c24_cancel_at_once_twice_and_after_the_end() {
    c24_at_once(local()).await;
}

pub(super) async fn c24_at_once(builder: RunnerBuilder) {
    let server = Server::start(|_, _| Reply::Stall).await;
    let runner = builder.max_in_flight(Limit::Of(100)).build().expect("a runner");
    let list: TaskList = runner.task_list(&get(&server.url("/")), 200);
    let batch = runner.launch(list).expect("launched");
    let token = batch.cancel_token();
    token.cancel();
    token.clone().cancel();
    let began = Instant::now();
    let done = all(batch).await;
    assert!(began.elapsed() < millis(1000), "{:?}", began.elapsed());
    assert!(done.len() == 200 && done.iter().all(|done| is_canceled(&done.result)));
    token.cancel();
    server.known.until_open(0).await;
}

#[tokio::test]
async fn c24_cancel_in_flight_is_seen_by_the_server() {
    c24_in_flight(local()).await;
}

pub(super) async fn c24_in_flight(builder: RunnerBuilder) {
    let server = Server::start(|_, _| Reply::Stall).await;
    let runner = builder.max_in_flight(Limit::Of(32)).build().expect("a runner");
    let list: TaskList = runner.task_list(&get(&server.url("/")), 100);
    let batch = runner.launch(list).expect("launched");
    server.known.until_seen(30).await;
    batch.cancel();
    assert!(all(batch).await.iter().all(|done| is_canceled(&done.result)));
    server.known.until_open(0).await;
    assert!(server.known.seen().len() <= 32);
}

#[tokio::test]
async fn one_task_of_a_batch_can_be_canceled() {
    let server = Server::start(|seen, _| if seen.path == "/stall" { Reply::Stall } else { ok() }).await;
    let runner = local().max_per_host(1).build().expect("a runner");
    let mut list: TaskList = runner.task_list(&get(&server.url("/")), 3);
    list[0].set_url(&server.url("/stall")).expect("a URL");
    let names = [list[0].id(), list[1].id(), list[2].id()];
    let batch = runner.launch(list).expect("launched");
    server.known.until_seen(1).await;
    // The second one waits, the first one runs.
    assert!(batch.cancel_task(names[1]) && batch.cancel_task(names[0]));
    let done = tokio::time::timeout(Duration::from_secs(5), batch.join()).await.expect("an end");
    let ok: Vec<_> = done.completions().iter().map(|done| done.result.is_ok()).collect();
    assert_eq!(ok, [false, false, true]);
    assert!(done.completions()[..2].iter().all(|done| is_canceled(&done.result)));
    assert_eq!(done.progress().canceled, 2);
}

#[tokio::test]
async fn c25_dropping_cancels_and_detaching_does_not() {
    let server = Server::start(|_, _| Reply::Stall).await;
    let runner = runner();
    let list: TaskList = runner.task_list(&get(&server.url("/")), 20);
    let batch = runner.launch(list).expect("launched");
    server.known.until_seen(20).await;
    drop(batch);
    server.known.until_open(0).await;
    runner.shutdown(Duration::from_secs(5)).await;
    assert_eq!((runner.stats().running, runner.stats().sockets_open, runner.stats().unfinished), (0, 0, 0));

    let server = Server::start(|_, _| ok().after(millis(50))).await;
    let runner = super::runner();
    let list: TaskList = runner.task_list(&get(&server.url("/")), 20);
    runner.launch(list).expect("launched").detach();
    server.known.until_seen(20).await;
    runner.shutdown(Duration::from_secs(5)).await;
    assert_eq!(runner.stats().buffered_bytes, 0);
}

#[tokio::test]
async fn closing_waits_for_the_last_completion() {
    let server = Server::start(|_, _| Reply::Stall).await;
    let runner = runner();
    let list: TaskList = runner.task_list(&get(&server.url("/")), 20);
    let batch = runner.launch(list).expect("launched");
    let progress = batch.watch();
    batch.close().await;
    assert_eq!((progress.borrow().canceled, progress.borrow().is_running()), (20, false));
}

#[tokio::test]
async fn a_shutdown_waits_and_then_ends_what_is_left() {
    let server =
        Server::start(|seen, _| if seen.path == "/stall" { Reply::Stall } else { ok().after(millis(50)) })
            .await;
    let runner = runner();
    let mut list: TaskList = runner.task_list(&get(&server.url("/")), 10);
    list[3].set_url(&server.url("/stall")).expect("a URL");
    let batch = runner.launch(list).expect("launched");
    assert!(runner.alive().is_alive());
    runner.shutdown(millis(500)).await;
    runner.shutdown(Duration::ZERO).await;
    assert!(!runner.alive().is_alive());
    let done = all(batch).await;
    assert!(done.iter().enumerate().all(|(place, done)| done.result.is_ok() != (place == 3)));
    assert!(matches!(done[3].result, Err(TaskError::ShutDown)));
    server.known.until_open(0).await;
    let list: TaskList = runner.task_list(&get(&server.url("/")), 1);
    assert_eq!(runner.launch(list).err(), Some(LaunchError::ShutDown));
}

#[tokio::test]
async fn a_panic_ends_one_task() {
    let server = Server::start(|seen, _| if seen.path == "/bad" { Reply::status(500) } else { ok() }).await;
    let observer = |event: &Event<'_>| {
        assert!(!matches!(event, Event::Waiting { .. }), "the observer does not like waits")
    };
    let runner = local().observer(Arc::new(observer)).build().expect("a runner");
    let mut list: TaskList = runner.task_list(&get(&server.url("/")), 10);
    list[5].set_url(&server.url("/bad")).expect("a URL");
    let done = all(runner.launch(list).expect("launched")).await;
    assert!(done.iter().enumerate().all(|(place, done)| done.result.is_ok() != (place == 5)));
    assert!(matches!(done[5].result, Err(TaskError::Panicked)));
    assert_eq!(runner.stats().running, 0);
}

/// Whoever does not read keeps new tasks from starting, and nothing else.
#[tokio::test]
async fn what_nobody_takes_keeps_others_from_starting() {
    let server = Server::start(|_, _| Reply::status(200).body(vec![b'x'; 1000])).await;
    let runner = local().max_in_flight(Limit::Of(2)).max_buffered_bytes(5000).build().expect("a runner");
    let list: TaskList = runner.task_list(&get(&server.url("/")), 50);
    let mut batch = runner.launch(list).expect("launched");
    let mut progress = batch.watch();
    let stopped = progress.wait_for(|now| now.ok >= 5 && now.running == 0);
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("a stop").expect("a batch");
    assert!(server.known.seen().len() <= 7, "{}", server.known.seen().len());
    let mut count = 0;
    while batch.next().await.is_some() {
        count += 1;
    }
    assert_eq!((count, runner.stats().buffered_bytes), (50, 0));
}
