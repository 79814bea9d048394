//! Following channels.

use std::time::Duration;

use mahavishnu_core::{
    hub::{BusCommand, BusEvent, ChannelEvent, LinkEvent, Standing},
    protocol::{Epoch, Position},
    record,
};
use uuid::Uuid;

use super::peer::{Peer, epoch};
use crate::{Action, LinkConfig, Outage, redis::names::Names};

fn standing(epoch: &str, offset: u64) -> String {
    format!("${}\r\n{epoch}\r\n:{offset}\r\n:0\r\n:0\r\n", epoch.len())
}

/// The same with what the last message is, of which nothing is told.
fn standing_again(epoch: &str, offset: u64) -> String {
    format!("{}$0\r\n\r\n", standing(epoch, offset))
}

fn told(channel: &str, epoch: Epoch, offset: u64) -> BusEvent {
    let standing = Standing { position: Position { epoch, offset }, document: 0, mark: 0 };
    BusEvent::Channel(ChannelEvent::Standing { channel: channel.into(), standing, newest: None })
}

/// What was asked for one interest says nothing of a later one, which began after it.
#[test]
fn an_answer_for_an_earlier_interest_is_not_told() {
    let mut peer = Peer::up();
    peer.follow("c");
    peer.command(BusCommand::Unfollow { channel: "c".into() });
    peer.follow("c");
    let verbs: Vec<_> = peer.all().into_iter().map(|command| command[0].clone()).collect();
    let expected =
        ["SSUBSCRIBE", "PING", "EVALSHA", "SUNSUBSCRIBE", "PING", "SSUBSCRIBE", "PING", "EVALSHA"];
    assert_eq!(verbs, expected);
    let name = epoch();
    peer.reply("$1\r\ns\r\n");
    peer.reply(&format!("*4\r\n{}", standing(name.as_str(), 5)));
    assert_eq!(peer.news(), []);
    let live = Names::new("mahavishnu", 0).live("c");
    peer.reply(&format!(">3\r\n$12\r\nsunsubscribe\r\n${}\r\n{live}\r\n:1\r\n", live.len()));
    peer.reply("$1\r\ns\r\n$1\r\ns\r\n");
    peer.reply(&format!("*4\r\n{}", standing(name.as_str(), 7)));
    assert_eq!(peer.news(), [told("c", name, 7)]);
    assert_eq!(peer.actions(), []);
    // One that nobody asked for.
    peer.reply(&format!(">3\r\n$12\r\nsunsubscribe\r\n${}\r\n{live}\r\n:1\r\n", live.len()));
    assert_eq!(peer.link.stats().outages[Outage::Elsewhere as usize], 1);
}

#[test]
fn a_subscription_that_is_refused_ends_the_connection() {
    let mut peer = Peer::up();
    peer.follow("c");
    peer.read();
    peer.reply(
        "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n",
    );
    assert_eq!(peer.news(), [BusEvent::Link(LinkEvent::Down)]);
    assert_eq!(peer.link.stats().outages[Outage::Refused as usize], 1);
    assert_eq!(peer.actions(), [Action::Close]);
}

/// Many channels are followed again in batches, some at a time, each under its bounds; what Redis does not know is begun with
/// an epoch that nobody has seen.
#[test]
fn channels_are_followed_again_in_batches() {
    let mut config = LinkConfig::default();
    config.limits.batch_names_max = 10;
    config.limits.batch_bytes_max = 600;
    config.limits.standing_interval = Duration::from_secs(1_000);
    let mut peer = Peer::up_with(config);
    let long = "x".repeat(700);
    peer.link.handle_eof(peer.now);
    for number in 0..60 {
        peer.follow(&format!("c{number}"));
    }
    peer.follow(&long);
    peer.events();
    peer.actions();
    peer.link.handle_connected(peer.now);
    peer.prepare();
    let mut subscribed = Vec::new();
    let mut reconciled = false;
    for turn in 0..100 {
        let mut under_way = 0;
        for command in peer.all() {
            match command[0].as_str() {
                "SSUBSCRIBE" if command[1].contains(":link:") => {}
                "SSUBSCRIBE" => {
                    assert!(command.len() <= 11, "{}", command.len());
                    assert!(command.concat().len() < 650 || command.len() == 2);
                    subscribed.extend(command[1..].to_vec());
                }
                "PING" => peer.reply("$1\r\ns\r\n"),
                _ if command.contains(&"64".into()) => peer.reply("*2\r\n$3\r\n0-0\r\n$1\r\n0\r\n"),
                _ if command.last().is_some_and(|it| it.len() == 16) => peer.reply(":1\r\n"),
                _ => {
                    under_way += 1;
                    assert!(turn > 0 || under_way <= 4);
                    // They are new: each has its epoch with it, and behind them it says how long a last message may be.
                    let keys: usize = command[2].parse().expect("a number");
                    let (newest, lives) = command[3 + keys..].split_last().expect("arguments");
                    assert_eq!(newest, "4096");
                    let epochs = lives.iter().step_by(2);
                    let stands: String = epochs.map(|epoch| standing_again(epoch, 3)).collect();
                    peer.reply(&format!("*{}\r\n{stands}", keys / 3 * 5));
                }
            }
        }
        let news = peer.news();
        reconciled |= news.contains(&BusEvent::Link(LinkEvent::Reconciled));
        if reconciled {
            break;
        }
    }
    assert!(reconciled);
    subscribed.sort();
    subscribed.dedup();
    assert_eq!(subscribed.len(), 61);
}

