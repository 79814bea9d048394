//! Certificates for tests, in files.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// One that signs certificates, with a directory for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    /// Its own certificate.
    pub file: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
}

impl Authority {
    /// Writes its certificate into `dir`, under `name`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = write(dir, &format!("{name}.pem"), &issuer.pem());
        Self { issuer, dir: dir.to_owned(), file }
    }

    /// A certificate for `names`, the first of which is the common name too, valid from and to so many days from now.
    pub fn issue(&self, file: &str, names: &[&str], days: (i64, i64)) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("good names");
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        let now = date_time_ymd(1970, 1, 1) + since_1970();
        let shifted = |days: i64| {
            let step = Duration::from_secs(days.unsigned_abs() * 86_400);
            if days < 0 { now - step } else { now + step }
        };
        (params.not_before, params.not_after) = (shifted(days.0), shifted(days.1));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Files {
            certificate: write(&self.dir, &format!("{file}.pem"), &certificate.pem()),
            key: write(&self.dir, &format!("{file}-key.pem"), &key.serialize_pem()),
        }
    }

    /// A certificate for a server on this machine, valid for a year.
    pub fn server(&self, file: &str) -> Files {
        self.issue(file, &["localhost", "127.0.0.1"], (-1, 365))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Files {
    /// Settings that serve TLS with them.
    pub fn settings(&self) -> Vec<(&str, &str)> {
        vec![
            ("TLS_ENABLED", "true"),
            ("CERT_FILE", text(&self.certificate)),
            ("KEY_FILE", text(&self.key)),
        ]
    }
}

/// A path of these tests as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Duration::from_secs(now.as_secs())
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).expect("its directory is ours");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    path
}
