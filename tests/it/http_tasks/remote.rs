//! Tasks that workers perform over RabbitMQ: C35.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tasker::broker::amqp::{AmqpOptions, Arrival, Inbox, Incoming, Letter, Post, Role, To};
use tasker::clock::Clock;
use tasker::config::{MessageQueue, Signatures};
use tasker::domain::{Certificate, KeyId, Purpose, Revocations, SIGNATURE};
use tasker::http_remote::notice::Notice;
use tasker::http_remote::sealed::{self, Guard};
use tasker::http_remote::{POOL, Remote, RemoteConfig, Worker, WorkerConfig, answer, frame};
use tasker::http_tasks::{
    Allowed, AttemptFailure, BuildError, Completion, Last, Limit, Method, Reach, RemoteError, RetryPolicy,
    RunnerBuilder, Task, TaskError, TaskList, TaskRunner, Trust,
};
use tasker::signing::{Signer, SigningKey, certify, revoke};
use tasker_services::{Home, Process, RabbitMq};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bodies::{c26, inflating};
use super::endings::{c24_at_once, c24_in_flight};
use super::lists::{c02, c04};
use super::server::{PATIENCE, Reply, Server, ok};
use super::times::{c08, c12};
use super::tls::{Authority, trusting};
use super::{all, get, millis, one, quick};
use crate::support::management;
use crate::support::queues::Queues;
use crate::support::{message_queue, message_queue_at};

/// A broker of which a test has a part, and the workers there.
struct Site {
    queue: MessageQueue,
    workers: Vec<Working>,
}

/// A worker in this process.
struct Working {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Working {
    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(60), self.running)
            .await
            .expect("a worker ends in time")
            .expect("a worker does not panic");
    }
}

impl Site {
    fn empty() -> Self {
        Self { queue: message_queue(), workers: Vec::new() }
    }

    fn at(url: &str) -> Self {
        Self { queue: message_queue_at(url), workers: Vec::new() }
    }

    /// One with a worker.
    fn new() -> Self {
        let mut site = Self::empty();
        site.work(TaskRunner::local("worker").transport(inflating()));
        site
    }

    fn work(&mut self, runner: RunnerBuilder) {
        let config = WorkerConfig::new(self.queue.clone(), format!("w{}", self.workers.len()));
        self.workers.push(working(config, built(runner)));
    }

    fn config(&self) -> RemoteConfig {
        RemoteConfig::new(self.queue.clone())
    }

    /// A runner whose waits do not make a test slow.
    fn remote(&self) -> RunnerBuilder {
        TaskRunner::remote("Svc", self.config()).expect("a carrier").retry(quick())
    }

    fn runner(&self) -> TaskRunner {
        self.remote().build().expect("a runner")
    }

    async fn end(self) {
        for worker in self.workers {
            worker.stop().await;
        }
    }

    /// Another side of the broker, in the hands of the test.
    async fn post(&self, role: Role) -> Post {
        let (post, _) =
            Post::start(AmqpOptions::new(self.queue.clone(), role)).expect("a role of HTTP tasks");
        timeout(PATIENCE, post.link().wait_for(|link| link.up))
            .await
            .expect("connects in time")
            .expect("is not closed");
        post
    }

    /// The side of a worker in the hands of the test.
    async fn bench(&self) -> (Post, Incoming) {
        let post = self.post(Role::HttpWorker { pool: POOL.to_owned() }).await;
        let work = post.consume(Inbox::Work, 10);
        (post, work)
    }
}

fn built(runner: RunnerBuilder) -> TaskRunner {
    runner.build().expect("a runner")
}

fn working(config: WorkerConfig, runner: TaskRunner) -> Working {
    let worker = Worker::start(config, runner).expect("a worker");
    let stop = CancellationToken::new();
    Working { running: tokio::spawn(worker.run(stop.clone())), stop }
}

async fn next(incoming: &mut Incoming) -> Arrival {
    timeout(PATIENCE, incoming.arrivals.recv())
        .await
        .expect("a message comes in time")
        .expect("the post is open")
}

fn post(url: &str) -> Task {
    Task::new(Method::POST, url).expect("a task").body("12345")
}

/// A task on its way, while the test does something else.
fn begin(runner: &TaskRunner, task: Task) -> JoinHandle<Completion> {
    let runner = runner.clone();
    tokio::spawn(async move { one(&runner, task).await })
}

async fn ended(task: JoinHandle<Completion>) -> Completion {
    timeout(Duration::from_secs(120), task).await.expect("the task ends in time").expect("no panic")
}

