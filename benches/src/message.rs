//! What the generator sends: one data object per message, in the product's JSON envelope or bare for the raw server.
//!
//! Every number has a fixed width, so that all messages of a run have the same length, the sequence number sits at a
//! fixed place, and a new message is made by overwriting digits.

use std::ops::Range;

use memchr::memmem;
use serde_json::{Value, json};

use crate::{
    Result,
    frame::{self, OP_BINARY, OP_TEXT},
};

/// One message whose digits are overwritten for each publish.
#[derive(Clone, Debug)]
pub struct Template {
    opcode: u8,
    bytes: Vec<u8>,
    data: Range<usize>,
    /// Where the digits of the request's id are, if it has one.
    id_at: Option<usize>,
}

impl Template {
    /// A publish request for `channel` with a data object of `data_bytes`.
    ///
    /// # Errors
    /// `data_bytes` is too small for the numbers.
    pub fn publish(channel: &str, data_bytes: usize) -> Result<Self> {
        let channel = Value::from(channel);
        let mut bytes = format!(
            r#"{{"type":"request","event":"publish","data":{{"channel":{channel},"event":"bench.tick","data":"#
        )
        .into_bytes();
        let start = bytes.len();
        bytes.extend_from_slice(&data_object(data_bytes)?);
        let data = start..bytes.len();
        bytes.extend_from_slice(br#"},"id":"p"#);
        let id_at = Some(bytes.len());
        bytes.extend_from_slice(FIRST_NUMBER.to_string().as_bytes());
        bytes.extend_from_slice(br#""}"#);
        Ok(Self { opcode: OP_TEXT, bytes, data, id_at })
    }

    /// A binary message of `payload_bytes` that is nothing but the data object.
    ///
    /// # Errors
    /// `payload_bytes` is too small for the numbers.
    pub fn bare(payload_bytes: usize) -> Result<Self> {
        let bytes = data_object(payload_bytes)?;
        Ok(Self { opcode: OP_BINARY, data: 0..bytes.len(), bytes, id_at: None })
    }

    /// Makes this the message with the given sequence number and time. A time before 2001 is taken for then: a number in JSON
    /// does not begin with zeros.
    pub fn stamp(&mut self, sequence: u64, unix_ns: u64) {
        let number = FIRST_NUMBER.saturating_add(sequence);
        let data_at = self.data.start;
        write_digits(&mut self.bytes, data_at + NUMBER_AT, NUMBER_DIGITS, number);
        write_digits(&mut self.bytes, data_at + TIME_AT, TIME_DIGITS, unix_ns.max(FIRST_TIME));
        if let Some(id_at) = self.id_at {
            write_digits(&mut self.bytes, id_at, NUMBER_DIGITS, number);
        }
    }

    /// Appends the message as a client's frame.
    pub fn append_frame(&self, out: &mut Vec<u8>) {
        // A fixed key: unpredictable ones protect proxies from scripts in browsers (RFC 6455 §10.3), and unmasking
        // costs the server the same with any.
        frame::encode_client(out, self.opcode, MASK, &self.bytes);
    }

    /// The message as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The data object as subscribers must get it.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.data.clone()).unwrap_or_default()
    }
}

/// Finds the sequence number of a data object anywhere in `payload`, and where that object begins. Tolerates a server
/// that parsed the data and wrote it anew with other spacing.
#[must_use]
pub fn locate(payload: &[u8]) -> Option<(usize, u64)> {
    let marker = memmem::find(payload, MARKER)?;
    let after = payload.get(marker + MARKER.len()..)?.trim_ascii_start();
    let digits = after.get(..NUMBER_DIGITS)?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((marker.saturating_sub(1), number.checked_sub(FIRST_NUMBER)?))
}

/// What a server said to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `response` or `ack`.
    Done,
    /// `error`, with its code and text.
    Refused(String),
    /// Something unasked: the welcome, an event, a pong.
    Unrelated,
}

impl Answer {
    /// Classifies a text message of the product's protocol.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        // The usual case by one search: thousands of these come per second, on the thread that must not be the limit.
        if memmem::find(payload, br#""type":"response""#).is_some() {
            return Self::Done;
        }
        let Ok(message) = serde_json::from_slice::<Value>(payload) else {
            return Self::Refused(format!("not JSON: {}", String::from_utf8_lossy(payload)));
        };
        let field = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("type") {
            "response" | "ack" => Self::Done,
            "error" => {
                Self::Refused(format!("{}: {}", field("error_code"), field("error_message")))
            }
            _ => Self::Unrelated,
        }
    }
}

/// The first message of a connection that shows a token.
#[must_use]
pub fn auth_request(token: &str) -> String {
    json!({"type": "request", "event": "auth", "data": {"token": token}, "id": "auth"}).to_string()
}

/// Asks for a channel's events.
#[must_use]
pub fn subscribe_request(channel: &str) -> String {
    json!({"type": "request", "event": "subscribe", "data": {"channel": channel}, "id": "subscribe"}).to_string()
}

