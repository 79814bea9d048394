//! Two links over one modelled Redis, on virtual time.
//!
//! Both follow a channel and append to it; Redis is paused, restarted, out of reach, and forgets its scripts meanwhile.
//! Both hear everything once and in one order, but for what came while they were away. `cargo test` runs it too.

mod world;

use std::time::Duration;

use bytes::Bytes;
use mahavishnu_core::{
    hub::{
        Append, BusCommand, BusEvent, CallId, ChannelEvent, LinkEvent, Live, NodeId, Retention,
        Writer,
    },
    protocol::{Epoch, Position},
};
use mahavishnu_redis_model::{Disk, Version};
use world::World;

const CHANNEL: &str = "workflow:42";
const RETENTION: Retention =
    Retention { messages: 100, time: Duration::from_secs(60), position: Duration::from_secs(3600) };

/// What a node knows of the channel.
#[derive(Debug, Default)]
struct Known {
    heard: Vec<Bytes>,
    position: Option<Position>,
    appends: u64,
    ups: u32,
}

impl Known {
    fn take(&mut self, events: Vec<BusEvent>) {
        for event in events {
            match event {
                BusEvent::Link(LinkEvent::Up { .. }) => self.ups += 1,
                BusEvent::Channel(ChannelEvent::Standing { standing, .. }) => {
                    self.position = Some(standing.position)
                }
                BusEvent::Channel(ChannelEvent::Live {
                    live: Live::Round { epoch, first, count, records, .. },
                    ..
                }) => {
                    self.heard.extend(records);
                    let offset = first + u64::from(count) - 1;
                    self.position = Some(Position { epoch, offset });
                }
                _ => {}
            }
        }
    }
}

struct Two {
    world: World,
    known: [Known; 2],
}

impl Two {
    fn append(&mut self, number: usize) {
        let known = &mut self.known[number];
        known.appends += 1;
        let append = Append {
            id: CallId(known.appends),
            writer: Writer { node: NodeId(number as u64 + 1), shard: 0 },
            channel: CHANNEL.into(),
            count: 1,
            records: Bytes::from(format!("{number}-{}", known.appends)),
            known: known.position,
            again: None,
            epoch: Epoch::from_random(99),
            retention: RETENTION,
            state: None,
            condition: None,
            basis: None,
            once: None,
            taken: None,
        };
        self.world.command(number, BusCommand::Append(Box::new(append)));
    }

    fn run(&mut self, time: Duration) {
        self.world.run(time);
        for (node, known) in self.world.nodes.iter_mut().zip(&mut self.known) {
            known.take(std::mem::take(&mut node.events));
        }
    }
}

fn run(version: Version) {
    let mut two = Two { world: World::new(version, 2, 1), known: Default::default() };
    for number in 0..2 {
        let (channel, epoch) = (CHANNEL.into(), Epoch::from_random(number as u64 + 7));
        two.world.command(number, BusCommand::Follow { channel, epoch, retention: RETENTION });
    }
    two.run(Duration::from_secs(1));
    assert!(two.known.iter().all(|it| it.position.is_some()), "both are told where it stands");
    for number in [0, 1, 1, 0] {
        two.append(number);
        two.run(Duration::from_millis(10));
    }
    // A pause: what was sent is executed late.
    two.world.redis.pause();
    two.append(0);
    two.run(Duration::from_secs(1));
    let now = two.world.now;
    two.world.redis.resume(now);
    two.run(Duration::from_secs(1));
    // So does what nothing came through for.
    two.world.cut_off(1);
    two.append(1);
    two.run(Duration::from_secs(1));
    two.world.mend(1);
    two.run(Duration::from_secs(1));
    // Scripts are loaded again where they are missing.
    two.world.redis.flush_scripts();
    two.append(1);
    two.run(Duration::from_millis(10));
    // A connection that breaks once something was sent: it is not known whether it was made, and it was.
    two.append(0);
    two.run(Duration::from_micros(300));
    two.world.break_socket(0);
    two.run(Duration::from_secs(1));
    // A restart with all data.
    two.world.redis.start(Disk::Kept);
    two.run(Duration::from_secs(5));
    two.append(0);
    two.run(Duration::from_secs(1));
    let told = two.known.each_ref().map(|known| {
        known.heard.iter().map(|it| String::from_utf8_lossy(it)).collect::<Vec<_>>().join(" ")
    });
    // What came while a link was away is for its hub to read.
    assert_eq!(told[0], "0-1 1-1 1-2 0-2 0-3 1-3 1-4 0-5");
    assert_eq!(told[1], "0-1 1-1 1-2 0-2 0-3 1-3 1-4 0-4 0-5");
    let ups = two.known.each_ref().map(|it| it.ups);
    assert_eq!(ups, [3, 2]);
    println!("{} {:?}: {}", version.name, version.number, told[1]);
}

fn main() {
    run(Version::REDIS_7_0);
    run(Version::VALKEY_9_1);
}

#[test]
fn two_links_hear_everything_in_one_order() {
    main();
}
