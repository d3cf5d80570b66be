//! The loss of power for some processes: a small library is preloaded into them (`power.c`) that notes what of
//! each file is on disk.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use tasker_services::Home;

/// The power of some processes.
pub struct Power {
    /// What a process needs in its environment to hang on it.
    pub environment: Vec<(&'static str, String)>,
    synced: PathBuf,
}

impl Power {
    /// The disk can get stuck for files below this directory.
    pub fn new(home: &Home, directory: &str) -> anyhow::Result<Self> {
        let (library, synced) = (home.join("power.so"), home.join("synced"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/power.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .status()
            .context("running cc")?;
        ensure!(made.success(), "cc ended with {made}");
        fs::create_dir(&synced)?;
        let environment = vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("TASKER_TEST_SYNCED", synced.display().to_string()),
            ("TASKER_TEST_STUCK", home.join(directory).display().to_string()),
        ];
        Ok(Self { environment, synced })
    }

    /// From now on the disk does not answer.
    pub fn stick(&self) -> anyhow::Result<()> {
        Ok(fs::write(self.synced.join("stuck"), "")?)
    }

    /// Takes from the files of processes that were killed what was not on disk. The disk answers again.
    pub fn cut(&self) -> anyhow::Result<()> {
        fs::remove_file(self.synced.join("stuck"))?;
        for note in fs::read_dir(&self.synced)? {
            let note = note?;
            let path = note.file_name().to_string_lossy().replace('%', "/");
            let synced: u64 = fs::read_to_string(note.path())?.parse()?;
            // Some are gone, or have another name now.
            if fs::metadata(&path).is_ok_and(|now| now.len() > synced) {
                fs::File::options().write(true).open(&path)?.set_len(synced)?;
            }
        }
        Ok(())
    }
}
