//! What breaks between one of the nodes and Redis.

use std::time::Duration;

use super::{Expected, Outage, Site, as_usual};
use crate::faults::Faults;

pub(super) const OUTAGES: &[Outage] = &[
    Outage {
        name: "cut",
        what: "One node cut off from Redis for 14 s: connections reset, new ones too",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| apart(site, Faults::cut),
    },
    Outage {
        name: "held",
        what: "One node cut off for 14 s without a word, and then everything arrives",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| apart(site, Faults::hold),
    },
    Outage {
        name: "lost",
        what: "One node's connections lose everything both ways for 14 s, new ones too",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| apart(site, Faults::drop_all),
    },
    Outage {
        name: "lost-there",
        what: "The same, but only what goes to Redis",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| apart(site, Faults::drop_there),
    },
    Outage {
        name: "lost-back",
        what: "The same, but only what comes from Redis",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| apart(site, Faults::drop_back),
    },
    Outage {
        name: "half-open",
        what: "Redis' end of one node's connections is gone, and the node is not told",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            site.cluster.ways[0].half_open();
            site.mended();
            site.run(4, 10);
        },
    },
    Outage {
        name: "delay",
        what: "Everything between nodes and Redis takes 50 ms each way for 10 s",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            for way in &site.cluster.ways {
                way.delay(Duration::from_millis(50));
            }
            site.run(3, 10);
            site.cluster.ways.iter().for_each(Faults::mend);
            site.mended();
        },
    },
    Outage {
        name: "slow",
        what: "One node has 4 kB/s from and to Redis for 10 s",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            site.cluster.ways[0].slow(4_000);
            site.run(3, 10);
            site.cluster.ways[0].mend();
            site.mended();
        },
    },
];

/// The first node is away from Redis for longer than its lease.
fn apart(site: &mut Site, fault: impl Fn(&Faults)) {
    fault(&site.cluster.ways[0]);
    site.run(4, 14);
    site.cluster.ways[0].mend();
    site.mended();
}
