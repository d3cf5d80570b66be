//! One connection to RabbitMQ, for ever.
//!
//! Owns connecting, declaring what the role needs, noticing that the link is dead, tearing it down and trying
//! again. Users see a [`watch`] of the present [`Session`] and tell it when anything on it failed; they never
//! repair a connection, they wait for the next. The client library's own recovery stays off: it gives up
//! after a number of tries and says nothing, and it replays a topology that one missing queue can wedge.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::tcp::AsyncTcpStream;
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::link_error::{LinkError, Scope, is_an_end_by_the_broker, within};
use super::options::{AmqpOptions, Role};
use super::stream;
use super::topology::{self, Names, Unit};
use super::trouble;
use crate::backoff::Backoff;
use crate::config::MessageQueue;

/// For a connection to be made, the handshake included. The library has no deadline of its own: a port that
/// accepts and stays silent would hold it for ever.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For the polite end of a connection that is to be given up anyway.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// A link that held this long was a good one: the next failure starts the backoff anew.
const HEALTHY_TIME: Duration = Duration::from_secs(60);
/// How often the state of the connection is looked at, besides listening to its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest frame of an endpoint. The library keeps two buffers of 32 frames for each connection: with the
/// usual 128 KiB they would be most of the memory of an endpoint that has nothing to do. Larger bodies go in
/// several frames; headers that go to endpoints are far below. RabbitMQ 4.1 and newer want at least 8 KiB.
const ENDPOINT_FRAME: u32 = 16 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An endpoint's only one.
    All,
    /// Apart, because a broker under a memory or disk alarm stops reading from connections that publish, and
    /// with the messages the acknowledgements on them.
    Publish,
    /// Apart for the same reason.
    Consume,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Publish => "publish",
            Self::Consume => "consume",
        })
    }
}

/// The present connection, declared and ready.
pub(super) struct Session {
    connection: Connection,
    _socket: Socket,
    broken: CancellationToken,
    purpose: Purpose,
    safe_url: String,
    role: Role,
    names: Names,
    refused: Mutex<Refused>,
    /// Whether the broker user of this process may not declare anything.
    restricted: AtomicBool,
    /// Why the broker has ended the connection, if it has said so.
    last_word: Mutex<Option<String>>,
}

/// Exchanges that must not be published to, since they are not as they should be, and why.
pub(super) type Refused = BTreeMap<ShortString, String>;

impl Session {
    pub(super) async fn channel(&self) -> Result<Channel, LinkError> {
        within("opening a channel", self.connection.create_channel()).await
    }

