//! TLS between a hub and real rustls clients, over sockets that dribble.

use std::sync::Arc;

use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::*;
use crate::{
    config::PlainOnTls,
    tls::{
        ClientAuth, Grant, RevocationLists, Server,
        testing::{Authority, Issued, Peer, Setup},
    },
};

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A client that speaks TLS over a hub's socket.
struct Secure {
    client: Client,
    peer: Peer,
    /// Bytes that go each way at a time.
    step: usize,
}

impl Secure {
    fn open(rig: &mut Rig, config: &Arc<ClientConfig>) -> Self {
        Self { client: rig.socket(0), peer: Peer::new(config, "a.example"), step: usize::MAX }
    }

    /// Both sides talk until neither has anything to say.
    fn talk(&mut self, rig: &mut Rig) {
        loop {
            let out = self.peer.wire();
            for chunk in out.chunks(self.step) {
                rig.bytes(&self.client, chunk);
            }
            // The socket takes little at a time, too.
            if self.step != usize::MAX {
                while rig.hubs[0]
                    .hub()
                    .connections
                    .get(self.client.conn)
                    .is_some_and(|conn| conn.has_records_to_write())
                {
                    rig.set_room(&self.client, Some(self.step));
                }
            }
            let written = std::mem::take(&mut self.client.wire.borrow_mut().written);
            written.chunks(self.step).for_each(|chunk| self.peer.hear(chunk));
            if out.is_empty() && written.is_empty() {
                break;
            }
        }
    }

    fn upgrade(&mut self, rig: &mut Rig) -> String {
        self.peer.say(UPGRADE);
        self.talk(rig);
        self.take_text()
    }

    fn send(&mut self, rig: &mut Rig, message: &Value) {
        self.peer.say(&frame(message));
        self.talk(rig);
    }

    fn take_text(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.peer.plain)).into_owned()
    }
}

struct World {
    root: Authority,
    server: Issued,
}

impl World {
    fn new() -> Self {
        let root = Authority::new("root");
        let server = root.issue(&["a.example"]);
        Self { root, server }
    }

    fn config(&self) -> Config {
        Config { tls: Some(self.server.server()), ..Config::default() }
    }

    fn rig(&self) -> Rig {
        Rig::new(1, self.config())
    }

    /// A server that demands client certificates of the root, and what they permit.
    fn mutual(&self, grants: &[(&str, &str)]) -> Config {
        self.mutual_but_for(RevocationLists::default(), grants)
    }

    /// The same, with a list of certificates that are revoked.
    fn mutual_but_for(&self, revoked: RevocationLists, grants: &[(&str, &str)]) -> Config {
        let auth = ClientAuth::Required { authorities: self.root.chain(), revoked };
        let mut config = with_auth();
        config.tls = Some(Server::new(vec![self.server.certified()], &auth).unwrap());
        let grant = |(pattern, permission): &(&str, &str)| {
            Grant::new(pattern, vec![(*permission).into()]).unwrap()
        };
        config.auth.certificates = grants.iter().map(grant).collect();
        config.hooks.lifecycle = true;
        config
    }

    fn setup(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        Setup { version, trusts: &self.root, certificate: None }.config()
    }

    fn with_certificate(&self, issued: &Issued) -> Arc<ClientConfig> {
        Setup { version: &TLS13, trusts: &self.root, certificate: Some(issued) }.config()
    }
}

fn reason(rig: &Rig, secure: &Secure) -> Option<Reason> {
    rig.hubs[0].hub().connections.get(secure.client.conn)?.ws.reason()
}

#[test]
fn a_websocket_works_in_both_versions_whatever_the_chunks() {
    let world = World::new();
    for version in [&TLS13, &TLS12] {
        for step in [1, 7, usize::MAX] {
            let mut rig = world.rig();
            let mut one = Secure::open(&mut rig, &world.setup(version));
            one.step = step;
            if step != usize::MAX {
                rig.set_room(&one.client, Some(0));
            }
            let text = one.upgrade(&mut rig);
            assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
            assert!(text.contains("\"secure\":true,\"tls_mode\":\"WSS\""), "{text}");
            one.send(&mut rig, &json!({"type": "request", "event": "subscribe", "id": "1", "data": {"channel": "c"}}));
            assert!(one.take_text().contains("\"status\":\"subscribed\""));

            // Some records' worth, with a marker at each end. Byte by byte two records have to do.
            let length = if step == 1 { 17_000 } else { 50_000 };
            let data = format!("{{\"n\":\"begin{}end\"}}", "x".repeat(length));
            let publication = Publication::new("c", "e", data);
            rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
            rig.run();
            one.talk(&mut rig);
            let text = one.take_text();
            assert!(text.contains("begin") && text.contains("end\"") && text.len() > length);
            assert_eq!(one.peer.tls.alpn_protocol(), None, "none was offered");
            assert!(one.peer.error.is_none());
        }
    }
}

