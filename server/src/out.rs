//! Lines for people: results on stdout, notes on stderr. Neither panics when its reader has gone.

use std::{fmt::Display, io::Write};

use crate::{
    exit::{Exit, Failure},
    logging,
};

/// Prints one line of the subcommand's result.
///
/// A reader that has gone (`mahavishnu subscribe … | head -1`) ends the process quietly: nobody is left to tell.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| {
        match error.kind() == std::io::ErrorKind::BrokenPipe {
            true => Failure { exit: Exit::Ok, lines: Vec::new() },
            false => Failure::io("standard output", &error),
        }
    })
}

/// Prints one line beside the result. Nothing can be done if that fails, so nothing is.
pub(crate) fn note(text: impl Display) {
    logging::note(&format!("{text}\n"));
}

/// `text` without line breaks and terminal escapes: in JSON `\u001b` means what the character itself did.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Between JSON's tokens, where a blank is as good.
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

/// A span of time in at most two units.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        let count = left / size;
        left %= size;
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// Rows as lines, each column as wide as what is in it.
pub(crate) fn columns<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<_> = rows.into_iter().collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{columns, one_line, span};

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["a", "bcd"], ["äöü", "e"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(rows), ["a    bcd", "äöü  e"]);
        assert_eq!(columns::<1>([]), [""; 0]);
    }

    #[test]
    fn what_is_printed_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J\u{9b}"), r"a b\u001b[2J\u009b");
        assert_eq!(one_line(r#"{"x":"ä"}"#), r#"{"x":"ä"}"#);
    }

    #[test]
    fn spans_have_at_most_two_units() {
        assert_eq!(span(0), "0 s");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3600), "1 h");
        assert_eq!(span(3661), "1 h 1 min");
        assert_eq!(span(86_400 + 61), "1 d");
        assert_eq!(span(2 * 86_400 + 3 * 3600 + 5), "2 d 3 h");
    }
}
