//! Fuzz targets of the core.
//!
//! Each target is an ordinary function from bytes to nothing that panics when a property does not hold. libFuzzer calls
//! it (`scripts/fuzz`, or cargo-fuzz), and so does plain `cargo test`, for every file below `corpus/`: a change of the
//! core's interface breaks the targets where it is made, and what was found once stays found.
//!
//! The first bytes of most inputs steer (limits, cuts, roles); the rest is what a peer sends. Inputs need not be stable
//! across versions of a target, but regressions should be kept readable: prefer steering bytes over reordering.

#![forbid(unsafe_code)]

pub mod deflate;
pub mod documents;
pub mod envelope;
pub mod frames;
pub mod head;
pub mod hub_ops;
pub mod jwt;
pub mod links;
pub mod outbox;
pub mod profiles;
pub mod publish;
pub mod records;
pub mod seeds;
pub mod session_buddy;
mod trace;
pub mod traces;

/// Every target by name, as in `corpus/` and `fuzz_targets/`.
pub const TARGETS: &[(&str, Body)] = &[
    ("head", head::run),
    ("frames", frames::run),
    ("deflate", deflate::run),
    ("envelope", envelope::run),
    ("publish", publish::run),
    ("jwt", jwt::run),
    ("hub_ops", hub_ops::run),
    ("seeds", seeds::run),
    ("traces", traces::run),
    ("documents", documents::run),
    ("records", records::run),
    ("links", links::run),
    ("profiles", profiles::run),
    ("outbox", outbox::run),
    ("session_buddy", session_buddy::run),
];

/// A target: panics if a property does not hold for these bytes.
pub type Body = fn(&[u8]);
