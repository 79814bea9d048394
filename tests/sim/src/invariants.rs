//! What must always hold, by name. The oracle checks deliveries as they come; the rest is asserted here, after every
//! step that could break it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mahavishnu_core::hub::{ConnId, Holdings, Hub, ShardId};

use crate::{
    clock::{Clock, MILLI, Nanos, SECOND},
    net::Link,
    oracle::Oracle,
    swarm::Options,
    world::World,
};

/// Every invariant: its name in reports, and what it says.
pub const INVARIANTS: &[(&str, &str)] = &[
    ("loss", "a subscriber misses nothing of a channel, unless a gap was announced"),
    ("duplicate", "no message comes twice, and each has one number for everybody"),
    (
        "order",
        "all subscribers of a channel get its messages in one order, which keeps each publisher's",
    ),
    ("gap", "an announced gap begins where the last message ended and counts what it lost"),
    (
        "agreement",
        "one offset in one epoch of a channel is one event with one id, for everybody, ever",
    ),
    (
        "stored",
        "where there is a store nobody is told of a message before it is kept, and it stays there for as long as it is to",
    ),
    (
        "epoch",
        "a channel's numbers begin anew only for a reason, and never go back to an epoch that was",
    ),
    (
        "recovery",
        "what a subscription is told of what it missed is true: all of it comes, or the reason holds",
    ),
    ("history", "what is read of a channel is what was published there, and all that must be kept"),
    (
        "documents",
        "a channel's document is the last that was accepted; a condition on it held when its publish was carried out",
    ),
    (
        "members",
        "who watches a channel knows who is in it: nobody leaves who had not come, or comes twice, and those whose session lasts stay",
    ),
    (
        "sessions",
        "a session can be resumed until its time is over, by its user, with all that it was subscribed to, and by nobody later or else",
    ),
    ("content", "what comes is, byte for byte, what was published"),
    ("reach", "no more subscribers get a message than its publisher was told"),
    ("refused", "what was refused reaches nobody: all or nothing"),
    ("membership", "nothing comes before a subscription is confirmed or after its end is"),
    ("permission", "what the policy allows happens, and nothing else"),
    ("rights", "nobody gets what was published after its token had expired or was revoked"),
    ("auth", "nobody is let in without a good token, nobody with one is kept out"),
    ("answers", "every request is answered once; nothing is answered that was not asked"),
    (
        "direct",
        "what the application sends to a connection comes in order, or it was told otherwise",
    ),
    (
        "heard",
        "the application hears of each subscription and its end, in turns, and of what clients are told",
    ),
    (
        "framing",
        "a server sends whole, unmasked, minimal frames, one close frame, and nothing after it",
    ),
    ("blame", "a client that keeps the rules is never told that it broke one"),
    ("outbox", "broadcasts never fill an outbox above its limit, nor answers far above theirs"),
    ("queue", "what hubs have under way to each other stays within its limit"),
    ("credit", "what hubs allow each other comes back, all of it"),
    ("deadline", "a silent connection ends within the sum of its deadlines"),
    ("timer", "after a timeout was handled nothing is due any more: the next one is later"),
    ("end", "a world comes to its end: nothing goes round for ever"),
    ("panic", "nothing that anybody does makes a hub panic"),
    ("contract", "the hub asks nothing of its driver about connections that are gone"),
    ("count", "gauges and counters equal what the world saw"),
    (
        "drain",
        "a drain closes everybody with 1001, behind what was published before, in time; nothing else does",
    ),
    ("leak", "when all clients have left, nothing is held for them"),
    (
        "convergence",
        "once faults end, everybody is connected, subscribed, and gets the next message",
    ),
];

/// What the world counted itself.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) client_bytes: u64,
    pub(crate) hub_bytes: u64,
    pub(crate) written: u64,
    pub(crate) connected: u64,
    pub(crate) disconnected: u64,
    /// Gauges of connections, channels and subscriptions.
    gauges: Option<[Arc<AtomicU64>; 3]>,
}

