//! What the application says to connections, does with their subscriptions and asks about them.

use std::time::Duration;

use mahavishnu_conformance::{Backend, Client, Did, Raw, Rig, Setup, Wish, token};
use mahavishnu_core::{
    config::{Config, SlowPolicy},
    hub::{ConnId, Disconnect, Leave, Roll},
    reason::Reason,
};
use serde_json::{Value, json};

fn start(backend: Backend, shards: u16) -> Rig {
    backend.start_with(Setup { shards, ..Setup::new(token::demand) })
}

/// A client of a user, and which connection it is.
fn user(rig: &Rig, name: &str, permissions: &[&str]) -> (Client, ConnId) {
    let before = rig.connected_now().len();
    let client = rig.login(&token::good(rig.unix(), name, permissions));
    let conns = rig.connected(before + 1);
    (client, conns[before])
}

/// The same without a token.
fn anybody(rig: &Rig) -> (Client, ConnId) {
    let before = rig.connected_now().len();
    let client = rig.hello();
    (client, rig.connected(before + 1)[before])
}

fn n(number: u64) -> Value {
    json!({ "n": number })
}

pub(crate) fn a_message_for_one_connection_reaches_it_alone_and_in_order(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let ((mut first, conn), (mut second, other)) = (anybody(&rig), anybody(&rig));
    for number in 0..50 {
        assert_eq!(rig.wish(Wish::Send(conn, "job.step", &n(number))), Did::Done(1));
    }
    assert_eq!(rig.wish(Wish::Send(other, "job.step", &n(99))), Did::Done(1));

    let message = first.message();
    let expected = json!({
        "id": message["id"], "correlation_id": null, "type": "event", "event": "job.step",
        "data": { "n": 0 }, "timestamp": message["timestamp"], "room": null,
        "error_code": null, "error_message": null,
    });
    assert_eq!(message, expected);
    assert_eq!(first.numbers(49), (1..50).collect::<Vec<_>>());
    assert_eq!(second.numbers(1), [99]);
    let refused = Did::Refused(Reason::BadPublish);
    assert_eq!(rig.wish(Wish::Send(conn, "", &n(0))), refused);
    first.close();
    rig.expect_sockets(1);
    assert_eq!(rig.wish(Wish::Send(conn, "job.step", &n(0))), Did::Gone);
}

pub(crate) fn a_message_for_a_user_reaches_all_of_its_connections(backend: Backend) {
    let rig = start(backend, 3);
    let mut ada: Vec<_> = (0..4).map(|_| user(&rig, "ada", &["admin"]).0).collect();
    let (mut eve, _) = user(&rig, "eve", &["admin"]);

    assert_eq!(rig.wish(Wish::SendToUser("ada", "mail", &n(1))), Did::Done(4));
    assert_eq!(rig.wish(Wish::SendToUser("eve", "mail", &n(2))), Did::Done(1));
    assert_eq!(rig.wish(Wish::SendToUser("nobody", "mail", &n(3))), Did::Done(0));

    for client in &mut ada {
        assert_eq!(client.numbers(1), [1]);
    }
    assert_eq!(eve.numbers(1), [2]);
    ada.pop().expect("four").close();
    rig.expect_sockets(4);
    assert_eq!(rig.wish(Wish::SendToUser("ada", "mail", &n(4))), Did::Done(3));
}

pub(crate) fn who_has_no_room_for_a_message_is_told_of(backend: Backend) {
    for policy in [SlowPolicy::Gap, SlowPolicy::Disconnect] {
        let rig = backend.start(|config: &mut Config| {
            config.limits.delivery.outbox_bytes_max = 128 * 1024;
            config.slow_readers.default = policy;
        });
        let mut sleeper = Raw::hello(rig.connect_narrow(8 * 1024));
        let conn = rig.connected(1)[0];
        let large = json!({ "filler": "x".repeat(32 * 1024) });
        let slow = (0..4_000).find(|_| match rig.wish(Wish::Send(conn, "e", &large)) {
            Did::Done(1) => false,
            Did::Slow => true,
            other => panic!("{other:?}"),
        });
        assert!(slow.is_some(), "a socket without end");
        let again = rig.wish(Wish::Send(conn, "e", &large));
        if policy == SlowPolicy::Disconnect {
            assert_eq!(again, Did::Gone);
            assert_eq!(sleeper.close_frame(), Some((1013, "Reading too slowly".into())));
        } else {
            rig.until("room", || {
                // Reading makes room.
                let _ = sleeper.frame();
                (rig.wish(Wish::Send(conn, "e", &large)) == Did::Done(1)).then_some(())
            });
        }
    }
}

