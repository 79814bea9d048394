//! Verifying tokens: signature by the library, every claim by us against the time we are given.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jsonwebtoken::{Validation, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};

use super::{
    claims::{Claims, Denied, PERMISSION_BYTES_MAX, PERMISSIONS_MAX, TokenRules},
    grants::Grants,
    keys::{Key, KeySet},
};

impl KeySet {
    /// [`verify`](Self::verify), and the key that the token was signed with.
    pub(crate) fn verify_by(
        &self,
        token: &str,
        unix: Duration,
        rules: &TokenRules,
    ) -> Result<(Claims, &Key), Denied> {
        if token.len() > rules.token_bytes_max {
            return Err(Denied::Malformed);
        }
        let (claims, key) = self.verify_signature(token)?;
        check_times(&claims, unix, rules)?;
        check_issuer(&claims, rules)?;
        check_audience(&claims, rules)?;
        Ok((read_claims(&claims)?, key))
    }

    /// The claims of a token that one of the keys has signed.
    fn verify_signature(&self, token: &str) -> Result<(Map<String, Value>, &Key), Denied> {
        let header = decode_header(token).map_err(|error| {
            // A header that is JSON but names an algorithm that the library does not know, `none` among them.
            let unknown = matches!(error.kind(), ErrorKind::Json(error) if error.is_data());
            if unknown { Denied::Algorithm } else { Denied::Malformed }
        })?;
        // RFC 7515 §4.1.11: an extension that must be understood and is not makes the token invalid.
        if header.crit.is_some() {
            return Err(Denied::Malformed);
        }
        let mut denied = Denied::UnknownKey;
        for key in self.candidates(header.kid.as_deref()) {
            // The header only chooses among what the key is for: RFC 8725 §3.1.
            if !key.algorithms.contains(&header.alg) {
                if denied == Denied::UnknownKey {
                    denied = Denied::Algorithm;
                }
                continue;
            }
            match decode(token, key) {
                Ok(claims) => return Ok((claims, key)),
                // Not a matter of the key: another one's verdict would only hide it.
                Err(Denied::Malformed) => return Err(Denied::Malformed),
                Err(failed) => denied = failed,
            }
        }
        Err(denied)
    }
}

/// Signature only. With these settings the library neither reads the clock (it does so only for `validate_exp` and
/// `validate_nbf`) nor looks at any claim.
#[expect(clippy::disallowed_methods, reason = "no clock is read: see the settings")]
fn decode(token: &str, key: &Key) -> Result<Map<String, Value>, Denied> {
    let validation = Validation {
        algorithms: key.algorithms.to_vec(),
        required_spec_claims: HashSet::default(),
        validate_exp: false,
        validate_nbf: false,
        validate_aud: false,
        ..Validation::default()
    };
    match jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &validation) {
        Ok(token) => Ok(token.claims),
        Err(error) => {
            let malformed = matches!(
                error.kind(),
                ErrorKind::InvalidToken
                    | ErrorKind::Base64(_)
                    | ErrorKind::Json(_)
                    | ErrorKind::Utf8(_)
            );
            Err(if malformed { Denied::Malformed } else { Denied::Signature })
        }
    }
}

/// RFC 7519 §4.1.4 to §4.1.6. Seconds are compared with the fraction of the time we are given: a token that expires
/// at 100 is valid at 99.9 and invalid at 100.
fn check_times(
    claims: &Map<String, Value>,
    unix: Duration,
    rules: &TokenRules,
) -> Result<(), Denied> {
    if seconds(claims, "iat")?.is_some_and(|issued| issued > unix.saturating_add(rules.leeway)) {
        return Err(Denied::IssuedInFuture);
    }
    if seconds(claims, "nbf")?.is_some_and(|begins| begins > unix.saturating_add(rules.leeway)) {
        return Err(Denied::NotYetValid);
    }
    match seconds(claims, "exp")? {
        None if rules.require_exp => Err(Denied::MissingExpiry),
        Some(expires) if expires.saturating_add(rules.leeway) <= unix => Err(Denied::Expired),
        Some(_) | None => Ok(()),
    }
}

