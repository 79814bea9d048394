//! What a store is told of sessions, and what the application.

use uuid::Uuid;

use super::{
    resume::{is_unknown, keep, resume, sessions},
    *,
};
use crate::auth::Pattern;

/// What a store is told of sessions: how often, and how much.
fn written(rig: &mut Rig) -> (usize, usize) {
    let records = std::mem::take(&mut rig.outputs).into_iter().filter_map(|output| {
        let Output::Store(StoreCommand::KeepSession { record, .. }) = output else { return None };
        Some(record.len())
    });
    records.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len))
}

/// A record is the whole session, so that one with many channels is not written for each message of its client.
#[test]
fn a_large_session_that_changes_all_the_time_is_written_now_and_then() {
    let mut rig = Rig::alone_with(Config { store: true, ..unlimited() });
    let client = rig.connect(0);
    keep(&mut rig, &client);
    for n in 0..500 {
        rig.subscribe(&client, &format!("{n:0>200}"));
    }
    rig.wait(Duration::from_secs(2));
    let (_, grown) = written(&mut rig);
    for _ in 0..100 {
        rig.subscribe(&client, "one more");
        rig.request(&client, "unsubscribe", &json!({"channel": "one more"}));
        rig.request(&client, "keep_session", &json!({"ttl": 60}));
        rig.wait(Duration::from_millis(20));
    }
    let (count, bytes) = written(&mut rig);
    assert!(count <= 4, "{count} times in two seconds, {bytes} bytes");
    assert!(grown <= 1_000_000, "{grown} bytes for 500 channels of 200 bytes");

    // What is last said is written all the same, and what a connection's end brings about at once.
    rig.subscribe(&client, "last");
    rig.wait(Duration::from_secs(2));
    assert_eq!(written(&mut rig).0, 1);
    rig.subscribe(&client, "behind it");
    rig.hang_up(&client);
    assert_eq!(written(&mut rig).0, 1);
    rig.wait(Duration::from_secs(2));
    assert_eq!(written(&mut rig).0, 0);
}

#[test]
fn a_small_session_is_written_at_once() {
    let mut rig = Rig::alone_with(Config { store: true, ..unlimited() });
    let client = rig.connect(0);
    keep(&mut rig, &client);
    written(&mut rig);
    for n in 0..10 {
        rig.subscribe(&client, &format!("c{n}"));
        assert_eq!(written(&mut rig).0, 1);
    }
    keep(&mut rig, &client);
    assert_eq!(written(&mut rig).0, 0, "nothing is new");
}

/// What every hub says of the sessions that are meant.
fn told(rig: &mut Rig, of: &Whose, limit: u32, after: Option<Uuid>) -> Vec<SessionPage> {
    for hub in &mut rig.hubs {
        let command = Command::Sessions { id: CommandId(3), of: of.clone(), limit, after };
        hub.handle_command(rig.now, command);
    }
    rig.run();
    let pages = std::mem::take(&mut rig.outputs).into_iter().filter_map(|output| {
        let Output::Sessions { id: CommandId(3), page } = output else { return None };
        Some(page)
    });
    pages.collect()
}

/// How many have a connection, how many wait, and who they are.
fn all(rig: &mut Rig, of: &Whose) -> (u64, u64, Vec<SessionInfo>) {
    let pages = told(rig, of, 100, None);
    assert!(pages.iter().all(|page| page.complete));
    let (attached, detached) =
        (pages.iter().map(|page| page.attached), pages.iter().map(|page| page.detached));
    let mut listed: Vec<_> = pages.iter().flat_map(|page| page.sessions.clone()).collect();
    listed.sort_by_key(|session| session.connection_id);
    (attached.sum(), detached.sum(), listed)
}

/// Ends sessions on every hub. How many those were.
fn end(rig: &mut Rig, of: &Whose) -> u32 {
    for hub in &mut rig.hubs {
        let command = Command::EndSessions { id: Some(CommandId(4)), of: of.clone() };
        hub.handle_command(rig.now, command);
    }
    rig.run();
    let done = std::mem::take(&mut rig.outputs).into_iter().filter_map(|output| {
        let Output::Done { id: CommandId(4), result } = output else { return None };
        Some(result.unwrap().subscribers)
    });
    done.sum()
}

fn rooms(store: bool) -> Config {
    let presence = vec![(Pattern::parse("room:*").unwrap(), true)];
    Config { presence, store, ..unlimited() }
}

/// A client with its name.
fn hello(rig: &mut Rig, shard: usize) -> (Client, Uuid) {
    let client = rig.connect_with(shard, "");
    let welcome = client.take().remove(0);
    (client, welcome["data"]["connection_id"].as_str().unwrap().parse().unwrap())
}

fn enter(rig: &mut Rig, client: &Client, presence: &Value) -> u64 {
    let data = json!({"channel": "room:1", "presence": presence});
    rig.request(client, "subscribe", &data)["data"]["presence"]["count"].as_u64().unwrap()
}

