//! What is behind the bus: logs, numbers, documents, and who has appended what.

use super::*;
use crate::record;

/// Everything that is kept. A clone is a replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) channels: BTreeMap<Arc<str>, Channel>,
    once: BTreeMap<Box<str>, (u64, Position)>,
    pub(super) sessions: BTreeMap<SessionKey, Session>,
    passed: Duration,
    /// Commands to all nodes.
    pub(super) orders: u32,
    /// Sessions that were kept, renewed ones apart.
    pub(super) kept: usize,
    pub(super) renewals: usize,
    /// Why it takes nothing in.
    pub(super) full: bool,
    /// A round of more bytes comes without its messages.
    pub(super) notice: Option<usize>,
    /// Reads that were asked for.
    pub(super) reads: usize,
    /// A queue into which others write.
    pub(super) queue: Queue,
    /// Channels that were put back, or should have been.
    pub(super) heals: usize,
    /// Appends that were made, without repeated ones.
    pub(super) appends: Vec<(Arc<str>, u32)>,
    /// Who is in channels.
    pub(super) rooms: BTreeMap<Arc<str>, Room>,
    /// Changes of that which were asked for.
    pub(super) attends: usize,
    /// Until when each node's lease is. `None`: nobody has one, and nobody is told.
    pub(super) leases: Option<BTreeMap<NodeId, (Bytes, Instant)>>,
    /// Numbers of changes of that are at least this.
    pub(super) clock: u64,
    /// The time there.
    pub(super) now: Option<Instant>,
}

/// The members of a channel.
#[derive(Clone, Debug)]
pub(super) struct Room {
    position: Position,
    pub(super) members: BTreeMap<Uuid, (NodeId, Instant, Bytes)>,
    refused: bool,
}

/// Entries by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: BTreeMap<u64, Vec<(Bytes, Bytes)>>,
    last: u64,
    /// A test says when its lease is over.
    pub(super) owner: Option<IngressOwner>,
    /// Which were unfit, and why.
    pub(super) dead: Vec<(u64, &'static str)>,
    pub(super) takes: usize,
}

impl Queue {
    /// Everything is deleted: numbers begin anew.
    pub(super) fn flush(&mut self) {
        *self = Self { takes: self.takes, ..Self::default() };
    }

    /// Somebody writes.
    pub(super) fn write(&mut self, pairs: &[(&str, &str)]) -> u64 {
        self.last += 1;
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let fields = pairs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        self.entries.insert(self.last, fields);
        self.last
    }

    fn take(&mut self, take: &Take) -> Taken {
        self.takes += 1;
        if self.owner.is_some_and(|owner| owner != take.owner) {
            return Taken::Elsewhere { left: take.lease };
        }
        self.owner = Some(take.owner).filter(|_| !take.gives_up);
        for entry in &take.done {
            self.entries.remove(&number(entry));
        }
        for (entry, why) in &take.unfit {
            self.dead.extend(self.entries.remove(&number(entry)).map(|_| (number(entry), *why)));
        }
        let after = take.after.as_ref().map_or(0, |entry| number(entry));
        let entries = self.entries.range(after + 1..).take(take.entries_max as usize);
        let entry = |(number, fields): (&u64, &Vec<_>)| IngressEntry {
            name: format!("{number}-0").into(),
            fields: Some(fields.clone()),
        };
        let entries = entries.map(entry).collect();
        Taken::Owned { waiting: self.entries.len() as u64, lag: Duration::ZERO, entries }
    }
}

fn number(entry: &str) -> u64 {
    entry.strip_suffix("-0").unwrap().parse().unwrap()
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) epoch: Epoch,
    pub(super) top: u64,
    pub(super) entries: Vec<PageEntry>,
    pub(super) document: Option<(u64, Bytes)>,
    writers: BTreeMap<Writer, (CallId, u64)>,
    /// The highest number that was put back.
    healed: u64,
    /// What it was last put back by.
    pub(super) mark: u64,
}

impl Channel {
    fn new(epoch: Epoch) -> Self {
        let (entries, writers) = <_>::default();
        Self { epoch, top: 0, entries, document: None, writers, healed: 0, mark: 0 }
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    fn standing(&self) -> Standing {
        let document = self.document.as_ref().map_or(0, |(offset, _)| *offset);
        Standing { position: self.position(), document, mark: self.mark }
    }

    /// Messages below this are gone.
    pub(super) fn trim(&mut self, oldest: u64) {
        self.entries.retain(|entry| entry.first + u64::from(entry.count) > oldest);
    }

    /// Ids of what is kept, by number.
    pub(super) fn ids(&self) -> BTreeMap<u64, Uuid> {
        let mut ids = BTreeMap::new();
        for entry in &self.entries {
            let messages = record::decode(&entry.records).unwrap();
            ids.extend((entry.first..).zip(messages.map(|message| message.unwrap().id)));
        }
        ids
    }
}

/// A session that is kept, or has ended: then nobody has it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) claim: u64,
    pub(super) holder: Option<Writer>,
    pub(super) attached: bool,
    user: Option<Arc<str>>,
    begun: Duration,
    ttl: Duration,
    pub(super) until: Duration,
    record: Bytes,
}

