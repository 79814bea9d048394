//! Whose a handshake is, as the application says it.

use super::*;
use crate::{
    auth::{Claims, Grants, Pattern, Revocation},
    trace::{Writer, replay},
};

const HANDSHAKE: &str = "GET /live?a=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Tenant: acme\r\n\
    Cookie: secret\r\n\r\n";

fn asking() -> Config {
    let mut config = Config::default();
    config.auth.required = true;
    config.hooks.authenticate = true;
    config.hooks.introduce = true;
    config.hooks.lifecycle = true;
    config.hooks.keep_headers = vec!["x-tenant".parse().unwrap()];
    config
}

fn ask(rig: &mut Rig) -> (Client, RequestId) {
    let client = rig.socket(0);
    rig.bytes(&client, HANDSHAKE.as_bytes());
    (client, asked(rig).unwrap())
}

fn asked(rig: &mut Rig) -> Option<RequestId> {
    rig.outputs.drain(..).find_map(|output| {
        if let Output::Authenticate { id, .. } = output { Some(id) } else { None }
    })
}

fn say(rig: &mut Rig, id: RequestId, outcome: Authentication) {
    rig.hubs[0].handle_command(rig.now, Command::Authenticated { id, outcome });
    rig.run();
}

fn access(user: &str) -> Authentication {
    let subscribe = vec![Pattern::parse("open").unwrap()];
    let grants = Grants { subscribe, ..Grants::default() };
    let claims = Claims { user: Some(user.into()), grants, ..Claims::default() };
    Authentication::Access { claims: Box::new(claims), data: None }
}

