//! Many sockets behind one file: a poller of one's own, which the runtime waits for as for a single socket.
//!
//! A runtime keeps a task, a registration and a waker for each socket that it waits for, which takes more memory than an
//! idle WebSocket connection itself. A [`Poller`] keeps a number and a few flags. Each socket is registered once,
//! edge-triggered, and read when its turn comes. Each shard of the server has one, and whoever drives
//! [`ws::Connection`](mahavishnu_core::ws::Connection) without the server can have one too: `examples/echo` does. An
//! adapter's `poller` has a `Poller` that waits on its runtime.
//!
//! ```
//! use std::{io::{self, Write}, net::TcpStream as Client};
//! use mahavishnu_driver::{Waiter, poller::{Poller, Read, TcpListener}};
//!
//! async fn hear_hello<W: Waiter>() -> io::Result<()> {
//!     let mut poller = Poller::<_, W>::new()?;
//!     let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
//!     poller.listen(&mut listener)?;
//!     let mut client = Client::connect(listener.local_addr()?)?;
//!     client.write_all(b"hello")?;
//!
//!     let mut scratch = [0; 4096];
//!     loop {
//!         if poller.is_idle() {
//!             poller.ready().await;
//!         }
//!         poller.look()?;
//!         if poller.takes_newcomers() {
//!             // A listener is emptied too; here is one client.
//!             let (stream, address) = listener.accept()?;
//!             poller.add(0, stream, address)?;
//!         }
//!         // Everybody in line once, so that one that sends without end takes turns with the others.
//!         for _ in 0..poller.in_line() {
//!             let Some(index) = poller.next_readable() else { break };
//!             if let Read::Bytes(count) = poller.read(index, &mut scratch) {
//!                 assert_eq!(&scratch[..count], b"hello");
//!                 return Ok(());
//!             }
//!         }
//!     }
//! }
//! ```

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    net::{Shutdown, SocketAddr},
    task::{self, Context, ready},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Source};

use crate::runtime::{Descriptor, Waiter};

pub use mio::net::{TcpListener, TcpStream, UnixListener};

/// Events taken in one look. Further ones wait for the next, which follows at once.
const EVENTS_MAX: usize = 1024;

/// The token of all listeners. Sockets have their indices.
const LISTENER: Token = Token(usize::MAX);

/// The sockets of one task. `T` is what each belongs to, `W` the runtime's way of waiting.
pub struct Poller<T, W> {
    poll: Poll,
    events: Events,
    /// Waits for the poller itself.
    waiter: W,
    /// When the waiter's alarm rings. It is set anew as rarely as possible, because that may wake a reactor: a deadline
    /// that moves on leaves it to ring early.
    alarm: Option<Instant>,
    sockets: Vec<Option<Socket<T>>>,
    /// Indices of sockets that have something to read, in the order in which they are read. One that is gone may stand
    /// here still.
    line: VecDeque<u32>,
    /// Indices of blocked sockets that have room again.
    writable: Vec<u32>,
    newcomers: bool,
    /// The last look brought something. By the time that this is worked off more has come, often enough: to look again costs
    /// less than to have the runtime do so first.
    busy: bool,
}

impl<T, W: Waiter> Poller<T, W> {
    /// A poller without sockets. Call where the runtime can be waited on.
    ///
    /// # Errors
    ///
    /// The process has no file descriptor left, or the runtime is without I/O.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waiter = W::new(Descriptor(poll.registry().try_clone()?))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waiter,
            alarm: None,
            sockets: Vec::new(),
            line: VecDeque::new(),
            writable: Vec::new(),
            newcomers: false,
            busy: false,
        })
    }

    /// Waits until a [`look`](Self::look) may bring something. Nothing is lost if the future is dropped.
    pub async fn ready(&self) {
        poll_fn(|context| self.waiter.poll_readable(context)).await;
    }

    /// As [`ready`](Self::ready), but no longer than until `deadline`, if there is one. It may return early.
    pub async fn ready_by(&mut self, deadline: Option<Instant>) {
        poll_fn(|context| match self.poll_ready(context) {
            task::Poll::Pending => self.poll_alarm(context, deadline),
            ready => ready,
        })
        .await;
    }

    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> task::Poll<()> {
        self.waiter.poll_readable(context)
    }

    /// Ready at `deadline` or before.
    pub(crate) fn poll_alarm(
        &mut self,
        context: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> task::Poll<()> {
        if let Some(deadline) = deadline
            && self.alarm.is_none_or(|at| deadline < at)
        {
            self.alarm = Some(deadline);
            self.waiter.set_alarm(deadline);
        }
        if self.alarm.is_none() {
            return task::Poll::Pending;
        }
        ready!(self.waiter.poll_alarm(context));
        self.alarm = None;
        task::Poll::Ready(())
    }
}

