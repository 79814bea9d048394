//! The file: how it is made, opened, marked as in use, and read.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{SessionId, StoredChannel, StoredRound, StoredState},
    protocol::Epoch,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::{
    contents::Contents,
    error::StoreError,
    fsync::Fsync,
    index::{Index, Kept, Place},
    rows::{channel_sum, document_sum, round_sum, session_sum},
};

/// Version of the format. A program refuses what is newer, and would have to convert what is older.
pub(crate) const VERSION: i64 = 1;

/// What marks a SQLite file as one of ours: "MHVH".
const APPLICATION: i64 = 0x4d48_5648;

/// Pages of the log beside the file that are written before they go into the file itself: 16 MiB. More is written at once,
/// and less often, for the same messages.
const CHECKPOINT_PAGES: i64 = 4096;

/// KiB of pages in memory.
const CACHE_KIB: i64 = 8 * 1024;

/// How long to wait for a process that is just about to end.
const LOCK_WAIT: Duration = Duration::from_millis(500);

const SCHEMA: &str = "
CREATE TABLE run(one INTEGER PRIMARY KEY CHECK(one = 1), boot TEXT NOT NULL, fsync TEXT NOT NULL, clean INTEGER NOT NULL);
CREATE TABLE channels(row INTEGER PRIMARY KEY, name TEXT NOT NULL, epoch TEXT NOT NULL, top INTEGER NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE rounds(row INTEGER PRIMARY KEY, channel INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
  sum INTEGER NOT NULL, records BLOB NOT NULL);
CREATE TABLE documents(channel INTEGER PRIMARY KEY, offset INTEGER NOT NULL, sum INTEGER NOT NULL, document BLOB NOT NULL);
CREATE TABLE sessions(name BLOB PRIMARY KEY, sum INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO run VALUES(1, '', 'always', 1);
";

/// Opens a file, and makes it if it is not there.
pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    if !fs::exists(path)? {
        if fs::exists(beside(path, "-wal"))? {
            // It would be taken for the new one's.
            return Err(StoreError::damaged("its -wal file is there without it"));
        }
        make(path)?;
    }
    let db = connect(path)?;
    let application: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION {
        return Err(StoreError::NotAStore);
    }
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        return Err(StoreError::Version(version));
    }
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Io("it cannot be written to in this file system".into()));
    }
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(db)
}

/// A connection that nobody else can have as well. Locked from the first look at the file on.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCK_WAIT)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    Ok(db)
}

/// Makes a file under another name and gives it its own when it is whole: so a file without anything in it is a damaged one,
/// and not one that was never finished.
fn make(path: &Path) -> Result<(), StoreError> {
    let new = beside(path, &format!(".new-{}", std::process::id()));
    let made = make_as(&new, path);
    // What is left of it if it failed; one of its two names if not.
    let _ = fs::remove_file(&new);
    made
}

fn make_as(new: &Path, path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        // Messages, and names of sessions that whoever knows them may resume.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    options.write(true).create(true).truncate(true).open(new)?;
    let mut db = connect(new)?;
    let making = db.transaction()?;
    making.execute_batch(SCHEMA)?;
    making.pragma_update(None, "application_id", APPLICATION)?;
    making.pragma_update(None, "user_version", VERSION)?;
    making.commit()?;
    db.close().map_err(|(_, error)| error)?;
    match fs::hard_link(new, path) {
        // Somebody else was faster; who has it is found out by its lock.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // There are file systems without links.
        Err(_) => fs::rename(new, path)?,
        Ok(()) => {}
    }
    Ok(fs::File::open(folder(path))?.sync_all()?)
}

/// The file of another kind that belongs to this one.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

