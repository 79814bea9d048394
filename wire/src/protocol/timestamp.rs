//! Wall-clock time as text, formatted once and written many times.

use std::{fmt, time::Duration};

/// A moment in RFC 3339, UTC, with microseconds: `2025-02-11T10:30:00.000000+00:00`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp([u8; 32]);

impl Timestamp {
    /// The moment `unix` after the epoch. Past the year 9999, which RFC 3339 cannot write, the last moment of it.
    #[must_use]
    pub fn from_unix(unix: Duration) -> Self {
        let unix = unix.min(LAST);
        let mut text = *b"0000-00-00T00:00:00.000000+00:00";
        write_seconds(&mut text, unix.as_secs());
        if let Some(place) = text.get_mut(20..26) {
            digits(place, unix.subsec_micros());
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

fn write_seconds(text: &mut [u8; 32], unix: u64) {
    let (days, second) = ((unix / 86_400) as u32, (unix % 86_400) as u32);
    let (year, month, day) = date(days);
    let [a, b, c, d, _, e, f, _, g, h, _, i, j, _, k, l, _, m, n, ..] = text;
    digits([a, b, c, d], year);
    for (place, number) in [
        ([e, f], month),
        ([g, h], day),
        ([i, j], second / 3600),
        ([k, l], second / 60 % 60),
        ([m, n], second % 60),
    ] {
        digits(place, number);
    }
}

/// Year, month and day so many days after the epoch, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last one and months have lengths that a line goes through:
/// the algorithm `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms", for days from the
/// epoch on.
fn date(days: u32) -> (u32, u32, u32) {
    // From the first of March of the year 0.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
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

/// The last moment of the year 9999.
const LAST: Duration = Duration::new(253_402_300_799, 999_999_999);

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
        let last = "9999-12-31T23:59:59.999999+00:00";
        assert_eq!(Timestamp::from_unix(Duration::MAX).as_str(), last);
        assert_eq!(Timestamp::from_unix(LAST + Duration::from_nanos(1)).as_str(), last);
    }

    #[test]
    fn every_day_of_eight_thousand_years_is_the_calendars() {
        let mut expected = jiff::civil::date(1970, 1, 1);
        for days in 0..2_932_896 {
            let (year, month, day) = date(days);
            let same = (expected.year(), expected.month(), expected.day());
            assert_eq!((year as i16, month as i8, day as i8), same);
            expected = expected.tomorrow().unwrap();
        }
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
