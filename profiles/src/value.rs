//! Values that a profile writes down: JSON with references in it.
//!
//! | Written | Is |
//! |---|---|
//! | `"$name"`, `"$a.b"` | a member of the event's or request's data; `"$"`: all of it |
//! | `"=document.name"` | a member of a document, by the document's name; `"=document"`: all of it |
//! | `"@time"` | the time, as RFC 3339 text in UTC |
//! | `"@key"` | what the channel's name has in its template's place, or the request's key |
//! | `"@id"`, `"@event"`, `"@channel"` | of the event |
//! | `{ _first = […] }` | the first of these that is there and not null |
//! | `{ _latest = […] }` | the greatest of these texts: of times, the latest |
//! | `{ _count = V }` | how many entries a list has |
//! | `{ _list = V }` | the list, or an empty one if it is not there |
//! | `{ _without = L, of = M, by = "m" }` | the entries of a list whose member `m` no entry of another list has |
//! | `{ _entry = L, by = "m", key = K, get = "g" }` | of the list's entry whose member `m` is `K`, the member `g`; without `get` the entry |
//! | `{ _merge = […] }` | one object with the members of all of them; later ones win |
//! | `{ _is = V, yes = […], no = […] }` | true or false, or nothing if the text is in neither |
//! | `{ _all = V, member = "m", yes = Y, no = N, else = E }` | `no` if any entry's member is false, else `yes` if all are true and there are any, else `else` |
//! | `{ _cut = V, at = N }` | a text, at most N characters of it |
//! | anything else | itself |
//!
//! A text that begins with `$`, `=` or `@` and is meant as it is has that sign twice.

use std::collections::BTreeSet;

use crate::{
    json::{Json, Object},
    template::is_name,
    written::Written,
};

/// A value with references.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Literal(Json),
    Data(Vec<Box<str>>),
    Document(Box<str>, Vec<Box<str>>),
    Time,
    Key,
    Id,
    Event,
    Channel,
    Object(Vec<(Box<str>, Self)>),
    List(Vec<Self>),
    First(Vec<Self>),
    Latest(Vec<Self>),
    Count(Box<Self>),
    ListOf(Box<Self>),
    Without { list: Box<Self>, of: Box<Self>, by: Box<str> },
    Entry { list: Box<Self>, by: Box<str>, key: Box<Self>, get: Option<Box<str>> },
    Merge(Vec<Self>),
    Is { of: Box<Self>, yes: Vec<Box<str>>, no: Vec<Box<str>> },
    All { of: Box<Self>, member: Box<str>, yes: Box<Self>, no: Box<Self>, other: Option<Box<Self>> },
    Cut { of: Box<Self>, at: usize },
}

/// What references are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) data: &'a Json,
    pub(crate) documents: &'a dyn Documents,
    pub(crate) key: &'a str,
    pub(crate) id: &'a str,
    pub(crate) event: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) unix_ms: u64,
    /// Whether members that are not there are null. Else they are left out.
    pub(crate) absent_is_null: bool,
}

/// Documents by the names that a profile gives them.
pub(crate) trait Documents {
    fn at(&self, name: &str, path: &[Box<str>]) -> Option<Json>;
}

impl Value {
    /// Reads one. What is wrong comes back as a sentence.
    pub(crate) fn parse(value: &Written) -> Result<Self, String> {
        match value {
            Written::Text(text) => Self::reference(text),
            Written::Integer(number) => Ok(Self::Literal(Json::Text(number.to_string().into()))),
            Written::Float(number) if number.is_finite() => {
                Ok(Self::Literal(Json::Text(serde_json::Value::from(*number).to_string().into())))
            }
            Written::Float(_) => Err("a number that JSON does not have".into()),
            Written::Boolean(value) => Ok(Self::Literal(Json::boolean(*value))),
            Written::List(list) => Self::list(list).map(Self::List),
            Written::Table(table) => {
                if let Some((operator, _)) = table.iter().find(|(name, _)| name.starts_with('_')) {
                    return Self::operator(operator, table);
                }
                let member =
                    |(name, value): &(Box<str>, Written)| Ok((name.clone(), Self::parse(value)?));
                table.iter().map(member).collect::<Result<_, String>>().map(Self::Object)
            }
        }
    }

    fn list(list: &[Written]) -> Result<Vec<Self>, String> {
        list.iter().map(Self::parse).collect()
    }

