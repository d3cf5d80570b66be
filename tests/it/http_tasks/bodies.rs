//! Bodies and their limit: C26.

use std::io::Write;

use flate2::write::GzEncoder;
use tasker::http_tasks::{AttemptFailure, Method, Room, RunnerBuilder, Task, TaskError, TransportPolicy};

use super::server::{Reply, Server, ok};
use super::{get, local, one, runner};

const MIB: usize = 1 << 20;

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn c26_longer_bodies_are_cut_off() {
    c26(local().transport(inflating())).await;
}

/// Asks for gzip.
pub(super) fn inflating() -> TransportPolicy {
    TransportPolicy { gzip: true, ..TransportPolicy::default() }
}

pub(super) async fn c26(builder: RunnerBuilder) {
    let bomb = zipped(&vec![0; 64 * MIB]);
    assert!(bomb.len() < MIB);
    let server = Server::start(move |seen, _| match seen.path.as_str() {
        "/long" => Reply::status(200).header("X-Kind", "long").body(vec![b'x'; 2 * MIB]),
        "/endless" => Reply::Endless,
        "/bomb" => Reply::status(200).header("Content-Encoding", "gzip").body(bomb.clone()),
        _ => ok(),
    })
    .await;
    let runner = builder.body_limit(MIB).build().expect("a runner");
    for (number, path) in ["/long", "/endless", "/bomb"].into_iter().enumerate() {
        let done = one(&runner, get(&server.url(path))).await;
        let Err(TaskError::BodyTooLarge { limit, partial }) = done.result else {
            panic!("{path}: {:?}", done.result)
        };
        assert_eq!((limit, partial.body.len(), partial.status.as_u16(), done.attempts), (MIB, MIB, 200, 1));
        server.known.until_open(0).await;
        assert_eq!((server.known.accepted(), runner.stats().idle), (number + 1, 0));
    }
    let done = one(&runner, get(&server.url("/long")).truncate(true)).await;
    let response = done.result.expect("the beginning");
    assert!(response.truncated && response.body.len() == MIB && response.headers["x-kind"] == "long");
    let done = one(&runner, get(&server.url("/long")).body_limit(2 * MIB)).await;
    assert!(done.result.is_ok_and(|response| !response.truncated && response.body.len() == 2 * MIB));
}

#[tokio::test]
async fn gzip_is_asked_for_and_taken_off_when_wished() {
    let zip = zipped(b"plain");
    let server = Server::start(move |seen, _| match (seen.path.as_str(), seen.header("accept-encoding")) {
        ("/broken", _) => {
            Reply::status(200).header("Content-Encoding", "gzip").body("this is no gzip at all")
        }
        (_, Some("gzip")) => Reply::status(200).header("Content-Encoding", "gzip").body(zip.clone()),
        _ => Reply::status(200).body("plain"),
    })
    .await;
    let transport = TransportPolicy { gzip: true, ..TransportPolicy::default() };
    let with = local().transport(transport).build().expect("a runner");
    let inflated = one(&with, get(&server.url("/"))).await.result.expect("a response");
    assert_eq!(&inflated.body[..], b"plain");
    assert!(!inflated.headers.contains_key("content-encoding"));
    let own = one(&with, get(&server.url("/")).header("Accept-Encoding", "gzip").expect("a header"))
        .await
        .result
        .expect("a response");
    assert_eq!(own.headers["content-encoding"], "gzip");
    assert_eq!(&one(&runner(), get(&server.url("/"))).await.result.expect("a response").body[..], b"plain");
    let done = one(&with, get(&server.url("/broken"))).await;
    assert!(matches!(done.result, Err(TaskError::Failed(_))) && done.attempts == 1);
}

#[tokio::test]
async fn bodies_without_length_without_anything_and_in_parts() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let server = Server::start(|seen, _| match seen.path.as_str() {
        "/chunked" => Reply::Raw(chunked.to_vec()),
        "/short" => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
        "/nonsense" => Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        "/none" => Reply::status(204),
        _ => ok(),
    })
    .await;
    let runner = runner();
    assert_eq!(
        &one(&runner, get(&server.url("/chunked"))).await.result.expect("a response").body[..],
        b"abcde"
    );
    assert!(one(&runner, get(&server.url("/none"))).await.result.expect("a response").body.is_empty());
    assert!(
        one(&runner, Task::new(Method::HEAD, &server.url("/")).expect("a task"))
            .await
            .result
            .expect("a response")
            .body
            .is_empty()
    );
    assert!(
        one(&runner, get(&server.url("/short")).timeout(super::millis(200)))
            .await
            .result
            .expect_err("too short")
            .is_timeout()
    );
    let done = one(&runner, get(&server.url("/nonsense")).retries(1)).await;
    assert!(matches!(done.result, Err(TaskError::RetriesExhausted { attempts: 2, .. })), "{:?}", done.result);
}

