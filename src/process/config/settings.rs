//! What a process is told: one struct a concern.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{ConfigError, Problem};
use super::queue::QueuePolicy;
use super::reader::Entry;
use super::request::Requests;
use super::schedule::Schedule;
use super::secret::Secret;
use crate::backoff::Backoff;
use crate::domain::{EnvironmentName, Expect, Ignored, IgnoredByType, Labels, TaskType};
use crate::http_tasks::Allowed;

/// Clocks, queues and repeats may make a task outlive its span a little; an outcome must be remembered longer
/// still.
pub(super) const MARGIN: Duration = Duration::from_secs(3600);

/// The whole configuration of a process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The task types, in the order of the file.
    pub task_types: Vec<TypePolicy>,
    /// Tasks that are submitted at times.
    pub schedules: Vec<Schedule>,
    /// Steps of jobs.
    pub requests: Requests,
    /// The HTTP side.
    pub api: Api,
    /// Database and broker, under the name the original gave them.
    pub manager: Manager,
    /// The database of a render farm that is not in the ledger's.
    pub flamenco: Part<Database>,
    /// Whether passwords and tasks may cross the network unprotected.
    pub insecure_transport: bool,
    /// The broker's management interface, for `tasker initialize -r`.
    pub rabbitmq: Part<Management>,
    /// What runs on the servers.
    pub endpoint: Endpoint,
    /// What performs HTTP tasks of others.
    pub http_worker: HttpWorker,
    /// How long tasks live.
    pub tasks: Tasks,
    /// Who is believed.
    pub security: Security,
    /// What is logged and how.
    pub log: Log,
    /// SHA-256 of what `tasker config show` prints, in which secrets are `***`: of a secret that is short, a
    /// hash would let others guess it.
    pub sha256: String,
}

/// A configuration with what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but rarely meant.
    pub warnings: Vec<Problem>,
    /// Every value in effect with its source.
    pub entries: Vec<Entry>,
}

/// A part of the configuration that only some processes need.
#[derive(Debug, Clone)]
pub struct Part<T> {
    /// The part, when all of it is there.
    pub(super) value: Option<T>,
    /// The required parts that are not given.
    pub(super) lacking: Vec<Problem>,
    /// Whether any of what it requires is there.
    pub(super) begun: bool,
}

impl<T> Part<T> {
    /// The part, when all of it is there.
    pub const fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The parts that the section lacks, if it is given at all: keys without a value, and placeholders whose
    /// variable is not set.
    fn begun(&self) -> &[Problem] {
        if self.begun { &self.lacking } else { &[] }
    }
}

impl<T> From<T> for Part<T> {
    fn from(value: T) -> Self {
        Self { value: Some(value), lacking: Vec::new(), begun: true }
    }
}

impl Config {
    /// What is missing of parts that are given at least in part.
    pub fn begun(&self) -> impl Iterator<Item = &Problem> {
        let parts = [
            self.manager.db.begun(),
            self.manager.message_queue.begun(),
            self.flamenco.begun(),
            self.rabbitmq.begun(),
        ];
        parts.into_iter().flatten()
    }

    /// The ledger's database.
    ///
    /// # Errors
    /// The required parts that are not given.
    pub fn database(&self) -> Result<&Database, ConfigError> {
        self.manager.db.get().ok_or_else(|| ConfigError::Invalid(self.manager.db.lacking.clone()))
    }

