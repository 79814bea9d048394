//! The home of sessions, alone.

use std::time::Duration;

use super::*;
use crate::{
    config::Config,
    hub::{
        env::Env,
        store::{SessionId, StoreCommand},
        testing::{OTHER, env, keys, wait},
        types::{ConnId, ShardId},
        visitors::Who,
    },
    limits,
    reason::Reason,
};

const NAME: SessionId = SessionId(1 << 100);
const PUBLIC: Uuid = Uuid::from_u128(5);
const MINUTE: Duration = Duration::from_secs(60);
const NANOSECOND: Duration = Duration::from_nanos(1);

fn conn(index: u32) -> ConnId {
    ConnId { index, generation: 0, shard: OTHER }
}

fn ada() -> Who {
    Who::User("ada".into())
}

fn nobody() -> Who {
    Who::Address([192, 0, 2, 1].into())
}

fn holder(index: u32, who: Who) -> Holder {
    Holder { conn: conn(index), who, public: PUBLIC }
}

fn home(change: impl FnOnce(&mut Config)) -> (Env, Sessions) {
    let mut config = Config::default();
    change(&mut config);
    let env = env(config);
    let sessions = Sessions::new(keys(), env.now.mono);
    (env, sessions)
}

/// A session of ada's, which the connection 1 holds, with one channel.
fn held(change: impl FnOnce(&mut Config)) -> (Env, Sessions) {
    let (mut env, mut sessions) = home(change);
    assert_eq!(sessions.keep(&mut env, NAME, holder(1, ada()), Some(MINUTE)), Ok(MINUTE));
    sessions.change(&mut env, NAME, conn(1), vec![on("a")]);
    (env, sessions)
}

fn on(channel: &str) -> Change {
    (channel.into(), Some(Terms::default()))
}

fn off(channel: &str) -> Change {
    (channel.into(), None)
}

fn granted_channels(resume: Resume) -> Vec<Arc<str>> {
    let Resume::Granted(grant) = resume else { panic!("{resume:?}") };
    assert_eq!(grant.public, PUBLIC);
    grant.channels.into_keys().collect()
}

/// Sessions with a connection, and without.
fn counts(env: &Env) -> (i64, i64) {
    (env.tally.sessions_held, env.tally.sessions_waiting)
}

/// What is due now is seen to.
fn expire(env: &mut Env, sessions: &mut Sessions) -> bool {
    let now = env.now.mono;
    sessions.expire(env, now)
}

fn commands(sessions: &mut Sessions) -> Vec<StoreCommand> {
    std::iter::from_fn(|| sessions.next_command()).collect()
}

#[test]
fn it_waits_for_its_client_exactly_so_long() {
    for (early, found) in [(NANOSECOND, true), (Duration::ZERO, false)] {
        let (mut env, mut sessions) = held(|_| {});
        wait(&mut env, MINUTE * 10);
        assert_eq!(sessions.next_deadline(), None, "not while it has a connection");
        assert_eq!(sessions.ended(&mut env, NAME, conn(1), End::Waits), None);
        assert_eq!((sessions.next_deadline(), counts(&env)), (Some(env.now.mono + MINUTE), (0, 1)));

        wait(&mut env, MINUTE - early);
        let resumed = sessions.resume(&mut env, NAME, conn(2), &ada());

        sessions.check();
        assert_eq!(resumed != Resume::Unknown, found, "{early:?}");
        assert_eq!((sessions.len(), counts(&env)), if found { (1, (1, 0)) } else { (0, (0, 0)) });
    }
}

#[test]
fn its_timer_forgets_it() {
    let (mut env, mut sessions) = held(|_| {});
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    let until = env.now.mono + MINUTE;
    assert!(!sessions.expire(&mut env, until - NANOSECOND));
    assert!(sessions.expire(&mut env, until));
    assert_eq!((sessions.len(), counts(&env)), (0, (0, 0)));
    sessions.check();
}

#[test]
fn a_timer_of_an_earlier_wait_means_nothing() {
    let (mut env, mut sessions) = held(|_| {});
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    wait(&mut env, MINUTE / 2);
    assert_eq!(granted_channels(sessions.resume(&mut env, NAME, conn(2), &ada())), ["a".into()]);
    wait(&mut env, MINUTE / 2);
    assert!(expire(&mut env, &mut sessions), "it comes up");
    assert_eq!(sessions.len(), 1);
    let _ = sessions.ended(&mut env, NAME, conn(2), End::Waits);
    assert_eq!(sessions.next_deadline(), Some(env.now.mono + MINUTE));
}

