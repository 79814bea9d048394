//! The other hubs of the process: what goes to them, what is under way, and what they have.

mod credit;
mod message;

use self::credit::Credits;
pub use self::message::ShardMessage;
pub(super) use self::{
    credit::{Withheld, bit},
    message::{Census, Inner, Joiner, PublishOnce, Ticket, publish_weight, round_weight},
};
use super::{
    env::Env,
    types::{Place, Published, ShardId},
};

/// The other hubs as this one knows them.
#[derive(Debug)]
pub(super) struct Peers {
    place: Place,
    /// Messages for them, by hub; handed out once per turn.
    batches: Vec<Vec<ShardMessage>>,
    credits: Credits,
    /// What each hub has; of this hub's own entry only the connections are current.
    census: Vec<Census>,
    /// What each hub was last told of this one's.
    told: Vec<Census>,
}

impl Peers {
    pub(super) fn new(place: Place) -> Self {
        let shards = usize::from(place.shards.max(1));
        Self {
            place,
            batches: (0..shards).map(|_| Vec::new()).collect(),
            credits: Credits::new(shards),
            census: vec![Census::default(); shards],
            told: vec![Census::default(); shards],
        }
    }

    /// Puts a message for another hub into its batch, on credit.
    pub(super) fn send(&mut self, env: &Env, to: ShardId, message: Inner) {
        let (weight, firm) = (message.weight(), message.is_firm());
        if self.put(to, message) {
            self.credits.charge(to, weight, env.config.limits.shards.shard_queue_bytes_max);
            if firm {
                self.credits.note_firm(to, weight);
            }
        }
    }

    /// Puts a message into a batch whose credit was [charged](Self::charge_all) already.
    pub(super) fn send_charged(&mut self, to: ShardId, message: Inner) {
        self.put(to, message);
    }

    fn put(&mut self, to: ShardId, message: Inner) -> bool {
        let batch = self.batches.get_mut(usize::from(to.0));
        batch.map(|batch| batch.push(ShardMessage(message))).is_some()
    }

    /// The next batch to hand out.
    pub(super) fn next_batch(&mut self) -> Option<(ShardId, Vec<ShardMessage>)> {
        let mut batches = self.batches.iter_mut().zip(0u16..);
        let (batch, shard) = batches.find(|(batch, _)| !batch.is_empty())?;
        Some((ShardId(shard), std::mem::take(batch)))
    }
}

/// Credit.
impl Peers {
    /// The hubs to which no more should be sent that can be refused: a bit for each.
    pub(super) fn full(&self) -> u64 {
        self.credits.full()
    }

    pub(super) fn is_full(&self, shard: ShardId) -> bool {
        self.credits.is_full(shard)
    }

    /// The hubs because of which the answers to publishes that could not be refused are withheld.
    pub(super) fn clogged(&self, env: &Env) -> u64 {
        match self.credits.full() {
            0 => 0,
            _ => self.credits.clogged(env.config.limits.shards.shard_queue_bytes_max),
        }
    }

    /// So much more is under way to each hub of a mask.
    pub(super) fn charge_all(&mut self, env: &Env, mask: u64, bytes: usize) {
        if mask != 0 {
            self.credits.charge_all(mask, bytes, env.config.limits.shards.shard_queue_bytes_max);
        }
    }

    /// Done with bytes of another hub.
    pub(super) fn owe(&mut self, shard: ShardId, bytes: usize) {
        self.credits.owe(shard, bytes);
    }

    /// Done with a publish of another hub that could not be refused.
    pub(super) fn owe_firm(&mut self, shard: ShardId, bytes: usize) {
        self.credits.owe_firm(shard, bytes);
    }

    /// Keeps the answer to a publish that was carried out though hubs were full.
    pub(super) fn withhold(
        &mut self,
        full: u64,
        ticket: Ticket,
        published: Published,
        bytes: usize,
    ) {
        self.credits.withhold(full, ticket, published, bytes);
    }

