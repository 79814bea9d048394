//! Nodes on a bus in memory that keeps the contract of `BusCommand` and `BusEvent`, and loses whatever a test wants lost.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a bus is told more, which is not about channels"
)]

mod answering;
mod appends;
mod folding;
mod holes;
mod ingress;
mod interest;
mod nodes;
mod outages;
mod presence;
mod reaching;
mod schedule;
mod server;
mod sessions;
mod verdicts;

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;

use self::server::Server;
use super::*;
use crate::{
    auth::Pattern,
    config,
    protocol::{Epoch, Position},
};

/// The connection of one hub to the bus.
#[derive(Debug, Default)]
struct Link {
    up: bool,
    session: u64,
    /// It is connected to the old one.
    at_old: bool,
    follows: BTreeMap<Arc<str>, (Epoch, Retention)>,
    /// What was sent and is not carried out.
    pending: VecDeque<BusCommand>,
    /// What the bus has told and the hub has not heard.
    told: VecDeque<BusEvent>,
    /// So many live rounds are lost.
    deaf: usize,
    /// What all nodes are told is lost.
    untold: bool,
    /// A round of its own comes before the answer to it.
    push_first: bool,
}

/// Some nodes, each a process with some hubs, and their bus.
struct Nodes {
    rigs: Vec<Rig>,
    /// By node and hub.
    links: BTreeMap<(usize, usize), Link>,
    server: Server,
    /// One that has gone on alone, for those that are still connected to it.
    old: Option<Server>,
    /// The bus does not tell ids with where channels stand.
    terse: bool,
    seeds: u64,
    shards: u16,
    config: Config,
}

fn config() -> Config {
    Config { bus: Some(config::Bus::default()), ..unlimited() }
}

impl Nodes {
    fn new(nodes: usize, shards: u16) -> Self {
        Self::with(nodes, shards, config())
    }

    /// Others, that draw other names and epochs.
    fn strangers(nodes: usize, shards: u16) -> Self {
        Self::all(Self::seeded(nodes, shards, config(), 200))
    }

    /// All of them are connected.
    fn with(nodes: usize, shards: u16, config: Config) -> Self {
        Self::all(Self::away(nodes, shards, config))
    }

    fn all(mut this: Self) -> Self {
        let nodes = this.rigs.len();
        for node in 0..nodes {
            this.up(node);
        }
        this
    }

    /// None of them is connected.
    fn away(nodes: usize, shards: u16, config: Config) -> Self {
        Self::seeded(nodes, shards, config, 100)
    }

    fn seeded(nodes: usize, shards: u16, config: Config, seeds: u64) -> Self {
        let mut this = Self {
            rigs: Vec::new(),
            links: BTreeMap::new(),
            server: Server::default(),
            old: None,
            terse: false,
            seeds,
            shards,
            config,
        };
        let now = Now { mono: Instant::now(), unix: START_UNIX };
        for _ in 0..nodes {
            let rig = this.rig(now);
            this.rigs.push(rig);
        }
        for node in 0..nodes {
            for hub in 0..usize::from(shards) {
                this.links.insert((node, hub), Link::default());
            }
        }
        this
    }

    fn rig(&mut self, now: Now) -> Rig {
        self.seeds += 1;
        Rig::seeded(self.shards, self.config.clone(), self.seeds, now)
    }

    /// A node dies, and another process takes its place.
    fn restart(&mut self, node: usize) {
        self.kill(node);
        let now = self.rigs[node].now;
        self.rigs[node] = self.rig(now);
        self.up(node);
    }

    /// A node is gone; what it had sent may have been carried out.
    fn kill(&mut self, node: usize) {
        self.collect();
        for hub in self.hubs(node) {
            self.links.insert((node, hub), Link::default());
        }
    }

    fn hubs(&self, node: usize) -> std::ops::Range<usize> {
        0..self.rigs[node].hubs.len()
    }

    fn link(&mut self, node: usize, hub: usize) -> &mut Link {
        self.links.get_mut(&(node, hub)).unwrap()
    }

    /// The hub at which a channel is at home on a node.
    fn home(&self, node: usize, channel: &str) -> usize {
        usize::from(self.rigs[node].hubs[0].hub().homes.of(channel).0)
    }
}

/// What happens on the bus.
impl Nodes {
    /// Takes what the hubs have for the bus.
    fn collect(&mut self) {
        for (node, rig) in self.rigs.iter_mut().enumerate() {
            for (hub, command) in std::mem::take(&mut rig.commands) {
                let link = self.links.get_mut(&(node, hub)).unwrap();
                link.remember(&command);
                if link.up {
                    link.pending.push_back(command);
                } else if let Some(event) = answer(&command, BusError::Away) {
                    link.told.push_back(event);
                }
            }
        }
    }