pub(crate) fn the_application_puts_connections_into_channels(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let (mut client, conn) = anybody(&rig);
    for channel in ["a", "b", "c"] {
        assert_eq!(rig.wish(Wish::Subscribe(conn, channel)), Did::Done(1));
        assert_eq!(rig.wish(Wish::Subscribe(conn, channel)), Did::Done(0));
        assert_eq!(rig.broadcast(channel, &n(1)), 1);
        let told = client.message();
        let data = json!({ "status": "subscribed", "channel": channel });
        assert_eq!((&told["event"], &told["data"]), (&json!("channel.subscribed"), &data));
        assert_eq!(told["room"], channel);
        assert_eq!(client.numbers(1), [1]);

        assert_eq!(rig.wish(Wish::Unsubscribe(conn, channel)), Did::Done(1));
        let told = client.message();
        let data = json!({ "channel": channel, "reason": "application" });
        assert_eq!((&told["event"], &told["data"]), (&json!("channel.withdrawn"), &data));
        assert_eq!(rig.wish(Wish::Unsubscribe(conn, channel)), Did::Done(0));
        rig.until("its home to hear of it", || (rig.broadcast(channel, &n(2)) == 0).then_some(()));
    }
    let refused = Did::Refused(Reason::InvalidChannel);
    assert_eq!(rig.wish(Wish::Subscribe(conn, "")), refused);
    client.close();
    rig.expect_sockets(0);
    assert_eq!(rig.wish(Wish::Subscribe(conn, "a")), Did::Gone);
}

pub(crate) fn a_grant_holds_whatever_the_token_permits(backend: Backend) {
    let rig = start(backend, 2);
    let (mut client, conn) = user(&rig, "ada", &["workflow:read"]);
    let refused = Did::Refused(Reason::SubscribeForbidden);
    assert_eq!(rig.wish(Wish::SubscribeIfPermitted(conn, "pool:1")), refused);
    assert_eq!(rig.wish(Wish::SubscribeIfPermitted(conn, "workflow:1")), Did::Done(1));
    assert_eq!(rig.wish(Wish::Subscribe(conn, "pool:1")), Did::Done(1));
    for _ in 0..2 {
        assert_eq!(client.message()["event"], "channel.subscribed");
    }
    let fresh = token::good(rig.unix(), "ada", &["pool:write"]);
    client.send(&json!({ "type": "request", "event": "refresh_token", "id": "t",
        "data": { "token": fresh } }));
    let (first, second) = (client.message(), client.message());
    let events = [&first["event"], &second["event"]];
    assert_eq!(events, [&json!("refresh_token"), &json!("channel.withdrawn")], "{first} {second}");
    assert_eq!(second["room"], "workflow:1");
    assert_eq!(rig.broadcast("pool:1", &n(3)), 1);
    assert_eq!(client.numbers(1), [3]);
}

pub(crate) fn the_application_hears_of_every_subscription(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let (mut client, conn) = anybody(&rig);
    client.subscribe("a");
    client.subscribe("a");
    assert_eq!(rig.wish(Wish::Subscribe(conn, "b")), Did::Done(1));
    client.unsubscribe("a");
    assert_eq!(rig.wish(Wish::Unsubscribe(conn, "b")), Did::Done(1));
    client.subscribe("c");
    client.close();
    let moved = rig.moved(6);
    let words: Vec<_> = moved.iter().map(|(_, channel, leave)| (&**channel, *leave)).collect();
    let end = Some(Leave::Ended(Reason::PeerClosed));
    let expected = [
        ("a", None),
        ("b", None),
        ("a", Some(Leave::Client)),
        ("b", Some(Leave::Application)),
        ("c", None),
        ("c", end),
    ];
    assert_eq!(words, expected);
    assert!(moved.iter().all(|(of, ..)| *of == conn));
}

