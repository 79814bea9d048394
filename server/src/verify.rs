//! Whether the client subcommands take a server's certificate, and why not in words.
//!
//! A certificate that an authority signed is verified as RFC 5280 says. One that is itself, byte for byte, among those that
//! are trusted needs nobody's signature: it only has to be for the server's name and valid now. That is what makes a
//! certificate work that signed itself, which `openssl req -x509` marks as an authority's besides.

use std::{io, sync::Arc, time::Duration};

use mahavishnu_core::tls::{Chain, Facts, Key};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::{
    exit::{self, Exit, Failure},
    tls::day,
};

/// TLS for a client that trusts these certificates.
pub(crate) fn client_config(
    trusted: &Chain,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Failure> {
    let fault = |error: String| Failure::new(Exit::Configuration, error);
    let known: Vec<_> = trusted.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let mut store = RootCertStore::empty();
    // A bundle may have a certificate or two that nobody can read any more.
    store.add_parsable_certificates(known.iter().cloned());
    let signed = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone())
        .build()
        .map_err(|error| fault(format!("nobody can be trusted: {error}")))?;
    let verifier = Verifier { signed, known, provider: provider.clone() };
    by(Arc::new(verifier), provider).map_err(|error| fault(error.to_string()))
}

/// TLS for a client that takes what `verifier` takes.
pub(crate) fn by(
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Error> {
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Verifier {
    /// Takes what the trusted signed.
    signed: Arc<WebPkiServerVerifier>,
    /// The trusted themselves.
    known: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by_signature = self.signed.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let is_known = self.known.iter().any(|known| known == end_entity);
        by_signature
            .or_else(|error| match (is_known, Facts::of(end_entity)) {
                (true, Ok(facts)) if is_usable(&facts, now) => {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                    Ok(ServerCertVerified::assertion())
                }
                _ => Err(error),
            })
            .map_err(|error| match refusal(&error, end_entity, server_name, is_known, now) {
                Some(words) => Error::General(words),
                None => error,
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.signed.verify_tls12_signature(message, cert, dss);
        verified.map_err(|error| unsigned(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.signed.verify_tls13_signature(message, cert, dss);
        verified.map_err(|error| unsigned(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate that is known is valid now, and does not say of itself that it is for something else.
fn is_usable(facts: &Facts, now: UnixTime) -> bool {
    facts.is_valid_at(Duration::from_secs(now.as_secs())) && facts.for_servers
}

/// Why what a server signed the handshake with is not taken: its certificate was, but its key is weak or another.
fn unsigned(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let weakness = Facts::of(certificate).ok().and_then(|facts| facts.weakness());
    match (weakness, &error) {
        (Some(weakness), _) => Error::General(format!(
            "the server's certificate is too weak: {weakness}; make one with an ECDSA key"
        )),
        (None, Error::InvalidCertificate(CertificateError::BadSignature)) => Error::General(
            "the server does not have the key of the certificate that it shows".to_owned(),
        ),
        (None, _) => error,
    }
}

/// Why a certificate is refused and what to do about it. `None` where the library's own words are as good.
fn refusal(
    error: &Error,
    end_entity: &CertificateDer<'_>,
    name: &ServerName<'_>,
    is_known: bool,
    now: UnixTime,
) -> Option<String> {
    let Error::InvalidCertificate(error) = error else { return None };
    let name = name.to_str();
    let now = Duration::from_secs(now.as_secs());
    let Ok(facts) = Facts::of(end_entity) else {
        return Some("what the server shows is no certificate that can be read".to_owned());
    };
    // In the order in which somebody would mend it: what is wrong with the certificate whoever is trusted comes first.
    let text = if facts.version < 3 {
        format!(
            "the server's certificate is of X.509 version {}, which has no names to compare; make one of version 3, with -addext subjectAltName=DNS:{name}",
            facts.version
        )
    } else if now > facts.not_after {
        format!(
            "the server's certificate expired on {}; it has to be renewed",
            day(facts.not_after)
        )
    } else if now < facts.not_before {
        format!(
            "the server's certificate is not valid before {}; if that is over, the clock of this machine is wrong",
            day(facts.not_before)
        )
    } else if facts.alternative_names().next().is_none() {
        format!(
            "the server's certificate has no alternative names (subjectAltName), which alone are compared with {name}; make one with -addext subjectAltName=DNS:{name}"
        )
    } else if matches!(
        error,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ) {
        let names: Vec<_> = facts.alternative_names().map(ToString::to_string).collect();
        format!(
            "the server's certificate is for {}, not for {name}; use one of its names in the URL",
            names.join(", ")
        )
    } else if facts.unknown_critical {
        "the server's certificate has a critical extension that no client knows; it has to be left out, or not to be critical"
            .to_owned()
    } else if matches!(facts.key, Key::Other(_)) {
        "the server's certificate has a key of a kind that is not supported; use ECDSA P-256, Ed25519 or RSA with 2048 bits"
            .to_owned()
    } else if facts.weakness().is_some() {
        let weakness = facts.weakness().unwrap_or_default();
        format!("the server's certificate is too weak: {weakness}")
    } else if !facts.for_servers {
        "the server's certificate is not for servers (its extended key usage names other purposes)"
            .to_owned()
    } else if facts.is_authority && !is_known {
        "the server's certificate is an authority's own (CA:TRUE), and is not itself among those that are trusted; name its file by SSL_CERT_FILE, or make one with -addext basicConstraints=critical,CA:FALSE"
            .to_owned()
    } else if *error == CertificateError::UnknownIssuer {
        format!(
            "the server's certificate is signed by {:?}, whom this machine does not trust; name the certificate of that authority by SSL_CERT_FILE, and have the server send every certificate between",
            facts.issuer
        )
    } else {
        // What is left concerns the authorities.
        format!(
            "the server's certificate, or one that signed it, cannot be accepted: {}",
            plain(error)
        )
    };
    Some(text)
}

/// What an attempt at TLS failed of, in words: ours where we have some.
pub(crate) fn words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::General(words)) => words.clone(),
        Some(Error::InvalidMessage(_)) => {
            "the server does not speak TLS there; without TLS it is ws:// or http://".to_owned()
        }
        Some(Error::AlertReceived(alert)) => alerted(*alert),
        Some(other) => format!("TLS: {other}"),
        None => exit::plain(error),
    }
}

/// What a server says when it ends the connection (RFC 8446 §6.2).
#[expect(clippy::wildcard_enum_match_arm, reason = "those that have a remedy, and all others")]
fn alerted(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "the server wants a certificate of its clients, and these subcommands have none; ask it where it listens without, or use another client"
                .to_owned()
        }
        AlertDescription::ProtocolVersion => {
            "the server speaks none of the versions of TLS that are safe (1.2 and 1.3); it has to be updated"
                .to_owned()
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the server and this client have no way of encrypting in common; a certificate with an ECDSA P-256 or RSA key of 2048 bits and TLS 1.2 or 1.3 have"
                .to_owned()
        }
        AlertDescription::UnrecognisedName => {
            "the server has no certificate for this name; use one of its names in the URL".to_owned()
        }
        AlertDescription::NoApplicationProtocol => {
            "the server speaks no HTTP/1.1 there".to_owned()
        }
        other => format!(
            "the server ended the TLS handshake: {other:?}; its log or its certificate's key say why"
        ),
    }
}

/// The library's name for it as words.
fn plain(error: &CertificateError) -> String {
    if matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        return "an authority's certificate has expired".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_tls_are_words_with_a_remedy() {
        let told = |error: Error| words(&io::Error::new(io::ErrorKind::InvalidData, error));
        let alert = |alert| told(Error::AlertReceived(alert));
        for (text, part) in [
            (
                told(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
                "ws:// or http://",
            ),
            (alert(AlertDescription::CertificateRequired), "wants a certificate of its clients"),
            (alert(AlertDescription::ProtocolVersion), "has to be updated"),
            (alert(AlertDescription::UnrecognisedName), "use one of its names"),
            (alert(AlertDescription::DecryptError), "its log or its certificate's key say why"),
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
