//! What the bus has lost, and what two of it have made of it.

use super::*;

/// Two nodes with a subscriber each, that have heard three events.
fn pair(config: Config) -> (Nodes, Vec<Client>, Value) {
    let mut nodes = Nodes::with(2, 1, config);
    let (first, start) = nodes.subscriber(0, 0, "a");
    let (second, _) = nodes.subscriber(1, 0, "a");
    for n in 1..4 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    for client in [&first, &second] {
        assert_eq!(heard(client), events(1..4, 1));
    }
    (nodes, vec![first, second], start)
}

fn reconnect(nodes: &mut Nodes) {
    for node in 0..nodes.rigs.len() {
        nodes.down(node);
    }
    for node in 0..nodes.rigs.len() {
        nodes.up(node);
    }
}

#[test]
fn nothing_lost_is_nothing_told() {
    for terse in [false, true] {
        let (mut nodes, clients, _) = pair(config());
        (nodes.terse, nodes.server.reads) = (terse, 0);
        reconnect(&mut nodes);
        let reads = if terse { 2 } else { 0 };
        assert_eq!(nodes.server.reads, reads, "what is known to be here is not read");
        nodes.post(1, "a", 4);
        nodes.settle();
        for client in &clients {
            assert_eq!(heard(client), events([4], 4));
        }
    }
}

#[test]
fn what_is_not_here_is_read_by_whoever_has_not_got_it() {
    let (mut nodes, clients, _) = pair(config());
    nodes.down(0);
    nodes.post(1, "a", 4);
    nodes.settle();
    nodes.server.reads = 0;
    nodes.up(0);
    assert_eq!(nodes.server.reads, 1);
    for client in &clients {
        assert_eq!(heard(client), events([4], 4));
    }
}

/// Of many channels that are lost all are put back without a page being read, some at a time.
#[test]
fn many_channels_that_are_lost_are_put_back_some_at_a_time() {
    let mut config = config();
    config.limits.bus.bus_reads_max = 3;
    let mut nodes = Nodes::with(1, 1, config);
    let client = nodes.connect(0, 0);
    for number in 0..10 {
        let channel = format!("c{number}");
        nodes.ask(0, &client, "subscribe", &json!({"channel": channel}));
        nodes.post(0, &channel, number);
        nodes.settle();
    }
    nodes.down(0);
    for (number, channel) in (0..).zip(nodes.server.channels.values_mut()) {
        (channel.epoch, channel.top) = (Epoch::from_random(1_000 + number), 0);
        channel.entries.clear();
    }
    (nodes.server.reads, nodes.server.heals) = (0, 0);
    nodes.hub_up(0, 0);
    while nodes.tell(0, 0) {}
    nodes.collect();
    let asked = nodes.link(0, 0).pending.iter();
    let heals = asked.filter(|command| matches!(command, BusCommand::Heal(_))).count();
    assert_eq!(heals, 3, "so many at a time");
    nodes.settle();
    assert_eq!((nodes.server.reads, nodes.server.heals), (0, 10));
    assert!((0..10).all(|number| nodes.server.channel(&format!("c{number}")).top == 1));
}

#[test]
fn what_a_replica_had_not_got_is_put_back() {
    let (mut nodes, clients, _) = pair(config());
    let mut replica = nodes.server.clone();
    let whole = nodes.server.channel("a").clone();
    let channel = replica.channel("a");
    channel.entries.truncate(1);
    channel.top = 1;
    nodes.server = replica;
    reconnect(&mut nodes);
    let channel = nodes.server.channel("a");
    assert_eq!(channel.position(), whole.position());
    assert_eq!(channel.ids(), whole.ids(), "the very messages");
    nodes.post(1, "a", 4);
    nodes.settle();
    for client in &clients {
        assert_eq!(heard(client), events([4], 4), "nobody has noticed");
    }
}

