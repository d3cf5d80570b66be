//! One running server process.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::home::Line;

/// Lines of a server's log that are shown when it fails.
const TAIL: usize = 40;

/// Asks again and again until the answer is a value, and fails with the last refusal at the deadline.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("{what}: not within {patience:?}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A server process with its children: a process group, started by a [`Home`](crate::Home); it ends when
/// dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    guard: Line,
}

impl Process {
    pub(crate) fn new(name: &str, child: Child, log: PathBuf, guard: Line) -> Self {
        Self { name: name.to_owned(), child, log, guard }
    }

    /// The number of the process and of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far, its last lines only.
    pub fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// Waits until the probe succeeds; fails with the log as soon as the process ends, or at the deadline.
    pub fn ready<T>(
        &mut self,
        patience: Duration,
        mut probe: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let refusal = match probe() {
                Ok(value) => return Ok(value),
                Err(refusal) => refusal,
            };
            if let Some(status) = self.child.try_wait().context("asking for a process")? {
                bail!(
                    "{} ended with {status} before it was ready; the end of its log:\n{}",
                    self.name,
                    self.log()
                );
            }
            if Instant::now() >= deadline {
                let log = self.log();
                return Err(refusal.context(format!(
                    "{} is not ready after {patience:?}; the end of its log:\n{log}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("asking for {}", self.name))
    }

    /// Sends a signal to the whole group; a group that is gone is no error.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let group = i32::try_from(self.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| anyhow!("{} has no number", self.name))?;
        match kill_process_group(group, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signalling {}", self.name)),
        }
    }

    /// Ends the group at once.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        // Before the number is free for a stranger.
        self.guard.tell("ended", self.id())?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Asks it to end and waits for it; what is left of the group after the patience is killed, and that is
    /// an error.
    pub fn stop(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let stopped = until(&format!("{} stops", self.name), patience, || {
            self.child.try_wait()?.context("it still runs")
        });
        self.kill()?;
        stopped.map(|_status| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ending a process of ours fails only if it has ended, and then there is nothing to do.
        let _ = self.kill();
    }
}
