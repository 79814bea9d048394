//! How often the warm core asks the allocator for memory: not at all for a delivered message, and a known number of
//! times for a round and for an answer. The counts are of this thread, so tests may run beside each other.

use allocation_counter::{AllocationInfo, measure};
use mahavishnu_core::hub::DirectMessage;
use mahavishnu_microbenches::{CHANNEL, Stage, frames};

/// What a round keeps apart from the members' outboxes: the buffer that the channel's frames are gathered in, the
/// reference count that lets it be shared, and a segment each for the channel's log and for all members.
const PER_ROUND: u64 = 4;

/// The same of a round that nobody subscribes to: its buffer and a segment for the log, which shares it with nobody.
const PER_KEPT_ROUND: u64 = 2;

/// The buffer that a connection's answers are gathered in until they are written. It is given back then: an idle
/// connection keeps none.
const PER_ANSWERED_CONNECTION: u64 = 1;

/// A message for connections: its frame, and the segment that they share.
const PER_DIRECT: u64 = 2;

const MEMBERS: usize = 1_000;
const PAYLOAD: usize = 128;

#[test]
fn a_delivered_message_costs_no_allocation_however_many_members_there_are() {
    for members in [10, MEMBERS] {
        let mut stage = Stage::new();
        stage.open_subscribers(members);
        let data = bytes::Bytes::from(frames::object(PAYLOAD));

        let (cold, per_turn) = warm(|| {
            stage.broadcast(&data);
            stage.turn();
        });

        assert_eq!(per_turn, PER_ROUND + PER_COMMAND, "{members} members; cold: {cold:?}");
        assert_eq!(stage.connections(), members as u64);
    }
}

#[test]
fn a_message_for_a_user_costs_its_frame_and_what_shares_it() {
    const USERS: usize = 100;
    let (mut stage, _) = Stage::with_publisher();
    let names = stage.open_users(USERS);
    let message = DirectMessage::new("bench.tick", &frames::object(PAYLOAD));

    let (cold, per_turn) = warm(|| {
        for name in &names {
            stage.send(name, &message);
        }
        stage.turn();
    });

    assert_eq!(per_turn, PER_DIRECT * USERS as u64, "cold: {cold:?}");
}

#[test]
fn a_round_of_many_messages_costs_as_much_as_one_of_one() {
    const MESSAGES: u64 = 64;
    let mut stage = Stage::new();
    stage.open_subscribers(MEMBERS);
    let data = bytes::Bytes::from(frames::object(PAYLOAD));
    let before = stage.written();

    let (_, per_turn) = warm(|| {
        for _ in 0..MESSAGES {
            stage.broadcast(&data);
        }
        stage.turn();
    });

    assert_eq!(per_turn, PER_ROUND + MESSAGES * PER_COMMAND);
    let turns = WARM_UP + TURNS;
    assert_eq!(stage.written().writes - before.writes, turns * MEMBERS as u64, "one write each");
}

#[test]
fn a_publish_by_a_client_is_read_and_checked_without_allocation() {
    for message in [
        frames::publish(CHANNEL, &frames::object(PAYLOAD)),
        frames::publish(CHANNEL, &frames::structured(1024)),
        frames::publish_full(CHANNEL, &frames::structured(1024)),
    ] {
        let (mut stage, publisher) = Stage::with_publisher();
        let mut wire = frames::text(&message);

        let (cold, per_turn) = warm(|| {
            stage.feed(publisher, &mut wire);
            stage.turn();
        });

        let expected = PER_ANSWERED_CONNECTION + PER_KEPT_ROUND;
        assert_eq!(per_turn, expected, "{message}; cold: {cold:?}");
    }
}

#[test]
fn publishes_of_one_turn_share_their_allocations() {
    const MESSAGES: usize = 32;
    let (mut stage, publisher) = Stage::with_publisher();
    stage.open_subscribers(MEMBERS);
    let mut wire =
        frames::text(&frames::publish(CHANNEL, &frames::object(PAYLOAD))).repeat(MESSAGES);

    let (_, per_turn) = warm(|| {
        stage.feed(publisher, &mut wire);
        stage.turn();
    });

    // The answers' buffer grows as they come.
    let growth = u64::from(MESSAGES.ilog2());
    assert!(per_turn <= PER_ROUND + PER_ANSWERED_CONNECTION + growth, "{per_turn}");
    assert!(per_turn < MESSAGES as u64 / 2, "{per_turn}");
}

#[test]
fn a_ping_of_the_message_protocol_is_answered_with_one_allocation() {
    let mut stage = Stage::new();
    let client = stage.open();
    let mut wire = frames::text(frames::PING);

    let (_, per_turn) = warm(|| {
        stage.feed(client, &mut wire);
        stage.turn();
    });

    assert_eq!(per_turn, PER_ANSWERED_CONNECTION);
}

#[test]
fn a_ping_frame_is_answered_with_two_allocations() {
    let mut stage = Stage::new();
    let client = stage.open();
    let mut wire = frames::ping();
    let before = stage.written();

    let (_, per_turn) = warm(|| {
        stage.feed(client, &mut wire);
        stage.turn();
        // So that the limit on control frames is not what is measured.
        stage.wait(std::time::Duration::from_millis(10));
    });

    // The pong, and its lane beside the data; both are gone when it is written.
    assert_eq!(per_turn, PER_PONG);
    assert_eq!(stage.written().writes - before.writes, WARM_UP + TURNS, "a pong each");
}

#[test]
fn a_turn_with_nothing_to_do_allocates_nothing() {
    let mut stage = Stage::new();
    stage.open_subscribers(10);

    let (_, per_turn) = warm(|| stage.turn());

    assert_eq!(per_turn, 0);
}

/// Runs `turn` some times, then counts: what the first runs took together, and what each further one takes. All of them
/// take the same.
fn warm(mut turn: impl FnMut()) -> (AllocationInfo, u64) {
    let cold = measure(|| (0..WARM_UP).for_each(|_| turn()));
    let per_turn = measure(&mut turn).count_total;
    for _ in 1..TURNS {
        assert_eq!(measure(&mut turn).count_total, per_turn, "not every turn takes the same");
    }
    (cold, per_turn)
}

/// Until all tables and queues have the size that they need, and the channel's log is as long as it gets.
const WARM_UP: u64 = 150;
const TURNS: u64 = 20;

/// The names of channel and event in [`Command::Publish`](mahavishnu_core::hub::Command): the application's own.
const PER_COMMAND: u64 = 2;

const PER_PONG: u64 = 2;
