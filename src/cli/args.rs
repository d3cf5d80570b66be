//! Every command, flag and default of the program, as its help shows them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{ArgPredicate, NonEmptyStringValueParser, PossibleValue};
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::config::{Delivery, size, span};
use crate::contract::Responses;
use crate::domain::{
    EndpointName, Expect, Fared, GroupName, Identifier, Rate, Scope, Selector, TaskStatus, TaskType,
    Timestamp, TokenName,
};
use crate::farm::{self, ObjectId};

use super::approve::Approve;
use super::audit::AuditCommand;
#[cfg(feature = "bench")]
use super::bench_args::Bench;
use super::bulk::Sureness;
use super::choice::{Choice, choice, one_of};
use super::explain::Explain;
pub use super::global::Global;
use super::groups::GroupCommand;
use super::keys::{Hand, KeyCommand};
use super::listen::Listen;
use super::page::Page;
use super::queues::Queue;
use super::request_args::RequestCommand;
use super::rollout_args::RolloutCommand;
use super::schedules::Schedules;
use super::stats::Stats;
use super::verify::Verify;
use super::when::{ago, to_come, validity};

/// Groups of equal answers that are shown when nothing is said.
pub(super) const GROUPS: u32 = 20;
/// Where `tasker up` keeps what it has.
pub(super) const DATA_DIR: &str = "./tasker-data";

/// Hands tasks to fleets of servers and knows exactly what became of each one.
#[derive(Debug, Parser)]
#[command(
    name = "tasker",
    version = super::version::TEXT,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Examples:
  tasker up                   everything in one process, nothing else needed
  tasker submit worker --payload '{\"seconds\": 2}' --wait
  tasker api -m production    one of several processes on RabbitMQ and MySQL

Exit codes:
  0    ok
  1    wrong usage, no connection, or refused by the API
  2    some endpoints failed, or the request failed
  3    some endpoints did not receive the task
  4    no endpoint answered
  5    canceled, or the rollout was aborted
  6    the rollout has halted, or was rolled back
  124  timed out waiting; the task or request goes on
  130  interrupted (Ctrl-C) while waiting; the task or request goes on

Environment:
  TASKER_API_URL       address of the API for commands that ask one, as --api
  TASKER_TOKEN         token to show to the API
  TASKER_TOKEN_FILE    file that holds the token, as --token-file
  TASKER_CA_FILE       file with CA certificates, as --ca-file
  NO_COLOR             no colors, if not empty
  TASKER_section__key  overrides a configuration key: TASKER_API__PORT"
)]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Start everything in one process: API, endpoints, database (SQLite) and an in-process broker
    #[command(after_help = "\
Examples:
  tasker up
  tasker up --handlers-dir handlers.d
  tasker up --handlers-dir handlers.d --delivery queue
  tasker up --listen 127.0.0.1:9000 --endpoints web1,web2 --data-dir /tmp/tasker
  tasker up --tls-certificate a.cert --tls-key a.key --listen 0.0.0.0:3000

Without -m or --config the task types are worker and backup.
A configuration's database is used with --use-database only, its broker never.
Data survives a restart.
To listen on an address that others can reach, create a token first: see `token create`.")]
    Up(Up),
    /// Start an API process on the configured database and broker
    #[command(after_help = "Example:\n  tasker api -m production --listen 127.0.0.1:8888")]
    Api(Api),
    /// Start an endpoint: runs the handlers of its task types on this server
    #[command(after_help = "Example:\n  tasker endpoint -m production -e web1 -t worker -t backup")]
    Endpoint(Endpoint),
    /// Start a worker: takes tasks from work queues, one for each slot it has free
    #[command(after_help = "\
Examples:
  tasker worker -m production --name build1 -t warmers -t runners
  tasker worker --api https://tasker.example.net --name site7 --concurrency 8

With --api the worker connects to the API alone, with a token of the scope `work`; otherwise to the broker of the configuration, whatever TASKER_API_URL says.
A task of a type with `delivery: queue` is performed by one worker.
With --concurrency 1 a worker performs one task after the other, whatever their types.
SIGTERM lets running tasks finish, for at most --stop-timeout; tasks that have not begun go to other workers.")]
    Worker(Worker),
    /// Perform HTTP tasks of others: the remote mode of `tasker::http_tasks`
    #[command(after_help = "\
Example:
  tasker http-worker -m production --pool bmc --max-in-flight 4000

Takes HTTP tasks from the broker's work queue of a pool and performs those whose target http_worker.http.allow lists.
Several workers can share a pool.
A task whose worker is lost is performed by another one unless it is a POST or PATCH.")]
    HttpWorker(HttpWorker),
    /// Start a Flamenco Manager: gives the tasks of a Flamenco Server to Flamenco Workers of version 2
    #[command(after_help = "\
Examples:
  tasker flamenco-manager    reads flamenco-manager.yaml in the directory
  tasker flamenco-manager --config /etc/flamenco/flamenco-manager.yaml -verbose
  tasker flamenco-manager -cleanslate

Flags may have one dash or two.
Logs warnings, with -verbose what happens, with -debug everything, with -json as JSON.")]
    FlamencoManager(FlamencoManager),
    /// Show workers and tasks of a Flamenco Manager, or tell a worker to sleep, to wake up or to end
    #[command(subcommand)]
    Flamenco(FlamencoCommand),
    /// Measure how fast tasks go through
    #[command(subcommand)]
    #[cfg(feature = "bench")]
    Bench(Bench),
    /// Create tables (-d) and the broker's virtual host, user and permissions (-r)
    #[command(after_help = "\
