//! Whole hubs under any sequence of operations, against invariants that hold for every sequence.
//!
//! - An outbox never holds more broadcasts than its limit, and answers only in proportion to what was asked.
//! - Nothing but refusals and pongs before authentication; broadcasts only between a confirmed subscription and its end.
//! - Broadcasts of a channel arrive in order, once, and complete unless a gap was announced or the policy is to keep
//!   only the newest.
//! - Answers and questions belong to the connection that asked; ids of what is gone do nothing.
//! - What is written is well-formed, and nothing follows a close frame.
//! - What was missed, or is to come first, comes as the answer says: all of it, in order, before what is new.
//! - With a store nobody is told of a message before it is kept, and then of the number under which it is.
//! - After a timeout was handled nothing is due any more.
//! - Silence ends every connection within its deadlines, and then nothing is held any more.
//! - The same script gives the same bytes.

mod application;
mod client;
mod ops;
mod rig;
mod store;
mod wishes;

use arbitrary::{Arbitrary, Unstructured};

use self::{ops::Script, rig::Rig};

/// Input: a script. See `ops` for its words.
pub fn run(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let Ok(script) = Script::arbitrary(&mut bytes) else { return };
    let first = play(&script);
    if script.twice {
        assert_eq!(first, play(&script), "the same script gives the same bytes");
    }
}

/// Plays a script to its end and returns a digest of all that was written.
fn play(script: &Script) -> u64 {
    let mut rig = Rig::new(&script.setup);
    for op in script.ops.iter().take(OPS_MAX) {
        rig.apply(op);
    }
    rig.finish(script.ending);
    rig.digest()
}

/// Keeps a run short; longer scripts find nothing that shorter ones do not.
const OPS_MAX: usize = 200;
