//! The keys that tokens are verified with, and which secrets are too weak to be one.

use std::{fmt, hash::BuildHasher, num::NonZeroU64};

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::secret::{WeakSecret, check_secret};
use crate::entropy::KeyedState;

/// The keys that a token may be signed with.
///
/// Several at once, so that keys can be rotated: add the new key, re-issue tokens, remove the old one.
/// A token that names a key (`kid`, RFC 7515 §4.1.4) is checked against the keys of that name, or, if there is none,
/// against the keys without a name. A token that names none is checked against all keys in the order of their adding.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone)]
pub(crate) struct Key {
    kid: Option<Box<str>>,
    /// What this key may verify. Never more than one family, so no header can talk a public key into being a secret.
    pub(super) algorithms: &'static [Algorithm],
    pub(super) decoding: DecodingKey,
}

impl KeySet {
    /// No keys: nothing verifies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a shared secret for HS256, HS384 and HS512, if [`check_secret`] finds nothing against it.
    pub fn add_secret(&mut self, kid: Option<&str>, secret: &[u8]) -> Result<(), KeyError> {
        check_secret(secret).map_err(KeyError::Weak)?;
        self.add_weak_secret(kid, secret)
    }

    /// Adds a shared secret however weak it is: for tests, and for old tokens while their secret is being replaced.
    ///
    /// An empty secret and the text of a public key are refused even here: anybody knows those.
    pub fn add_weak_secret(&mut self, kid: Option<&str>, secret: &[u8]) -> Result<(), KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Weak(WeakSecret::Short { bytes: 0 }));
        }
        if PUBLIC_KEY_TEXTS.iter().any(|text| secret.trim_ascii_start().starts_with(text)) {
            return Err(KeyError::KeyTextAsSecret);
        }
        self.push(kid, HMAC, DecodingKey::from_secret(secret))
    }

    /// Adds a public key in PEM (`PUBLIC KEY`, or `RSA PUBLIC KEY`) for exactly one algorithm.
    pub fn add_pem(
        &mut self,
        kid: Option<&str>,
        algorithm: Algorithm,
        pem: &[u8],
    ) -> Result<(), KeyError> {
        let labelled = |label: &[u8]| pem.windows(label.len()).any(|window| window == label);
        if labelled(PRIVATE_LABEL) {
            return Err(KeyError::Private);
        }
        if !labelled(PUBLIC_LABEL) {
            return Err(KeyError::Pem);
        }
        let algorithms = single(algorithm).ok_or(KeyError::Algorithm)?;
        let decoding = match algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
            AlgorithmFamily::Hmac => return Err(KeyError::Algorithm),
        }
        .map_err(|_| KeyError::Pem)?;
        let bytes = decoding.try_get_as_bytes().map_or(0, <[u8]>::len);
        // An uncompressed point (SEC 1 §2.3.3) has two coordinates and one byte before them; Ed25519 keys have 32 bytes
        // (RFC 8032 §5.1.5). An RSA key of at least 2048 bits (RFC 7518 §3.3) has a modulus of 256 bytes and more.
        let fits = if algorithm == Algorithm::ES256 {
            bytes == 65
        } else if algorithm == Algorithm::ES384 {
            bytes == 97
        } else if algorithm == Algorithm::EdDSA {
            bytes == 32
        } else {
            bytes > 256
        };
        if !fits {
            return Err(KeyError::Pem);
        }
        self.push(kid, algorithms, decoding)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A number for each key, as [`Key::number`] makes it.
    pub(crate) fn numbers(&self, keyed: &KeyedState) -> Vec<NonZeroU64> {
        self.keys.iter().map(|key| key.number(keyed)).collect()
    }

    /// The keys that a token with this `kid` may be signed with, in order.
    pub(super) fn candidates<'k>(&'k self, kid: Option<&str>) -> impl Iterator<Item = &'k Key> {
        let named =
            kid.is_some_and(|kid| self.keys.iter().any(|key| key.kid.as_deref() == Some(kid)));
        self.keys.iter().filter(move |key| match kid {
            None => true,
            Some(_) if named => key.kid.as_deref() == kid,
            Some(_) => key.kid.is_none(),
        })
    }

    fn push(
        &mut self,
        kid: Option<&str>,
        algorithms: &'static [Algorithm],
        decoding: DecodingKey,
    ) -> Result<(), KeyError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        self.keys.push(Key { kid: kid.map(Box::from), algorithms, decoding });
        Ok(())
    }
}

