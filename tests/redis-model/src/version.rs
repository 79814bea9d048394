//! In what servers differ.

use crate::number::Style;

/// Which server is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `redis` or `valkey`.
    pub name: &'static str,
    /// Major and minor, and what comes behind.
    pub number: (u32, u32, u32),
}

impl Version {
    /// What Debian 12 has.
    pub const REDIS_7_0: Self = Self { name: "redis", number: (7, 0, 15) };
    /// A newer Redis.
    pub const REDIS_8_2: Self = Self { name: "redis", number: (8, 2, 3) };
    /// A Valkey.
    pub const VALKEY_9_1: Self = Self { name: "valkey", number: (9, 1, 2) };

    /// Redis before 7.2: a connection that publishes to itself gets the message before the answer.
    pub(crate) fn pushes_first(self) -> bool {
        self.number < (7, 2, 0)
    }

    pub(crate) fn numbers(self) -> Style {
        if self.number < (7, 2, 0) { Style::Digits17 } else { Style::Shortest }
    }

    /// `CLIENT SETINFO` and `CLIENT NO-TOUCH`.
    pub(crate) fn has_client_info(self) -> bool {
        self.number >= (7, 2, 0)
    }

    pub(crate) fn is_valkey_9(self) -> bool {
        self.name == "valkey" && self.number >= (9, 0, 0)
    }

    pub(crate) fn text(self) -> String {
        let (major, minor, patch) = self.number;
        format!("{major}.{minor}.{patch}")
    }
}
