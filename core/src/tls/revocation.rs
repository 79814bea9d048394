//! Certificate revocation lists (RFC 5280 §5): client certificates that are no longer good although they have not expired.

use std::{collections::BTreeSet, fmt, time::Duration};

use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{
    Chain, Identity, PemError,
    certificate::{self, Number},
    pem,
};

/// The lists of some authorities. Without any nothing is looked up.
#[derive(Clone, Default)]
pub struct RevocationLists {
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    facts: Vec<ListFacts>,
    /// Every certificate that is on a list.
    revoked: BTreeSet<Number>,
}

/// What one list says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// Whose list it is, for reading.
    pub issuer: String,
    /// When the next one is due, since the Unix epoch; `None` if it does not say.
    pub next_update: Option<Duration>,
    /// How many certificates are on it.
    pub revoked: usize,
    /// The issuer as it is encoded.
    raw_issuer: Box<[u8]>,
}

/// Why a document is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationListError {
    /// No `BEGIN X509 CRL`.
    Nothing,
    /// The list at this place, counted from 1, cannot be read.
    Unreadable(usize),
    /// The document is broken.
    Pem(PemError),
}

impl RevocationLists {
    /// Adds all lists of a document.
    ///
    /// # Errors
    ///
    /// None is there, or one cannot be read.
    pub fn add_pem(&mut self, document: &[u8]) -> Result<(), RevocationListError> {
        let before = self.lists.len();
        let lists = pem::revocation_lists(document).map_err(RevocationListError::Pem)?;
        for (list, place) in lists.into_iter().zip(1..) {
            self.read(&list).ok_or(RevocationListError::Unreadable(place))?;
            self.lists.push(list);
        }
        if self.lists.len() == before { Err(RevocationListError::Nothing) } else { Ok(()) }
    }

    fn read(&mut self, der: &[u8]) -> Option<()> {
        let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let raw_issuer: Box<[u8]> = list.issuer().as_raw().into();
        let serials = list.iter_revoked_certificates().map(|one| one.raw_serial().into());
        self.revoked.extend(serials.map(|serial| (raw_issuer.clone(), serial)));
        let time = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        self.facts.push(ListFacts {
            issuer: list.issuer().to_string(),
            next_update: list.next_update().map(|at| time(at.timestamp())),
            revoked: list.iter_revoked_certificates().count(),
            raw_issuer,
        });
        Some(())
    }

    /// What each of them says.
    #[must_use]
    pub fn facts(&self) -> &[ListFacts] {
        &self.facts
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// The first of these authorities that has no list here, for reading: nobody whom it signed would be let in.
    #[must_use]
    pub fn missing(&self, authorities: &Chain) -> Option<String> {
        authorities.iter().find_map(|der| {
            let (subject, raw) = certificate::subject(der).ok()?;
            let listed = self.facts.iter().any(|facts| *facts.raw_issuer == *raw);
            (!listed).then_some(subject)
        })
    }

    /// Whether a client's certificate is on a list.
    #[must_use]
    pub fn revokes(&self, identity: &Identity) -> bool {
        // Without a list, as everywhere by default, nothing is copied.
        !self.revoked.is_empty()
            && self.revoked.contains(&(identity.issuer.clone(), identity.serial.clone()))
    }
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RevocationLists").field(&self.facts).finish()
    }
}

impl fmt::Display for RevocationListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => {
                f.write_str("has no revocation list; use PEM, which has a BEGIN X509 CRL line")
            }
            Self::Pem(error) => error.fmt(f),
            Self::Unreadable(place) => write!(f, "list {place} of the file cannot be read"),
        }
    }
}

impl std::error::Error for RevocationListError {}
