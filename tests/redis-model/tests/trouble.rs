//! Links over a Redis in all kinds of trouble that leaves its data alone: what was answered is stored once, nobody
//! hears it twice or in another order, and at the end everybody hears everybody. `TROUBLE_SEEDS` says how many worlds
//! there are (12), `TROUBLE_SEED` with which they begin.

#[path = "../examples/two_links/world.rs"]
mod world;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{
        Append, AppendError, BusCommand, BusError, BusEvent, CallId, ChannelEvent, LinkEvent, Live,
        NodeId, Retention, Writer,
    },
    protocol::Epoch,
};
use mahavishnu_redis_model::{Disk, Version, Window};
use mahavishnu_test_redis::{Value, encode};
use world::World;

const NODES: usize = 3;
const CHANNELS: [&str; 2] = ["a", "b"];
/// Longer than clocks are set.
const RETENTION: Retention = Retention {
    messages: 100_000,
    time: Duration::from_secs(1_000_000),
    position: Duration::from_secs(2_000_000),
};

/// A stream of choices (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most))
    }
}

/// What a hub does, as far as it matters here: one append a channel at a time, repeated under its number until it is
/// answered.
#[derive(Default)]
struct Hub {
    calls: u64,
    up: bool,
    /// By channel: its number, its text, and whether it is under way.
    pending: BTreeMap<&'static str, (CallId, String, bool)>,
    /// Texts that were answered, with the number that they were given.
    made: Vec<(&'static str, String, u64)>,
    /// By channel, epoch and number.
    heard: BTreeMap<(String, Epoch, u64), Bytes>,
    last: BTreeMap<(String, Epoch), u64>,
}

struct Trouble {
    seed: u64,
    dice: Dice,
    world: World,
    hubs: Vec<Hub>,
    texts: u64,
    /// What ends when.
    ends: Vec<(Duration, End)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Pause,
    Down,
    Window(Window),
    CutOff(usize),
    Slow,
}

impl Trouble {
    fn new(seed: u64) -> Self {
        let version = [Version::REDIS_7_0, Version::VALKEY_9_1][seed as usize % 2];
        let mut world = World::new(version, NODES, seed);
        for number in 0..NODES {
            for (at, channel) in CHANNELS.iter().enumerate() {
                let epoch = Epoch::from_random(seed * 10 + number as u64 * 2 + at as u64);
                let channel = (*channel).into();
                world.command(number, BusCommand::Follow { channel, epoch, retention: RETENTION });
            }
        }
        let hubs = (0..NODES).map(|_| Hub::default()).collect();
        Self { seed, dice: Dice(seed), world, hubs, texts: 0, ends: Vec::new() }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..=59 => self.publish(),
            60..=61 => self.begin_trouble(),
            62 => self.world.piece = [20, 300, 100_000][self.dice.below(3) as usize],
            _ => {}
        }
        let wait = self.dice.ms(40);
        self.pass(wait);
    }

    fn publish(&mut self) {
        let number = self.dice.below(NODES as u64) as usize;
        let channel = CHANNELS[self.dice.below(2) as usize];
        let hub = &mut self.hubs[number];
        if hub.pending.contains_key(channel) {
            return;
        }
        hub.calls += 1;
        self.texts += 1;
        let text = format!("{number}:{}", self.texts);
        hub.pending.insert(channel, (CallId(hub.calls), text, false));
    }

    fn begin_trouble(&mut self) {
        let redis = &mut self.world.redis;
        let number = self.dice.below(NODES as u64) as usize;
        let (end, time) = match self.dice.below(13) {
            0 => {
                redis.pause();
                (End::Pause, 8000)
            }
            1 => {
                redis.stop();
                (End::Down, 3000)
            }
            2 => {
                redis.cut_all();
                return;
            }
            10..=12 => {
                self.break_while_something_is_under_way(number);
                return;
            }
            3 => {
                redis.flush_scripts();
                return;
            }
            4 => {
                redis.jump_clock(self.dice.below(7_200_000) as i64 - 3_600_000);
                return;
            }
            5 => {
                self.world.cut_off(number);
                (End::CutOff(number), 15_000)
            }
            6 => {
                self.world.latency = Duration::from_millis(20);
                (End::Slow, 5000)
            }
            _ => {
                use Window::{Busy, DiskError, Full, Loading, NoReplicas};
                let window =
                    [Busy, DiskError, Full, Loading, NoReplicas][self.dice.below(5) as usize];
                redis.set_window(window, true);
                (End::Window(window), 4000)
            }
        };
        let at = self.world.now + self.dice.ms(time);
        self.ends.push((at, end));
    }

