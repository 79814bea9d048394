//! Clients that are members of channels, or watch who is, on whatever node, and keep the list as the documents say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    client::{Client, Pending},
    options::ClusterOptions,
    oracle::Oracle,
    world::World,
};
use crate::{clock::SECOND, random::Random, swarm::channel_name};

/// What such a client knows.
#[derive(Debug)]
pub(super) struct Attending {
    is_on: bool,
    /// The name by which others know it.
    name: String,
    infos: u64,
    channels: BTreeMap<u64, Attended>,
    /// Channels that it has from its session, in which it may be or not.
    doubtful: BTreeSet<u64>,
    random: Random,
}

/// How it attends a channel, and who it knows there.
#[derive(Debug)]
struct Attended {
    by: Wish,
    list: Members,
    /// Nothing that it was told since is missing.
    complete: bool,
}

/// Names, and what they say of themselves.
type Members = BTreeMap<String, u64>;

/// What a subscription asks for by `presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Watch,
    /// To be a member that says this of itself.
    Join(u64),
}

impl Wish {
    /// As it is asked for.
    pub(super) fn to_text(self) -> String {
        match self {
            Self::Watch => r#","presence":"watch""#.to_owned(),
            Self::Join(info) => format!(r#","presence":{{"info":{{"i":{info}}}}}"#),
        }
    }
}

/// Who ever asked to be a member: of which channel, by which name, saying what.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeSet<(u64, String, u64)>);

impl Attending {
    pub(super) fn new(index: usize, options: &ClusterOptions) -> Self {
        let mut random = Random::new(options.seed, 200 + index as u64);
        let is_on = random.chance(options.attend_pm);
        Self {
            is_on,
            name: String::new(),
            infos: index as u64 * 1_000_000,
            channels: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            random,
        }
    }

    /// Its connection is gone.
    pub(super) fn forget(&mut self) {
        self.channels.clear();
        self.doubtful.clear();
    }

    /// It has a channel from its session.
    pub(super) fn doubt(&mut self, channel: u64) {
        if self.is_on {
            self.doubtful.insert(channel);
        }
    }

    pub(super) fn named(&mut self, name: &Value) {
        name.as_str().unwrap_or_default().clone_into(&mut self.name);
    }

    /// How it wants to attend a channel that it subscribes to.
    pub(super) fn wish(&mut self, channel: u64, oracle: &mut Oracle) -> Option<Wish> {
        if !self.is_on {
            return None;
        }
        if self.random.chance(250) {
            return Some(Wish::Watch);
        }
        self.infos += 1;
        oracle.asked.0.insert((channel, self.name.clone(), self.infos));
        Some(Wish::Join(self.infos))
    }

    /// Whether it is time to leave a channel for a while.
    pub(super) fn leaves(&mut self) -> bool {
        self.is_on && self.random.chance(20)
    }

    /// Its subscription is confirmed.
    pub(super) fn begin(&mut self, channel: u64, by: Wish) {
        self.doubtful.remove(&channel);
        self.channels.insert(channel, Attended { by, list: Members::new(), complete: false });
    }

    /// It has unsubscribed.
    pub(super) fn end(&mut self, channel: u64) {
        self.doubtful.remove(&channel);
        self.channels.remove(&channel);
    }

