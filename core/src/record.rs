//! Messages as they are stored, and as nodes send them to each other: a version, then each message's parts, in postcard's
//! format.
//!
//! ```text
//! version (1 byte) | message | message | …
//! message = id (16 bytes) | unix_micros | event | data | traceparent
//! ```
//!
//! The channel, and the number of the first message, stand beside a record and not in it. What clients are sent is made from
//! it anew, about 300 bytes more for each message.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A message of a record, borrowed from whoever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The event's id, the same for whoever is sent it and whenever.
    pub id: Uuid,
    /// When it was published, in microseconds since the Unix epoch.
    pub unix_micros: u64,
    /// The event's name.
    pub event: &'a str,
    /// A JSON object, as text.
    pub data: &'a str,
    /// The trace that it belongs to (W3C Trace Context), if its publisher named one.
    pub traceparent: Option<&'a str>,
}

/// Writes a record.
#[must_use]
pub fn encode<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> Vec<u8> {
    let mut record = vec![VERSION];
    for message in messages {
        push(&mut record, message);
    }
    record
}

/// Adds a message to a record; one without bytes is begun.
pub fn push(record: &mut Vec<u8>, message: Message<'_>) {
    if record.is_empty() {
        record.push(VERSION);
    }
    // Encoding plain data into memory cannot fail.
    if let Ok(longer) = postcard::to_extend(&Parts::from(message), std::mem::take(record)) {
        *record = longer;
    }
}

/// Reads a record, message by message. Nothing is copied or allocated, whatever the bytes are.
///
/// # Errors
///
/// [`RecordError::Empty`] and [`RecordError::Version`]; about messages, those of [`Messages`].
pub fn decode(record: &[u8]) -> Result<Messages<'_>, RecordError> {
    match record.split_first() {
        None => Err(RecordError::Empty),
        Some((&VERSION, messages)) => Ok(Messages(messages)),
        Some((&version, _)) => Err(RecordError::Version(version)),
    }
}

/// The messages of a record that is being read. After an error there are no more. Whoever wants all or none collects them.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let read = postcard::take_from_bytes::<Parts<'a>>(bytes);
        let Ok((parts, rest)) = read else { return Some(Err(RecordError::Broken)) };
        if !(parts.data.starts_with('{') && parts.data.ends_with('}') && parts.data.len() > 1) {
            return Some(Err(RecordError::Data));
        }
        self.0 = rest;
        Some(Ok(parts.into()))
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// There are none.
    Empty,
    /// It is of a version that this program does not read.
    Version(u8),
    /// A message breaks off, or a text is not UTF-8.
    Broken,
    /// A message's data is no JSON object.
    Data,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a record without bytes"),
            Self::Version(version) => {
                write!(f, "a record of version {version}; this program reads version {VERSION}")
            }
            Self::Broken => f.write_str("a record that breaks off or is damaged"),
            Self::Data => f.write_str("a record whose data is no JSON object"),
        }
    }
}

impl Error for RecordError {}

/// A message as postcard writes it. The order of the fields is the format.
#[derive(Serialize, Deserialize)]
struct Parts<'a> {
    id: [u8; 16],
    unix_micros: u64,
    event: &'a str,
    data: &'a str,
    traceparent: Option<&'a str>,
}

impl<'a> From<Message<'a>> for Parts<'a> {
    fn from(message: Message<'a>) -> Self {
        let Message { id, unix_micros, event, data, traceparent } = message;
        Self { id: id.into_bytes(), unix_micros, event, data, traceparent }
    }
}

impl<'a> From<Parts<'a>> for Message<'a> {
    fn from(parts: Parts<'a>) -> Self {
        let Parts { id, unix_micros, event, data, traceparent } = parts;
        Self { id: Uuid::from_bytes(id), unix_micros, event, data, traceparent }
    }
}

