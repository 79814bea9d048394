//! TLS as an operator sees it: files, a certificate for development, and what is wrong with them.

mod auto;
mod check;
mod files;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mahavishnu_core::tls::{ClientAuth, Server, ServerError};
use rustls::pki_types::CertificateDer;

pub(crate) use self::{
    auto::trust_lines,
    check::{check, survey},
};
use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};

/// What the settings come to: what TLS is served with, if at all, and what an operator should know about it.
pub(crate) struct Loaded {
    pub(crate) server: Option<Server>,
    pub(crate) warnings: Vec<String>,
}

/// Reads and checks every file that the settings name. `state_dir` is where a certificate for development is kept;
/// without it none is made.
///
/// # Errors
///
/// Everything that is wrong, one line each, with the file and what to do.
pub(crate) fn load(settings: &Settings, state_dir: Option<&Path>) -> Result<Loaded, Failure> {
    if !settings.tls_enabled {
        return Ok(Loaded { server: None, warnings: Vec::new() });
    }
    let now = now();
    let (mut warnings, mut problems) = (Vec::new(), Problems::default());
    let pairs = match (settings.cert_file.is_empty(), state_dir) {
        (false, _) => files::pairs(settings),
        (true, Some(dir)) => vec![auto::prepare(settings, dir, now)?],
        (true, None) => return Ok(Loaded { server: None, warnings }),
    };
    let mut certified = Vec::new();
    for pair in &pairs {
        match files::read_pair(pair, now) {
            Ok((one, noted)) => {
                warnings.extend(noted);
                warnings.extend(files::peculiar(pair, one.facts()));
                warnings.extend(files::expiring(pair, one.facts(), now, settings.cert_min_days));
                certified.push(one);
            }
            Err(failure) => problems.add(failure),
        }
    }
    let client_auth = match (settings.verify_client, &settings.ca_file) {
        (true, Some(path)) => match files::read_authorities(path) {
            Ok(authorities) => match files::read_lists(&settings.crl_file, &authorities, now) {
                Ok(revoked) => ClientAuth::Required { authorities, revoked },
                Err(failure) => {
                    problems.add(failure);
                    ClientAuth::Off
                }
            },
            Err(failure) => {
                problems.add(failure);
                ClientAuth::Off
            }
        },
        (true, None) | (false, _) => ClientAuth::Off,
    };
    problems.result()?;
    let server = Server::new(certified, &client_auth).map_err(|error| {
        // Only what a file is wrong about is known to come of these settings.
        let (name, path) = if error == ServerError::RevocationList {
            ("MAHAVISHNU_CRL_FILE", settings.crl_file.first())
        } else {
            ("MAHAVISHNU_CA_FILE", settings.ca_file.as_ref())
        };
        let path = path.map_or_else(|| Path::new("-"), PathBuf::as_path).display();
        Failure::new(Exit::Configuration, format!("{name}: {path}: {error}"))
    })?;
    Ok(Loaded { server: Some(server), warnings })
}

/// The certificates that a server with these settings and this state directory presents, its own alone.
pub(crate) fn own_certificates(
    settings: &Settings,
    state_dir: &Path,
) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let auto = auto::certificate_path(state_dir);
    let paths = if settings.cert_file.is_empty() { vec![auto] } else { settings.cert_file.clone() };
    let mut own = Vec::new();
    for path in &paths {
        let chain = files::read_chain(files::CERT_FILE, path)?;
        own.extend(chain.iter().next().map(|der| CertificateDer::from(der.to_vec())));
    }
    Ok(own)
}

/// Failures of several files as one.
#[derive(Default)]
struct Problems {
    exit: Option<Exit>,
    lines: Vec<String>,
}

impl Problems {
    fn add(&mut self, failure: Failure) {
        // What only this user may not do is another matter than what is wrong for everybody.
        let same = self.exit.is_none_or(|exit| exit == failure.exit);
        self.exit = Some(if same { failure.exit } else { Exit::Configuration });
        self.lines.extend(failure.lines);
    }

    fn result(self) -> Result<(), Failure> {
        match self.exit {
            Some(exit) => Err(Failure { exit, lines: self.lines }),
            None => Ok(()),
        }
    }
}

/// Since the Unix epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A day as people write it, UTC.
pub(crate) fn day(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| "a day without a name".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}

/// Whole days until `unix`; negative if it is over.
pub(crate) fn days_left(unix: Duration, now: Duration) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    (seconds(unix) - seconds(now)).div_euclid(86_400)
}
