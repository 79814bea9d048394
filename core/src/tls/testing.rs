//! Certificates and clients for tests: real ones.

use std::{
    io::{BufRead, Write},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};

use super::{Certified, Chain, ClientAuth, PrivateKey, RevocationLists, Server, suites};

/// One that signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) serial: SerialNumber,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn chain(&self) -> Chain {
        Chain::from_pem(self.pem().as_bytes()).unwrap()
    }

    /// A list of its certificates that are revoked, valid in 2026.
    pub(crate) fn revoke(&self, revoked: &[&Issued]) -> RevocationLists {
        let mut lists = RevocationLists::default();
        lists.add_pem(self.list(revoked).as_bytes()).unwrap();
        lists
    }

    /// That list as PEM.
    pub(crate) fn list(&self, revoked: &[&Issued]) -> String {
        let one = |issued: &&Issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: date_time_ymd(2026, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 2),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// For a server or a client with these alternative names; the first is the common name too. Valid in 2026.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::from(
            key.public_key_raw().iter().skip(1).take(8).copied().collect::<Vec<u8>>(),
        );
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }
}

impl Issued {
    pub(crate) fn certified(&self) -> Certified {
        let chain = Chain::from_pem(self.certificate.as_bytes()).unwrap();
        Certified::new(chain, &PrivateKey::from_pem(self.key.as_bytes()).unwrap()).unwrap()
    }

    /// As an application would set it up itself.
    pub(crate) fn config(&self) -> ServerConfig {
        let chain = Chain::from_pem(self.certificate.as_bytes()).unwrap();
        let key = PrivateKey::from_pem(self.key.as_bytes()).unwrap();
        ServerConfig::builder_with_provider(suites::provider())
            .with_protocol_versions(suites::VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.0, key.0)
            .unwrap()
    }

    pub(crate) fn server(&self) -> Server {
        Server::new(vec![self.certified()], &ClientAuth::Off).unwrap()
    }
}

/// What a client is set up with.
pub(crate) struct Setup<'a> {
    pub(crate) version: &'static SupportedProtocolVersion,
    pub(crate) trusts: &'a Authority,
    pub(crate) certificate: Option<&'a Issued>,
}

impl Setup<'_> {
    /// The same configuration keeps tickets for further connections.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.0.der().clone()).unwrap();
        // Certificates of the tests are good for the tests' year only, whenever they run.
        let builder = ClientConfig::builder_with_details(suites::provider(), Arc::new(InThatYear))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

#[derive(Debug)]
struct InThatYear;

impl TimeProvider for InThatYear {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_770_000_000)))
    }
}

/// A client's end.
pub(crate) struct Peer {
    pub(crate) tls: ClientConnection,
    /// What the server said.
    pub(crate) plain: Vec<u8>,
    /// What went wrong, if so: for example the alert that came.
    pub(crate) error: Option<rustls::Error>,
}

impl Peer {
    pub(crate) fn new(config: &Arc<ClientConfig>, name: &'static str) -> Self {
        let name = ServerName::try_from(name).unwrap();
        let tls = ClientConnection::new(config.clone(), name).unwrap();
        Self { tls, plain: Vec::new(), error: None }
    }

    pub(crate) fn say(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).unwrap();
    }

    /// What goes to the server now.
    pub(crate) fn wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut wire).unwrap();
        }
        wire
    }

    pub(crate) fn hear(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() && self.error.is_none() {
            if self.tls.read_tls(&mut wire).unwrap() == 0 {
                break;
            }
            if let Err(error) = self.tls.process_new_packets() {
                self.error = Some(error);
            }
            let mut reader = self.tls.reader();
            while let Ok(chunk) = reader.fill_buf() {
                if chunk.is_empty() {
                    break;
                }
                self.plain.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
        }
    }
}
