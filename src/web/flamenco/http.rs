//! The listener of the manager.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers;
use super::reply::{Reply, Request};
use super::route::{Call, WorkerCall};
use super::site::Site;
use crate::request_body::{self, BodyError, Rules};

/// For the head of a request.
const HEAD: Duration = Duration::from_secs(15);
/// For a body, on top of what it earns by arriving.
const BODY: Duration = Duration::from_secs(15);
/// For a body, whatever it earns: it may bring a long log.
const WHOLE: Duration = Duration::from_secs(600);
/// Bytes of all bodies held at the same time.
const BODIES: usize = 128 << 20;
/// Requests under way may take so long once the manager stops.
const STOP: u64 = 5;

/// Serves until told to stop. In a box, so that all answers are compiled once, here, and not again by whoever
/// awaits it.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(
    site: Arc<Site>,
    listener: TcpListener,
    tls: Option<ServerConfig>,
    stop: CancellationToken,
) -> BoxFuture<'static, io::Result<()>> {
    serving(site, listener, tls, stop).boxed()
}

async fn serving(
    site: Arc<Site>,
    listener: TcpListener,
    tls: Option<ServerConfig>,
    stop: CancellationToken,
) -> io::Result<()> {
    let desk = Desk { site, runtime: Handle::current(), bodies: Arc::new(Semaphore::new(BODIES)) };
    let app = move || {
        let desk = desk.clone();
        App::new().default_service(web::to(move |request, payload| desk.clone().answer(request, payload)))
    };
    let server = HttpServer::new(app)
        .workers(std::thread::available_parallelism().map_or(2, usize::from))
        .client_request_timeout(HEAD)
        .keep_alive(Duration::from_secs(75))
        .shutdown_timeout(STOP)
        .disable_signals();
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    let server = server.run();
    let handle = server.handle();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => ended,
        () = async {
            stop.cancelled().await;
            handle.stop(true).await;
        } => server.await,
    }
}

/// What the listener hands requests to.
#[derive(Debug, Clone)]
struct Desk {
    site: Arc<Site>,
    /// Where the database is called: connections that are made in a thread of the server would end with it.
    runtime: Handle,
    /// One permit for each byte that all bodies together may hold.
    bodies: Arc<Semaphore>,
}

impl Desk {
    async fn answer(self, request: HttpRequest, mut payload: web::Payload) -> HttpResponse {
        response(self.reply(&request, &mut payload).await.unwrap_or_else(|refused| refused))
    }

    async fn reply(&self, request: &HttpRequest, payload: &mut web::Payload) -> Result<Reply, Reply> {
        let admitted = self.to_its_end(answers::admit(self.site.clone(), head(request))).await??;
        let call = admitted.call;
        let rules = Rules { longest: call.longest_body(), timeout: BODY, budget: &self.bodies };
        let read = timeout(WHOLE, request_body::read(request.headers(), payload, rules)).await;
        let body = match read.unwrap_or(Err(BodyError::Late)) {
            Ok(body) => body,
            Err(error) => {
                if let (Call::Worker(WorkerCall::Update(_)), BodyError::TooLong { .. }) = (call, &error) {
                    drain(payload).await;
                }
                return Err(answers::without_body(call, &error));
            }
        };
        self.to_its_end(answers::answer(self.site.clone(), admitted, body)).await
    }

    /// Does something to its end, whether or not the worker waits for it.
    async fn to_its_end<T: Send + 'static>(
        &self,
        done: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Reply> {
        self.runtime
            .spawn(done)
            .await
            .map_err(|_| Reply::text(500, "the manager has a defect; its log says more"))
    }
}

fn head(request: &HttpRequest) -> Request {
    let header = |name: HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let peer = request.peer_addr();
    Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        authorization: header(header::AUTHORIZATION),
        user_agent: header(header::USER_AGENT).unwrap_or_default(),
        content_type: header(header::CONTENT_TYPE).unwrap_or_default(),
        origin: header(header::ORIGIN),
        host: header(header::HOST).unwrap_or_default(),
        peer: peer.map(|peer| peer.ip()),
        peer_port: peer.map_or(0, |peer| peer.port()),
    }
}

/// Takes the rest of a body and keeps nothing of it: a worker reads no answer while it sends.
async fn drain(payload: &mut web::Payload) {
    _ = timeout(WHOLE, async { while let Some(Ok(_)) = payload.next().await {} }).await;
}

fn response(reply: Reply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in reply.headers {
        response.insert_header((name, value));
    }
    response.body(reply.body)
}
