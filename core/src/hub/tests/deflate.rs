//! Compression as a hub does it: once for all, shared, and only for those who agreed to it.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::*;
use crate::{
    auth::Pattern,
    config::{DeflateConfig, SlowPolicy},
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

fn config() -> Config {
    let deflate = DeflateConfig { enabled: true, threshold_bytes: 64, ..DeflateConfig::default() };
    Config { deflate, ..unlimited() }
}

impl Rig {
    /// A client that has been welcomed, compression agreed on.
    fn connect_deflate(&mut self, shard: usize) -> Client {
        let client = self.connect_with(shard, OFFER);
        assert_eq!(client.take_inflated()[0]["event"], "session.created");
        client
    }

    fn subscribe_deflate(&mut self, client: &Client, channel: &str) {
        let data = json!({"channel": channel});
        self.send(
            client,
            &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}),
        );
        assert_eq!(client.take_inflated()[0]["data"]["status"], "subscribed");
    }

    /// Messages that the hubs have compressed so far.
    fn compressed(&self) -> u64 {
        self.hubs.iter().map(|hub| hub.hub().env.codecs.compressed).sum()
    }
}

impl Client {
    /// Messages that came, with whether each was compressed.
    fn take_forms(&self) -> Vec<(bool, Value)> {
        let mut forms = Vec::new();
        let bytes = self.peek();
        let mut at = 0;
        for (opcode, payload) in self.take_frames() {
            let first = bytes[at];
            let head = match payload.len() {
                0..126 => 2,
                126..65_536 => 4,
                _ => 10,
            };
            at += head + payload.len();
            if opcode != 1 {
                continue;
            }
            let is_compressed = first & 0x40 != 0;
            let text = if is_compressed { inflate(payload) } else { payload };
            forms.push((is_compressed, serde_json::from_slice(&text).unwrap()));
        }
        forms
    }

    fn take_inflated(&self) -> Vec<Value> {
        self.take_forms().into_iter().map(|(_, message)| message).collect()
    }

    fn take_inflated_numbers(&self) -> Vec<u64> {
        self.take_inflated().iter().filter_map(|message| message["data"]["n"].as_u64()).collect()
    }
}

fn inflate(mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend([0, 0, 0xFF, 0xFF]);
    let mut text = Vec::with_capacity(1 << 20);
    Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync).unwrap();
    text
}

/// A client's compressed message.
fn deflated_frame(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    let mut payload = Vec::with_capacity(text.len() + 100);
    let mut stream = Compress::new(Compression::new(6), false);
    stream.compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync).unwrap();
    payload.truncate(payload.len() - 4);
    let mut bytes = Vec::new();
    ws::encode_frame(&mut bytes, Opcode::Text, &payload, Some([1, 2, 3, 4]));
    bytes[0] |= 0x40;
    bytes
}

#[test]
fn a_broadcast_is_compressed_once_for_all_hubs() {
    let mut rig = Rig::new(3, config());
    let plain: Vec<_> = (0..3).map(|shard| rig.connect(shard)).collect();
    let deflate: Vec<_> = (0..9).map(|n| rig.connect_deflate(n % 3)).collect();
    plain.iter().for_each(|client| rig.subscribe(client, "a"));
    deflate.iter().for_each(|client| rig.subscribe_deflate(client, "a"));
    let before = rig.compressed();

    (0..4).for_each(|n| rig.publish(1, "a", n));
    rig.run();

    assert_eq!(rig.compressed() - before, 4);
    for client in &plain {
        let forms = client.take_forms();
        assert!(forms.iter().all(|(is_compressed, _)| !is_compressed));
        assert_eq!(forms.len(), 4);
    }
    let expected = deflate[0].peek();
    for client in &deflate {
        assert_eq!(client.peek(), expected, "the same bytes for everyone");
        let forms = client.take_forms();
        assert!(forms.iter().all(|(is_compressed, _)| *is_compressed));
        let numbers: Vec<_> = forms.iter().map(|(_, message)| &message["data"]["n"]).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }
}