#[test]
fn a_client_may_ask_for_less_time_but_not_for_more() {
    let (mut env, mut sessions) = home(|_| {});
    let window = env.config.limits.sessions.session_window;
    assert_eq!(sessions.keep(&mut env, NAME, holder(1, ada()), None), Ok(window));
    let mut keep_on = |n, ttl| sessions.keep_on(&env, NAME, conn(n), ttl);
    assert_eq!(keep_on(1, Some(MINUTE)), Ok(MINUTE), "it may change its mind");
    assert_eq!(keep_on(1, Some(Duration::from_secs(u64::MAX))), Ok(window));
    assert_eq!(keep_on(2, None), Err(Reason::SessionUnknown), "another's");
    let other = sessions.keep_on(&env, SessionId(2), conn(1), None);
    assert_eq!(other, Err(Reason::SessionUnknown), "forgotten meanwhile");
    assert_eq!((sessions.len(), counts(&env)), (1, (1, 0)));
}

#[test]
fn it_is_what_its_connection_said_last() {
    let (mut env, mut sessions) = held(|_| {});
    let changes = vec![on("c"), on("b"), off("a"), off("never")];
    sessions.change(&mut env, NAME, conn(1), changes);
    sessions.change(&mut env, NAME, conn(2), vec![on("of another connection")]);
    sessions.change(&mut env, SessionId(2), conn(1), vec![on("of another session")]);
    sessions.check();
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    sessions.change(&mut env, NAME, conn(1), vec![on("too late")]);
    let resumed = sessions.resume(&mut env, NAME, conn(2), &ada());
    assert_eq!(granted_channels(resumed), ["b".into(), "c".into()]);
}

#[test]
fn a_session_is_its_users() {
    let (mut env, mut sessions) = held(|_| {});
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    for who in [Who::User("eve".into()), nobody()] {
        assert_eq!(sessions.resume(&mut env, NAME, conn(2), &who), Resume::Unknown);
    }
    assert_eq!(sessions.resume(&mut env, SessionId(2), conn(2), &ada()), Resume::Unknown);
    let anonymous = SessionId(3);
    assert!(sessions.keep(&mut env, anonymous, holder(3, nobody()), None).is_ok());
    let _ = sessions.ended(&mut env, anonymous, conn(3), End::Waits);
    assert_eq!(sessions.resume(&mut env, anonymous, conn(4), &ada()), Resume::Unknown);
    let elsewhere = Who::Address([192, 0, 2, 2].into());
    assert!(granted_channels(sessions.resume(&mut env, anonymous, conn(4), &elsewhere)).is_empty());
    assert_eq!(granted_channels(sessions.resume(&mut env, NAME, conn(5), &ada())), ["a".into()]);
}

#[test]
fn it_goes_with_a_connection_that_becomes_somebodys() {
    let (mut env, mut sessions) = home(|_| {});
    sessions.keep(&mut env, NAME, holder(1, nobody()), None).unwrap();
    sessions.rename(&env, NAME, conn(1), ada());
    sessions.check();
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    assert_eq!(sessions.resume(&mut env, NAME, conn(2), &nobody()), Resume::Unknown);
    assert!(granted_channels(sessions.resume(&mut env, NAME, conn(2), &ada())).is_empty());
}

#[test]
fn who_has_it_lets_it_go_first() {
    let (mut env, mut sessions) = held(|_| {});
    let asked = sessions.resume(&mut env, NAME, conn(2), &ada());
    assert_eq!(asked, Resume::Contended(conn(1)));
    // What it subscribed to until then belongs to the session too.
    sessions.change(&mut env, NAME, conn(1), vec![on("b")]);
    let (to, resumed) = sessions.ended(&mut env, NAME, conn(1), End::Waits).unwrap();
    assert_eq!((to, granted_channels(resumed)), (conn(2), vec!["a".into(), "b".into()]));
    assert_eq!((sessions.next_deadline(), counts(&env)), (None, (1, 0)));
    sessions.check();
}

#[test]
fn of_several_the_last_one_has_it() {
    let (mut env, mut sessions) = held(|_| {});
    let asked = [2, 3, 4].map(|n| sessions.resume(&mut env, NAME, conn(n), &ada()));
    assert_eq!(asked, [1, 2, 3].map(|n| Resume::Contended(conn(n))));
    for displaced in [2, 3] {
        assert_eq!(sessions.ended(&mut env, NAME, conn(displaced), End::Waits), None);
    }
    let (to, resumed) = sessions.ended(&mut env, NAME, conn(1), End::Waits).unwrap();
    assert_eq!((to, granted_channels(resumed)), (conn(4), vec!["a".into()]));
}

#[test]
fn one_that_waited_may_go_away_again() {
    let (mut env, mut sessions) = held(|_| {});
    let _ = sessions.resume(&mut env, NAME, conn(2), &ada());
    assert_eq!(sessions.ended(&mut env, NAME, conn(2), End::Over), None);
    assert_eq!(sessions.ended(&mut env, NAME, conn(1), End::Waits), None);
    assert_eq!((sessions.len(), counts(&env)), (1, (0, 1)));
}

