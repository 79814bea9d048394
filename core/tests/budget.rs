//! What an idle connection costs in the core, counted at the allocator: slots, tables, queues and timers included.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs some instant to start from, and its helpers fail as it does"
)]

use std::{alloc::System, io, sync::Arc, time::Duration};

use mahavishnu_core::{
    auth::{self, TokenSpec},
    config::Config,
    entropy::Seed,
    hub::{Command, ConnId, Hub, Listener, Peer, Place, Publication},
    time::{Instant, Now},
    ws::{Flush, Opcode, encode_frame},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// The system's allocator, with a count of what it gave and took back.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

const SECRET: &[u8] = b"a secret of at least thirty-two bytes, for tests";
/// A power of two, so that tables that double are full: spread over fewer connections they would show up to twice.
const COUNT: usize = 1 << 12;

/// Bytes of an idle connection that is subscribed to one channel: 192, and a little for what else runs in a test.
const PLAIN_MAX: usize = 200;
/// The same with a token of its own, with a user and two permissions, and a place among its user's connections: 666.
const WITH_TOKEN_MAX: usize = 680;

struct Rig {
    hub: Hub,
    now: Now,
}

impl Rig {
    fn new(config: Config) -> Self {
        let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
        Self { hub: Hub::new(Arc::new(config), Place::alone(Seed::from(1)), now), now }
    }

    fn socket(&mut self) -> ConnId {
        let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener: Listener::Main };
        self.hub.handle_accept(self.now, peer).unwrap()
    }

    fn bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        self.hub.handle_bytes(self.now, conn, &mut bytes.to_vec());
        self.turn();
    }

    fn send(&mut self, conn: ConnId, text: &str) {
        let mut frame = Vec::new();
        encode_frame(&mut frame, Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        self.bytes(conn, &frame);
    }

    fn upgrade(&mut self, conn: ConnId, token: Option<&str>) {
        let auth = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
            auth.unwrap_or_default()
        );
        self.bytes(conn, head.as_bytes());
    }

    fn turn(&mut self) {
        self.hub.handle_timeout(self.now);
        while self.hub.poll_output(self.now).is_some() {}
        while let Some(conn) = self.hub.poll_dirty() {
            assert_eq!(self.hub.flush(self.now, conn, &mut io::sink()), Flush::Drained);
        }
        self.hub.end_turn(self.now);
    }

    /// Bytes in use for each of `count` connections that `open` opens.
    fn cost(&mut self, count: usize, mut open: impl FnMut(&mut Self)) -> usize {
        let before = in_use();
        for _ in 0..count {
            open(self);
        }
        in_use().saturating_sub(before).div_ceil(count)
    }
}

/// Bytes of a channel with a log besides its messages' frames, with one message and nobody who subscribes.
const LOG_MAX: usize = 600;
/// And of each further round, besides its frames.
const ROUND_MAX: usize = 160;

/// What is kept of many channels, each with a message, and then with many. It belongs to the test below, as nothing else
/// may allocate meanwhile.
fn logs_stay_within_their_budget() {
    const CHANNELS: usize = 1 << 12;
    let mut config = Config::default();
    config.limits.history.history_bytes_max = usize::MAX;
    let mut rig = Rig::new(config);
    let data = format!("{{\"x\":\"{}\"}}", "y".repeat(100));
    let publish = |rig: &mut Rig, channel: usize| {
        let publication = Publication::new(format!("workflow:{channel}"), "e", data.clone());
        rig.hub.handle_command(rig.now, Command::Publish { id: None, publication });
        rig.turn();
    };
    // What is made once, and the frame of each message: nine fields around the data.
    publish(&mut rig, 0);
    let frame = 288 + data.len();
    let mut channel = 0;
    let first = rig.cost(CHANNELS - 1, |rig| {
        channel += 1;
        publish(rig, channel);
    });
    assert!(first <= frame + LOG_MAX, "{} bytes of a log", first - frame);
    let further = rig.cost(64, |rig| publish(rig, 7));
    assert!(further <= frame + ROUND_MAX, "{} bytes of a round", further - frame);
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn an_idle_connection_stays_within_its_budget() {
    let mut config = Config::default();
    config.auth.keys.add_secret(None, SECRET).unwrap();
    config.limits.connections.connections_max = COUNT;
    let mut rig = Rig::new(config);
    let spec = TokenSpec {
        user: Some("somebody@example.com"),
        permissions: &["workflow:read", "pool:read"],
        issued_at: rig.now.unix,
        expires_in: Some(Duration::from_secs(3600)),
        ..TokenSpec::default()
    };
    let token = auth::issue(SECRET, &spec).unwrap();
    // What is made once: the channel, its home, a token's labels.
    let first = rig.socket();
    rig.upgrade(first, Some(&token));
    rig.send(first, SUBSCRIBE);

    // Half of them without a token, half with one. With the first, tables are full after each half.
    let mut conns = Vec::with_capacity(COUNT);
    let plain = rig.cost(COUNT / 2 - 1, |rig| {
        let conn = rig.socket();
        rig.upgrade(conn, None);
        rig.send(conn, SUBSCRIBE);
        conns.push(conn);
    });
    let with_token = rig.cost(COUNT / 2, |rig| {
        let conn = rig.socket();
        rig.upgrade(conn, Some(&token));
        rig.send(conn, SUBSCRIBE);
        conns.push(conn);
    });
    assert_eq!(rig.hub.connections(), COUNT as u64);
    assert!(plain <= PLAIN_MAX, "{plain} bytes without a token");
    assert!(with_token <= WITH_TOKEN_MAX, "{with_token} bytes with one");

    logs_stay_within_their_budget();

    // A large message, in parts, and a turn: back to what it was.
    let mut long = Vec::new();
    encode_frame(&mut long, Opcode::Text, &vec![b' '; 1 << 20], Some([1, 2, 3, 4]));
    let before = in_use();
    for conn in conns.iter().take(16) {
        for part in long.chunks(1 << 16) {
            rig.bytes(*conn, part);
        }
    }
    let left = in_use().saturating_sub(before);
    assert!(left < 16 * 1024, "{left} bytes are left of the burst");
}

const SUBSCRIBE: &str =
    r#"{"type":"request","event":"subscribe","id":"1","data":{"channel":"workflow:1"}}"#;
