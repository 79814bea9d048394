//! Clients that are members of channels, or watch who is, and keep the list of them as the documents say.

use serde_json::Value;

use super::{Client, Pending, Wishes};
use crate::{
    oracle::{Attendance, List, Oracle},
    random::Random,
    swarm::{Options, channel_name},
};

/// What such a client knows.
#[derive(Debug)]
pub(crate) struct Attending {
    is_on: bool,
    /// The name by which others know it.
    pub(crate) name: String,
    channels: Vec<Attended>,
    infos: u64,
    random: Random,
}

#[derive(Clone, Debug, Default)]
struct Attended {
    /// How, since that was confirmed.
    by: Option<Attendance>,
    list: List,
    /// Behind whom its list goes on.
    next: Option<String>,
    /// It has the channel from its session and does not know how.
    is_doubtful: bool,
    /// There was no room for another member.
    is_full: bool,
}

impl Attending {
    pub(super) fn new(options: &Options, index: usize) -> Self {
        let mut random = Random::new(options.seed, 3_000_000 + index as u64);
        Self {
            is_on: random.chance(options.attend_pm),
            name: String::new(),
            channels: vec![Attended::default(); options.channels as usize],
            infos: 0,
            random,
        }
    }

    pub(super) fn forget(&mut self) {
        for attended in &mut self.channels {
            *attended = Attended { is_full: attended.is_full, ..Attended::default() };
        }
    }

    /// How it attends a channel.
    pub(crate) fn by(&self, channel: u64) -> Option<Attendance> {
        self.channels[channel as usize].by
    }

    /// From now on it attends like this, and knows nobody.
    pub(super) fn set(&mut self, channel: u64, by: Option<Attendance>) {
        let attended = &mut self.channels[channel as usize];
        *attended = Attended { by, is_full: attended.is_full, ..Attended::default() };
    }

    /// It may attend a channel, or not.
    pub(super) fn doubt(&mut self, channel: u64) {
        self.set(channel, None);
        self.channels[channel as usize].is_doubtful = true;
    }

    /// Whether it does not know how it attends a channel.
    pub(super) fn is_doubtful(&self, channel: u64) -> bool {
        self.channels[channel as usize].is_doubtful
    }

    /// Who is in a channel, if it watches that.
    pub(crate) fn list(&self, channel: u64) -> Option<&List> {
        let attended = &self.channels[channel as usize];
        attended.by.map(|_| &attended.list)
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }
}

impl Client {
    /// How it wants to attend a channel that it subscribes to.
    pub(super) fn attendance(&mut self, options: &Options, channel: u64) -> Option<Attendance> {
        let (index, healing) = (self.index as u64, self.healing);
        let Attending { is_on, channels, infos, random, .. } = &mut self.attending;
        let attended = &channels[channel as usize];
        if !*is_on || (!options.has_presence(channel) && (healing || !random.chance(20))) {
            return None;
        }
        *infos += 1;
        let info = (index + 1) * 1_000_000 + *infos;
        let wanted = match random.below(20) {
            0..2 => Attendance::Join(0),
            2 if !healing => Attendance::TooMuch(info),
            3..6 => Attendance::Watch,
            // The same as before.
            6..9 => attended.by.unwrap_or(Attendance::Join(info)),
            // It goes on as before, without a word.
            9..12 if attended.by.is_some() => return None,
            _ => Attendance::Join(info),
        };
        Some(if attended.is_full && healing { Attendance::Watch } else { wanted })
    }

    /// A subscription is about to ask for that.
    pub(super) fn asks_to_attend(&self, channel: u64, by: Attendance, oracle: &mut Oracle) {
        if let Some(info) = by.info() {
            oracle.wants_in(channel, &self.attending.name, info);
        }
    }

    /// A subscription was confirmed that wanted to attend.
    pub(super) fn on_attended(
        &mut self,
        channel: u64,
        by: Option<Attendance>,
        data: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        match by {
            Some(Attendance::TooMuch(_)) => {
                oracle.fail("members", || format!("client {who} said too much and may: {data}"));
            }
            Some(by) => {
                let least = u64::from(by.info().is_some());
                oracle.members_counted(channel, &data["presence"]["count"], least, who);
            }
            None if data.get("presence").is_some() => {
                oracle.fail("members", || format!("client {who} did not ask: {data}"));
            }
            // It attends as before, or not.
            None => return,
        }
        self.attending.set(channel, by);
    }