Examples:
  tasker initialize -d -r                     both; what is there already stays
  tasker initialize -d --reset --yes          drop all tasks and begin anew")]
    Initialize(Initialize),
    /// Submit a task
    #[command(after_help = "\
Examples:
  tasker submit worker
  tasker submit backup --endpoints web1,web2 --payload '{\"seconds\": 1}' --wait
  generate-payload | tasker submit worker --identifier n7 --payload-file -
  tasker submit --batch tasks.jsonl

A line of it: {\"type\": \"worker\", \"identifier\": \"n8\", \"payload\": {\"seconds\": 1}}

Submitting the same identifier with the same content again is safe: it answers the task that is there.
Ctrl-C ends a wait, never the task.")]
    Submit(Submit),
    /// Show what became of a task
    #[command(after_help = "\
Examples:
  tasker status nightly-7
  tasker status backup nightly-7 --wait
  tasker status 01a20196-daa1-708e-8082-dae98f32bb86 --endpoint web3

The type is needed where tasks of several types have the identifier.")]
    Status(Status),
    /// Say why a task does not run, or how far it is
    #[command(after_help = "\
Examples:
  tasker explain nightly-7
  tasker explain backup nightly-7 --endpoint web3

docs/api.md lists the reasons, and what to do about each.")]
    Explain(Explain),
    /// Sign a task that waits for the signatures of further persons
    ///
    /// Shows what is to be signed, and asks. With the last signature that is needed, the task is published.
    #[command(after_help = "\
Example:
  tasker approve update web-2.1 --key bob.key

docs/security.md says for which tasks persons sign.")]
    Approve(Approve),
    /// Show what the endpoints of a task answered, in groups of equal answers
    ///
    /// Answers are the same when error number, message and payload are, apart from the endpoint's own name
    /// and from what `answers.ignore` of the task type leaves out.
    #[command(after_help = "\
Examples:
  tasker answers backup nightly-7
  tasker answers nightly-7 --answer 3f9a1c   the endpoints that gave this one
  tasker rerun nightly-7 --answer 3f9a1c     the task again, for these endpoints

The type is needed where tasks of several types have the identifier.")]
    Answers(Answers),
    /// Watch a task on a screen that updates, or all that have not ended
    #[command(
        override_usage = "tasker watch [OPTIONS] [[TYPE] <ID>]",
        after_help = "\
Examples:
  tasker watch
  tasker watch backup nightly-7

Ends when the task has ended, or all endpoints that have received it are through, with the exit code of `submit --wait`.
Where standard output is not a terminal, a line tells each change. Ctrl-C ends the command, never the task."
    )]
    Watch(Watch),
    /// Show what the handlers of a task log, while they run with --follow
    #[command(after_help = "\
Examples:
  tasker logs backup nightly-7
  tasker logs -f 01a20196-daa1-708e-8082-dae98f32bb86 --endpoint web3

Handlers in Rust log lines with Context::log, executables write them to standard error.
Of each endpoint the last 64 KiB are kept, as long as the task.")]
    Logs(Logs),
    /// List tasks, newest first
    #[command(
        after_help = "Examples:\n  tasker list\n  tasker list worker --status INCOMPLETE --since 2h\n  tasker list --failed    a task that an endpoint has failed is DONE"
    )]
    List(List),
    /// Submit a task again, for those of its endpoints that did not succeed or that gave one answer
    ///
    /// Endpoints that may perform the task yet are left alone. A task of a work queue that failed, expired or
    /// was canceled is queued again.
    #[command(after_help = "\
Examples:
  tasker rerun backup nightly-7 --wait
  tasker rerun backup nightly-7 --only missing
  tasker rerun backup nightly-7 --answer 3f9a1c

The type is needed where tasks of several types have the identifier.")]
    Rerun(Rerun),
    /// Cancel tasks: endpoints that have not begun never will, others are told to stop
    #[command(
        override_usage = "tasker cancel [OPTIONS] [TYPE] <ID>...\n       tasker cancel [OPTIONS] --type <TYPE> [--status <STATUS>] ...",
        after_help = "\
Examples:
  tasker cancel 01a20196-daa1-708e-8082-dae98f32bb86
  tasker cancel backup nightly-7 nightly-8
  tasker cancel --type backup --status CREATED --dry-run
  tasker cancel --type backup --until 2h --expect 120

The type is needed where tasks of several types have the identifier.
With a filter instead of ids, all open tasks that fit it are canceled, after a question with their number."
    )]
    Cancel(Cancel),
    /// List the endpoints, when they were last heard of and what they subscribe to
    #[command(
        after_help = "Examples:\n  tasker endpoints\n  tasker endpoints --type worker --gone\n  tasker endpoints forget console7"
    )]
    Endpoints(Endpoints),
    /// List, show, store and delete groups of endpoints: selectors under a name
    #[command(
        subcommand,
        after_help = "\
Examples:
  tasker group set web 'role=web and not site=lab'
  tasker group show web
  tasker submit worker --group web"
    )]
    Group(GroupCommand),
    /// List the work queues; pause or resume one
    #[command(subcommand)]
    Queue(Queue),
    /// List the scheduled tasks and when each is next; run, pause or resume a schedule
    #[command(after_help = "Examples:\n  tasker schedules\n  tasker schedules run nightly")]
    Schedules(Schedules),
    /// Submit requests and follow them: steps of jobs, one step after the other, the jobs of a step side by
    /// side
    #[command(subcommand)]
    Request(RequestCommand),
    /// Change a fleet in waves, within budgets, behind gates: plan, run, follow, pause, resume, abort, retry
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Show task counts by hour
    #[command(after_help = "\
