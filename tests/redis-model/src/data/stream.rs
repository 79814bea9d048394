//! Streams: entries under growing ids.

use std::{collections::BTreeMap, fmt, ops::Bound};

/// The id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId {
    pub(crate) ms: u64,
    pub(crate) seq: u64,
}

impl StreamId {
    pub(crate) const ZERO: Self = Self { ms: 0, seq: 0 };
    pub(crate) const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// `ms` or `ms-seq`; where only the first is there, `seq` is the second.
    pub(crate) fn parse(text: &[u8], seq: u64) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        Some(match text.split_once('-') {
            Some((ms, seq)) => Self { ms: number(ms)?, seq: number(seq)? },
            None => Self { ms: number(text)?, seq },
        })
    }

    pub(crate) fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    pub(crate) fn previous(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

fn number(text: &str) -> Option<u64> {
    // Rust would take a plus sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Fields and values, alternating.
pub(crate) type Fields = Vec<Vec<u8>>;

/// A stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    entries: BTreeMap<StreamId, Fields>,
    /// Id of the last entry that was ever there.
    last: StreamId,
}

/// What is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trim {
    /// Down to so many entries.
    MaxLen(usize),
    /// Entries before this one.
    MinId(StreamId),
}

impl Stream {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn last(&self) -> StreamId {
        self.last
    }

    /// The id must be higher than the last one.
    pub(crate) fn add(&mut self, id: StreamId, fields: Fields) {
        assert!(id > self.last, "ids grow");
        self.entries.insert(id, fields);
        self.last = id;
    }

    /// How many entries it took away.
    pub(crate) fn trim(&mut self, trim: Trim) -> usize {
        let before = self.entries.len();
        match trim {
            Trim::MaxLen(most) => {
                while self.entries.len() > most {
                    self.entries.pop_first();
                }
            }
            Trim::MinId(id) => self.entries = self.entries.split_off(&id),
        }
        before - self.entries.len()
    }

    pub(crate) fn delete(&mut self, id: StreamId) -> bool {
        self.entries.remove(&id).is_some()
    }

    /// Entries from one id to another, both included.
    pub(crate) fn range(
        &self,
        from: StreamId,
        to: StreamId,
    ) -> impl DoubleEndedIterator<Item = (&StreamId, &Fields)> {
        let to = if from > to { Bound::Excluded(from) } else { Bound::Included(to) };
        self.entries.range((Bound::Included(from), to))
    }
}
