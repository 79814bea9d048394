//! Sessions of all nodes.

use std::time::Duration;

use bytes::Bytes;
use mahavishnu_core::hub::{
    SessionAnswer, SessionCall, SessionClaimed, SessionHeld, SessionKey, SessionRenewed,
    SessionState, SessionWish, Writer,
};
use mahavishnu_links::{BusCommand, BusEvent};
use mahavishnu_test_redis::Redis;

use crate::node::{Node, on_each};

const KEY: SessionKey = SessionKey(0xab << 100);
const MINUTE: Duration = Duration::from_secs(60);
const BEGUN: Duration = Duration::from_millis(1_770_000_000_123);

fn writer(node: &Node) -> Writer {
    Writer { node: node.id, shard: 0 }
}

fn ask(node: &mut Node, what: SessionWish) -> SessionAnswer {
    let id = node.call();
    let holder = writer(node);
    node.command(BusCommand::Session(Box::new(SessionCall { id, holder, what })));
    node.find("an answer", |event| match event {
        BusEvent::Session { id: of, result } if *of == id => Some(result.clone().unwrap()),
        _ => None,
    })
}

fn keep(node: &mut Node, claim: u64, record: &'static [u8], life: Duration) -> bool {
    let state = SessionState {
        held: SessionHeld { key: KEY, claim },
        user: Some("ada".into()),
        begun: BEGUN,
        ttl: MINUTE,
        life,
        attached: true,
        record: Bytes::from_static(record),
    };
    ask(node, SessionWish::Keep(Box::new(state))) == SessionAnswer::Done(true)
}

fn is_others(node: &mut Node, user: Option<&str>) -> bool {
    let wish = SessionWish::Claim { key: KEY, user: user.map(Into::into), grace: MINUTE };
    ask(node, wish) == SessionAnswer::OtherUser
}

fn claim(node: &mut Node, user: Option<&str>) -> Option<SessionClaimed> {
    let wish = SessionWish::Claim { key: KEY, user: user.map(Into::into), grace: MINUTE };
    let SessionAnswer::Claimed(claimed) = ask(node, wish) else { panic!("a claim") };
    claimed.map(|claimed| *claimed)
}

fn renew(node: &mut Node, claims: &[(SessionKey, u64)]) -> Vec<SessionRenewed> {
    let held =
        |(key, claim): &(SessionKey, u64)| (SessionHeld { key: *key, claim: *claim }, MINUTE * 3);
    let wish = SessionWish::Renew(claims.iter().map(held).collect());
    let SessionAnswer::Renewed(renewed) = ask(node, wish) else { panic!("a renewal") };
    renewed
}

fn end(node: &mut Node, claim: u64) -> bool {
    let wish = SessionWish::End(SessionHeld { key: KEY, claim }, MINUTE);
    ask(node, wish) == SessionAnswer::Done(true)
}

/// How long the session is kept yet, in seconds, rounded up.
fn life(redis: &Redis) -> i64 {
    let names = mahavishnu_links::redis::names::Names::new("mahavishnu", 0);
    (redis.ask(&["PTTL", &names.session(KEY)]).integer() + 999) / 1000
}

#[test]
fn a_session_has_one_holder_at_a_time() {
    on_each(|redis| {
        let (mut a, mut b) = (Node::start(redis, 1), Node::start(redis, u64::MAX));
        assert_eq!(claim(&mut a, Some("ada")), None, "there is none");
        assert!(keep(&mut a, 1, b"one \0\r\n", MINUTE * 2));
        assert_eq!(life(redis), 120);
        assert!(is_others(&mut b, Some("eve")) && is_others(&mut b, None));

        let claimed = |claim, before: &Node, record| SessionClaimed {
            claim,
            before: Some(writer(before)),
            begun: BEGUN,
            record: Bytes::from_static(record),
        };
        assert_eq!(claim(&mut b, Some("ada")), Some(claimed(2, &a, b"one \0\r\n")));
        assert_eq!(life(redis), 120, "as long as it waits and the grace");
        assert!(!keep(&mut a, 1, b"of before", MINUTE), "who had it has it no more");
        assert!(!end(&mut a, 1));
        assert_eq!(renew(&mut a, &[(KEY, 1)]), [SessionRenewed::Lost]);
        assert!(!keep(&mut a, 2, b"of nobody", MINUTE), "nor by the same number");
        assert!(keep(&mut b, 2, b"two", MINUTE));
        assert_eq!(life(redis), 60);
        let other = SessionKey(7);
        let found = renew(&mut b, &[(other, 1), (KEY, 2)]);
        assert_eq!(found, [SessionRenewed::Unknown, SessionRenewed::Done]);
        assert_eq!(life(redis), 180);
        assert_eq!(claim(&mut a, Some("ada")), Some(claimed(3, &b, b"two")));

        assert!(end(&mut a, 3));
        assert!(!end(&mut a, 3), "once");
        assert_eq!(claim(&mut a, Some("ada")), None);
        assert_eq!(claim(&mut a, None), None, "nobody's either");
        assert!(!keep(&mut a, 3, b"again", MINUTE) && !keep(&mut b, 2, b"again", MINUTE));
        assert_eq!(life(redis), 60, "so long that is known");
        let keys = redis.ask(&["KEYS", "mahavishnu:*:s:*"]);
        assert!(format!("{keys:?}").contains(&KEY.to_string()), "{keys:?}");
    });
}

