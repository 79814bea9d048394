//! The types of settings that the standard library has no type for.

use std::fmt;

use zeroize::Zeroizing;

/// Something that must not be shown: passwords, keys, tokens. `Debug` and `config show` mask it, and its memory is
/// overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself. Whoever calls this takes care that it is neither logged nor printed.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// One verification key with the `kid` that tokens name it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedKey {
    pub(crate) kid: String,
    pub(crate) secret: Secret,
}

/// What happens to a subscriber whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowReader {
    /// The connection is closed with 1013; the client reconnects.
    Disconnect,
    /// What does not fit is dropped, and the client is told so.
    Gap,
    /// Only the newest message of a channel is kept.
    Latest,
}

impl SlowReader {
    pub(crate) const NAMES: &[(&str, Self)] =
        &[("disconnect", Self::Disconnect), ("gap", Self::Gap), ("latest", Self::Latest)];
}

/// Which id an answer carries as its `correlation_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correlation {
    /// Told from the shape of the request, so that all known clients work.
    Auto,
    /// Always the request's `id`.
    Id,
    /// Always the request's `correlation_id`.
    Field,
}

/// The asynchronous runtime under the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Tokio,
    Smol,
}

impl Runtime {
    /// The one that is used unless another is asked for.
    pub(crate) const DEFAULT: Self = if cfg!(feature = "tokio") { Self::Tokio } else { Self::Smol };

    /// Whether this build has it.
    pub(crate) fn is_built_in(self) -> bool {
        match self {
            Self::Tokio => cfg!(feature = "tokio"),
            Self::Smol => cfg!(feature = "smol"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
        }
    }

    /// Says that this build does not have it, and what it has.
    pub(crate) fn missing(self) -> String {
        let has = Self::DEFAULT.name();
        format!("the {} runtime is not part of this build; use {has}", self.name())
    }
}

/// How many threads serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shards {
    /// One for each core that this process may use.
    Auto,
    Count(u16),
}

impl Shards {
    pub(crate) const MAX: u16 = 64;

    /// The number itself.
    pub(crate) fn resolve(self) -> u16 {
        match self {
            Self::Count(count) => count,
            Self::Auto => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                u16::try_from(cores).unwrap_or(Self::MAX).min(Self::MAX)
            }
        }
    }
}

/// How much is logged. The names are those of Python's `logging`, which the operator's other services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Shown in place of a secret.
pub(crate) const MASK: &str = "********";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_debug_output() {
        let key = NamedKey { kid: "k1".into(), secret: Secret::new("hunter2") };
        assert!(!format!("{key:?}").contains("hunter2"));
    }

    #[test]
    fn auto_shards_are_at_least_one_and_at_most_the_bound() {
        assert!((1..=Shards::MAX).contains(&Shards::Auto.resolve()));
        assert_eq!(Shards::Count(7).resolve(), 7);
    }
}
