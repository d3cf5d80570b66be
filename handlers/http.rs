//! Makes HTTP calls: the payload is a list of them, the answer says what became of each.
//!
//! ```json
//! [{"url": "https://bmc1.example.org/redfish/v1/Systems/1", "headers": {"X-Auth-Token": "..."}},
//!  {"method": "POST", "url": "https://bmc2.example.org/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
//!   "body": {"ResetType": "On"}, "timeout_ms": 5000, "retries": 0, "tls": "insecure"}]
//! ```
//!
//! A call needs a `url`. `method` is GET unless said, `headers` have a text or a list of texts each, a `body` that is no text is
//! sent as JSON. `timeout_ms` (30000), `attempt_timeout_ms`, `retries` (3), `backoff_max_ms` (5000), `repeatable` (whether a POST may be sent
//! again after bytes of it have left), `tls` (`verify` or `insecure`) and `body_limit` (16384: what is kept of the answer's body) are
//! those of [`crate::http_tasks`]. The calls connect to nothing but what the endpoint's `endpoint.http.allow` lists, wherever names and redirects
//! lead.
//!
//! The answer is `{"total", "ok", "failed", "calls": [...]}`, a call in the place of its request: `outcome` (`ok`; `status` for 400
//! and above; or `failed`), `status`, `content_type`, `body`, `truncated`, `attempts`, `trust`, `error` and `timings`. Only when all are `ok` the task is
//! finished with 0, otherwise with 1 and the same answer. Request headers and bodies are in no answer, error or log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::domain::{Outcome, json};
use crate::endpoint::{Context, Handler, Work};
use crate::http_tasks::{
    Batch, Completion, InvalidTask, Limit, Method, Reach, Response, StatusCode, Task, TaskList, TaskRunner, TlsConfig, TlsMode, Trust,
};

/// Where its settings are.
const SECTION: &str = "endpoint.http";
/// What is kept of a body unless said.
const BODY_LIMIT: usize = 16 << 10;
/// The payload is no list of calls (`EX_USAGE`).
const BAD_PAYLOAD: i32 = 64;
/// Not every call was answered as it should be.
const NOT_ALL_OK: i32 = 1;
/// The endpoint's settings are of no use (`EX_CONFIG`).
const BAD_SETTINGS: i32 = 78;
/// What the answer has around its calls, at most.
const AROUND_CALLS: usize = 120;
/// What is left of the time limit for the answer.
const TO_ANSWER: Duration = Duration::from_millis(500);

/// See the module.
pub struct Http {
    settings: config::Http,
    output_limit: usize,
    /// Made by the first task: it needs the runtime, and most endpoints never need it.
    runner: OnceLock<Result<TaskRunner, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    url: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    #[serde(default)]
    body: Option<serde_json::Value>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    attempt_timeout_ms: Option<u64>,
    #[serde(default)]
    retries: Option<u32>,
    #[serde(default)]
    backoff_max_ms: Option<u64>,
    #[serde(default)]
    repeatable: bool,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    body_limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Tls {
    #[default]
    Verify,
    Insecure,
}

#[derive(Serialize)]
struct Answer {
    total: usize,
    ok: usize,
    failed: usize,
    calls: Vec<Called>,
}

#[derive(Serialize, Default)]
struct Called {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    attempts: u32,
    trust: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    timings: Spans,
}

#[derive(Serialize, Default)]
struct Spans {
    queued_ms: u64,
    connect_ms: u64,
    headers_ms: u64,
    body_ms: u64,
    waited_ms: u64,
    total_ms: u64,
}

#[async_trait]
impl Handler for Http {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        if self.settings.allow.is_empty() {
            return Outcome::failed(BAD_SETTINGS, format!("nothing is allowed: list the targets under {SECTION}.allow"));
        }
        let calls = match work.payload::<Vec<Call>>() {
            Ok(calls) if calls.is_empty() => return Outcome::failed(BAD_PAYLOAD, "the list has no call"),
            Ok(calls) => calls,
            // What serde shows of the value could be anything, also a header.
            Err(error) => {
                return Outcome::failed(
                    BAD_PAYLOAD,
                    format!("the payload is no list of calls (line {}, column {})", error.line(), error.column()),
                );
            }
        };
        let mut list = TaskList::new();
        for (place, call) in calls.into_iter().enumerate() {
            match call.into_task(context.remaining().saturating_sub(TO_ANSWER)) {
                Ok(task) => list.push(task, ()),
                Err(error) => return Outcome::failed(BAD_PAYLOAD, format!("call {place}: {error}")),
            }
        }
        let runner = match self.runner.get_or_init(|| runner(&self.settings, SECTION)) {
            Ok(runner) => runner,
            Err(error) => return Outcome::failed(BAD_SETTINGS, error.clone()),
        };
        match runner.launch(list) {
            Ok(batch) => self.answer(gather(batch, context).await),
            Err(error) => Outcome::failed(BAD_SETTINGS, error.to_string()),
        }
    }
}

/// All completions, in the order of the list.
async fn gather(mut batch: Batch<()>, context: &Context) -> Vec<Completion> {
    let total = batch.progress().total;
    let mut done: Vec<Completion> = Vec::with_capacity(total);
    let mut canceled = false;
    loop {
        tokio::select! {
            next = batch.next() => match next {
                Some(completion) => done.push(completion),
                None => break,
            },
            () = context.canceled(), if !canceled => {
                canceled = true;
                batch.cancel();
            }
        }
        context.progress(u8::try_from(done.len() * 100 / total.max(1)).unwrap_or(100));
    }
    done.sort_by_key(|completion| completion.index);
    done
}

