//! The bound to compare with: an epoll loop that copies a publisher's frames to all subscribers and does nothing else.
//!
//! No queues, no limits, no checks: a socket that does not take a frame is waited for. What a real server adds on the
//! same machine and in the same run is its cost.

mod echo;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use echo::Echo;
use rustix::event::{PollFd, PollFlags, poll};

use crate::{
    Error, Result,
    frame::{self, FrameReader, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG, OP_TEXT},
    handshake,
    socket::{Poller, ReadBuffer},
};

/// What the loop does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One `send` per frame and subscriber: the bound for servers that do not gather.
    Send,
    /// The frames of one round of the loop in one `send` per subscriber.
    Batch,
    /// Back to where it came from, the replies to one `read` in one `send`.
    Echo,
}

/// The server: connections under `/pub` publish, those under `/sub` subscribe, all others only exist.
#[derive(Debug)]
pub struct RawLoop {
    mode: Mode,
    listener: TcpListener,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    subscribers: Vec<usize>,
    scratch: ReadBuffer,
    /// Frames of this round, ready to be sent to every subscriber, and where each ends.
    round: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    state: State,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Open { publishes: bool, reader: FrameReader },
    Echo(Echo),
}

impl RawLoop {
    /// Listens.
    ///
    /// # Errors
    /// The address is taken.
    pub fn bind(address: SocketAddr, mode: Mode) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // Listening again only replaces the length of the accept queue, which std fixes at a small number.
        rustix::net::listen(&listener, ACCEPT_QUEUE)?;
        listener.set_nonblocking(true)?;
        let poller = Poller::new(EVENTS_MAX)?;
        poller.add(&listener, LISTENER)?;
        Ok(Self {
            mode,
            listener,
            poller,
            connections: Vec::new(),
            free: Vec::new(),
            subscribers: Vec::new(),
            scratch: ReadBuffer::new(READ_BYTES),
            round: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is set, which is looked at a few times a second.
    ///
    /// # Errors
    /// Polling or accepting failed. The failure of a connection only ends that connection.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut ready = Vec::with_capacity(EVENTS_MAX);
        while !stop.load(Ordering::Relaxed) {
            self.poller.wait(Duration::from_millis(200), &mut ready)?;
            for &token in &ready {
                if token == LISTENER {
                    self.accept()?;
                } else if self.read(token).is_err() {
                    self.drop_connection(token);
                }
            }
            if !self.round.is_empty() {
                self.fan_out();
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = self.free.pop().unwrap_or(self.connections.len());
            self.poller.add(&stream, token)?;
            let connection = Some(Connection { stream, state: State::Head(Vec::new()) });
            match self.connections.get_mut(token) {
                Some(place) => *place = connection,
                None => self.connections.push(connection),
            }
        }
    }

    /// Reads once. An error ends the connection.
    fn read(&mut self, token: usize) -> Result<()> {
        let Some(Some(Connection { stream, state })) = self.connections.get_mut(token) else {
            return Ok(());
        };
        if let State::Echo(echo) = state {
            return echo.read(stream, &mut self.scratch);
        }
        let bytes = match (&*stream).read(self.scratch.space()) {
            Ok(0) => return Err("ended".into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let chunk = &*self.scratch.filled(bytes);
        let mut rest = Vec::new();
        let (publishes, reader, chunk) = match state {
            State::Echo(_) => return Ok(()),
            State::Open { publishes, reader } => (*publishes, reader, chunk),
            State::Head(head) => {
                head.extend_from_slice(chunk);
                let Some(upgrade) = handshake::accept_request(head)? else { return Ok(()) };
                (&*stream).write_all(&upgrade.response)?;
                rest.extend_from_slice(head.get(upgrade.head_bytes..).unwrap_or_default());
                if self.mode == Mode::Echo {
                    let mut echo = Echo::default();
                    echo.take(stream, &mut rest)?;
                    *state = State::Echo(echo);
                    return Ok(());
                }
                if upgrade.path == "/sub" {
                    self.subscribers.push(token);
                }
                let publishes = upgrade.path == "/pub";
                *state = State::Open { publishes, reader: FrameReader::new(PAYLOAD_BYTES_MAX) };
                let State::Open { reader, .. } = state else { return Ok(()) };
                (publishes, reader, rest.as_slice())
            }
        };
        let (round, ends) = (&mut self.round, &mut self.ends);
        let mut replies = Vec::new();
        reader.feed(chunk, |frame| {
            match frame.opcode {
                OP_TEXT | OP_BINARY if publishes => {
                    frame::relay(round, frame);
                    ends.push(round.len());
                }
                OP_PING => frame::relay(&mut replies, frame::Frame { opcode: OP_PONG, ..frame }),
                OP_CLOSE => return Err("closed".into()),
                _ => {}
            }
            Ok::<(), Error>(())
        })?;
        if !replies.is_empty() {
            write_all(stream, &replies)?;
        }
        Ok(())
    }

    fn fan_out(&mut self) {
        let mut dead = Vec::new();
        let Self { mode, connections, subscribers, round, ends, .. } = self;
        let mut send_to_all = |bytes: &[u8]| {
            for &token in subscribers.iter() {
                if let Some(Some(connection)) = connections.get(token)
                    && write_all(&connection.stream, bytes).is_err()
                {
                    dead.push(token);
                }
            }
        };
        if *mode == Mode::Batch {
            send_to_all(round);
        } else {
            let mut start = 0;
            for &end in ends.iter() {
                send_to_all(round.get(start..end).unwrap_or_default());
                start = end;
            }
        }
        round.clear();
        ends.clear();
        for token in dead {
            self.drop_connection(token);
        }
    }

    fn drop_connection(&mut self, token: usize) {
        if let Some(place) = self.connections.get_mut(token)
            && place.take().is_some()
        {
            self.subscribers.retain(|&subscriber| subscriber != token);
            self.free.push(token);
        }
    }
}

/// Waits for the socket where it must: the loop has nothing else to do, and sleeping here costs no CPU time.
fn write_all(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

const LISTENER: usize = usize::MAX;
const ACCEPT_QUEUE: i32 = 4096;
const EVENTS_MAX: usize = 1024;
const READ_BYTES: usize = 256 << 10;
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
