//! A generator's socket, with or without TLS. Never waits, except to connect.

use std::{
    cell::RefCell,
    fmt,
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{Result, handshake::Target, socket};

/// A connected socket.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    tls: Option<Tls>,
}

struct Tls {
    connection: Box<ClientConnection>,
}

thread_local! {
    /// What one read brings, before it is decrypted: rustls by itself reads too little at a time.
    static CIPHERTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

impl Transport {
    /// Connects, and completes the TLS handshake if the URL is `wss:`.
    ///
    /// # Errors
    /// The server cannot be reached, or does not speak TLS.
    pub fn connect(target: &Target) -> Result<Self> {
        let stream = socket::connect(target.address)?;
        if !target.tls {
            return Ok(Self { stream, tls: None });
        }
        let name = ServerName::try_from("localhost")?;
        let connection = Box::new(ClientConnection::new(CONFIG.clone(), name)?);
        let mut tls = Tls { connection };
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        while tls.connection.is_handshaking() || tls.connection.wants_write() {
            tls.push(&stream)?;
            match tls.pull(&stream, &mut []) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() > deadline {
                return Err("no TLS handshake".into());
            }
        }
        Ok(Self { stream, tls: Some(tls) })
    }

    /// Reads what is there, at most as much as `scratch` holds.
    ///
    /// # Errors
    /// As `read`; [`io::ErrorKind::WouldBlock`] if nothing is there.
    #[inline]
    pub fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(scratch),
            Some(tls) => tls.pull(&self.stream, scratch),
        }
    }

    /// Writes what the socket takes now; with TLS it takes all, and what is left over goes out with a later write.
    ///
    /// # Errors
    /// As `write`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return (&self.stream).write(bytes) };
        tls.push(&self.stream)?;
        if tls.connection.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = tls.connection.writer().write(bytes)?;
        tls.push(&self.stream)?;
        Ok(taken)
    }

    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

impl Tls {
    fn push(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn pull(&mut self, stream: &TcpStream, scratch: &mut [u8]) -> io::Result<usize> {
        CIPHERTEXT.with_borrow_mut(|buffer| self.pull_through(buffer, stream, scratch))
    }

    fn pull_through(
        &mut self,
        buffer: &mut [u8],
        mut stream: &TcpStream,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let room = buffer.len().min(scratch.len().max(HANDSHAKE_BYTES));
        let read = stream.read(buffer.get_mut(..room).unwrap_or_default())?;
        if read == 0 {
            return Ok(0);
        }
        let mut rest = buffer.get(..read).unwrap_or_default();
        let mut filled = 0;
        while !rest.is_empty() {
            self.connection.read_tls(&mut rest)?;
            self.connection.process_new_packets().map_err(io::Error::other)?;
            while let Some(room @ [_, ..]) = scratch.get_mut(filled..) {
                match self.connection.reader().read(room) {
                    Ok(0) => break,
                    Ok(bytes) => filled += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        // Not even one record was complete.
        if filled == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Takes any certificate: the server under test is ours, and its key is made for the run.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| unreachable!("the provider has suites for both versions: {error}"))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Arc::new(config)
});

/// Bytes of one read at most.
const READ_BYTES: usize = 256 << 10;
const HANDSHAKE_BYTES: usize = 16 << 10;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
