//! Files that somebody hands over: certificates, keys, revocation lists, env files, policies, lists of keys and of
//! revoked tokens.
//!
//! This is the one place where such a file is opened. So each of them is bounded, none makes the program wait for a
//! writer that never comes, and all are refused in the same words: the path, what is wrong, what to do. A filesystem
//! that hangs still blocks the thread that reads: whoever must not wait calls these functions on a thread aside.

#[cfg(test)]
mod readers;

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::{OFlags, major, minor};
use zeroize::Zeroizing;

use crate::{
    aside,
    exit::{Exit, Failure, plain},
};

/// Why a file is of no use: one line that begins with its path. Never repeats what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Refused {
    /// What is wrong with the file at `path`, and what to do.
    pub(crate) fn new(path: &Path, why: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Configuration, text: format!("{}: {why}", path.display()) }
    }

    /// The same for a line of it, counted from 1.
    pub(crate) fn at(path: &Path, line: usize, why: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Configuration, text: format!("{}:{line}: {why}", path.display()) }
    }

    /// As the end of a subcommand, about the setting called `name`.
    pub(crate) fn of(self, name: &str) -> Failure {
        Failure::new(self.exit, format!("{name}: {}", self.text))
    }
}

impl From<Refused> for (Exit, String) {
    fn from(refused: Refused) -> Self {
        (refused.exit, refused.text)
    }
}

/// All bytes of a file. They may be secret, so they are overwritten when they are dropped.
///
/// # Errors
///
/// It cannot be opened or read; it is no regular file (a pipe can be read only once, and a reload reads again);
/// it has more than [`BYTES_MAX`]; it was written to meanwhile, time and again.
pub(crate) fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refused> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(bytes) = aside::reading(path, || attempt(path, || ()))? {
            return Ok(bytes);
        }
    }
    Err(Refused::new(path, "is being written to; write a new file and rename it over this one"))
}

/// `None` if somebody wrote to the file meanwhile. `during` is called when half of the work is done.
fn attempt(path: &Path, during: impl FnOnce()) -> Result<Option<Zeroizing<Vec<u8>>>, Refused> {
    // A pipe without a writer is opened at once instead of never, a terminal does not become ours.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| unreadable(path, &error))?;
    let before = file.metadata().map_err(|error| unreadable(path, &error))?;
    check(path, &before)?;
    during();
    let bytes = read(&file, before.len()).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(too_large(path));
    }
    let after = file.metadata().map_err(|error| unreadable(path, &error))?;
    Ok((stamp(&before) == stamp(&after)).then_some(bytes))
}

/// A file of text: UTF-8, without the byte order mark that some editors put in front.
///
/// # Errors
///
/// As [`bytes()`], and what is no text: UTF-16, bytes that are no UTF-8, a NUL.
pub(crate) fn text(path: &Path) -> Result<Zeroizing<String>, Refused> {
    let bytes = bytes(path)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Refused::new(path, UTF_16));
    }
    let line = |at: usize| 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
    let bare = bytes.strip_prefix(BOM).unwrap_or(&bytes);
    let offset = bytes.len() - bare.len();
    let text = std::str::from_utf8(bare).map_err(|error| {
        let why = "is not UTF-8 text; save it as UTF-8";
        Refused::at(path, line(offset + error.valid_up_to()), why)
    })?;
    match text.find('\0') {
        Some(1) => Err(Refused::new(path, UTF_16)),
        Some(at) => Err(Refused::at(path, line(offset + at), "a NUL byte; a text has none")),
        None => Ok(Zeroizing::new(text.to_owned())),
    }
}

/// Whether every user of this machine can read a file. One that cannot be looked at is not said to be.
pub(crate) fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o004 != 0)
}

fn check(path: &Path, meta: &Metadata) -> Result<(), Refused> {
    let kind = meta.file_type();
    // What people name who want none.
    let null = kind.is_char_device() && (major(meta.rdev()), minor(meta.rdev())) == (1, 3);
    let what = if kind.is_dir() {
        "is a directory; name a file in it"
    } else if kind.is_fifo() {
        "is a pipe, which can be read only once; write it to a file"
    } else if !kind.is_file() && !null {
        "is no regular file; name one"
    } else if meta.len() > BYTES_MAX {
        return Err(too_large(path));
    } else {
        return Ok(());
    };
    Err(Refused::new(path, what))
}

