//! Thousands of HTTP calls at once: a library of its own that needs no store, no broker and no API.
//!
//! A list of tasks is made from one source, customised, launched, and comes back as a stream of completions,
//! exactly one for each task that was not left out. The engine repeats what failed for a passing reason,
//! keeps connections for the next task, never opens more sockets than the limit on files leaves room for, and
//! serves hosts in turn, so that one that does not answer keeps nobody waiting.
//!
//! ```
//! use std::time::Duration;
//! # mod tasker { pub use tasker_http_tasks as http_tasks; }
//! use tasker::http_tasks::{Method, Task, TaskList, TaskRunner};
//!
//! # async fn sample(hosts: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
//! let runner = TaskRunner::local("my-service").build()?;
//!
//! // What all tasks have in common: 10 seconds each, 5 retries, at most 6 seconds between them.
//! let source = Task::template(Method::GET)
//!     .timeout(Duration::from_secs(10))
//!     .retries(5)
//!     .backoff_max(Duration::from_secs(6));
//!
//! // What is particular to each of them.
//! let mut list: TaskList<String> = runner.task_list(&source, hosts.len());
//! for (task, host) in list.iter_mut().zip(hosts) {
//!     task.set_url(&format!("http://{host}/redfish/v1"))?.set_tag(host);
//! }
//!
//! // The stream ends by itself after the last completion.
//! let mut batch = runner.launch(list)?;
//! while let Some(task) = batch.next().await {
//!     match task.result {
//!         Ok(response) => println!("{}: {} {} bytes", task.tag, response.status, response.body.len()),
//!         Err(error) => println!("{}: {} after {} attempts", task.tag, error.explain(), task.attempts),
//!     }
//! }
//! runner.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     use std::io::{Read, Write};
//! #     let server = std::net::TcpListener::bind("127.0.0.1:0")?;
//! #     let host = server.local_addr()?.to_string();
//! #     std::thread::spawn(move || {
//! #         for mut client in server.incoming().flatten() {
//! #             let mut request = [0; 1024];
//! #             let _ = client.read(&mut request);
//! #             let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n";
//! #             let _ = client.write_all(format!("{head}ok").as_bytes());
//! #         }
//! #     });
//! #     tokio::runtime::Runtime::new()?.block_on(sample(vec![host; 100]))
//! # }
//! ```
//!
//! Where to look: `runner` is the way in and takes the `settings`, `task` and `task_list` are what is to be
//! done, `batch` and `completion` what comes of it, with the `response`. Inside, a launched task is a
//! `ticket`. `engine` joins the `scheduler`, which gives out slots (`schedule` says who is next), and the
//! `network`: `sockets` (the budget), `pool` (idle connections), names and TLS. `course` is the way of one
//! task, `ask` its request, `dial` and `connection` its connection and `key` what that is good for, `body`
//! what it reads and `room` how much of that. A [`Carrier`] takes tasks to other processes instead.
//!
//! Promises: every task completes once, whatever happens to it; bodies are complete and owned, and bounded;
//! no text and no log shows a body, or a header or part of a URL that carries credentials; a server has to
//! prove who it is unless the task says otherwise.

mod ask;
mod batch;
mod body;
mod carrier;
mod completion;
mod connection;
mod course;
mod dial;
mod engine;
mod error;
mod key;
mod network;
mod observer;
mod pool;
mod progress;
mod proxy;
mod reach;
mod resolver;
mod response;
mod retry;
mod room;
mod runner;
mod runtime;
mod schedule;
mod scheduler;
mod settings;
mod sockets;
mod task;
mod task_list;
mod text;
mod ticket;
mod tls;
mod transport;

pub use batch::{Batch, Blocking, CancelToken, Finished, Relaunch};
pub use carrier::{Carried, Carrier, CarrierHealth, Parcel};
pub use completion::{AttemptOutcome, AttemptSummary, Completion, Timings, Trust};
pub use connection::{Connect, Stream, Tcp};
pub use engine::Stats;
pub use error::{AttemptFailure, BuildError, CanceledBy, Last, LaunchError, Phase, RemoteError, TaskError};
pub use observer::{Event, Observer};
pub use progress::Progress;
pub use proxy::Proxy;
pub use reach::{Allowed, Guard, InvalidAllowed, Reach};
pub use resolver::{Resolve, SystemResolver};
pub use response::Response;
pub use retry::{Jitter, LONGEST_WAIT, RETRIES, RetryMethods, RetryPolicy};
pub use room::Room;
pub use runner::{Health, Limit, RunnerBuilder, TaskRunner};
pub use settings::DeadlineFrom;
pub use task::{InvalidTask, Priority, Task, TaskId};
pub use task_list::{Entry, TaskList};
pub use text::base64;
pub use tls::{InsecureFallback, Roots, TlsConfig, TlsError, TlsMode};
pub use transport::TransportPolicy;

pub use hyper::header::{HeaderName, HeaderValue};
pub use hyper::{HeaderMap, Method, StatusCode, Version};
