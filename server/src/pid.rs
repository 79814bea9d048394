//! One server per state directory: a lock that the kernel releases however the server ends, and a PID file beside it.
//!
//! The lock says whether a server runs, and the locked file which one. So a PID file left by `kill -9` prevents nothing,
//! and what is in one is never signalled: it is for people and scripts. The lock file stays where it is for good: removing it would
//! let two servers lock two files of one name.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use serde_json::json;

use crate::{
    exit::{Exit, Failure, plain},
    process::Identity,
};

/// Where a state directory may be, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    dirs: Vec<PathBuf>,
    /// The operator named the directory: it, or none.
    explicit: bool,
}

impl Candidates {
    /// `explicit` if given, else what the environment suggests.
    pub(crate) fn new(explicit: Option<&Path>) -> Self {
        Self::from_environment(explicit, |name| {
            std::env::var_os(name).filter(|value| !value.is_empty())
        })
    }

    fn from_environment(
        explicit: Option<&Path>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        if let Some(dir) = explicit {
            return Self { dirs: vec![dir.to_owned()], explicit: true };
        }
        // systemd: several directories are separated by colons.
        let managed = |name| variable(name).and_then(|list| std::env::split_paths(&list).next());
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        let home = variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let dirs = [
            managed("RUNTIME_DIRECTORY"),
            managed("STATE_DIRECTORY"),
            variable("XDG_STATE_HOME")
                .map(PathBuf::from)
                .and_then(absolute)
                .map(|dir| dir.join(NAME)),
            home.and_then(absolute).map(|dir| dir.join(NAME)),
            // Where units make the only writable place, if somebody has made it.
            Some(PathBuf::from(SYSTEM_DIR)).filter(|dir| dir.is_dir()),
            Some(temporary_dir()),
        ];
        let mut dirs: Vec<_> = dirs.into_iter().flatten().collect();
        let services = service_dirs(Path::new(RUNTIME_ROOT));
        dirs.extend(services.into_iter().filter(|dir| !dirs.contains(dir)).collect::<Vec<_>>());
        Self { dirs, explicit: false }
    }

    /// The same, each a directory of this name further down.
    pub(crate) fn below(self, name: &str) -> Self {
        Self { dirs: self.dirs.iter().map(|dir| dir.join(name)).collect(), ..self }
    }

    /// The directories in words, with why one could not be looked into: a service's are its user's alone.
    pub(crate) fn looked(&self) -> Vec<String> {
        let shown = |dir: &PathBuf| match look(dir) {
            Err(error) => format!("{} ({})", dir.display(), plain(&error)),
            Ok(_) => dir.display().to_string(),
        };
        self.dirs.iter().map(shown).collect()
    }
}

