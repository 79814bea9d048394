//! A driver by completions: whoever reads and writes owns the buffers until it is done, as a kernel does under io_uring.
//!
//! Here it is two threads for each socket, so that the loop can be read without a runtime: it submits operations and takes
//! completions, and never waits for a single one. Broadcasts go out uncopied: all subscribers' operations share their bytes.
//! docs/own-driver.md says why it is as it is. Run it, and connect with `wscat -c ws://127.0.0.1:8686`. With `--port PORT` it
//! listens there, tells nothing by itself and lets everybody say as much as they like: `scripts/bench-chat` measures that.

use std::{
    collections::HashMap,
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{Command, ConnId, Hub, Listener, Output, Peer, Place, Publication},
    time::Now,
    ws::Flush,
};

/// Bytes that one operation of a socket writes, or a piece more; as many as a socket's buffer usually takes.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// Bytes of a socket's buffer for reading.
const READ_AT_ONCE: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let measured: Option<u16> = std::env::args().nth(2).and_then(|port| port.parse().ok());
    let listener = TcpListener::bind(("127.0.0.1", measured.unwrap_or(8686)))?;
    let mut config = Config::default();
    if measured.is_some() {
        config.limits.connections.messages_per_second = None;
    }
    let mut driver = Driver::new(config, Seed(seed), listener)?;
    let mut seconds = 0;
    loop {
        driver.run_until(Instant::now() + Duration::from_secs(1))?;
        if measured.is_some() {
            continue;
        }
        seconds += 1;
        let data = format!(r#"{{"seconds":{seconds}}}"#);
        driver.command(Command::Publish {
            id: None,
            publication: Publication::new("clock:1", "tick", data),
        });
    }
}

/// An operation is done.
enum Done {
    Accepted(TcpStream, std::net::SocketAddr),
    /// So many bytes are in the buffer; none at the end of the stream.
    Read(ConnId, Vec<u8>, io::Result<usize>),
    /// All of what was given is written.
    Written(ConnId, io::Result<()>),
}

/// What is under way for a connection.
struct Socket {
    stream: TcpStream,
    /// Takes a buffer to read into.
    reads: Sender<Vec<u8>>,
    /// The buffer, while nothing is read: the core wants no more for now.
    idle: Option<Vec<u8>>,
    /// Takes what is to be written, in order.
    writes: Sender<Vec<Bytes>>,
    writing: bool,
    /// What becomes of the socket when the last operation is done.
    end: Option<Flush>,
}

struct Driver {
    hub: Hub,
    sockets: HashMap<ConnId, Socket>,
    done: Receiver<Done>,
    tell: Sender<Done>,
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: Instant::now(), unix }
}

