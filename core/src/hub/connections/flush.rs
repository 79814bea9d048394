//! Which connections are to be written to, and writing to them.

use std::io;

use bytes::Bytes;

use super::Connections;
use crate::{
    hub::{env::Env, types::ConnId},
    reason::Reason,
    ws::Flush,
};

/// What came of writing to a socket.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Written {
    pub(in crate::hub) flush: Flush,
    /// Why the connection ended, if it did.
    pub(in crate::hub) reason: Reason,
    /// It lost messages and was not told of them yet.
    pub(in crate::hub) lossy: bool,
    /// What waits for it has to be measured.
    behind: bool,
    /// Its end brings deadlines nearer; nothing else that is written does.
    ending: bool,
}

impl Written {
    /// Whether anything follows from it. Mostly nothing does.
    pub(in crate::hub) fn is_noteworthy(&self) -> bool {
        self.lossy || self.behind || self.ending
    }
}

impl Connections {
    /// Puts a connection on the list of those to flush, where it stands once.
    pub(in crate::hub) fn mark_dirty(&mut self, index: u32) {
        if let Some(conn) = self.slots.get_mut(index) {
            conn.line_up_to_flush(&mut self.dirty, index);
        }
    }

    /// How many are on the list, those that are gone included.
    pub(in crate::hub) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Puts the last `count` of the list before the others.
    pub(in crate::hub) fn put_first(&mut self, count: usize) {
        self.dirty.rotate_right(count);
    }

    /// Forgets those that are gone, so that whoever is left is there.
    pub(in crate::hub) fn is_nobody_dirty(&mut self) -> bool {
        while let Some(index) = self.dirty.front() {
            if self.slots.generation(*index).is_some() {
                return false;
            }
            self.dirty.pop_front();
        }
        true
    }

    /// Takes the next one off the list.
    pub(in crate::hub) fn pop_dirty(&mut self) -> Option<ConnId> {
        while let Some(index) = self.dirty.pop_front() {
            let Some(id) = self.id_at(index) else { continue };
            if let Some(conn) = self.slots.get_mut(index) {
                conn.dirty = false;
                if conn.blocked {
                    // The driver need not flush it again before its socket has room.
                    self.backlog.measure(&mut self.slots, index);
                }
            }
            return Some(id);
        }
        None
    }

    /// Writes what the socket takes. `None`: the connection is gone.
    pub(in crate::hub) fn write(
        &mut self,
        env: &mut Env,
        id: ConnId,
        sink: &mut dyn io::Write,
    ) -> Option<Written> {
        let found = self.slots.get_at_mut(id.index, id.generation)?;
        let mut sink = Counting { sink, bytes: 0 };
        let (ws, now) = (&mut found.ws, env.now);
        let flush = found.transport.flush(&mut sink, |sink| ws.flush(now, sink));
        found.blocked = flush == Flush::Blocked;
        env.tally.sent_bytes += sink.bytes;
        Some(Written {
            flush,
            reason: found.ws.reason().unwrap_or(Reason::Io),
            lossy: found.is_lossy(),
            behind: found.blocked || found.listed,
            ending: !found.ws.is_open(),
        })
    }

    /// As [`write`](Self::write), for whoever writes without borrowing.
    pub(in crate::hub) fn write_owned(
        &mut self,
        env: &mut Env,
        id: ConnId,
        bytes_max: usize,
        pieces: &mut Vec<Bytes>,
    ) -> Option<Written> {
        let found = self.slots.get_at_mut(id.index, id.generation)?;
        let (now, before) = (env.now, pieces.len());
        let flush = found.transport.flush_owned(&mut found.ws, now, bytes_max.max(1), pieces);
        found.blocked = flush == Flush::Blocked;
        env.tally.sent_bytes +=
            pieces.iter().skip(before).map(|piece| piece.len() as u64).sum::<u64>();
        Some(Written {
            flush,
            reason: found.ws.reason().unwrap_or(Reason::Io),
            lossy: found.is_lossy(),
            behind: found.blocked || found.listed,
            ending: !found.ws.is_open(),
        })
    }

    /// Sees to the accounts of a connection that was written to and stays.
    pub(in crate::hub) fn after_write(&mut self, env: &Env, id: ConnId, written: Written) {
        if written.behind {
            self.backlog.measure(&mut self.slots, id.index);
        }
        if written.ending {
            self.arm(env, id.index);
            let limits = &env.config.limits.wire;
            if self.get(id).is_some_and(|conn| conn.ws.is_resumable(limits)) {
                self.resume.push_back(id);
            }
        }
    }
}

/// Counts what the socket took: data, control frames and HTTP alike, and TLS around them.
struct Counting<'a> {
    sink: &'a mut dyn io::Write,
    bytes: u64,
}

impl io::Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let count = self.sink.write_vectored(slices)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
