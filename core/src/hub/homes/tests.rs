//! Homes by themselves.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Config, Keep},
    hub::{
        looks::{Range, Side},
        peers::bit,
        testing::{OTHER, conn, env, keys},
    },
    protocol::Message,
    reason::Reason,
    ws::Segment,
};

const OWN: ShardId = ShardId(0);

/// Homes in an environment.
struct Rig {
    env: Env,
    homes: Homes,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let env = env(config);
        Self { homes: Homes::new(keys(), env.place), env }
    }

    fn keeping(messages: u32, seconds: u64) -> Self {
        let time = Duration::from_secs(seconds);
        Self::new(|config| config.history.default = Keep { messages, time })
    }

    fn join_with(&mut self, from: ShardId, wish: Option<Wish>) -> Result<Option<Box<Start>>, Lost> {
        let form = wish.as_ref().map_or(Form::Plain, Wish::form);
        let member = Joiner { conn: conn(0), deflates: false, form, traced: false };
        self.seal();
        self.homes.join(&mut self.env, from, &"c".into(), member, (wish.as_ref(), Known::All))
    }

    fn join(&mut self, from: ShardId) {
        assert!(self.join_with(from, None).unwrap().is_none());
    }

    /// Where a subscriber with this wish starts. It is none for long.
    fn start(&mut self, wish: Wish) -> Start {
        let form = wish.form();
        let start = *self.join_with(OWN, Some(wish)).unwrap().unwrap();
        self.leave(OWN, form);
        start
    }

    fn recover(&mut self, epoch: Option<protocol::Epoch>, offset: u64) -> Start {
        let since = Some(Since { epoch, offset, id: None });
        self.start(Wish { positions: true, since, ..Wish::default() })
    }

    fn leave(&mut self, from: ShardId, form: Form) -> Option<usize> {
        self.homes.leave(&mut self.env, from, "c", (form, false))
    }

    fn publish(&mut self, data: &str) -> Broadcasted {
        let broadcast = Broadcast { channel: "c", event: "e", data };
        self.homes.broadcast(&mut self.env, broadcast)
    }

    fn seal(&mut self) -> Option<Sealed> {
        self.homes.seal_channel(&mut self.env, "c")
    }

    /// One message, in a round of its own.
    fn say(&mut self, data: &str) -> Published {
        let published = self.publish(data).published;
        self.seal();
        published
    }

    fn pass(&mut self, seconds: u64) {
        self.env.now = self.env.now.plus(Duration::from_secs(seconds));
    }

    fn history(
        &mut self,
        side: Side,
        limit: u32,
        bytes: usize,
    ) -> Result<serde_json::Value, Reason> {
        self.seal();
        let range = Range { side, limit, bytes };
        let json = self.homes.history(&mut self.env, "c", range)?;
        Ok(serde_json::from_str(&json).unwrap())
    }

    fn check(&mut self) {
        while self.homes.seal_next(&mut self.env).is_some() {}
        self.homes.end_turn(&mut self.env);
        self.homes.check(OWN);
    }
}

/// The numbers and data of what comes first.
fn missed(pages: &[Page]) -> Vec<(Option<u64>, String)> {
    let messages = pages.iter().flat_map(|page| {
        let texts = page.segment.frames().map(|frame| {
            let text = String::from_utf8(frame.payload().to_vec()).unwrap();
            let message = Message::read(&text).unwrap();
            (message.offset, message.data.unwrap().to_owned())
        });
        texts.collect::<Vec<_>>()
    });
    messages.collect()
}

#[test]
fn a_turn_is_one_round_with_numbers_in_order() {
    let mut rig = Rig::new(|_| {});
    rig.join(OWN);
    rig.join(OWN);

    let sent: Vec<_> = (0..3).map(|_| rig.publish("{}").published).collect();
    let sealed = rig.homes.seal_next(&mut rig.env).unwrap().unwrap();

    assert_eq!(
        sent.iter().map(|sent| (sent.subscribers, sent.offset)).collect::<Vec<_>>(),
        [(2, 1), (2, 2), (2, 3)]
    );
    assert_eq!((sealed.plain.segment.messages(), sealed.first_offset), (3, 1));
    assert!(sealed.here && sealed.remote == 0 && sealed.positioned.is_none());
    assert!(rig.homes.seal_next(&mut rig.env).is_none());
    rig.check();
}

