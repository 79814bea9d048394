//! Rows as they are stored: numbers as SQLite has them, and a checksum over each row, because SQLite has none over what is in
//! its file.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A checksum over a row's parts. Not against forgery.
#[derive(Debug)]
pub(crate) struct Sum(SipHasher13);

impl Sum {
    pub(crate) fn of(table: &str) -> Self {
        Self(SipHasher13::new()).text(table)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        // With its length, so that the parts cannot change places.
        self.0.write_u64(bytes.len() as u64);
        self.0.write(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.write_u64(number);
        self
    }

    pub(crate) fn finish(self) -> i64 {
        self.0.finish().cast_signed()
    }
}

/// A channel's row.
pub(crate) fn channel_sum(name: &str, epoch: &str, top: u64) -> i64 {
    Sum::of("channel").text(name).text(epoch).number(top).finish()
}

/// A round's row. It names its channel by the number of that one's row, which is never given out twice.
pub(crate) fn round_sum(channel: i64, first: u64, count: u32, records: &[u8]) -> i64 {
    let sum = Sum::of("round").number(channel.cast_unsigned()).number(first);
    sum.number(count.into()).bytes(records).finish()
}

/// A document's row.
pub(crate) fn document_sum(channel: i64, offset: u64, document: &[u8]) -> i64 {
    let sum = Sum::of("document").number(channel.cast_unsigned());
    sum.number(offset).bytes(document).finish()
}

/// A session's row.
pub(crate) fn session_sum(session: u128, record: &[u8]) -> i64 {
    Sum::of("session").bytes(&session.to_be_bytes()).bytes(record).finish()
}
