//! Any order of events: what every client has heard has to hold together.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Something that happens. Links are numbered over all nodes.
#[derive(Clone, Debug)]
enum Step {
    Post {
        node: usize,
        channel: usize,
    },
    Subscribe {
        node: usize,
        channel: usize,
    },
    Leave,
    /// A link carries out, and tells, so much.
    Work {
        link: usize,
        executed: usize,
        told: usize,
    },
    Deaf {
        link: usize,
        rounds: usize,
    },
    Down {
        link: usize,
    },
    Up {
        link: usize,
    },
    Check,
    /// The replica has everything by now.
    Replicate,
    /// The replica takes the place of the primary. `split`: which goes on for those that are connected to it.
    Failover {
        split: bool,
    },
    Wipe,
    /// The bus loses everything, and nobody is told.
    Flush,
    Trim {
        channel: usize,
    },
    Restart {
        node: usize,
    },
    Wait {
        millis: u64,
    },
    Settle,
}

const CHANNELS: [&str; 2] = ["a", "b"];
const NODES: usize = 2;
const SHARDS: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let link = || 0..NODES * SHARDS;
    let channel = || 0..CHANNELS.len();
    prop_oneof![
        12 => (0..NODES, channel()).prop_map(|(node, channel)| Step::Post { node, channel }),
        3 => (0..NODES, channel()).prop_map(|(node, channel)| Step::Subscribe { node, channel }),
        1 => Just(Step::Leave),
        10 => (link(), 0..4_usize, 0..6_usize)
            .prop_map(|(link, executed, told)| Step::Work { link, executed, told }),
        2 => (link(), 1..4_usize).prop_map(|(link, rounds)| Step::Deaf { link, rounds }),
        2 => link().prop_map(|link| Step::Down { link }),
        3 => link().prop_map(|link| Step::Up { link }),
        1 => Just(Step::Check),
        2 => Just(Step::Replicate),
        1 => any::<bool>().prop_map(|split| Step::Failover { split }),
        1 => Just(Step::Wipe),
        1 => Just(Step::Flush),
        1 => channel().prop_map(|channel| Step::Trim { channel }),
        1 => (0..NODES).prop_map(|node| Step::Restart { node }),
        2 => (0..3_000_u64).prop_map(|millis| Step::Wait { millis }),
        2 => Just(Step::Settle),
    ]
}

/// A subscriber, and what it knows.
struct Watcher {
    node: usize,
    channel: usize,
    client: Client,
    epoch: Option<String>,
    offset: u64,
    /// Ids of the epoch.
    ids: BTreeSet<String>,
}

/// Channel, epoch and number.
type At = (usize, String, u64);

/// Processes, by node and how often it was begun anew.
type Lives = BTreeSet<(usize, u64)>;

/// What all have heard together.
#[derive(Default)]
struct World {
    /// By channel, epoch and number: the ids and `data.n` of what somebody heard, and on which processes.
    events: BTreeMap<At, BTreeMap<(String, u64), Lives>>,
    /// By node, how often it was begun anew.
    lives: BTreeMap<usize, u64>,
    /// By `n`: where it was published, or why not.
    outcomes: BTreeMap<u64, Result<Published, Reason>>,
}

struct Run {
    nodes: Nodes,
    replica: Server,
    watchers: Vec<Watcher>,
    world: World,
    /// By `n`: the node that was asked, as long as its answer is due.
    due: BTreeMap<u64, usize>,
    next: u64,
    /// Some have perhaps heard what the present primary never had.
    failed_over: bool,
}

impl Run {
    fn new() -> Self {
        let mut config = config();
        config.limits.bus.bus_page_bytes_max = 300;
        config.limits.bus.bus_hole_bytes_max = 600;
        config.limits.bus.bus_reads_max = 2;
        let nodes = Nodes::with(NODES, SHARDS as u16, config);
        let replica = nodes.server.clone();
        Self {
            nodes,
            replica,
            watchers: Vec::new(),
            world: World::default(),
            due: BTreeMap::new(),
            next: 0,
            failed_over: false,
        }
    }

