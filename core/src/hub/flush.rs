//! Which connections are to be written to, and writing to them.

use std::io;

use super::{Hub, types::ConnId};
use crate::{
    reason::Reason,
    time::Now,
    trace::{Script, Tap},
    ws,
};

impl Hub {
    pub(crate) fn mark_dirty(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push_back(index);
        }
    }

    pub(crate) fn next_dirty(&mut self) -> Option<ConnId> {
        loop {
            if let Some(conn) = self.pop_dirty() {
                return Some(conn);
            }
            if self.channels.rounds() == 0 {
                self.relieve(self.latest);
                if self.dirty.is_empty() {
                    self.handed_out = false;
                    return None;
                }
            }
            self.hand_out(self.latest);
        }
    }

    /// Forgets those that are gone, so that whoever is left is there.
    pub(crate) fn is_nobody_dirty(&mut self) -> bool {
        while let Some(index) = self.dirty.front() {
            if self.conns.generation(*index).is_some() {
                return false;
            }
            self.dirty.pop_front();
        }
        true
    }

    fn pop_dirty(&mut self) -> Option<ConnId> {
        while let Some(index) = self.dirty.pop_front() {
            let Some(generation) = self.conns.generation(index) else { continue };
            if let Some(conn) = self.conns.get_mut(index) {
                conn.dirty = false;
                if conn.blocked {
                    // The driver need not flush it again before its socket has room.
                    self.weigh(index);
                }
                return Some(ConnId { index, generation, shard: self.place.shard });
            }
        }
        None
    }

    pub(crate) fn write(&mut self, now: Now, conn: ConnId, sink: &mut dyn io::Write) -> ws::Flush {
        let record = self.recorder.is_some();
        let Some((found, limits)) = self.conn_mut(conn) else {
            self.note(|recorder| recorder.flush(now, conn, Script::default(), ws::Flush::Closed));
            return ws::Flush::Closed;
        };
        let mut sink = Counting { sink, bytes: 0 };
        let mut script = Script::default();
        let ws = &mut found.ws;
        let flush = found.transport.flush(&mut sink, |sink| {
            if !record {
                return ws.flush(now, limits, sink);
            }
            let mut tap = Tap::new(sink);
            let flush = ws.flush(now, limits, &mut tap);
            script = tap.into_script();
            flush
        });
        let gaps = found.lossy;
        found.blocked = flush == ws::Flush::Blocked;
        let weigh = found.blocked || found.behind;
        let reason = found.ws.reason().unwrap_or(Reason::Io);
        // Nothing that is written brings a deadline nearer, except at the end.
        let ending = !found.ws.is_open();
        self.tally.sent_bytes += sink.bytes;
        self.note(|recorder| recorder.flush(now, conn, script, flush));
        if flush == ws::Flush::Closed {
            self.retire(now, conn, reason);
            self.remove(conn);
            return flush;
        }
        if gaps {
            self.announce_gaps(now, conn);
        }
        if weigh {
            self.weigh(conn.index);
        }
        if ending {
            self.arm(conn);
        }
        flush
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