    /// Declares once more what the role needs, after a channel has ended. The broker's word about one
    /// exchange or queue is noted, and takes nothing away from the others.
    pub(super) async fn declare(&self) -> Result<(), LinkError> {
        let refused = match &self.role {
            Role::Api { types } => {
                self.declare_each(Unit::SHARED.into_iter().chain(types.iter().map(Unit::Type)).collect())
                    .await?
            }
            Role::Endpoint => {
                let declared = self.declare_each(Unit::SHARED.to_vec()).await;
                let restricted = declared.as_ref().is_err_and(LinkError::is_denied);
                self.restricted.store(restricted, Ordering::Relaxed);
                // The API declares what a restricted endpoint needs, see `admission`.
                if restricted { Refused::new() } else { declared? }
            }
            role => {
                let channel = self.channel().await?;
                topology::declare_http_role(&channel, &self.names, role).await?;
                within("closing a channel", channel.close(200, "declared".into())).await?;
                Refused::new()
            }
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        Ok(())
    }

    async fn declare_each(&self, units: Vec<Unit<'_>>) -> Result<Refused, LinkError> {
        let channel = self.channel().await?;
        match topology::declare(&channel, &self.names, &units).await {
            Ok(()) => within("closing a channel", channel.close(200, "declared".into()))
                .await
                .map(|()| Refused::new()),
            Err(error) if error.scope() == Scope::Connection || !self.lives() => Err(error),
            Err(error) if self.role == Role::Endpoint && error.is_denied() => Err(error),
            Err(_) => {
                let mut refused = Refused::new();
                for unit in units {
                    if let Err(error) = self.declare_unit(unit).await? {
                        for exchange in unit.exchanges(&self.names)? {
                            warn!(broker = %self.safe_url, %exchange, "the broker refuses the exchange `{exchange}`: {error}");
                            refused.insert(exchange, error.to_string());
                        }
                    }
                }
                Ok(refused)
            }
        }
    }

    /// Declares one part of the topology on a channel of its own. The inner error is the broker's word about
    /// it.
    pub(super) async fn declare_unit(&self, unit: Unit<'_>) -> Result<Result<(), LinkError>, LinkError> {
        let channel = self.channel().await?;
        let declared = topology::declare(&channel, &self.names, &[unit]).await;
        if let (Err(error), Some(mailbox)) = (&declared, unit.mailbox(&self.names)?)
            && error.scope() != Scope::Connection
            && self.lives()
        {
            // Made by somebody else, with other arguments: good enough as long as messages reach it.
            for last in [false, true] {
                let channel = self.channel().await?;
                let found = match last {
                    false => topology::bind_foreign_mailbox(&channel, mailbox.clone()).await,
                    true => topology::find_exchange(&channel, mailbox.clone()).await,
                };
                if found.is_ok() {
                    warn!(broker = %self.safe_url, "using the queue `{mailbox}` as it is, other than it should be: {error}");
                    within("closing a channel", channel.close(200, "declared".into())).await?;
                    return Ok(Ok(()));
                }
            }
        }
        match declared {
            Ok(()) => within("closing a channel", channel.close(200, "declared".into())).await.map(Ok),
            Err(error) if error.scope() == Scope::Connection || !self.lives() => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Exchanges that must not be published to.
    pub(super) fn refused(&self) -> Refused {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the broker user of this process may not declare anything.
    pub(super) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// Whether the broker takes no messages now because its memory or disk runs short.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Bytes of one frame at most; the headers of a message must fit into one.
    pub(super) fn frame_max(&self) -> usize {
        usize::try_from(self.connection.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    /// Gives the connection up: everything on it is torn down and made again.
    pub(super) fn fail(&self, error: &dyn fmt::Display) {
        if !self.broken.is_cancelled() {
            warn!(broker = %self.safe_url, purpose = %self.purpose, "lost the link to the broker: {error}");
            self.broken.cancel();
        }
    }

    /// Why the broker has ended the connection, if it has said so.
    pub(super) fn last_word(&self) -> Option<String> {
        self.last_word.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the connection lives, as far as this side knows.
    pub(super) fn lives(&self) -> bool {
        !self.broken.is_cancelled() && self.connection.status().connected()
    }

    pub(super) async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Waits until the connection is dead, as far as the library knows.
    async fn died(&self) {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut look = interval(LOOK_EVERY);
        loop {
            let seen = tokio::select! {
                event = events.next() => match event {
                    Some(Event::Error(error)) => {
                        if is_an_end_by_the_broker(&error) {
                            *self.last_word.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                        }
                        error.to_string()
                    }
                    Some(Event::ConnectionBlocked(reason)) => {
                        warn!(broker = %self.safe_url, "the broker takes no messages: {reason}");
                        continue;
                    }
                    Some(Event::ConnectionUnblocked) => {
                        info!(broker = %self.safe_url, "the broker takes messages again");
                        continue;
                    }
                    Some(_) => continue,
                    None => "the connection ended".to_owned(),
                },
                _ = look.tick() => "the connection ended".to_owned(),
            };
            // An event may be about one channel; those who use that channel see to it.
            if !self.connection.status().connected() {
                self.fail(&seen);
                return;
            }
        }
    }

    /// Says goodbye where there is somebody to say it to.
    pub(super) async fn end(&self) {
        if !self.connection.status().connected() {
            return;
        }
        let failed = match timeout(CLOSE_TIME, self.connection.close(200, "closing".into())).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        info!(broker = %self.safe_url, purpose = %self.purpose, "left the broker without a goodbye: {failed}");
    }
}

/// A second hold on a connection's socket, which is shut when this is dropped. The library's thread for a
/// connection, even one that is only being made, leaves when its socket does; without this a port that
/// accepts and stays silent would collect a thread and a socket with each attempt.
struct Socket(Slot);

/// Where the thread that connects leaves the hold.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Held>>);

#[derive(Default)]
enum Held {
    #[default]
    NotYet,
    Open(TcpStream),
    GivenUp,
}

impl Slot {
    fn replace(&self, held: Held) -> Held {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), held)
    }

    fn keep(&self, socket: TcpStream) -> io::Result<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*held, Held::GivenUp) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        *held = Held::Open(socket);
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Held::Open(socket) = self.0.replace(Held::GivenUp) {
            // An error means that the other side was faster.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The present session, if there is one.
pub(super) type Sessions = watch::Receiver<Option<Arc<Session>>>;

/// Waits for a session that is not broken.
pub(super) async fn next_session(sessions: &mut Sessions) -> Option<Arc<Session>> {
    loop {
        let present = sessions.borrow_and_update().clone();
        if let Some(session) = present.filter(|session| !session.broken.is_cancelled()) {
            return Some(session);
        }
        sessions.changed().await.ok()?;
    }
}

/// Keeps a connection until told to stop.
pub(super) async fn supervise(
    options: Arc<AmqpOptions>,
    purpose: Purpose,
    sessions: watch::Sender<Option<Arc<Session>>>,
    stop: CancellationToken,
) {
    let mut failures = 0;
    loop {
        let established = tokio::select! {
            established = establish(&options, purpose) => established,
            () = stop.cancelled() => return,
        };
        match established {
            Ok(session) => {
                info!(broker = %session.safe_url, %purpose, "connected to the broker");
                let session = Arc::new(session);
                sessions.send_replace(Some(Arc::clone(&session)));
                let since = Instant::now();
                tokio::select! {
                    () = session.broken() => {}
                    () = session.died() => {}
                    () = stop.cancelled() => {}
                }
                sessions.send_replace(None);
                session.broken.cancel();
                session.end().await;
                if since.elapsed() >= HEALTHY_TIME {
                    failures = 0;
                }
            }
            Err(error) => {
                let reason = tokio::select! {
                    reason = trouble::explain(&error, &options) => reason,
                    () = stop.cancelled() => return,
                };
                warn!(broker = %options.safe_url(), %purpose, "cannot connect to the broker: {reason}");
            }
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(Backoff::CONNECTION.jittered(failures)) => {}
            () = stop.cancelled() => return,
        }
    }
}

pub(super) async fn establish(options: &AmqpOptions, purpose: Purpose) -> Result<Session, LinkError> {
    let (connection, _socket) = connect(options, purpose).await?;
    let session = Session {
        connection,
        _socket,
        broken: CancellationToken::new(),
        purpose,
        safe_url: options.safe_url(),
        role: options.role.clone(),
        names: Names::new(&options.message_queue.exchange),
        refused: Mutex::default(),
        restricted: AtomicBool::default(),
        last_word: Mutex::default(),
    };
    match session.declare().await {
        Ok(()) => Ok(session),
        Err(error) => {
            session.end().await;
            Err(error)
        }
    }
}

/// Connects and leaves again, without declaring anything.
///
/// # Errors
/// Why that is not possible, and what to do about it.
pub async fn try_connection(message_queue: &MessageQueue) -> Result<(), String> {
    let options = AmqpOptions::new(message_queue.clone(), Role::Endpoint);
    match connect(&options, Purpose::All).await {
        Ok((connection, _socket)) => {
            // It is there, however it says goodbye.
            _ = timeout(CLOSE_TIME, connection.close(200, "checked".into())).await;
            Ok(())
        }
        Err(error) => Err(format!(
            "cannot connect to the broker at {}: {}",
            options.safe_url(),
            trouble::explain(&error, &options).await
        )),
    }
}

/// Connects within the time limit.
async fn connect(options: &AmqpOptions, purpose: Purpose) -> Result<(Connection, Socket), LinkError> {
    const WHAT: &str = "connecting";
    let failed = |source| LinkError::Amqp { what: WHAT, source };
    let name = format!("{} ({purpose})", options.name);
    // No `enable_auto_recover`: see the head of this file.
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let files = options.message_queue.tls.then(|| options.message_queue.tls_files.clone());
    let slot = Slot::default();
    let socket = Socket(slot.clone());
    let opened = Connection::connector(
        address(options),
        stream::runtime(),
        async move |uri: AMQPUri, _| {
            let AMQPAuthority { host, port, .. } = &uri.authority;
            // Read again for each connection, because certificates are renewed.
            let tls = match &files {
                None => None,
                Some(files) => Some(stream::tls(files.clone()).await?),
            };
            let tcp = stream::dial(host, *port).await?;
            slot.keep(tcp.as_fd().try_clone_to_owned()?.into())?;
            Ok(AsyncTcpStream::Plain(stream::over(tcp, host, tls).await?))
        },
        properties,
    );
    match timeout(CONNECT_TIME, opened).await {
        Ok(Ok(connection)) => Ok((connection, socket)),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(LinkError::Silent { what: WHAT, limit: CONNECT_TIME }),
    }
}

/// Never to be logged: its Debug output shows the password.
fn address(options: &AmqpOptions) -> AMQPUri {
    let config = &options.message_queue;
    AMQPUri {
        scheme: if config.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: config.username.clone(),
                password: config.password.reveal().to_owned(),
            },
            host: config.host.clone(),
            port: config.port,
        },
        vhost: config.virtual_host.clone(),
        query: AMQPQueryString {
            frame_max: match options.role {
                Role::Endpoint => Some(ENDPOINT_FRAME),
                Role::Api { .. } | Role::HttpCaller { .. } | Role::HttpWorker { .. } => None,
            },
            auth_mechanism: config.is_external().then_some(SASLMechanism::External),
            heartbeat: Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1)),
            ..AMQPQueryString::default()
        },
    }
}