#[test]
fn a_session_that_nobody_tells_of_is_over() {
    on_each(|redis| {
        let mut a = Node::start(redis, 1);
        assert!(keep(&mut a, 1, b"one", Duration::from_millis(150)));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(claim(&mut a, Some("ada")), None);
        assert_eq!(renew(&mut a, &[(KEY, 1)]), [SessionRenewed::Unknown]);
        // Redis has lost it: its holder still knows it.
        assert!(keep(&mut a, 1, b"one", MINUTE));
        redis.ask(&["FLUSHALL"]);
        assert!(keep(&mut a, 1, b"one", MINUTE));
        assert_eq!(claim(&mut a, Some("ada")).map(|claimed| claimed.claim), Some(2));
    });
}

#[test]
fn of_two_that_claim_it_at_once_one_is_the_last() {
    on_each(|redis| {
        let mut nodes = [Node::start(redis, 1), Node::start(redis, 2), Node::start(redis, 3)];
        assert!(keep(&mut nodes[0], 1, b"one", MINUTE));
        for round in 0..20_u64 {
            let mut calls = Vec::new();
            for node in &mut nodes {
                let (id, holder) = (node.call(), writer(node));
                let user = Some("ada".into());
                let what = SessionWish::Claim { key: KEY, user, grace: MINUTE };
                node.command(BusCommand::Session(Box::new(SessionCall { id, holder, what })));
                calls.push(id);
            }
            let mut claims = Vec::new();
            for (node, call) in nodes.iter_mut().zip(calls) {
                let claimed = node.find("an answer", |event| match event {
                    BusEvent::Session { id, result } if *id == call => {
                        let Ok(SessionAnswer::Claimed(Some(claimed))) = result else {
                            panic!("{result:?}")
                        };
                        Some(claimed.claim)
                    }
                    _ => None,
                });
                claims.push(claimed);
            }
            let mut sorted = claims.clone();
            sorted.sort_unstable();
            assert_eq!(
                sorted,
                [2, 3, 4].map(|claim| claim + 3 * round),
                "each a number of its own"
            );
            let last = 4 + 3 * round;
            for (node, claim) in nodes.iter_mut().zip(claims) {
                assert_eq!(keep(node, claim, b"mine", MINUTE), claim == last);
            }
        }
    });
}

#[test]
fn what_is_no_session_is_no_loss_of_the_link() {
    let redis = Redis::start();
    let mut a = Node::start(&redis, 1);
    let names = mahavishnu_links::redis::names::Names::new("mahavishnu", 0);
    let key = names.session(KEY);
    redis.ask(&["HSET", &key, "f", "x", "h", "y", "u", "=ada"]);
    let (id, holder) = (a.call(), writer(&a));
    let what = SessionWish::Claim { key: KEY, user: Some("ada".into()), grace: MINUTE };
    a.command(BusCommand::Session(Box::new(SessionCall { id, holder, what })));
    let failed = a.find("an answer", |event| match event {
        BusEvent::Session { id: of, result } if *of == id => Some(result.is_err()),
        _ => None,
    });
    assert!(failed);
    assert!(keep(&mut a, 1, b"one", MINUTE));
    assert!(claim(&mut a, Some("ada")).is_some());
}
