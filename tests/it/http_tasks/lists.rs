//! Lists and what comes back: C01 to C07, C32, and the sample of the documentation.

use std::collections::HashSet;

use futures::StreamExt;
use tasker::http_tasks::{LaunchError, Method, Priority, Relaunch, Task, TaskError, TaskList, TaskRunner};

use super::server::{Reply, Server, ok};
use super::{all, get, local, one, runner};

#[tokio::test]
async fn c01_an_empty_list_is_refused() {
    let refused = runner().launch(TaskList::<()>::new());
    assert_eq!(refused.err(), Some(LaunchError::Empty));
}

#[tokio::test]
async fn c02_skipped_tasks_do_not_complete() {
    c02(runner()).await;
}

pub(super) async fn c02(runner: TaskRunner) {
    let server = Server::start(|_, _| ok()).await;
    let mut list: TaskList = runner.task_list(&get(&server.url("/")), 10);
    for task in list.iter_mut().step_by(2) {
        task.skip(true);
    }
    let mut batch = runner.launch(list).expect("launched");
    let mut places = Vec::new();
    while let Some(done) = StreamExt::next(&mut batch).await {
        assert!(done.result.is_ok());
        places.push(done.index);
    }
    places.sort_unstable();
    assert_eq!(places, [1, 3, 5, 7, 9]);
    let progress = batch.progress();
    assert_eq!((progress.total, progress.skipped, progress.ok, progress.is_running()), (10, 5, 5, false));
    assert_eq!(server.known.seen().len(), 5);
}

#[tokio::test]
async fn a_list_without_room_is_not_launched() {
    let server = Server::start(|_, _| Reply::Stall).await;
    let runner = local().max_unfinished(10).build().expect("a runner");
    let list = |count| runner.task_list::<()>(&get(&server.url("/")), count);
    let eight = runner.launch(list(8)).expect("launched");
    assert_eq!(runner.launch(list(3)).err(), Some(LaunchError::QueueFull { unfinished: 8, most: 10 }));
    // What is left out needs no room.
    let mut three = list(3);
    three[0].skip(true);
    let two = runner.launch(three).expect("launched");
    eight.close().await;
    runner.launch(list(8)).expect("launched").close().await;
    two.close().await;
}

#[tokio::test]
async fn c03_a_list_of_skipped_tasks_ends_at_once() {
    let runner = runner();
    let list: TaskList = runner.task_list(&get("http://nowhere.invalid/").skip(true), 3);
    let mut batch = runner.launch(list).expect("launched");
    assert!(!batch.is_running());
    assert!(batch.next().await.is_none());
}

#[tokio::test]
async fn c04_a_task_that_cannot_be_sent_completes_like_the_others() {
    c04(runner()).await;
}

pub(super) async fn c04(runner: TaskRunner) {
    let server = Server::start(|_, _| ok()).await;
    let mut list: TaskList = runner.task_list(&Task::template(Method::GET), 10);
    for (place, task) in list.iter_mut().enumerate().filter(|(place, _)| *place != 4) {
        task.set_url(&server.url(&format!("/{place}"))).expect("a URL");
    }
    let batch = runner.launch(list).expect("launched");
    assert_eq!(batch.progress().total, 10);
    let token = batch.cancel_token();
    let done = all(batch).await;
    assert!(matches!(&done[4].result, Err(TaskError::Invalid { field: "url", .. })), "{:?}", done[4]);
    assert_eq!(done.iter().filter(|done| done.result.is_ok()).count(), 9);
    token.cancel();
}

#[tokio::test]
async fn c05_every_task_sends_the_whole_body() {
    let server = Server::start(|_, _| ok()).await;
    let runner = runner();
    let list: TaskList =
        runner.task_list(&Task::new(Method::POST, &server.url("/")).expect("a task").body("12345"), 50);
    all(runner.launch(list).expect("launched")).await;
    let seen = server.known.seen();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|seen| seen.body == b"12345" && seen.header("content-length") == Some("5")));
}

