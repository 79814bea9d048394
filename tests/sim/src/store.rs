//! The store of a world: a disk that outlives the process, and whoever writes to it, as `driver` does it with a thread.
//!
//! Whatever waits is a group. A group is written as a whole or not at all, after a while, and only then is it answered.
//! The process may end at any point of that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{AppendId, SessionId, StoreCommand, StoreEvent, StoredChannel},
    record,
};

use crate::{
    clock::{MICRO, Nanos},
    oracle::{Oracle, StoredMessage},
    random::Random,
    world::{Event, World},
};

/// What is kept, whatever becomes of the process.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) channels: BTreeMap<Arc<str>, StoredChannel>,
    sessions: BTreeMap<SessionId, Bytes>,
}

/// Where in a write the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The group is known and not written.
    BeforeCommit,
    /// It is written, and nobody has been told.
    BeforeAnswer,
    /// Some hubs have been told.
    AmongAnswers,
    /// All have been told, and the next group has not been begun.
    BetweenGroups,
}

/// A store at work.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Disk,
    random: Random,
    /// In order, with the hub that wants it.
    waiting: VecDeque<(usize, StoreCommand)>,
    /// What is being written.
    group: Vec<(usize, StoreCommand)>,
    /// A write is planned or under way.
    busy: bool,
    /// What nobody waits for and could not be kept yet.
    put_off: Vec<StoreCommand>,
    /// Answers on their way, by hub.
    answers: Vec<VecDeque<Vec<StoreEvent>>>,
    answers_at: Vec<Nanos>,
    /// The process ends when a write has come so far.
    pub(crate) crash: Option<Crash>,
}

impl Store {
    pub(crate) fn new(seed: u64, shards: usize) -> Self {
        Self {
            disk: Disk::default(),
            random: Random::new(seed, 10),
            waiting: VecDeque::new(),
            group: Vec::new(),
            busy: false,
            put_off: Vec::new(),
            answers: vec![VecDeque::new(); shards],
            answers_at: vec![0; shards],
            crash: None,
        }
    }

    /// The process has ended: what was not written is lost, and nobody is told of what was.
    pub(crate) fn process_ends(&mut self) {
        (self.busy, self.crash) = (false, None);
        self.waiting.clear();
        self.group.clear();
        self.put_off.clear();
        self.answers.iter_mut().for_each(VecDeque::clear);
        self.answers_at.fill(0);
    }

    /// What a new process is dealt.
    pub(crate) fn contents(&self) -> Vec<StoreEvent> {
        let channels = self.disk.channels.values().cloned().map(StoreEvent::Channel);
        let sessions = self.disk.sessions.iter().map(|(session, record)| StoreEvent::Session {
            session: *session,
            record: record.clone(),
        });
        channels.chain(sessions).collect()
    }

    /// For the next group. Of one session or channel only the last wish counts.
    fn put_off(&mut self, commands: impl Iterator<Item = StoreCommand>) {
        self.put_off.extend(commands);
        let mut known = BTreeSet::new();
        let all = mem::take(&mut self.put_off).into_iter().rev();
        self.put_off = all.filter(|command| known.insert(about(command))).collect();
        self.put_off.reverse();
    }
}

/// What a later command of the same kind takes the place of.
fn about(command: &StoreCommand) -> (u8, String) {
    match command {
        StoreCommand::Trim { channel, .. } => (0, channel.to_string()),
        StoreCommand::Append { channel, .. } | StoreCommand::Forget { channel } => {
            (1, channel.to_string())
        }
        StoreCommand::KeepSession { session, .. } | StoreCommand::ForgetSession { session } => {
            (2, session.0.to_string())
        }
    }
}

impl Disk {
    fn carry_out(&mut self, command: StoreCommand, oracle: &mut Oracle) {
        match command {
            StoreCommand::Append { channel, round, epoch, oldest, state, .. } => {
                let fresh = || StoredChannel {
                    channel: channel.clone(),
                    epoch,
                    top: 0,
                    rounds: Vec::new(),
                    state: None,
                };
                let kept = self.channels.entry(channel.clone()).or_insert_with(fresh);
                if kept.epoch != epoch {
                    oracle.left_store(kept);
                    *kept = fresh();
                }
                let records = record::decode(&round.records).into_iter().flatten();
                let messages = records.map(|message| message.expect("a sound record"));
                let messages: Vec<_> = (round.first..).zip(messages).collect();
                assert_eq!(messages.len() as u64, u64::from(round.count), "a round's count");
                for (offset, message) in messages {
                    let (epoch, top) = (epoch.as_str(), kept.top);
                    oracle.stored(&StoredMessage {
                        channel: &channel,
                        epoch,
                        offset,
                        top,
                        message,
                    });
                    kept.top = offset;
                }
                kept.rounds.push(round);
                kept.state = state.or_else(|| kept.state.take());
                trim(kept, oldest, oracle);
            }
            StoreCommand::Trim { channel, oldest } => {
                if let Some(kept) = self.channels.get_mut(&channel) {
                    trim(kept, oldest, oracle);
                }
            }
            StoreCommand::Forget { channel } => {
                if let Some(kept) = self.channels.remove(&channel) {
                    oracle.left_store(&kept);
                }
            }
            StoreCommand::KeepSession { session, record } => {
                self.sessions.insert(session, record);
            }
            StoreCommand::ForgetSession { session } => drop(self.sessions.remove(&session)),
        }
    }
}

