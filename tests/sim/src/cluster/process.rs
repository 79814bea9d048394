//! A process: hubs, what they send each other, and their links.

use std::collections::{BTreeMap, VecDeque};

use mahavishnu_core::hub::Listener;
use mahavishnu_core::{
    entropy::Seed,
    hub::{Command, ConnId, Hub, Output, Peer, Place, ShardId, ShardMessage},
};
use mahavishnu_links::Link;
use std::sync::Arc;

use super::{
    redis::Wire,
    world::{Event, World},
};
use crate::{
    clock::{MICRO, Nanos},
    http,
    turn::turn,
};

#[derive(Debug)]
pub(super) struct Process {
    /// Which of the processes in this place.
    pub(super) life: u64,
    pub(super) hubs: Vec<Shard>,
    /// It stands still until then.
    pub(super) frozen_until: Nanos,
    /// What has come meanwhile, in its order.
    pub(super) held: Vec<Event>,
    /// No connection to Redis can be made until then.
    pub(super) dark_until: Nanos,
    /// It has ended; a new one begins then.
    pub(super) dead: bool,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) hub: Hub,
    pub(super) wire: Wire,
    conns: BTreeMap<ConnId, (usize, u64)>,
    turn_planned: bool,
    timer_at: Option<Nanos>,
    mail: Vec<VecDeque<Vec<ShardMessage>>>,
    mail_at: Vec<Nanos>,
}

impl Process {
    pub(super) fn new(world: &World, node: usize, life: u64) -> Self {
        let options = &world.options;
        let now = world.clock.now();
        let seed = options.seed.wrapping_mul(64).wrapping_add(node as u64 * 8 + 1) ^ (life << 40);
        let config = options.config(node as u64);
        let shard = |shard: u64| {
            let place = Place {
                shard: ShardId(shard as u16),
                shards: options.shards as u16,
                seed: Seed::from(seed),
            };
            let link_config = Arc::new(world.link_config(node));
            let link_seed = Seed::from(seed ^ (0x11 + shard) << 32);
            let link = Link::new(link_config, place.node(), shard as u16, link_seed, now);
            Shard {
                hub: Hub::new(config.clone(), place, now),
                wire: Wire::new(link),
                conns: BTreeMap::new(),
                turn_planned: false,
                timer_at: None,
                mail: (0..options.shards).map(|_| VecDeque::new()).collect(),
                mail_at: vec![0; options.shards as usize],
            }
        };
        let hubs = (0..options.shards).map(shard).collect();
        Self { life, hubs, frozen_until: 0, held: Vec::new(), dark_until: 0, dead: false }
    }
}

/// Hubs.
impl World {
    /// A process ends without a word; another one begins in its place.
    pub(super) fn kill(&mut self, node: usize, time: Nanos) {
        if self.nodes[node].dead {
            return;
        }
        for shard in 0..self.nodes[node].hubs.len() {
            self.cut_link(node, shard);
        }
        self.nodes[node].dead = true;
        for client in 0..self.clients.len() {
            if !self.clients[client].is_away() && self.clients[client].at.0 == node {
                self.clients[client].lost(self.clock.nanos);
            }
        }
        let life = self.nodes[node].life + 1;
        self.agenda.plan(self.clock.nanos + time, Event::Begin(node, life));
    }

    pub(super) fn begin(&mut self, node: usize, life: u64) {
        self.nodes[node] = Process::new(self, node, life);
        (0..self.nodes[node].hubs.len()).for_each(|shard| self.plan_turn(node, shard));
    }

    /// Whether what was planned is for a process that is there.
    pub(super) fn is_there(&self, node: usize, life: u64) -> bool {
        let process = &self.nodes[node];
        process.life == life && !process.dead
    }

    pub(super) fn plan_turn(&mut self, node: usize, shard: usize) {
        let life = self.nodes[node].life;
        let hub = &mut self.nodes[node].hubs[shard];
        if !std::mem::replace(&mut hub.turn_planned, true) {
            let delay = self.random.below(self.options.turn_us * MICRO + 1);
            self.agenda.plan(self.clock.nanos + delay, Event::Turn(node, life, shard));
        }
    }

    /// A client's bytes arrive. The first ones make the connection.
    pub(super) fn arrive_at_hub(&mut self, client: usize, session: u64, mut bytes: Vec<u8>) {
        let now = self.clock.now();
        let (node, shard) = self.clients[client].at;
        let hub = &mut self.nodes[node].hubs[shard];
        let known = hub.conns.iter().find(|(_, who)| **who == (client, session));
        let conn = match known.map(|(conn, _)| *conn) {
            Some(conn) => conn,
            None => {
                let address = ([127, 0, 0, 1], 50_000).into();
                let Ok(conn) =
                    hub.hub.handle_accept(now, Peer { address, listener: Listener::Main })
                else {
                    return self.oracle.fail("answers", || format!("client {client} is kept out"));
                };
                hub.conns.insert(conn, (client, session));
                conn
            }
        };
        hub.hub.handle_bytes(now, conn, &mut bytes);
        self.plan_turn(node, shard);
    }

