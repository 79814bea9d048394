//! The events that a service broadcasts: what they say and where.

use std::fmt;

use crate::{
    json::{Json, Object},
    template::{Template, is_name},
};

/// One kind of broadcast.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// `event` of the message: `test.completed`.
    pub name: Box<str>,
    /// What the services' Python code calls it: `test_completed`, of `broadcast_test_completed`.
    pub method: Box<str>,
    /// Where it goes. Of several, those whose value is not given get none.
    pub rooms: Vec<Template>,
    /// Members of its data, in this order. `timestamp` is in every one's data besides.
    pub fields: Vec<Field>,
    /// What only chooses rooms and is not told. Default: nothing.
    pub arguments: Vec<Box<str>>,
    /// Whether the data may have other members too.
    pub more: bool,
}

/// A member of an event's data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its name.
    pub name: Box<str>,
    /// Whether it has to be there.
    pub required: bool,
    /// What it may be.
    pub kind: FieldKind,
}

/// What a member of an event's data may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `text`, also a number as a text. At most so many characters of it are told.
    Text(Option<usize>),
    /// `number`. So many decimals of it are told.
    Number(Option<u8>),
    /// `boolean`.
    Boolean,
    /// `object`. A text becomes an object with one member, if that has a name here.
    Object(Option<Box<str>>),
    /// `list`.
    List,
    /// `id`: a text whose beginning, if it is this one, is not told.
    Id(Box<str>),
    /// `any` JSON.
    Any,
}

/// What is to be published, in the family's way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// Channels, at least one.
    pub channels: Vec<Box<str>>,
    /// The data: a JSON object.
    pub data: String,
}

/// Why an event cannot be published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The arguments are no JSON object.
    NoObject,
    /// A required member is not there.
    Missing(Box<str>),
    /// A member is of another kind than the one named here.
    Kind(Box<str>, &'static str),
    /// The event has no such member.
    Unknown(Box<str>),
    /// No room: what this one is named after is not there.
    NoRoom(Box<str>),
}

impl Event {
    /// Data and channels of one broadcast, from a JSON object of its members and arguments. `timestamp` is added if it is
    /// not among them.
    ///
    /// # Errors
    ///
    /// A member is missing, unknown or of another kind.
    pub fn broadcast(&self, arguments: &str, unix_ms: u64) -> Result<Broadcast, BroadcastError> {
        let mut given =
            Json::parse(arguments).and_then(Json::object).ok_or(BroadcastError::NoObject)?;
        let mut data = Object::default();
        for field in &self.fields {
            match given
                .remove(&field.name)
                .filter(|value| field.kind == FieldKind::Any || !value.is_null())
            {
                Some(value) => data.set(field.name.clone(), field.told(value)?),
                None if field.required => return Err(BroadcastError::Missing(field.name.clone())),
                None => {}
            }
        }
        let mut chosen = Object::default();
        for name in &self.arguments {
            if let Some(value) = given.remove(name) {
                chosen.set(name.clone(), value);
            }
        }
        let time = given.remove("timestamp");
        for (name, value) in given.into_members() {
            if !self.more {
                return Err(BroadcastError::Unknown(name));
            }
            data.set(name, value);
        }
        data.set("timestamp", time.unwrap_or_else(|| Json::string(&crate::time::written(unix_ms))));
        let channels: Vec<_> =
            self.rooms.iter().filter_map(|room| filled(room, &data, &chosen)).collect();
        if channels.is_empty() {
            let member = self.rooms.iter().find_map(Template::member).unwrap_or_default();
            return Err(BroadcastError::NoRoom(member.into()));
        }
        let mut text = String::new();
        data.write(&mut text);
        Ok(Broadcast { channels, data: text })
    }
}

