//! The kind of setting that is an amount of memory.

use super::kind::Kind;

/// How much memory the server is to make do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryLimit {
    /// The defaults of the limits hold, whatever the machine has.
    Off,
    /// What the control group allows, or the machine has.
    Auto,
    Bytes(u64),
}

/// `off`, `auto` or bytes, with K, M or G behind them.
pub(crate) struct Memory;

impl Kind for Memory {
    type Value = MemoryLimit;

    fn parse(&self, text: &str) -> Option<MemoryLimit> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "off" | "0" => return Some(MemoryLimit::Off),
            "auto" => return Some(MemoryLimit::Auto),
            _ => {}
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at_checked(end)?;
        let shift =
            UNITS.iter().find(|(names, _)| names.contains(&unit)).map(|(_, shift)| shift)?;
        let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
        (MIN..=MAX).contains(&bytes).then_some(MemoryLimit::Bytes(bytes))
    }

    fn show(&self, value: &MemoryLimit) -> String {
        match value {
            MemoryLimit::Off => "off".into(),
            MemoryLimit::Auto => "auto".into(),
            MemoryLimit::Bytes(bytes) => {
                let fits = |(_, shift): &&(_, u32)| bytes.trailing_zeros() >= *shift;
                let (unit, shift) =
                    UNITS.iter().find(fits).map_or(("", 0), |(names, shift)| (names[0], *shift));
                format!("{}{}", bytes >> shift, unit.to_ascii_uppercase())
            }
        }
    }

    fn allowed(&self) -> String {
        "off, auto or bytes from 64M to 16384G (K, M and G count in 1024s)".into()
    }
}

/// Names of units with the power of two that they stand for, the largest first.
const UNITS: [([&str; 2], u32); 4] =
    [(["g", "gib"], 30), (["m", "mib"], 20), (["k", "kib"], 10), (["", "b"], 0)];

/// Less is not enough for the program and a few connections.
const MIN: u64 = 64 << 20;
const MAX: u64 = 16 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_1024s() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("2g", 2 << 30),
            ("131072KiB", 128 << 20),
            ("100000000", 100_000_000),
        ] {
            assert_eq!(Memory.parse(text), Some(MemoryLimit::Bytes(bytes)), "{text}");
        }
        assert_eq!(Memory.parse("AUTO"), Some(MemoryLimit::Auto));
        assert_eq!(Memory.parse("0"), Some(MemoryLimit::Off));
        for text in
            ["", "M", "1.5G", "512 M", "512MB", "63M", "17000G", "-1G", "99999999999999999999G"]
        {
            assert_eq!(Memory.parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["off", "auto", "512M", "2G", "65537K", "100000001"] {
            let value = Memory.parse(text).unwrap();
            assert_eq!(Memory.show(&value), text);
        }
    }
}