/// One byte more than allowed, if there are so many, to tell a file that grew.
fn read(file: &File, expected: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // With room for all of it nothing is moved, so no copy of a secret stays behind.
    let room = usize::try_from(expected).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What changes when somebody writes to a file.
fn stamp(meta: &Metadata) -> (u64, i64, i64) {
    (meta.len(), meta.mtime(), meta.mtime_nsec())
}

fn unreadable(path: &Path, error: &io::Error) -> Refused {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let why = format!("{}; the user of this program must be allowed to read it", plain(error));
        return Refused { exit: Exit::Permission, ..Refused::new(path, why) };
    }
    Refused::new(path, plain(error))
}

fn too_large(path: &Path) -> Refused {
    Refused::new(path, format!("has more than {} MiB; is it the right one?", BYTES_MAX >> 20))
}

/// How much a file may have that is handed over. Larger ones are refused: they are something else, or revocation lists
/// that no server should keep in memory.
pub(crate) const BYTES_MAX: u64 = 64 << 20;
/// How often a file that changes while it is read is read again.
const ATTEMPTS_MAX: usize = 3;
const BOM: &[u8] = b"\xef\xbb\xbf";
const UTF_16: &str = "is UTF-16; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)";

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(BYTES_MAX + 1).unwrap();
        for (path, why) in [
            (dir.path(), "is a directory"),
            (&pipe, "is a pipe"),
            (&large, "has more than 64 MiB"),
            (Path::new("/dev/zero"), "is no regular file"),
            (&dir.path().join("none"), "No such file or directory"),
        ] {
            let refused = bytes(path).unwrap_err();
            let start = format!("{}: {why}", path.display());
            assert!(refused.text.starts_with(&start), "{refused:?}");
            assert_eq!(refused.exit, Exit::Configuration);
        }
        assert_eq!(*bytes(Path::new("/dev/null")).unwrap(), [0u8; 0]);
    }

    #[test]
    fn links_are_followed_and_what_is_said_names_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, circle) =
            (dir.path().join("..data"), dir.path().join("link"), dir.path().join("circle"));
        std::fs::write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        symlink(&circle, &circle).unwrap();
        assert_eq!(*text(&link).unwrap(), "x");
        assert!(text(&circle).unwrap_err().text.contains("circle: "));
        std::fs::remove_file(&file).unwrap();
        assert!(text(&link).unwrap_err().text.contains("link: No such file"));
    }

    #[test]
    fn text_is_utf_8_or_refused_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            text(&path).map(|text| text.to_string()).map_err(|refused| {
                refused.text.strip_prefix(path.to_str().unwrap()).unwrap().to_owned()
            })
        };
        assert_eq!(read(b"").as_deref(), Ok(""));
        assert_eq!(read(b"\xef\xbb\xbfa\r\n").as_deref(), Ok("a\r\n"));
        for (bytes, start) in [
            (&b"\xff\xfea\0"[..], ": is UTF-16"),
            (b"\xfe\xff\0a", ": is UTF-16"),
            (b"a\0b\0", ": is UTF-16"),
            (b"ab\n\0", ":2: a NUL byte"),
            (b"ab\nc\xe9\n", ":2: is not UTF-8"),
        ] {
            let text = read(bytes).unwrap_err();
            assert!(text.starts_with(start), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_written_to_is_not_taken_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let during = |text: &'static str| {
            let path = path.clone();
            attempt(&path.clone(), move || std::fs::write(path, text).unwrap())
        };
        assert_eq!(during("longer"), Ok(None));
        assert_eq!(during(""), Ok(None));
        // A new file under the old name leaves the one that is being read as it is.
        std::fs::write(&path, "old").unwrap();
        let next = dir.path().join("next");
        std::fs::write(&next, "new").unwrap();
        let read = attempt(&path, || std::fs::rename(&next, &path).unwrap()).unwrap();
        assert_eq!(**read.unwrap(), *b"old");
        assert_eq!(**bytes(&path).unwrap(), *b"new");
    }
}