    /// What was sent is executed or not, and the answer is lost.
    fn break_while_something_is_under_way(&mut self, number: usize) {
        for _ in 0..10 {
            self.publish();
        }
        self.push(number);
        let moment = Duration::from_micros(self.dice.below(600));
        self.world.run(moment);
        self.world.break_socket(number);
    }

    fn end(&mut self, end: End) {
        let now = self.world.now;
        match end {
            End::Pause => self.world.redis.resume(now),
            End::Down => self.world.redis.start(Disk::Kept),
            End::Window(window) => self.world.redis.set_window(window, false),
            End::CutOff(number) => self.world.mend(number),
            End::Slow => self.world.latency = Duration::from_micros(200),
        }
    }

    /// Time passes, and hubs do what they do.
    fn pass(&mut self, time: Duration) {
        self.world.run(time);
        let now = self.world.now;
        let over = self.ends.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>();
        for (_, end) in over {
            self.end(end);
        }
        for number in 0..NODES {
            for event in std::mem::take(&mut self.world.nodes[number].events) {
                self.hear(number, event);
            }
            self.push(number);
        }
    }

    /// Appends that are not under way are sent.
    fn push(&mut self, number: usize) {
        let hub = &mut self.hubs[number];
        if !hub.up {
            return;
        }
        let mut commands = Vec::new();
        for (channel, (id, text, under_way)) in &mut hub.pending {
            if std::mem::replace(under_way, true) {
                continue;
            }
            commands.push(Append {
                id: *id,
                writer: Writer { node: NodeId(number as u64 + 1), shard: 0 },
                channel: (*channel).into(),
                count: 1,
                records: Bytes::from(text.clone()),
                known: None,
                again: None,
                epoch: Epoch::from_random(self.seed),
                retention: RETENTION,
                state: None,
                condition: None,
                basis: None,
                once: None,
                taken: None,
            });
        }
        for append in commands {
            self.world.command(number, BusCommand::Append(Box::new(append)));
        }
    }

    fn hear(&mut self, number: usize, event: BusEvent) {
        let hub = &mut self.hubs[number];
        match event {
            BusEvent::Link(LinkEvent::Up { .. }) => hub.up = true,
            BusEvent::Link(LinkEvent::Down) => hub.up = false,
            BusEvent::Channel(ChannelEvent::Appended { id, result }) => {
                let found = hub.pending.iter_mut().find(|(_, (call, ..))| *call == id);
                let (channel, (_, text, under_way)) = found.expect("somebody asked");
                let channel = *channel;
                match result {
                    Ok(made) => {
                        hub.made.push((channel, text.clone(), made.first.offset));
                        hub.pending.remove(channel);
                    }
                    Err(AppendError::Bus(BusError::Away | BusError::Unknown | BusError::Full)) => {
                        *under_way = false;
                    }
                    Err(other) => panic!("seed {}: {other:?}", self.seed),
                }
            }
            BusEvent::Channel(ChannelEvent::Live {
                channel,
                live: Live::Round { epoch, first, records, .. },
            }) => {
                let key = (channel.to_string(), epoch);
                let last = hub.last.insert(key.clone(), first).unwrap_or_default();
                assert!(last < first, "seed {}: {first} after {last}", self.seed);
                let heard = hub.heard.insert((key.0, epoch, first), records.expect("short ones"));
                assert_eq!(heard, None);
            }
            BusEvent::Channel(ChannelEvent::Live { live, .. }) => {
                panic!("seed {}: {live:?}", self.seed)
            }
            _ => {}
        }
    }

