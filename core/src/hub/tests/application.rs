//! What the application says to connections, does with their subscriptions and asks about them.

use super::*;
use crate::config::SlowPolicy;

/// What became of a command about connections, in hub `shard`.
fn handled(rig: &mut Rig, shard: usize, command: Command) -> Result<Handled, Reason> {
    rig.hubs[shard].handle_command(rig.now, command);
    rig.run();
    let answer = |output: &Output| matches!(output, Output::Handled { id: CommandId(1), .. });
    let at = rig.outputs.iter().position(answer).expect("an answer");
    let Output::Handled { result, .. } = rig.outputs.remove(at) else { unreachable!() };
    result
}

fn send(to: Recipient, event: &str, data: &str) -> Command {
    Command::Send { id: Some(CommandId(1)), to, message: DirectMessage::new(event, data) }
}

fn subscribe(client: &Client, channel: &str, granted: bool) -> Command {
    let (id, channel) = (Some(CommandId(1)), channel.into());
    Command::Subscribe { id, conn: client.conn, channel, granted }
}

fn unsubscribe(client: &Client, channel: &str) -> Command {
    Command::Unsubscribe { id: Some(CommandId(1)), conn: client.conn, channel: channel.into() }
}

fn list(of: Roll, limit: u32, after: Option<u32>) -> Command {
    Command::List { id: CommandId(1), of, limit, after }
}

fn page(rig: &mut Rig, shard: usize, of: Roll, limit: u32, after: Option<u32>) -> RollPage {
    match handled(rig, shard, list(of, limit, after)) {
        Ok(Handled::Listed(page)) => *page,
        other => panic!("{other:?}"),
    }
}

/// What the application has heard of subscriptions since the last look.
fn heard(rig: &mut Rig) -> Vec<String> {
    let mut lines = Vec::new();
    rig.outputs.retain(|output| {
        let line = if let Output::Subscribed { channel, .. } = output {
            format!("+{channel}")
        } else if let Output::Unsubscribed { channel, leave, .. } = output {
            format!("-{channel} {leave:?}")
        } else if matches!(output, Output::Disconnected { .. }) {
            "end".to_owned()
        } else {
            return true;
        };
        lines.push(line);
        false
    });
    lines
}

fn hearing(mut config: Config) -> Config {
    config.hooks.subscriptions = true;
    config.hooks.lifecycle = true;
    config
}

#[cfg(feature = "jwt")]
fn user(rig: &mut Rig, shard: usize, name: &str) -> Client {
    let header = format!("Authorization: Bearer {}\r\n", token(name, &["admin"]));
    let client = rig.connect_with(shard, &header);
    client.take();
    client
}

const REACHED: Result<Handled, Reason> = Ok(Handled::Sent(Sent { reached: 1, slow: 0 }));

