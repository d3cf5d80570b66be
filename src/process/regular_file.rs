//! Regular files, opened without waiting for anybody.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file to read it, if it is a regular one. To open a FIFO waits for its writer, and nothing may be
/// kept waiting by a name that somebody has given to something else while the process runs.
///
/// # Errors
/// When it cannot be opened, or is something else.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

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
            assert_eq!(open(&other).expect_err("refused").to_string(), "not a regular file", "{other:?}");
        }
        let mut text = String::new();
        open(&at("file")).and_then(|mut file| file.read_to_string(&mut text)).expect("reads");
        assert_eq!(text, "text");
    }
}