Examples:
  tasker stats                          the last 24 hours, all task types
  tasker stats worker --minutes         the last hour, by the minute
  tasker stats --since 30d --json

The numbers are a few seconds behind. They are kept for 400 days, those of minutes for seven.")]
    Stats(Stats),
    /// Audit the ledger: find lost tasks and double runs
    #[command(after_help = "\
Examples:
  tasker verify                          all task types, all tasks that are kept
  tasker verify backup --since 24h --ended    fail while any response is open

Columns:
  ACCOUNTED  tasks whose responses add up and that have ended, or are in time
  MISSING    the other tasks
  DOUBLE     responses of which a second execution is known

The exit code is 0 if nothing is missing or double, else 2.")]
    Verify(Verify),
    /// List the audit log - what was done, by whom and from where - and check that nobody changed it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Create, list or revoke tokens: who may use the API
    ///
    /// Works on the database of -m or --config, else on that of `tasker up`.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Create keys that sign messages to endpoints, and say which are trusted on this server
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check the configuration, or show what is in effect
    #[command(subcommand)]
    Config(Configuration),
    /// Print the script that completes commands, and in bash, zsh and fish task types and endpoint names too
    #[command(after_help = "\
Examples:
  tasker completions bash > /etc/bash_completion.d/tasker
  tasker completions zsh > /usr/local/share/zsh/site-functions/_tasker
  tasker completions fish > /etc/fish/completions/tasker.fish

In bash, zsh and fish the script runs the program at each TAB; task types and endpoint names come from the API.")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print what may come at the end of a line
    #[command(name = "__complete", hide = true, after_help = "Example:\n  tasker __complete bash tasker")]
    Complete {
        /// Which shell asks
        shell: clap_complete::Shell,
        /// What has been typed up to now
        #[arg(value_name = "LINE", allow_hyphen_values = true)]
        line: String,
    },
    /// Write the manual pages into a directory
    #[command(after_help = "Example:\n  tasker man /usr/local/share/man/man1")]
    Man {
        /// Directory that is there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the version and the commit it was built from
    #[command(after_help = "Example:\n  tasker version --json")]
    Version,
}

/// `tasker up`.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Where database and journals are kept
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// Address to listen on, such as 127.0.0.1:9000, localhost:9000 or 9000; port 0 takes a free one
    /// [default: api.host and api.port]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<Listen>,
    /// Keep the ledger in manager.db of the configuration instead of a file in --data-dir; one process at a
    /// time
    #[arg(long)]
    pub use_database: bool,
    /// Names of the endpoints to start, separated by commas; '' for none, as with --simulate
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = name_or_none, default_value = "console1,console2")]
    #[arg(default_value_if("simulate", ArgPredicate::IsPresent, ""))]
    pub endpoints: Vec<Option<EndpointName>>,
    /// Start so many simulated endpoints, sim-00000 and on: they take tasks and answer as real ones do, and
    /// run nothing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub simulate: Option<u32>,
    /// How the simulated endpoints behave, in YAML: labels, times, failures, reboots; see docs/rollouts.md
    #[arg(long, value_name = "FILE", requires = "simulate")]
    pub faults: Option<PathBuf>,
    /// Make each executable in this directory a task type of its name, beside the configured types; instead
    /// of endpoint.handlers_dir
    ///
    /// `uptime.sh` performs the task type `uptime`. A configured type keeps its settings. A changed file runs
    /// with the next task; a new task type is there after a restart.
    #[arg(long, value_name = "DIR")]
    pub handlers_dir: Option<PathBuf>,
    /// Who performs the task types of --handlers-dir
    #[arg(
        long, value_name = "WHO", default_value = "fanout", value_parser = choice::<Delivery>(),
        requires = "handlers_dir"
    )]
    pub delivery: Delivery,
    /// Workers to start for types with a work queue: worker1, worker2, ...
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub workers: u32,
    /// Tasks that each worker performs at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Speak HTTPS with this certificate, in PEM, instead of api.tls.certificate
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The key to the certificate, in PEM, instead of api.tls.key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
}

/// `tasker token`.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print its secret, this once
    ///
    /// From then on the API needs a token for everything but /heartbeat and /ready.
    #[command(after_help = "\
Examples:
  tasker token create --name admin --scope admin --out admin.token
  tasker token create --name nightly --scope submit,read --type backup
  tasker token create --name ci --scope submit --expires 90d -m production
  tasker token create --name shop --scope submit,read:own --rate 50/s --open 900
  tasker token create --name old --scope submit --secret-file /etc/old/token

Scopes:
  submit      submit tasks; cancel them, without `read` only the token's own
  read        read tasks and what became of them
  read:own    the same of tasks submitted with the token; no lists
  cancel:own  cancel tasks submitted with the token; with `submit` no others
  work        fetch tasks over HTTP
  approve     let a wave of a rollout begin
  admin       everything

Only the SHA-256 of the secret is kept.
Pass the secret to the command line with --token-file or TASKER_TOKEN_FILE.")]
    Create(NewToken),
    /// List the tokens, without their secrets
    #[command(after_help = "Example:\n  tasker token list -m production")]
    List(ListTokens),
    /// Remove a token; whoever has its secret is refused within three seconds
    #[command(
        after_help = "Examples:\n  tasker token revoke nightly -m production\n  tasker token revoke --all"
    )]
    Revoke(RevokeToken),
}

