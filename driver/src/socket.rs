//! What goes through a shard's sockets: reading into the hub, writing what it has.

use std::io;

use mahavishnu_core::{hub::ConnId, time::Now, ws::Flush};

use crate::{
    owner::{Owner, place},
    poller::Read,
    runtime::Runtime,
    shard::Shard,
};

impl<R: Runtime> Shard<R> {
    /// Feeds the hub with what the sockets have: each that has something is read once, so that a busy one takes turns with
    /// the others.
    pub(crate) fn read_all(&mut self) {
        for _ in 0..self.sockets.in_line() {
            let Some(index) = self.sockets.next_readable() else { break };
            self.read(index);
        }
    }

    fn read(&mut self, index: usize) {
        let conn = match self.sockets.get(index).map(|socket| socket.owner) {
            Some(Owner::Conn(conn)) => conn,
            Some(Owner::Link) => return self.read_link(),
            None => return,
        };
        match self.sockets.read(index, &mut self.scratch) {
            Read::Nothing => {}
            Read::Bytes(count) => {
                let wire = self.scratch.get_mut(..count).unwrap_or_default();
                self.hub.handle_bytes(self.clock.now(), conn, wire);
                if !self.hub.hub().wants_read(conn) {
                    self.sockets.pause(index);
                }
            }
            Read::End => self.hub.handle_eof(self.clock.now(), conn),
            Read::Failed(error) => self.fail(conn, &error),
        }
    }

    /// A socket is of no more use.
    pub(crate) fn fail(&mut self, conn: ConnId, error: &io::Error) {
        self.hub.handle_io_error(self.clock.now(), conn, error.kind());
        self.forget(conn);
    }

    /// Writes to the sockets that were full and have room again.
    pub(crate) fn write_on(&mut self) {
        while let Some(index) = self.sockets.next_writable() {
            match self.sockets.get(index).map(|socket| socket.owner) {
                Some(Owner::Conn(conn)) => self.write(self.clock.now(), conn),
                Some(Owner::Link) => self.link_is_writable(),
                None => {}
            }
        }
    }

    /// Writes what the socket takes. One that is known to be full is left alone, unless the core gives it up. `now` is the
    /// turn's: reading the clocks for each of a thousand sockets would show.
    pub(crate) fn flush(&mut self, now: Now, conn: ConnId) {
        let Some(socket) = self.sockets.get(place(conn)) else { return self.flush_adopted(conn) };
        if !socket.is_blocked() || self.hub.hub().is_given_up(conn) {
            self.write(now, conn);
        }
    }

    pub(crate) fn write(&mut self, now: Now, conn: ConnId) {
        // The index may have been given to another since.
        let owns = Owner::Conn(conn);
        let Some(socket) = self.sockets.get_mut(place(conn)).filter(|socket| socket.owner == owns)
        else {
            return;
        };
        let paused = socket.is_paused();
        match self.hub.flush(now, conn, &mut socket.stream()) {
            Flush::Drained => {}
            Flush::Blocked => socket.block(),
            Flush::Fin => socket.finish(),
            Flush::Closed => return self.forget(conn),
        }
        if paused && self.hub.hub().wants_read(conn) {
            self.sockets.resume(place(conn));
        }
    }

    /// The connection is over: its socket is closed.
    fn forget(&mut self, conn: ConnId) {
        self.sockets.remove(place(conn));
        self.count_sockets();
    }
}
