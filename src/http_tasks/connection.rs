//! A connection that speaks HTTP/1.1, owned by one task at a time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::key::Key;
use super::sockets::Permit;
use super::task::HEADERS_LIMIT;

/// The head of a response may be this long. Bounds what a server can make us keep.
pub(super) const HEAD_LIMIT: usize = 64 << 10;

/// A stream of bytes to a server.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where streams come from: TCP, unless a test or an unusual network has something else.
#[async_trait]
pub trait Connect: Send + Sync {
    /// A stream to an address. Its time limit is the caller's business.
    ///
    /// # Errors
    /// Whatever keeps it from connecting.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>>;
}

/// TCP.
#[derive(Debug, Default)]
pub struct Tcp;

#[async_trait]
impl Connect for Tcp {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        // A request is one small write; waiting for more of it would only cost time.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// A request's body, as often as it is needed.
pub(super) struct Payload(Option<Bytes>);

impl Payload {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Bytes that went over a connection, so that a failure can say whether the server has seen any.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    written: AtomicU64,
    read: AtomicU64,
}

impl Traffic {
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }
}

/// A connection. Dropping it closes the socket at once, whatever is under way.
pub(super) struct Connection {
    pub(super) key: Arc<Key>,
    pub(super) sender: SendRequest<Payload>,
    pub(super) traffic: Arc<Traffic>,
    /// Whether it has served a request before.
    pub(super) used: bool,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Begins to speak over a stream. The permit stays with the driver: it ends when the socket is closed.
    pub(super) async fn begin<S: Stream + 'static>(
        key: Arc<Key>,
        stream: S,
        permit: Permit,
    ) -> hyper::Result<Self> {
        let traffic = Arc::new(Traffic::default());
        let stream = Counted { inner: stream, traffic: traffic.clone() };
        let mut http = Builder::new();
        // Old servers and boards fold headers and write blanks before the colon; curl and browsers take both.
        http.max_buf_size(HEAD_LIMIT)
            .max_headers(HEADERS_LIMIT)
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true);
        let (sender, driver) = http.handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            let _permit = permit;
            // Whoever waits for a response is told; nobody else needs to know.
            _ = driver.await;
        });
        Ok(Self { key, sender, traffic, used: false, driver: driver.abort_handle() })
    }

    /// Whether it can serve another request, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.driver.is_finished()
    }
}

struct Counted<S> {
    inner: S,
    traffic: Arc<Traffic>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.traffic.read.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S> Counted<S> {
    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.traffic.written.fetch_add(*written as u64, Relaxed);
        }
        polled
    }
}