/// A NumericDate (RFC 7519 §2) as whole seconds, fractions cut off. Below the epoch it becomes the epoch itself, far in
/// the future the end of the year 9999: neither changes any comparison with a real clock.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<Duration>, Denied> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(Denied::Claims) };
    let seconds = match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(seconds), _, _) => seconds,
        (None, Some(_negative), _) => 0,
        // `as` cuts the fraction off and saturates at both ends.
        (None, None, Some(float)) => float as u64,
        (None, None, None) => return Err(Denied::Claims),
    };
    Ok(Some(Duration::from_secs(seconds.min(YEAR_9999_END))))
}

fn check_issuer(claims: &Map<String, Value>, rules: &TokenRules) -> Result<(), Denied> {
    match &rules.issuer {
        Some(issuer) if claims.get("iss").and_then(Value::as_str) != Some(issuer) => {
            Err(Denied::Issuer)
        }
        Some(_) | None => Ok(()),
    }
}

/// RFC 7519 §4.1.3: whoever does not recognise itself in `aud` must refuse the token.
fn check_audience(claims: &Map<String, Value>, rules: &TokenRules) -> Result<(), Denied> {
    let ours = |value: &Value| {
        value
            .as_str()
            .is_some_and(|name| rules.audience.iter().flatten().any(|audience| audience == name))
    };
    let fits = match claims.get("aud") {
        None | Some(Value::Null) => rules.audience.is_none() || rules.audience_optional,
        Some(Value::Array(names)) => names.iter().all(Value::is_string) && names.iter().any(ours),
        Some(name) => ours(name),
    };
    if fits { Ok(()) } else { Err(Denied::Audience) }
}

fn read_claims(claims: &Map<String, Value>) -> Result<Claims, Denied> {
    // Present, `sub` and `jti` are strings (RFC 7519 §4.1.2, §4.1.7); null is no string.
    let text = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Denied::Claims),
    };
    let (subject, id) = (text("sub")?, text("jti")?);
    let user: Option<Arc<str>> = match claims.get("user_id") {
        None | Some(Value::Null) => subject.map(Arc::from),
        Some(Value::String(user)) => Some(Arc::from(user.as_str())),
        Some(Value::Number(user)) => Some(Arc::from(user.to_string())),
        Some(_) => return Err(Denied::Claims),
    };
    Ok(Claims {
        user,
        permissions: read_permissions(claims)?,
        expires: seconds(claims, "exp")?,
        issued_at: seconds(claims, "iat")?,
        id: id.map(Box::from),
        grants: Grants::read(claims.get("channels")).ok_or(Denied::Claims)?,
    })
}

/// Whole words only: `readonly` grants no `read`, whichever way the claim is written.
fn read_permissions(claims: &Map<String, Value>) -> Result<Vec<Box<str>>, Denied> {
    let claim = ["permissions", "scopes"]
        .iter()
        .find_map(|name| claims.get(*name).filter(|value| !value.is_null()));
    let permissions: Vec<Box<str>> = match claim {
        None => Vec::new(),
        Some(Value::String(text)) => text
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
            .map(Box::from)
            .collect(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(Box::from))
            .collect::<Option<_>>()
            .ok_or(Denied::Claims)?,
        Some(_) => return Err(Denied::Claims),
    };
    let fits = permissions.len() <= PERMISSIONS_MAX
        && permissions.iter().all(|p| p.len() <= PERMISSION_BYTES_MAX);
    if fits { Ok(permissions) } else { Err(Denied::Claims) }
}

/// 9999-12-31T23:59:59Z: the last second that RFC 3339 can write, and far below what an `Instant` can hold.
const YEAR_9999_END: u64 = 253_402_300_799;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