impl Key {
    /// Tells this key from others by its name, algorithms and content. Whoever does not know `keyed` learns nothing about
    /// the key from it.
    pub(crate) fn number(&self, keyed: &KeyedState) -> NonZeroU64 {
        let content = self.decoding.try_get_as_bytes().unwrap_or_default();
        let algorithm = self.algorithms.first().map(|first| *first as u8);
        NonZeroU64::new(keyed.hash_one((&self.kid, algorithm, content))).unwrap_or(NonZeroU64::MIN)
    }
}

/// Names and algorithms only.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| (key.kid.as_deref(), key.algorithms)))
            .finish()
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is guessable.
    Weak(WeakSecret),
    /// A key file's text was given as a shared secret.
    KeyTextAsSecret,
    /// A private key was given where the public one belongs.
    Private,
    /// Not a PEM public key, or not one for this algorithm.
    Pem,
    /// The algorithm is not one for public keys.
    Algorithm,
    /// More than 16 keys.
    TooMany,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weak(weak) => weak.fmt(f),
            Self::KeyTextAsSecret => {
                f.write_str("the secret is the text of a key file: configure it as a public key")
            }
            Self::Private => f.write_str("this is a private key: only the public key belongs here"),
            Self::Pem => f.write_str(
                "not a PEM public key for this algorithm (RSA needs at least 2048 bits)",
            ),
            Self::Algorithm => {
                f.write_str("not an algorithm for public keys: use RS, PS, ES256, ES384 or EdDSA")
            }
            Self::TooMany => write!(f, "more than {KEYS_MAX} keys"),
        }
    }
}

impl std::error::Error for KeyError {}

/// The one-element list of an algorithm for public keys.
fn single(algorithm: Algorithm) -> Option<&'static [Algorithm]> {
    PUBLIC.iter().position(|known| *known == algorithm).and_then(|at| PUBLIC.get(at..=at))
}

/// Keys of one set: bounds how many signatures one token can cost.
const KEYS_MAX: usize = 16;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const PUBLIC: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

const PRIVATE_LABEL: &[u8] = b"PRIVATE KEY-----";
const PUBLIC_LABEL: &[u8] = b"PUBLIC KEY-----";
/// How the text forms of public keys begin.
const PUBLIC_KEY_TEXTS: &[&[u8]] = &[b"-----BEGIN", b"ssh-", b"ecdsa-sha2-"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let mut keys = KeySet::new();
        keys.add_secret(Some("2026-02"), b"q7Jm2xVb9TzLr4Wc8YpK5NdH3sFgA6Ue").unwrap();
        let text = format!("{keys:?}");
        assert!(text.contains("2026-02") && text.contains("HS256"), "{text}");
        assert!(!text.contains("q7Jm") && !text.contains("113"), "{text}");
    }

    #[test]
    fn key_files_are_no_secrets() {
        let mut keys = KeySet::new();
        for text in [
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA",
            "\nssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ",
        ] {
            assert_eq!(keys.add_weak_secret(None, text.as_bytes()), Err(KeyError::KeyTextAsSecret));
        }
        assert!(keys.is_empty());
    }

    #[test]
    fn only_public_keys_of_the_right_kind_are_keys() {
        let mut keys = KeySet::new();
        let private = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(keys.add_pem(None, Algorithm::EdDSA, private), Err(KeyError::Private));
        assert_eq!(keys.add_pem(None, Algorithm::EdDSA, b"not a key"), Err(KeyError::Pem));
        assert_eq!(
            keys.add_pem(None, Algorithm::HS256, ED25519.as_bytes()),
            Err(KeyError::Algorithm)
        );
        assert_eq!(keys.add_pem(None, Algorithm::ES256, ED25519.as_bytes()), Err(KeyError::Pem));
        assert_eq!(keys.add_pem(None, Algorithm::EdDSA, ED25519.as_bytes()), Ok(()));
    }

    #[test]
    fn a_set_holds_sixteen_keys() {
        let mut keys = KeySet::new();
        for _ in 0..KEYS_MAX {
            keys.add_weak_secret(None, b"weak").unwrap();
        }
        assert_eq!(keys.add_weak_secret(None, b"weak"), Err(KeyError::TooMany));
        assert_eq!(keys.len(), KEYS_MAX);
    }

    /// RFC 8410 §10.1.
    const ED25519: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
}
