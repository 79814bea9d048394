//! What a certificate says (RFC 5280).

use std::{fmt, net::IpAddr, time::Duration};

use x509_parser::{
    certificate::X509Certificate,
    oid_registry::{
        OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_MD5WITHRSAENC,
        OID_PKCS1_SHA1WITHRSA, OID_SIG_ED25519, Oid,
    },
    prelude::{FromDer, GeneralName},
    public_key::PublicKey,
    x509::X509Name,
};

use super::identity::{Field, Identity, Name};

/// What one certificate says of itself. Nothing here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whom it names, for reading: `CN=ws.example.com, O=Example`.
    pub subject: String,
    /// Who signed it, in the same form.
    pub issuer: String,
    /// Valid from here on, since the Unix epoch; earlier times are zero.
    pub not_before: Duration,
    /// The last moment of its validity.
    pub not_after: Duration,
    /// Names: the alternative names (RFC 5280 §4.2.1.6), then what the subject has.
    pub names: Vec<Name>,
    /// The key that it certifies.
    pub key: Key,
    /// Signed with a hash that can be forged: MD5 or SHA-1.
    pub weak_hash: bool,
    /// Signed by its own subject.
    pub self_issued: bool,
    /// Whether it may sign others (RFC 5280 §4.2.1.9).
    pub is_authority: bool,
    /// Version of X.509, from 1. Extensions, alternative names among them, are of version 3.
    pub version: u32,
    /// Whether it may be a server's: no extended key usage (RFC 5280 §4.2.1.12), or one that says so.
    pub for_servers: bool,
    /// Whether its key may sign handshakes: no key usage (RFC 5280 §4.2.1.3), or one that says so.
    pub for_signatures: bool,
    /// Whether an extension that is not known here is marked critical: nobody may accept it then (RFC 5280 §4.2).
    pub unknown_critical: bool,
}

/// A public key's kind and size in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// ECDSA on a NIST curve of so many bits.
    Ecdsa(usize),
    /// Ed25519.
    Ed25519,
    /// Something that TLS as spoken here does not use, by its name if that is known.
    Other(&'static str),
}

/// Not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Facts {
    /// Reads an encoded certificate (DER).
    ///
    /// # Errors
    ///
    /// It is not one.
    pub fn of(der: &[u8]) -> Result<Self, Unreadable> {
        let certificate = parse(der)?;
        let time = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let algorithm = &certificate.signature_algorithm.algorithm;
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            names: names(&certificate),
            key: Key::of(&certificate),
            weak_hash: [OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA].contains(algorithm)
                || algorithm.to_id_string() == ECDSA_WITH_SHA1,
            self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            is_authority: certificate.is_ca(),
            version: certificate.version().0 + 1,
            for_servers: purposes(&certificate),
            for_signatures: certificate
                .key_usage()
                .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.digital_signature())),
            unknown_critical: certificate
                .extensions()
                .iter()
                .any(|extension| extension.critical && extension.parsed_extension().unsupported()),
        })
    }

    /// The alternative names alone: what clients compare a server's name with.
    pub fn alternative_names(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().filter(|name| name.field.is_alternative())
    }

    /// Why this certificate protects less than it seems to, if so.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        match self.key {
            Key::Rsa(bits) if bits < 2048 => Some("its RSA key has less than 2048 bits"),
            Key::Ecdsa(bits) if bits < 256 => Some("its elliptic curve has less than 256 bits"),
            _ if self.weak_hash && !self.self_issued => Some("it is signed with MD5 or SHA-1"),
            Key::Rsa(_) | Key::Ecdsa(_) | Key::Ed25519 | Key::Other(_) => None,
        }
    }

    /// What is unusual in a server's certificate: which clients refuse it, and what to do. In the words of an operator.
    #[must_use]
    pub fn peculiarities(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        if self.version < 3 {
            found.push(
                "is of an old version of X.509, which has no alternative names: browsers, Go and rustls refuse it; make one of version 3 (with `openssl x509 -req` give an -extfile)",
            );
        } else if self.alternative_names().next().is_none() {
            found.push(
                "has no alternative names: browsers, Go and rustls refuse it, curl, Python and Node take its common name for a host's, and refuse every address; make one with -addext subjectAltName=DNS:…",
            );
        }
        if self.is_authority {
            found.push(
                "is an authority's own (CA:TRUE): rustls refuses it unless it knows that very certificate; curl, Python and Node take it; make one with -addext basicConstraints=critical,CA:FALSE",
            );
        }
        if !self.for_servers {
            found.push("is not for servers: its extended key usage names other purposes");
        }
        if !self.for_signatures {
            found.push(
                "has a key usage without digitalSignature, which every TLS 1.3 handshake needs",
            );
        }
        found
    }

    /// Whether it is valid at `unix`.
    #[must_use]
    pub fn is_valid_at(&self, unix: Duration) -> bool {
        self.not_before <= unix && unix <= self.not_after
    }
}

