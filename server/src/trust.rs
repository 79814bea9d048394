//! Whom the client subcommands trust: TLS to a server.

use std::{path::Path, sync::Arc};

use mahavishnu_core::tls::Chain;
use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, aws_lc_rs},
};
use zeroize::Zeroizing;

use crate::{
    exit::{Exit, Failure},
    handed, verify,
};

/// The certificates of authorities: those of `SSL_CERT_FILE`, else the system's.
pub(crate) fn roots() -> Result<Chain, Failure> {
    bundle().map(|(chain, _)| chain)
}

/// The same, with the PEM document that they are from.
pub(crate) fn bundle() -> Result<(Chain, Zeroizing<Vec<u8>>), Failure> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = Path::new(&path);
        let fault = |text: String| {
            Failure::new(Exit::Configuration, format!("{VARIABLE}: {}: {text}", path.display()))
        };
        let document = handed::bytes(path).map_err(|refused| refused.of(VARIABLE))?;
        let chain = Chain::from_pem(&document).map_err(|error| fault(error.to_string()))?;
        return Ok((chain, document));
    }
    let read = |path: &&str| {
        let document = handed::bytes(Path::new(path)).ok()?;
        Some((Chain::from_pem(&document).ok()?, document))
    };
    BUNDLES.iter().find_map(read).ok_or_else(|| {
        let text = format!("this system has no list of authorities; name one by {VARIABLE}");
        Failure::new(Exit::Configuration, text)
    })
}

/// What a connection is made with.
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, Failure> {
    verify::client_config(&roots()?, provider())
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
