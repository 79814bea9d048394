//! The paths that every message takes, as cases of which the instructions are counted.
//!
//! A case sets itself up, warms up, and then runs `operations` times inside [`measured`]; callgrind counts what happens
//! in there and nothing else. `scripts/instructions` compares the counts with `benches/micro/instructions.tsv`.

use std::hint::black_box;

use mahavishnu_core::{
    config::{Config, Keep},
    hub::DirectMessage,
    protocol,
    time::Now,
    wire::Limits,
    ws::{Accept, Connection, Event},
};

use crate::{CHANNEL, Stage, frames, stage::START_UNIX};

/// A case: what it is called, what one operation is, and how it runs. Running gives the number of operations.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name in the table of budgets.
    pub name: &'static str,
    /// What is counted once.
    pub operation: &'static str,
    /// Runs it.
    pub run: fn() -> u64,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        name: "frame-128",
        operation: "frame with a text of 128 B: header, unmasking, UTF-8",
        run: || receive(128, 1_000),
    },
    Case { name: "frame-16k", operation: "the same with 16 KiB", run: || receive(16 * 1024, 100) },
    Case {
        name: "envelope-128",
        operation: "publish request with 128 B of data, read",
        run: || decode(&frames::publish(CHANNEL, &frames::object(128)), 1_000),
    },
    Case {
        name: "envelope-1k",
        operation: "the same with 1 KiB of structured data, by the Python client",
        run: || decode(&frames::publish_full(CHANNEL, &frames::structured(1024)), 1_000),
    },
    Case {
        name: "publish",
        operation: "publish of 128 B by a client with a token, 64 a turn, no subscriber: frame to answer",
        run: || publish(0, Config::default()),
    },
    Case {
        name: "publish-subscribed",
        operation: "the same with one subscriber: encoded, handed out, written",
        run: || publish(1, Config::default()),
    },
    Case {
        name: "publish-subscribed-off",
        operation: "the same without history",
        run: || publish(1, without_history()),
    },
    Case {
        name: "fanout-w1",
        operation: "member of 1,000 and round of one message: handed out and flushed",
        run: || fan_out(1, Config::default()),
    },
    Case {
        name: "fanout-w1-off",
        operation: "the same without history",
        run: || fan_out(1, without_history()),
    },
    Case {
        name: "fanout-w64",
        operation: "member of 1,000 and round of 64 messages: handed out and flushed",
        run: || fan_out(64, Config::default()),
    },
    Case {
        name: "direct",
        operation: "message of 128 B to one of 1,000 users, all of them in a turn: command to flush",
        run: direct,
    },
    Case { name: "turn-idle", operation: "turn with nothing to do", run: turns },
    Case {
        name: "turn-one",
        operation: "turn with one publish and one subscriber",
        run: || turns_with_one(Config::default()),
    },
    Case {
        name: "turn-one-off",
        operation: "the same without history",
        run: || turns_with_one(without_history()),
    },
    Case { name: "ping", operation: "turn with one ping, answered", run: pings },
];

/// Runs `work`. Under this name, which is never inlined, callgrind finds it.
#[inline(never)]
pub fn measured(work: impl FnOnce()) {
    work();
    // Nothing may be moved out of here.
    black_box(());
}

/// A connection behind its handshake.
#[must_use]
pub fn open_connection(now: Now, limits: &Limits) -> Connection {
    let mut connection = Connection::server(now);
    let mut head = frames::upgrade("");
    let event = connection.receive(now, limits, &mut &mut *head);
    assert!(matches!(event, Some(Event::Upgrade(_))), "the handshake failed");
    drop(event);
    connection.accept(now, &Accept::default());
    let mut sink = Vec::new();
    let _ = connection.flush(now, &mut sink);
    connection
}

/// The time at which everything begins.
#[must_use]
pub fn start() -> Now {
    Now { mono: std::time::Instant::now(), unix: START_UNIX }
}

