//! What breaks in nodes, and what must not be heard of others.

use rustix::process::Signal;

use super::{Expected, Outage, Site, as_usual};
use crate::{
    Server, http,
    load::{Load, Plan},
};

pub(super) const OUTAGES: &[Outage] = &[
    Outage {
        name: "nodes-killed",
        what: "Each node killed (SIGKILL) in turn, started again after 2 s",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            for node in 0..site.cluster.nodes.len() {
                site.cluster.nodes[node].kill();
                site.run(1, 2);
                site.cluster.nodes[node].start_again();
                site.mended();
                site.cluster.wait_whole();
            }
        },
    },
    Outage {
        name: "node-paused",
        what: "One node stands still (SIGSTOP) for 15 s, longer than its lease",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            site.cluster.nodes[0].signal(Signal::STOP);
            site.run(5, 15);
            site.cluster.nodes[0].signal(Signal::CONT);
            site.mended();
        },
    },
    Outage {
        name: "clock",
        what: "The clock of one node goes an hour ahead, then back by two",
        expected: Expected::Nothing,
        prepare: |setup| {
            setup.variables = vec![
                ("LD_PRELOAD", FAKETIME),
                // In its own directory.
                ("FAKETIME_TIMESTAMP_FILE", CLOCK),
                ("FAKETIME_CACHE_DURATION", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ];
        },
        happen: |site| {
            for shift in ["+1h", "-1h"] {
                let file = site.cluster.nodes[0].state_dir().join(CLOCK);
                std::fs::write(file, shift).expect("its directory is ours");
                site.run(3, 8);
                let [hour, right] = [0, 1].map(|node| hour_of(&site.cluster.nodes[node]));
                assert_ne!(hour, right, "its clock is right");
            }
        },
    },
    Outage {
        name: "databases",
        what: "Three other nodes in another database of the same Redis, under the same load",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| beside(site, ("REDIS_DB", "1")),
    },
    Outage {
        name: "prefixes",
        what: "Three other nodes with another prefix, under the same load",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| beside(site, ("REDIS_PREFIX", "mahavishnu2")),
    },
];

/// The hour, as a node has it.
fn hour_of(node: &Server) -> String {
    let health = http::get(node.address(), "/health").json();
    let time = health["timestamp"].as_str().expect("a time");
    time.split(['T', ':']).nth(1).expect("an hour").to_owned()
}

/// Others use the same channels, idempotency keys and Redis.
fn beside(site: &mut Site, apart: (&str, &str)) {
    let nodes = site.beside(apart);
    let plan = Plan { event: "other".into(), ..site.scale().plan() };
    let load = Load::start(nodes.iter().map(Server::address).collect(), &plan);
    site.run(3, 10);
    site.keep(load.finish());
}

/// Debian's `libfaketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A file that says by how much a clock is wrong.
const CLOCK: &str = "clock";
