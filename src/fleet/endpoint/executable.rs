//! Handlers in any language: executables named after their task type.
//!
//! The task comes as JSON on stdin, the answer goes to stdout as JSON or as text (see [`Output`]; nothing at
//! all is `null`), the exit code is the error number, the last lines of stderr are the error text. Code 75
//! asks for another try. A line `progress: 40` on stderr says how far the work is; a line
//! `restarting: {"done": true}` that this process or machine is about to be restarted by the executable, and
//! what is answered then; all other lines become the response's log.
//!
//! Each runs in a process group of its own that ends with it: what is to go on in the background needs a
//! session or a unit of its own (`setsid`, `systemd-run`). Task data is never part of a command line.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
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

use super::account::Account;
use super::groups::{self, Group};
use super::handlers_dir::HandlersDir;
use super::leftovers::Leftovers;
use super::unfit::{Unfit, passes};
use super::{Context, Handler, Work};
use crate::config::{self, Output, TypePolicy};
use crate::domain::{EndpointName, Identifier, Json, Outcome, TaskId, TaskType, errnr, json};

/// From SIGTERM to SIGKILL: less than the executor's grace, so that a group is always ended here and its
/// leader waited for.
const TERM_TO_KILL: Duration = Duration::from_secs(4);

/// What the log says of an attempt that went well and left processes in its group.
const LEFT_BEHIND: &str = "processes that the handler left in the background were ended with it: start what is to go on with setsid -f or systemd-run";

/// How long a process that an attempt which went well has started may take to leave the group: the shell does
/// not wait until `setsid ... &` has called setsid.
const LEAVING: Duration = Duration::from_millis(500);
/// How often it is looked whether it has left: no event tells that.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long the rest of a group may hold the pipes once the leader has ended, before SIGKILL and after it.
/// Only what has left the group survives that, and it is not waited for.
const PIPES: Duration = Duration::from_secs(1);

/// How long an attempt waits until its executable can be started, when the reason that it cannot is one that
/// passes.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Lines of stderr that make the error text.
const ERRMSG_LINES: usize = 10;

/// Bytes of a line of stderr; longer ones are broken.
const LINE: usize = 2 << 10;

/// The directory of executables and what all of them are given.
#[derive(Debug)]
pub struct Executables {
    pub(super) dir: HandlersDir,
    env: Vec<(OsString, OsString)>,
    output_limit: usize,
    leftovers: Leftovers,
    /// The user that they run as, when it is not ours.
    account: Option<Account>,
    /// The same for types that have one of their own.
    accounts: HashMap<TaskType, Account>,
}

impl Executables {
    /// Reads the environment once: what changes later does not reach handlers.
    ///
    /// # Errors
    /// Why they cannot run as the configured user.
    pub(super) fn new(
        dir: PathBuf,
        settings: &config::Endpoint,
        task_types: &[TypePolicy],
        leftovers: Leftovers,
    ) -> Result<Self, String> {
        let usable = |whose: String, text: &str| {
            Account::usable(text).map_err(|reason| format!("{whose} cannot be followed: {reason}"))
        };
        let account =
            settings.run_as.as_deref().map(|text| usable("endpoint.run_as".to_owned(), text)).transpose()?;
        let own_accounts = task_types.iter().filter_map(|policy| {
            let (name, text) = (&policy.name, policy.run_as.as_deref()?);
            Some(
                usable(format!("run_as of the task type `{name}`"), text)
                    .map(|account| (name.clone(), account)),
            )
        });
        let accounts = own_accounts.collect::<Result<_, _>>()?;
        let own = |name: &str, default: &str| {
            (name.into(), std::env::var_os(name).unwrap_or_else(|| default.into()))
        };
        let mut env: Vec<(OsString, OsString)> = vec![
            own("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            own("HOME", "/"),
            own("LANG", "C.UTF-8"),
        ];
        env.extend(
            settings
                .pass_env
                .iter()
                .filter_map(|name| std::env::var_os(name).map(|value| (name.into(), value))),
        );
        Ok(Self {
            dir: HandlersDir::new(&dir),
            env,
            output_limit: settings.output_limit,
            leftovers,
            account,
            accounts,
        })
    }

    /// As [`HandlersDir::find`], for an async worker; that there is none any more passes, since there was
    /// one.
    async fn look(self: Arc<Self>, task_type: &TaskType) -> Result<PathBuf, Unfit> {
        let task_type = task_type.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let none = || {
                Unfit::ForNow(format!(
                    "there is no handler `{task_type}` any more: {}",
                    self.dir.why_none(&task_type)
                ))
            };
            self.dir.find(&task_type)?.ok_or_else(none)
        });
        looked.await.unwrap_or_else(|error| Err(Unfit::ForNow(error.to_string())))
    }
}

