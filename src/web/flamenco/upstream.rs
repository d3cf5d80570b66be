//! Calls to the Server. What an answer means for the farm is decided by those who ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::log_files::gzip;
use super::settings::Settings;
use super::wire::{self, Pushed};
use crate::farm::{ObjectId, Task};
use crate::https;

/// Bytes of an answer that are read at most: a farm of a million tasks in one download.
const LONGEST: usize = 1 << 30;

/// Why the Server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// It did not answer.
    #[error("the Server cannot be reached: {0}")]
    Away(String),
    /// It refused.
    #[error("the Server answered {0}")]
    Refused(StatusCode),
    /// It said something that cannot be read.
    #[error("the Server's answer cannot be read: {0}")]
    Answer(String),
}

/// What the Server says about a task that is about to be handed out.
#[derive(Debug)]
pub(super) enum Check {
    /// It is as it was.
    Same,
    /// Nobody knows; the task is handed out as it is.
    Unknown(String),
    /// It is another one now.
    Changed(Box<Task>),
    /// There is none, or none that can be read.
    Gone(String),
}

/// Tasks that were fetched.
#[derive(Debug, Default)]
pub(super) struct Download {
    pub tasks: Vec<Task>,
    /// What is wrong with those that could not be read.
    pub wrong: Vec<String>,
    /// What to send with the next one.
    pub last_updated: Option<String>,
}

/// The Server.
#[derive(Debug)]
pub struct Upstream {
    settings: Arc<Settings>,
    client: reqwest::Client,
    compress: AtomicBool,
}

