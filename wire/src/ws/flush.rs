//! Output: from the outbox to the socket, and the way out.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::{
    connection::Connection,
    outbox::Outbox,
    state::{Ended, Finish, State},
};
use crate::{reason::Reason, time::Now};

/// What [`Connection::flush`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flush {
    /// Everything is written.
    Drained,
    /// The socket takes no more: flush again when it is writable.
    Blocked,
    /// Everything is written and nothing will follow: end our side of the stream (`shutdown(Write)`), and read on until
    /// the peer ends its own. Returned once.
    Fin,
    /// Drop the socket. If the end was noticed here, [`Event::Closed`](super::Event::Closed) is still to be taken: call
    /// [`Connection::handle_eof`].
    Closed,
}

impl Connection {
    /// Writes what `sink` takes, until nothing is left or it would block. A short write is followed by another try: that
    /// makes edge-triggered readiness notice when there is room again.
    pub fn flush(&mut self, now: Now, sink: &mut dyn io::Write) -> Flush {
        if matches!(self.state, State::Ended(Ended { finish: Finish::Drop, .. })) {
            return Flush::Closed;
        }
        while !self.outbox.is_empty() {
            let written = match self.outbox.single() {
                Some(piece) => sink.write(piece),
                None => write_gathered(&self.outbox, sink),
            };
            match written {
                Ok(0) => return self.io_failed(now),
                Ok(bytes) => self.outbox.consume(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flush::Blocked,
                Err(_) => return self.io_failed(now),
            }
        }
        // A sink that encrypts gathers records for one write.
        match sink.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flush::Blocked,
            Err(_) => return self.io_failed(now),
            Ok(()) => {}
        }
        self.drained(now)
    }

    /// As [`flush`](Self::flush), for whoever writes without borrowing: by io_uring, whose buffers are the kernel's until it is
    /// done. Puts what waits into `pieces`, at least one and then until they are `bytes_max` or more; [`Flush::Blocked`] says
    /// that there is more. Broadcasts are not copied. What is taken counts as written: it is the caller's to write all of it, in
    /// order, before the next, and to shut the socket down ([`Flush::Fin`]) or drop it ([`Flush::Closed`]) only then.
    pub fn flush_owned(&mut self, now: Now, bytes_max: usize, pieces: &mut Vec<Bytes>) -> Flush {
        if matches!(self.state, State::Ended(Ended { finish: Finish::Drop, .. })) {
            return Flush::Closed;
        }
        let mut taken = 0;
        while let Some(piece) = self.outbox.take() {
            taken += piece.len();
            pieces.push(piece);
            if taken >= bytes_max && !self.outbox.is_empty() {
                return Flush::Blocked;
            }
        }
        self.drained(now)
    }

    /// Nothing waits any more.
    fn drained(&mut self, now: Now) -> Flush {
        let State::Ended(ended) = &mut self.state else { return Flush::Drained };
        match ended.finish {
            Finish::Drain | Finish::Linger if self.eof => {
                ended.finish = Finish::Drop;
                Flush::Closed
            }
            Finish::Drain => {
                ended.finish = Finish::Linger;
                self.since = now.mono;
                Flush::Fin
            }
            Finish::Linger => Flush::Drained,
            Finish::Drop => Flush::Closed,
        }
    }

    fn io_failed(&mut self, now: Now) -> Flush {
        if let State::Ended(ended) = &mut self.state {
            ended.finish = Finish::Drop;
        } else {
            self.end(now, Reason::Io, Finish::Drop);
        }
        Flush::Closed
    }
}

/// Not inlined: the slices need a kilobyte of stack, which the common single write does without.
#[inline(never)]
fn write_gathered(outbox: &Outbox, sink: &mut dyn io::Write) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); GATHERED_MAX];
    let filled = outbox.chunks(&mut slices);
    sink.write_vectored(slices.get(..filled).unwrap_or_default())
}

/// Slices per vectored write.
const GATHERED_MAX: usize = 64;
