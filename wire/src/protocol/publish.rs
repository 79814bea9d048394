//! The body of `POST /publish`: one message, several in `messages`, or an array of them.

use std::{borrow::Cow, fmt};

pub use super::publish_options::KEY_BYTES_MAX;
use super::{
    json::{EMPTY_OBJECT, write_string},
    publish_options::{MESSAGE_OPTIONS, MessageOptions, idempotency_key},
    scan::{Fault, Scanner, Value},
};

/// What a publisher asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest<'a> {
    /// At least one.
    pub messages: Vec<PublishMessage<'a>>,
    /// `idempotency_key`: the same request under the same key is carried out once. 1 to 256 bytes.
    pub idempotency_key: Option<Cow<'a, str>>,
}

/// One event for one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishMessage<'a> {
    /// `channel`, or `room`. Not yet checked for its form.
    pub channel: Cow<'a, str>,
    /// `event`, not empty.
    pub event: Cow<'a, str>,
    /// `data`: the JSON text of an object, `{}` if it is missing.
    pub data: &'a str,
    /// What goes with it.
    pub options: MessageOptions<'a>,
}

impl PublishMessage<'_> {
    /// Appends the message, which is a body by itself and may stand in a list of several.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":");
        write_string(out, &self.channel);
        out.extend_from_slice(b",\"event\":");
        write_string(out, &self.event);
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(self.data.as_bytes());
        self.options.write(out);
        out.push(b'}');
    }
}

/// Why a body is refused. Says which message, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// Not UTF-8.
    Utf8,
    /// Not JSON.
    Syntax,
    /// Neither an object nor an array.
    Shape,
    /// Nested deeper than [`NESTING_MAX`](super::NESTING_MAX).
    TooDeep,
    /// No message.
    Empty,
    /// More messages than allowed at once.
    TooMany,
    /// An `idempotency_key` that is no string, empty, or over 256 bytes.
    Key,
    /// The message at this index is not an object.
    Message(usize),
    /// The message at this index has no `channel`, or one that is no string.
    Channel(usize),
    /// The message at this index has no `event`, or one that is no string or empty.
    Event(usize),
    /// The message at this index has `data` that is not an object.
    Data(usize),
    /// The message at this index has `positions` that is neither true nor false.
    Positions(usize),
    /// The message at this index has a `state` that is not an object.
    State(usize),
    /// The message at this index has an `if_offset` that is no number, or an `if_epoch` that is none or alone.
    Condition(usize),
    /// The message at this index has an `if_offset`, and is not the first.
    LateCondition(usize),
}

/// Reads a body of at most `batch_max` messages.
pub fn parse(body: &[u8], batch_max: usize) -> Result<PublishRequest<'_>, PublishError> {
    let body = std::str::from_utf8(body).map_err(|_| PublishError::Utf8)?;
    let mut scanner = Scanner::new(body);
    let mut found = Found::default();
    match scanner.peek() {
        Some(b'[') => found.messages = Some(read_list(&mut scanner, batch_max)?),
        Some(b'{') => read_object(&mut scanner, batch_max, &mut found)?,
        _ => {
            scanner.value()?;
            scanner.end()?;
            return Err(PublishError::Shape);
        }
    }
    // That it is JSON at all comes first; what is wrong with which message comes after.
    scanner.end()?;
    let messages = match found.messages {
        Some(list) => {
            let list = list.ok_or(PublishError::Shape)?;
            if list.len() > batch_max {
                return Err(PublishError::TooMany);
            }
            let messages = list.into_iter().enumerate();
            messages.map(|(index, parts)| message(parts, index)).collect::<Result<_, _>>()?
        }
        None => vec![message(found.single, 0)?],
    };
    let key = found.key.filter(|key| !key.is_null());
    let key = key.map(|key| idempotency_key(key).ok_or(PublishError::Key)).transpose()?;
    if messages.is_empty() {
        return Err(PublishError::Empty);
    }
    Ok(PublishRequest { messages, idempotency_key: key })
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8 => f.write_str("the body is not UTF-8"),
            Self::Syntax => f.write_str("the body is not JSON"),
            Self::Shape => f.write_str(
                "the body must be a message, {\"messages\": […]}, or an array of messages",
            ),
            Self::TooDeep => f.write_str("the body is nested too deep"),
            Self::Empty => f.write_str("there is no message in the body"),
            Self::TooMany => f.write_str("too many messages at once"),
            Self::Key => {
                write!(f, "idempotency_key must be a string of 1 to {KEY_BYTES_MAX} bytes")
            }
            Self::Message(index) => write!(f, "message {index} must be an object"),
            Self::Channel(index) => write!(f, "message {index}: channel must be a string"),
            Self::Event(index) => {
                write!(f, "message {index}: event must be a string that is not empty")
            }
            Self::Data(index) => write!(f, "message {index}: data must be an object"),
            Self::Positions(index) => {
                write!(f, "message {index}: positions must be true or false")
            }
            Self::State(index) => write!(f, "message {index}: state must be an object"),
            Self::Condition(index) => write!(
                f,
                "message {index}: if_offset must be a whole number, and if_epoch an epoch beside it"
            ),
            Self::LateCondition(index) => {
                write!(f, "message {index}: only the first message may have an if_offset")
            }
        }
    }
}