/// `tasker token create`.
#[derive(Debug, Clone, Args)]
pub struct NewToken {
    /// What to call it
    #[arg(long, value_name = "NAME")]
    pub name: TokenName,
    /// Scopes, separated by commas: submit, read, read:own, cancel:own, work, approve, admin
    #[arg(long = "scope", value_name = "SCOPES", value_delimiter = ',', required = true)]
    pub scopes: Vec<Scope>,
    /// Task type that it is limited to (repeatable) [default: all]
    #[arg(long = "type", value_name = "TYPE")]
    pub task_types: Vec<TaskType>,
    /// The one worker that may use it; no other token works for that worker from then on [default: every
    /// worker without such a token]
    #[arg(long, value_name = "NAME")]
    pub worker: Option<EndpointName>,
    /// Requests that may be sent with it, such as 50/s, 600/min or 1000/h; each API process counts for itself
    /// [default: any number]
    #[arg(long, value_name = "RATE", help_heading = "Quota")]
    pub rate: Option<Rate>,
    /// Requests that may come at once after a pause [default: those of a second]
    #[arg(long, value_name = "N", requires = "rate", help_heading = "Quota", value_parser = clap::value_parser!(u32).range(1..))]
    pub burst: Option<u32>,
    /// Tasks submitted with it that may be open at the same time [default: any number]
    #[arg(long, value_name = "N", help_heading = "Quota", value_parser = clap::value_parser!(u32).range(1..))]
    pub open: Option<u32>,
    /// Endpoints that one task may be for; such a token submits no rollouts and no requests [default: any
    /// number]
    #[arg(long, value_name = "N", help_heading = "Quota", value_parser = clap::value_parser!(u32).range(1..))]
    pub endpoints: Option<u32>,
    /// Requests with `?wait` that may wait at the same time [default: 500]
    #[arg(long, value_name = "N", help_heading = "Quota")]
    pub waits: Option<u32>,
    /// Bytes of bodies that may be sent in a second, such as 10MiB/s [default: any number]
    #[arg(long, value_name = "SIZE/s", help_heading = "Quota", value_parser = bytes_per_second)]
    pub bytes: Option<u64>,
    /// Validity, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = validity)]
    pub expires: Option<Duration>,
    /// File that holds the secret, instead of making one; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// New file for the secret that is made, for its owner alone [default: standard output]
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    pub out: Option<PathBuf>,
    /// Take a secret of fewer than 32 characters: it can be guessed, so only for a trial that nobody else can
    /// reach
    #[arg(long, requires = "secret_file")]
    pub weak: bool,
    /// Directory of `tasker up` [default: ./tasker-data unless a configuration is named]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

fn bytes_per_second(text: &str) -> Result<u64, String> {
    let bytes = text.strip_suffix("/s").and_then(size::parse).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "expected a size above 0 in a second, such as 10MiB/s".to_owned())
}

/// `tasker token list`.
#[derive(Debug, Clone, Args)]
pub struct ListTokens {
    /// Directory of `tasker up` [default: ./tasker-data unless a configuration is named]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `tasker token revoke`.
#[derive(Debug, Clone, Args)]
pub struct RevokeToken {
    /// Which
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub name: Option<TokenName>,
    /// All tokens that there are
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Directory of `tasker up` [default: ./tasker-data unless a configuration is named]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `tasker api`.
#[derive(Debug, Clone, Args)]
pub struct Api {
    /// Address to listen on, such as 127.0.0.1:9000, localhost:9000 or 9000; port 0 takes a free one
    /// [default: api.host and api.port]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<Listen>,
}

/// `tasker endpoint`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Endpoint {
    /// What else to do.
    #[command(subcommand)]
    pub action: Option<EndpointAction>,
    /// The endpoint to run.
    #[command(flatten)]
    pub run: Option<RunEndpoint>,
}

/// An endpoint to run.
#[derive(Debug, Clone, Args)]
pub struct RunEndpoint {
    /// Name of the endpoint, usually the server's
    #[arg(short, long, value_name = "NAME")]
    pub endpoint: EndpointName,
    /// Task type to run (repeatable) [default: all configured types]
    #[arg(short, long = "tasktype", visible_alias = "type", value_name = "TYPE")]
    pub tasktypes: Vec<TaskType>,
    /// Where journals are kept, instead of endpoint.data_dir
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where executables named after task types are looked for, instead of endpoint.handlers_dir
    #[arg(long, value_name = "DIR")]
    pub handlers_dir: Option<PathBuf>,
    /// Broker user of the endpoint, as `tasker endpoint enroll` has fetched it, instead of that in
    /// manager.message_queue
    #[arg(long, value_name = "FILE", env = "TASKER_IDENTITY", hide_env_values = true)]
    pub identity: Option<PathBuf>,
}

/// What `tasker endpoint` does besides running one.
#[derive(Debug, Clone, Subcommand)]
pub enum EndpointAction {
    /// Make a broker user for an endpoint, and an invitation with which its server fetches it
    ///
    /// The user may consume the endpoint's own queues and report, and nothing else. Inviting an endpoint that
    /// has a user makes another one; the old one works until it is deleted with `tasker endpoint revoke
    /// --old`.
    #[command(after_help = "\
Examples:
  tasker endpoint invite web1 -t worker -m production --out web1.invitation
  tasker endpoint invite --all --out-dir invitations -m production")]
    Invite(Invite),
    /// Fetch the broker user that this endpoint was invited to
    #[command(
        after_help = "Example:\n  tasker endpoint enroll web1 --api https://h:3000 --invitation web1.invitation"
    )]
    Enroll(Enroll),
    /// List endpoints and the users they come in as
    #[command(after_help = "Example:\n  tasker endpoint list --unproven -m production")]
    List(ListEnrolments),
    /// Delete the broker users of an endpoint and forget it: it is cut off at once
    #[command(
        after_help = "Examples:\n  tasker endpoint revoke web1 -m production\n  tasker endpoint revoke web1 --old -m production"
    )]
    Revoke(Revoke),
}

