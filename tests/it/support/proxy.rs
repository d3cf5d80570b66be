//! A TCP proxy that breaks links on purpose.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Refuse,
    BlackHole,
    Slow { latency: Duration, bytes_per_second: u32 },
}

/// A port on the loopback that leads to another one, while it is told to.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// Ends the connections that are open; replaced at each cut.
    cut: watch::Sender<CancellationToken>,
    listening: AbortHandle,
}

impl Proxy {
    /// Leads to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (target, targets) = watch::channel(target);
        let (mode, modes) = watch::channel(Mode::Pass);
        let (cut, cuts) = watch::channel(CancellationToken::new());
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // To refuse is to hang up at once: the port must stay ours.
                if *modes.borrow() == Mode::Refuse {
                    continue;
                }
                let (modes, cut) = (modes.clone(), cuts.borrow().clone());
                let target = *targets.borrow();
                tokio::spawn(async move { cut.run_until_cancelled(join(near, target, modes)).await });
            }
        });
        Self { address, target, mode, cut, listening: listening.abort_handle() }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all open connections and leads new ones to another target.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
        self.cut();
    }

    /// Leads through, from now on.
    pub fn pass(&self) {
        self.mode.send_replace(Mode::Pass);
    }

    /// Ends all open connections; new ones are led through.
    pub fn cut(&self) {
        self.cut.send_replace(CancellationToken::new()).cancel();
    }

    /// Ends all open connections and takes no new ones.
    pub fn refuse(&self) {
        self.mode.send_replace(Mode::Refuse);
        self.cut();
    }

    /// Leads through with so many bytes a second in each direction of a connection, each piece after a delay.
    pub fn slow(&self, latency: Duration, bytes_per_second: u32) {
        self.mode.send_replace(Mode::Slow { latency, bytes_per_second });
    }

    /// Keeps connections open and takes new ones, but nothing comes through.
    pub fn black_hole(&self) {
        self.mode.send_replace(Mode::BlackHole);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn join(near: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    if modes.wait_for(|mode| *mode != Mode::BlackHole).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(near_read, far_write, modes.clone()) => {}
        () = pump(far_read, near_write, modes) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Ok(mode) = modes.wait_for(|mode| *mode != Mode::BlackHole).await.map(|mode| *mode) else {
            return;
        };
        if let Mode::Slow { latency, bytes_per_second } = mode {
            tokio::time::sleep(
                latency + Duration::from_secs_f64(length as f64 / f64::from(bytes_per_second)),
            )
            .await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