impl std::error::Error for PublishError {}

impl From<Fault> for PublishError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax => Self::Syntax,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

/// What a body consists of, before it is known to be sound.
#[derive(Default)]
struct Found<'a> {
    /// `messages`, or the array that the body is. `None` inside: it is no array.
    messages: Option<Option<Vec<Parts<'a>>>>,
    key: Option<Value<'a>>,
    /// The message that the body is.
    single: Parts<'a>,
}

/// The members of a message.
#[derive(Clone, Copy, Default)]
struct Parts<'a> {
    /// An object, and all its names are Unicode.
    readable: bool,
    channel: Option<Value<'a>>,
    room: Option<Value<'a>>,
    event: Option<Value<'a>>,
    data: Option<Value<'a>>,
    options: [Option<Value<'a>>; MESSAGE_OPTIONS.len()],
}

impl<'a> Parts<'a> {
    /// Reads the value behind the member `name`, if it has a meaning.
    fn read(&mut self, scanner: &mut Scanner<'a>, name: &str) -> Result<(), Fault> {
        let value = Some(scanner.value()?);
        match name {
            "channel" => self.channel = value,
            "room" => self.room = value,
            "event" => self.event = value,
            "data" => self.data = value,
            name => {
                let at = MESSAGE_OPTIONS.iter().position(|known| *known == name);
                if let Some(option) = at.and_then(|at| self.options.get_mut(at)) {
                    *option = value;
                }
            }
        }
        Ok(())
    }
}

/// A body that is an object: a message, or several in `messages`.
fn read_object<'a>(
    scanner: &mut Scanner<'a>,
    batch_max: usize,
    found: &mut Found<'a>,
) -> Result<(), Fault> {
    const NAMES: &[&str; 11] = &[
        "messages",
        "idempotency_key",
        "channel",
        "room",
        "event",
        "data",
        "positions",
        "state",
        "if_offset",
        "if_epoch",
        "traceparent",
    ];
    let readable = scanner.object(NAMES, |scanner, index| match NAMES.get(index) {
        Some(&"messages") => {
            found.messages = Some(read_list(scanner, batch_max)?);
            Ok(())
        }
        Some(&"idempotency_key") => {
            found.key = Some(scanner.value()?);
            Ok(())
        }
        name => found.single.read(scanner, name.unwrap_or(&"")),
    })?;
    found.single.readable = true;
    if readable { Ok(()) } else { Err(Fault::Syntax) }
}

/// A list of messages. Keeps one more than allowed and steps over the rest, so that a body full of commas costs no
/// memory.
fn read_list<'a>(
    scanner: &mut Scanner<'a>,
    batch_max: usize,
) -> Result<Option<Vec<Parts<'a>>>, Fault> {
    if scanner.peek() != Some(b'[') {
        scanner.value()?;
        return Ok(None);
    }
    let mut list = Vec::new();
    scanner.array(|scanner| {
        if list.len() > batch_max {
            return scanner.value().map(drop);
        }
        list.push(read_message(scanner)?);
        Ok(())
    })?;
    Ok(Some(list))
}

