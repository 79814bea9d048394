//! Members that have a session: their places wait for whoever resumes it.

use super::{
    presence::{attend, hello, joined, keep, left, members, rooms, silent, told},
    *,
};

#[test]
fn a_member_with_a_session_is_there_until_it_is_over() {
    for shards in [1, 2] {
        // Presence is asked for before the session is kept, and behind that.
        for keeps_first in [false, true] {
            let mut rig = Rig::new(shards, rooms(silent()));
            let channel = rig.channel_of(shards - 1);
            let (watcher, _) = hello(&mut rig, 0);
            attend(&mut rig, &watcher, &channel, &json!("watch"));
            let (member, name) = hello(&mut rig, 0);
            let info = json!({"info": {"a": 1}});
            let session = if keeps_first {
                let session = keep(&mut rig, &member);
                attend(&mut rig, &member, &channel, &info);
                session
            } else {
                attend(&mut rig, &member, &channel, &info);
                keep(&mut rig, &member)
            };
            assert_eq!(told(&watcher), [joined(&name)]);
            rig.hang_up(&member);
            let there = vec![(name.clone(), json!({"a": 1}))];
            assert_eq!(members(&mut rig, &watcher, &channel), there);

            // Another connection, on another shard if there is one, has its place.
            rig.wait(Duration::from_secs(20));
            let (again, other_name) = hello(&mut rig, usize::from(shards) - 1);
            let answer = rig.request(&again, "resume_session", &json!({ "session": session }));
            assert_eq!(answer["data"]["connection_id"], name, "{answer}");
            assert_ne!(name, other_name);
            rig.wait(Duration::from_secs(20));
            assert_eq!(told(&watcher), []);
            assert_eq!(members(&mut rig, &watcher, &channel), there);
            let (third, third_name) = hello(&mut rig, 0);
            attend(&mut rig, &third, &channel, &json!(true));
            assert_eq!(told(&again), [joined(&third_name)], "it watches as before");
            rig.hang_up(&third);
            again.take();
            watcher.take();

            // Nobody comes back in time.
            rig.hang_up(&again);
            rig.wait(Duration::from_secs(29));
            assert_eq!(told(&watcher), []);
            rig.wait(Duration::from_secs(3));
            assert_eq!(told(&watcher), [left(&name, "lost")]);
            rig.hang_up(&watcher);
            assert!(rig.hubs.iter().all(|hub| hub.hub().holdings().presence == 0));
        }
    }
}

#[test]
fn who_comes_meanwhile_is_not_told_before_a_session_is_resumed() {
    let mut rig = Rig::new(2, rooms(unlimited()));
    let (near, far) = (rig.channel_of(0), rig.channel_of(1));
    // One that is at home where it is answered.
    let (first, session) = (0..50)
        .find_map(|_| {
            let (client, _) = hello(&mut rig, 0);
            let session = keep(&mut rig, &client);
            let id = SessionId::parse(&session).unwrap();
            let home = rig.hubs[0].hub().homes.placement().session_home(id);
            (home == ShardId(0)).then_some((client, session))
        })
        .expect("one of fifty");
    attend(&mut rig, &first, &near, &json!("watch"));
    attend(&mut rig, &first, &far, &json!("watch"));
    rig.hang_up(&first);

    let (again, _) = hello(&mut rig, 0);
    let [ada, eve] = [0, 0].map(|shard| hello(&mut rig, shard));
    rig.stalled = Some(1);
    rig.send(
        &again,
        &json!({"type": "request", "event": "resume_session", "id": "r",
            "data": {"session": session}}),
    );
    attend(&mut rig, &ada.0, &near, &json!(true));
    assert!(again.take().is_empty(), "one channel has not answered");
    rig.stalled = None;
    rig.run();
    let came = again.take();
    assert_eq!((came.len(), &came[0]["correlation_id"]), (1, &json!("r")), "{came:?}");
    assert_eq!(members(&mut rig, &again, &near), [(ada.1, Value::Null)]);
    attend(&mut rig, &eve.0, &near, &json!(true));
    assert_eq!(told(&again), [joined(&eve.1)], "from now on");
}

/// A request to resume a session.
fn resume_message(session: &str) -> Value {
    json!({"type": "request", "event": "resume_session", "id": "r", "data": {"session": session}})
}

