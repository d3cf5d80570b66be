//! A temporary directory and the processes that live in it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use crate::Process;

/// Waits for its standard input to close, then ends the process groups it was told of and removes the
/// directory.
///
/// The pipe's other end is held by the process that started the server, and nobody else (Rust opens it
/// close-on-exec), so the kernel closes it however that process ends. `PR_SET_PDEATHSIG` would not do: it
/// follows the *thread* that started the child, and test threads come and go.
const GUARD: &str = r#"
trap '' HUP INT QUIT TERM
groups=
while read -r verb group; do
  case $verb in
    started) case " $groups " in *" $group "*) ;; *) groups="$groups $group" ;; esac ;;
    ended) kept=; for each in $groups; do [ "$each" = "$group" ] || kept="$kept $each"; done; groups=$kept ;;
  esac
done
for each in $groups; do kill -s KILL -- "-$each" 2>/dev/null; done
# See `MariaDb::start_on_own_disk`.
[ ! -e "$1/own-disk" ] || umount -l -- "$1/own-disk"
tries=0
# A process that is just being killed may still finish a system call that creates a file.
until rm -rf -- "$1" 2>/dev/null || [ "$tries" -ge 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"#;

/// A temporary directory and the processes that live in it, which end together.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    guard: Child,
    line: Line,
}

/// The guard's standard input: closing it is the signal to end everything.
#[derive(Debug, Clone)]
pub(crate) struct Line(Arc<Mutex<Option<ChildStdin>>>);

impl Line {
    /// Tells the guard which process groups it looks after.
    pub(crate) fn tell(&self, verb: &str, group: u32) -> anyhow::Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(pipe) => writeln!(pipe, "{verb} {group}").context("telling the guard"),
            // The home is gone, and the guard has done its work.
            None => Ok(()),
        }
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Home {
    /// A new empty directory, readable by this user alone.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("tasker-{name}-"))
            .tempdir()
            .context("creating a temporary directory")?
            .keep();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "tasker-guard"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the foreground group; the guard must outlive it.
            .process_group(0)
            .spawn()
            .context("starting sh")?;
        let line = Line(Arc::new(Mutex::new(guard.stdin.take())));
        Ok(Self { directory, guard, line })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Starts a command in a process group of its own, its output appended to the file `<name>.log`.
    pub fn start(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        let log = self.join(&format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cloning a file handle")?)
            .stderr(output)
            .current_dir(&self.directory)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        let process = Process::new(name, child, log, self.line.clone());
        self.line.tell("started", process.id())?;
        Ok(process)
    }

    /// Ends a process group that somebody else has started, such as a supervisor, together with this home.
    pub fn adopt(&self, group: u32) -> anyhow::Result<()> {
        self.line.tell("started", group)
    }

    /// Runs a command to its end, with our output.
    ///
    /// In a process group of its own it does not see a Ctrl-C (it ends because this process does) and must
    /// not read from the terminal.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<ExitStatus> {
        let mut child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        self.line.tell("started", child.id())?;
        let status = child.wait().context("waiting for a command")?;
        self.line.tell("ended", child.id())?;
        Ok(status)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.line.close();
        // Nothing is left to be done about a failure: the guard is ours and has no reason to refuse.
        let _ = self.guard.wait();
    }
}
