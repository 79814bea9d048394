//! Tokens, sound and unsound.

use std::time::Duration;

use mahavishnu_core::{
    auth::{TokenSpec, issue},
    config::Config,
};

/// The key of servers that demand tokens.
pub const SECRET: &[u8] = b"Zq7r4vX1pLw9sD3kTb8mYc2nHj6uGf5e";

/// Makes a server demand tokens.
pub fn demand(config: &mut Config) {
    config.auth.required = true;
    config.auth.keys.add_secret(None, SECRET).expect("a good secret");
}

/// A token that is good for an hour from `now`.
#[must_use]
pub fn good(now: Duration, user: &str, permissions: &[&str]) -> String {
    signed(SECRET, now, user, permissions)
}

/// A token whose hour was over yesterday.
#[must_use]
pub fn expired(now: Duration) -> String {
    good(now - Duration::from_secs(86_400), "ada", &["admin"])
}

/// A token signed by somebody else.
#[must_use]
pub fn forged(now: Duration) -> String {
    signed(b"aW3xK9vB5nM1qP7tR2yU8iO4eL6hJ0gS", now, "ada", &["admin"])
}

fn signed(secret: &[u8], now: Duration, user: &str, permissions: &[&str]) -> String {
    let spec = TokenSpec {
        user: Some(user),
        permissions,
        issued_at: now,
        expires_in: Some(Duration::from_secs(3600)),
        ..TokenSpec::default()
    };
    issue(secret, &spec).expect("a token")
}