/// Marks the file as in use, and gives all channels new epochs if the newest of it may be lost.
pub(crate) fn begin(
    db: &mut Connection,
    fsync: Fsync,
    boot: &str,
    contents: &mut Contents,
    index: &mut Index,
) -> Result<(), StoreError> {
    // This has to be on the disk before anything is that counts on it.
    db.pragma_update(None, "synchronous", "FULL")?;
    let begin = db.transaction()?;
    let before = begin
        .query_row("SELECT boot, fsync, clean FROM run WHERE one = 1", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
        })
        .optional()?;
    let Some((last_boot, last_fsync, clean)) = before else {
        return Err(StoreError::damaged("how it was closed is not in it"));
    };
    let same_boot = !boot.is_empty() && last_boot == boot;
    contents.renumbered = !clean && !same_boot && last_fsync != Fsync::Always.as_str();
    if contents.renumbered {
        renumber(&begin, contents, index)?;
    }
    begin.execute(
        "UPDATE run SET boot = ?1, fsync = ?2, clean = 0 WHERE one = 1",
        params![boot, fsync.as_str()],
    )?;
    begin.commit()?;
    if fsync != Fsync::Always {
        // The file stays whole all the same: its log is forced to the disk before the file itself is written to.
        db.pragma_update(None, "synchronous", "NORMAL")?;
    }
    Ok(())
}

fn renumber(
    begin: &Connection,
    contents: &mut Contents,
    index: &mut Index,
) -> Result<(), StoreError> {
    let mut update = begin.prepare("UPDATE channels SET epoch = ?2, sum = ?3 WHERE row = ?1")?;
    for StoredChannel { channel, epoch, top, .. } in &mut contents.channels {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| StoreError::Io(error.to_string().into()))?;
        *epoch = Epoch::from_random(u64::from_le_bytes(random));
        if let Some(row) = index.renumber(channel, *epoch) {
            let sum = channel_sum(channel, epoch.as_str(), *top);
            update.execute(params![row, epoch.as_str(), sum])?;
        }
    }
    Ok(())
}

/// Everything that is in the file, and where.
pub(crate) fn read(db: &Connection) -> Result<(Contents, Index), StoreError> {
    let fits: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if fits != "ok" {
        return Err(StoreError::damaged("its pages do not fit together"));
    }
    let mut reading = Reading::default();
    reading.channels(db)?;
    reading.rounds(db)?;
    reading.documents(db)?;
    let sessions = sessions(db)?;
    reading.sort();
    let mut index = HashMap::with_capacity(reading.channels.len());
    for (channel, kept) in reading.channels.iter().zip(reading.kept) {
        let known = index.insert(channel.channel.clone(), kept);
        if known.is_some() {
            return Err(StoreError::damaged("a channel is in it twice"));
        }
    }
    let contents = Contents { channels: reading.channels, sessions, renumbered: false };
    Ok((contents, Index::found(index)))
}

#[derive(Default)]
struct Reading {
    channels: Vec<StoredChannel>,
    /// For each of them.
    kept: Vec<Kept>,
    /// The place of each channel's row in both lists.
    places: HashMap<i64, usize>,
}

impl Reading {
    fn channels(&mut self, db: &Connection) -> Result<(), StoreError> {
        let mut query =
            db.prepare("SELECT row, name, epoch, top, sum FROM channels ORDER BY row")?;
        let mut rows = query.query([])?;
        while let Some(found) = rows.next()? {
            let (row, channel): (i64, Arc<str>) = (found.get(0)?, found.get(1)?);
            let (epoch, top): (String, u64) = (found.get(2)?, number(found.get(3)?)?);
            let sound = found.get::<_, i64>(4)? == channel_sum(&channel, &epoch, top);
            let Some(epoch) = Epoch::parse(&epoch).filter(|_| sound) else {
                return Err(StoreError::damaged("a channel's row"));
            };
            self.places.insert(row, self.channels.len());
            self.channels.push(StoredChannel {
                channel,
                epoch,
                top,
                rounds: Vec::new(),
                state: None,
            });
            self.kept.push(Kept { row, epoch, top, rounds: Default::default() });
        }
        Ok(())
    }