#[test]
fn nothing_is_compressed_for_subscribers_who_did_not_ask() {
    let mut rig = Rig::new(1, config());
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    let other = rig.connect_deflate(0);
    rig.subscribe_deflate(&other, "b");
    let before = rig.compressed();

    rig.publish(0, "a", 1);
    rig.run();

    assert_eq!(rig.compressed(), before);
    assert_eq!(client.take_numbers(), [1]);
}

#[test]
fn the_last_one_to_leave_ends_the_work() {
    let mut rig = Rig::new(2, config());
    let stays: Vec<_> = (0..2).map(|shard| rig.connect(shard)).collect();
    stays.iter().for_each(|client| rig.subscribe(client, "a"));
    let leaves = rig.connect_deflate(0);
    rig.subscribe_deflate(&leaves, "a");
    let hangs_up = rig.connect_deflate(1);
    rig.subscribe_deflate(&hangs_up, "a");
    let before = rig.compressed();

    rig.publish(0, "a", 1);
    rig.run();
    assert_eq!(rig.compressed() - before, 1);

    let data = json!({"channel": "a"});
    rig.send(&leaves, &json!({"type": "request", "event": "unsubscribe", "data": data}));
    rig.hang_up(&hangs_up);
    let before = rig.compressed();
    rig.publish(0, "a", 2);
    rig.run();

    assert_eq!(rig.compressed(), before);
    assert_eq!(stays[1].take_numbers(), [1, 2]);
}

#[test]
fn off_by_default_an_offer_is_left_unanswered() {
    let mut rig = Rig::alone();
    let client = rig.connect_with(0, OFFER);
    assert_eq!(client.take()[0]["event"], "session.created");
    rig.subscribe(&client, "a");
    rig.publish(0, "a", 1);
    rig.run();
    assert_eq!(client.take_numbers(), [1]);

    rig.bytes(&client, &deflated_frame(&json!({"type": "ping"})));
    assert_eq!(client.take_close(), Some((1002, "Reserved bits set".into())));
}

#[test]
fn the_answer_names_what_was_agreed_on() {
    let mut rig = Rig::new(1, config());
    let socket = rig.socket(0);
    let head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    rig.bytes(&socket, format!("{head}{OFFER}\r\n").as_bytes());
    let answer = socket.take_head();
    let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
        client_no_context_takeover\r\n";
    assert!(answer.contains(agreed), "{answer}");

    let broken = rig.socket(0);
    rig.bytes(&broken, format!("{head}Sec-WebSocket-Extensions: ;\r\n\r\n").as_bytes());
    assert!(broken.take_text().starts_with("HTTP/1.1 400 "));
}

#[test]
fn compressed_requests_are_understood() {
    let mut rig = Rig::new(1, config());
    let client = rig.connect_deflate(0);
    let data = json!({"channel": "a", "padding": "x".repeat(500)});
    let request = json!({"type": "request", "event": "subscribe", "id": "q", "data": data});
    rig.bytes(&client, &deflated_frame(&request));
    assert_eq!(client.take_inflated()[0]["data"]["channel"], "a");
}

