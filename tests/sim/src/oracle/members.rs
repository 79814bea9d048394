//! Who is in channels: what watchers are told, against what clients asked for and which connections there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Oracle;
use crate::{
    clock::{MILLI, Nanos, SECOND},
    swarm::Options,
};

/// What a subscription asks for by `presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attendance {
    Watch,
    /// To be a member that says this of itself; 0: nothing.
    Join(u64),
    /// To be one that says more than it may.
    TooMuch(u64),
}

impl Attendance {
    /// What it says as a member.
    pub(crate) fn info(self) -> Option<u64> {
        match self {
            Self::Join(info) => Some(info),
            Self::Watch | Self::TooMuch(_) => None,
        }
    }

    /// As it is asked for.
    pub(crate) fn to_text(self, info_bytes: u64) -> String {
        let info = |info: u64, padding: u64| {
            format!(r#"{{"info":{{"i":{info},"x":"{}"}}}}"#, "a".repeat(padding as usize))
        };
        match self {
            Self::Watch => r#""watch""#.to_owned(),
            Self::Join(0) => "true".to_owned(),
            Self::Join(number) => info(number, number % 10),
            Self::TooMuch(number) => info(number, info_bytes),
        }
    }
}

/// Who is in a channel, as one that watches it knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) members: BTreeMap<String, Heard>,
    /// Nothing that it was told since is missing.
    pub(crate) complete: bool,
    /// It must have missed something, and has to be told so.
    pub(crate) is_suspect: bool,
}

/// What it heard of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) info: u64,
    since: String,
}

/// A connection by the name that others are told.
#[derive(Debug)]
struct Name {
    user: Option<&'static str>,
    /// When its connection ended.
    ended: Option<Nanos>,
    /// It asked for a session.
    asked_to_keep: bool,
    /// Which one it has, or had.
    session: Option<usize>,
}

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Members {
    names: BTreeMap<String, Name>,
    /// By connection.
    links: BTreeMap<usize, String>,
    /// By channel: who ever asked to be a member, and what it said of itself.
    asked: BTreeMap<u64, BTreeSet<(String, u64)>>,
}

/// What clients ask for.
impl Oracle {
    /// A connection was welcomed by this name.
    pub(crate) fn named(
        &mut self,
        name: &str,
        link: usize,
        user: Option<&'static str>,
        who: usize,
    ) {
        let fresh = Name { user, ended: None, asked_to_keep: false, session: None };
        let ended = self.sessions.ended_at(link);
        let fresh = Name { ended, ..fresh };
        if self.members.names.insert(name.to_owned(), fresh).is_some() {
            self.fail("members", || format!("client {who}: {name} is somebody else already"));
        }
        self.members.links.insert(link, name.to_owned());
    }

    pub(super) fn name_ended(&mut self, link: usize) {
        let now = self.now;
        let name = self.members.links.get(&link).and_then(|name| self.members.names.get_mut(name));
        if let Some(name) = name {
            name.ended.get_or_insert(now);
        }
    }

    pub(crate) fn name_asks_to_keep(&mut self, name: &str) {
        if let Some(name) = self.members.names.get_mut(name) {
            name.asked_to_keep = true;
        }
    }

    pub(super) fn name_has_session(&mut self, name: &str, session: usize) {
        if let Some(name) = self.members.names.get_mut(name) {
            name.session = Some(session);
        }
    }

    /// A connection of this name wants to be a member.
    pub(crate) fn wants_in(&mut self, channel: u64, name: &str, info: u64) {
        self.members.asked.entry(channel).or_default().insert((name.to_owned(), info));
    }

    /// Whether a member of this name may still have been there at that time.
    fn may_be_there(&self, name: &str, at: Nanos) -> bool {
        let Some(name) = self.members.names.get(name) else { return false };
        let until = match name.session {
            Some(session) => self.sessions.stays(session).map(|until| until + HELD),
            None if name.asked_to_keep => {
                name.ended.map(|ended| ended + self.options.session_ms * MILLI + HELD)
            }
            None => name.ended,
        };
        until.is_none_or(|until| at <= until + self.slack)
    }

    /// A member, which asked then, was refused because there are too many. The answer may be read long after it was given.
    pub(crate) fn members_full(&mut self, channel: u64, name: &str, asked_at: Nanos, who: usize) {
        let asked = self.members.asked.get(&channel);
        let names: BTreeSet<&str> = asked
            .into_iter()
            .flatten()
            .map(|(name, _)| &**name)
            .filter(|other| *other != name && self.may_be_there(other, asked_at))
            .collect();
        let count = names.len() as u64;
        if count < self.options.members_max {
            self.fail("members", || {
                format!("client {who}: channel {channel} has {count} members, and is full")
            });
        }
    }

    /// So many members are there, it is said.
    pub(crate) fn members_counted(&mut self, channel: u64, count: &Value, least: u64, who: usize) {
        let most = self.options.members_max;
        let asked = self.members.asked.get(&channel).map_or(0, BTreeSet::len) as u64;
        match count.as_u64() {
            Some(count) if count >= least && count <= most.min(asked) => {}
            _ => self.fail("members", || {
                format!(
                    "client {who}: {count} members of {channel}, {least} to {most}, {asked} asked"
                )
            }),
        }
    }
}