fn remote_error(done: &Completion) -> RemoteError {
    match &done.result {
        Err(TaskError::Remote(error)) => *error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn c35_the_checks_of_local_mode_hold() {
    let site = Site::new();
    let connected = async || {
        let runner = site.runner();
        until_connected(&runner).await;
        runner
    };
    c02(connected().await).await;
    c04(connected().await).await;
    c08(connected().await).await;
    c12(connected().await).await;
    c24_at_once(site.remote()).await;
    c24_in_flight(site.remote()).await;
    c26(site.remote()).await;
    site.end().await;
}

#[tokio::test]
async fn c35_tasks_keep_their_own_url_headers_and_body() {
    let server = Server::start(|seen, _| {
        let own = seen.header("x-own").unwrap_or_default();
        Reply::status(200).header("X-Own", own).body([seen.path.as_bytes(), b" ", &seen.body].concat())
    })
    .await;
    let mut site = Site::new();
    site.work(TaskRunner::local("worker"));
    let runner = site.runner();
    until_known(&runner, 2).await;
    let source = Task::template(Method::PUT).header("X-Same", "same").expect("a header");
    let mut list: TaskList<usize> = runner.task_list(&source, 300);
    for (place, task) in list.iter_mut().enumerate() {
        task.set_url(&server.url(&format!("/{place}"))).expect("a URL").set_tag(place);
        if place % 2 == 0 {
            task.header("X-Own", format!("{place}").as_bytes()).expect("a header");
        }
        task.body(format!("body {place}"));
    }
    let done = all(runner.launch(list).expect("launched")).await;
    let mut workers = HashSet::new();
    for done in &done {
        let response = done.result.as_ref().expect("a response");
        let place = done.tag;
        assert_eq!(done.index, place);
        assert_eq!(response.body, format!("/{place} body {place}"));
        assert_eq!(response.headers["x-own"], if place % 2 == 0 { place.to_string() } else { String::new() });
        workers.extend(done.worker.clone());
    }
    assert_eq!(workers.len(), 2, "both workers take part: {workers:?}");
    let seen = server.known.seen();
    assert_eq!(seen.len(), 300);
    assert!(
        seen.iter()
            .all(|seen| seen.header("user-agent") == Some("Svc") && seen.header("x-same") == Some("same"))
    );
    runner.shutdown(Duration::from_secs(1)).await;
    site.end().await;
}

#[tokio::test]
async fn c35_tls_is_the_workers_and_errors_come_back_whole() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok()).await;
    let mut site = Site::empty();
    let reach = Reach::new(["127.0.0.1".parse::<Allowed>().expect("an entry")], "allow");
    site.work(TaskRunner::local("worker").tls(trusting(&authority)).guard(Arc::new(reach)));
    let runner = site.runner();
    let done = one(&runner, get(&server.https("/"))).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!((done.trust, done.worker.as_deref()), (Trust::Verified, Some("w0")));

    let stranger = Server::tls(Authority::new().server(None), |_, _| ok()).await;
    let done = one(&runner, get(&stranger.https("/"))).await;
    assert!(
        matches!(done.result, Err(TaskError::Failed(AttemptFailure::Certificate { .. }))),
        "{:?}",
        done.result
    );

    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let done = one(&runner, get(&format!("http://{nobody}/")).retries(2)).await;
    assert_eq!((done.attempts, done.history.len()), (3, 3));
    let Err(
        error @ TaskError::RetriesExhausted {
            attempts: 3,
            last: Last::Failure(AttemptFailure::Connect { source, .. }),
        },
    ) = &done.result
    else {
        panic!("{:?}", done.result)
    };
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(error.explain().contains("refused"), "{}", error.explain());

    let done = one(&runner, get("http://127.0.0.2:9/")).await;
    assert!(
        matches!(&done.result, Err(TaskError::Failed(AttemptFailure::Refused { .. }))),
        "{:?}",
        done.result
    );
    site.end().await;
}

