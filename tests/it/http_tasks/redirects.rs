//! Redirects, guards, names and proxies: C20, and what the handler builds on.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tasker::http_tasks::{AttemptFailure, Method, Proxy, Reach, Resolve, Task, TaskError, TransportPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::server::{Reply, Server, ok};
use super::{get, local, one, runner};

#[tokio::test]
async fn c20_a_loop_ends_after_ten() {
    let server = Server::start(|_, _| Reply::status(302).header("Location", "/again").body("moved")).await;
    let done = one(&runner(), get(&server.url("/"))).await;
    let Err(TaskError::Failed(AttemptFailure::Redirect { why })) = done.result else {
        panic!("{:?}", done.result)
    };
    assert!(why.contains("10"), "{why}");
    assert_eq!((server.known.seen().len(), server.known.accepted()), (11, 1));

    let transport = TransportPolicy { max_redirects: 0, ..TransportPolicy::default() };
    let done = one(&local().transport(transport).build().expect("a runner"), get(&server.url("/"))).await;
    assert_eq!(done.result.expect("the redirect itself").status.as_u16(), 302);
}

/// Folded headers, blanks before a colon and letters that are not escaped: curl and browsers take them.
#[tokio::test]
async fn answers_of_old_servers_are_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = async {
        let (mut stream, _) = listener.accept().await?;
        let mut heads = Vec::new();
        for answer in [
            "HTTP/1.1 302 Found\r\nX-Long: a\r\n b\r\nLocation : /\u{e9}\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            stream.write_all(answer.as_bytes()).await?;
            heads.push(String::from_utf8_lossy(&head).into_owned());
        }
        io::Result::Ok(heads)
    };
    let (runner, url) = (runner(), format!("http://{address}/"));
    let (heads, done) = tokio::join!(server, one(&runner, get(&url)));
    assert_eq!(done.result.expect("a response").status.as_u16(), 200);
    assert!(heads.expect("two requests")[1].starts_with("GET /%C3%A9 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn c20_what_a_post_becomes() {
    for (status, method, body) in
        [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "body"), (308, "POST", "body")]
    {
        let server = Server::start(move |_, nth| {
            if nth == 0 { Reply::status(status).header("Location", "/there?x=1") } else { ok() }
        })
        .await;
        let post = Task::new(Method::POST, &server.url("/"))
            .expect("a task")
            .body("body")
            .header("Content-Type", "text/plain");
        let done = one(&runner(), post.expect("a header")).await;
        let response = done.result.expect("a response");
        assert_eq!(response.url.path(), "/there");
        let last = server.known.seen().remove(1);
        assert_eq!(
            (last.method.as_str(), last.path.as_str(), last.body.as_slice()),
            (method, "/there?x=1", body.as_bytes()),
            "{status}"
        );
        assert_eq!(last.header("content-type").is_some(), method == "POST", "{status}");
    }
}

