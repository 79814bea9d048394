//! A thousand garbage, truncated and hostile connections beside a hundred healthy ones, which must not notice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use mahavishnu_tests::{
    Client, Raw, Server,
    http::post_bytes,
    raw::{HANDSHAKE, masked, op, unmasked},
    token::{self, SECRET},
};
use serde_json::{Value, json};

const HEALTHY: usize = 100;
const PUBLISHERS: usize = 4;
const HOSTILE: u64 = 1_000;
const CHANNEL: &str = "pool:healthy";
/// What the server's memory may grow by. The outboxes of those that subscribe and never read are most of it.
const GROWTH_MAX: u64 = 128 << 20;

#[test]
fn a_hundred_healthy_clients_do_not_notice_a_thousand_hostile_ones() {
    let server = Server::with(&[
        ("MESSAGE_RATE_LIMIT", "0"),
        ("JWT_SECRET", SECRET),
        ("OUTBOX_BYTES", "1048576"),
        ("LOG_LEVEL", "DEBUG"),
    ]);
    let mut readers: Vec<Client> = (0..HEALTHY - PUBLISHERS).map(|_| server.hello()).collect();
    readers.iter_mut().for_each(|reader| reader.subscribe(CHANNEL));
    let memory = server.rss();
    let over = AtomicBool::new(false);
    let (server_ref, over_ref) = (&server, &over);

    let (seen, published, mut held) = thread::scope(|scope| {
        let listening: Vec<_> =
            readers.iter_mut().map(|reader| scope.spawn(move || listen(reader))).collect();
        let publishing: Vec<_> = (0..PUBLISHERS)
            .map(|name| scope.spawn(move || publish(server_ref, name, over_ref)))
            .collect();
        let held = attack(server_ref);
        over.store(true, Ordering::Relaxed);
        let published: Vec<_> =
            publishing.into_iter().map(|thread| thread.join().expect("a publisher")).collect();
        let seen: Vec<_> =
            listening.into_iter().map(|thread| thread.join().expect("a reader")).collect();
        (seen, published, held)
    });

    let counts: Vec<u64> = published.iter().map(|(_, count)| *count).collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    for (reader, seen) in seen.iter().enumerate() {
        assert_eq!(*seen, counts, "reader {reader}");
    }
    let grown = server.rss().saturating_sub(memory);
    assert!(grown < GROWTH_MAX, "{} MiB more memory", grown >> 20);
    held.clear();
    let metrics =
        server.metrics_when("the hostile ones' end", |metrics| metrics.active() == HEALTHY as u64);
    assert!(metrics.connection_errors("protocol_error") > 0, "{}", metrics.text());
    readers.iter_mut().for_each(Client::expect_silence);
    drop(published);
    server.metrics_when("the publishers' end", |metrics| metrics.active() == readers.len() as u64);
}

/// Publishes numbered messages until it is over, then says how many.
fn publish(server: &Server, name: usize, over: &AtomicBool) -> (Client, u64) {
    let mut client = server.hello();
    let mut count = 0;
    let mut last = false;
    while !last {
        last = over.load(Ordering::Relaxed);
        let data = json!({ "of": name, "n": count, "last": last });
        let reached = client.publish(CHANNEL, "e", data);
        assert!(reached >= (HEALTHY - PUBLISHERS) as u64, "{reached} reached");
        count += 1;
        // The pace of a busy service; the machine has to run a thousand attackers as well.
        thread::sleep(Duration::from_millis(10));
    }
    (client, count)
}

/// Reads until every publisher has said its last. Panics at a message that is lost, doubled or out of order.
fn listen(reader: &mut Client) -> Vec<u64> {
    let mut next = vec![0; PUBLISHERS];
    let mut talking = PUBLISHERS;
    while talking > 0 {
        let message = reader.message();
        assert_eq!(message["room"], CHANNEL, "{message}");
        let of = usize::try_from(message["data"]["of"].as_u64().expect("a number")).expect("small");
        assert_eq!(message["data"]["n"], next[of], "lost, doubled or out of order: {message}");
        next[of] += 1;
        if message["data"]["last"] == true {
            talking -= 1;
        }
    }
    next
}

/// All hostile connections, one after the other; those that stay open are returned.
fn attack(server: &Server) -> Vec<Raw> {
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    (0..HOSTILE).filter_map(|n| one(server, n % KINDS, &mut noise)).collect()
}