#[tokio::test]
async fn settings_that_are_the_workers_are_refused() {
    let site = Site::empty();
    let refused = |builder: RunnerBuilder| match builder.build() {
        Err(BuildError::Setting { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(site.remote().transport(inflating())), "transport");
    assert_eq!(refused(site.remote().max_sockets(Limit::Of(1))), "max_sockets");
    assert!(site.runner().set_tls(tasker::http_tasks::TlsConfig::new()).is_err());
}

#[tokio::test]
async fn c35_without_a_worker_a_task_ends_with_its_time() {
    let site = Site::empty();
    let runner = site.runner();
    until_connected(&runner).await;
    let began = Instant::now();
    let done = one(&runner, get("http://127.0.0.1:9/").timeout(millis(700))).await;
    assert_eq!(remote_error(&done), RemoteError::Expired);
    assert!(done.result.as_ref().is_err_and(TaskError::is_timeout));
    let took = began.elapsed();
    assert!(took >= millis(650) && took < millis(700 + 5000 + 500), "{took:?}");
    let health = runner.alive().carrier.expect("it is elsewhere");
    assert!(health.connected && health.workers == 0, "{health:?}");
}

#[tokio::test]
async fn c35_without_a_broker_a_task_ends_with_its_time_and_grace() {
    let mut site = Site::empty();
    site.queue.port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let config = RemoteConfig { grace: millis(300), ..site.config() };
    let runner = TaskRunner::remote("svc", config).expect("a carrier").build().expect("a runner");
    let began = Instant::now();
    let done = one(&runner, get("http://127.0.0.1:9/").timeout(millis(300))).await;
    assert_eq!(remote_error(&done), RemoteError::BrokerDown);
    let took = began.elapsed();
    assert!(took >= millis(600) && took < millis(2000), "{took:?}");
    assert!(!runner.alive().is_alive());
}

/// Waits until the broker is reached: the time of a task also runs while it is not.
async fn until_connected(runner: &TaskRunner) {
    let connected = async {
        while !runner.alive().is_alive() {
            tokio::time::sleep(millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), connected).await.expect("a connection");
}

/// Waits until so many workers have been heard of.
async fn until_known(runner: &TaskRunner, workers: usize) {
    let known = async {
        while runner.alive().carrier.is_none_or(|health| health.workers < workers) {
            tokio::time::sleep(millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), known).await.expect("heartbeats");
}

#[tokio::test]
async fn workers_are_known_by_their_heartbeats() {
    let site = Site::new();
    let runner = site.runner();
    until_known(&runner, 1).await;
    let health = runner.alive().carrier.expect("it is elsewhere");
    assert!(
        health.connected && health.heard.is_some_and(|heard| heard < Duration::from_secs(15)),
        "{health:?}"
    );
    // A worker that leaves says so.
    site.end().await;
    let gone = async {
        while runner.alive().carrier.is_none_or(|health| health.workers > 0) {
            tokio::time::sleep(millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("a farewell");
}

/// A worker in a process of its own.
fn worker_process(home: &Home, site: &Site, name: &str) -> anyhow::Result<Process> {
    worker_process_with(home, site, name, "")
}

/// The same with more settings.
fn worker_process_with(home: &Home, site: &Site, name: &str, more: &str) -> anyhow::Result<Process> {
    let MessageQueue { host, port, username, password, exchange, .. } = &site.queue;
    let queue = format!(
        "{{host: {host}, port: {port}, username: {username}, password: {}, virtual_host: /, exchange: {exchange}}}",
        password.reveal()
    );
    let config = format!(
        "task_types: [worker]\nmanager: {{message_queue: {queue}}}\nhttp_worker: {{http: {{allow: [127.0.0.1]}}{more}}}\n"
    );
    let path = home.write("worker.config.yaml", &config)?;
    home.start(
        name,
        Command::new(env!("CARGO_BIN_EXE_tasker"))
            .args(["http-worker", "--name", name, "--config"])
            .arg(path),
    )
}

#[tokio::test]
async fn c35_what_a_killed_worker_had_is_performed_again_or_told_as_lost() -> anyhow::Result<()> {
    let server =
        Server::start(|seen, _| if seen.header("x-second").is_some() { ok() } else { Reply::Stall }).await;
    // The first time it comes, a GET stalls.
    let again = Server::start(|_, nth| if nth == 0 { Reply::Stall } else { ok() }).await;
    let mut site = Site::empty();
    let home = Home::new("http-worker")?;
    let mut process = worker_process(&home, &site, "victim")?;
    let runner = site.runner();
    let get = begin(&runner, get(&again.url("/")));
    let post = begin(&runner, post(&server.url("/")));
    server.known.until_seen(1).await;
    again.known.until_seen(1).await;
    process.kill()?;
    site.work(TaskRunner::local("worker"));
    let done = ended(get).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!(done.worker.as_deref(), Some("w0"));
    let began = Instant::now();
    let done = ended(post).await;
    assert_eq!(remote_error(&done), RemoteError::WorkerLost { deliveries: 1 });
    assert_eq!(done.worker.as_deref(), Some("victim"));
    assert!(began.elapsed() < Duration::from_secs(25), "long before its time is over: {:?}", began.elapsed());
    assert_eq!((server.known.seen().len(), again.known.seen().len()), (1, 2));
    site.end().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_process_ends_in_order_and_says_what_is_missing() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok().after(millis(300))).await;
    let site = Site::empty();
    let home = Home::new("http-worker")?;
    let mut process = worker_process(&home, &site, "w")?;
    let runner = site.runner();
    let tasks: Vec<_> = (0..20).map(|_| begin(&runner, post(&server.url("/")))).collect();
    server.known.until_seen(20).await;
    process.signal(rustix::process::Signal::TERM)?;
    for task in tasks {
        let done = ended(task).await;
        assert!(done.result.is_ok(), "{:?}", done.result);
    }
    process.stop(Duration::from_secs(20))?;
    assert_eq!(server.known.seen().len(), 20);

    home.write(
        "empty.yaml",
        "task_types: [worker]\nmanager: {message_queue: {host: localhost, username: u, password: p}}\n",
    )?;
    let output = Command::new(env!("CARGO_BIN_EXE_tasker"))
        .args(["http-worker", "--config"])
        .arg(home.join("empty.yaml"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("http_worker.http.allow"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_worker_process_verifies_as_its_configuration_says() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok()).await;
    let (site, keys) = (Site::empty(), Keys::new()?);
    let verifying = |trust: &str| {
        let (trust, list) = (keys.home.join(trust), keys.home.join("revoked.json"));
        format!(", signatures: require, trust: {}, revocations: {}", trust.display(), list.display())
    };
    let caller = keys.certified(Purpose::Http)?;
    keys.revoke(1, &[])?;
    let mut refused = worker_process_with(&keys.home, &site, "none", &verifying("no-trust.yaml"))?;
    let ended = tasker_services::until("it ends", Duration::from_secs(60), || {
        refused.ended()?.ok_or_else(|| anyhow::anyhow!("it still runs"))
    })?;
    let said = refused.log();
    assert!(!ended.success() && said.contains("no-trust.yaml cannot be read"), "{said}");
    let mut process = worker_process_with(&keys.home, &site, "w", &verifying("trust.yaml"))?;
    assert_eq!(
        remote_error(&one(&signing(&site, None), get(&server.url("/unsigned"))).await),
        RemoteError::Untrusted
    );
    let done = one(&signing(&site, Some(keys.ours.clone())), get(&server.url("/signed"))).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    let certified = async || one(&signing(&site, Some(caller.clone())), get(&server.url("/certified"))).await;
    let done = certified().await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    // The worker is not restarted.
    keys.revoke(2, &[caller.key()])?;
    assert_eq!(remote_error(&certified().await), RemoteError::Untrusted);
    keys.revoke(1, &[])?;
    assert_eq!(remote_error(&certified().await), RemoteError::Untrusted, "an older list changes nothing");
    process.stop(Duration::from_secs(20))?;
    let log = process.log();
    assert!(
        log.contains("read a new list of revoked keys") && log.contains("has no higher number than"),
        "{log}"
    );
    assert!(
        log.contains("refused a message of a caller") && log.contains("unsigned: it is not signed"),
        "{log}"
    );
    assert_eq!(server.known.seen().len(), 2);
    Ok(())
}

#[tokio::test]
async fn what_a_stopped_worker_has_not_ended_goes_to_another() {
    let server = Server::start(|_, nth| if nth == 0 { Reply::Stall } else { ok() }).await;
    let mut site = Site::empty();
    // One call at a time: the others wait inside the worker, the POST acknowledged.
    let config = WorkerConfig { stop_timeout: millis(100), ..WorkerConfig::new(site.queue.clone(), "first") };
    let local = built(TaskRunner::local("worker").max_in_flight(Limit::Of(1)));
    let first = working(config, local.clone());
    let runner = site.runner();
    let stalled = begin(&runner, get(&server.url("/stalled")));
    server.known.until_seen(1).await;
    let waiting = [begin(&runner, post(&server.url("/post"))), begin(&runner, get(&server.url("/get")))];
    // A POST that the broker has handed out and the worker has not read may have been performed, for all that
    // others know.
    let taken = async {
        while local.stats().unfinished < 3 {
            tokio::time::sleep(millis(10)).await;
        }
    };
    timeout(PATIENCE, taken).await.expect("the worker has all of them");
    first.stop().await;
    site.work(TaskRunner::local("worker"));
    for task in waiting.into_iter().chain([stalled]) {
        let done = ended(task).await;
        assert!(done.result.is_ok(), "{:?}", done.result);
        assert_eq!(done.worker.as_deref(), Some("w0"));
    }
    assert_eq!(server.known.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
    site.end().await;
}

#[tokio::test]
async fn c35_a_broker_that_restarts_loses_nothing() -> anyhow::Result<()> {
    let mut rabbitmq = tokio::task::spawn_blocking(RabbitMq::start).await??;
    let server =
        Server::start(|seen, _| ok().after(millis(if seen.path == "/slow" { 3000 } else { 0 }))).await;
    let mut site = Site::at(&rabbitmq.url());
    site.work(TaskRunner::local("worker"));
    let runner = site.runner();
    assert!(one(&runner, get(&server.url("/"))).await.result.is_ok());
    // RabbitMQ writes down half a second late that it has a quorum queue, and one that it does not know of
    // does not come back.
    rabbitmq = tokio::task::spawn_blocking(move || rabbitmq.restart().map(|()| rabbitmq)).await??;
    assert!(one(&runner, get(&server.url("/"))).await.result.is_ok());
    let patient = |task: Task| begin(&runner, task.timeout(Duration::from_secs(90)));
    let before: Vec<_> = (0..20)
        .map(|n| patient(if n % 2 == 0 { get(&server.url("/slow")) } else { post(&server.url("/slow")) }))
        .collect();
    server.known.until_seen(22).await;
    rabbitmq.kill()?;
    let meanwhile: Vec<_> = (0..20).map(|_| patient(get(&server.url("/")))).collect();
    let _rabbitmq = tokio::task::spawn_blocking(move || rabbitmq.restart().map(|()| rabbitmq)).await??;
    for (place, task) in before.into_iter().chain(meanwhile).enumerate() {
        let done = ended(task).await;
        assert!(done.result.is_ok(), "{place}: {done:?}");
    }
    let posts = server.known.seen().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(posts, 10, "a POST is performed once");
    site.end().await;
    Ok(())
}

/// What the broker does not take now it may take later.
#[tokio::test]
async fn what_a_full_queue_refuses_is_sent_again_in_its_time() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok()).await;
    let mut site = Site::empty();
    let runner = site.runner();
    let queues = Queues::at(&std::env::var("TASKER_TEST_AMQP")?).await?;
    let queue = format!("{}.trs.http.v1.work.{POOL}", site.queue.exchange);
    until_connected(&runner).await;
    let policy = ["policies", "/", &queue];
    let full = serde_json::json!({"pattern": format!("^{}$", queue.replace('.', "\\.")), "definition": {"max-length": 1}});
    management::put(&policy, &full).await;
    // Until the broker says no: it lets in what was on its way when the policy came.
    let fill: Vec<_> = (0..20).map(|_| begin(&runner, get(&server.url("/")))).collect();
    let began = Instant::now();
    let (raw, _) =
        Post::start(AmqpOptions::new(site.queue.clone(), Role::HttpWorker { pool: POOL.to_owned() }))?;
    timeout(PATIENCE, raw.link().wait_for(|link| link.up)).await??;
    let to = || To::Work { pool: POOL.to_owned(), caller: Uuid::nil() };
    let expired =
        |id| Letter { expires_in: Some(millis(1)), ..letter(to(), id, Bytes::from_static(b"no order")) };
    while raw.publish(expired(Uuid::new_v4())).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "the queue is never full");
    }
    // When its time is over a task ends as one that no worker took; with time enough it is performed, once.
    let posts: Vec<_> = (0..5).map(|_| begin(&runner, post(&server.url("/")))).collect();
    let short = one(&runner, get(&server.url("/")).timeout(millis(300))).await;
    assert_eq!(remote_error(&short), RemoteError::Expired);
    assert!(posts.iter().all(|post| !post.is_finished()), "none is given up");
    assert!(queues.ready(&queue).await? >= 1);
    management::delete(&policy).await;
    site.work(TaskRunner::local("worker"));
    for task in fill.into_iter().chain(posts) {
        let done = ended(task).await;
        assert!(done.result.is_ok(), "{:?}", done.result);
    }
    assert_eq!(server.known.seen().iter().filter(|seen| seen.method == "POST").count(), 5);
    site.end().await;
    Ok(())
}

#[tokio::test]
async fn a_queue_that_somebody_deleted_is_declared_anew() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok()).await;
    let mut site = Site::empty();
    let runner = site.runner();
    until_connected(&runner).await;
    let queue = format!("{}.trs.http.v1.work.{POOL}", site.queue.exchange);
    management::delete(&["queues", "/", &queue]).await;
    let tasks = [begin(&runner, post(&server.url("/"))), begin(&runner, get(&server.url("/")))];
    let queues = Queues::at(&std::env::var("TASKER_TEST_AMQP")?).await?;
    let began = Instant::now();
    while !management::exists(&["queues", "/", &queue]).await || queues.ready(&queue).await? < 2 {
        assert!(began.elapsed() < PATIENCE, "the tasks do not come into the queue");
        tokio::time::sleep(millis(20)).await;
    }
    site.work(TaskRunner::local("worker"));
    for task in tasks {
        let done = ended(task).await;
        assert!(done.result.is_ok(), "{:?}", done.result);
    }
    assert_eq!(server.known.seen().len(), 2);
    site.end().await;
    Ok(())
}

/// Who can send tasks cannot have workers write where nobody waits for an answer to a task.
#[tokio::test]
async fn an_answer_goes_to_callers_only() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok()).await;
    let site = Site::new();
    let runner = site.runner();
    assert!(one(&runner, get(&server.url("/"))).await.result.is_ok());
    let (caller, run) = (Uuid::new_v4(), Uuid::new_v4());
    let queues = Queues::at(&std::env::var("TASKER_TEST_AMQP")?).await?;
    let (victim, tap) =
        (format!("{}.worker.ep1", site.queue.exchange), format!("{}.tap", site.queue.exchange));
    queues.tap(&victim, &[]).await?;
    let replies = format!("{}.trs.http.v1.replies", site.queue.exchange);
    queues.tap(&tap, &[(&replies, &caller.to_string())]).await?;
    let order = br#"{"v":1,"kind":"order","id":"00000000-0000-4000-8000-000000000001"}"#;
    let frame = [&u32::try_from(order.len())?.to_be_bytes()[..], order].concat();
    let properties = lapin::BasicProperties::default()
        .with_message_id(run.to_string().into())
        .with_reply_to(victim.as_str().into());
    queues
        .send(
            &format!("{}.trs.http.v1", site.queue.exchange),
            &format!("{POOL}.{caller}"),
            properties,
            &frame,
        )
        .await?;
    let began = Instant::now();
    while queues.ready(&tap).await? == 0 {
        assert!(began.elapsed() < PATIENCE, "no answer comes to where the caller listens");
    }
    assert_eq!(queues.ready(&victim).await?, 0);
    site.end().await;
    Ok(())
}

/// A message that is not persistent and does not expire.
fn letter(to: To, id: Uuid, body: Bytes) -> Letter {
    Letter { to, id, task: Uuid::nil(), expires_in: None, persistent: false, body }
}

#[tokio::test]
async fn c35_the_first_answer_counts_and_garbage_is_told() {
    let site = Site::empty();
    let (bench, mut work) = site.bench().await;
    let runner = site.runner();
    let task = begin(&runner, get("http://127.0.0.1:9/"));
    let order = next(&mut work).await;
    let reply = |error| {
        let (id, caller) = (order.id.expect("a run"), order.caller.expect("a caller"));
        letter(To::Replies(caller), id, answer::refuse("bench", 7, error))
    };
    for error in [RemoteError::Rejected, RemoteError::Unroutable] {
        bench.publish(reply(error)).await.expect("published");
    }
    let done = ended(task).await;
    assert_eq!(
        (remote_error(&done), done.attempts, done.worker.as_deref()),
        (RemoteError::Rejected, 7, Some("bench"))
    );
    order.receipt.ack().await;

    let task = begin(&runner, get("http://127.0.0.1:9/"));
    let order = next(&mut work).await;
    let (id, caller) = (order.id.expect("a run"), order.caller.expect("a caller"));
    // What cannot be read at all says nothing about any task; an answer that cannot be understood ends its
    // own.
    let garbage = letter(To::Replies(caller), id, Bytes::from_static(b"\0\0\0\x02{}"));
    bench.publish(garbage).await.expect("published");
    let strange = frame::encode(answer::KIND, &serde_json::json!({"worker": "w"}), &[]).expect("short");
    bench.publish(letter(To::Replies(caller), id, strange)).await.expect("published");
    assert_eq!(remote_error(&ended(task).await), RemoteError::BadFrame);
}

#[tokio::test]
async fn c35_an_order_of_another_version_is_answered_as_such() {
    let site = Site::new();
    let caller = Uuid::new_v4();
    let post = site.post(Role::HttpCaller { pool: POOL.to_owned(), caller }).await;
    let mut replies = post.consume(Inbox::Replies, 10);
    let head = br#"{"v":99,"kind":"order"}"#;
    let newer = [&u32::try_from(head.len()).expect("short").to_be_bytes()[..], head].concat();
    let (id, to) = (Uuid::new_v4(), To::Work { pool: POOL.to_owned(), caller });
    post.publish(letter(to, id, newer.into())).await.expect("published");
    let arrival = next(&mut replies).await;
    assert_eq!(arrival.id, Some(id));
    let frame = frame::decode(&arrival.body).expect("a frame");
    let carried = answer::decode(&frame, std::time::SystemTime::now()).expect("an answer");
    assert!(matches!(carried.result, Err(TaskError::Remote(RemoteError::BadFrame))), "{carried:?}");
    post.close().await;
    site.end().await;
}

#[tokio::test]
async fn a_task_that_ends_its_workers_is_given_up() {
    let site = Site::empty();
    let (_bench, mut work) = site.bench().await;
    let runner = site.runner();
    let task = begin(&runner, get("http://127.0.0.1:9/"));
    for deliveries in 1..=3 {
        let order = next(&mut work).await;
        assert_eq!(order.deliveries, deliveries);
        order.receipt.give_back().await;
    }
    assert_eq!(remote_error(&ended(task).await), RemoteError::WorkerLost { deliveries: 3 });

    // A POST that was given out before may have been performed.
    let task = begin(&runner, post("http://127.0.0.1:9/"));
    let order = next(&mut work).await;
    work.stop();
    order.receipt.give_back().await;
    let mut site = site;
    site.work(TaskRunner::local("worker"));
    assert!(matches!(remote_error(&ended(task).await), RemoteError::WorkerLost { .. }));
    site.end().await;
}

/// What workers and callers need that verify and sign.
struct Keys {
    home: Home,
    root: SigningKey,
    ours: Arc<Signer>,
}

impl Keys {
    fn new() -> anyhow::Result<Self> {
        let home = Home::new("http-keys")?;
        let (root, key) = (SigningKey::create()?.0, SigningKey::create()?.0);
        let trust = tasker::signing::Trust {
            root: Some(*root.public()),
            servers: [("caller".to_owned(), *key.public())].into(),
            ..tasker::signing::Trust::of("it".parse()?)
        };
        home.write("trust.yaml", &trust.to_yaml())?;
        Ok(Self { home, root, ours: Arc::new(Signer::new("it".parse()?, key)) })
    }

    /// Somebody whose key the root key has certified for this.
    fn certified(&self, purpose: Purpose) -> anyhow::Result<Arc<Signer>> {
        let (key, now) = (SigningKey::create()?.0, Clock::system().now());
        let blank = Certificate {
            public: *key.public().as_bytes(),
            purpose,
            types: vec![],
            not_before: now.before(Duration::from_secs(60)),
            not_after: now.after(Duration::from_secs(3600)),
            signature: [0; SIGNATURE],
        };
        let certificate = certify(&self.root, &"it".parse()?, blank);
        Ok(Arc::new(Signer::new("it".parse()?, key).with_certificate(certificate, purpose)?))
    }

    /// Puts a list of revoked keys where the worker process looks for it.
    fn revoke(&self, serial: u64, keys: &[KeyId]) -> anyhow::Result<()> {
        let blank = Revocations { serial, keys: keys.iter().copied().collect(), signature: [0; SIGNATURE] };
        let list = revoke(&self.root, &"it".parse()?, blank);
        self.home.write("revoked.json", &serde_json::to_string(&list)?).map(drop)
    }

    /// A worker that takes so many tasks at the same time, and verifies.
    fn worker(&self, site: &Site, signatures: Signatures, max_in_flight: u16) -> anyhow::Result<Working> {
        let trust = self.home.join("trust.yaml");
        let guard = Guard::new(signatures, &trust, None, Duration::from_secs(60))?.map(Arc::new);
        let config = WorkerConfig { max_in_flight, guard, ..WorkerConfig::new(site.queue.clone(), "signed") };
        Ok(working(config, built(TaskRunner::local("worker"))))
    }
}

/// A runner that signs.
fn signing(site: &Site, signer: Option<Arc<Signer>>) -> TaskRunner {
    let config = RemoteConfig { signer, ..site.config() };
    built(TaskRunner::remote("Svc", config).expect("a carrier").retry(quick()))
}

#[tokio::test]
async fn a_worker_performs_what_its_callers_have_signed() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok()).await;
    let (site, keys) = (Site::empty(), Keys::new()?);
    let signer = |place: &str| -> anyhow::Result<_> {
        Ok(Some(Arc::new(Signer::new(place.parse()?, SigningKey::create()?.0))))
    };
    let (ours, stranger) = (Some(keys.ours.clone()), signer("it")?);
    let (caller, api) = (keys.certified(Purpose::Http)?, keys.certified(Purpose::Tasks)?);
    let (caller, api) = (Some(caller), Some(api));
    for (signatures, signer, path, performed) in [
        (Signatures::Require, &ours, "/required", true),
        (Signatures::Require, &None, "/unsigned", false),
        (Signatures::Require, &stranger, "/stranger", false),
        (Signatures::Require, &caller, "/certified", true),
        (Signatures::Require, &api, "/for-tasks", false),
        (Signatures::Prefer, &ours, "/preferred", true),
        (Signatures::Prefer, &None, "/tolerated", true),
        (Signatures::Prefer, &stranger, "/forged", false),
        (Signatures::Off, &stranger, "/unseen", true),
    ] {
        let worker = keys.worker(&site, signatures, 10)?;
        let runner = signing(&site, signer.clone());
        for task in [get(&server.url(path)), post(&server.url(path))] {
            let done = one(&runner, task).await;
            match performed {
                true => assert!(done.result.is_ok(), "{path}: {:?}", done.result),
                false => assert_eq!(remote_error(&done), RemoteError::Untrusted, "{path}"),
            }
        }
        worker.stop().await;
    }
    let paths: Vec<_> = server.known.seen().into_iter().map(|seen| seen.path).collect();
    let both = ["/required", "/certified", "/preferred", "/tolerated", "/unseen"].map(|path| [path; 2]);
    assert_eq!(paths, both.concat());
    Ok(())
}

