//! What can become of a task other than a response, and what can be wrong before anything is sent.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::response::Response;

/// Where a task was when its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for a slot or a socket.
    Queue,
    /// Looking up the name of the host.
    Dns,
    /// Connecting, also through a proxy.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Writing the request.
    Send,
    /// Waiting for the head of the response.
    Headers,
    /// Reading the body of the response.
    Body,
    /// Waiting before another attempt.
    Backoff,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Queue,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Send,
        Self::Headers,
        Self::Body,
        Self::Backoff,
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    /// Its name in texts and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Send => "send",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::Backoff => "backoff",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one attempt has no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttemptFailure {
    /// The name could not be looked up.
    #[error("cannot look up `{host}`")]
    Dns {
        /// The name.
        host: String,
        /// The reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// The target may not be reached from here, see [`super::Guard`].
    #[error("`{host}` ({address}) may not be reached: {why}")]
    Refused {
        /// The host asked for.
        host: String,
        /// What it resolved to.
        address: IpAddr,
        /// What would have to change.
        why: String,
    },
    /// No connection came about.
    #[error("cannot connect to {target}")]
    Connect {
        /// Host and port.
        target: String,
        /// The reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// The proxy did not open a way to the target.
    #[error("the proxy answered {status} when asked for {target}")]
    Proxy {
        /// Host and port.
        target: String,
        /// The proxy's answer.
        status: u16,
    },
    /// The TLS handshake failed for another reason than the server's certificate.
    #[error("no TLS with {target}")]
    Tls {
        /// Host and port.
        target: String,
        /// The reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// The server's certificate does not prove that it is the target.
    #[error("the certificate of {target} is not accepted")]
    Certificate {
        /// Host and port.
        target: String,
        /// The reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// The connection broke, or what came over it was not HTTP.
    #[error("the exchange with {target} failed in phase {phase}")]
    Exchange {
        /// Host and port.
        target: String,
        /// How far it had come.
        phase: Phase,
        /// The reason.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The server has answered, and the answer is more than is taken in. Not repeated: it has done what it
    /// was asked for.
    #[error("the answer of {target} is refused: {why}")]
    Head {
        /// Host and port.
        target: String,
        /// What the limit is.
        why: String,
    },
    /// The body says that it is compressed, and is not.
    #[error("the body of {target} cannot be decompressed")]
    Inflate {
        /// Host and port.
        target: String,
        /// The reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// A part of the exchange took longer than it may, see [`super::TransportPolicy`] and `attempt_timeout`.
    #[error("{target} timed out after {limit:?} in phase {phase}")]
    Slow {
        /// Host and port.
        target: String,
        /// Which part.
        phase: Phase,
        /// How long it may take.
        limit: Duration,
    },
    /// A redirect that is not followed.
    #[error("redirect not followed: {why}")]
    Redirect {
        /// The reason.
        why: String,
    },
}

impl AttemptFailure {
    /// Whether another try could help, if the method allows one.
    pub const fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::Refused { .. }
                | Self::Certificate { .. }
                | Self::Redirect { .. }
                | Self::Inflate { .. }
                | Self::Head { .. }
        )
    }

    /// Whether time was what was lacking.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Slow { .. })
    }

    /// The kind of this name; `unknown` when there is none.
    pub fn known_kind(name: &str) -> &'static str {
        const KINDS: [&str; 12] = [
            "dns", "refused", "connect", "proxy", "tls", "certificate", "exchange", "head", "inflate",
            "slow", "redirect", "invalid",
        ];
        KINDS.into_iter().find(|kind| *kind == name).unwrap_or("unknown")
    }

    /// One word for logs and counters.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::Refused { .. } => "refused",
            Self::Connect { .. } => "connect",
            Self::Proxy { .. } => "proxy",
            Self::Tls { .. } => "tls",
            Self::Certificate { .. } => "certificate",
            Self::Exchange { .. } => "exchange",
            Self::Head { .. } => "head",
            Self::Inflate { .. } => "inflate",
            Self::Slow { .. } => "slow",
            Self::Redirect { .. } => "redirect",
        }
    }
}

/// What the last attempt ended with.
#[derive(Debug, Clone)]
pub enum Last {
    /// A response that asks for another try.
    Response(Box<Response>),
    /// None.
    Failure(AttemptFailure),
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(response) => write!(f, "status {}", response.status),
            Self::Failure(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for Last {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Response(_) => None,
            // Not the failure itself, which the text has told.
            Self::Failure(failure) => failure.source(),
        }
    }
}

/// Who ended a task before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanceledBy {
    /// [`super::CancelToken::cancel`], [`super::Batch::cancel_task`] or [`super::Batch::close`].
    Caller,
    /// The batch was dropped.
    Drop,
    /// The runtime that ran it ended.
    Runtime,
}

