//! Sessions of all nodes: kept before it is said, found on any of them, had by one at a time.

use super::*;

/// Nodes with clients that need say nothing.
fn some_nodes(count: usize, shards: u16) -> Nodes {
    let mut config = config();
    config.limits.wire.ping_interval = None;
    config.limits.wire.connection_timeout = None;
    Nodes::with(count, shards, config)
}

/// A session of `client`, which waits for a minute.
fn keep(nodes: &mut Nodes, node: usize, client: &Client) -> Value {
    let (answer, _) = nodes.request(node, client, "keep_session", &json!({"ttl": 60}));
    assert_eq!(answer["data"]["ttl"], 60, "{answer}");
    answer["data"]["session"].clone()
}

fn ask_to_resume(nodes: &mut Nodes, node: usize, client: &Client, session: &Value, from: &Value) {
    let data = json!({"session": session, "positions": {"a": from}});
    nodes.ask(node, client, "resume_session", &data);
}

/// The answer to `resume_session`, and what came after it.
fn resume(
    nodes: &mut Nodes,
    node: usize,
    client: &Client,
    session: &Value,
    from: &Value,
) -> (Value, Vec<Heard>) {
    let data = json!({"session": session, "positions": {"a": from}});
    let (answer, others) = nodes.request(node, client, "resume_session", &data);
    (answer, others.iter().filter_map(hear).collect())
}

fn is_resumed(answer: &Value) -> bool {
    answer["status"] == "resumed"
}

fn is_away(answer: &Value) -> bool {
    answer["error_message"] == "The message bus is away"
}

fn is_unknown(answer: &Value) -> bool {
    answer["error_code"] == "SESSION_UNKNOWN"
}

fn channels(answer: &Value) -> Vec<String> {
    let list = answer["data"]["subscriptions"].as_array().expect("a list");
    list.iter().map(|one| one["channel"].as_str().unwrap().to_owned()).collect()
}

fn elsewhere() -> Option<(u16, String)> {
    Some((1001, "Resumed elsewhere".into()))
}

/// A client on the first node with a session and the channel `a`, from where it has heard everything up to its first message.
fn with_session(nodes: &mut Nodes) -> (Client, Value, Value) {
    let (client, start) = nodes.subscriber(0, 0, "a");
    let session = keep(nodes, 0, &client);
    nodes.post(0, "a", 1);
    nodes.settle();
    assert_eq!(heard(&client), events([1], 1));
    let position = json!({"epoch": start["epoch"], "offset": 1});
    (client, session, position)
}

/// The only session that there is.
fn only(nodes: &Nodes) -> server::Session {
    let all: Vec<_> = nodes.server.sessions.values().collect();
    let [one] = all[..] else { panic!("{all:?}") };
    one.clone()
}

fn held(nodes: &Nodes, node: usize) -> usize {
    nodes.rigs[node].hubs.iter().map(|hub| hub.hub().holdings().sessions).sum()
}

#[test]
fn it_is_kept_before_its_client_is_told_and_under_another_name() {
    let mut nodes = some_nodes(2, 2);
    let client = nodes.connect(0, 0);
    nodes.request(0, &client, "subscribe", &json!({"channel": "a"}));
    nodes.ask(0, &client, "keep_session", &json!({"ttl": 60}));
    nodes.collect();
    assert_eq!(client.take(), [] as [Value; 0], "the bus has not answered");
    assert!(nodes.server.sessions.is_empty());
    nodes.settle();
    let answer = client.take().pop().expect("an answer");
    let session = answer["data"]["session"].as_str().unwrap().to_owned();
    let (key, kept) = nodes.server.sessions.first_key_value().unwrap();
    assert!(kept.attached && kept.claim == 1);
    assert_ne!(key.to_string(), session, "who reads keys cannot resume");
    assert_eq!(nodes.server.kept, 1, "with what was subscribed to before");
}

