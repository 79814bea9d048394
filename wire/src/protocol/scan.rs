//! JSON read in one pass: each byte is looked at once, nothing is copied, nothing is allocated, and the stack stays flat
//! however deep the input nests. Who asks for an object's members gets each as the bytes that came in.

use std::borrow::Cow;

use super::json::{NESTING_MAX, unescape};

/// Why a text is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not JSON (RFC 8259 §2).
    Syntax,
    /// Nested deeper than [`NESTING_MAX`].
    TooDeep,
}

/// A value as the bytes that came in, without the space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    text: &'a str,
    /// A string that is not what it looks like.
    escapes: bool,
}

impl<'a> Value<'a> {
    /// The JSON text.
    pub(super) fn get(self) -> &'a str {
        self.text
    }

    pub(super) fn is_null(self) -> bool {
        self.text.starts_with('n')
    }

    pub(super) fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    /// The text of a string; `None` if it is no string, or one that is not Unicode (`"\ud800"`).
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.text.strip_prefix('"')?.strip_suffix('"')?;
        if self.escapes { unescape(inner).map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
    }
}

/// A place in a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Brackets that are open here.
    depth: usize,
    /// Which of them are of objects, the innermost in the lowest bit.
    objects: u128,
    /// Members of objects that nobody asked for.
    others: u32,
}

impl<'a> Scanner<'a> {
    /// At the first value of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        let mut this = Self { text, at: 0, depth: 0, objects: 0, others: 0 };
        this.space();
        this
    }

    /// The same for a value that will be sent so many levels deep.
    pub(super) fn within(text: &'a str, depth: usize) -> Self {
        Self { depth, ..Self::new(text) }
    }

    /// The byte that comes next.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Nothing may follow but space.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(Fault::Syntax) }
    }

    /// Reads the object that begins here. `member` is called behind the colon of each member whose name is one of
    /// `names`, with its place there, and has to read the value; the other values are stepped over. False if a name is
    /// not Unicode.
    #[inline]
    pub(super) fn object<const N: usize>(
        &mut self,
        names: &[&str; N],
        mut member: impl FnMut(&mut Self, usize) -> Result<(), Fault>,
    ) -> Result<bool, Fault> {
        let mut readable = true;
        if self.open(true, b'}')? {
            return Ok(readable);
        }
        loop {
            match self.name(names)? {
                Name::Known(index) => member(self, index)?,
                Name::Other => {
                    self.others = self.others.wrapping_add(1);
                    self.value()?;
                }
                Name::NotUnicode => {
                    readable = false;
                    self.value()?;
                }
            }
            self.space();
            match self.next() {
                Some(b',') => self.space(),
                Some(b'}') => {
                    self.close();
                    return Ok(readable);
                }
                _ => return Err(Fault::Syntax),
            }
        }
    }

    /// Reads the object that begins here, whatever its members are called. `member` is called behind the colon of each with
    /// its name, and has to read the value. False if a name is not Unicode; `member` is not called for it.
    pub(super) fn entries(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Fault>,
    ) -> Result<bool, Fault> {
        let mut readable = true;
        if self.open(true, b'}')? {
            return Ok(readable);
        }
        loop {
            let start = self.at;
            let escapes = self.string()?;
            let name = self.since(start, escapes);
            self.colon()?;
            match name.string() {
                Some(name) => member(self, name)?,
                None => {
                    readable = false;
                    self.value()?;
                }
            }
            self.space();
            match self.next() {
                Some(b',') => self.space(),
                Some(b'}') => {
                    self.close();
                    return Ok(readable);
                }
                _ => return Err(Fault::Syntax),
            }
        }
    }

    /// Reads the array that begins here. `item` is called at each value of it, and has to read it.
    pub(super) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.open(false, b']')? {
            return Ok(());
        }
        loop {
            item(self)?;
            self.space();
            match self.next() {
                Some(b',') => self.space(),
                Some(b']') => {
                    self.close();
                    return Ok(());
                }
                _ => return Err(Fault::Syntax),
            }
        }
    }

    /// Reads the value that begins here.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Value<'a>, Fault> {
        let start = self.at;
        let mut escapes = false;
        match self.peek() {
            Some(b'"') => escapes = self.string()?,
            Some(b'{' | b'[') => self.nested()?,
            _ => self.scalar()?,
        }
        Ok(self.since(start, escapes))
    }

    /// How many members there were so far in objects that were read, besides those that were asked for.
    pub(super) fn others(&self) -> u32 {
        self.others
    }

    /// Where the scan stands: for [`since`](Self::since).
    pub(super) fn here(&self) -> usize {
        self.at
    }

    /// The value that began at `start` and has just ended.
    pub(super) fn since(&self, start: usize, escapes: bool) -> Value<'a> {
        Value { text: self.text.get(start..self.at).unwrap_or_default(), escapes }
    }

    /// A member's name and its colon.
    #[inline]
    fn name<const N: usize>(&mut self, names: &[&str; N]) -> Result<Name, Fault> {
        let start = self.at;
        let escapes = self.string()?;
        let name = self.since(start, escapes);
        self.colon()?;
        let place = |name: &str| match names.iter().position(|known| *known == name) {
            Some(index) => Name::Known(index),
            None => Name::Other,
        };
        Ok(name.string().map_or(Name::NotUnicode, |name| place(&name)))
    }

    fn colon(&mut self) -> Result<(), Fault> {
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    /// Steps over an array or object, however deep.
    fn nested(&mut self) -> Result<(), Fault> {
        let outside = self.depth;
        loop {
            // A value begins here.
            match self.peek() {
                Some(b'{') => {
                    if !self.open(true, b'}')? {
                        self.string()?;
                        self.colon()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    if !self.open(false, b']')? {
                        continue;
                    }
                }
                Some(b'"') => drop(self.string()?),
                _ => self.scalar()?,
            }
            // A value has ended here.
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                self.space();
                match (self.next(), self.objects & 1 == 1) {
                    (Some(b','), true) => {
                        self.space();
                        self.string()?;
                        self.colon()?;
                        break;
                    }
                    (Some(b','), false) => {
                        self.space();
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                    _ => return Err(Fault::Syntax),
                }
            }
        }
    }

    /// Goes into an array or object. True if it is empty and `end` was right behind.
    #[inline]
    fn open(&mut self, object: bool, end: u8) -> Result<bool, Fault> {
        self.at += 1;
        if self.depth == NESTING_MAX {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.space();
        let empty = self.peek() == Some(end);
        if empty {
            self.at += 1;
            self.close();
        }
        Ok(empty)
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    /// Steps over a string (RFC 8259 §7). True if there are escapes in it.
    #[inline]
    fn string(&mut self) -> Result<bool, Fault> {
        self.expect(b'"')?;
        let mut escapes = false;
        loop {
            self.plain();
            match self.next() {
                Some(b'"') => return Ok(escapes),
                Some(b'\\') => {
                    escapes = true;
                    self.escape()?;
                }
                _ => return Err(Fault::Syntax),
            }
        }
    }

    /// To the next quote, backslash or control character; eight bytes at a time, as most strings are short.
    #[inline]
    fn plain(&mut self) {
        let mut rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        while let Some((word, after)) = rest.split_first_chunk() {
            let special = special(u64::from_le_bytes(*word));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
            rest = after;
        }
        let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
        self.at += rest.iter().take_while(|byte| is_plain(byte)).count();
    }

    #[cold]
    fn escape(&mut self) -> Result<(), Fault> {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at..self.at + 4);
                if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    self.at += 4;
                    Ok(())
                } else {
                    Err(Fault::Syntax)
                }
            }
            _ => Err(Fault::Syntax),
        }
    }

    /// Steps over a number or a word.
    #[inline]
    fn scalar(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(Fault::Syntax),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        let found = self.text.as_bytes().get(self.at..self.at + word.len());
        self.at += word.len();
        if found == Some(word.as_bytes()) { Ok(()) } else { Err(Fault::Syntax) }
    }

    /// RFC 8259 §6: no leading zeros, digits on both sides of a point.
    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(Fault::Syntax) }
    }

    /// Steps over white space (RFC 8259 §2).
    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        if self.next() == Some(wanted) { Ok(()) } else { Err(Fault::Syntax) }
    }
}