impl Driver {
    fn new(config: Config, seed: Seed, listener: TcpListener) -> io::Result<Self> {
        let (tell, done) = mpsc::channel();
        let hub = Hub::new(Arc::new(config), Place::alone(seed), now());
        let accepts = tell.clone();
        thread::Builder::new().name("accept".into()).spawn(move || {
            while let Ok((stream, address)) = listener.accept() {
                if accepts.send(Done::Accepted(stream, address)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { hub, sockets: HashMap::new(), done, tell })
    }

    fn command(&mut self, command: Command) {
        self.hub.handle_command(now(), command);
        self.turn();
    }

    /// Takes completions as they come, all that have come in one turn.
    fn run_until(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let timer = self.hub.poll_timeout().map_or(until, |timer| timer.at.min(until));
            match self.done.recv_timeout(timer.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    self.take(first)?;
                    for _ in 1..Hub::TURN_INPUTS_MAX {
                        let Ok(next) = self.done.try_recv() else { break };
                        self.take(next)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) if until <= Instant::now() => return Ok(()),
                Err(_) => {}
            }
            self.turn();
        }
    }

    fn take(&mut self, done: Done) -> io::Result<()> {
        match done {
            Done::Accepted(stream, address) => {
                // A refusal is counted, and dropping the socket is all there is to do.
                if let Ok(conn) =
                    self.hub.handle_accept(now(), Peer::new(Some(address), Listener::Main))
                {
                    let socket = open(conn, stream, &self.tell)?;
                    self.sockets.insert(conn, socket);
                }
            }
            Done::Read(conn, mut buffer, Ok(count @ 1..)) => {
                let Some(socket) = self.sockets.get_mut(&conn) else { return Ok(()) };
                self.hub.handle_bytes(now(), conn, buffer.get_mut(..count).unwrap_or_default());
                socket.idle = Some(buffer);
                self.read_on(conn);
            }
            Done::Read(conn, _, Ok(0)) => self.hub.handle_eof(now(), conn),
            Done::Written(conn, Ok(())) => {
                let Some(socket) = self.sockets.get_mut(&conn) else { return Ok(()) };
                socket.writing = false;
                self.write_on(conn);
                self.read_on(conn);
            }
            Done::Read(conn, _, Err(error)) | Done::Written(conn, Err(error)) => {
                // Nothing follows for this connection: neither a flush nor a `Closed`.
                if let Some(socket) = self.sockets.remove(&conn) {
                    close(&socket);
                    self.hub.handle_io_error(now(), conn, error.kind());
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self) {
        self.hub.handle_timeout(now());
        loop {
            while let Some(output) = self.hub.poll_output(now()) {
                self.carry_out(&output);
            }
            let Some(conn) = self.hub.poll_dirty() else { break };
            self.write_on(conn);
            self.read_on(conn);
        }
        self.hub.end_turn(now());
    }

    fn carry_out(&self, output: &Output) {
        if let Output::Connected { .. } = output {
            eprintln!("{} connected", self.hub.connections());
        }
    }

    /// Submits what waits, unless something is under way: then it waits in the core, in order and under its limits.
    fn write_on(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if socket.writing {
            // The client may never read again.
            if self.hub.is_given_up(conn) {
                let _ = self.hub.flush_owned(now(), conn, WRITTEN_AT_ONCE, &mut Vec::new());
                close(socket);
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
            socket.writing = socket.writes.send(pieces).is_ok();
            return;
        }
        // All that was said is written.
        match socket.end.take() {
            Some(Flush::Closed) => {
                close(socket);
                self.sockets.remove(&conn);
            }
            // One that is gone already is shut down as well.
            Some(_) => drop(socket.stream.shutdown(Shutdown::Write)),
            None => {}
        }
    }

    /// Gives the buffer to another read, if the core wants one.
    fn read_on(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && self.hub.wants_read(conn)
            && let Some(buffer) = socket.idle.take()
        {
            let _ = socket.reads.send(buffer);
        }
    }
}

/// Ends the operations that are under way; their completions find nobody.
fn close(socket: &Socket) {
    let _ = socket.stream.shutdown(Shutdown::Both);
}

/// The "kernel" of one socket.
fn open(conn: ConnId, stream: TcpStream, tell: &Sender<Done>) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    let (reads, to_read) = mpsc::channel::<Vec<u8>>();
    let (writes, to_write) = mpsc::channel::<Vec<Bytes>>();
    let (mut reader, mut writer) = (stream.try_clone()?, stream.try_clone()?);
    let (read, wrote) = (tell.clone(), tell.clone());
    thread::Builder::new().name("read".into()).spawn(move || {
        for mut buffer in to_read {
            let result = reader.read(&mut buffer);
            let _ = read.send(Done::Read(conn, buffer, result));
        }
    })?;
    thread::Builder::new().name("write".into()).spawn(move || {
        for pieces in to_write {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let _ = wrote.send(Done::Written(conn, write_all(&mut writer, &mut slices)));
        }
    })?;
    let _ = reads.send(vec![0; READ_AT_ONCE]);
    Ok(Socket { stream, reads, idle: None, writes, writing: false, end: None })
}

fn write_all(writer: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match writer.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tungstenite::{Message, WebSocket};

    use super::*;

    fn next(client: &mut WebSocket<TcpStream>) -> Value {
        loop {
            if let Message::Text(text) = client.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    #[test]
    fn clients_are_served_told_and_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (over, is_over) = mpsc::channel();
        let clients = thread::spawn(move || {
            let mut clients: Vec<_> = (0..3)
                .map(|_| {
                    let stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    let (mut client, _) = tungstenite::client("ws://x/", stream).unwrap();
                    assert_eq!(next(&mut client)["event"], "session.created");
                    let data = json!({ "channel": "a" });
                    let ask =
                        json!({ "type": "request", "event": "subscribe", "id": "1", "data": data });
                    client.send(Message::text(ask.to_string())).unwrap();
                    assert_eq!(next(&mut client)["data"]["status"], "subscribed");
                    client
                })
                .collect();
            over.send(()).unwrap();
            for client in &mut clients {
                // More than one operation takes.
                for n in 0..20 {
                    assert_eq!(next(client)["data"]["n"], n);
                }
                client.close(None).unwrap();
                while client.read().is_ok() {}
            }
        });
        let mut driver = Driver::new(Config::default(), Seed::from(1), listener).unwrap();
        while is_over.try_recv().is_err() {
            driver.run_until(Instant::now() + Duration::from_millis(10)).unwrap();
        }
        for n in 0..20 {
            let data = json!({ "n": n, "text": "x".repeat(20_000) }).to_string();
            let publication = Publication::new("a", "e", data);
            driver.command(Command::Publish { id: None, publication });
        }
        while !clients.is_finished() {
            driver.run_until(Instant::now() + Duration::from_millis(10)).unwrap();
        }
        clients.join().unwrap();
        while !driver.sockets.is_empty() {
            driver.run_until(Instant::now() + Duration::from_millis(10)).unwrap();
        }
        assert_eq!(driver.hub.sockets(), 0);
    }
}