#[tokio::test]
async fn what_has_no_body_says_so_when_it_could_have_one() {
    let server = Server::start(|seen, nth| {
        if seen.path == "/moved" && nth == 0 { Reply::status(307).header("Location", "/") } else { ok() }
    })
    .await;
    let runner = runner();
    let task = |method: &str, path: &str| {
        Task::new(Method::from_bytes(method.as_bytes()).expect("a method"), &server.url(path))
            .expect("a task")
    };
    assert!(one(&runner, task("POST", "/moved")).await.result.is_ok());
    for method in ["POST", "PUT", "PATCH", "GET", "HEAD", "DELETE", "OPTIONS", "PURGE"] {
        assert!(one(&runner, task(method, "/")).await.result.is_ok(), "{method}");
        assert!(one(&runner, task(method, "/").body("")).await.result.is_ok(), "{method}");
    }
    assert!(one(&runner, task("DELETE", "/body").body("123")).await.result.is_ok());
    let seen = server.known.seen();
    assert_eq!(seen.len(), 2 + 16 + 1);
    for seen in seen {
        let expected = match (seen.method.as_str(), seen.path.as_str()) {
            ("POST" | "PUT" | "PATCH", _) => vec!["0"],
            (_, "/body") => vec!["3"],
            _ => Vec::new(),
        };
        assert_eq!(seen.headers.get_all("content-length").iter().collect::<Vec<_>>(), expected, "{seen:?}");
        assert!(seen.header("transfer-encoding").is_none(), "{seen:?}");
    }
}

/// The server has done what it was asked for: only its answer is lost.
#[tokio::test]
async fn what_was_answered_is_not_done_again() {
    let many = |count: usize| {
        let headers: String = (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        Reply::Raw(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nok").into_bytes())
    };
    let server = Server::start(move |seen, _| match seen.path.as_str() {
        "/999" => many(999),
        "/1000" => many(1000),
        "/long" => Reply::Raw(
            format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(200_000))
                .into_bytes(),
        ),
        "/nonsense" => Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        "/status" => Reply::Raw(b"HTTP/1.1 9 OK\r\n\r\n".to_vec()),
        "/cut" => Reply::Cut(b"HTTP/1.1 200 OK\r\nX-Begun: ".to_vec()),
        "/body" => Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
        "/chunk" => Reply::Cut(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n".to_vec(),
        ),
        "/slow" => Reply::Trickle,
        _ => Reply::HangUp,
    })
    .await;
    let runner = runner();
    let task = |method: Method, path: &str| Task::new(method, &server.url(path)).expect("a task").retries(2);
    let done = one(&runner, task(Method::PUT, "/999")).await;
    assert_eq!(done.result.expect("a response").headers.len(), 1000);
    for path in ["/1000", "/long"] {
        for method in [Method::PUT, Method::GET] {
            let done = one(&runner, task(method, path).repeatable(true)).await;
            let Err(error @ TaskError::Failed(AttemptFailure::Head { .. })) = &done.result else {
                panic!("{path}: {:?}", done.result)
            };
            let text = error.explain();
            assert!(text.contains("1000 headers") && text.contains("65536 bytes"), "{text}");
            assert_eq!((done.attempts, error.is_retryable()), (1, false), "{path}");
        }
    }
    for path in ["/nonsense", "/status", "/cut", "/body", "/chunk", "/slow"] {
        for (method, attempts) in [(Method::PUT, 1), (Method::DELETE, 1), (Method::POST, 1), (Method::GET, 3)]
        {
            let before = server.known.seen().len();
            let done = one(&runner, task(method.clone(), path).attempt_timeout(super::millis(300))).await;
            let seen = server.known.seen().len() - before;
            assert_eq!(
                (done.result.is_ok(), done.attempts, seen),
                (false, attempts, attempts as usize),
                "{method} {path}: {:?}",
                done.result
            );
        }
        let done =
            one(&runner, task(Method::PUT, path).attempt_timeout(super::millis(100)).repeatable(true)).await;
        assert_eq!(done.attempts, 3, "{path}");
    }
    // Of what was not answered nobody knows; it may come again as before.
    assert_eq!(one(&runner, task(Method::PUT, "/gone")).await.attempts, 3);
}

#[tokio::test]
async fn bodies_of_several_tasks_share_their_room() {
    let server = Server::start(|seen, _| match seen.path.as_str() {
        "/endless" => Reply::Endless,
        _ => Reply::status(200).body(vec![b'x'; 600]),
    })
    .await;
    let runner = runner();
    let room = Room::of(1000);
    let task = |path: &str| get(&server.url(path)).room(room.clone()).truncate(true);
    let first = one(&runner, task("/")).await.result.expect("a response");
    assert_eq!((first.body.len(), first.truncated), (600, false));
    let second = one(&runner, task("/endless")).await.result.expect("a response");
    assert_eq!((second.body.len(), second.truncated), (400, true));
    drop((first, second));
    // What is read of a body that is of no use is given back too.
    let error = one(&runner, task("/endless").truncate(false)).await.result.expect_err("too long");
    assert!(matches!(error, TaskError::BodyTooLarge { .. }), "{error:?}");
    drop(error);
    assert_eq!(one(&runner, task("/")).await.result.expect("a response").body.len(), 600);
}