/// Redis knows nothing of a channel any more: it is begun, and not with an epoch that was in use.
#[test]
fn an_epoch_is_begun_with_once() {
    let mut peer = Peer::up();
    peer.follow("c");
    let asked = peer.all().pop().expect("a question");
    assert_eq!(asked[asked.len() - 2], epoch().as_str());
    peer.reply("$1\r\ns\r\n");
    peer.reply(&format!("*4\r\n{}", standing(epoch().as_str(), 0)));
    peer.link.handle_eof(peer.now);
    peer.news();
    peer.rise_following();
    let asked = peer.all();
    assert!(!asked.concat().contains(&epoch().to_string()), "only where it stands: {asked:?}");
    peer.reply("$1\r\ns\r\n*5\r\n$0\r\n\r\n:0\r\n:0\r\n:0\r\n$0\r\n\r\n");
    peer.reply("*2\r\n$3\r\n0-0\r\n$1\r\n0\r\n");
    let asked = peer.all().pop().expect("a question");
    let anew = Epoch::parse(&asked[asked.len() - 2]).expect("an epoch");
    assert_ne!(anew, epoch());
    peer.reply(&format!("*4\r\n{}", standing(anew.as_str(), 0)));
    assert!(peer.news().contains(&told("c", anew, 0)));
}

/// When a link is back it is told which message each channel's last one is, so that a hub need not read what it has.
#[test]
fn the_last_message_is_told_when_a_channel_is_followed_again() {
    let id = Uuid::from_u128(u128::from_be_bytes(*b"sixteen letters."));
    for (records, newest) in [
        (record::encode([message(Uuid::from_u128(1)), message(id)]), Some(id)),
        (b"no record".to_vec(), None),
        (Vec::new(), None),
    ] {
        let mut peer = Peer::up();
        peer.follow("c");
        peer.all();
        peer.reply("$1\r\ns\r\n");
        peer.reply(&format!("*4\r\n{}", standing(epoch().as_str(), 2)));
        peer.news();
        peer.link.handle_eof(peer.now);
        peer.rise_following();
        let asked = peer.all();
        let asked = asked.iter().find(|command| command[0] == "EVALSHA").expect("a question");
        assert_eq!((&*asked[2], &*asked[6]), ("3", "4096"), "{asked:?}");
        let mut reply = format!("$1\r\ns\r\n*5\r\n{}", standing(epoch().as_str(), 2)).into_bytes();
        reply.extend(format!("${}\r\n", records.len()).bytes());
        reply.extend(records.iter().chain(b"\r\n"));
        peer.link.handle_bytes(peer.now, &mut reply);
        let told = peer.news().into_iter().find_map(|event| match event {
            BusEvent::Channel(ChannelEvent::Standing { newest, .. }) => Some(newest),
            _ => None,
        });
        assert_eq!(told, Some(newest));
    }
}

fn message(id: Uuid) -> record::Message<'static> {
    record::Message { id, unix_micros: 7, event: "e", data: "{}", traceparent: None }
}

impl Peer {
    /// The link is up again, and what it has asked for about channels is not answered.
    fn rise_following(&mut self) {
        self.actions();
        self.link.handle_connected(self.now);
        self.prepare();
        self.answer("SSUBSCRIBE", "");
        self.answer("PING", "$1\r\ns\r\n");
        self.answer("EVALSHA", ":1\r\n");
        self.news();
    }
}
