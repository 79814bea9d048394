//! Every input that was worth keeping, once more.
//!
//! Files whose names begin with `regression-` once showed a fault; the others reach different parts of the code.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use mahavishnu_fuzz::TARGETS;

fn replay(name: &str) {
    let (_, run) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("a folder with the target's name")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    for path in paths {
        let input = fs::read(&path).expect("a file");
        let result = catch_unwind(AssertUnwindSafe(|| run(&input)));
        assert!(result.is_ok(), "{} fails", path.display());
    }
}

#[test]
fn head() {
    replay("head");
}

#[test]
fn frames() {
    replay("frames");
}

#[test]
fn deflate() {
    replay("deflate");
}

#[test]
fn envelope() {
    replay("envelope");
}

#[test]
fn publish() {
    replay("publish");
}

#[test]
fn jwt() {
    replay("jwt");
}

#[test]
fn hub_ops() {
    replay("hub_ops");
}

#[test]
fn seeds() {
    replay("seeds");
}

#[test]
fn traces() {
    replay("traces");
}

#[test]
fn documents() {
    replay("documents");
}

#[test]
fn session_buddy() {
    replay("session_buddy");
}

#[test]
fn records() {
    replay("records");
}

#[test]
fn links() {
    replay("links");
}

#[test]
fn profiles() {
    replay("profiles");
}

#[test]
fn outbox() {
    replay("outbox");
}

#[test]
fn every_target_is_replayed_and_has_its_binary() {
    for (name, _) in TARGETS {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(root.join("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name}");
        assert!(root.join("corpus").join(name).is_dir(), "{name}");
    }
}
