//! Asking the server on this machine for its health, over TLS too.
//!
//! Over TLS it is known by its certificate alone, the one in its own file: that is for the names that clients use, which
//! may be none of this machine's own, and need not be signed by anybody whom this machine trusts.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;

use crate::{
    client,
    exit::{Exit, Failure},
    settings::Settings,
    tls, trust,
    url::Target,
    verify,
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

/// The status of `/ready` of the server at `url`; `None`: it does not answer.
pub(crate) fn ready(url: &str, settings: &Settings, dir: &Path) -> Option<u16> {
    let target = Target::parse(url).ok()?;
    let agent = match target.tls {
        true => client::agent_over(pinned(settings, dir).ok()?, TIMEOUT),
        false => client::agent(TIMEOUT),
    };
    Some(agent.get(target.http("/ready")).call().ok()?.status().as_u16())
}

fn in_plain(url: &str) -> Result<Value, String> {
    ask_by(&client::agent(TIMEOUT), url)
}

fn ask_by(agent: &ureq::Agent, url: &str) -> Result<Value, String> {
    let unreachable = |error: &ureq::Error| {
        client::failure(url, error).to_string().replace(&format!("{url}: "), "")
    };
    let mut response =
        agent.get(format!("{url}/health")).call().map_err(|error| unreachable(&error))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    judge(status.as_u16(), &body.map_err(|error| unreachable(&error))?)
}

fn judge(status: u16, body: &str) -> Result<Value, String> {
    if status != 200 {
        return Err(format!("HTTP {status}"));
    }
    serde_json::from_str(body).map_err(|_| "its answer is not JSON".to_owned())
}

fn over_tls(target: &Target, settings: &Settings, dir: &Path) -> Result<Value, String> {
    let config = pinned(settings, dir).map_err(|failure| failure.to_string())?;
    ask_by(&client::agent_over(config, TIMEOUT), &Target { tls: true, ..target.clone() }.http(""))
}

/// TLS for a client that trusts the certificates of these settings alone, whatever names they are for.
pub(crate) fn pinned(settings: &Settings, dir: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let known = tls::own_certificates(settings, dir)?;
    let provider = trust::provider();
    let config = verify::by(Arc::new(Pinned { known, provider: provider.clone() }), provider);
    config.map_err(|error| Failure::new(Exit::General, error.to_string()))
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
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
