//! Several processes and what lies between them: a bus that does what one over Redis does for nodes, at once and in memory.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Some processes with a bus between them.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Rig>,
    pub(super) bus: TestBus,
}

/// What is behind all links.
#[derive(Default)]
pub(super) struct TestBus {
    now: Option<Now>,
    /// By node: what it says, and until when.
    pub(super) leases: BTreeMap<NodeId, (Bytes, Instant)>,
    /// What all nodes are told: its place, and until when it is kept.
    pub(super) control: Vec<(Bytes, Instant)>,
    /// By process and hub.
    links: BTreeMap<(usize, usize), TestLink>,
    events: VecDeque<(usize, usize, BusEvent)>,
    /// Commands that came to it, in order.
    pub(super) log: Vec<(usize, BusCommand)>,
    /// By user: connections, with what is known of them and when they were put.
    pub(super) users: BTreeMap<Box<str>, BTreeMap<VisitName, (Bytes, Instant)>>,
    /// It takes no writes.
    pub(super) full: bool,
    /// What nodes tell all others is lost on the way.
    pub(super) deaf: bool,
}

#[derive(Default)]
struct TestLink {
    up: bool,
    sessions: u64,
    /// So much of `control` its hub has heard.
    heard: usize,
}

impl Cluster {
    /// So many processes of so many hubs, whose buses are up.
    pub(super) fn new(nodes: usize, shards: u16, config: &Config) -> Self {
        let mut this = Self::apart(nodes, shards, config);
        (0..nodes).for_each(|node| this.connect(node));
        this
    }

    /// The same without their buses.
    pub(super) fn apart(nodes: usize, shards: u16, config: &Config) -> Self {
        let now = Now { mono: Instant::now(), unix: START_UNIX };
        let rig = |node: usize| {
            let mut config = config.clone();
            let bus = config.bus.get_or_insert_default();
            bus.node_name = format!("n{node}").into();
            Rig::seeded(shards, config, 100 + node as u64, now)
        };
        let nodes = (0..nodes).map(rig).collect();
        Self { nodes, bus: TestBus { now: Some(now), ..TestBus::default() } }
    }

    pub(super) fn now(&self) -> Now {
        self.nodes[0].now
    }

    /// The buses of a process are up.
    pub(super) fn connect(&mut self, node: usize) {
        for shard in 0..self.nodes[node].hubs.len() {
            self.bus.connect(node, shard);
        }
        self.run();
    }

    /// The buses of a process are away.
    pub(super) fn cut(&mut self, node: usize) {
        for shard in 0..self.nodes[node].hubs.len() {
            self.bus.cut(node, shard);
        }
        self.run();
    }

    /// Until nobody has anything to do.
    pub(super) fn run(&mut self) {
        loop {
            for (node, rig) in self.nodes.iter_mut().enumerate() {
                rig.run();
                for (shard, command) in std::mem::take(&mut rig.commands) {
                    self.bus.carry_out(node, shard, command);
                }
            }
            if self.bus.events.is_empty() {
                break;
            }
            while let Some((node, shard, event)) = self.bus.events.pop_front() {
                let rig = &mut self.nodes[node];
                rig.hubs[shard].handle_bus(rig.now, event);
            }
        }
    }

    /// Time passes, second by second: each time those buses that are up say so.
    pub(super) fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for rig in &mut self.nodes {
                rig.wait(SECOND);
            }
            self.bus.now = Some(self.now());
            self.bus.tell_state();
            self.run();
        }
    }

    /// The present life of a process.
    pub(super) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].hubs[0].hub().nodes.node()
    }

    /// The answer to a request with a body of JSON: its status, and its body. Nothing yet if it waits for other nodes.
    #[cfg(feature = "jwt")]
    pub(super) fn post(&mut self, node: usize, path: &str, headers: &str, body: &str) -> Client {
        let client = self.nodes[node].socket(0);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.nodes[node].bytes(&client, head.as_bytes());
        self.run();
        client
    }

    /// The answer to a request without a body: its status, and its body as JSON.
    pub(super) fn get(&mut self, node: usize, shard: usize, target: &str) -> (u16, Value) {
        self.get_with(node, shard, target, "")
    }

    pub(super) fn get_with(
        &mut self,
        node: usize,
        shard: usize,
        target: &str,
        headers: &str,
    ) -> (u16, Value) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let client = self.nodes[node].socket(shard);
        self.nodes[node].bytes(&client, head.as_bytes());
        self.run();
        parsed(&client.take_text())
    }
}

