//! The program `simulate` as one calls it.

use std::process::Command;

/// Whether it succeeded, and what it said.
fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_search_says_how_many_seeds_it_ran() {
    let (good, said) = simulate(&["--seeds", "3..5"]);
    assert!(good && said.starts_with("2 seeds, 0 bad"), "{said}");
}

#[test]
fn when_the_time_is_up_no_further_seed_begins() {
    let (good, said) = simulate(&["--seeds", "0..1000000", "--for", "0s"]);
    assert!(good, "that is no failure");
    assert!(said.starts_with("time is up after 0 of 1000000 seeds\n0 seeds, 0 bad"), "{said}");
}

#[test]
fn times_have_units() {
    for bad in ["", "m", "10x", "1.5h"] {
        assert!(!simulate(&["--seeds", "0..0", "--for", bad]).0, "{bad}");
    }
    for good in ["90s", "10m", "1h"] {
        assert!(simulate(&["--seeds", "0..0", "--for", good]).0, "{good}");
    }
}
