//! Numbers as servers write them.

/// How fractions and large numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// C's `%.17g`: Redis before 7.2.
    Digits17,
    /// As few digits as tell it from its neighbours.
    Shortest,
}

impl Style {
    pub(crate) fn write(self, number: f64) -> String {
        if number.is_infinite() {
            return if number > 0.0 { "inf".into() } else { "-inf".into() };
        }
        match self {
            Self::Digits17 => digits_17(number),
            Self::Shortest => shortest(number),
        }
    }
}

fn digits_17(number: f64) -> String {
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust writes one");
    let power: i32 = exponent.parse().expect("a number");
    let decimals = usize::try_from(16 - power).ok().filter(|_| power >= -4);
    match decimals {
        Some(decimals) => trimmed(&format!("{number:.decimals$}")).to_owned(),
        None => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trimmed(digits), power.abs())
        }
    }
}

/// Without the zeros at the end of a fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// The rules are those of Redis' `fpconv_dtoa.c: emit_digits`.
fn shortest(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust writes one");
    let power: i32 = exponent.parse().expect("a number");
    let count = i32::try_from(digits.bytes().filter(u8::is_ascii_digit).count()).expect("few");
    let zeros = power - (count - 1);
    if zeros >= 0 && power < count + 7 || zeros < 0 && (zeros > -7 || power.abs() < 4) {
        return format!("{number}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{}", power.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_servers_do() {
        for (number, old, new) in [
            (0.0, "0", "0"),
            (-7.0, "-7", "-7"),
            (1.5, "1.5", "1.5"),
            (0.1, "0.10000000000000001", "0.1"),
            (1e-7, "9.9999999999999995e-08", "1e-7"),
            (12_345_678_901_234_567_890.0, "1.2345678901234567e+19", "12345678901234567000"),
            (1_790_000_000_123.0, "1790000000123", "1790000000123"),
            (1e30, "1e+30", "1e+30"),
            (f64::NEG_INFINITY, "-inf", "-inf"),
        ] {
            assert_eq!(Style::Digits17.write(number), old);
            assert_eq!(Style::Shortest.write(number), new);
        }
    }
}
