//! Connections: what is kept, what is dropped, how many there are: C18, C19, C21 to C23, C33, C34.

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tasker::http_tasks::{
    Connect, Last, Limit, Method, RetryPolicy, Stream, Task, TaskError, TaskList, Tcp, TransportPolicy,
};
use tokio::time::Instant;

use super::server::{Reply, Server, ok};
use super::{all, get, local, millis, one, runner};

fn keeping(total: usize, per_host: usize) -> TransportPolicy {
    TransportPolicy { max_idle: total, max_idle_per_host: per_host, ..TransportPolicy::default() }
}

#[tokio::test]
async fn c18_a_post_that_was_read_is_not_repeated() {
    let post =
        |server: &Server| Task::new(Method::POST, &server.url("/")).expect("a task").body("once").retries(2);
    for (task, requests) in [
        (post as fn(&Server) -> Task, 1),
        (|server: &Server| post_again(server).repeatable(true), 3),
        (|server: &Server| post_again(server).header("Idempotency-Key", "1").expect("a header"), 3),
        (|server: &Server| get(&server.url("/")).retries(2), 3),
    ] {
        let server = Server::start(|_, _| Reply::HangUp).await;
        let done = one(&runner(), task(&server)).await;
        assert_eq!(server.known.seen().len(), requests);
        match done.result.expect_err("nobody answers") {
            TaskError::Failed(_) => assert_eq!(requests, 1),
            TaskError::RetriesExhausted { attempts, .. } => assert_eq!(attempts as usize, requests),
            other => panic!("{other:?}"),
        }
    }
}

fn post_again(server: &Server) -> Task {
    Task::new(Method::POST, &server.url("/")).expect("a task").body("twice").retries(2)
}

#[tokio::test]
async fn a_post_is_repeated_when_the_server_did_nothing() {
    for (status, requests) in [(503, 3), (429, 3), (500, 1)] {
        let server = Server::start(move |_, _| Reply::status(status)).await;
        let done = one(&runner(), post_again(&server)).await;
        assert!(
            matches!(done.result, Err(TaskError::RetriesExhausted { last: Last::Response(_), .. })),
            "{:?}",
            done.result
        );
        assert_eq!(server.known.seen().len(), requests, "{status}");
        assert!(server.known.seen().iter().all(|seen| seen.body == b"twice"));
    }
}

#[tokio::test]
async fn c19_a_refusal_is_dialled_again_and_told_to_the_end() {
    let runner = runner();
    // Bound, and nobody listens: nobody else can take the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = socket.local_addr().expect("an address");
    let done =
        one(&runner, Task::new(Method::POST, &format!("http://{address}/")).expect("a task").retries(2))
            .await;
    let error = done.result.expect_err("refused");
    assert!(matches!(error, TaskError::RetriesExhausted { attempts: 3, .. }), "{error:?}");
    let mut chain: &dyn Error = &error;
    while let Some(reason) = chain.source() {
        chain = reason;
    }
    assert!(chain.to_string().contains("refused"), "{chain}");
    assert!(error.explain().contains(&address.to_string()), "{}", error.explain());
}

/// Ten idle connections, then a task that ends badly.
#[tokio::test]
async fn c21_only_the_connection_of_a_bad_task_is_lost() {
    type How = fn(Task) -> Task;
    let cases: [(&str, usize, How); 4] = [
        ("/stall", 9, |task| task.timeout(millis(100))),
        ("/busy", 10, |task| task.timeout(millis(100)).backoff_max(Duration::from_secs(60))),
        ("/busy", 10, |task| task.retries(1)),
        ("/canceled", 9, |task| task),
    ];
    for (path, left, how) in cases {
        let server = Server::start(|seen, _| match seen.path.as_str() {
            "/stall" | "/canceled" => Reply::Stall,
            "/busy" => Reply::status(503),
            _ => ok().after(millis(30)),
        })
        .await;
        let runner = local().transport(keeping(100, 100)).build().expect("a runner");
        let list: TaskList = runner.task_list(&get(&server.url("/")), 10);
        all(runner.launch(list).expect("launched")).await;
        assert_eq!((server.known.open(), runner.stats().idle), (10, 10));
        let mut list = TaskList::new();
        list.push(how(get(&server.url(path))), ());
        let batch = runner.launch(list).expect("launched");
        if path == "/canceled" {
            server.known.until_seen(11).await;
            batch.cancel();
        }
        assert!(all(batch).await[0].result.is_err());
        server.known.until_open(left).await;
        assert_eq!(runner.stats().idle, left, "{path}");
        assert_eq!(server.known.accepted(), 10, "{path}");
    }
}

#[tokio::test]
async fn c22_idle_connections_are_exactly_as_many_as_allowed() {
    let server = Server::start(|_, _| ok().after(millis(20))).await;
    let runner = local().transport(keeping(100, 4)).build().expect("a runner");
    let list: TaskList = runner.task_list(&get(&server.url("/")), 1000);
    assert!(all(runner.launch(list).expect("launched")).await.iter().all(|done| done.result.is_ok()));
    server.known.until_open(4).await;
    assert_eq!((runner.stats().idle, runner.stats().sockets_open), (4, 4));
    runner.shutdown(Duration::ZERO).await;
    server.known.until_open(0).await;
    assert_eq!(runner.stats().sockets_open, 0);
}