#[test]
fn an_end_for_good_is_one_for_all() {
    let (mut env, mut sessions) = held(|_| {});
    let _ = sessions.resume(&mut env, NAME, conn(2), &ada());
    let told = sessions.ended(&mut env, NAME, conn(1), End::Over);
    assert_eq!(told, Some((conn(2), Resume::Unknown)));
    assert_eq!((sessions.len(), counts(&env)), (0, (0, 0)));
    assert_eq!(sessions.ended(&mut env, NAME, conn(2), End::Waits), None);
    sessions.check();
}

#[test]
fn so_many_are_kept() {
    let (mut env, mut sessions) = held(|config| config.limits.sessions.sessions_max = 1);
    let refused = sessions.keep(&mut env, SessionId(2), holder(2, ada()), None);
    assert_eq!(refused, Err(Reason::SessionsFull));
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Over);
    assert!(sessions.keep(&mut env, SessionId(2), holder(2, ada()), None).is_ok());
}

#[test]
fn the_last_tenth_is_for_those_who_have_few() {
    let (mut env, mut sessions) = home(|config| {
        config.limits.sessions.sessions_max = 20;
        config.limits.sessions.sessions_share_max = 2;
    });
    let mut keep = |n: u32, who| sessions.keep(&mut env, SessionId(n.into()), holder(n, who), None);
    for n in 0..18 {
        assert!(keep(n, nobody()).is_ok(), "{n}");
    }
    assert_eq!(keep(18, nobody()), Err(Reason::SessionsFull));
    assert!(keep(18, ada()).is_ok() && keep(19, ada()).is_ok());
    assert_eq!(keep(20, Who::User("eve".into())), Err(Reason::SessionsFull));
    sessions.check();
}

#[test]
fn one_that_grows_beyond_the_memory_is_forgotten() {
    let (mut env, mut sessions) = held(|config| config.limits.sessions.sessions_bytes_max = 2_000);
    assert!(sessions.keep(&mut env, SessionId(2), holder(2, ada()), None).is_ok());
    let many: Vec<_> = (0..20).map(|n| on(&format!("channel:{n}"))).collect();
    sessions.change(&mut env, NAME, conn(1), many.clone());
    sessions.check();
    assert_eq!((sessions.len(), counts(&env)), (1, (1, 0)));
    // What its connection says from now on is about nothing.
    sessions.change(&mut env, NAME, conn(1), many);
    assert_eq!(sessions.ended(&mut env, NAME, conn(1), End::Waits), None);
    assert_eq!(sessions.resume(&mut env, NAME, conn(3), &ada()), Resume::Unknown);
}

#[test]
fn a_store_is_told_once_a_turn_and_in_order() {
    let (mut env, mut sessions) = held(|config| config.store = true);
    sessions.change(&mut env, NAME, conn(1), vec![on("b")]);
    let told = commands(&mut sessions);
    assert!(matches!(told[..], [StoreCommand::KeepSession { session: NAME, .. }]), "{told:?}");
    assert_eq!(commands(&mut sessions), []);

    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    sessions.check();
    wait(&mut env, MINUTE);
    assert!(expire(&mut env, &mut sessions));
    assert_eq!(commands(&mut sessions), [StoreCommand::ForgetSession { session: NAME }]);

    // What it never heard of it need not forget.
    sessions.keep(&mut env, NAME, holder(1, ada()), None).unwrap();
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Over);
    assert_eq!(commands(&mut sessions), []);
}

#[test]
fn without_a_store_nobody_is_told() {
    let (mut env, mut sessions) = held(|_| {});
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Over);
    assert_eq!(commands(&mut sessions), []);
}

/// The record of ada's session, as a store has it after `before` was done to it.
fn record_after(before: impl FnOnce(&mut Env, &mut Sessions)) -> bytes::Bytes {
    let (mut env, mut sessions) = held(|config| config.store = true);
    before(&mut env, &mut sessions);
    match commands(&mut sessions).pop() {
        Some(StoreCommand::KeepSession { record, .. }) => record,
        other => panic!("{other:?}"),
    }
}

/// Another run, so much later by the wall clock.
fn later(step: Duration, change: impl FnOnce(&mut Config)) -> (Env, Sessions) {
    let (mut env, sessions) = home(change);
    env.now.unix += step;
    (env, sessions)
}

