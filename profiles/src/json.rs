//! JSON that is opened only where somebody looks into it. What is not looked into stays the text that came: numbers keep
//! all their digits through any number of folds.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::shed;

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// Any value, as its text.
    Text(Box<str>),
    Object(Object),
    List(Vec<Self>),
}

/// Members in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(Vec<(Box<str>, Json)>);

impl Json {
    /// Reads one. `None`: it is no JSON.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let value: &RawValue = serde_json::from_str(text).ok()?;
        Some(Self::Text(value.get().into()))
    }

    pub(crate) fn string(text: &str) -> Self {
        Self::Text(quoted(text).into())
    }

    pub(crate) fn number(number: u64) -> Self {
        Self::Text(number.to_string().into())
    }

    /// A number with at most so many decimals.
    pub(crate) fn rounded(number: f64, decimals: u8) -> Self {
        let text = format!("{number:.*}", usize::from(decimals));
        // As Python writes a rounded number: without the zeros that rounding leaves.
        let rounded: f64 = text.parse().unwrap_or(number);
        Self::Text(serde_json::Value::from(rounded).to_string().into())
    }

    pub(crate) fn boolean(value: bool) -> Self {
        Self::Text(if value { "true" } else { "false" }.into())
    }

    pub(crate) fn null() -> Self {
        Self::Text("null".into())
    }

    /// Its members. `None`: it is no object.
    pub(crate) fn object(self) -> Option<Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Text(text) => Object::parse(&text),
            Self::List(_) => None,
        }
    }

    /// Its entries. `None`: it is no list.
    pub(crate) fn list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(list) => Some(list),
            Self::Text(text) => {
                let entries: Vec<&RawValue> = serde_json::from_str(&text).ok()?;
                Some(entries.into_iter().map(|entry| Self::Text(entry.get().into())).collect())
            }
            Self::Object(_) => None,
        }
    }

    /// What lies at a path of members' names. `None`: nothing.
    pub(crate) fn at(&self, path: &[Box<str>]) -> Option<Self> {
        let Some((name, rest)) = path.split_first() else { return Some(self.clone()) };
        let opened;
        let object = match self {
            Self::Object(object) => object,
            Self::Text(text) => {
                opened = Object::parse(text)?;
                &opened
            }
            Self::List(_) => return None,
        };
        object.get(name)?.at(rest)
    }

    /// A member. `None`: there is none, or it is no object.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(object) => object.get(name).cloned(),
            Self::Text(text) => Object::parse(text)?.get(name).cloned(),
            Self::List(_) => None,
        }
    }

    /// As a name: a string as it is, a number or a truth value as its text. `None`: it is something else, or empty.
    pub(crate) fn name(&self) -> Option<Box<str>> {
        let Self::Text(text) = self else { return None };
        let name = match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<Box<str>>(text).ok()?,
            b'-' | b'0'..=b'9' | b't' | b'f' => text.clone(),
            _ => return None,
        };
        (!name.is_empty()).then_some(name)
    }

    /// As a text. `None`: it is no string.
    pub(crate) fn text(&self) -> Option<Box<str>> {
        let Self::Text(text) = self else { return None };
        if text.starts_with('"') { serde_json::from_str(text).ok() } else { None }
    }

    /// As a number.
    pub(crate) fn number_of(&self) -> Option<f64> {
        let Self::Text(text) = self else { return None };
        if text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
            text.parse().ok()
        } else {
            None
        }
    }

    /// As a whole number from 0 on.
    pub(crate) fn whole(&self) -> Option<u64> {
        let Self::Text(text) = self else { return None };
        text.parse().ok()
    }

    /// Whether two values say the same: texts as texts, whatever is escaped in them.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.text(), other.text()) {
            (Some(this), Some(that)) => this == that,
            _ => self.written() == other.written(),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Text(text) if &**text == "null")
    }

    /// As true or false.
    pub(crate) fn truth(&self) -> Option<bool> {
        let Self::Text(text) = self else { return None };
        text.parse().ok()
    }

    /// Whether its member has this name.
    pub(crate) fn is_named(&self, member: &str, name: &str) -> bool {
        self.member(member).and_then(|found| found.name()).is_some_and(|found| *found == *name)
    }

    pub(crate) fn is_object(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::Text(text) => text.starts_with('{'),
            Self::List(_) => false,
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Text(text) => text.starts_with('['),
            Self::Object(_) => false,
        }
    }

    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Object(object) => object.write(out),
            Self::List(list) => {
                out.push('[');
                for (index, entry) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    entry.write(out);
                }
                out.push(']');
            }
        }
    }

    pub(crate) fn written(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Bytes of its text.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Object(object) => object.bytes(),
            Self::List(list) => 2 + list.iter().map(|entry| 1 + entry.bytes()).sum::<usize>(),
        }
    }
}

