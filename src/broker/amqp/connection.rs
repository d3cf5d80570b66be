//! One connection to RabbitMQ, for ever.
//!
//! Owns connecting, declaring what the role needs, noticing that the link is dead, tearing it down and trying again. Users
//! see a [`watch`] of the present [`Session`] and tell it when anything on it failed; they never repair a connection, they
//! wait for the next. The client library's own recovery stays off: it gives up after a number of tries and says nothing,
//! and it replays a topology that one missing queue can wedge.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::topology::{self, Names, Unit};
use super::{AmqpOptions, Role, trouble};
use crate::backoff::Backoff;
use crate::config::MessageQueue;

/// For a connection to be made, the handshake included. The library has no deadline of its own: a port that accepts and
/// stays silent would hold it for ever.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For one answer of the broker.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);
/// For the polite end of a connection that is to be given up anyway.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// A link that held this long was a good one: the next failure starts the backoff anew.
const HEALTHY_TIME: Duration = Duration::from_secs(60);
/// How often the state of the connection is looked at, besides listening to its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest frame of an endpoint. The library keeps two buffers of 32 frames for each connection: with the usual 128 KiB
/// they would be most of the memory of an endpoint that has nothing to do. Larger bodies go in several frames; headers that
/// go to endpoints are far below. RabbitMQ 4.1 and newer want at least 8 KiB.
const ENDPOINT_FRAME: u32 = 16 * 1024;

