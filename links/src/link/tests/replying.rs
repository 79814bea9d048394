//! Replies and errors.

use std::time::Duration;

use mahavishnu_core::hub::{
    AppendError, Appended, BusCommand, BusError, BusEvent, CallId, ChannelEvent, LinkEvent, Live,
    NodeEvent, NodeId,
};

use super::peer::{Peer, epoch};
use crate::{Action, ErrorClass, LinkConfig, Outage, redis::names::Names};

fn made(id: u64, offset: u64) -> BusEvent {
    let first = mahavishnu_core::protocol::Position { epoch: epoch(), offset };
    BusEvent::Channel(ChannelEvent::Appended {
        id: CallId(id),
        result: Ok(Appended { first, nodes: 1, repeated: false }),
    })
}

fn ok(offset: u64) -> String {
    format!("*4\r\n$2\r\nok\r\n$10\r\n{}\r\n:{offset}\r\n:1\r\n", epoch())
}

fn failed(id: u64, error: BusError) -> BusEvent {
    BusEvent::Channel(ChannelEvent::Appended {
        id: CallId(id),
        result: Err(AppendError::Bus(error)),
    })
}

/// Servers differ in whether one's own message comes before the reply or behind it: both are told as they come.
#[test]
fn messages_and_replies_come_in_either_order() {
    let live = Names::new("mahavishnu", 0).live("c");
    for message_first in [true, false] {
        let mut peer = Peer::up();
        peer.follow("c");
        peer.read();
        peer.all();
        peer.reply("$1\r\ns\r\n");
        peer.reply(&format!("*4\r\n$10\r\n{}\r\n:0\r\n:0\r\n:0\r\n", epoch()));
        peer.append(1);
        peer.read();
        peer.news();
        let message = format!("A{}:1:1:record 1", epoch());
        if message_first {
            peer.push(&live, &message);
        }
        peer.reply(&ok(1));
        if !message_first {
            peer.push(&live, &message);
        }
        let mut news = peer.news();
        if !message_first {
            news.reverse();
        }
        let live = Live::Round {
            epoch: epoch(),
            first: 1,
            count: 1,
            records: Some("record 1".into()),
            state: None,
        };
        assert_eq!(
            news,
            [BusEvent::Channel(ChannelEvent::Live { channel: "c".into(), live }), made(1, 1)]
        );
    }
}

#[test]
fn a_script_that_was_forgotten_is_given_again_once() {
    let mut peer = Peer::up();
    peer.append(1);
    peer.append(2);
    let asked = peer.all();
    let no_script = "-NOSCRIPT No matching script. Please use EVAL.\r\n";
    peer.reply(&no_script.repeat(2));
    let again = peer.all();
    assert_eq!(again.len(), 3);
    assert_eq!(again[0][..2], ["SCRIPT", "LOAD"]);
    assert_eq!(again[1..], asked);
    peer.reply("$40\r\nabcdefabcdefabcdefabcdefabcdefabcdefabcd\r\n");
    peer.reply(&(ok(1) + &ok(2)));
    assert_eq!(peer.news(), [made(1, 1), made(2, 2)]);
    peer.append(3);
    assert_eq!(peer.next()[1], "abcdefabcdefabcdefabcdefabcdefabcdefabcd");
    // Whoever forgets what it is given has it a few times.
    for _ in 0..3 {
        peer.reply(no_script);
        peer.all();
        peer.reply("$40\r\nabcdefabcdefabcdefabcdefabcdefabcdefabcd\r\n");
    }
    peer.reply(no_script);
    assert_eq!(peer.news(), [failed(3, BusError::Failed)]);
}

/// What Redis cannot do now is asked for again a little later, and what comes meanwhile behind it.
#[test]
fn what_has_to_wait_waits_in_its_order() {
    let mut peer = Peer::up();
    peer.append(1);
    peer.append(2);
    let asked = peer.all();
    peer.reply("-BUSY Redis is busy running a script.\r\n");
    peer.append(3);
    peer.reply("-BUSY Redis is busy running a script.\r\n");
    assert_eq!(peer.all(), Vec::<Vec<String>>::new());
    peer.wait(Duration::from_millis(49));
    assert_eq!(peer.all(), Vec::<Vec<String>>::new());
    peer.wait(Duration::from_millis(1));
    let again = peer.all();
    assert_eq!((again.len(), &again[..2]), (3, &asked[..]));
    peer.reply(&"-BUSY Redis is busy running a script.\r\n".repeat(3));
    peer.wait(Duration::from_millis(99));
    assert_eq!(peer.all(), Vec::<Vec<String>>::new(), "twice as long");
    peer.wait(Duration::from_millis(1));
    assert_eq!(peer.all().len(), 3);
    peer.reply(&(ok(1) + &ok(2) + &ok(3)));
    assert_eq!(peer.news(), [made(1, 1), made(2, 2), made(3, 3)]);
    // What waits when the connection ends was not done.
    peer.append(4);
    peer.all();
    peer.reply("-LOADING Redis is loading the dataset in memory\r\n");
    peer.link.handle_eof(peer.now);
    assert_eq!(peer.news(), [failed(4, BusError::Away), BusEvent::Link(LinkEvent::Down)]);
}

