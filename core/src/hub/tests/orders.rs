//! Orders: revocations and ends of connections, on all hubs of all nodes.

use super::{
    cluster::{Cluster, client, header, parsed, with_tokens},
    *,
};
use crate::auth::Revocation;

/// Processes that have found each other.
fn cluster(nodes: usize, shards: u16) -> Cluster {
    let mut cluster = Cluster::new(nodes, shards, &with_tokens());
    cluster.wait(2);
    cluster
}

fn post(cluster: &mut Cluster, path: &str, body: &Value) -> (u16, Value) {
    let client = cluster.post(0, path, &header("root", "admin"), &body.to_string());
    parsed(&client.take_text())
}

fn verifies(cluster: &Cluster, node: usize, shard: usize, token: &str) -> bool {
    let hub = cluster.nodes[node].hubs[shard].hub();
    hub.tokens.verify(&hub.env, token).is_ok()
}

const REVOKED: &str = "Token revoked";
const DISCONNECTED: &str = "Disconnected by the server";

#[test]
fn a_revocation_is_answered_when_every_node_has_confirmed_it() {
    let mut cluster = cluster(3, 2);
    let places = [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1)];
    let ada = places.map(|(node, shard)| client(&mut cluster, node, shard, "ada").0);
    let (eve, _) = client(&mut cluster, 2, 1, "eve");

    let answer = post(&mut cluster, "/revoke", &json!({"user": "ada"}));

    let expected = json!({"status": "revoked", "closed": 5, "nodes": 3, "confirmed": 3});
    assert_eq!(answer, (200, expected));
    for client in ada {
        assert_eq!(client.take_close(), Some((1008, REVOKED.into())));
    }
    assert_eq!(eve.take_close(), None);
    let token = token("ada", &["admin"]);
    for (node, shard) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
        assert!(!verifies(&cluster, node, shard, &token), "{node}.{shard}");
    }
    let audits = cluster.nodes.iter().flat_map(|rig| &rig.outputs);
    let audits = audits.filter(|output| matches!(output, Output::Audit { .. })).count();
    assert_eq!(audits, 1, "it is written down where it was ordered");
}

#[test]
fn a_user_is_sent_to_and_ended_on_every_node() {
    let mut cluster = cluster(3, 2);
    let places = [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1)];
    let ada = places.map(|(node, shard)| client(&mut cluster, node, shard, "ada").0);
    ada.iter().for_each(|client| drop(client.take()));
    let (eve, _) = client(&mut cluster, 2, 1, "eve");
    eve.take();
    let (id, user) = (Some(CommandId(5)), || "ada".into());
    let message = DirectMessage::new("mail", r#"{"n":7}"#);
    let command = Command::SendEverywhere { id, user: user(), message };
    let done = |cluster: &mut Cluster, command| {
        let now = cluster.nodes[0].now;
        cluster.nodes[0].hubs[0].handle_command(now, command);
        cluster.run();
        let outputs = &mut cluster.nodes[0].outputs;
        let is = |output: &Output| matches!(output, Output::Done { .. });
        let at = outputs.iter().position(is).expect("an answer");
        let Output::Done { result, .. } = outputs.remove(at) else { unreachable!() };
        result.map(|done| done.subscribers)
    };

    assert_eq!(done(&mut cluster, command), Ok(5));
    for client in &ada {
        assert_eq!(client.take_numbers(), [7]);
    }
    let how = Box::new(Disconnect::new(4002, "bye"));
    let whom = Recipient::User(user());
    assert_eq!(done(&mut cluster, Command::Dismiss { id, whom, how }), Ok(5));
    for client in &ada {
        assert_eq!(client.take_close(), Some((4002, "bye".into())));
    }
    assert!(eve.take().is_empty() && eve.take_close().is_none());
}

#[test]
fn alone_on_its_bus_a_node_waits_for_nobody() {
    let mut cluster = cluster(1, 2);
    let answer = post(&mut cluster, "/revoke", &json!({"jti": "t1"}));
    let expected = json!({"status": "revoked", "closed": 0, "nodes": 1, "confirmed": 1});
    assert_eq!(answer, (200, expected));
}

#[test]
fn who_does_not_confirm_in_two_seconds_is_not_waited_for() {
    let mut cluster = cluster(3, 1);
    let (ada, _) = client(&mut cluster, 2, 0, "ada");
    cluster.cut(2);

    let body = json!({"user": "ada"}).to_string();
    let asker = cluster.post(0, "/revoke", &header("root", "admin"), &body);
    assert_eq!(asker.take_text(), "", "the third node has a lease");
    cluster.wait(2);

    let expected = json!({"status": "revoked", "closed": 0, "nodes": 3, "confirmed": 2});
    assert_eq!(parsed(&asker.take_text()), (200, expected));
    assert_eq!(ada.take_close(), None);
    cluster.connect(2);
    assert_eq!(ada.take_close(), Some((1008, REVOKED.into())), "it hears of it all the same");
}