#[test]
fn the_application_is_told_of_sessions_but_for_their_names() {
    for shards in [1, 3] {
        let mut rig = Rig::new(shards, rooms(false));
        let (stays, first) = hello(&mut rig, 0);
        let (goes, second) = hello(&mut rig, usize::from(shards) - 1);
        let names = [keep(&mut rig, &stays), keep(&mut rig, &goes)];
        rig.subscribe(&stays, "a");
        rig.subscribe(&stays, "b");
        rig.hang_up(&goes);
        rig.wait(Duration::from_secs(20));

        let (attached, detached, listed) = all(&mut rig, &Whose::Everybody);

        assert_eq!((attached, detached), (1, 1));
        let minute = Duration::from_secs(60);
        let info = |connection_id, channels, waits| SessionInfo {
            connection_id,
            user: None,
            channels,
            ttl: minute,
            waits,
        };
        let mut expected =
            [info(first, 2, None), info(second, 0, Some(minute - Duration::from_secs(20)))];
        expected.sort_by_key(|session| session.connection_id);
        assert_eq!(listed, expected);
        for name in &names {
            assert!(!format!("{listed:?}").contains(name.as_str().unwrap()));
        }
        let (_, _, listed) = all(&mut rig, &Whose::Client(second));
        assert_eq!(listed.len(), 1);
        assert_eq!(all(&mut rig, &Whose::User("ada".into())), (0, 0, Vec::new()));
        // Whoever takes it up again is the same one to others.
        let next = rig.connect(0);
        resume(&mut rig, &next, &names[1], &json!({}));
        assert_eq!(all(&mut rig, &Whose::Client(second)).2, [info(second, 0, None)]);
    }
}

#[test]
fn a_long_list_of_sessions_comes_in_pages() {
    let mut rig = Rig::alone_with(unlimited());
    let clients: Vec<_> = (0..7).map(|_| hello(&mut rig, 0)).collect();
    for (client, _) in &clients {
        keep(&mut rig, client);
    }
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = told(&mut rig, &Whose::Everybody, 3, after).remove(0);
        assert_eq!((page.attached, page.detached), (7, 0), "all of them are counted");
        found.extend(page.sessions.iter().map(|session| session.connection_id));
        (after, pages) = (found.last().copied(), pages + 1);
        if page.complete {
            break;
        }
    }
    let mut names: Vec<_> = clients.into_iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    assert_eq!((found, pages), (names, 3));
    let counted = told(&mut rig, &Whose::Everybody, 0, None).remove(0);
    assert_eq!((counted.attached, counted.sessions.len(), counted.complete), (7, 0, false));
}

#[test]
fn a_session_that_is_ended_has_left_whether_it_has_a_connection_or_not() {
    for shards in [1, 3] {
        for hangs_up in [false, true] {
            let mut rig = Rig::new(shards, rooms(true));
            let (watcher, _) = hello(&mut rig, 0);
            assert_eq!(enter(&mut rig, &watcher, &json!("watch")), 0);
            let (client, name) = hello(&mut rig, usize::from(shards) - 1);
            let session = keep(&mut rig, &client);
            assert_eq!(enter(&mut rig, &client, &json!(true)), 1);
            if hangs_up {
                rig.hang_up(&client);
            }
            watcher.take();
            rig.outputs.clear();

            assert_eq!(end(&mut rig, &Whose::Client(Uuid::nil())), 0);
            for hub in &mut rig.hubs {
                let of = Whose::Client(name);
                hub.handle_command(rig.now, Command::EndSessions { id: None, of });
            }
            rig.run();

            let gone = watcher.take();
            assert_eq!(gone.len(), 1, "{gone:?}");
            assert_eq!(
                (&gone[0]["event"], &gone[0]["data"]["reason"]),
                (&json!("presence.left"), &json!("left"))
            );
            assert_eq!(gone[0]["data"]["connection_id"], name.to_string());
            let close = (1008, Reason::Disconnected.row().text.to_owned());
            assert_eq!(client.take_close(), (!hangs_up).then_some(close));
            let forgotten = rig.outputs.iter().filter(|output| {
                matches!(output, Output::Store(StoreCommand::ForgetSession { .. }))
            });
            assert_eq!((forgotten.count(), sessions(&rig)), (1, 0));
            let next = rig.connect(0);
            let (answer, _) = resume(&mut rig, &next, &session, &json!({}));
            assert!(is_unknown(&answer), "{answer}");
            rig.wait(Duration::from_secs(120));
            assert_eq!(watcher.take(), Vec::<Value>::new());
        }
    }
}

#[test]
fn who_waits_for_a_session_that_is_ended_is_told_that_there_is_none() {
    let mut rig = Rig::new(2, unlimited());
    let (first, _) = hello(&mut rig, 1);
    let session = keep(&mut rig, &first);
    let next = rig.connect(0);
    // The one that has it hears nothing for a while.
    rig.stalled = Some(1);
    let data = json!({"session": session});
    let ask = json!({"type": "request", "event": "resume_session", "id": "r", "data": data});
    rig.send(&next, &ask);
    for hub in &mut rig.hubs {
        hub.handle_command(rig.now, Command::EndSessions { id: None, of: Whose::Everybody });
    }
    rig.run();
    rig.stalled = None;
    rig.run();
    let answer = next.take().pop().expect("an answer");
    assert!(is_unknown(&answer), "{answer}");
    assert!(first.take_close().is_some());
    assert_eq!(sessions(&rig), 0);
}

#[cfg(feature = "jwt")]
#[test]
fn the_sessions_of_a_user_are_ended_and_no_others() {
    let mut rig = Rig::new(2, with_auth());
    for (user, shard) in [("ada", 0), ("ada", 1), ("eve", 1)] {
        let header = format!("Authorization: Bearer {}\r\n", token(user, &["admin"]));
        let client = rig.connect_with(shard, &header);
        client.take();
        keep(&mut rig, &client);
        rig.hang_up(&client);
    }
    assert_eq!(all(&mut rig, &Whose::User("ada".into())).1, 2);
    assert_eq!(end(&mut rig, &Whose::User("ada".into())), 2);
    let (_, detached, listed) = all(&mut rig, &Whose::Everybody);
    assert_eq!((detached, listed[0].user.as_deref()), (1, Some("eve")));
}
