//! Where a profile's text is wrong.

use std::{fmt, ops::Range};

/// What is wrong with a profile's text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    line: usize,
    key: Box<str>,
    message: Box<str>,
}

impl ProfileError {
    /// At a place of a text.
    pub(crate) fn at(text: &str, span: Option<Range<usize>>, message: impl Into<Box<str>>) -> Self {
        let (line, key) = place(text, span.map_or(0, |span| span.start));
        let message: Box<str> = message.into();
        let message = message.lines().collect::<Vec<_>>().join(", ").into();
        Self { line, key, message }
    }

    /// Line of the text, from 1 on.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The key on that line with its table in front, as `request.key`. Empty: there is none.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProfileError {}

/// What is wrong with a part of a text: where that part lies is added further out.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// The line of a byte, and the key that is set there.
fn place(text: &str, at: usize) -> (usize, Box<str>) {
    let (mut start, mut table, mut found) = (0, "", (1, Box::from("")));
    // A value may lie on lines of its own below its key.
    let mut key = "";
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if start > at {
            break;
        }
        let trimmed = line.trim();
        if let Some(header) = trimmed.strip_prefix('[').filter(|_| is_header(trimmed)) {
            table = header.trim_matches(['[', ']', ' ']);
            key = "";
        } else if let Some((name, _)) =
            trimmed.split_once('=').filter(|_| !line.starts_with([' ', '\t']))
        {
            key = name.trim();
        }
        let whole = match (table, key) {
            ("", key) => key.into(),
            (table, "") => table.into(),
            (table, key) => format!("{table}.{key}").into(),
        };
        found = (number + 1, whole);
        start += line.len();
    }
    found
}

/// Whether a line opens a table, and is not an array that goes on.
fn is_header(line: &str) -> bool {
    let inner = line.split('#').next().unwrap_or_default().trim();
    let inner = inner.trim_start_matches('[').trim_end_matches(']');
    line.split('#').next().is_some_and(|line| line.trim().ends_with(']'))
        && inner.chars().all(|c| c.is_ascii_alphanumeric() || "._- ".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_and_a_key() {
        let text =
            "name = \"x\"\n\n[ports]\nwebsocket = 1\n[[fold]]\nsteps = [\n  { set = \"a\" },\n]\n";
        for (found, line, key) in [
            ("name", 1, "name"),
            ("[ports", 3, "ports"),
            ("websocket", 4, "ports.websocket"),
            ("{ set", 7, "fold.steps"),
        ] {
            let at = text.find(found).unwrap();
            assert_eq!(place(text, at), (line, key.into()), "{found}");
        }
        assert_eq!(place("", 7), (1, "".into()));
    }
}