    /// Another hub is done with what it was sent, or need not be sent it. The answers that this sets free.
    #[must_use]
    pub(super) fn done(
        &mut self,
        env: &Env,
        from: ShardId,
        bytes: (usize, usize),
    ) -> Vec<Withheld> {
        self.credits.refund(from, bytes, env.config.limits.shards.shard_queue_bytes_max);
        self.release(env)
    }

    /// A limit may have changed. The answers that this sets free.
    #[must_use]
    pub(super) fn review(&mut self, env: &Env) -> Vec<Withheld> {
        let max = env.config.limits.shards.shard_queue_bytes_max;
        for shard in self.place.others() {
            self.credits.charge(shard, 0, max);
            self.credits.refund(shard, (0, 0), max);
        }
        self.release(env)
    }

    fn release(&mut self, env: &Env) -> Vec<Withheld> {
        let max = env.config.limits.shards.shard_queue_bytes_max;
        let released = self.credits.take_released(max);
        for one in &released {
            self.credits.owe_firm(one.ticket.shard, one.bytes);
        }
        released
    }

    /// Gives credit back to the other hubs, along with other messages or when it has become much.
    pub(super) fn give_back(&mut self, env: &Env) {
        let max = env.config.limits.shards.shard_queue_bytes_max;
        for (batch, shard) in self.batches.iter_mut().zip(0u16..) {
            let back = self.credits.give_back(ShardId(shard), batch.is_empty(), max);
            if let Some((bytes, firm)) = back {
                batch.push(ShardMessage(Inner::Done { bytes, firm }));
            }
        }
    }

    /// Bytes sent to a hub and not given back, and bytes of it that are done with and not given back.
    pub(super) fn credit(&self, with: ShardId) -> (usize, usize) {
        self.credits.with(with)
    }

    /// Publishes that were carried out and are not answered yet, because a hub takes nothing in.
    pub(super) fn withheld(&self) -> usize {
        self.credits.withheld()
    }

    /// Counts what changed since the last turn.
    pub(super) fn end_turn(&mut self, env: &mut Env) {
        env.tally.under_way += std::mem::take(&mut self.credits.change);
    }
}

/// Census.
impl Peers {
    /// A connection is open from now on.
    pub(super) fn opened(&mut self) {
        self.count(|own| own.open += 1);
    }

    /// One less is.
    pub(super) fn closed(&mut self) {
        self.count(|own| own.open -= 1);
    }

    /// One more was welcomed.
    pub(super) fn welcomed(&mut self) {
        self.count(|own| own.total += 1);
    }

    fn count(&mut self, change: impl FnOnce(&mut Census)) {
        if let Some(own) = self.census.get_mut(usize::from(self.place.shard.0)) {
            change(own);
        }
    }

    /// What another hub has.
    pub(super) fn learn(&mut self, of: ShardId, census: Census) {
        if let Some(slot) = self.census.get_mut(usize::from(of.0)) {
            *slot = census;
        }
    }

    /// Tells the other hubs what there is here, if that changed. One that takes nothing in is told later.
    pub(super) fn tell_census(&mut self, env: &Env, sockets: usize, channels: usize) {
        let own = self.own(sockets, channels);
        for shard in self.place.others() {
            let full = self.is_full(shard);
            let told = self.told.get_mut(usize::from(shard.0));
            if let Some(told) = told.filter(|told| **told != own && !full) {
                *told = own;
                self.send(env, shard, Inner::Census(own));
            }
        }
    }

    /// What this hub has, with so many sockets and channels at home.
    pub(super) fn own(&self, sockets: usize, channels: usize) -> Census {
        let counted = self.census.get(usize::from(self.place.shard.0)).copied().unwrap_or_default();
        Census {
            sockets: u32::try_from(sockets).unwrap_or(u32::MAX),
            channels: u32::try_from(channels).unwrap_or(u32::MAX),
            ..counted
        }
    }

    /// WebSocket connections on all hubs, as far as this one knows.
    pub(super) fn open(&self) -> u64 {
        self.census.iter().map(|census| u64::from(census.open)).sum()
    }

