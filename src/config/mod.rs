//! What a process is told before it starts, checked before anything else happens.
//!
//! One struct a concern. `load` reads the layers, `span` and `size` the units, `secret` keeps passwords out of every text.

mod secret;

pub use secret::Secret;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::domain::TaskType;

/// The whole configuration of a process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The task types, in the order of the file.
    pub task_types: Vec<TypePolicy>,
    /// The HTTP side.
    pub api: Api,
    /// Database and broker, under the name the original gave them.
    pub manager: Manager,
    /// The broker's management interface, for `tasker initialize -r`.
    pub rabbitmq: Management,
    /// What runs on the servers.
    pub endpoint: Endpoint,
    /// How long tasks live.
    pub tasks: Tasks,
    /// What is logged and how.
    pub log: Log,
}

impl Config {
    /// The policy of a type, if it is configured.
    pub fn policy(&self, task_type: &TaskType) -> Option<&TypePolicy> {
        self.task_types.iter().find(|policy| policy.name == *task_type)
    }
}

/// How tasks of one type are treated.
#[derive(Debug, Clone)]
pub struct TypePolicy {
    /// The type.
    pub name: TaskType,
    /// Runs of the handler at most, the first included; a handler must ask for another try. 1 to 100, default 3.
    pub attempts: u32,
    /// The wait between attempts. Default 1 s, doubling to 60 s.
    pub backoff: Backoff,
    /// How long one attempt may run. Default 1 h.
    pub time_limit: Duration,
    /// How long after its submission a task is given up; [`Tasks::expires_after`] unless said.
    pub expires_after: Duration,
    /// Tasks of this type that one endpoint runs at the same time. 1 to 1000, default 4.
    pub concurrency: u32,
    /// Whether the broker keeps fan-out copies on disk. Default false: the ledger asks again.
    pub persistent: bool,
    /// The time in which all endpoints should have received a task; [`Api::wait_for_endpoints_timeout`] unless said.
    pub wait_for_endpoints_timeout: Duration,
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub struct Api {
    /// The address to listen on. Default 127.0.0.1.
    pub host: IpAddr,
    /// The port to listen on; 0 takes a free one. Default 8888.
    pub port: u16,
    /// The time in which all endpoints should have received a task. Default 30 s.
    pub wait_for_endpoints_timeout: Duration,
    /// The longest request body in bytes. Default 1 MiB.
    pub body_limit: usize,
    /// How long a process takes at most to finish what it began when told to stop. Default 15 s.
    pub stop_timeout: Duration,
}

/// Database and broker.
#[derive(Debug, Clone)]
pub struct Manager {
    /// The ledger's database.
    pub db: Database,
    /// The broker.
    pub message_queue: MessageQueue,
}

/// The ledger's database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Whether each statement is logged (without its values).
    pub verbose: bool,
    /// `mysql://user:password@host:port/database` or `sqlite:///path/to/file`.
    pub uri: Secret,
    /// Connections at most. Default 16.
    pub max_connections: u32,
}

/// The broker.
#[derive(Debug, Clone)]
pub struct MessageQueue {
    /// Its host.
    pub host: String,
    /// Its port. Default 5672, 5671 with TLS.
    pub port: u16,
    /// Who connects.
    pub username: String,
    /// With which password.
    pub password: Secret,
    /// Where everything is declared.
    pub virtual_host: String,
    /// What all exchanges and queues of this installation begin with. 1 to 60 of `A-Z a-z 0-9 . _ -`.
    pub exchange: String,
    /// Accepted for the original's sake; queues are named after endpoint and type.
    pub queue: Option<String>,
    /// Accepted for the original's sake; a fanout exchange ignores routing keys.
    pub routing_key: Option<String>,
    /// Whether to speak TLS.
    pub tls: bool,
}

/// The broker's management interface.
#[derive(Debug, Clone)]
pub struct Management {
    /// Its base address, such as `http://localhost:15672/api`.
    pub apiurl: String,
    /// A user with the tag `administrator`.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// What runs on the servers.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where journals are kept: one directory for each endpoint and set of types.
    pub data_dir: PathBuf,
    /// Where executables named after task types are looked for; none are run when absent.
    pub handlers_dir: Option<PathBuf>,
    /// How often presence is sent until the API asks for another interval. Default 10 s.
    pub presence_interval: Duration,
    /// How long running handlers get to finish when told to stop. Default 30 s.
    pub stop_timeout: Duration,
    /// How long outcomes are remembered to answer repeats. Default 25 h, an hour over a task's default life.
    pub remember: Duration,
    /// The journal's size on disk at which no more tasks are taken. Default 256 MiB.
    pub journal_limit: u64,
    /// Environment variables that executables get besides `PATH`, `HOME`, `LANG` and the task's own.
    pub pass_env: Vec<String>,
    /// Bytes of an executable's answer at most. Default 256 KiB.
    pub output_limit: usize,
}

/// How long tasks live.
#[derive(Debug, Clone)]
pub struct Tasks {
    /// How long after its submission a task is given up. Default 24 h.
    pub expires_after: Duration,
    /// How long an ended task is kept. Default 30 d.
    pub retention: Duration,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// A filter as in `RUST_LOG`. Default `info`.
    pub filter: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// For people or for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// A line of JSON.
    Json,
}