/// Status and body of a response.
pub(super) fn parsed(response: &str) -> (u16, Value) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, "null"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_default(), serde_json::from_str(body).unwrap_or_default())
}

fn counts(alive: &Alive, name: VisitName, put: Instant, now: Instant) -> bool {
    alive.nodes.contains(&name.node) || put + alive.grace > now
}

impl TestBus {
    fn mono(&self) -> Instant {
        self.now.unwrap().mono
    }

    fn tell(&mut self, node: usize, shard: usize, event: BusEvent) {
        self.events.push_back((node, shard, event));
    }

    pub(super) fn connect(&mut self, node: usize, shard: usize) {
        let link = self.links.entry((node, shard)).or_default();
        (link.up, link.sessions) = (true, link.sessions + 1);
        let session = link.sessions;
        self.tell(node, shard, BusEvent::Link(LinkEvent::Up { session }));
        self.tell_control(node, shard);
        self.tell(node, shard, BusEvent::Link(LinkEvent::Reconciled));
        self.tell(node, shard, BusEvent::Link(LinkEvent::State(self.state())));
    }

    pub(super) fn cut(&mut self, node: usize, shard: usize) {
        self.links.entry((node, shard)).or_default().up = false;
        self.tell(node, shard, BusEvent::Link(LinkEvent::Down));
    }

    fn state(&self) -> BusState {
        BusState {
            up: true,
            probe_age: Some(Duration::ZERO),
            probe_time: Some(Duration::from_micros(400)),
            cause: None,
            full: self.full.then_some("OOM"),
        }
    }

    fn tell_state(&mut self) {
        let state = BusEvent::Link(LinkEvent::State(self.state()));
        for (node, shard) in self.up() {
            self.tell(node, shard, state.clone());
        }
    }

    fn up(&self) -> Vec<(usize, usize)> {
        let up = self.links.iter().filter(|(_, link)| link.up);
        up.map(|(place, _)| *place).collect()
    }

    /// What a link has not told yet.
    fn tell_control(&mut self, node: usize, shard: usize) {
        let now = self.mono();
        let heard = &mut self.links.get_mut(&(node, shard)).unwrap().heard;
        for index in std::mem::replace(heard, self.control.len())..self.control.len() {
            let (command, until) = self.control[index].clone();
            if until > now {
                let at = format!("{}-0", index + 1).into();
                self.tell(node, shard, BusEvent::Node(NodeEvent::Control { at, command }));
            }
        }
    }

    fn visit(&mut self, change: VisitChange) -> Visited {
        let now = self.mono();
        let visits = self.users.entry((&*change.user).into()).or_default();
        change.gone.iter().for_each(|name| drop(visits.remove(name)));
        let fresh = change.come.iter().filter(|visit| !visits.contains_key(&visit.name)).count();
        let is_over = |count: usize| change.max.is_some_and(|max| count + fresh > max as usize);
        if change.sweep || is_over(visits.len()) {
            visits.retain(|name, (_, put)| counts(&change.alive, *name, *put, now));
        }
        let entered = !is_over(visits.len());
        if entered {
            visits.extend(change.come.into_iter().map(|visit| (visit.name, (visit.info, now))));
        }
        Visited { entered, connections: visits.len() as u32 }
    }

    fn visits(&self, user: &str, alive: &Alive, max: u32) -> Visits {
        let now = self.mono();
        let all = self.users.get(user).into_iter().flatten();
        let all = all.filter(|(name, (_, put))| counts(alive, **name, *put, now));
        let visits: Vec<_> =
            all.map(|(name, (info, _))| Visit { name: *name, info: info.clone() }).collect();
        let connections = visits.len() as u32;
        Visits { connections, visits: visits.into_iter().take(max as usize).collect() }
    }

