//! The language of env files: what systemd reads as `EnvironmentFile=`, and of shells and docker what does not contradict
//! it. `$` is literal. What these readers understand differently, and what is malformed, is refused if it is ours, and
//! passed over if it is another program's. docs/configuration.md has the rules for people.

use std::{iter::Peekable, str::Chars};

use zeroize::Zeroizing;

/// One setting of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Zeroizing<String>,
}

/// What is wrong with a line, which may hold a secret and is not repeated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) why: &'static str,
}

/// Whether a name that does not begin as ours do is a setting all the same: a service's own.
pub(super) type Own<'a> = &'a dyn Fn(&str) -> bool;

/// The settings of a text in its order, those of other programs left out; or all lines that are wrong.
pub(super) fn parse(text: &str, own: Own<'_>) -> Result<Vec<Entry>, Vec<BadLine>> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut entries, mut bad) = (Vec::<Entry>::new(), Vec::new());
    let mut at = 0;
    while let Some(rest) = lines.get(at..).filter(|rest| !rest.is_empty()) {
        let (taken, found) = match Line::of(rest.first().copied().unwrap_or_default(), own) {
            Line::Nothing => (1, Ok(None)),
            Line::Wrong(why) => (1, Err(why)),
            Line::Exported(name) if entries.iter().any(|entry| entry.name == name) => (1, Ok(None)),
            Line::Exported(_) => (1, Err(NO_VALUE)),
            Line::Foreign(value) => foreign(value, rest, own),
            Line::Ours(name, value) => ours(name, value, rest, own),
        };
        match found {
            Ok(entry) => entries.extend(entry),
            Err(why) => bad.push(BadLine { number: at + 1, why }),
        }
        at += taken;
    }
    if bad.is_empty() { Ok(entries) } else { Err(bad) }
}

/// What a line is for, by its beginning.
enum Line<'a> {
    /// A comment, or empty.
    Nothing,
    Ours(&'a str, &'a str),
    /// `export NAME`: sets nothing.
    Exported(&'a str),
    /// Another program's, with what may be its value.
    Foreign(&'a str),
    Wrong(&'static str),
}

impl<'a> Line<'a> {
    fn of(line: &'a str, own: Own<'_>) -> Self {
        let line = bare(line);
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Self::Nothing;
        }
        let exported = line
            .strip_prefix("export")
            .filter(|rest| rest.starts_with(char::is_whitespace))
            .map(str::trim_start);
        let assignment = exported.unwrap_or(line);
        let (name, value) = match assignment.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value)),
            None => (assignment.trim_end(), None),
        };
        let others = super::sources::is_ours(name) || own(name);
        if others && !name.starts_with(super::PREFIX) {
            return match value {
                Some(value) => Self::Ours(name, value),
                None if exported.is_some() => Self::Exported(name),
                None => Self::Wrong(NO_VALUE),
            };
        }
        if !name.to_ascii_uppercase().contains(super::PREFIX) {
            return match value.filter(|_| is_misspelt(name)) {
                Some(_) => Self::Wrong(MISSPELT),
                None => Self::Foreign(value.unwrap_or_default()),
            };
        }
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match value {
            _ if !is_name => Self::Wrong(NOT_A_NAME),
            _ if !name.starts_with(super::PREFIX) => {
                // X_MAHAVISHNU_PORT is somebody's own.
                let ours = name.to_ascii_uppercase().starts_with(super::PREFIX);
                if ours { Self::Wrong(SMALL) } else { Self::Foreign(value.unwrap_or_default()) }
            }
            Some(value) => Self::Ours(name, value),
            None if exported.is_some() => Self::Exported(name),
            None => Self::Wrong(NO_VALUE),
        }
    }

    fn is_ours(line: &str, own: Own<'_>) -> bool {
        matches!(Line::of(line, own), Line::Ours(..) | Line::Wrong(_))
    }
}

/// Nobody else's name begins almost like ours.
fn is_misspelt(name: &str) -> bool {
    name.split_once('_').is_some_and(|(first, _)| {
        let ours = super::PREFIX.trim_end_matches('_');
        strsim::damerau_levenshtein(&first.to_ascii_uppercase(), ours) <= 2
    })
}

