//! Clients that break rules, each connection in one way.

use crate::{
    client::{Client, Phase, Wishes},
    frame, http, message,
    swarm::{Options, channel_name},
};

/// The number of ways.
const ATTACKS: u64 = 16;

/// The first bytes of an attack.
pub(crate) fn begin(client: &mut Client, options: &Options, wishes: &mut Wishes) {
    client.phase = Phase::Open;
    client.attack = client.random.below(ATTACKS);
    client.deaf = client.random.chance(500);
    let tokens = client.tokens.clone();
    let token = (options.auth == 1).then(|| tokens.by_rights[client.rights as usize][0].as_str());
    match client.attack {
        0 => garbage(client, wishes),
        1 => wishes.bytes = b"GET / HTTP/1.1\r\nHost: half".to_vec(),
        2 => {}
        3 => wishes.bytes = vec![b'A'; 20_000],
        4 => (0..200).for_each(|_| wishes.bytes.extend(http::get("/health"))),
        5 => {
            let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n[";
            wishes.bytes = head.into();
        }
        _ => wishes.bytes = http::handshake(token),
    }
}

/// What follows.
pub(crate) fn go_on(client: &mut Client, options: &Options, wishes: &mut Wishes) {
    let mask = (client.random.next() as u32).to_be_bytes();
    let channel = client.random.below(options.channels);
    let name = channel_name(channel);
    let out = &mut wishes.bytes;
    match client.attack {
        0 => garbage(client, wishes),
        // A head byte by byte, for ever.
        1 => out.push(b'x'),
        // A frame without a mask.
        6 => out.extend_from_slice(&[0x81, 0x01, b'x']),
        // Reserved bits and opcodes.
        7 => frame::write(out, client.random.below(128) as u8 & 0x7f, b"x", mask),
        // Pings without end.
        8 => (0..500).for_each(|_| frame::write(out, 9, b"flood", mask)),
        // Text that is not UTF-8.
        9 => frame::write(out, 1, &[0xff, 0xfe, 0x80], mask),
        // A frame that claims to be huge.
        10 => out.extend_from_slice(&[
            0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
        ]),
        // Messages after a close frame.
        11 => {
            frame::write(out, 8, &1000u16.to_be_bytes(), mask);
            frame::write(out, 1, b"{}", mask);
        }
        // Subscribes to everything and does not read.
        12 => {
            client.deaf = true;
            let text = message::request("subscribe", "channel", &name, 1);
            frame::write(out, 1, &text, mask);
        }
        // Questions without end.
        13 => {
            for _ in 0..50 {
                frame::write(out, 1, &message::ping(1), mask);
            }
        }
        // Messages that are none.
        14 => {
            for text in [&b"{"[..], b"[]", b"{\"type\":5}", b"\"\"", b"{\"type\":\"nonsense\"}"] {
                frame::write(out, client.random.range(1, 2) as u8, text, mask);
            }
        }
        // Comes and goes in one breath.
        15 => {
            for event in ["subscribe", "subscribe", "unsubscribe", "subscribe", "unsubscribe"] {
                frame::write(out, 1, &message::request(event, "channel", &name, 1), mask);
            }
        }
        _ => {}
    }
    if client.random.chance(20) {
        wishes.reset = true;
    } else if client.random.chance(10) {
        wishes.fin = true;
    }
}

fn garbage(client: &mut Client, wishes: &mut Wishes) {
    let len = client.random.below(300);
    wishes.bytes.extend((0..len).map(|_| client.random.next() as u8));
}