fn data_object(bytes: usize) -> Result<Vec<u8>> {
    let padding = bytes
        .checked_sub(HEAD_BYTES + TAIL.len())
        .ok_or_else(|| format!("a payload has at least {} bytes", HEAD_BYTES + TAIL.len()))?;
    let mut object = format!(r#"{{"n":{FIRST_NUMBER},"t":{:0TIME_DIGITS$},"p":""#, 0).into_bytes();
    // Not all the same letter, so that a shifted or shortened copy differs.
    object.extend((b'a'..=b'z').cycle().take(padding));
    object.extend_from_slice(TAIL);
    Ok(object)
}

/// Overwrites `digits` decimal digits at `at`.
fn write_digits(bytes: &mut [u8], at: usize, digits: usize, mut number: u64) {
    let Some(field) = bytes.get_mut(at..at + digits) else { return };
    for digit in field.iter_mut().rev() {
        // The remainder is below ten.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Length of a data object up to and including the quote that opens its padding. Unlike the padding, this part differs
/// from message to message.
pub const HEAD_BYTES: usize = TIME_AT + TIME_DIGITS + br#","p":""#.len();
/// What a data object ends with.
pub const TAIL: &[u8] = br#""}"#;
/// Sequence numbers begin here, so that they have ten digits in any run.
const FIRST_NUMBER: u64 = 1_000_000_000;
const NUMBER_DIGITS: usize = 10;
/// Nanoseconds since the Unix epoch have nineteen digits from 2001 to 2286.
const TIME_DIGITS: usize = 19;
/// The first time of so many digits.
const FIRST_TIME: u64 = 1_000_000_000_000_000_000;
const MARKER: &[u8] = br#""n":"#;
const NUMBER_AT: usize = MARKER.len() + 1;
const TIME_AT: usize = NUMBER_AT + NUMBER_DIGITS + br#","t":"#.len();
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x8e];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameError, FrameReader, apply_mask};

    #[test]
    fn a_message_is_json_whatever_the_time() {
        let mut template = Template::publish("a", 64).unwrap();
        for time in [0, 1, FIRST_TIME, u64::MAX / 2] {
            template.stamp(7, time);
            let message: Value = serde_json::from_str(&template.text()).unwrap();
            assert_eq!(message["data"]["data"]["t"], time.max(FIRST_TIME));
        }
    }

    #[test]
    fn a_publish_is_what_the_protocol_wants() {
        let mut template = Template::publish("workflow:\"x\"", 64).unwrap();
        template.stamp(7, 1_800_000_000_123_456_789);
        let mut wire = Vec::new();
        template.append_frame(&mut wire);

        let mut reader = FrameReader::new(1024);
        let mut seen = Vec::new();
        reader
            .feed(&wire, |frame| {
                let mut payload = frame.payload.to_vec();
                apply_mask(frame.mask.unwrap(), &mut payload);
                seen.push(serde_json::from_slice::<Value>(&payload).unwrap());
                Ok::<(), FrameError>(())
            })
            .unwrap();

        assert_eq!(
            seen,
            vec![json!({"type": "request", "event": "publish", "id": "p1000000007", "data": {
                "channel": "workflow:\"x\"", "event": "bench.tick",
                "data": {"n": 1_000_000_007, "t": 1_800_000_000_123_456_789_u64, "p": "abcdefghijklmnopq"}}})]
        );
        assert_eq!(template.data().len(), 64);
    }

    #[test]
    fn head_and_tail_frame_the_padding() {
        let template = Template::bare(HEAD_BYTES + TAIL.len() + 3).unwrap();

        let (head, rest) = template.data().split_at(HEAD_BYTES);

        assert!(head.ends_with(br#""p":""#));
        assert_eq!(rest, br#"abc"}"#);
        assert!(Template::bare(HEAD_BYTES).is_err());
    }

    #[test]
    fn a_sequence_number_is_found_in_an_envelope() {
        let mut template = Template::bare(60).unwrap();
        template.stamp(123_456, 0);
        let envelope = [br#"{"event":"bench.tick","data":"#, template.data(), b"}"].concat();

        assert_eq!(locate(&envelope), Some((29, 123_456)));
        assert_eq!(locate(br#"{"data":{"n": 1000000005, "t":0}}"#).map(|found| found.1), Some(5));
        assert_eq!(locate(br#"{"data":{"n":5}}"#), None);
        assert_eq!(locate(br#"{"event":"session.created"}"#), None);
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(Answer::of(br#"{"id":"1","type":"response","data":{}}"#), Answer::Done);
        assert_eq!(Answer::of(br#"{"type": "response"}"#), Answer::Done);
        assert_eq!(Answer::of(br#"{"type":"event","event":"session.created"}"#), Answer::Unrelated);
        assert_eq!(
            Answer::of(br#"{"type":"error","error_code":"FORBIDDEN","error_message":"no"}"#),
            Answer::Refused("FORBIDDEN: no".to_owned())
        );
        assert!(matches!(Answer::of(b"\xff"), Answer::Refused(_)));
    }
}
