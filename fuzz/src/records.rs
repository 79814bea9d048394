//! Records: messages as they are stored, on a disk that somebody may have damaged, or as another node sends them.
//!
//! A first byte that is even: what follows is a record. Odd: it is a script of messages that are written, then damaged in one
//! place. Both are held against a reader of the format that knows nothing of postcard or serde.

use arbitrary::{Arbitrary, Unstructured};
use mahavishnu_core::record::{Message, RecordError, decode, encode};
use uuid::Uuid;

/// Input: see above.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((how, rest)) if how % 2 == 0 => compare(rest),
        Some((_, rest)) => {
            let Ok(script) = Script::arbitrary(&mut Unstructured::new(rest)) else { return };
            write_and_damage(&script);
        }
        None => {}
    }
}

#[derive(Debug, Arbitrary)]
struct Script {
    messages: Vec<Parts>,
    /// Where it is damaged, and how.
    damage: (u16, u8),
    /// Where it is cut.
    cut: u16,
}

#[derive(Debug, Arbitrary)]
struct Parts {
    id: [u8; 16],
    unix_micros: u64,
    event: String,
    /// Between the braces.
    data: String,
    traceparent: Option<String>,
}

fn write_and_damage(script: &Script) {
    let objects: Vec<_> =
        script.messages.iter().map(|parts| format!("{{{}}}", parts.data)).collect();
    let messages: Vec<_> = script
        .messages
        .iter()
        .zip(&objects)
        .map(|(parts, data)| Message {
            id: Uuid::from_bytes(parts.id),
            unix_micros: parts.unix_micros,
            event: &parts.event,
            data,
            traceparent: parts.traceparent.as_deref(),
        })
        .collect();
    let mut record = encode(messages.iter().copied());
    assert_eq!(read(&record).as_deref(), Ok(&messages[..]));
    compare(&record);
    compare(&record[..usize::from(script.cut) % (record.len() + 1)]);
    let at = usize::from(script.damage.0) % record.len();
    record[at] ^= script.damage.1;
    compare(&record);
}

/// Both readers agree; and what was read, written and read again is the same, in no more bytes.
fn compare(record: &[u8]) {
    let messages = read(record);
    assert_eq!(messages, model(record));
    if let Ok(messages) = messages {
        let again = encode(messages.iter().copied());
        assert!(again.len() <= record.len(), "a number has a shorter form than the one written");
        assert_eq!(read(&again), Ok(messages));
    }
}

fn read(record: &[u8]) -> Result<Vec<Message<'_>>, RecordError> {
    decode(record)?.collect()
}

fn model(record: &[u8]) -> Result<Vec<Message<'_>>, RecordError> {
    let mut rest = match record {
        [] => return Err(RecordError::Empty),
        [1, rest @ ..] => rest,
        [version, ..] => return Err(RecordError::Version(*version)),
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message = message(&mut rest).ok_or(RecordError::Broken)?;
        let inner = message.data.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        inner.ok_or(RecordError::Data)?;
        messages.push(message);
    }
    Ok(messages)
}

fn message<'a>(rest: &mut &'a [u8]) -> Option<Message<'a>> {
    let id = Uuid::from_slice(take(rest, 16)?).ok()?;
    let unix_micros = number(rest)?;
    let (event, data) = (text(rest)?, text(rest)?);
    let traceparent = match take(rest, 1)? {
        [0] => None,
        [1] => Some(text(rest)?),
        _ => return None,
    };
    Some(Message { id, unix_micros, event, data, traceparent })
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(number(rest)?).ok()?;
    std::str::from_utf8(take(rest, length)?).ok()
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u128;
    for shift in (0..70).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number.try_into().ok();
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without this the target would be content with records that are all refused.
    #[test]
    fn records_are_read_whole_and_damaged() {
        let message = |event, traceparent| Message {
            id: Uuid::from_bytes([200; 16]),
            unix_micros: u64::MAX,
            event,
            data: r#"{"a":1}"#,
            traceparent,
        };
        let record = encode([message("e", None), message("", Some("00-ab"))]);
        assert_eq!(read(&record).map(|messages| messages.len()), Ok(2));
        for at in 0..record.len() {
            for byte in 0..=u8::MAX {
                let mut damaged = record.clone();
                damaged[at] = byte;
                run(&[&[0], &damaged[..]].concat());
            }
            run(&[&[0], &record[..at]].concat());
        }
    }
}
