//! PEM documents (RFC 7468) with certificates and keys.

use std::fmt;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};

pub use super::blocks::PemFault;
use super::{
    blocks::{Block, Kind, blocks},
    certificate::{self, Facts},
};

/// Certificates in the order of their file: a server's own first, then who signed it. Or any number of authorities.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain(pub(super) Vec<CertificateDer<'static>>);

/// A private key: PKCS#8, PKCS#1 or SEC1. Never shown.
pub struct PrivateKey(pub(super) PrivateKeyDer<'static>);

/// Why a document is of no use. Never repeats what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Two different keys, on these lines: which one is meant?
    SeveralKeys(usize, usize),
    /// A key of a form that TLS has no use for.
    OtherKey,
    /// DER or PKCS #12.
    Binary,
    /// Text in UTF-16.
    Utf16,
    /// Something is broken on this line, counted from 1.
    Broken(usize, PemFault),
}

impl Chain {
    /// All certificates of a document. Other blocks beside them are passed over.
    ///
    /// # Errors
    ///
    /// None is there, one cannot be read, or something in the document is broken: then a certificate may be missing.
    pub fn from_pem(document: &[u8]) -> Result<Self, PemError> {
        let blocks = read(document)?;
        let mut certificates = Vec::new();
        for block in &blocks {
            match block.kind() {
                Kind::Certificate => {
                    certificates.push(CertificateDer::from(block.decode().map_err(broken)?.1));
                }
                Kind::TrustedCertificate => {
                    return Err(PemError::Broken(block.line, PemFault::Trusted));
                }
                Kind::Pkcs7 => return Err(PemError::Broken(block.line, PemFault::Pkcs7)),
                Kind::Key
                | Kind::EncryptedKey
                | Kind::OtherKey
                | Kind::RevocationList
                | Kind::Other => {}
            }
        }
        if certificates.is_empty() {
            let key = blocks.iter().any(|block| {
                matches!(block.kind(), Kind::Key | Kind::EncryptedKey | Kind::OtherKey)
            });
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
    /// The private key of a document. Other blocks beside it are passed over.
    ///
    /// # Errors
    ///
    /// There is none, or there are several; it is encrypted, or cannot be read.
    pub fn from_pem(document: &[u8]) -> Result<Self, PemError> {
        let blocks = read(document)?;
        let has = |kind| blocks.iter().any(|block| block.kind() == kind);
        if has(Kind::EncryptedKey) {
            return Err(PemError::Encrypted);
        }
        let mut found: Option<(usize, PrivateKeyDer<'static>)> = None;
        for block in blocks.iter().filter(|block| block.kind() == Kind::Key) {
            let (kind, der) = block.decode().map_err(broken)?;
            let key = PrivateKeyDer::from_pem(kind, der)
                .ok_or(PemError::Broken(block.line, PemFault::Der))?;
            match &found {
                Some((line, first)) if *first != key => {
                    return Err(PemError::SeveralKeys(*line, block.line));
                }
                Some(_) => {}
                None => found = Some((block.line, key)),
            }
        }
        match found {
            Some((_, key)) => Ok(Self(key)),
            None if has(Kind::OtherKey) => Err(PemError::OtherKey),
            None if has(Kind::Certificate) => Err(PemError::CertificateInstead),
            None => Err(PemError::NoKey),
        }
    }
}

/// The revocation lists of a document.
pub(super) fn revocation_lists(
    document: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let blocks = read(document)?;
    let lists = blocks.iter().filter(|block| block.kind() == Kind::RevocationList);
    lists.map(|list| Ok(list.decode().map_err(broken)?.1.into())).collect()
}

fn read(document: &[u8]) -> Result<Vec<Block<'_>>, PemError> {
    match document {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Err(PemError::Utf16),
        // A SEQUENCE with a length of several bytes, or of none.
        [0x30, 0x80..=0xff, ..] => Err(PemError::Binary),
        _ => blocks(document).map_err(broken),
    }
}

fn broken((line, fault): (usize, PemFault)) -> PemError {
    PemError::Broken(line, fault)
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
            Self::SeveralKeys(one, other) => {
                return write!(
                    f,
                    "has two private keys, on lines {one} and {other}; leave the one that belongs to the certificate"
                );
            }
            Self::OtherKey => {
                "has a private key of another form; use PKCS #8: a BEGIN PRIVATE KEY line"
            }
            Self::Binary => {
                "is binary (DER or PKCS #12); `openssl x509`, `pkey` or `crl` with `-inform DER`, or `openssl pkcs12 -nodes`, make PEM of it"
            }
            Self::Utf16 => "is UTF-16; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)",
            Self::Broken(line, fault) => return write!(f, "line {line}: {fault}"),
        })
    }
}

impl std::error::Error for PemError {}