/// Where service managers keep the state of services under these units' names: `mahavishnu`, `mahavishnu-NAME`. Servers
/// that run by hand make none there.
fn service_dirs(root: &Path) -> Vec<PathBuf> {
    let is_ours = |name: &str| {
        let rest = name.strip_prefix(NAME);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    let mut dirs: Vec<_> =
        ours.map(|entry| entry.path()).filter(|dir| dir.is_dir()).take(SERVICES_MAX).collect();
    dirs.sort();
    dirs
}

/// The right to be the server of a state directory, held until dropped or until the process ends.
#[derive(Debug)]
pub(crate) struct Claim {
    dir: PathBuf,
    lock: File,
    own: Identity,
    url: String,
    /// How often a reload was tried, and what was wrong with the last one.
    reloads: u64,
    problems: Vec<String>,
}

impl Claim {
    /// Claims the first directory that can be used, and writes the PID file.
    pub(crate) fn take(candidates: &Candidates) -> Result<Self, Failure> {
        let mut failures = Vec::new();
        for dir in &candidates.dirs {
            match Self::take_dir(dir) {
                Ok(claim) => return Ok(claim),
                Err(failure) if candidates.explicit || failure.exit == Exit::AlreadyRunning => {
                    return Err(failure);
                }
                Err(failure) => failures.push(failure),
            }
        }
        let exit = failures.last().map_or(Exit::General, |failure| failure.exit);
        let mut lines: Vec<_> = failures.into_iter().flat_map(|failure| failure.lines).collect();
        lines.push("no directory for the PID file; name one by --state-dir".into());
        Err(Failure { exit, lines })
    }

    fn take_dir(dir: &Path) -> Result<Self, Failure> {
        prepare(dir)?;
        let path = dir.join(LOCK);
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(careful())
            .clone();
        let failure = |error: io::Error| Failure::io(path.display(), &error);
        let lock = options.open(&path).map_err(failure)?;
        demand_file(&lock).map_err(failure)?;
        try_lock_patiently(&lock).map_err(|error| match error {
            TryLockError::WouldBlock => already_running(dir),
            TryLockError::Error(error) => failure(error),
        })?;
        let mut claim = Self {
            dir: dir.to_owned(),
            lock,
            own: Identity::own(),
            url: String::new(),
            reloads: 0,
            problems: Vec::new(),
        };
        claim.write_notes().map_err(failure)?;
        claim.write_pid().map_err(|error| Failure::io(dir.join(PID).display(), &error))?;
        Ok(claim)
    }

    /// Tells the other subcommands where the server answers. Called once it listens.
    pub(crate) fn announce(&mut self, url: &str) -> io::Result<()> {
        url.clone_into(&mut self.url);
        self.write_notes()
    }

    /// Tells the other subcommands what became of a reload: nothing if it is in force, else what is wrong.
    pub(crate) fn reloaded(&mut self, problems: Vec<String>) -> io::Result<()> {
        self.reloads += 1;
        self.problems = problems;
        self.write_notes()
    }

    fn write_notes(&mut self) -> io::Result<()> {
        let mut notes = self.own.to_notes();
        let rest = [
            ("url", json!(self.url)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("reloads", json!(self.reloads)),
            ("problems", json!(self.problems)),
        ];
        notes.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        let text = serde_json::Value::Object(notes).to_string();
        // A reader meanwhile finds what is no JSON, and looks again.
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(text.as_bytes())
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// By rename, so that a reader never sees half a number.
    fn write_pid(&self) -> io::Result<()> {
        let draft = self.dir.join(format!("{PID}.new"));
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}", std::process::id())?;
        fs::rename(&draft, self.dir.join(PID))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is still held, so that the next server's PID file is never the one removed.
        let _ = fs::remove_file(self.dir.join(PID));
        let _ = self.lock.set_len(0);
    }
}

/// What the state directories say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A server holds this directory. Who it is, is unknown for the instant between locking and writing.
    Running { dir: PathBuf, server: Option<Identity>, url: Option<String> },
    /// A PID file, but no server.
    Stale { dir: PathBuf, pid: Option<i32> },
    /// Neither.
    Nothing,
}

/// Looks for a running server in all candidates, then for a stale PID file.
pub(crate) fn find(candidates: &Candidates) -> Result<Found, Failure> {
    let mut stale = Found::Nothing;
    for dir in &candidates.dirs {
        match look(dir) {
            Ok(found @ Found::Running { .. }) => return Ok(found),
            Ok(found @ Found::Stale { .. }) if stale == Found::Nothing => stale = found,
            Ok(Found::Stale { .. } | Found::Nothing) => {}
            Err(error) if candidates.explicit => return Err(Failure::io(dir.display(), &error)),
            // Somebody else's directory is not where our server is.
            Err(_) => {}
        }
    }
    Ok(stale)
}

/// How often the server of `dir` tried to reload, and what was wrong with the last attempt. `None` while it writes.
pub(crate) fn reloads(dir: &Path) -> Option<(u64, Vec<String>)> {
    let notes = read_notes(&mut open(&dir.join(LOCK)).ok()?)?;
    let problems = notes.get("problems")?.as_array()?.iter();
    let problems = problems.filter_map(|line| line.as_str().map(str::to_owned)).collect();
    Some((notes.get("reloads")?.as_u64()?, problems))
}

/// Removes the PID file of a server that is gone, unless a new one has just started.
pub(crate) fn clean(dir: &Path) {
    if matches!(look(dir), Ok(Found::Stale { .. })) {
        let _ = fs::remove_file(dir.join(PID));
    }
}

fn look(dir: &Path) -> io::Result<Found> {
    let mut lock = match open(&dir.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(without_server(dir, filed(dir)?));
        }
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(without_server(dir, filed(dir)?)),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            let notes = read_notes(&mut lock);
            let server = notes.as_ref().and_then(Identity::from_json);
            let url = notes.as_ref().and_then(|notes| notes.get("url")?.as_str());
            let url = url.filter(|url| !url.is_empty()).map(str::to_owned);
            Ok(Found::Running { dir: dir.to_owned(), server, url })
        }
    }
}

