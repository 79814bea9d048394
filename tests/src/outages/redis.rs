//! What breaks in Redis itself.

use std::time::Duration;

use mahavishnu_test_redis::{Redis, Value};

use super::{Expected, Outage, Site, as_usual};
use crate::{
    cluster::{MASTER, Setup},
    http, wait,
};

pub(super) const OUTAGES: &[Outage] = &[
    Outage {
        name: "killed",
        what: "Redis killed, started again with its data (AOF, `always`) after 2 s",
        expected: Expected::Nothing,
        prepare: on_disk,
        happen: |site| killed(site, 1, 2),
    },
    Outage {
        name: "away",
        what: "Redis killed, started again with its data after 14 s",
        expected: Expected::Nothing,
        prepare: on_disk,
        happen: |site| killed(site, 4, 14),
    },
    Outage {
        name: "empty",
        what: "Redis killed, started again empty after 2 s",
        expected: Expected::Told,
        prepare: as_usual,
        happen: |site| {
            site.cluster.redis.kill();
            site.run(1, 2);
            site.cluster.redis.restart_empty();
            site.mended();
        },
    },
    Outage {
        name: "flushed",
        what: "FLUSHALL, five times",
        expected: Expected::Told,
        prepare: as_usual,
        happen: |site| five_times(site, |redis| drop(redis.ask(&["FLUSHALL"]))),
    },
    Outage {
        name: "evicted",
        what: "The keys of half of the channels removed",
        expected: Expected::Told,
        prepare: as_usual,
        happen: |site| {
            let keys = site.cluster.redis.ask(&["KEYS", "mahavishnu:*:workflow:*[02468]"]);
            let keys: Vec<_> = keys.items().iter().map(|key| key.text()).collect();
            assert!(keys.len() > 2, "{keys:?}");
            for key in &keys {
                site.cluster.redis.ask(&["DEL", key]);
            }
            site.mended();
            site.run(1, 3);
        },
    },
    Outage {
        name: "scripts-flushed",
        what: "SCRIPT FLUSH, five times",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| five_times(site, |redis| drop(redis.ask(&["SCRIPT", "FLUSH"]))),
    },
    Outage {
        name: "connections-killed",
        what: "All connections closed (CLIENT KILL), five times",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| five_times(site, end_connections),
    },
    Outage {
        name: "paused",
        what: "Redis stands still (SIGSTOP) for 3 s",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| paused(site, 1, 3),
    },
    Outage {
        name: "paused-long",
        what: "Redis stands still for 12 s",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| paused(site, 5, 12),
    },
    Outage {
        name: "busy",
        what: "Redis runs somebody's endless script for 8 s (`BUSY`)",
        expected: Expected::Nothing,
        prepare: |setup| setup.options = setup.options.clone().line("busy-reply-threshold 100"),
        happen: |site| {
            let mut somebody = site.cluster.redis.client();
            somebody.send(&["EVAL", "while true do end", "0"]);
            site.run(3, 8);
            site.cluster.redis.ask(&["SCRIPT", "KILL"]);
            site.mended();
        },
    },
    Outage {
        name: "loading",
        what: "Redis killed, and loads an older copy (RDB) for seconds (`LOADING`)",
        expected: Expected::Told,
        prepare: as_usual,
        happen: |site| {
            site.cluster.redis.restart_loading();
            let found = wait::within(Duration::from_secs(60), || {
                let answer = site.cluster.redis.client().command(&["PING"]);
                matches!(answer, Value::Simple(_)).then_some(())
            });
            assert!(found.is_some(), "it still loads: {}", site.cluster.redis.log());
            site.mended();
        },
    },
    Outage {
        name: "oom",
        what: "Redis' memory is full for 8 s (`maxmemory`, `noeviction`: `OOM`)",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| configured(site, "maxmemory", "1", "0"),
    },
    Outage {
        name: "misconf",
        what: "Redis cannot save for 8 s (`MISCONF`)",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            let redis = &site.cluster.redis;
            // The file cannot be replaced by a new one.
            let obstacle = redis.dir().join("dump.rdb");
            std::fs::create_dir(&obstacle).expect("its folder is ours");
            redis.ask(&["CONFIG", "SET", "save", "3600 1000000"]);
            redis.ask(&["BGSAVE"]);
            redis.wait_info("rdb_last_bgsave_status:err");
            site.run(3, 8);
            let redis = &site.cluster.redis;
            std::fs::remove_dir(&obstacle).expect("it is empty");
            redis.ask(&["BGSAVE"]);
            redis.wait_info("rdb_last_bgsave_status:ok");
            site.mended();
        },
    },
    Outage {
        name: "noreplicas",
        what: "Too few replicas for 8 s (`min-replicas-to-write`: `NOREPLICAS`)",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| configured(site, "min-replicas-to-write", "1", "0"),
    },
    Outage {
        name: "readonly",
        what: "Redis is made a replica for 8 s (`READONLY`)",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            site.cluster.redis.cut_replication();
            site.run(3, 8);
            site.cluster.redis.promote();
            site.mended();
        },
    },
    Outage {
        name: "password",
        what: "Redis started again with another password, and after 8 s with the old one",
        expected: Expected::Nothing,
        prepare: |setup| {
            setup.options = setup.options.clone().aof().password("first");
            setup.settings.push(("REDIS_PASSWORD", "first"));
        },
        happen: |site| {
            site.cluster.redis.restart_as(|options| options.password("second"));
            site.run(3, 8);
            site.cluster.redis.restart_as(|options| options.password("first"));
            site.mended();
        },
    },
    Outage {
        name: "maxclients",
        what: "All connections closed, and Redis takes no new ones for 8 s (`maxclients`)",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            let mut client = site.cluster.redis.client();
            client.ask(&["CONFIG", "SET", "maxclients", "1"]);
            client.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            site.run(3, 8);
            client.ask(&["CONFIG", "SET", "maxclients", "1000"]);
            site.mended();
        },
    },
    Outage {
        name: "failover",
        what: "Redis killed, its replica promoted by three Sentinels",
        expected: Expected::Told,
        prepare: watched,
        happen: |site| {
            site.cluster.redis.kill();
            promoted(site);
        },
    },
    Outage {
        name: "failover-paused",
        what: "Redis stands still until its replica is promoted, and comes back as a primary",
        expected: Expected::Told,
        prepare: watched,
        happen: |site| {
            site.cluster.redis.pause();
            promoted(site);
            site.run(3, 8);
            // What was sent to it before is carried out now.
            site.cluster.redis.resume();
            site.run(1, 3);
            site.cluster.redis.wait_info("role:slave");
        },
    },
    Outage {
        name: "tail-lost",
        what: "Redis killed, a replica promoted that lacks the last 2 s",
        expected: Expected::Told,
        prepare: replicated,
        happen: |site| {
            replica(site).cut_replication();
            site.run(1, 2);
            site.cluster.redis.kill();
            replica(site).promote();
            lead(site, 0..3);
            site.mended();
        },
    },
    Outage {
        name: "two-primaries",
        what: "Two primaries for 5 s: one node writes to the old one, two to its replica",
        expected: Expected::Parted,
        prepare: replicated,
        happen: |site| {
            replica(site).promote();
            lead(site, 1..3);
            site.run(2, 5);
            lead(site, 0..1);
            site.mended();
        },
    },
    Outage {
        name: "output-buffer",
        what: "A node takes nothing in until Redis ends its connection (`client-output-buffer-limit`)",
        expected: Expected::Nothing,
        prepare: as_usual,
        happen: |site| {
            let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0"];
            site.cluster.redis.ask(&limit);
            let nodes = &site.cluster.nodes;
            let mut reader = nodes[0].hello();
            reader.subscribe("flood");
            site.cluster.ways[0].choke();
            let body = serde_json::json!({
                "channel": "flood", "event": "flood", "data": { "text": "x".repeat(60_000) },
            });
            let found = wait::within(Duration::from_secs(60), || {
                http::post(nodes[1].address(), "/publish", &[], &body.to_string());
                site.cluster.redis.log().contains("output buffer limits").then_some(())
            });
            assert!(found.is_some(), "no limit: {}", site.cluster.redis.log());
            site.run(1, 2);
            site.cluster.ways[0].mend();
            site.mended();
        },
    },
];

