//! Runs the commands of a page of the documentation as a reader would, with names, directories and ports of a
//! test instead of the page's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tasker_services::{Home, MariaDb, find};

/// The shell blocks of a page, in its order.
pub fn blocks(page: &str) -> anyhow::Result<Vec<String>> {
    let text = checkout(page)?;
    let blocks: Vec<String> = text
        .split("\n```sh\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0.to_owned()))
        .collect();
    ensure!(!blocks.is_empty(), "{page} has no commands");
    Ok(blocks)
}

/// A file of this repository.
pub fn checkout(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).with_context(|| name.to_owned())
}

/// Where commands run: with programs of the test's own before those of the system.
pub struct Reader {
    programs: PathBuf,
    directory: PathBuf,
    replaced: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

impl Reader {
    /// One who knows `tasker` and nothing else.
    pub fn new(home: &Home) -> anyhow::Result<Self> {
        let programs = home.join("programs");
        fs::create_dir_all(&programs)?;
        let reader = Self {
            programs,
            directory: home.path().to_owned(),
            replaced: Vec::new(),
            environment: Vec::new(),
        };
        reader.program("tasker", &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_tasker")))?;
        Ok(reader)
    }

    /// Has a shell script run instead of a program.
    pub fn program(&self, name: &str, script: &str) -> anyhow::Result<()> {
        // By another process: one that is started at the same time would keep the file open for writing, and
        // such files cannot be run.
        let write = r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 755 "$1""#;
        let status = Command::new("sh")
            .args(["-c", write, "sh"])
            .arg(self.programs.join(name))
            .arg(script)
            .status()?;
        ensure!(status.success(), "writing {name} ends with {status}");
        Ok(())
    }

    /// Has the clients of a database server reach this one, as its administrator.
    pub fn administers(&self, mariadb: &MariaDb) -> anyhow::Result<()> {
        for client in ["mariadb", "mariadb-dump"] {
            let program = find(client, &["/usr/bin"])?;
            let script = format!(
                "exec {} --no-defaults --host=127.0.0.1 --port={} --user=root \"$@\"",
                program.display(),
                mariadb.port()
            );
            self.program(client, &script)?;
        }
        Ok(())
    }

    /// Reads one text as another from now on.
    pub fn replace(&mut self, from: &str, to: impl ToString) {
        self.replaced.push((from.to_owned(), to.to_string()));
    }

    /// Sets a variable for all commands.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.environment.push((name.to_owned(), value.to_string()));
    }

    /// A text of the page as this reader reads it.
    pub fn reads(&self, text: &str) -> String {
        self.replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Runs a block to its end, which must be good; answers what it printed.
    pub fn runs(&self, block: &str) -> anyhow::Result<String> {
        let block = self.reads(block);
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH")?);
        let mut shell = Command::new("sh");
        shell.args(["-euc", &block]).current_dir(&self.directory);
        let output = shell
            .env("PATH", path)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()?;
        let (printed, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "this ends with {}:\n{block}\n{printed}{said}", output.status);
        Ok(printed.into_owned())
    }
}