type Pushed = Vec<(Arc<str>, Live)>;

impl Server {
    pub(super) fn standing_or_found(&mut self, channel: &Arc<str>, epoch: Epoch) -> Standing {
        self.channels.entry(channel.clone()).or_insert_with(|| Channel::new(epoch)).standing()
    }

    /// The id of a channel's last message.
    pub(super) fn newest(&self, channel: &str) -> Option<Uuid> {
        let channel = self.channels.get(channel)?;
        channel.ids().get(&channel.top).copied()
    }

    pub(super) fn channel(&mut self, name: &str) -> &mut Channel {
        self.channels.get_mut(name).unwrap()
    }

    /// Carries a command out: its answer, and what all who follow are told.
    pub(super) fn execute(&mut self, command: &BusCommand) -> (Option<BusEvent>, Pushed) {
        let mut pushed = Vec::new();
        let reply = match command {
            BusCommand::Follow { channel, epoch, .. } => {
                let standing = self.standing_or_found(channel, *epoch);
                Some(BusEvent::Channel(ChannelEvent::Standing {
                    channel: channel.clone(),
                    standing,
                    newest: None,
                }))
            }
            BusCommand::Append(append) => {
                let result = self.append(append, &mut pushed);
                Some(BusEvent::Channel(ChannelEvent::Appended { id: append.id, result }))
            }
            BusCommand::Announce { id, channel, count, records } => {
                let live = Live::Announced { count: *count, records: records.clone() };
                pushed.push((channel.clone(), live));
                Some(BusEvent::Channel(ChannelEvent::Announced { id: *id, result: Ok(1) }))
            }
            BusCommand::Read { id, channel, after, bytes_max } => {
                self.reads += 1;
                let result = Ok(self.read(channel, *after, *bytes_max));
                Some(BusEvent::Channel(ChannelEvent::Page { id: *id, result }))
            }
            BusCommand::Heal(heal) => {
                self.heals += 1;
                let result =
                    if self.full { Err(BusError::Full) } else { Ok(self.heal(heal, &mut pushed)) };
                Some(BusEvent::Channel(ChannelEvent::Healed { id: heal.id, result }))
            }
            BusCommand::Take(take) => {
                let result = match self.full {
                    true => Err(BusError::Full),
                    false => Ok(self.queue.take(take)),
                };
                Some(BusEvent::Taken { id: take.id, result })
            }
            BusCommand::Fork { id, channel, found, epoch } => {
                let moved = self.fork(channel, *found, *epoch, &mut pushed);
                Some(BusEvent::Channel(ChannelEvent::Healed { id: *id, result: Ok(moved) }))
            }
            BusCommand::Attend(change) => {
                self.attends += 1;
                let result = match self.full {
                    true => Err(BusError::Full),
                    false => Ok(self.attend(change, &mut pushed)),
                };
                Some(BusEvent::Attendance(AttendanceEvent::Attended { id: change.id, result }))
            }
            BusCommand::Members { id, channel, known, alive, bytes_max } => {
                let result = Ok(self.members(channel, *known, alive, *bytes_max));
                Some(BusEvent::Attendance(AttendanceEvent::Members { id: *id, result }))
            }
            BusCommand::Beat { node, info, lease, first } => self.beat(*node, info, *lease, *first),
            BusCommand::Quit { node } => {
                if let Some(leases) = &mut self.leases {
                    leases.remove(node);
                }
                None
            }
            BusCommand::Control { id, .. } => {
                Some(BusEvent::Node(NodeEvent::Controlled { id: *id, result: Ok(1) }))
            }
            BusCommand::Session(call) => {
                let result = if self.full { Err(BusError::Full) } else { Ok(self.session(call)) };
                Some(BusEvent::Session { id: call.id, result })
            }
            _ => None,
        };
        (reply, pushed)
    }

