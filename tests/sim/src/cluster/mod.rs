//! Several processes, each of several hubs, and one modelled Redis between them: what clients of any of them are told must
//! be one story, whatever goes wrong with Redis and with the links to it.
//!
//! The hubs and the links are those that are shipped, byte for byte. What goes wrong is drawn from the seed, as in worlds of
//! one process; these worlds have clients that keep all rules, so that their oracle can be strict about the rest.

mod attend;
mod client;
mod fault;
mod folds;
mod options;
mod oracle;
mod process;
mod queue;
mod redis;
mod resume;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::World;
pub use self::{fault::Fault, options::ClusterOptions};
use crate::{oracle::Violation, run::words_of};

/// What came of a world.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// What went wrong first, if anything did.
    pub violation: Option<Violation>,
    /// A digest of all that went through sockets.
    pub digest: u64,
    /// Events that clients got.
    pub deliveries: u64,
    /// Publishes that were answered: made, refused, and of unknown outcome.
    pub answers: [u64; 3],
    /// Gaps that were announced, and those of them that did not say how much was lost.
    pub gaps: [u64; 2],
    /// Subscriptions that got what was missed, and those that were told that they cannot.
    pub recoveries: [u64; 2],
    /// Entries that back-ends have written into queues: to be published, and those that cannot be.
    pub queued: [u64; 2],
    /// Sessions that were resumed, and those that went with what Redis has lost.
    pub resumed: [u64; 2],
    /// Faults that happened, by name and number.
    pub faults: Vec<(&'static str, u64)>,
    /// How often a link was up.
    pub sessions: u64,
    /// Events that happened.
    pub steps: u64,
    /// Virtual time.
    pub nanos: u64,
    /// What happened, if it was asked for.
    pub story: String,
}

/// Runs a world of several processes.
#[must_use]
pub fn run_cluster(options: &ClusterOptions, verbose: bool) -> ClusterReport {
    let mut world = World::new(options, verbose);
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| world.live())) {
        world.oracle.fail("panic", || words_of(&*cause));
    }
    world.report()
}