impl Http {
    /// One with these settings.
    pub fn new(settings: &config::Endpoint) -> Self {
        Self { settings: settings.http.clone(), output_limit: settings.output_limit, runner: OnceLock::new() }
    }

    fn answer(&self, done: Vec<Completion>) -> Outcome {
        let total = done.len();
        let (mut calls, bodies): (Vec<Called>, Vec<Option<String>>) = done.into_iter().map(called).unzip();
        let ok = calls.iter().filter(|call| call.outcome == "ok").count();
        let first = calls.iter().enumerate().find(|(_, call)| call.outcome != "ok").map(|(place, call)| {
            let status = call.status.map(|status| format!("status {status}"));
            format!("call {place}: {}", call.error.clone().or(status).unwrap_or_default())
        });
        // Bodies come last: what became of each call is said whether or not there is room for what was answered.
        let cut: Vec<bool> = calls.iter().map(|call| call.truncated).collect();
        for (call, body) in calls.iter_mut().zip(&bodies) {
            call.truncated |= body.is_some();
        }
        let mut room = self.output_limit.saturating_sub(json(&calls).get().len() + AROUND_CALLS);
        for ((call, body), cut) in calls.iter_mut().zip(bodies).zip(cut) {
            let Some(body) = body else { continue };
            let needed = json(&body).get().len() + r#""body":,"#.len();
            if needed <= room {
                room -= needed;
                (call.body, call.truncated) = (Some(body), cut);
            }
        }
        let answer = json(&Answer { total, ok, failed: total - ok, calls });
        match first {
            None => Outcome::Done(answer),
            Some(first) => Outcome::Failed {
                errnr: NOT_ALL_OK,
                errmsg: format!("{} of {total} calls were not answered as they should be; {first}", total - ok),
                payload: Some(answer),
            },
        }
    }
}

/// A runner that makes calls as the settings of this section allow, for this process or, in a worker, for others.
///
/// # Errors
/// When a file cannot be read or is not what it should be, in one sentence.
pub fn runner(settings: &config::Http, section: &str) -> Result<TaskRunner, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let mut tls = TlsConfig::new();
    if let Some(path) = &settings.ca_bundle {
        tls = tls.ca_bundle_pem(read(path)?).map_err(|error| format!("{section}.ca_bundle: {error}"))?;
    }
    if let Some((certificate, key)) = &settings.identity {
        let identity = tls.client_identity_pem(read(certificate)?, read(key)?);
        tls = identity.map_err(|error| format!("{section}.client_certificate: {error}"))?;
    }
    let reach = Arc::new(Reach::new(settings.allow.iter().cloned(), format!("{section}.allow")));
    let runner = TaskRunner::local("tasker").tls(tls).guard(reach).max_sockets(Limit::Of(settings.max_sockets));
    runner.build().map_err(|error| format!("cannot make HTTP calls: {error}"))
}

impl Call {
    fn into_task(self, most: Duration) -> Result<Task, InvalidTask> {
        let invalid = |field, why: &str| InvalidTask { field, why: why.to_owned() };
        let method = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| invalid("method", "it is none"))?;
        let millis = Duration::from_millis;
        let mut task = Task::new(method, &self.url)?.truncate(true).body_limit(self.body_limit.unwrap_or(BODY_LIMIT));
        for (name, values) in &self.headers {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values,
            };
            for value in values {
                task.add_header(name, value.as_bytes())?;
            }
        }
        match self.body {
            None => {}
            Some(serde_json::Value::String(text)) => task = task.body(text),
            Some(value) => {
                if !self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                    task.add_header("content-type", b"application/json")?;
                }
                task = task.body(value.to_string());
            }
        }
        // Its time limit would end the task without an answer.
        task = task.timeout(self.timeout_ms.map_or(Duration::from_secs(30), millis).min(most).max(millis(1)));
        if let Some(timeout) = self.attempt_timeout_ms {
            task = task.attempt_timeout(millis(timeout));
        }
        if let Some(retries) = self.retries {
            task = task.retries(retries);
        }
        if let Some(longest) = self.backoff_max_ms {
            task = task.backoff_max(millis(longest));
        }
        Ok(task.repeatable(self.repeatable).tls_mode(match self.tls {
            Tls::Verify => TlsMode::Verify,
            Tls::Insecure => TlsMode::Insecure,
        }))
    }
}

/// What became of a call, and the body that was answered.
fn called(done: Completion) -> (Called, Option<String>) {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let timings = Spans {
        queued_ms: millis(done.timings.queued),
        connect_ms: millis(done.timings.connect),
        headers_ms: millis(done.timings.headers),
        body_ms: millis(done.timings.body),
        waited_ms: millis(done.timings.waited),
        total_ms: millis(done.timings.total),
    };
    let trust = match done.trust {
        Trust::Plain => "plain",
        Trust::Verified => "verified",
        Trust::InsecureRequested | Trust::InsecureFallback => "insecure",
    };
    let (outcome, response, error) = match &done.result {
        Ok(response) if response.status < StatusCode::BAD_REQUEST => ("ok", Some(response), None),
        Ok(response) => ("status", Some(response), None),
        Err(error) => ("failed", error.last_response(), Some(error.explain())),
    };
    let text = |response: &Response| String::from_utf8_lossy(&response.body).into_owned();
    let body = response.filter(|response| !response.body.is_empty()).map(text);
    let content_type = response.and_then(|response| response.headers.get("content-type")?.to_str().ok().map(str::to_owned));
    let (status, truncated) = (response.map(|response| response.status.as_u16()), response.is_some_and(|response| response.truncated));
    (Called { outcome, status, content_type, body: None, truncated, attempts: done.attempts, trust, error, timings }, body)
}
