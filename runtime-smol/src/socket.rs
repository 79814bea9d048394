//! One socket on its shard: the reader, the writer that waits while the socket is full, and the sink between.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, TcpStream},
    rc::Rc,
};

use mahavishnu_core::{hub::ConnId, time::Now, ws::Flush};
use smol::{Async, Task, future::yield_now};

use crate::{clock, notify::Notify, shard::Shard};

/// A socket and the connection that it belongs to.
#[derive(Debug)]
pub(crate) struct Socket {
    conn: ConnId,
    stream: Async<TcpStream>,
    /// A task waits until the socket can be written to.
    blocked: Cell<bool>,
    /// The reader waits until the core wants to read again.
    paused: Cell<bool>,
    resume: Notify,
}

/// A socket in the shard's table, with its tasks.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) socket: Rc<Socket>,
    // Dropping them ends the tasks. They hold the socket, so that closes the file descriptor too.
    _reader: Option<Task<()>>,
    /// Waits while the socket takes no more, or has waited once.
    writer: Option<Task<()>>,
}

impl Entry {
    pub(crate) fn set_writer(&mut self, writer: Task<()>) {
        self.writer = Some(writer);
    }
}

/// Takes a socket in: a reader task from now on.
pub(crate) fn open(shard: &Rc<Shard>, conn: ConnId, stream: Async<TcpStream>) -> Entry {
    let socket = Rc::new(Socket {
        conn,
        stream,
        blocked: Cell::new(false),
        paused: Cell::new(false),
        resume: Notify::default(),
    });
    let reader = shard.spawn(read(shard.clone(), socket.clone()));
    Entry { socket, _reader: reader, writer: None }
}

impl Socket {
    // Each wait tells the kernel anew what is waited for. The methods that are futures themselves would allocate, so that
    // several tasks can wait for one socket.

    async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.stream.poll_readable(context)).await
    }

    async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.stream.poll_writable(context)).await
    }
}

/// Feeds the hub with what the socket brings, until the end of the stream.
async fn read(shard: Rc<Shard>, socket: Rc<Socket>) {
    loop {
        let taken =
            shard.with_scratch(|hub, scratch| match socket.stream.get_ref().read(scratch) {
                Ok(0) => {
                    hub.handle_eof(clock::now(), socket.conn);
                    Taken::End
                }
                Ok(count) => {
                    let all = count == scratch.len();
                    let wire = scratch.get_mut(..count).unwrap_or_default();
                    hub.handle_bytes(clock::now(), socket.conn, wire);
                    if hub.wants_read(socket.conn) { Taken::Some { all } } else { Taken::Enough }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Taken::Nothing,
                Err(error) => Taken::Failed(error.kind()),
            });
        let ready = match taken {
            Taken::Nothing => socket.readable().await,
            Taken::Some { all } => {
                shard.wake();
                if all {
                    // More may wait: the others come first, so that one busy socket does not starve them.
                    yield_now().await;
                    Ok(())
                } else {
                    // Emptied: the next byte makes it readable, which saves a read that finds nothing.
                    socket.readable().await
                }
            }
            Taken::Enough => {
                socket.paused.set(true);
                shard.wake();
                socket.resume.notified().await;
                Ok(())
            }
            Taken::End => {
                shard.wake();
                return;
            }
            Taken::Failed(kind) => Err(kind.into()),
        };
        if let Err(error) = ready {
            shard.with_hub(|hub| hub.handle_io_error(clock::now(), socket.conn, error.kind()));
            shard.forget(socket.conn);
            shard.wake();
            return;
        }
    }
}

enum Taken {
    Nothing,
    Some {
        /// As much as was asked for.
        all: bool,
    },
    /// The core wants no more for now.
    Enough,
    End,
    Failed(io::ErrorKind),
}

/// Writes what the socket takes. While it takes nothing, a task waits for it, unless the core gives it up. `now` is the turn's: reading the clocks for
/// each of a thousand sockets would show.
pub(crate) fn flush(shard: &Rc<Shard>, now: Now, conn: ConnId) {
    let Some(socket) = shard.socket(conn) else { return };
    if socket.blocked.get() && !shard.with_hub(|hub| hub.is_given_up(conn)) {
        return;
    }
    if write(shard, now, &socket) == Flush::Blocked {
        socket.blocked.set(true);
        let waiting = shard.clone();
        let writer = shard.spawn(async move {
            while socket.writable().await.is_ok() {
                if write(&waiting, clock::now(), &socket) != Flush::Blocked {
                    break;
                }
            }
            socket.blocked.set(false);
            waiting.wake();
        });
        if let Some(writer) = writer {
            shard.with_entry(conn, |entry| entry.set_writer(writer));
        }
    }
}

fn write(shard: &Rc<Shard>, now: Now, socket: &Rc<Socket>) -> Flush {
    let (flush, wants_read) = shard.with_hub(|hub| {
        let flush = hub.flush(now, socket.conn, &mut Sink(socket.stream.get_ref()));
        (flush, hub.wants_read(socket.conn))
    });
    match flush {
        Flush::Drained | Flush::Blocked => {}
        // Failing means that the peer is gone, which the reader will see.
        Flush::Fin => drop(socket.stream.get_ref().shutdown(Shutdown::Write)),
        Flush::Closed => shard.forget(socket.conn),
    }
    if wants_read && socket.paused.replace(false) {
        socket.resume.notify_one();
    }
    flush
}

/// A socket as the core writes to it: never waiting.
struct Sink<'s>(&'s TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
