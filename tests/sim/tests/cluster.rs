//! Several processes and the Redis between them: fixed seeds, and proof that each fault happens.

use mahavishnu_sim::{ClusterOptions, ClusterReport, Fault, run_cluster};

/// A world that must hold.
fn hold(options: &ClusterOptions) -> ClusterReport {
    let report = run_cluster(options, false);
    assert_eq!(report.violation, None, "{options}");
    report
}

#[test]
fn calm_seeds_hold_and_nothing_is_missed_in_them() {
    for seed in 0..10 {
        let report = hold(&ClusterOptions::calm(seed));
        assert_eq!(report.gaps, [0, 0], "seed {seed}");
        assert!(report.answers[0] > 0 && report.deliveries > 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn fifteen_seeds_hold() {
    for seed in 0..15 {
        hold(&ClusterOptions::from_seed(seed));
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..10 {
        let options = ClusterOptions::from_seed(seed);
        let (first, second) = (run_cluster(&options, false), run_cluster(&options, false));
        assert_eq!((first.digest, first.steps), (second.digest, second.steps), "{options}");
    }
}

#[test]
fn options_read_back() {
    let options = ClusterOptions::from_seed(3);
    let mut copy = ClusterOptions::calm(4);
    for (name, value) in options.list() {
        assert!(copy.set(name, value), "{name}");
    }
    copy.seed = options.seed;
    assert_eq!(copy, options);
    assert!(!copy.set("nonsense", 1));
}

/// A world of three nodes, with this fault and no other.
fn with_fault(fault: Fault, seed: u64) -> ClusterReport {
    let calm = ClusterOptions::calm(seed);
    let mut options = ClusterOptions {
        nodes: 3,
        clients: 6,
        duration_ms: 12_000,
        think_ms: 50,
        fault_ms: 6_000,
        link_us: 500,
        lag_ms: 200,
        ..calm
    };
    options.faults[fault as usize] = 2;
    let report = hold(&options);
    let struck = report.faults.iter().find(|(name, _)| *name == fault.name());
    assert!(struck.is_some_and(|(_, count)| *count > 0), "{fault:?}");
    report
}

/// Links that such a world has.
fn links(seed: u64) -> u64 {
    3 * ClusterOptions::calm(seed).shards
}

#[test]
fn every_fault_happens_and_is_got_over() {
    for fault in Fault::ALL {
        let reports: Vec<_> = (0..2).map(|seed| with_fault(fault, seed)).collect();
        let again = reports.iter().zip(0..).any(|(report, seed)| report.sessions > links(seed));
        let reconnects = matches!(
            fault,
            Fault::RestartKept
                | Fault::RestartEmpty
                | Fault::RestartOlder
                | Fault::Failover
                | Fault::Split
                | Fault::ReadOnly
                | Fault::Password
                | Fault::Cut
                | Fault::Dark
                | Fault::Kill
        );
        assert!(again || !reconnects, "{fault:?} is nothing to links: {reports:?}");
    }
}
