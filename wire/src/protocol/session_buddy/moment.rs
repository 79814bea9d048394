//! When an anomaly was detected, in the forms in which services write times.

use std::time::Duration;

use super::super::timestamp::Timestamp;

/// The time after the epoch that `text` says: `2026-02-10T12:00:00`, with `T` or a space between, with or without a fraction
/// of a second, and with `Z`, an offset such as `+01:00`, or nothing, which means UTC. `None`: something else, or before the
/// epoch.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at_checked(digits)?;
            (Some(fraction).filter(|fraction| (1..=9).contains(&fraction.len()))?, zone)
        }
    };
    let micros = fraction.get(..6).unwrap_or(fraction);
    let local = Timestamp::parse(&format!("{date}T{time}.{micros:0<6}+00:00"))?;
    let (east, zone) = match zone {
        "" | "Z" => return Some(local),
        zone => (zone.starts_with('+'), zone.strip_prefix(['+', '-'])?),
    };
    let (hours, minutes) = zone.split_once(':')?;
    let number = |digits: &str, below: u64| {
        let sound = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|number| sound && *number < below)
    };
    let offset = Duration::from_secs(number(hours, 24)? * 3600 + number(minutes, 60)? * 60);
    if east { local.checked_sub(offset) } else { local.checked_add(offset) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_write_times_in_several_ways() {
        let at = Duration::from_secs(1_770_724_800);
        for (text, fraction) in [
            ("2026-02-10T12:00:00Z", 0),
            ("2026-02-10 12:00:00", 0),
            ("2026-02-10T12:00:00", 0),
            ("2026-02-10T12:00:00.5Z", 500_000),
            ("2026-02-10T12:00:00.123456+00:00", 123_456),
            ("2026-02-10T12:00:00.123456789", 123_456),
            ("2026-02-10T13:30:00+01:30", 0),
            ("2026-02-10T07:00:00-05:00", 0),
        ] {
            assert_eq!(parse(text), Some(at + Duration::from_micros(fraction)), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-02-10",
            "2026-02-10T12:00",
            "2026-02-30T12:00:00Z",
            "2026-02-10T24:00:00Z",
            "2026-02-10T12:00:00.",
            "2026-02-10T12:00:00.Z",
            "2026-02-10T12:00:00.1234567890Z",
            "2026-02-10T12:00:00z",
            "2026-02-10T12:00:00+1:00",
            "2026-02-10T12:00:00+01:60",
            "2026-02-10T12:00:00 +01:00",
            "1970-01-01T00:00:00+01:00",
            "1969-12-31T23:59:59Z",
            "٢٠٢٦-02-10T12:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
