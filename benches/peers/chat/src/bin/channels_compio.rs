//! The same channels on compio: the core, driven by the completions of io_uring. As `driver/examples/completions.rs`, with a
//! kernel that does what threads do there: broadcasts go out uncopied, all subscribers' operations share their bytes.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use compio::{
    BufResult,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Runtime, spawn},
    time::timeout_at,
};
use mahavishnu_bench_peers::{Options, Result};
use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{ConnId, Hub, Listener, Peer, Place},
    time::Now,
    ws::Flush,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// Bytes that one operation of a socket writes, or a piece more; as many as a socket's buffer usually takes.
const WRITTEN_AT_ONCE: usize = 64 * 1024;
/// Bytes of a socket's buffer for reading.
const READ_AT_ONCE: usize = 4 * 1024;

enum Done {
    Accepted(TcpStream, SocketAddr),
    Read(ConnId, Vec<u8>, io::Result<usize>),
    Written(ConnId, io::Result<()>),
}

struct Socket {
    stream: TcpStream,
    /// The buffer, while nothing is read: the core wants no more for now.
    idle: Option<Vec<u8>>,
    writing: bool,
    /// What becomes of the socket when the last operation is done.
    end: Option<Flush>,
}

struct Driver {
    hub: Hub,
    sockets: HashMap<ConnId, Socket>,
    tell: UnboundedSender<Done>,
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut config = Config::default();
    config.limits.connections.messages_per_second = None;
    let hub = Hub::new(Arc::new(config), Place::alone(Seed(seed)), now());
    Runtime::new()?.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let (tell, done) = mpsc::unbounded_channel();
        let accepts = tell.clone();
        spawn(async move {
            while let Ok((stream, address)) = listener.accept().await {
                if accepts.send(Done::Accepted(stream, address)).is_err() {
                    break;
                }
            }
        })
        .detach();
        Driver { hub, sockets: HashMap::new(), tell }.run(done).await
    })
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: Instant::now(), unix }
}

impl Driver {
    /// Takes completions as they come, all that have come in one turn.
    async fn run(mut self, mut done: UnboundedReceiver<Done>) -> Result<()> {
        let mut taken = Vec::new();
        loop {
            let timer = self.hub.poll_timeout().map(|timer| timer.at);
            let at = timer.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let more = done.recv_many(&mut taken, Hub::TURN_INPUTS_MAX as usize);
            // Nothing is lost if it is too late: `recv_many` takes at once or not at all.
            let _ = timeout_at(at, more).await;
            for one in taken.drain(..) {
                self.take(one)?;
            }
            self.turn();
        }
    }

    fn take(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Accepted(stream, address) => {
                stream.set_nodelay(true)?;
                // A refusal is counted, and dropping the socket is all there is to do.
                if let Ok(conn) =
                    self.hub.handle_accept(now(), Peer::new(Some(address), Listener::Main))
                {
                    let idle = Some(Vec::with_capacity(READ_AT_ONCE));
                    self.sockets.insert(conn, Socket { stream, idle, writing: false, end: None });
                    self.read_on(conn);
                }
            }
            Done::Read(conn, _, Ok(0)) => self.hub.handle_eof(now(), conn),
            Done::Read(conn, mut buffer, Ok(_)) => {
                let Some(socket) = self.sockets.get_mut(&conn) else { return Ok(()) };
                self.hub.handle_bytes(now(), conn, &mut buffer);
                buffer.clear();
                socket.idle = Some(buffer);
                self.read_on(conn);
            }
            Done::Written(conn, Ok(())) => {
                let Some(socket) = self.sockets.get_mut(&conn) else { return Ok(()) };
                socket.writing = false;
                self.write_on(conn);
                self.read_on(conn);
            }
            Done::Read(conn, _, Err(error)) | Done::Written(conn, Err(error)) => {
                if self.sockets.remove(&conn).is_some() {
                    self.hub.handle_io_error(now(), conn, error.kind());
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self) {
        self.hub.handle_timeout(now());
        loop {
            while self.hub.poll_output(now()).is_some() {}
            let Some(conn) = self.hub.poll_dirty() else { break };
            self.write_on(conn);
            self.read_on(conn);
        }
        self.hub.end_turn(now());
    }

    /// Submits what waits, unless something is under way.
    fn write_on(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if socket.writing {
            // The client may never read again.
            if self.hub.is_given_up(conn) {
                let _ = self.hub.flush_owned(now(), conn, WRITTEN_AT_ONCE, &mut Vec::new());
                self.sockets.remove(&conn);
            }
            return;
        }
        let mut pieces = Vec::new();
        let flush = match socket.end {
            Some(end) => end,
            None => self.hub.flush_owned(now(), conn, WRITTEN_AT_ONCE, &mut pieces),
        };
        if matches!(flush, Flush::Fin | Flush::Closed) {
            socket.end = Some(flush);
        }
        if !pieces.is_empty() {
            socket.writing = true;
            spawn(write(socket.stream.clone(), conn, pieces, self.tell.clone())).detach();
        } else if let Some(Flush::Closed) = socket.end {
            self.sockets.remove(&conn);
        } else if socket.end.take().is_some() {
            let stream = socket.stream.clone();
            spawn(async move { drop((&stream).shutdown().await) }).detach();
        }
    }

    /// Gives the buffer to another read, if the core wants one.
    fn read_on(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && self.hub.wants_read(conn)
            && let Some(buffer) = socket.idle.take()
        {
            spawn(read(socket.stream.clone(), conn, buffer, self.tell.clone())).detach();
        }
    }
}

async fn read(stream: TcpStream, conn: ConnId, buffer: Vec<u8>, tell: UnboundedSender<Done>) {
    let BufResult(result, buffer) = (&stream).read(buffer).await;
    drop(tell.send(Done::Read(conn, buffer, result)));
}

async fn write(
    stream: TcpStream,
    conn: ConnId,
    mut pieces: Vec<Bytes>,
    tell: UnboundedSender<Done>,
) {
    let result = match (pieces.len(), pieces.pop()) {
        (1, Some(piece)) => (&stream).write_all(piece).await.0,
        (_, last) => {
            pieces.extend(last);
            (&stream).write_vectored_all(pieces).await.0
        }
    };
    drop(tell.send(Done::Written(conn, result)));
}
