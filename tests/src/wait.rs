//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Far above what it takes: a loaded machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Asks `attempt` until it has an answer. Panics after [`DEADLINE`].
pub fn until<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, attempt).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Asks `attempt` until it has an answer or the time is over.
pub fn within<T>(time: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(answer) = attempt() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

const POLL: Duration = Duration::from_millis(5);