    /// A subscription was refused that wanted to attend.
    pub(super) fn on_not_attended(
        &mut self,
        channel: u64,
        (by, asked_at): (Attendance, u64),
        message: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        let too_much = matches!(by, Attendance::TooMuch(_));
        match message["error_code"].as_str().unwrap_or_default() {
            "DECODE_ERROR" if !too_much => {
                oracle.fail("members", || format!("client {who} did not say too much: {message}"));
            }
            "RATE_LIMIT_EXCEEDED" if message["error_message"] == TOO_MANY_MEMBERS => {
                oracle.members_full(channel, &self.attending.name, asked_at, who);
                self.attending.channels[channel as usize].is_full = true;
            }
            _ => {}
        }
    }

    /// Asks for the lists that it has not got.
    pub(super) fn ask_for_lists(
        &mut self,
        options: &Options,
        oracle: &Oracle,
        wishes: &mut Wishes,
    ) {
        if !self.attending.is_on
            || self.pending.values().any(|pending| matches!(pending, Pending::List(..)))
        {
            return;
        }
        let missing = (0..options.channels).find(|channel| {
            let attended = &self.attending.channels[*channel as usize];
            attended.by.is_some() && !attended.list.complete
        });
        let curious = self.attending.random.chance(10);
        let any = (0..options.channels).find(|channel| options.has_presence(*channel));
        let Some(channel) = missing.or_else(|| any.filter(|_| curious && !self.healing)) else {
            return;
        };
        let name = channel_name(channel);
        let next = self.attending.channels[channel as usize].next.clone();
        let is_count = missing.is_none();
        let more = match &next {
            Some(next) => format!(r#","after":"{next}""#),
            None if is_count => r#","members":false"#.to_owned(),
            None => String::new(),
        };
        let pending = Pending::List(channel, oracle.now, next.is_none(), is_count);
        self.ask(
            pending,
            |id| {
                format!(
                    r#"{{"type":"request","event":"get_presence","id":"{id}","data":{{"channel":"{name}"{more}}}}}"#
                )
                .into_bytes()
            },
            wishes,
        );
    }

    /// A list was told.
    pub(super) fn on_list(
        &mut self,
        options: &Options,
        (channel, asked_at, first, is_count): (u64, u64, bool, bool),
        data: &Value,
        oracle: &mut Oracle,
    ) {
        let who = self.index;
        if !self.may_subscribe(options, channel) || !options.has_presence(channel) {
            oracle.fail("permission", || format!("client {who} may not know who is in {channel}"));
        }
        if is_count {
            oracle.members_counted(channel, &data["count"], 0, who);
            if data.get("members").is_some() {
                oracle.fail("members", || format!("client {who} wanted the count: {data}"));
            }
            return;
        }
        let attended = &mut self.attending.channels[channel as usize];
        // Of a list that was begun before it heard that it has missed something nothing is known.
        let begun = first || attended.next.is_some();
        if attended.by.is_some() && begun {
            let asked = (asked_at, first);
            attended.next = oracle.listed(channel, &mut attended.list, asked, data, who);
        }
    }

    /// An event of presence.
    pub(super) fn on_presence(&mut self, event: &str, message: &Value, oracle: &mut Oracle) {
        let who = self.index;
        let room = message["room"].as_str().unwrap_or_default();
        let channel = room.split(':').nth(1).and_then(|number| number.parse::<u64>().ok());
        let attended =
            channel.and_then(|channel| self.attending.channels.get_mut(channel as usize));
        let (Some(channel), Some(attended)) = (channel, attended) else {
            return oracle.fail("content", || format!("client {who} got {message}"));
        };
        if attended.is_doubtful {
            return;
        }
        if attended.by.is_none() || oracle.name(channel) != room {
            return oracle.fail("members", || format!("client {who} watches not: {message}"));
        }
        let data = &message["data"];
        match event {
            "presence.joined" => oracle.heard_join(channel, &mut attended.list, data, who),
            "presence.left" => oracle.heard_leave(channel, &mut attended.list, data, who),
            "presence.changed" => {
                attended.next = None;
                oracle.heard_change(channel, &mut attended.list, data, who);
            }
            _ => oracle.fail("content", || format!("client {who} got {message}")),
        }
    }
}

/// What who is refused for that is told: it is no subscriber either, whatever it was before.
pub(super) const TOO_MANY_MEMBERS: &str = "Too many members";
