//! At `sockets_max`: who goes for a newcomer, and who does not.

use super::*;
#[cfg(feature = "tls")]
use crate::tls::testing::Authority;

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST_HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn with_room_for(sockets: usize) -> Rig {
    let mut config = Config::default();
    config.limits.connections.sockets_max = sockets;
    Rig::new(1, config)
}

/// A client that has sent this and been given what there is to give.
fn who_sent(rig: &mut Rig, bytes: &[u8]) -> Client {
    let client = rig.socket(0);
    rig.bytes(&client, bytes);
    client
}

fn is_refused(rig: &mut Rig) -> bool {
    let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener: Listener::Main };
    rig.hubs[0].handle_accept(rig.now, peer) == Err(Reason::MaxSockets)
}

#[test]
fn the_oldest_silent_socket_goes_for_a_newcomer() {
    let mut rig = with_room_for(3);
    let silent: Vec<Client> = (0..3).map(|_| rig.socket(0)).collect();

    let newcomer = rig.connect(0);

    let gone: Vec<bool> = silent.iter().map(Client::is_closed).collect();
    assert_eq!(gone, [true, false, false]);
    assert!(!newcomer.is_ended());
    assert_eq!(rig.hubs[0].hub().sockets(), 3);
}

#[test]
fn whatever_part_of_a_request_has_come_it_goes() {
    let parts: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\nHost:",
        b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET",
    ];
    for part in parts {
        let mut rig = with_room_for(1);
        let begun = who_sent(&mut rig, part);

        rig.connect(0);

        assert!(begun.is_closed(), "{}", String::from_utf8_lossy(part));
    }
}

#[cfg(feature = "tls")]
#[test]
fn half_a_tls_handshake_and_half_a_proxy_header_go() {
    let issued = Authority::new("root").issue(&["a.example"]);
    let tls = |config: &mut Config| config.tls = Some(issued.server());
    let proxy = |config: &mut Config| {
        config.proxy_protocol = true;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    type Configure<'a> = &'a dyn Fn(&mut Config);
    let cases: [(Configure<'_>, &[u8]); 2] =
        [(&tls, &[22, 3, 1]), (&proxy, b"PROXY TCP4 192.0.2.7")];
    for (configure, part) in cases {
        let mut config = Config::default();
        config.limits.connections.sockets_max = 1;
        configure(&mut config);
        let mut rig = Rig::new(1, config);
        let begun = who_sent(&mut rig, part);

        let newcomer = rig.socket(0);
        rig.run();

        assert!(begun.is_closed() && !newcomer.is_ended(), "{part:?}");
        assert_eq!(rig.hubs[0].hub().connections.handshakes(), 0);
    }
}

#[test]
fn open_connections_stay_and_the_newcomer_is_refused() {
    let mut rig = with_room_for(2);
    let clients = [rig.connect(0), rig.connect(0)];

    assert!(is_refused(&mut rig));
    rig.run();

    assert!(clients.iter().all(|client| !client.is_ended()));
}

#[test]
fn idle_connections_go_after_those_without_a_request_and_the_longest_idle_one_first() {
    let mut rig = with_room_for(3);
    let idle = [who_sent(&mut rig, HEALTH), who_sent(&mut rig, HEALTH)];
    let silent = rig.socket(0);
    // The first one is used again: now the second has been idle for longer.
    rig.bytes(&idle[0], HEALTH);
    let gone = |clients: [&Client; 3]| clients.map(Client::is_closed);

    rig.connect(0);
    assert_eq!(gone([&silent, &idle[0], &idle[1]]), [true, false, false]);
    rig.connect(0);
    assert_eq!(gone([&silent, &idle[0], &idle[1]]), [true, false, true]);
    rig.connect(0);
    assert_eq!(gone([&silent, &idle[0], &idle[1]]), [true, true, true]);
    assert!(is_refused(&mut rig));
}

#[test]
fn who_waits_for_an_answer_stays() {
    let mut config = Config::default();
    config.limits.connections.sockets_max = 1;
    let mut rig = Rig::new(1, config);
    let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener: Listener::Metrics };
    let conn = rig.hubs[0].handle_accept(rig.now, peer).unwrap();
    rig.hubs[0].handle_bytes(rig.now, conn, &mut HEALTH.to_vec());

    assert!(is_refused(&mut rig));
}

#[test]
fn who_has_been_told_everything_goes_before_who_has_not_begun() {
    let mut rig = with_room_for(2);
    let silent = rig.socket(0);
    let done = who_sent(&mut rig, LAST_HEALTH);
    assert!(done.take_text().starts_with("HTTP/1.1 200 "));

    rig.connect(0);

    assert!(done.is_closed() && !silent.is_ended());
}

#[test]
fn an_answer_that_was_not_written_yet_is_not_lost() {
    for request in [HEALTH, LAST_HEALTH] {
        let mut rig = with_room_for(1);
        let client = rig.socket(0);
        rig.hubs[0].handle_bytes(rig.now, client.conn, &mut request.to_vec());

        assert!(is_refused(&mut rig), "in the same turn");
        rig.run();

        assert!(client.take_text().starts_with("HTTP/1.1 200 "));
        rig.connect(0);
        assert!(client.is_closed(), "in the next one");
    }
}

#[test]
fn who_does_not_take_his_answer_goes_too() {
    let mut rig = with_room_for(1);
    let client = rig.socket(0);
    client.wire.borrow_mut().room = Some(0);
    rig.bytes(&client, LAST_HEALTH);

    rig.connect(0);

    assert!(client.is_closed());
}

#[test]
fn a_flood_of_silent_sockets_does_not_keep_clients_out() {
    let mut rig = with_room_for(20);
    let client = rig.connect(0);
    for _ in 0..50 {
        (0..30).for_each(|_| _ = rig.socket(0));
        rig.run();
        // Its bytes come a turn after it was accepted, and others in between.
        let honest = rig.socket(0);
        (0..10).for_each(|_| _ = rig.socket(0));
        rig.run();
        rig.bytes(&honest, LAST_HEALTH);
        assert!(honest.take_text().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(rig.hubs[0].hub().sockets(), 20);
    assert!(!client.is_ended());
}

#[test]
fn within_one_turn_only_so_many_go() {
    let mut rig = with_room_for(1);
    let first = rig.socket(0);
    (0..1_024).for_each(|_| _ = rig.socket(0));

    assert!(is_refused(&mut rig));
    assert_eq!(rig.hubs[0].hub().sockets(), 1_025);

    rig.run();
    assert!(first.is_closed());
    assert_eq!(rig.hubs[0].hub().sockets(), 1);
    assert!(!is_refused(&mut rig));
}

#[test]
fn lines_survive_whatever_leaves_them() {
    let mut rig = with_room_for(5);
    let silent: Vec<Client> = (0..5).map(|_| rig.socket(0)).collect();
    // The middle, the last, the first.
    for gone in [2, 4, 0] {
        rig.hang_up(&silent[gone]);
    }
    let newer: Vec<Client> = (0..3).map(|_| rig.socket(0)).collect();

    rig.connect(0);
    assert!(silent[1].is_closed() && !silent[3].is_ended());
    rig.connect(0);
    assert!(silent[3].is_closed() && !newer[0].is_ended());
    rig.connect(0);
    assert!(newer[0].is_closed() && !newer[1].is_ended());
}
