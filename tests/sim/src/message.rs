//! Messages as a client writes and reads them.

use std::io::Write;

/// The number of a publication in this world: `data.n`.
pub(crate) type Number = u32;

/// An event of a channel as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) channel: u64,
    pub(crate) number: Number,
    pub(crate) padding: usize,
    pub(crate) room: &'a [u8],
    pub(crate) offset: Option<u64>,
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
    let rest = text.strip_prefix(b"{\"id\":\"")?.get(36..)?;
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
    (rest == b"}").then_some(Delivery { channel, number, padding, room, offset })
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
        let expected =
            Delivery { channel: 5, number: 17, padding: 3, room: b"open:5", offset: Some(9) };
        assert_eq!(read_delivery(text.as_bytes()), Some(expected));
        assert_eq!(read_delivery(text.replace("aaa", "aba").as_bytes()), None);
        assert_eq!(read_delivery(text.replace("9}", "9}}").as_bytes()), None);
    }
}
