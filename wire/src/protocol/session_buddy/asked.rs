//! What clients send.

use std::{borrow::Cow, fmt};

use super::{
    super::{
        decode::DecodeError,
        scan::{Scanner, Value},
    },
    NAME_BYTES_MAX,
};

/// A client's message.
#[derive(Clone, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A token, in a message without `type`. `None`: it is not a string, or empty.
    Token(Option<Cow<'a, str>>),
    /// The figures of one skill from now on, or of all.
    Subscribe {
        /// `skill`, or `skill_name` as a document of the service has it. `None`: all.
        skill: Option<Cow<'a, str>>,
    },
    /// The figures of all skills.
    Unsubscribe,
    /// A sign of life is asked for.
    Ping,
    /// Anything else, to which there is no answer.
    Other,
}

impl<'a> Asked<'a> {
    /// Reads one message from a text or binary frame.
    ///
    /// # Errors
    /// See [`read`](Self::read); and it is not UTF-8.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        std::str::from_utf8(message).map_err(|_| DecodeError::Utf8).and_then(Self::read)
    }

    /// Reads one message.
    ///
    /// # Errors
    /// It is no JSON object, nests deeper than [`NESTING_MAX`](super::super::NESTING_MAX), or subscribes to something that is
    /// neither null nor a name of at most [`NAME_BYTES_MAX`] bytes.
    pub fn read(message: &'a str) -> Result<Self, DecodeError> {
        let [kind, skill, skill_name, token] = fields(message)?;
        Ok(match (kind.map(Value::string), token) {
            (Some(Some(kind)), _) => match &*kind {
                "subscribe" => Self::Subscribe { skill: named(skill.or(skill_name))? },
                "unsubscribe" => Self::Unsubscribe,
                "ping" => Self::Ping,
                _ => Self::Other,
            },
            (None, Some(token)) => Self::Token(text(token)),
            (Some(None), _) | (None, None) => Self::Other,
        })
    }

    /// Reads the first message of a client that has to authenticate, from a text or binary frame: whatever else is in it, its
    /// `token` counts. `None`: it has none that is a string and not empty.
    ///
    /// # Errors
    /// It is not UTF-8 or no JSON object, or nests too deep.
    pub fn first(message: &'a [u8]) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let message = std::str::from_utf8(message).map_err(|_| DecodeError::Utf8)?;
        let [.., token] = fields(message)?;
        Ok(token.and_then(text))
    }
}

type Fields<'a> = [Option<Value<'a>>; FIELDS.len()];

fn fields(message: &str) -> Result<Fields<'_>, DecodeError> {
    let mut scanner = Scanner::new(message);
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(DecodeError::NotAnObject);
    }
    let mut fields = [None; FIELDS.len()];
    let readable = scanner.object(FIELDS, |scanner, index| {
        let value = scanner.value()?;
        if let Some(field) = fields.get_mut(index) {
            *field = Some(value);
        }
        Ok(())
    })?;
    scanner.end()?;
    if readable { Ok(fields) } else { Err(DecodeError::Syntax) }
}

fn text(token: Value<'_>) -> Option<Cow<'_, str>> {
    token.string().filter(|token| !token.is_empty())
}

/// The skill that is meant. An empty name means all of them, as in the original.
fn named(skill: Option<Value<'_>>) -> Result<Option<Cow<'_, str>>, DecodeError> {
    match skill.filter(|skill| !skill.is_null()) {
        None => Ok(None),
        Some(skill) => match skill.string() {
            Some(name) if name.len() <= NAME_BYTES_MAX => Ok(Some(name)),
            _ => Err(DecodeError::Member(SKILL_RULE)),
        },
    }
}

/// The name only: what it holds may be a token or private, and is not for logs.
impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Subscribe { .. } => "Subscribe { .. }",
            Self::Unsubscribe => "Unsubscribe",
            Self::Ping => "Ping",
            Self::Other => "Other",
        })
    }
}

const FIELDS: &[&str; 4] = &["type", "skill", "skill_name", "token"];