#[test]
fn a_killed_nodes_session_is_resumed_on_another_with_all_that_was_missed() {
    for shards in [1, 3] {
        let mut nodes = some_nodes(2, shards);
        let (client, session, position) = with_session(&mut nodes);
        nodes.request(0, &client, "subscribe", &json!({"channel": "later"}));
        nodes.request(0, &client, "subscribe", &json!({"channel": "left"}));
        nodes.request(0, &client, "unsubscribe", &json!({"channel": "left"}));
        nodes.kill(0);
        for n in 2..6 {
            nodes.post(1, "a", n);
        }
        nodes.settle();
        nodes.wait(Duration::from_secs(60));
        nodes.settle();

        let again = nodes.connect(1, usize::from(shards) - 1);
        let (answer, missed) = resume(&mut nodes, 1, &again, &session, &position);

        assert!(is_resumed(&answer), "{answer}");
        assert_eq!(channels(&answer), ["a", "later"]);
        assert_eq!(answer["data"]["subscriptions"][0]["recovered"], true, "{answer}");
        assert_eq!(missed, events(2..6, 2));
        nodes.post(1, "a", 6);
        nodes.settle();
        assert_eq!(heard(&again), events([6], 6));
        assert_eq!(only(&nodes).claim, 2);
    }
}

#[test]
fn one_that_still_hangs_elsewhere_is_closed() {
    let mut nodes = some_nodes(2, 2);
    let (old, session, position) = with_session(&mut nodes);
    let again = nodes.connect(1, 1);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert!(is_resumed(&answer), "{answer}");
    assert_eq!(old.take_close(), elsewhere());
    nodes.rigs[0].hang_up(&old);
    nodes.settle();
    assert_eq!((held(&nodes, 0), held(&nodes, 1)), (0, 1));
    let kept = only(&nodes);
    assert!(kept.attached && kept.claim == 2, "what ended there was not the session: {kept:?}");

    nodes.post(0, "a", 2);
    nodes.settle();
    assert_eq!(heard(&again), events([2], 2));
    nodes.rigs[1].hang_up(&again);
    nodes.settle();
    let back = nodes.connect(0, 0);
    let (answer, _) = resume(&mut nodes, 0, &back, &session, &position);
    assert!(is_resumed(&answer), "and back: {answer}");
}

#[test]
fn of_two_that_claim_it_at_once_the_later_one_has_it() {
    for first in [1, 2] {
        let mut nodes = some_nodes(3, 1);
        let (old, session, position) = with_session(&mut nodes);
        nodes.rigs[0].hang_up(&old);
        nodes.settle();
        let clients = [nodes.connect(1, 0), nodes.connect(2, 0)];
        for (node, client) in [1, 2].into_iter().zip(&clients) {
            ask_to_resume(&mut nodes, node, client, &session, &position);
        }
        nodes.collect();
        let second = 3 - first;
        assert!(nodes.execute(first, 0) && nodes.execute(second, 0), "both have claimed it");
        nodes.settle();

        assert_eq!(clients[first - 1].take_close(), elsewhere(), "{first} was first");
        let came = clients[second - 1].take();
        assert!(came.iter().any(is_resumed), "{came:?}");
        nodes.rigs[first].hang_up(&clients[first - 1]);
        nodes.settle();
        assert_eq!((held(&nodes, first), held(&nodes, second)), (0, 1));
        assert_eq!(only(&nodes).claim, 3);
        assert!(only(&nodes).attached);
    }
}

#[test]
fn of_two_on_one_node_the_later_one_has_it() {
    let mut nodes = some_nodes(2, 1);
    let (old, session, position) = with_session(&mut nodes);
    let clients = [nodes.connect(1, 0), nodes.connect(1, 0)];
    for client in &clients {
        ask_to_resume(&mut nodes, 1, client, &session, &position);
    }
    nodes.settle();
    assert_eq!(old.take_close(), elsewhere());
    assert_eq!(clients[0].take_close(), elsewhere());
    nodes.rigs[1].hang_up(&clients[0]);
    nodes.settle();
    let came = clients[1].take();
    assert!(came.iter().any(is_resumed), "{came:?}");
    assert_eq!(held(&nodes, 1), 1);
    nodes.request(1, &clients[1], "subscribe", &json!({"channel": "b"}));
    nodes.kill(1);
    let last = nodes.connect(0, 0);
    let (answer, _) = resume(&mut nodes, 0, &last, &session, &position);
    assert_eq!(channels(&answer), ["a", "b"]);
}

