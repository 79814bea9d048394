//! A store at work.

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mahavishnu_core::{
    hub::{StoreCommand, StoredRound, StoredState},
    protocol::Epoch,
};
use rusqlite::{Connection, params};

use crate::{
    contents::Contents,
    error::StoreError,
    file,
    fsync::Fsync,
    index::{Index, Place},
    rows::{channel_sum, document_sum, round_sum, session_sum},
};

/// A file that is open, by this process alone.
pub struct Store {
    db: Connection,
    index: Index,
    fsync: Fsync,
    /// SQLite's log beside the file, for [`sync`](Self::sync).
    log_path: PathBuf,
    log: Option<File>,
    /// Something was written that was not forced to the disk.
    unsynced: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("fsync", &self.fsync).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file at `path`, or makes one, and reads what it holds.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is in use, damaged, of a newer program, no store, or the system refuses. Nothing of it was changed
    /// then.
    pub fn open(path: &Path, fsync: Fsync) -> Result<(Self, Contents), StoreError> {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self::open_on(path, fsync, boot.trim())
    }

    /// The same, on a machine that was started with this boot id.
    pub(crate) fn open_on(
        path: &Path,
        fsync: Fsync,
        boot: &str,
    ) -> Result<(Self, Contents), StoreError> {
        let mut db = file::open(path)?;
        // First the look at all of it: what is damaged is left as it is.
        let (mut contents, mut index) = file::read(&db)?;
        file::begin(&mut db, fsync, boot, &mut contents, &mut index)?;
        let log_path = file::beside(path, "-wal");
        Ok((Self { db, index, fsync, log_path, log: None, unsynced: false }, contents))
    }

    /// Carries out a group: all of it, or nothing. When it returns, the group survives the end of the process, and of the
    /// machine as [`Fsync`] says.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Io`]: nothing of the group is kept, and the next one may be again.
    /// [`StoreError::Order`]: an append is under a number that its channel is past.
    pub fn commit(&mut self, commands: &[StoreCommand]) -> Result<(), StoreError> {
        let Self { db, index, .. } = self;
        let done = write(db, index, commands);
        match done {
            Ok(()) => {
                self.index.keep();
                self.unsynced = self.fsync != Fsync::Always;
                Ok(())
            }
            Err(error) => {
                self.index.take_back();
                Err(error)
            }
        }
    }

    /// Forces to the disk what was committed, if the policy has left that to be done. Once a second, for
    /// [`Fsync::EverySec`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Io`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.unsynced || self.fsync == Fsync::No {
            return Ok(());
        }
        // What has left the log for the file was forced there when it left.
        let log = match self.log.take() {
            Some(log) => Some(log),
            None => match File::open(&self.log_path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                log => Some(log?),
            },
        };
        if let Some(log) = log {
            log.sync_data()?;
            self.log = Some(log);
        }
        self.unsynced = false;
        Ok(())
    }

    /// Forces everything to the disk, marks the file as closed in order and closes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Io`]: it counts as not closed.
    pub fn close(self) -> Result<(), StoreError> {
        self.db.pragma_update(None, "synchronous", "FULL")?;
        self.db.execute("UPDATE run SET clean = 1 WHERE one = 1", [])?;
        self.db.close().map_err(|(_, error)| error.into())
    }

    /// The policy.
    #[must_use]
    pub fn fsync(&self) -> Fsync {
        self.fsync
    }

    /// Lets the file grow by nothing from now on, as if the disk was full.
    #[cfg(test)]
    pub(crate) fn fill_up(&self, full: bool) {
        let pages: i64 = self.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let max = if full { pages } else { i64::from(i32::MAX) };
        self.db.query_row(&format!("PRAGMA max_page_count = {max}"), [], |_| Ok(())).unwrap();
    }
}

fn write(
    db: &mut Connection,
    index: &mut Index,
    commands: &[StoreCommand],
) -> Result<(), StoreError> {
    let transaction = db.transaction()?;
    let mut group = Group { db: &transaction, index };
    for command in commands {
        group.carry_out(command)?;
    }
    Ok(transaction.commit()?)
}

/// A group on its way into the file.
struct Group<'g> {
    db: &'g Connection,
    index: &'g mut Index,
}