impl Object {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str::<Members<'_>>(text).ok().map(|Members(found)| {
            // Of a name that comes twice the last one counts, as for every reader of JSON that keeps one.
            let mut last: BTreeMap<&str, usize> = BTreeMap::new();
            for (index, (name, _)) in found.iter().enumerate() {
                last.insert(name, index);
            }
            let mut kept: Vec<usize> = last.into_values().collect();
            kept.sort_unstable();
            let mut kept = kept.into_iter().peekable();
            let members =
                found.into_iter().enumerate().filter(|(index, _)| kept.next_if_eq(index).is_some());
            Self(members.map(|(_, (name, value))| (name, Json::Text(value.get().into()))).collect())
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        self.0.iter_mut().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// A member that was there stays in its place.
    pub(crate) fn set(&mut self, name: impl Into<Box<str>>, value: Json) {
        let name = name.into();
        match self.get_mut(&name) {
            Some(place) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes members of another object over, at most so many, and says how many were left out.
    pub(crate) fn merge(&mut self, other: Self, members_max: usize) -> usize {
        let left_out = other.0.len().saturating_sub(members_max);
        let mut places: BTreeMap<Box<str>, usize> =
            self.0.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect();
        for (name, value) in other.0.into_iter().take(members_max) {
            let place = places.get(&name).and_then(|index| self.0.get_mut(*index));
            if let Some((_, known)) = place {
                *known = value;
            } else {
                places.insert(name.clone(), self.0.len());
                self.0.push((name, value));
            }
        }
        left_out
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().position(|(known, _)| **known == *name)?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub(crate) fn into_members(self) -> impl Iterator<Item = (Box<str>, Json)> {
        self.0.into_iter()
    }

    /// What lies at a path; the object itself for an empty one.
    pub(crate) fn at(&self, path: &[Box<str>]) -> Option<Json> {
        match path.split_first() {
            None => Some(Json::Object(self.clone())),
            Some((name, rest)) => self.get(name)?.at(rest),
        }
    }

    /// The list at a path; an empty one if there is none.
    pub(crate) fn list_at(&self, path: &[Box<str>]) -> Vec<Json> {
        self.at(path).and_then(Json::list).unwrap_or_default()
    }

    /// Puts a value at a path. What is on the way and no object is replaced by one.
    pub(crate) fn place(&mut self, path: &[Box<str>], value: Json) {
        match path {
            [] => {}
            [name] => self.set(name.clone(), value),
            [name, rest @ ..] => {
                let mut inner = self.get(name).cloned().and_then(Json::object).unwrap_or_default();
                inner.place(rest, value);
                self.set(name.clone(), Json::Object(inner));
            }
        }
    }

    /// Takes the members of an object over into the one at a path.
    pub(crate) fn merge_at(&mut self, path: &[Box<str>], mut members: Self) {
        let left_out = if path.is_empty() {
            // Nobody else counts what went.
            members.remove(shed::SHED);
            self.merge(members, MERGED_MAX)
        } else {
            let mut inner = self.at(path).and_then(Json::object).unwrap_or_default();
            let left_out = inner.merge(members, MERGED_MAX);
            self.place(path, Json::Object(inner));
            left_out
        };
        shed::tell(self, left_out);
    }

    /// Empties the place of a path.
    pub(crate) fn drop_at(&mut self, path: &[Box<str>]) {
        match path {
            [] => {}
            [name] => {
                self.remove(name);
            }
            [name, rest @ ..] => {
                if let Some(mut inner) = self.get(name).cloned().and_then(Json::object) {
                    inner.drop_at(rest);
                    self.set(name.clone(), Json::Object(inner));
                }
            }
        }
    }

    pub(crate) fn write(&self, out: &mut String) {
        out.push('{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&quoted(name));
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }

    pub(crate) fn bytes(&self) -> usize {
        2 + self.0.iter().map(|(name, value)| 2 + quoted(name).len() + value.bytes()).sum::<usize>()
    }
}

/// Members that an event may bring into a document at once. What is beyond counts as shed.
const MERGED_MAX: usize = 128;

/// A text as JSON has it.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An object's members as they stand, names that come twice and all.
struct Members<'t>(Vec<(Box<str>, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(member) = map.next_entry()? {
                    found.push(member);
                }
                Ok(Members(found))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
