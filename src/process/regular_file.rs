//! Regular files, opened without waiting for anybody.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file to read it, if it is a regular one. To open a FIFO waits for its writer, and nothing may be
/// kept waiting by a name that somebody has given to something else while the process runs.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// What a regular file says, if it has at most so many bytes.
///
/// # Errors
/// When it cannot be read, is something else, or is longer.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("has more than {most} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("a FIFO");
        std::fs::write(at("file"), "text").expect("writes");
        for other in [at("fifo"), dir.path().to_owned(), "/dev/zero".into()] {
            assert_eq!(read(&other, 4).expect_err("refused").to_string(), "not a regular file", "{other:?}");
        }
        assert_eq!(read(&at("file"), 4).expect("reads"), b"text");
        assert_eq!(read(&at("file"), 3).expect_err("too long").to_string(), "has more than 3 bytes");
    }
}