#[test]
fn who_goes_while_it_is_waited_for_is_not_waited_for() {
    let mut cluster = cluster(2, 1);
    cluster.cut(1);
    cluster.wait(7);
    let body = json!({"user": "ada"}).to_string();
    let asker = cluster.post(0, "/revoke", &header("root", "admin"), &body);

    let other = cluster.id(1);
    cluster.bus.leases.remove(&other);
    cluster.wait(1);

    let expected = json!({"status": "revoked", "closed": 0, "nodes": 1, "confirmed": 1});
    assert_eq!(parsed(&asker.take_text()), (200, expected));
}

#[test]
fn a_node_that_comes_later_knows_what_was_revoked() {
    let mut cluster = Cluster::apart(2, 2, &with_tokens());
    cluster.connect(0);
    cluster.wait(2);
    assert_eq!(post(&mut cluster, "/revoke", &json!({"user": "ada"})).0, 200);
    let before = cluster.bus.log.len();

    cluster.connect(1);

    let token = token("ada", &["admin"]);
    for shard in [0, 1] {
        assert!(!verifies(&cluster, 1, shard, &token));
    }
    let told = cluster.bus.log[before..].iter();
    let confirms = |command: &BusCommand| {
        let BusCommand::Tell { message } = command else { return false };
        message.starts_with(b"{\"carried_out\"")
    };
    let confirmed = told.filter(|(_, command)| confirms(command));
    assert_eq!(confirmed.count(), 0, "nobody waits for that any more");
}

#[test]
fn while_the_bus_is_away_it_holds_here_and_the_others_are_told_later() {
    let mut cluster = cluster(2, 2);
    let (here, _) = client(&mut cluster, 0, 1, "ada");
    let (there, _) = client(&mut cluster, 1, 1, "ada");
    cluster.cut(0);

    let (status, body) = post(&mut cluster, "/revoke", &json!({"user": "ada"}));

    assert_eq!((status, &body["error_code"]), (503, &json!("SERVER_ERROR")));
    assert_eq!(body["retry"], "later");
    assert_eq!(
        body["error_message"],
        "Revoked on this node; the others follow when the bus is back"
    );
    assert_eq!(here.take_close(), Some((1008, REVOKED.into())));
    assert_eq!(there.take_close(), None);
    cluster.wait(1);
    cluster.connect(0);
    assert_eq!(there.take_close(), Some((1008, REVOKED.into())));
}

#[test]
fn a_bus_that_takes_nothing_is_told_when_it_does() {
    let mut cluster = cluster(2, 1);
    let (there, _) = client(&mut cluster, 1, 0, "ada");
    cluster.bus.full = true;
    assert_eq!(post(&mut cluster, "/revoke", &json!({"user": "ada"})).0, 503);
    cluster.wait(4);
    assert_eq!(there.take_close(), None);

    cluster.bus.full = false;
    cluster.wait(4);

    assert_eq!(there.take_close(), Some((1008, REVOKED.into())));
    assert_eq!(cluster.bus.control.len(), 1, "once");
}