pub(crate) fn the_application_ends_connections_in_its_own_words(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let (mut client, conn) = anybody(&rig);
    for how in [Disconnect::new(1006, ""), Disconnect::new(4000, "x".repeat(124))] {
        let refused = Did::Refused(Reason::BadDisconnect);
        assert_eq!(rig.wish(Wish::Disconnect(conn, how)), refused);
    }
    assert_eq!(rig.wish(Wish::Send(conn, "bye", &n(1))), Did::Done(1));
    let how = Disconnect::new(4001, "logged in elsewhere").retry_after(Duration::from_secs(5));
    assert_eq!(rig.wish(Wish::Disconnect(conn, how.clone())), Did::Done(1));
    assert_eq!(client.numbers(1), [1]);
    let told = client.message();
    let data = json!({ "reason": "disconnect", "retry": "later", "return_after": 5.0 });
    assert_eq!((&told["event"], &told["data"]), (&json!("session.closing"), &data));
    assert_eq!(client.expect_close(4001), "logged in elsewhere");
    rig.expect_told_end(Reason::Disconnected);
    assert_eq!(rig.wish(Wish::Disconnect(conn, how)), Did::Done(0));
}

pub(crate) fn all_connections_of_a_user_are_ended(backend: Backend) {
    let rig = start(backend, 3);
    let mut ada: Vec<_> = (0..4).map(|_| user(&rig, "ada", &["admin"]).0).collect();
    let (mut eve, conn) = user(&rig, "eve", &["admin"]);

    let how = Disconnect::new(3000, "plan changed").at_once();
    assert_eq!(rig.wish(Wish::DisconnectUser("ada", how.clone())), Did::Done(4));

    for client in &mut ada {
        assert_eq!(client.expect_close(3000), "plan changed");
    }
    assert_eq!(rig.wish(Wish::DisconnectUser("ada", how)), Did::Done(0));
    assert_eq!(rig.wish(Wish::Send(conn, "e", &n(1))), Did::Done(1));
    assert_eq!(eve.numbers(1), [1]);
    // Its token is as good as before.
    user(&rig, "ada", &["admin"]).0.close();
}

pub(crate) fn connections_and_channels_are_listed_over_all_shards(backend: Backend) {
    let rig = start(backend, 3);
    let mut names = Vec::new();
    let mut clients: Vec<Client> = Vec::new();
    for at in 0..7 {
        let mut client = rig.client();
        let token = token::good(rig.unix(), ["ada", "eve"][at % 2], &["admin"]);
        client.request("auth", json!({ "token": token }));
        let welcome = client.expect_welcome();
        names.push(welcome["data"]["connection_id"].as_str().expect("a name").to_owned());
        for channel in 0..at {
            client.subscribe(&format!("c{channel}"));
        }
        clients.push(client);
    }
    let sorted = |(total, mut names): (u64, Vec<String>)| {
        names.sort();
        assert_eq!(total, names.len() as u64);
        names
    };
    let of = |keep: &dyn Fn(usize) -> bool| {
        let kept = names.iter().enumerate().filter(|(at, _)| keep(*at));
        let mut kept: Vec<String> = kept.map(|(_, name)| name.clone()).collect();
        kept.sort();
        kept
    };
    assert_eq!(sorted(rig.roll(&Roll::Connections)), of(&|_| true));
    assert_eq!(sorted(rig.roll(&Roll::User("ada".into()))), of(&|at| at % 2 == 0));
    assert_eq!(sorted(rig.roll(&Roll::User("nobody".into()))), of(&|_| false));
    assert_eq!(sorted(rig.roll(&Roll::Subscribers("c3".into()))), of(&|at| at > 3));
    let channels: Vec<String> = (0..6).map(|at| format!("c{at}={}", 6 - at)).collect();
    assert_eq!(sorted(rig.roll(&Roll::Channels)), channels);
}

pub(crate) fn a_broadcast_need_not_be_waited_for(backend: Backend) {
    let rig = backend.start_with(Setup { shards: 2, ..Setup::new(|_| {}) });
    let mut client = rig.subscriber("a");
    for number in 0..100 {
        assert_eq!(rig.wish(Wish::TryBroadcast("a", "e", &n(number))), Did::Done(0));
    }
    assert_eq!(client.numbers(100), (0..100).collect::<Vec<_>>());
}