impl<T, W> Poller<T, W> {
    /// Takes part in waiting for `listener`: [`takes_newcomers`](Self::takes_newcomers) tells when somebody comes.
    ///
    /// # Errors
    ///
    /// The operating system does not take it.
    pub fn listen(&self, listener: &mut TcpListener) -> io::Result<()> {
        self.register(listener, LISTENER, Interest::READABLE)
    }

    /// As [`listen`](Self::listen), at a Unix socket. What it accepts is [added](Self::add) as its file, which reads, writes
    /// and is shut down as one of TCP: `TcpStream::from_std(OwnedFd::from(stream).into())`.
    ///
    /// # Errors
    ///
    /// As those of [`listen`](Self::listen).
    pub fn listen_unix(&self, listener: &mut UnixListener) -> io::Result<()> {
        self.register(listener, LISTENER, Interest::READABLE)
    }

    /// Takes a socket in. `index` is the caller's, small and not in use by another: it is the place in a table.
    ///
    /// # Errors
    ///
    /// The operating system does not take it, or the index is too large. The socket is closed then.
    pub fn add(&mut self, index: usize, mut stream: TcpStream, owner: T) -> io::Result<()> {
        // The line has places for numbers of this size, and the largest is the listeners' token on small machines.
        if index >= u32::MAX as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        if let Some(place) = self.sockets.get_mut(index) {
            *place = Some(Socket { stream, flags: 0, owner });
        }
        Ok(())
    }

    /// Begins to connect to `address`, and takes the socket in as [`add`](Self::add) does. It counts as
    /// [blocked](Socket::is_blocked): [`next_writable`](Self::next_writable) tells when there is something to learn, and
    /// [`Socket::is_connected`] what.
    ///
    /// # Errors
    ///
    /// As those of [`add`](Self::add), or there is no way to the address.
    pub fn connect(&mut self, index: usize, address: SocketAddr, owner: T) -> io::Result<()> {
        self.add(index, TcpStream::connect(address)?, owner)?;
        if let Some(socket) = self.get_mut(index) {
            socket.block();
        }
        Ok(())
    }

    /// Asks the operating system once, without waiting, and notes what it says.
    ///
    /// # Errors
    ///
    /// The poller has failed: there is no use in going on.
    pub fn look(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            let Token(index) = event.token();
            if event.token() == LISTENER {
                self.newcomers = true;
                continue;
            }
            let Some(Some(socket)) = self.sockets.get_mut(index) else { continue };
            let index = index as u32;
            let over = event.is_read_closed() || event.is_error();
            if over {
                socket.set(OVER);
            }
            if event.is_readable() || over {
                socket.set(READABLE);
                if socket.steps_into_line() {
                    self.line.push_back(index);
                }
            }
            if (event.is_writable() || event.is_write_closed()) && socket.take(BLOCKED) {
                self.writable.push(index);
            }
        }
        self.busy = !self.events.is_empty();
        Ok(())
    }

    /// Whether there is nothing to do before [`ready`](Self::ready) says so.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.line.is_empty() && self.writable.is_empty() && !self.newcomers && !self.busy
    }

    /// Whether somebody has come to a listener since this was last asked. Accept until the listener would block: those
    /// that are left there are not announced again.
    pub fn takes_newcomers(&mut self) -> bool {
        std::mem::take(&mut self.newcomers)
    }

    /// How many [`next_readable`](Self::next_readable) may bring before it begins again with those that were read.
    #[must_use]
    pub fn in_line(&self) -> usize {
        self.line.len()
    }

    /// The next socket to [`read`](Self::read).
    pub fn next_readable(&mut self) -> Option<usize> {
        while let Some(index) = self.line.pop_front() {
            let index = index as usize;
            // It may be gone or have another's index, or its owner wants no more by now.
            if let Some(Some(socket)) = self.sockets.get_mut(index)
                && socket.take(IN_LINE)
                && !socket.has(PAUSED)
            {
                return Some(index);
            }
        }
        None
    }

    /// Reads once. A socket that may have more steps into line again, behind the others.
    pub fn read(&mut self, index: usize, buffer: &mut [u8]) -> Read {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return Read::Nothing };
        let (read, emptied) = match io::Read::read(&mut &socket.stream, buffer) {
            Ok(0) => {
                socket.set(ENDED);
                (Read::End, true)
            }
            // Fewer bytes than asked for were all that there were. An end that came with them would not be announced again.
            Ok(count) => (Read::Bytes(count), count < buffer.len() && !socket.has(OVER)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Read::Nothing, true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (Read::Nothing, false),
            Err(error) => (Read::Failed(error), true),
        };
        if emptied {
            let _ = socket.take(READABLE);
        } else if socket.steps_into_line() {
            self.line.push_back(index as u32);
        }
        read
    }

    /// Leaves what comes in the socket until [`resume`](Self::resume).
    pub fn pause(&mut self, index: usize) {
        if let Some(socket) = self.get_mut(index) {
            socket.set(PAUSED);
        }
    }

    /// Reads again, first of all what has come meanwhile. Does nothing if reading was not paused.
    pub fn resume(&mut self, index: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(index)
            && socket.take(PAUSED)
            && socket.steps_into_line()
        {
            self.line.push_back(index as u32);
        }
    }

    /// The next socket that was [`blocked`](Socket::block) and has room again, or is beyond being written to.
    pub fn next_writable(&mut self) -> Option<usize> {
        while let Some(index) = self.writable.pop() {
            if self.get(index as usize).is_some() {
                return Some(index as usize);
            }
        }
        None
    }

    /// A socket.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Socket<T>> {
        self.sockets.get(index)?.as_ref()
    }

    /// A socket, to change what belongs to it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Socket<T>> {
        self.sockets.get_mut(index)?.as_mut()
    }

    /// Closes a socket and returns what it belonged to.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        // Closing its only file descriptor takes it out of the poller.
        self.sockets.get_mut(index)?.take().map(|socket| socket.owner)
    }

    fn register(
        &self,
        source: &mut impl Source,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.poll.registry().register(source, token, interest)
    }
}

