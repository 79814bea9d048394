//! Where in a channel's history to begin, as people write it.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;

/// A moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// So long before the command is run.
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    /// The moment itself.
    pub(crate) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            // Before all time is everything.
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
            Self::At(moment) => moment,
        }
    }
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at_checked(end).unwrap_or_default();
        let seconds = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(ALLOWED),
        };
        let count: u64 = digits.parse().map_err(|_| ALLOWED)?;
        Ok(Self::Ago(Duration::from_secs(count.saturating_mul(seconds))))
    }
}

/// An event's place in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct After {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl FromStr for After {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.split_once(':').ok_or("use EPOCH:OFFSET")?;
        let offset = offset.parse().map_err(|_| "the offset is a whole number")?;
        match epoch.is_empty() {
            true => Err("use EPOCH:OFFSET"),
            false => Ok(Self { epoch: epoch.to_owned(), offset }),
        }
    }
}

const ALLOWED: &str = "use 30s, 10m, 2h, 1d or 2026-01-31T12:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_so_long_ago_or_a_date() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let moment = |text: &str| text.parse::<Since>().map(|since| since.moment(now).to_string());
        for (text, expected) in [
            ("30s", "2026-01-31T11:59:30Z"),
            ("10m", "2026-01-31T11:50:00Z"),
            ("10min", "2026-01-31T11:50:00Z"),
            ("2h", "2026-01-31T10:00:00Z"),
            ("1d", "2026-01-30T12:00:00Z"),
            ("0s", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
        ] {
            assert_eq!(moment(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(moment("99999999999999999999d"), Err(ALLOWED));
        assert_eq!("9999999999999d".parse::<Since>().unwrap().moment(now), Timestamp::MIN);
        for bad in ["", "10", "m", "-5m", "1.5h", "5w", "yesterday", "10 m", "2026-01-31"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_has_an_epoch_and_a_number() {
        let after = After { epoch: "kq3v7m2xwd".into(), offset: 97 };
        assert_eq!("kq3v7m2xwd:97".parse(), Ok(after));
        for bad in ["", "97", ":97", "kq3v7m2xwd:", "kq3v7m2xwd:-1", "a:b:1"] {
            assert!(bad.parse::<After>().is_err(), "{bad}");
        }
    }
}
