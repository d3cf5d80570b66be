//! The logs of tasks: one file a task, and older ones beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::farm::ObjectId;
use crate::store::farm::LogLine;

/// A longer log is shown to browsers in parts.
const WHOLE: u64 = 15 * 1024;
/// Bytes of its begin.
const BEGIN: usize = 5 * 1024;
/// Bytes of its end.
const END: u64 = 10 * 1024;

/// Where logs are.
#[derive(Debug, Clone)]
pub(super) struct LogFiles {
    directory: PathBuf,
}

/// A log that somebody reads.
pub(super) enum Log {
    /// As text.
    Text(Vec<u8>),
    /// Compressed.
    Compressed(Vec<u8>),
}

impl LogFiles {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn file(&self, job: ObjectId, task: ObjectId) -> PathBuf {
        let job = job.to_string();
        self.directory.join(format!("job-{}", &job[..4])).join(&job).join(format!("task-{task}.txt"))
    }

    /// Appends lines to the logs of their tasks. A log that cannot be written does not keep a task from going
    /// on.
    pub async fn append(&self, lines: Vec<LogLine>) {
        let lines: Vec<LogLine> =
            lines.into_iter().filter(|line| line.job.is_some() && !line.text.is_empty()).collect();
        if lines.is_empty() {
            return;
        }
        let files = self.clone();
        let written =
            tokio::task::spawn_blocking(move || lines.iter().try_for_each(|line| files.append_one(line)))
                .await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "cannot write the log of a task");
        }
    }

    fn append_one(&self, line: &LogLine) -> io::Result<()> {
        let Some(job) = line.job else { return Ok(()) };
        let path = self.file(job, line.task);
        let open = || OpenOptions::new().append(true).create(true).open(&path);
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.directory))?;
                open()?
            }
            other => other?,
        };
        // One write, so that lines of others do not come between.
        file.write_all(line.text.as_bytes())
    }

    /// Puts the log of a task aside: the task begins anew.
    pub async fn rotate(&self, job: Option<ObjectId>, task: ObjectId) {
        let Some(job) = job else { return };
        let path = self.file(job, task);
        let rotated = tokio::task::spawn_blocking(move || rotate(&path)).await;
        if let Ok(Err(error)) = rotated {
            tracing::error!(%error, "cannot put the log of a task aside");
        }
    }

    /// Reads the log of a task; parts of a long one unless all of it is wanted.
    pub async fn read(&self, job: ObjectId, task: ObjectId, whole: bool) -> io::Result<Option<Log>> {
        let path = self.file(job, task);
        tokio::task::spawn_blocking(move || match found(read(&path, whole))? {
            Some(text) => Ok(Some(Log::Text(text))),
            None => Ok(found(fs::read(compressed(&path)))?.map(Log::Compressed)),
        })
        .await
        .unwrap_or_else(|died| Err(io::Error::other(died)))
    }

    /// The log of a task as it is sent to the Server: compressed, and kept so.
    pub async fn compress(&self, job: ObjectId, task: ObjectId) -> io::Result<Vec<u8>> {
        let path = self.file(job, task);
        tokio::task::spawn_blocking(move || compress(&path))
            .await
            .unwrap_or_else(|died| Err(io::Error::other(died)))
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The compressed log beside a log.
fn compressed(path: &Path) -> PathBuf {
    with_end(path, ".gz")
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn rotate(path: &Path) -> io::Result<()> {
    // What is compressed is of the same run.
    found(fs::remove_file(compressed(path)))?;
    if !path.exists() {
        return Ok(());
    }
    let numbered = |number: u32| with_end(path, &format!(".{number}"));
    let mut free = 1;
    while numbered(free).exists() {
        free += 1;
    }
    for number in (1..free).rev() {
        fs::rename(numbered(number), numbered(number + 1))?;
    }
    fs::rename(path, numbered(1))
}

fn read(path: &Path, whole: bool) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut text = Vec::new();
    if whole || length < WHOLE {
        file.read_to_end(&mut text)?;
        return Ok(text);
    }
    text.resize(BEGIN, 0);
    file.read_exact(&mut text)?;
    file.seek(SeekFrom::Start(length - END))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let line = end.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    text.extend_from_slice(
        b"\n\n... the middle of the log is left out; fetch all of it with curl or wget ...\n\n",
    );
    text.extend_from_slice(&end[line..]);
    Ok(text)
}

fn compress(path: &Path) -> io::Result<Vec<u8>> {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let (text, packed) = (found(modified(path))?, compressed(path));
    if let Some(when) = found(modified(&packed))?
        && text.is_none_or(|text| text < when)
    {
        return fs::read(&packed);
    }
    let Some(_) = text else {
        // So that the Server does not ask for it again and again.
        return gzip(b"The manager has no log of this task.\n");
    };
    // Whole or not at all: what is there is taken for good.
    let fresh = with_end(&packed, ".new");
    let mut encoder = GzEncoder::new(File::create(&fresh)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&fresh, &packed)?;
    fs::read(&packed)
}

/// Compresses bytes.
pub(super) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn logs_grow_and_are_put_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = LogFiles::new(directory.path());
        let (job, task) =
            (ObjectId::new(Timestamp::from_micros(0)), ObjectId::new(Timestamp::from_micros(0)));
        let line = |text: &str| vec![LogLine { job: Some(job), task, text: text.into() }];
        let path = files.file(job, task);
        for run in ["one", "two", "three"] {
            files.rotate(Some(job), task).await;
            assert!(!path.exists());
            files.append(line(&format!("{run}\n"))).await;
            files.append(line("more\n")).await;
            files.append(line("")).await;
            assert_eq!(fs::read_to_string(&path).expect("a log"), format!("{run}\nmore\n"));
            assert!(!files.compress(job, task).await.expect("compressed").is_empty());
        }
        let old = |end: &str| fs::read_to_string(with_end(&path, end)).expect("an old log");
        assert_eq!((old(".1"), old(".2")), ("two\nmore\n".to_owned(), "one\nmore\n".to_owned()));
        assert!(path.starts_with(directory.path().join("job-0000").join(job.to_string())));
    }

    #[tokio::test]
    async fn long_logs_are_shown_in_parts() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = LogFiles::new(directory.path());
        let (job, task) =
            (ObjectId::new(Timestamp::from_micros(0)), ObjectId::new(Timestamp::from_micros(0)));
        assert!(files.read(job, task, false).await.expect("no trouble").is_none());
        let text: String = (0..4000).map(|line| format!("line {line}\n")).collect();
        files.append(vec![LogLine { job: Some(job), task, text: text.clone().into() }]).await;
        let Some(Log::Text(all)) = files.read(job, task, true).await.expect("a log") else { panic!("text") };
        assert_eq!(all, text.as_bytes());
        let Some(Log::Text(parts)) = files.read(job, task, false).await.expect("a log") else {
            panic!("text")
        };
        let parts = String::from_utf8(parts).expect("text");
        assert!(
            parts.len() < 16_000
                && parts.starts_with("line 0\n")
                && parts.ends_with("line 3999\n")
                && parts.contains("left out")
        );
        let _ = files.compress(job, task).await.expect("compressed");
        fs::remove_file(files.file(job, task)).expect("removed");
        assert!(matches!(files.read(job, task, false).await.expect("a log"), Some(Log::Compressed(_))));
    }
}
