//! Makes HTTP calls: the payload is a list of them, the answer says what became of each.
//!
//! ```json
//! [{"url": "https://bmc1.example.org/redfish/v1/Systems/1", "headers": {"X-Auth-Token": "..."}},
//!  {"method": "POST", "url": "https://bmc2.example.org/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
//!   "body": {"ResetType": "On"}, "timeout_ms": 5000, "retries": 0, "tls": "insecure"}]
//! ```
//!
//! A call needs a `url`. `method` is GET unless said, `headers` have a text or a list of texts each, a `body`
//! that is no text is sent as JSON, byte for byte as it stands in the payload. `timeout_ms` (30000),
//! `attempt_timeout_ms`, `retries` (3), `backoff_max_ms` (5000), `repeatable` (whether a POST may be sent
//! again after bytes of it have left), `tls` (`verify` or `insecure`) and `body_limit` (16384: what is kept
//! of the answer's body) are those of [`crate::http_tasks`]; a time of 0 is the default. Every number has a
//! limit. The calls connect to nothing but what the endpoint's `endpoint.http.allow` lists, wherever names
//! and redirects lead, and `insecure` needs `endpoint.http.insecure`.
//!
//! The answer is `{"total", "ok", "failed", "calls": [...]}`, a call in the place of its request: `outcome`
//! (`ok`; `status` where the last answer was neither 2xx nor 304; or `failed`), `status`, `content_type`,
//! `content_encoding`, `body` if it is text and `body_base64` if it is not, `truncated`, `attempts`, `trust`,
//! `error` and `timings`. Only when all are `ok` the task is finished with 0, otherwise with 1 and the same
//! answer. Request headers and bodies are in no answer, error or log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::config;
use crate::domain::{Outcome, json};
use crate::endpoint::{Context, Handler, Work};
use crate::http_tasks::{
    Batch, Completion, HeaderName, InvalidTask, Limit, Method, RETRIES, Reach, Response, Room, StatusCode,
    Task, TaskList, TaskRunner, TlsConfig, TlsMode, Trust, base64,
};

const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");
const CONTENT_ENCODING: HeaderName = HeaderName::from_static("content-encoding");
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
/// What is said of a call without its body, its error and its headers, at most.
const CALL_BYTES: usize = 256;
/// Characters that are kept of a header or an error.
const TEXT_CHARACTERS: usize = 500;
/// Calls of one task, however long an answer may be.
const CALLS: usize = 10_000;
/// The longest time that a call can name: a day.
const LONGEST_MS: u64 = 24 * 3600 * 1000;
/// The most retries that a call can name.
const MOST_RETRIES: u64 = 100;
/// What the bodies of a task that are being read take up together: as much as the longest answer there can
/// be.
const READING: usize = 8 << 20;
/// The time of a call, unless said.
const TIMEOUT: Duration = Duration::from_secs(30);
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
    /// As it stands there: a tree of values would change numbers, and the order and repetition of members.
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "whole")]
    timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    attempt_timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    retries: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    backoff_max_ms: Option<u64>,
    #[serde(default)]
    repeatable: bool,
    #[serde(default)]
    tls: Tls,
    #[serde(default, deserialize_with = "whole")]
    body_limit: Option<u64>,
}

/// A whole number of any length: one that is too large is told as such, with the limit.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = <&RawValue>::deserialize(deserializer)?.get();
    match text {
        "null" => Ok(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => Err(D::Error::custom("no whole number")),
    }
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
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
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
            return Outcome::failed(
                BAD_SETTINGS,
                format!("nothing is allowed: list the targets under {SECTION}.allow"),
            );
        }
        let calls = match calls(work.payload()) {
            Ok(calls) if calls.is_empty() => return Outcome::failed(BAD_PAYLOAD, "the list has no call"),
            // Before any is made: without an answer nobody would learn what became of them.
            Ok(calls) if calls.len() > self.most_calls() => {
                let (count, most) = (calls.len(), self.most_calls());
                let why = format!(
                    "the list has {count} calls, the limit is {most}: an answer has room for no more (endpoint.output_limit)"
                );
                return Outcome::failed(BAD_PAYLOAD, why);
            }
            Ok(calls) => calls,
            Err(why) => return Outcome::failed(BAD_PAYLOAD, why),
        };
        let (mut list, room) = (TaskList::new(), Room::of(READING));
        let names: Vec<String> = calls.iter().enumerate().map(|(place, call)| call.name(place)).collect();
        for (call, name) in calls.into_iter().zip(&names) {
            match call.into_task(context.remaining().saturating_sub(TO_ANSWER), self.output_limit) {
                Ok(task) => list.push(task.room(room.clone()), ()),
                Err(error) => return Outcome::failed(BAD_PAYLOAD, format!("{name}: {error}")),
            }
        }
        let runner = match self.runner.get_or_init(|| runner(&self.settings, SECTION)) {
            Ok(runner) => runner,
            Err(error) => return Outcome::failed(BAD_SETTINGS, error.clone()),
        };
        match runner.launch(list) {
            Ok(batch) => self.answer(gather(batch, context, self.output_limit).await, &names),
            Err(error) => Outcome::failed(BAD_SETTINGS, error.to_string()),
        }
    }
}

