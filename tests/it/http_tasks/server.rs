//! Servers for the checks: each says for every request what is to become of it, and remembers what it saw.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tasker::http_tasks::{Connect, HeaderMap, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// How long a test waits for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    /// How often each header came, as names may come twice.
    pub body: Vec<u8>,
    /// Which connection it came over, from 0.
    pub connection: usize,
    pub at: Instant,
    /// The certificates that the client showed.
    pub client_certificates: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A response.
    With { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// The same, later.
    After(Duration, Box<Self>),
    /// Nothing, ever.
    Stall,
    /// The connection is closed.
    HangUp,
    /// These bytes, and then nothing.
    Raw(Vec<u8>),
    /// These bytes, and then the end.
    Cut(Vec<u8>),
    /// A head, and then a byte from time to time.
    Trickle,
    /// A body without end.
    Endless,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::With { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        match self {
            Self::With { status, headers, .. } => Self::With { status, headers, body: body.into() },
            other => other,
        }
    }

    pub fn header(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::With { status, mut headers, body } => {
                headers.push((name, value.into()));
                Self::With { status, headers, body }
            }
            other => other,
        }
    }

    pub fn after(self, span: Duration) -> Self {
        Self::After(span, Box::new(self))
    }
}

pub fn ok() -> Reply {
    Reply::status(200).body("ok")
}

type Behave = Arc<dyn Fn(&Seen, usize) -> Reply + Send + Sync>;

/// What a server knows.
pub struct Known {
    behave: Behave,
    seen: Mutex<Vec<Seen>>,
    /// Connections accepted, and open now.
    connections: watch::Sender<(usize, usize)>,
}

/// A server, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub known: Arc<Known>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Known {
    pub fn new(behave: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            behave: Arc::new(behave),
            seen: Mutex::default(),
            connections: watch::Sender::new((0, 0)),
        })
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panicked here").clone()
    }

    pub fn accepted(&self) -> usize {
        self.connections.borrow().0
    }

    pub fn open(&self) -> usize {
        self.connections.borrow().1
    }

    /// Waits until so many connections are open.
    pub async fn until_open(&self, count: usize) {
        self.until("open connections", |(_, open)| open == count).await;
    }

    async fn until(&self, what: &str, good: impl Fn((usize, usize)) -> bool) {
        let mut changes = self.connections.subscribe();
        let waited = tokio::time::timeout(PATIENCE, changes.wait_for(|now| good(*now))).await;
        assert!(waited.is_ok(), "{what}: {:?} are (accepted, open)", *self.connections.borrow());
    }

    /// Waits until so many requests have come.
    pub async fn until_seen(&self, count: usize) {
        let looking = async {
            while self.seen().len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, looking).await.is_ok(),
            "{} of {count} requests have come",
            self.seen().len()
        );
    }

    /// Serves a connection until it ends.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        self: Arc<Self>,
        stream: S,
        client_certificates: usize,
    ) {
        struct Open(Arc<Known>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.connections.send_modify(|(_, open)| *open -= 1);
            }
        }
        let mut connection = 0;
        self.connections.send_modify(|(accepted, open)| {
            connection = *accepted;
            *accepted += 1;
            *open += 1;
        });
        let _open = Open(self.clone());
        // Whoever closes the connection ends it: that is what some tests wait for.
        _ = self.exchange(stream, connection, client_certificates).await;
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        connection: usize,
        certificates: usize,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(mut seen) = request(&mut stream, &mut buffer).await? {
            (seen.connection, seen.client_certificates) = (connection, certificates);
            let nth = {
                let mut all = self.seen.lock().expect("no test panicked here");
                all.push(seen.clone());
                all.len() - 1
            };
            let mut reply = (self.behave)(&seen, nth);
            while let Reply::After(span, inner) = reply {
                gone_or(&mut stream, tokio::time::sleep(span)).await?;
                reply = *inner;
            }
            match reply {
                Reply::With { status, headers, body } => {
                    let mut head = format!("HTTP/1.1 {status} Word\r\n");
                    for (name, value) in &headers {
                        head.push_str(&format!("{name}: {value}\r\n"));
                    }
                    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
                    let mut bytes = head.into_bytes();
                    if seen.method != "HEAD" {
                        bytes.extend(body);
                    }
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
                Reply::Raw(bytes) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                    gone_or(&mut stream, std::future::pending::<()>()).await?;
                }
                Reply::Cut(bytes) => {
                    stream.write_all(&bytes).await?;
                    return stream.shutdown().await;
                }
                Reply::Stall => gone_or(&mut stream, std::future::pending::<()>()).await?,
                Reply::HangUp => return Ok(()),
                Reply::Trickle => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await?;
                    loop {
                        stream.write_all(b"x").await?;
                        stream.flush().await?;
                        gone_or(&mut stream, tokio::time::sleep(Duration::from_millis(20))).await?;
                    }
                }
                Reply::Endless => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
                    loop {
                        stream.write_all(&chunk).await?;
                    }
                }
                Reply::After(..) => unreachable!("taken apart above"),
            }
        }
        Ok(())
    }
}

/// Waits, unless the client goes away before.
async fn gone_or<S: AsyncRead + Unpin>(stream: &mut S, what: impl Future<Output = ()>) -> io::Result<()> {
    let mut byte = [0];
    tokio::select! {
        () = what => Ok(()),
        read = stream.read(&mut byte) => match read {
            Ok(0) | Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
            Ok(_) => Err(io::Error::other("a request while another waits")),
        }
    }
}

async fn request<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("no header"))?;
        let name: reqwest::header::HeaderName = name.parse().map_err(io::Error::other)?;
        headers.append(name, value.trim().parse().map_err(io::Error::other)?);
    }
    let length =
        headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer.drain(..length).collect();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Seen { method, path, headers, body, connection: 0, at: Instant::now(), client_certificates: 0 }))
}

impl Server {
    /// One that speaks plain HTTP.
    pub async fn start(behave: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1", None, behave).await
    }

    /// One that speaks TLS.
    pub async fn tls(
        config: rustls::ServerConfig,
        behave: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen("127.0.0.1", Some(TlsAcceptor::from(Arc::new(config))), behave).await
    }

    /// One on another address of this machine.
    pub async fn at(host: &str, behave: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(host, None, behave).await
    }

    async fn listen(
        host: &str,
        tls: Option<TlsAcceptor>,
        behave: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(host.parse().expect("an address"), 0)).expect("a free port");
        let listener: TcpListener = socket.listen(8192).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let known = Known::new(behave);
        let shared = known.clone();
        let accepting = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (known, tls) = (shared.clone(), tls.clone());
                serving.spawn(async move {
                    match tls {
                        None => known.serve(stream, 0).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let certificates =
                                    stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
                                known.serve(stream, certificates).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, known, accepting }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

/// Streams that never leave the runtime, so that its clock may be paused: no kernel is waited for.
pub struct InMemory(pub Arc<Known>);

#[async_trait]
impl Connect for InMemory {
    async fn connect(&self, _: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(self.0.clone().serve(theirs, 0));
        Ok(Box::new(ours))
    }
}