/// What a node is told when another has put back what the bus had lost, which the node itself has not noticed.
#[test]
fn what_another_node_has_put_back_is_compared() {
    let tell = |nodes: &mut Nodes, offset, mark, newest| {
        let position = Position { offset, ..nodes.server.channel("a").position() };
        let live = Live::Healed { position, mark, newest };
        nodes.server.channel("a").mark = mark;
        (nodes.server.reads, nodes.server.heals) = (0, 0);
        nodes
            .link(1, 0)
            .told
            .push_back(BusEvent::Channel(ChannelEvent::Live { channel: "a".into(), live }));
        nodes.settle();
    };
    let (mut nodes, clients, _) = pair(config());
    let ids = nodes.server.channel("a").ids();

    tell(&mut nodes, 3, 7, Some(ids[&3]));
    tell(&mut nodes, 3, 7, None);
    assert_eq!((nodes.server.reads, nodes.server.heals), (0, 0), "it is what is here");

    // Less than is here.
    let channel = nodes.server.channel("a");
    channel.entries.truncate(2);
    channel.top = 2;
    tell(&mut nodes, 2, 8, Some(ids[&2]));
    assert_eq!((nodes.server.heals, nodes.server.channel("a").ids()), (1, ids));

    // Something else, of which nothing is kept any more.
    let epoch = nodes.server.channel("a").epoch;
    nodes.server.channel("a").entries.clear();
    tell(&mut nodes, 3, 9, Some(Uuid::from_u128(1)));
    assert_ne!(nodes.server.channel("a").epoch, epoch);
    nodes.post(0, "a", 4);
    nodes.settle();
    for client in &clients {
        let mut expected = vec![Heard::Gap(None, "failover".into(), 3)];
        expected.extend(events([4], 4));
        assert_eq!(heard(client), expected);
    }
}

#[test]
fn a_bus_that_has_lost_everything_is_given_it_back_under_the_old_epoch() {
    for while_up in [false, true] {
        let (mut nodes, clients, start) = pair(config());
        let ids = nodes.server.channel("a").ids();
        nodes.server.channels.clear();
        if while_up {
            // Whoever appends next finds out.
            nodes.post(1, "a", 4);
            nodes.settle();
        } else {
            reconnect(&mut nodes);
            nodes.post(1, "a", 4);
            nodes.settle();
        }
        let channel = nodes.server.channel("a").clone();
        assert_eq!(start["epoch"], channel.epoch.as_str());
        assert_eq!(channel.top, 4);
        for (number, id) in ids {
            assert_eq!(channel.ids().get(&number), Some(&id));
        }
        for client in &clients {
            assert_eq!(heard(client), events([4], 4));
        }
    }
}

/// As a link does that follows a channel again of which Redis knows nothing any more: by an epoch that nobody has seen.
#[test]
fn a_bus_that_has_begun_anew_with_nothing_is_given_back_what_it_had() {
    let (mut nodes, clients, start) = pair(config());
    nodes.down(0);
    nodes.down(1);
    nodes.server.channels.clear();
    let mut third = Nodes::strangers(1, 1);
    third.server = nodes.server.clone();
    third.subscriber(0, 0, "a");
    nodes.server = third.server.clone();
    assert_ne!(start["epoch"], nodes.server.channel("a").epoch.as_str());
    nodes.up(0);
    nodes.up(1);
    nodes.post(1, "a", 4);
    nodes.settle();
    let channel = nodes.server.channel("a").clone();
    assert_eq!((&start["epoch"], channel.top), (&json!(channel.epoch.as_str()), 4));
    for client in &clients {
        assert_eq!(heard(client), events([4], 4), "nobody has noticed");
    }
}

#[test]
fn a_document_is_put_back_too() {
    let mut nodes = Nodes::new(2, 1);
    let (client, _) = nodes.subscriber(0, 0, "a");
    let data = json!({"channel": "a", "event": "e", "data": {"n": 1}, "state": {"v": 1}});
    nodes.request(0, &client, "publish", &data);
    nodes.server.channels.clear();
    reconnect(&mut nodes);
    let reader = nodes.connect(1, 0);
    let (answer, _) = nodes.request(1, &reader, "get_state", &json!({"channel": "a"}));
    assert_eq!(
        (&answer["data"]["state"], &answer["data"]["offset"]),
        (&json!({"v": 1}), &json!(1))
    );
}

