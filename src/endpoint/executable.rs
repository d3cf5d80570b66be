//! Handlers in any language: executables named after their task type.
//!
//! The task comes as JSON on stdin, the answer goes as JSON to stdout (nothing at all is `null`), the exit code is the
//! error number, the last lines of stderr are the error text. Code 75 asks for another try. A line `progress: 40` on
//! stderr says how far the work is; all other lines become the response's log.
//!
//! Each runs in a process group of its own that ends with it: what is to go on in the background needs a session or a
//! unit of its own (`setsid`, `systemd-run`). Task data is never part of a command line.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::groups::Group;
use super::leftovers::Leftovers;
use super::{Context, Handler, Work};
use crate::config;
use crate::domain::{EndpointName, Identifier, Json, Outcome, TaskId, TaskType, errnr, json};

/// From SIGTERM to SIGKILL: less than the executor's grace, so that a group is always ended here and its leader waited for.
const TERM_TO_KILL: Duration = Duration::from_secs(4);

/// How long the rest of a group may hold the pipes once the leader has ended, before SIGKILL and after it. Only what has
/// left the group survives that, and it is not waited for.
const PIPES: Duration = Duration::from_secs(1);

/// Lines of stderr that make the error text.
const ERRMSG_LINES: usize = 10;

/// Bytes of a line of stderr; longer ones are broken.
const LINE: usize = 2 << 10;

/// The directory of executables and what all of them are given.
#[derive(Debug)]
pub struct Executables {
    dir: PathBuf,
    env: Vec<(OsString, OsString)>,
    output_limit: usize,
    leftovers: Leftovers,
}

impl Executables {
    /// Reads the environment once: what changes later does not reach handlers.
    pub(super) fn new(dir: PathBuf, settings: &config::Endpoint, leftovers: Leftovers) -> Self {
        let own = |name: &str, default: &str| (name.into(), std::env::var_os(name).unwrap_or_else(|| default.into()));
        let mut env: Vec<(OsString, OsString)> =
            vec![own("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), own("HOME", "/"), own("LANG", "C.UTF-8")];
        env.extend(settings.pass_env.iter().filter_map(|name| std::env::var_os(name).map(|value| (name.into(), value))));
        // Handlers run in this directory, where a path relative to ours would lead elsewhere.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        Self { dir, env, output_limit: settings.output_limit, leftovers }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The executable of a type: `backup`, or `backup` with one extension. Reads the directory: not for an async worker.
    pub(super) fn find(&self, task_type: &TaskType) -> Result<Option<PathBuf>, String> {
        let unreadable = |error: io::Error| format!("{} cannot be read: {error}", self.dir.display());
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            if !name.to_str().is_some_and(|name| is_named_after(name, task_type)) {
                continue;
            }
            let path = self.dir.join(&name);
            // Followed: a link is how a handler is commonly switched to another version. One that leads nowhere is none.
            if let Ok(meta) = fs::metadata(&path)
                && meta.is_file()
                && meta.permissions().mode() & 0o111 != 0
            {
                found.push((path, meta.permissions().mode()));
            }
        }
        let exact = found.iter().position(|(path, _)| path.extension().is_none());
        let (path, mode) = match (exact, found.len()) {
            (_, 0) => return Ok(None),
            (Some(position), _) => found.swap_remove(position),
            (None, 1) => found.swap_remove(0),
            (None, count) => return Err(format!("{count} executables in {} are named `{task_type}`", self.dir.display())),
        };
        if mode & 0o002 != 0 {
            return Err(format!("{} is not run since anyone may write to it", path.display()));
        }
        Ok(Some(path))
    }
}

/// `backup` and `backup.sh`, but not `backup.sh~` or `backup.sh.dpkg-old`.
fn is_named_after(file: &str, task_type: &TaskType) -> bool {
    match file.strip_prefix(task_type.as_str()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('.').is_some_and(|ext| !ext.is_empty() && ext.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        None => false,
    }
}

/// One executable as a handler.
pub(super) struct Executable {
    program: PathBuf,
    given: Arc<Executables>,
}

/// What an executable reads.
#[derive(Serialize)]
struct Request<'a> {
    id: TaskId,
    identifier: &'a Identifier,
    #[serde(rename = "type")]
    task_type: &'a TaskType,
    endpoint: &'a EndpointName,
    attempt: u32,
    payload: &'a Json,
}

impl Executable {
    pub(super) fn new(program: PathBuf, given: Arc<Executables>) -> Self {
        Self { program, given }
    }

    async fn spawn(&self, work: &Work, context: &Context) -> io::Result<(Child, Group)> {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.given.dir)
            .env_clear()
            .envs(self.given.env.iter().map(|(name, value)| (name, value)))
            .env("TASKER_TASK_ID", work.id.to_string())
            .env("TASKER_IDENTIFIER", work.identifier.as_str())
            .env("TASKER_TYPE", work.task_type.as_str())
            .env("TASKER_ENDPOINT", work.endpoint.as_str())
            .env("TASKER_ATTEMPT", work.attempt.to_string())
            .env("TASKER_TIME_LEFT_SECS", context.remaining().as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut tries = 0;
        loop {
            match Group::start(&mut command) {
                // It is being written this moment: somebody deploys it.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 50 => {
                    tries += 1;
                    sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }
}

#[async_trait]
impl Handler for Executable {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        let (mut child, group) = match self.spawn(work, context).await {
            Ok(started) => started,
            Err(error) => return Outcome::failed(errnr::PANIC, format!("{} cannot be started: {error}", self.program.display())),
        };
        let _recorded = self.given.leftovers.record(group.leader, work.id);
        let Work { id, task_type, identifier, endpoint, attempt, payload } = work;
        let request = json(&Request { id: *id, identifier, task_type, endpoint, attempt: *attempt, payload });
        let mut answer = Answer { bytes: Vec::new(), limit: self.given.output_limit, length: 0 };
        let mut complaints = Complaints { context, line: Vec::new(), last: VecDeque::new() };
        let status = attend(&mut child, &group, context, &request, &mut answer, &mut complaints).await;
        group.over();
        match status {
            Ok(status) => outcome(status, answer, complaints.errmsg()),
            Err(error) => Outcome::failed(errnr::PANIC, format!("{} cannot be waited for: {error}", self.program.display())),
        }
    }
}

/// Feeds and reads an executable until it and its group have ended.
async fn attend(
    child: &mut Child,
    group: &Group,
    context: &Context,
    request: &Json,
    answer: &mut Answer,
    complaints: &mut Complaints<'_>,
) -> io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // All at once: an executable that writes before it reads, or reads nothing, must not wait for us for ever.
    let pumps = async move {
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // One that does not care for its task closes the pipe: no error.
                let _ = stdin.write_all(request.get().as_bytes()).await;
                let _ = stdin.write_all(b"\n").await;
            }
        };
        tokio::join!(feed, pump(stdout, |bytes| answer.push(bytes)), pump(stderr, |bytes| complaints.push(bytes)));
    };
    tokio::pin!(pumps);
    let mut pumped = false;
    let mut told: Option<Instant> = None;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = &mut pumps, if !pumped => pumped = true,
            () = context.canceled(), if told.is_none() => {
                group.signal(Signal::TERM);
                told = Some(Instant::now() + TERM_TO_KILL);
            }
            () = sleep_until(told.unwrap_or_else(Instant::now)), if told.is_some() => {
                group.signal(Signal::KILL);
                // Not again before it can have died of this one.
                told = Some(Instant::now() + TERM_TO_KILL);
            }
        }
    };
    // The leader is gone; what it left behind must not outlive the attempt, nor hold it up.
    group.signal(Signal::TERM);
    if !pumped && timeout(PIPES, &mut pumps).await.is_err() {
        group.signal(Signal::KILL);
        let _ = timeout(PIPES, &mut pumps).await;
    }
    group.signal(Signal::KILL);
    status
}