    /// The database of a render farm; nothing if it is the ledger's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn farm(&self) -> Result<Option<&Database>, ConfigError> {
        match self.flamenco.begun() {
            [] => Ok(self.flamenco.get()),
            lacking => Err(ConfigError::Invalid(lacking.to_vec())),
        }
    }

    /// The broker.
    ///
    /// # Errors
    /// The required parts that are not given.
    pub fn message_queue(&self) -> Result<&MessageQueue, ConfigError> {
        self.manager
            .message_queue
            .get()
            .ok_or_else(|| ConfigError::Invalid(self.manager.message_queue.lacking.clone()))
    }

    /// The broker's management interface.
    ///
    /// # Errors
    /// The required parts that are not given.
    pub fn management(&self) -> Result<&Management, ConfigError> {
        self.rabbitmq.get().ok_or_else(|| ConfigError::Invalid(self.rabbitmq.lacking.clone()))
    }

    /// What `tasker api` needs.
    ///
    /// # Errors
    /// All that is missing.
    pub fn for_api(&self) -> Result<(&Database, &MessageQueue), ConfigError> {
        both(self.database(), self.message_queue())
    }

    /// What `tasker endpoint` needs.
    ///
    /// # Errors
    /// All that is missing.
    pub fn for_endpoint(&self) -> Result<&MessageQueue, ConfigError> {
        self.message_queue()
    }

    /// What `tasker http-worker` needs.
    ///
    /// # Errors
    /// All that is missing.
    pub fn for_http_worker(&self) -> Result<&MessageQueue, ConfigError> {
        self.message_queue()
    }

    /// What `tasker initialize -r` needs: whom to create, and who may do so.
    ///
    /// # Errors
    /// All that is missing.
    pub fn for_provisioning(&self) -> Result<(&MessageQueue, &Management), ConfigError> {
        both(self.message_queue(), self.management())
    }

    /// The types that one worker performs, or those that every subscribed endpoint performs.
    pub fn of_delivery(&self, queue: bool) -> impl Iterator<Item = &TypePolicy> {
        self.task_types.iter().filter(move |policy| policy.queue.is_some() == queue)
    }

    /// What of answers does not count when equal ones are grouped.
    pub fn ignored(&self) -> IgnoredByType {
        self.task_types.iter().map(|policy| (policy.name.clone(), policy.ignored.clone())).collect()
    }

    /// The policy of a type, if it is configured.
    pub fn policy(&self, task_type: &TaskType) -> Option<&TypePolicy> {
        self.task_types.iter().find(|policy| policy.name == *task_type)
    }
}

fn both<A, B>(a: Result<A, ConfigError>, b: Result<B, ConfigError>) -> Result<(A, B), ConfigError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => {
            let problems = [a.err(), b.err()].into_iter().flatten().flat_map(|error| error.problems());
            Err(ConfigError::Invalid(problems.collect()))
        }
    }
}

/// What becomes of an attempt when the process of the endpoint ends while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// The response fails. The task is not run again.
    Fail,
    /// It is a failed attempt, and the next one follows if the policy has one left.
    Rerun,
    /// A graceful stop waits for it, however long it takes. If the process ends nevertheless, as
    /// [`Self::Rerun`].
    Wait,
}

impl OnStop {
    /// The words of the configuration.
    pub(super) const WORDS: &[(&str, Self)] =
        &[("fail", Self::Fail), ("rerun", Self::Rerun), ("wait", Self::Wait)];
}

/// What the standard output of an executable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// JSON if it is JSON, text otherwise.
    #[default]
    Auto,
    /// JSON; anything else is an error of the handler.
    Json,
    /// Text, also if it could be read as JSON.
    Text,
}

