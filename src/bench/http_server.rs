//! `tasker bench http-server`: answers every request after a while, and knows nothing of the library that is
//! measured.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be taken: all of a round come at once.
const BACKLOG: u32 = 32_768;
/// What is answered.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
/// The longest request, which the bench never comes near.
const LONGEST: usize = 4096;
/// How long to wait when no file is left to take a connection with.
const OUT_OF_FILES: Duration = Duration::from_millis(10);

/// Listens on a free port of each host and says where; serves until standard input ends.
///
/// # Errors
/// When it cannot listen.
pub async fn run(hosts: &[IpAddr], delay: Duration) -> anyhow::Result<()> {
    for host in hosts {
        let socket = if host.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(*host, 0)).with_context(|| format!("cannot listen on {host}"))?;
        let listener = socket.listen(BACKLOG)?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        tokio::spawn(accept(listener, delay));
    }
    // Nothing is ever written to it.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

async fn accept(listener: TcpListener, delay: Duration) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => _ = tokio::spawn(serve(stream, delay)),
            Err(_) => tokio::time::sleep(OUT_OF_FILES).await,
        }
    }
}

/// Requests without a body, one after the other, until the client goes.
async fn serve(mut stream: TcpStream, delay: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::with_capacity(256);
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            if request.len() > LONGEST || stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        request.clear();
        tokio::time::sleep(delay).await;
        stream.write_all(ANSWER).await?;
    }
}
