//! TLS as it is served, and the certificates in the files behind it.

use std::io;

use mahavishnu_core::tls::Facts;
use rustls::{
    ClientConnection,
    pki_types::{CertificateDer, ServerName},
};

use super::{report::Check, site::Site};
use crate::{
    exit::{self, Exit, Failure},
    settings, tls, token, verify,
};

/// The certificate that is shown, and the files.
pub(super) fn checks(site: &Site) -> Vec<Check> {
    let days_min =
        site.inside.as_ref().map_or(DAYS_MIN, |inside| inside.loaded.settings.cert_min_days);
    let mut checks = Vec::new();
    if site.tls.is_some() {
        match shake_hands(site) {
            Ok(session) => checks.push(certificate(site, &session, days_min)),
            Err(failure) => {
                let remedy = "`openssl s_client -connect HOST:PORT -servername NAME -showcerts` shows what is served";
                checks.push(Check::failure(CERTIFICATE, &failure, remedy));
            }
        }
    } else if site.is_mutual {
        checks.push(Check::skipped(CERTIFICATE, MUTUAL));
    } else if settings::is_loopback(&site.target.host) {
        checks.push(Check::skipped(CERTIFICATE, "no TLS at this URL, which is of this machine"));
    } else {
        let remedy = "let a proxy terminate TLS, or set MAHAVISHNU_TLS_ENABLED=true: docs/tls.md";
        checks.push(Check::warn(
            CERTIFICATE,
            "no TLS: tokens and events can be read on the way",
            remedy,
        ));
    }
    checks.push(files(site, days_min));
    checks
}

/// What a handshake came to.
struct Session {
    chain: Vec<CertificateDer<'static>>,
    /// Version and suite.
    spoken: String,
}

fn shake_hands(site: &Site) -> Result<Session, Failure> {
    let url = site.target.http("");
    let broken = |error: &io::Error| {
        let text = match error.kind() == io::ErrorKind::InvalidData {
            true => verify::words(error),
            false => exit::plain(error),
        };
        Failure::new(Exit::General, format!("{url}: {text}"))
    };
    let name = ServerName::try_from(site.target.host.clone()).map_err(|_| {
        Failure::new(Exit::General, "no certificate can be for a server of this name")
    })?;
    let config = site.tls.clone().ok_or_else(|| Failure::new(Exit::General, "no TLS"))?;
    let mut connection = ClientConnection::new(config, name)
        .map_err(|error| Failure::new(Exit::General, error.to_string()))?;
    let mut socket = site.target.connect(site.timeout).map_err(|error| broken(&error))?;
    socket
        .set_read_timeout(Some(site.timeout))
        .and_then(|()| socket.set_write_timeout(Some(site.timeout)))
        .map_err(|error| broken(&error))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| broken(&error))?;
    }
    let version = connection.protocol_version().and_then(|version| version.as_str());
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    let spoken = format!("{}, {}", version.unwrap_or("TLS"), suite.unwrap_or("an unknown suite"));
    let chain = connection.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    connection.send_close_notify();
    let _ = connection.complete_io(&mut socket);
    Ok(Session { chain, spoken })
}

fn certificate(site: &Site, session: &Session, days_min: u32) -> Check {
    let now = token::unix_now();
    let facts: Vec<_> = session.chain.iter().filter_map(|der| Facts::of(der).ok()).collect();
    // A chain is as good as its first certificate to expire.
    let Some(end) = facts.iter().map(|facts| facts.not_after).min() else {
        return Check::fail(CERTIFICATE, "the server shows no certificate that can be read", "");
    };
    let days = tls::days_left(end, now);
    let trusted = match site.pinned {
        true => "is the one of its settings (give the URL of clients to check chain and name)",
        false => "is trusted and for this name",
    };
    let until = format!("until {}, {days} days", tls::day(end));
    let spoken = &session.spoken;
    if days < i64::from(days_min) {
        let found = format!("{trusted}, but only {until} ({spoken})");
        return Check::warn(CERTIFICATE, found, RENEW);
    }
    Check::ok(CERTIFICATE, format!("{trusted}, {until} ({spoken})"))
}

/// The files that the settings name. That they are what is served is known from the handshake, which takes no other.
fn files(site: &Site, days_min: u32) -> Check {
    let Some(inside) = &site.inside else { return Check::skipped(FILES, Site::outside()) };
    let settings = &inside.loaded.settings;
    if !settings.tls_enabled || settings.cert_file.is_empty() {
        return Check::skipped(FILES, "MAHAVISHNU_TLS_ENABLED or MAHAVISHNU_CERT_FILE is not set");
    }
    let surveyed = match tls::survey(settings, days_min) {
        Ok(surveyed) => surveyed,
        Err(failure) => return Check::failure(FILES, &failure, ""),
    };
    let problems: Vec<_> = surveyed.iter().flat_map(|one| one.problems.iter().cloned()).collect();
    if surveyed.iter().any(|one| one.exit == Exit::CertificateInvalid) {
        return Check::fail(FILES, problems.join("\n"), "`mahavishnu cert check` says more");
    }
    let days = surveyed.iter().map(|one| one.days).min().unwrap_or_default();
    if surveyed.iter().any(|one| one.exit == Exit::CertificateExpiring) {
        return Check::warn(FILES, format!("the first of them expires in {days} days"), RENEW);
    }
    if !problems.is_empty() {
        return Check::warn(FILES, problems.join("\n"), "`mahavishnu cert check` says more");
    }
    let count = surveyed.len();
    Check::ok(FILES, format!("{count} with the key of it, {days} days left"))
}

const CERTIFICATE: &str = "certificate";
const FILES: &str = "cert-files";
/// Why there is no handshake with a server that wants certificates of its clients.
pub(super) const MUTUAL: &str =
    "MAHAVISHNU_VERIFY_CLIENT: clients need a certificate, and `verify` shows none";
const RENEW: &str = "renew it, then `mahavishnu websocket reload` or the proxy's reload";
/// Days below which a certificate is said to expire soon, where no settings say.
const DAYS_MIN: u32 = 30;