fn trim(kept: &mut StoredChannel, oldest: u64, oracle: &mut Oracle) {
    let gone = kept.rounds.iter().take_while(|round| round.last() < oldest).count();
    for round in kept.rounds.drain(..gone) {
        oracle.trimmed(&kept.channel, kept.epoch.as_str(), round.last(), kept.top);
    }
}

/// The driver's side.
impl World {
    /// A hub wants something kept.
    pub(crate) fn store(&mut self, hub: usize, command: StoreCommand) {
        self.digest.number(hub as u64);
        self.store.waiting.push_back((hub, command));
        self.begin_group();
    }

    fn begin_group(&mut self) {
        if !self.store.busy && !self.store.waiting.is_empty() {
            self.store.busy = true;
            self.plan_step(Event::Write(self.life));
        }
    }

    fn plan_step(&mut self, event: Event) {
        let time = self.store.random.below(self.options.store_us * MICRO + 1);
        self.agenda.plan(self.clock.nanos + time, event);
    }

    /// Whether the process is to end here, and does.
    fn crashes(&mut self, here: Crash) -> bool {
        let crashes = self.store.crash == Some(here) && !self.healing;
        if crashes {
            self.restart();
        }
        crashes
    }

    /// Everything that waits is one group, or as much of it as a group takes.
    pub(crate) fn write(&mut self, life: u64) {
        if life != self.life || self.crashes(Crash::BetweenGroups) {
            return;
        }
        let most = if self.store.random.chance(800) { usize::MAX } else { 2 };
        let count = self.store.waiting.len().min(most);
        self.store.group = self.store.waiting.drain(..count).collect();
        self.plan_step(Event::Commit(life));
    }

    /// The group is kept, or is not.
    pub(crate) fn commit(&mut self, life: u64) {
        if life != self.life || self.crashes(Crash::BeforeCommit) {
            return;
        }
        let group = mem::take(&mut self.store.group);
        let kept = self.healing || !self.store.random.chance(self.options.store_fail_pm);
        let asked = |(hub, command): &(usize, StoreCommand)| match command {
            StoreCommand::Append { id, .. } => Some((*hub, *id)),
            _ => None,
        };
        let asked: Vec<_> = group.iter().filter_map(asked).collect();
        let commands = group.into_iter().map(|(_, command)| command);
        if kept {
            let all = mem::take(&mut self.store.put_off).into_iter().chain(commands);
            all.for_each(|command| self.store.disk.carry_out(command, &mut self.oracle));
        } else {
            let appends = |command: &StoreCommand| matches!(command, StoreCommand::Append { .. });
            self.store.put_off(commands.filter(|command| !appends(command)));
        }
        if !self.crashes(Crash::BeforeAnswer) {
            self.answer_group(&asked, kept);
        }
    }

    fn answer_group(&mut self, asked: &[(usize, AppendId)], kept: bool) {
        let life = self.life;
        for hub in 0..self.nodes.len() {
            let of_it = asked.iter().filter(|(from, _)| *from == hub);
            let events: Vec<_> =
                of_it.map(|(_, id)| StoreEvent::Appended { id: *id, kept }).collect();
            if events.is_empty() {
                continue;
            }
            if self.store.random.chance(500) && self.crashes(Crash::AmongAnswers) {
                return;
            }
            let delay = self.store.random.below(self.options.store_us * MICRO + 1);
            let at = self.store.answers_at[hub].max(self.clock.nanos + delay);
            self.store.answers_at[hub] = at;
            self.store.answers[hub].push_back(events);
            self.agenda.plan(at, Event::Kept { hub, life });
        }
        self.store.busy = false;
        self.begin_group();
    }

    /// A hub hears what became of its appends.
    pub(crate) fn kept(&mut self, hub: usize, life: u64) {
        if life != self.life {
            return;
        }
        let events = self.store.answers[hub].pop_front().unwrap_or_default();
        self.digest.number(events.len() as u64);
        for event in events {
            self.nodes[hub].hub.handle_store(self.clock.now(), event);
        }
        self.plan_turn(hub);
    }
}