/// The calls of a payload, or what is wrong with it.
fn calls(payload: serde_json::Result<Vec<&RawValue>>) -> Result<Vec<Call>, String> {
    let list = payload.map_err(|_| {
        r#"the payload must be a list of calls such as [{"url": "http://server/"}]"#.to_owned()
    })?;
    let call = |(place, text): (usize, &RawValue)| {
        serde_json::from_str(text.get())
            .map_err(|error| format!("call {}: {}", place + 1, without_values(&error)))
    };
    list.into_iter().enumerate().map(call).collect()
}

/// What is wrong with a call, by the names of its members alone: a value could be anything, also a secret in
/// a header.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if text.starts_with("unknown field")
        || text.starts_with("missing field")
        || text.starts_with("duplicate field")
    {
        return text.replace("field", "member");
    }
    let expected =
        text.rsplit_once(", expected ").map_or("a member of another kind", |(_, expected)| expected);
    let expected = if expected == "struct Call" { "an object" } else { expected };
    format!("expected {expected} at line {}, column {} of the call", error.line(), error.column())
}

/// What became of the calls.
#[derive(Default)]
struct Gathered {
    /// By their places in the list.
    calls: BTreeMap<usize, Called>,
    /// What was answered, as far as it is kept.
    bodies: BTreeMap<usize, Content>,
}

/// A body in an answer.
struct Content {
    text: String,
    /// Whether the text is base64 of what was answered.
    base64: bool,
    /// Whether there was more.
    cut: bool,
    /// What it adds to the answer.
    bytes: usize,
}

/// Waits for all calls. Of the bodies it keeps no more than the answer could have; those of later calls give
/// way.
async fn gather(mut batch: Batch<()>, context: &Context, output_limit: usize) -> Gathered {
    let total = batch.progress().total;
    let (mut done, mut kept) = (Gathered::default(), 0);
    let mut canceled = false;
    loop {
        tokio::select! {
            next = batch.next() => match next {
                Some(completion) => {
                    let place = completion.index;
                    let (call, body) = called(completion);
                    done.calls.insert(place, call);
                    if let Some(body) = body {
                        kept += body.bytes;
                        done.bodies.insert(place, body);
                    }
                    while kept > output_limit && let Some((_, given_up)) = done.bodies.pop_last() {
                        kept -= given_up.bytes;
                    }
                }
                None => break,
            },
            () = context.canceled(), if !canceled => {
                canceled = true;
                batch.cancel();
            }
        }
        context.progress(u8::try_from(done.calls.len() * 100 / total.max(1)).unwrap_or(100));
    }
    done
}

impl Http {
    /// One with these settings.
    pub fn new(settings: &config::Endpoint) -> Self {
        Self { settings: settings.http.clone(), output_limit: settings.output_limit, runner: OnceLock::new() }
    }

    fn most_calls(&self) -> usize {
        CALLS.min(self.output_limit.saturating_sub(AROUND_CALLS) / CALL_BYTES)
    }