    fn beat(
        &mut self,
        node: NodeId,
        info: &Bytes,
        lease: Duration,
        first: bool,
    ) -> Option<BusEvent> {
        let leases = self.leases.as_mut()?;
        let now = self.now.unwrap();
        if !first && leases.get(&node).is_none_or(|(_, until)| *until <= now) {
            return Some(BusEvent::Node(NodeEvent::LeaseLost));
        }
        leases.insert(node, (info.clone(), now + lease));
        let over = leases.iter().filter(|(_, of)| of.1 <= now);
        let gone: Vec<_> = over.map(|(id, _)| *id).collect();
        leases.retain(|id, _| !gone.contains(id));
        let nodes = leases.iter().map(|(id, of)| Node { id: *id, info: of.0.clone() }).collect();
        Some(BusEvent::Node(NodeEvent::Beat { nodes, gone }))
    }

    fn attend(&mut self, change: &PresenceChange, pushed: &mut Pushed) -> PresenceChanged {
        let now = self.now.unwrap();
        let begun = Position { epoch: change.epoch, offset: 0 };
        let empty = || Room { position: begun, members: BTreeMap::new(), refused: false };
        let room = self.rooms.entry(change.channel.clone()).or_insert_with(empty);
        let mut moves = Vec::new();
        for gone in &change.gone {
            if room.members.get(&gone.member).is_some_and(|(node, ..)| *node == gone.node) {
                room.members.remove(&gone.member);
                moves.push(PresenceMove::Left { member: gone.member, why: gone.why });
            }
        }
        let sweep = |room: &mut Room, moves: &mut Vec<PresenceMove>| {
            let alive = &change.alive;
            let counts = |node: NodeId, put: Instant| {
                node == change.node || alive.nodes.contains(&node) || put + alive.grace > now
            };
            room.members.retain(|member, (node, put, _)| {
                let counts = counts(*node, *put);
                if !counts {
                    moves.push(PresenceMove::Left { member: *member, why: PresenceEnd::Node });
                }
                counts
            });
        };
        if change.sweep {
            sweep(room, &mut moves);
        }
        let mut refused = Vec::new();
        for PresenceEntry { id, info, hold } in &change.come {
            let known = room.members.get(id).map(|(node, _, info)| (*node, info.clone()));
            let is_full = |room: &Room| room.members.len() >= change.max as usize;
            if known.is_none() && is_full(room) {
                sweep(room, &mut moves);
            }
            if known.is_none() && is_full(room) {
                refused.push(*id);
            } else if known != Some((change.node, info.clone())) {
                room.members.insert(*id, (change.node, now + *hold, info.clone()));
                let (id, node, info) = (*id, change.node, info.clone());
                moves.push(PresenceMove::Joined(PresenceMember { id, node, info }));
            }
        }
        let full = room.refused && room.members.len() >= change.max as usize;
        let is_refused = !refused.is_empty() || full;
        let changed = std::mem::replace(&mut room.refused, is_refused) != is_refused;
        if room.position.offset == 0 || changed || !moves.is_empty() {
            let before = room.position.offset;
            room.position.offset = (before + 1).max(self.clock);
            let small = self.notice.is_none_or(|max| moves.len() <= max);
            let moves = Some(moves).filter(|_| small);
            let news = PresenceNews { before, position: room.position, refused: is_refused, moves };
            pushed.push((change.channel.clone(), Live::Presence(news)));
        }
        let members = room.members.len() as u32;
        PresenceChanged { position: room.position, members, refused }
    }

    fn members(
        &self,
        channel: &str,
        known: Option<Position>,
        alive: &Alive,
        bytes_max: usize,
    ) -> PresenceMembers {
        let now = self.now.unwrap();
        let Some(room) = self.rooms.get(channel) else {
            return PresenceMembers {
                position: None,
                refused: false,
                stale: false,
                members: Some(Vec::new()),
                more: false,
            };
        };
        let (mut stale, mut more, mut bytes) = (false, false, 0);
        let mut members = Vec::new();
        for (id, (node, put, info)) in &room.members {
            bytes += info.len();
            if !alive.nodes.contains(node) && *put + alive.grace <= now {
                stale = true;
            } else if bytes > bytes_max && !members.is_empty() {
                more = true;
                break;
            } else {
                members.push(PresenceMember { id: *id, node: *node, info: info.clone() });
            }
        }
        let position = Some(room.position);
        let members = Some(members).filter(|_| known != position);
        PresenceMembers { position, refused: room.refused, stale, members, more }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, step: Duration) {
        self.passed += step;
        self.sessions.retain(|_, session| session.until > self.passed);
    }

    fn is_lost(&self, held: SessionHeld, holder: Writer) -> bool {
        self.sessions.get(&held.key).is_some_and(|known| {
            known.claim > held.claim || known.claim == held.claim && known.holder != Some(holder)
        })
    }