#[test]
fn an_application_that_revokes_hears_how_far_that_went() {
    let mut cluster = cluster(2, 1);
    client(&mut cluster, 1, 0, "ada");
    let revoke = |cluster: &mut Cluster, number, json| {
        let revocation = Revocation::parse(json).unwrap();
        let command = Command::Revoke { id: Some(CommandId(number)), revocation };
        let rig = &mut cluster.nodes[0];
        rig.hubs[0].handle_command(rig.now, command);
        cluster.run();
        let outputs = std::mem::take(&mut cluster.nodes[0].outputs).into_iter();
        let mut done = outputs.filter_map(|output| {
            let Output::Done { id, result } = output else { return None };
            Some((id, result.map(|done| done.subscribers)))
        });
        done.next()
    };
    let done = revoke(&mut cluster, 1, r#"{"user":"ada"}"#);
    assert_eq!(done, Some((CommandId(1), Ok(1))), "one of the other node's");
    cluster.cut(0);
    let done = revoke(&mut cluster, 2, r#"{"user":"eve"}"#);
    assert_eq!(done, Some((CommandId(2), Err(Reason::RevokedHere))));
}

/// The line of what waits for the bus is that of the ends of sessions, too.
#[test]
fn what_has_no_room_to_wait_for_the_bus_holds_here_and_that_is_said() {
    let mut config = with_tokens();
    config.limits.revocations.revocations_max = 1;
    let mut cluster = Cluster::new(2, 1, &config);
    cluster.wait(2);
    let (here, _) = client(&mut cluster, 0, 0, "ada");
    let (there, _) = client(&mut cluster, 1, 0, "ada");
    cluster.cut(0);
    let rig = &mut cluster.nodes[0];
    let of = Whose::User("eve".into());
    rig.hubs[0].handle_command(rig.now, Command::EndSessions { id: None, of });
    cluster.run();

    let (status, body) = post(&mut cluster, "/revoke", &json!({"user": "ada"}));

    let row = Reason::NodesUntold.row();
    assert_eq!((status, &body["error_message"]), (503, &json!(row.text)));
    assert_eq!((&body["error_code"], &body["retry"]), (&json!("SERVER_ERROR"), &json!("later")));
    assert_eq!(here.take_close(), Some((1008, REVOKED.into())));
    cluster.connect(0);
    assert_eq!(there.take_close(), None);
    assert!(verifies(&cluster, 1, 0, &token("ada", &["admin"])));
}

#[test]
fn connections_of_a_user_end_on_every_node() {
    let mut cluster = cluster(2, 2);
    let ada =
        [(0, 1), (1, 0), (1, 1)].map(|(node, shard)| client(&mut cluster, node, shard, "ada"));
    let (eve, _) = client(&mut cluster, 1, 1, "eve");

    let answer = post(&mut cluster, "/disconnect", &json!({"user": "ada"}));

    let expected = json!({"status": "disconnected", "closed": 3, "nodes": 2, "confirmed": 2});
    assert_eq!(answer, (200, expected));
    for (client, _) in ada {
        assert_eq!(client.take_close(), Some((1008, DISCONNECTED.into())));
    }
    assert_eq!(eve.take_close(), None);
    client(&mut cluster, 1, 0, "ada");
}

#[test]
fn one_connection_ends_wherever_it_is() {
    let mut cluster = cluster(2, 2);
    let (one, name) = client(&mut cluster, 1, 1, "ada");
    let (other, _) = client(&mut cluster, 1, 1, "ada");
    let answer = post(&mut cluster, "/disconnect", &json!({"connection_id": name}));
    assert_eq!((answer.0, &answer.1["closed"]), (200, &json!(1)));
    assert_eq!(one.take_close(), Some((1008, DISCONNECTED.into())));
    assert_eq!(other.take_close(), None);
}

#[test]
fn to_end_connections_makes_sense_now_only() {
    let mut cluster = cluster(2, 1);
    let (there, _) = client(&mut cluster, 1, 0, "ada");
    cluster.cut(0);
    let (status, body) = post(&mut cluster, "/disconnect", &json!({"user": "ada"}));
    assert_eq!((status, &body["error_code"]), (503, &json!("SERVER_ERROR")));
    cluster.connect(0);
    assert_eq!(there.take_close(), None, "the answer has said so");

    cluster.cut(1);
    let body = json!({"user": "ada"}).to_string();
    cluster.post(0, "/disconnect", &header("root", "admin"), &body);
    cluster.wait(61);
    cluster.connect(1);
    assert_eq!(there.take_close(), None, "a minute later they are others");
}

#[test]
fn to_end_connections_needs_full_access() {
    let mut cluster = cluster(1, 1);
    let (victim, _) = client(&mut cluster, 0, 0, "eve");
    let body = r#"{"user":"eve"}"#;
    for (headers, body, status, code) in [
        (String::new(), body, 401, "AUTH_REQUIRED"),
        (header("ada", "workflow:read"), body, 403, "FORBIDDEN"),
        (header("ada", "write"), body, 403, "FORBIDDEN"),
        (header("ada", "admin"), "{}", 400, "DECODE_ERROR"),
        (header("ada", "admin"), r#"{"connection_id":"eve"}"#, 400, "DECODE_ERROR"),
    ] {
        let client = cluster.post(0, "/disconnect", &headers, body);
        let (answered, answer) = parsed(&client.take_text());
        assert_eq!((answered, &answer["error_code"]), (status, &json!(code)), "{body}");
    }
    let (status, _) = cluster.get(0, 0, "/disconnect");
    assert_eq!(status, 405);
    assert_eq!(victim.take_frames(), []);
}

#[test]
fn without_a_bus_connections_end_on_all_hubs_of_the_process() {
    let mut rig = Rig::new(2, with_auth());
    let victim = rig.connect_with(1, &header("eve", "workflow:read"));
    victim.take();
    let asker = rig.socket(0);
    let head = format!(
        "POST /disconnect HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{}\
         Content-Length: 14\r\n\r\n{}",
        header("root", "admin"),
        r#"{"user":"eve"}"#
    );
    rig.bytes(&asker, head.as_bytes());
    assert!(asker.take_text().ends_with(r#"{"status":"disconnected","closed":1}"#));
    assert_eq!(victim.take_close(), Some((1008, DISCONNECTED.into())));
    assert!(rig.commands.is_empty());
}

#[test]
fn what_nobody_knows_how_to_carry_out_is_counted() {
    let mut cluster = cluster(1, 1);
    let now = cluster.now();
    for command in ["{\"later\":1}", ""] {
        let event =
            BusEvent::Node(NodeEvent::Control { at: "9-0".into(), command: command.into() });
        cluster.nodes[0].hubs[0].handle_bus(now, event);
    }
    assert_eq!(cluster.nodes[0].hubs[0].tally().bus.unknown_orders, 2);
}
