//! Time limits and retries: C08 to C17. Where the clock is paused, no kernel is waited for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tasker::http_tasks::{
    AttemptOutcome, DeadlineFrom, Jitter, Last, Limit, Phase, RetryPolicy, RunnerBuilder, StatusCode,
    TaskError, TaskList, TaskRunner,
};
use tokio::time::Instant;

use super::server::{InMemory, Known, Reply, Server, ok};
use super::{all, get, local, millis, one, runner};

const SOMEWHERE: &str = "http://10.0.0.1/";

/// A runner whose server is in memory, for paused clocks.
fn in_memory(known: &Arc<Known>) -> RunnerBuilder {
    let policy = RetryPolicy { jitter: Jitter::None, ..RetryPolicy::default() };
    TaskRunner::local("svc").retry(policy).connector(Arc::new(InMemory(known.clone())))
}

/// The waits between the requests that came.
fn gaps(known: &Known) -> Vec<u64> {
    let times: Vec<_> = known.seen().iter().map(|seen| seen.at).collect();
    times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis() as u64).collect()
}

#[tokio::test]
async fn c08_a_stall_ends_with_the_time_of_the_task() {
    c08(runner()).await;
}

pub(super) async fn c08(runner: TaskRunner) {
    let server = Server::start(|_, _| Reply::Stall).await;
    let began = Instant::now();
    let done = one(&runner, get(&server.url("/")).timeout(millis(500))).await;
    let took = began.elapsed();
    assert!(
        matches!(done.result, Err(TaskError::Timeout { phase: Phase::Headers, attempts: 1, last: None })),
        "{:?}",
        done.result
    );
    assert!(took >= millis(500) && took < millis(1500), "{took:?}");
    assert_eq!(server.known.seen().len(), 1);

    let done =
        one(&runner, get(&server.url("/")).timeout(millis(5000)).attempt_timeout(millis(150)).retries(2))
            .await;
    assert!(
        matches!(&done.result, Err(TaskError::RetriesExhausted { attempts: 3, last: Last::Failure(last) }) if last.is_timeout()),
        "{:?}",
        done.result
    );
    assert_eq!(server.known.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn c08_to_the_millisecond() {
    let known = Known::new(|_, _| Reply::Stall);
    let runner = in_memory(&known).build().expect("a runner");
    let began = Instant::now();
    let done = one(&runner, get(SOMEWHERE).timeout(millis(500))).await;
    assert!(
        matches!(done.result, Err(TaskError::Timeout { phase: Phase::Headers, .. })),
        "{:?}",
        done.result
    );
    assert!(began.elapsed() <= millis(502), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn c09_thirty_seconds_when_nobody_says_how_long() {
    let known = Known::new(|_, _| Reply::Stall);
    let runner = in_memory(&known).build().expect("a runner");
    let began = Instant::now();
    let done = one(&runner, get(SOMEWHERE)).await;
    assert!(done.result.expect_err("a stall").is_timeout());
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn c10_a_body_that_comes_too_late_is_no_success() {
    let server = Server::start(|_, _| Reply::Trickle).await;
    let done = one(&runner(), get(&server.url("/")).timeout(millis(300))).await;
    assert!(matches!(done.result, Err(TaskError::Timeout { phase: Phase::Body, .. })), "{:?}", done.result);
}

#[tokio::test(start_paused = true)]
async fn c11_the_time_can_be_over_in_a_wait() {
    let known = Known::new(|_, _| Reply::status(503).body("later"));
    let runner = in_memory(&known).build().expect("a runner");
    let done = one(&runner, get(SOMEWHERE).timeout(millis(400))).await;
    let error = done.result.expect_err("503");
    assert!(matches!(error, TaskError::Timeout { phase: Phase::Backoff, attempts: 1, .. }), "{error:?}");
    assert_eq!(
        error.last_response().map(|last| (last.status, &last.body[..])),
        Some((StatusCode::SERVICE_UNAVAILABLE, b"later".as_slice()))
    );
}

#[tokio::test]
async fn c12_three_retries_unless_said_and_the_last_response_is_kept() {
    c12(runner()).await;
}

pub(super) async fn c12(runner: TaskRunner) {
    for (retries, requests) in [(None, 4), (Some(0), 1), (Some(1), 2), (Some(3), 4)] {
        let server = Server::start(|_, _| Reply::status(503).header("X-Why", "busy").body("later")).await;
        let mut task = get(&server.url("/"));
        if let Some(retries) = retries {
            task = task.retries(retries);
        }
        let done = one(&runner, task).await;
        let Err(TaskError::RetriesExhausted { attempts, last: Last::Response(last) }) = &done.result else {
            panic!("{:?}", done.result)
        };
        assert_eq!(
            (server.known.seen().len(), *attempts as usize, done.history.len()),
            (requests, requests, requests)
        );
        assert_eq!(
            (last.status.as_u16(), &last.body[..], last.headers["x-why"].as_bytes()),
            (503, b"later".as_slice(), b"busy".as_slice())
        );
        assert_eq!(server.known.accepted(), 1, "a wait does not cost the connection");
    }
}

#[tokio::test]
async fn the_last_response_can_count() {
    let server = Server::start(|_, _| Reply::status(503).body("later")).await;
    let runner = local()
        .retry(RetryPolicy { deliver_last: true, retries: Some(1), ..super::quick() })
        .build()
        .expect("a runner");
    let done = one(&runner, get(&server.url("/"))).await;
    assert_eq!((done.result.expect("the response").status.as_u16(), done.attempts), (503, 2));
}

#[tokio::test(start_paused = true)]
async fn c13_waits_double_to_the_longest() {
    for (retries, longest, waits) in [
        (3, None, [1000, 2000, 4000].as_slice()),
        (6, None, &[1000, 2000, 4000, 5000, 5000, 5000]),
        (3, Some(100), &[100, 100, 100]),
    ] {
        let known = Known::new(|_, _| Reply::status(500));
        let runner = in_memory(&known).build().expect("a runner");
        let mut task = get(SOMEWHERE).retries(retries).timeout(Duration::from_secs(60));
        if let Some(longest) = longest {
            task = task.backoff_max(millis(longest));
        }
        let done = one(&runner, task).await;
        let gaps = gaps(&known);
        assert_eq!(gaps.len(), waits.len());
        for (gap, wait) in gaps.iter().zip(waits) {
            assert!((*wait..=wait + 5).contains(gap), "{gaps:?}");
        }
        let told: Vec<_> = done
            .history
            .iter()
            .filter_map(|attempt| attempt.wait)
            .map(|wait| wait.as_millis() as u64)
            .collect();
        assert_eq!(told, waits);
    }
}

#[tokio::test(start_paused = true)]
async fn c14_waits_are_spread_below_the_longest() {
    let known = Known::new(|_, nth| if nth < 1000 { Reply::status(500) } else { ok() });
    let runner = in_memory(&known).retry(RetryPolicy::default()).build().expect("a runner");
    let list: TaskList = runner.task_list(&get(SOMEWHERE), 1000);
    let done = all(runner.launch(list).expect("launched")).await;
    let waits: Vec<_> =
        done.iter().flat_map(|done| &done.history).filter_map(|attempt| attempt.wait).collect();
    assert_eq!(waits.len(), 1000);
    assert!(waits.iter().all(|wait| (millis(750)..=millis(1000)).contains(wait)));
    let (least, most) = (waits.iter().min().expect("waits"), waits.iter().max().expect("waits"));
    assert!(*most - *least > millis(150), "{least:?} to {most:?}");
}

#[tokio::test]
async fn c15_which_statuses_ask_for_another_try() {
    let server = Server::start(|seen, _| Reply::status(seen.path[1..].parse().expect("a status"))).await;
    let runner = runner();
    let mut retried = Vec::new();
    for status in [200, 301, 404, 429, 500, 501, 503, 505, 599] {
        let done = one(&runner, get(&server.url(&format!("/{status}"))).retries(1)).await;
        match done.result {
            Ok(response) => assert_eq!((response.status.as_u16(), done.attempts), (status, 1)),
            Err(TaskError::RetriesExhausted { attempts: 2, .. }) => retried.push(status),
            Err(other) => panic!("{status}: {other:?}"),
        }
    }
    assert_eq!(retried, [429, 500, 503, 505, 599]);
}

#[tokio::test(start_paused = true)]
async fn c16_servers_may_say_how_long_to_wait() {
    let date = |offset: i64| {
        let now = chrono::DateTime::<chrono::Utc>::from(SystemTime::now());
        (now + chrono::Duration::seconds(offset)).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    // The clock of dates is not paused, so a date in the future is a span within a second.
    for (status, value, least, most) in [
        (429, "0".to_owned(), 0, 0),
        (503, "2".to_owned(), 2000, 2000),
        (503, date(30), 27_000, 30_000),
        (429, date(-30), 0, 0),
        (503, "-1".to_owned(), 1000, 1000),
        (429, "1.5".to_owned(), 1000, 1000),
        (500, "2".to_owned(), 1000, 1000),
    ] {
        let shown = value.clone();
        let known = Known::new(move |_, nth| {
            if nth == 0 { Reply::status(status).header("Retry-After", value.clone()) } else { ok() }
        });
        let runner = in_memory(&known).build().expect("a runner");
        let done = one(&runner, get(SOMEWHERE).timeout(Duration::from_secs(100))).await;
        assert!(done.result.is_ok(), "{status} {shown}: {:?}", done.result);
        let gap = gaps(&known)[0];
        assert!((least..=most + 5).contains(&gap), "{status} {shown}: {gap} ms");
    }
}

#[tokio::test]
async fn c17_a_wait_beyond_the_time_of_the_task_is_not_begun() {
    let server = Server::start(|_, _| Reply::status(503).header("Retry-After", "3600").body("later")).await;
    let began = Instant::now();
    let done = one(&runner(), get(&server.url("/")).timeout(Duration::from_secs(4))).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let error = done.result.expect_err("503");
    assert!(matches!(error, TaskError::RetriesExhausted { attempts: 1, .. }), "{error:?}");
    assert_eq!(error.last_response().map(|last| last.body.to_vec()), Some(b"later".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_from_the_launch_passes_in_the_queue() {
    let known = Known::new(|_, _| ok().after(millis(300)));
    let runner = in_memory(&known)
        .max_in_flight(Limit::Of(1))
        .deadline_from(DeadlineFrom::Launch)
        .build()
        .expect("a runner");
    let list: TaskList = runner.task_list(&get(SOMEWHERE).timeout(millis(500)), 4);
    let began = Instant::now();
    let done = all(runner.launch(list).expect("launched")).await;
    assert!(began.elapsed() < millis(520), "{:?}", began.elapsed());
    assert!(done[0].result.is_ok());
    assert!(
        matches!(done[1].result, Err(TaskError::Timeout { phase: Phase::Headers, .. })),
        "{:?}",
        done[1].result
    );
    for late in &done[2..] {
        assert!(
            matches!(late.result, Err(TaskError::Timeout { phase: Phase::Queue, attempts: 0, .. })),
            "{:?}",
            late.result
        );
    }
}

#[tokio::test]
async fn the_head_of_a_response_has_a_limit_of_its_own() {
    let server = Server::start(|_, nth| if nth == 0 { Reply::Stall } else { ok() }).await;
    let transport = tasker::http_tasks::TransportPolicy {
        response_header_timeout: Some(millis(100)),
        ..Default::default()
    };
    let done = one(&local().transport(transport).build().expect("a runner"), get(&server.url("/"))).await;
    assert!(done.result.is_ok());
    assert_eq!(done.history[0].outcome, AttemptOutcome::Failed("slow"));
}

#[tokio::test(start_paused = true)]
async fn a_host_gets_its_attempts_evenly_spread() {
    let known = Known::new(|_, _| Reply::status(200));
    let runner = in_memory(&known).max_rate_per_host(10.0).build().expect("a runner");
    let began = Instant::now();
    let mut list: TaskList = runner.task_list(&get(SOMEWHERE), 20);
    // Another port is another server: the two do not wait for each other.
    for task in list.iter_mut().skip(10) {
        task.set_url("http://10.0.0.1:81/").expect("a URL");
    }
    all(runner.launch(list).expect("launched")).await;
    let took = began.elapsed();
    assert!(took >= millis(900) && took < millis(1000), "ten each, the first at once: {took:?}");
    let mut times: Vec<Duration> = known.seen().iter().map(|seen| seen.at - began).collect();
    times.sort_unstable();
    assert!(times.windows(3).all(|three| three[2] - three[0] >= millis(95)), "{times:?}");

    // A second try is an attempt like any other.
    let known = Known::new(|_, nth| if nth == 0 { Reply::status(503) } else { Reply::status(200) });
    let runner = in_memory(&known).max_rate_per_host(2.0).retry(super::quick()).build().expect("a runner");
    let done = one(&runner, get(SOMEWHERE)).await;
    assert_eq!((done.result.is_ok(), done.attempts), (true, 2));
    let seen = known.seen();
    assert!(seen[1].at - seen[0].at >= millis(495), "{:?}", seen[1].at - seen[0].at);

    // What waits for its turn can be canceled, and a runner that is shut down does not wait for it.
    let slow = in_memory(&known).max_rate_per_host(0.001).build().expect("a runner");
    let batch = slow.launch(slow.task_list::<()>(&get(SOMEWHERE), 5)).expect("launched");
    batch.cancel();
    assert_eq!(all(batch).await.len(), 5);
    let batch = slow.launch(slow.task_list::<()>(&get(SOMEWHERE), 5)).expect("launched");
    slow.shutdown(millis(10)).await;
    assert_eq!(all(batch).await.len(), 5);
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(in_memory(&known).max_rate_per_host(rate).build().is_err(), "{rate}");
    }
    assert!(in_memory(&known).max_rate_per_host(f64::MIN_POSITIVE).build().is_ok());
}