/// Files that were put together have a byte order mark in their middle.
fn bare(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// How many lines another program's value takes. That it goes on over one of ours is refused: readers disagree on what
/// is meant.
fn foreign(
    value: &str,
    rest: &[&str],
    own: Own<'_>,
) -> (usize, Result<Option<Entry>, &'static str>) {
    let value = value.trim_start();
    let mut taken = 1;
    if let Some(quote) = value.chars().next().filter(|first| ['"', '\''].contains(first)) {
        if !closes(value.get(1..).unwrap_or_default(), quote) {
            let further = rest.iter().skip(1);
            // A quote that is never closed is a letter.
            taken += further.clone().position(|line| closes(line, quote)).map_or(0, |n| n + 1);
        }
    } else {
        while rest.get(taken - 1).is_some_and(|line| line.ends_with('\\')) && taken < rest.len() {
            taken += 1;
        }
    }
    if rest.iter().take(taken).skip(1).any(|line| Line::is_ours(line, own)) {
        return (1, Err(OVER_OURS));
    }
    (taken, Ok(None))
}

fn closes(line: &str, quote: char) -> bool {
    let mut escaped = false;
    line.chars().any(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped && quote == '"';
        ends
    })
}

/// A setting, and how many lines it takes.
fn ours(
    name: &str,
    value: &str,
    rest: &[&str],
    own: Own<'_>,
) -> (usize, Result<Option<Entry>, &'static str>) {
    // With room for all that may belong to it, nothing is moved and no copy of a secret stays behind.
    let room = value.len() + rest.iter().skip(1).map(|line| line.len() + 1).sum::<usize>();
    let mut reader = Value {
        line: value.trim_start().chars().peekable(),
        further: rest.get(1..).unwrap_or_default(),
        taken: 1,
        own,
        text: Zeroizing::new(String::with_capacity(room)),
    };
    match reader.read(is_secret(name)) {
        Ok(()) => (reader.taken, Ok(Some(Entry { name: name.to_owned(), value: reader.text }))),
        // What would have belonged to it is looked at on its own.
        Err(why) => (1, Err(why)),
    }
}

/// Of these nothing may be taken for a comment that might be meant.
fn is_secret(name: &str) -> bool {
    ["SECRET", "KEYS", "PASSWORD", "TOKEN", "HEADERS"].iter().any(|end| name.ends_with(end))
}

/// What a backslash without quotes makes a letter of, for every reader that knows backslashes.
fn is_plain(c: char) -> bool {
    ['\\', '"', '\'', '$', ' ', '#', '`'].contains(&c)
}

struct Value<'a> {
    line: Peekable<Chars<'a>>,
    further: &'a [&'a str],
    taken: usize,
    own: Own<'a>,
    text: Zeroizing<String>,
}

