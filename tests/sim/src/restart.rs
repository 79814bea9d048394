//! The process ends, at any moment, and another one is started.

use std::{collections::BTreeMap, sync::Arc};

use mahavishnu_core::{
    entropy::Seed,
    hub::{Hub, Output, Place, Placement, ShardId, StoreEvent},
};

use crate::{
    driver::Node,
    store::Crash,
    world::{Event, World},
};

impl World {
    /// A restart is due: at once, or at some point of the next write.
    pub(crate) fn plan_restart(&mut self) {
        if self.healing {
            return;
        }
        let point = match self.restarting.below(6) {
            0 => Some(Crash::BeforeCommit),
            1 => Some(Crash::BeforeAnswer),
            2 => Some(Crash::AmongAnswers),
            3 => Some(Crash::BetweenGroups),
            _ => None,
        };
        match point.filter(|_| self.options.store == 1) {
            Some(point) => self.store.crash = Some(point),
            None => self.restart(),
        }
    }

    /// All hubs are gone at once, with all that they knew; sockets die. New ones are told what the store has.
    pub(crate) fn restart(&mut self) {
        let now = self.clock.now();
        self.story.say(self.clock.nanos, "RESTART");
        for node in &mut self.nodes {
            // What was counted and not told would be missing in the world's books.
            while let Some(output) = node.hub.poll_output(now) {
                self.tally.connected += u64::from(matches!(output, Output::Connected { .. }));
            }
            node.report(&self.counts, now.mono);
        }
        self.life += 1;
        self.counts.begin_anew();
        self.tally.disconnected = self.tally.connected;
        self.app.forget();
        self.acts.forget();
        self.oracle.heard_nothing_more();
        self.store.process_ends();
        self.drop_links();
        let kept = self.store.disk.channels.values();
        let kept = kept.map(|kept| (kept.channel.to_string(), kept.epoch.as_str().to_owned()));
        let kept: BTreeMap<String, String> = kept.collect();
        self.oracle.restarted(&kept);
        self.clients.iter_mut().for_each(|client| client.remembered.clear());

        let shards = self.nodes.len();
        let config = Arc::new(self.options.config(self.generation));
        let hub = |at: usize| Hub::new(config.clone(), self.place(at), now);
        self.nodes = (0..shards).map(|at| Node::new(hub(at), shards)).collect();
        let placement = Placement::new(self.place(0));
        if self.options.store == 1 {
            for event in self.store.contents() {
                let home = match &event {
                    StoreEvent::Channel(stored) => placement.home(&stored.channel),
                    StoreEvent::Session { session, .. } => placement.session_home(*session),
                    StoreEvent::Appended { .. } => continue,
                };
                self.nodes[usize::from(home.0)].hub.handle_store(now, event);
            }
        }
        (0..shards).for_each(|hub| self.plan_turn(hub));
    }

    /// The place of a hub in the present process: each is started with a seed of its own.
    pub(crate) fn place(&self, hub: usize) -> Place {
        Place {
            shard: ShardId(hub as u16),
            shards: self.nodes.len() as u16,
            seed: Seed::from(self.options.seed.wrapping_add(self.life << 40)),
        }
    }

    /// The sockets of a process that has ended: what the kernel has of them may still arrive, or does not.
    fn drop_links(&mut self) {
        for link in 0..self.links.len() {
            let end = &mut self.links[link];
            end.conn = None;
            end.up.free_memory();
            if end.down.fin {
                continue;
            }
            end.down.fin = true;
            if self.restarting.chance(500) {
                let at = end.down.arrival(self.clock.nanos, end.latency);
                self.agenda.plan(at, Event::FinToClient(link));
            } else {
                self.drop_client_side(link);
            }
        }
    }
}
