//! Whatever comes, in whatever pieces: no panic, every command answered once, everything bounded.

use std::{collections::BTreeMap, io::ErrorKind, sync::Arc, time::Duration};

use mahavishnu_core::{
    config::{IngressKind, IngressSource},
    hub::{
        AttendanceEvent, BusCommand, BusEvent, CallId, ChannelEvent, IngressOwner, LinkEvent,
        NodeEvent, NodeId, Take, VisitEvent,
    },
};
use proptest::prelude::*;

use super::peer::{HELLO, Peer, RETENTION, append, epoch};
use crate::{Action, LinkConfig, redis::names::Names};

#[derive(Clone, Debug)]
enum Input {
    Connected,
    Failed,
    Eof,
    Resolved(bool),
    Bytes(Vec<u8>),
    /// What it should say, as far as it can be known.
    Proper,
    Message(Vec<u8>),
    Transmitted(usize),
    Wait(u64),
    Command(u8),
    Full(bool),
    Stop,
}

fn inputs() -> impl Strategy<Value = Input> {
    let pieces = prop::sample::select(
        &[
            "+OK\r\n",
            ":1\r\n",
            "$1\r\ns\r\n",
            "_\r\n",
            "-BUSY x\r\n",
            "-NOSCRIPT x\r\n",
            "-OOM x\r\n",
            "-READONLY x\r\n",
            "-ERR x\r\n",
            "*0\r\n",
            "*4\r\n$2\r\nok\r\n$10\r\n0123456789\r\n:1\r\n:1\r\n",
            "*4\r\n$10\r\n0123456789\r\n:1\r\n:0\r\n:0\r\n",
            "*2\r\n:1\r\n:2\r\n",
            "*2\r\n$3\r\n0-0\r\n$1\r\n0\r\n",
            "*4\r\n$3\r\n9-0\r\n$1\r\n1\r\n$3\r\n8-0\r\n$1\r\nx\r\n",
            "*1\r\n$4\r\nlost\r\n",
            "*2\r\n$5\r\nother\r\n:7\r\n",
            "*4\r\n$2\r\nok\r\n:2\r\n:5\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nv\r\n$2\r\n{}\r\n",
            "*4\r\n$2\r\nok\r\n:1\r\n:5\r\n*1\r\n$1\r\nx\r\n",
            ">3\r\n$12\r\nsunsubscribe\r\n$1\r\nx\r\n:0\r\n",
            "$40\r\n0123456789012345678901234567890123456789\r\n",
            HELLO,
            "%0\r\n",
            ">0\r\n",
            "\r\n",
        ][..],
    );
    prop_oneof![
        3 => Just(Input::Connected),
        1 => Just(Input::Failed),
        1 => Just(Input::Eof),
        2 => any::<bool>().prop_map(Input::Resolved),
        6 => pieces.prop_map(|text| Input::Bytes(text.as_bytes().to_vec())),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Input::Bytes),
        12 => Just(Input::Proper),
        3 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Input::Message),
        4 => (0..4_000_usize).prop_map(Input::Transmitted),
        4 => (0..8_000_u64).prop_map(Input::Wait),
        12 => any::<u8>().prop_map(Input::Command),
        2 => any::<bool>().prop_map(Input::Full),
        1 => Just(Input::Stop),
    ]
}

fn take(id: CallId) -> Take {
    Take {
        id,
        source: Arc::new(IngressSource { kind: IngressKind::List, name: "in".into() }),
        owner: IngressOwner { node: NodeId(1), term: 1 },
        lease: Duration::from_secs(1),
        after: None,
        entries_max: 9,
        bytes_max: 100,
        entry_bytes_max: 100,
        done: vec!["1-0".into()],
        unfit: vec![("2-0".into(), "bad_publish")],
        gives_up: false,
    }
}

fn command(kind: u8, id: u64) -> (BusCommand, bool) {
    let (channel, id) = (format!("c{}", kind % 3), CallId(id));
    let channel: Arc<str> = channel.into();
    match kind % 10 {
        0 | 1 => (BusCommand::Follow { channel, epoch: epoch(), retention: RETENTION }, false),
        2 => (BusCommand::Unfollow { channel }, false),
        3 => (BusCommand::Read { id, channel, after: 0, bytes_max: 100 }, true),
        4 => (BusCommand::Fork { id, channel, found: None, epoch: epoch() }, true),
        5 => (
            BusCommand::Beat {
                node: NodeId(1),
                info: "{}".into(),
                lease: Duration::from_secs(1),
                first: true,
            },
            false,
        ),
        6 => (BusCommand::Control { id, command: "x".into(), keep: Duration::from_secs(1) }, true),
        7 => (BusCommand::Tell { message: "x".into() }, false),
        8 => (BusCommand::Take(Box::new(take(id))), true),
        _ => (append(id.0), true),
    }
}