impl Field {
    /// Reads `name`, `name?`, `name: kind`, `name?: kind(argument)`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, kind) =
            text.split_once(':').map_or((text, "text"), |(name, kind)| (name, kind.trim()));
        let (name, required) = name.strip_suffix('?').map_or((name, true), |name| (name, false));
        if !is_name(name) {
            return Err(format!("{name:?} is no name: letters, digits and _"));
        }
        let (kind, argument) = match kind.split_once('(') {
            Some((kind, rest)) => (
                kind,
                Some(rest.strip_suffix(')').ok_or_else(|| format!("{text:?} lacks its last )"))?),
            ),
            None => (kind, None),
        };
        let number = || {
            argument
                .map(|it| it.parse::<u16>().map_err(|_| format!("{it:?} is no number")))
                .transpose()
        };
        let kind = match (kind, argument) {
            ("text", _) => FieldKind::Text(number()?.map(usize::from)),
            ("number", _) => {
                FieldKind::Number(number()?.map(|it| u8::try_from(it).unwrap_or(u8::MAX).min(15)))
            }
            ("object", of) => FieldKind::Object(of.map(Box::from)),
            ("id", Some(of)) => FieldKind::Id(of.into()),
            ("boolean", None) => FieldKind::Boolean,
            ("list", None) => FieldKind::List,
            ("any", None) => FieldKind::Any,
            _ => {
                return Err(format!(
                    "{text:?}: a kind is text, text(N), number, number(N), boolean, object, object(NAME), list, id(BEGINNING) or any"
                ));
            }
        };
        Ok(Self { name: name.into(), required, kind })
    }

    /// The member as it is told.
    fn told(&self, value: Json) -> Result<Json, BroadcastError> {
        let wrong = |kind| Err(BroadcastError::Kind(self.name.clone(), kind));
        match &self.kind {
            FieldKind::Any => Ok(value),
            FieldKind::Text(max) => match value.name().or_else(|| value.text()) {
                Some(text) => {
                    let end = max
                        .and_then(|max| text.char_indices().nth(max))
                        .map_or(text.len(), |(at, _)| at);
                    Ok(Json::string(text.get(..end).unwrap_or_default()))
                }
                None => wrong("text"),
            },
            FieldKind::Id(beginning) => match value.name() {
                Some(text) => Ok(Json::string(text.strip_prefix(&**beginning).unwrap_or(&text))),
                None => wrong("text"),
            },
            FieldKind::Number(decimals) => match value.number_of() {
                Some(_) if decimals.is_none() => Ok(value),
                Some(number) => Ok(Json::rounded(number, decimals.unwrap_or_default())),
                None => wrong("number"),
            },
            FieldKind::Boolean if value.truth().is_some() => Ok(value),
            FieldKind::Boolean => wrong("boolean"),
            FieldKind::Object(_) if value.is_object() => Ok(value),
            FieldKind::Object(Some(name)) if value.text().is_some() => {
                let mut object = Object::default();
                object.set(name.clone(), value);
                Ok(Json::Object(object))
            }
            FieldKind::Object(_) => wrong("object"),
            FieldKind::List if value.is_list() => Ok(value),
            FieldKind::List => wrong("list"),
        }
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(None) => f.write_str("text"),
            Self::Text(Some(max)) => write!(f, "text({max})"),
            Self::Number(None) => f.write_str("number"),
            Self::Number(Some(decimals)) => write!(f, "number({decimals})"),
            Self::Boolean => f.write_str("boolean"),
            Self::Object(None) => f.write_str("object"),
            Self::Object(Some(name)) => write!(f, "object({name})"),
            Self::List => f.write_str("list"),
            Self::Id(beginning) => write!(f, "id({beginning})"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject => f.write_str("the data is no JSON object"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Kind(name, kind) => write!(f, "{name} is no {kind}"),
            Self::Unknown(name) => write!(f, "the event has no {name}"),
            Self::NoRoom(name) => write!(f, "no room without {name}"),
        }
    }
}

impl std::error::Error for BroadcastError {}

/// A room, if what it is named after is there.
fn filled(room: &Template, data: &Object, chosen: &Object) -> Option<Box<str>> {
    let Some(member) = room.member() else { return Some(room.fill("")) };
    let value = chosen.get(member).or_else(|| data.get(member))?;
    value.name().map(|name| room.fill(&name))
}
