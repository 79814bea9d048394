//! Wall-clock time as text, formatted once and written many times.

use std::{fmt, time::Duration};

use jiff::{civil::DateTime, tz::Offset};

/// A moment in RFC 3339, UTC, with microseconds: `2025-02-11T10:30:00.000000+00:00`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp([u8; 32]);

impl Timestamp {
    /// The moment `unix` after the epoch. Past the year 9999, which RFC 3339 cannot write, the last moment of it.
    #[must_use]
    pub fn from_unix(unix: Duration) -> Self {
        let date = date(unix);
        let mut text = *b"0000-00-00T00:00:00.000000+00:00";
        write_seconds(&mut text, &date);
        if let Some(place) = text.get_mut(20..26) {
            digits(place, date.subsec_nanosecond().unsigned_abs() / 1000);
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same to whole seconds, the form of health checks: `2025-02-11T10:30:00Z`.
    #[must_use]
    pub fn zulu(&self) -> String {
        let mut text = self.as_str().to_owned();
        text.truncate(19);
        text.push('Z');
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn date(unix: Duration) -> DateTime {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    let nanoseconds = i32::try_from(unix.subsec_nanos()).unwrap_or(0);
    Offset::UTC
        .to_datetime(jiff::Timestamp::new(seconds, nanoseconds).unwrap_or(jiff::Timestamp::MAX))
}

fn write_seconds(text: &mut [u8; 32], date: &DateTime) {
    let [a, b, c, d, _, e, f, _, g, h, _, i, j, _, k, l, _, m, n, ..] = text;
    digits([a, b, c, d], date.year().unsigned_abs().into());
    for (place, number) in [
        ([e, f], date.month()),
        ([g, h], date.day()),
        ([i, j], date.hour()),
        ([k, l], date.minute()),
        ([m, n], date.second()),
    ] {
        digits(place, number.unsigned_abs().into());
    }
}

/// Writes a number with leading zeros.
fn digits<'a>(
    places: impl IntoIterator<Item = &'a mut u8, IntoIter: DoubleEndedIterator>,
    mut number: u32,
) {
    for place in places.into_iter().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments() {
        let cases = [
            (Duration::ZERO, "1970-01-01T00:00:00.000000+00:00"),
            (Duration::new(1_739_269_800, 123_456_789), "2025-02-11T10:30:00.123456+00:00"),
            (Duration::new(951_827_696, 7_000), "2000-02-29T12:34:56.000007+00:00"),
        ];
        for (unix, text) in cases {
            assert_eq!(Timestamp::from_unix(unix).as_str(), text);
        }
        assert_eq!(
            Timestamp::from_unix(Duration::new(1_739_269_800, 999_999_999)).zulu(),
            "2025-02-11T10:30:00Z"
        );
    }

    #[test]
    fn the_far_future_is_the_last_year_that_can_be_written() {
        assert!(Timestamp::from_unix(Duration::MAX).as_str().starts_with("9999-12-3"));
    }

    proptest! {
        #[test]
        fn text_reads_back_as_the_same_microsecond(micros in 0..253_000_000_000_000_000_u64) {
            let timestamp = Timestamp::from_unix(Duration::from_micros(micros));
            let read: jiff::Timestamp = timestamp.as_str().parse().unwrap();
            prop_assert_eq!(read.as_microsecond().unsigned_abs(), micros);
            prop_assert_eq!(timestamp.as_str().len(), 32);
        }
    }
}
