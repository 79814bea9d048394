//! Who is in channels: from what a subscription asks for to what those who watch are told. Each method carries on between
//! departments what one of them has found out.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Hub,
    application::Leave,
    homes::{Known, Since, Wish},
    http::Refused,
    looks::Query,
    peers::{Inner, Joiner},
    presence::{Asked, Attendance, Card, Departure, Page, Told, Wanted, Watch, Why},
    sessions::End,
    types::{ConnId, ShardId},
};
use crate::{
    config::Config,
    protocol::{DecodeError, Incoming, PresenceQuery, SubscribeOptions, event},
    reason::Reason,
    ws::Segment,
};

/// What a subscription asks for besides its channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    /// Where it is to start, and in which form.
    pub(super) start: Option<Box<Wish>>,
    pub(super) presence: Option<Box<Wanted>>,
}

impl Wishes {
    /// Reads a client's message. Mostly it asks for nothing.
    #[inline]
    pub(super) fn read(incoming: &Incoming<'_>) -> Result<Self, DecodeError> {
        let options = incoming.subscribe_options()?;
        if options == SubscribeOptions::default() {
            Ok(Self::default())
        } else {
            Self::of(&options)
        }
    }

    #[cold]
    fn of(options: &SubscribeOptions<'_>) -> Result<Self, DecodeError> {
        let presence = options.presence.map(Wanted::parse).transpose()?.flatten();
        let since = options.recover.as_ref().map(|recover| Since {
            epoch: recover.epoch,
            offset: recover.offset,
            id: recover.id.as_deref().map(Into::into),
        });
        let SubscribeOptions { positions, rewind, strict, trace: traces, .. } = *options;
        let start = Wish { positions, traces, since, rewind, strict };
        // Who asks for presence only has said nothing of messages.
        let start = (start != Wish::default()).then(|| Box::new(start));
        Ok(Self { start, presence: presence.map(Box::new) })
    }

    /// Why a subscription may not ask for it, if so.
    pub(super) fn refusal(&self, config: &Config, channel: &str) -> Option<Reason> {
        self.presence.as_ref().and_then(|wanted| wanted.refusal(config, channel))
    }
}

/// Coming and going.
impl Hub {
    /// The name by which others know a connection.
    pub(super) fn public_name(&self, id: ConnId) -> Uuid {
        let session = self.connections.get(id).and_then(|conn| conn.rare().session.as_deref());
        let resumed = session.and_then(|attached| attached.public);
        resumed.unwrap_or_else(|| self.env.public_name(id))
    }

    /// Who subscribes again with a wish for presence starts anew at once; others when its home has heard of it. If it is a
    /// member and wants to be one, it is one meanwhile.
    pub(super) fn start_anew(&mut self, id: ConnId, name: &str, wishes: &Wishes) {
        let Some(index) = self.channels.find(name) else { return };
        if wishes.presence.is_none() || !self.channels.has(&self.connections, index, id) {
            return;
        }
        let watch = self.watchers.get(index, id);
        let stays = watch.is_some_and(|watch| watch.id == self.public_name(id));
        let why = if stays { Why::Held(MEANWHILE) } else { Why::Left };
        self.take_out(id, name, why, Leave::Client);
    }

    /// What becomes of the members that a connection was that has ended for `reason`: those of a session wait a little longer
    /// than it does, so that who resumes it at its end still has their places.
    pub(super) fn departure(&self, id: ConnId, reason: Reason, session: Option<End>) -> Why {
        let Some(conn) = self.connections.get(id) else { return Why::of(reason, None) };
        let attached = conn.rare().session.as_deref().filter(|attached| attached.kept);
        let window = self.env.config.limits.sessions.session_window;
        match (session, attached) {
            (Some(End::Waits), Some(attached)) if !window.is_zero() => {
                Why::Held(attached.ttl.min(window) + MEANWHILE)
            }
            _ => Why::of(reason, conn.ws.peer_close().and_then(|close| close.code)),
        }
    }

    /// What a session is to remember of a subscription's presence.
    pub(super) fn presence_terms(&self, index: u32, id: ConnId) -> Option<Arc<str>> {
        self.watchers.get(index, id).map(|watch| watch.wanted.to_text().into())
    }

    /// What a session remembers, as far as there still is presence in the channel.
    pub(super) fn presence_again(&self, channel: &str, terms: Option<&str>) -> Option<Box<Wanted>> {
        let wanted = Wanted::parse(terms?).ok().flatten()?;
        let refused = wanted.refusal(&self.env.config, channel);
        refused.is_none().then(|| Box::new(wanted))
    }

    /// A subscription with presence of this connection.
    pub(super) fn attendance(&mut self, id: ConnId, wanted: Wanted) -> Option<Box<Attendance>> {
        let user = self.connections.get(id)?.user();
        let card = match wanted {
            Wanted::Watch => None,
            Wanted::Join(info) => Some(Card { user, info }),
        };
        let number = self.watchers.number();
        Some(Box::new(Attendance { number, id: self.public_name(id), card, order: 0 }))
    }