/// `tasker endpoint invite`.
#[derive(Debug, Clone, Args)]
pub struct Invite {
    /// Endpoint (repeatable)
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<EndpointName>,
    /// All endpoints that are known and were never invited
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Task type that it may perform (repeatable) [default: all configured types without a work queue]
    #[arg(short, long = "type", value_name = "TYPE")]
    pub task_types: Vec<TaskType>,
    /// How long the invitation may be used
    #[arg(long, value_name = "DURATION", value_parser = validity, default_value = "1h")]
    pub expires: Duration,
    /// New file for the invitation, for its owner alone [default: standard output]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out_dir", "all"])]
    pub out: Option<PathBuf>,
    /// Directory for a new file with each invitation, named after the endpoint, for its owner alone. The
    /// directory is made if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
}

/// `tasker endpoint enroll`.
#[derive(Debug, Clone, Args)]
pub struct Enroll {
    /// Endpoint
    #[arg(value_name = "NAME")]
    pub endpoint: EndpointName,
    /// File with the invitation; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub invitation: PathBuf,
    /// File that the user goes to, in the place of an older one
    #[arg(
        long,
        value_name = "FILE",
        env = "TASKER_IDENTITY",
        hide_env_values = true,
        default_value = "/etc/tasker/identity.json"
    )]
    pub identity: PathBuf,
    /// Ask an API on another machine without TLS
    #[arg(long)]
    pub plain: bool,
}

/// `tasker endpoint list`.
#[derive(Debug, Clone, Args)]
pub struct ListEnrolments {
    /// Only those whose presence has come from another user than their own
    #[arg(long)]
    pub unproven: bool,
}

/// `tasker endpoint revoke`.
#[derive(Debug, Clone, Args)]
pub struct Revoke {
    /// Endpoint
    #[arg(value_name = "NAME")]
    pub name: EndpointName,
    /// Only the users before the newest
    #[arg(long)]
    pub old: bool,
    /// With --old: also when the newest user was never fetched, which endpoints with a client certificate do
    /// not do
    #[arg(long, requires = "old")]
    pub force: bool,
}

/// `tasker worker`.
#[derive(Debug, Clone, Args)]
pub struct Worker {
    /// Name of the worker; no other worker or endpoint may have it
    #[arg(short = 'e', long = "name", visible_alias = "endpoint", value_name = "NAME")]
    pub endpoint: EndpointName,
    /// Task type to perform (repeatable) [default: all configured types with a work queue]
    #[arg(short, long = "tasktype", visible_alias = "type", value_name = "TYPE")]
    pub tasktypes: Vec<TaskType>,
    /// Tasks to perform at the same time, of all types together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// How long running tasks may go on after SIGTERM, instead of endpoint.stop_timeout
    #[arg(long, value_name = "DURATION", value_parser = span::parse)]
    pub stop_timeout: Option<Duration>,
    /// Where journals are kept, instead of endpoint.data_dir
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where executables named after task types are looked for, instead of endpoint.handlers_dir
    #[arg(long, value_name = "DIR")]
    pub handlers_dir: Option<PathBuf>,
    /// Broker user of the worker, as `tasker endpoint enroll` has fetched it, instead of that in
    /// manager.message_queue
    #[arg(long, value_name = "FILE", env = "TASKER_IDENTITY", hide_env_values = true)]
    pub identity: Option<PathBuf>,
}

/// `tasker http-worker`.
#[derive(Debug, Clone, Args)]
pub struct HttpWorker {
    /// Whose tasks to perform, instead of http_worker.pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
    /// Tasks at the same time, instead of http_worker.max_in_flight
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u16>,
    /// What callers call this worker [default: the host's name and a number]
    #[arg(long, value_name = "NAME")]
    pub name: Option<EndpointName>,
}

/// `tasker flamenco-manager`.
#[derive(Debug, Clone, Args)]
pub struct FlamencoManager {
    /// Log everything
    #[arg(long)]
    pub debug: bool,
    /// Log what happens
    #[arg(long)]
    pub verbose: bool,
    /// Ask for ENTER, delete all tasks, exit; workers and updates stay
    #[arg(long)]
    pub cleanslate: bool,
    /// Ask for ENTER, delete all updates that the Server has not acknowledged, exit
    #[arg(long)]
    pub purgequeue: bool,
}

/// `tasker flamenco`.
#[derive(Debug, Clone, Subcommand)]
pub enum FlamencoCommand {
    /// List the workers: what each is, is to become, and has for a task
    #[command(
        after_help = "Example:\n  tasker flamenco workers --config /etc/flamenco/flamenco-manager.yaml"
    )]
    Workers,
    /// List the jobs by the states of their tasks, the newest first
    #[command(after_help = "Example:\n  tasker flamenco jobs --limit 20")]
    Jobs(FlamencoJobs),
    /// List the tasks that the manager has, the oldest first
    #[command(after_help = "Example:\n  tasker flamenco tasks --status failed,soft-failed --latest")]
    Tasks(FlamencoTasks),
    /// Show a task: what it does, on which workers it failed, and the end of its log
    #[command(after_help = "Example:\n  tasker flamenco task 5e90d0000000000000000d01")]
    Task {
        /// The id of the task
        #[arg(value_name = "ID")]
        id: ObjectId,
    },
    /// Tell a worker to become awake or asleep, or to shut down
    #[command(
        name = "set-status",
        after_help = "Example:\n  tasker flamenco set-status node-a asleep --lazy"
    )]
    SetStatus(SetStatus),
}