/// What a member's name turned out to be.
enum Name {
    /// One of those that were asked for, by its place.
    Known(usize),
    Other,
    /// With escapes that stand for no character.
    NotUnicode,
}

/// Marks the bytes of `word` that end plain text, in each one's highest bit. What is above the lowest mark may be wrong,
/// because subtraction borrows upwards.
#[inline]
fn special(word: u64) -> u64 {
    let below = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word;
    let equal = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (equal(b'"') | equal(b'\\') | below(word, 0x20)) & (EACH * 0x80)
}

/// One in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// What `serde_json` says of a text: it steps over values by the same rules.
    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    fn scan(text: &str) -> Result<(), Fault> {
        let mut scanner = Scanner::new(text);
        scanner.value()?;
        scanner.end()
    }

    #[test]
    fn values_are_stepped_over_as_serde_json_steps_over_them() {
        for text in [
            "0",
            "-0",
            "01",
            "-",
            "1.",
            ".5",
            "1.5",
            "1e5",
            "1E+5",
            "1e-",
            "1e",
            "-1.0e400",
            "00",
            "--1",
            "+1",
            "1 1",
            "true",
            "tru",
            "truee",
            "false",
            "null",
            "nul",
            "nullx",
            "NaN",
            "\"\"",
            "\"",
            "\"a",
            "\"\\\"\"",
            "\"\\u12g4\"",
            "\"\\u1234\"",
            "\"\\ud800\"",
            "\"\\x\"",
            "\"\\",
            "\"\\u123",
            "\"\n\"",
            "\"\u{7f}ü\"",
            "[]",
            "[ ]",
            "[1]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "]",
            "[}",
            "{]",
            "{}",
            "{ }",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1,\"b\":[{},{\"c\":[]}]}",
            "{\"a\":[1}]",
            "{,}",
            " [ 1 , { \"a\" : \"b\" } ] ",
            "\u{feff}{}",
            "",
            " ",
            "[1]]",
            "\"12345678\"",
            "\"1234567\\\"9\"",
            "\"1234567\u{1f}\"",
            "\"12345678901234567890ü\"",
        ] {
            assert_eq!(scan(text).is_ok(), is_json(text), "{text:?}");
        }
    }

    #[test]
    fn nesting_has_a_limit_and_needs_no_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(scan(&nested(NESTING_MAX)), Ok(()));
        assert_eq!(scan(&nested(NESTING_MAX + 1)), Err(Fault::TooDeep));
        assert_eq!(scan(&nested(1_000_000)), Err(Fault::TooDeep));
        let wide = format!("[{}]", vec!["[{}]"; 1_000].join(","));
        assert_eq!(scan(&wide), Ok(()), "brackets beside each other are not nesting");
    }

    #[test]
    fn every_byte_is_found_in_every_place_of_a_word() {
        for place in 0..20 {
            for byte in 0..128_u8 {
                let mut text = "x".repeat(20);
                text.replace_range(place..=place, char::from(byte).encode_utf8(&mut [0; 4]));
                let text = format!("\"{text}\"");
                assert_eq!(scan(&text).is_ok(), is_json(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn members_are_found_by_name_and_the_last_one_counts() {
        let mut found = [None; 2];
        let mut scanner = Scanner::new(r#"{"a":1,"c":[{"a":7}],"\u0062":"x\n","a": {"b":2} }"#);
        let readable = scanner.object(&["a", "b"], |scanner, index| {
            found[index] = Some(scanner.value()?);
            Ok(())
        });
        assert_eq!((readable, scanner.end()), (Ok(true), Ok(())));
        assert_eq!(found[0].unwrap().get(), r#"{"b":2}"#);
        assert_eq!(found[1].unwrap().string().as_deref(), Some("x\n"));
    }

    #[test]
    fn entries_are_all_members_in_order() {
        let mut found = Vec::new();
        let mut scanner = Scanner::new(r#"{"a":1, "\u0062\"":[{"a":7}],"":"x"}"#);
        let readable = scanner.entries(|scanner, name| {
            found.push((name.into_owned(), scanner.value()?.get().to_owned()));
            Ok(())
        });
        assert_eq!((readable, scanner.end()), (Ok(true), Ok(())));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(found, [("a", "1"), ("b\"", r#"[{"a":7}]"#), ("", r#""x""#)].map(owned));
        let count = |text: &str| {
            let mut count = 0;
            let mut scanner = Scanner::new(text);
            let readable = scanner.entries(|scanner, _| {
                count += 1;
                scanner.value().map(drop)
            });
            readable.map(|readable| (readable, count))
        };
        assert_eq!(count("{ }"), Ok((true, 0)));
        assert_eq!(count(r#"{"\ud800":1,"a":2}"#), Ok((false, 1)));
        for text in [r#"{"a":1"#, r#"{"a"}"#, r#"{"a":1,}"#, r#"{a:1}"#] {
            assert_eq!(count(text), Err(Fault::Syntax), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_not_unicode_is_told() {
        let read =
            |text: &str| Scanner::new(text).object(&["a"], |scanner, _| scanner.value().map(drop));
        assert_eq!(read(r#"{"\ud800":1,"a":2}"#), Ok(false));
        assert_eq!(
            read(r#"{"b":{"\ud800":1},"a":2}"#),
            Ok(true),
            "deeper ones are nobody's concern"
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_serde_json_agrees(text in r#"([\[\]{},:" \\]|"[a-z\\ü\x00-\x20]{0,12}"|-?[0-9.eE+]{1,4}|true|null|\\u[0-9a-f]{3,4}){0,24}"#) {
            prop_assert_eq!(scan(&text).is_ok(), is_json(&text));
        }

        #[test]
        fn strings_mean_what_they_mean_to_serde_json(
            text in r#"([a-zü ]{0,3}|\\["\\/bfnrt]|\\u(00[0-9a-f]{2}|[dD][89abcdefABCDEF][0-9A-F]{2}|[0-9a-f]{4})){0,8}"#
        ) {
            let json = format!("\"{text}\"");
            let mut scanner = Scanner::new(&json);
            let value = scanner.value().unwrap();
            prop_assert_eq!(value.string().map(Cow::into_owned), serde_json::from_str::<String>(&json).ok());
        }

        #[test]
        fn strings_end_where_serde_json_ends_them(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            let mut scanner = Scanner::new(&json);
            let value = scanner.value().unwrap();
            prop_assert_eq!(value.get(), &json);
            prop_assert_eq!(value.string().unwrap(), text);
        }
    }
}
