//! Channels with members, without a hub.

use super::*;
use crate::{
    config::Config,
    hub::{
        connections::{Cause, Connections, Gap},
        env::Env,
        homes::Sealed,
        testing::{Full, active, connections, drain, end, env, keys},
    },
    protocol::Answer,
};

const OWN: ShardId = ShardId(0);

struct Rig {
    env: Env,
    connections: Connections,
    channels: Channels,
}

impl Rig {
    fn new(policy: SlowPolicy) -> Self {
        let mut config = Config::default();
        config.slow_readers.default = policy;
        config.limits.delivery.outbox_bytes_max = 100;
        let env = env(config);
        Self { connections: connections(&env), channels: Channels::new(keys()), env }
    }

    fn member(&mut self, channel: &str) -> ConnId {
        let id = active(&mut self.env, &mut self.connections);
        let Some(Subscribe::Ask(name, joiner)) = self.subscribe(id, channel) else {
            panic!("it is not asked for")
        };
        let joined = self.joined(&name, joiner);
        assert!(!joined.leaves && joined.answer.unwrap().1.is_ok());
        id
    }

    fn subscribe(&mut self, id: ConnId, channel: &str) -> Option<Subscribe> {
        let answer = AnswerTo::new(None, Answer::Response);
        let wanted = (answer, (Form::Plain, false), false);
        self.channels.subscribe(&self.env, &mut self.connections, id, channel, wanted, 0)
    }

    fn joined(&mut self, name: &str, member: Joiner) -> Joined {
        let (env, connections) = (&mut self.env, &mut self.connections);
        self.channels.joined(env, connections, name, member, Ok(None)).unwrap()
    }

    /// Hands out a round of one message of so many bytes; those who are to be closed for it.
    fn hand_out(&mut self, channel: &str, bytes: usize, first_offset: u64) -> Vec<ConnId> {
        let sealed = Sealed {
            channel: channel.into(),
            plain: Shape {
                segment: Segment::new(vec![0; bytes], 1, Segment::NO_TAG, 0),
                deflated: None,
                traces: None,
            },
            positioned: None,
            first_offset,
            remote: 0,
            here: true,
        };
        let unused = self.channels.deliver(&self.env, &mut self.connections, OWN, sealed);
        assert_eq!(unused, None);
        let round = self.channels.next_round().unwrap();
        self.channels.hand_out(&mut self.env, &mut self.connections, &round);
        std::iter::from_fn(|| self.channels.next_slow()).collect()
    }

    fn queued(&self, id: ConnId) -> usize {
        self.connections.get(id).unwrap().ws.outbox().bytes()
    }
}

#[test]
fn a_round_reaches_each_member_once() {
    let mut rig = Rig::new(SlowPolicy::Disconnect);
    let (a, b, other) = (rig.member("c"), rig.member("c"), rig.member("d"));

    assert!(rig.hand_out("c", 10, 0).is_empty());

    assert_eq!([a, b, other].map(|id| rig.queued(id)), [10, 10, 0]);
    assert_eq!(rig.connections.dirty(), 2);
    rig.connections.settle(&rig.env);
    rig.channels.check(&mut rig.connections);
}

#[test]
fn who_has_no_room_is_to_be_closed() {
    let mut rig = Rig::new(SlowPolicy::Disconnect);
    let slow = rig.member("c");
    assert!(rig.hand_out("c", 90, 0).is_empty());
    let quick = rig.member("c");

    assert_eq!(rig.hand_out("c", 90, 1), [slow]);

    assert_eq!((rig.queued(slow), rig.queued(quick)), (90, 90));
}

