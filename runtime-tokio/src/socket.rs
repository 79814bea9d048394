//! One socket on its shard: the reader, the writer that waits while the socket is full, and the sink between.

use std::{
    cell::Cell,
    io::{self, IoSlice, Write},
    net::Shutdown,
    rc::Rc,
};

use mahavishnu_core::{hub::ConnId, time::Now, ws::Flush};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::Notify,
    task::{AbortHandle, spawn_local, yield_now},
};

use crate::{clock, shard::Shard};

/// A socket and the connection that it belongs to.
#[derive(Debug)]
pub(crate) struct Socket {
    conn: ConnId,
    stream: TcpStream,
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
    reader: AbortHandle,
    /// Waits while the socket takes no more, or has waited once.
    writer: Option<AbortHandle>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The tasks hold the socket; ending them closes the file descriptor.
        self.reader.abort();
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

impl Entry {
    pub(crate) fn set_writer(&mut self, writer: AbortHandle) {
        self.writer = Some(writer);
    }
}

/// Takes a socket in: a reader task from now on.
pub(crate) fn open(shard: &Rc<Shard>, conn: ConnId, stream: TcpStream) -> Entry {
    let socket = Rc::new(Socket {
        conn,
        stream,
        blocked: Cell::new(false),
        paused: Cell::new(false),
        resume: Notify::new(),
    });
    let reader = spawn_local(read(shard.clone(), socket.clone())).abort_handle();
    Entry { socket, reader, writer: None }
}

impl Socket {
    /// The socket was just emptied: it becomes readable with the next byte, which saves a read that finds nothing.
    fn await_more(&self) {
        let emptied = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(self.stream.try_io(Interest::READABLE, emptied));
    }
}

/// Feeds the hub with what the socket brings, until the end of the stream.
async fn read(shard: Rc<Shard>, socket: Rc<Socket>) {
    loop {
        // An error shows up again in `try_read`.
        let _ = socket.stream.readable().await;
        let taken = shard.with_scratch(|hub, scratch| match socket.stream.try_read(scratch) {
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
            Err(error) => {
                hub.handle_io_error(clock::now(), socket.conn, error.kind());
                Taken::Failed
            }
        });
        match taken {
            Taken::Nothing => {}
            Taken::Some { all } => {
                shard.wake();
                if all {
                    // More may wait: the others come first, so that one busy socket does not starve them.
                    yield_now().await;
                } else {
                    socket.await_more();
                }
            }
            Taken::Enough => {
                socket.paused.set(true);
                shard.wake();
                socket.resume.notified().await;
            }
            Taken::End => {
                shard.wake();
                return;
            }
            Taken::Failed => {
                shard.forget(socket.conn);
                shard.wake();
                return;
            }
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
    Failed,
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
        let writer = spawn_local(async move {
            while socket.stream.writable().await.is_ok() {
                if write(&waiting, clock::now(), &socket) != Flush::Blocked {
                    break;
                }
            }
            socket.blocked.set(false);
            waiting.wake();
        });
        shard.with_entry(conn, |entry| entry.set_writer(writer.abort_handle()));
    }
}

fn write(shard: &Rc<Shard>, now: Now, socket: &Rc<Socket>) -> Flush {
    let (flush, wants_read) = shard.with_hub(|hub| {
        let flush = hub.flush(now, socket.conn, &mut Sink(&socket.stream));
        (flush, hub.wants_read(socket.conn))
    });
    match flush {
        Flush::Drained | Flush::Blocked => {}
        // Failing means that the peer is gone, which the reader will see.
        Flush::Fin => drop(SockRef::from(&socket.stream).shutdown(Shutdown::Write)),
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
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