    /// All trouble is over, and a while later everybody hears everybody.
    fn mend(&mut self) {
        for (_, end) in std::mem::take(&mut self.ends) {
            self.end(end);
        }
        if !self.world.redis.is_running() {
            self.world.redis.start(Disk::Kept);
        }
        for _ in 0..30 {
            self.pass(Duration::from_secs(1));
        }
        for number in 0..NODES {
            let hub = &self.hubs[number];
            assert!(hub.up, "seed {}: node {number} is not up again", self.seed);
            assert!(hub.pending.is_empty(), "seed {}: {:?} is open", self.seed, hub.pending);
        }
        for number in 0..NODES {
            let hub = &mut self.hubs[number];
            for channel in CHANNELS {
                hub.calls += 1;
                hub.pending
                    .insert(channel, (CallId(hub.calls), format!("last of {number}"), false));
            }
        }
        for _ in 0..3 {
            self.pass(Duration::from_secs(1));
        }
        for (number, hub) in self.hubs.iter().enumerate() {
            let last = hub.heard.values().filter(|text| text.starts_with(b"last of")).count();
            assert_eq!(last, NODES * CHANNELS.len(), "seed {}: node {number} is deaf", self.seed);
        }
    }

    /// What Redis keeps of a channel.
    fn log(&mut self, channel: &str) -> Vec<(u64, String)> {
        let keys: Vec<String> =
            self.world.redis.keys(0).map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        let key = keys.iter().find(|key| key.ends_with(&format!(":l:{channel}")));
        let Some(key) = key else { return Vec::new() };
        let peer = "10.0.0.7:1".parse().expect("an address");
        let connection = self.world.redis.connect(self.world.now, peer).expect("it runs");
        self.world.redis.receive(self.world.now, connection, &encode(&["XRANGE", key, "-", "+"]));
        let bytes = self.world.redis.take(connection);
        let (entries, _) = Value::parse(&bytes).expect("an answer");
        let entry = |entry: &Value| {
            let (id, fields) = (entry.items()[0].text(), entry.items()[1].items());
            let last = id.split('-').next().and_then(|it| it.parse().ok()).expect("a number");
            (last, fields[1].text())
        };
        entries.items().iter().map(entry).collect()
    }

    fn check(&mut self) {
        for channel in CHANNELS {
            let log = self.log(channel);
            for (at, (number, _)) in log.iter().enumerate() {
                assert_eq!(*number, at as u64 + 1, "seed {}: no holes", self.seed);
            }
            for hub in &self.hubs {
                for (_, text, first) in hub.made.iter().filter(|(of, ..)| *of == channel) {
                    let times = log.iter().filter(|(_, stored)| stored == text).count();
                    assert_eq!(times, 1, "seed {}: {text} is stored {times} times", self.seed);
                    let stored = &log[*first as usize - 1].1;
                    assert_eq!(stored, text, "seed {}: number {first}", self.seed);
                }
                for ((_, _, first), text) in hub.heard.iter().filter(|((of, ..), _)| of == channel)
                {
                    let stored = &log[*first as usize - 1].1;
                    assert_eq!(stored.as_bytes(), text, "seed {}: number {first}", self.seed);
                }
            }
        }
    }
}

#[test]
fn links_come_through_all_trouble_that_leaves_the_data() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (first, seeds) = (setting("TROUBLE_SEED", 1), setting("TROUBLE_SEEDS", 12));
    let (mut made, mut heard) = (0, 0);
    for seed in first..first + seeds {
        let mut trouble = Trouble::new(seed);
        for _ in 0..1000 {
            trouble.step();
        }
        trouble.mend();
        trouble.check();
        made += trouble.hubs.iter().map(|hub| hub.made.len()).sum::<usize>();
        heard += trouble.hubs.iter().map(|hub| hub.heard.len()).sum::<usize>();
    }
    println!("seeds {first}..{}: {made} appends, heard {heard} times", first + seeds);
    assert!(made as u64 > 50 * seeds, "most of the time something is published: {made}");
}
