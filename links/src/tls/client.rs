//! The client's end of TLS: authorities, the own certificate, and a clock that the link sets.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use zeroize::Zeroizing;

/// What a link has to know of TLS. Cheap to clone; equal if it was made of the same documents.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    config: Arc<ClientConfig>,
    clock: Arc<Clock>,
    name: Option<ServerName<'static>>,
    /// What it was made of.
    documents: Documents,
}

#[derive(PartialEq, Eq)]
struct Documents {
    authorities: Box<[u8]>,
    chain: Option<Box<[u8]>>,
    key: Option<Zeroizing<Vec<u8>>>,
}

/// Why a client cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The document of authorities holds no certificate that could be one of an authority.
    Authorities,
    /// The own certificate cannot be read.
    Certificate,
    /// The own key cannot be read.
    Key,
    /// The own certificate and key do not belong together, or are of a kind that TLS has no use for.
    Mismatch,
    /// The server's name is neither a DNS name nor an address.
    Name,
    /// The cryptographic library refuses.
    Library,
}

impl Client {
    /// From PEM documents: the authorities whose signatures count, and for servers that ask for it the own certificate, its
    /// chain behind it, and its key. `name` is what the server's certificate must be for; `None`: the host that is connected
    /// to.
    ///
    /// # Errors
    ///
    /// Which of them cannot be used.
    pub fn new(
        authorities: &[u8],
        own: Option<(&[u8], &[u8])>,
        name: Option<&str>,
    ) -> Result<Self, ClientError> {
        let documents: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities).collect();
        let mut roots = RootCertStore::empty();
        // A system's bundle may have one or two that are of no use any more.
        roots.add_parsable_certificates(documents.map_err(|_| ClientError::Authorities)?);
        if roots.is_empty() {
            return Err(ClientError::Authorities);
        }
        let name = name.map(server_name).transpose()?;
        let clock = Arc::new(Clock::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, clock.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|_| ClientError::Library)?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain = chain.ok().filter(|chain| !chain.is_empty());
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| ClientError::Key)?;
                builder
                    .with_client_auth_cert(chain.ok_or(ClientError::Certificate)?, key)
                    .map_err(|_| ClientError::Mismatch)?
            }
        };
        // A link connects seldom, and each time in full.
        config.resumption = Resumption::disabled();
        let documents = Documents {
            authorities: authorities.into(),
            chain: own.map(|(chain, _)| chain.into()),
            key: own.map(|(_, key)| Zeroizing::new(key.to_vec())),
        };
        Ok(Self(Arc::new(Inner { config: Arc::new(config), clock, name, documents })))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.0.config.clone()
    }

    /// What the certificate of a server must be for.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, ClientError> {
        self.0.name.clone().map_or_else(|| server_name(host), Ok)
    }

    /// What certificates are compared with from now on: time since the Unix epoch.
    pub(super) fn set_time(&self, unix: Duration) {
        self.0.clock.0.store(unix.as_secs(), Ordering::Relaxed);
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ClientError> {
    ServerName::try_from(name.to_owned()).map_err(|_| ClientError::Name)
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.0.documents == other.0.documents && self.0.name == other.0.name
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certified = self.0.documents.chain.is_some();
        f.debug_struct("Client").field("name", &self.0.name).field("certified", &certified).finish()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorities => "the file of authorities has no certificate that can be read",
            Self::Certificate => "the own certificate cannot be read",
            Self::Key => "the own key cannot be read",
            Self::Mismatch => {
                "the own certificate and key do not belong together, or TLS has no use for them"
            }
            Self::Name => "the server's name is neither a DNS name nor an address",
            Self::Library => "the cryptographic library refuses",
        })
    }
}

impl std::error::Error for ClientError {}

/// The time as the link was last told: rustls would read the system's clock.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}