#[tokio::test]
async fn c20_another_host_gets_no_credentials() {
    let other = Server::at("127.0.0.2", |_, _| ok()).await;
    let there = other.url("/");
    let first = Server::start(move |seen, _| match seen.path.as_str() {
        "/away" => Reply::status(307).header("Location", there.clone()),
        "/near" => Reply::status(307).header("Location", "/here"),
        _ => ok(),
    })
    .await;
    let task = |path: &str| {
        let url = first.url(path).replace("http://", "http://user:secret@");
        get(&url)
            .header("X-Auth-Token", "t")
            .expect("a header")
            .header("Cookie", "c")
            .expect("a header")
            .header("X-Custom-Cred", "p")
            .expect("a header")
            .header("X-Signature", "s")
            .expect("a header")
            .header("Accept-Language", "de")
            .expect("a header")
            .header("Content-Type", "text/plain")
            .expect("a header")
            .header("User-Agent", "own")
            .expect("a header")
    };
    let runner = runner();
    assert!(one(&runner, task("/away")).await.result.is_ok());
    assert!(one(&runner, task("/near")).await.result.is_ok());
    let names = [
        "authorization", "x-auth-token", "cookie", "x-custom-cred", "x-signature", "accept-language",
        "content-type", "user-agent",
    ];
    let sent = |seen: &super::server::Seen| names.map(|name| seen.header(name).is_some());
    assert_eq!(sent(&other.known.seen()[0]), [false, false, false, false, false, true, true, true]);
    assert_eq!(other.known.seen()[0].header("host"), Some(other.address.to_string().as_str()));
    assert!(first.known.seen().iter().all(|seen| sent(seen) == [true; 8]));
    assert_eq!(first.known.seen()[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

/// The POST was done; only the page that it leads to is not there.
#[tokio::test]
async fn a_post_that_led_elsewhere_is_not_done_again() {
    for outcome in [Reply::status(503), Reply::HangUp] {
        let server = Server::start(move |seen, _| {
            if seen.method == "POST" {
                Reply::status(303).header("Location", "/done")
            } else {
                outcome.clone()
            }
        })
        .await;
        let done = one(&runner(), Task::new(Method::POST, &server.url("/")).expect("a task")).await;
        assert!(done.result.is_err() && done.attempts == 1, "{:?}", done.result);
        assert_eq!(server.known.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
    }
}

/// Answers loopback addresses for every name.
struct Always(Vec<IpAddr>);

#[async_trait]
impl Resolve for Always {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}

fn reach(entries: &[&str]) -> Arc<Reach> {
    Arc::new(Reach::new(entries.iter().map(|entry| entry.parse().expect("an entry")), "some.key"))
}

#[tokio::test]
async fn the_guard_sees_every_address_that_is_connected_to() {
    let server = Server::start(|seen, _| {
        if seen.path == "/away" { Reply::status(302).header("Location", "http://127.0.0.3:1/") } else { ok() }
    })
    .await;
    let named = format!("http://bmc.example:{}", server.address.port());
    let resolver = || {
        Arc::new(Always(vec![
            "127.0.0.9".parse().expect("an address"),
            "127.0.0.1".parse().expect("an address"),
        ]))
    };
    let build =
        |entries: &[&str]| local().guard(reach(entries)).resolver(resolver()).build().expect("a runner");

    // A name that leads inside is refused although it is listed, and nothing is sent.
    let done = one(&build(&["bmc.example"]), get(&named)).await;
    let Err(TaskError::Failed(AttemptFailure::Refused { why, .. })) = &done.result else {
        panic!("{:?}", done.result)
    };
    assert!(why.contains("loopback") && why.contains("some.key"), "{why}");
    assert_eq!((done.attempts, server.known.accepted()), (1, 0));

    // Of its addresses only those that are listed are connected to.
    let runner = build(&["127.0.0.1"]);
    assert!(one(&runner, get(&named)).await.result.is_ok());
    // A redirect is no way around it.
    let done = one(&runner, get(&format!("{named}/away"))).await;
    assert!(
        matches!(done.result, Err(TaskError::Failed(AttemptFailure::Refused { .. }))),
        "{:?}",
        done.result
    );
}

#[tokio::test]
async fn a_name_is_tried_at_each_of_its_addresses() {
    let server = Server::start(|_, _| ok()).await;
    let resolver = Arc::new(Always(vec![
        "127.0.0.9".parse().expect("an address"),
        "127.0.0.1".parse().expect("an address"),
    ]));
    let runner = local().resolver(resolver).build().expect("a runner");
    let done = one(&runner, get(&format!("http://bmc.example:{}", server.address.port())).retries(0)).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!(
        server.known.seen()[0].header("host"),
        Some(format!("bmc.example:{}", server.address.port()).as_str())
    );
}

#[tokio::test]
async fn a_proxy_is_asked_when_one_is_set() {
    let proxy = Server::start(|_, _| ok()).await;
    let at = Proxy::at(&format!("http://user:secret@{}", proxy.address)).expect("a proxy");
    let runner = local().proxy(at.except("direct.example")).build().expect("a runner");
    let done = one(&runner, get("http://bmc.example:8080/redfish")).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    let seen = proxy.known.seen().remove(0);
    assert_eq!(seen.path, "http://bmc.example:8080/redfish");
    assert_eq!(
        (seen.header("host"), seen.header("proxy-authorization")),
        (Some("bmc.example:8080"), Some("Basic dXNlcjpzZWNyZXQ="))
    );
    // A way to an https target is asked for; this proxy refuses it.
    let done = one(&runner, get("https://bmc.example/").retries(0)).await;
    assert!(done.result.is_err());
    let seen = proxy.known.seen().remove(1);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("CONNECT", "bmc.example:443"));
    assert!(local().proxy(Proxy::at("http://proxy").expect("a proxy")).guard(reach(&["*"])).build().is_err());
}