const SKILL_RULE: &str = "skill must be null or a name that is not too long";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    const NAMES: &[&str] = &["type", "skill", "skill_name", "token", "x"];
    const VALUES: &[&str] =
        &["\"subscribe\"", "\"ping\"", "\"a\"", "\"\"", "null", "5", "{}", "[\"a\"]", "nul"];

    fn subscribe(skill: Option<&str>) -> Asked<'_> {
        Asked::Subscribe { skill: skill.map(Cow::Borrowed) }
    }

    #[test]
    fn a_skill_is_named_in_either_way_and_null_is_all() {
        for (text, skill) in [
            (r#"{"type":"subscribe","skill":"a"}"#, Some("a")),
            (r#"{"type":"subscribe","skill_name":"a"}"#, Some("a")),
            (r#"{"type":"subscribe","skill":"a","skill_name":"b"}"#, Some("a")),
            (r#"{"type":"subscribe","skill":"\u0061"}"#, Some("a")),
            (r#"{"type":"subscribe","skill":null}"#, None),
            (r#"{"type":"subscribe","skill":null,"skill_name":"b"}"#, None),
            (r#"{"type":"subscribe"}"#, None),
            (r#"{"skill":"","type":"subscribe","x":[1]}"#, Some("")),
        ] {
            assert_eq!(Asked::read(text), Ok(subscribe(skill)), "{text}");
        }
        let long = format!(r#"{{"type":"subscribe","skill":"{}"}}"#, "x".repeat(257));
        for text in
            [r#"{"type":"subscribe","skill":5}"#, r#"{"type":"subscribe","skill":["a"]}"#, &long]
        {
            assert_eq!(Asked::read(text), Err(DecodeError::Member(SKILL_RULE)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_known_by_its_type_alone() {
        for (text, asked) in [
            (r#"{"type":"unsubscribe","skill":5}"#, Asked::Unsubscribe),
            (r#"{"type":"ping"}"#, Asked::Ping),
            (r#"{"type":"get_metrics","skill_name":"a"}"#, Asked::Other),
            (r#"{"type":"SUBSCRIBE"}"#, Asked::Other),
            (r#"{"type":5,"token":"t"}"#, Asked::Other),
            (r#"{"type":"auth","token":"t"}"#, Asked::Other),
            ("{}", Asked::Other),
            (r#"{"token":"t"}"#, Asked::Token(Some("t".into()))),
            (r#"{"token":null}"#, Asked::Token(None)),
            (r#"{"token":""}"#, Asked::Token(None)),
        ] {
            assert_eq!(Asked::read(text), Ok(asked), "{text}");
        }
        for (text, error) in [
            ("", DecodeError::Syntax),
            ("hello", DecodeError::Syntax),
            ("[]", DecodeError::NotAnObject),
            (r#"{"type":"ping"} x"#, DecodeError::Syntax),
        ] {
            assert_eq!(Asked::read(text), Err(error), "{text}");
        }
        assert_eq!(Asked::decode(b"\xff"), Err(DecodeError::Utf8));
    }

    #[test]
    fn the_first_message_has_its_token_beside_whatever_else() {
        let first = |text: &'static str| Asked::first(text.as_bytes());
        assert_eq!(first(r#"{"token":"t"}"#), Ok(Some("t".into())));
        assert_eq!(first(r#"{"type":"auth","token":"t"}"#), Ok(Some("t".into())));
        for text in
            [r#"{"type":"ping"}"#, r#"{"token":5}"#, r#"{"token":""}"#, r#"{"data":{"token":"t"}}"#]
        {
            assert_eq!(first(text), Ok(None), "{text}");
        }
        assert!(first("token").is_err() && Asked::first(b"\xff").is_err());
    }

    proptest! {
        /// What serde_json takes for a message is one, and means the same.
        #[test]
        fn it_is_read_as_serde_json_reads_it(
            members in prop::collection::vec((prop::sample::select(NAMES), prop::sample::select(VALUES)), 0..4),
            end in prop::sample::select(&["}", "} ", "", "},"][..]),
        ) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}{end}", members.join(", "));
            let read = Asked::read(&text);
            match serde_json::from_str::<Json>(&text) {
                Err(_) => prop_assert!(read.is_err(), "{}", text),
                Ok(json) => {
                    let kind = json.get("type");
                    let skill = json.get("skill").or_else(|| json.get("skill_name"));
                    let skill = skill.filter(|skill| !skill.is_null());
                    let expected = match (kind.and_then(Json::as_str), json.get("token")) {
                        (Some("subscribe"), _) if skill.is_some_and(|skill| !skill.is_string()) => {
                            Err(DecodeError::Member(SKILL_RULE))
                        }
                        (Some("subscribe"), _) => Ok(subscribe(skill.and_then(Json::as_str))),
                        (Some("ping"), _) => Ok(Asked::Ping),
                        (_, Some(token)) if kind.is_none() => {
                            let token = token.as_str().filter(|token| !token.is_empty());
                            Ok(Asked::Token(token.map(Cow::Borrowed)))
                        }
                        _ => Ok(Asked::Other),
                    };
                    prop_assert_eq!(read, expected, "{}", text);
                }
            }
        }

        #[test]
        fn noise_does_not_panic(noise: Vec<u8>) {
            let _ = (Asked::decode(&noise), Asked::first(&noise));
        }
    }
}