fn on_disk(setup: &mut Setup<'_>) {
    setup.options = setup.options.clone().aof();
}

fn replicated(setup: &mut Setup<'_>) {
    setup.replica = true;
}

fn watched(setup: &mut Setup<'_>) {
    (setup.replica, setup.sentinels) = (true, 3);
}

fn killed(site: &mut Site, small: u64, full: u64) {
    site.cluster.redis.kill();
    site.run(small, full);
    site.cluster.redis.restart();
    site.mended();
}

fn paused(site: &mut Site, small: u64, full: u64) {
    site.cluster.redis.pause();
    site.run(small, full);
    site.cluster.redis.resume();
    site.mended();
}

fn five_times(site: &mut Site, what: impl Fn(&Redis)) {
    for _ in 0..5 {
        what(&site.cluster.redis);
        site.mended();
        site.load.wait_for(50);
    }
}

fn end_connections(redis: &Redis) {
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
}

/// A setting of Redis is changed for 8 s.
fn configured(site: &mut Site, name: &str, bad: &str, good: &str) {
    site.cluster.redis.ask(&["CONFIG", "SET", name, bad]);
    site.run(3, 8);
    site.cluster.redis.ask(&["CONFIG", "SET", name, good]);
    site.mended();
}

fn replica(site: &Site) -> &Redis {
    site.cluster.replica.as_ref().expect("it was prepared")
}

fn promoted(site: &mut Site) {
    site.cluster.sentinels[0].wait_primary(MASTER, replica(site).port());
    site.mended();
}

/// These nodes find the replica behind the same address.
fn lead(site: &Site, nodes: std::ops::Range<usize>) {
    for way in &site.cluster.ways[nodes] {
        way.redirect(replica(site).address());
        way.reset();
    }
}