    fn session(&mut self, call: &SessionCall) -> SessionAnswer {
        let holder = call.holder;
        match &call.what {
            SessionWish::Keep(state) if self.is_lost(state.held, holder) => {
                SessionAnswer::Done(false)
            }
            SessionWish::Keep(state) => {
                self.kept += 1;
                let session = Session {
                    claim: state.held.claim,
                    holder: Some(holder),
                    attached: state.attached,
                    user: state.user.clone(),
                    begun: state.begun,
                    ttl: state.ttl,
                    until: self.passed + state.life,
                    record: state.record.clone(),
                };
                self.sessions.insert(state.held.key, session);
                SessionAnswer::Done(true)
            }
            SessionWish::Claim { key, user, grace } => {
                let found = self.sessions.get_mut(key).filter(|of| of.holder.is_some());
                if found.as_ref().is_some_and(|of| of.user != *user) {
                    return SessionAnswer::OtherUser;
                }
                SessionAnswer::Claimed(found.map(|session| {
                    session.claim += 1;
                    session.attached = true;
                    session.until = self.passed + session.ttl + *grace;
                    Box::new(SessionClaimed {
                        claim: session.claim,
                        before: session.holder.replace(holder),
                        begun: session.begun,
                        record: session.record.clone(),
                    })
                }))
            }
            SessionWish::Renew(sessions) => {
                self.renewals += 1;
                let renew = |(held, life): &(SessionHeld, Duration)| {
                    let lost = self.is_lost(*held, holder);
                    match self.sessions.get_mut(&held.key) {
                        None => SessionRenewed::Unknown,
                        Some(_) if lost => SessionRenewed::Lost,
                        Some(session) => {
                            session.until = self.passed + *life;
                            SessionRenewed::Done
                        }
                    }
                };
                SessionAnswer::Renewed(sessions.iter().map(renew).collect())
            }
            SessionWish::End(held, _) if self.is_lost(*held, holder) => SessionAnswer::Done(false),
            SessionWish::End(held, keep) => {
                let session = Session {
                    claim: held.claim + 1,
                    holder: None,
                    attached: false,
                    user: None,
                    begun: Duration::ZERO,
                    ttl: *keep,
                    until: self.passed + *keep,
                    record: Bytes::new(),
                };
                self.sessions.insert(held.key, session);
                SessionAnswer::Done(true)
            }
        }
    }

    fn append(&mut self, append: &Append, pushed: &mut Pushed) -> Result<Appended, AppendError> {
        if self.full {
            return Err(AppendError::Bus(BusError::Full));
        }
        assert!(append.count > 0);
        let own = append.state.is_some() && append.basis.is_none();
        let alone = own || append.condition.is_some() || append.once.is_some();
        let alone = alone || append.taken.is_some();
        assert!(append.count == 1 || !alone, "it is an append of its own");
        let repeated = |first| Ok(Appended { first, nodes: 0, repeated: true });
        if let Some(once) = &append.once
            && let Some((digest, first)) = self.once.get(&once.key)
        {
            let same = *digest == once.digest;
            return if same { repeated(*first) } else { Err(AppendError::KeyConflict) };
        }
        let known = self.channels.get(&append.channel);
        if let Some(known) = known
            && let Some((made, first)) = known.writers.get(&append.writer)
            && append.id <= *made
        {
            assert_eq!(append.id, *made, "one is under way at most");
            return repeated(Position { epoch: known.epoch, offset: *first });
        }
        if let Some(taken) = &append.taken {
            if self.queue.owner != Some(taken.owner) {
                return Err(AppendError::NotOwner);
            }
            if !self.queue.entries.contains_key(&number(&taken.entry)) {
                return Err(AppendError::Gone);
            }
        }
        if let Some(wanted) = append.known
            && known.is_none_or(|at| at.epoch != wanted.epoch || at.top < wanted.offset)
        {
            return Err(AppendError::Behind(known.map(Channel::position)));
        }
        if let Some((seen, known)) = append.again.zip(known)
            && known.healed > seen
        {
            return Err(AppendError::Healed);
        }
        if let Some(condition) = append.condition {
            let document = known.and_then(|known| known.document.as_ref()).map_or(0, |(at, _)| *at);
            let epoch = known.map(|known| known.epoch);
            let holds = document == condition.offset
                && condition.epoch.is_none_or(|wanted| Some(wanted) == epoch);
            if !holds {
                return Err(AppendError::StateConflict);
            }
        }
        if let Some(basis) = append.basis {
            let document = known.and_then(|known| Some((known.epoch, known.document.as_ref()?)));
            let document =
                document.map(|(epoch, (at, json))| (Position { epoch, offset: *at }, json.clone()));
            let there = document.as_ref().map_or(Basis::Nothing, |(at, _)| Basis::Document(*at));
            if basis != there {
                return Err(AppendError::OtherBasis(document));
            }
        }
        if let Some(taken) = &append.taken {
            self.queue.entries.remove(&number(&taken.entry));
        }
        let channel = self
            .channels
            .entry(append.channel.clone())
            .or_insert_with(|| Channel::new(append.epoch));
        let first = channel.top + 1;
        channel.top += u64::from(append.count);
        if append.retention.messages > 0 {
            let records = append.records.clone();
            channel.entries.push(PageEntry { first, count: append.count, records });
            channel.trim((channel.top + 1).saturating_sub(append.retention.messages));
        }
        if let Some(state) = &append.state {
            channel.document = Some((channel.top, state.clone()));
        }
        channel.writers.insert(append.writer, (append.id, first));
        let at = Position { epoch: channel.epoch, offset: first };
        if let Some(once) = &append.once {
            self.once.insert(once.key.clone(), (once.digest, at));
        }
        self.appends.push((append.channel.clone(), append.count));
        let small = self.notice.is_none_or(|max| append.records.len() <= max);
        let live = Live::Round {
            epoch: at.epoch,
            first,
            count: append.count,
            records: Some(append.records.clone()).filter(|_| small),
            state: append.state.clone().filter(|_| small),
        };
        pushed.push((append.channel.clone(), live));
        Ok(Appended { first: at, nodes: 1, repeated: false })
    }

