//! Clients that take their time: those that read nothing, and those that keep connections and ask for
//! nothing.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use tasker::api::Limits;
use tasker_services::{Home, Port};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::api_rig::{PATIENCE, Rig};

/// Asks for long lists, and reads nothing of them.
async fn asks(rig: &Rig) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    set_socket_recv_buffer_size(&socket, 4096).expect("a small buffer");
    let mut stream = socket.connect(rig.address).await.expect("a connection");
    // More than what the system takes in between.
    let requests = format!("GET /worker?limit=1000 HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address).repeat(8);
    stream.write_all(requests.as_bytes()).await.expect("the server reads");
    stream
}

async fn until_list_is(rig: &Rig, status: u16) {
    let look = async {
        loop {
            let answer = rig.get("/worker?limit=1000").await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, look).await.expect("it comes to that");
    if status == 503 {
        assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("overloaded", "5"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_hold_little_and_not_for_long() {
    let limits = Limits {
        write_timeout: Duration::from_secs(5),
        answer_budget: 9 << 20,
        room_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let rig = Rig::start_with(limits).await;
    let payload = "x".repeat(60_000);
    for number in 0..100 {
        let body = json!({"identifier": format!("t{number}"), "payload": payload});
        assert_eq!(rig.post("/worker", body.to_string()).await.status, 201);
    }
    assert_eq!(rig.post("/worker", json!({"identifier": "short"}).to_string()).await.status, 201);
    until_list_is(&rig, 200).await;
    let mut hogs = Vec::new();
    for _ in 0..5 {
        hogs.push(asks(&rig).await);
    }
    until_list_is(&rig, 503).await;
    assert_eq!(rig.get("/worker/short").await.status, 200, "short answers need no room");
    assert_eq!(
        rig.get("/worker?limit=1").await.status,
        503,
        "nobody knows how long a list is before it is read"
    );
    // They are hung up on, and what they held is free.
    until_list_is(&rig, 200).await;
    drop(hogs);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_read_in_bounded_steps_and_ends() {
    let rig = Rig::start().await;
    let payload = "x".repeat(60_000);
    for number in 0..100 {
        let payload = if number % 2 == 0 { &payload } else { "" };
        let body = json!({"identifier": format!("t{number}"), "payload": payload});
        assert_eq!(rig.post("/worker", body.to_string()).await.status, 201);
        if number % 3 == 0 {
            assert_eq!(rig.delete(&format!("/worker/t{number}")).await.status, 200);
        }
    }
    for filter in ["", "&status=CREATED,CANCELED", "&status=CANCELED"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = rig.get(&format!("/worker?limit=70{filter}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            let names = page["tasks"].as_array().expect("tasks").iter();
            seen.extend(names.map(|task| {
                task["identifier"].as_str().expect("a name")[1..].parse::<u32>().expect("a number")
            }));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let wanted: Vec<u32> =
            (0..100).rev().filter(|number| filter != "&status=CANCELED" || number % 3 == 0).collect();
        assert_eq!(seen, wanted, "{filter}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_are_few_enough_and_end_with_their_clients() {
    let rig = Rig::start_with(Limits { waits: 2, ..Limits::default() }).await;
    let mut waiting = Vec::new();
    for number in 1..=2 {
        rig.submit(&format!("t{number}"), &["console1"]).await;
        let mut stream = rig.connect().await;
        let request = format!("GET /worker/t{number}?wait=60s HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address);
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        waiting.push(stream);
        rig.until_waiting(number).await;
    }
    let answer = rig.get("/worker/t1?wait=60s").await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("retry-after")),
        (503, "overloaded", "1")
    );
    assert_eq!(rig.get("/worker/t1").await.status, 200);
    drop(waiting);
    rig.until_waiting(0).await;
    rig.stop().await;
}

/// Asks once on a connection that stays open.
fn heartbeat(stream: &mut StdStream, port: u16) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /heartbeat HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"HTTP/1.1 200", "{answer:?}");
    Ok(())
}

#[test]
fn idle_connections_lock_nobody_out_when_files_are_few() -> anyhow::Result<()> {
    let (home, port) = (Home::new("idle")?, Port::free()?);
    let port = port.number();
    let up = format!(
        "ulimit -n 256; exec {} up --workers 0 --endpoints '' --listen 127.0.0.1:{port} --data-dir data",
        env!("CARGO_BIN_EXE_tasker")
    );
    let mut process = home.start("up", Command::new("sh").args(["-c", &up]).current_dir(home.join("")))?;
    process.ready(PATIENCE, || heartbeat(&mut StdStream::connect(("127.0.0.1", port))?, port))?;
    let mut idle = Vec::new();
    for number in 0..512 {
        let mut stream = StdStream::connect(("127.0.0.1", port))?;
        heartbeat(&mut stream, port).map_err(|error| error.context(format!("connection {number}")))?;
        idle.push(stream);
    }
    // And others that send nothing: they have five seconds.
    let silent: Vec<_> =
        (0..100).map(|_| StdStream::connect(("127.0.0.1", port))).collect::<Result<_, _>>()?;
    let start = Instant::now();
    heartbeat(&mut StdStream::connect(("127.0.0.1", port))?, port)?;
    ensure!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop((idle, silent));
    Ok(())
}
