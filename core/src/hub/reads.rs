//! Reading over HTTP: which channel a request names in its query and what of it, and whether it may.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, Request};

use super::{
    connections::Conn,
    env::Env,
    handshake::{bearer, certified},
    http::Refused,
    looks::{Query, Range},
    tokens::Tokens,
};
use crate::{
    auth::{Claims, Verb},
    limits::Limits,
    protocol::{self, Epoch, HistoryRequest, Position},
    reason::Reason,
    ws::Payload,
};

/// What is read over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/history`: as the request `get_history`.
    History,
    /// `/state`: as the request `get_state`.
    State,
}

impl Resource {
    /// What is at this path, if anything.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/history" => Some(Self::History),
            "/state" => Some(Self::State),
            _ => None,
        }
    }

    /// What the parameters ask for.
    fn query(self, parameters: &Parameters<'_>, limits: &Limits) -> Result<Query, Refused> {
        match self {
            Self::History => {
                let request = history_request(parameters)?;
                Ok(Query::History(Range::of(&request, limits)))
            }
            Self::State => Ok(Query::State),
        }
    }
}

/// A request to read a channel that may be answered.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) channel: Box<str>,
    /// Whose it is.
    pub(super) user: Option<Arc<str>>,
    pub(super) query: Query,
}

/// Whether a request may read the channel that it names: who may subscribe to it may, with the token that is presented here
/// or by the certificate, and without authentication everybody.
pub(super) fn check_read(
    env: &Env,
    tokens: &Tokens,
    sender: (&Conn, Option<&Claims>),
    resource: Resource,
    request: &Request<Payload<'_>>,
) -> Result<Read, Refused> {
    let (config, limits) = (&env.config, &env.config.limits);
    let claims = claims(env, tokens, sender, request.headers())?;
    let parameters = Parameters::parse(request.uri().query().unwrap_or_default())?;
    let max = limits.channels.channel_bytes_max;
    let channel = parameters.text("channel");
    let channel = channel.filter(|channel| protocol::channel_is_valid(channel, max));
    let channel = channel.ok_or(Reason::InvalidChannel)?;
    let allowed = claims.as_ref().is_none_or(|claims| {
        if config.is_for_backend(channel) {
            return config.serves(claims);
        }
        let access = config.policy.access(&claims.permissions);
        config.policy.decide_with(&access, &claims.grants, Verb::Subscribe, channel).allowed
            && (access.is_full() || !config.is_hidden(channel))
    });
    if !allowed {
        return Err(Refused::forbidden(config, Verb::Subscribe, channel));
    }
    let query = resource.query(&parameters, limits)?;
    Ok(Read { channel: channel.into(), user: claims.and_then(|claims| claims.user), query })
}

/// The user whom a query names.
pub(super) fn user(query: &str) -> Result<Arc<str>, Refused> {
    let parameters = Parameters::parse(query)?;
    let user = parameters.text("user").filter(|user| (1..=USER_BYTES_MAX).contains(&user.len()));
    user.map(Arc::from).ok_or_else(|| invalid("user has 1 to 256 bytes"))
}