/// Who has all rights at the broker sends what was signed elsewhere, under another name, changed, bare, or
/// again.
#[tokio::test]
async fn a_signed_task_is_performed_once_and_for_its_caller() -> anyhow::Result<()> {
    let server = Server::start(|_, _| ok()).await;
    let (site, keys) = (Site::empty(), Keys::new()?);
    let (bench, mut work) = site.bench().await;
    let runner = signing(&site, Some(keys.ours.clone()));
    let task = begin(&runner, post(&server.url("/once")));
    let order = next(&mut work).await;
    let (run, caller) = (order.id.expect("a run"), order.caller.expect("a caller"));
    order.receipt.ack().await;
    bench.close().await;

    let worker = keys.worker(&site, Signatures::Require, 1)?;
    let thief = Uuid::new_v4();
    let post = site.post(Role::HttpCaller { pool: POOL.to_owned(), caller: thief }).await;
    let mut replies = post.consume(Inbox::Replies, 10);
    let to = |caller| To::Work { pool: POOL.to_owned(), caller };
    let mut changed = order.body.to_vec();
    *changed.last_mut().expect("a body") ^= 1;
    let (bare, _) = sealed::unseal(&order.body)?;
    for (what, run, body) in [
        ("for another caller", run, order.body.clone()),
        ("under another name", Uuid::new_v4(), order.body.clone()),
        ("changed", run, changed.into()),
        ("bare", run, bare),
    ] {
        post.publish(letter(to(thief), run, body)).await.expect("published");
        let answer = frame::decode(&next(&mut replies).await.body)?;
        let carried = answer::decode(&answer, std::time::SystemTime::now())?;
        let untrusted = matches!(carried.result, Err(TaskError::Remote(RemoteError::Untrusted)));
        assert!(untrusted, "{what}: {carried:?}");
    }
    assert_eq!(server.known.seen().len(), 0);
    for _ in 0..3 {
        post.publish(letter(to(caller), run, order.body.clone())).await.expect("published");
    }
    let done = ended(task).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    // The worker takes one after the other.
    assert!(one(&runner, get(&server.url("/after"))).await.result.is_ok());
    let paths: Vec<_> = server.known.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/once", "/after"]);
    worker.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_cancel_counts_only_from_a_caller_that_is_trusted() -> anyhow::Result<()> {
    let late = || Reply::After(Duration::from_secs(3), Box::new(ok()));
    let server =
        Server::start(move |seen, _| if seen.path == "/first" { late() } else { Reply::Stall }).await;
    let (site, keys) = (Site::empty(), Keys::new()?);
    let (bench, mut work) = site.bench().await;
    let runner = signing(&site, Some(keys.ours.clone()));
    let first = runner.launch(runner.task_list::<()>(&get(&server.url("/first")), 1)).expect("launched");
    let order = next(&mut work).await;
    let run = order.id.expect("a run");
    // The broker gives it to the next worker.
    bench.close().await;
    let worker = keys.worker(&site, Signatures::Require, 10)?;
    let second = runner.launch(runner.task_list::<()>(&get(&server.url("/second")), 1)).expect("launched");
    server.known.until_seen(2).await;

    let cancel = Notice::Cancel { runs: vec![run], remember: Duration::from_secs(60) }.encode();
    let thief = site.post(Role::HttpCaller { pool: POOL.to_owned(), caller: Uuid::new_v4() }).await;
    thief.publish(letter(To::Workers, Uuid::new_v4(), cancel)).await.expect("published");
    // A worker hears cancels one after the other.
    second.cancel();
    all(second).await;
    let done = all(first).await;
    let is_good = matches!(done.as_slice(), [one] if one.result.is_ok());
    assert!(is_good, "the task of a caller was canceled by somebody else: {done:?}");
    // The worker keeps the connection of the answer for further calls.
    worker.stop().await;
    server.known.until_open(0).await;
    Ok(())
}

#[tokio::test]
async fn c35_a_cancel_overtakes_its_task() -> anyhow::Result<()> {
    let server = Server::start(|seen, _| if seen.path == "/stall" { Reply::Stall } else { ok() }).await;
    let mut site = Site::empty();
    let config = WorkerConfig { max_in_flight: 1, ..WorkerConfig::new(site.queue.clone(), "busy") };
    site.workers.push(working(config, built(TaskRunner::local("worker"))));
    let runner = site.runner();
    let list: TaskList = runner.task_list(&get(&server.url("/stall")), 1);
    let stalled = runner.launch(list).expect("launched");
    server.known.until_seen(1).await;
    // It waits in the broker, behind the one that stalls.
    let behind = runner.launch(runner.task_list::<()>(&get(&server.url("/behind")), 1)).expect("launched");
    let queues = Queues::at(&std::env::var("TASKER_TEST_AMQP")?).await?;
    let queue = format!("{}.trs.http.v1.work.{POOL}", site.queue.exchange);
    let began = Instant::now();
    while queues.ready(&queue).await? == 0 {
        assert!(began.elapsed() < PATIENCE, "it does not come to the broker");
    }
    behind.cancel();
    assert!(all(behind).await[0].result.as_ref().is_err_and(TaskError::is_canceled));
    stalled.cancel();
    all(stalled).await;
    server.known.until_open(0).await;
    assert!(one(&runner, get(&server.url("/after"))).await.result.is_ok());
    let paths: Vec<_> = server.known.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/stall", "/after"]);
    site.end().await;
    Ok(())
}

#[tokio::test]
async fn c35_what_no_message_can_carry_is_too_large() {
    const MIB: usize = 1 << 20;
    let server = Server::start(|_, _| Reply::status(200).body(vec![b'x'; 20 * MIB])).await;
    let site = Site::new();
    let runner = site.runner();
    let done = one(&runner, get(&server.url("/")).body_limit(32 * MIB)).await;
    assert!(matches!(remote_error(&done), RemoteError::TooLarge { .. }));
    // More than the caller wants to have is an error of its own, with as much of the body as fits.
    let done = one(&runner, get(&server.url("/"))).await;
    let Err(TaskError::BodyTooLarge { limit, partial }) = &done.result else { panic!("{:?}", done.result) };
    assert!(
        *limit == 16 * MIB && partial.truncated && partial.body.len() > 15 * MIB,
        "{limit} {}",
        partial.body.len()
    );
    let done = one(&runner, post(&server.url("/")).body(vec![0; 17 * MIB])).await;
    assert!(matches!(remote_error(&done), RemoteError::TooLarge { .. }));
    let long = get(&server.url("/")).timeout(Duration::from_secs(3600));
    assert!(matches!(one(&runner, long).await.result, Err(TaskError::Invalid { field: "timeout", .. })));
    site.end().await;
}

/// The broker would end the channel, and with it what others have in flight.
#[tokio::test]
async fn a_time_longer_than_the_broker_can_count_is_a_long_time() {
    let server = Server::start(|_, _| ok()).await;
    let site = Site::new();
    let runner = site.runner();
    let done = begin(&runner, post(&server.url("/")).timeout(Duration::from_secs(60 * 24 * 3600)));
    assert!(timeout(PATIENCE, done).await.expect("it is performed").expect("no panic").result.is_ok());
    site.end().await;
}

#[tokio::test]
async fn a_caller_that_ends_cancels_what_it_has_out() {
    let server = Server::start(|_, _| Reply::Stall).await;
    let site = Site::new();
    let runner = site.runner();
    let list: TaskList = runner.task_list(&get(&server.url("/")), 20);
    let batch = runner.launch(list).expect("launched");
    let mut progress = batch.watch();
    let running = progress.wait_for(|now| now.running == 20);
    timeout(PATIENCE, running).await.expect("all have begun").expect("a batch");
    runner.shutdown(millis(50)).await;
    assert!(all(batch).await.iter().all(|done| matches!(done.result, Err(TaskError::ShutDown))));
    server.known.until_open(0).await;
    site.end().await;
}

#[tokio::test]
async fn pools_do_not_share_tasks() {
    let server = Server::start(|_, _| ok()).await;
    let mut site = Site::empty();
    let config = WorkerConfig { pool: "other".to_owned(), ..WorkerConfig::new(site.queue.clone(), "other") };
    site.workers.push(working(config, built(TaskRunner::local("worker"))));
    let runner = site.runner();
    until_connected(&runner).await;
    assert_eq!(
        remote_error(&one(&runner, get(&server.url("/")).timeout(millis(500))).await),
        RemoteError::Expired
    );
    let config = RemoteConfig { pool: "other".to_owned(), ..site.config() };
    let runner = TaskRunner::remote("svc", config)
        .expect("a carrier")
        .retry(RetryPolicy::default())
        .build()
        .expect("a runner");
    assert!(one(&runner, get(&server.url("/"))).await.result.is_ok());
    site.end().await;
}
