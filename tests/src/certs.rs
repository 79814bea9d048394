//! Certificates for tests, in files.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

/// One that signs certificates, with a directory for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    /// Its own certificate.
    pub file: PathBuf,
    /// Numbers of the certificates that it has issued, by their file.
    serials: RefCell<BTreeMap<String, u64>>,
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
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = write(dir, &format!("{name}.pem"), &issuer.pem());
        Self { issuer, dir: dir.to_owned(), file, serials: RefCell::default() }
    }

    /// A certificate for `names`, the first of which is the common name too, valid from and to so many days from now.
    pub fn issue(&self, file: &str, names: &[&str], days: (i64, i64)) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("good names");
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        let dates = valid(days);
        (params.not_before, params.not_after) = (dates.not_before, dates.not_after);
        let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        self.serials.borrow_mut().insert(file.to_owned(), serial);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Files {
            certificate: write(&self.dir, &format!("{file}.pem"), &certificate.pem()),
            key: write(&self.dir, &format!("{file}-key.pem"), &key.serialize_pem()),
        }
    }

    /// A list with the certificates that were issued into these files; the next list is due so many days from now. It is
    /// written over what is there.
    pub fn revoke(&self, file: &str, revoked: &[&str], days: i64) -> PathBuf {
        let dates = valid((-40, days));
        let serials = self.serials.borrow();
        let one = |file: &&str| RevokedCertParams {
            serial_number: SerialNumber::from(serials[*file]),
            revocation_time: dates.not_before,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: dates.not_before,
            next_update: dates.not_after,
            crl_number: SerialNumber::from(NEXT_SERIAL.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        write(&self.dir, &format!("{file}.pem"), &list.pem().expect("PEM"))
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

/// Dates from and to so many days from now, in parameters that are good for nothing else.
fn valid(days: (i64, i64)) -> CertificateParams {
    let now = date_time_ymd(1970, 1, 1) + since_1970();
    let shifted = |days: i64| {
        let step = Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - step } else { now + step }
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (shifted(days.0), shifted(days.1));
    params
}

/// No two certificates of one process have the same number.
static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

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