impl Value<'_> {
    fn read(&mut self, is_secret: bool) -> Result<(), &'static str> {
        match self.line.peek() {
            Some('"' | '\'') => self.quoted(),
            Some('\u{2018}'..='\u{201f}') => Err(CURLY),
            // `NAME= # note`
            Some('#') => {
                self.line.next();
                self.comment(is_secret)
            }
            Some(_) | None => self.unquoted(is_secret),
        }
    }

    fn unquoted(&mut self, is_secret: bool) -> Result<(), &'static str> {
        // Spaces at the end are not meant, unless somebody escaped them.
        let mut meant = 0;
        while let Some(c) = self.line.next() {
            match c {
                '\\' => match self.line.next() {
                    Some(c) if is_plain(c) => {
                        self.text.push(c);
                        meant = self.text.len();
                    }
                    Some(_) => return Err(BACKSLASH),
                    None => self.next_line()?,
                },
                '#' if self.text.len() > meant => {
                    self.comment(is_secret)?;
                    break;
                }
                c => {
                    self.text.push(c);
                    if !c.is_whitespace() {
                        meant = self.text.len();
                    }
                }
            }
        }
        self.text.truncate(meant);
        Ok(())
    }

    /// Behind a space and a `#`. Of a secret it may be a part, unless a space follows.
    fn comment(&mut self, is_secret: bool) -> Result<(), &'static str> {
        let clear = !is_secret || self.line.peek().is_some_and(|c| c.is_whitespace());
        if clear { Ok(()) } else { Err(HASH) }
    }

    fn quoted(&mut self) -> Result<(), &'static str> {
        // 'it'\''s' is how a shell writes it.
        while let Some(c) = self.line.next_if(|c| ['"', '\'', '\\'].contains(c)) {
            match c {
                '\\' => self.text.push(self.line.next_if(|c| is_plain(*c)).ok_or(BACKSLASH)?),
                quote => self.until(quote)?,
            }
        }
        let spaced = self.line.next_if(|c| c.is_whitespace()).is_some();
        while self.line.next_if(|c| c.is_whitespace()).is_some() {}
        match self.line.next() {
            None => Ok(()),
            Some('#') if spaced => Ok(()),
            Some(_) => Err(AFTER_QUOTE),
        }
    }

    fn until(&mut self, quote: char) -> Result<(), &'static str> {
        loop {
            match self.line.next() {
                Some(c) if c == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.line.next() {
                    Some(c @ ('\\' | '"' | '$' | '`')) => self.text.push(c),
                    Some(_) => return Err(BACKSLASH),
                    None => self.next_line()?,
                },
                Some(c) => self.text.push(c),
                None => {
                    self.next_line().map_err(|_| UNCLOSED)?;
                    self.text.push('\n');
                }
            }
        }
    }

    /// The value goes on. Not over another setting: then something is missing before it.
    fn next_line(&mut self) -> Result<(), &'static str> {
        let (next, further) = self.further.split_first().ok_or(GOES_ON)?;
        if Line::is_ours(next, self.own) {
            return Err(GOES_ON);
        }
        self.line = next.chars().peekable();
        self.further = further;
        self.taken += 1;
        Ok(())
    }
}

