//! A Flamenco Server that answers as it is told and keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tasker::config::TlsFiles;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::rig::until;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The call: what follows the manager's id, or `tasks`.
    pub fn call(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        if path.starts_with("/api/flamenco/tasks/") {
            "tasks"
        } else {
            path.split('/').nth(5).unwrap_or(path)
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub after: Duration,
}

impl Answer {
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), after: Duration::ZERO }
    }

    pub fn json(body: &Value) -> Self {
        Self { body: body.to_string(), ..Self::empty(200) }
    }
}

type Script = Arc<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

/// The server.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Script>>,
    _serving: tokio_util::task::AbortOnDropHandle<()>,
}

impl Server {
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// One that shows a certificate.
    pub async fn start_tls(files: &TlsFiles) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let (_, tls) = tasker::api::Door::new(listener, Some(files))?.into_parts();
        Self::start_with(tls).await
    }

    async fn start_with(tls: Option<ServerConfig>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("{}://{}/", if tls.is_some() { "https" } else { "http" }, listener.local_addr()?);
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(|_: &Asked| None)));
        let (keep, told) = (asked.clone(), script.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, keep, told) = (tls.clone(), keep.clone(), told.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(stream).await?, keep, told).await,
                        None => serve(stream, keep, told).await,
                    }
                });
            }
        });
        Ok(Self { url, asked, script, _serving: tokio_util::task::AbortOnDropHandle::new(serving) })
    }

    /// What it answers from now on; where that is nothing: no tasks, no change, everything is fine.
    pub fn answers(&self, script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) {
        *self.script.lock().expect("no panic") = Arc::new(script);
    }

    /// What it was asked with a call.
    pub fn asked(&self, call: &str) -> Vec<Asked> {
        self.asked.lock().expect("no panic").iter().filter(|asked| asked.call() == call).cloned().collect()
    }

    /// Waits until it was asked so often.
    pub async fn until_asked(&self, call: &str, count: usize) -> anyhow::Result<Vec<Asked>> {
        until(&format!("{count} calls of {call}"), async || {
            Ok(Some(self.asked(call)).filter(|asked| asked.len() >= count))
        })
        .await
    }

    /// All updates that were pushed, in their order.
    pub fn updates(&self) -> Vec<Value> {
        self.asked("task-update-batch")
            .iter()
            .flat_map(|push| push.json().as_array().cloned().unwrap_or_default())
            .collect()
    }

    /// Waits for an update that is meant.
    pub async fn until_update(&self, what: &str, meant: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        until(what, async || Ok(self.updates().into_iter().find(|update| meant(update)))).await
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    keep: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Script>>,
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec())?;
        let mut lines = text.lines();
        let mut first = lines.next().context("a request line")?.split(' ');
        let (method, path) =
            (first.next().context("a method")?.to_owned(), first.next().context("a path")?.to_owned());
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
        while bytes.len() < head + length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let body = bytes[head..head + length].to_vec();
        bytes.drain(..head + length);
        let asked = Asked { method, path, headers, body };
        let script = script.lock().expect("no panic").clone();
        let answer = script(&asked).unwrap_or_else(|| usual(&asked));
        keep.lock().expect("no panic").push(asked);
        tokio::time::sleep(answer.after).await;
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if matches!(answer.status, 204 | 304) {
            head = format!("HTTP/1.1 {} x\r\n", answer.status);
        }
        stream.write_all(format!("{head}\r\n{}", answer.body).as_bytes()).await?;
    }
}

fn usual(asked: &Asked) -> Answer {
    match asked.call() {
        "depsgraph" | "startup" | "update" => Answer::empty(204),
        "tasks" => Answer::empty(304),
        "task-update-batch" => {
            let ids: Vec<Value> =
                asked.json().as_array().into_iter().flatten().map(|update| update["_id"].clone()).collect();
            Answer::json(&json!({"modified_count": ids.len(), "handled_update_ids": ids}))
        }
        _ => Answer::empty(200),
    }
}

/// A push that is acknowledged, with more in the answer.
pub fn acknowledged(push: &Asked, more: &Value) -> Answer {
    let mut answer: Value = serde_json::from_str(&usual(push).body).unwrap_or_default();
    for (key, value) in more.as_object().into_iter().flatten() {
        answer[key] = value.clone();
    }
    Answer::json(&answer)
}