#[tokio::test]
async fn c06_only_failures_are_launched_again() {
    // Every other task fails the first time it comes.
    let server = Server::start(|seen, nth| {
        if nth < 10 && seen.path.ends_with(['1', '3', '5', '7', '9']) {
            Reply::status(400).body("no")
        } else {
            ok()
        }
    })
    .await;
    let runner = local().build().expect("a runner");
    let mut list: TaskList<usize> = runner
        .task_list(&Task::new(Method::PUT, &server.url("/")).expect("a task").body("again").retries(0), 10);
    for (place, task) in list.iter_mut().enumerate() {
        task.set_url(&server.url(&format!("/{place}"))).expect("a URL").set_tag(place);
    }
    // A 400 is a response; what fails here are tasks that nobody answers.
    list[0].set_url("http://127.0.0.1:1/").expect("a URL");
    let finished = runner.launch(list).expect("launched").join().await;
    let failed = finished.completions()[0].id;
    assert!(finished.completions()[1..].iter().all(|done| done.result.is_ok()));
    let mut again = finished.into_list(Relaunch::FailedOnly);
    again[0].set_url(&server.url("/mended")).expect("a URL");
    let batch = runner.launch(again).expect("launched");
    assert!(batch.is_running());
    let done = all(batch).await;
    assert_eq!(done.len(), 1);
    assert_eq!((done[0].id, done[0].tag, done[0].result.is_ok()), (failed, 0, true));
    let seen = server.known.seen();
    assert_eq!(seen.len(), 10);
    assert_eq!((seen[9].path.as_str(), seen[9].body.as_slice()), ("/mended", b"again".as_slice()));
}

#[tokio::test]
async fn c07_every_task_has_a_name_of_its_own() {
    let runner = runner();
    let source = get("http://one.example/");
    let list: TaskList = runner.task_list(&source, 1000);
    let names: HashSet<_> = list.iter().map(|task| task.id().uuid()).collect();
    assert_eq!(names.len(), 1000);
    assert!(names.iter().all(|name| name.get_version_num() == 4));
    let mut source = source;
    source.set_url("http://two.example/").expect("a URL");
    assert!(
        list.iter().all(|task| task.task().url().is_some_and(|url| url.host_str() == Some("one.example")))
    );
}

#[tokio::test]
async fn c32_there_is_one_user_agent() {
    let server = Server::start(|_, _| ok()).await;
    let runner = runner();
    assert!(one(&runner, get(&server.url("/"))).await.result.is_ok());
    assert!(
        one(&runner, get(&server.url("/")).header("User-Agent", "own").expect("a header"))
            .await
            .result
            .is_ok()
    );
    assert!(one(&runner, get(&server.url("/")).service("other")).await.result.is_ok());
    let agents: Vec<Vec<_>> = server
        .known
        .seen()
        .iter()
        .map(|seen| seen.headers.get_all("user-agent").iter().cloned().collect())
        .collect();
    assert_eq!(agents, [["svc"], ["own"], ["other"]]);
}

#[tokio::test]
async fn what_a_runner_cannot_be_made_with() {
    assert!(TaskRunner::local("").build().is_err());
    assert!(TaskRunner::local("a\nb").build().is_err());
    assert!(local().default_timeout(super::millis(0)).build().is_err());
    assert!(local().max_per_host(0).build().is_err());
}

#[test]
fn code_that_is_not_async_gets_an_iterator() {
    // The server's runtime is another: the runner brings its own.
    let world = tokio::runtime::Runtime::new().expect("a runtime");
    let server = world.block_on(Server::start(|_, _| ok()));
    let runner = runner();
    let list: TaskList = runner.task_list(&get(&server.url("/")), 20);
    let done: Vec<_> = runner.launch_blocking(list).expect("launched").collect();
    assert!(done.len() == 20 && done.iter().all(|done| done.result.is_ok()));
}

#[tokio::test]
async fn the_priority_orders_what_waits_for_a_host() {
    let server = Server::start(|_, _| ok()).await;
    let runner = local().max_per_host(1).build().expect("a runner");
    let mut list: TaskList = runner.task_list(&Task::template(Method::GET), 4);
    for (task, (path, priority)) in list.iter_mut().zip([
        ("/1", Priority::Low),
        ("/2", Priority::Normal),
        ("/3", Priority::High),
        ("/4", Priority::Normal),
    ]) {
        task.set_url(&server.url(path)).expect("a URL").priority(priority);
    }
    all(runner.launch(list).expect("launched")).await;
    let paths: Vec<_> = server.known.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/3", "/2", "/4", "/1"]);
}