/// A timeout that stays due would make a driver spin.
pub(crate) fn timers_advance(hub: &Hub, clock: &Clock, oracle: &mut Oracle) {
    let now = clock.now().mono;
    if hub.poll_timeout().is_some_and(|next| next.at <= now) {
        oracle.fail("timer", || "a timeout is due again at once".to_owned());
    }
}

/// Broadcasts within the limit; answers within the watermark and what one read may add to it.
pub(crate) fn outbox(hub: &Hub, conn: ConnId, options: &Options, link: &Link, oracle: &mut Oracle) {
    let Some((all, own)) = hub.queued(conn) else { return };
    let broadcasts = all.saturating_sub(own) as u64;
    // What was missed comes all the same if it is one message that is larger.
    let alone = if options.recover_max > 0 { options.padding_max + 400 } else { 0 };
    let allowed = options.outbox_bytes.max(alone);
    if broadcasts > allowed {
        oracle.fail("outbox", || format!("{broadcasts} bytes of broadcasts, {allowed} allowed"));
    }
    // The shortest message that is answered has 23 bytes in its frame, an answer at most 400 and its names; questions to
    // the application are answered later, publishes by other hubs and by the store likewise.
    let answers = options.watermark_bytes + link.chunk as u64 * 20 + options.in_flight * 1_000;
    let elsewhere = if options.shards > 1 || options.ask_publish == 1 || options.store == 1 {
        4 * 65_536
    } else {
        0
    };
    // Each part of a history is a quarter of an outbox at most, or one message; clients wait for one before the next.
    let history = options.outbox_bytes / 4 + options.padding_max + 1_000;
    // One document and one list of members at a time.
    let read = options.state_bytes + options.outbox_bytes / 4 + 2_000;
    let most = answers + elsewhere + history + read + 16_384;
    if own as u64 > most {
        oracle.fail("outbox", || format!("{own} bytes of answers, {most} at most"));
    }
}

/// What is in a hub's mailbox from another. One message may lie beyond the limit; of several messages that are published
/// together, which cannot be refused once the first is out, what the other hubs had credit for: with its envelope a
/// message has at most five times the bytes that its publish counted for.
pub(crate) fn queue(world: &mut World, from: usize, to: usize) {
    let held = world.nodes[from].mail_bytes[to] as u64;
    let options = &world.options;
    if world.notes.is_some() || held <= options.shard_queue_bytes {
        return;
    }
    let document = if options.state_pm > 0 { 1_200 } else { 0 };
    let message = options.padding_max + document + 1_000;
    let together = match options.posters {
        0 => message,
        _ => 5 * message + 5 * (options.shards - 1) * (options.shard_queue_bytes + 5 * message),
    };
    // What the store has kept goes out whatever is under way.
    let kept = options.store * 5 * (options.store_queue_bytes + 5 * message);
    // The form with positions is counted when a round is sealed, not when it is gathered.
    let forms = if options.positions_pm > 0 { 2 } else { 1 };
    let most = forms * (options.shard_queue_bytes + together + kept);
    if held > most {
        world.oracle.fail("queue", || format!("{held} bytes from {from} to {to}, {most} at most"));
    }
}

/// Gauges equal the world's counts whenever all hubs have reported.
pub(crate) fn after_turn(world: &mut World, _hub: usize) {
    if world.nodes.iter().any(|node| node.has_turn()) {
        return;
    }
    let counts = &world.counts;
    let gauges = world.tally.gauges.get_or_insert_with(|| {
        ["websocket_connections_active", "mahavishnu_channels", "mahavishnu_subscriptions"]
            .map(|family| counts.gauge_handle(family))
    });
    let [active, channels, _] =
        gauges.each_ref().map(|gauge| f64::from_bits(gauge.load(Ordering::Relaxed)) as u64);
    let expected = world.tally.connected - world.tally.disconnected;
    if active != expected {
        world
            .oracle
            .fail("count", || format!("{active} active connections, the world has {expected}"));
    }
    let homes: usize = world.nodes.iter().map(|node| node.hub.holdings().homes).sum();
    if channels != homes as u64 {
        world.oracle.fail("count", || format!("{channels} channels counted, {homes} held"));
    }
}