#[test]
fn without_history_nobody_subscribes_to_what_has_no_home() {
    let mut rig = Rig::keeping(0, 0);

    let done = rig.publish("{}");

    assert_eq!(done.published, Published::default());
    assert!(done.sealed.is_none() && rig.homes.seal_next(&mut rig.env).is_none());
    rig.join(OWN);
    assert_eq!(rig.say("{}").offset, 1);
    rig.leave(OWN, Form::Plain);
    assert_eq!(rig.homes.slots.len(), 0, "it is gone with its last subscriber");
}

#[test]
fn a_round_without_room_is_sealed_first() {
    let mut rig = Rig::new(|config| config.limits.delivery.round_bytes_max = 400);
    rig.join(OWN);
    let data = format!(r#"{{"x":"{}"}}"#, "y".repeat(100));

    assert!(rig.publish(&data).sealed.is_none());
    let second = rig.publish(&data).sealed.unwrap();
    let third = rig.seal().unwrap();

    assert_eq!((second.first_offset, third.first_offset), (1, 2));
    rig.check();
}

#[test]
fn a_hub_that_left_is_given_its_round_back() {
    let mut rig = Rig::keeping(0, 0);
    rig.join(OWN);
    rig.join(OTHER);

    let done = rig.publish("{}");
    assert_eq!(done.remote, bit(OTHER));
    assert_eq!(rig.leave(OTHER, Form::Plain), Some(done.bytes));
    assert_eq!(rig.homes.remote("c"), 0);
    assert_eq!(rig.leave(OWN, Form::Plain), None);

    assert_eq!((rig.homes.len(), rig.env.tally.channels), (0, 0));
    rig.check();
}

#[test]
fn who_asks_for_positions_gets_messages_with_theirs() {
    let mut rig = Rig::new(|_| {});
    rig.join(OWN);
    let wish = Wish { positions: true, ..Wish::default() };
    let start = rig.join_with(OTHER, Some(wish)).unwrap().unwrap();
    assert_eq!((start.position.offset, start.recoverable, start.pages.len()), (0, true, 0));

    rig.publish("{}");
    let sealed = rig.seal().unwrap();

    let text = |segment: &Segment| {
        String::from_utf8(segment.frames().next().unwrap().payload().to_vec()).unwrap()
    };
    let (plain, numbered) =
        (text(&sealed.plain.segment), text(&sealed.positioned.unwrap().segment));
    assert_eq!(numbered, format!("{},\"offset\":1}}", plain.strip_suffix('}').unwrap()));
    rig.check();
}

#[test]
fn what_came_since_comes_first() {
    let mut rig = Rig::new(|_| {});
    let epoch = rig.say("{}").epoch;
    for n in 2..=5 {
        rig.say(&format!("{{\"n\":{n}}}"));
    }
    let start = rig.recover(epoch, 3);
    assert_eq!((start.recovered, start.position.offset), (Some(Ok(2)), 5));
    let expected: Vec<_> = [4, 5].map(|n| (Some(n), format!("{{\"n\":{n}}}"))).into();
    assert_eq!(missed(&start.pages), expected);
    let start = rig.recover(epoch, 5);
    assert_eq!((start.recovered, start.pages.len()), (Some(Ok(0)), 0));
    assert_eq!(rig.recover(epoch, 0).recovered, Some(Ok(5)), "0 is before the first");
    rig.check();
}

#[test]
fn what_cannot_be_recovered_says_why() {
    let mut rig = Rig::keeping(3, 100);
    rig.env.config = {
        let mut config = (*rig.env.config).clone();
        config.limits.history.recover_messages_max = 2;
        config.into()
    };
    let epoch = rig.say("{}").epoch;
    for _ in 0..5 {
        rig.say("{}");
    }
    let mut lost = |epoch, offset| rig.recover(epoch, offset).recovered.unwrap();
    assert_eq!(lost(epoch, 2), Err(Lost::Trimmed));
    assert_eq!(lost(epoch, 3), Err(Lost::TooMany));
    assert_eq!(lost(epoch, 4), Ok(2));
    assert_eq!(lost(epoch, 7), Err(Lost::Ahead));
    assert_eq!(lost(None, 4), Err(Lost::Epoch));
    assert_eq!(lost(Some(protocol::Epoch::from_random(1)), 4), Err(Lost::Epoch));
    let since = Since { epoch, offset: 5, id: Some("another".into()) };
    let wish = Wish { positions: true, since: Some(since), strict: true, ..Wish::default() };
    assert_eq!(rig.join_with(OWN, Some(wish)).unwrap_err(), Lost::Diverged);
    assert_eq!(rig.homes.len(), 0, "who is strict is no subscriber then");
    rig.check();
}

#[test]
fn an_id_that_fits_is_no_obstacle() {
    let mut rig = Rig::new(|_| {});
    let epoch = rig.say("{}").epoch;
    rig.say("{}");
    let all = rig.history(Side::Last, 10, 10_000).unwrap();
    for (offset, at) in [(1, 0), (2, 1)] {
        let id = all["events"][at]["id"].as_str().unwrap();
        let since = Some(Since { epoch, offset, id: Some(id.into()) });
        let start = rig.start(Wish { positions: true, since, ..Wish::default() });
        assert_eq!(start.recovered, Some(Ok(2 - offset)));
    }
}

#[test]
fn numbers_go_on_while_something_is_kept_and_longer() {
    let mut rig = Rig::keeping(10, 100);
    rig.env.config = {
        let mut config = (*rig.env.config).clone();
        config.limits.history.position_keep = Duration::from_secs(1_000);
        config.into()
    };
    let epoch = rig.say("{}").epoch;
    assert_eq!(rig.recover(epoch, 0).recovered, Some(Ok(1)));
    rig.pass(100);
    assert_eq!(rig.recover(epoch, 0).recovered, Some(Err(Lost::Trimmed)));
    assert_eq!(rig.recover(epoch, 1).recovered, Some(Ok(0)), "nothing is missing");
    rig.check();
    let due = rig.homes.next_deadline(&rig.env).unwrap();
    rig.env.now.mono = due;
    rig.homes.sweep(&rig.env);
    assert_eq!(rig.homes.slots.len(), 0);
    assert_eq!(rig.homes.next_deadline(&rig.env), None);
    assert_eq!(rig.recover(epoch, 1).recovered, Some(Err(Lost::Epoch)));
    rig.check();
}

#[test]
fn over_the_limit_the_channel_goes_that_was_published_to_longest_ago() {
    let mut rig = Rig::new(|config| config.limits.history.history_bytes_max = 4_000);
    let mut say = |name: &str| {
        let broadcast = Broadcast { channel: name, event: "e", data: "{}" };
        rig.homes.broadcast(&mut rig.env, broadcast);
        rig.homes.seal_channel(&mut rig.env, name);
        rig.homes.kept_bytes
    };
    let one = say("a");
    let fit = 4_000 / one;
    for n in 1..fit {
        say(&format!("{n}"));
    }
    say("a");
    say("z");
    assert!(rig.homes.names.contains_key("a") && rig.homes.names.contains_key("z"));
    assert!(!rig.homes.names.contains_key("1"), "the others were published to later");
    assert!(rig.homes.kept_bytes <= 4_000 && rig.env.tally.history_evicted > 0);
    rig.homes.check(OWN);
}

#[test]
fn a_log_that_is_given_up_leaves_subscribers_their_numbers() {
    let mut rig = Rig::new(|config| config.limits.history.history_bytes_max = 1_000);
    rig.join(OWN);
    let epoch = rig.say("{}").epoch;
    rig.say(&format!("{{\"x\":\"{}\"}}", "y".repeat(2_000)));
    assert_eq!(rig.recover(epoch, 1).recovered, Some(Err(Lost::Trimmed)));
    assert_eq!(rig.say("{}").offset, 3);
    assert_eq!(rig.recover(epoch, 2).recovered, Some(Ok(1)));
    rig.check();
}

#[test]
fn what_one_turn_missed_is_read_once() {
    let mut rig = Rig::new(|_| {});
    let epoch = rig.say("{}").epoch;
    for n in 0..50 {
        rig.say(&format!("{{\"n\":{n}}}"));
    }
    let first = rig.recover(epoch, 20);
    let second = rig.recover(epoch, 20);
    let place = |start: &Start| start.pages[0].segment.bytes().as_ptr();
    assert_eq!(place(&first), place(&second));
    rig.check();
    assert!(rig.homes.slots.get(0).unwrap().pages.is_none(), "it is for one turn only");
}

#[test]
fn a_reload_changes_what_is_kept() {
    let mut rig = Rig::keeping(10, 100);
    let epoch = rig.say("{}").epoch;
    rig.join(OWN);
    rig.say("{}");
    let mut config = (*rig.env.config).clone();
    config.history.default = Keep { messages: 1, time: Duration::from_secs(100) };
    rig.env.config = config.clone().into();
    rig.homes.reload(&mut rig.env);
    assert_eq!(rig.recover(epoch, 0).recovered, Some(Err(Lost::Trimmed)));
    assert_eq!(rig.recover(epoch, 1).recovered, Some(Ok(1)));
    config.history.default = Keep::OFF;
    rig.env.config = config.into();
    rig.homes.reload(&mut rig.env);
    assert_eq!(rig.recover(epoch, 2).recovered, Some(Err(Lost::Off)));
    assert_eq!(rig.homes.len(), 1);
    rig.check();
}

#[test]
fn history_is_read_in_pages_from_either_end() {
    let mut rig = Rig::new(|_| {});
    let epoch = rig.say("{\"n\":1}").epoch.unwrap();
    for n in [2..5, 5..6, 6..11] {
        n.for_each(|n| drop(rig.publish(&format!("{{\"n\":{n}}}"))));
        rig.seal();
    }
    let mut read = |side, limit| {
        let page = rig.history(side, limit, 1 << 20).unwrap();
        let numbers = page["events"].as_array().unwrap().iter();
        let numbers: Vec<_> = numbers.map(|event| event["offset"].as_u64().unwrap()).collect();
        assert_eq!(page["offset"], 10);
        (numbers, page["more"].as_bool().unwrap())
    };
    let after = |offset| Side::After(Position { epoch, offset });
    assert_eq!(read(Side::Last, 3), (vec![8, 9, 10], true));
    assert_eq!(read(Side::Last, 100), ((1..11).collect(), false));
    assert_eq!(read(Side::Before(8), 4), (vec![4, 5, 6, 7], true));
    assert_eq!(read(Side::Before(3), 4), (vec![1, 2], false));
    assert_eq!(read(Side::Before(1), 4), (vec![], false));
    assert_eq!(read(after(0), 4), (vec![1, 2, 3, 4], true));
    assert_eq!(read(after(4), 6), ((5..11).collect(), false));
    assert_eq!(read(after(10), 6), (vec![], false));
    assert_eq!(read(Side::Last, 0), (vec![], true));
    let beyond = Side::After(Position { epoch, offset: 11 });
    assert_eq!(rig.history(beyond, 5, 1_000), Err(Reason::NotRecovered));
    let bytes = rig.history(Side::Last, 10, 550).unwrap();
    assert_eq!((bytes["events"].as_array().unwrap().len(), &bytes["more"]), (2, &true.into()));
    let bytes = rig.history(after(0), 10, 1).unwrap();
    assert_eq!((bytes["events"].as_array().unwrap().len(), &bytes["more"]), (1, &true.into()));
    rig.check();
}

#[derive(Clone, Debug)]
enum Step {
    /// Messages of these lengths, in one round.
    Round(Vec<usize>),
    Pass(u64),
    Recover(u64, bool),
    Rewind(u32),
    Reload(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(prop_oneof![9 => 0usize..60, 1 => 600usize..900], 1..5).prop_map(Step::Round),
        1 => (0u64..8).prop_map(Step::Pass),
        4 => (0u64..12, any::<bool>()).prop_map(|(back, plain)| Step::Recover(back, plain)),
        1 => (0u32..8).prop_map(Step::Rewind),
        1 => (0u32..9, 0u64..20).prop_map(|(messages, seconds)| Step::Reload(messages, seconds)),
    ];
    prop::collection::vec(step, 1..40)
}

/// A message as a plain list keeps it.
struct Kept {
    number: u64,
    data: String,
    at: u64,
    /// Of its round: the last number, and what it counts for.
    round: (u64, usize),
}

proptest! {
    /// The ring says about every position what a list of messages says that is searched from end to end.
    #[test]
    fn the_ring_is_a_list(steps in steps(), messages in 1u32..9, seconds in 1u64..20) {
        const BYTES: usize = 4_000;
        let mut rig = Rig::keeping(messages, seconds);
        let mut config = (*rig.env.config).clone();
        config.limits.history.history_channel_bytes_max = BYTES;
        config.limits.history.recover_messages_max = 6;
        rig.env.config = config.clone().into();
        rig.join(OWN);
        let mut keep = config.history.default;
        let (mut list, mut top, mut clock, mut epoch) = (Vec::<Kept>::new(), 0u64, 0u64, None);
        // Trimmed is trimmed, even if the bounds are wider later.
        let mut floor = 1u64;
        for step in steps {
            match &step {
                Step::Round(lengths) => {
                    let first = top + 1;
                    for len in lengths {
                        let data = format!("{{\"x\":\"{}\"}}", "y".repeat(*len));
                        let done = rig.publish(&data);
                        prop_assert!(done.sealed.is_none());
                        top += 1;
                        epoch = done.published.epoch;
                        prop_assert_eq!(done.published.offset, top);
                        list.push(Kept { number: top, data, at: clock, round: (0, 0) });
                    }
                    let weight = rig.seal().unwrap().plain.segment.len() + 128;
                    let fresh = list.iter_mut().filter(|kept| kept.number >= first);
                    fresh.for_each(|kept| kept.round = (top, weight));
                }
                Step::Pass(seconds) => {
                    clock += *seconds;
                    rig.pass(*seconds);
                }
                Step::Reload(messages, seconds) => {
                    keep = Keep { messages: *messages, time: Duration::from_secs(*seconds) };
                    config.history.default = keep;
                    rig.env.config = config.clone().into();
                    rig.homes.reload(&mut rig.env);
                }
                Step::Recover(..) | Step::Rewind(_) => {}
            }
            // What may still be read, by the letter of each bound.
            if keep.is_off() {
                floor = top + 1;
            }
            floor = floor.max((top + 1).saturating_sub(u64::from(keep.messages)));
            let expired = |kept: &&Kept| kept.at + keep.time.as_secs() <= clock;
            floor = list.iter().filter(expired).map(|kept| kept.round.0 + 1).fold(floor, u64::max);
            let held = |floor: u64| {
                let mut rounds: Vec<_> =
                    list.iter().map(|kept| kept.round).filter(|round| round.0 >= floor).collect();
                rounds.dedup();
                rounds.iter().map(|round| round.1).sum::<usize>()
            };
            while held(floor) > BYTES {
                floor = list.iter().find(|kept| kept.round.0 >= floor).unwrap().round.0 + 1;
            }
            let from = |from: u64, form: Form| -> Vec<_> {
                let kept = list.iter().filter(|kept| kept.number >= from);
                let numbered = form == Form::Positioned;
                kept.map(|kept| (numbered.then_some(kept.number), kept.data.clone())).collect()
            };
            match step {
                Step::Recover(back, positions) => {
                    let offset = (top + 2).saturating_sub(back);
                    let since = Some(Since { epoch, offset, id: None });
                    let wish = Wish { positions, since, ..Wish::default() };
                    let form = wish.form();
                    let start = rig.start(wish);
                    let expected = if keep.is_off() {
                        Err(Lost::Off)
                    } else if epoch.is_none() {
                        Err(Lost::Epoch)
                    } else if offset > top {
                        Err(Lost::Ahead)
                    } else if offset + 1 < floor {
                        Err(Lost::Trimmed)
                    } else if top - offset > 6 {
                        Err(Lost::TooMany)
                    } else {
                        Ok(top - offset)
                    };
                    prop_assert_eq!(start.recovered, Some(expected));
                    let all = if expected.is_ok() { from(offset + 1, form) } else { Vec::new() };
                    prop_assert_eq!(missed(&start.pages), all);
                }
                Step::Rewind(count) => {
                    let start = rig.start(Wish { rewind: Some(count), ..Wish::default() });
                    let first = (top + 1).saturating_sub(u64::from(count.min(6))).max(floor);
                    prop_assert_eq!(start.rewound, Some(top + 1 - first));
                    prop_assert_eq!(missed(&start.pages), from(first, Form::Plain));
                }
                Step::Round(_) | Step::Pass(_) | Step::Reload(..) => {}
            }
            rig.check();
        }
    }
}
