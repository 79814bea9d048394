//! A trace as a file: the records of all hubs of a process, in the order in which they were handed over.
//!
//! ```text
//! magic (8 bytes) | chunk | chunk | …        chunk = shard (u16) | length (u32) | records
//! ```
//!
//! Numbers are little-endian. A chunk holds whole records of one hub.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use super::{Call, Conn, Mismatch, Record, replay::SHARDS_MAX};
use crate::hub::{ConnId, ShardId};

/// Writes a trace: give it what each hub [has noted](super::Recorded::take) as it comes.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    /// Begins a trace in `sink`.
    ///
    /// # Errors
    ///
    /// The sink's.
    pub fn new(mut sink: W) -> io::Result<Self> {
        sink.write_all(MAGIC)?;
        Ok(Self { sink })
    }

    /// Adds what one hub noted.
    ///
    /// # Errors
    ///
    /// The sink's; [`io::ErrorKind::InvalidInput`] for 4 GiB or more at once.
    pub fn add(&mut self, shard: ShardId, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(records.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.sink.write_all(&shard.0.to_le_bytes())?;
        self.sink.write_all(&length.to_le_bytes())?;
        self.sink.write_all(records)
    }

    /// Flushes the sink.
    ///
    /// # Errors
    ///
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// The sink, with everything written to it.
    pub fn into_inner(self) -> W {
        self.sink
    }
}

/// A trace that was read: the chunks of each hub.
#[derive(Debug)]
pub struct Trace<'t> {
    shards: Vec<Vec<&'t [u8]>>,
    /// The file ends within a chunk.
    pub(super) cut: bool,
}

impl<'t> Trace<'t> {
    /// Takes a file apart. One that breaks off is a trace as far as it goes, which is what a crash leaves. One that names
    /// more hubs than any server has is none.
    ///
    /// # Errors
    ///
    /// [`Mismatch::NotATrace`].
    pub fn new(file: &'t [u8]) -> Result<Self, Mismatch> {
        let mut rest = file.strip_prefix(MAGIC).ok_or(Mismatch::NotATrace)?;
        let mut this = Self { shards: Vec::new(), cut: false };
        while !rest.is_empty() {
            let Some((shard, records, after)) = chunk(rest) else {
                this.cut = true;
                break;
            };
            if shard >= SHARDS_MAX {
                return Err(Mismatch::NotATrace);
            }
            let shard = usize::from(shard);
            if this.shards.len() <= shard {
                this.shards.resize_with(shard + 1, Vec::new);
            }
            if let Some(chunks) = this.shards.get_mut(shard) {
                chunks.push(records);
            }
            rest = after;
        }
        Ok(this)
    }

    /// How many hubs recorded.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What came from clients, in the order of time, so that another driver can be given the same.
    #[must_use]
    pub fn inputs(&self) -> Vec<Input<'t>> {
        let mut inputs = Vec::new();
        for (shard, chunks) in (0..).map(ShardId).zip(&self.shards) {
            let mut records = Records::new(chunks.clone());
            while let Some(Ok(record)) = records.next() {
                inputs.extend(Input::of(shard, &record));
            }
        }
        inputs.sort_by_key(|input| input.at);
        inputs
    }

    pub(super) fn into_records(self) -> Vec<Records<'t>> {
        self.shards.into_iter().map(Records::new).collect()
    }
}

/// One thing that a client did, or that happened to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'t> {
    /// The connection.
    pub conn: ConnId,
    /// Time since its hub was made.
    pub at: Duration,
    /// What happened.
    pub kind: Kind<'t>,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'t> {
    /// It was accepted, from this address.
    Accept(SocketAddr),
    /// Bytes came.
    Bytes(&'t [u8]),
    /// The client ended its side.
    Eof,
    /// The socket failed.
    IoError,
}

impl<'t> Input<'t> {
    fn of(shard: ShardId, record: &Record<'t>) -> Option<Self> {
        let (conn, kind) = match record.call {
            Call::Accept { address, conn: Some(conn), .. } => (conn, Kind::Accept(address)),
            Call::Bytes { conn, bytes } => (conn, Kind::Bytes(bytes)),
            Call::Eof { conn } => (conn, Kind::Eof),
            Call::IoError { conn } => (conn, Kind::IoError),
            Call::New { .. }
            | Call::Accept { .. }
            | Call::Shard { .. }
            | Call::Publish { .. }
            | Call::PublishWith { .. }
            | Call::Reply { .. }
            | Call::Decide { .. }
            | Call::Authenticated { .. }
            | Call::Revoke { .. }
            | Call::Look { .. }
            | Call::Sessions { .. }
            | Call::EndSessions { .. }
            | Call::Stored(_)
            | Call::Exposition { .. }
            | Call::Statistics(_)
            | Call::Disconnect { .. }
            | Call::Reload { .. }
            | Call::Drain { .. }
            | Call::Timeout
            | Call::Output(_)
            | Call::Dirty(_)
            | Call::Failed { .. }
            | Call::Backlog(_)
            | Call::Send { .. }
            | Call::SendEverywhere { .. }
            | Call::Subscribe { .. }
            | Call::Unsubscribe { .. }
            | Call::Dismiss { .. }
            | Call::List { .. }
            | Call::Flush { .. }
            | Call::EndTurn { .. } => return None,
        };
        let at = Duration::from_nanos(record.mono);
        Some(Self { conn: conn_id(shard, conn), at, kind })
    }
}

/// The records of one hub.
#[derive(Debug)]
pub(super) struct Records<'t> {
    chunks: std::vec::IntoIter<&'t [u8]>,
    chunk: &'t [u8],
}

impl<'t> Records<'t> {
    fn new(chunks: Vec<&'t [u8]>) -> Self {
        Self { chunks: chunks.into_iter(), chunk: &[] }
    }

    /// The next record; an error where the bytes are none.
    pub(super) fn next(&mut self) -> Option<Result<Record<'t>, ()>> {
        while self.chunk.is_empty() {
            self.chunk = self.chunks.next()?;
        }
        match postcard::take_from_bytes(self.chunk) {
            Ok((record, rest)) => {
                self.chunk = rest;
                Some(Ok(record))
            }
            Err(_) => Some(Err(())),
        }
    }
}

pub(super) fn conn_id(shard: ShardId, (index, generation): Conn) -> ConnId {
    ConnId { index, generation, shard }
}

fn chunk(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (shard, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let (records, rest) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((u16::from_le_bytes(*shard), records, rest))
}

/// First bytes of every trace: name and version of the format.
const MAGIC: &[u8; 8] = b"mhvtrc04";
