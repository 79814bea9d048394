//! What carries bytes to a server: a socket, or whatever a test has in its place.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::wait::DEADLINE;

/// A blocking stream. Reads and writes that take too long fail.
pub trait Socket: Read + Write + fmt::Debug {
    /// How long a read waits.
    fn set_patience(&mut self, patience: Duration);

    /// How long a write waits.
    fn set_write_patience(&mut self, patience: Duration);

    /// Ends our half.
    fn finish(&mut self);

    /// Ends it with a reset.
    fn reset(self);
}

impl Socket for TcpStream {
    fn set_patience(&mut self, patience: Duration) {
        self.set_read_timeout(Some(patience)).expect("not zero");
    }

    fn set_write_patience(&mut self, patience: Duration) {
        self.set_write_timeout(Some(patience)).expect("not zero");
    }

    fn finish(&mut self) {
        // The server may have ended everything already.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn reset(self) {
        let socket = socket2::SockRef::from(&self);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket can linger");
    }
}

/// A blocking socket with deadlines: from `source`, if that is an address of this machine, and with a receive buffer of
/// about `room` bytes.
pub fn connect(
    source: Option<IpAddr>,
    address: SocketAddr,
    room: Option<usize>,
) -> io::Result<TcpStream> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if let Some(bytes) = room {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect_timeout(&address.into(), DEADLINE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether nothing came, or went, in time.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