    /// Those first that were published to longest ago: they are the first to be forgotten, should all be too many.
    fn sort(&mut self) {
        let (channels, kept) = (std::mem::take(&mut self.channels), std::mem::take(&mut self.kept));
        let mut both: Vec<_> = channels.into_iter().zip(kept).collect();
        both.sort_by_key(|(_, kept)| kept.rounds.back().map(|round| round.row));
        (self.channels, self.kept) = both.into_iter().unzip();
    }

    fn rounds(&mut self, db: &Connection) -> Result<(), StoreError> {
        let query = "SELECT row, channel, first, count, sum, records FROM rounds ORDER BY row";
        let mut query = db.prepare(query)?;
        let mut rows = query.query([])?;
        while let Some(found) = rows.next()? {
            let (row, channel): (i64, i64) = (found.get(0)?, found.get(1)?);
            let (first, count): (u64, u32) = (number(found.get(2)?)?, found.get(3)?);
            let records =
                found.get_ref(5)?.as_blob().map_err(|_| StoreError::damaged("a round"))?;
            if found.get::<_, i64>(4)? != round_sum(channel, first, count, records) || count == 0 {
                return Err(StoreError::damaged("a round's row"));
            }
            let round = StoredRound { first, count, records: Bytes::copy_from_slice(records) };
            let at = self.places.get(&channel).copied();
            let known =
                at.and_then(|at| Some((self.channels.get_mut(at)?, self.kept.get_mut(at)?)));
            let Some((channel, kept)) = known else {
                return Err(StoreError::damaged("a round of no channel"));
            };
            let before = channel.rounds.last();
            if before.is_some_and(|before| before.last() + 1 != first) {
                return Err(StoreError::damaged("a round is missing"));
            }
            kept.rounds.push_back(Place { row, last: round.last() });
            channel.rounds.push(round);
        }
        let ends = |channel: &StoredChannel| {
            channel.rounds.last().is_none_or(|round| round.last() == channel.top)
        };
        if self.channels.iter().all(ends) {
            Ok(())
        } else {
            Err(StoreError::damaged("a channel's last round is missing"))
        }
    }

    fn documents(&mut self, db: &Connection) -> Result<(), StoreError> {
        let mut query = db.prepare("SELECT channel, offset, sum, document FROM documents")?;
        let mut rows = query.query([])?;
        while let Some(found) = rows.next()? {
            let (channel, offset): (i64, u64) = (found.get(0)?, number(found.get(1)?)?);
            let document =
                found.get_ref(3)?.as_blob().map_err(|_| StoreError::damaged("a document"))?;
            if found.get::<_, i64>(2)? != document_sum(channel, offset, document) {
                return Err(StoreError::damaged("a document's row"));
            }
            let at = self.places.get(&channel).copied();
            let Some(channel) = at.and_then(|at| self.channels.get_mut(at)) else {
                return Err(StoreError::damaged("a document of no channel"));
            };
            let document = Bytes::copy_from_slice(document);
            channel.state = Some(StoredState { offset, document });
        }
        Ok(())
    }
}

fn sessions(db: &Connection) -> Result<Vec<(SessionId, Bytes)>, StoreError> {
    let mut query = db.prepare("SELECT name, sum, record FROM sessions ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut sessions = Vec::new();
    while let Some(found) = rows.next()? {
        let name = u128::from_be_bytes(found.get(0)?);
        let record = found.get_ref(2)?.as_blob().map_err(|_| StoreError::damaged("a session"))?;
        if found.get::<_, i64>(1)? != session_sum(name, record) {
            return Err(StoreError::damaged("a session's row"));
        }
        sessions.push((SessionId(name), Bytes::copy_from_slice(record)));
    }
    Ok(sessions)
}

/// SQLite's numbers have a sign.
fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| StoreError::damaged("a number below zero"))
}