    fn reference(text: &str) -> Result<Self, String> {
        for sign in ["$", "=", "@"] {
            if let Some(rest) = text.strip_prefix(sign) {
                if rest.starts_with(sign) {
                    return Ok(Self::Literal(Json::string(rest)));
                }
                return Self::named(sign, rest);
            }
        }
        Ok(Self::Literal(Json::string(text)))
    }

    fn named(sign: &str, rest: &str) -> Result<Self, String> {
        match sign {
            "$" if rest.is_empty() => Ok(Self::Data(Vec::new())),
            "$" => path(rest).map(Self::Data),
            "=" => {
                let mut path = path(rest)?;
                let name = path.remove(0);
                Ok(Self::Document(name, path))
            }
            _ => match rest {
                "time" => Ok(Self::Time),
                "key" => Ok(Self::Key),
                "id" => Ok(Self::Id),
                "event" => Ok(Self::Event),
                "channel" => Ok(Self::Channel),
                other => Err(format!(
                    "no value @{other}: there are @time, @key, @id, @event and @channel"
                )),
            },
        }
    }

    fn operator(operator: &str, table: &[(Box<str>, Written)]) -> Result<Self, String> {
        let allowed: &[&str] = match operator {
            "_is" => &["_is", "yes", "no"],
            "_all" => &["_all", "member", "yes", "no", "else"],
            "_cut" => &["_cut", "at"],
            "_first" => &["_first"],
            "_latest" => &["_latest"],
            "_without" => &["_without", "of", "by"],
            "_entry" => &["_entry", "by", "key", "get"],
            "_count" => &["_count"],
            "_list" => &["_list"],
            "_merge" => &["_merge"],
            other => return Err(format!("no operator {other}")),
        };
        if let Some((other, _)) = table.iter().find(|(name, _)| !allowed.contains(&&**name)) {
            return Err(format!("{operator} has no {other}"));
        }
        let found =
            |name: &str| table.iter().find(|(known, _)| **known == *name).map(|(_, value)| value);
        let get = |name: &str| found(name).ok_or_else(|| format!("{operator} needs {name}"));
        let one = |name: &str| get(name).and_then(Self::parse).map(Box::new);
        let text = |name: &str| {
            get(name)?.text().map(Box::<str>::from).ok_or_else(|| format!("{name} is a text"))
        };
        let several = |name: &str| {
            get(name)?.list().ok_or_else(|| format!("{name} is a list")).and_then(Self::list)
        };
        let words =
            |name: &str| found(name).map_or_else(|| Ok(Vec::new()), |list| words(name, list));
        Ok(match operator {
            "_first" => Self::First(several(operator)?),
            "_latest" => Self::Latest(several(operator)?),
            "_without" => Self::Without { list: one(operator)?, of: one("of")?, by: text("by")? },
            "_entry" => Self::Entry {
                list: one(operator)?,
                by: text("by")?,
                key: one("key")?,
                get: found("get").map(|_| text("get")).transpose()?,
            },
            "_merge" => Self::Merge(several(operator)?),
            "_count" => Self::Count(one(operator)?),
            "_list" => Self::ListOf(one(operator)?),
            "_is" => Self::Is { of: one(operator)?, yes: words("yes")?, no: words("no")? },
            "_all" => Self::All {
                of: one(operator)?,
                member: text("member")?,
                yes: one("yes")?,
                no: one("no")?,
                other: found("else").map(|other| Self::parse(other).map(Box::new)).transpose()?,
            },
            _ => Self::Cut {
                of: one(operator)?,
                at: get("at")?.whole().ok_or("at is a whole number")?,
            },
        })
    }

    /// Every document that it looks into, by name.
    pub(crate) fn documents(&self, found: &mut Vec<Box<str>>) {
        match self {
            Self::Document(name, _) => found.push(name.clone()),
            Self::Object(members) => members.iter().for_each(|(_, value)| value.documents(found)),
            Self::List(list) | Self::First(list) | Self::Latest(list) | Self::Merge(list) => {
                list.iter().for_each(|value| value.documents(found));
            }
            Self::Count(of) | Self::ListOf(of) | Self::Is { of, .. } | Self::Cut { of, .. } => {
                of.documents(found)
            }
            Self::Without { list: this, of: that, .. }
            | Self::Entry { list: this, key: that, .. } => {
                this.documents(found);
                that.documents(found);
            }
            Self::All { of, yes, no, other, .. } => {
                for value in [Some(of), Some(yes), Some(no), other.as_ref()].into_iter().flatten() {
                    value.documents(found);
                }
            }
            Self::Literal(_)
            | Self::Data(_)
            | Self::Time
            | Self::Key
            | Self::Id
            | Self::Event
            | Self::Channel => {}
        }
    }