impl Output {
    /// The words of the configuration.
    pub(super) const WORDS: &[(&str, Self)] =
        &[("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)];
}

/// How tasks of one type are treated.
#[derive(Debug, Clone)]
pub struct TypePolicy {
    /// The type.
    pub name: TaskType,
    /// Runs of the handler at most, the first included. Another follows where the handler asks for it, or the
    /// end of its endpoint interrupts it (see [`OnStop`]). 1 to 100, default 3.
    pub attempts: u32,
    /// The wait between attempts. Default 1 s, doubling to 60 s.
    pub backoff: Backoff,
    /// How long one attempt may run. Default 1 h.
    pub time_limit: Duration,
    /// How long after its submission a task is given up; [`Tasks::expires_after`] unless said.
    pub expires_after: Duration,
    /// What becomes of an attempt that the end of the endpoint's process interrupts. Default: it counts, and
    /// the next follows.
    pub on_stop: OnStop,
    /// What the standard output of its executable is. Default: JSON if it is JSON, text otherwise.
    pub output: Output,
    /// Tasks of this type that one endpoint runs at the same time. 1 to 1000, default 4.
    pub concurrency: u32,
    /// Whether the broker keeps fan-out copies on disk. Default false: the ledger asks again.
    pub persistent: bool,
    /// The time in which all endpoints should have received a task; [`Api::wait_for_endpoints_timeout`]
    /// unless said.
    pub wait_for_endpoints_timeout: Duration,
    /// Which endpoints a task without a list is expected of. Default: those that are subscribed.
    pub expect: Expect,
    /// What the body of a submission is. Default the envelope.
    pub body: Body,
    /// Whether strings that are members of a payload lose the white space at their ends, before anything
    /// looks at them.
    pub trim: bool,
    /// The JSON Schema that payloads must satisfy, beginning with `{`; or the path of a file with it.
    pub schema: Option<String>,
    /// The user that executables of this type run as, or user and group; [`Endpoint::run_as`] unless said.
    pub run_as: Option<String>,
    /// What does not count when equal answers are grouped. Default nothing.
    pub ignored: Ignored,
    /// How tasks wait for the one worker that performs them; none for a type that every subscribed endpoint
    /// performs.
    pub queue: Option<QueuePolicy>,
}

impl TypePolicy {
    /// How long a task of this type may live at most.
    pub fn longest_life(&self) -> Duration {
        self.expires_after.max(self.queue.as_ref().and_then(|queue| queue.ttl).unwrap_or_default())
    }
}

/// What the body of a submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// An object with identifier, payload and the like.
    #[default]
    Envelope,
    /// The payload itself; the identifier is made.
    Payload,
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub struct Api {
    /// The address to listen on. Default 127.0.0.1.
    pub host: IpAddr,
    /// The port to listen on; 0 takes a free one. Default 8888.
    pub port: u16,
    /// How many endpoints the command line asks a person about before it submits a task to them. Default 100.
    pub confirm_above: u32,
    /// Names, with a port or without, by which the API is reached beside `localhost` and loopback addresses.
    pub hosts: Vec<String>,
    /// The time in which all endpoints should have received a task. Default 30 s.
    pub wait_for_endpoints_timeout: Duration,
    /// The longest request body in bytes. Default 1 MiB.
    pub body_limit: usize,
    /// How long a process takes at most to finish what it began when told to stop. Default 15 s.
    pub stop_timeout: Duration,
    /// Certificate and key; without, the API speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long a browser that was here over HTTPS asks this host for nothing else. None: browsers are not
    /// told. Default 30 days.
    pub hsts: Option<Duration>,
}

impl Api {
    /// Where a client on the same machine finds it; nowhere that is known before it listens if it takes a
    /// free port.
    pub fn url(&self) -> Option<String> {
        (self.port != 0).then(|| self.url_at(SocketAddr::new(self.host, self.port)))
    }

    /// Where a client on the same machine finds an API that listens on this address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        let host = match address.ip() {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        format!("{}://{}", self.scheme(), SocketAddr::new(host, address.port()))
    }

    /// How its address begins.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// What a server shows to its clients, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, followed by those that lead to one that clients trust.
    pub certificate: PathBuf,
    /// The key to it.
    pub key: PathBuf,
}

/// Database and broker.
#[derive(Debug, Clone)]
pub struct Manager {
    /// The ledger's database.
    pub db: Part<Database>,
    /// The broker.
    pub message_queue: Part<MessageQueue>,
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
    /// With which files.
    pub tls_files: BrokerTls,
}

/// What TLS to the broker has beside the system's certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerTls {
    /// CA certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and key to show to the broker.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl MessageQueue {
    /// Whether the broker knows the user by its certificate alone (SASL EXTERNAL).
    pub fn is_external(&self) -> bool {
        self.tls_files.identity.is_some() && self.password.reveal().is_empty()
    }
}