    /// Somebody asks a hub whether it is ready.
    pub(super) fn ask_ready(&mut self, node: usize, shard: usize) {
        let now = self.clock.now();
        let address = ([127, 0, 0, 1], 50_000).into();
        let hub = &mut self.nodes[node].hubs[shard];
        let conn = hub.hub.handle_accept(now, Peer { address, listener: Listener::Main });
        let Ok(conn) = conn else { return };
        hub.conns.insert(conn, (NOBODY, (node * 64 + shard) as u64));
        let mut bytes = http::get("/ready");
        hub.hub.handle_bytes(now, conn, &mut bytes);
        hub.hub.handle_eof(now, conn);
        self.plan_turn(node, shard);
    }

    /// A client's connection is gone.
    pub(super) fn reset(&mut self, (node, shard): (usize, usize), client: usize, session: u64) {
        let now = self.clock.now();
        let hub = &mut self.nodes[node].hubs[shard];
        let known = hub.conns.iter().find(|(_, who)| **who == (client, session));
        if let Some(conn) = known.map(|(conn, _)| *conn) {
            hub.conns.remove(&conn);
            hub.hub.handle_io_error(now, conn, std::io::ErrorKind::ConnectionReset);
            self.plan_turn(node, shard);
        }
    }

    pub(super) fn command(&mut self, node: usize, shard: usize, command: Command) {
        let now = self.clock.now();
        self.nodes[node].hubs[shard].hub.handle_command(now, command);
        self.plan_turn(node, shard);
    }

    pub(super) fn mail(&mut self, node: usize, from: usize, to: usize) {
        let now = self.clock.now();
        if let Some(batch) = self.nodes[node].hubs[from].mail[to].pop_front() {
            self.nodes[node].hubs[to].hub.handle_shard(now, ShardId(from as u16), batch);
            self.plan_turn(node, to);
        }
    }

    pub(super) fn timer(&mut self, node: usize, shard: usize) {
        let now = self.clock.now();
        let hub = &mut self.nodes[node].hubs[shard];
        if hub.timer_at.is_none_or(|at| at > self.clock.nanos) {
            return;
        }
        hub.timer_at = None;
        if hub.hub.poll_timeout().is_some_and(|next| next.at <= now.mono) {
            hub.hub.handle_timeout(now);
            if hub.hub.poll_timeout().is_some_and(|next| next.at <= now.mono) {
                self.oracle.fail("timer", || format!("hub {shard} of node {node}: due again"));
            }
        }
        self.wind_link(node, shard);
        self.plan_turn(node, shard);
    }

    /// One turn of a hub and its link, as a driver has it.
    pub(super) fn turn(&mut self, node: usize, shard: usize) {
        self.nodes[node].hubs[shard].turn_planned = false;
        let now = self.clock.now();
        self.heed_link(node, shard);
        turn(
            self,
            now,
            |world| &mut world.nodes[node].hubs[shard].hub,
            |world, output| world.carry_out(node, shard, output),
            |world, conn| world.flush(node, shard, conn),
        );
        // Something may be answered at once, which is another turn.
        if self.heed_link(node, shard) {
            self.plan_turn(node, shard);
        }
        self.flush_link(node, shard);
        let hub = &mut self.nodes[node].hubs[shard];
        let next = hub.hub.poll_timeout().map(|next| next.at);
        let next = next.into_iter().chain(hub.wire.link.poll_timeout()).min();
        if let Some(next) = next {
            let at = self.clock.nanos_of(next).max(self.clock.nanos);
            if hub.timer_at.is_none_or(|planned| at < planned) {
                hub.timer_at = Some(at);
                let life = self.nodes[node].life;
                self.agenda.plan(at, Event::Timer(node, life, shard));
            }
        }
    }

    fn flush(&mut self, node: usize, shard: usize, conn: ConnId) {
        let now = self.clock.now();
        let hub = &mut self.nodes[node].hubs[shard];
        let mut bytes = Vec::new();
        let flush = hub.hub.flush(now, conn, &mut bytes);
        self.digest.number(flush as u64);
        if let Some((client, session)) = hub.conns.get(&conn).copied()
            && !bytes.is_empty()
        {
            self.digest.bytes(&bytes);
            if client == NOBODY {
                self.readiness.insert(session, bytes);
            } else {
                self.send_to_client(client, session, bytes);
            }
        }
    }

    fn carry_out(&mut self, node: usize, shard: usize, output: Output) {
        let now = self.clock.now();
        match output {
            Output::Bus(command) => {
                self.nodes[node].hubs[shard].wire.link.handle_command(now, command);
            }
            Output::Shard { to, batch } => {
                let to = usize::from(to.0);
                let delay = self.random.below(self.options.mail_us * MICRO + 1);
                let life = self.nodes[node].life;
                let hub = &mut self.nodes[node].hubs[shard];
                hub.mail[to].push_back(batch);
                hub.mail_at[to] = hub.mail_at[to].max(self.clock.nanos + delay);
                self.agenda.plan(hub.mail_at[to], Event::Mail(node, life, shard, to));
            }
            Output::Looked { id, result } => {
                let answer = result.ok().and_then(|json| serde_json::from_slice(&json).ok());
                self.looked.insert(id.0, answer.unwrap_or_default());
            }
            Output::Done { id, result } => self.on_done(id.0, result),
            Output::Disconnected { conn, reason } => {
                self.story.ended(self.clock.nanos, node, conn, reason);
                self.nodes[node].hubs[shard].conns.remove(&conn);
            }
            _ => {}
        }
    }
}

/// Who asks for readiness is none of the clients.
const NOBODY: usize = usize::MAX;