/// One executable as a handler.
pub(super) struct Executable {
    /// What the first look found.
    found: Result<PathBuf, Unfit>,
    given: Arc<Executables>,
    output: Output,
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
    pub(super) fn new(found: Result<PathBuf, Unfit>, given: Arc<Executables>, output: Output) -> Self {
        Self { found, given, output }
    }

    /// Starts it, or waits while that cannot be done for a reason that passes. An attempt is not spent on it
    /// before that has taken long.
    async fn begin(&self, work: &Work, context: &Context) -> Result<(PathBuf, Child, Group), Outcome> {
        // The other half of the time is for the next attempt to be worth it: the time limit would end the
        // task.
        let (since, patience) = (Instant::now(), BEGIN_WITHIN.min(context.remaining() / 2));
        let mut pause = FIRST_PAUSE;
        let mut found = self.found.clone();
        loop {
            let reason = match found {
                Ok(program) => match self.start(&program, work, context) {
                    Ok((child, group)) => return Ok((program, child, group)),
                    Err(error) => {
                        let reason = format!(
                            "{} cannot be started: {}",
                            program.display(),
                            not_started(&program, &error)
                        );
                        if !passes(&error, program.exists()) {
                            return Err(Outcome::failed(errnr::PANIC, reason));
                        }
                        reason
                    }
                },
                Err(Unfit::ForNow(reason)) => reason,
                Err(Unfit::UntilMended(reason)) => return Err(Outcome::failed(errnr::NO_HANDLER, reason)),
            };
            if since.elapsed() >= patience {
                return Err(Outcome::retry(format!("{reason} (tried for {:.0?})", since.elapsed())));
            }
            tokio::select! {
                () = context.canceled() => return Err(Outcome::retry(reason)),
                () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
            }
            found = self.given.clone().look(&work.task_type).await;
        }
    }

    fn start(&self, program: &Path, work: &Work, context: &Context) -> io::Result<(Child, Group)> {
        let mut command = Command::new(program);
        command
            .current_dir(self.given.dir.path())
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
        if let Some(account) = self.given.accounts.get(&work.task_type).or(self.given.account.as_ref()) {
            command.envs([("HOME", &account.home), ("USER", &account.name), ("LOGNAME", &account.name)]);
            // Takes the supplementary groups of root away, too.
            command.uid(account.user).gid(account.group);
        }
        Group::start(&mut command)
    }
}

#[async_trait]
impl Handler for Executable {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        let (program, mut child, group) = match self.begin(work, context).await {
            Ok(begun) => begun,
            Err(outcome) => return outcome,
        };
        let _recorded = self.given.leftovers.record(group.leader, work.id);
        let Work { id, task_type, identifier, endpoint, attempt, payload } = work;
        let request = json(&Request { id: *id, identifier, task_type, endpoint, attempt: *attempt, payload });
        let mut answer = Answer { bytes: Vec::new(), limit: self.given.output_limit, length: 0 };
        let mut complaints = Complaints { context, line: Vec::new(), last: VecDeque::new() };
        let status = attend(&mut child, &group, context, &request, &mut answer, &mut complaints).await;
        if groups::all_end() {
            // It was ended by us and not by its own doing: the next start repeats it.
            return std::future::pending().await;
        }
        group.over();
        match status {
            Ok(status) => {
                let errmsg = complaints.errmsg();
                let read = answer.read(self.output).map(|(answer, damage)| {
                    damage.inspect(|damage| context.log(damage));
                    answer
                });
                outcome(status, read, errmsg)
            }
            Err(error) => {
                Outcome::failed(errnr::PANIC, format!("{} cannot be waited for: {error}", program.display()))
            }
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
    // All at once: an executable that writes before it reads, or reads nothing, must not wait for us for
    // ever.
    let pumps = async move {
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // One that does not care for its task closes the pipe: no error.
                let _ = stdin.write_all(request.get().as_bytes()).await;
                let _ = stdin.write_all(b"\n").await;
            }
        };
        tokio::join!(
            feed,
            pump(stdout, |bytes| answer.push(bytes)),
            pump(stderr, |bytes| complaints.push(bytes))
        );
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
    // The leader is gone; what it left behind must not outlive the attempt, nor hold it up. If the attempt went
    // well, its author may have meant these processes to go on, so the log tells of it.
    let went_well = status.as_ref().is_ok_and(ExitStatus::success) && told.is_none();
    if went_well {
        let left = async {
            while group.is_there() {
                sleep(LOOK_AGAIN).await;
            }
        };
        tokio::pin!(left);
        let until = Instant::now() + LEAVING;
        loop {
            tokio::select! {
                () = &mut left => break,
                () = sleep_until(until) => break,
                () = context.canceled() => break,
                () = &mut pumps, if !pumped => pumped = true,
            }
        }
    }
    // Where nothing is left of the group its number is free, and may be that of another group a moment later:
    // then what holds the pipes has left the group.
    let is_there = group.is_there();
    let signal = |signal| {
        if is_there {
            group.signal(signal);
        }
    };
    signal(Signal::TERM);
    if !pumped && timeout(PIPES, &mut pumps).await.is_err() {
        signal(Signal::KILL);
        let _ = timeout(PIPES, &mut pumps).await;
    }
    signal(Signal::KILL);
    if is_there && went_well {
        context.log(LEFT_BEHIND);
    }
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