/// The broker's management interface.
#[derive(Debug, Clone)]
pub struct Management {
    /// Its base address, such as `http://localhost:15672/api`.
    pub apiurl: String,
    /// CA certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
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
    /// What the endpoint says of itself, so that tasks can be aimed at it.
    pub labels: Labels,
    /// A file of more labels, which is read again at every sign of life.
    pub labels_file: Option<PathBuf>,
    /// Environment variables that executables get besides `PATH`, `HOME`, `LANG` and the task's own.
    pub pass_env: Vec<String>,
    /// The user that executables run as, or user and group, such as `builder:docker`; this process's own when
    /// absent.
    pub run_as: Option<String>,
    /// Bytes of a handler's answer at most. Default 256 KiB.
    pub output_limit: usize,
    /// Which messages are taken. Default: all.
    pub signatures: Signatures,
    /// The trust file, which says whose signatures count.
    pub trust: PathBuf,
    /// How far the clock may be off where messages are signed. Default 60 s.
    pub clock_tolerance: Duration,
    /// No task begins while this file exists.
    pub stop_file: PathBuf,
    /// What the handler `http` may do.
    pub http: Http,
}

/// Which messages an endpoint or an HTTP worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signatures {
    /// All. Signatures are not looked at.
    #[default]
    Off,
    /// Those without a signature, and those with a good one: while API processes learn to sign.
    Prefer,
    /// Those with a good signature.
    Require,
}

impl Signatures {
    /// The words of the configuration.
    pub(super) const WORDS: &[(&str, Self)] =
        &[("off", Self::Off), ("prefer", Self::Prefer), ("require", Self::Require)];

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// What HTTP calls may do, of the handler `http` and of HTTP workers.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where it may connect to. Default nowhere.
    pub allow: Vec<Allowed>,
    /// Certificates that servers may be vouched for by, besides the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Certificate and key to show to servers that ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether a task may ask for TLS without a look at the server's certificate; on loopback addresses it
    /// may anyway. Default false.
    pub insecure: bool,
    /// Connections at the same time at most. Default 1024.
    pub max_sockets: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self { allow: Vec::new(), ca_bundle: None, identity: None, insecure: false, max_sockets: 1024 }
    }
}

/// A process that performs HTTP tasks of others.
#[derive(Debug, Clone)]
pub struct HttpWorker {
    /// Whose tasks. Default `default`.
    pub pool: String,
    /// Tasks at the same time. Default 1000.
    pub max_in_flight: u16,
    /// How long tasks may go on when the process is told to stop. Default 30 s.
    pub stop_timeout: Duration,
    /// Whether requests may come from a broker on another host without TLS. Default false.
    pub allow_plaintext_broker: bool,
    /// Which requests are taken. Default: all.
    pub signatures: Signatures,
    /// The trust file, which says whose signatures count.
    pub trust: PathBuf,
    /// The file of the list of keys that count no more.
    pub revocations: Option<PathBuf>,
    /// What it may do.
    pub http: Http,
}

/// How long tasks live.
#[derive(Debug, Clone)]
pub struct Tasks {
    /// How long after its submission a task is given up. Default 24 h.
    pub expires_after: Duration,
    /// How long an ended task is kept. Default 30 d.
    pub retention: Duration,
}

/// Who is believed.
#[derive(Debug, Clone)]
pub struct Security {
    /// What becomes of reports and presence that do not come from the broker user of their endpoint. Default
    /// warn.
    pub reports: Proof,
    /// With what API processes sign what they send to endpoints. Default: they do not.
    pub signing: Option<Signing>,
    /// The trust file that says whose signatures tasks need. Without it, endpoints alone know.
    pub trust: Option<PathBuf>,
    /// The file of the list of keys that count no more.
    pub revocations: Option<PathBuf>,
}

/// With what API processes sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// The installation, as in the trust files of its endpoints.
    pub environment: EnvironmentName,
    /// The file of the private key.
    pub key: PathBuf,
    /// The file of its certificate.
    pub certificate: Option<PathBuf>,
}

/// What becomes of a message that nobody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proof {
    /// It is taken and counted: while endpoints get users of their own.
    #[default]
    Warn,
    /// It is refused and counted.
    Enforce,
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
