//! Another time of day for some processes: a small library is preloaded into them (`clock.c`) that moves what
//! `clock_gettime` says.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Context, ensure};
use tasker_services::Home;

/// The clock of some processes.
pub struct Shift {
    /// What a process needs in its environment to go by this clock.
    pub environment: Vec<(&'static str, String)>,
    file: fs::File,
}

impl Shift {
    /// One that tells the truth so far.
    pub fn new(home: &Home, name: &str) -> anyhow::Result<Self> {
        let (library, path) = (home.join("clock.so"), home.join(name));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/clock.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .status()
            .context("running cc")?;
        ensure!(made.success(), "cc ended with {made}");
        fs::write(&path, 0_i64.to_ne_bytes())?;
        let environment = vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("TASKER_TEST_CLOCK", path.display().to_string()),
        ];
        Ok(Self { environment, file: fs::File::options().write(true).open(path)? })
    }

    /// Moves the clock to so many seconds from the true time.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