#[test]
fn a_lease_that_is_not_renewed_is_told() {
    let mut peer = Peer::up();
    let beat = |peer: &mut Peer| {
        let (info, lease) = ("{}".into(), Duration::from_secs(10));
        peer.command(BusCommand::Beat { node: NodeId(1), info, lease, first: false });
        peer.read();
    };
    beat(&mut peer);
    peer.reply("-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    assert_eq!(peer.news(), [BusEvent::Node(NodeEvent::BeatFailed)]);
    beat(&mut peer);
    peer.link.handle_eof(peer.now);
    assert_eq!(
        peer.news(),
        [BusEvent::Node(NodeEvent::BeatFailed), BusEvent::Link(LinkEvent::Down)]
    );
}

#[test]
fn errors_are_what_they_are() {
    for (text, error, class, outage) in [
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            BusError::Full,
            ErrorClass::Full,
            None,
        ),
        (
            "MISCONF Redis is configured to save RDB snapshots",
            BusError::Full,
            ErrorClass::Full,
            None,
        ),
        ("NOREPLICAS Not enough good replicas to write.", BusError::Full, ErrorClass::Full, None),
        (
            "READONLY You can't write against a read only replica.",
            BusError::Away,
            ErrorClass::Elsewhere,
            Some(Outage::Elsewhere),
        ),
        (
            "MOVED 3999 127.0.0.1:6381",
            BusError::Away,
            ErrorClass::Elsewhere,
            Some(Outage::Elsewhere),
        ),
        (
            "NOPERM this user has no permissions to run the 'evalsha' command",
            BusError::Away,
            ErrorClass::Refused,
            Some(Outage::Refused),
        ),
        (
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            BusError::Failed,
            ErrorClass::Poison,
            None,
        ),
        ("ERR numbers are used up", BusError::Failed, ErrorClass::Poison, None),
        ("", BusError::Failed, ErrorClass::Poison, None),
    ] {
        let mut peer = Peer::up();
        peer.append(1);
        peer.read();
        peer.reply(&format!("-{text}\r\n"));
        assert_eq!(peer.news()[0], failed(1, error), "{text}");
        let stats = peer.link.stats();
        assert_eq!(stats.errors[class as usize], 1, "{text}");
        assert_eq!(
            Outage::ALL.into_iter().find(|it| stats.outages[*it as usize] > 0),
            outage,
            "{text}"
        );
    }
}

/// One reply of another shape is a reply that is not understood; several are another Redis.
#[test]
fn what_is_not_understood_is_not_taken_for_something() {
    let mut peer = Peer::up();
    for id in 1..=3 {
        peer.append(id);
        peer.read();
        peer.reply("+OK\r\n");
    }
    let unknown = |id| failed(id, BusError::Unknown);
    assert_eq!(peer.news(), [unknown(1), unknown(2), unknown(3), BusEvent::Link(LinkEvent::Down)]);
    assert_eq!(peer.link.stats().outages[Outage::Poison as usize], 1);

    for (bytes, outage) in [
        ("+OK\r\n", Outage::Broken),
        ("hello", Outage::Broken),
        ("$99999999999\r\n", Outage::Broken),
    ] {
        let mut peer = Peer::up();
        peer.reply(bytes);
        peer.reply("\r\n");
        assert_eq!(peer.link.stats().outages[outage as usize], 1, "{bytes}");
        assert!(matches!(peer.actions()[..], [Action::Close, ..]));
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let mut config = LinkConfig::default();
    config.limits.commands_max = 2;
    let mut peer = Peer::up_with(config);
    for id in 1..=3 {
        peer.append(id);
    }
    peer.command(BusCommand::Tell { message: "x".into() });
    assert_eq!(peer.news(), [failed(3, BusError::Full)]);
    assert_eq!(peer.link.stats().dropped, 1);
    peer.read();
    peer.reply(&ok(1));
    peer.append(4);
    assert_eq!(peer.news(), [made(1, 1)]);
    assert!(peer.link.stats().command_bytes > 0);
    peer.reply(&(ok(2) + &ok(3)));
    assert_eq!(peer.link.stats().command_bytes, 0);
}
