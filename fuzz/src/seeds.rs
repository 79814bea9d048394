//! Simulated worlds: a seed, and options that other seeds would have drawn.
//!
//! The simulator searches among whole seeds; coverage shows the fuzzer which *combinations* of options lead somewhere
//! new. Every option still has a value that some seed gives it, so what fails here is a world that could have come up.

use arbitrary::{Arbitrary, Unstructured};
use mahavishnu_sim::{Options, Wrong, run as simulate};

#[derive(Debug, Arbitrary)]
struct World {
    /// Small numbers, so that neighbours are worlds that a search has seen.
    seed: u16,
    /// Which option, and the seed that it is taken from.
    mixed: Vec<(u8, u16)>,
}

/// Input: a seed and pairs of an option's place and another seed.
pub fn run(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let Ok(world) = World::arbitrary(&mut bytes) else { return };
    let Some(options) = mix(&world) else { return };
    let report = simulate(&options, Wrong::Nothing, false);
    assert_eq!(report.violation, None, "{options}");
}

/// The options, cut down to a world that takes milliseconds; `None` if too many people live in it.
fn mix(world: &World) -> Option<Options> {
    let mut options = Options::from_seed(world.seed.into());
    for (place, seed) in world.mixed.iter().take(MIXED_MAX) {
        let list = Options::from_seed((*seed).into()).list();
        let (name, value) = list[usize::from(*place) % list.len()];
        assert!(options.set(name, value), "{name}");
    }
    let clients = options.clients().max(1);
    // Sockets of a few bytes make many events of every message.
    let actions = if options.chunk_max < 100 { ACTIONS_MAX / 10 } else { ACTIONS_MAX };
    options.duration_ms = options.duration_ms.min(actions * options.think_ms / clients).max(50);
    (clients <= CLIENTS_MAX).then_some(options)
}

/// More options than there are say nothing new.
const MIXED_MAX: usize = 60;
const CLIENTS_MAX: u64 = 40;
/// What all clients together do before the world heals.
const ACTIONS_MAX: u64 = 800;