fn receive(bytes: usize, times: u64) -> u64 {
    let (now, limits) = (start(), Limits::default());
    let mut connection = open_connection(now, &limits);
    let mut frame = frames::text(&frames::object(bytes));
    measured(|| {
        for _ in 0..times {
            let event = connection.receive(now, &limits, &mut black_box(&mut *frame));
            assert!(matches!(event, Some(Event::Text(_))), "no message came");
        }
    });
    times
}

fn decode(message: &str, times: u64) -> u64 {
    measured(|| {
        for _ in 0..times {
            let incoming = protocol::decode_text(black_box(message)).expect("a message");
            let command = incoming.intent();
            assert!(matches!(command, protocol::Intent::Publish { .. }), "not a publish");
            black_box(command);
        }
    });
    times
}

fn publish(subscribers: usize, config: Config) -> u64 {
    const PER_TURN: usize = 64;
    let (mut stage, publisher) = Stage::with_publisher_under(config);
    stage.open_subscribers(subscribers);
    let wire = frames::text(&frames::publish(CHANNEL, &frames::object(128))).repeat(PER_TURN);
    repeat(&mut stage, publisher, wire, 20) * PER_TURN as u64
}

fn fan_out(per_round: usize, config: Config) -> u64 {
    const MEMBERS: usize = 1_000;
    const ROUNDS: u64 = 10;
    let mut stage = Stage::under(config);
    stage.open_subscribers(MEMBERS);
    let data = bytes::Bytes::from(frames::object(128));
    let mut rounds = |count: u64| {
        for _ in 0..count {
            for _ in 0..per_round {
                stage.broadcast(black_box(&data));
            }
            stage.turn();
        }
    };
    rounds(120);
    measured(|| rounds(ROUNDS));
    ROUNDS * MEMBERS as u64
}

/// What `handle.send_to_user` costs the core, to be held against a member of a fan-out of one message.
fn direct() -> u64 {
    const USERS: usize = 1_000;
    const ROUNDS: u64 = 10;
    let (mut stage, _) = Stage::with_publisher();
    let names = stage.open_users(USERS);
    let message = DirectMessage::new("bench.tick", &frames::object(128));
    let mut rounds = |count: u64| {
        for _ in 0..count {
            for name in &names {
                stage.send(name, black_box(&message));
            }
            stage.turn();
        }
    };
    rounds(10);
    measured(|| rounds(ROUNDS));
    ROUNDS * USERS as u64
}

fn turns() -> u64 {
    const TURNS: u64 = 1_000;
    let mut stage = Stage::new();
    stage.open_subscribers(10);
    stage.turn();
    measured(|| (0..TURNS).for_each(|_| stage.turn()));
    TURNS
}

fn turns_with_one(config: Config) -> u64 {
    let (mut stage, publisher) = Stage::with_publisher_under(config);
    stage.open_subscribers(1);
    let wire = frames::text(&frames::publish(CHANNEL, &frames::object(128)));
    repeat(&mut stage, publisher, wire, 500)
}

/// The defaults, but nothing is kept of any channel.
fn without_history() -> Config {
    let mut config = Config::default();
    config.history.default = Keep::OFF;
    config
}

fn pings() -> u64 {
    let mut stage = Stage::new();
    let client = stage.open();
    repeat(&mut stage, client, frames::text(frames::PING), 500)
}

/// So many turns, each with the same bytes of a client.
fn repeat(
    stage: &mut Stage,
    conn: mahavishnu_core::hub::ConnId,
    mut wire: Vec<u8>,
    measured_turns: u64,
) -> u64 {
    let mut turns = |count: u64| {
        for _ in 0..count {
            stage.feed(conn, black_box(&mut wire));
            stage.turn();
        }
    };
    // The channel's log is as long as it gets.
    turns(120);
    measured(|| turns(measured_turns));
    measured_turns
}