/// `epoch` and `after`, or `before`, and `limit`.
fn history_request(parameters: &Parameters<'_>) -> Result<HistoryRequest<'static>, Refused> {
    let (epoch, after) = (parameters.text("epoch"), parameters.number("after")?);
    let after = match (epoch, after) {
        (Some(epoch), Some(offset)) => {
            let epoch = Epoch::parse(epoch).ok_or_else(|| invalid("epoch is none of a channel"))?;
            Some(Position { epoch, offset })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(invalid("epoch and after go together")),
    };
    let before = parameters.number("before")?;
    if after.is_some() && before.is_some() {
        return Err(invalid("after or before, not both"));
    }
    let limit = parameters.number("limit")?;
    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    Ok(HistoryRequest { channel: None, limit, after, before })
}

/// What the application has said (`vouched`), the token of a request, or else the certificate of its connection, says of its sender. `None`: nothing, and it need
/// not.
pub(super) fn claims(
    env: &Env,
    tokens: &Tokens,
    (conn, vouched): (&Conn, Option<&Claims>),
    headers: &HeaderMap,
) -> Result<Option<Claims>, Reason> {
    if let Some(claims) = vouched {
        return Ok(Some(claims.clone()));
    }
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
struct Parameters<'r>(Vec<(Cow<'r, str>, Cow<'r, str>)>);

impl<'r> Parameters<'r> {
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
    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter that is a whole number, if it is there. One that does not fit into 64 bits is as good as
    /// the largest.
    fn number(&self, name: &'static str) -> Result<Option<u64>, Refused> {
        let Some(text) = self.text(name) else { return Ok(None) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid(&format!("{name} is no whole number")));
        }
        Ok(Some(text.parse().unwrap_or(u64::MAX)))
    }
}

/// The query cannot be understood. `why` does not repeat it.
fn invalid(why: &str) -> Refused {
    Refused::with(Reason::Decode, format!("Invalid query: {why}"))
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

/// Bytes of a user's name.
const USER_BYTES_MAX: usize = 256;

/// Each is compared with all before it.
const PARAMETERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(query: &str, name: &str) -> Option<String> {
        Parameters::parse(query).ok()?.text(name).map(str::to_owned)
    }

    #[test]
    fn parameters_are_decoded_as_browsers_encode_them() {
        let query = "channel=gr%C3%B6%c3%9fe:a%2Bb+c%26d&limit=5&&flag&empty=";
        assert_eq!(text(query, "channel").as_deref(), Some("größe:a+b c&d"));
        assert_eq!(text(query, "limit").as_deref(), Some("5"));
        assert_eq!((text(query, "flag"), text(query, "empty")), (Some("".into()), Some("".into())));
        assert_eq!(text(query, "Channel"), None);
        assert_eq!(Parameters::parse("").ok(), Some(Parameters::default()));
    }

    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        let many = (0..=PARAMETERS_MAX).map(|n| format!("p{n}")).collect::<Vec<_>>().join("&");
        for query in ["a=%", "a=%2", "a=%zz", "a=%ff", "%=1", "a=1&a=1", "a=1&%61=2", &many] {
            let refused = Parameters::parse(query).expect_err(query);
            assert_eq!(refused.reason, Reason::Decode, "{query}");
            assert!(refused.detail.is_some_and(|why| why.starts_with("Invalid query: ")));
        }
    }

    #[test]
    fn numbers_are_digits() {
        let query =
            Parameters::parse("a=0&b=18446744073709551616&c=-1&d=+5&e=&f=1.5").ok().unwrap();
        assert_eq!(query.number("a").ok(), Some(Some(0)));
        assert_eq!(query.number("b").ok(), Some(Some(u64::MAX)));
        assert_eq!(query.number("none").ok(), Some(None));
        for name in ["c", "d", "e", "f"] {
            assert!(query.number(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_part_of_history_is_on_one_side_of_a_place() {
        let read = |query: &str| history_request(&Parameters::parse(query).ok().unwrap());
        let epoch = Epoch::from_random(7);
        let none = HistoryRequest { channel: None, limit: None, after: None, before: None };
        assert_eq!(read("channel=c&x=1").ok(), Some(none.clone()));
        let after = Some(Position { epoch, offset: 9 });
        let request = HistoryRequest { limit: Some(5), after, ..none.clone() };
        assert_eq!(read(&format!("limit=5&epoch={epoch}&after=9")).ok(), Some(request));
        let request = HistoryRequest { before: Some(3), limit: Some(u32::MAX), ..none };
        assert_eq!(read("before=3&limit=99999999999").ok(), Some(request));
        let both = format!("epoch={epoch}&after=1&before=2");
        let alone = format!("epoch={epoch}");
        for query in [&*both, &*alone, "after=1", "epoch=nonsense&after=1", "before=x", "limit=-1"]
        {
            assert!(read(query).is_err(), "{query}");
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
            let _ = Parameters::parse(&query);
        }
    }
}