/// Once a second: who should be gone by now?
pub(crate) fn look_around(world: &mut World) {
    world.oracle.check_owed();
    let Some(patience) = patience(&world.options) else { return };
    let now = world.clock.nanos;
    for (index, link) in world.links.iter().enumerate() {
        let silent = now.saturating_sub(link.heard);
        if link.conn.is_some() && silent > patience {
            let (client, seconds) = (link.client, silent / SECOND);
            let kind = world.clients[client].kind;
            let hubs = world.nodes.iter().enumerate();
            let held: Vec<_> = hubs
                .map(|(at, node)| {
                    let credit = (0..world.nodes.len()).filter(|to| *to != at);
                    let credit = credit.map(|to| node.hub.credit(ShardId(to as u16)));
                    (node.hub.holdings(), credit.collect::<Vec<_>>())
                })
                .collect();
            return world.oracle.fail("deadline", || {
                format!("link {index} of client {client} ({kind:?}) was silent for {seconds} s and is still there: {held:?}")
            });
        }
    }
}

/// The sum of all deadlines that may follow each other; `None` without keep-alive.
fn patience(options: &Options) -> Option<Nanos> {
    let alive = match (options.ping_ms, options.idle_ms) {
        (0, 0) => return None,
        (0, idle) => idle,
        (ping, _) => ping + options.pong_ms,
    };
    let http = options.patience_ms * 6;
    let questions = options.request_ms * (options.channels + 1);
    let stored = options.kept_us() / 1_000;
    let all = alive + http + questions + options.patience_ms * 2 + options.stalled_ms() + stored;
    Some((all + 3_000) * MILLI)
}

/// Everybody has left: nothing is held, and the books balance.
pub(crate) fn at_the_end(world: &mut World) {
    for (index, node) in world.nodes.iter().enumerate() {
        let held = Holdings { timers: 0, ..node.hub.holdings() };
        if held != Holdings::default() {
            return world.oracle.fail("leak", || format!("hub {index} holds {held:?}"));
        }
        if node.hub.connections() != 0 {
            let connections = node.hub.connections();
            return world
                .oracle
                .fail("count", || format!("hub {index} knows of {connections} connections"));
        }
    }
    for (a, b) in (0..world.nodes.len()).flat_map(|a| (0..world.nodes.len()).map(move |b| (a, b))) {
        let (under_way, _) = world.nodes[a].hub.credit(ShardId(b as u16));
        let (_, owed) = world.nodes[b].hub.credit(ShardId(a as u16));
        if under_way != owed {
            return world.oracle.fail("credit", || {
                format!("hub {a} gave {under_way} bytes to hub {b}, which is done with {owed}")
            });
        }
    }
    let (counts, tally, oracle) = (&world.counts, &world.tally, &mut world.oracle);
    let events =
        counts.counter("websocket_messages_total", &["message_type=event", "direction=sent"]);
    let busy = counts.counter("websocket_message_errors_total", &["error_type=busy"]);
    let books = [
        ("active", counts.gauge("websocket_connections_active", &[]) as u64, 0),
        ("subscriptions", counts.gauge("mahavishnu_subscriptions", &[]) as u64, 0),
        ("channels", counts.gauge("mahavishnu_channels", &[]) as u64, 0),
        ("connections", counts.counter("websocket_connections_total", &[]), tally.connected),
        ("received bytes", counts.counter("mahavishnu_received_bytes_total", &[]), tally.hub_bytes),
        ("sent bytes", counts.counter("mahavishnu_sent_bytes_total", &[]), tally.written),
        ("busy", busy.min(oracle.busy), oracle.busy),
        ("events", events.min(oracle.deliveries), oracle.deliveries),
    ];
    for (what, counted, seen) in books {
        if counted != seen {
            return oracle
                .fail("count", || format!("{what}: {counted} counted, the world saw {seen}"));
        }
    }
}