/// A member of a channel on the second of two hubs whose connection is gone; its name, and its session, which is at home
/// there too.
fn gone(rig: &mut Rig, channel: &str) -> (String, String) {
    let (member, name, session) = (0..50)
        .find_map(|_| {
            let (client, name) = hello(rig, 0);
            let session = keep(rig, &client);
            let id = SessionId::parse(&session).unwrap();
            let home = rig.hubs[0].hub().homes.placement().session_home(id);
            (home == ShardId(1)).then_some((client, name, session))
        })
        .expect("one of fifty");
    attend(rig, &member, channel, &json!(true));
    rig.hang_up(&member);
    (name, session)
}

#[test]
fn a_place_that_is_not_taken_up_again_is_free_at_once() {
    let mut rig = Rig::new(2, rooms(silent()));
    let channel = rig.channel_of(1);
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, &channel, &json!("watch"));
    // The client leaves the channel before it knows that it has it again.
    let (name, session) = gone(&mut rig, &channel);
    watcher.take();
    let (again, _) = hello(&mut rig, 0);
    let mut bytes = frame(&resume_message(&session));
    bytes.extend(frame(
        &json!({"type": "request", "event": "unsubscribe", "data": {"channel": channel}}),
    ));
    rig.bytes(&again, &bytes);
    assert_eq!(told(&watcher), [left(&name, "left")]);

    // It says that it does not come back, before it knows that it could.
    let (name, session) = gone(&mut rig, &channel);
    watcher.take();
    let (again, _) = hello(&mut rig, 0);
    let mut bytes = frame(&resume_message(&session));
    ws::encode_frame(&mut bytes, Opcode::Close, &1000_u16.to_be_bytes(), Some([1, 2, 3, 4]));
    rig.bytes(&again, &bytes);
    assert_eq!(told(&watcher), [left(&name, "left")]);
}

#[test]
fn a_place_waits_as_long_as_its_session() {
    let mut rig = Rig::new(2, rooms(silent()));
    let channel = rig.channel_of(1);
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, &channel, &json!("watch"));
    let (name, session) = gone(&mut rig, &channel);
    watcher.take();
    rig.wait(Duration::from_secs(20));
    // Another connection wants it, and breaks before it has it: the session waits anew.
    let (again, _) = hello(&mut rig, 0);
    rig.stalled = Some(1);
    rig.send(&again, &resume_message(&session));
    rig.hang_up(&again);
    rig.stalled = None;
    rig.run();
    rig.wait(Duration::from_secs(25));
    assert_eq!(told(&watcher), []);
    let there = vec![(name.clone(), Value::Null)];
    assert_eq!(members(&mut rig, &watcher, &channel), there);
    rig.wait(Duration::from_secs(7));
    assert_eq!(told(&watcher), [left(&name, "lost")]);
}

#[test]
fn who_ends_a_session_has_left() {
    let mut rig = Rig::new(1, rooms(Config::default()));
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, "c", &json!("watch"));
    let (member, name) = hello(&mut rig, 0);
    attend(&mut rig, &member, "c", &json!(true));
    keep(&mut rig, &member);
    watcher.take();
    let mut bytes = Vec::new();
    ws::encode_frame(&mut bytes, Opcode::Close, &1000_u16.to_be_bytes(), Some([1, 2, 3, 4]));
    rig.bytes(&member, &bytes);
    assert_eq!(told(&watcher), [left(&name, "left")]);
}

#[test]
fn who_resumes_a_session_was_somebody_else_before() {
    let mut rig = Rig::new(1, rooms(silent()));
    let (watcher, _) = hello(&mut rig, 0);
    attend(&mut rig, &watcher, "c", &json!("watch"));
    let (first, _) = hello(&mut rig, 0);
    let session = keep(&mut rig, &first);
    let (second, name) = hello(&mut rig, 0);
    attend(&mut rig, &second, "c", &json!(true));
    let answer = rig.request(&second, "resume_session", &json!({ "session": session }));
    let resumed = answer["data"]["connection_id"].as_str().unwrap().to_owned();
    assert_ne!(resumed, name);
    assert_eq!(told(&watcher), [joined(&name)]);
    // It is known by its old name where it is a member already, until it asks again.
    attend(&mut rig, &second, "c", &json!({"info": {"a": 1}}));
    assert_eq!(told(&watcher), [left(&name, "left"), joined(&resumed)]);
    rig.hang_up(&second);
    rig.wait(Duration::from_secs(40));
    assert_eq!(told(&watcher), [left(&resumed, "lost")]);
}
