//! A directory in which commands are typed, as a person types them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A directory in which commands are typed.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, and the directory it is in.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        std::fs::write(&path, text)?;
        // As somebody would who keeps passwords in it.
        Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
    }

    /// A command that is started here, without what the environment of the tests says about an API.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
        command.args(line.split_whitespace()).current_dir(self.path());
        for name in ["TASKER_TOKEN", "TASKER_TOKEN_FILE", "TASKER_CA_FILE", "TASKER_API_URL"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    pub fn any(&self, line: &str) -> anyhow::Result<Said> {
        self.command(line).output().map(Said::of).context("cannot be started")
    }

    /// Runs a command of these words to its end.
    pub fn said(&self, words: &[String], more: &[&str]) -> anyhow::Result<Said> {
        self.command("").args(words).args(more).output().map(Said::of).context("cannot be started")
    }

    /// Runs a command to its end, which must be good.
    pub fn good(&self, line: &str) -> anyhow::Result<Said> {
        let said = self.any(line)?;
        ensure!(said.code == Some(0), "tasker {line}: {said:?}");
        Ok(said)
    }

    /// Runs a command that is refused: answers what it says of that, on standard error alone.
    pub fn refused(&self, line: &str) -> anyhow::Result<String> {
        let said = self.any(line)?;
        ensure!(said.code == Some(1) && said.out.is_empty(), "tasker {line}: {said:?}");
        Ok(said.err)
    }

    /// Runs a command with something on its standard input.
    pub fn fed(&self, line: &str, input: &str) -> anyhow::Result<Said> {
        let mut child =
            self.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Dropped, and so closed, once it is written.
        child.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
        Ok(Said::of(child.wait_with_output()?))
    }

    /// Starts `tasker up` and waits until it has greeted.
    pub fn up(&self, line: &str) -> anyhow::Result<Up> {
        self.up_by(self.command(&format!("up {line}")))
    }

    /// The same with a command that may have been changed.
    pub fn up_by(&self, mut command: Command) -> anyhow::Result<Up> {
        let log = self.path().join("up.log");
        let mut process = command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?).spawn()?;
        let lines = BufReader::new(process.stdout.take().context("no pipe")?).lines();
        let api = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("API")?.trim().to_owned()));
        let up = Up { api: api.unwrap_or_default(), process };
        ensure!(!up.api.is_empty(), "no greeting: {}", std::fs::read_to_string(log)?);
        Ok(up)
    }

    /// What `tasker up` has logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.path().join("up.log"))?)
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A platform that goes with its test.
pub struct Up {
    /// Where its API is.
    pub api: String,
    process: Child,
}

impl Drop for Up {
    fn drop(&mut self) {
        // Ending a process of ours fails only if it has ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
