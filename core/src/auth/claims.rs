//! What is asked of a token, what a valid one says, and why another is refused.

use std::{fmt, sync::Arc, time::Duration};

use super::grants::Grants;

/// What is asked of a token beyond a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// Refuse tokens without `exp`. Default false: the services' own helpers make such tokens.
    pub require_exp: bool,
    /// Audiences that we answer to. Default `None`: a token with any `aud` is refused (RFC 7519 §4.1.3). If set, a
    /// token must name one of them.
    pub audience: Option<Vec<String>>,
    /// Take tokens without `aud` although `audience` is set: of a service whose older helpers name none. Default false.
    pub audience_optional: bool,
    /// The only issuer whose tokens are taken. Default `None`: `iss` is not looked at.
    pub issuer: Option<String>,
    /// Tolerance for clocks that differ, applied to `exp`, `nbf` and `iat`. Default 0; the server's setting
    /// has 5 s.
    pub leeway: Duration,
    /// Bytes of a token. Default 8 KiB. Over it: malformed.
    pub token_bytes_max: usize,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self {
            require_exp: false,
            audience: None,
            audience_optional: false,
            issuer: None,
            leeway: Duration::ZERO,
            token_bytes_max: 8 * 1024,
        }
    }
}

/// What a valid token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `user_id`, or `sub` if there is none. A number becomes its digits.
    pub user: Option<Arc<str>>,
    /// `permissions`, or `scopes` if there are none.
    pub permissions: Vec<Box<str>>,
    /// `exp`: since the Unix epoch, whole seconds, at most the end of the year 9999.
    /// The token is invalid from this very moment on (leeway not included).
    pub expires: Option<Duration>,
    /// `iat`: since the Unix epoch, whole seconds.
    pub issued_at: Option<Duration>,
    /// `jti`: names this token, for revocation.
    pub id: Option<Box<str>>,
    /// `channels`: patterns that the token opens beside what its permissions do.
    pub grants: Grants,
}

/// Why a token is refused. What it said is not kept, so that it cannot leak into logs or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// Not a token: shape, base64, JSON, size, or a critical header that we do not know.
    Malformed,
    /// An algorithm that none of the keys is for, `none` included.
    Algorithm,
    /// It names a key that we do not have.
    UnknownKey,
    /// No key made this signature.
    Signature,
    /// `exp` has come.
    Expired,
    /// `nbf` has not come.
    NotYetValid,
    /// `iat` has not come.
    IssuedInFuture,
    /// It is meant for others.
    Audience,
    /// It comes from another issuer.
    Issuer,
    /// It never expires, and it must.
    MissingExpiry,
    /// A claim has the wrong type or is too long.
    Claims,
    /// It was good, and somebody has revoked it.
    Revoked,
}

impl Denied {
    /// A name for counters and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::MissingExpiry => "missing_expiry",
            Self::Claims => "claims",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a token",
            Self::Algorithm => "the token's algorithm is not allowed",
            Self::UnknownKey => "the token names an unknown key",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::IssuedInFuture => "the token was issued in the future",
            Self::Audience => "the token is for another audience",
            Self::Issuer => "the token is from another issuer",
            Self::MissingExpiry => "the token has no expiry",
            Self::Claims => "a claim of the token has the wrong form",
            Self::Revoked => "the token has been revoked",
        })
    }
}

impl std::error::Error for Denied {}

/// Permissions of one token.
#[cfg(feature = "jwt")]
pub(super) const PERMISSIONS_MAX: usize = 100;
/// Bytes of one permission.
pub(super) const PERMISSION_BYTES_MAX: usize = 256;
