//! Connections that are lost, and what was under way on them.

use std::time::Duration;

use mahavishnu_core::hub::{
    AppendError, BusCommand, BusError, BusEvent, CallId, ChannelEvent, LinkEvent,
};

use super::peer::{Peer, append};
use crate::{Action, LinkConfig, Outage};

fn failed(id: u64, error: BusError) -> BusEvent {
    BusEvent::Channel(ChannelEvent::Appended {
        id: CallId(id),
        result: Err(AppendError::Bus(error)),
    })
}

/// What may have reached Redis is unknown; what has not left is certainly not done.
#[test]
fn what_was_sent_is_unknown_and_the_rest_was_not_tried() {
    let mut peer = Peer::up();
    peer.append(1);
    peer.read();
    peer.append(2);
    let half = peer.link.transmit().len() / 2;
    peer.link.transmitted(half);
    peer.append(3);
    peer.command(BusCommand::Tell { message: "x".into() });
    peer.link.handle_eof(peer.now);
    let (unknown, away) = (BusError::Unknown, BusError::Away);
    assert_eq!(
        peer.news(),
        [failed(1, unknown), failed(2, unknown), failed(3, away), BusEvent::Link(LinkEvent::Down)]
    );
    peer.append(4);
    assert_eq!(peer.news(), [failed(4, away)]);
    assert_eq!(peer.link.transmit(), b"", "nothing of it is left for the next connection");
    peer.all();
    peer.rise();
    assert_eq!(peer.news()[..1], [BusEvent::Link(LinkEvent::Up { session: 2 })]);
}

#[test]
fn silence_ends_a_connection_on_which_something_is_owed() {
    let mut peer = Peer::up();
    peer.live(Duration::from_secs(20));
    assert_eq!(peer.actions(), []);
    peer.append(1);
    peer.wait(Duration::from_millis(4_400));
    assert_eq!(peer.actions(), []);
    // Anything that comes is a sign of life.
    peer.push("mahavishnu:0:{n}:control", "T{}");
    peer.wait(Duration::from_millis(4_900));
    assert_eq!(peer.actions(), []);
    peer.wait(Duration::from_millis(200));
    assert!(matches!(peer.actions()[..], [Action::Close, ..]));
    assert_eq!(peer.link.stats().outages[Outage::Timeout as usize], 1);
    let state = peer.events();
    let why = |event: &BusEvent| matches!(event, BusEvent::Link(LinkEvent::State(state)) if state.cause.as_ref().is_some_and(|it| it.contains("no answer for 5 s")));
    assert!(state.iter().any(why), "{state:?}");
}

/// What is asked gets lost on its way, and live messages come all the same.
#[test]
fn silence_to_questions_ends_a_connection_on_which_others_are_heard() {
    let mut peer = Peer::up();
    peer.append(1);
    for _ in 0..14 {
        peer.wait(Duration::from_secs(1));
        peer.push("mahavishnu:0:{n}:control", "T{}");
        assert_eq!(peer.actions(), []);
    }
    peer.wait(Duration::from_millis(1_100));
    assert!(matches!(peer.actions()[..], [Action::Close, ..]));
    assert_eq!(peer.link.stats().outages[Outage::Timeout as usize], 1);
    assert!(peer.news().contains(&failed(1, BusError::Away)), "it was not even read");
}

/// A process that was stopped has not heard what came meanwhile: that is not the fault of Redis.
#[test]
fn whoever_was_stopped_waits_again() {
    let mut peer = Peer::up();
    peer.append(1);
    peer.now = peer.now.plus(Duration::from_secs(60));
    peer.link.handle_timeout(peer.now);
    assert_eq!(peer.actions(), []);
    peer.wait(Duration::from_millis(5_100));
    assert!(matches!(peer.actions()[..], [Action::Close, ..]), "but not for ever");
}

