//! The server's end of TLS: certificates by name, client authorities, tickets, and a clock that the hub sets.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::UnixTime,
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
        WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    time_provider::TimeProvider,
};

use super::{
    certificate::{Facts, Key},
    identity::{Field, Identity, Name},
    pem::{Chain, PrivateKey},
    revocation::RevocationLists,
    suites,
};

/// A certificate with its chain and its key: known to belong together.
#[derive(Clone)]
pub struct Certified {
    key: Arc<CertifiedKey>,
    /// Of the whole chain, the server's own first.
    facts: Vec<Facts>,
}

/// Why a certificate and a key cannot be used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertifiedError {
    /// The certificate at this place of the chain, counted from 1, cannot be read.
    Unreadable(usize),
    /// The key is of a kind or size that TLS as spoken here has no use for; the certificate's is of this kind.
    UnsupportedKey(Key),
    /// The key is not the one that the certificate names.
    Mismatch,
    /// The certificate has a critical extension that is not known, so that nobody may accept it.
    UnknownCritical,
    /// The certificate is of an X.509 version before the third, which TLS as spoken here has no use for.
    OldVersion,
}

/// What is asked of clients.
#[derive(Clone, Debug, Default)]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    Off,
    /// A certificate that one of the authorities signed. Without one the handshake fails.
    Required {
        /// Whose signatures count.
        authorities: Chain,
        /// Which of their certificates do not, if there are lists: then there must be one of each authority.
        revoked: RevocationLists,
    },
}

/// Everything that a TLS handshake needs. Cheap to clone; replaced as a whole on reload.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    config: Arc<ServerConfig>,
    clock: Arc<Clock>,
    /// Own certificates, without their chains.
    facts: Vec<Facts>,
    verifies_clients: bool,
    revoked: RevocationLists,
}

/// Why a server cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerError {
    /// There is no certificate.
    NoCertificate,
    /// The client authority at this place of its file, counted from 1, cannot be used.
    Authority(usize),
    /// A revocation list cannot be used.
    RevocationList,
    /// The cryptographic library refuses.
    Library,
    /// An application's own configuration agrees on another protocol than HTTP/1.1 (ALPN, RFC 7301), which is all that is
    /// spoken here.
    Protocol,
    /// An application's own configuration takes early data (RFC 8446 §8), which whoever has recorded it can send again.
    EarlyData,
}

impl Certified {
    /// Puts a chain and its key together.
    ///
    /// # Errors
    ///
    /// They do not belong together, or one of them cannot be used.
    pub fn new(chain: Chain, key: &PrivateKey) -> Result<Self, CertifiedError> {
        let facts = chain.facts().map_err(CertifiedError::Unreadable)?;
        if facts.first().is_some_and(|own| own.version < 3) {
            return Err(CertifiedError::OldVersion);
        }
        if facts.first().is_some_and(|own| own.unknown_critical) {
            return Err(CertifiedError::UnknownCritical);
        }
        let kind = facts.first().map_or(Key::Other("an unknown algorithm"), |own| own.key);
        let key = aws_lc_rs::sign::any_supported_type(&key.0)
            .map_err(|_| CertifiedError::UnsupportedKey(kind))?;
        let key = CertifiedKey::new(chain.0, key);
        key.keys_match().map_err(|_| CertifiedError::Mismatch)?;
        Ok(Self { key: Arc::new(key), facts })
    }

    /// What the certificates of the chain say, the server's own first; never empty.
    #[must_use]
    pub fn facts(&self) -> &[Facts] {
        &self.facts
    }

    fn suits(&self, hello: &ClientHello<'_>) -> bool {
        self.key.key.choose_scheme(hello.signature_schemes()).is_some()
    }

    fn is_for(&self, name: &str) -> bool {
        let own = self.facts.first().into_iter().flat_map(Facts::alternative_names);
        own.into_iter().any(|own| covers(own, name))
    }
}

impl Server {
    /// A server with these certificates. The first is for clients that name no server, or one that none is for.
    ///
    /// # Errors
    ///
    /// What is missing or cannot be used.
    pub fn new(
        certificates: Vec<Certified>,
        client_auth: &ClientAuth,
    ) -> Result<Self, ServerError> {
        let facts: Vec<_> =
            certificates.iter().filter_map(|one| one.facts.first().cloned()).collect();
        if facts.is_empty() {
            return Err(ServerError::NoCertificate);
        }
        let provider = suites::provider();
        let clock = Arc::new(Clock::default());
        let builder = ServerConfig::builder_with_details(provider.clone(), clock.clone())
            .with_protocol_versions(suites::VERSIONS)
            .map_err(|_| ServerError::Library)?;
        let builder = match client_auth {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::Required { authorities, revoked } => {
                builder.with_client_cert_verifier(verifier(authorities, revoked, provider)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(certificates)));
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        // Tickets keep a session's state at the client: nothing is stored here, whatever the number of clients. The keys
        // are made with each configuration, so that a session does not outlive the authorities that let it in.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|_| ServerError::Library)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let (verifies_clients, revoked) = match client_auth {
            ClientAuth::Off => (false, RevocationLists::default()),
            ClientAuth::Required { revoked, .. } => (true, revoked.clone()),
        };
        let config = Arc::new(config);
        Ok(Self(Arc::new(Inner { config, clock, facts, verifies_clients, revoked })))
    }

