//! Asking the server on this machine for its health, over TLS too.
//!
//! Over TLS it is known by its certificate alone, the one in its own file: that is for the names that clients use, which
//! may be none of this machine's own, and need not be signed by anybody whom this machine trusts.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;

use crate::{
    client,
    exit::{Failure, plain},
    settings::Settings,
    tls, trust,
    url::Target,
};

/// The body of `/health` if the server at `url` says that it is healthy, else why not. `dir` is its state directory.
pub(crate) fn ask(url: &str, settings: &Settings, dir: &Path) -> Result<Value, String> {
    let target = Target::parse(url).map_err(|failure| failure.to_string())?;
    if target.tls {
        // Since a reload, perhaps, it speaks no TLS any more.
        let plain = Target { tls: false, ..target.clone() }.http("");
        return over_tls(&target, settings, dir).or_else(|why| in_plain(&plain).map_err(|_| why));
    }
    match in_plain(url) {
        // Since a reload, perhaps, it speaks nothing but TLS; its settings know.
        Err(why) if settings.tls_enabled => {
            over_tls(&target, settings, dir).map_err(|tls| format!("{why}; over TLS: {tls}"))
        }
        answered => answered,
    }
}

fn in_plain(url: &str) -> Result<Value, String> {
    let unreachable = |error: &ureq::Error| {
        client::failure(url, error).to_string().replace(&format!("{url}: "), "")
    };
    let mut response = client::agent(TIMEOUT)
        .get(format!("{url}/health"))
        .call()
        .map_err(|error| unreachable(&error))?;
    let status = response.status();
    let body = response.body_mut().read_to_string().map_err(|error| unreachable(&error))?;
    judge(status.as_u16(), &body)
}

fn judge(status: u16, body: &str) -> Result<Value, String> {
    if status != 200 {
        return Err(format!("HTTP {status}"));
    }
    serde_json::from_str(body).map_err(|_| "its answer is not JSON".to_owned())
}

fn over_tls(target: &Target, settings: &Settings, dir: &Path) -> Result<Value, String> {
    let known =
        tls::own_certificates(settings, dir).map_err(|failure: Failure| failure.to_string())?;
    let config = pinned(known).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let tls = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let socket = connect(target).map_err(|error| plain(&error))?;
    let request = format!(
        "GET {}/health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.path,
        target.authority()
    );
    let mut stream = StreamOwned::new(tls, socket);
    let answer = exchange(&mut stream, request.as_bytes()).map_err(|error| {
        let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        if late { "no answer in time".to_owned() } else { plain(&error) }
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    judge(status.ok_or_else(|| "its answer is not HTTP".to_owned())?, body)
}

fn connect(target: &Target) -> io::Result<TcpStream> {
    let socket = target.connect(TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// What the server says until it ends the connection.
fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<String> {
    stream.write_all(request)?;
    let deadline = Instant::now() + TIMEOUT;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {
                break;
            }
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_BYTES_MAX || Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn pinned(known: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let provider = trust::provider();
    let verifier = Pinned { known, provider: provider.clone() };
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Accepts these certificates and no others. That the server has the key is verified as ever.
#[derive(Debug)]
struct Pinned {
    known: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.iter().any(|known| known == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let text = "the server has another certificate than its settings name; was the file renewed without a reload?";
        Err(Error::General(text.into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// A health answer has a few hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