/// What can go wrong between a runner and workers elsewhere, see [`super::Carrier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The broker had no queue for it in all of its time.
    #[error("no queue accepts the task (is a worker of this pool connected?)")]
    Unroutable,
    /// The broker will never take it, or took it out of its queue for a reason that does not pass; or a worker
    /// cannot remember that it has performed it, and performs it not at all.
    #[error("the task was rejected")]
    Rejected,
    /// The task, or the response to it, is more than one message may be.
    #[error("the message is longer than the limit of {limit} bytes")]
    TooLarge {
        /// How long a message may be.
        limit: usize,
    },
    /// Its time was over before a worker had answered, or while the work queue was full or without a leader.
    #[error("no worker answered in time")]
    Expired,
    /// The worker that had it is gone. Whether the call was made is not known.
    #[error("the worker was lost ({deliveries} deliveries)")]
    WorkerLost {
        /// How many workers had got it.
        deliveries: u32,
    },
    /// One side does not understand the other: different versions.
    #[error("the other side cannot read the message")]
    BadFrame,
    /// The worker verifies signatures, and does not trust that of the task.
    #[error("the worker does not trust the signature of the task, as its log says")]
    Untrusted,
    /// The broker could not be reached, or did not say that it took the task.
    #[error("the broker did not accept the task in time")]
    BrokerDown,
}

/// Why a task has no response that counts.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TaskError {
    /// The task cannot be sent as it is.
    #[error("invalid {field}: {why}")]
    Invalid {
        /// Which part of it.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Its time was over.
    #[error("timed out in phase {phase}, attempt {attempts}")]
    Timeout {
        /// Where it was.
        phase: Phase,
        /// Attempts begun.
        attempts: u32,
        /// How the attempt before ended.
        #[source]
        last: Option<Last>,
    },
    /// It was canceled.
    #[error("canceled")]
    Canceled {
        /// By whom.
        by: CanceledBy,
    },
    /// The last attempt would have been followed by another if there were one left.
    #[error("failed after {attempts} {}", if *attempts == 1 { "attempt" } else { "attempts" })]
    RetriesExhausted {
        /// Attempts made.
        attempts: u32,
        /// How the last one ended.
        #[source]
        last: Last,
    },
    /// An attempt failed in a way that no other attempt would mend, or that must not be repeated.
    #[error("the attempt failed")]
    Failed(#[source] AttemptFailure),
    /// The body is longer than it may be.
    #[error("the body is longer than {limit} bytes")]
    BodyTooLarge {
        /// How long it may be.
        limit: usize,
        /// Status, headers and the beginning of the body.
        partial: Box<Response>,
    },
    /// Something between the runner and a worker elsewhere.
    #[error("a worker did not perform the task")]
    Remote(#[source] RemoteError),
    /// An observer panicked, or the engine did.
    #[error("the task panicked")]
    Panicked,
    /// The runner was shut down.
    #[error("the runner was shut down")]
    ShutDown,
}

impl TaskError {
    /// The last complete response, or the beginning of one that is too long.
    pub fn last_response(&self) -> Option<&Response> {
        match self {
            Self::Timeout { last: Some(Last::Response(response)), .. }
            | Self::RetriesExhausted { last: Last::Response(response), .. }
            | Self::BodyTooLarge { partial: response, .. } => Some(response),
            _ => None,
        }
    }

    /// Whether time was what was lacking.
    pub const fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Remote(RemoteError::Expired) => true,
            Self::Failed(failure) | Self::RetriesExhausted { last: Last::Failure(failure), .. } => {
                failure.is_timeout()
            }
            _ => false,
        }
    }

    /// Whether launching the task once more could help.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::RetriesExhausted { .. } | Self::ShutDown => true,
            Self::Failed(failure) => failure.is_retryable(),
            Self::Remote(error) => !matches!(
                error,
                RemoteError::TooLarge { .. } | RemoteError::BadFrame | RemoteError::Untrusted
            ),
            _ => false,
        }
    }

    /// Whether somebody ended it.
    pub const fn is_canceled(&self) -> bool {
        matches!(self, Self::Canceled { .. } | Self::ShutDown)
    }

    /// The whole chain of reasons in one line.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(reason) = next {
            text.push_str(&format!(": {reason}"));
            next = reason.source();
        }
        text
    }
}

/// Why nothing was launched. Tasks that are not valid are no reason: they complete with
/// [`TaskError::Invalid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The list has no task.
    #[error("the list of tasks is empty")]
    Empty,
    /// There would be more unfinished tasks than the runner was built for.
    #[error("the queue is full: {unfinished} unfinished tasks, limit {most}")]
    QueueFull {
        /// Those that have not ended, without the list.
        unfinished: usize,
        /// See [`super::RunnerBuilder::max_unfinished`].
        most: usize,
    },
    /// The runner takes no more work.
    #[error("the runner was shut down")]
    ShutDown,
}

/// Why there is no runner.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The files this process may still open do not leave a single socket.
    #[error(
        "no socket left: {open} of {limit} open files are in use (raise the limit with ulimit -n or LimitNOFILE)"
    )]
    NoSockets {
        /// The soft limit.
        limit: usize,
        /// Open now.
        open: usize,
    },
    /// A setting that makes no sense.
    #[error("{field} {why}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something of TLS.
    #[error(transparent)]
    Tls(#[from] super::TlsError),
    /// There is no runtime, and none could be started.
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
}