/// What watchers are told.
impl Oracle {
    /// What is said of a member: its name, and what it said of itself.
    fn member(&mut self, channel: u64, data: &Value, who: usize) -> Option<(String, Heard)> {
        let name = data["connection_id"].as_str().unwrap_or_default().to_owned();
        let since = data["since"].as_str().unwrap_or_default().to_owned();
        let info = match &data["info"] {
            Value::Null => Some(0),
            info => info["i"].as_u64().filter(|number| {
                info["x"].as_str().is_some_and(|text| text.len() as u64 == number % 10)
            }),
        };
        let user = self.members.names.get(&name).map(|name| name.user);
        let asked = info.is_some_and(|info| {
            let asked = self.members.asked.get(&channel);
            asked.is_some_and(|asked| asked.contains(&(name.clone(), info)))
        });
        if user != Some(data["user_id"].as_str()) || !asked || since.is_empty() {
            self.fail("members", || format!("client {who}, channel {channel}: who is {data}?"));
            return None;
        }
        Some((name, Heard { info: info.unwrap_or_default(), since }))
    }

    /// Somebody was told what does not fit what it was told before. That may be if it had no room for something between, which
    /// it is told later.
    fn does_not_fit(
        &mut self,
        channel: u64,
        list: &mut List,
        who: usize,
        what: impl FnOnce() -> String,
    ) {
        let Options { slow_policy, reloads, .. } = self.options;
        let closes =
            slow_policy == 0 || (slow_policy == 3 && reloads == 0 && channel.is_multiple_of(3));
        list.is_suspect = true;
        if closes {
            self.fail("members", || format!("client {who}, channel {channel}: {}", what()));
        }
    }

    /// `presence.joined`.
    pub(crate) fn heard_join(&mut self, channel: u64, list: &mut List, data: &Value, who: usize) {
        let Some((name, heard)) = self.member(channel, data, who) else { return };
        if list.complete
            && let Some(known) = list.members.get(&name)
        {
            if *known == heard {
                self.fail("members", || {
                    format!("client {who}, channel {channel}: told twice of {data}")
                });
            } else if known.since != heard.since {
                let known = known.clone();
                self.does_not_fit(channel, list, who, || format!("{known:?}, then {data}"));
            }
        }
        list.members.insert(name, heard);
    }

    /// `presence.left`.
    pub(crate) fn heard_leave(&mut self, channel: u64, list: &mut List, data: &Value, who: usize) {
        let name = data["connection_id"].as_str().unwrap_or_default();
        let known = list.members.remove(name);
        if known.is_none() && list.complete {
            self.does_not_fit(channel, list, who, || format!("{data} was not there"));
        }
        let reason = data["reason"].as_str().unwrap_or_default();
        if !matches!(reason, "left" | "lost") {
            self.fail("members", || format!("client {who}, channel {channel}: why? {data}"));
        }
        let session = self.members.names.get(name).and_then(|name| name.session);
        if let (Some(session), Some(known)) = (session, known)
            && reason == "lost"
            && self.sessions.must_stay(session, channel, known.info, self.now)
        {
            self.fail("members", || {
                format!("client {who}, channel {channel}: its session lasts, and {data}")
            });
        }
    }

    /// `presence.changed`.
    pub(crate) fn heard_change(&mut self, channel: u64, list: &mut List, data: &Value, who: usize) {
        let numbers = ["count", "joined", "left"].map(|field| data[field].as_u64());
        match numbers {
            [Some(count), Some(joined), Some(left)] => {
                let known = list.members.len() as u64;
                // Who says something else of itself has joined and has not become more.
                let holds = count <= known + joined && count + left >= known;
                if list.complete && !holds {
                    self.does_not_fit(channel, list, who, || format!("{known}, then {data}"));
                }
                self.members_counted(channel, &data["count"], 0, who);
            }
            [None, None, None] if data["count"].is_null() => {}
            _ => self.fail("members", || format!("client {who}, channel {channel}: {data}")),
        }
        *list = List::default();
    }

    /// The answer to `get_presence`; `first`: it does not continue another one. Behind whom to go on.
    pub(crate) fn listed(
        &mut self,
        channel: u64,
        list: &mut List,
        (asked_at, first): (Nanos, bool),
        data: &Value,
        who: usize,
    ) -> Option<String> {
        if first {
            *list = List::default();
        }
        self.members_counted(channel, &data["count"], 0, who);
        let members = data["members"].as_array().cloned().unwrap_or_default();
        let complete = data["complete"].as_bool();
        let mut last = None;
        for member in &members {
            let (name, heard) = self.member(channel, member, who)?;
            if !self.may_be_there(&name, asked_at) {
                self.fail("members", || {
                    format!("client {who}, channel {channel}: {member} is there no more")
                });
            }
            list.members.insert(name.clone(), heard);
            last = Some(name);
        }
        let all = first && complete == Some(true);
        let counted = data["count"].as_u64() == Some(members.len() as u64);
        if data["channel"].as_str() != Some(self.name(channel))
            || complete.is_none()
            || (all && !counted)
            || (complete == Some(false) && members.is_empty())
        {
            self.fail("members", || format!("client {who}, channel {channel}: {data}"));
        }
        list.complete = complete == Some(true);
        last.filter(|_| !list.complete)
    }
}

/// How long a member stays behind its session.
const HELD: Nanos = SECOND;