#[test]
fn without_healing_a_loss_is_a_new_epoch() {
    let mut config = config();
    config.bus.as_mut().unwrap().heal = false;
    let (mut nodes, clients, start) = pair(config);
    let channel = nodes.server.channel("a");
    channel.entries.truncate(1);
    channel.top = 1;
    reconnect(&mut nodes);
    assert_ne!(start["epoch"], nodes.server.channel("a").epoch.as_str());
    nodes.post(1, "a", 4);
    nodes.settle();
    // Who came first has found out, and the other one finds it done.
    for (client, reason) in clients.iter().zip(["failover", "epoch"]) {
        let expected = [Heard::Gap(None, reason.into(), 1), Heard::Event(4, 2)];
        assert_eq!(heard(client), expected);
    }
}

/// Two primaries: each has gone on alone, and one of them is left.
#[test]
fn two_messages_under_one_number_are_told_apart_by_a_new_epoch() {
    for (mine, theirs) in [(1, 1), (1, 3), (3, 1)] {
        let (mut nodes, clients, start) = pair(config());
        nodes.down(1);
        let other = nodes.server.clone();
        for n in 10..10 + mine {
            nodes.post(0, "a", n);
            nodes.settle();
        }
        nodes.down(0);
        let lost = std::mem::replace(&mut nodes.server, other);
        nodes.up(1);
        for n in 20..20 + theirs {
            nodes.post(1, "a", n);
            nodes.settle();
        }
        nodes.up(0);
        nodes.post(1, "a", 30);
        nodes.settle();

        assert_ne!(start["epoch"], nodes.server.channel("a").epoch.as_str());
        assert_eq!(lost.channels["a"].top, 3 + mine);
        let own: Vec<_> = heard(&clients[0]);
        let at = own.iter().position(|heard| matches!(heard, Heard::Gap(None, ..))).unwrap();
        assert_eq!(own[..at], events(10..10 + mine, 4));
        assert!(matches!(own.last(), Some(Heard::Event(30, _))), "{own:?}");
        let theirs_heard: Vec<_> = heard(&clients[1]);
        assert_eq!(theirs_heard[..theirs as usize], events(20..20 + theirs, 4));
        assert!(matches!(theirs_heard[theirs as usize], Heard::Gap(None, ..)), "{theirs_heard:?}");
        assert_eq!(theirs_heard.last(), own.last(), "the same number for both");
    }
}

#[test]
fn who_founds_a_channel_anew_begins_an_epoch_that_all_are_told_of() {
    let (mut nodes, clients, start) = pair(config());
    nodes.down(0);
    nodes.down(1);
    nodes.server.channels.clear();
    // Somebody who knows nothing of what was before.
    let mut third = Nodes::strangers(1, 1);
    third.server = nodes.server.clone();
    third.post(0, "a", 9);
    third.settle();
    nodes.server = third.server.clone();
    nodes.up(0);
    nodes.up(1);
    nodes.post(0, "a", 10);
    nodes.settle();
    let epoch = nodes.server.channel("a").epoch;
    assert_ne!(start["epoch"], epoch.as_str());
    for client in &clients {
        let messages = client.take();
        let gap = messages.iter().find(|message| message["event"] == "channel.gap").unwrap();
        let lost = json!({
            "channel": "a", "lost": null, "first_offset": null, "last_offset": null,
            "reason": "epoch", "epoch": epoch.as_str(), "offset": 0,
        });
        assert_eq!(gap["data"], lost);
        let all: Vec<_> = messages.iter().filter_map(hear).collect();
        assert_eq!(all[1..], events([9, 10], 1), "what was published in it is not lost");
    }
}

#[test]
fn a_message_that_one_node_alone_had_is_put_back_by_it() {
    let (mut nodes, clients, _) = pair(config());
    nodes.down(1);
    let replica = nodes.server.clone();
    nodes.post(0, "a", 4);
    nodes.settle();
    nodes.down(0);
    nodes.server = replica;
    nodes.up(1);
    nodes.up(0);
    nodes.check();
    nodes.post(1, "a", 5);
    nodes.settle();
    for client in &clients {
        assert_eq!(heard(client), events([4, 5], 4));
    }
}

