//! Whom the client subcommands trust: TLS to a server.

use std::{path::Path, sync::Arc};

use mahavishnu_core::tls::Chain;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
};

use crate::exit::{Exit, Failure, plain};

/// The certificates of authorities: those of `SSL_CERT_FILE`, else the system's.
pub(crate) fn roots() -> Result<Chain, Failure> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = Path::new(&path);
        let fault = |text: String| {
            Failure::new(Exit::Configuration, format!("{VARIABLE}: {}: {text}", path.display()))
        };
        let document = std::fs::read(path).map_err(|error| fault(plain(&error)))?;
        return Chain::from_pem(&document).map_err(|error| fault(error.to_string()));
    }
    let found = BUNDLES.iter().find_map(|path| Chain::from_pem(&std::fs::read(path).ok()?).ok());
    found.ok_or_else(|| {
        let text = format!("this system has no list of authorities; name one by {VARIABLE}");
        Failure::new(Exit::Configuration, text)
    })
}

/// What a connection is made with.
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, Failure> {
    let mut store = RootCertStore::empty();
    // A bundle may have a certificate or two that nobody can read any more.
    store.add_parsable_certificates(roots()?.iter().map(|der| CertificateDer::from(der.to_vec())));
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::new(Exit::General, error.to_string()))?;
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The cryptography of the server, too.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What OpenSSL and Python read.
const VARIABLE: &str = "SSL_CERT_FILE";

/// Debian and Alpine, Fedora, SUSE.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];
