//! One run: a safety phase under faults, then healing, convergence, and the end.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use mahavishnu_core::hub::{Command, DrainPlan};

use crate::{
    client::{Client, Kind, Pending, Phase, Wishes},
    clock::{MILLI, Nanos, SECOND},
    invariants, message,
    oracle::Violation,
    sabotage::{Sabotage, Wrong},
    swarm::Options,
    world::World,
};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What went wrong first, if anything did.
    pub violation: Option<Violation>,
    /// A digest of all inputs and outputs.
    pub digest: u64,
    /// Publications that reached a client.
    pub deliveries: u64,
    /// Gaps that were announced.
    pub gaps: u64,
    /// Connections that were welcomed.
    pub connections: u64,
    /// Publishers that were told that the server is busy.
    pub busy: u64,
    /// Events that happened.
    pub steps: u64,
    /// Virtual time.
    pub nanos: u64,
    /// What happened, if it was asked for.
    pub story: String,
}

/// Runs a world. `wrong` sabotages it, to show that the oracle bites.
#[must_use]
pub fn run(options: &Options, wrong: Wrong, verbose: bool) -> Report {
    let mut world = World::new(options, Sabotage::new(wrong), Arc::default(), verbose);
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| world.live())) {
        world.oracle.fail("panic", || words_of(&*cause));
    }
    Report {
        violation: world.oracle.violation.clone(),
        digest: world.digest.value(),
        deliveries: world.oracle.deliveries,
        gaps: world.oracle.gaps,
        connections: world.tally.connected,
        busy: world.oracle.busy,
        steps: world.steps,
        nanos: world.clock.nanos,
        story: std::mem::take(&mut world.story.text),
    }
}

/// What a panic said.
pub(crate) fn words_of(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default()
}

impl World {
    fn live(&mut self) {
        let (duration, steps) = (self.options.duration_ms * MILLI, self.options.steps_max);
        self.run(duration, steps);
        self.heal();
        for attempt in 0.. {
            self.converge();
            self.read_documents();
            if self.probe() || self.oracle.violation.is_some() {
                break;
            }
            if attempt == 3 {
                let missing = self.missing();
                let held: Vec<_> = self.nodes.iter().map(|node| node.hub.holdings()).collect();
                self.oracle
                    .fail("convergence", || format!("probes do not arrive: {missing} {held:?}"));
            }
        }
        if self.oracle.violation.is_none() {
            self.check_heard();
        }
        match self.options.ending {
            0 => self.leave(),
            1 => self.drain(Duration::ZERO),
            _ => self.drain(Duration::from_secs(2)),
        }
        if self.oracle.violation.is_none() {
            invariants::at_the_end(self);
        }
    }

    fn run_for(&mut self, time: Nanos) {
        self.run(self.clock.nanos + time, u64::MAX);
    }

    /// No more faults. Those who make trouble leave, everybody else does what is right from now on.
    fn heal(&mut self) {
        self.healing = true;
        self.app.healing = true;
        self.app_heals();
        self.story.say(self.clock.nanos, "HEAL");
        for client in 0..self.clients.len() {
            let who = &mut self.clients[client];
            who.healing = true;
            who.paused = false;
            let Some(link) = who.link else { continue };
            match who.kind {
                Kind::Hostile | Kind::Storming => self.drop_client_side(link),
                Kind::Subscriber | Kind::Publisher | Kind::Poster | Kind::Sluggard => {
                    self.client_reads(link);
                }
            }
        }
    }

    /// Waits until everybody has what he wants.
    fn converge(&mut self) {
        for _ in 0..CONVERGENCE_SECONDS {
            self.run_for(SECOND);
            if self.oracle.violation.is_some() || self.is_converged() {
                return;
            }
        }
        let missing = self.missing();
        match self.wrong_list().filter(|_| self.has_everybody()) {
            Some(wrong) => self.oracle.fail("members", || wrong),
            None => self.oracle.fail("convergence", || missing),
        }
    }

    fn is_converged(&self) -> bool {
        self.has_everybody() && self.wrong_list().is_none()
    }

