//! Messages that were refused, kept for people to look at: in a directory with a bounded number of files.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use crate::domain::Timestamp;
use crate::signing::Denial;

/// Files at most: the next message takes the place of the oldest one.
const FILES: usize = 100;
/// Bytes of a message that are kept.
const HEAD: usize = 64 << 10;
/// Messages that are kept in a minute at most: a flood must not wear the disk out.
const PER_MINUTE: usize = FILES;
const MINUTE: Duration = Duration::from_secs(60);

/// A message that was refused.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) item: Bytes,
    /// Which way it came, for people.
    pub(super) way: String,
    pub(super) denial: Denial,
    /// Whether no copy of its task can count: the response tells of it, and the trouble of the endpoint does
    /// not.
    pub(super) ends_task: bool,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: PathBuf,
    /// The number of the next file.
    next: usize,
    /// When the present minute began, and how many messages were kept in it.
    minute: Option<(Instant, usize)>,
}

/// What a file says.
#[derive(Serialize)]
struct Entry<'a> {
    at: Timestamp,
    reason: &'static str,
    detail: &'a str,
    through: &'a str,
    /// Of the whole message.
    bytes: usize,
    message: &'a str,
}

impl Quarantine {
    /// In this directory, which is made when the first message is kept.
    pub(super) fn in_dir(dir: PathBuf) -> Self {
        let next = newest(&dir).map_or(0, |newest| (newest + 1) % FILES);
        Self { dir, next, minute: None }
    }

    /// Keeps messages; of a flood some.
    pub(super) fn keep(&mut self, refused: &[Refused], at: Timestamp, now: Instant) -> io::Result<()> {
        let (begun, kept) =
            self.minute.filter(|(begun, _)| now.duration_since(*begun) < MINUTE).unwrap_or((now, 0));
        let room = PER_MINUTE - kept;
        let refused = &refused[refused.len().saturating_sub(room)..];
        self.minute = Some((begun, kept + refused.len()));
        if refused.is_empty() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        for Refused { item, way, denial, .. } in refused {
            let message = String::from_utf8_lossy(&item[..item.len().min(HEAD)]);
            let entry = Entry {
                at,
                reason: denial.fault.as_str(),
                detail: &denial.reason,
                through: way,
                bytes: item.len(),
                message: &message,
            };
            let path = self.dir.join(format!("{:02}.json", self.next));
            self.next = (self.next + 1) % FILES;
            // A new file: the one before may belong to somebody who has it open.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&serde_json::to_vec_pretty(&entry)?)?;
        }
        Ok(())
    }
}

/// The number of the file that was written last.
fn newest(dir: &Path) -> Option<usize> {
    let number = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let number: usize = name.strip_suffix(".json")?.parse().ok()?;
        let written: SystemTime = entry.metadata().ok()?.modified().ok()?;
        (number < FILES).then_some((written, number))
    };
    fs::read_dir(dir).ok()?.filter_map(number).max().map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SealFault;

    fn refused(text: &str) -> Refused {
        Refused {
            item: Bytes::copy_from_slice(text.as_bytes()),
            way: "the queue for `worker`".to_owned(),
            denial: Denial::new(SealFault::Forged, "changed"),
            ends_task: false,
        }
    }

    #[test]
    fn the_last_messages_are_kept() {
        let home = tempfile::TempDir::new().expect("a directory");
        let dir = home.path().join("quarantine");
        let mut quarantine = Quarantine::in_dir(dir.clone());
        let (at, now) = (Timestamp::from_micros(0), Instant::now());
        let first = [refused("{\"first\":1}"), refused(&"x".repeat(HEAD + 1))];
        quarantine.keep(&first, at, now).expect("kept");
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(dir.join(name)).expect("a file")).expect("JSON")
        };
        let first = read("00.json");
        assert_eq!(first["message"], "{\"first\":1}", "{first}");
        assert_eq!((&first["reason"], &first["detail"]), (&"forged".into(), &"changed".into()));
        let second = read("01.json");
        assert_eq!(second["bytes"], HEAD + 1);
        assert_eq!(second["message"].as_str().map(str::len), Some(HEAD));

        // Another process goes on behind the last file.
        let mut quarantine = Quarantine::in_dir(dir.clone());
        let flood: Vec<Refused> = (0..3 * FILES).map(|number| refused(&number.to_string())).collect();
        quarantine.keep(&flood[..1], at, now).expect("kept");
        assert_eq!(read("02.json")["message"], "0");
        let later = now + MINUTE;
        quarantine.keep(&flood, at, later).expect("kept");
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), FILES);
        assert_eq!(read("02.json")["message"], "299");
        // The minute has had its messages, and the next one has its own.
        let more = [refused("more")];
        quarantine.keep(&more, at, later + MINUTE - Duration::from_millis(1)).expect("nothing to keep");
        assert_eq!(read("03.json")["message"], "200");
        quarantine.keep(&more, at, later + MINUTE).expect("kept");
        assert_eq!(read("03.json")["message"], "more");
    }
}
