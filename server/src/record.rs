//! Recording to a file, while the server runs.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use mahavishnu_core::{hub::ShardId, trace::Writer};
use tracing::{error, warn};

/// A trace under way, shared by the shards.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    /// `None` once it has ended.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    /// Unbuffered: what a crash leaves is what was noted.
    writer: Writer<File>,
    left: u64,
}

impl Recording {
    /// Begins a trace of at most `bytes_max` bytes. One that is there already is kept as `PATH.old`.
    pub(crate) fn start(path: &Path, bytes_max: u64) -> io::Result<Self> {
        match std::fs::rename(path, old(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let open = Open { writer: Writer::new(file)?, left: bytes_max };
        Ok(Self { path: path.to_owned(), open: Mutex::new(Some(open)) })
    }

    /// Adds what a shard noted. A trace that ends, ends for all shards at once: it can be replayed until there.
    pub(crate) fn note(&self, shard: ShardId, noted: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Open { writer, left }) = &mut *open else { return };
        let path = self.path.display();
        match left.checked_sub(noted.len() as u64) {
            None => warn!(%path, "the recording is as long as it may be: it ends here"),
            Some(rest) => {
                *left = rest;
                match writer.add(shard, noted) {
                    Ok(()) => return,
                    Err(error) => error!(%path, %error, "the recording ends here"),
                }
            }
        }
        *open = None;
    }
}

fn old(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".old");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_earlier_recording_is_kept_and_nobody_else_can_read_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        Recording::start(&path, 1 << 20).unwrap().note(ShardId(0), b"first");
        let first = std::fs::read(&path).unwrap();

        Recording::start(&path, 1 << 20).unwrap();

        assert_eq!(std::fs::read(dir.path().join("trace.old")).unwrap(), first);
        assert_ne!(std::fs::read(&path).unwrap(), first);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_exceeds_the_limit_ends_the_recording_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let recording = Recording::start(&path, 10).unwrap();
        recording.note(ShardId(0), b"12345678");
        let before = std::fs::read(&path).unwrap();

        recording.note(ShardId(1), b"123");
        recording.note(ShardId(1), b"1");

        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