    /// What it is at present. `None`: what it refers to is not there.
    pub(crate) fn of(&self, scope: Scope<'_>) -> Option<Json> {
        match self {
            Self::Literal(json) => Some(json.clone()),
            Self::Data(path) => scope.data.at(path),
            Self::Document(name, path) => scope.documents.at(name, path),
            Self::Time => Some(Json::string(&crate::time::written(scope.unix_ms))),
            Self::Key => (!scope.key.is_empty()).then(|| Json::string(scope.key)),
            Self::Id => (!scope.id.is_empty()).then(|| Json::string(scope.id)),
            Self::Event => Some(Json::string(scope.event)),
            Self::Channel => Some(Json::string(scope.channel)),
            Self::Object(members) => Some(Json::Object(object(members, scope))),
            Self::List(list) => {
                Some(Json::List(list.iter().filter_map(|value| value.of(scope)).collect()))
            }
            Self::First(list) => {
                list.iter().filter_map(|value| value.of(scope)).find(|found| !found.is_null())
            }
            Self::Latest(list) => {
                let texts = list.iter().filter_map(|value| value.of(scope)?.text());
                texts.max().map(|text| Json::string(&text))
            }
            Self::Count(of) => Some(Json::number(of.of(scope)?.list()?.len() as u64)),
            Self::Without { list, of, by } => {
                let name = |entry: &Json| entry.member(by)?.name();
                let gone: BTreeSet<_> = entries(of, scope).iter().filter_map(name).collect();
                let mut kept = entries(list, scope);
                kept.retain(|entry| name(entry).is_none_or(|name| !gone.contains(&name)));
                Some(Json::List(kept))
            }
            Self::Entry { list, by, key, get } => {
                let key = key.of(scope)?.name()?;
                let entry =
                    entries(list, scope).into_iter().find(|entry| entry.is_named(by, &key))?;
                match get {
                    Some(member) => entry.member(member),
                    None => Some(entry),
                }
            }
            Self::ListOf(of) => Some(Json::List(entries(of, scope))),
            Self::Merge(list) => {
                let mut all = Object::default();
                for object in list.iter().filter_map(|value| value.of(scope)?.object()) {
                    all.merge(object, usize::MAX);
                }
                Some(Json::Object(all))
            }
            Self::Is { of, yes, no } => {
                let text = of.of(scope)?.text()?;
                let has = |words: &[Box<str>]| words.contains(&text);
                (has(yes) || has(no)).then(|| Json::boolean(has(yes)))
            }
            Self::All { of, member, yes, no, other } => match all(&entries(of, scope), member) {
                Some(true) => yes.of(scope),
                Some(false) => no.of(scope),
                None => other.as_ref()?.of(scope),
            },
            Self::Cut { of, at } => {
                let text = of.of(scope)?.text()?;
                Some(Json::string(&text.chars().take(*at).collect::<String>()))
            }
        }
    }
}

/// A list of texts.
fn words(name: &str, list: &Written) -> Result<Vec<Box<str>>, String> {
    let wrong = || format!("{name} is a list of texts");
    let list = list.list().ok_or_else(wrong)?;
    list.iter().map(|word| word.text().map(Box::from).ok_or_else(wrong)).collect()
}

/// A list's entries; none if it is not there.
fn entries(of: &Value, scope: Scope<'_>) -> Vec<Json> {
    of.of(scope).and_then(Json::list).unwrap_or_default()
}

/// Whether a member of all entries is true. `None`: there are no entries, or of none it is false and of some neither.
fn all(entries: &[Json], member: &str) -> Option<bool> {
    let found: Vec<_> = entries.iter().map(|entry| entry.member(member)?.truth()).collect();
    if found.contains(&Some(false)) {
        return Some(false);
    }
    (!found.is_empty() && found.iter().all(Option::is_some)).then_some(true)
}

/// An object as it is at present.
fn object(members: &[(Box<str>, Value)], scope: Scope<'_>) -> Object {
    let mut object = Object::default();
    for (name, value) in members {
        match value.of(scope) {
            Some(value) => object.set(name.clone(), value),
            None if scope.absent_is_null => object.set(name.clone(), Json::null()),
            None => {}
        }
    }
    object
}

/// A path as it is written: names with dots between.
pub(crate) fn path(text: &str) -> Result<Vec<Box<str>>, String> {
    let names: Vec<Box<str>> = text.split('.').map(Box::from).collect();
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!("{name:?} in {text:?} is no name: letters, digits and _")),
        None => Ok(names),
    }
}