    /// Carries out the next command of a hub. False if there is none.
    fn execute(&mut self, node: usize, hub: usize) -> bool {
        let Some(command) = self.link(node, hub).pending.pop_front() else { return false };
        self.server.now = Some(self.rigs[node].now.mono);
        let (push_first, at_old) = (self.link(node, hub).push_first, self.link(node, hub).at_old);
        let server = match &mut self.old {
            Some(old) if at_old => old,
            _ => &mut self.server,
        };
        let (mut reply, pushed) = server.execute(&command);
        if let Some(BusEvent::Channel(ChannelEvent::Appended { result: Ok(appended), .. })) =
            &mut reply
            && let Some((channel, _)) = pushed.first()
        {
            let links = self.links.values().filter(|link| link.up && link.at_old == at_old);
            let told = links.filter(|link| link.follows.contains_key(channel)).count();
            appended.nodes = u32::try_from(told).unwrap();
        }
        self.tell_all(&command);
        if !push_first {
            self.link(node, hub).told.extend(reply.clone());
        }
        for (channel, live) in pushed {
            for link in self.links.values_mut().filter(|link| link.up && link.at_old == at_old) {
                if link.follows.contains_key(&channel) {
                    if link.deaf > 0 {
                        link.deaf -= 1;
                        continue;
                    }
                    let event = BusEvent::Channel(ChannelEvent::Live {
                        channel: channel.clone(),
                        live: live.clone(),
                    });
                    link.told.push_back(event);
                }
            }
        }
        if push_first {
            self.link(node, hub).told.extend(reply);
        }
        true
    }

    /// What all nodes are told comes to their first hubs.
    fn tell_all(&mut self, command: &BusCommand) {
        let event = match command {
            BusCommand::Tell { message } => {
                BusEvent::Node(NodeEvent::Told { message: message.clone() })
            }
            BusCommand::Control { command, .. } => {
                self.server.orders += 1;
                let at = format!("1-{}", self.server.orders).into();
                BusEvent::Node(NodeEvent::Control { at, command: command.clone() })
            }
            _ => return,
        };
        let first = self.links.iter_mut().filter(|((_, hub), link)| *hub == 0 && link.up);
        for (_, link) in first.filter(|(_, link)| !link.untold) {
            link.told.push_back(event.clone());
        }
    }

    /// Hands a hub the next thing that its bus tells. False if there is none.
    fn tell(&mut self, node: usize, hub: usize) -> bool {
        let Some(event) = self.link(node, hub).told.pop_front() else { return false };
        let rig = &mut self.rigs[node];
        rig.hubs[hub].handle_bus(rig.now, event);
        rig.run();
        true
    }

    /// Everything is carried out and told, until nothing is left.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it does not come to an end");
            self.collect();
            let mut busy = false;
            for (node, hub) in self.links.keys().copied().collect::<Vec<_>>() {
                while self.execute(node, hub) {
                    busy = true;
                }
                while self.tell(node, hub) {
                    busy = true;
                }
            }
            if !busy && self.rigs.iter().all(|rig| rig.commands.is_empty()) {
                return;
            }
        }
    }

    /// The bus is there for a node. Nothing is told yet but that.
    fn up(&mut self, node: usize) {
        for hub in self.hubs(node) {
            self.hub_up(node, hub);
        }
        self.settle();
    }

    fn hub_up(&mut self, node: usize, hub: usize) {
        let link = self.links.get_mut(&(node, hub)).unwrap();
        (link.up, link.session, link.at_old) = (true, link.session + 1, false);
        link.told.push_back(BusEvent::Link(LinkEvent::Up { session: link.session }));
        for (channel, (epoch, _)) in &link.follows {
            let standing = self.server.standing_or_found(channel, *epoch);
            // It is not always told.
            let newest = self.server.newest(channel).filter(|_| !self.terse);
            let channel = channel.clone();
            link.told.push_back(BusEvent::Channel(ChannelEvent::Standing {
                channel,
                standing,
                newest,
            }));
        }
        link.told.push_back(BusEvent::Link(LinkEvent::Reconciled));
    }

    /// The bus is away from a node. Of what was under way as much is carried out as the test wants.
    fn down(&mut self, node: usize) {
        for hub in self.hubs(node) {
            self.hub_down(node, hub);
        }
    }

    fn hub_down(&mut self, node: usize, hub: usize) {
        self.collect();
        let link = self.links.get_mut(&(node, hub)).unwrap();
        link.up = false;
        // Answers that were on the way are lost, and what was told besides.
        let lost = std::mem::take(&mut link.told).into_iter().filter_map(|event| unknown(&event));
        let asked = std::mem::take(&mut link.pending);
        let asked = asked.iter().filter_map(|command| answer(command, BusError::Unknown));
        let told: Vec<_> = lost.chain(asked).chain([BusEvent::Link(LinkEvent::Down)]).collect();
        link.told.extend(told);
        while self.tell(node, hub) {}
    }

    /// The bus says where everything stands, as it does from time to time.
    fn check(&mut self) {
        for link in self.links.values_mut().filter(|link| link.up) {
            let server = match &mut self.old {
                Some(old) if link.at_old => old,
                _ => &mut self.server,
            };
            for (channel, (epoch, _)) in &link.follows {
                let standing = server.standing_or_found(channel, *epoch);
                let channel = channel.clone();
                link.told.push_back(BusEvent::Channel(ChannelEvent::Standing {
                    channel,
                    standing,
                    newest: None,
                }));
            }
        }
        self.settle();
    }

    /// Time passes on all nodes.
    fn wait(&mut self, step: Duration) {
        self.server.pass(step);
        for rig in &mut self.rigs {
            rig.wait(step);
        }
    }
}