/// `tasker flamenco jobs`.
#[derive(Debug, Clone, Args)]
pub struct FlamencoJobs {
    /// Jobs at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Only jobs that are older than the one of this id
    #[arg(long, value_name = "ID")]
    pub before: Option<ObjectId>,
}

/// `tasker flamenco tasks`.
#[derive(Debug, Clone, Args)]
pub struct FlamencoTasks {
    /// Only tasks of the job of this id
    #[arg(long, value_name = "ID")]
    pub job: Option<ObjectId>,
    /// Only tasks of these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', help = format!("Only tasks of these states, separated by commas: {}", farm::TaskStatus::ALL.map(farm::TaskStatus::as_str).join(", ")))]
    pub status: Vec<farm::TaskStatus>,
    /// Those that changed last first, instead of the oldest
    #[arg(long, conflicts_with = "after")]
    pub latest: bool,
    /// Tasks at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Only tasks after the one of this id
    #[arg(long, value_name = "ID")]
    pub after: Option<ObjectId>,
}

/// `tasker flamenco set-status`.
#[derive(Debug, Clone, Args)]
pub struct SetStatus {
    /// Nickname or id of the worker
    #[arg(value_name = "WORKER", value_parser = NonEmptyStringValueParser::new())]
    pub worker: String,
    /// awake, asleep or shutdown
    #[arg(value_name = "STATUS", value_parser = NonEmptyStringValueParser::new())]
    pub status: String,
    /// Let it finish its task first
    #[arg(long)]
    pub lazy: bool,
}

/// `tasker initialize`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("what").args(["database", "rabbitmq"]).required(true).multiple(true))]
pub struct Initialize {
    /// Create or update the tables in manager.db
    #[arg(short, long)]
    pub database: bool,
    /// Create virtual host, user and permissions over the broker's management interface
    #[arg(short, long)]
    pub rabbitmq: bool,
    /// Delete what is there first: all tasks, all queues
    #[arg(long)]
    pub reset: bool,
    /// Do not ask before deleting
    #[arg(long, requires = "reset")]
    pub yes: bool,
}

/// `tasker submit`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("one_task").args(["task_type", "batch"]).required(true))]
pub struct Submit {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// File with many submissions instead of one, as JSON, one a line, each with its `type` and `identifier`;
    /// - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identifier", "payload", "payload_file", "priority", "ttl", "run_at", "endpoints", "selectors", "exclude", "percent", "limit", "seed", "groups", "strict", "dry_run", "wait"])]
    pub batch: Option<PathBuf>,
    /// Your name for the task [default: a new UUID]
    #[arg(long, value_name = "ID")]
    pub identifier: Option<Identifier>,
    /// Payload as JSON
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    pub payload: Option<String>,
    /// File that holds the payload as JSON; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub payload_file: Option<PathBuf>,
    /// For a type with a work queue: its priority, the lower, the sooner [default: the type's]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole_number)]
    pub priority: Option<i32>,
    /// For a type with a work queue: how long the task may wait for a worker [default: as the type says]
    #[arg(long, value_name = "DURATION", value_parser = span::parse)]
    pub ttl: Option<Duration>,
    /// For a type with a work queue: not to begin before then: a time such as 2024-07-12T10:00:00Z, or a span
    /// such as 5m from now on
    #[arg(long, value_name = "TIME", value_parser = to_come)]
    pub run_at: Option<Timestamp>,
    /// Endpoints that are to perform it, separated by commas or one at a time [default: all that subscribe to
    /// the type]
    #[arg(short, long, visible_alias = "endpoint", value_name = "NAMES", value_delimiter = ',', value_parser = endpoint_name)]
    pub endpoints: Vec<EndpointName>,
    /// Which endpoints, where they are not named.
    #[command(flatten)]
    pub target: Target,
    /// Submit nothing: show which endpoints the task would be for, and which not and why
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Refuse endpoints that were never heard of, instead of a warning
    #[arg(long, requires = "endpoints")]
    pub strict: bool,
    /// Do not ask, however many endpoints the task is for
    #[arg(long)]
    pub yes: bool,
    /// Who signs it.
    #[command(flatten)]
    pub hand: Hand,
    /// How to wait for the end.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Which endpoints a task is for.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Only endpoints whose labels fit, such as 'site=berlin and not role=db' or '@web and site=berlin';
    /// repeatable, all must fit
    #[arg(long = "match", value_name = "SELECTOR", conflicts_with = "endpoints")]
    pub selectors: Vec<Selector>,
    /// The endpoints of these groups, and those of --match, if that is given too
    #[arg(
        long = "group",
        visible_alias = "groups",
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "endpoints"
    )]
    pub groups: Vec<GroupName>,
    /// Not endpoints whose labels fit, such as 'name=web1*'; repeatable, none must fit
    #[arg(long, value_name = "SELECTOR", conflicts_with = "endpoints")]
    pub exclude: Vec<Selector>,
    /// Only this percentage of them, rounded up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "endpoints")]
    pub percent: Option<u8>,
    /// Only this many of them at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "endpoints")]
    pub limit: Option<u32>,
    /// Text that decides which endpoints --percent and --limit leave: the same seed chooses the same ones
    /// [default: the identifier]
    #[arg(long, value_name = "TEXT", conflicts_with = "endpoints")]
    pub seed: Option<String>,
    /// known: also endpoints that are stopped, which get the task when they are back in time [default: as the
    /// type says, else subscribed]
    #[arg(long, value_name = "WHICH", value_parser = choice::<Expect>(), conflicts_with = "endpoints")]
    pub expect: Option<Expect>,
}

