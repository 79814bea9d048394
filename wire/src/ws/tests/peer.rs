//! Against tungstenite, an implementation that shares nothing with ours but the header codec, in both roles.

use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::*;
use crate::{
    entropy::{Entropy, Seed},
    reason::Reason,
};

/// A stream made of two byte vectors. An empty input would block.
#[derive(Debug, Default)]
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.input.read(to)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.output.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().max_message_size(None).max_frame_size(None))
}

/// An open connection of ours in either role.
fn ours(role: Role) -> Harness {
    match role {
        Role::Client => {
            let (now, limits) = (start(), Limits::default());
            let request = ClientRequest {
                host: "a".to_owned(),
                path: "/".to_owned(),
                headers: http::HeaderMap::new(),
                subprotocols: Vec::new(),
                deflate: false,
            };
            let connection = Connection::client(now, request, Entropy::new(Seed::from(1)));
            let mut client = Harness { connection, limits, now, sink: Sink::endless() };
            let mut server = Harness::server(Limits::default());
            let _ = client.flush();
            server.receive(&client.written());
            server.connection.accept(server.now, &Accept::default());
            let _ = server.flush();
            client.receive(&server.written());
            client
        }
        Role::Server => Harness::open(Limits::default()),
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (65_530usize..65_540).prop_map(|len| vec![b'x'; len]),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_peer_reads_what_we_write(role in role(), payloads in prop::collection::vec(payload(), 1..6)) {
        let mut ours = ours(role);
        for payload in &payloads {
            ours.connection.send_binary(payload);
        }
        ours.connection.ping(ours.now);
        let _ = ours.flush();

        let pipe = Pipe { input: Cursor::new(ours.written()), output: Vec::new() };
        let mut peer = WebSocket::from_raw_socket(pipe, other(role), config());
        let mut read = Vec::new();
        while let Ok(message) = peer.read() {
            if let Message::Binary(data) = message {
                read.push(data.to_vec());
            } else {
                prop_assert!(message.is_ping(), "{message:?}");
            }
        }
        let _ = peer.flush();

        prop_assert_eq!(read, payloads);
        let events = ours.receive(&peer.get_ref().output);
        prop_assert!(matches!(events[..], [Event::Pong { .. }]), "{:?}", events);
    }

    #[test]
    fn we_read_what_the_peer_writes_however_it_is_cut(
        role in role(),
        messages in prop::collection::vec(prop_oneof![
            payload().prop_map(|data| Message::Binary(data.into())),
            any::<String>().prop_map(|text| Message::Text(text.into())),
            prop::collection::vec(any::<u8>(), 0..125).prop_map(|data| Message::Ping(data.into())),
        ], 1..8),
        step in prop_oneof![1usize..20, 20usize..70_000],
    ) {
        let mut peer = WebSocket::from_raw_socket(Pipe::default(), other(role), config());
        for message in &messages {
            peer.send(message.clone()).unwrap();
        }
        let bytes = std::mem::take(&mut peer.get_mut().output);

        let mut ours = ours(role);
        let events: Vec<_> = bytes.chunks(step).flat_map(|chunk| ours.receive(chunk)).collect();
        let mut read = Vec::new();
        for event in events {
            if let Event::Text(text) = event {
                read.push(Message::Text(text.into_string().into()));
            } else if let Event::Binary(data) = event {
                read.push(Message::Binary(data.into_vec().into()));
            } else {
                prop_assert!(false, "{event:?}");
            }
        }
        let expected: Vec<_> = messages.iter().filter(|message| !message.is_ping()).cloned().collect();
        prop_assert_eq!(read, expected);

        let _ = ours.flush();
        peer.get_mut().input = Cursor::new(ours.written());
        let mut pongs = Vec::new();
        while let Ok(message) = peer.read() {
            pongs.push(message);
        }
        let pings = messages.iter().filter(|message| message.is_ping());
        let expected: Vec<_> = pings.map(|ping| Message::Pong(ping.clone().into_data())).collect();
        prop_assert_eq!(pongs, expected);
    }
}

#[test]
fn the_close_handshake_is_understood_in_both_roles_and_directions() {
    for role in [Role::Client, Role::Server] {
        let mut ours = ours(role);
        let mut peer = WebSocket::from_raw_socket(Pipe::default(), other(role), config());
        peer.close(None).unwrap();
        let events = ours.receive(&peer.get_ref().output);
        assert!(matches!(events[..], [Event::Closed(Reason::PeerClosed)]), "{events:?}");
        assert_eq!(ours.flush(), Flush::Fin);
        peer.get_mut().input = Cursor::new(ours.written());
        assert!(matches!(peer.read(), Ok(Message::Close(None))));
    }
    for role in [Role::Client, Role::Server] {
        let mut ours = ours(role);
        let mut peer = WebSocket::from_raw_socket(Pipe::default(), other(role), config());
        ours.connection.close_with(ours.now, 4001, "why", CloseWhen::AfterData);
        let _ = ours.flush();
        peer.get_mut().input = Cursor::new(ours.written());
        let Ok(Message::Close(Some(close))) = peer.read() else { panic!("a close frame") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (4001, "why"));
        let _ = peer.flush();
        assert!(matches!(ours.receive(&peer.get_ref().output)[..], [Event::Closed(_)]));
    }
}