impl Link {
    fn remember(&mut self, command: &BusCommand) {
        match command {
            BusCommand::Follow { channel, epoch, retention } => {
                self.follows.insert(channel.clone(), (*epoch, *retention));
            }
            BusCommand::Unfollow { channel } => drop(self.follows.remove(channel)),
            _ => {}
        }
    }
}

/// The answer to a command that is not carried out.
fn answer(command: &BusCommand, error: BusError) -> Option<BusEvent> {
    Some(match command {
        BusCommand::Append(append) => BusEvent::Channel(ChannelEvent::Appended {
            id: append.id,
            result: Err(AppendError::Bus(error)),
        }),
        BusCommand::Announce { id, .. } => {
            BusEvent::Channel(ChannelEvent::Announced { id: *id, result: Err(error) })
        }
        BusCommand::Read { id, .. } => {
            BusEvent::Channel(ChannelEvent::Page { id: *id, result: Err(error) })
        }
        BusCommand::Heal(heal) => {
            BusEvent::Channel(ChannelEvent::Healed { id: heal.id, result: Err(error) })
        }
        BusCommand::Fork { id, .. } => {
            BusEvent::Channel(ChannelEvent::Healed { id: *id, result: Err(error) })
        }
        BusCommand::Take(take) => BusEvent::Taken { id: take.id, result: Err(error) },
        BusCommand::Attend(change) => {
            BusEvent::Attendance(AttendanceEvent::Attended { id: change.id, result: Err(error) })
        }
        BusCommand::Members { id, .. } => {
            BusEvent::Attendance(AttendanceEvent::Members { id: *id, result: Err(error) })
        }
        BusCommand::Control { id, .. } => {
            BusEvent::Node(NodeEvent::Controlled { id: *id, result: Err(error) })
        }
        BusCommand::Session(call) => BusEvent::Session { id: call.id, result: Err(error) },
        _ => return None,
    })
}

/// What a hub hears of an answer that is lost.
fn unknown(event: &BusEvent) -> Option<BusEvent> {
    Some(match event {
        BusEvent::Channel(ChannelEvent::Appended { id, .. }) => {
            BusEvent::Channel(ChannelEvent::Appended {
                id: *id,
                result: Err(AppendError::Bus(BusError::Unknown)),
            })
        }
        BusEvent::Channel(ChannelEvent::Announced { id, .. }) => {
            BusEvent::Channel(ChannelEvent::Announced { id: *id, result: Err(BusError::Unknown) })
        }
        BusEvent::Node(NodeEvent::Controlled { id, .. }) => {
            BusEvent::Node(NodeEvent::Controlled { id: *id, result: Err(BusError::Unknown) })
        }
        BusEvent::Channel(ChannelEvent::Page { id, .. }) => {
            BusEvent::Channel(ChannelEvent::Page { id: *id, result: Err(BusError::Unknown) })
        }
        BusEvent::Channel(ChannelEvent::Healed { id, .. }) => {
            BusEvent::Channel(ChannelEvent::Healed { id: *id, result: Err(BusError::Unknown) })
        }
        BusEvent::Taken { id, .. } => BusEvent::Taken { id: *id, result: Err(BusError::Unknown) },
        BusEvent::Attendance(AttendanceEvent::Attended { id, .. }) => {
            BusEvent::Attendance(AttendanceEvent::Attended {
                id: *id,
                result: Err(BusError::Unknown),
            })
        }
        BusEvent::Attendance(AttendanceEvent::Members { id, .. }) => {
            BusEvent::Attendance(AttendanceEvent::Members {
                id: *id,
                result: Err(BusError::Unknown),
            })
        }
        BusEvent::Session { id, .. } => {
            BusEvent::Session { id: *id, result: Err(BusError::Unknown) }
        }
        _ => return None,
    })
}

