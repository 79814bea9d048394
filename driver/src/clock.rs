//! The clocks, read once per wake-up.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mahavishnu_core::time::Now;

/// Both clocks now. A wall clock before 1970 counts as 1970.
pub(crate) fn now() -> Now {
    Now {
        mono: Instant::now(),
        unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    }
}