#[tokio::test]
async fn c22_over_all_hosts_too_and_not_for_ever() {
    let mut servers = Vec::new();
    for host in 1..=60 {
        servers.push(Server::at(&format!("127.0.0.{host}"), |_, _| ok().after(millis(50))).await);
    }
    let transport = TransportPolicy { idle_timeout: Some(millis(1500)), ..keeping(100, 4) };
    let runner = local().transport(transport).build().expect("a runner");
    let mut list: TaskList = runner.task_list(&get("http://nowhere.invalid"), 240);
    for (place, task) in list.iter_mut().enumerate() {
        task.set_url(&servers[place % 60].url("/")).expect("a URL");
    }
    assert!(all(runner.launch(list).expect("launched")).await.iter().all(|done| done.result.is_ok()));
    assert_eq!(runner.stats().idle, 100);
    let open = || servers.iter().map(|server| server.known.open()).sum::<usize>();
    let until = async |count| {
        let waiting = async {
            while open() != count {
                tokio::time::sleep(millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(super::server::PATIENCE, waiting).await.is_ok(), "{} are open", open());
    };
    until(100).await;
    until(0).await;
    assert_eq!(runner.stats().idle, 0);
}

#[tokio::test]
async fn c23_a_batch_after_one_with_timeouts_uses_what_is_left() {
    let server =
        Server::start(|seen, _| if seen.path == "/stall" { Reply::Stall } else { ok().after(millis(20)) })
            .await;
    let runner = local().transport(keeping(200, 200)).build().expect("a runner");
    let mut list: TaskList = runner.task_list(&get(&server.url("/")), 100);
    for task in list.iter_mut().step_by(10) {
        task.set_url(&server.url("/stall")).expect("a URL").timeout(millis(300));
    }
    let done = all(runner.launch(list).expect("launched")).await;
    assert_eq!(done.iter().filter(|done| done.result.is_err()).count(), 10);
    server.known.until_open(90).await;
    let list: TaskList = runner.task_list(&get(&server.url("/")), 90);
    let done = all(runner.launch(list).expect("launched")).await;
    assert!(done.iter().all(|done| done.result.is_ok() && done.history[0].reused));
    assert_eq!(server.known.accepted(), 100);
}

/// The server closes what it has answered without saying so: a request on such a connection is replayed on a
/// new one.
#[tokio::test]
async fn a_connection_that_died_in_the_pool_costs_no_attempt() {
    let server =
        Server::start(
            |seen, _| if seen.path == "/second" && seen.connection == 0 { Reply::HangUp } else { ok() },
        )
        .await;
    let runner = runner();
    assert!(one(&runner, get(&server.url("/first"))).await.result.is_ok());
    let done = one(&runner, get(&server.url("/second")).retries(0)).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!((done.attempts, server.known.accepted()), (1, 2));
}

#[tokio::test]
async fn sockets_are_shared_by_all_hosts() {
    let (first, second) =
        (Server::at("127.0.0.1", |_, _| ok()).await, Server::at("127.0.0.2", |_, _| ok()).await);
    let runner = local().max_sockets(Limit::Of(3)).transport(keeping(100, 100)).build().expect("a runner");
    for server in [&first, &second, &first] {
        let list: TaskList = runner.task_list(&get(&server.url("/")).retries(0), 30);
        assert!(all(runner.launch(list).expect("launched")).await.iter().all(|done| done.result.is_ok()));
    }
    assert!(runner.stats().sockets_most <= 3, "{:?}", runner.stats());
}

/// In a process of its own, since the limit on files is one of the process.
#[test]
fn c33_more_tasks_than_files() -> anyhow::Result<()> {
    for retries in ["3", "0"] {
        let script =
            r#"ulimit -n 1024; exec "$0" bench http --count 5000 --delay 200 --rounds 1 --retries "$1""#;
        let output =
            Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_tasker"), retries]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(said.contains("failures     0 of 5000"), "{said}");
        let most: usize = said
            .split("sockets      ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or(usize::MAX);
        anyhow::ensure!(most < 1024 - 64, "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn c34_a_host_that_does_not_answer_keeps_nobody_waiting() {
    let (dead, good) = (Server::at("127.0.0.2", |_, _| Reply::Stall).await, Server::start(|_, _| ok()).await);
    let runner = local().max_in_flight(Limit::Of(500)).build().expect("a runner");
    let first: TaskList = runner.task_list(&get(&dead.url("/")).timeout(Duration::from_secs(60)), 1000);
    // Launched before, so that it could have every slot.
    let stalled = runner.launch(first).expect("launched");
    let began = Instant::now();
    let second: TaskList = runner.task_list(&get(&good.url("/")), 1000);
    assert!(all(runner.launch(second).expect("launched")).await.iter().all(|done| done.result.is_ok()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(stalled.progress().running < 500);
}

/// TCP, of which the system says at first that there is no more.
struct Exhausted(std::sync::atomic::AtomicUsize);

#[async_trait::async_trait]
impl Connect for Exhausted {
    async fn connect(&self, address: std::net::SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        if self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(rustix::io::Errno::MFILE.into());
        }
        Tcp.connect(address).await
    }
}

#[tokio::test]
async fn a_budget_that_is_too_large_shrinks_and_costs_no_attempt() {
    let server = Server::start(|_, _| ok()).await;
    let runner = local()
        .max_sockets(Limit::Of(20))
        .connector(Arc::new(Exhausted(5.into())))
        .retry(none())
        .build()
        .expect("a runner");
    let list: TaskList = runner.task_list(&get(&server.url("/")), 100);
    let done = all(runner.launch(list).expect("launched")).await;
    assert!(done.iter().all(|done| done.result.is_ok() && done.attempts == 1), "{done:?}");
    let stats = runner.stats();
    assert!(stats.sockets < 20 && stats.sockets >= 15, "{stats:?}");
}

fn none() -> RetryPolicy {
    RetryPolicy { retries: Some(0), ..RetryPolicy::default() }
}
