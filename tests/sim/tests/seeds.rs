//! Fixed seeds, and proof that the oracle bites.

use mahavishnu_sim::{INVARIANTS, Options, Wrong, run, shrink};

#[test]
fn forty_seeds_hold() {
    for seed in 0..40 {
        let options = Options::from_seed(seed);
        let report = run(&options, Wrong::Nothing, false);
        assert_eq!(report.violation, None, "{options}");
    }
}

/// Worlds on so many hubs, some of which stall. How often publishers were told that the server is busy: with a store it is,
/// on one hub too, when what is to be stored piles up.
fn busy_on(shards: u64) -> u64 {
    let run_on = |seed| {
        let options = first_kind(Options { shards, ..Options::from_seed(seed) });
        let report = run(&options, Wrong::Nothing, false);
        assert_eq!(report.violation, None, "{options}");
        report.busy
    };
    (1_000..1_030).map(run_on).sum()
}

#[test]
fn seeds_hold_on_one_shard() {
    assert_eq!(busy_on(1), 0, "with one shard nobody waits for another");
}

#[test]
fn seeds_hold_on_two_shards() {
    assert!(busy_on(2) > 0, "two shards never were busy");
}

#[test]
fn seeds_hold_on_eight_shards() {
    assert!(busy_on(8) > 0, "eight shards never were busy");
}

#[test]
fn seeds_that_once_broke_something_hold() {
    for (seed, what) in FOUND {
        let options = first_kind(Options::from_seed(*seed));
        assert_eq!(run(&options, Wrong::Nothing, false).violation, None, "{what}\n{options}");
    }
}

/// A world as it was when these were found: nothing is stored, and the process does not end.
fn first_kind(options: Options) -> Options {
    Options { store: 0, restarts: 0, ..options }
}

#[test]
fn a_seed_in_which_two_shards_once_waited_for_each_other_holds() {
    let options = first_kind(Options { shards: 2, ..Options::from_seed(2058) });
    assert_eq!(run(&options, Wrong::Nothing, false).violation, None, "{options}");
}

/// Worlds with a store whose process ends often. How many messages were told of. What becomes of members and sessions then
/// is not simulated.
fn restarted(store: u64) -> u64 {
    let run_on = |seed| {
        let options = Options { store, restarts: 5, ..Options::from_seed(seed) };
        let options = Options { attend_pm: 0, sessions_pm: 0, ..options };
        let report = run(&options, Wrong::Nothing, false);
        assert_eq!(report.violation, None, "{options}");
        report.deliveries
    };
    (2_000..2_020).map(run_on).sum()
}

#[test]
fn seeds_hold_over_restarts() {
    assert!(restarted(0) > 0, "without a store");
}

#[test]
fn seeds_hold_over_restarts_with_a_store() {
    assert!(restarted(1) > 0, "with a store");
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..20 {
        let options = Options::from_seed(seed);
        let (first, second) =
            (run(&options, Wrong::Nothing, false), run(&options, Wrong::Nothing, false));
        assert_eq!((first.digest, first.steps), (second.digest, second.steps), "{options}");
    }
}

#[test]
fn another_seed_is_another_story() {
    let digests: std::collections::BTreeSet<u64> =
        (0..20).map(|seed| run(&Options::from_seed(seed), Wrong::Nothing, false).digest).collect();
    assert_eq!(digests.len(), 20);
}

/// Quick fan-out with one thing done wrong to one client.
fn sabotaged(wrong: Wrong, offsets: u64) -> Option<&'static str> {
    let options =
        Options { subscribers: 40, channels: 1, duration_ms: 300, offsets, ..Options::fan_out(1) };
    run(&options, wrong, false).violation.map(|violation| violation.invariant)
}

#[test]
fn nothing_wrong_is_not_reported() {
    assert_eq!(sabotaged(Wrong::Nothing, 0), None);
    assert_eq!(sabotaged(Wrong::Nothing, 1), None);
}

#[test]
fn a_lost_message_is_noticed() {
    assert_eq!(sabotaged(Wrong::Drop, 1), Some("loss"));
    // Without numbers the others' order tells.
    assert_eq!(sabotaged(Wrong::Drop, 0), Some("order"));
}

#[test]
fn a_message_that_comes_twice_is_noticed() {
    assert_eq!(sabotaged(Wrong::Duplicate, 1), Some("order"));
    assert_eq!(sabotaged(Wrong::Duplicate, 0), Some("duplicate"));
}

#[test]
fn two_messages_in_the_wrong_order_are_noticed() {
    assert_eq!(sabotaged(Wrong::Swap, 1), Some("loss"));
    assert_eq!(sabotaged(Wrong::Swap, 0), Some("order"));
}

#[test]
fn a_wrong_letter_is_noticed() {
    assert!(sabotaged(Wrong::Alter, 1).is_some());
}

#[test]
fn options_read_back_and_shrinking_keeps_what_passes() {
    let options = Options::from_seed(3);
    let mut copy = Options::from_seed(4);
    for (name, value) in options.list() {
        assert!(copy.set(name, value), "{name}");
    }
    copy.seed = options.seed;
    assert_eq!(copy, options);
    assert!(!copy.set("nonsense", 1));
    let violation = mahavishnu_sim::Violation {
        invariant: INVARIANTS[0].0,
        detail: String::new(),
        at_nanos: 0,
    };
    assert_eq!(shrink(&options, &violation, 10).0, options, "nothing smaller fails either");
}

/// Seeds and what they found.
const FOUND: &[(u64, &str)] = &[
    (3, "control frames were not counted among the bytes sent"),
    (7, "unsubscribing did not cancel a subscription that waited for the application"),
    (8, "likewise"),
    (29, "a batch refused as busy was broadcast in part"),
    (207, "a conflated message overtook the announcement of a gap before it"),
    (97, "who joined while the last slow reader was closed was told so and was no member"),
    (216, "likewise"),
    (3574, "rounds of a channel were handed out in the wrong order while others were dropped"),
];