#[test]
fn its_time_goes_on_after_a_restart() {
    let record = record_after(|env, sessions| {
        let _ = sessions.ended(env, NAME, conn(1), End::Waits);
    });
    let millisecond = Duration::from_millis(1);
    for (away, left) in [
        (Duration::ZERO, Some(MINUTE)),
        (MINUTE / 2, Some(MINUTE / 2)),
        (MINUTE - millisecond, Some(millisecond)),
        (MINUTE, None),
        (MINUTE * 9, None),
    ] {
        let (mut env, mut sessions) = later(away, |config| config.store = true);
        sessions.restore(&mut env, NAME, &record);
        sessions.check();
        assert_eq!(sessions.next_deadline(), left.map(|left| env.now.mono + left), "{away:?}");
        let told = commands(&mut sessions);
        match left {
            Some(left) => {
                assert_eq!((told, counts(&env)), (Vec::new(), (0, 1)));
                wait(&mut env, left - NANOSECOND);
                let resumed = sessions.resume(&mut env, NAME, conn(7), &ada());
                assert_eq!(granted_channels(resumed), ["a".into()]);
            }
            None => {
                assert_eq!(told, [StoreCommand::ForgetSession { session: NAME }]);
                assert_eq!((sessions.len(), counts(&env)), (0, (0, 0)));
            }
        }
    }
}

#[test]
fn a_restart_is_the_end_of_all_connections() {
    let record = record_after(|_, _| {});
    let (mut env, mut sessions) = later(MINUTE * 60, |config| config.store = true);
    sessions.restore(&mut env, NAME, &record);
    assert_eq!(sessions.next_deadline(), Some(env.now.mono + MINUTE));

    // From then on the time goes on over further restarts.
    let told = commands(&mut sessions);
    let [StoreCommand::KeepSession { record, .. }] = &told[..] else { panic!("{told:?}") };
    let (mut env, mut sessions) = later(MINUTE * 60 + MINUTE / 2, |_| {});
    sessions.restore(&mut env, NAME, record);
    assert_eq!(sessions.next_deadline(), Some(env.now.mono + MINUTE / 2));
}

#[test]
fn a_clock_that_was_set_back_makes_nobody_wait_longer() {
    let record = record_after(|env, sessions| {
        env.now.unix += MINUTE * 60;
        let _ = sessions.ended(env, NAME, conn(1), End::Waits);
    });
    let (mut env, mut sessions) = later(Duration::ZERO, |_| {});
    sessions.restore(&mut env, NAME, &record);
    assert_eq!(sessions.next_deadline(), Some(env.now.mono + MINUTE));
}

#[test]
fn what_a_store_had_is_within_the_limits_of_today() {
    let record = record_after(|_, _| {});
    let forgotten = [StoreCommand::ForgetSession { session: NAME }];
    let limits: [fn(&mut limits::Sessions); 3] = [
        |limits| limits.session_window = Duration::ZERO,
        |limits| limits.sessions_max = 0,
        |limits| limits.sessions_bytes_max = 100,
    ];
    for limit in limits {
        let (mut env, mut sessions) = home(|config| limit(&mut config.limits.sessions));
        sessions.restore(&mut env, NAME, &record);
        assert_eq!((commands(&mut sessions), sessions.len()), (forgotten.to_vec(), 0));
    }
    let (mut env, mut sessions) = home(|config| {
        config.limits.sessions.session_window = MINUTE / 4;
    });
    sessions.restore(&mut env, NAME, &record);
    assert_eq!(sessions.next_deadline(), Some(env.now.mono + MINUTE / 4));
    sessions.restore(&mut env, NAME, &record);
    assert_eq!(sessions.len(), 1, "once");
    sessions.restore(&mut env, SessionId(2), b"damaged");
    assert_eq!(
        sessions.next_command(),
        Some(StoreCommand::ForgetSession { session: SessionId(2) })
    );
}

#[test]
fn a_shorter_window_holds_for_all() {
    let (mut env, mut sessions) = held(|_| {});
    let mut config = (*env.config).clone();
    config.limits.sessions.session_window = MINUTE / 4;
    env.reload(Arc::new(config.clone()));
    let _ = sessions.ended(&mut env, NAME, conn(1), End::Waits);
    assert_eq!(sessions.next_deadline(), Some(env.now.mono + MINUTE / 4));
    let _ = sessions.resume(&mut env, NAME, conn(2), &ada());
    config.limits.sessions.session_window = Duration::ZERO;
    env.reload(Arc::new(config));
    let _ = sessions.ended(&mut env, NAME, conn(2), End::Waits);
    assert_eq!(sessions.len(), 0);
}

#[test]
fn names_are_not_shown() {
    let (env, mut sessions) = held(|config| config.store = true);
    let own = format!("{sessions:?}");
    let told = commands(&mut sessions);
    let name = NAME.0.to_string();
    assert!(!own.contains(&name) && !format!("{told:?}{env:?}").contains(&name));
    assert_eq!(ConnId { index: 1, generation: 0, shard: ShardId(1) }, conn(1));
}