/// Clients.
impl Nodes {
    fn connect(&mut self, node: usize, shard: usize) -> Client {
        self.rigs[node].connect(shard)
    }

    /// A request whose answer may take the bus a while; other messages stay where they are.
    fn ask(&mut self, node: usize, client: &Client, event: &str, data: &Value) {
        let message = json!({"type": "request", "event": event, "id": "q", "data": data});
        self.rigs[node].send(client, &message);
    }

    /// The same with its answer, and everything that came besides.
    fn request(
        &mut self,
        node: usize,
        client: &Client,
        event: &str,
        data: &Value,
    ) -> (Value, Vec<Value>) {
        self.ask(node, client, event, data);
        self.settle();
        let (answers, others): (Vec<_>, Vec<_>) =
            client.take().into_iter().partition(|message| message["correlation_id"] == "q");
        let [answer] = &answers[..] else { panic!("one answer, and not {answers:?}") };
        (answer.clone(), others)
    }

    /// A subscriber with positions. Where it starts.
    fn subscriber(&mut self, node: usize, shard: usize, channel: &str) -> (Client, Value) {
        let client = self.connect(node, shard);
        let data = json!({"channel": channel, "positions": true});
        let (answer, others) = self.request(node, &client, "subscribe", &data);
        assert_eq!(answer["data"]["status"], "subscribed", "{answer}");
        assert!(others.is_empty(), "{others:?}");
        (client, answer["data"].clone())
    }

    /// A client publishes `{"n": n}`. The answer.
    fn publish(&mut self, node: usize, client: &Client, channel: &str, n: u64) -> Value {
        let data = message(channel, n);
        self.request(node, client, "publish", &data).0
    }

    /// The application of a node publishes `{"n": n}`; nothing is carried out yet.
    fn post(&mut self, node: usize, channel: &str, n: u64) {
        let publication = Publication::new(channel, "e", json!({"n": n}).to_string());
        let rig = &mut self.rigs[node];
        let command = Command::Publish { id: Some(CommandId(n)), publication };
        rig.hubs[0].handle_command(rig.now, command);
        rig.run();
        self.collect();
    }

    /// What became of what applications have published, by `n`, since this was last asked.
    fn done(&mut self) -> Vec<(u64, Result<Published, Reason>)> {
        let mut done = Vec::new();
        for rig in &mut self.rigs {
            for output in std::mem::take(&mut rig.outputs) {
                if let Output::Done { id, result } = output {
                    done.push((id.0, result));
                }
            }
        }
        done.sort_by_key(|(n, _)| *n);
        done
    }
}

fn message(channel: &str, n: u64) -> Value {
    json!({"channel": channel, "event": "e", "data": {"n": n}, "positions": true})
}

/// What a client has heard of a channel, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    /// `data.n` and `offset`.
    Event(u64, u64),
    /// `lost`, `reason` and `offset`.
    Gap(Option<u64>, String, u64),
}

fn heard(client: &Client) -> Vec<Heard> {
    let messages = client.take();
    messages.iter().filter_map(hear).collect()
}

fn hear(message: &Value) -> Option<Heard> {
    let data = &message["data"];
    if message["event"] == "channel.gap" {
        let reason = data["reason"].as_str().unwrap_or_default().to_owned();
        let offset = data["offset"].as_u64().unwrap_or_default();
        return Some(Heard::Gap(data["lost"].as_u64(), reason, offset));
    }
    let n = data["n"].as_u64()?;
    Some(Heard::Event(n, message["offset"].as_u64().unwrap_or_default()))
}

/// Events with consecutive numbers.
fn events(n: impl IntoIterator<Item = u64>, first: u64) -> Vec<Heard> {
    n.into_iter().zip(first..).map(|(n, offset)| Heard::Event(n, offset)).collect()
}
