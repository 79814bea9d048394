//! `--auto-cert`: a certificate that this server makes for itself, for development.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use mahavishnu_core::tls::{Facts, Field};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::{
    days_left,
    files::{self, Pair},
};
use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};

/// The pair in `dir`, made now if there is none that will do.
pub(super) fn prepare(settings: &Settings, dir: &Path, now: Duration) -> Result<Pair, Failure> {
    let pair = Pair { certificate: certificate_path(dir), key: dir.join("auto-key.pem") };
    let names = names(settings);
    if will_do(&pair, &names, now, settings.cert_min_days) {
        return Ok(pair);
    }
    let (certificate, key) = make(&names, now).map_err(|error| {
        let text = format!(
            "MAHAVISHNU_AUTO_CERT_NAMES: no certificate can be made for {}: {error}",
            names.join(", ")
        );
        Failure::new(Exit::Configuration, text)
    })?;
    // The key first: a certificate without its key would look complete.
    for (path, text) in [(&pair.key, key), (&pair.certificate, certificate)] {
        write(path, &text).map_err(|error| Failure::io(path.display(), &error))?;
    }
    Ok(pair)
}

/// How clients come to trust the certificate in `dir`, for people.
pub(crate) fn trust_lines(dir: &Path, url: &str) -> Vec<String> {
    let path = certificate_path(dir);
    let path = path.display();
    vec![
        format!("curl --cacert {path} {url}/health"),
        format!("export SSL_CERT_FILE={path}        # Python, OpenSSL, mahavishnu"),
        format!("export NODE_EXTRA_CA_CERTS={path}  # Node"),
    ]
}

pub(super) fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("auto-cert.pem")
}

/// What the certificate is for, in order, each once.
fn names(settings: &Settings) -> Vec<String> {
    let wildcard = settings.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let host = (!wildcard).then(|| settings.host.clone());
    let fixed = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    for name in fixed.into_iter().chain(host).chain(settings.auto_cert_names.iter().cloned()) {
        let name = name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether the pair can be read, is for these names, and lasts.
fn will_do(pair: &Pair, names: &[String], now: Duration, days: u32) -> bool {
    let Ok((certified, _)) = files::read_pair(pair, now) else { return false };
    let Some(facts) = certified.facts().first() else { return false };
    // With more days wanted than it ever has, it would be made anew at each start.
    let days = i64::from(days).min(LIFETIME_DAYS / 2);
    days_left(facts.not_after, now) >= days && is_for(facts, names)
}

fn is_for(facts: &Facts, names: &[String]) -> bool {
    let own: Vec<_> = facts.alternative_names().collect();
    own.len() == names.len()
        && names.iter().all(|name| {
            let address = name.parse::<IpAddr>().ok();
            let (field, text) = match address {
                Some(address) => (Field::Ip, address.to_string()),
                None => (Field::Dns, name.clone()),
            };
            own.iter().any(|own| own.field == field && *own.value == *text)
        })
}

/// Certificate and key, PEM. The library tells addresses from names: a client compares each with its own kind.
fn make(names: &[String], now: Duration) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "Mahavishnu development");
    let today = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs());
    // Clocks of other machines may be a little behind.
    params.not_before = today - Duration::from_secs(3600);
    params.not_after = today + Duration::from_secs(LIFETIME_DAYS.unsigned_abs() * 86_400);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// By rename, for this user only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("pem.new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&draft, path)
}

/// Browsers refuse server certificates that last much longer than a year.
const LIFETIME_DAYS: i64 = 365;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::settings::testing::load;

    fn settings(names: &str) -> Settings {
        load(&[("TLS_ENABLED", "true"), ("AUTO_CERT", "true"), ("AUTO_CERT_NAMES", names)]).settings
    }

    fn now() -> Duration {
        super::super::now()
    }

    #[test]
    fn a_certificate_is_kept_until_it_no_longer_fits() {
        let dir = tempfile::tempdir().unwrap();
        let text = |pair: &Pair| std::fs::read_to_string(&pair.certificate).unwrap();
        let settings_a = settings("a.test,10.0.0.1");
        let pair = prepare(&settings_a, dir.path(), now()).unwrap();
        let first = text(&pair);
        prepare(&settings_a, dir.path(), now()).unwrap();
        assert_eq!(text(&pair), first, "kept");
        prepare(&settings("b.test"), dir.path(), now()).unwrap();
        let second = text(&pair);
        assert_ne!(second, first, "other names");
        let later = now() + Duration::from_secs(340 * 86_400);
        prepare(&settings("b.test"), dir.path(), later).unwrap();
        assert_ne!(text(&pair), second, "near its end");
        std::fs::write(&pair.key, "").unwrap();
        prepare(&settings("b.test"), dir.path(), later).unwrap();
        assert!(files::read_pair(&pair, later).is_ok(), "without a key");
    }

    #[test]
    fn names_and_addresses_are_of_their_kind_and_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let pair = prepare(&settings("A.test, 10.0.0.1"), dir.path(), now()).unwrap();
        let (certified, warnings) = files::read_pair(&pair, now()).unwrap();
        let names: Vec<_> =
            certified.facts()[0].alternative_names().map(ToString::to_string).collect();
        assert_eq!(names, ["dns:localhost", "ip:127.0.0.1", "ip:::1", "dns:a.test", "ip:10.0.0.1"]);
        assert!(warnings.is_empty(), "{warnings:?}");
        for path in [&pair.certificate, &pair.key] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