impl<T, W> fmt::Debug for Poller<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("sockets", &self.sockets.iter().flatten().count())
            .field("in_line", &self.line.len())
            .finish_non_exhaustive()
    }
}

/// What a read brought.
#[derive(Debug)]
pub enum Read {
    /// Nothing: the socket is empty.
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// The end of the stream. It is told once.
    End,
    /// The socket is broken.
    Failed(io::Error),
}

/// A socket of a [`Poller`]. It is written to without waiting: `&mut socket.stream()` is a sink for the core.
#[derive(Debug)]
pub struct Socket<T> {
    stream: TcpStream,
    flags: u8,
    /// What it belongs to.
    pub owner: T,
}

impl<T> Socket<T> {
    /// The stream. [`Poller::read`] reads it; who reads it otherwise reads until it would block.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The stream to write to, and its owner to do it.
    pub fn split(&mut self) -> (&TcpStream, &mut T) {
        (&self.stream, &mut self.owner)
    }

    /// It took no more: [`Poller::next_writable`] tells when it does. Call after a write that would have blocked.
    pub fn block(&mut self) {
        self.set(BLOCKED);
    }

    /// Whether it was blocked, and has no room yet as far as is known.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.has(BLOCKED)
    }

    /// Whether a socket that was to [connect](Poller::connect) has done so. Call [`block`](Self::block) if not.
    ///
    /// # Errors
    ///
    /// It will not: the other end refuses, is not there, or does not answer.
    pub fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            // Where nobody listens, a port that the operating system gives out may be this socket's own.
            Ok(peer) if self.stream.local_addr()? == peer => {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether its owner wants no more for now: [`Poller::pause`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.has(PAUSED)
    }

    /// Ends our side of the stream. Failing means that the peer is gone, which reading tells.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Whether it has to be put in line, which it then counts as being in.
    fn steps_into_line(&mut self) -> bool {
        let steps = self.flags & (READABLE | PAUSED | IN_LINE | ENDED) == READABLE;
        if steps {
            self.set(IN_LINE);
        }
        steps
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    fn take(&mut self, flag: u8) -> bool {
        let had = self.has(flag);
        self.flags &= !flag;
        had
    }
}

/// There may be something to read: it was announced and has not been read up.
const READABLE: u8 = 1;
/// It stands in the line.
const IN_LINE: u8 = 2;
/// The owner wants no more for now.
const PAUSED: u8 = 4;
/// It took no more.
const BLOCKED: u8 = 8;
/// The peer has ended the stream, or it is broken: no further event will say so.
const OVER: u8 = 16;
/// The end was read.
const ENDED: u8 = 32;