    fn answer(&self, Gathered { calls, bodies }: Gathered, names: &[String]) -> Outcome {
        let mut calls: Vec<Called> = calls.into_values().collect();
        let total = calls.len();
        let ok = calls.iter().filter(|call| call.outcome == "ok").count();
        let first = calls.iter().enumerate().find(|(_, call)| call.outcome != "ok").map(|(place, call)| {
            let status = call.status.map(|status| format!("status {status}"));
            format!(
                "{}: {}",
                names.get(place).map_or("", String::as_str),
                call.error.clone().or(status).unwrap_or_default()
            )
        });
        if json(&calls).get().len() + AROUND_CALLS > self.output_limit {
            // What servers have a say in gives way first.
            for call in &mut calls {
                (call.error, call.content_type, call.content_encoding) = (None, None, None);
            }
        }
        // Bodies come last: what became of each call is said whether or not there is room for what was
        // answered.
        let mut room = self.output_limit.saturating_sub(json(&calls).get().len() + AROUND_CALLS);
        for (place, body) in bodies {
            let Some(call) = calls.get_mut(place).filter(|_| body.bytes <= room) else { continue };
            room -= body.bytes;
            call.truncated = body.cut;
            *(if body.base64 { &mut call.body_base64 } else { &mut call.body }) = Some(body.text);
        }
        let answer = json(&Answer { total, ok, failed: total - ok, calls });
        match first {
            None => Outcome::Done(answer),
            Some(first) => Outcome::Failed {
                errnr: NOT_ALL_OK,
                errmsg: format!("{} of {total} calls failed; {first}", total - ok),
                payload: Some(answer),
            },
        }
    }
}

/// A runner that makes calls as the settings of this section allow, for this process or, in a worker, for
/// others.
///
/// # Errors
/// When a file cannot be read or is not what it should be, in one sentence.
pub fn runner(settings: &config::Http, section: &str) -> Result<TaskRunner, String> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let mut tls = TlsConfig::new();
    if let Some(path) = &settings.ca_bundle {
        tls = tls.ca_bundle_pem(read(path)?).map_err(|error| format!("{section}.ca_bundle: {error}"))?;
    }
    if let Some((certificate, key)) = &settings.identity {
        let identity = tls.client_identity_pem(read(certificate)?, read(key)?);
        tls = identity.map_err(|error| format!("{section}.client_certificate: {error}"))?;
    }
    let reach = Reach::new(settings.allow.iter().cloned(), format!("{section}.allow"));
    let reach =
        Arc::new(if settings.insecure { reach } else { reach.verified(format!("{section}.insecure")) });
    let runner =
        TaskRunner::local("tasker").tls(tls).guard(reach).max_sockets(Limit::Of(settings.max_sockets));
    runner.build().map_err(|error| format!("cannot make HTTP calls: {error}"))
}

impl Call {
    /// How errors name this call, counted from 1: `call 1 (GET https://host/path)`. It leaves out what often
    /// holds secrets: user, password and query.
    fn name(&self, place: usize) -> String {
        const LONGEST: usize = 200;
        let place = place + 1;
        let Ok(url) = url::Url::parse(&self.url) else { return format!("call {place}") };
        let (Some(host), method) = (url.host_str(), self.method.as_deref().unwrap_or("GET")) else {
            return format!("call {place}");
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let target = format!("{} {}://{host}{port}{}", method, url.scheme(), url.path());
        let end = target.char_indices().nth(LONGEST).map_or(target.len(), |(end, _)| end);
        format!("call {place} ({}{})", &target[..end], if end < target.len() { "…" } else { "" })
    }

    /// The call as a task that takes no longer than that. An answer has so many bytes.
    fn into_task(self, most: Duration, output_limit: usize) -> Result<Task, InvalidTask> {
        let invalid = |field, why: &str| InvalidTask { field, why: why.to_owned() };
        let timeout = bounded("timeout_ms", self.timeout_ms, LONGEST_MS, "")?;
        let attempt_timeout = bounded("attempt_timeout_ms", self.attempt_timeout_ms, LONGEST_MS, "")?;
        let backoff_max = bounded("backoff_max_ms", self.backoff_max_ms, LONGEST_MS, "")?;
        let retries = bounded("retries", self.retries, MOST_RETRIES, "")?;
        let body_limit =
            bounded("body_limit", self.body_limit, output_limit as u64, " (endpoint.output_limit)")?;
        let body_limit =
            body_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(BODY_LIMIT.min(output_limit));
        let method = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| invalid("method", "it is none"))?;
        let millis = Duration::from_millis;
        let mut task = Task::new(method, &self.url)?.truncate(true).body_limit(body_limit);
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
            Some(value) if value.get().starts_with('"') => {
                let text: String =
                    serde_json::from_str(value.get()).map_err(|_| invalid("body", "it is no text"))?;
                task = task.body(text);
            }
            Some(value) => {
                if !self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                    task.add_header("content-type", b"application/json")?;
                }
                task = task.body(Box::<str>::from(value).into_string());
            }
        }
        // Its time limit would end the task without an answer.
        task = task.timeout(timeout.filter(|ms| *ms > 0).map_or(TIMEOUT, millis).min(most).max(millis(1)));
        if let Some(timeout) = attempt_timeout {
            task = task.attempt_timeout(millis(timeout));
        }
        task = task.retries(retries.and_then(|retries| u32::try_from(retries).ok()).unwrap_or(RETRIES));
        if let Some(longest) = backoff_max {
            task = task.backoff_max(millis(longest));
        }
        Ok(task.repeatable(self.repeatable).tls_mode(match self.tls {
            Tls::Verify => TlsMode::Verify,
            Tls::Insecure => TlsMode::Insecure,
        }))
    }
}

