//! Requests for the status of a thing, as services of this family have them, answered by the document of its channel.

use std::{borrow::Cow, fmt};

use super::{
    event,
    json::write_string,
    options::{members, members_or_null},
    scan::Value,
};

/// Which request is answered by which channel's document: `get_pool_status=pool:{pool_id}`. The name in braces is the member
/// of the request's `data` that names the thing, and the first one of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    event: Box<str>,
    member: Box<str>,
    before: Box<str>,
    after: Box<str>,
}

impl StatusRequest {
    /// Reads one. `None`: there is no name on a side, not one pair of braces, or the request is one of the protocol's own.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (event, channel) = text.split_once('=')?;
        let (before, rest) = channel.trim().split_once('{')?;
        let (member, after) = rest.split_once('}')?;
        let event = event.trim();
        let is_name = |name: &str| {
            let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(part)
        };
        let sound = is_name(event)
            && is_name(member)
            && !event::OWN.contains(&event)
            && ![before, after].iter().any(|part| part.contains(['{', '}']));
        let own = |text: &str| Box::from(text);
        sound.then(|| Self {
            event: own(event),
            member: own(member),
            before: own(before),
            after: own(after),
        })
    }

    /// The request's name.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The thing that the `data` of a request names. `None`: missing or not a string.
    #[must_use]
    pub fn thing<'d>(&self, data: &'d str) -> Option<Cow<'d, str>> {
        let [thing] = members(data, &[&self.member]).ok()?;
        thing.and_then(Value::string)
    }

    /// Its channel.
    #[must_use]
    pub fn channel(&self, thing: &str) -> String {
        [&*self.before, thing, &*self.after].concat()
    }

    /// The `data` of the answer: the channel's document, a JSON object, behind the thing's name, unless it has the name itself.
    /// Without a document the status is `not_found`.
    #[must_use]
    pub fn answer(&self, thing: &str, document: Option<&str>) -> String {
        let has_name = |document: &&str| {
            members_or_null(document, &[&self.member]).is_ok_and(|[found]| found.is_some())
        };
        if let Some(document) = document.filter(has_name) {
            return document.to_owned();
        }
        let members = document.and_then(|document| {
            document.trim().strip_prefix('{')?.strip_suffix('}').map(str::trim)
        });
        let members = members.unwrap_or("\"status\":\"not_found\"");
        let mut json = Vec::with_capacity(self.member.len() + thing.len() + members.len() + 8);
        json.push(b'{');
        write_string(&mut json, &self.member);
        json.push(b':');
        write_string(&mut json, thing);
        if !members.is_empty() {
            json.push(b',');
            json.extend_from_slice(members.as_bytes());
        }
        json.push(b'}');
        String::from_utf8(json).unwrap_or_default()
    }
}

/// As [`parse`](StatusRequest::parse) reads it.
impl fmt::Display for StatusRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, member, before, after } = self;
        write!(f, "{event}={before}{{{member}}}{after}")
    }
}

/// Bytes of a request's or a member's name.
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> StatusRequest {
        StatusRequest::parse("get_pool_status=pool:{pool_id}").unwrap()
    }

    #[test]
    fn a_request_names_a_thing_and_the_thing_a_channel() {
        let request = pool();
        assert_eq!(request.event(), "get_pool_status");
        assert_eq!(request.thing(r#"{"x":1,"pool_id":"a\u0062"}"#).as_deref(), Some("ab"));
        assert_eq!(request.channel("ab"), "pool:ab");
        for data in ["{}", r#"{"pool_id":7}"#, r#"{"pool_id":null}"#, "[]", "{"] {
            assert_eq!(request.thing(data), None, "{data}");
        }
        let around = StatusRequest::parse(" get_x = a:{id}:b ").unwrap();
        assert_eq!(
            (around.channel("7"), around.to_string()),
            ("a:7:b".into(), "get_x=a:{id}:b".into())
        );
    }

    #[test]
    fn what_names_nothing_or_too_much_is_none() {
        for text in [
            "",
            "get_x",
            "get_x=",
            "get_x=a:",
            "=a:{id}",
            "get_x=a:{}",
            "get_x=a:{id",
            "get_x=a:id}",
            "get_x={a}{b}",
            "get_x={{a}}",
            "get x={a}",
            "get_x={a b}",
            "subscribe={a}",
            "get_state={a}",
        ] {
            assert_eq!(StatusRequest::parse(text), None, "{text}");
        }
        assert_eq!(StatusRequest::parse(&format!("{}={{a}}", "x".repeat(65))), None);
    }

    #[test]
    fn an_answer_is_the_document_with_the_name_in_front() {
        let answer = |document| pool().answer("7", document);
        assert_eq!(answer(None), r#"{"pool_id":"7","status":"not_found"}"#);
        for (document, expected) in [
            (
                r#"{"status":"active","workers":[]}"#,
                r#"{"pool_id":"7","status":"active","workers":[]}"#,
            ),
            (r#" { "status": "active" } "#, r#"{"pool_id":"7","status": "active"}"#),
            ("{}", r#"{"pool_id":"7"}"#),
            (r#"{"x":{"pool_id":1}}"#, r#"{"pool_id":"7","x":{"pool_id":1}}"#),
            (
                r#"{"status":"active","pool_id":"seven"}"#,
                r#"{"status":"active","pool_id":"seven"}"#,
            ),
            (r#"{"pool_id":null,"x":1}"#, r#"{"pool_id":null,"x":1}"#),
        ] {
            assert_eq!(answer(Some(document)), expected);
        }
        assert_eq!(pool().answer("a\"b", None), r#"{"pool_id":"a\"b","status":"not_found"}"#);
    }
}