fn answered(event: &BusEvent) -> Option<CallId> {
    match event {
        BusEvent::Channel(
            ChannelEvent::Appended { id, .. }
            | ChannelEvent::Announced { id, .. }
            | ChannelEvent::Page { id, .. }
            | ChannelEvent::Healed { id, .. },
        )
        | BusEvent::Node(NodeEvent::Controlled { id, .. })
        | BusEvent::Visit(VisitEvent::Visited { id, .. } | VisitEvent::Visits { id, .. })
        | BusEvent::Attendance(
            AttendanceEvent::Attended { id, .. } | AttendanceEvent::Members { id, .. },
        )
        | BusEvent::Taken { id, .. }
        | BusEvent::Session { id, .. } => Some(*id),
        _ => None,
    }
}

/// Runs a link through all of it, and then to its end.
fn run(up: bool, bytes_at_once: usize, inputs: &[Input]) {
    let mut config = LinkConfig::default();
    config.limits.commands_max = 20;
    let mut peer = if up { Peer::up_with(config) } else { Peer::new(config) };
    // How often each command was answered.
    let mut calls: BTreeMap<CallId, u32> = BTreeMap::new();
    let mut socket = up;
    let mut is_up = up;
    for (number, input) in inputs.iter().chain([&Input::Stop, &Input::Wait(20_000)]).enumerate() {
        match input {
            Input::Connected => peer.link.handle_connected(peer.now),
            Input::Failed => peer.link.handle_failed(peer.now, ErrorKind::ConnectionReset),
            Input::Eof => peer.link.handle_eof(peer.now),
            Input::Resolved(found) => {
                let result = if *found { Ok(Vec::new()) } else { Err(ErrorKind::NotFound) };
                peer.link.handle_resolved(peer.now, result);
            }
            Input::Bytes(bytes) => {
                for piece in bytes.chunks(bytes_at_once) {
                    peer.link.handle_bytes(peer.now, &mut piece.to_vec());
                }
            }
            Input::Proper if !up && number < 30 => {
                peer.reply(HELLO);
                peer.reply(&"$40\r\n0123456789012345678901234567890123456789\r\n".repeat(22));
            }
            Input::Proper => peer.reply("*4\r\n$2\r\nok\r\n$10\r\n0123456789\r\n:1\r\n:1\r\n"),
            Input::Message(message) => {
                let channel = Names::new("mahavishnu", 0).live("c1");
                peer.push(&channel, &String::from_utf8_lossy(message));
            }
            Input::Transmitted(count) => {
                let count = (*count).min(peer.link.transmit().len());
                peer.link.transmitted(count);
            }
            Input::Wait(millis) => peer.wait(Duration::from_millis(*millis)),
            Input::Command(kind) => {
                let (command, answers) = command(*kind, number as u64);
                if answers {
                    calls.insert(CallId(number as u64), 0);
                }
                peer.command(command);
            }
            Input::Full(full) => peer.link.set_full(peer.now, *full),
            Input::Stop => peer.link.stop(peer.now),
        }
        for action in peer.actions() {
            match action {
                Action::Connect { .. } | Action::Resolve { .. } => {
                    assert!(!socket, "there is one already");
                    socket = true;
                }
                Action::Close => {
                    assert!(socket, "there is none");
                    socket = false;
                }
            }
        }
        for event in peer.events() {
            match event {
                BusEvent::Link(LinkEvent::Up { .. }) => {
                    assert!(!std::mem::replace(&mut is_up, true));
                }
                BusEvent::Link(LinkEvent::Down) => assert!(std::mem::replace(&mut is_up, false)),
                BusEvent::Channel(ChannelEvent::Standing { .. } | ChannelEvent::Live { .. })
                | BusEvent::Link(LinkEvent::Reconciled) => {
                    assert!(is_up)
                }
                _ => {}
            }
            if let Some(id) = answered(&event) {
                *calls.get_mut(&id).expect("a command that was given") += 1;
            }
        }
        assert!(peer.link.calls.len() < 100, "{}", peer.link.calls.len());
    }
    assert!(peer.link.is_over() && !is_up && !socket);
    assert!(calls.values().all(|times| *times == 1), "{calls:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn anything_goes(up: bool, bytes_at_once in 1..60_usize, inputs in prop::collection::vec(inputs(), 0..60)) {
        run(up, bytes_at_once, &inputs);
    }
}
