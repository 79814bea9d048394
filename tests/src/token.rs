//! Tokens, sound and unsound.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The key of servers under test.
pub const SECRET: &str = "Zq7r4vX1pLw9sD3kTb8mYc2nHj6uGf5e";
/// A key that they do not know.
pub const OTHER_SECRET: &str = "aW3xK9vB5nM1qP7tR2yU8iO4eL6hJ0gS";

/// Seconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_secs()).expect("it is earlier than the end of time")
}

/// A token as the services make them, good for an hour.
pub fn of(user: &str, permissions: &[&str]) -> String {
    sign(&claims(user, permissions))
}

/// The claims of [`of`].
pub fn claims(user: &str, permissions: &[&str]) -> Value {
    json!({ "user_id": user, "permissions": permissions, "iat": now(), "exp": now() + 3600 })
}

/// [`claims`] with one more, or one changed.
pub fn claims_and(name: &str, value: Value) -> Value {
    let mut claims = claims("ada", &["admin"]);
    claims[name] = value;
    claims
}

/// Signs with [`SECRET`].
pub fn sign(claims: &Value) -> String {
    sign_with(SECRET, None, claims)
}

/// Signs with any key, and names it.
pub fn sign_with(secret: &str, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("claims are an object")
}

/// A token that says it needs no signature (RFC 7518 §3.6), and has none.
pub fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(claims))
}

/// `token` with its header replaced and its signature kept.
pub fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').expect("a token has three parts");
    format!("{}.{rest}", part(header))
}

/// `token` with its claims replaced and its signature kept.
pub fn with_claims(token: &str, claims: &Value) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], part(claims), parts[2])
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