/// Why something on a link failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{what} timed out after {} s", limit.as_secs())]
    Silent { what: &'static str, limit: Duration },
    #[error("{what}: {source}")]
    Amqp { what: &'static str, source: lapin::Error },
    #[error("`{name}` is too long for an AMQP name (255 bytes at most)")]
    Name { name: String },
    #[error("the broker cancelled a consumer: its queue was deleted, or its node is down")]
    ConsumerEnded,
    #[error("the queue does not exist, or its node is down")]
    Returned,
    #[error("{0}")]
    Ended(&'static str),
}

/// How much ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Only what was asked for; nothing was sent.
    Request,
    /// The channel. Others on the same connection go on.
    Channel,
    /// The connection.
    Connection,
}

impl LinkError {
    /// How much ends with this.
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Name { .. } => Scope::Request,
            Self::ConsumerEnded | Self::Returned => Scope::Channel,
            Self::Silent { .. } | Self::Ended(_) => Scope::Connection,
            Self::Amqp { source, .. } => match source.kind() {
                ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)) => Scope::Channel,
                // The library's own word when something is sent on a channel that the broker has just closed.
                ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_) => Scope::Channel,
                _ => Scope::Connection,
            },
        }
    }

    /// Whether this is the broker's own word about what was asked for, and not about the connection.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Name { .. } => true,
            Self::Amqp { source, .. } => source.is_amqp_soft_error(),
            Self::ConsumerEnded | Self::Returned | Self::Silent { .. } | Self::Ended(_) => false,
        }
    }

    /// Whether a defect of one queue can be behind this although it costs the connection: the broker ended that with an error of its own (from
    /// 500 on; less is said of the connection as such), or did not answer.
    pub(super) fn may_be_for_one_queue(&self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Amqp { source, .. } => is_an_end_by_the_broker(source),
            Self::Name { .. } | Self::ConsumerEnded | Self::Returned | Self::Ended(_) => false,
        }
    }

    /// The exchange that the broker would not let us publish to.
    pub(super) fn refused_exchange(&self) -> Option<&str> {
        let refused = AMQPSoftError::ACCESSREFUSED.get_id();
        match self {
            Self::Amqp { source, .. } => match source.kind() {
                ErrorKind::ProtocolError(error) if error.get_id() == refused => {
                    error.get_message().as_str().split_once("exchange '")?.1.split_once('\'').map(|(name, _)| name)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether somebody else consumes the queue. The broker uses the same number for a missing permission, so the text decides.
    pub(super) fn is_held(&self) -> bool {
        let (refused, locked) = (AMQPSoftError::ACCESSREFUSED.get_id(), AMQPSoftError::RESOURCELOCKED.get_id());
        matches!(self, Self::Amqp { source, .. } if matches!(source.kind(), ErrorKind::ProtocolError(error)
            if error.get_id() == locked || error.get_id() == refused && error.get_message().as_str().contains("exclusive use")))
    }
}

fn is_an_end_by_the_broker(error: &lapin::Error) -> bool {
    const FIRST: u16 = 500;
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Hard(_)) && error.get_id() >= FIRST)
}

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn within<T>(what: &'static str, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, LinkError> {
    match timeout(ANSWER_TIME, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(LinkError::Amqp { what, source }),
        Err(_) => Err(LinkError::Silent { what, limit: ANSWER_TIME }),
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An endpoint's only one.
    All,
    /// Apart, because a broker under a memory or disk alarm stops reading from connections that publish, and with the
    /// messages the acknowledgements on them.
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
    /// Why the broker has ended the connection, if it has said so.
    last_word: Mutex<Option<String>>,
}

/// Exchanges that must not be published to, since they are not as they should be, and why.
pub(super) type Refused = BTreeMap<ShortString, String>;

impl Session {
    pub(super) async fn channel(&self) -> Result<Channel, LinkError> {
        within("opening a channel", self.connection.create_channel()).await
    }

    /// Declares once more what the role needs, after a channel has ended. The broker's word about one exchange or queue is noted, and
    /// takes nothing away from the others.
    pub(super) async fn declare(&self) -> Result<(), LinkError> {
        let refused = match &self.role {
            Role::Api { types } => self.declare_each(Unit::SHARED.into_iter().chain(types.iter().map(Unit::Type)).collect()).await?,
            Role::Endpoint => self.declare_each(Unit::SHARED.to_vec()).await?,
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
            Ok(()) => within("closing a channel", channel.close(200, "declared".into())).await.map(|()| Refused::new()),
            Err(error) if error.scope() == Scope::Connection || !self.lives() => Err(error),
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

    /// Declares one part of the topology on a channel of its own. The inner error is the broker's word about it.
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

/// A second hold on a connection's socket, which is shut when this is dropped. The library's thread for a connection, even
/// one that is only being made, leaves when its socket does; without this a port that accepts and stays silent would
/// collect a thread and a socket with each attempt.
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
        Err(error) => Err(format!("cannot connect to the broker at {}: {}", options.safe_url(), trouble::explain(&error, &options).await)),
    }
}

/// Connects within the time limit.
async fn connect(options: &AmqpOptions, purpose: Purpose) -> Result<(Connection, Socket), LinkError> {
    const WHAT: &str = "connecting";
    let failed = |source| LinkError::Amqp { what: WHAT, source };
    let name = format!("{} ({purpose})", options.name);
    // No `enable_auto_recover`: see the head of this file.
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let slot = Slot::default();
    let socket = Socket(slot.clone());
    let opened = Connection::connector(
        address(options),
        lapin::runtime::default_runtime().map_err(failed)?,
        async move |uri: AMQPUri, runtime| {
            // Resolved at each attempt: the name may point elsewhere by now.
            let host = uri.authority.host.as_str();
            let addresses: Vec<_> = tokio::net::lookup_host((host, uri.authority.port)).await?.collect();
            let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                slot.keep(plain.get_ref().as_fd().try_clone_to_owned()?.into())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => Ok(stream.into_tls(host, OwnedTLSConfig::default().as_ref()).await?),
            }
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
            userinfo: AMQPUserInfo { username: config.username.clone(), password: config.password.reveal().to_owned() },
            host: config.host.clone(),
            port: config.port,
        },
        vhost: config.virtual_host.clone(),
        query: AMQPQueryString {
            frame_max: match options.role {
                Role::Endpoint => Some(ENDPOINT_FRAME),
                Role::Api { .. } | Role::HttpCaller { .. } | Role::HttpWorker { .. } => None,
            },
            heartbeat: Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1)),
            ..AMQPQueryString::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError};
    use lapin::{ChannelState, ConnectionState};

    use super::*;

    fn amqp(kind: impl Into<AMQPErrorKind>, message: &str) -> LinkError {
        LinkError::Amqp { what: "declaring", source: ErrorKind::ProtocolError(AMQPError::new(kind.into(), message.into())).into() }
    }

    fn library(kind: ErrorKind) -> LinkError {
        LinkError::Amqp { what: "binding", source: kind.into() }
    }

    #[test]
    fn says_how_much_an_error_ends() {
        use {AMQPHardError as H, AMQPSoftError as S};
        let in_use = "ACCESS_REFUSED - queue 'ex.worker.a' in vhost '/' in exclusive use";
        let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'ex.worker.a' in vhost '/'";
        let not_allowed = "ACCESS_REFUSED - access to queue 'ex.worker.a' in vhost '/' refused for user 'u'";
        // The error, what it ends, whether it is the broker's word about the request, whether another process has the queue.
        let table = [
            (amqp(S::ACCESSREFUSED, in_use), Scope::Channel, true, true),
            (amqp(S::RESOURCELOCKED, locked), Scope::Channel, true, true),
            (amqp(S::ACCESSREFUSED, not_allowed), Scope::Channel, true, false),
            (amqp(S::NOTFOUND, "NOT_FOUND - home node is down"), Scope::Channel, true, false),
            (amqp(S::PRECONDITIONFAILED, "inequivalent arg 'x-expires'"), Scope::Channel, true, false),
            (amqp(S::CONTENTTOOLARGE, ""), Scope::Channel, true, false),
            (amqp(S::NOCONSUMERS, ""), Scope::Channel, true, false),
            (amqp(H::CONNECTIONFORCED, ""), Scope::Connection, false, false),
            (amqp(H::INVALIDPATH, ""), Scope::Connection, false, false),
            (amqp(H::FRAMEERROR, ""), Scope::Connection, false, false),
            (amqp(H::SYNTAXERROR, ""), Scope::Connection, false, false),
            (amqp(H::COMMANDINVALID, ""), Scope::Connection, false, false),
            (amqp(H::CHANNELERROR, ""), Scope::Connection, false, false),
            (amqp(H::UNEXPECTEDFRAME, ""), Scope::Connection, false, false),
            (amqp(H::RESOURCEERROR, ""), Scope::Connection, false, false),
            (amqp(H::NOTALLOWED, ""), Scope::Connection, false, false),
            (amqp(H::NOTIMPLEMENTED, ""), Scope::Connection, false, false),
            (amqp(H::INTERNALERROR, ""), Scope::Connection, false, false),
            (library(ErrorKind::InvalidChannelState(ChannelState::Closing, "queue.bind")), Scope::Channel, false, false),
            (library(ErrorKind::InvalidChannelState(ChannelState::Error, "basic.consume")), Scope::Channel, false, false),
            (library(ErrorKind::InvalidChannel(7)), Scope::Channel, false, false),
            (library(ErrorKind::InvalidConnectionState(ConnectionState::Closed)), Scope::Connection, false, false),
            (library(ErrorKind::MissingHeartbeatError), Scope::Connection, false, false),
            (library(ErrorKind::IOError(Arc::new(io::ErrorKind::BrokenPipe.into()))), Scope::Connection, false, false),
            (LinkError::Silent { what: "binding", limit: ANSWER_TIME }, Scope::Connection, false, false),
            (LinkError::Name { name: "x".repeat(300) }, Scope::Request, true, false),
            (LinkError::ConsumerEnded, Scope::Channel, false, false),
            (LinkError::Returned, Scope::Channel, false, false),
            (LinkError::Ended("the connection ended"), Scope::Connection, false, false),
        ];
        for (error, scope, refusal, held) in table {
            assert_eq!((error.scope(), error.is_refusal(), error.is_held()), (scope, refusal, held), "{error:?}");
        }
        for (error, blames) in [
            (amqp(H::INTERNALERROR, ""), true),
            (amqp(H::NOTALLOWED, ""), true),
            (amqp(H::CONNECTIONFORCED, ""), false),
            (amqp(S::NOTFOUND, ""), false),
            (LinkError::Silent { what: "declaring", limit: ANSWER_TIME }, true),
            (library(ErrorKind::MissingHeartbeatError), false),
            (LinkError::Ended("the connection ended"), false),
        ] {
            assert_eq!(error.may_be_for_one_queue(), blames, "{error:?}");
        }
        let write = "ACCESS_REFUSED - access to exchange 'ex.worker' in vhost '/' refused for user 'u'";
        assert_eq!(amqp(S::ACCESSREFUSED, write).refused_exchange(), Some("ex.worker"));
        assert_eq!(amqp(S::ACCESSREFUSED, in_use).refused_exchange(), None);
        assert_eq!(amqp(S::NOTFOUND, "NOT_FOUND - no exchange 'ex.worker' in vhost '/'").refused_exchange(), None);
    }
}
