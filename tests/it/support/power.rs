//! The loss of power for some processes: a small library is preloaded into them (`power.c`) that notes what of
//! each file is on disk.

use std::fs;
use std::path::PathBuf;

use tasker_services::Home;

use super::preload;

/// The power of some processes.
pub struct Power {
    /// What a process needs in its environment to hang on it.
    pub environment: Vec<(&'static str, String)>,
    synced: PathBuf,
}

impl Power {
    /// The disk can get stuck for files below this directory.
    pub fn new(home: &Home, directory: &str) -> anyhow::Result<Self> {
        let synced = home.join("synced");
        fs::create_dir(&synced)?;
        let environment = vec![
            preload::compiled(home, "power")?,
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
