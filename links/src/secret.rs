//! Passwords.

use std::fmt;

use zeroize::Zeroizing;

/// A password. `Debug` masks it, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a password in.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The password itself. Whoever calls this takes care that it is neither logged nor printed.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a text gives it away.
    pub(crate) fn is_quoted_in(&self, text: &str) -> bool {
        !self.0.is_empty() && text.contains(self.0.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