#[test]
fn a_message_for_one_connection_has_all_nine_fields_and_no_room() {
    let mut rig = Rig::alone();
    let (client, other) = (rig.connect(0), rig.connect(0));

    let to = Recipient::Connection(client.conn);
    assert_eq!(handled(&mut rig, 0, send(to, "job.done", r#"{"n":1}"#)), REACHED);

    let text = String::from_utf8(client.take_frames().remove(0).1).unwrap();
    assert!(text.starts_with(r#"{"id":""#), "{text}");
    let begins =
        r#"","correlation_id":null,"type":"event","event":"job.done","data":{"n":1},"timestamp":""#;
    assert!(text[43..].starts_with(begins), "{text}");
    assert!(text.ends_with(r#"","room":null,"error_code":null,"error_message":null}"#), "{text}");
    assert!(other.take().is_empty());
}

#[test]
fn who_is_gone_or_nobody_is_answered_as_such() {
    let mut rig = Rig::new(2, Config::default());
    let client = rig.connect(0);
    let to = Recipient::Connection(client.conn);
    assert_eq!(handled(&mut rig, 1, send(to.clone(), "e", "{}")), Ok(Handled::Gone));
    rig.hang_up(&client);
    assert_eq!(handled(&mut rig, 0, send(to, "e", "{}")), Ok(Handled::Gone));
    assert_eq!(handled(&mut rig, 0, subscribe(&client, "a", true)), Ok(Handled::Gone));
    assert_eq!(handled(&mut rig, 0, unsubscribe(&client, "a")), Ok(Handled::Gone));
    let nobody = Ok(Handled::Sent(Sent::default()));
    assert_eq!(handled(&mut rig, 0, send(Recipient::User("x".into()), "e", "{}")), nobody);
}

#[test]
fn what_is_no_message_is_refused_by_name() {
    let mut config = Config::default();
    config.limits.wire.message_bytes_max = 64;
    let mut rig = Rig::alone_with(config);
    let client = rig.connect(0);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(64));
    for (event, data, reason) in [
        ("", "{}", Reason::BadPublish),
        ("e", "[]", Reason::BadPublish),
        ("e", &long, Reason::MessageTooBig),
    ] {
        let to = Recipient::Connection(client.conn);
        assert_eq!(handled(&mut rig, 0, send(to, event, data)), Err(reason));
    }
    for channel in ["", "a b\n"] {
        let command = subscribe(&client, channel, true);
        assert_eq!(handled(&mut rig, 0, command), Err(Reason::InvalidChannel));
    }
    assert!(client.take().is_empty());
}

#[test]
fn messages_come_in_the_order_in_which_they_were_sent() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    for n in 0..100 {
        let (to, data) = (Recipient::Connection(client.conn), format!(r#"{{"n":{n}}}"#));
        let command = Command::Send { id: None, to, message: DirectMessage::new("e", &data) };
        rig.hubs[0].handle_command(rig.now, command);
    }
    rig.run();
    assert_eq!(client.take_numbers(), (0..100).collect::<Vec<_>>());
}

#[cfg(feature = "jwt")]
#[test]
fn a_message_for_a_user_reaches_all_of_its_connections_here_under_one_id() {
    let mut rig = Rig::new(2, with_auth());
    let ada = [user(&mut rig, 0, "ada"), user(&mut rig, 0, "ada"), user(&mut rig, 1, "ada")];
    let eve = user(&mut rig, 0, "eve");
    let to = || Recipient::User("ada".into());

    let both = Ok(Handled::Sent(Sent { reached: 2, slow: 0 }));
    assert_eq!(handled(&mut rig, 0, send(to(), "e", "{}")), both);
    assert_eq!(handled(&mut rig, 1, send(to(), "e", "{}")), REACHED);

    let ids: Vec<_> = ada.iter().flat_map(Client::take).map(|got| got["id"].clone()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert!(eve.take().is_empty());
    rig.hang_up(&ada[0]);
    assert_eq!(handled(&mut rig, 0, send(to(), "e", "{}")), REACHED);
    rig.hang_up(&ada[1]);
    let nobody = Ok(Handled::Sent(Sent::default()));
    assert_eq!(handled(&mut rig, 0, send(to(), "e", "{}")), nobody);
}

#[cfg(feature = "jwt")]
#[test]
fn who_becomes_somebody_is_found_by_that_name() {
    let mut config = with_auth();
    config.auth.required = false;
    let mut rig = Rig::alone_with(config);
    let client = rig.connect(0);
    let to = || Recipient::User("ada".into());
    let nobody = Ok(Handled::Sent(Sent::default()));
    assert_eq!(handled(&mut rig, 0, send(to(), "e", "{}")), nobody);

    rig.request(&client, "auth", &json!({"token": token("ada", &["admin"])}));

    assert_eq!(handled(&mut rig, 0, send(to(), "e", "{}")), REACHED);
}

/// A connection that reads nothing, under the policy, and room for a few messages.
fn stalled(policy: SlowPolicy) -> (Rig, Client) {
    let mut config = unlimited();
    config.limits.delivery.outbox_bytes_max = 2000;
    config.slow_readers.default = policy;
    let mut rig = Rig::new(1, config);
    let client = rig.connect(0);
    rig.set_room(&client, Some(0));
    (rig, client)
}

#[test]
fn who_has_no_room_is_told_of_and_treated_as_slow_readers_are() {
    for policy in [SlowPolicy::Gap, SlowPolicy::Latest, SlowPolicy::Disconnect] {
        let (mut rig, client) = stalled(policy);
        let to = || Recipient::Connection(client.conn);
        let mut reached = 0;
        while handled(&mut rig, 0, send(to(), "e", r#"{"n":1}"#)) == REACHED {
            reached += 1;
            assert!(rig.hubs[0].hub().queued(client.conn).unwrap().0 <= 2000);
        }
        assert!((5..12).contains(&reached), "{reached}");
        let again = handled(&mut rig, 0, send(to(), "e", "{}"));
        if policy == SlowPolicy::Disconnect {
            assert_eq!(again, Ok(Handled::Gone));
            rig.set_room(&client, None);
            assert_eq!(client.take_close(), Some((1013, "Reading too slowly".into())));
        } else {
            assert_eq!(again, Ok(Handled::Sent(Sent { reached: 0, slow: 1 })));
            rig.set_room(&client, None);
            assert_eq!(client.take_numbers().len(), reached);
            assert_eq!(handled(&mut rig, 0, send(to(), "e", "{}")), REACHED);
        }
    }
}

#[test]
fn the_application_puts_connections_into_channels_and_takes_them_out() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards, hearing(Config::default()));
        let client = rig.connect(0);
        let channel = rig.channel_of(shards - 1);

        assert_eq!(
            handled(&mut rig, 0, subscribe(&client, &channel, true)),
            Ok(Handled::Changed(true))
        );
        rig.publish(usize::from(shards - 1), &channel, 1);
        rig.run();
        let got = client.take();
        assert_eq!(got[0]["type"], "event");
        assert_eq!(got[0]["event"], "channel.subscribed");
        assert_eq!(got[0]["data"], json!({"status": "subscribed", "channel": channel}));
        assert_eq!((&got[0]["room"], &got[1]["data"]["n"]), (&json!(channel), &json!(1)));
        assert_eq!(
            handled(&mut rig, 0, subscribe(&client, &channel, true)),
            Ok(Handled::Changed(false))
        );
        assert!(client.take().is_empty(), "nothing has changed for it");

        assert_eq!(
            handled(&mut rig, 0, unsubscribe(&client, &channel)),
            Ok(Handled::Changed(true))
        );
        rig.publish(usize::from(shards - 1), &channel, 2);
        rig.run();
        let got = client.take();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0]["event"], "channel.withdrawn");
        assert_eq!(got[0]["data"], json!({"channel": channel, "reason": "application"}));
        assert_eq!(
            handled(&mut rig, 0, unsubscribe(&client, &channel)),
            Ok(Handled::Changed(false))
        );
        assert!(client.take().is_empty());
        assert_eq!(heard(&mut rig), [format!("+{channel}"), format!("-{channel} Application")]);
    }
}

#[test]
fn every_way_in_and_out_is_heard_of_in_turns() {
    let mut rig = Rig::alone_with(hearing(Config::default()));
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.subscribe(&client, "a");
    rig.subscribe(&client, "b");
    rig.request(&client, "unsubscribe", &json!({"channel": "a"}));
    rig.request(&client, "unsubscribe", &json!({"channel": "a"}));
    assert_eq!(heard(&mut rig), ["+a", "+b", "-a Client"]);

    // Anew, and nothing has changed.
    rig.request(&client, "subscribe", &json!({"channel": "b", "positions": true}));
    assert_eq!(heard(&mut rig), [""; 0]);
    let recover = json!({"epoch": "0123456789abcdef", "offset": 7});
    let wish = json!({"channel": "b", "recover": recover, "strict": true});
    assert_eq!(rig.request(&client, "subscribe", &wish)["error_code"], "NOT_RECOVERED");
    assert_eq!(heard(&mut rig), ["-b Refused(NotRecovered)"]);

    rig.subscribe(&client, "c");
    rig.subscribe(&client, "d");
    rig.hang_up(&client);
    let lines = heard(&mut rig);
    assert_eq!(lines[..2], ["+c", "+d"]);
    assert!(lines[2].starts_with("-c Ended(") && lines[3].starts_with("-d Ended("), "{lines:?}");
    assert_eq!(lines[4..], ["end"]);
}

#[test]
fn who_cannot_be_heard_of_does_not_subscribe() {
    let mut rig = Rig::alone_with(hearing(Config::default()));
    let client = rig.connect(0);
    rig.hubs[0].handle_command(rig.now, Command::Backlog(Backlog::All));
    let answer = rig.request(&client, "subscribe", &json!({"channel": "a"}));
    assert_eq!(answer["error_message"], Reason::Busy.row().text);
    assert_eq!(handled(&mut rig, 0, subscribe(&client, "a", true)), Err(Reason::Busy));
    rig.hubs[0].handle_command(rig.now, Command::Backlog(Backlog::None));
    rig.subscribe(&client, "a");
    assert_eq!(heard(&mut rig), ["+a"]);
}

#[test]
fn the_limits_of_clients_are_those_of_the_application() {
    let mut config = Config::default();
    config.limits.channels.channels_per_connection_max = 1;
    let mut rig = Rig::alone_with(config);
    let client = rig.connect(0);
    assert_eq!(handled(&mut rig, 0, subscribe(&client, "a", true)), Ok(Handled::Changed(true)));
    assert_eq!(handled(&mut rig, 0, subscribe(&client, "b", true)), Err(Reason::TooManyChannels));
}

#[cfg(feature = "jwt")]
#[test]
fn a_grant_holds_whatever_the_token_says_and_ends_with_the_connection() {
    let mut rig = Rig::alone_with(hearing(with_auth()));
    let header = format!("Authorization: Bearer {}\r\n", token("ada", &["workflow:read"]));
    let client = rig.connect_with(0, &header);
    client.take();
    let refused = rig.request(&client, "subscribe", &json!({"channel": "pool:1"}));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    assert_eq!(
        handled(&mut rig, 0, subscribe(&client, "pool:1", false)),
        Err(Reason::SubscribeForbidden)
    );

    assert_eq!(
        handled(&mut rig, 0, subscribe(&client, "pool:1", true)),
        Ok(Handled::Changed(true))
    );
    client.take();
    let fresh = json!({"token": token("ada", &["workflow:read"])});
    rig.request(&client, "refresh_token", &fresh);
    rig.publish(0, "pool:1", 5);
    rig.run();

    assert_eq!(client.take_numbers(), [5]);
    rig.hang_up(&client);
    assert_eq!(heard(&mut rig).len(), 3, "in, out, and the end");
}

#[cfg(feature = "jwt")]
#[test]
fn who_is_taken_out_while_its_home_is_asked_is_told_both() {
    let mut rig = Rig::new(2, hearing(with_auth()));
    let client = user(&mut rig, 0, "ada");
    let channel = rig.channel_of(1);
    rig.stalled = Some(1);
    rig.send(
        &client,
        &json!({"type": "request", "event": "subscribe", "id": "1", "data": {"channel": channel}}),
    );
    let command = Command::Subscribe {
        id: Some(CommandId(2)),
        conn: client.conn,
        channel: channel.as_str().into(),
        granted: true,
    };
    rig.hubs[0].handle_command(rig.now, command);
    assert_eq!(handled(&mut rig, 0, unsubscribe(&client, &channel)), Ok(Handled::Changed(true)));
    rig.stalled = None;
    rig.run();

    let got = client.take();
    let words: Vec<_> = got.iter().map(|got| got["event"].as_str().unwrap()).collect();
    assert_eq!(words, ["subscribe", "channel.withdrawn"]);
    let other = rig.outputs.iter().find_map(|output| {
        let Output::Handled { id: CommandId(2), result } = output else { return None };
        Some(result.clone())
    });
    assert_eq!(other, Some(Ok(Handled::Changed(false))));
    assert_eq!(heard(&mut rig), [""; 0], "it has never been in");
    rig.hang_up(&client);
    rig.assert_empty();
}

#[test]
fn who_ends_while_its_home_is_asked_is_gone() {
    let mut rig = Rig::new(2, hearing(Config::default()));
    let client = rig.connect(0);
    let channel = rig.channel_of(1);
    rig.stalled = Some(1);
    rig.hubs[0].handle_command(rig.now, subscribe(&client, &channel, true));
    rig.run();
    rig.hang_up(&client);
    rig.stalled = None;
    rig.run();
    let gone =
        |output: &Output| matches!(output, Output::Handled { result: Ok(Handled::Gone), .. });
    assert!(rig.outputs.iter().any(gone));
    assert_eq!(heard(&mut rig), ["end"]);
    rig.assert_empty();
}

fn dismiss(rig: &mut Rig, whom: Recipient, how: Disconnect) -> Result<Published, Reason> {
    let command = Command::Dismiss { id: Some(CommandId(1)), whom, how: Box::new(how) };
    rig.hubs[0].handle_command(rig.now, command);
    rig.run();
    let at = rig.outputs.iter().position(|output| matches!(output, Output::Done { .. }));
    let Output::Done { result, .. } = rig.outputs.remove(at.expect("an answer")) else {
        unreachable!()
    };
    result
}

#[test]
fn a_connection_is_ended_in_the_applications_words_behind_what_was_sent() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    rig.subscribe(&client, "a");
    rig.publish(0, "a", 1);
    let to = Recipient::Connection(client.conn);
    rig.hubs[0].handle_command(rig.now, send(to.clone(), "e", r#"{"n":2}"#));
    let how = Disconnect::new(4001, "logged in elsewhere").retry_after(Duration::from_secs(5));

    assert_eq!(dismiss(&mut rig, to.clone(), how).unwrap().subscribers, 1);

    let frames = client.take_frames();
    let texts: Vec<Value> =
        frames[..3].iter().map(|(_, text)| serde_json::from_slice(text).unwrap()).collect();
    let mut numbers: Vec<_> =
        texts[..2].iter().map(|got| got["data"]["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(texts[2]["event"], "session.closing");
    let advice = json!({"reason": "disconnect", "retry": "later", "return_after": 5.0});
    assert_eq!(texts[2]["data"], advice);
    assert_eq!(frames[3], (8, [&4001u16.to_be_bytes()[..], b"logged in elsewhere"].concat()));
    assert_eq!(dismiss(&mut rig, to, Disconnect::default()).unwrap().subscribers, 0);
}

#[test]
fn words_that_cannot_be_sent_end_nobody() {
    let mut rig = Rig::alone();
    let client = rig.connect(0);
    let one = Recipient::Connection(client.conn);
    for (whom, how) in [
        (one.clone(), Disconnect::new(1006, "")),
        (one.clone(), Disconnect::new(4000, "x".repeat(124))),
        (Recipient::User("".into()), Disconnect::default()),
        (Recipient::User("x".repeat(257).into()), Disconnect::default()),
    ] {
        assert_eq!(dismiss(&mut rig, whom, how), Err(Reason::BadDisconnect));
    }
    assert_eq!(client.take_close(), None);
    assert_eq!(dismiss(&mut rig, one, Disconnect::default()).unwrap().subscribers, 1);
    assert_eq!(client.take_close(), Some((1008, "Disconnected by the server".into())));
}

#[cfg(feature = "jwt")]
#[test]
fn all_connections_of_a_user_are_ended_and_its_token_stays_good() {
    let mut rig = Rig::new(2, with_auth());
    let ada = [user(&mut rig, 0, "ada"), user(&mut rig, 0, "ada"), user(&mut rig, 1, "ada")];
    let eve = user(&mut rig, 0, "eve");
    let how = Disconnect::new(3000, "plan changed").retry_never();

    let done = dismiss(&mut rig, Recipient::User("ada".into()), how);

    assert_eq!(done.unwrap().subscribers, 3);
    for client in &ada {
        let frames = client.take_frames();
        let advice: Value = serde_json::from_slice(&frames[0].1).unwrap();
        assert_eq!(advice["data"], json!({"reason": "disconnect", "retry": "never"}));
        assert_eq!(frames[1], (8, [&3000u16.to_be_bytes()[..], b"plan changed"].concat()));
    }
    assert_eq!(eve.take_close(), None);
    assert!(rig.outputs.iter().any(|output| matches!(output, Output::Audit { .. })));
    user(&mut rig, 1, "ada");
}

#[cfg(feature = "jwt")]
#[test]
fn connections_are_listed_in_parts_by_user_and_by_channel() {
    let mut rig = Rig::alone_with(with_auth());
    let all: Vec<_> = (0..7).map(|n| user(&mut rig, 0, ["ada", "eve"][n % 2])).collect();
    for client in &all[2..5] {
        rig.subscribe(client, "a");
    }
    let places = |page: &RollPage| page.connections.iter().map(|one| one.conn).collect::<Vec<_>>();
    let conns: Vec<_> = all.iter().map(|client| client.conn).collect();

    let first = page(&mut rig, 0, Roll::Connections, 3, None);
    let second = page(&mut rig, 0, Roll::Connections, 4, first.next);
    assert_eq!((first.total, second.total, second.next), (7, 7, None));
    assert_eq!([places(&first), places(&second)].concat(), conns);
    let ada = page(&mut rig, 0, Roll::User("ada".into()), 10, None);
    assert_eq!(places(&ada), [conns[0], conns[2], conns[4], conns[6]]);
    assert!(ada.connections.iter().all(|one| one.user.as_deref() == Some("ada")));
    let members = page(&mut rig, 0, Roll::Subscribers("a".into()), 2, None);
    assert_eq!((members.total, places(&members)), (3, conns[2..4].to_vec()));
    assert_eq!(members.connections[0].channels, 1);
    let rest = page(&mut rig, 0, Roll::Subscribers("a".into()), 2, members.next);
    assert_eq!((places(&rest), rest.next), (vec![conns[4]], None));
    let none = page(&mut rig, 0, Roll::Subscribers("b".into()), 2, None);
    assert_eq!(none, RollPage::default());
    let counted = page(&mut rig, 0, Roll::Connections, 0, None);
    assert_eq!((counted.total, counted.connections.len()), (7, 0));
    let name = rig.hubs[0].hub().public_name(conns[0]);
    assert_eq!(first.connections[0].connection_id, name);
}

#[test]
fn channels_are_listed_where_they_are_at_home() {
    let mut rig = Rig::new(2, Config::default());
    let clients = [rig.connect(0), rig.connect(1), rig.connect(1)];
    let channels: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
    for channel in &channels {
        for client in &clients {
            rig.subscribe(client, channel);
        }
    }
    // Kept, and heard by nobody.
    rig.publish(0, "nobody", 1);
    rig.run();

    let mut found = Vec::new();
    for shard in 0..2 {
        let mut after = None;
        loop {
            let part = page(&mut rig, shard, Roll::Channels, 2, after);
            assert!(part.channels.len() <= 2);
            assert!(part.channels.iter().all(|one| one.subscribers == 3));
            found.extend(part.channels.iter().map(|one| one.channel.to_string()));
            after = part.next;
            if after.is_none() {
                break;
            }
        }
    }
    found.sort();
    assert_eq!(found, channels);
}

#[cfg(feature = "jwt")]
#[test]
fn all_of_it_is_recorded_and_runs_again() {
    use crate::trace::{Writer, replay};

    let config = hearing(with_auth());
    let mut rig = Rig::new(2, config.clone());
    for hub in &mut rig.hubs {
        assert!(hub.start(rig.now));
    }
    let (ada, eve) = (user(&mut rig, 0, "ada"), user(&mut rig, 1, "eve"));
    for (shard, client) in [(0, &ada), (1, &eve)] {
        let one = Recipient::Connection(client.conn);
        for granted in [false, true] {
            handled(&mut rig, shard, subscribe(client, "a", granted)).unwrap();
        }
        handled(&mut rig, shard, send(one.clone(), "e", "{}")).unwrap();
        handled(&mut rig, 1 - shard, send(one, "e", "{}")).unwrap();
        handled(&mut rig, shard, send(Recipient::User("ada".into()), "e", "{}")).unwrap();
        for of in [
            Roll::Connections,
            Roll::User("ada".into()),
            Roll::Subscribers("a".into()),
            Roll::Channels,
        ] {
            page(&mut rig, shard, of, 5, None);
        }
    }
    handled(&mut rig, 0, unsubscribe(&ada, "a")).unwrap();
    let (user, message) = ("eve".into(), DirectMessage::new("e", "{}"));
    let id = Some(CommandId(7));
    rig.hubs[0].handle_command(rig.now, Command::SendEverywhere { id, user, message });
    rig.run();
    let done = |output: &Output| matches!(output, Output::Done { id: CommandId(7), result: Ok(done) } if done.subscribers == 1);
    let at = rig.outputs.iter().position(done).expect("one was reached");
    rig.outputs.remove(at);
    for handler in [Handler::Subscribed, Handler::Unsubscribed] {
        rig.hubs[0].handle_command(rig.now, Command::Failed(handler));
    }
    let how = Disconnect::new(4000, "x").retry_after(Duration::from_secs(1));
    dismiss(&mut rig, Recipient::User("eve".into()), how).unwrap();
    let one = Recipient::Connection(ada.conn);
    dismiss(&mut rig, one, Disconnect::new(1000, "").retry_never().at_once()).unwrap();
    rig.hang_up(&ada);
    rig.hang_up(&eve);

    let mut writer = Writer::new(Vec::new()).unwrap();
    for (hub, shard) in rig.hubs.iter_mut().zip(0..) {
        writer.add(ShardId(shard), &hub.take()).unwrap();
    }
    let report = replay(&writer.into_inner(), &[Arc::new(config)], Instant::now()).unwrap();
    assert_eq!(report.connections, 2);
}