impl Upstream {
    /// The Server of the settings.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(settings: Arc<Settings>) -> Result<Self, reqwest::Error> {
        let configured = || {
            https::client()
                .connect_timeout(Duration::from_secs(10))
                .redirect(reqwest::redirect::Policy::none())
        };
        let client = https::build(configured)?;
        let compress = AtomicBool::new(settings.compress_pushes);
        Ok(Self { settings, client, compress })
    }

    /// The address of a path of the Server.
    pub(super) fn address(&self, path: &str) -> Url {
        let mut url = self.settings.server.clone();
        url.set_path(path);
        url.set_query(None);
        url
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.address(path)).timeout(self.settings.times.upstream);
        request.basic_auth(self.settings.manager_secret.reveal(), Some(""))
    }

    fn of_manager(&self, method: Method, call: &str) -> RequestBuilder {
        self.request(method, &format!("/api/flamenco/managers/{}/{call}", self.settings.manager_id))
    }

    /// Asks whether a task has changed.
    pub(super) async fn check(&self, task: &Task, within: Duration) -> Check {
        let mut request =
            self.request(Method::GET, &format!("/api/flamenco/tasks/{}", task.id)).timeout(within);
        if !task.etag.is_empty() {
            request = request.header(header::IF_NONE_MATCH, &task.etag);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Check::Unknown(reason(&error)),
        };
        let status = response.status();
        match status.as_u16() {
            304 => Check::Same,
            200 => match response.bytes().await {
                Ok(body) => match wire::task_in(&body) {
                    Ok(new) if new.id == task.id => Check::Changed(Box::new(new)),
                    Ok(new) => Check::Gone(format!("the Server answered with task {}", new.id)),
                    Err(error) => Check::Gone(format!("the Server's answer cannot be read: {error}")),
                },
                Err(error) => Check::Unknown(reason(&error)),
            },
            204 | 400..=499 => Check::Gone(format!("the Server answered {status}")),
            _ => Check::Unknown(format!("the Server answered {status}")),
        }
    }

    /// Fetches all tasks, or those that are newer than what was said last.
    pub(super) async fn depsgraph(&self, since: Option<&str>) -> Result<Download, UpstreamError> {
        let mut request = self.of_manager(Method::GET, "depsgraph");
        if let Some(since) = since {
            request = request.header("X-Flamenco-If-Updated-Since", since);
        }
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        if matches!(status.as_u16(), 204 | 304) {
            return Ok(Download::default());
        }
        if status != StatusCode::OK {
            return Err(UpstreamError::Refused(status));
        }
        let last_updated =
            response.headers().get("X-Flamenco-Last-Updated").and_then(|value| value.to_str().ok());
        let last_updated = last_updated.filter(|value| !value.is_empty()).map(str::to_owned);
        let (tasks, wrong) = wire::download_in(&body(response).await?)
            .map_err(|error| UpstreamError::Answer(error.to_string()))?;
        Ok(Download { tasks, wrong, last_updated })
    }

    /// Fetches some tasks, the way of old.
    pub(super) async fn chunk(&self, size: usize) -> Result<Download, UpstreamError> {
        let path = format!("/flamenco/scheduler/tasks/{}", self.settings.manager_id);
        let response =
            self.request(Method::GET, &path).query(&[("chunk_size", size)]).send().await.map_err(away)?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(Download::default()),
            StatusCode::OK => {
                let (tasks, wrong) = wire::chunk_in(&body(response).await?)
                    .map_err(|error| UpstreamError::Answer(error.to_string()))?;
                Ok(Download { tasks, wrong, last_updated: None })
            }
            other => Err(UpstreamError::Refused(other)),
        }
    }

    /// Pushes updates. A compressed push that the Server does not take is sent again as it is, and so are all
    /// later ones.
    pub(super) async fn push(&self, updates: Value) -> Result<Pushed, UpstreamError> {
        let plain = updates.to_string().into_bytes();
        let mut response = None;
        if self.compress.load(Ordering::Relaxed) {
            let packed = gzip(&plain).map_err(|error| UpstreamError::Answer(error.to_string()))?;
            let sent = self
                .post("task-update-batch", packed)
                .header(header::CONTENT_ENCODING, "gzip")
                .send()
                .await
                .map_err(away)?;
            if matches!(sent.status().as_u16(), 400 | 415) {
                tracing::warn!(status = %sent.status(), "the Server takes no compressed updates: they are sent as they are from now on");
                self.compress.store(false, Ordering::Relaxed);
            } else {
                response = Some(sent);
            }
        }
        let response = match response {
            Some(response) => response,
            None => self.post("task-update-batch", plain).send().await.map_err(away)?,
        };
        if !response.status().is_success() {
            return Err(UpstreamError::Refused(response.status()));
        }
        wire::pushed_in(&body(response).await?).map_err(|error| UpstreamError::Answer(error.to_string()))
    }

    fn post(&self, call: &str, body: Vec<u8>) -> RequestBuilder {
        self.of_manager(Method::POST, call).header(header::CONTENT_TYPE, "application/json").body(body)
    }

    /// Tells the Server of this manager: `startup` or `update`.
    pub(super) async fn notify(&self, call: &str, notice: &Value) -> Result<(), UpstreamError> {
        let response = self.post(call, notice.to_string().into_bytes()).send().await.map_err(away)?;
        if response.status().is_success() { Ok(()) } else { Err(UpstreamError::Refused(response.status())) }
    }

    /// Sends the compressed log of a task.
    pub(super) async fn attach_log(&self, task: ObjectId, log: &[u8]) -> Result<(), UpstreamError> {
        let boundary = format!("tasker-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"logfile\"; filename=\"task-{task}.txt.gz\"\r\n\
             Content-Type: text/plain+gzip\r\n\r\n"
        );
        let body = [head.as_bytes(), log, format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
        let request = self.of_manager(Method::POST, &format!("attach-task-log/{task}"));
        let request = request
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .body(body);
        let response = request.send().await.map_err(away)?;
        if response.status().is_success() { Ok(()) } else { Err(UpstreamError::Refused(response.status())) }
    }
}

fn away(error: reqwest::Error) -> UpstreamError {
    UpstreamError::Away(reason(&error))
}

/// What is wrong.
fn reason(error: &reqwest::Error) -> String {
    let cause = https::root_cause(error);
    match https::tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => format!(
            "its certificate is not trusted ({cause}): add the certificate of its CA to the system's, or name a file with all CAs in SSL_CERT_FILE"
        ),
        _ => cause,
    }
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, UpstreamError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(UpstreamError::Answer(format!("it is longer than {LONGEST} bytes")));
        }
    }
    Ok(bytes)
}