async fn pump(from: Option<impl AsyncRead + Unpin>, mut to: impl FnMut(&[u8])) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        to(&chunk[..length]);
    }
}

/// What came from stdout, up to the limit. The rest is read and thrown away: the work may be worth finishing.
struct Answer {
    bytes: Vec<u8>,
    limit: usize,
    length: u64,
}

impl Answer {
    fn push(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += u64::try_from(bytes.len()).unwrap_or(0);
    }

    fn read(&self) -> Result<Option<Json>, String> {
        if self.length > u64::try_from(self.limit).unwrap_or(u64::MAX) {
            return Err(format!("the answer has {} bytes, the limit is {}", self.length, self.limit));
        }
        if self.bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&self.bytes).map(Some).map_err(|error| format!("the answer is not JSON: {error}"))
    }
}

/// What is made of an answer.
#[cfg(fuzzing)]
pub fn read_answer(bytes: &[u8]) -> Result<Option<Json>, String> {
    let mut answer = Answer { bytes: Vec::new(), limit: 4096, length: 0 };
    bytes.chunks(100).for_each(|chunk| answer.push(chunk));
    answer.read()
}

/// What came from stderr, line by line.
struct Complaints<'a> {
    context: &'a Context,
    line: Vec<u8>,
    last: VecDeque<String>,
}

impl Complaints<'_> {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ => {
                    self.line.push(*byte);
                    if self.line.len() >= LINE {
                        self.end_line();
                    }
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if let Some(percent) = line.strip_prefix("progress:").and_then(|rest| rest.trim().trim_end_matches('%').parse().ok()) {
            return self.context.progress(percent);
        }
        if line.is_empty() {
            return;
        }
        self.context.log(&line);
        if self.last.len() == ERRMSG_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn errmsg(mut self) -> String {
        self.end_line();
        Vec::from(self.last).join("\n")
    }
}

fn outcome(status: ExitStatus, answer: Answer, errmsg: String) -> Outcome {
    let or = |otherwise: String| if errmsg.is_empty() { otherwise } else { errmsg.clone() };
    match (status.code(), status.signal(), answer.read()) {
        (Some(0), _, Ok(answer)) => Outcome::Done(answer.unwrap_or_else(|| json(&()))),
        (Some(0), _, Err(reason)) => Outcome::failed(errnr::BAD_ANSWER, reason),
        (Some(errnr::TRY_AGAIN), _, _) => {
            Outcome::Retry { after: None, errnr: errnr::TRY_AGAIN, errmsg: or("asked for another try".to_owned()) }
        }
        (Some(code), _, answer) => Outcome::Failed { errnr: code, errmsg: or(format!("exit code {code}")), payload: answer.ok().flatten() },
        (None, signal, answer) => {
            let signal = signal.unwrap_or(0);
            Outcome::Failed {
                errnr: errnr::SIGNAL + signal,
                errmsg: or(format!("ended by signal {signal}")),
                payload: answer.ok().flatten(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_type() {
        let backup: TaskType = "backup".parse().expect("a type");
        for good in ["backup", "backup.sh", "backup.py3"] {
            assert!(is_named_after(good, &backup), "{good}");
        }
        for bad in ["backup.", "backup.sh~", "backup.sh.dpkg-old", "backup2", "backups.sh", ".backup", "Backup"] {
            assert!(!is_named_after(bad, &backup), "{bad}");
        }
    }
}
