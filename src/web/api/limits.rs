//! How long and how much: what the interface grants its clients, and itself.

use std::time::Duration;

/// How long the interface waits for others, and how much it holds for them. The defaults are meant for
/// production; tests are less patient.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the head of a request.
    pub head_timeout: Duration,
    /// For a body, on top of what it earns by arriving.
    pub body_timeout: Duration,
    /// Bytes of all request bodies held at the same time.
    pub body_budget: usize,
    /// For one call of the store. Longer than the store's own time-outs: only a database that hangs gets
    /// here.
    pub store_timeout: Duration,
    /// How long a connection may lie idle. Longer than the pools of the usual reverse proxies, lest they
    /// reuse a closed one.
    pub keep_alive: Duration,
    /// Connections that one worker serves at the same time, as far as there are files for them; more wait in
    /// the listen queue.
    pub connections: usize,
    /// Connections that are kept open for one address between requests; more are closed after an answer each.
    pub kept_per_address: usize,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// Bytes of all long answers held at the same time.
    pub answer_budget: usize,
    /// Reads that wait for the end of a task at the same time.
    pub waits: usize,
    /// Those of them with the same token.
    pub waits_per_token: usize,
    /// Workers with the same token that wait for tasks at the same time.
    pub workers_per_token: usize,
    /// Requests for tasks of one worker that wait at the same time. It needs one; what it has given up may
    /// still be open.
    pub waits_per_worker: usize,
    /// Streams of events at the same time. Each has a connection and the text that is being sent, some 40 KB
    /// at 50,000 endpoints; those of all dashboards of a company are some hundreds.
    pub streams: usize,
    /// Those of them with the same token.
    pub streams_per_token: usize,
    /// Wrong tokens that are looked up for one address in a minute, and as many wrong invitations.
    pub wrong_tokens: u32,
    /// How long a request waits for room for its answer.
    pub room_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            body_budget: 256 * 1024 * 1024,
            store_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            connections: 8192,
            kept_per_address: 512,
            write_timeout: Duration::from_secs(30),
            answer_budget: 96 * 1024 * 1024,
            waits: 2000,
            waits_per_token: 500,
            workers_per_token: 2000,
            waits_per_worker: 4,
            streams: 2000,
            streams_per_token: 1500,
            wrong_tokens: 20,
            room_timeout: Duration::from_secs(5),
        }
    }
}
