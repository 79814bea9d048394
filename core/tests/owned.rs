//! Output for drivers that write without borrowing: the same bytes as by `flush`, shared and not copied.

#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail a test as tests do"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{Command, ConnId, Hub, Listener, Peer, Place, Publication},
    time::{Instant, Now},
    trace::Recorded,
    ws::{Flush, Opcode, encode_frame},
};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A hub, and how it is written from.
struct Rig {
    hub: Recorded,
    now: Now,
    /// `None`: by `flush`. Otherwise as many bytes at a time.
    bytes_max: Option<usize>,
    recorded: bool,
}

impl Rig {
    fn new(now: Now, bytes_max: Option<usize>, recorded: bool) -> Self {
        let hub = Hub::new(Arc::new(Config::default()), Place::alone(Seed::from(1)), now);
        let mut hub = Recorded::new(hub);
        if recorded {
            hub.start(now);
        }
        Self { hub, now, bytes_max, recorded }
    }

    /// Everything that happens now, by connection.
    fn turn(&mut self) -> Vec<(ConnId, Vec<Bytes>)> {
        let mut written = Vec::new();
        self.hub.handle_timeout(self.now);
        loop {
            while self.hub.poll_output(self.now).is_some() {}
            let Some(conn) = self.hub.poll_dirty() else { break };
            let mut pieces = Vec::new();
            if let Some(bytes_max) = self.bytes_max {
                loop {
                    let before = pieces.len();
                    let flush = self.hub.flush_owned(self.now, conn, bytes_max, &mut pieces);
                    if flush != Flush::Blocked {
                        break;
                    }
                    let taken: usize = pieces[before..].iter().map(Bytes::len).sum();
                    assert!(taken >= bytes_max, "{taken} of {bytes_max}");
                }
            } else {
                let mut sink = Vec::new();
                assert_ne!(self.hub.flush(self.now, conn, &mut sink), Flush::Blocked);
                pieces.push(sink.into());
            }
            written.push((conn, pieces));
        }
        self.hub.end_turn(self.now);
        written
    }

    fn send(&mut self, conn: ConnId, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        encode_frame(&mut frame, opcode, payload, Some([1, 2, 3, 4]));
        self.hub.handle_bytes(self.now, conn, &mut frame);
    }

    /// Two subscribers of two channels, who are told something of both, a pong between, and closed. What each was sent.
    fn dialogue(&mut self) -> Vec<(ConnId, Vec<u8>)> {
        let mut log = Vec::new();
        let peer = Peer::new(None, Listener::Main);
        let conns = [0, 1].map(|_| self.hub.handle_accept(self.now, peer).unwrap());
        let mut turn = |this: &mut Self| {
            let turn = this.turn();
            log.extend(turn.iter().map(|(conn, pieces)| (*conn, pieces.concat())));
            turn
        };
        for conn in conns {
            self.hub.handle_bytes(self.now, conn, &mut HEAD.to_vec());
            turn(self);
            for channel in ["a", "b"] {
                let data = format!(r#"{{"channel":"{channel}"}}"#);
                let text =
                    format!(r#"{{"type":"request","event":"subscribe","id":"1","data":{data}}}"#);
                self.send(conn, Opcode::Text, text.as_bytes());
            }
            turn(self);
        }
        for round in 0..4 {
            for channel in &["a", "b"][..1 + round % 2] {
                let data = format!(r#"{{"x":"{}"}}"#, "y".repeat(round * 1000));
                let publication = Publication::new(*channel, "e", data);
                self.hub.handle_command(self.now, Command::Publish { id: None, publication });
            }
            if round == 3 {
                self.send(conns[0], Opcode::Ping, b"are you there");
            }
            let turn = turn(self);
            if self.bytes_max.is_some() && !self.recorded && round < 3 {
                let pieces: Vec<_> = turn.iter().flat_map(|(_, pieces)| pieces).collect();
                let (first, second) = pieces.split_at(pieces.len() / 2);
                assert_eq!(pieces.len(), 2 * (1 + round % 2));
                for (one, other) in first.iter().zip(second) {
                    assert_eq!(one.as_ptr(), other.as_ptr(), "it is shared");
                }
            }
        }
        self.send(conns[0], Opcode::Close, &1000_u16.to_be_bytes());
        turn(self);
        self.hub.handle_eof(self.now, conns[0]);
        turn(self);
        log
    }
}

#[test]
fn what_is_taken_is_what_would_have_been_written() {
    let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
    let expected = Rig::new(now, None, false).dialogue();
    assert!(expected.len() > 10);
    for bytes_max in [1, 100, 64 * 1024] {
        for recorded in [false, true] {
            let mut rig = Rig::new(now, Some(bytes_max), recorded);
            assert_eq!(rig.dialogue(), expected, "{bytes_max}");
            assert_eq!(rig.hub.hub().sockets(), 1);
        }
    }
}
