//! Recording to a file, while the server runs.
//!
//! A shard never waits for the file: a thread of its own writes, from a bounded queue. A trace with a hole could not be
//! replayed, so where the file does not keep up the recording ends.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use mahavishnu_core::{hub::ShardId, trace::Writer};
use tracing::{error, warn};

/// A trace under way, shared by the shards. Dropped, it waits for the file for a moment.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    /// `None` once it has ended.
    open: Mutex<Option<Open>>,
    /// Bytes that wait for the file.
    waiting: Arc<AtomicUsize>,
    /// Hangs up when everything is written.
    written: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Open {
    notes: Sender<Note>,
    left: u64,
}

type Note = (ShardId, Box<[u8]>);

impl Recording {
    /// Begins a trace of at most `bytes_max` bytes. One that is there already is kept as `PATH.old`.
    pub(crate) fn start(path: &Path, bytes_max: u64) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_file() || found.is_symlink() => std::fs::rename(path, old(path))?,
            // A device or a pipe is somebody's: neither moved away nor written to.
            Ok(_) => return Err(io::Error::other("there is something that is no file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Self::into(file, path, bytes_max)
    }

    fn into(file: impl Write + Send + 'static, path: &Path, bytes_max: u64) -> io::Result<Self> {
        // Unbuffered: what a crash leaves is what was written.
        let mut writer = Writer::new(file)?;
        let (notes, received) = channel::<Note>();
        let (end, written) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (taken, name) = (Arc::clone(&waiting), path.to_owned());
        thread::Builder::new().name("record".into()).spawn(move || {
            let _end = end;
            for (shard, noted) in received {
                if let Err(error) = writer.add(shard, &noted) {
                    return error!(path = %name.display(), %error, "the recording ends here");
                }
                taken.fetch_sub(noted.len(), Ordering::Relaxed);
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(Some(Open { notes, left: bytes_max })),
            waiting,
            written: Mutex::new(written),
        })
    }

    /// Adds what a shard noted. A trace that ends, ends for all shards at once: it can be replayed until there.
    pub(crate) fn note(&self, shard: ShardId, noted: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Open { notes, left }) = &mut *open else { return };
        let path = self.path.display();
        let rest = left.checked_sub(noted.len() as u64);
        let waiting = self.waiting.load(Ordering::Relaxed) + noted.len();
        if rest.is_none() {
            warn!(%path, "the recording is as long as it may be: it ends here");
        } else if waiting > QUEUE_BYTES_MAX {
            error!(%path, waiting, "the file does not keep up: the recording ends here");
        } else {
            *left = rest.unwrap_or_default();
            self.waiting.fetch_add(noted.len(), Ordering::Relaxed);
            if notes.send((shard, noted.into())).is_ok() {
                return;
            }
            // It could not be written any more, which is told already.
        }
        *open = None;
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.recv_timeout(END_TIMEOUT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            error!(path = %self.path.display(), "the file does not keep up: the recording breaks off");
        }
    }
}

/// Bytes that wait for the file. Beyond it the recording ends.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// How long the end of the server waits for the file.
const END_TIMEOUT: Duration = Duration::from_secs(2);

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
        recording.note(ShardId(1), b"123");
        recording.note(ShardId(1), b"1");
        drop(recording);

        let other = dir.path().join("other");
        Recording::start(&other, 10).unwrap().note(ShardId(0), b"12345678");
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap());
    }

    #[test]
    fn a_file_that_stalls_ends_the_recording_and_holds_up_nobody() {
        /// Takes the trace's beginning, then nothing for as long as the other end is there.
        struct Stalled(Receiver<()>, bool);
        impl Write for Stalled {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.1, true) {
                    let _ = self.0.recv();
                }
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (release, stalled) = channel();
        let recording = Recording::into(Stalled(stalled, false), Path::new("t"), u64::MAX).unwrap();
        let noted = vec![7; 1 << 20];
        for _ in 0..40 {
            recording.note(ShardId(0), &noted);
        }
        assert!(recording.waiting.load(Ordering::Relaxed) <= QUEUE_BYTES_MAX);
        assert!(recording.open.lock().unwrap().is_none(), "it has ended");
        drop(release);
    }

    #[test]
    fn a_full_disk_ends_the_recording() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(Recording::into(full, Path::new("t"), 10).is_err(), "its beginning");

        /// The trace's beginning fits.
        struct Full(bool);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match std::mem::replace(&mut self.0, true) {
                    true => Err(io::Error::from_raw_os_error(28)),
                    false => Ok(bytes.len()),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recording = Recording::into(Full(false), Path::new("t"), 1 << 20).unwrap();
        recording.note(ShardId(0), b"lost");
        let _ = recording.written.lock().unwrap().recv();
        recording.note(ShardId(0), b"too late");
        assert!(recording.open.lock().unwrap().is_none());
    }

    #[test]
    fn what_is_no_file_is_left_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [dir.path(), &socket] {
            assert!(Recording::start(path, 10).is_err());
            assert!(path.exists());
        }
    }
}
