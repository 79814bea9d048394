//! When what was written is forced to the disk.

use std::{fmt, str::FromStr};

/// When the operating system is made to write to the disk what it has taken: Redis' words for Redis' choices. They differ in
/// what survives a power cut; `kill -9` of the process takes nothing away under any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// Before each group is answered. What was answered is there after a power cut.
    Always,
    /// Once a second. A power cut takes the last second.
    #[default]
    EverySec,
    /// When the operating system sees fit, within half a minute on Linux.
    No,
}

impl Fsync {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::EverySec, Self::No];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySec => "everysec",
            Self::No => "no",
        }
    }
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fsync {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|fsync| fsync.as_str() == word).ok_or(())
    }
}
