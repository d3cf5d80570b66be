//! How connections are made and kept.

use std::time::Duration;

/// How connections are made and kept. One for a runner: there is one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportPolicy {
    /// Idle connections kept over all hosts. Default 100.
    pub max_idle: usize,
    /// Idle connections kept for one host. Default 2.
    pub max_idle_per_host: usize,
    /// How long an idle connection is kept; unlimited unless said. Whoever polls chooses 1.5 times interval
    /// and time-out.
    pub idle_timeout: Option<Duration>,
    /// How long the head of a response may take; unlimited unless said, except by the task's own time.
    pub response_header_timeout: Option<Duration>,
    /// How long a TLS handshake may take. Default 10 s.
    pub tls_handshake_timeout: Duration,
    /// How long connecting may take, the look-up of the name included. Default 10 s.
    pub connect_timeout: Duration,
    /// Whether a connection serves more than one request. Default true.
    pub keep_alive: bool,
    /// Redirects followed at most. Default 10; 0 delivers a redirect as the response it is.
    pub max_redirects: u32,
    /// Whether gzip is asked for and inflated, unless a task sets `Accept-Encoding` itself. Default false.
    pub gzip: bool,
}

impl Default for TransportPolicy {
    fn default() -> Self {
        Self {
            max_idle: 100,
            max_idle_per_host: 2,
            idle_timeout: None,
            response_header_timeout: None,
            tls_handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            keep_alive: true,
            max_redirects: 10,
            gzip: false,
        }
    }
}

impl TransportPolicy {
    /// For whoever asks the same hosts again every `interval`, a task each with `timeout`: connections
    /// outlive the pause.
    pub fn polling(hosts: usize, interval: Duration, timeout: Duration) -> Self {
        Self {
            max_idle: hosts.saturating_mul(4),
            max_idle_per_host: 4,
            idle_timeout: Some((interval.saturating_add(timeout)).saturating_mul(3) / 2),
            ..Self::default()
        }
    }
}