#[test]
fn who_was_not_told_that_it_was_taken_hears_so_when_it_next_tells_the_bus() {
    for subscribes in [true, false] {
        let mut nodes = some_nodes(2, 1);
        let (old, session, position) = with_session(&mut nodes);
        nodes.link(0, 0).untold = true;
        let again = nodes.connect(1, 0);
        let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
        assert!(is_resumed(&answer), "{answer}");
        assert_eq!(old.take_close(), None);
        if subscribes {
            nodes.ask(0, &old, "subscribe", &json!({"channel": "b"}));
            nodes.settle();
        } else {
            for _ in 0..61 {
                nodes.wait(Duration::from_secs(1));
                nodes.settle();
            }
        }
        assert_eq!(old.take_close(), elsewhere(), "{subscribes}");
        assert_eq!(only(&nodes).claim, 2);
        nodes.rigs[1].hang_up(&again);
        nodes.settle();
        let last = nodes.connect(1, 0);
        let (answer, _) = resume(&mut nodes, 1, &last, &session, &position);
        assert_eq!(channels(&answer), ["a"]);
    }
}

#[test]
fn while_the_bus_is_away_it_is_said_so_and_nothing_is_lost() {
    let mut nodes = some_nodes(2, 1);
    let (old, session, position) = with_session(&mut nodes);
    let again = nodes.connect(1, 0);
    nodes.down(1);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert!(is_away(&answer), "{answer}");
    let (answer, _) = nodes.request(1, &again, "keep_session", &json!({}));
    assert!(is_away(&answer), "{answer}");
    assert_eq!(held(&nodes, 1), 0);
    assert_eq!(old.take_close(), None);
    nodes.up(1);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert!(is_resumed(&answer), "{answer}");
}

#[test]
fn an_answer_that_is_lost_is_no_success_and_no_loss() {
    for executed in [false, true] {
        let mut nodes = some_nodes(2, 1);
        let client = nodes.connect(0, 0);
        nodes.ask(0, &client, "keep_session", &json!({"ttl": 60}));
        nodes.collect();
        assert!(!executed || nodes.execute(0, 0));
        nodes.down(0);
        let answers = client.take();
        assert!(answers.iter().any(is_away), "{executed}: {answers:?}");
        nodes.up(0);
        let live: Vec<_> =
            nodes.server.sessions.values().filter(|one| one.holder.is_some()).collect();
        assert!(live.is_empty(), "nobody knows its name: {live:?}");
        keep(&mut nodes, 0, &client);

        let mut nodes = some_nodes(2, 1);
        let (old, session, position) = with_session(&mut nodes);
        let again = nodes.connect(1, 0);
        ask_to_resume(&mut nodes, 1, &again, &session, &position);
        nodes.collect();
        assert!(!executed || nodes.execute(1, 0));
        nodes.down(1);
        let answers = again.take();
        assert!(answers.iter().any(is_away), "{executed}: {answers:?}");
        assert_eq!(old.take_close(), None, "it is still its own, as far as it knows");
        nodes.up(1);
        let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
        assert!(is_resumed(&answer), "{answer}");
        assert_eq!(only(&nodes).claim, if executed { 3 } else { 2 });
    }
}

#[test]
fn what_changes_while_the_bus_is_away_it_is_told_later() {
    let mut nodes = some_nodes(2, 1);
    let (client, session, position) = with_session(&mut nodes);
    nodes.down(0);
    nodes.ask(0, &client, "unsubscribe", &json!({"channel": "a"}));
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    assert!(only(&nodes).attached);
    nodes.wait(Duration::from_secs(30));
    nodes.up(0);
    assert!(!only(&nodes).attached);
    assert_eq!(only(&nodes).until, Duration::from_secs(60), "since its connection ended");
    nodes.wait(Duration::from_secs(29));
    let again = nodes.connect(1, 0);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert_eq!(channels(&answer), [] as [&str; 0]);
}

#[test]
fn one_whose_time_is_over_while_the_bus_is_away_is_over() {
    let mut nodes = some_nodes(2, 1);
    let (client, session, position) = with_session(&mut nodes);
    nodes.down(0);
    nodes.rigs[0].hang_up(&client);
    nodes.wait(Duration::from_secs(61));
    nodes.up(0);
    let again = nodes.connect(1, 0);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert!(is_unknown(&answer), "{answer}");
}

