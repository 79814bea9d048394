//! Certificates and keys from files, and what is wrong with them: one line each.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use mahavishnu_core::tls::{Certified, CertifiedError, Chain, Facts, PrivateKey, RevocationLists};
use zeroize::Zeroizing;

use super::{day, days_left};
use crate::{
    exit::{Exit, Failure},
    handed,
    settings::Settings,
};

pub(super) const CERT_FILE: &str = "MAHAVISHNU_CERT_FILE";
pub(super) const KEY_FILE: &str = "MAHAVISHNU_KEY_FILE";
const CA_FILE: &str = "MAHAVISHNU_CA_FILE";
const CRL_FILE: &str = "MAHAVISHNU_CRL_FILE";

/// A certificate and where its key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The pairs that the settings name.
pub(super) fn pairs(settings: &Settings) -> Vec<Pair> {
    let keys = if settings.key_file.is_empty() { &settings.cert_file } else { &settings.key_file };
    let pair = |(certificate, key): (&PathBuf, &PathBuf)| Pair {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    settings.cert_file.iter().zip(keys).map(pair).collect()
}

/// Reads a pair that a server is to use now. With it come warnings.
pub(super) fn read_pair(pair: &Pair, now: Duration) -> Result<(Certified, Vec<String>), Failure> {
    let chain = read_chain(CERT_FILE, &pair.certificate)?;
    let key = read_key(&pair.key)?;
    let certified = Certified::new(chain, &key).map_err(|error| {
        if matches!(error, CertifiedError::OldVersion | CertifiedError::UnknownCritical) {
            return fault(CERT_FILE, &pair.certificate, error);
        }
        fault(KEY_FILE, &pair.key, format!("{error}, {}", pair.certificate.display()))
    })?;
    if let Some(text) = certified.facts().first().and_then(|facts| out_of_time(facts, now)) {
        return Err(fault(CERT_FILE, &pair.certificate, text));
    }
    let mut warnings = Vec::new();
    if let Some(text) = open_to_all(&pair.key) {
        warnings.push(format!("{KEY_FILE}: {}: {text}", pair.key.display()));
    }
    Ok((certified, warnings))
}

/// Reads the certificates whose signatures count.
pub(super) fn read_authorities(path: &Path) -> Result<Chain, Failure> {
    read_chain(CA_FILE, path)
}

/// Reads revocation lists that are to count from now on.
pub(super) fn read_lists(
    paths: &[PathBuf],
    authorities: &Chain,
    now: Duration,
) -> Result<RevocationLists, Failure> {
    let mut lists = RevocationLists::default();
    for path in paths {
        let before = lists.facts().len();
        lists.add_pem(&read(CRL_FILE, path)?).map_err(|error| fault(CRL_FILE, path, error))?;
        for facts in lists.facts().iter().skip(before) {
            if let Some(next) = facts.next_update.filter(|next| now > *next) {
                let text = format!(
                    "the list of {} expired on {}; fetch the next one, then `mahavishnu websocket reload`",
                    facts.issuer,
                    day(next)
                );
                return Err(fault(CRL_FILE, path, text));
            }
        }
    }
    match (paths.last(), lists.missing(authorities)) {
        (Some(path), Some(authority)) => {
            let text = format!(
                "has no list of {authority}, which {CA_FILE} names; without one nobody whom it signed is let in"
            );
            Err(fault(CRL_FILE, path, text))
        }
        (_, Some(_) | None) => Ok(lists),
    }
}

pub(super) fn read_chain(name: &str, path: &Path) -> Result<Chain, Failure> {
    Chain::from_pem(&read(name, path)?).map_err(|error| fault(name, path, error))
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKey, Failure> {
    PrivateKey::from_pem(&read(KEY_FILE, path)?).map_err(|error| fault(KEY_FILE, path, error))
}

/// Why a certificate is of no use at this time, if so.
pub(super) fn out_of_time(facts: &Facts, now: Duration) -> Option<String> {
    if now > facts.not_after {
        let text = format!(
            "expired on {}; renew it, then `mahavishnu websocket reload`",
            day(facts.not_after)
        );
        Some(text)
    } else if now < facts.not_before {
        Some(format!(
            "is not valid before {}; if that is over, the clock of this machine is wrong",
            day(facts.not_before)
        ))
    } else {
        None
    }
}

/// A warning about a certificate that expires soon.
pub(super) fn expiring(pair: &Pair, facts: &[Facts], now: Duration, days: u32) -> Option<String> {
    let facts = facts.first()?;
    let left = days_left(facts.not_after, now);
    (left < i64::from(days)).then(|| {
        let path = pair.certificate.display();
        format!("{CERT_FILE}: {path}: expires on {}, in {left} days", day(facts.not_after))
    })
}

/// Warnings about a certificate that some clients refuse.
pub(super) fn peculiar(pair: &Pair, facts: &[Facts]) -> Vec<String> {
    let path = pair.certificate.display();
    let found = facts.first().map(Facts::peculiarities).unwrap_or_default();
    found.into_iter().map(|text| format!("{CERT_FILE}: {path}: {text}")).collect()
}

/// Why a key is not a secret, if so.
pub(super) fn open_to_all(path: &Path) -> Option<&'static str> {
    handed::is_open_to_all(path)
        .then_some("every user of this machine can read this key; `chmod 600` it")
}

fn read(name: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    handed::bytes(path).map_err(|refused| refused.of(name))
}

fn fault(name: &str, path: &Path, text: impl Display) -> Failure {
    Failure::new(Exit::Configuration, format!("{name}: {}: {text}", path.display()))
}
