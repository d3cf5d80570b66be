//! Bodies and their limit: C26.

use std::io::Write;

use flate2::write::GzEncoder;
use tasker::http_tasks::{Method, RunnerBuilder, Task, TaskError, TransportPolicy};

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
        let Err(TaskError::BodyTooLarge { limit, partial }) = done.result else { panic!("{path}: {:?}", done.result) };
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
        ("/broken", _) => Reply::status(200).header("Content-Encoding", "gzip").body("this is no gzip at all"),
        (_, Some("gzip")) => Reply::status(200).header("Content-Encoding", "gzip").body(zip.clone()),
        _ => Reply::status(200).body("plain"),
    })
    .await;
    let transport = TransportPolicy { gzip: true, ..TransportPolicy::default() };
    let with = local().transport(transport).build().expect("a runner");
    let inflated = one(&with, get(&server.url("/"))).await.result.expect("a response");
    assert_eq!(&inflated.body[..], b"plain");
    assert!(!inflated.headers.contains_key("content-encoding"));
    let own = one(&with, get(&server.url("/")).header("Accept-Encoding", "gzip").expect("a header")).await.result.expect("a response");
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
    assert_eq!(&one(&runner, get(&server.url("/chunked"))).await.result.expect("a response").body[..], b"abcde");
    assert!(one(&runner, get(&server.url("/none"))).await.result.expect("a response").body.is_empty());
    assert!(one(&runner, Task::new(Method::HEAD, &server.url("/")).expect("a task")).await.result.expect("a response").body.is_empty());
    assert!(one(&runner, get(&server.url("/short")).timeout(super::millis(200))).await.result.expect_err("too short").is_timeout());
    let done = one(&runner, get(&server.url("/nonsense")).retries(1)).await;
    assert!(matches!(done.result, Err(TaskError::RetriesExhausted { attempts: 2, .. })), "{:?}", done.result);
}