#[test]
fn messages_over_the_rate_are_refused_before_they_are_inflated() {
    let mut config = config();
    config.limits.connections.messages_per_second = Some(1);
    config.limits.connections.messages_burst = 2;
    let mut rig = Rig::new(1, config);
    let client = rig.connect_deflate(0);
    let ping = deflated_frame(&json!({"type": "ping", "id": "1"}));
    let unsound = [0xC1, 0x81, 0, 0, 0, 0, 0x06];

    rig.bytes(&client, &[&ping[..], &ping, &unsound].concat());

    let answers = client.take_inflated();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers[2]["error_code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(client.take_close(), None);
}

#[test]
fn a_bomb_ends_its_connection_only() {
    let mut config = config();
    config.limits.wire.message_bytes_max = 16 << 20;
    let mut rig = Rig::new(1, config);
    let (hostile, other) = (rig.connect_deflate(0), rig.connect_deflate(0));
    let bomb = deflated_frame(&json!({"type": "ping", "data": {"x": " ".repeat(8 << 20)}}));

    rig.bytes(&hostile, &bomb);

    assert_eq!(hostile.take_close(), Some((1009, "Message inflates too far".into())));
    rig.subscribe_deflate(&other, "a");
}

#[test]
fn rules_say_which_channels_are_compressed() {
    let mut config = config();
    config.deflate.channels = vec![
        (Pattern::parse("pool:hot").unwrap(), true),
        (Pattern::parse("pool:*").unwrap(), false),
    ];
    let mut rig = Rig::new(1, config);
    let client = rig.connect_deflate(0);
    for (channel, expected) in [("pool:hot", true), ("pool:1", false), ("workflow:1", true)] {
        rig.subscribe_deflate(&client, channel);
        rig.publish(0, channel, 1);
        rig.run();
        assert_eq!(client.take_forms()[0].0, expected, "{channel}");
    }
}

#[test]
fn short_messages_go_out_as_they_are() {
    let mut config = config();
    config.deflate.threshold_bytes = 10_000;
    let mut rig = Rig::new(1, config);
    let client = rig.connect_deflate(0);
    rig.subscribe_deflate(&client, "a");
    rig.publish(0, "a", 1);
    rig.run();
    assert_eq!(client.take_forms().iter().map(|form| form.0).collect::<Vec<_>>(), [false]);
    assert_eq!(rig.compressed(), 0);
}

#[test]
fn a_small_window_shares_what_fits_into_it() {
    let mut rig = Rig::new(1, config());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let small = rig.connect_with(0, offer);
    let large = rig.connect_deflate(0);
    for client in [&small, &large] {
        client.take_inflated();
        rig.subscribe_deflate(client, "a");
    }
    rig.publish(0, "a", 1);
    rig.run();
    let data = json!({"n": 2, "x": "x".repeat(600)}).to_string();
    let publication = Publication::new("a", "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();

    let forms = |client: &Client| {
        let forms = client.take_forms();
        forms.iter().map(|(is, message)| (*is, message["data"]["n"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(forms(&small), [(true, json!(1)), (false, json!(2))]);
    assert_eq!(forms(&large), [(true, json!(1)), (true, json!(2))]);
}

#[test]
fn slow_readers_are_treated_as_without_compression() {
    for policy in [SlowPolicy::Gap, SlowPolicy::Latest, SlowPolicy::Disconnect] {
        let mut config = config();
        config.limits.delivery.outbox_bytes_max = 2000;
        config.slow_readers.default = policy;
        let mut rig = Rig::new(1, config);
        let client = rig.connect_deflate(0);
        rig.subscribe_deflate(&client, "a");
        rig.set_room(&client, Some(0));
        for n in 0..50 {
            rig.publish(0, "a", n);
            rig.run();
        }
        assert!(
            rig.hubs[0].hub().connections.get(client.conn).unwrap().ws.outbox().bytes() <= 2000
        );
        rig.set_room(&client, None);
        rig.publish(0, "a", 50);
        rig.run();

        match policy {
            SlowPolicy::Latest => assert_eq!(client.take_inflated_numbers(), [49, 50]),
            SlowPolicy::Disconnect => {
                assert_eq!(client.take_close().map(|(code, _)| code), Some(1013));
            }
            SlowPolicy::Gap => {
                let messages = client.take_inflated();
                let gap =
                    messages.iter().find(|message| message["event"] == "channel.gap").unwrap();
                let lost = gap["data"]["lost"].as_u64().unwrap();
                let events = messages.iter().filter(|message| message["event"] == "e").count();
                assert_eq!(lost + events as u64, 51);
            }
        }
    }
}

#[test]
fn a_reload_may_switch_it_off() {
    let mut rig = Rig::new(1, config());
    let client = rig.connect_deflate(0);
    rig.subscribe_deflate(&client, "a");
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(unlimited())));

    rig.publish(0, "a", 1);
    rig.run();
    rig.bytes(&client, &deflated_frame(&json!({"type": "request", "event": "ping", "id": "1"})));

    let forms = client.take_forms();
    assert_eq!(forms.len(), 2, "what the client compresses is still understood");
    assert!(forms.iter().all(|(is_compressed, _)| !is_compressed));
}
