//! The HTTP client of the subcommands, and its errors in an operator's words.

use std::{io, sync::Arc, time::Duration};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{
    exit::{Exit, Failure, plain},
    trust,
    url::Target,
};

/// A client that answers within `timeout` and goes straight to the server: a proxy would hide what it is asked for.
pub(crate) fn agent(timeout: Duration) -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
    config.max_redirects(0).max_redirects_will_error(false).proxy(None).build().into()
}

/// [`agent`] for `target`, which may want TLS.
pub(crate) fn agent_for(target: &Target, timeout: Duration) -> Result<ureq::Agent, Failure> {
    let plain = agent(timeout);
    if !target.tls {
        return Ok(plain);
    }
    let roots = trust::roots()?;
    let roots = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(trust::provider())
        .build();
    let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).tls_config(tls);
    let config =
        config.http_status_as_error(false).max_redirects(0).max_redirects_will_error(false);
    Ok(config.proxy(None).build().into())
}

/// What became of a request that got no answer.
pub(crate) fn failure(url: &str, error: &ureq::Error) -> Failure {
    let (exit, why) = if let ureq::Error::Io(error) = error {
        match error.kind() == io::ErrorKind::ConnectionRefused {
            true => (Exit::NotRunning, "nothing listens there (connection refused)".to_owned()),
            false => (Exit::General, plain(error)),
        }
    } else if matches!(error, ureq::Error::Timeout(_)) {
        (Exit::Timeout, "no answer in time".to_owned())
    } else {
        (Exit::General, error.to_string())
    };
    Failure::new(exit, format!("{url}: {why}"))
}