const NOT_A_NAME: &str = "not a NAME=value line";
const NO_VALUE: &str = "a name without a value; write NAME=value";
const SMALL: &str = "names of settings are in capitals";
const MISSPELT: &str = "names of settings begin with MAHAVISHNU_";
const OVER_OURS: &str = "the value goes on over a line with a setting of this server; close the quote, or take the backslash at the end out";
const UNCLOSED: &str = "a quote is not closed";
const GOES_ON: &str = "a backslash at the end, but the value does not go on; put it into single quotes if it is meant";
const BACKSLASH: &str = "a backslash that readers of such files understand differently; put the value into single quotes";
const HASH: &str = "a # after a space, and none behind it: put the value into single quotes if it is part of it, else the comment on a line of its own";
const AFTER_QUOTE: &str = "something follows the closing quote; put the whole value into quotes";
const CURLY: &str = "curly quotes; use straight ones";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<Entry>, Vec<BadLine>> {
        super::parse(text, &|name| name.starts_with("OWN_"))
    }

    #[test]
    fn a_services_own_names_are_settings_too() {
        let entries = parse("OWN_X='a'\nOTHER_X=b\nexport OWN_Y=c # note\n").unwrap();
        let read: Vec<_> = entries.iter().map(|one| (&*one.name, one.value.as_str())).collect();
        assert_eq!(read, [("OWN_X", "a"), ("OWN_Y", "c")]);
        assert_eq!(parse("OWN_X='a' b\n").unwrap_err().len(), 1, "as strict as with ours");
    }

    fn value(line: &str) -> Result<String, &'static str> {
        match parse(&format!("MAHAVISHNU_X={line}\n")) {
            Ok(entries) => {
                assert_eq!(entries.len(), 1, "{line}");
                Ok(entries[0].value.to_string())
            }
            Err(bad) => {
                assert_eq!(bad[0].number, 1);
                Err(bad[0].why)
            }
        }
    }

    #[test]
    fn values_are_what_systemd_makes_of_them() {
        for (line, meant) in [
            ("", ""),
            ("a", "a"),
            ("  a b\t", "a b"),
            ("pa$word", "pa$word"),
            ("pa$", "pa$"),
            ("pa$$word", "pa$$word"),
            ("\"a$b c\"", "a$b c"),
            ("\"a$MY_NAME\"", "a$MY_NAME"),
            ("${HOME}", "${HOME}"),
            ("'a$b'", "a$b"),
            (r"a\$b", "a$b"),
            (r#""a\"b\\c\$d""#, r#"a"b\c$d"#),
            (r"'a\nb'", r"a\nb"),
            (r"a\ b\ ", "a b "),
            ("a=b==", "a=b=="),
            ("a#b", "a#b"),
            ("a;b ; c", "a;b ; c"),
            (r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            ("it's", "it's"),
            ("\"a\"'b'", "ab"),
            ("''", ""),
            (r"'it'\''s'", "it's"),
            ("\" a \"", " a "),
            ("\"a\nb\"", "a\nb"),
            ("\"a\\\nb\"", "ab"),
            ("a\\\nb", "ab"),
            ("a\r", "a"),
            ("'a'\r", "a"),
            ("é✓", "é✓"),
        ] {
            assert_eq!(value(line).as_deref(), Ok(meant), "{line:?}");
        }
    }

    #[test]
    fn comments_stand_after_a_space() {
        for (line, meant) in [
            ("a # b", "a"),
            ("'a' # b", "a"),
            ("\"a#b\"  #c", "a#b"),
            ("# b", ""),
            (r"a\ #b", "a #b"),
        ] {
            assert_eq!(value(line).as_deref(), Ok(meant), "{line:?}");
        }
        // In a secret it may be meant: systemd and docker take it as part of the value.
        let parsed = parse("MAHAVISHNU_JWT_SECRET=abc #def\nMAHAVISHNU_JWT_SECRET=#def\n");
        let bad = [1, 2].map(|number| BadLine { number, why: HASH });
        assert_eq!(parsed, Err(bad.into()));
        for (line, meant) in [
            ("'abc #def'", "abc #def"),
            ("abc#def", "abc#def"),
            ("abc  # note", "abc"),
            (" # note", ""),
        ] {
            let entries = parse(&format!("MAHAVISHNU_JWT_SECRET={line}")).unwrap();
            assert_eq!(entries[0].value.as_str(), meant);
        }
    }

    #[test]
    fn what_readers_understand_differently_is_refused() {
        for (line, why) in [
            (r"a\nb", BACKSLASH),
            (r#""a\nb""#, BACKSLASH),
            (r"a\", GOES_ON),
            ("a\\\nMAHAVISHNU_Y=1", GOES_ON),
            ("'a", UNCLOSED),
            ("\"a\n\n", UNCLOSED),
            ("'a\nMAHAVISHNU_Y='b'", UNCLOSED),
            ("'a'b", AFTER_QUOTE),
            ("'a' b", AFTER_QUOTE),
            ("'a'#b", AFTER_QUOTE),
            ("“a”", CURLY),
        ] {
            assert_eq!(value(line), Err(why), "{line:?}");
        }
    }

    #[test]
    fn lines_that_name_a_setting_are_settings_or_refused() {
        for fine in [
            "MAHAVISHNU_X=1",
            "  MAHAVISHNU_X = 1",
            "export MAHAVISHNU_X=1",
            "export\tMAHAVISHNU_X=1\nexport MAHAVISHNU_X",
            "\u{feff}MAHAVISHNU_X=1",
            "MAHAVISHNU_X=0\r\nMAHAVISHNU_X=1\r\n",
        ] {
            let entries = parse(fine).unwrap();
            assert_eq!(entries.last().unwrap().value.as_str(), "1", "{fine:?}");
        }
        for (wrong, why) in [
            ("MAHAVISHNU_X", NO_VALUE),
            ("export MAHAVISHNU_X", NO_VALUE),
            ("MAHAVISHNU_X: 1", NOT_A_NAME),
            ("MAHAVISHNU_X 1", NOT_A_NAME),
            ("MAHAVISHNU_X: a=b", NOT_A_NAME),
            ("- MAHAVISHNU_X=1", NOT_A_NAME),
            ("\"MAHAVISHNU_X\": \"1\"", NOT_A_NAME),
            ("set MAHAVISHNU_X=1", NOT_A_NAME),
            ("declare -x MAHAVISHNU_X=1", NOT_A_NAME),
            ("mahavishnu_x=1", SMALL),
            ("MAHAVISNU_X=1", MISSPELT),
            ("export MAHAVSIHNU_X=1", MISSPELT),
        ] {
            let bad = parse(&format!("A=1\n\n{wrong}\n")).unwrap_err();
            assert_eq!(bad.len(), 1, "{wrong:?}");
            assert_eq!(bad[0].number, 3, "{wrong:?}");
            assert_eq!(bad[0].why, why, "{wrong:?}");
        }
    }

    #[test]
    fn lines_of_other_programs_are_passed_over() {
        for foreign in [
            "FOO=bar baz",
            "; note",
            "# MAHAVISHNU_Y=2",
            "[section]",
            "FOO",
            "FOO=$MAHAVISHNU_Y",
            "X_MAHAVISHNU_Y=1",
            "a b c = d",
            "FOO=it's",
            "FOO='never closed",
            "FOO=\"one\ntwo\"",
            "FOO='-----BEGIN X-----\nAAAA=\n-----END X-----'",
            "FOO=one\\\ntwo",
            "FOO=\"a\\\"b\"",
            "✓",
            "<<<<<<< HEAD",
        ] {
            let entries = parse(&format!("{foreign}\nMAHAVISHNU_X=1")).unwrap();
            assert_eq!(entries.len(), 1, "{foreign:?}");
            assert_eq!(
                (entries[0].name.as_str(), entries[0].value.as_str()),
                ("MAHAVISHNU_X", "1")
            );
        }
        for unclear in ["FOO='a\nMAHAVISHNU_X=1\nb'", "FOO=a\\\nMAHAVISHNU_X=1"] {
            assert_eq!(parse(unclear).unwrap_err(), [BadLine { number: 1, why: OVER_OURS }]);
        }
    }

    #[test]
    fn all_wrong_lines_are_told() {
        let bad = parse("MAHAVISHNU_A\nMAHAVISHNU_B='\nMAHAVISHNU_C=1\n").unwrap_err();
        assert_eq!(bad.iter().map(|bad| bad.number).collect::<Vec<_>>(), [1, 2]);
    }

    /// Pieces of which such files are made, in any order, and any text.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec![
                "MAHAVISHNU_X=", "MAHAVISHNU_JWT_SECRET=", "MAHAVISHNU_", "MAHAVISNU_X=", "mahavishnu_x=", "FOO=", "export ",
                "\n", "\r\n", "\r", "\"", "'", "\\", "#", " #", ";", "=", " ", "\t", "$", "\u{feff}", "\u{201c}", SECRET,
            ]).prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    const SECRET: &str = "Zk9QxT7vLm3W";

    proptest! {
        #[test]
        fn any_text_has_an_answer_and_no_answer_repeats_it(text in text()) {
            match parse(&text) {
                Ok(entries) => {
                    for Entry { name, value } in &entries {
                        prop_assert!(name.starts_with(super::super::PREFIX), "{}", name);
                        prop_assert!(text.contains(&**name) && value.len() <= text.len());
                    }
                }
                Err(bad) => {
                    prop_assert!(!bad.is_empty());
                    prop_assert!(bad.is_sorted_by(|one, next| one.number < next.number), "{:?}", bad);
                    prop_assert!(bad.iter().all(|bad| (1..=text.lines().count()).contains(&bad.number)));
                    prop_assert!(!format!("{bad:?}").contains(SECRET), "{:?}", bad);
                }
            }
        }

        /// Whatever stands in a value that is in single quotes is the value.
        #[test]
        fn what_is_in_single_quotes_is_taken_as_it_is(value in "[^'\\r\\n\\pC]*") {
            let entries = parse(&format!("MAHAVISHNU_X='{value}'\n")).unwrap();
            prop_assert_eq!(entries.len(), 1);
            prop_assert_eq!(entries[0].value.as_str(), value);
        }
    }
}
