//! How to connect, and as what.

use std::time::Duration;

use uuid::Uuid;

use crate::config::MessageQueue;
use crate::domain::TaskType;

/// How often a side that has nothing to say shows that it lives. Twice this in silence ends the connection:
/// early enough to notice a dead link within the time a person waits, late enough not to take a busy machine
/// for one.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Who connects, which decides what is declared and over how many connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An API process: publishes tasks, consumes responses and presence, over a connection each.
    Api {
        /// The configured types; their exchanges are declared before anybody publishes.
        types: Vec<TaskType>,
    },
    /// An endpoint process: one connection, because there are thousands of them.
    Endpoint,
    /// A process whose HTTP tasks are performed by workers, see [`Post`](super::Post).
    HttpCaller {
        /// Whose workers.
        pool: String,
        /// Its name.
        caller: Uuid,
    },
    /// A process that performs HTTP tasks of others, see [`Post`](super::Post).
    HttpWorker {
        /// Which tasks.
        pool: String,
    },
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// Where to, and as whom.
    pub message_queue: MessageQueue,
    /// As what.
    pub role: Role,
    /// What the broker's own tools show for this connection.
    pub name: String,
    /// See `HEARTBEAT`; in seconds on the wire, and the broker may ask for less.
    pub heartbeat: Duration,
}

impl AmqpOptions {
    /// The usual options.
    pub fn new(message_queue: MessageQueue, role: Role) -> Self {
        let name = match role {
            Role::Api { .. } => "tasker api",
            Role::Endpoint => "tasker endpoint",
            Role::HttpCaller { .. } => "tasker http",
            Role::HttpWorker { .. } => "tasker http-worker",
        };
        Self { message_queue, role, name: name.to_owned(), heartbeat: HEARTBEAT }
    }

    /// The address without password, for logs and errors.
    pub fn safe_url(&self) -> String {
        let MessageQueue { host, port, username, virtual_host, tls, .. } = &self.message_queue;
        let scheme = if *tls { "amqps" } else { "amqp" };
        format!("{scheme}://{username}@{host}:{port}/{}", virtual_host.replace('/', "%2F"))
    }
}