#[test]
fn it_waits_as_long_as_it_was_kept_for_and_is_renewed_until_then() {
    let mut nodes = some_nodes(2, 1);
    let (client, session, position) = with_session(&mut nodes);
    for second in 1..=600 {
        nodes.wait(Duration::from_secs(1));
        nodes.settle();
        let left = only(&nodes).until.saturating_sub(Duration::from_secs(second));
        assert!(left >= Duration::from_secs(60), "should its node be killed: {left:?}");
    }
    assert!((8..=12).contains(&nodes.server.renewals), "{}", nodes.server.renewals);
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    nodes.wait(Duration::from_secs(59));
    nodes.settle();
    let (early, late) = (nodes.connect(1, 0), nodes.connect(1, 0));
    let (answer, _) = resume(&mut nodes, 1, &early, &session, &position);
    assert!(is_resumed(&answer), "{answer}");
    nodes.rigs[1].hang_up(&early);
    nodes.settle();
    nodes.wait(Duration::from_secs(60));
    nodes.settle();
    assert!(nodes.server.sessions.is_empty());
    let (answer, _) = resume(&mut nodes, 1, &late, &session, &position);
    assert!(is_unknown(&answer), "{answer}");
    assert_eq!((held(&nodes, 0), held(&nodes, 1)), (0, 0));
}

#[cfg(feature = "jwt")]
#[test]
fn another_users_is_counted_as_such_and_unknown_to_whoever_asks() {
    use super::super::cluster::{header, with_tokens};
    let mut nodes = Nodes::with(2, 1, with_tokens());
    let ada = nodes.rigs[0].connect_with(0, &header("ada", "read"));
    ada.take();
    nodes.settle();
    let session = keep(&mut nodes, 0, &ada);
    nodes.rigs[0].hang_up(&ada);
    nodes.settle();
    let eve = nodes.rigs[1].connect_with(0, &header("eve", "read"));
    eve.take();
    for (wanted, counted) in [(session, [0, 0, 1]), (json!("s-0"), [0, 1, 1])] {
        let (answer, _) = nodes.request(1, &eve, "resume_session", &json!({"session": wanted}));
        assert!(is_unknown(&answer), "{answer}");
        assert_eq!(nodes.rigs[1].hubs[0].tally().resumes(), counted);
    }
}

#[test]
fn what_the_bus_has_lost_it_is_told_again() {
    let mut nodes = some_nodes(2, 1);
    let (client, session, position) = with_session(&mut nodes);
    nodes.server.sessions.clear();
    nodes.down(0);
    nodes.up(0);
    assert_eq!(only(&nodes).claim, 1);
    nodes.server.sessions.clear();
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    nodes.server.sessions.clear();
    let again = nodes.connect(0, 0);
    let (answer, _) = resume(&mut nodes, 0, &again, &session, &position);
    assert!(is_resumed(&answer), "the node that has it knows it: {answer}");
    nodes.server.sessions.clear();
    let other = nodes.connect(1, 0);
    let (answer, _) = resume(&mut nodes, 1, &other, &session, &position);
    assert!(is_unknown(&answer), "{answer}");
}

#[test]
fn what_ends_on_purpose_is_over_everywhere() {
    let mut nodes = some_nodes(2, 1);
    let (client, session, position) = with_session(&mut nodes);
    let rig = &mut nodes.rigs[0];
    rig.hubs[0].handle_command(rig.now, Command::Disconnect { conn: client.conn });
    rig.run();
    nodes.settle();
    let again = nodes.connect(1, 0);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert!(is_unknown(&answer), "{answer}");
    assert_eq!(only(&nodes).holder, None);
}

