//! PEM documents (RFC 7468) with certificates and keys.

use std::fmt;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::certificate::{self, Facts};

/// Certificates in the order of their file: a server's own first, then who signed it. Or any number of authorities.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain(pub(super) Vec<CertificateDer<'static>>);

/// A private key: PKCS#8, PKCS#1 or SEC1. Never shown.
pub struct PrivateKey(pub(super) PrivateKeyDer<'static>);

/// Why a document is of no use. Never repeats what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemError {
    /// No `BEGIN CERTIFICATE`.
    NoCertificate,
    /// No private key of a known form.
    NoKey,
    /// The key is protected by a passphrase, and nobody is there to type it.
    Encrypted,
    /// A certificate where a key belongs.
    CertificateInstead,
    /// A key where a certificate belongs.
    KeyInstead,
    /// Not the format that its `BEGIN` line promises.
    Malformed,
}

impl Chain {
    /// All certificates of a document.
    ///
    /// # Errors
    ///
    /// None is there, or one cannot be read.
    pub fn from_pem(document: &[u8]) -> Result<Self, PemError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(document)
            .collect::<Result<_, pem::Error>>()
            .map_err(|_| PemError::Malformed)?;
        if certificates.is_empty() {
            let key = contains(document, b"PRIVATE KEY-----");
            return Err(if key { PemError::KeyInstead } else { PemError::NoCertificate });
        }
        Ok(Self(certificates))
    }

    /// The certificates, encoded (DER), in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// What each of them says.
    ///
    /// # Errors
    ///
    /// The place, counted from 1, of the first that cannot be read.
    pub fn facts(&self) -> Result<Vec<Facts>, usize> {
        let numbered = self.iter().zip(1..);
        numbered.map(|(der, place)| Facts::of(der).map_err(|_| place)).collect()
    }

    /// The place, counted from 1, of the first certificate that the next one did not sign. Clients that do not sort
    /// what they get cannot follow such a chain.
    #[must_use]
    pub fn break_in_order(&self) -> Option<usize> {
        let mut pairs = self.iter().zip(self.iter().skip(1)).zip(1..);
        pairs.find(|((one, next), _)| !certificate::is_signed_by(one, next)).map(|(_, at)| at)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none; never after [`from_pem`](Self::from_pem).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PrivateKey {
    /// The first private key of a document.
    ///
    /// # Errors
    ///
    /// There is none, it is encrypted, or it cannot be read.
    pub fn from_pem(document: &[u8]) -> Result<Self, PemError> {
        // PKCS#8 says so in its label, the older forms in a header (RFC 1421 §4.6.1.1).
        if contains(document, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(document, b"4,ENCRYPTED")
        {
            return Err(PemError::Encrypted);
        }
        match PrivateKeyDer::from_pem_slice(document) {
            Ok(key) => Ok(Self(key)),
            Err(pem::Error::NoItemsFound) if contains(document, b"BEGIN CERTIFICATE") => {
                Err(PemError::CertificateInstead)
            }
            Err(pem::Error::NoItemsFound) => Err(PemError::NoKey),
            Err(_) => Err(PemError::Malformed),
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} certificates)", self.0.len())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => {
                "has no certificate; use PEM, which has a BEGIN CERTIFICATE line"
            }
            Self::NoKey => "has no private key; use PEM, which has a BEGIN PRIVATE KEY line",
            Self::Encrypted => {
                "the key is encrypted; `openssl pkey -in FILE -out PLAIN` takes the passphrase off"
            }
            Self::CertificateInstead => "is a certificate, not a private key",
            Self::KeyInstead => "is a private key, not a certificate",
            Self::Malformed => "is damaged: not the format that its BEGIN line promises",
        })
    }
}

impl std::error::Error for PemError {}

fn contains(document: &[u8], part: &[u8]) -> bool {
    document.windows(part.len()).any(|window| window == part)
}