/// What the PID file says: `None` without one, `Some(None)` for one without a number.
fn filed(dir: &Path) -> io::Result<Option<Option<i32>>> {
    let mut text = String::new();
    match open(&dir.join(PID)) {
        Ok(file) => match file.take(PID_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => Ok(Some(text.trim().parse().ok().filter(|pid| *pid > 0))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(None)),
            Err(error) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the server that holds `lock` says of itself. `None` while it writes.
fn read_notes(lock: &mut File) -> Option<serde_json::Value> {
    for _ in 0..LOCK_ATTEMPTS {
        let mut bytes = Vec::new();
        lock.rewind().ok()?;
        lock.take(NOTES_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        if let Ok(notes) = serde_json::from_slice(&bytes) {
            return Some(notes);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    None
}

/// Opens a file of a state directory to read it: never a symbolic link, and never something that could be waited for.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(careful()).open(path)?;
    demand_file(&file)?;
    Ok(file)
}

fn demand_file(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("there is something that is no file")),
    }
}

/// `pid`: `None` without a PID file, `Some(None)` for one without a number.
fn without_server(dir: &Path, pid: Option<Option<i32>>) -> Found {
    pid.map_or(Found::Nothing, |pid| Found::Stale { dir: dir.to_owned(), pid })
}

/// `status` and `stop` hold the lock, shared, for an instant when they look: that is no reason to give up.
fn try_lock_patiently(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_ATTEMPTS {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            done => return done,
        }
    }
    lock.try_lock()
}

fn already_running(dir: &Path) -> Failure {
    let pid = match look(dir) {
        Ok(Found::Running { server: Some(server), .. }) => format!(" (pid {})", server.pid),
        _ => String::new(),
    };
    let text = format!(
        "already running{pid} with state directory {}; another server needs another --state-dir",
        dir.display()
    );
    Failure::new(Exit::AlreadyRunning, text)
}

/// Makes the directory, for this user only, or checks one in a shared place.
fn prepare(dir: &Path) -> Result<(), Failure> {
    let failure =
        |error: &io::Error| Failure::io(format!("state directory {}", dir.display()), error);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failure(&error))?;
    let shared = temporary_dir();
    if dir.starts_with(&shared) {
        let meta = fs::symlink_metadata(&shared).map_err(|error| failure(&error))?;
        // Anyone may have made it first, to read or to swap what we keep there.
        let ours = meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o022 == 0;
        if !ours {
            let text = format!("state directory {} belongs to somebody else", shared.display());
            return Err(Failure::new(Exit::Permission, text));
        }
    }
    Ok(())
}

fn temporary_dir() -> PathBuf {
    PathBuf::from(format!("/tmp/{NAME}-{}", rustix::process::geteuid().as_raw()))
}

/// A symbolic link in place of a file is not followed, and a pipe not waited for.
fn careful() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default()
}