    fn step(&mut self, step: &Step) {
        let at = |link: usize| (link / SHARDS, link % SHARDS);
        let nodes = &mut self.nodes;
        match *step {
            Step::Post { node, channel } => {
                self.next += 1;
                self.due.insert(self.next, node);
                nodes.post(node, CHANNELS[channel], self.next);
            }
            Step::Subscribe { node, channel } => self.subscribe(node, channel),
            Step::Leave => {
                if !self.watchers.is_empty() {
                    let watcher = self.watchers.remove(0);
                    nodes.rigs[watcher.node].hang_up(&watcher.client);
                }
            }
            Step::Work { link, executed, told } => {
                let (node, hub) = at(link);
                nodes.collect();
                for _ in 0..executed {
                    nodes.execute(node, hub);
                }
                for _ in 0..told {
                    nodes.tell(node, hub);
                }
            }
            Step::Deaf { link, rounds } => {
                let (node, hub) = at(link);
                nodes.link(node, hub).deaf = rounds;
            }
            Step::Down { link } => self.down(link),
            Step::Up { link } => {
                let (node, hub) = at(link);
                if !nodes.link(node, hub).up {
                    nodes.hub_up(node, hub);
                }
            }
            Step::Check => nodes.check(),
            Step::Replicate => self.replica = nodes.server.clone(),
            Step::Failover { split } => self.failover(split),
            Step::Wipe => {
                for link in 0..NODES * SHARDS {
                    self.down(link);
                }
                (self.nodes.server, self.replica) = <_>::default();
            }
            Step::Flush => (nodes.server, self.replica) = <_>::default(),
            Step::Trim { channel } => {
                // What is not kept any more cannot be compared, so that nobody could tell two histories apart.
                let channel = nodes.server.channels.get_mut(CHANNELS[channel]);
                if let Some(channel) = channel.filter(|_| !self.failed_over) {
                    channel.trim(channel.top);
                }
            }
            Step::Restart { node } => {
                *self.world.lives.entry(node).or_default() += 1;
                self.watchers.retain(|watcher| watcher.node != node);
                self.due.retain(|_, asked| *asked != node);
                nodes.restart(node);
            }
            Step::Wait { millis } => nodes.wait(Duration::from_millis(millis)),
            Step::Settle => nodes.settle(),
        }
    }

    fn down(&mut self, link: usize) {
        let (node, hub) = (link / SHARDS, link % SHARDS);
        if self.nodes.link(node, hub).up {
            self.nodes.hub_down(node, hub);
        }
    }

    fn failover(&mut self, split: bool) {
        self.failed_over = true;
        // One that goes on alone does so only until the next.
        for link in 0..NODES * SHARDS {
            let at = self.nodes.link(link / SHARDS, link % SHARDS);
            if !split || at.at_old {
                self.down(link);
            }
        }
        let before = std::mem::replace(&mut self.nodes.server, self.replica.clone());
        self.nodes.links.values_mut().filter(|link| link.up).for_each(|link| link.at_old = true);
        self.nodes.old = split.then_some(before);
    }

    fn subscribe(&mut self, node: usize, channel: usize) {
        let client = self.nodes.connect(node, channel % SHARDS);
        let data = json!({"channel": CHANNELS[channel], "positions": true});
        self.nodes.ask(node, &client, "subscribe", &data);
        let ids = BTreeSet::new();
        self.watchers.push(Watcher { node, channel, client, epoch: None, offset: 0, ids });
    }

    /// Looks at what has come.
    fn look(&mut self) {
        for watcher in &mut self.watchers {
            for message in watcher.client.take() {
                watcher.hear(&message, &mut self.world);
            }
        }
        for (n, result) in self.nodes.done() {
            self.due.remove(&n);
            assert!(self.world.outcomes.insert(n, result).is_none(), "answered twice");
        }
    }

