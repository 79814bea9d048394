//! What servers answer, as RESP2 and RESP3 have it.

use std::fmt;

/// Something that a server has written.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `_`, `$-1` and `*-1`
    Null,
    /// `*`
    Array(Vec<Self>),
    /// `%`
    Map(Vec<(Self, Self)>),
    /// `~`
    Set(Vec<Self>),
    /// `>`: not an answer
    Push(Vec<Self>),
    /// `,` as written
    Double(String),
    /// `#`
    Boolean(bool),
    /// `=`, without what kind of text it is
    Verbatim(String),
    /// `(`
    BigNumber(String),
}

impl Value {
    /// The first one of `bytes`, and how many bytes it takes; `None` if it is not all there. Panics if it is none.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader { bytes, at: 0 };
        let value = reader.value()?;
        Some((value, reader.at))
    }

    /// A bulk string.
    pub fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(text.as_ref().to_vec())
    }

    /// The text of a string or a number. Panics at anything else.
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Verbatim(text) | Self::Double(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(number) => number.to_string(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The number. Panics at anything else.
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// What is in an array, a set or a push. Panics at anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// The value of a map at this key. Panics if it is not there.
    pub fn at(&self, key: &str) -> &Self {
        let Self::Map(pairs) = self else { panic!("not a map: {self:?}") };
        let found = pairs.iter().find(|(name, _)| name.text() == key);
        &found.unwrap_or_else(|| panic!("no {key} in {self:?}")).1
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, ":{number}"),
            Self::Bulk(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Null => write!(f, "_"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Self::Set(items) => f.debug_set().entries(items).finish(),
            Self::Push(items) => {
                write!(f, ">")?;
                f.debug_list().entries(items).finish()
            }
            Self::Double(text) => write!(f, ",{text}"),
            Self::Boolean(truth) => write!(f, "#{truth}"),
            Self::Verbatim(text) => write!(f, "={text:?}"),
            Self::BigNumber(text) => write!(f, "({text}"),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Option<Value> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        Some(match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number(rest)),
            "_" => Value::Null,
            "," => Value::Double(rest.to_owned()),
            "#" => Value::Boolean(rest == "t"),
            "(" => Value::BigNumber(rest.to_owned()),
            "$" if rest == "-1" => Value::Null,
            "*" if rest == "-1" => Value::Null,
            "$" => Value::Bulk(self.body(rest)?),
            "=" => {
                let text = String::from_utf8(self.body(rest)?).expect("text");
                Value::Verbatim(text[4..].to_owned())
            }
            "*" => Value::Array(self.values(rest)?),
            "~" => Value::Set(self.values(rest)?),
            ">" => Value::Push(self.values(rest)?),
            "%" => {
                let mut pairs = Vec::new();
                for _ in 0..number(rest) {
                    pairs.push((self.value()?, self.value()?));
                }
                Value::Map(pairs)
            }
            other => panic!("no RESP: {other:?} in {:?}", String::from_utf8_lossy(self.bytes)),
        })
    }

    fn values(&mut self, count: &str) -> Option<Vec<Value>> {
        (0..number(count)).map(|_| self.value()).collect()
    }

    fn line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        assert!(end > 0, "no RESP: an empty line in {:?}", String::from_utf8_lossy(self.bytes));
        self.at += end + 2;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn body(&mut self, length: &str) -> Option<Vec<u8>> {
        let length = usize::try_from(number(length)).expect("a length");
        let body = self.bytes.get(self.at..self.at + length)?.to_vec();
        let end = self.bytes.get(self.at + length..self.at + length + 2)?;
        assert_eq!(end, b"\r\n", "a body without its end");
        self.at += length + 2;
        Some(body)
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("no RESP: {text:?} is no number"))
}
