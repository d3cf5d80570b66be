//! tasker hands tasks to fleets of servers and knows exactly what became of each one.
//!
//! The way of a task, and where to look for each step:
//!
//! 1. [`api`] takes a POST, asks the [`keyring`] who it is from, has [`admission`] make a [`domain::NewTask`]
//!    of it, and hands that to the [`acceptor`], which records it together with all others that came
//!    meanwhile: 201.
//! 2. The [`publisher`] freezes who is expected into the [`ledger`] (rows of the [`store`]), publishes
//!    through the [`broker`], where [`sealing`] may sign the message, notes the confirm.
//! 3. The [`endpoint`] journals it, acknowledges, runs its handler ([`handlers`] or an executable), journals
//!    the outcome, reports.
//! 4. The [`collector`] writes reports to the [`ledger`] in batches. Every task moves there, and waiting
//!    requests wake up ([`watch`]).
//! 5. The [`reconciler`] looks at every task whose time has come: publishes, asks again, passes deadlines,
//!    forgets.
//! 6. Tasks of a work queue are given to one worker each by the dispatcher in [`queue`], which the [`bell`]
//!    wakes; workers are endpoints with so many slots. The [`scheduler`] submits tasks at times.
//! 7. [`requests`] moves steps of jobs on: each job is such a task.
//! 8. [`rollouts`] changes a fleet in waves: each batch of a wave is such a task.
//! 9. [`presence`] knows who is there and asks those that return for what they owe.
//!
//! [`throughput`] keeps how many tasks there were, and what became of them.
//!
//! [`live`] tells those who watch what goes on; [`touched`] tells it what this process has changed.
//!
//! [`http_tasks`] makes thousands of HTTP calls at once and needs none of the rest; the handler `http` calls
//! it, and [`http_remote`] has them made by workers elsewhere.
//!
//! [`flamenco`] speaks the protocol of render farms in front of the [`farm`], which knows nothing of it.
//!
//! [`dashboard`] is the page in the browser, on that API alone.
//!
//! [`contract`] describes the JSON of the HTTP API once, for those who write it and those who read it.
//! [`client`] is the one HTTP client of the API: of the command line, the bench, and workers that reach
//! nothing but the API.
//!
//! [`app`] puts the parts of a process together; [`cli`] is the command line; [`mod@bench`] measures the
//! whole; [`simulated`] endpoints are what it and `tasker up --simulate` are driven with. [`domain`] holds
//! the words and the state machines; [`config`], [`telemetry`], [`clock`], [`backoff`], [`service`],
//! [`https`], [`request_body`] and [`observer`] are what every process needs; [`enrolment`] seals the broker
//! users of endpoints on their way; [`signing`] keeps keys and judges signatures; [`custody`] says who could
//! exchange a file; [`yaml`] reads documents and keeps their numbers; [`shell`] quotes words of commands that
//! are shown; [`failpoint`] is where tests end it. `docs/architecture.md` gives the reasons;
//! `tests/it/layering.rs` holds the table of who may know whom.
//!
//! Most modules are in crates of their own, the directories of `src/`, and are re-exported here under their
//! names. Public is what others use: the executables, handlers written in Rust, the tests and the fuzz
//! targets.

// The map leads to every room, also to those that only we enter.
#![allow(rustdoc::private_intra_doc_links)]

pub use tasker_fleet::{endpoint, handlers, http_remote};
pub use tasker_http_tasks as http_tasks;
pub use tasker_model::{domain, farm};
pub use tasker_process::{
    backoff, bell, clock, config, custody, failpoint, https, service, shell, telemetry, watch, yaml,
};
pub use tasker_records::{keyring, ledger, store, throughput, touched};
pub use tasker_server::{
    acceptor, admission, collector, live, observer, presence, publisher, queue, reconciler, requests,
    rollouts, scheduler, sealing,
};
pub use tasker_transport::{broker, client, contract, enrolment, signing};
pub use tasker_web::{api, dashboard, flamenco, request_body};

pub mod app;
#[cfg(feature = "bench")]
pub(crate) mod bench;
pub mod cli;
pub mod simulated;

/// The examples of the README, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
