//! What is answered, in either protocol.

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    /// Told from [`Null`](Self::Null) by RESP2 alone.
    NullArray,
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
    /// As it is written.
    Double(String),
    /// Members with their scores: pairs, or one after the other.
    Scored(Vec<(Vec<u8>, String)>),
    /// Text for people.
    Verbatim(String),
    /// Not an answer; one of RESP2 cannot tell.
    Push(Vec<Self>),
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp2,
    Resp3,
}

impl Reply {
    pub(crate) fn ok() -> Self {
        Self::Simple("OK".into())
    }

    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bulk(bytes.as_ref().to_vec())
    }

    pub(crate) fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).expect("a count"))
    }

    pub(crate) fn bulk_or_null(bytes: Option<&Vec<u8>>) -> Self {
        bytes.map_or(Self::Null, Self::bulk)
    }

    /// Appends its bytes.
    pub(crate) fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let new = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => line(out, '+', text),
            Self::Error(text) => line(out, '-', &text.replace(['\r', '\n'], " ")),
            Self::Integer(number) => line(out, ':', &number.to_string()),
            Self::Bulk(bytes) => bulk(out, '$', bytes),
            Self::Null | Self::NullArray if new => line(out, '_', ""),
            Self::Null => line(out, '$', "-1"),
            Self::NullArray => line(out, '*', "-1"),
            Self::Array(items) => all(items, '*', protocol, out),
            Self::Push(items) => all(items, if new { '>' } else { '*' }, protocol, out),
            Self::Map(pairs) => {
                let (kind, count) = if new { ('%', pairs.len()) } else { ('*', pairs.len() * 2) };
                line(out, kind, &count.to_string());
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
            Self::Double(number) if new => line(out, ',', number),
            Self::Double(number) => bulk(out, '$', number.as_bytes()),
            Self::Scored(pairs) => {
                let count = if new { pairs.len() } else { pairs.len() * 2 };
                line(out, '*', &count.to_string());
                for (member, score) in pairs {
                    if new {
                        line(out, '*', "2");
                    }
                    bulk(out, '$', member);
                    Self::Double(score.clone()).write(protocol, out);
                }
            }
            Self::Verbatim(text) if new => bulk(out, '=', format!("txt:{text}").as_bytes()),
            Self::Verbatim(text) => bulk(out, '$', text.as_bytes()),
        }
    }
}

fn line(out: &mut Vec<u8>, kind: char, text: &str) {
    out.push(u8::try_from(kind).expect("ASCII"));
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, kind: char, bytes: &[u8]) {
    line(out, kind, &bytes.len().to_string());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn all(items: &[Reply], kind: char, protocol: Protocol, out: &mut Vec<u8>) {
    line(out, kind, &items.len().to_string());
    for item in items {
        item.write(protocol, out);
    }
}
