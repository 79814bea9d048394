//! Finding Redis, and the pauses between.

use std::{io::ErrorKind, time::Duration};

use mahavishnu_core::hub::{BusEvent, LinkEvent};

use super::peer::{HELLO, Peer, address};
use crate::{Action, LinkConfig, LinkLimits, Outage, Secret, Servers};

fn named(host: &str) -> LinkConfig {
    LinkConfig { servers: Servers::Single { host: host.into(), port: 7 }, ..LinkConfig::default() }
}

#[test]
fn every_address_of_a_name_is_tried() {
    let mut peer = Peer::new(named("redis"));
    let resolve = Action::Resolve { host: "redis".into(), port: 7 };
    assert_eq!(peer.actions(), std::slice::from_ref(&resolve));
    let addresses = [address("10.0.0.1:7"), address("[::1]:7"), address("10.0.0.3:7")];
    let connect = addresses.map(|address| Action::Connect { address });
    peer.link.handle_resolved(peer.now, Ok(addresses.to_vec()));
    assert_eq!(peer.actions(), [connect[0].clone()]);
    peer.link.handle_failed(peer.now, ErrorKind::ConnectionRefused);
    assert_eq!(peer.actions(), [Action::Close, connect[1].clone()]);
    // Nobody says whether there is a connection.
    peer.wait(Duration::from_secs(2));
    assert_eq!(peer.actions(), [Action::Close, connect[2].clone()]);
    peer.link.handle_connected(peer.now);
    peer.link.handle_eof(peer.now);
    // And from the beginning, at once the first time.
    assert_eq!(peer.actions(), [Action::Close, resolve]);
    peer.link.handle_resolved(peer.now, Err(ErrorKind::NotFound));
    assert_eq!(peer.actions(), [Action::Close]);
    peer.link.handle_resolved(peer.now, Ok(addresses.to_vec()));
    assert_eq!(peer.actions(), [], "what was given up is not listened to any more");
}

/// The first time at once, then at random times below a bound that grows, up to five seconds.
#[test]
fn attempts_become_rarer_and_do_not_stop() {
    let mut peer = Peer::new(LinkConfig::default());
    let mut pauses = Vec::new();
    for _ in 0..60 {
        assert!(matches!(peer.actions()[..], [.., Action::Connect { .. }]));
        let before = peer.now.mono;
        peer.link.handle_failed(peer.now, ErrorKind::ConnectionRefused);
        peer.until_it_connects();
        pauses.push(peer.now.mono.saturating_duration_since(before));
    }
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(pauses[1] <= Duration::from_millis(126), "{pauses:?}");
    assert!(pauses[2] <= Duration::from_millis(158), "{pauses:?}");
    let later = &pauses[18..];
    assert!(later.iter().all(|pause| *pause <= Duration::from_millis(5_001)), "{pauses:?}");
    let sum: Duration = later.iter().sum();
    assert!((70..=140).contains(&sum.as_secs()), "half of the bound on average: {sum:?}");
}

/// A connection that has lasted makes the next pause short again.
#[test]
fn what_went_well_for_long_is_forgiven() {
    let mut peer = Peer::new(LinkConfig::default());
    for _ in 0..5 {
        peer.link.handle_failed(peer.now, ErrorKind::ConnectionRefused);
        peer.until_it_connects();
    }
    peer.rise();
    peer.link.handle_eof(peer.now);
    assert_eq!(peer.actions(), [Action::Close], "it did not last");
    peer.until_it_connects();
    peer.rise();
    peer.live(Duration::from_secs(11));
    peer.link.handle_eof(peer.now);
    assert!(matches!(peer.actions()[..], [Action::Close, Action::Connect { .. }]));
}

#[test]
fn a_refusal_is_waited_out() {
    let mut peer =
        Peer::new(LinkConfig { password: Some(Secret::new("hunter2")), ..named("127.0.0.1") });
    peer.actions();
    peer.link.handle_connected(peer.now);
    assert!(!format!("{:?}", peer.link).contains("hunter2"));
    let hello = peer.next();
    assert_eq!(hello, ["HELLO", "3", "AUTH", "default", "hunter2", "SETNAME", "mahavishnu:node:0"]);
    peer.reply("-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hunter2'\r\n");
    let state = format!("{:?}", peer.events());
    assert!(state.contains("quotes a password") && !state.contains("hunter2"), "{state}");
    assert_eq!(peer.link.stats().outages[Outage::Refused as usize], 1);
    peer.wait(Duration::from_millis(4_900));
    assert_eq!(peer.actions(), [Action::Close]);
    peer.wait(Duration::from_millis(200));
    assert!(matches!(peer.actions()[..], [Action::Connect { .. }]));
}

