//! Making tokens, and looking into them.

use std::{fmt, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header, dangerous::insecure_decode_claims};
use serde_json::{Map, Value, json};

use super::claims::{PERMISSION_BYTES_MAX, PERMISSIONS_MAX};

/// What a new token is to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenSpec<'a> {
    /// `user_id` and `sub`.
    pub user: Option<&'a str>,
    /// `permissions`. At most 100 of at most 256 bytes.
    pub permissions: &'a [&'a str],
    /// `iat`, and the start of `expires_in`: wall-clock time since the Unix epoch; a fraction of a second is cut off.
    pub issued_at: Duration,
    /// Time until `exp`, rounded up to seconds. `None`: the token never expires.
    pub expires_in: Option<Duration>,
    /// The key's name in the header, if keys are rotated.
    pub kid: Option<&'a str>,
    /// `jti`: names this token, for revocation.
    pub id: Option<&'a str>,
    /// `aud`: whom the token is for, where verifiers ask for it.
    pub audience: Option<&'a str>,
    /// `iss`: who makes it, where verifiers ask for it.
    pub issuer: Option<&'a str>,
}

/// Why no token could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssueError {
    /// The secret is empty.
    NoSecret,
    /// More or longer permissions than a verifier here accepts.
    Permissions,
    /// The library could not sign.
    Signing,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSecret => f.write_str("no secret to sign with"),
            Self::Permissions => {
                write!(
                    f,
                    "more than {PERMISSIONS_MAX} permissions, or one over {PERMISSION_BYTES_MAX} bytes"
                )
            }
            Self::Signing => f.write_str("the token could not be signed"),
        }
    }
}

impl std::error::Error for IssueError {}

/// Makes an HS256 token, the kind that the services' Python code accepts.
pub fn issue(secret: &[u8], spec: &TokenSpec<'_>) -> Result<String, IssueError> {
    if secret.is_empty() {
        return Err(IssueError::NoSecret);
    }
    if spec.permissions.len() > PERMISSIONS_MAX
        || spec.permissions.iter().any(|p| p.len() > PERMISSION_BYTES_MAX)
    {
        return Err(IssueError::Permissions);
    }
    let issued_at = spec.issued_at.as_secs();
    let mut claims = Map::new();
    if let Some(user) = spec.user {
        claims.insert("user_id".to_owned(), json!(user));
        claims.insert("sub".to_owned(), json!(user));
    }
    claims.insert("permissions".to_owned(), json!(spec.permissions));
    claims.insert("iat".to_owned(), json!(issued_at));
    if let Some(expires_in) = spec.expires_in {
        let seconds = expires_in.as_secs().saturating_add(u64::from(expires_in.subsec_nanos() > 0));
        claims.insert("exp".to_owned(), json!(issued_at.saturating_add(seconds)));
    }
    if let Some(id) = spec.id {
        claims.insert("jti".to_owned(), json!(id));
    }
    for (name, value) in [("aud", spec.audience), ("iss", spec.issuer)] {
        if let Some(value) = value {
            claims.insert(name.to_owned(), json!(value));
        }
    }
    let mut header = Header::new(Algorithm::HS256);
    header.kid = spec.kid.map(str::to_owned);
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret))
        .map_err(|_| IssueError::Signing)
}

/// The header and claims of a token as `{"header": …, "claims": …}`, *unverified*: for people to look at, never to
/// decide by. `None` if it is not a token.
#[must_use]
pub fn inspect(token: &str) -> Option<Value> {
    let mut parts = token.trim().split('.');
    let (Some(header), Some(claims), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    // The library's own header type refuses algorithms it does not know, and just those are worth looking at.
    let part = |text: &str| insecure_decode_claims::<Map<String, Value>>(format!(".{text}.")).ok();
    Some(json!({ "header": part(header)?, "claims": part(claims)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Denied, KeySet, TokenRules};

    const SECRET: &[u8] = b"q7Jm2xVb9TzLr4Wc8YpK5NdH3sFgA6Ue";
    const NOW: Duration = Duration::from_millis(1_770_000_000_500);

    fn spec<'a>() -> TokenSpec<'a> {
        TokenSpec {
            user: Some("ada"),
            permissions: &["workflow:read", "pool:read"],
            issued_at: NOW,
            expires_in: Some(Duration::from_secs(3600)),
            kid: Some("2026"),
            id: Some("t-1"),
            ..TokenSpec::default()
        }
    }

    #[test]
    fn an_issued_token_verifies_until_it_expires() {
        let token = issue(SECRET, &spec()).unwrap();
        let mut keys = KeySet::new();
        keys.add_secret(Some("2026"), SECRET).unwrap();

        let claims = keys.verify(&token, NOW, &TokenRules::default()).unwrap();

        assert_eq!(claims.user.as_deref(), Some("ada"));
        assert_eq!(claims.permissions, ["workflow:read", "pool:read"].map(Box::from));
        assert_eq!(claims.issued_at, Some(Duration::from_secs(1_770_000_000)));
        assert_eq!(claims.expires, Some(Duration::from_secs(1_770_003_600)));
        assert_eq!(claims.id.as_deref(), Some("t-1"));
        let late = keys.verify(&token, Duration::from_secs(1_770_003_600), &TokenRules::default());
        assert_eq!(late, Err(Denied::Expired));
    }

    #[test]
    fn audience_and_issuer_are_those_that_the_rules_ask_for() {
        let token =
            issue(SECRET, &TokenSpec { audience: Some("a"), issuer: Some("i"), ..spec() }).unwrap();
        let mut keys = KeySet::new();
        keys.add_secret(None, SECRET).unwrap();
        let rules = TokenRules {
            audience: Some(vec!["a".into()]),
            issuer: Some("i".into()),
            ..TokenRules::default()
        };
        assert!(keys.verify(&token, NOW, &rules).is_ok());
        assert_eq!(keys.verify(&token, NOW, &TokenRules::default()), Err(Denied::Audience));
    }

    #[test]
    fn inspect_shows_header_and_claims_without_a_key() {
        let shown = inspect(&issue(SECRET, &spec()).unwrap()).unwrap();
        assert_eq!(shown["header"], json!({ "typ": "JWT", "alg": "HS256", "kid": "2026" }));
        assert_eq!(shown["claims"]["user_id"], json!("ada"));
        assert_eq!(shown["claims"]["exp"], json!(1_770_003_600));
    }

    #[test]
    fn inspect_shows_unsigned_tokens_too() {
        // {"alg":"none"}.{"user_id":"mallory"}.
        let shown = inspect("eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoibWFsbG9yeSJ9.").unwrap();
        assert_eq!(
            shown,
            json!({ "header": { "alg": "none" }, "claims": { "user_id": "mallory" } })
        );
    }

    #[test]
    fn inspect_refuses_what_is_no_token() {
        for text in ["", "a.b", "a.b.c", "a.b.c.d", "e30.e30", "e30.W10.x"] {
            assert_eq!(inspect(text), None, "{text}");
        }
    }

    #[test]
    fn what_no_verifier_would_accept_is_not_issued() {
        let long = "x".repeat(257);
        let many = vec!["read"; 101];
        assert_eq!(issue(b"", &spec()), Err(IssueError::NoSecret));
        assert_eq!(
            issue(SECRET, &TokenSpec { permissions: &[&long], ..spec() }),
            Err(IssueError::Permissions)
        );
        assert_eq!(
            issue(SECRET, &TokenSpec { permissions: &many, ..spec() }),
            Err(IssueError::Permissions)
        );
    }
}
