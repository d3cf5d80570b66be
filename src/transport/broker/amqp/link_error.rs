//! What can go wrong on a link, and how much ends with it.

use std::future::Future;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use tokio::time::timeout;

/// For one answer of the broker.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Why something on a link failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{what} timed out after {} s", limit.as_secs())]
    Silent { what: &'static str, limit: Duration },
    #[error("{what}: {source}")]
    Amqp { what: &'static str, source: lapin::Error },
    #[error("`{name}` is too long for an AMQP name (255 bytes at most)")]
    Name { name: String },
    #[error("the broker canceled a consumer: its queue was deleted, or its node is down")]
    ConsumerEnded,
    #[error("the queue does not exist, or its node is down")]
    Returned,
    #[error("another process consumes the queue")]
    Held,
    #[error("{0}")]
    Ended(&'static str),
}

/// How much ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Only the request, which was never sent.
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
            Self::ConsumerEnded | Self::Returned | Self::Held => Scope::Channel,
            Self::Silent { .. } | Self::Ended(_) => Scope::Connection,
            Self::Amqp { source, .. } => match source.kind() {
                ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)) => {
                    Scope::Channel
                }
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
            Self::ConsumerEnded | Self::Returned | Self::Held | Self::Silent { .. } | Self::Ended(_) => false,
        }
    }

    /// Whether a defect of one queue can be behind this although it costs the connection: the broker ended
    /// that with an error of its own (from 500 on; less is said of the connection as such), or did not
    /// answer.
    pub(super) fn may_be_for_one_queue(&self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Amqp { source, .. } => is_an_end_by_the_broker(source),
            Self::Name { .. } | Self::ConsumerEnded | Self::Returned | Self::Held | Self::Ended(_) => false,
        }
    }

    /// The broker's text of a 403: a missing permission, or a queue that another process consumes.
    fn access_refused(&self) -> Option<&str> {
        let Self::Amqp { source, .. } = self else { return None };
        match source.kind() {
            ErrorKind::ProtocolError(error) if error.get_id() == AMQPSoftError::ACCESSREFUSED.get_id() => {
                Some(error.get_message().as_str())
            }
            _ => None,
        }
    }

    /// The exchange that the broker would not let us publish to.
    pub(super) fn refused_exchange(&self) -> Option<&str> {
        self.access_refused()?.split_once("exchange '")?.1.split_once('\'').map(|(name, _)| name)
    }

    /// Whether the broker user lacks a permission.
    pub(super) fn is_denied(&self) -> bool {
        self.access_refused().is_some_and(|message| message.contains("refused for user"))
    }

    /// Whether somebody else consumes the queue. The broker uses the same number for a missing permission, so
    /// the text decides.
    pub(super) fn is_held(&self) -> bool {
        let locked = AMQPSoftError::RESOURCELOCKED.get_id();
        matches!(self, Self::Held)
            || self.access_refused().is_some_and(|message| message.contains("exclusive use"))
            || matches!(self, Self::Amqp { source, .. }
                if matches!(source.kind(), ErrorKind::ProtocolError(error) if error.get_id() == locked))
    }
}

/// Whether the broker ended the connection with an error of its own.
pub(super) fn is_an_end_by_the_broker(error: &lapin::Error) -> bool {
    const FIRST: u16 = 500;
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Hard(_)) && error.get_id() >= FIRST)
}

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn within<T>(
    what: &'static str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match timeout(ANSWER_TIME, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(LinkError::Amqp { what, source }),
        Err(_) => Err(LinkError::Silent { what, limit: ANSWER_TIME }),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use lapin::protocol::{AMQPError, AMQPHardError};
    use lapin::{ChannelState, ConnectionState};

    use super::*;

    fn amqp(kind: impl Into<AMQPErrorKind>, message: &str) -> LinkError {
        LinkError::Amqp {
            what: "declaring",
            source: ErrorKind::ProtocolError(AMQPError::new(kind.into(), message.into())).into(),
        }
    }

    fn library(kind: ErrorKind) -> LinkError {
        LinkError::Amqp { what: "binding", source: kind.into() }
    }

    #[test]
    fn says_how_much_an_error_ends() {
        use {AMQPHardError as H, AMQPSoftError as S};
        let in_use = "ACCESS_REFUSED - queue 'ex.worker.a' in vhost '/' in exclusive use";
        let locked =
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'ex.worker.a' in vhost '/'";
        let not_allowed = "ACCESS_REFUSED - access to queue 'ex.worker.a' in vhost '/' refused for user 'u'";
        // The error, what it ends, whether it is the broker's word about the request, whether another process
        // has the queue.
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
            (
                library(ErrorKind::InvalidChannelState(ChannelState::Closing, "queue.bind")),
                Scope::Channel,
                false,
                false,
            ),
            (
                library(ErrorKind::InvalidChannelState(ChannelState::Error, "basic.consume")),
                Scope::Channel,
                false,
                false,
            ),
            (library(ErrorKind::InvalidChannel(7)), Scope::Channel, false, false),
            (
                library(ErrorKind::InvalidConnectionState(ConnectionState::Closed)),
                Scope::Connection,
                false,
                false,
            ),
            (library(ErrorKind::MissingHeartbeatError), Scope::Connection, false, false),
            (
                library(ErrorKind::IOError(Arc::new(io::ErrorKind::BrokenPipe.into()))),
                Scope::Connection,
                false,
                false,
            ),
            (LinkError::Silent { what: "binding", limit: ANSWER_TIME }, Scope::Connection, false, false),
            (LinkError::Name { name: "x".repeat(300) }, Scope::Request, true, false),
            (LinkError::ConsumerEnded, Scope::Channel, false, false),
            (LinkError::Returned, Scope::Channel, false, false),
            (LinkError::Held, Scope::Channel, false, true),
            (LinkError::Ended("the connection ended"), Scope::Connection, false, false),
        ];
        for (error, scope, refusal, held) in table {
            assert_eq!(
                (error.scope(), error.is_refusal(), error.is_held()),
                (scope, refusal, held),
                "{error:?}"
            );
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
        let denied = [write, in_use, not_allowed].map(|message| amqp(S::ACCESSREFUSED, message).is_denied());
        assert_eq!(denied, [true, false, true]);
        assert_eq!(
            amqp(S::NOTFOUND, "NOT_FOUND - no exchange 'ex.worker' in vhost '/'").refused_exchange(),
            None
        );
    }
}