#[test]
fn a_channel_that_nobody_follows_any_more_is_not_begun_again_under_its_old_epoch() {
    let mut nodes = Nodes::new(1, 1);
    let (client, start) = nodes.subscriber(0, 0, "a");
    nodes.post(0, "a", 1);
    nodes.settle();
    nodes.rigs[0].hang_up(&client);
    nodes.wait(Duration::from_secs(31));
    nodes.settle();
    assert!(nodes.link(0, 0).follows.is_empty());
    nodes.server.channels.clear();
    nodes.post(0, "a", 2);
    nodes.settle();
    nodes.wait(Duration::from_secs(1));
    nodes.settle();
    assert_eq!(nodes.done().len(), 2);
    let (_, again) = nodes.subscriber(0, 0, "a");
    assert_eq!((&again["epoch"], &again["offset"]), (&start["epoch"], &json!(2)));
    assert_eq!(
        nodes.server.channel("a").ids().len(),
        2,
        "the first was put back before the second"
    );
}

/// Redis has lost everything, and before anybody has noticed a node publishes that does not follow the channel.
#[test]
fn the_first_messages_of_an_epoch_that_a_stranger_begins_are_heard() {
    for first in 1..5 {
        let mut nodes = Nodes::new(3, 1);
        let (client, start) = nodes.subscriber(0, 0, "a");
        for n in 1..4 {
            nodes.post(0, "a", n);
            nodes.settle();
        }
        assert_eq!(heard(&client), events(1..4, 1));
        nodes.server.channels.clear();
        let new: Vec<_> = (10..10 + first).collect();
        for n in &new {
            nodes.post(2, "a", *n);
        }
        nodes.settle();
        nodes.post(1, "a", 20);
        nodes.settle();

        assert_ne!(start["epoch"], nodes.server.channel("a").epoch.as_str());
        let mut expected = vec![Heard::Gap(None, "epoch".into(), 0)];
        expected.extend(events(new.into_iter().chain([20]), 1));
        assert_eq!(heard(&client), expected);
    }
}

#[test]
fn who_heard_what_the_bus_has_lost_sees_that_something_else_took_its_place() {
    // As large as it comes by itself, and larger.
    for notice in [None, Some(10)] {
        let (mut nodes, clients, _) = pair(config());
        nodes.down(0);
        nodes.post(1, "a", 4);
        nodes.settle();
        assert_eq!(heard(&clients[1]), events([4], 4));
        let before = nodes.server.channel("a").epoch;
        nodes.server = Server::default();
        nodes.server.notice = notice;
        // That less is put back than it has does not come to it.
        nodes.link(1, 0).deaf = 1;
        nodes.up(0);
        nodes.post(0, "a", 5);
        nodes.settle();
        nodes.post(0, "a", 6);
        nodes.settle();
        nodes.wait(Duration::from_secs(1));
        nodes.settle();
        assert_ne!(nodes.server.channel("a").epoch, before, "{notice:?}");
        assert!(nodes.done().iter().all(|(_, result)| result.is_ok()));
        let [first, second] = [&clients[0], &clients[1]].map(heard);
        let gap = |heard: &[Heard]| heard.iter().position(|h| matches!(h, Heard::Gap(None, ..)));
        let [one, other] = [&first, &second].map(|heard| gap(heard).map(|at| heard[at..].to_vec()));
        assert!(one.is_some() && one == other, "{notice:?}: {first:?} {second:?}");
        nodes.post(1, "a", 7);
        nodes.settle();
        let [one, other] = [&clients[0], &clients[1]].map(heard);
        assert_eq!((one.len(), &one), (1, &other));
    }
}

/// An older bus is back in an epoch that is over for both nodes: it is put away, unless somebody has put it there.
#[test]
fn an_epoch_that_was_over_and_that_somebody_has_put_back_is_not_put_away() {
    for mark in [0, 5] {
        let (mut nodes, _clients, _) = pair(config());
        let old = nodes.server.clone();
        nodes.server.channel("a").epoch = Epoch::from_random(77);
        nodes.check();
        let own = nodes.server.channel("a").epoch;
        let over = old.channels["a"].epoch;
        nodes.server = old;
        nodes.server.channel("a").mark = mark;
        reconnect(&mut nodes);
        let now = nodes.server.channel("a").epoch;
        assert_eq!((now == own, now != over), (mark == 0, true), "{mark}");
    }
}

#[test]
fn who_has_more_than_another_puts_back_adds_the_rest() {
    let (mut nodes, clients, _) = pair(config());
    nodes.down(0);
    nodes.post(1, "a", 4);
    nodes.settle();
    let before = nodes.server.channel("a").clone();
    nodes.server = Server::default();
    nodes.up(0);
    nodes.post(0, "a", 5);
    nodes.settle();
    assert_eq!(nodes.server.channel("a").epoch, before.epoch);
    for client in &clients {
        assert_eq!(heard(client), events([4, 5], 4));
    }
}

