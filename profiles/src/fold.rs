//! How events change a channel's document.

use crate::{
    json::{Json, Object},
    shed,
    template::Template,
    value::{Documents, Scope, Value},
};

/// Something that was published.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// Where it is published.
    pub channel: &'a str,
    /// Its event.
    pub event: &'a str,
    /// Its data, JSON as text.
    pub data: &'a str,
    /// Its id. Empty: it has none.
    pub id: &'a str,
    /// When it was published: milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// What some events do to the documents of some channels.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) channel: Template,
    pub(crate) on: Vec<Box<str>>,
    /// The member that keeps the id of the last event: the same one does nothing again.
    pub(crate) once: Option<Box<str>>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) change: Change,
    /// It is left out if any of these holds.
    pub(crate) unless: Vec<Condition>,
    /// It is left out if any of these does not hold.
    pub(crate) only: Vec<Condition>,
}

/// A place in the document has one of these values.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) at: Path,
    pub(crate) is: Vec<Value>,
}

pub(crate) type Path = Vec<Box<str>>;

#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The place has the value from now on; none: nothing happens.
    Set {
        at: Path,
        to: Value,
    },
    /// The object's members go into the object at the place, or into the document itself.
    Merge {
        at: Path,
        from: Value,
        except: Vec<Box<str>>,
    },
    Put(Put),
    /// The place has the number of entries of a list from now on.
    Count {
        at: Path,
        of: Path,
    },
    /// The list's entry of this key goes.
    Remove {
        list: Path,
        by: Box<str>,
        key: Value,
    },
    /// The place is empty from now on.
    Drop {
        at: Path,
    },
}

/// An entry of a list: changed if there is one of its key, else new. What was changed last is last.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) list: Path,
    /// The entries' member that is their key.
    pub(crate) by: Box<str>,
    pub(crate) value: Value,
    /// Entries that the list has at most: the oldest go first.
    pub(crate) max: usize,
    /// Where new entries are counted, those that went included.
    pub(crate) counts: Option<Path>,
    /// The entries' member by which a later event that comes too early is known: texts that are ordered.
    pub(crate) newest: Option<Box<str>>,
    /// Whether an entry is replaced. Else members that the new one lacks stay.
    pub(crate) fresh: bool,
}

impl Rule {
    pub(crate) fn takes(&self, channel: &str, event: &str) -> bool {
        self.on.iter().any(|known| **known == *event) && self.channel.fits(channel)
    }

    /// Every list that it puts entries into.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Path> {
        self.steps.iter().filter_map(|step| match &step.change {
            Change::Put(put) => Some(&put.list),
            Change::Set { .. }
            | Change::Merge { .. }
            | Change::Count { .. }
            | Change::Remove { .. }
            | Change::Drop { .. } => None,
        })
    }

    pub(crate) fn apply(&self, document: &mut Object, happened: &Happened<'_>, data: &Json) {
        if let Some(member) = self.once.as_ref().filter(|_| !happened.id.is_empty()) {
            let last = document.get(member).and_then(Json::text);
            if last.is_some_and(|last| *last == *happened.id) {
                return;
            }
            document.set(member.clone(), Json::string(happened.id));
        }
        let key = self.channel.value(happened.channel).unwrap_or_default();
        for step in &self.steps {
            step.apply(document, happened, data, key);
        }
    }
}

impl Step {
    fn apply(&self, document: &mut Object, happened: &Happened<'_>, data: &Json, key: &str) {
        let scope = Scope {
            data,
            documents: &*document,
            key,
            id: happened.id,
            event: happened.event,
            channel: happened.channel,
            unix_ms: happened.unix_ms,
            absent_is_null: false,
        };
        let holds = |condition: &Condition| condition.holds(document, scope);
        if self.unless.iter().any(holds) || !self.only.iter().all(holds) {
            return;
        }
        match &self.change {
            Change::Set { at, to } => {
                if let Some(value) = to.of(scope) {
                    document.place(at, value);
                }
            }
            Change::Merge { at, from, except } => {
                let Some(mut members) = from.of(scope).and_then(Json::object) else { return };
                for name in except {
                    members.remove(name);
                }
                document.merge_at(at, members);
            }
            Change::Put(put) => {
                if let Some(entry) = put.value.of(scope).and_then(Json::object) {
                    put.apply(document, entry);
                }
            }
            Change::Count { at, of } => {
                let count = document.list_at(of).len();
                document.place(at, Json::number(count as u64));
            }
            Change::Remove { list, by, key } => {
                let Some(key) = key.of(scope).and_then(|key| key.name()) else { return };
                let mut entries = document.list_at(list);
                let before = entries.len();
                entries.retain(|entry| !has_key(entry, by, &key));
                if entries.len() < before {
                    document.place(list, Json::List(entries));
                }
            }
            Change::Drop { at } => document.drop_at(at),
        }
    }
}

impl Condition {
    fn holds(&self, document: &Object, scope: Scope<'_>) -> bool {
        let Some(found) = document.at(&self.at) else { return false };
        self.is.iter().filter_map(|value| value.of(scope)).any(|wanted| wanted.is_same(&found))
    }
}

impl Put {
    fn apply(&self, document: &mut Object, mut entry: Object) {
        let Some(key) = entry.get(&self.by).and_then(Json::name) else { return };
        let mut entries = document.list_at(&self.list);
        match entries.iter().position(|known| has_key(known, &self.by, &key)) {
            Some(index) => {
                let old = entries.remove(index);
                if let Some(newest) = &self.newest {
                    let (old, new) = (old.member(newest), entry.get(newest));
                    if old.and_then(|old| old.text()) > new.and_then(Json::text) {
                        return;
                    }
                }
                let was = old.written();
                if let Some(mut old) = old.object().filter(|_| !self.fresh) {
                    old.merge(entry, usize::MAX);
                    entry = old;
                }
                let entry = Json::Object(entry);
                if entry.written() == was {
                    return;
                }
                entries.push(entry);
            }
            None => {
                entries.push(Json::Object(entry));
                if let Some(at) = &self.counts {
                    let count = document.at(at).and_then(|count| count.whole()).unwrap_or_default();
                    document.place(at, Json::number(count.saturating_add(1)));
                }
            }
        }
        let excess = entries.len().saturating_sub(self.max);
        entries.drain(..excess);
        document.place(&self.list, Json::List(entries));
        shed::tell(document, excess);
    }
}

impl Documents for Object {
    /// A fold knows one document: the channel's.
    fn at(&self, _name: &str, path: &[Box<str>]) -> Option<Json> {
        Self::at(self, path)
    }
}

fn has_key(entry: &Json, by: &str, key: &str) -> bool {
    entry.member(by).and_then(|found| found.name()).is_some_and(|found| *found == *key)
}
