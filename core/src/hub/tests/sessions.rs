//! Admission, authentication, deadlines, drain, reload.

use super::*;

#[cfg(feature = "jwt")]
const AUTH: &str = "auth";

#[cfg(feature = "jwt")]
fn first(rig: &mut Rig, client: &Client, message: &Value) -> (Vec<Value>, Option<(u16, String)>) {
    rig.send(client, message);
    let frames = client.take_frames();
    let texts = frames
        .iter()
        .filter(|(opcode, _)| *opcode == 1)
        .map(|(_, text)| serde_json::from_slice(text).unwrap());
    let close = frames.iter().find(|(opcode, _)| *opcode == 8);
    let close = close.map(|(_, payload)| {
        (
            u16::from_be_bytes([payload[0], payload[1]]),
            String::from_utf8(payload[2..].to_vec()).unwrap(),
        )
    });
    (texts.collect(), close)
}

#[cfg(feature = "jwt")]
fn auth_message(token: &Value) -> Value {
    json!({"type": "request", "event": AUTH, "id": "1", "data": {"token": token}})
}

#[cfg(feature = "jwt")]
#[test]
fn a_valid_token_is_answered_then_welcomed() {
    let mut rig = Rig::new(1, with_auth());
    let client = rig.connect_with(0, "");
    assert_eq!(client.take(), Vec::<Value>::new());
    let token = token("ada", &["workflow:read"]);
    let (messages, close) = first(&mut rig, &client, &auth_message(&json!(token)));
    assert_eq!(close, None);
    assert_eq!(messages[0]["data"], json!({"status": "authenticated", "user_id": "ada"}));
    assert_eq!(messages[0]["correlation_id"], "1");
    assert_eq!(messages[1]["event"], "session.created");
    assert_eq!(messages[1]["data"]["authenticated"], true);
    rig.subscribe(&client, "workflow:1");
    let refused = rig.request(&client, "subscribe", &json!({"channel": "global"}));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    let refused = rig.request(
        &client,
        "publish",
        &json!({"channel": "workflow:1", "event": "e", "data": {}}),
    );
    assert_eq!(refused["error_code"], "FORBIDDEN");
}

#[cfg(feature = "jwt")]
#[test]
fn refused_first_messages_are_told_why_and_closed() {
    let mut rig = Rig::new(1, with_auth());
    let failed = "Invalid or expired token";
    for (message, code, text, correlated, close) in [
        (auth_message(&json!(null)), "AUTH_FAILED", "Missing or malformed auth token", true, 1008),
        (auth_message(&json!("x.y.z")), "AUTH_FAILED", failed, true, 1008),
        (
            json!({"type": "request", "event": "subscribe", "id": "1"}),
            "AUTH_REQUIRED",
            "Authentication required",
            false,
            1008,
        ),
    ] {
        let client = rig.connect_with(0, "");
        let (messages, closed) = first(&mut rig, &client, &message);
        assert_eq!(messages[0]["error_code"], code);
        assert_eq!(messages[0]["error_message"], text);
        assert_eq!(
            messages[0]["correlation_id"],
            if correlated { json!("1") } else { json!(null) }
        );
        assert_eq!(closed.unwrap().0, close);
    }
    let client = rig.connect_with(0, "");
    let (messages, closed) = first(&mut rig, &client, &json!({"type": "nonsense"}));
    assert_eq!((messages.len(), closed), (0, Some((1011, "Authentication error".into()))));
}

#[test]
fn silence_is_closed_after_the_auth_timeout() {
    let mut rig = Rig::new(1, with_auth());
    let client = rig.connect_with(0, "");
    rig.wait(Duration::from_millis(9_999));
    assert_eq!(client.take_frames(), []);
    rig.wait(Duration::from_millis(1));
    let opcodes: Vec<_> = client.take_frames().into_iter().map(|(opcode, _)| opcode).collect();
    assert_eq!(opcodes, [1, 8]);
}

