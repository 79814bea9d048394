//! Makes a failing world smaller, as long as it fails in the same way.

use crate::{Options, Violation, Wrong, run};

/// The smallest world found that still breaks the same invariant, and how it does. Tries at most `runs_max` runs.
#[must_use]
pub fn shrink(options: &Options, violation: &Violation, runs_max: u32) -> (Options, Violation) {
    let (mut best, mut broken) = (options.clone(), violation.clone());
    let mut runs = 0;
    loop {
        let mut better = false;
        for (name, value) in best.list() {
            for smaller in candidates(name, value) {
                if runs == runs_max {
                    return (best, broken);
                }
                runs += 1;
                let mut trial = best.clone();
                trial.set(name, smaller);
                if let Some(found) = fails(&trial, broken.invariant) {
                    (best, broken, better) = (trial, found, true);
                    break;
                }
            }
        }
        if !better {
            break;
        }
    }
    let steps = run(&best, Wrong::Nothing, false).steps.min(best.steps_max);
    bisect_steps(best, broken, steps)
}

/// The fewest steps of the safety phase.
fn bisect_steps(mut best: Options, mut broken: Violation, steps: u64) -> (Options, Violation) {
    let (mut low, mut high) = (0, steps);
    while low < high {
        let middle = (low + high) / 2;
        let trial = Options { steps_max: middle, ..best.clone() };
        match fails(&trial, broken.invariant) {
            Some(found) => (best, broken, high) = (trial, found, middle),
            None => low = middle + 1,
        }
    }
    (best, broken)
}

fn fails(options: &Options, invariant: &str) -> Option<Violation> {
    run(options, Wrong::Nothing, false).violation.filter(|found| found.invariant == invariant)
}

/// Values to try instead, the simplest first.
fn candidates(name: &str, value: u64) -> Vec<u64> {
    let least = match name {
        "shards" | "channels" | "burst_max" | "think_ms" | "duration_ms" => 1,
        "subscribers" | "publishers" | "posters" | "sluggards" | "hostile" | "storming" => 0,
        "reset_pm" | "half_close_pm" | "wall_jumps" | "reloads" | "auth" | "ask_subscribe" => 0,
        "ask_whose" => 0,
        "ask_publish" | "app_silent_pm" | "app_ms" | "link_us" | "turn_us" | "padding_max" => 0,
        // What these are is part of the world, not of its size.
        _ => return Vec::new(),
    };
    let mut values = vec![least, value / 4, value / 2, value.saturating_sub(1)];
    values.retain(|smaller| *smaller >= least && *smaller < value);
    values.dedup();
    values
}