    fn read(&self, channel: &str, after: u64, bytes_max: usize) -> BusPage {
        let Some(channel) = self.channels.get(channel) else {
            return BusPage { standing: None, entries: Vec::new(), more: false, document: None };
        };
        let (mut entries, mut bytes, mut more) = (Vec::new(), 0, false);
        let behind = |entry: &&PageEntry| entry.first + u64::from(entry.count) > after + 1;
        for entry in channel.entries.iter().filter(behind) {
            bytes += entry.records.len();
            if bytes > bytes_max && !entries.is_empty() {
                more = true;
                break;
            }
            entries.push(entry.clone());
        }
        let document = channel.document.as_ref().map(|(_, json)| json.clone());
        BusPage { standing: Some(channel.standing()), entries, more, document }
    }

    fn heal(&mut self, heal: &Heal, pushed: &mut Pushed) -> Moved {
        let known = self.channels.get(&heal.channel).map(Channel::position);
        if known != heal.found {
            return Moved::Elsewhere(known);
        }
        let mut next = None;
        for entry in &heal.entries {
            assert!(next.is_none_or(|next| next == entry.first), "consecutive rounds");
            next = Some(entry.first + u64::from(entry.count));
            let messages = record::decode(&entry.records).unwrap();
            assert_eq!(messages.count(), entry.count as usize);
        }
        assert!(next.is_none_or(|next| next == heal.to.offset + 1), "they end where it says");
        let channel = self
            .channels
            .entry(heal.channel.clone())
            .or_insert_with(|| Channel::new(heal.to.epoch));
        if channel.epoch != heal.to.epoch {
            *channel = Channel::new(heal.to.epoch);
        }
        assert!(channel.top <= heal.to.offset);
        for entry in heal.entries.iter().filter(|entry| entry.first > channel.top) {
            let HealEntry { first, count, records, .. } = entry.clone();
            channel.entries.push(PageEntry { first, count, records });
        }
        channel.top = heal.to.offset;
        channel.healed = channel.top;
        channel.mark = heal.mark;
        let at = channel.document.as_ref().map_or(0, |(at, _)| *at);
        if heal.document.as_ref().is_some_and(|(given, _)| *given > at) {
            channel.document.clone_from(&heal.document);
        }
        let live = Live::Healed { position: heal.to, mark: heal.mark, newest: heal.newest };
        pushed.push((heal.channel.clone(), live));
        Moved::Done
    }

    fn fork(
        &mut self,
        name: &Arc<str>,
        found: Option<Position>,
        epoch: Epoch,
        pushed: &mut Pushed,
    ) -> Moved {
        let known = self.channels.get(name).map(Channel::position);
        if known != found {
            return Moved::Elsewhere(known);
        }
        let channel = self.channels.entry(name.clone()).or_insert_with(|| Channel::new(epoch));
        (channel.epoch, channel.mark) = (epoch, 0);
        channel.entries.clear();
        channel.writers.clear();
        pushed.push((name.clone(), Live::Forked { position: channel.position() }));
        Moved::Done
    }
}
