//! Who a client is and what it may do: tokens (RFC 7519), the keys that verify them, and permissions by channel.
//!
//! Nothing here reads a clock: every check of time takes the wall-clock time that the caller was given.
//!
//! Verifying and making tokens is the feature `jwt`. Without it a [`KeySet`] has no keys and can be given none; what a
//! client may do is decided all the same, for clients with certificates and those without anything.
//!
#![cfg_attr(feature = "jwt", doc = "```")]
#![cfg_attr(not(feature = "jwt"), doc = "```text")]
//! use std::time::Duration;
//! use mahavishnu_core::auth::{self, KeySet, Policy, TokenRules, TokenSpec, Verb};
//!
//! let secret = b"a secret of at least thirty-two bytes";
//! let mut keys = KeySet::new();
//! keys.add_secret(None, secret)?;
//! let now = Duration::from_secs(1_770_000_000);
//! let spec = TokenSpec {
//!     user: Some("ada"),
//!     permissions: &["workflow:read"],
//!     issued_at: now,
//!     expires_in: Some(Duration::from_secs(3600)),
//!     ..TokenSpec::default()
//! };
//! let token = auth::issue(secret, &spec)?;
//!
//! let claims = keys.verify(&token, now, &TokenRules::default())?;
//! let policy = Policy::mahavishnu();
//! let access = policy.access(&claims.permissions);
//! assert!(policy.decide(&access, Verb::Subscribe, "workflow:42").allowed);
//! assert!(!policy.decide(&access, Verb::Publish, "workflow:42").allowed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claims;
mod grants;
#[cfg(feature = "jwt")]
mod issue;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "jwt")]
mod keys;
#[cfg(not(feature = "jwt"))]
mod no_keys;
mod policy;
mod revoke;
mod secret;
mod services;

pub use claims::{Claims, Denied, TokenRules};
pub use grants::{GRANTS_MAX, Grants};
#[cfg(feature = "jwt")]
pub use issue::{IssueError, TokenSpec, inspect, issue};
#[cfg(feature = "jwt")]
pub use jsonwebtoken::Algorithm;
#[cfg(feature = "jwt")]
pub use keys::{KeyError, KeySet};
#[cfg(not(feature = "jwt"))]
pub use no_keys::KeySet;
pub use policy::{Access, Decision, Needs, Pattern, Policy, PolicyError, Rule, Verb, Why};
pub use revoke::{Moment, Revocation, RevocationError, Revocations};
pub use secret::{WeakSecret, check_secret};

use std::time::Duration;

impl KeySet {
    /// Verifies a token at the wall-clock time `unix`: its signature first, then its claims. Without the feature `jwt` every
    /// token is refused: there is no key that it could be signed with.
    pub fn verify(
        &self,
        token: &str,
        unix: Duration,
        rules: &TokenRules,
    ) -> Result<Claims, Denied> {
        self.verify_by(token, unix, rules).map(|(claims, _)| claims)
    }
}
