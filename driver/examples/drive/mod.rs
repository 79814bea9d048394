//! Any number of WebSocket connections over one poller, for the echo examples: the whole loop around a core that does no
//! I/O.

mod peer;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use mahavishnu_core::{
    time::Now,
    tls::{Server, Session},
    wire::Limits,
    ws::{Connection, Flush, ReadBuffer},
};
use mahavishnu_driver::{
    Waiter,
    poller::{Poller, Read, TcpListener, TcpStream},
};
use peer::{Codecs, Peer};

/// Limits wide enough for the Autobahn suite, which echoes messages of 16 MiB (9.*) and of 65,536 fragments.
pub(crate) fn limits() -> Limits {
    Limits {
        message_bytes_max: 64 * 1024 * 1024,
        fragments_max: 1 << 20,
        control_frames_per_second_max: 1_000_000,
        ..Limits::default()
    }
}

/// Both clocks now.
pub(crate) fn now() -> Now {
    Now {
        mono: Instant::now(),
        unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    }
}

/// Connections of one thread, each of which echoes every message until it is over.
pub(crate) struct Echo<W> {
    sockets: Poller<Box<Peer>, W>,
    listener: Option<(TcpListener, Option<Server>)>,
    /// Indices that were in use and are not.
    free: Vec<usize>,
    /// Indices below this one are in use or free.
    indices: usize,
    /// When to look at which connection. One that was asked to look later leaves its entry here.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    limits: Limits,
    /// What one read brings; nothing stays in it.
    scratch: ReadBuffer,
    codecs: Codecs,
}

impl<W: Waiter> Echo<W> {
    /// Serves whoever comes to `listener`, if there is one, with TLS if there is any. With `deflate`, offers of
    /// permessage-deflate are taken up. Call where the runtime can be waited on.
    pub(crate) fn new(
        deflate: bool,
        mut listener: Option<(TcpListener, Option<Server>)>,
    ) -> io::Result<Self> {
        let sockets = Poller::new()?;
        if let Some((listener, _)) = &mut listener {
            sockets.listen(listener)?;
        }
        Ok(Self {
            sockets,
            listener,
            free: Vec::new(),
            indices: 0,
            timers: BinaryHeap::new(),
            limits: limits(),
            scratch: ReadBuffer::new(SCRATCH_BYTES),
            codecs: Codecs::new(deflate),
        })
    }

    /// Takes a connection of either role in.
    pub(crate) fn add(
        &mut self,
        stream: TcpStream,
        ws: Connection,
        tls: Option<Session>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let index = self.free.pop().unwrap_or(self.indices);
        self.indices = self.indices.max(index + 1);
        self.sockets.add(index, stream, Box::new(Peer::new(ws, tls)))?;
        self.flush(now(), index);
        Ok(())
    }

    /// Serves until nobody is connected and nobody can come.
    pub(crate) async fn run(&mut self) -> io::Result<()> {
        while self.listener.is_some() || self.free.len() < self.indices {
            if self.sockets.is_idle() {
                let due = self.timers.peek().map(|Reverse((due, _))| *due);
                self.sockets.ready_by(due).await;
            }
            self.sockets.look()?;
            while let Some(index) = self.sockets.next_writable() {
                self.flush(now(), index);
            }
            // Everybody once, so that one that sends without end takes turns with the others.
            for _ in 0..self.sockets.in_line() {
                if let Some(index) = self.sockets.next_readable() {
                    self.read(index);
                }
            }
            self.accept()?;
            self.look_at_timers();
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        if !self.sockets.takes_newcomers() {
            return Ok(());
        }
        while let Some((listener, tls)) = &self.listener {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let session = tls.as_ref().and_then(Session::new);
            let ws = Connection::server(now());
            self.add(stream, ws, session)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) {
        let read = self.sockets.read(index, &mut self.scratch);
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let now = now();
        match read {
            Read::Nothing => return,
            Read::Bytes(count) => {
                let wire = self.scratch.get_mut(..count).unwrap_or_default();
                socket.owner.take_in(now, &mut self.codecs, &self.limits, wire);
            }
            // A reset is an end of the stream like any other.
            Read::End | Read::Failed(_) => socket.owner.end(now, &mut self.codecs, &self.limits),
        }
        if !socket.owner.wants_read(&self.limits) {
            self.sockets.pause(index);
        }
        self.flush(now, index);
    }

    /// Writes what the socket takes, and sees to what that changes.
    fn flush(&mut self, now: Now, index: usize) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let (stream, peer) = socket.split();
        let flush = peer.flush(now, stream);
        if let Some(due) = peer.look_sooner(&self.limits) {
            self.timers.push(Reverse((due, index)));
        }
        let resume = peer.wants_read(&self.limits);
        match flush {
            Flush::Drained => {}
            Flush::Blocked => socket.block(),
            Flush::Fin => socket.finish(),
            Flush::Closed => {
                self.sockets.remove(index);
                self.free.push(index);
                return;
            }
        }
        if resume {
            self.sockets.resume(index);
        }
    }

    fn look_at_timers(&mut self) {
        let now = now();
        while let Some(&Reverse((due, index))) = self.timers.peek()
            && due <= now.mono
        {
            self.timers.pop();
            let Some(socket) = self.sockets.get_mut(index) else { continue };
            if socket.owner.look(due, now, &self.limits) {
                self.flush(now, index);
            }
        }
    }
}

/// Bytes read from one socket before the others have their turn.
const SCRATCH_BYTES: usize = 256 * 1024;