    /// WebSocket connections ever, on all hubs.
    pub(super) fn total(&self) -> u64 {
        self.census.iter().map(|census| census.total).sum()
    }

    /// Sockets on the other hubs.
    pub(super) fn sockets(&self) -> usize {
        self.census.iter().map(|census| census.sockets as usize).sum()
    }

    /// Channels that are at home on the other hubs.
    pub(super) fn channels(&self) -> usize {
        self.census.iter().map(|census| census.channels as usize).sum()
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, env: &Env, open: usize) {
        assert_eq!(self.own(0, 0).open as usize, open, "open connections");
        self.credits.check(env.config.limits.shards.shard_queue_bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hub::{
            testing::{OTHER, conn, env},
            types::Publication,
            visitors::Who,
        },
    };

    fn exit() -> Inner {
        Inner::Exit { who: Who::Everyone, conn: conn(0) }
    }

    #[test]
    fn a_batch_is_handed_out_once_and_charged() {
        let env = env(Config::default());
        let mut peers = Peers::new(env.place);
        peers.send(&env, OTHER, exit());
        peers.send(&env, OTHER, exit());

        let (to, batch) = peers.next_batch().unwrap();

        assert_eq!((to, batch.len()), (OTHER, 2));
        assert!(peers.next_batch().is_none());
        assert_eq!(peers.credit(OTHER).0, batch.iter().map(ShardMessage::weight).sum::<usize>());
    }

    #[test]
    fn the_census_is_told_when_it_has_changed() {
        let env = env(Config::default());
        let mut peers = Peers::new(env.place);
        peers.tell_census(&env, 0, 0);
        assert!(peers.next_batch().is_none());

        peers.opened();
        peers.tell_census(&env, 1, 0);
        peers.tell_census(&env, 1, 0);

        let (_, batch) = peers.next_batch().unwrap();
        assert!(matches!(
            batch[..],
            [ShardMessage(Inner::Census(Census { open: 1, sockets: 1, .. }))]
        ));
        peers.check(&env, 1);
    }

    #[test]
    fn what_was_withheld_is_released_when_there_is_room() {
        let mut config = Config::default();
        config.limits.shards.shard_queue_bytes_max = 1;
        let env = env(config);
        let mut peers = Peers::new(env.place);
        peers.send(&env, OTHER, exit());
        assert!(peers.is_full(OTHER));
        let ticket = Ticket { shard: OTHER, index: 0, generation: 0, item: 0 };
        peers.withhold(peers.full(), ticket, Published::default(), 10);

        let under_way = peers.credit(OTHER).0;
        assert!(peers.done(&env, OTHER, (under_way - 1, 0)).is_empty());
        let released = peers.done(&env, OTHER, (1, 0));

        assert_eq!(released.len(), 1);
        assert_eq!((peers.withheld(), peers.credit(OTHER)), (0, (0, 10)));
        peers.check(&env, 0);
    }

    #[test]
    fn no_answer_is_withheld_because_of_one_that_is_withheld_elsewhere() {
        let mut config = Config::default();
        config.limits.shards.shard_queue_bytes_max = 1;
        let env = env(config);
        let mut peers = Peers::new(env.place);
        let ticket = Ticket { shard: env.place.shard, index: 0, generation: 0, item: 0 };
        let publication = Publication::new("c", "e", "{}");
        peers.send(&env, OTHER, Inner::Publish { ticket, firm: true, held: 0, publication });

        assert!(peers.is_full(OTHER), "nothing more is sent there");
        assert_eq!(peers.clogged(&env), 0, "but what comes from there is answered");
        peers.send(&env, OTHER, exit());
        assert_eq!(peers.clogged(&env), bit(OTHER));

        let under_way = peers.credit(OTHER).0;
        let exit = exit().weight();
        assert!(peers.done(&env, OTHER, (exit, 0)).is_empty());
        assert_eq!(peers.clogged(&env), 0);
        assert!(peers.done(&env, OTHER, (under_way - exit, under_way - exit)).is_empty());
        peers.check(&env, 0);
    }
}
