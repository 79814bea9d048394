//! Which shared secrets are too weak to verify tokens with.

use std::fmt;

/// Why a shared secret is guessable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakSecret {
    /// Fewer than 32 bytes: shorter than the hash (RFC 7518 §3.2).
    Short {
        /// How many it has.
        bytes: usize,
    },
    /// A default or placeholder that is public.
    WellKnown,
    /// One byte, or a short run of bytes, over and over.
    Repeated,
}

impl fmt::Display for WeakSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { bytes } => {
                write!(f, "the secret has {bytes} bytes, at least {SECRET_BYTES_MIN} are needed")
            }
            Self::WellKnown => f.write_str("the secret is a well-known placeholder"),
            Self::Repeated => f.write_str("the secret only repeats a few characters"),
        }
    }
}

impl std::error::Error for WeakSecret {}

/// Whether a shared secret can be guessed: too short, published as a default or placeholder, or mere repetition.
pub fn check_secret(secret: &[u8]) -> Result<(), WeakSecret> {
    // Placeholders first: "well known" is the more useful thing to say about a short one.
    let letters: Vec<u8> =
        secret.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    if WELL_KNOWN.contains(&letters.as_slice())
        || PLACEHOLDERS.iter().any(|start| letters.starts_with(start))
    {
        return Err(WeakSecret::WellKnown);
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(WeakSecret::Short { bytes: secret.len() });
    }
    let repeats = (1..=PERIOD_MAX)
        .any(|period| secret.iter().zip(secret.iter().skip(period)).all(|(a, b)| a == b));
    if repeats { Err(WeakSecret::Repeated) } else { Ok(()) }
}

const SECRET_BYTES_MIN: usize = 32;
/// A secret that repeats with a period of up to this many bytes is no secret.
const PERIOD_MAX: usize = 4;

/// Published secrets, compared by their lower-case letters and digits alone.
const WELL_KNOWN: &[&[u8]] = &[
    b"devsecretchangeinproduction",
    b"yourgeneratedsecretkeyhere",
    b"testsecret",
    b"secret",
    b"test",
    b"example",
    b"none",
    b"null",
];
/// Nobody who chose a secret begins it like this.
const PLACEHOLDERS: &[&[u8]] =
    &[b"changeme", b"changethis", b"replaceme", b"placeholder", b"devsecretchange"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_named() {
        let cases: &[(&[u8], WeakSecret)] = &[
            (b"", WeakSecret::Short { bytes: 0 }),
            (b"kJ8s-short", WeakSecret::Short { bytes: 10 }),
            (b"dev-secret-change-in-production", WeakSecret::WellKnown),
            (b"test-secret", WeakSecret::WellKnown),
            (b"your-generated-secret-key-here", WeakSecret::WellKnown),
            (b"<your-generated-secret-key-here>", WeakSecret::WellKnown),
            (b"CHANGE_ME_CHANGE_ME_CHANGE_ME_CHANGE_ME", WeakSecret::WellKnown),
            (b"changeme-please-with-something-long", WeakSecret::WellKnown),
            (b"placeholder", WeakSecret::WellKnown),
            (b"null", WeakSecret::WellKnown),
            (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", WeakSecret::Repeated),
            (b"abcdabcdabcdabcdabcdabcdabcdabcdabcd", WeakSecret::Repeated),
        ];
        for (secret, weak) in cases {
            assert_eq!(check_secret(secret), Err(*weak), "{}", String::from_utf8_lossy(secret));
        }
    }

    #[test]
    fn long_secrets_of_ones_own_are_accepted() {
        assert_eq!(check_secret(b"integration-test-secret-of-32-bytes-and-more"), Ok(()));
        assert_eq!(check_secret(&[0, 1, 2, 3, 4, 5, 6, 7].repeat(4)), Ok(()));
        assert_eq!(check_secret(b"q7Jm2xVb9TzLr4Wc8YpK5NdH3sFgA6Ue"), Ok(()));
    }
}
