//! Reading over HTTP: which channel a request names in its query and what of it, and whether it may.

use std::borrow::Cow;

use http::{HeaderMap, Request};

use super::{
    connections::Conn,
    env::Env,
    handshake::{bearer, certified},
    http::Refused,
    tokens::Tokens,
};
use crate::{
    auth::{Claims, Verb},
    protocol,
    reason::Reason,
    ws::Payload,
};

/// A request to read a channel that may be answered.
#[derive(Debug)]
pub(super) struct Read<'r> {
    pub(super) channel: Cow<'r, str>,
    pub(super) query: Query<'r>,
}

/// Whether a request may read the channel that its query names: who may subscribe to it may, with the token that is
/// presented here or by the certificate, and without authentication everybody.
pub(super) fn check_read<'r>(
    env: &Env,
    tokens: &Tokens,
    conn: &Conn,
    request: &'r Request<Payload<'_>>,
) -> Result<Read<'r>, Refused> {
    let config = &env.config;
    let claims = claims(env, tokens, conn, request.headers())?;
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let max = config.limits.channels.channel_bytes_max;
    let channel = query.text("channel").cloned();
    let channel = channel.filter(|channel| protocol::channel_is_valid(channel, max));
    let channel = channel.ok_or(Reason::InvalidChannel)?;
    let allowed = claims.is_none_or(|claims| {
        let access = config.policy.access(&claims.permissions);
        config.policy.decide_with(&access, &claims.grants, Verb::Subscribe, &channel).allowed
    });
    if allowed { Ok(Read { channel, query }) } else { Err(Reason::SubscribeForbidden.into()) }
}

/// What the token of a request, or else the certificate of its connection, says of its sender. `None`: nothing, and it need
/// not.
pub(super) fn claims(
    env: &Env,
    tokens: &Tokens,
    conn: &Conn,
    headers: &HeaderMap,
) -> Result<Option<Claims>, Reason> {
    let auth = &env.config.auth;
    if let Some(token) = bearer(headers).filter(|_| !auth.keys.is_empty()) {
        let token = tokens.verify(env, token).map_err(|_| Reason::AuthFailed)?;
        return Ok(Some(token.claims));
    }
    match certified(env, conn) {
        None if auth.required => Err(Reason::AuthRequired),
        claims => Ok(claims),
    }
}

/// The parameters of a request's query, as forms and browsers write them (`application/x-www-form-urlencoded`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query<'r>(Vec<(Cow<'r, str>, Cow<'r, str>)>);

impl<'r> Query<'r> {
    /// Fails if it is not encoded as it should be, or names a parameter twice: two readers would not agree on it.
    fn parse(query: &'r str) -> Result<Self, Refused> {
        let mut pairs: Vec<(Cow<'r, str>, Cow<'r, str>)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = unescaped(name).zip(unescaped(value));
            let Some((name, value)) = decoded else {
                return Err(invalid("it is not encoded well"));
            };
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(invalid("a parameter is there twice"));
            }
            if pairs.len() == PARAMETERS_MAX {
                return Err(invalid("too many parameters"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&Cow<'r, str>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a parameter that is a whole number, if it is there. One that does not fit into 64 bits is as good as
    /// the largest.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u64>, Refused> {
        let Some(text) = self.text(name) else { return Ok(None) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid(&format!("{name} is no whole number")));
        }
        Ok(Some(text.parse().unwrap_or(u64::MAX)))
    }
}

/// The query cannot be understood. `why` does not repeat it.
pub(super) fn invalid(why: &str) -> Refused {
    Refused { reason: Reason::Decode, detail: Some(format!("Invalid query: {why}").into()) }
}

/// Decodes what is percent-encoded, and takes a plus sign for a space. `None`: an escape is cut off or what comes out is no
/// UTF-8.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Each is compared with all before it.
const PARAMETERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(query: &str, name: &str) -> Option<String> {
        Query::parse(query).ok()?.text(name).map(|value| value.clone().into_owned())
    }

    #[test]
    fn parameters_are_decoded_as_browsers_encode_them() {
        let query = "channel=gr%C3%B6%c3%9fe:a%2Bb+c%26d&limit=5&&flag&empty=";
        assert_eq!(text(query, "channel").as_deref(), Some("größe:a+b c&d"));
        assert_eq!(text(query, "limit").as_deref(), Some("5"));
        assert_eq!((text(query, "flag"), text(query, "empty")), (Some("".into()), Some("".into())));
        assert_eq!(text(query, "Channel"), None);
        assert_eq!(Query::parse("").ok(), Some(Query::default()));
    }

    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        let many = (0..=PARAMETERS_MAX).map(|n| format!("p{n}")).collect::<Vec<_>>().join("&");
        for query in ["a=%", "a=%2", "a=%zz", "a=%ff", "%=1", "a=1&a=1", "a=1&%61=2", &many] {
            let refused = Query::parse(query).expect_err(query);
            assert_eq!(refused.reason, Reason::Decode, "{query}");
            assert!(refused.detail.is_some_and(|why| why.starts_with("Invalid query: ")));
        }
    }

    #[test]
    fn numbers_are_digits() {
        let query = Query::parse("a=0&b=18446744073709551616&c=-1&d=+5&e=&f=1.5").ok().unwrap();
        assert_eq!(query.number("a").ok(), Some(Some(0)));
        assert_eq!(query.number("b").ok(), Some(Some(u64::MAX)));
        assert_eq!(query.number("none").ok(), Some(None));
        for name in ["c", "d", "e", "f"] {
            assert!(query.number(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_through(value: String) {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(text(&format!("a=1&v={encoded}"), "v"), Some(value));
        }

        #[test]
        fn any_query_has_an_answer(query: String) {
            let _ = Query::parse(&query);
        }
    }
}