    fn carry_out(&mut self, node: usize, shard: usize, command: BusCommand) {
        self.log.push((node, command.clone()));
        let up = self.links.get(&(node, shard)).is_some_and(|link| link.up);
        let now = self.mono();
        match command {
            BusCommand::Beat { .. } if self.full || !up => {
                self.tell(node, shard, BusEvent::Node(NodeEvent::BeatFailed));
            }
            BusCommand::Beat { node: id, info, lease, first } => {
                let over = self.leases.get(&id).is_none_or(|(_, until)| *until <= now);
                if over && !first {
                    return self.tell(node, shard, BusEvent::Node(NodeEvent::LeaseLost));
                }
                self.leases.insert(id, (info, now + lease));
                let dead: Vec<_> = self.leases.iter().filter(|(_, of)| of.1 <= now).collect();
                let gone: Vec<_> = dead.into_iter().map(|(id, _)| *id).collect();
                self.leases.retain(|id, _| !gone.contains(id));
                let named = self.leases.iter().map(|(id, of)| Node { id: *id, info: of.0.clone() });
                let nodes = named.collect();
                self.tell(node, shard, BusEvent::Node(NodeEvent::Beat { nodes, gone }));
            }
            BusCommand::Quit { node: id } if up => {
                self.leases.remove(&id);
            }
            BusCommand::Tell { message } if up && !self.deaf => {
                for (node, shard) in self.up() {
                    self.tell(
                        node,
                        shard,
                        BusEvent::Node(NodeEvent::Told { message: message.clone() }),
                    );
                }
            }
            BusCommand::Control { id, command, keep } => {
                let result = match (up, self.full) {
                    (false, _) => Err(BusError::Away),
                    (true, true) => Err(BusError::Full),
                    (true, false) => {
                        self.control.push((command, now + keep));
                        let up = self.up();
                        up.iter().for_each(|(node, shard)| self.tell_control(*node, *shard));
                        Ok(1)
                    }
                };
                self.tell(node, shard, BusEvent::Node(NodeEvent::Controlled { id, result }));
            }
            BusCommand::Visit(change) => {
                let id = change.id;
                let result = if up { Ok(self.visit(*change)) } else { Err(BusError::Away) };
                self.tell(node, shard, BusEvent::Visit(VisitEvent::Visited { id, result }));
            }
            BusCommand::Visits { id, user, alive, max } => {
                let result =
                    if up { Ok(self.visits(&user, &alive, max)) } else { Err(BusError::Away) };
                self.tell(node, shard, BusEvent::Visit(VisitEvent::Visits { id, result }));
            }
            BusCommand::Take(_) => {}
            BusCommand::Quit { .. } | BusCommand::Tell { .. } => {}
            BusCommand::Follow { .. }
            | BusCommand::Unfollow { .. }
            | BusCommand::Append(_)
            | BusCommand::Announce { .. }
            | BusCommand::Read { .. }
            | BusCommand::Heal(_)
            | BusCommand::Fork { .. }
            | BusCommand::Attend(_)
            | BusCommand::Members { .. }
            | BusCommand::Session(_) => {}
        }
    }
}

/// What nodes whose clients have tokens are told.
#[cfg(feature = "jwt")]
pub(super) fn with_tokens() -> Config {
    let mut config = Config { bus: Some(crate::config::Bus::default()), ..with_auth() };
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    config
}

#[cfg(feature = "jwt")]
pub(super) fn header(user: &str, permission: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(user, &[permission]))
}

/// A client of this user, welcomed; and the name by which it goes.
#[cfg(feature = "jwt")]
pub(super) fn client(
    cluster: &mut Cluster,
    node: usize,
    shard: usize,
    user: &str,
) -> (Client, String) {
    let client = cluster.nodes[node].connect_with(shard, &header(user, "workflow:read"));
    let welcome = client.take().remove(0);
    assert_eq!(welcome["event"], "session.created");
    cluster.run();
    (client, welcome["data"]["connection_id"].as_str().unwrap().to_owned())
}