#[cfg(feature = "jwt")]
#[test]
fn a_bearer_header_authenticates_the_handshake() {
    let mut rig = Rig::new(1, with_auth());
    let header = format!("Authorization: Bearer {}\r\n", token("ada", &["admin"]));
    let client = rig.connect_with(0, &header);
    assert_eq!(client.take()[0]["data"]["authenticated"], true);
    let again = rig.request(&client, AUTH, &json!({"token": token("ada", &["pool:read"])}));
    assert_eq!(again["data"]["status"], "authenticated");
    let other = rig.request(&client, "refresh_token", &json!({"token": token("eve", &["admin"])}));
    assert_eq!(other["error_code"], "AUTH_FAILED", "a connection keeps its user");
}

#[test]
fn the_rate_limit_refuses_and_keeps_the_connection() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    let pings: Vec<u8> =
        (0..160).flat_map(|n| frame(&json!({"type": "ping", "id": n.to_string()}))).collect();
    rig.bytes(&client, &pings);
    let answers = client.take();
    let refused: Vec<_> =
        answers.iter().filter(|answer| answer["error_code"] == "RATE_LIMIT_EXCEEDED").collect();
    assert_eq!((answers.len(), refused.len()), (160, 10));
    assert_eq!(refused[0]["correlation_id"], "150");
    assert_eq!(
        refused[0]["error_message"],
        "Message rate limit exceeded. Retry after 0.010 seconds."
    );
    rig.wait(Duration::from_millis(10));
    rig.send(&client, &json!({"type": "ping"}));
    assert_eq!(client.take()[0]["type"], "pong");
}

#[test]
fn new_connections_of_an_address_are_limited() {
    let mut config = Config::default();
    config.limits.connections.connects_per_minute = Some(2);
    config.limits.connections.connects_limit_loopback = true;
    let mut rig = Rig::new(1, config);
    rig.connect(0);
    rig.connect(0);
    let third = rig.connect_with(0, "");
    assert_eq!(
        third.take_close(),
        Some((1013, "Too many new connections from this address".into()))
    );
}

#[test]
fn a_drain_closes_everyone_and_says_when_it_is_done() {
    let mut rig = Rig::alone();
    let (socket, client) = (rig.socket(0), rig.connect(0));
    rig.subscribe(&client, "a");
    rig.publish(0, "a", 1);
    rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    rig.run();
    let frames = client.take_frames();
    assert_eq!(
        frames.iter().map(|(opcode, _)| *opcode).collect::<Vec<_>>(),
        [1, 8],
        "what was published still arrives"
    );
    assert_eq!(frames[1].1[..2], 1001u16.to_be_bytes());
    assert!(socket.is_ended());
    rig.hang_up(&socket);
    assert!(!rig.outputs.iter().any(|output| matches!(output, Output::Drained)));
    rig.hang_up(&client);
    assert!(rig.outputs.iter().any(|output| matches!(output, Output::Drained)));
    rig.assert_empty();
}

#[test]
fn a_drain_lets_answers_that_are_due_go_out() {
    let mut config = Config::default();
    config.hooks.authorize_publish = true;
    let mut rig = Rig::new(1, config);
    let client = rig.socket(0);
    let body = r#"{"channel":"a","event":"e"}"#;
    let head = "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n";
    rig.bytes(&client, format!("{head}{body}").as_bytes());
    let Some(Output::Authorize { id, .. }) = rig.outputs.pop() else { panic!("no question") };
    rig.hubs[0].handle_command(rig.now, Command::Drain(DrainPlan::default()));
    rig.run();
    rig.hubs[0].handle_command(rig.now, Command::Decide { id, allow: true });
    rig.run();
    let answer = client.take_head();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"),
        "{answer}"
    );
    rig.hang_up(&client);
    assert!(rig.outputs.iter().any(|output| matches!(output, Output::Drained)));
}

