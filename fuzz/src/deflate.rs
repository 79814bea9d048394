//! Frames after a handshake that agreed on permessage-deflate, and compression there and back.
//!
//! However the bytes are cut, the same messages come out of them, none longer than the limits allow. And whatever a
//! server compresses, a client reads as it was.

use mahavishnu_core::{
    entropy::{Entropy, Seed},
    wire::Limits,
    ws::{
        Accept, ClientRequest, Connection, Deflate, Deflater, Event, Inflater, Opcode, encode_frame,
    },
};

use crate::trace::{Cuts, Ending, Habits, Trace, start};

/// Input: a byte that chooses the cuts, a byte for level and window, then frames or a message.
pub fn run(input: &[u8]) {
    let Some((&[seed, flags], stream)) = input.split_first_chunk::<2>() else { return };
    let whole = frames(stream, Cuts::Whole);
    let mut others = vec![Cuts::Seeded(seed)];
    if stream.len() <= 2048 {
        others.push(Cuts::Single);
    }
    for cuts in others {
        let other = frames(stream, cuts);
        assert_eq!(whole.events, other.events, "{cuts:?}");
        assert_eq!(whole.end, other.end, "{cuts:?}");
    }
    one_message(stream);
    there_and_back(stream, flags);
}

fn frames(stream: &[u8], cuts: Cuts) -> Trace {
    let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() };
    let habits = Habits { late: false, refuse: false, close: false, echo: false };
    let mut trace = Trace::new(Connection::server(start()), limits, habits);
    trace.feed(HANDSHAKE, Cuts::Whole);
    assert_eq!(trace.connection.window_bits(), 15, "compression is agreed on");
    trace.events.clear();
    trace.feed(stream, cuts);
    trace.finish(Ending::Eof);
    for event in &trace.events {
        // A byte is at most four letters and a comma long in words.
        assert!(event.len() <= 6 * MESSAGE_BYTES_MAX + 20, "longer than allowed");
    }
    trace
}

/// The bytes as the payload of a compressed message, so that the search need not find a mask.
fn one_message(payload: &[u8]) {
    let mut frame = Vec::new();
    encode_frame(&mut frame, Opcode::Binary, payload, Some([0; 4]));
    frame[0] |= 0x40;
    frames(&frame, Cuts::Whole);
}

fn there_and_back(message: &[u8], flags: u8) {
    let (now, limits) = (start(), Limits::default());
    let request = ClientRequest {
        host: "a".to_owned(),
        path: "/".to_owned(),
        headers: http::HeaderMap::new(),
        subprotocols: Vec::new(),
        deflate: true,
    };
    let mut client = Connection::client(now, request, Entropy::new(Seed::from(1)));
    let mut server = Connection::server(now);
    let mut wire = Vec::new();
    let _ = client.flush(now, &mut wire);
    let Some(Event::Upgrade(request)) = server.receive(now, &limits, &mut &mut wire[..]) else {
        panic!("a handshake");
    };
    let deflate = Deflate::choose(request.headers()).expect("our own offer");
    server.accept(now, &Accept { deflate, ..Accept::default() });
    // Twice, so that nothing of the first is left in the second.
    let mut deflater = Deflater::new(flags & 0x0F, 0);
    server.send_binary_deflated(&mut deflater, message);
    server.send_binary_deflated(&mut deflater, message);
    let mut wire = Vec::new();
    let _ = server.flush(now, &mut wire);
    let mut wire = &mut wire[..];
    let mut inflater = Inflater::new();
    let mut came = 0;
    while let Some(event) = client.receive(now, &limits, &mut wire) {
        let event = if let Event::Compressed(message) = event {
            client.inflate(now, &limits, &mut inflater, message)
        } else {
            Some(event)
        };
        match event {
            Some(Event::Accepted(_)) => {}
            Some(Event::Binary(got)) => {
                assert_eq!(*got, *message);
                came += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came, 2);
}

const MESSAGE_BYTES_MAX: usize = 4096;

const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