    /// A channel of which it needs the list.
    fn lacks(&self) -> Option<u64> {
        self.channels.iter().find(|(_, it)| !it.complete).map(|(channel, _)| *channel)
    }
}

impl Client {
    /// Says how it attends the channels that it has from its session.
    pub(super) fn attend_again(&mut self, oracle: &mut Oracle) {
        for channel in self.attending.doubtful.clone() {
            let asked = |it: &Pending| match it {
                Pending::Attend(of, _) | Pending::Unsubscribe(of) => *of == channel,
                _ => false,
            };
            if self.pending.values().any(asked) {
                continue;
            }
            let Some(wish) = self.attending.wish(channel, oracle) else { continue };
            let (name, presence) = (channel_name(channel), wish.to_text());
            let positions = if self.positions { r#","positions":true"# } else { "" };
            self.ask(Pending::Attend(channel, wish), |id| {
                format!(
                    r#"{{"type":"request","event":"subscribe","id":"{id}","data":{{"channel":"{name}"{positions}{presence}}}}}"#
                )
                .into_bytes()
            });
        }
    }

    /// Asks for a list that it has not got.
    pub(super) fn ask_for_list(&mut self) {
        let asked = self.pending.values().any(|it| matches!(it, Pending::List(_)));
        if let Some(channel) = self.attending.lacks().filter(|_| !asked) {
            let name = channel_name(channel);
            self.ask(Pending::List(channel), |id| {
                format!(
                    r#"{{"type":"request","event":"get_presence","id":"{id}","data":{{"channel":"{name}"}}}}"#
                )
                .into_bytes()
            });
        }
    }

    /// The answer to that.
    pub(super) fn on_list(&mut self, channel: u64, data: &Value, oracle: &mut Oracle) {
        let Some(attended) = self.attending.channels.get_mut(&channel) else { return };
        attended.list.clear();
        for member in data["members"].as_array().into_iter().flatten() {
            let known = oracle.member(channel, member, self.index);
            attended.list.extend(known);
        }
        attended.complete = data["complete"] == true;
    }

    /// An event of presence.
    pub(super) fn on_presence(&mut self, event: &str, message: &Value, oracle: &mut Oracle) {
        let who = self.index;
        let room = message["room"].as_str().unwrap_or_default();
        let channel = room.rsplit(':').next().and_then(|number| number.parse().ok());
        if channel.is_some_and(|channel| self.attending.doubtful.contains(&channel)) {
            return;
        }
        let attended = channel.and_then(|channel| self.attending.channels.get_mut(&channel));
        let (Some(channel), Some(attended)) = (channel, attended) else {
            return oracle.fail("members", || format!("client {who} watches not: {message}"));
        };
        let data = &message["data"];
        let mut odd = false;
        match event {
            "presence.joined" => {
                let Some((name, info)) = oracle.member(channel, data, who) else { return };
                odd = attended.list.insert(name, info) == Some(info);
            }
            "presence.left" => {
                let name = data["connection_id"].as_str().unwrap_or_default();
                odd = attended.list.remove(name).is_none();
            }
            "presence.changed" => attended.complete = false,
            _ => return oracle.fail("content", || format!("client {who} got {message}")),
        }
        if odd && attended.complete {
            let list = &attended.list;
            oracle.fail("members", || format!("client {who} has {list:?} and got {message}"));
        }
    }
}

impl Oracle {
    /// Who is said to be a member.
    fn member(&mut self, channel: u64, data: &Value, who: usize) -> Option<(String, u64)> {
        let name = data["connection_id"].as_str().unwrap_or_default().to_owned();
        let info = data["info"]["i"].as_u64().unwrap_or_default();
        let asked = self.asked.0.contains(&(channel, name.clone(), info));
        if !asked {
            self.fail("members", || format!("client {who}, channel {channel}: who is {data}?"));
        }
        asked.then_some((name, info))
    }
}

impl World {
    /// In the end everybody who watches knows all who are there, and nobody else.
    pub(super) fn compare_members(&mut self) {
        let mut wrong = None;
        for _ in 0..MEMBERS_SECONDS {
            wrong = self.wrong_list();
            if wrong.is_none() || self.oracle.violation.is_some() {
                return;
            }
            self.run_until(self.clock.nanos + SECOND);
        }
        self.oracle.fail("members", || wrong.unwrap_or_default());
    }

    fn wrong_list(&self) -> Option<String> {
        for channel in 0..self.options.channels {
            let joined = |client: &Client| {
                let attended = client.attending.channels.get(&channel)?;
                let Wish::Join(info) = attended.by else { return None };
                Some((client.attending.name.clone(), info))
            };
            let all: Members = self.clients.iter().filter_map(joined).collect();
            for client in &self.clients {
                if let Some(attended) = client.attending.channels.get(&channel)
                    && (!attended.complete || attended.list != all)
                {
                    let Attended { list, complete, .. } = attended;
                    let lacks = client.lacks();
                    return Some(format!(
                        "channel {channel} has {all:?}; {complete}, {list:?}; {lacks}"
                    ));
                }
            }
        }
        None
    }
}

/// A lease, the pauses of links, and some readings.
const MEMBERS_SECONDS: u64 = 120;