    /// A server with an application's own configuration: its resolver of certificates, its verifier of clients, its provider
    /// of cryptography, its tickets. What the client's certificate says is told as ever if the verifier asks for one.
    /// `certificates` are those that `/ready` and the metrics tell the expiry of; none is told if there are none. The
    /// configuration's clock is its own. Revoking certificates is its verifier's business, for new connections only.
    ///
    /// Put in force by a reload, it holds for new connections. With the crate's features there is one version of rustls:
    /// [`rustls`].
    ///
    /// # Errors
    ///
    /// [`ServerError::Protocol`]: it agrees on something else than HTTP/1.1. [`ServerError::EarlyData`].
    pub fn from_config(
        config: Arc<ServerConfig>,
        certificates: Vec<Facts>,
    ) -> Result<Self, ServerError> {
        if config.alpn_protocols.iter().any(|protocol| protocol != HTTP_1_1) {
            return Err(ServerError::Protocol);
        }
        if config.max_early_data_size > 0 {
            return Err(ServerError::EarlyData);
        }
        let clock = Arc::default();
        let revoked = RevocationLists::default();
        let facts = certificates;
        Ok(Self(Arc::new(Inner { config, clock, facts, verifies_clients: false, revoked })))
    }

    /// The server's certificates, without their chains.
    #[must_use]
    pub fn certificates(&self) -> &[Facts] {
        &self.0.facts
    }

    /// When the first of the server's certificates expires, since the Unix epoch. `None` if none is known.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        self.0.facts.iter().map(|facts| facts.not_after).min()
    }

    /// Whether clients must have a certificate. False for an application's own configuration, which does not say.
    #[must_use]
    pub fn verifies_clients(&self) -> bool {
        self.0.verifies_clients
    }

    /// Whether a client's certificate is on a revocation list, for connections that were there before the list.
    #[must_use]
    pub fn revokes(&self, identity: &Identity) -> bool {
        self.0.revoked.revokes(identity)
    }

    /// A new connection's state.
    pub(super) fn connect(&self) -> Option<ServerConnection> {
        ServerConnection::new(self.0.config.clone()).ok()
    }

    /// What certificates and tickets are compared with from now on: time since the Unix epoch. A hub does this itself.
    pub fn set_time(&self, unix: Duration) {
        self.0.clock.0.store(unix.as_secs(), Ordering::Relaxed);
    }
}

/// What is agreed on (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// An old list still counts: it knows more than none. Whoever reads lists from files sees to their age.
fn verifier(
    authorities: &Chain,
    revoked: &RevocationLists,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ServerError> {
    let mut roots = RootCertStore::empty();
    for (place, authority) in authorities.0.iter().enumerate() {
        roots.add(authority.clone()).map_err(|_| ServerError::Authority(place + 1))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let built = builder.with_crls(revoked.lists.iter().cloned()).build();
    built.map_err(|error| {
        let list = matches!(error, VerifierBuilderError::InvalidCrl(_));
        if list { ServerError::RevocationList } else { ServerError::Library }
    })
}

/// Chooses by the name that the client asks for (RFC 6066 §3) and by the signatures that it understands.
#[derive(Debug)]
struct ByName(Vec<Certified>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named =
            name.and_then(|name| self.0.iter().find(|one| one.is_for(&name) && one.suits(&hello)));
        let chosen = named.or_else(|| self.0.iter().find(|one| one.suits(&hello)));
        chosen.map(|one| one.key.clone())
    }
}

/// Whether a certificate's name stands for `name`, which is in lower case. A wildcard stands for one label (RFC 9525 §6.3).
fn covers(own: &Name, name: &str) -> bool {
    if own.field != Field::Dns {
        return false;
    }
    match own.value.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => *own.value == *name,
    }
}

/// The time as the hub was last told: rustls would read the system's clock.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certified").field(&self.facts).finish()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("certificates", &self.0.facts)
            .field("verifies_clients", &self.0.verifies_clients)
            .finish()
    }
}

impl fmt::Display for CertifiedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(place) => write!(f, "certificate {place} of the file cannot be read"),
            Self::UnsupportedKey(key) => write!(
                f,
                "the key cannot be used (the certificate's is {key}); use RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519",
            ),
            Self::Mismatch => f.write_str("the key does not belong to the certificate"),
            Self::UnknownCritical => f.write_str(
                "the certificate has a critical extension that no client knows, so that all refuse it; leave the extension out, or make it not critical",
            ),
            Self::OldVersion => f.write_str(
                "the certificate is of an X.509 version before 3, which cannot be used; make one of version 3 (with `openssl x509 -req` give an -extfile that has subjectAltName)",
            ),
        }
    }
}

impl std::error::Error for CertifiedError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("there is no certificate"),
            Self::Authority(place) => write!(f, "certificate {place} of the file cannot be used"),
            Self::RevocationList => f.write_str("a revocation list cannot be used"),
            Self::Library => f.write_str("the cryptographic library refuses"),
            Self::Protocol => f.write_str(
                "the configuration has protocols (ALPN) besides http/1.1, which is the only one that is spoken here",
            ),
            Self::EarlyData => f.write_str(
                "the configuration takes early data, which can be sent again: set max_early_data_size to 0",
            ),
        }
    }
}

impl std::error::Error for ServerError {}
