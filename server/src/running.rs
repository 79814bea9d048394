//! The record of what a server runs with, in its state directory, for `config diff` and `verify`.
//!
//! A file and no request over the network: whoever may read it could read the server's files as well, and a server that
//! does not answer has it still.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure},
    settings::InForce,
};

/// What a server says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pid: i32,
    pub(crate) version: String,
    /// When these settings came into force, in UTC.
    pub(crate) since: String,
    pub(crate) in_force: InForce,
}

/// The record of this process. It goes with its owner.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    pub(crate) in_force: InForce,
}

impl Recorder {
    /// In this state directory, which is this process's by its lock.
    pub(crate) fn new(dir: &Path, in_force: InForce) -> Self {
        Self { path: dir.join(NAME), in_force }
    }

    /// Writes down what is in force. By rename, so that nobody reads half of it.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let record = Record {
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            in_force: self.in_force.clone(),
        };
        let draft = self.path.with_extension("new");
        let written = || {
            let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
            file?.write_all(&text)?;
            fs::rename(&draft, &self.path)
        };
        written().map_err(|error| Failure::io(self.path.display(), &error))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The record of the server that has this state directory, which is process `pid`.
///
/// # Errors
///
/// There is none that can be read, or another one's: the reason, for people.
pub(crate) fn read(dir: &Path, pid: i32) -> Result<Record, Failure> {
    let path = dir.join(NAME);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
    let text = opened.and_then(|file| {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, BYTES_MAX), &mut text).map(|_| text)
    });
    let strange = |why: &str| {
        let text = format!("{}: {why}; a restart of the server writes it anew", path.display());
        Failure::new(Exit::General, text)
    };
    let text = match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(strange("there is no record of what the server runs with"));
        }
        text => text.map_err(|error| Failure::io(path.display(), &error))?,
    };
    let record: Record = serde_json::from_slice(&text)
        .map_err(|_| strange("is no record that this version of the program can read"))?;
    match record.pid == pid {
        true => Ok(record),
        false => Err(strange("is the record of a server that is gone")),
    }
}

const NAME: &str = "mahavishnu_websocket.settings";
/// Some 30 KiB are usual.
const BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::settings::{Request, testing::load};

    #[test]
    fn a_record_is_read_by_who_knows_whose_it_is_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let failure = read(dir.path(), own).unwrap_err();
        assert!(failure.to_string().contains("there is no record"), "{failure}");
        let in_force = InForce::of(&load(&[]), &Request::default(), "00");
        let recorder = Recorder::new(dir.path(), in_force);
        recorder.write().unwrap();
        recorder.write().unwrap();
        let path = dir.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(dir.path(), own).unwrap().version, env!("CARGO_PKG_VERSION"));
        let failure = read(dir.path(), own + 1).unwrap_err();
        assert!(failure.to_string().contains("a server that is gone"), "{failure}");
        fs::write(&path, "{").unwrap();
        assert!(read(dir.path(), own).is_err());
        drop(recorder);
        assert!(!path.exists());
    }
}
