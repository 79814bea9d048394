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
    pub(crate) channels: Vec<Template>,
    pub(crate) on: Vec<Box<str>>,
    /// Whether the document keeps the id of the last event of each kind: the same one does nothing again.
    pub(crate) once: bool,
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
        self.on.iter().any(|known| **known == *event) && self.fits(channel)
    }

    /// Whether a channel is one of those that it is about.
    pub(crate) fn fits(&self, channel: &str) -> bool {
        self.channels.iter().any(|known| known.fits(channel))
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
        if self.once && !happened.id.is_empty() {
            let place = [ONCE.into(), happened.event.into()];
            let last = document.at(&place).and_then(|last| last.text());
            if last.is_some_and(|last| *last == *happened.id) {
                return;
            }
            document.place(&place, Json::string(happened.id));
        }
        let key = self
            .channels
            .iter()
            .find_map(|known| known.value(happened.channel))
            .unwrap_or_default();
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
                entries.retain(|entry| !entry.is_named(by, &key));
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
        let entries = document.list_at(&self.list);
        // A document of somebody's own may have several of one key. The last one counts.
        let (mut same, mut entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|known| known.is_named(&self.by, &key));
        if let Some(old) = same.pop() {
            let is_later = self.newest.as_ref().is_some_and(|newest| {
                old.member(newest).and_then(|old| old.text())
                    > entry.get(newest).and_then(Json::text)
            });
            if is_later {
                return;
            }
            let was = old.written();
            if let Some(mut old) = old.object().filter(|_| !self.fresh) {
                old.merge(entry, usize::MAX);
                entry = old;
            }
            if same.is_empty() && Json::Object(entry.clone()).written() == was {
                return;
            }
        } else if let Some(at) = &self.counts {
            let count = document.at(at).and_then(|count| count.whole()).unwrap_or_default();
            document.place(at, Json::number(count.saturating_add(1)));
        }
        entries.push(Json::Object(entry));
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

/// The member that has the ids of events that count once, by event.
pub(crate) const ONCE: &str = "once";
