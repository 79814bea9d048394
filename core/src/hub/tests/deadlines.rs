//! Whatever a connection waits for, it does not wait for ever, and no deadline comes back.

use super::*;

/// Follows the hub's deadlines while nobody says a word. `Rig::wait` demands that each one passes.
fn follow_deadlines(rig: &mut Rig) {
    for _ in 0..DEADLINES_MAX {
        let Some(next) = rig.hubs[0].poll_timeout() else { break };
        rig.wait(next.at.saturating_duration_since(rig.now.mono));
    }
}

/// A connection in some state ends when its peer falls silent.
fn assert_ends(config: Config, arrange: impl FnOnce(&mut Rig) -> Client) {
    let mut rig = Rig::new(1, config);
    let client = arrange(&mut rig);
    assert!(!client.is_closed(), "closed at once");

    follow_deadlines(&mut rig);

    assert!(client.is_closed(), "still there");
    rig.assert_empty();
}

#[test]
fn a_socket_that_says_nothing_ends() {
    assert_ends(Config::default(), |rig| rig.socket(0).fed(rig, b""));
}

#[test]
fn half_a_request_ends() {
    assert_ends(Config::default(), |rig| rig.socket(0).fed(rig, b"GET / HTTP/1.1\r\nHost:"));
}

#[test]
fn half_a_body_ends() {
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
    assert_ends(Config::default(), |rig| rig.socket(0).fed(rig, request));
}

#[test]
fn an_answered_request_without_a_next_one_ends() {
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_ends(Config::default(), |rig| rig.socket(0).fed(rig, request));
}

#[test]
fn a_client_that_does_not_authenticate_ends() {
    assert_ends(with_auth(), |rig| rig.connect_with(0, ""));
}

#[test]
fn a_client_that_does_not_answer_pings_ends() {
    assert_ends(Config::default(), |rig| rig.connect(0));
}

#[test]
fn without_pings_an_idle_client_ends() {
    let mut config = Config::default();
    config.limits.wire.ping_interval = None;
    assert_ends(config, |rig| rig.connect(0));
}

#[test]
fn a_client_that_reads_nothing_ends() {
    assert_ends(Config::default(), |rig| {
        let client = rig.connect(0);
        rig.set_room(&client, Some(0));
        rig.subscribe_unheard(&client, "c");
        rig.publish(0, "c", 1);
        rig.run();
        client
    });
}

#[test]
fn a_client_that_does_not_answer_our_close_ends() {
    assert_ends(Config::default(), |rig| {
        let client = rig.connect(0);
        let command = Command::Disconnect { conn: client.conn };
        rig.hubs[0].handle_command(rig.now, command);
        rig.run();
        client
    });
}

#[test]
fn a_question_that_the_application_never_answers_ends() {
    let mut config = Config::default();
    config.hooks.authorize_subscribe = true;
    assert_ends(config, |rig| {
        let client = rig.connect(0);
        rig.subscribe_unheard(&client, "c");
        assert!(matches!(rig.outputs[..], [Output::Authorize { .. }]));
        client
    });
}

#[test]
fn limits_of_zero_follow_each_other_at_one_instant() {
    let mut config = Config::default();
    config.limits.wire.ping_interval = Some(Duration::ZERO);
    config.limits.wire.pong_timeout = Duration::ZERO;
    config.limits.wire.close_timeout = Duration::ZERO;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);

    rig.wait(Duration::ZERO);

    assert!(client.is_closed());
    rig.assert_empty();
}

#[cfg(feature = "jwt")]
#[test]
fn the_deadline_for_authentication_ends_with_it() {
    let mut rig = Rig::new(1, with_auth());
    let client = rig.connect_with(0, "");
    let data = json!({"token": token("ada", &["admin"])});
    rig.send(&client, &json!({"type": "request", "event": "auth", "id": "1", "data": data}));
    assert_eq!(client.take()[0]["data"]["status"], "authenticated");

    rig.wait(Config::default().limits.auth.auth_timeout);

    assert_eq!(client.take_frames(), []);
    assert!(!client.is_ended());
}

#[test]
fn once_the_last_answer_is_out_the_wait_for_the_peers_end_is_short() {
    let mut rig = Rig::alone();
    let client = rig.socket(0);
    rig.set_room(&client, Some(0));
    rig.bytes(&client, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    rig.set_room(&client, None);
    assert!(client.take_head().starts_with("HTTP/1.1 200") && !client.is_closed());

    // As long as the answer waited there was more time.
    let limits = Config::default().limits;
    assert!(limits.wire.close_timeout < limits.wire.http_idle_timeout);
    rig.wait(limits.wire.close_timeout);

    assert!(client.is_closed());
    rig.assert_empty();
}

impl Client {
    /// After it has sent `bytes`.
    fn fed(self, rig: &mut Rig, bytes: &[u8]) -> Self {
        rig.bytes(&self, bytes);
        self
    }
}

impl Rig {
    /// Asks to subscribe, and does not wait for the answer.
    fn subscribe_unheard(&mut self, client: &Client, channel: &str) {
        let data = json!({"channel": channel});
        self.send(
            client,
            &json!({"type": "request", "event": "subscribe", "id": "q", "data": data}),
        );
    }
}

/// No connection passes through so many.
const DEADLINES_MAX: usize = 40;
