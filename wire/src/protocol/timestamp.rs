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

    /// The time after the epoch of a moment in the form of [`as_str`](Self::as_str); `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Duration> {
        let number = |at: std::ops::Range<usize>| {
            let digits = text.get(at)?;
            let sound = digits.bytes().all(|digit| digit.is_ascii_digit());
            sound.then(|| digits.parse::<u32>().ok()).flatten()
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let days = days(year, month, day)?;
        let seconds = u64::from(days) * 86_400 + u64::from(hour * 3600 + minute * 60 + second);
        let unix = Duration::from_secs(seconds) + Duration::from_micros(number(20..26)?.into());
        // Whatever else stands there, or is out of range, makes another text.
        (Self::from_unix(unix).as_str() == text).then_some(unix)
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

/// Days after the epoch, the other way round; `None`: before it. Days that there are none of come out as others.
fn days(year: u32, month: u32, day: u32) -> Option<u32> {
    let (month, year) =
        if month > 2 { (month - 3, year) } else { (month + 9, year.checked_sub(1)?) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + of_era).checked_sub(719_468)
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
            prop_assert_eq!(Timestamp::parse(timestamp.as_str()), Some(Duration::from_micros(micros)));
        }

        #[test]
        fn what_is_no_moment_is_none(text: String, place in 0..32_usize, byte: u8) {
            prop_assert_eq!(Timestamp::parse(&text), None);
            let mut near = Timestamp::from_unix(Duration::from_secs(1_739_269_800)).0;
            near[place] = byte;
            if let Some(read) = std::str::from_utf8(&near).ok().and_then(Timestamp::parse) {
                prop_assert_eq!(Timestamp::from_unix(read).0, near);
            }
        }
    }
}