    /// A connection of hub `from` subscribes to a channel that is at home here, with its wish; so much is known of the channel.
    pub(super) fn on_join(
        &mut self,
        from: ShardId,
        channel: Arc<str>,
        member: Joiner,
        wish: (Option<&Wish>, Known),
        presence: Option<Box<Attendance>>,
    ) {
        let env = &mut self.env;
        let admitted =
            presence.as_ref().map_or(Ok(()), |wish| self.presence.admit(env, &channel, wish));
        let start = match admitted {
            Ok(()) => self.homes.join(env, from, &channel, member, wish),
            Err(_) => Ok(None),
        };
        let attended = presence.and_then(|attendance| match (admitted, &start) {
            (Ok(()), Ok(_)) => {
                Some(Ok(Box::new(self.presence.enter(env, &channel, member.conn, *attendance))))
            }
            (refused, _) => {
                // It may have been one before it asked for this.
                self.presence.end(env, &channel, member.conn, attendance.id);
                refused.err().map(Err)
            }
        });
        if self.env.config.is_own(&channel) {
            self.statistics.begin(self.env.now.mono);
        }
        self.tell(from, Inner::Joined { channel, member, start, presence: attended });
    }

    /// The home has let a subscription attend. If nothing has come of the subscription itself, what the home is told.
    /// `held`: by a session that is not resumed yet.
    pub(super) fn attend(
        &mut self,
        id: ConnId,
        name: &str,
        watch: Watch,
        held: bool,
    ) -> Option<Departure> {
        let number = watch.number;
        let index = self.channels.find(name);
        match index.filter(|index| self.channels.has(&self.connections, *index, id)) {
            Some(index) if held => {
                self.watchers.add_held(index, id, watch);
                None
            }
            Some(index) => {
                self.watchers.add(index, id, watch);
                None
            }
            None => {
                let why = if self.connections.is_active(id) { Why::Left } else { Why::Lost };
                Some(Departure { conn: id, number, why })
            }
        }
    }
}

/// Those who subscribe again without a word of presence.
impl Hub {
    /// The home has let a subscription begin anew, or has not: then it attends no more. If nothing has come of it here, what
    /// the home is told.
    pub(super) fn attend_on(&mut self, index: u32, id: ConnId) -> Option<Departure> {
        if self.channels.has(&self.connections, index, id) {
            return None;
        }
        let Watch { number, .. } = self.watchers.remove(index, id)?;
        Some(Departure { conn: id, number, why: Why::Left })
    }
}

/// Telling those who watch.
impl Hub {
    /// Tells what has changed since the last time, and then whoever has asked.
    #[cold]
    pub(super) fn tell_presence(&mut self) {
        for id in self.watchers.take_unwritten() {
            self.tell_missed(id);
        }
        for told in self.presence.tell(&mut self.env, self.peers.full()) {
            self.spread(told);
        }
        self.answer_presence();
        self.settle();
    }

    fn spread(&mut self, told: Told) {
        let Told { channel, segment, mut remote, here } = told;
        while remote != 0 {
            let shard = ShardId(remote.trailing_zeros() as u16);
            remote &= remote - 1;
            let (channel, segment) = (channel.clone(), segment.clone());
            self.tell(shard, Inner::Presence { channel, segment });
        }
        if here {
            self.on_presence(&channel, &segment);
        }
    }

    /// Somebody came to a channel that is watched here, or went.
    pub(super) fn on_presence(&mut self, name: &str, segment: &Segment) {
        let Some(index) = self.channels.find(name) else { return };
        let policy = self.channels.policy(index);
        let (env, connections) = (&mut self.env, &mut self.connections);
        let slow = self.watchers.deliver(env, connections, index, policy, segment);
        for id in slow {
            self.close(id, Reason::SlowReader);
        }
    }

    /// Tells a connection in which channels it has missed who came and went, if it has room for that.
    pub(super) fn tell_missed(&mut self, id: ConnId) {
        for index in self.watchers.take_missed(&self.env, &self.connections, id) {
            if let Some(name) = self.channels.name(index) {
                self.connections.send_presence_missed(&mut self.env, id, &name);
            }
        }
    }

    /// The request `get_presence`.
    pub(super) fn on_get_presence(&mut self, id: ConnId, data: &str, correlation: Option<&str>) {
        let query = match PresenceQuery::parse(data) {
            Ok(query) => query,
            Err(error) => {
                return self.refuse_because(id, &Refused::undecoded(error), correlation);
            }
        };
        let Some(channel) = query.channel else {
            return self.refuse(id, Reason::UnknownRequest, correlation);
        };
        let page = Page { members: query.members, after: query.after };
        let query = Query::Presence(page);
        self.look(id, event::GET_PRESENCE, Some(&channel), query, correlation);
    }

    /// Answers as many of those who asked as fit between two flushes. The same question gets the same answer.
    fn answer_presence(&mut self) {
        let mut budget = self.env.config.limits.delivery.outbox_bytes_max.saturating_mul(4);
        let mut last: Option<(Box<str>, Page, Box<str>)> = None;
        while budget > 0
            && let Some(Asked { from, looker, channel, page }) = self.presence.next_asked()
        {
            let result = if self.presence.is_held_back(&channel) || self.peers.is_full(from) {
                Err(Reason::Busy)
            } else if let Some((of, at, json)) = &last
                && (of, at) == (&channel, &page)
            {
                Ok(json.clone())
            } else {
                let json = self.presence.list(&self.env, &channel, page);
                last = Some((channel, page, json.clone()));
                Ok(json)
            };
            budget = budget.saturating_sub(result.as_ref().map_or(0, |json| json.len()));
            self.tell(from, Inner::Seen { looker, result });
        }
    }
}

/// For so long a member stays whose connection is about to come back: that is under way already.
pub(super) const MEANWHILE: Duration = Duration::from_secs(1);
