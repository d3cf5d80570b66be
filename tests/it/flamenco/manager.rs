//! A manager as a process of its own, as somebody runs it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tasker_services::{Home, Port, Process};

use super::rig::MANAGER;

/// Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running manager; it ends when it is dropped.
pub struct Manager {
    pub url: String,
    pub home: Home,
    process: Process,
    environment: Vec<(&'static str, String)>,
    _port: Port,
}

impl Manager {
    /// One with these settings, besides what each needs.
    pub fn start(settings: &str) -> Result<Self> {
        Self::start_in(Home::new("flamenco")?, settings, Vec::new())
    }

    /// The same in a directory, with these variables in its environment.
    pub fn start_in(home: Home, settings: &str, environment: Vec<(&'static str, String)>) -> Result<Self> {
        let port = Port::free()?;
        write_settings(home.path(), &format!("listen: 127.0.0.1:{}\n{settings}", port.number()))?;
        let process = launch(&home, &environment)?;
        let scheme = if settings.contains("tlscert") { "https" } else { "http" };
        Ok(Self {
            url: format!("{scheme}://127.0.0.1:{}", port.number()),
            home,
            process,
            environment,
            _port: port,
        })
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to end, which it has to do before systemd would kill it.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(Duration::from_secs(30))
    }

    /// Ends it at once, unless it has ended, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = launch(&self.home, &self.environment)?;
        Ok(())
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.home.join("manager.log"))?)
    }

    /// The most memory that it has used, in MiB.
    pub fn peak_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    }
}

/// Writes a file of settings, with what each needs.
pub fn write_settings(directory: &Path, settings: &str) -> Result<()> {
    let text = format!("manager_id: {MANAGER}\nmanager_secret: mgr-secret\n{settings}\n");
    Ok(std::fs::write(directory.join("flamenco-manager.yaml"), text)?)
}

/// A command of the program in a directory.
pub fn tasker(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    command.args(arguments).current_dir(directory);
    command
}

fn launch(home: &Home, environment: &[(&'static str, String)]) -> Result<Process> {
    let greetings = || {
        std::fs::read_to_string(home.join("manager.log")).map_or(0, |log| log.matches(" listens on ").count())
    };
    let before = greetings();
    let mut process = home.start(
        "manager",
        tasker(home.path(), &["flamenco-manager", "-verbose"]).envs(environment.iter().cloned()),
    )?;
    process.ready(PATIENCE, || {
        ensure!(greetings() > before, "it has not said where it listens");
        Ok(())
    })?;
    Ok(process)
}