fn read_message<'a>(scanner: &mut Scanner<'a>) -> Result<Parts<'a>, Fault> {
    const NAMES: &[&str; 9] = &[
        "channel",
        "room",
        "event",
        "data",
        "positions",
        "state",
        "if_offset",
        "if_epoch",
        "traceparent",
    ];
    let mut parts = Parts::default();
    if scanner.peek() == Some(b'{') {
        parts.readable = scanner
            .object(NAMES, |scanner, index| parts.read(scanner, NAMES.get(index).unwrap_or(&"")))?;
    } else {
        scanner.value()?;
    }
    Ok(parts)
}

fn message(parts: Parts<'_>, index: usize) -> Result<PublishMessage<'_>, PublishError> {
    if !parts.readable {
        return Err(PublishError::Message(index));
    }
    let channel = parts.channel.or(parts.room).and_then(Value::string);
    let event = parts.event.and_then(Value::string).filter(|event| !event.is_empty());
    Ok(PublishMessage {
        channel: channel.ok_or(PublishError::Channel(index))?,
        event: event.ok_or(PublishError::Event(index))?,
        data: match parts.data {
            None => EMPTY_OBJECT,
            Some(data) if data.is_object() => data.get(),
            Some(_) => return Err(PublishError::Data(index)),
        },
        options: options(parts.options, index)?,
    })
}

fn options(
    values: [Option<Value<'_>>; MESSAGE_OPTIONS.len()],
    index: usize,
) -> Result<MessageOptions<'_>, PublishError> {
    let options = MessageOptions::read(values).map_err(|which| match which {
        0 => PublishError::Positions(index),
        1 => PublishError::State(index),
        _ => PublishError::Condition(index),
    })?;
    // The others are published once the first is: so all are, or none.
    if options.condition.is_some() && index > 0 {
        return Err(PublishError::LateCondition(index));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Condition, Epoch, TraceParent};

    #[test]
    fn one_message_several_or_an_array() {
        let first = message("pool:1", "pool.scaled", r#"{"worker_count":3}"#);
        let second = message("global", "note", "{}");
        let one = r#"{"channel":"pool:1","event":"pool.scaled","data":{"worker_count":3}}"#;
        let two = r#"{"room":"global","event":"note"}"#;
        for (body, expected) in [
            (one.to_owned(), vec![first.clone()]),
            (format!(" [{one},{two}] "), vec![first.clone(), second.clone()]),
            (format!(r#"{{"messages":[{two},{one}]}}"#), vec![second.clone(), first.clone()]),
        ] {
            let request = parse(body.as_bytes(), 10).unwrap();
            assert_eq!(request.messages, expected, "{body}");
            assert_eq!(request.idempotency_key, None);
        }
    }

    #[test]
    fn an_idempotency_key_is_a_short_string() {
        let body = |key: &str| format!(r#"{{"channel":"c","event":"e","idempotency_key":{key}}}"#);
        let key = |text: &str| {
            parse(text.as_bytes(), 1).map(|request| request.idempotency_key.map(Cow::into_owned))
        };
        assert_eq!(key(&body(r#""k-1""#)), Ok(Some("k-1".to_owned())));
        assert_eq!(key(&body("null")), Ok(None));
        assert_eq!(
            key(&format!(r#"{{"messages":[{}],"idempotency_key":"k"}}"#, body("5"))),
            Ok(Some("k".to_owned()))
        );
        for wrong in ["5", r#""""#, &format!("\"{}\"", "k".repeat(257))] {
            assert_eq!(key(&body(wrong)), Err(PublishError::Key));
        }
    }

    #[test]
    fn each_message_has_options_of_its_own() {
        let body = r#"[{"channel":"c","event":"e","state":{"n":1},"if_offset":0},
            {"channel":"d","event":"e","positions":true},{"channel":"d","event":"e"}]"#;
        let options: Vec<_> =
            parse(body.as_bytes(), 10).unwrap().messages.iter().map(|m| m.options).collect();
        let condition = Some(Condition { offset: 0, epoch: None });
        let first = MessageOptions {
            positions: true,
            state: Some(r#"{"n":1}"#),
            condition,
            traceparent: None,
        };
        let second = MessageOptions { positions: true, ..MessageOptions::default() };
        assert_eq!(options, [first, second, MessageOptions::default()]);
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_index() {
        let good = r#"{"channel":"c","event":"e"}"#;
        for (second, error) in [
            ("5", PublishError::Message(1)),
            ("[]", PublishError::Message(1)),
            (r#"{"event":"e"}"#, PublishError::Channel(1)),
            (r#"{"channel":5,"event":"e"}"#, PublishError::Channel(1)),
            (r#"{"channel":"c"}"#, PublishError::Event(1)),
            (r#"{"channel":"c","event":""}"#, PublishError::Event(1)),
            (r#"{"channel":"c","event":"e","data":null}"#, PublishError::Data(1)),
            (r#"{"channel":"c","event":"e","data":[]}"#, PublishError::Data(1)),
            (r#"{"channel":"c","event":"e","positions":1}"#, PublishError::Positions(1)),
            (r#"{"channel":"c","event":"e","state":5}"#, PublishError::State(1)),
            (r#"{"channel":"c","event":"e","if_offset":"5"}"#, PublishError::Condition(1)),
            (r#"{"channel":"c","event":"e","if_epoch":"x"}"#, PublishError::Condition(1)),
            (r#"{"channel":"c","event":"e","if_offset":5}"#, PublishError::LateCondition(1)),
        ] {
            assert_eq!(parse(format!("[{good},{second}]").as_bytes(), 10), Err(error), "{second}");
        }
    }

    #[test]
    fn other_bodies_are_refused() {
        let deep = format!(
            r#"{{"channel":"c","event":"e","data":{{"x":{}{}}}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let cases: &[(&[u8], PublishError)] = &[
            (b"", PublishError::Syntax),
            (b"channel=c", PublishError::Syntax),
            (b"{} {}", PublishError::Syntax),
            (b"\xff", PublishError::Utf8),
            (b"5", PublishError::Shape),
            (b"\"text\"", PublishError::Shape),
            (b"{\"messages\":{}}", PublishError::Shape),
            (b"{\"messages\":null}", PublishError::Shape),
            (b"{}", PublishError::Channel(0)),
            (b"[]", PublishError::Empty),
            (b"{\"messages\":[]}", PublishError::Empty),
            (deep.as_bytes(), PublishError::TooDeep),
            (b"[5] x", PublishError::Syntax),
            (b"[{\"channel\":\"c\",\"event\":\"e\"},]", PublishError::Syntax),
            (b"{\"channel\":\"c\",\"event\":\"e\",\"\\ud800\":1}", PublishError::Syntax),
            (b"[{\"channel\":\"c\",\"event\":\"e\",\"\\ud800\":1}]", PublishError::Message(0)),
            (b"{\"messages\":[5],\"idempotency_key\":5}", PublishError::Message(0)),
        ];
        for (body, error) in cases {
            assert_eq!(parse(body, 10), Err(*error), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_batch_is_bounded() {
        let batch =
            |count: usize| format!("[{}]", vec![r#"{"channel":"c","event":"e"}"#; count].join(","));
        assert_eq!(parse(batch(3).as_bytes(), 3).unwrap().messages.len(), 3);
        for count in [4, 5, 400] {
            assert_eq!(parse(batch(count).as_bytes(), 3), Err(PublishError::TooMany));
        }
    }

    proptest! {
        #[test]
        fn a_message_reads_back(
            channel: String,
            event in "(?s).{1,20}",
            positions: bool,
            state: bool,
            condition: Option<(u64, Option<u64>)>,
            traced: Option<(u64, bool)>,
        ) {
            let data = r#"{"n": 1.10}"#;
            let condition = condition
                .map(|(offset, epoch)| Condition { offset, epoch: epoch.map(Epoch::from_random) });
            let options = MessageOptions {
                positions: positions || state || condition.is_some(),
                state: state.then_some(r#"{"state":[]}"#),
                condition,
                traceparent: traced.map(|(span, sampled)| TraceParent {
                    trace: [7; 16],
                    span: (span | 1).to_be_bytes(),
                    sampled,
                }),
            };
            let message =
                PublishMessage { channel: channel.into(), event: event.into(), data, options };
            let mut body = Vec::new();
            message.write(&mut body);
            prop_assert_eq!(parse(&body, 1).unwrap().messages, vec![message]);
        }

        #[test]
        fn arbitrary_bodies_do_not_panic(body in "[\\[\\]{}:,\"a-e0 ]{0,60}") {
            let _ = parse(body.as_bytes(), 2);
        }
    }

    fn message(
        channel: &'static str,
        event: &'static str,
        data: &'static str,
    ) -> PublishMessage<'static> {
        let options = MessageOptions::default();
        PublishMessage { channel: channel.into(), event: event.into(), data, options }
    }
}