#[test]
fn who_lost_something_is_told_what_when_there_is_room() {
    let mut rig = Rig::new(SlowPolicy::Gap);
    let id = rig.member("c");
    for offset in 0..3 {
        assert!(rig.hand_out("c", 90, offset).is_empty());
    }
    let gaps = [Gap { channel: 0, lost: Some(2), offsets: Some((1, 2)), cause: Cause::Slow }];
    assert_eq!(rig.connections.edit(id).unwrap().take_gaps(), gaps);

    rig.connections.edit(id).unwrap().add_gap(gaps[0], |_| ());
    rig.channels.announce_gaps(&mut rig.env, &mut rig.connections, id);
    assert_eq!(rig.queued(id), 90, "not yet");
    drain(&mut rig.env, &mut rig.connections, id);
    rig.channels.announce_gaps(&mut rig.env, &mut rig.connections, id);

    assert!(rig.queued(id) > 0 && !rig.connections.get(id).unwrap().is_lossy());
}

#[test]
fn a_blocked_member_keeps_the_newest_where_that_is_the_policy() {
    let mut rig = Rig::new(SlowPolicy::Latest);
    let id = rig.member("c");
    rig.hand_out("c", 40, 0);
    rig.connections.settle(&rig.env);
    rig.connections.write(&mut rig.env, id, &mut Full).unwrap();

    rig.hand_out("c", 41, 1);
    rig.hand_out("c", 42, 2);

    assert_eq!(rig.queued(id), 42);
}

#[test]
fn a_subscription_taken_back_is_not_made() {
    let mut rig = Rig::new(SlowPolicy::Disconnect);
    let id = active(&mut rig.env, &mut rig.connections);
    let asked = rig.subscribe(id, "c");
    let Some(Subscribe::Ask(_, joiner)) = asked else { panic!("it is not asked for") };
    let index = rig.channels.find("c").unwrap();

    assert_eq!(rig.channels.cancel_waiting(index, id).len(), 1);
    let joined = rig.joined("c", joiner);

    assert!(joined.leaves && joined.answer.is_none());
    assert_eq!(rig.channels.len(), 0, "nobody uses the channel any more");
}

#[test]
fn limits_on_channels_hold_before_and_after_the_home_was_asked() {
    let mut rig = Rig::new(SlowPolicy::Disconnect);
    let mut config = Config::clone(&rig.env.config);
    config.limits.channels.channels_per_connection_max = 1;
    rig.env.config = Arc::new(config);
    let id = rig.member("a");

    let refused = rig.subscribe(id, "b");
    assert!(matches!(refused, Some(Subscribe::Refused(Reason::TooManyChannels, _))));
    assert!(matches!(rig.subscribe(id, "a"), Some(Subscribe::Already(_))));
}

#[test]
fn members_leave_in_any_order() {
    let mut rig = Rig::new(SlowPolicy::Disconnect);
    let ids: Vec<_> = (0..5).map(|_| rig.member("c")).collect();
    let index = rig.channels.find("c").unwrap();
    let (env, connections) = (&mut rig.env, &mut rig.connections);
    for id in [ids[1], ids[4], ids[0]] {
        let left = rig.channels.leave(env, connections, index, id).unwrap();
        assert_eq!(&*left.channel, "c");
        assert!(rig.channels.leave(env, connections, index, id).is_none(), "it has left");
        connections.settle(env);
        rig.channels.check(connections);
    }
    for id in [ids[2], ids[3]] {
        assert!(rig.channels.leave_last(env, connections, id).is_some());
        end(env, connections, id);
    }
    rig.channels.check(connections);
    assert_eq!((rig.channels.len(), rig.env.tally.subscriptions), (0, 0));
}

#[test]
fn a_round_for_nobody_gives_its_credit_back() {
    let mut rig = Rig::new(SlowPolicy::Disconnect);
    let sealed = Sealed {
        channel: "c".into(),
        plain: Shape {
            segment: Segment::new(vec![0; 10], 1, Segment::NO_TAG, 0),
            deflated: None,
            traces: None,
        },
        positioned: None,
        first_offset: 0,
        remote: 0,
        here: true,
    };
    let unused = rig.channels.deliver(&rig.env, &mut rig.connections, ShardId(1), sealed);
    assert!(unused.is_some_and(|bytes| bytes > 10));
}
