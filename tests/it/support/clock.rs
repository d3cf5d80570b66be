//! Another time of day for some processes: a small library is preloaded into them (`clock.c`) that moves what
//! `clock_gettime` says.

use std::fs;
use std::os::unix::fs::FileExt;

use tasker_services::Home;

use super::preload;

/// The clock of some processes.
pub struct Shift {
    /// What a process needs in its environment to go by this clock.
    pub environment: Vec<(&'static str, String)>,
    file: fs::File,
}

impl Shift {
    /// One that tells the truth so far.
    pub fn new(home: &Home, name: &str) -> anyhow::Result<Self> {
        let path = home.join(name);
        fs::write(&path, 0_i64.to_ne_bytes())?;
        let environment =
            vec![preload::compiled(home, "clock")?, ("TASKER_TEST_CLOCK", path.display().to_string())];
        Ok(Self { environment, file: fs::File::options().write(true).open(path)? })
    }

    /// Moves the clock to so many seconds from the true time.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
