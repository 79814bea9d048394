//! Members that are sent what they missed before they are sent what is new. They get it in pages, as their outbox drains, so
//! that nobody becomes a slow reader by having been away; what is published meanwhile waits behind.

use std::collections::VecDeque;

use super::{Channels, Member, Round, slow::note_gap};
use crate::{
    config::SlowPolicy,
    hub::{
        connections::{Conn, Connections, List, MemberAt},
        env::Env,
        homes::{Form, Page},
        types::ConnId,
    },
    protocol::Kind,
    reason::Reason,
    ws::Segment,
};

/// What one member has not been sent yet.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) member: Member,
    pub(super) form: Form,
    /// Nothing is sent yet: something else has to be said first.
    pub(super) held: bool,
    segments: VecDeque<Segment>,
    /// Bytes of those that it missed; the rest was published since.
    missed_bytes: usize,
    bytes: usize,
    /// Among it is word of messages that nobody got.
    noticed: bool,
}

impl CatchUp {
    /// It is held until somebody lets it [go on](Channels::go_on).
    pub(super) fn new(form: Form, pages: Vec<Page>) -> Self {
        let segments: VecDeque<_> = pages.into_iter().map(|page| page.segment).collect();
        let bytes = segments.iter().map(Segment::len).sum();
        let member = Member { conn: 0, subscription: 0 };
        Self { member, form, held: true, segments, missed_bytes: bytes, bytes, noticed: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes that were published since it began.
    fn live_bytes(&self) -> usize {
        self.bytes - self.missed_bytes
    }

    fn next(&self) -> Option<&Segment> {
        self.segments.front()
    }

    fn pop(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        self.bytes -= segment.len();
        self.missed_bytes = self.missed_bytes.saturating_sub(segment.len());
        Some(segment)
    }

    /// Gives up what does not fit into so many bytes.
    fn cut(&mut self, bytes_max: usize) {
        let (mut kept, mut bytes) = (0, 0);
        for segment in &self.segments {
            if bytes + segment.len() > bytes_max {
                break;
            }
            (kept, bytes) = (kept + 1, bytes + segment.len());
        }
        self.segments.truncate(kept);
        (self.bytes, self.missed_bytes) = (bytes, self.missed_bytes.min(bytes));
    }

    /// Puts word of messages that nobody got behind everything.
    pub(super) fn notice(&mut self, word: Segment) {
        self.bytes += word.len();
        self.segments.push_back(word);
        self.noticed = true;
    }

    fn messages(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.messages())).sum()
    }
}

impl Channels {
    /// This hub's own handles of pages, the same for all who missed the same: like rounds, they are counted while an outbox
    /// here holds them.
    pub(super) fn adopt(
        &mut self,
        connections: &mut Connections,
        index: u32,
        pages: Vec<Page>,
    ) -> Vec<Page> {
        let Some(channel) = self.slots.get_mut(index) else { return pages };
        if pages.is_empty() {
            return pages;
        }
        if channel.pages.is_empty() {
            self.paged.push(index);
        }
        let is_same = |known: &Page, page: &Page| {
            (known.first, known.form) == (page.first, page.form)
                && known.segment.messages() == page.segment.messages()
                && known.segment.len() == page.segment.len()
        };
        let mut own = |mut page: Page| {
            if let Some(known) = channel.pages.iter().find(|known| is_same(known, &page)) {
                return known.clone();
            }
            page.segment.set_tag(channel.tag);
            connections.note_segment(&page.segment);
            channel.pages.push(page.clone());
            page
        };
        pages.into_iter().map(&mut own).collect()
    }

    /// What a connection has to be told first has been said: what it missed in this channel may follow, or in all.
    pub(in crate::hub) fn let_go(
        &mut self,
        connections: &Connections,
        id: ConnId,
        only: Option<&str>,
    ) {
        let only = only.map(|name| self.find(name));
        let Some(conn) = connections.get(id) else { return };
        for subscription in conn.subscriptions.iter() {
            if subscription.member.list() == List::Catching
                && only.is_none_or(|only| only == Some(subscription.channel))
                && let Some(channel) = self.slots.get_mut(subscription.channel)
                && let Some(catching) = channel.catching.get_mut(subscription.member.index())
            {
                catching.held = false;
            }
        }
    }

    /// Sends on what a connection missed, as far as its outbox has room; who has everything becomes a member like others.
    pub(in crate::hub) fn go_on(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
    ) {
        let enough = env.config.limits.delivery.outbox_bytes_max / 4;
        let mut at = 0;
        while let Some(conn) = connections.get(id)
            && conn.is_catching()
            && let Some(subscription) = conn.subscriptions.get(at).copied()
        {
            at += 1;
            if subscription.member.list() == List::Catching {
                let place = (subscription.channel, subscription.member);
                self.feed(env, connections, id, place, enough);
            }
        }
    }