impl Group<'_> {
    fn carry_out(&mut self, command: &StoreCommand) -> Result<(), StoreError> {
        match command {
            StoreCommand::Append { id: _, channel, round, epoch, oldest, state } => {
                self.append(channel, *epoch, round)?;
                self.trim(channel, *oldest)?;
                if let Some(state) = state {
                    self.keep_document(channel, state)?;
                }
                Ok(())
            }
            StoreCommand::Trim { channel, oldest } => self.trim(channel, *oldest),
            StoreCommand::Forget { channel } => self.forget(channel),
            StoreCommand::KeepSession { session, record } => self.execute(
                "INSERT OR REPLACE INTO sessions(name, sum, record) VALUES(?1, ?2, ?3)",
                params![session.0.to_be_bytes(), session_sum(session.0, record), &record[..]],
            ),
            StoreCommand::ForgetSession { session } => {
                self.execute("DELETE FROM sessions WHERE name = ?1", [session.0.to_be_bytes()])
            }
        }
    }

    fn append(
        &mut self,
        channel: &Arc<str>,
        epoch: Epoch,
        round: &StoredRound,
    ) -> Result<(), StoreError> {
        let known = self.index.get(channel);
        let known = known.filter(|kept| kept.epoch == epoch).map(|kept| (kept.row, kept.top));
        let row = match known {
            Some((_, top)) if round.first <= top => return Err(StoreError::Order),
            Some((row, top)) => {
                if round.first > top + 1 {
                    // What is between was not to be kept; what is before cannot be read across a hole.
                    self.trim(channel, u64::MAX)?;
                }
                row
            }
            None => self.found(channel, epoch)?,
        };
        let (first, last) = (signed(round.first)?, signed(round.last())?);
        let place = self.index.append(channel, round.last());
        let sum = round_sum(row, round.first, round.count, &round.records);
        self.execute(
            "INSERT INTO rounds(row, channel, first, count, sum, records) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            params![place, row, first, round.count, sum, &round.records[..]],
        )?;
        let sum = channel_sum(channel, epoch.as_str(), round.last());
        self.execute(
            "UPDATE channels SET top = ?2, sum = ?3 WHERE row = ?1",
            params![row, last, sum],
        )
    }

    /// A channel under an epoch, in the place of what there was of it under another one.
    fn found(&mut self, channel: &Arc<str>, epoch: Epoch) -> Result<i64, StoreError> {
        self.trim(channel, u64::MAX)?;
        let before = self.index.get(channel).map(|kept| kept.row);
        let row = self.index.found_channel(channel, epoch);
        if let Some(before) = before {
            self.execute("DELETE FROM channels WHERE row = ?1", [before])?;
            self.execute("DELETE FROM documents WHERE channel = ?1", [before])?;
        }
        let sum = channel_sum(channel, epoch.as_str(), 0);
        self.execute(
            "INSERT INTO channels(row, name, epoch, top, sum) VALUES(?1, ?2, ?3, 0, ?4)",
            params![row, &**channel, epoch.as_str(), sum],
        )?;
        Ok(row)
    }

    fn trim(&mut self, channel: &Arc<str>, oldest: u64) -> Result<(), StoreError> {
        let mut delete = self.db.prepare_cached("DELETE FROM rounds WHERE row = ?1")?;
        for Place { row, .. } in self.index.trim(channel, oldest) {
            delete.execute([row])?;
        }
        Ok(())
    }

    fn forget(&mut self, channel: &Arc<str>) -> Result<(), StoreError> {
        self.trim(channel, u64::MAX)?;
        let Some(row) = self.index.get(channel).map(|kept| kept.row) else { return Ok(()) };
        self.index.remove(channel);
        self.execute("DELETE FROM channels WHERE row = ?1", [row])?;
        self.execute("DELETE FROM documents WHERE channel = ?1", [row])
    }

    fn keep_document(&self, channel: &Arc<str>, state: &StoredState) -> Result<(), StoreError> {
        let Some(row) = self.index.get(channel).map(|kept| kept.row) else { return Ok(()) };
        let (offset, sum) =
            (signed(state.offset)?, document_sum(row, state.offset, &state.document));
        self.execute(
            "INSERT OR REPLACE INTO documents(channel, offset, sum, document) VALUES(?1, ?2, ?3, ?4)",
            params![row, offset, sum, &state.document[..]],
        )
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.db.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// SQLite's numbers have a sign.
fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Order)
}

/// A text that is another one each time that Linux starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
