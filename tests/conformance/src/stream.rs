//! A blocking stream to a server: a socket, or a simulated one.

use std::{
    cell::RefCell,
    fmt,
    io::{self, Read, Write},
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    rc::Rc,
    time::Duration,
};

use mahavishnu_sim::{Hand, Line};
use mahavishnu_tests::{stream::Socket, wait::DEADLINE};

use crate::secure::Secure;

/// A blocking stream. Reads and writes that take too long fail.
#[derive(Debug)]
pub enum Stream {
    /// A socket.
    Tcp(TcpStream),
    /// A socket in the simulator. Reading lets the world go on.
    Pipe(Pipe),
    /// Either within TLS.
    Tls(Box<Secure>),
}

/// A client at a Unix socket: of a stream socket a TCP stream asks nothing else, but the address.
pub(crate) fn unix(path: &Path) -> io::Result<Stream> {
    let mut stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path)?));
    stream.set_patience(DEADLINE);
    stream.set_write_patience(DEADLINE);
    Ok(Stream::Tcp(stream))
}

/// The client's end of a simulated socket.
pub struct Pipe {
    hand: Rc<RefCell<Hand>>,
    line: Line,
    patience: Duration,
    write_patience: Duration,
}

impl Pipe {
    pub(crate) fn new(hand: Rc<RefCell<Hand>>, line: Line) -> Self {
        Self { hand, line, patience: DEADLINE, write_patience: DEADLINE }
    }
}

impl Stream {
    /// Sends bytes past TLS.
    pub fn write_below(&mut self, bytes: &[u8]) {
        match self {
            Self::Tls(secure) => secure.write_below(bytes),
            Self::Tcp(_) | Self::Pipe(_) => panic!("there is nothing above"),
        }
    }
}

impl Socket for Stream {
    fn set_patience(&mut self, patience: Duration) {
        match self {
            Self::Tcp(stream) => stream.set_patience(patience),
            Self::Pipe(pipe) => pipe.patience = patience,
            Self::Tls(secure) => secure.set_patience(patience),
        }
    }

    fn set_write_patience(&mut self, patience: Duration) {
        match self {
            Self::Tcp(stream) => stream.set_write_patience(patience),
            Self::Pipe(pipe) => pipe.write_patience = patience,
            Self::Tls(secure) => secure.set_write_patience(patience),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Tcp(stream) => stream.finish(),
            Self::Pipe(pipe) => pipe.hand.borrow_mut().finish(pipe.line),
            Self::Tls(secure) => secure.finish(),
        }
    }

    fn reset(self) {
        match self {
            Self::Tcp(stream) => stream.reset(),
            Self::Pipe(pipe) => pipe.hand.borrow_mut().reset(pipe.line),
            Self::Tls(secure) => secure.into_inner().reset(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Pipe(pipe) => pipe.hand.borrow_mut().read(pipe.line, buffer, pipe.patience),
            Self::Tls(secure) => secure.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Pipe(pipe) => pipe.hand.borrow_mut().write(pipe.line, bytes, pipe.write_patience),
            Self::Tls(secure) => secure.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.line).finish()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A world that is broken may break again, and that twice is too often.
        if !std::thread::panicking() {
            self.hand.borrow_mut().hang_up(self.line);
        }
    }
}