impl Identity {
    /// From a certificate that was verified.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let facts = Facts::of(der).ok()?;
        let (issuer, serial) = number(der).ok()?;
        Some(Self { subject: facts.subject.into(), names: facts.names, issuer, serial })
    }
}

impl Key {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let info = certificate.public_key();
        if info.algorithm.algorithm == OID_SIG_ED25519 {
            return Self::Ed25519;
        }
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Self::Rsa(key.key_size()),
            Ok(PublicKey::EC(_)) => match curve {
                Some(ref curve) if *curve == OID_EC_P256 => Self::Ecdsa(256),
                Some(ref curve) if *curve == OID_NIST_EC_P384 => Self::Ecdsa(384),
                Some(ref curve) if *curve == OID_NIST_EC_P521 => Self::Ecdsa(521),
                _ => other(&info.algorithm.algorithm, curve.as_ref()),
            },
            Ok(
                PublicKey::DSA(_)
                | PublicKey::GostR3410(_)
                | PublicKey::GostR3410_2012(_)
                | PublicKey::Unknown(_),
            )
            | Err(_) => other(&info.algorithm.algorithm, None),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ecdsa(bits) => write!(f, "ECDSA P-{bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a certificate")
    }
}

impl std::error::Error for Unreadable {}

/// Whether the key of `signer` made the signature of `certificate`, and the names agree.
pub(super) fn is_signed_by(certificate: &[u8], signer: &[u8]) -> bool {
    let (Ok(certificate), Ok(signer)) = (parse(certificate), parse(signer)) else { return false };
    certificate.issuer().as_raw() == signer.subject().as_raw()
        && certificate.verify_signature(Some(signer.public_key())).is_ok()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Unreadable> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

/// Whether its extended key usage, if it has one, allows servers.
fn purposes(certificate: &X509Certificate<'_>) -> bool {
    certificate
        .extended_key_usage()
        .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.server_auth || usage.value.any))
}

/// Whom a certificate names: for reading, and as it is encoded.
pub(super) fn subject(der: &[u8]) -> Result<(String, Box<[u8]>), Unreadable> {
    let certificate = parse(der)?;
    Ok((certificate.subject().to_string(), certificate.subject().as_raw().into()))
}

/// Issuer and serial number, as they are encoded: what a revocation list knows a certificate by.
pub(super) type Number = (Box<[u8]>, Box<[u8]>);

pub(super) fn number(der: &[u8]) -> Result<Number, Unreadable> {
    let certificate = parse(der)?;
    Ok((certificate.issuer().as_raw().into(), certificate.raw_serial().into()))
}

/// A key that is of no use here, by its algorithm and its curve.
fn other(algorithm: &Oid<'_>, curve: Option<&Oid<'_>>) -> Key {
    Key::Other(match curve.unwrap_or(algorithm).to_id_string().as_str() {
        "1.3.132.0.10" => "ECDSA secp256k1",
        "1.3.101.113" => "Ed448",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        _ => "an unknown algorithm",
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<Name> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let mut names: Vec<_> = alternative.filter_map(general_name).collect();
    let subject = certificate.subject();
    names.extend(subject_names(subject, Field::CommonName));
    names.extend(subject_names(subject, Field::Organization));
    names.extend(subject_names(subject, Field::OrganizationalUnit));
    names
}

fn general_name(name: &GeneralName<'_>) -> Option<Name> {
    let (field, value) = match name {
        GeneralName::DNSName(name) => (Field::Dns, name.to_ascii_lowercase()),
        GeneralName::RFC822Name(address) => (Field::Email, (*address).to_owned()),
        GeneralName::URI(uri) => (Field::Uri, (*uri).to_owned()),
        GeneralName::IPAddress(bytes) => (Field::Ip, ip_address(bytes)?.to_string()),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => return None,
    };
    Some(Name { field, value: value.into() })
}

fn subject_names(subject: &X509Name<'_>, field: Field) -> Vec<Name> {
    let attributes: Vec<_> = match field {
        Field::CommonName => subject.iter_common_name().collect(),
        Field::Organization => subject.iter_organization().collect(),
        Field::OrganizationalUnit => subject.iter_organizational_unit().collect(),
        Field::Dns | Field::Ip | Field::Uri | Field::Email => Vec::new(),
    };
    let text = attributes.into_iter().filter_map(|attribute| attribute.as_str().ok());
    text.map(|value| Name { field, value: value.into() }).collect()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// RFC 3279 §2.2.3.
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
