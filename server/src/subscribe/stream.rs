//! A blocking socket, with TLS or without.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::End;
use crate::{
    exit::{Exit, Failure},
    reach, trust,
    url::Target,
    verify,
};

/// What a link reads from and writes to.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Carries out the TLS handshake, so that a server that is not trusted is told from one that is gone.
    pub(super) fn secure(
        mut socket: TcpStream,
        target: &Target,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Self, End> {
        let config = config.map_or_else(trust::client_config, Ok).map_err(End::Fatal)?;
        let fatal = |text: String| End::Fatal(Failure::new(Exit::General, text));
        let name = ServerName::try_from(target.host.clone()).map_err(|_| {
            fatal(format!("{:?} is no name that a certificate could have", target.host))
        })?;
        let mut tls =
            ClientConnection::new(config, name).map_err(|error| fatal(error.to_string()))?;
        let lost = |error: &io::Error| {
            let (exit, why) = reach::unreached(error, true);
            End::Lost(exit, why)
        };
        socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT)).map_err(|error| lost(&error))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|error| {
                let refused = error.kind() == io::ErrorKind::InvalidData;
                if refused { fatal(verify::words(&error)) } else { lost(&error) }
            })?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(tls, socket))))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Nothing more will be written. If that fails, so will the next read.
    pub(super) fn end(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    fn inner(&mut self) -> &mut (dyn Write + '_) {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.as_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(to),
            Self::Tls(stream) => stream.read(to),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
