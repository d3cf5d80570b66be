//! How callers and workers are set up, and the times that both keep to.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::MessageQueue;
use crate::signing::Signer;

/// How often a worker shows that it lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// After so much silence a worker is lost: three heartbeats.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// Before what the broker has refused is sent again: an election takes tenths of a second, a full queue
/// longer.
pub(super) const REFUSED: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };
/// The pool, when nobody names one.
pub const POOL: &str = "default";

/// Where tasks are performed.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The broker, and as whom.
    pub message_queue: MessageQueue,
    /// Whose workers: letters, digits, `-` and `_`.
    pub pool: String,
    /// How much later than its own end a task may be told to have ended. Default 5 s.
    pub grace: Duration,
    /// Whether requests, with all they carry, may go to a broker on another machine without TLS.
    pub allow_plaintext_broker: bool,
    /// Signs tasks and cancels, for workers that require signatures. Default: nothing is signed. Workers of
    /// versions without signatures cannot read signed messages.
    pub signer: Option<Arc<Signer>>,
}

/// Why there is no remote mode.
#[derive(Debug, thiserror::Error)]
pub enum RemoteSetupError {
    /// Everybody on the way could read along.
    #[error(
        "requests may carry credentials, and the broker at {host} is reached without TLS: set `message_queue.tls`, or allow it"
    )]
    Plaintext {
        /// Where the broker is.
        host: String,
    },
    /// The name of the pool cannot be part of a queue's name.
    #[error("`{pool}` is not a pool name: expected 1 to 64 letters, digits, `-` and `_`")]
    Pool {
        /// The name.
        pool: String,
    },
    /// It is to be used from async code.
    #[error("not called from within a tokio runtime")]
    NoRuntime,
    /// A queue cannot be named so.
    #[error(transparent)]
    Broker(#[from] crate::broker::BrokerError),
}

impl RemoteConfig {
    /// The usual settings.
    pub fn new(message_queue: MessageQueue) -> Self {
        Self {
            message_queue,
            pool: POOL.to_owned(),
            grace: Duration::from_secs(5),
            allow_plaintext_broker: false,
            signer: None,
        }
    }
}

/// What both sides look at before they connect.
pub(super) fn check(queue: &MessageQueue, pool: &str, allow_plaintext: bool) -> Result<(), RemoteSetupError> {
    let is_name = (1..=64).contains(&pool.len())
        && pool.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_name {
        return Err(RemoteSetupError::Pool { pool: pool.to_owned() });
    }
    // What does not leave this machine needs no TLS.
    let here = queue.host == "localhost"
        || queue.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if queue.tls || here || allow_plaintext {
        Ok(())
    } else {
        Err(RemoteSetupError::Plaintext { host: queue.host.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(host: &str, tls: bool) -> MessageQueue {
        MessageQueue {
            host: host.to_owned(),
            port: 5672,
            username: "u".to_owned(),
            password: crate::config::Secret::new("p"),
            virtual_host: "/".to_owned(),
            exchange: "x".to_owned(),
            queue: None,
            routing_key: None,
            tls,
            tls_files: crate::config::BrokerTls::default(),
        }
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        for (host, tls, allowed, fine) in [
            ("mq.example.org", true, false, true),
            ("mq.example.org", false, false, false),
            ("mq.example.org", false, true, true),
            ("127.0.0.1", false, false, true),
            ("localhost", false, false, true),
            ("10.0.0.1", false, false, false),
        ] {
            assert_eq!(check(&queue(host, tls), POOL, allowed).is_ok(), fine, "{host} {tls} {allowed}");
        }
    }

    #[test]
    fn pools_have_names_without_dots() {
        let queue = queue("localhost", false);
        for (pool, fine) in
            [("default", true), ("a-1_B", true), ("", false), ("a.b", false), ("*", false), ("a b", false)]
        {
            assert_eq!(check(&queue, pool, false).is_ok(), fine, "{pool}");
        }
        assert!(check(&queue, &"a".repeat(65), false).is_err());
    }
}
