//! TOML as it stands, tables in the order in which they were written: an answer's members come in that order.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use toml::Spanned;

/// A value of TOML. Dates have to be written as texts.
#[derive(Clone, Debug)]
pub(crate) enum Written {
    Text(Box<str>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Self>),
    Table(Vec<(Box<str>, Self)>),
}

impl Written {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(_)
            | Self::Float(_)
            | Self::Boolean(_)
            | Self::List(_)
            | Self::Table(_) => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            Self::Text(_)
            | Self::Integer(_)
            | Self::Float(_)
            | Self::Boolean(_)
            | Self::Table(_) => None,
        }
    }

    pub(crate) fn whole(&self) -> Option<usize> {
        match self {
            Self::Integer(number) => usize::try_from(*number).ok(),
            Self::Text(_) | Self::Float(_) | Self::Boolean(_) | Self::List(_) | Self::Table(_) => {
                None
            }
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, a list or a table")
    }

    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written::Text(text.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Written, E> {
        Ok(Written::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Written, E> {
        Ok(Written::Float(number))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
        Ok(Written::Boolean(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Written, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Written::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Written, A::Error> {
        // The reader gives members by name; where they stand is what their keys know.
        let mut table: Vec<(Spanned<Box<str>>, Written)> = Vec::new();
        while let Some(member) = members.next_entry()? {
            table.push(member);
        }
        table.sort_by_key(|(name, _)| name.span().start);
        let table = table.into_iter().map(|(name, value)| (name.into_inner(), value)).collect();
        Ok(Written::Table(table))
    }
}