    /// A list of members that is not as it should be.
    fn wrong_list(&self) -> Option<String> {
        // Where there is not room for all, some come and go for ever.
        if self.options.attend_pm == 0 || self.options.connections_max > 0 {
            return None;
        }
        (0..self.options.channels).find_map(|channel| {
            let member = |client: &Client| {
                let by = client.attending.by(channel)?;
                Some((client.attending.name.clone(), by.info()?))
            };
            let there: BTreeMap<String, u64> = self.clients.iter().filter_map(member).collect();
            self.clients.iter().find_map(|client| {
                let list = client.attending.list(channel)?;
                let heard = list.members.iter().map(|(name, heard)| (name.clone(), heard.info));
                let heard: BTreeMap<String, u64> = heard.collect();
                let right = list.complete && !list.is_suspect && heard == there;
                (!right).then(|| {
                    let (who, complete) = (client.index, list.complete);
                    format!("client {who} knows {heard:?} in channel {channel}, complete: {complete}, there are {there:?}")
                })
            })
        })
    }

    fn has_everybody(&self) -> bool {
        self.clients.iter().all(|client| {
            if client.kind == Kind::Poster {
                return client.asked.is_none() || client.link.is_none();
            }
            if !client.is_good() {
                return true;
            }
            let members = client.wanted.iter().zip(&client.members);
            let answered = client.pending.is_empty()
                && members.into_iter().all(|(wanted, member)| *wanted == member.on);
            // Where there is not room for all, some stay outside.
            let outside = self.options.connections_max > 0 && !self.is_open(client.index);
            outside || (answered && self.is_open(client.index))
        })
    }

    /// Who has not got what he wants.
    fn missing(&self) -> String {
        let bad = self.clients.iter().filter(|client| {
            let members = client.wanted.iter().zip(&client.members);
            client.is_good()
                && (!self.is_open(client.index)
                    || !client.pending.is_empty()
                    || members.into_iter().any(|(wanted, member)| *wanted != member.on))
        });
        let describe = |client: &Client| {
            let conn = client.link.map(|link| self.links[link].conn);
            let on: Vec<bool> = client.members.iter().map(|member| member.on).collect();
            format!(
                "client {} ({:?}, {:?}, {conn:?}) wants {:?}, has {on:?}, waits for {} answers, first {:?}",
                client.index,
                client.kind,
                client.phase,
                client.wanted,
                client.pending.len(),
                client.pending.first_key_value()
            )
        };
        bad.map(describe).take(3).collect::<Vec<_>>().join("; ")
    }

    /// Everybody reads a document: it must be the last one.
    fn read_documents(&mut self) {
        for client in 0..self.clients.len() {
            let who = &mut self.clients[client];
            let readable = self.options.state_pm > 0 && who.is_good() && who.phase == Phase::Open;
            if let Some(link) = who.link.filter(|_| readable) {
                let mut wishes = Wishes::default();
                let channel = client as u64 % self.options.channels;
                who.read_document(channel, &self.oracle, &mut wishes);
                self.grant_now(link, wishes);
            }
        }
        for _ in 0..PROBE_SECONDS {
            let open = self.clients.iter().any(|client| client.is_reading());
            if !open || self.oracle.violation.is_some() {
                return;
            }
            self.run_for(SECOND);
        }
    }

    /// Publishes once to every channel: each subscriber must get it, and a pong besides.
    fn probe(&mut self) -> bool {
        let mut probes: Vec<u32> =
            (0..self.options.channels).map(|channel| self.publish(channel)).collect();
        let pongs: Vec<u64> = self.clients.iter().map(|client| client.pongs).collect();
        let open: Vec<usize> = (0..self.clients.len()).filter(|c| self.is_open(*c)).collect();
        for client in &open {
            let mut wishes = Wishes::default();
            let who = &mut self.clients[*client];
            if who.is_good()
                && let Some(link) = who.link
            {
                who.ask(Pending::Ping, message::ping, &mut wishes);
                self.grant_now(link, wishes);
            }
        }
        for _ in 0..PROBE_SECONDS {
            self.run_for(SECOND);
            for channel in 0..self.options.channels {
                // What earlier faults left behind may still be under way.
                if self.oracle.is_refused(probes[channel as usize]) {
                    probes[channel as usize] = self.publish(channel);
                }
            }
            let arrived = open.iter().map(|client| &self.clients[*client]).all(|client| {
                let members = client.members.iter().zip(&probes);
                !client.is_good()
                    || (client.pongs > pongs[client.index]
                        && members
                            .into_iter()
                            .all(|(member, probe)| !member.on || member.last == Some(*probe)))
            });
            if arrived || self.oracle.violation.is_some() {
                return true;
            }
        }
        false
    }