/// First byte of a record. A change of the format is another number, so that what is older is still understood, and what is
/// newer is refused and not misread.
pub(crate) const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: Message<'_> = Message {
        id: Uuid::from_bytes([7; 16]),
        unix_micros: 300,
        event: "a",
        data: "{}",
        traceparent: None,
    };

    /// Files outlive programs: should this fail, the format has changed and needs a new version.
    #[test]
    fn the_bytes_are_these() {
        let traced = Message { traceparent: Some("00-t"), ..HELLO };
        let mut bytes = vec![1];
        bytes.extend([7; 16]);
        // 300 as a variable-length number, then lengths before texts, then whether there is a trace.
        bytes.extend([0xac, 0x02, 1, b'a', 2, b'{', b'}', 0]);
        bytes.extend([7; 16]);
        bytes.extend([0xac, 0x02, 1, b'a', 2, b'{', b'}', 1, 4]);
        bytes.extend(b"00-t");

        assert_eq!(encode([HELLO, traced]), bytes);
        assert_eq!(all(&bytes), Ok(vec![HELLO, traced]));
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        let whole = encode([HELLO]);
        let newer = [&[2], &whole[1..]].concat();
        let mut not_utf8 = whole.clone();
        not_utf8[20] = 0xff;

        assert_eq!(decode(&[]).unwrap_err(), RecordError::Empty);
        assert_eq!(decode(&newer).unwrap_err(), RecordError::Version(2));
        assert_eq!(all(&not_utf8), Err(RecordError::Broken));
        for data in ["", "{", "}", "[]", " {}", "null"] {
            assert_eq!(all(&encode([Message { data, ..HELLO }])), Err(RecordError::Data), "{data}");
        }
        for end in 2..whole.len() {
            assert_eq!(all(&whole[..end]), Err(RecordError::Broken), "cut at {end}");
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut record = encode([HELLO, Message { data: "x", ..HELLO }, HELLO]);
        let mut messages = decode(&record).unwrap();
        assert_eq!(messages.next(), Some(Ok(HELLO)));
        assert_eq!(messages.next(), Some(Err(RecordError::Data)));
        assert_eq!(messages.next(), None);
        record.truncate(1);
        assert_eq!(all(&record), Ok(Vec::new()));
    }

    /// One bit of damage is refused, or seen in one message and no other.
    #[test]
    fn damage_is_refused_or_stays_where_it_is() {
        let whole = encode([HELLO, HELLO, HELLO]);
        for at in 1..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(messages) = all(&bytes) {
                    let others = messages.iter().filter(|message| **message != HELLO);
                    assert!(others.count() <= 1, "bit {bit} of byte {at}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            messages in prop::collection::vec((any::<[u8; 16]>(), any::<u64>(), any::<String>(), any::<String>(), any::<Option<String>>()), 0..8),
        ) {
            let data: Vec<_> = messages.iter().map(|(.., data, _)| format!("{{{data}}}")).collect();
            let messages: Vec<_> = messages.iter().zip(&data).map(|((id, unix_micros, event, _, traceparent), data)| Message {
                id: Uuid::from_bytes(*id),
                unix_micros: *unix_micros,
                event,
                data,
                traceparent: traceparent.as_deref(),
            }).collect();
            let record = encode(messages.iter().copied());
            let mut pushed = Vec::new();
            messages.iter().for_each(|message| push(&mut pushed, *message));
            prop_assert!(pushed == record || messages.is_empty());
            prop_assert_eq!(all(&record), Ok(messages));
        }

        /// Whatever the bytes are: no panic, and no more messages than there is room for.
        #[test]
        fn anything_is_read_or_refused(mut bytes: Vec<u8>, version: bool) {
            if let (true, Some(first)) = (version, bytes.first_mut()) {
                *first = VERSION;
            }
            if let Ok(messages) = all(&bytes) {
                prop_assert!(messages.len() * SMALLEST < bytes.len());
            }
        }
    }

    /// Bytes of a message of which everything is as short as it can be: an id, a byte of time, an event without a name, an
    /// object without members, no trace.
    const SMALLEST: usize = 16 + 1 + 1 + 3 + 1;

    fn all(record: &[u8]) -> Result<Vec<Message<'_>>, RecordError> {
        decode(record)?.collect()
    }
}