/// A number of a call, unless it is above its limit.
fn bounded(
    field: &'static str,
    value: Option<u64>,
    most: u64,
    whose: &str,
) -> Result<Option<u64>, InvalidTask> {
    match value {
        Some(value) if value > most => {
            Err(InvalidTask { field, why: format!("{value} is above the limit of {most}{whose}") })
        }
        value => Ok(value),
    }
}

/// Whether a status means success. 304 is the answer to a conditional request. Any other 3xx here is a redirect
/// without a `Location`.
fn is_good(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::NOT_MODIFIED
}

/// What became of a call, and the body that was answered. Until the body is in its place it counts as left
/// out.
fn called(done: Completion) -> (Called, Option<Content>) {
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
        Ok(response) if is_good(response.status) => ("ok", Some(response), None),
        Ok(response) => ("status", Some(response), None),
        Err(error) => {
            let response = error.last_response();
            let told = response.is_some_and(|response| !is_good(response.status));
            let outcome = if told { "status" } else { "failed" };
            (outcome, response, Some(shortened(&error.explain())))
        }
    };
    let body = response.filter(|response| !response.body.is_empty()).map(content);
    let header = |name| response.and_then(|response| header(response, &name));
    let call = Called {
        outcome,
        status: response.map(|response| response.status.as_u16()),
        content_type: header(CONTENT_TYPE),
        content_encoding: header(CONTENT_ENCODING),
        truncated: body.is_some() || response.is_some_and(|response| response.truncated),
        attempts: done.attempts,
        trust,
        error,
        timings,
        ..Called::default()
    };
    (call, body)
}

/// The body of a response: as text if it is one, and otherwise byte for byte.
fn content(response: &Response) -> Content {
    let (base64, text) = match response.text() {
        Some(text) => (false, text.into_owned()),
        None => (true, base64(&response.body)),
    };
    let name = if base64 { r#""body_base64":,"# } else { r#""body":,"# };
    Content { bytes: json(&text).get().len() + name.len(), text, base64, cut: response.truncated }
}

/// The values of a header. Their bytes are those of ISO-8859-1, as headers were defined with at first.
fn header(response: &Response, name: &HeaderName) -> Option<String> {
    let values: Vec<String> = response
        .headers
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes().iter().copied().map(char::from).collect())
        .collect();
    (!values.is_empty()).then(|| shortened(&values.join(", ")))
}

/// A text in whose length servers have a say, which thousands of calls may have at the same time. What is
/// left out is told.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}[...]", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(payload: &str) -> String {
        calls(serde_json::from_str(payload)).err().expect("it is refused")
    }

    #[test]
    fn a_call_that_is_refused_is_named_and_nothing_of_it_shown() {
        for (payload, text) in [
            ("1", "the payload must be a list of calls such as"),
            (r#"{"url": "http://a/"}"#, "the payload must be a list of calls such as"),
            (
                r#"[{"url": "http://a/"}, {"url": "http://a/", "bogus": "secret"}]"#,
                "call 2: unknown member `bogus`, expected one of `url`",
            ),
            (r#"[{"method": "GET"}]"#, "call 1: missing member `url`"),
            (r#"[{"url": 1}]"#, "call 1: expected a string at line 1, column 9 of the call"),
            (
                r#"[{"url": "http://a/", "repeatable": "secret, expected a fish"}]"#,
                "call 1: expected a boolean at line 1",
            ),
            (
                r#"[{"url": "http://a/", "timeout_ms": "secret"}]"#,
                "call 1: expected a member of another kind at line 1",
            ),
            (r#"["secret"]"#, "call 1: expected an object at line 1"),
        ] {
            let found = refused(payload);
            assert!(found.starts_with(text) && !found.contains("secret"), "{payload}: {found}");
        }
        assert!(
            calls(serde_json::from_str(r#"[{"url": "http://a/", "timeout_ms": 5}]"#))
                .is_ok_and(|calls| calls.len() == 1)
        );
    }
}