    /// The answer, and what is to be said of it if it is not kept as it was written.
    fn read(&self, output: Output) -> Result<(Option<Json>, Option<String>), String> {
        if self.length > u64::try_from(self.limit).unwrap_or(u64::MAX) {
            return Err(format!("the answer has {} bytes, the limit is {}", self.length, self.limit));
        }
        if output == Output::Text {
            return Ok(text(&self.bytes));
        }
        if self.bytes.trim_ascii().is_empty() {
            return Ok((None, None));
        }
        match serde_json::from_slice(&self.bytes) {
            Ok(answer) => Ok((Some(answer), None)),
            Err(_) if output == Output::Auto => Ok(text(&self.bytes)),
            Err(error) => Err(format!(
                "the answer is not JSON: {error}; with `output: auto` or `text` of the task type, text is an answer"
            )),
        }
    }
}

/// Why a program was not started. The system says "no such file" of an interpreter that is missing, as if the
/// program itself were.
fn not_started(program: &Path, error: &io::Error) -> String {
    const NO_FORMAT: i32 = 8;
    let first = || -> Option<String> {
        let mut start = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(program).ok()?, 256), &mut start)
            .ok()?;
        let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        Some(String::from_utf8_lossy(line).into_owned())
    };
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => match first() {
            Some(line) if line.ends_with('\r') => {
                "its first line ends with a carriage return, as Windows writes lines: save it with line feeds alone".to_owned()
            }
            Some(line) => {
                let interpreter = line.split_whitespace().next().unwrap_or_default().escape_debug().to_string();
                format!("its first line names `{interpreter}`, which is not on this machine")
            }
            None => error.to_string(),
        },
        (_, Some(NO_FORMAT)) => {
            format!("{error}: a script needs a first line such as #!/bin/sh, and a program must be built for this machine")
        }
        _ => error.to_string(),
    }
}

/// Text as a JSON string, without its last line's end, and what was lost of it: the work is done, so bytes
/// that no JSON string can hold are no reason to call it failed.
fn text(bytes: &[u8]) -> (Option<Json>, Option<String>) {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let broken = || bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty());
    let damage = std::str::from_utf8(bytes).err().map(|error| {
        let lost: usize = broken().map(|chunk| chunk.invalid().len()).sum();
        let bytes = if lost == 1 {
            "1 byte of the answer is".to_owned()
        } else {
            format!("{lost} bytes of the answer are")
        };
        format!("{bytes} not UTF-8, from byte {} on, and kept as U+FFFD", error.valid_up_to())
    });
    (Some(json(&String::from_utf8_lossy(bytes))), damage)
}

/// What is made of an answer.
#[cfg(fuzzing)]
pub fn read_answer(bytes: &[u8]) -> Result<Option<Json>, String> {
    let mut answer = Answer { bytes: Vec::new(), limit: 4096, length: 0 };
    bytes.chunks(100).for_each(|chunk| answer.push(chunk));
    answer.read(Output::Auto).map(|(answer, _)| answer)
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
        if let Some(percent) =
            line.strip_prefix("progress:").and_then(|rest| rest.trim().trim_end_matches('%').parse().ok())
        {
            return self.context.progress(percent);
        }
        if let Some(answer) = line.strip_prefix("restarting:").map(str::trim) {
            let answer = if answer.is_empty() { "null" } else { answer };
            // What is no answer says nevertheless that this process is about to end.
            let answer = serde_json::from_str(answer).unwrap_or_else(|error| {
                self.context.log(format!("restarting: the answer is not JSON: {error}"));
                json(&())
            });
            return drop(self.context.restarting(answer));
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

fn outcome(status: ExitStatus, answer: Result<Option<Json>, String>, errmsg: String) -> Outcome {
    let or = |otherwise: String| if errmsg.is_empty() { otherwise } else { errmsg.clone() };
    match (status.code(), status.signal(), answer) {
        (Some(0), _, Ok(answer)) => Outcome::Done(answer.unwrap_or_else(|| json(&()))),
        (Some(0), _, Err(reason)) => Outcome::failed(errnr::BAD_ANSWER, reason),
        (Some(errnr::TRY_AGAIN), _, answer) => Outcome::Retry {
            after: None,
            errnr: errnr::TRY_AGAIN,
            // Whether a retry follows is not known here: without an error text the executor says it.
            errmsg,
            payload: answer.ok().flatten(),
        },
        (Some(code), _, answer) => Outcome::Failed {
            errnr: code,
            errmsg: or(format!("exit code {code}")),
            payload: answer.ok().flatten(),
        },
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