#[test]
fn a_close_handshake_ends_with_close_notify() {
    let world = World::new();
    let mut rig = world.rig();
    let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
    one.upgrade(&mut rig);
    one.peer.say(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    one.talk(&mut rig);
    assert!(one.client.is_ended());
    let state = one.peer.tls.process_new_packets().unwrap();
    assert!(state.peer_has_closed(), "the end of a stream could be forged, close_notify cannot");
    one.peer.tls.send_close_notify();
    one.talk(&mut rig);
    assert!(one.client.is_closed());
    rig.assert_empty();
}

#[test]
fn the_end_of_the_stream_counts_as_the_end_with_and_without_close_notify() {
    let world = World::new();
    for orderly in [true, false] {
        let mut rig = world.rig();
        let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
        one.upgrade(&mut rig);
        if orderly {
            one.peer.tls.send_close_notify();
            one.talk(&mut rig);
        } else {
            rig.hang_up(&one.client);
        }
        assert!(one.client.is_closed());
        rig.assert_empty();
    }
}

#[test]
fn an_applications_own_configuration_serves() {
    let world = World::new();
    let tls = Server::from_config(world.server.config().into(), Vec::new()).unwrap();
    let mut rig = Rig::new(1, Config { tls: Some(tls), ..Config::default() });
    for version in [&TLS13, &TLS12] {
        let mut one = Secure::open(&mut rig, &world.setup(version));
        let answer = one.upgrade(&mut rig);
        assert!(
            answer.starts_with("HTTP/1.1 101 ") && answer.contains("session.created"),
            "{answer}"
        );
    }
    // Nothing is known of its certificates, so nothing is said.
    let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
    one.peer.say(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
    one.talk(&mut rig);
    let ready = one.take_text();
    assert!(ready.starts_with("HTTP/1.1 200 ") && !ready.contains("certificate"), "{ready}");
}

#[test]
fn sessions_are_resumed() {
    let world = World::new();
    for version in [&TLS13, &TLS12] {
        let mut rig = world.rig();
        let config = world.setup(version);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut one = Secure::open(&mut rig, &config);
            one.upgrade(&mut rig);
            assert_eq!(one.peer.tls.handshake_kind(), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn garbage_gets_an_alert_before_the_end() {
    let world = World::new();
    let mut rig = world.rig();
    let client = rig.socket(0);
    let mut garbage = vec![0x16, 3, 1, 0, 100];
    garbage.extend([0xff; 100]);
    rig.bytes(&client, &garbage);
    let written = client.peek();
    // A fatal alert in a plain record (RFC 8446 §6).
    assert_eq!((written.first(), written.get(5)), (Some(&21), Some(&2)), "{written:?}");
    assert!(
        client.is_ended() && !client.is_closed(),
        "so that the alert is not lost with the socket"
    );
    rig.hang_up(&client);
    rig.assert_empty();
    assert_eq!(rig.hubs[0].hub().connections.handshakes(), 0);
}

#[test]
fn an_old_version_is_refused_with_its_alert() {
    let world = World::new();
    let mut rig = world.rig();
    let client = rig.socket(0);
    // A ClientHello of TLS 1.1 with TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, one signature algorithm and one group.
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x09, 1, 0, 0, 16]);
    body.extend([0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23]);
    let mut hello = vec![0x16, 3, 1, 0, (body.len() + 4) as u8, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    rig.bytes(&client, &hello);
    // RFC 8446 §6.2: protocol_version is 70.
    assert_eq!(
        client.peek().get(..7).map(|alert| (alert[0], alert[5], alert[6])),
        Some((21, 2, 70))
    );
}

#[test]
fn a_handshake_that_breaks_off_or_stalls_leaves_nothing() {
    let world = World::new();
    for stalls in [true, false] {
        let mut rig = world.rig();
        let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
        let hello = one.peer.wire();
        rig.bytes(&one.client, &hello[..hello.len() / 2]);
        assert_eq!(rig.hubs[0].hub().connections.handshakes(), 1);
        if stalls {
            rig.wait(Duration::from_secs(11));
        } else {
            rig.hang_up(&one.client);
        }
        assert!(one.client.is_closed());
        assert_eq!(rig.hubs[0].hub().connections.handshakes(), 0);
        rig.assert_empty();
    }
}

#[test]
fn a_client_that_does_not_trust_us_says_so_and_is_gone() {
    let (world, other) = (World::new(), World::new());
    let mut rig = world.rig();
    let mut one = Secure::open(&mut rig, &other.setup(&TLS13));
    one.talk(&mut rig);
    assert!(matches!(one.peer.error, Some(Error::InvalidCertificate(_))));
    assert_eq!(reason(&rig, &one), Some(Reason::TlsHandshake));
    assert!(one.client.is_ended());
}

#[test]
fn a_forged_record_ends_an_open_connection() {
    let world = World::new();
    let mut rig = world.rig();
    let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
    one.upgrade(&mut rig);
    one.peer.say(&frame(&json!({"type": "ping"})));
    let mut wire = one.peer.wire();
    *wire.last_mut().unwrap() ^= 1;
    rig.bytes(&one.client, &wire);
    let written = std::mem::take(&mut one.client.wire.borrow_mut().written);
    one.peer.hear(&written);
    assert_eq!(one.peer.error, Some(Error::AlertReceived(AlertDescription::BadRecordMac)));
    assert!(one.client.is_closed());
    rig.assert_empty();
}

#[test]
fn a_client_certificate_is_demanded_and_verified() {
    let world = World::new();
    let stranger = Authority::new("stranger").issue(&["agent"]);
    let mut rig = Rig::new(1, world.mutual(&[]));
    let cases = [
        (world.setup(&TLS13), AlertDescription::CertificateRequired),
        (world.with_certificate(&stranger), AlertDescription::UnknownCA),
    ];
    for (config, alert) in cases {
        let mut one = Secure::open(&mut rig, &config);
        one.talk(&mut rig);
        assert_eq!(one.peer.error, Some(Error::AlertReceived(alert)));
        assert_eq!(reason(&rig, &one), Some(Reason::TlsHandshake));
    }
}

#[test]
fn a_client_certificate_is_judged_by_the_hubs_clock() {
    let world = World::new();
    let agent = world.root.issue(&["agent"]);
    let mut rig = Rig::new(1, world.mutual(&[]));
    rig.now.unix += Duration::from_secs(400 * 86_400);
    let mut one = Secure::open(&mut rig, &world.with_certificate(&agent));
    one.talk(&mut rig);
    assert_eq!(one.peer.error, Some(Error::AlertReceived(AlertDescription::CertificateExpired)));
}

#[cfg(feature = "jwt")]
#[test]
fn a_granted_certificate_does_what_a_token_does() {
    let world = World::new();
    let agent = world.root.issue(&["a.agents.example", "10.0.0.1"]);
    let mut rig = Rig::new(1, world.mutual(&[("dns:*.agents.example", "workflow:read")]));
    let mut one = Secure::open(&mut rig, &world.with_certificate(&agent));
    let text = one.upgrade(&mut rig);
    assert!(text.contains("\"authenticated\":true"), "{text}");
    let Some(Output::Connected { user, identity: Some(identity), .. }) = rig.outputs.last() else {
        panic!("{:?}", rig.outputs)
    };
    assert_eq!(user.as_deref(), Some("a.agents.example"));
    let names: Vec<_> = identity.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["dns:a.agents.example", "ip:10.0.0.1", "cn:a.agents.example"]);
    for (channel, answer) in [("workflow:1", "subscribed"), ("pool:1", "FORBIDDEN")] {
        let data = json!({"channel": channel});
        one.send(
            &mut rig,
            &json!({"type": "request", "event": "subscribe", "id": "1", "data": data}),
        );
        let text = one.take_text();
        assert!(text.contains(answer), "{text}");
    }
    // A token may take the certificate's place.
    let token = token("ada", &["pool:read"]);
    one.send(
        &mut rig,
        &json!({"type": "request", "event": "auth", "id": "1", "data": {"token": token}}),
    );
    let text = one.take_text();
    assert!(text.contains("\"user_id\":\"ada\""), "{text}");
}

#[test]
fn a_granted_certificate_reads_over_http_what_it_may_subscribe_to() {
    let world = World::new();
    let (agent, stranger) = (world.root.issue(&["a.agents.example"]), world.root.issue(&["b"]));
    let mut rig = Rig::new(1, world.mutual(&[("dns:*.agents.example", "workflow:read")]));
    rig.publish(0, "workflow:1", 7);
    rig.run();
    for (by, channel, status) in
        [(&agent, "workflow:1", "200"), (&agent, "pool:1", "403"), (&stranger, "workflow:1", "401")]
    {
        let mut one = Secure::open(&mut rig, &world.with_certificate(by));
        let request = format!("GET /history?channel={channel} HTTP/1.1\r\nHost: a\r\n\r\n");
        one.peer.say(request.as_bytes());
        one.talk(&mut rig);
        let text = one.take_text();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert_eq!(text.contains("{\"n\":7}"), status == "200", "{text}");
    }
}

#[test]
fn a_certificate_that_no_grant_names_still_needs_a_token() {
    let world = World::new();
    let agent = world.root.issue(&["agent"]);
    let mut rig = Rig::new(1, world.mutual(&[("cn:other", "admin")]));
    let mut one = Secure::open(&mut rig, &world.with_certificate(&agent));
    let text = one.upgrade(&mut rig);
    assert!(text.starts_with("HTTP/1.1 101 ") && !text.contains("session.created"), "{text}");
    one.send(
        &mut rig,
        &json!({"type": "request", "event": "subscribe", "data": {"channel": "workflow:1"}}),
    );
    assert!(one.take_text().contains("AUTH_REQUIRED"));
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let world = World::new();
    let other = world.root.issue(&["*.b.example"]);
    let server = Server::new(vec![world.server.certified(), other.certified()], &ClientAuth::Off);
    let mut rig = Rig::new(1, Config { tls: Some(server.unwrap()), ..Config::default() });
    for name in ["a.example", "x.b.example"] {
        let mut one = Secure {
            client: rig.socket(0),
            peer: Peer::new(&world.setup(&TLS13), name),
            step: usize::MAX,
        };
        let text = one.upgrade(&mut rig);
        assert!(text.starts_with("HTTP/1.1 101 "), "{name}: {:?}", one.peer.error);
    }
}

#[test]
fn a_turn_carries_out_only_so_many_handshakes() {
    let world = World::new();
    let mut config = world.config();
    config.limits.tls.tls_handshakes_per_turn = 2;
    let mut rig = Rig::new(1, config);
    let client_config = world.setup(&TLS13);
    let mut all: Vec<_> = (0..5).map(|_| Secure::open(&mut rig, &client_config)).collect();
    for one in &mut all {
        let mut hello = one.peer.wire();
        rig.hubs[0].handle_bytes(rig.now, one.client.conn, &mut hello);
    }
    let answered = |all: &[Secure]| all.iter().filter(|one| !one.client.peek().is_empty()).count();
    rig.run();
    assert_eq!(answered(&all), 2);
    assert!(!rig.hubs[0].hub().wants_read(all[4].client.conn), "what waits is not added to");
    let waits = Timeout { at: rig.now.mono, reason: TimeoutReason::Handshakes };
    assert_eq!(rig.hubs[0].poll_timeout(), Some(waits), "the next turn is due at once");
    rig.wait(Duration::ZERO);
    assert_eq!(answered(&all), 4);
    rig.wait(Duration::ZERO);
    assert_eq!(answered(&all), 5);
    assert_ne!(rig.hubs[0].poll_timeout().map(|next| next.at), Some(rig.now.mono));
    for one in &mut all {
        assert!(one.upgrade(&mut rig).starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn dribbled_handshakes_do_not_use_up_the_turn() {
    let world = World::new();
    let mut config = world.config();
    config.limits.tls.tls_handshakes_per_turn = 1;
    let mut rig = Rig::new(1, config);
    let client_config = world.setup(&TLS13);
    for _ in 0..3 {
        let client = rig.socket(0);
        rig.hubs[0].handle_bytes(rig.now, client.conn, &mut [0x16, 3, 1]);
    }
    let mut one = Secure::open(&mut rig, &client_config);
    let mut hello = one.peer.wire();
    rig.hubs[0].handle_bytes(rig.now, one.client.conn, &mut hello);
    rig.run();
    assert!(!one.client.peek().is_empty());
}

#[test]
fn over_the_limit_the_oldest_handshake_makes_room() {
    let world = World::new();
    let mut config = world.config();
    config.limits.tls.tls_handshakes_max = 1;
    let mut rig = Rig::new(1, config);
    for _ in 0..20 {
        let stalled = rig.socket(0);
        rig.bytes(&stalled, &[0x16, 3, 1]);
        assert!(!stalled.is_ended());

        let mut honest = Secure::open(&mut rig, &world.setup(&TLS13));
        assert!(honest.upgrade(&mut rig).starts_with("HTTP/1.1 101 "));

        let last = stalled.peek();
        assert!(stalled.is_ended(), "{last:?}");
        // At most an alert: close_notify (RFC 8446 §6.1).
        assert!(last.is_empty() || last == [21, 3, 3, 0, 2, 1, 0], "{last:?}");
        assert_eq!(rig.hubs[0].hub().connections.handshakes(), 0);
    }
}

#[test]
fn a_revoked_client_certificate_is_refused_and_others_are_not() {
    let world = World::new();
    let [ada, eve] = ["ada.example", "eve.example"].map(|name| world.root.issue(&[name]));
    let config = world.mutual_but_for(world.root.revoke(&[&eve]), &[("cn:*", "admin")]);
    let mut rig = Rig::new(1, config);

    let mut good = Secure::open(&mut rig, &world.with_certificate(&ada));
    assert!(good.upgrade(&mut rig).starts_with("HTTP/1.1 101 "));
    let mut revoked = Secure::open(&mut rig, &world.with_certificate(&eve));
    revoked.upgrade(&mut rig);

    let alert = Some(Error::AlertReceived(AlertDescription::CertificateRevoked));
    assert_eq!(revoked.peer.error, alert);
    assert!(revoked.client.is_ended());
}

#[test]
fn a_reload_with_a_list_ends_connections_whose_certificate_is_on_it() {
    let world = World::new();
    let [ada, eve] = ["ada.example", "eve.example"].map(|name| world.root.issue(&[name]));
    let grants = [("cn:*", "admin")];
    let mut rig = Rig::new(1, world.mutual(&grants));
    let connect = |issued: &Issued, rig: &mut Rig| {
        let mut secure = Secure::open(rig, &world.with_certificate(issued));
        secure.upgrade(rig);
        secure
    };
    let (mut good, mut revoked) = (connect(&ada, &mut rig), connect(&eve, &mut rig));
    // One that speaks HTTP and is kept could go on publishing.
    let mut kept = Secure::open(&mut rig, &world.with_certificate(&eve));
    kept.peer.say(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    kept.talk(&mut rig);

    let config = world.mutual_but_for(world.root.revoke(&[&eve]), &grants);
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(config)));
    rig.run();

    [&mut good, &mut revoked, &mut kept].into_iter().for_each(|secure| secure.talk(&mut rig));
    let ended = [&good, &revoked, &kept].map(|secure| reason(&rig, secure));
    assert_eq!(ended, [None, Some(Reason::CertificateRevoked), Some(Reason::CertificateRevoked)]);
    assert!(revoked.take_text().contains("Certificate revoked"));
}

#[test]
fn an_address_over_its_rate_gets_no_handshake() {
    let world = World::new();
    let mut config = world.config();
    config.limits.connections.connects_per_minute = Some(1);
    config.limits.connections.connects_limit_loopback = true;
    config.limits.tls.tls_handshakes_per_connect = 3;
    let mut rig = Rig::new(1, config);
    let shake = |rig: &mut Rig| {
        let mut secure = Secure::open(rig, &world.setup(&TLS13));
        secure.talk(rig);
        (
            !secure.peer.tls.is_handshaking(),
            secure.client.peek().is_empty() && secure.client.is_closed(),
        )
    };

    let first: Vec<_> = (0..5).map(|_| shake(&mut rig)).collect();
    rig.wait(Duration::from_secs(20));
    let later = [shake(&mut rig), shake(&mut rig)];

    let (done, refused) = ((true, false), (false, true));
    assert_eq!(first, [done, done, done, refused, refused]);
    assert_eq!(later, [done, refused]);
}

#[test]
fn handshakes_through_a_trusted_proxy_are_not_counted_unless_it_names_the_client() {
    let world = World::new();
    for (proxy_protocol, expected) in [(false, [true, true]), (true, [true, false])] {
        let mut config = world.config();
        config.limits.connections.connections_per_address_max = Some(1);
        config.limits.tls.tls_handshakes_per_connect = 1;
        config.limits.connections.connects_limit_loopback = true;
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.proxy_protocol = proxy_protocol;
        let mut rig = Rig::new(1, config);
        let done = [(); 2].map(|()| {
            let mut secure = Secure::open(&mut rig, &world.setup(&TLS13));
            if proxy_protocol {
                rig.bytes(&secure.client, b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n");
            }
            secure.talk(&mut rig);
            !secure.peer.tls.is_handshaking()
        });
        assert_eq!(done, expected);
    }
}

#[test]
fn without_tls_only_health_is_answered() {
    let world = World::new();
    let mut rig = world.rig();
    let get = |rig: &mut Rig, request: &[u8]| {
        let client = rig.socket(0);
        rig.bytes(&client, request);
        client.take_text()
    };
    let health = get(&mut rig, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    for request in [
        UPGRADE,
        b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ] {
        let answer = get(&mut rig, request);
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(answer.contains("TLS/1.2, HTTP/1.1") && answer.contains("use wss://"), "{answer}");
    }
}

#[test]
fn what_clients_without_tls_get_is_configured() {
    let world = World::new();
    let mut config = world.config();
    config.plain_on_tls = PlainOnTls::Nothing;
    let mut rig = Rig::new(1, config.clone());
    let client = rig.socket(0);
    rig.bytes(&client, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.is_ended() && client.peek().is_empty());

    config.plain_on_tls = PlainOnTls::Loopback;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    assert!(!client.is_ended());
    let far = super::super::Peer { address: ([192, 0, 2, 1], 1).into(), listener: Listener::Main };
    let conn = rig.hubs[0].handle_accept(rig.now, far).unwrap();
    rig.wires.insert(conn, Rc::default());
    let client = Client { shard: 0, conn, wire: rig.wires[&conn].clone() };
    rig.bytes(&client, UPGRADE);
    assert!(client.take_head().starts_with("HTTP/1.1 426 "));
}

#[test]
fn a_blocked_socket_holds_two_records_and_the_rest_stays_shared() {
    let world = World::new();
    let mut config = world.config();
    config.limits.connections.messages_per_second = None;
    let mut rig = Rig::new(1, config);
    let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
    one.upgrade(&mut rig);
    one.send(
        &mut rig,
        &json!({"type": "request", "event": "subscribe", "id": "1", "data": {"channel": "c"}}),
    );
    one.take_text();
    rig.set_room(&one.client, Some(0));
    let data = format!("{{\"x\":\"{}\"}}", "x".repeat(100_000));
    let publication = Publication::new("c", "e", data);
    rig.hubs[0].handle_command(rig.now, Command::Publish { id: None, publication });
    rig.run();
    let waiting = rig.hubs[0].hub().connections.get(one.client.conn).unwrap().ws.outbox().bytes();
    assert!((100_000 - 32 * 1024..100_000 - 16 * 1024).contains(&waiting), "{waiting}");
    rig.set_room(&one.client, None);
    one.talk(&mut rig);
    assert!(one.take_text().len() > 100_000);
}

#[test]
fn the_last_answer_arrives_though_the_client_has_ended_its_side() {
    let world = World::new();
    let mut rig = world.rig();
    let mut one = Secure::open(&mut rig, &world.setup(&TLS13));
    one.talk(&mut rig);
    rig.set_room(&one.client, Some(0));
    one.peer.say(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let request = one.peer.wire();
    rig.bytes(&one.client, &request);
    rig.hang_up(&one.client);
    assert!(!one.client.is_closed(), "the record is not written yet");
    rig.set_room(&one.client, None);
    one.talk(&mut rig);
    assert!(one.take_text().starts_with("HTTP/1.1 200 "));
    rig.assert_empty();
}

#[test]
fn a_reload_changes_the_certificate_for_new_connections_only() {
    let world = World::new();
    let mut rig = world.rig();
    let config = world.setup(&TLS13);
    let mut old = Secure::open(&mut rig, &config);
    old.upgrade(&mut rig);
    let renewed = world.root.issue(&["a.example", "new.example"]);
    let next = Config { tls: Some(renewed.server()), ..Config::default() };
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(next)));
    let mut new = Secure::open(&mut rig, &config);
    new.upgrade(&mut rig);
    assert_eq!(
        new.peer.tls.handshake_kind(),
        Some(HandshakeKind::Full),
        "no ticket outlives its configuration"
    );
    let leaf = |one: &Secure| one.peer.tls.peer_certificates().unwrap()[0].clone();
    assert_ne!(leaf(&old), leaf(&new));
    old.send(&mut rig, &json!({"type": "ping"}));
    assert!(old.take_text().contains("\"pong\""), "the live connection stays");
}