/// A node was away while the bus lost everything, another one put back less than the first one has, and so much was published
/// since that the bus has nothing any more with which what is here could be compared.
#[test]
fn what_was_put_back_by_another_and_has_nothing_in_common_any_more_is_forked() {
    for lost in [true, false] {
        let (mut nodes, clients, _) = pair(config());
        nodes.down(0);
        nodes.post(1, "a", 4);
        nodes.settle();
        nodes.down(1);
        if lost {
            nodes.server = Server::default();
        }
        nodes.up(0);
        for n in 5..9 {
            nodes.post(0, "a", n);
            nodes.settle();
        }
        let before = nodes.server.channel("a").epoch;
        nodes.server.channel("a").trim(7);
        nodes.up(1);
        assert_eq!(nodes.server.channel("a").epoch != before, lost);
        let heard: Vec<_> = clients.iter().map(heard).collect();
        let mut expected = events([4], 4);
        match lost {
            true => expected.push(Heard::Gap(None, "failover".into(), 7)),
            false => {
                expected.push(Heard::Gap(Some(2), "trimmed".into(), 6));
                expected.extend(events([7, 8], 7));
            }
        }
        assert_eq!(heard[1], expected, "what was published meanwhile is told to be missing");
        assert_eq!(
            heard[0].last() == expected.last(),
            lost || heard[0].last() == events([8], 8).last()
        );
    }
}

/// Two nodes that are in two epochs, each of which is over for the other, would put back theirs in turn.
#[test]
fn an_epoch_that_was_over_and_in_which_others_have_gone_on_is_not_put_away() {
    let (mut nodes, clients, _) = pair(config());
    nodes.down(0);
    let old = nodes.server.clone();
    nodes.server.channel("a").epoch = Epoch::from_random(77);
    nodes.check();
    let epochs = [old.channels["a"].epoch, nodes.server.channel("a").epoch];
    assert_eq!(heard(&clients[1])[0], Heard::Gap(None, "epoch".into(), 0));
    nodes.server = old;
    nodes.up(0);
    nodes.post(0, "a", 4);
    nodes.settle();
    let now = nodes.server.channel("a").epoch;
    assert!(!epochs.contains(&now), "neither");
    assert_eq!(heard(&clients[0])[..2], [events([4], 4)[0].clone(), gap_at(4)]);
    assert_eq!(heard(&clients[1]), [gap_at(4)]);
    nodes.post(1, "a", 5);
    nodes.settle();
    for client in &clients {
        assert_eq!(heard(client), events([5], 5));
    }
}

fn gap_at(offset: u64) -> Heard {
    Heard::Gap(None, "failover".into(), offset)
}

#[test]
fn what_has_come_apart_stays_so_when_the_bus_has_dropped_where() {
    let (mut nodes, clients, _) = pair(config());
    nodes.down(0);
    nodes.post(1, "a", 4);
    nodes.settle();
    nodes.down(1);
    nodes.server.channels.clear();
    nodes.up(0);
    nodes.post(0, "a", 5);
    nodes.settle();
    let before = nodes.server.channel("a").epoch;
    nodes.hub_up(1, 0);
    let forks = |command: &BusCommand| matches!(command, BusCommand::Fork { .. });
    loop {
        nodes.collect();
        if nodes.link(1, 0).pending.front().is_some_and(forks) {
            break;
        }
        assert!(nodes.tell(1, 0) || nodes.execute(1, 0), "it sees that they have come apart");
    }
    // What others publish meanwhile is in the way of that, and all that is kept.
    let pending = std::mem::take(&mut nodes.link(1, 0).pending);
    for n in 6..9 {
        nodes.post(0, "a", n);
        nodes.settle();
    }
    nodes.server.channel("a").trim(7);
    nodes.link(1, 0).pending = pending;
    nodes.settle();
    assert_ne!(nodes.server.channel("a").epoch, before);
    assert_eq!(heard(&clients[1]), [events([4], 4)[0].clone(), gap_at(7)]);
    assert_eq!(heard(&clients[0]).last(), Some(&gap_at(7)));
}