#[test]
fn the_application_is_told_what_came_and_what_it_wants_to_keep() {
    let mut rig = Rig::new(1, asking());
    let client = rig.socket(0);
    rig.bytes(&client, HANDSHAKE.as_bytes());
    let Some(Output::Authenticate { id, conn, request, upgrade: true, .. }) = rig.outputs.pop()
    else {
        panic!("it is not asked");
    };
    assert_eq!(
        (conn, request.uri().path(), request.uri().query()),
        (client.conn, "/live", Some("a=1"))
    );
    assert_eq!(request.headers()["cookie"], "secret");
    assert!(client.peek().is_empty() && !rig.hubs[0].hub().wants_read(client.conn));
    let Authentication::Access { claims, .. } = access("ada") else { unreachable!() };
    let data = Some(Data(Arc::new(7_u8)));
    say(&mut rig, id, Authentication::Access { claims, data });

    assert!(client.take_head().starts_with("HTTP/1.1 101 "));
    let welcome = &client.take()[0];
    let Some(Output::Connected { introduction: Some(told), user, .. }) = rig.outputs.pop() else {
        panic!("it is not told");
    };
    assert_eq!(welcome["data"]["connection_id"], told.id.to_string());
    assert_eq!((user.as_deref(), &*told.path), (Some("ada"), "/live"));
    assert_eq!((told.headers.len(), &told.headers["x-tenant"]), (1, &"acme".parse().unwrap()));
    assert_eq!(told.data.clone().unwrap().0.downcast_ref(), Some(&7_u8));
    assert!(!format!("{told:?}").contains("acme"), "values may be secrets");
    rig.subscribe(&client, "open");
    let refused = rig.request(&client, "subscribe", &json!({"channel": "other"}));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn what_is_kept_is_bounded() {
    let mut config = asking();
    config.limits.requests.kept_request_bytes_max = "/live".len() + "x-tenant".len() + 3;
    let mut rig = Rig::new(1, config);
    let client = rig.socket(0);
    rig.bytes(&client, HANDSHAKE.as_bytes());
    assert!(client.take_head().starts_with("HTTP/1.1 431 "));
    assert!(asked(&mut rig).is_none());
}

#[test]
fn who_is_not_decided_about_in_time_comes_back() {
    let mut rig = Rig::new(1, asking());
    let (client, id) = ask(&mut rig);
    rig.wait(Config::default().limits.requests.authenticate_timeout);
    assert!(client.take_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.take_close(), Some((1013, Reason::Undecided.row().text.into())));
    // Too late.
    say(&mut rig, id, access("ada"));
    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn who_is_one_too_many_comes_back_wherever_it_is_counted() {
    for shard in 0..2 {
        let mut config = asking();
        config.limits.connections.connections_per_address_max = Some(1);
        config.limits.connections.connects_limit_loopback = true;
        let mut rig = Rig::new(2, config);
        let (first, id) = ask(&mut rig);
        say(&mut rig, id, access("ada"));
        let client = rig.socket(shard);
        // The hub where addresses are counted may be the other one: then its word comes while the application is asked.
        rig.bytes(&client, HANDSHAKE.as_bytes());
        assert!(client.take_head().starts_with("HTTP/1.1 101 "), "shard {shard}");
        let text = Reason::AddressConnections.row().text;
        assert_eq!(client.take_close(), Some((1013, text.into())), "shard {shard}");
        rig.hang_up(&client);
        rig.hang_up(&first);
        rig.assert_empty();
    }
}

#[test]
fn a_handler_that_fails_or_answers_something_else_decides_nothing() {
    let wrong = |id| {
        [
            Command::Failed(Handler::Authenticate(id)),
            Command::Decide { id, allow: true },
            Command::Reply { id, result: Ok("{}".into()) },
        ]
    };
    for which in 0..3 {
        let mut rig = Rig::new(1, asking());
        let (client, id) = ask(&mut rig);
        rig.hubs[0].handle_command(rig.now, wrong(id).into_iter().nth(which).unwrap());
        rig.run();
        client.take_head();
        assert_eq!(client.take_close().unwrap().0, 1013);
    }
}

#[test]
fn an_access_that_ends_ends_its_connection() {
    let mut rig = Rig::new(1, asking());
    let (client, id) = ask(&mut rig);
    let Authentication::Access { mut claims, data } = access("ada") else { unreachable!() };
    claims.expires = Some(START_UNIX + Duration::from_secs(10));
    say(&mut rig, id, Authentication::Access { claims, data });
    client.take_head();
    rig.wait(Duration::from_secs(6));
    assert_eq!(client.take().last().unwrap()["event"], "session.token_expiring");
    rig.wait(Duration::from_secs(5));
    rig.bytes(&client, &[0x8a, 0x80, 0, 0, 0, 0]);
    rig.wait(Config::default().limits.auth.token_grace);
    assert_eq!(client.take_close(), Some((1008, Reason::TokenExpired.row().text.into())));
}

#[test]
fn whose_tokens_are_revoked_is_not_let_in_by_the_application_either() {
    let mut rig = Rig::new(1, asking());
    let (client, id) = ask(&mut rig);
    say(&mut rig, id, access("ada"));
    client.take_head();
    let user = Some("ada".into());
    let revocation = Revocation { id: None, user, issued_before: None, until: None };
    rig.hubs[0].handle_command(rig.now, Command::Revoke { id: None, revocation });
    rig.run();
    assert_eq!(client.take_close(), Some((1008, Reason::TokenRevoked.row().text.into())));
    let (client, id) = ask(&mut rig);
    say(&mut rig, id, access("ada"));
    assert!(client.take_head().starts_with("HTTP/1.1 401 "));
}

#[test]
fn who_waits_counts_under_the_limits() {
    let mut config = asking();
    config.limits.connections.connections_per_address_max = Some(1);
    config.limits.connections.connects_limit_loopback = true;
    let mut rig = Rig::new(1, config);
    let (first, id) = ask(&mut rig);
    let second = rig.socket(0);
    rig.bytes(&second, HANDSHAKE.as_bytes());
    assert!(asked(&mut rig).is_none(), "nobody is asked about who may not stay");
    second.take_head();
    assert_eq!(second.take_close().unwrap().0, 1013);
    say(&mut rig, id, access("ada"));
    first.take_head();
    assert_eq!(first.take()[0]["event"], "session.created");
    rig.hang_up(&first);
    let (third, id) = ask(&mut rig);
    say(&mut rig, id, access("ada"));
    assert!(third.take_head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn an_application_without_room_is_not_asked() {
    let mut rig = Rig::new(1, asking());
    for backlog in [Backlog::Questions, Backlog::All] {
        rig.hubs[0].handle_command(rig.now, Command::Backlog(backlog));
        let client = rig.socket(0);
        rig.bytes(&client, HANDSHAKE.as_bytes());
        assert!(asked(&mut rig).is_none());
        client.take_head();
        assert_eq!(client.take_close(), Some((1013, Reason::Busy.row().text.into())));
    }
}

#[cfg(feature = "jwt")]
#[test]
fn another_token_is_told() {
    let mut config = asking();
    config.auth.keys.add_secret(None, SECRET).unwrap();
    let mut rig = Rig::new(1, config);
    let (client, id) = ask(&mut rig);
    say(&mut rig, id, access("ada"));
    client.take_head();
    rig.outputs.clear();
    let more = token("ada", &["admin"]);
    rig.request(&client, "refresh_token", &json!({ "token": more }));
    let Some(Output::Refreshed { conn, claims }) = rig.outputs.pop() else { panic!("not told") };
    assert_eq!((conn, &*claims.permissions), (client.conn, &["admin".into()][..]));
}

#[test]
fn what_was_said_is_recorded() {
    let config = asking();
    let mut rig = Rig::new(1, config.clone());
    assert!(rig.hubs[0].start(rig.now));
    let refusal = Refusal { denial: Denial::Forbidden, by: RefusedBy::Close };
    for outcome in [access("ada"), Authentication::Refuse(refusal), Authentication::Pass] {
        let (client, id) = ask(&mut rig);
        say(&mut rig, id, outcome);
        rig.hang_up(&client);
    }
    let (client, id) = ask(&mut rig);
    rig.hubs[0].handle_command(rig.now, Command::Failed(Handler::Authenticate(id)));
    rig.run();
    rig.hang_up(&client);
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.add(ShardId(0), &rig.hubs[0].take()).unwrap();
    let report = replay(&writer.into_inner(), &[Arc::new(config)], Instant::now()).unwrap();
    assert_eq!(report.connections, 4);
}