    /// All clients leave, each in his own way.
    fn leave(&mut self) {
        self.closing_time = true;
        for client in 0..self.clients.len() {
            let Some(link) = self.clients[client].link else { continue };
            if client % 2 == 0 {
                self.drop_client_side(link);
            } else {
                self.grant_now(link, Wishes { fin: true, ..Wishes::default() });
            }
        }
        self.come_to_rest();
    }

    /// The server stops.
    fn drain(&mut self, window: Duration) {
        self.closing_time = true;
        self.draining = true;
        self.oracle.draining = true;
        let open: Vec<usize> = (0..self.clients.len()).filter(|c| self.is_open(*c)).collect();
        // What is published at the last moment still arrives. Another hub may have closed its clients before it hears of it,
        // and where there is a store it has to be kept before.
        let last = (self.nodes.len() == 1 && self.options.store == 0).then(|| self.publish(0));
        let plan = DrainPlan {
            window,
            deadline: window + Duration::from_secs(10),
            ..DrainPlan::default()
        };
        for hub in 0..self.nodes.len() {
            self.command(hub, Command::Drain(plan));
        }
        self.run_for(plan.deadline.as_nanos() as Nanos + SECOND);
        if let Some(hub) = self.nodes.iter().position(|node| !node.drained) {
            let held = self.nodes[hub].hub.holdings();
            self.oracle.fail("drain", || format!("hub {hub} is not drained: {held:?}"));
        }
        for client in open {
            let (code, link) = (self.clients[client].close_code, self.clients[client].link);
            // Who is one too many may have been welcomed before that was known, and what waits for all may be too much.
            // So is who has come and of whom the application has not said in time who it is, and who is told of more members
            // that leave than its outbox holds, where that ends a connection.
            let (by_policy, attended) =
                (matches!(self.options.slow_policy, 0 | 3), self.options.attend_pm > 0);
            let tight = self.options.connections_max > 0
                || self.options.queued_bytes < 1 << 20
                || self.options.ask_whose == 1
                || by_policy && attended;
            let too_many = tight && code == Some(1013);
            if self.clients[client].is_good() && code != Some(1001) && !too_many {
                self.oracle
                    .fail("drain", || format!("client {client} got {code:?}, link {link:?}"));
            }
            let heard = self.clients[client].last_at_close;
            if self.clients[client].is_good() && heard.is_some() && heard != last.or(heard) {
                self.oracle.fail("drain", || format!("client {client} lost {last:?}: {heard:?}"));
            }
        }
        self.come_to_rest();
    }

    /// Until no hub holds a socket, but not for ever.
    fn come_to_rest(&mut self) {
        for _ in 0..SETTLE_SECONDS {
            self.run_for(SECOND);
            let held: usize = self.nodes.iter().map(|node| node.hub.sockets()).sum();
            if self.oracle.violation.is_some() || held == 0 {
                break;
            }
        }
        // Questions to the application and messages between hubs outlive their connections.
        self.run_for(self.options.request_ms * MILLI * (self.options.channels + 1) + SECOND);
        if self.options.sessions_pm > 0 {
            // Sessions outlive their connections, and members their sessions by a second.
            self.run_for(self.options.session_ms * MILLI + 3 * SECOND);
        }
    }
}

/// The narrowest sockets of the slowest networks need minutes for what a publisher left behind.
const CONVERGENCE_SECONDS: u64 = 900;
const PROBE_SECONDS: u64 = 30;
const SETTLE_SECONDS: u64 = 400;