impl Choice for Expect {
    const ALL: &[Self] = &[Self::Subscribed, Self::Known];

    fn value(self) -> PossibleValue {
        match self {
            Self::Subscribed => {
                PossibleValue::new("subscribed").help("Those that take tasks of the type now")
            }
            Self::Known => {
                PossibleValue::new("known").help("Those and all that are stopped and not forgotten")
            }
        }
    }
}

/// How to wait for the end of a task.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// Wait until the task ends, or all endpoints that have received it are through; at most for DURATION
    #[arg(long, value_name = "DURATION", value_parser = span::parse, num_args = 0..=1)]
    pub wait: Option<Option<Duration>>,
    /// Show all endpoints at the end; otherwise, of more than five, failed and missing ones, and once more
    /// than 20 have answered, groups of equal answers; --json does so unless --responses narrows it
    #[arg(long)]
    pub all: bool,
    /// Which responses to show [default: all of up to five endpoints, failed and missing ones of more, groups
    /// of more than 20 answers; with --json all]
    #[arg(long, value_name = "WHICH", value_parser = choice::<Responses>(), conflicts_with = "all")]
    pub responses: Option<Responses>,
}

impl Choice for Responses {
    const ALL: &[Self] = &Self::ALL;

    fn value(self) -> PossibleValue {
        let help = match self {
            Self::All => "Every one",
            Self::Failed => "Those finished with an error",
            Self::Missing => "Those of endpoints that have not received it",
            Self::None => "None at all",
            Self::Few => {
                "All of at most 5 endpoints; else the failed ones, and none once more than 20 have finished"
            }
        };
        PossibleValue::new(self.as_str()).help(help)
    }
}

impl Choice for Delivery {
    const ALL: &[Self] = &Self::ALL;

    fn value(self) -> PossibleValue {
        let help = match self {
            Self::Fanout => "Every endpoint",
            Self::Queue => "One worker, as the types of a work queue",
        };
        PossibleValue::new(self.as_str()).help(help)
    }
}

impl Waiting {
    /// Which responses were asked for; none means failed and missing ones.
    pub(super) fn shown(&self, json: bool) -> Option<Responses> {
        // A program that asks what became of a task wants the answers, those of success too.
        self.responses.or((self.all || json).then_some(Responses::All))
    }
}

/// `tasker status`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct Status {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Identifier or task id
    #[arg(value_name = "ID", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// Show all that is known of this endpoint's response, with its whole message, answer and log
    #[arg(short = 'e', long = "endpoint", value_name = "NAME", conflicts_with_all = ["all", "responses"])]
    pub of_endpoint: Option<EndpointName>,
    /// How to wait for the end.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `tasker answers`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct Answers {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Identifier or task id
    #[arg(value_name = "ID", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// Show the endpoints that gave this answer, named by at least six of its first digits
    #[arg(long, value_name = "ANSWER", value_parser = NonEmptyStringValueParser::new())]
    pub answer: Option<String>,
    /// Groups of answers to show at most
    #[arg(long, value_name = "N", default_value_t = GROUPS, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Print each group, or each response of --answer, as JSON on a line of its own
    #[arg(long)]
    pub jsonl: bool,
}

/// `tasker watch`.
#[derive(Debug, Clone, Args)]
pub struct Watch {
    /// Identifier or task id, before an identifier its task type, if need be [default: all tasks that have
    /// not ended]
    #[arg(value_name = "ID", num_args = 0..=2, value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
}

/// `tasker logs`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct Logs {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Identifier or task id
    #[arg(value_name = "ID", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// Only what the handler of this endpoint logs
    #[arg(short = 'e', long = "endpoint", value_name = "NAME")]
    pub of_endpoint: Option<EndpointName>,
    /// Go on until the task, or the endpoint's part in it, has ended
    #[arg(short, long)]
    pub follow: bool,
}

/// `tasker rerun`.
#[derive(Debug, Clone, Args)]
#[command(allow_missing_positional = true)]
pub struct Rerun {
    /// Task type
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Identifier or task id
    #[arg(value_name = "ID", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// Only endpoints in these states, separated by commas: failed, missing (never received it), expired,
    /// canceled [default: all of these]
    #[arg(long, value_name = "HOW", value_delimiter = ',')]
    pub only: Vec<Fared>,
    /// Only endpoints that gave this answer, named by at least six of its first digits; without --only also
    /// those that succeeded
    #[arg(long, value_name = "ANSWER", value_parser = NonEmptyStringValueParser::new())]
    pub answer: Option<String>,
    /// Your name for the new task [default: a new UUID]
    #[arg(long, value_name = "ID")]
    pub identifier: Option<Identifier>,
    /// How to wait for the end.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `tasker list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Task type [default: all]
    #[arg(value_name = "TYPE")]
    pub task_type: Option<TaskType>,
    /// Only tasks of these states, separated by commas: CREATED, SENT, INCOMPLETE, DONE, CANCELED, EXPIRED
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = one_of(&TaskStatus::ALL, TaskStatus::as_str), hide_possible_values = true)]
    pub status: Vec<TaskStatus>,
    /// Only tasks that an endpoint has finished with an error
    #[arg(long)]
    pub failed: bool,
    /// Only tasks whose identifier begins so
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub identifier: Option<String>,
    /// Only tasks accepted since then: a time such as 2024-07-12T10:00:00Z, or a span such as 2h before now
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
    /// Only tasks accepted before then
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub until: Option<Timestamp>,
    /// Show the ids of tasks too
    #[arg(long)]
    pub wide: bool,
    /// Where and how much.
    #[command(flatten)]
    pub page: Page,
}