#[test]
fn whoever_does_not_say_who_it_is_is_left() {
    let mut peer = Peer::new(LinkConfig::default());
    peer.actions();
    peer.link.handle_connected(peer.now);
    peer.wait(Duration::from_millis(1_999));
    assert_eq!(peer.actions(), []);
    peer.wait(Duration::from_millis(1));
    assert!(matches!(peer.actions()[..], [Action::Close, Action::Connect { .. }]));
    assert_eq!(peer.link.stats().outages[Outage::Timeout as usize], 1);
}

#[test]
fn an_old_redis_is_refused() {
    for (version, needed) in [("6.2.6", true), ("7.0.0", false), ("10.1", false)] {
        let mut peer = Peer::new(LinkConfig::default());
        peer.actions();
        peer.link.handle_connected(peer.now);
        let hello = HELLO.replace("$6\r\n7.0.15", &format!("${}\r\n{version}", version.len()));
        peer.answer("HELLO", &hello);
        assert_eq!(format!("{:?}", peer.events()).contains("is too old"), needed, "{version}");
    }
}

/// It is asked again on the same connection until it has read its data.
#[test]
fn redis_that_loads_is_waited_for() {
    let mut peer = Peer::new(LinkConfig::default());
    peer.actions();
    peer.link.handle_connected(peer.now);
    peer.answer("HELLO", HELLO);
    peer.prepare_with("-LOADING Redis is loading the dataset in memory\r\n");
    peer.wait(Duration::from_millis(199));
    assert_eq!((peer.all(), peer.actions()), (vec![], vec![]));
    peer.wait(Duration::from_millis(1));
    peer.prepare_with("-LOADING Redis is loading the dataset in memory\r\n");
    assert!(format!("{:?}", peer.events()).contains("LOADING"));
    peer.wait(Duration::from_secs(1));
    peer.prepare_with("$1\r\n1\r\n");
    assert_eq!(peer.news(), [BusEvent::Link(LinkEvent::Up { session: 1 })]);
}

fn sentinels() -> LinkConfig {
    let addresses = vec![("10.0.0.1".into(), 26_379), ("10.0.0.2".into(), 26_379)];
    let (username, password) = (None, Some(Secret::new("watch")));
    LinkConfig {
        servers: Servers::Sentinel { addresses, master: "main".into(), username, password },
        ..LinkConfig::default()
    }
}

fn connect(text: &str) -> Action {
    Action::Connect { address: address(text) }
}

#[test]
fn sentinels_are_asked_in_turn() {
    let mut peer = Peer::new(sentinels());
    assert_eq!(peer.actions(), [connect("10.0.0.1:26379")]);
    peer.wait(Duration::from_millis(300));
    assert_eq!(peer.actions(), [Action::Close, connect("10.0.0.2:26379")]);
    peer.link.handle_connected(peer.now);
    let hello = peer.next();
    assert_eq!(hello[2..5], ["AUTH", "default", "watch"]);
    assert_eq!(peer.next(), ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
    peer.reply(HELLO);
    peer.reply("*2\r\n$8\r\n10.0.0.9\r\n$4\r\n6379\r\n");
    assert_eq!(peer.actions(), [Action::Close, connect("10.0.0.9:6379")]);
    peer.link.handle_connected(peer.now);
    assert_eq!(peer.next().len(), 4, "the password is the Sentinel's");
    // It is none any more: they are asked again, and first the one that knew.
    peer.reply(&HELLO.replace("$6\r\nmaster", "$7\r\nreplica"));
    let role = "*3\r\n$5\r\nslave\r\n:1\r\n*0\r\n";
    for command in peer.all() {
        let sha = "$40\r\n0123456789012345678901234567890123456789\r\n";
        let reply = match command[0].as_str() {
            "ROLE" => role,
            "SCRIPT" => sha,
            "HGET" => "_\r\n",
            _ => "+OK\r\n",
        };
        peer.reply(reply);
    }
    assert_eq!(peer.actions(), [Action::Close, connect("10.0.0.2:26379")]);
    peer.link.handle_connected(peer.now);
    peer.all();
    peer.reply(HELLO);
    peer.reply("_\r\n");
    assert_eq!(peer.actions(), [Action::Close, connect("10.0.0.1:26379")], "it does not know it");
}

#[test]
fn limits_are_what_their_documentation_says() {
    let LinkLimits { command_bytes_max, reply_bytes_max, batches_max, .. } = LinkLimits::default();
    assert_eq!((command_bytes_max, reply_bytes_max, batches_max), (16 << 20, 64 << 20, 4));
}