/// Everything is answered, and nothing delivered.
#[test]
fn probes_that_do_not_come_back_end_a_connection() {
    let mut peer = Peer::up();
    for _ in 0..20 {
        peer.wait(Duration::from_millis(500));
        peer.all().iter().for_each(|_| peer.reply(":1\r\n"));
        assert_eq!(peer.actions(), []);
    }
    let events = peer.events();
    let ages: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            BusEvent::Link(LinkEvent::State(state)) => state.probe_age,
            _ => None,
        })
        .collect();
    assert!(ages.last() > Some(&Duration::from_secs(9)), "{ages:?}");
    assert!(matches!(events.last(), Some(BusEvent::Link(LinkEvent::State(state))) if !state.up));
    for _ in 0..4 {
        peer.wait(Duration::from_millis(500));
        peer.all().iter().for_each(|_| peer.reply(":1\r\n"));
    }
    assert!(matches!(peer.actions()[..], [Action::Close, ..]));
    assert_eq!(peer.link.stats().outages[Outage::Probe as usize], 1);
    assert!(peer.link.stats().probes_lost > 0);
}

#[test]
fn what_may_be_refused_is_no_error() {
    let mut peer = Peer::new(LinkConfig::default());
    peer.actions();
    peer.link.handle_connected(peer.now);
    peer.answer("HELLO", super::peer::HELLO);
    while peer.link.stats().sessions == 0 {
        let command = peer.next();
        peer.reply(match command[0].as_str() {
            "SCRIPT" => "$40\r\n0123456789012345678901234567890123456789\r\n",
            "HGET" => "$1\r\n1\r\n",
            "ROLE" => "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n",
            "SELECT" => "+OK\r\n",
            _ => "-ERR unknown subcommand\r\n",
        });
    }
    assert!(peer.link.stats().errors.iter().all(|count| *count == 0));
}

#[test]
fn a_connection_knows_the_one_before_and_ends_it() {
    let mut peer = Peer::new(LinkConfig::default());
    peer.actions();
    peer.link.handle_connected(peer.now);
    peer.answer("HELLO", super::peer::HELLO);
    let first = peer.all();
    assert!(!first.concat().contains(&"KILL".into()));
    for command in first {
        let info = "$33\r\nid=17 addr=10.0.0.1:5 laddr=x:1 r\r\n";
        let sha = "$40\r\n0123456789012345678901234567890123456789\r\n";
        peer.reply(match (command[0].as_str(), command.get(1).map(String::as_str)) {
            ("CLIENT", Some("INFO")) => info,
            ("SCRIPT", _) => sha,
            ("HGET", _) => "$1\r\n1\r\n",
            ("ROLE", _) => "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n",
            // Rights may be few.
            _ => "-NOPERM no\r\n",
        });
        if command[0] == "SELECT" {
            break;
        }
    }
    assert_eq!(peer.link.stats().sessions, 0, "SELECT is needed");

    let mut peer = Peer::up();
    peer.link.previous = Some((17, "10.0.0.1:5".into()));
    peer.link.handle_eof(peer.now);
    peer.actions();
    peer.link.handle_connected(peer.now);
    peer.answer("HELLO", super::peer::HELLO);
    assert_eq!(peer.next(), ["CLIENT", "KILL", "ID", "17", "ADDR", "10.0.0.1:5"]);
}

#[test]
fn a_link_that_is_stopped_is_over_when_everything_is_answered() {
    let mut peer = Peer::up();
    peer.append(1);
    peer.link.stop(peer.now);
    peer.append(2);
    assert_eq!(peer.news(), [failed(2, BusError::Away)], "it came too late");
    peer.read();
    assert!(!peer.link.is_over());
    peer.reply("*4\r\n$2\r\nok\r\n$10\r\n0123456789\r\n:1\r\n:0\r\n");
    assert!(matches!(
        peer.news()[..],
        [
            BusEvent::Channel(ChannelEvent::Appended { result: Ok(_), .. }),
            BusEvent::Link(LinkEvent::Down)
        ]
    ));
    assert!(peer.link.is_over());
    assert_eq!(peer.actions(), [Action::Close]);
    assert_eq!(peer.link.poll_timeout(), None);

    let mut peer = Peer::up();
    peer.append(1);
    peer.read();
    peer.link.stop(peer.now);
    peer.wait(Duration::from_secs(6));
    assert!(peer.link.is_over());
    assert_eq!(peer.news(), [failed(1, BusError::Unknown), BusEvent::Link(LinkEvent::Down)]);

    let mut peer = Peer::new(LinkConfig::default());
    peer.link.stop(peer.now);
    assert!(peer.link.is_over());
    assert!(!append_is_taken(&mut peer));
}

fn append_is_taken(peer: &mut Peer) -> bool {
    peer.command(append(9));
    peer.news() != [failed(9, BusError::Away)]
}