/// `tasker cancel`.
#[derive(Debug, Clone, Args)]
pub struct Cancel {
    /// Identifiers or task ids; before identifiers their task type, if need be
    #[arg(value_name = "ID", required_unless_present_any = FILTER, conflicts_with_all = FILTER, value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Instead of ids: all open tasks of this type (repeatable)
    #[arg(long = "type", value_name = "TYPE")]
    pub of_type: Vec<TaskType>,
    /// All open tasks of these states, separated by commas: CREATED, SENT, INCOMPLETE
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = one_of(&TaskStatus::ALL, TaskStatus::as_str), hide_possible_values = true)]
    pub status: Vec<TaskStatus>,
    /// All open tasks whose identifier begins so
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub identifier: Option<String>,
    /// All open tasks accepted since then: a time such as 2024-07-12T10:00:00Z, or a span such as 2h before
    /// now
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
    /// All open tasks accepted before then
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub until: Option<Timestamp>,
    /// How sure you are.
    #[command(flatten)]
    pub sure: Sureness,
}

/// What chooses tasks to be canceled instead of their ids.
const FILTER: [&str; 5] = ["of_type", "status", "identifier", "since", "until"];

/// `tasker endpoints`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Endpoints {
    /// What else to do.
    #[command(subcommand)]
    pub action: Option<EndpointsAction>,
    /// Only endpoints with this task type
    #[arg(long = "type", value_name = "TYPE")]
    pub of_type: Option<TaskType>,
    /// Only endpoints that are gone
    #[arg(long)]
    pub gone: bool,
    /// Only endpoints whose labels fit, such as 'site=berlin and not role=db'
    #[arg(long = "match", value_name = "SELECTOR")]
    pub selector: Option<Selector>,
    /// Where and how much.
    #[command(flatten)]
    pub page: Page,
}

/// What `tasker endpoints` does besides listing.
#[derive(Debug, Clone, Subcommand)]
pub enum EndpointsAction {
    /// Forget endpoints that do not come back: tasks to come do not expect them
    ///
    /// What they owe stays expected until the tasks end, or until they come back after all.
    #[command(
        after_help = "Examples:\n  tasker endpoints forget console7\n  tasker endpoints forget --gone-for 30d"
    )]
    Forget(Forget),
}

/// `tasker endpoints forget`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").args(["name", "gone_for"]).required(true))]
pub struct Forget {
    /// Endpoint
    #[arg(value_name = "NAME")]
    pub name: Option<EndpointName>,
    /// All endpoints that have been away for so long, such as 30d
    #[arg(long, value_name = "DURATION", value_parser = span::parse)]
    pub gone_for: Option<Duration>,
    /// With --gone-for: forget none, list them
    #[arg(long, requires = "gone_for")]
    pub dry_run: bool,
    /// With --gone-for: do not ask
    #[arg(long, requires = "gone_for")]
    pub yes: bool,
    /// Even if it is there; it is back with its next sign of life
    #[arg(long, requires = "name")]
    pub force: bool,
}

/// `tasker config`.
#[derive(Debug, Clone, Subcommand)]
pub enum Configuration {
    /// Say `ok`, or all that is wrong
    ///
    /// With --for, the parts that the command reads must be complete, and the files that it needs to start or to
    /// connect must exist; warnings are about these parts, and about missing files that it needs later.
    /// Without --for, a part that is absent altogether is fine. Values that are wrong are found in all parts,
    /// because no command starts with them.
    #[command(after_help = "\
Examples:
  tasker config check -m production --for endpoint
  tasker config check -m production --connect    ask database and broker too")]
    Check {
        /// Check that this command has all it needs; repeatable
        #[arg(long = "for", value_name = "COMMAND")]
        roles: Vec<Role>,
        /// With --for endpoint or worker: the identity that the command is started with [env: TASKER_IDENTITY]
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// Connect to database, broker and management interface too, and say what to do where that fails
        #[arg(long)]
        connect: bool,
    },
    /// Print the configuration in effect as YAML, secrets as ***
    #[command(after_help = "Example:\n  tasker config show --origin --config /etc/tasker/tasker.yaml")]
    Show {
        /// Print where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

/// Who needs which parts of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Database and broker.
    Api,
    /// The broker, and a type without a work queue.
    Endpoint,
    /// The broker, unless --api is given, and a type with a work queue.
    Worker,
    /// The broker, and http_worker.
    HttpWorker,
    /// Database, broker and its management interface.
    Initialize,
}

/// A name, or nothing.
fn name_or_none(text: &str) -> Result<Option<EndpointName>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some).map_err(|error: crate::domain::InvalidName| error.to_string())
    }
}

fn whole_number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "expected a whole number, such as 0 or -5".to_owned())
}

fn endpoint_name(text: &str) -> Result<EndpointName, String> {
    let pattern = text.contains(['*', '?']);
    let hint =
        if pattern { format!("; a pattern is a selector: --match 'name={text}'") } else { String::new() };
    text.parse().map_err(|error: crate::domain::InvalidName| format!("{error}{hint}"))
}
