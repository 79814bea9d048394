//! Messages as a client writes and reads them.

use std::{fmt, io::Write};

use serde_json::Value;

/// The number of a publication in this world: `data.n`.
pub(crate) type Number = u32;

/// The length of an event's `id`.
pub(crate) const ID_BYTES: usize = 36;

/// An event of a channel as it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) id: &'a [u8; ID_BYTES],
    pub(crate) channel: u64,
    pub(crate) number: Number,
    pub(crate) padding: usize,
    pub(crate) room: &'a [u8],
    pub(crate) offset: Option<u64>,
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, channel, number, padding, room, offset } = self;
        let [id, room] = [&id[..], room].map(String::from_utf8_lossy);
        write!(f, "{number} of channel {channel} ({padding} bytes, {id}, {room}, {offset:?})")
    }
}

/// `data` of a publication.
pub(crate) fn write_data(out: &mut Vec<u8>, channel: u64, number: Number, padding: usize) {
    let _ = write!(out, r#"{{"c":{channel},"n":{number},"x":""#);
    out.resize(out.len() + padding, b'a');
    out.extend_from_slice(b"\"}");
}

/// A client's request to publish.
pub(crate) fn publish(name: &str, data: &[u8], correlation: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 120);
    let _ = write!(
        out,
        r#"{{"type":"request","event":"publish","id":"{correlation}","data":{{"channel":"{name}","event":"e","data":"#
    );
    out.extend_from_slice(data);
    out.extend_from_slice(b"}}");
    out
}

/// `subscribe`, `unsubscribe` and everything else that has one string.
pub(crate) fn request(event: &str, field: &str, value: &str, correlation: u64) -> Vec<u8> {
    format!(r#"{{"type":"request","event":"{event}","id":"{correlation}","data":{{"{field}":"{value}"}}}}"#)
        .into_bytes()
}

pub(crate) fn ping(correlation: u64) -> Vec<u8> {
    format!(r#"{{"type":"ping","id":"{correlation}"}}"#).into_bytes()
}

/// Reads an event exactly as the server must write it: every byte is accounted for. `None`: something else.
pub(crate) fn read_delivery(text: &[u8]) -> Option<Delivery<'_>> {
    let (id, rest) = text.strip_prefix(b"{\"id\":\"")?.split_first_chunk()?;
    let rest = rest.strip_prefix(MIDDLE)?;
    let (channel, rest) = number(rest)?;
    let (number_, rest) = number(rest.strip_prefix(b",\"n\":")?)?;
    let rest = rest.strip_prefix(b",\"x\":\"")?;
    // The padding is whatever comes before the rest, whose length is known but for the room and the offset.
    let padding = rest.iter().position(|byte| *byte != b'a')?;
    let rest = rest.get(padding..)?.strip_prefix(b"\"},\"timestamp\":\"")?.get(32..)?;
    let rest = rest.strip_prefix(b"\",\"room\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (room, rest) = rest.split_at(end);
    let rest = rest.strip_prefix(TAIL)?;
    let (offset, rest) = match rest.strip_prefix(b",\"offset\":") {
        Some(rest) => number(rest).map(|(offset, rest)| (Some(offset), rest))?,
        None => (None, rest),
    };
    let number = Number::try_from(number_).ok()?;
    (rest == b"}").then_some(Delivery { id, channel, number, padding, room, offset })
}

/// Bytes of the frame of an event, by what it says.
pub(crate) fn frame_bytes(
    room: &str,
    channel: u64,
    number: Number,
    padding: u64,
    offset: Option<u64>,
) -> u64 {
    let digits = |number: u64| u64::from(number.max(1).ilog10()) + 1;
    let data = digits(channel) + digits(number.into()) + padding;
    let offset = offset.map_or(0, |offset| 10 + digits(offset));
    let payload = BARE_BYTES + room.len() as u64 + data + offset;
    payload + if payload < 65_536 { 4 } else { 10 }
}

/// `data` as histories tell it: channel, number and padding.
pub(crate) fn read_data(data: &Value) -> Option<(u64, Number, usize)> {
    let number = Number::try_from(data["n"].as_u64()?).ok()?;
    Some((data["c"].as_u64()?, number, data["x"].as_str()?.len()))
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let value = text.get(..digits).filter(|digits| !digits.is_empty())?;
    let value = value
        .iter()
        .fold(0u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    Some((value, &text[digits..]))
}

const MIDDLE: &[u8] = br#"","correlation_id":null,"type":"event","event":"e","data":{"c":"#;
const TAIL: &[u8] = br#"","error_code":null,"error_message":null"#;

/// Bytes of an event without its room, its data's numbers and padding, and its offset.
const BARE_BYTES: u64 = 216;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_any_other_byte_is_noticed() {
        let text = concat!(
            r#"{"id":"0e0e0e0e-0e0e-0e0e-0e0e-0e0e0e0e0e0e","correlation_id":null,"type":"event","#,
            r#""event":"e","data":{"c":5,"n":17,"x":"aaa"},"timestamp":"2025-02-11T10:30:00.000000+00:00","#,
            r#""room":"open:5","error_code":null,"error_message":null,"offset":9}"#
        );
        let expected = Delivery {
            id: b"0e0e0e0e-0e0e-0e0e-0e0e-0e0e0e0e0e0e",
            channel: 5,
            number: 17,
            padding: 3,
            room: b"open:5",
            offset: Some(9),
        };
        assert_eq!(read_delivery(text.as_bytes()), Some(expected));
        assert_eq!(frame_bytes("open:5", 5, 17, 3, Some(9)), text.len() as u64 + 4);
        assert_eq!(read_delivery(text.replace("aaa", "aba").as_bytes()), None);
        assert_eq!(read_delivery(text.replace("9}", "9}}").as_bytes()), None);
    }
}
