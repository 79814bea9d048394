//! Who a client is and what it may do: tokens (RFC 7519), the keys that verify them, and permissions by channel.
//!
//! Nothing here reads a clock: every check of time takes the wall-clock time that the caller was given.
//!
//! ```
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

mod grants;
mod issue;
mod jwt;
mod keys;
mod policy;
mod revoke;
mod services;

pub use grants::{GRANTS_MAX, Grants};
pub use issue::{IssueError, TokenSpec, inspect, issue};
pub use jsonwebtoken::Algorithm;
pub use jwt::{Claims, Denied, TokenRules};
pub use keys::{KeyError, KeySet, WeakSecret, check_secret};
pub use policy::{Access, Decision, Pattern, Policy, PolicyError, Rule, Verb, Why};
pub use revoke::{Revocation, RevocationError, Revocations};
