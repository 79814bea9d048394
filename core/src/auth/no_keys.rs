//! The keys of a build that verifies no tokens: none.

use std::{num::NonZeroU64, time::Duration};

use super::claims::{Claims, Denied, TokenRules};
use crate::entropy::KeyedState;

/// The keys that a token may be signed with. Without the feature `jwt` there are none, and none can be added.
#[derive(Clone, Debug, Default)]
pub struct KeySet(());

/// A key, of which there is none.
#[derive(Debug)]
pub(crate) struct Key(Never);

#[derive(Debug)]
enum Never {}

impl KeySet {
    /// No keys: nothing verifies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys there are: none.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there is no key: so it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Refuses any token: there is no key that it could be signed with.
    pub(crate) fn verify_by(
        &self,
        _token: &str,
        _unix: Duration,
        _rules: &TokenRules,
    ) -> Result<(Claims, &Key), Denied> {
        Err(Denied::UnknownKey)
    }

    /// The numbers of no keys.
    pub(crate) fn numbers(&self, _keyed: &KeyedState) -> Vec<NonZeroU64> {
        Vec::new()
    }
}

impl Key {
    pub(crate) fn number(&self, _keyed: &KeyedState) -> NonZeroU64 {
        match self.0 {}
    }
}