#[test]
fn a_drain_in_a_window_closes_one_after_the_other() {
    let mut rig = Rig::alone();
    let clients: Vec<_> = (0..4).map(|_| rig.connect(0)).collect();
    let plan = DrainPlan {
        window: Duration::from_secs(4),
        deadline: Duration::from_secs(20),
        ..DrainPlan::default()
    };
    rig.hubs[0].handle_command(rig.now, Command::Drain(plan));
    rig.run();
    let mut closed = Vec::new();
    for _ in 0..5 {
        rig.wait(Duration::from_millis(900));
        closed.push(clients.iter().filter(|client| client.peek().first() == Some(&0x88)).count());
    }
    assert_eq!(closed, [1, 2, 3, 4, 4]);
}

#[cfg(feature = "jwt")]
#[test]
fn who_authenticates_during_a_drain_keeps_its_turn_in_it() {
    let mut rig = Rig::new(1, with_auth());
    let [_first, second] = [rig.connect_with(0, ""), rig.connect_with(0, "")];
    let plan = DrainPlan {
        window: Duration::from_secs(4),
        deadline: Duration::from_secs(20),
        ..DrainPlan::default()
    };
    rig.hubs[0].handle_command(rig.now, Command::Drain(plan));
    rig.wait(Duration::from_secs(1));
    let data = json!({"token": token("ada", &["admin"])});
    rig.send(&second, &json!({"type": "request", "event": AUTH, "id": "1", "data": data}));
    assert_eq!(second.take_close(), None);
    rig.wait(Duration::from_secs(1));
    assert_eq!(second.take_close(), Some((1001, "Server shutting down".into())));
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.set_room(&client, Some(0));
    let plan = DrainPlan {
        window: Duration::ZERO,
        deadline: Duration::from_secs(2),
        ..DrainPlan::default()
    };
    rig.hubs[0].handle_command(rig.now, Command::Drain(plan));
    rig.wait(Duration::from_secs(2));
    assert!(rig.outputs.iter().any(|output| matches!(output, Output::Drained)));
    rig.assert_empty();
}

#[cfg(feature = "jwt")]
#[test]
fn a_reload_changes_what_users_may_do() {
    let mut rig = Rig::new(1, with_auth());
    let client = rig.connect_with(
        0,
        &format!("Authorization: Bearer {}\r\n", token("ada", &["fastblocks:read"])),
    );
    client.take();
    assert_eq!(
        rig.request(&client, "subscribe", &json!({"channel": "ui:1"}))["error_code"],
        "FORBIDDEN"
    );
    let config = Config { policy: auth::Policy::for_service("fastblocks").unwrap(), ..with_auth() };
    rig.hubs[0].handle_command(rig.now, Command::Reload(Arc::new(config)));
    rig.subscribe(&client, "ui:1");
}

#[test]
fn inputs_about_a_connection_that_is_gone_are_ignored() {
    let mut rig = Rig::alone();
    let old = rig.connect(0);
    rig.hang_up(&old);
    let new = rig.connect(0);
    assert_eq!(old.conn.index(), new.conn.index());
    rig.bytes(&old, &frame(&json!({"type": "ping"})));
    rig.hubs[0].handle_io_error(rig.now, old.conn, io::ErrorKind::BrokenPipe);
    rig.hubs[0].handle_command(rig.now, Command::Disconnect { conn: old.conn });
    rig.run();
    assert_eq!(new.take_frames(), []);
    rig.send(&new, &json!({"type": "ping"}));
    assert_eq!(new.take()[0]["type"], "pong");
}

#[test]
fn a_silent_peer_is_pinged_then_closed() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.wait(Duration::from_secs(20));
    assert_eq!(client.take_frames()[0].0, 9);
    rig.wait(Duration::from_secs(20));
    assert_eq!(client.take_close(), Some((1011, "Keepalive ping timeout".into())));
    rig.wait(Duration::from_secs(5));
    assert!(client.is_closed());
    rig.assert_empty();
}