const NAME: &str = "mahavishnu";
const SYSTEM_DIR: &str = "/var/lib/mahavishnu";
const RUNTIME_ROOT: &str = "/run";
/// Services of one machine that are looked for without being named.
const SERVICES_MAX: usize = 64;
const PID: &str = "mahavishnu_websocket.pid";
const LOCK: &str = "mahavishnu_websocket.lock";
/// Of a PID file and of a server's notes, whoever wrote them, no more is read.
const PID_BYTES_MAX: u64 = 64;
const NOTES_BYTES_MAX: u64 = 1 << 20;
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn only(dir: &Path) -> Candidates {
        Candidates::new(Some(dir))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_service_manager_chooses_before_the_user() {
        let variables = |name: &str| match name {
            "RUNTIME_DIRECTORY" => Some("/run/m:/run/other".into()),
            "STATE_DIRECTORY" => Some("/var/lib/m".into()),
            "XDG_STATE_HOME" => Some("/x".into()),
            "HOME" => Some("/h".into()),
            _ => None,
        };
        let dirs = Candidates::from_environment(None, variables).dirs;
        let expected = ["/run/m", "/var/lib/m", "/x/mahavishnu", "/h/.local/state/mahavishnu"];
        assert_eq!(dirs[..4], expected.map(PathBuf::from));
        assert!(dirs.contains(&temporary_dir()));
        assert_eq!(
            Candidates::from_environment(Some(Path::new("/e")), variables).dirs,
            [PathBuf::from("/e")]
        );
    }

    #[test]
    fn services_are_found_by_the_names_of_their_units() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["mahavishnu", "mahavishnu-a", "mahavishnux", "other"] {
            fs::create_dir(tmp.path().join(name)).unwrap();
        }
        fs::write(tmp.path().join("mahavishnu-file"), "").unwrap();
        let expected = ["mahavishnu", "mahavishnu-a"].map(|name| tmp.path().join(name));
        assert_eq!(service_dirs(tmp.path()), expected);
        assert_eq!(service_dirs(&tmp.path().join("none")), Vec::<PathBuf>::new());
    }

    #[test]
    fn where_nothing_was_found_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let looked = only(tmp.path()).looked();
        assert_eq!(looked, [tmp.path().display().to_string()]);
        fs::create_dir(tmp.path().join(LOCK)).unwrap();
        let looked = only(tmp.path()).looked();
        assert!(looked[0].ends_with(" (there is something that is no file)"), "{looked:?}");
    }

    #[test]
    fn a_claim_is_private_and_excludes_a_second_one() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a/b");
        let mut claim = Claim::take(&only(&dir)).unwrap();
        claim.announce("http://127.0.0.1:1").unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join(PID)), 0o600);
        assert_eq!(mode(&dir.join(LOCK)), 0o600);
        let me = std::process::id();
        let running = Found::Running {
            dir: dir.clone(),
            server: Some(Identity::own()),
            url: Some("http://127.0.0.1:1".into()),
        };
        assert_eq!(find(&only(&dir)), Ok(running));
        let second = Claim::take(&only(&dir)).unwrap_err();
        assert_eq!(second.exit, Exit::AlreadyRunning);
        assert!(second.to_string().contains(&format!("(pid {me})")), "{second}");
    }

    #[test]
    fn an_orderly_end_leaves_no_pid_file() {
        let tmp = tempfile::tempdir().unwrap();
        drop(Claim::take(&only(tmp.path())).unwrap());
        assert!(!tmp.path().join(PID).exists());
        assert_eq!(find(&only(tmp.path())), Ok(Found::Nothing));
    }

    #[test]
    fn a_pid_file_without_a_lock_is_stale_and_prevents_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join(PID), "1\n").unwrap();
        assert_eq!(
            find(&only(tmp.path())),
            Ok(Found::Stale { dir: tmp.path().into(), pid: Some(1) })
        );
        fs::write(tmp.path().join(LOCK), "{\"pid\":1}").unwrap();
        assert_eq!(
            find(&only(tmp.path())),
            Ok(Found::Stale { dir: tmp.path().into(), pid: Some(1) })
        );
        drop(Claim::take(&only(tmp.path())).unwrap());
    }

    #[test]
    fn the_locked_file_says_who_the_server_is_and_the_pid_file_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let claim = Claim::take(&only(tmp.path())).unwrap();
        let running =
            Found::Running { dir: tmp.path().into(), server: Some(Identity::own()), url: None };
        for text in ["1\n", "", "abc", "99999999999"] {
            fs::write(tmp.path().join(PID), text).unwrap();
            assert_eq!(find(&only(tmp.path())).as_ref(), Ok(&running));
        }
        fs::remove_file(tmp.path().join(PID)).unwrap();
        assert_eq!(find(&only(tmp.path())), Ok(running));
        drop(claim);
    }

    #[test]
    fn what_is_no_file_is_neither_read_nor_waited_for() {
        for name in [PID, LOCK] {
            let tmp = tempfile::tempdir().unwrap();
            let path = tmp.path().join(name);
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
            let failure = find(&only(tmp.path())).unwrap_err();
            assert!(failure.to_string().contains("no file"), "{name}: {failure}");
            // A PID file is replaced, a lock is not.
            assert_eq!(Claim::take(&only(tmp.path())).is_ok(), name == PID);

            let tmp = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink("/etc/passwd", tmp.path().join(name)).unwrap();
            assert!(find(&only(tmp.path())).is_err(), "{name}");
            assert_eq!(Claim::take(&only(tmp.path())).is_ok(), name == PID);
        }
    }

    #[test]
    fn huge_files_are_not_read_whole() {
        let tmp = tempfile::tempdir().unwrap();
        let claim = Claim::take(&only(tmp.path())).unwrap();
        let grow = |name| {
            let file = OpenOptions::new().write(true).open(tmp.path().join(name)).unwrap();
            file.set_len(1 << 40).unwrap();
        };
        grow(LOCK);
        assert!(matches!(find(&only(tmp.path())), Ok(Found::Running { server: None, .. })));
        grow(PID);
        drop(claim);
        fs::write(tmp.path().join(PID), [0xff; 1000]).unwrap();
        grow(PID);
        assert!(matches!(find(&only(tmp.path())), Ok(Found::Stale { pid: None, .. })));
    }

    #[test]
    fn cleaning_spares_a_running_server() {
        let tmp = tempfile::tempdir().unwrap();
        let _claim = Claim::take(&only(tmp.path())).unwrap();
        clean(tmp.path());
        assert!(tmp.path().join(PID).exists());
    }

    #[test]
    fn a_pid_file_without_a_number_names_nobody() {
        let tmp = tempfile::tempdir().unwrap();
        for text in ["", "abc", "-1", "0", "99999999999"] {
            fs::write(tmp.path().join(PID), text).unwrap();
            assert_eq!(
                find(&only(tmp.path())),
                Ok(Found::Stale { dir: tmp.path().into(), pid: None }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_one_clear_line() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = Claim::take(&only(&file.join("x"))).unwrap_err();
        assert_eq!(failure.lines.len(), 1);
        assert!(failure.lines[0].contains("file/x: Not a directory"), "{failure}");
    }

    #[test]
    fn an_unusable_candidate_is_passed_over() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("file");
        fs::write(&file, "").unwrap();
        let dirs = vec![file.join("x"), tmp.path().join("y")];
        let claim = Claim::take(&Candidates { dirs, explicit: false }).unwrap();
        assert_eq!(claim.dir(), tmp.path().join("y"));
    }
}