    /// Everything is there in the end, and everybody has heard of everything.
    fn finish(mut self) {
        self.failover_is_over();
        for link in 0..NODES * SHARDS {
            let (node, hub) = (link / SHARDS, link % SHARDS);
            self.nodes.link(node, hub).deaf = 0;
            if !self.nodes.link(node, hub).up {
                self.nodes.hub_up(node, hub);
            }
        }
        for _ in 0..4 {
            self.nodes.settle();
            self.nodes.wait(Duration::from_secs(2));
            self.nodes.check();
        }
        self.look();
        assert_eq!(self.due, BTreeMap::new(), "all are answered");
        for watcher in &self.watchers {
            let bus = self.nodes.server.channel(CHANNELS[watcher.channel]).position();
            let known = (watcher.epoch.as_deref(), watcher.offset);
            assert_eq!(known, (Some(bus.epoch.as_str()), bus.offset), "where everybody stands");
        }
        self.world.check(&self.nodes.server);
    }

    fn failover_is_over(&mut self) {
        for link in 0..NODES * SHARDS {
            if self.nodes.link(link / SHARDS, link % SHARDS).at_old {
                self.down(link);
            }
        }
        self.nodes.old = None;
    }
}

impl Watcher {
    fn hear(&mut self, message: &Value, world: &mut World) {
        let data = &message["data"];
        if message["correlation_id"] == "q" {
            assert_eq!(data["status"], "subscribed", "{message}");
            self.epoch = data["epoch"].as_str().map(str::to_owned);
            self.offset = data["offset"].as_u64().unwrap();
        } else if message["event"] == "channel.gap" {
            let epoch = data["epoch"].as_str().unwrap().to_owned();
            let offset = data["offset"].as_u64().unwrap();
            match data["lost"].as_u64() {
                Some(lost) => {
                    assert_eq!(Some(&epoch), self.epoch.as_ref(), "{message}");
                    assert_eq!(data["first_offset"], self.offset + 1, "{message}");
                    assert_eq!(data["last_offset"], self.offset + lost, "{message}");
                    assert_eq!(offset, self.offset + lost, "{message}");
                }
                None => {
                    assert_ne!(Some(&epoch), self.epoch.as_ref(), "{message}");
                    self.ids.clear();
                }
            }
            (self.epoch, self.offset) = (Some(epoch), offset);
        } else if let Some(n) = data["n"].as_u64() {
            let (id, offset) = (message["id"].as_str().unwrap(), message["offset"].as_u64());
            assert_eq!(offset, Some(self.offset + 1), "no hole: {message}");
            assert!(self.ids.insert(id.to_owned()), "twice: {message}");
            self.offset += 1;
            let at = (self.channel, self.epoch.clone().unwrap(), self.offset);
            let life = world.lives.get(&self.node).copied().unwrap_or_default();
            let heard = world.events.entry(at).or_default();
            heard.entry((id.to_owned(), n)).or_default().insert((self.node, life));
        }
    }
}

impl World {
    fn check(&self, server: &Server) {
        let mut places = BTreeMap::new();
        for ((channel, epoch, offset), heard) in &self.events {
            let last = server.channels.get(CHANNELS[*channel]);
            let lasts = last.is_some_and(|last| last.epoch.as_str() == epoch);
            // What only processes had that are gone, the bus may have lost with them.
            let life = |node: &usize| self.lives.get(node).copied().unwrap_or_default();
            let lives = |by: &Lives| by.iter().any(|(node, of)| *of == life(node));
            let heard: Vec<_> =
                heard.iter().filter(|(_, by)| lives(by)).map(|(what, _)| what).collect();
            // Two that have gone on apart have each told their own; that ends with the epoch.
            assert!(heard.len() <= 1 || !lasts, "{heard:?} at {channel} {epoch} {offset}");
            for (_, n) in heard {
                let before = places.insert((*channel, epoch, *n), *offset);
                assert!(before.is_none_or(|at| at == *offset) || !lasts, "{n} is there twice");
                let outcome = self.outcomes.get(n);
                let refused = outcome.is_some_and(|outcome| *outcome == Err(Reason::BusAway));
                assert!(!refused, "{n} was refused, and somebody got it");
                if let Some(Ok(published)) = outcome
                    && lasts
                    && published.epoch.is_some_and(|of| of.as_str() == epoch)
                {
                    assert_eq!(published.offset, *offset, "{n} is where it was said to be");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_clients_hear_holds_together(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.look();
        }
        run.finish();
    }
}