    /// Feeds a member of one channel until its outbox holds `enough`, and never more than an outbox may.
    fn feed(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
        (index, at): (u32, MemberAt),
        enough: usize,
    ) {
        let max = env.config.limits.delivery.outbox_bytes_max;
        let Some(channel) = self.slots.get_mut(index) else { return };
        let (tag, Some(catching)) = (channel.tag, channel.catching.get_mut(at.index())) else {
            return;
        };
        // A message that is larger than an outbox has one for itself.
        let room = |conn: &Conn, next: &Segment| {
            let bytes = conn.ws.outbox().bytes();
            bytes == 0 || bytes < enough && bytes + next.len() <= max
        };
        if catching.held {
            return;
        }
        let Some(next) = catching.next() else {
            // It was held, and has missed nothing.
            return self.catch_up(connections, id, index, at);
        };
        let fits = |conn: &Conn| conn.ws.is_open() && room(conn, next);
        let Some(conn) = connections.edit_if(id, fits) else { return };
        while catching.next().is_some_and(|next| room(conn, next))
            && let Some(segment) = catching.pop()
        {
            env.tally.sent(Kind::Event, u64::from(segment.messages()));
            conn.ws.outbox_mut().push(&segment);
        }
        // What was promised is not replaced by what is newer.
        conn.ws.outbox_mut().keep(tag);
        if catching.is_done() {
            self.catch_up(connections, id, index, at);
        }
        connections.mark_dirty(id.index);
    }

    /// A member has everything: from now on it takes rounds as they come.
    fn catch_up(&mut self, connections: &mut Connections, id: ConnId, index: u32, at: MemberAt) {
        let Some((form, Some(caught))) = self.take_out(connections, index, at) else { return };
        let list = List::Members(form);
        let Some(channel) = self.slots.get_mut(index) else { return };
        let member = MemberAt::new(list, channel.list(list));
        if let Some(members) = channel.members.get_mut(form.index()) {
            members.push(caught.member);
        }
        let Some(conn) = connections.edit(id) else { return };
        if let Some(held) = conn.subscriptions.get_mut(caught.member.subscription as usize) {
            held.member = member;
        }
        conn.end_catching();
    }

    /// What a connection has yet to be sent of the channel at `at` in its list, as far as its outbox holds it: it leaves the
    /// channel, or its connection ends. What has no room it gives up: it may come back for it. Of what is held back it was
    /// promised nothing, and is sent nothing.
    pub(super) fn send_rest(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
        at: usize,
    ) {
        let held = connections.get(id).and_then(|conn| conn.subscriptions.get(at).copied());
        let Some(held) = held.filter(|held| held.member.list() == List::Catching) else { return };
        if let Some(channel) = self.slots.get_mut(held.channel)
            && let Some(catching) = channel.catching.get_mut(held.member.index())
            && !catching.held
        {
            let max = env.config.limits.delivery.outbox_bytes_max;
            let waits = connections.get(id).map_or(max, |conn| conn.ws.outbox().bytes());
            catching.cut(max.saturating_sub(waits));
            self.feed(env, connections, id, (held.channel, held.member), max);
        }
    }

    /// The same of all channels.
    pub(in crate::hub) fn send_all(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        id: ConnId,
    ) {
        let count = connections.get(id).map_or(0, |conn| conn.subscriptions.len());
        for at in 0..count {
            if !connections.get(id).is_some_and(Conn::is_catching) {
                break;
            }
            self.send_rest(env, connections, id, at);
        }
    }

    /// Puts a round behind what is yet to be sent. Who falls behind by more than an outbox holds is a slow reader, by what
    /// came since, not by what it missed.
    pub(super) fn queue_behind(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        policy: SlowPolicy,
        round: &Round,
    ) {
        let max = env.config.limits.delivery.outbox_bytes_max;
        let Some(channel) = self.slots.get_mut(round.channel) else { return };
        for catching in &mut channel.catching {
            let index = catching.member.conn;
            let Some(id) = connections.id_at(index) else { continue };
            let Some(conn) = connections.member(index) else { continue };
            let segment = &round.shape(catching.form).segment;
            let messages = u64::from(segment.messages());
            let lossy = conn.has_gap_in(round.channel);
            if !lossy && catching.live_bytes() + segment.len() <= max {
                catching.bytes += segment.len();
                catching.segments.push_back(segment.clone());
                continue;
            }
            env.tally.dropped(Reason::SlowReader, messages);
            match policy {
                SlowPolicy::Disconnect => self.closing.push_back(id),
                SlowPolicy::Gap | SlowPolicy::Latest => note_gap(conn, round),
            }
        }
    }

    /// Gives up what a connection has yet to be sent of a channel. The messages that it loses by that, and whether it does not
    /// hear either of more that nobody got.
    pub(super) fn drop_rest(
        &mut self,
        connections: &mut Connections,
        id: ConnId,
        index: u32,
    ) -> (u64, bool) {
        let held =
            |conn: &Conn| conn.subscriptions.iter().find(|held| held.channel == index).copied();
        let Some(held) = connections.get(id).and_then(held) else { return (0, false) };
        if held.member.list() != List::Catching {
            return (0, false);
        }
        let Some(catching) = self
            .slots
            .get_mut(index)
            .and_then(|channel| channel.catching.get_mut(held.member.index()))
        else {
            return (0, false);
        };
        let lost = (catching.messages(), std::mem::take(&mut catching.noticed));
        catching.segments = VecDeque::new();
        (catching.bytes, catching.missed_bytes) = (0, 0);
        if !catching.held {
            self.catch_up(connections, id, index, held.member);
        }
        lost
    }
}
