//! What waits for the store: messages that nobody is told of before they are kept. Of each channel one round is under way at
//! most; what is published meanwhile is the next one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    env::Env,
    peers::Ticket,
    store::{AppendId, StoreCommand},
    types::Publication,
};
use crate::{
    entropy::{KeyedMap, KeyedState},
    record,
};

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) publication: Publication,
    /// Who is told what became of it.
    pub(super) ticket: Ticket,
    /// Bytes that its origin is owed then.
    pub(super) credit: Option<usize>,
    /// Its id, and when it was published, in microseconds since the Unix epoch.
    pub(super) id: Uuid,
    pub(super) unix_micros: u64,
    /// The span that it is a part of.
    traceparent: Option<Box<str>>,
}

impl Waiting {
    /// One that is published now.
    pub(super) fn new(
        env: &mut Env,
        ticket: Ticket,
        credit: Option<usize>,
        publication: Publication,
    ) -> Self {
        let id = env.entropy.uuid();
        let unix_micros = u64::try_from(env.now.unix.as_micros()).unwrap_or(u64::MAX);
        let options = publication.options.as_ref();
        let parent = options.and_then(|options| options.traceparent);
        let traceparent = parent.map(|parent| parent.to_string().into());
        Self { publication, ticket, credit, id, unix_micros, traceparent }
    }

    /// As it is kept.
    pub(super) fn message(&self) -> record::Message<'_> {
        record::Message {
            id: self.id,
            unix_micros: self.unix_micros,
            event: &self.publication.event,
            data: std::str::from_utf8(&self.publication.data).unwrap_or("{}"),
            traceparent: self.traceparent.as_deref(),
        }
    }

    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let traceparent = self.traceparent.as_ref().map_or(0, |text| text.len());
        size_of::<Self>() + self.publication.weight() + traceparent
    }
}

/// A channel's messages that wait.
#[derive(Debug, Default)]
struct Queue {
    /// The store has them.
    under_way: Vec<Waiting>,
    next: VecDeque<Waiting>,
}

/// The messages of a hub that wait.
#[derive(Debug)]
pub(super) struct Storing {
    queues: KeyedMap<Arc<str>, Queue>,
    /// Channels that have messages and none under way.
    ready: VecDeque<Arc<str>>,
    /// Whose append it is.
    appends: BTreeMap<AppendId, Arc<str>>,
    last_id: u64,
    /// Bytes of all messages.
    bytes: usize,
    commands: VecDeque<StoreCommand>,
}

impl Storing {
    pub(super) fn new(keys: KeyedState) -> Self {
        Self {
            queues: KeyedMap::with_hasher(keys),
            ready: VecDeque::new(),
            appends: BTreeMap::new(),
            last_id: 0,
            bytes: 0,
            commands: VecDeque::new(),
        }
    }

    /// Whether messages of this channel wait: further ones have to wait behind them.
    pub(super) fn has(&self, channel: &str) -> bool {
        !self.queues.is_empty() && self.queues.contains_key(channel)
    }

    /// Whether as much waits as may.
    pub(super) fn is_full(&self, env: &Env) -> bool {
        self.bytes >= env.config.limits.history.store_queue_bytes_max
    }

    pub(super) fn add(
        &mut self,
        env: &mut Env,
        ticket: Ticket,
        credit: Option<usize>,
        publication: Publication,
    ) {
        let waiting = Waiting::new(env, ticket, credit, publication);
        self.bytes += waiting.weight();
        match self.queues.get_mut(&*waiting.publication.channel) {
            Some(queue) => queue.next.push_back(waiting),
            None => {
                let channel: Arc<str> = (&*waiting.publication.channel).into();
                let queue = Queue { next: [waiting].into(), ..Queue::default() };
                self.ready.push_back(channel.clone());
                self.queues.insert(channel, queue);
            }
        }
    }

    /// The next channel of which a round can be sent to the store.
    pub(super) fn next_ready(&mut self) -> Option<Arc<str>> {
        self.ready.pop_front()
    }

    /// Takes the next messages of a channel, as many as make a round.
    pub(super) fn take(&mut self, channel: &str, round_bytes_max: usize) -> Vec<Waiting> {
        let Some(queue) = self.queues.get_mut(channel) else { return Vec::new() };
        let (mut bytes, mut count) = (0, 0);
        for waiting in &queue.next {
            bytes += waiting.publication.weight();
            if count > 0 && bytes > round_bytes_max {
                break;
            }
            count += 1;
        }
        queue.next.drain(..count).collect()
    }

    /// A message that waits has grown by so much.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// A message is not sent to the store after all.
    pub(super) fn drop_out(&mut self, waiting: &Waiting) {
        self.bytes -= waiting.weight();
    }

    /// These go to the store. The append's name.
    pub(super) fn send(&mut self, channel: &Arc<str>, round: Vec<Waiting>) -> AppendId {
        self.last_id += 1;
        let id = AppendId(self.last_id);
        if let Some(queue) = self.queues.get_mut(channel) {
            queue.under_way = round;
            self.appends.insert(id, channel.clone());
        }
        id
    }

    /// The store has answered.
    pub(super) fn answered(&mut self, id: AppendId) -> Option<(Arc<str>, Vec<Waiting>)> {
        let channel = self.appends.remove(&id)?;
        let round = std::mem::take(&mut self.queues.get_mut(&channel)?.under_way);
        self.bytes -= round.iter().map(Waiting::weight).sum::<usize>();
        Some((channel, round))
    }

    /// Nothing of the channel is under way any more: the next round may go, or nothing waits. Whether that.
    pub(super) fn go_on(&mut self, channel: &Arc<str>) -> bool {
        match self.queues.get(channel) {
            Some(queue) if !queue.next.is_empty() => {
                self.ready.push_back(channel.clone());
                false
            }
            _ => {
                self.queues.remove(channel);
                true
            }
        }
    }

    pub(super) fn command(&mut self, command: StoreCommand) {
        self.commands.push_back(command);
    }

    pub(super) fn next_command(&mut self) -> Option<StoreCommand> {
        self.commands.pop_front()
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        let mut bytes = 0;
        for channel in self.ready.iter().chain(self.appends.values()) {
            let queue = self.queues.get(channel);
            assert!(queue.is_some(), "{channel} is named and has nothing that waits");
            let waiting =
                queue.into_iter().flat_map(|queue| queue.next.iter().chain(&queue.under_way));
            bytes += waiting.map(Waiting::weight).sum::<usize>();
        }
        assert_eq!(self.queues.len(), self.ready.len() + self.appends.len(), "queues");
        assert_eq!(self.bytes, bytes, "bytes that wait for the store");
    }
}