const KINDS: u64 = 26;

/// One hostile connection. `Some`: it stays.
fn one(server: &Server, kind: u64, noise: &mut Noise) -> Option<Raw> {
    match kind {
        0..8 => before_the_handshake(server, kind, noise),
        8..18 => broken_frames(server, kind - 8, noise),
        _ => bad_manners(server, kind - 18, noise),
    }
}

fn before_the_handshake(server: &Server, kind: u64, noise: &mut Noise) -> Option<Raw> {
    let mut raw = server.raw();
    let handshake = HANDSHAKE.as_bytes();
    match kind {
        0 => raw.write(&noise.bytes(700)),
        // A TLS client hello.
        1 => raw.write(&[&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &noise.bytes(200)].concat()),
        2 => {
            raw.write(&handshake[..60]);
            return Some(raw);
        }
        3 => {
            raw.write(&handshake[..100]);
            raw.reset();
            return None;
        }
        4 => {
            raw.reset();
            return None;
        }
        5 => raw.write(format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(100_000)).as_bytes()),
        6 => {
            let wrong = format!(
                "Authorization: Bearer {}\r\n\r\n",
                token::sign_with(token::OTHER_SECRET, None, &json!({}))
            );
            raw.write(HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{wrong}")).as_bytes());
        }
        _ => {
            raw.write(&post_bytes("/publish", &[], "{\"channel\":").repeat(20));
            raw.write(b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
            return Some(raw);
        }
    }
    None
}

fn broken_frames(server: &Server, kind: u64, noise: &mut Noise) -> Option<Raw> {
    let mut raw = server.raw_hello();
    match kind {
        0 => raw.write(&noise.bytes(2_000)),
        1 => raw.write(&unmasked(op::TEXT, b"{\"type\":\"ping\"}")),
        2 => {
            raw.write(&[&[op::BINARY, 0xFF][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4]].concat())
        }
        3 => raw.write(&[&[op::BINARY, 0xFF][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat()),
        4 => {
            raw.write(&masked(op::TEXT, &[b' '; 1_000])[..500]);
            return Some(raw);
        }
        5 => {
            raw.write(&masked(op::TEXT, &[b' '; 1_000])[..3]);
            raw.reset();
            return None;
        }
        6 => raw.send(op::TEXT, b"\xC3\x28\xFF"),
        7 => {
            raw.send(op::TEXT & op::MORE, b"{");
            return Some(raw);
        }
        8 => raw.send(op::CLOSE, &[3]),
        _ => raw.send(0xF3, b"reserved"),
    }
    None
}

fn bad_manners(server: &Server, kind: u64, noise: &mut Noise) -> Option<Raw> {
    let mut raw = if kind == 0 { server.raw_narrow(4_096) } else { server.raw_upgraded() };
    let say = |raw: &mut Raw, message: &Value| raw.send(op::TEXT, message.to_string().as_bytes());
    match kind {
        0 => {
            // Subscribes to what everybody publishes, and never reads.
            say(
                &mut raw,
                &json!({ "type": "request", "event": "subscribe", "data": { "channel": CHANNEL } }),
            );
            return Some(raw);
        }
        1 => raw.write(&masked(op::PING, b"flood").repeat(5_000)),
        2 => raw.write(&masked(op::CONTINUATION & op::MORE, b"").repeat(5_000)),
        3 => (0..50).for_each(|_| {
            say(
                &mut raw,
                &json!({ "type": "request", "event": "auth", "data": { "token": "x.y.z" } }),
            )
        }),
        4 => (0..100).for_each(|_| raw.send(op::TEXT, &noise.text(60))),
        5 => raw.send(op::TEXT, "[".repeat(100_000).as_bytes()),
        6 => (0..200).for_each(|n| {
            say(&mut raw, &json!({ "type": "subscribe", "data": { "channel": format!("x:{n}") } }))
        }),
        _ => {
            let name = "\u{202E}\"\\</script>";
            say(
                &mut raw,
                &json!({ "type": "request", "event": name, "id": name, "data": { "channel": name } }),
            );
            raw.reset();
            return None;
        }
    }
    None
}

/// The same noise in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_be_bytes()[0]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn text(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| b' ' + self.byte() % 95).collect()
    }
}