#[test]
fn the_application_ends_a_session_wherever_it_is() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Where {
        Held,
        Waits,
        NodeDead,
    }
    for place in [Where::Held, Where::Waits, Where::NodeDead] {
        let mut nodes = some_nodes(3, 2);
        let (client, session, position) = with_session(&mut nodes);
        let public = nodes.rigs[0].hubs[0].hub().public_name(client.conn);
        match place {
            Where::Held => {}
            Where::Waits => nodes.rigs[0].hang_up(&client),
            Where::NodeDead => nodes.kill(0),
        }
        nodes.settle();
        nodes.wait(Duration::from_secs(1));
        for hub in 0..2 {
            let rig = &mut nodes.rigs[1];
            let (id, of) = (Some(CommandId(hub)), Whose::Client(public));
            let command = Command::EndSessions { id, of };
            rig.hubs[hub as usize].handle_command(rig.now, command);
            rig.run();
        }
        nodes.settle();
        for node in [1, 2] {
            let again = nodes.connect(node, 0);
            let (answer, _) = resume(&mut nodes, node, &again, &session, &position);
            assert!(is_unknown(&answer), "{place:?}, {node}: {answer}");
        }
        if place == Where::Held {
            assert_eq!(client.take_close(), Some((1008, "Disconnected by the server".into())));
        }
        nodes.wait(Duration::from_millis(1));
        let fresh = nodes.connect(1, 0);
        let later = keep(&mut nodes, 1, &fresh);
        nodes.rigs[1].hang_up(&fresh);
        nodes.settle();
        let again = nodes.connect(2, 0);
        let (answer, _) = resume(&mut nodes, 2, &again, &later, &position);
        assert!(is_resumed(&answer), "one that began later: {answer}");
    }
}

#[test]
fn a_node_that_is_drained_leaves_its_sessions_to_the_others() {
    let mut nodes = some_nodes(2, 2);
    let (client, session, position) = with_session(&mut nodes);
    for hub in 0..2 {
        let rig = &mut nodes.rigs[0];
        let plan = DrainPlan { deadline: Duration::from_secs(5), ..DrainPlan::default() };
        rig.hubs[hub].handle_command(rig.now, Command::Drain(plan));
    }
    nodes.rigs[0].run();
    assert_eq!(client.take_close(), Some((1001, "Server shutting down".into())));
    nodes.rigs[0].hang_up(&client);
    nodes.collect();
    let drained = |nodes: &Nodes| {
        let outputs = nodes.rigs[0].outputs.iter();
        outputs.filter(|output| matches!(output, Output::Drained)).count()
    };
    assert!(drained(&nodes) < 2, "the bus does not know yet");
    nodes.settle();
    nodes.rigs[0].run();
    assert_eq!(drained(&nodes), 2);
    assert!(!only(&nodes).attached);
    let again = nodes.connect(1, 0);
    let (answer, _) = resume(&mut nodes, 1, &again, &session, &position);
    assert!(is_resumed(&answer), "{answer}");
}

#[test]
fn who_leaves_while_its_session_is_under_way_leaves_it_to_the_next() {
    let mut nodes = some_nodes(2, 1);
    let (old, session, position) = with_session(&mut nodes);
    let again = nodes.connect(1, 0);
    ask_to_resume(&mut nodes, 1, &again, &session, &position);
    nodes.collect();
    nodes.rigs[1].hang_up(&again);
    nodes.settle();
    assert_eq!(old.take_close(), elsewhere());
    assert!(!only(&nodes).attached, "it waits again");
    let last = nodes.connect(0, 0);
    let (answer, _) = resume(&mut nodes, 0, &last, &session, &position);
    assert!(is_resumed(&answer), "{answer}");
}

#[test]
fn a_bus_that_takes_nothing_in_is_away_for_sessions() {
    let mut nodes = some_nodes(2, 1);
    let (client, session, position) = with_session(&mut nodes);
    nodes.server.full = true;
    let other = nodes.connect(1, 0);
    for _ in 0..2 {
        let (answer, _) = nodes.request(1, &other, "keep_session", &json!({}));
        assert!(is_away(&answer), "{answer}");
    }
    nodes.rigs[0].hang_up(&client);
    nodes.settle();
    assert!(only(&nodes).attached);
    nodes.server.full = false;
    for node in 0..2 {
        nodes.link(node, 0).told.push_back(BusEvent::Link(LinkEvent::State(BusState::default())));
    }
    nodes.settle();
    assert!(!only(&nodes).attached);
    let (answer, _) = resume(&mut nodes, 1, &other, &session, &position);
    assert!(is_resumed(&answer), "{answer}");
}
