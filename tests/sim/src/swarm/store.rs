//! Whether worlds have a store, how well it works, and how often the process ends.

use super::Options;
use crate::random::Random;

impl Options {
    pub(super) fn draw_store(&mut self, r: &mut Random) {
        self.store = u64::from(r.chance(400));
        self.store_us = r.pick(&[0, 100, 5_000, 50_000]);
        self.store_fail_pm = r.pick(&[0, 0, 50, 300]);
        self.store_queue_bytes = r.pick(&[2_000, 16 << 20, 16 << 20]);
        if self.store == 1 && self.store_us > 1_000 {
            // A channel's rounds are kept one after the other: of tiny ones on a slow disk there is a line of minutes.
            self.round_bytes = self.round_bytes.max(64 << 10);
        }
        // What is kept of a channel may change while some of it waits.
        if self.store == 1 && r.chance(150) {
            (self.reloads, self.keep_changes) = (r.range(3, 8), 1);
        }
        // Without a store a restart leaves nothing to be checked but its end.
        if r.chance(if self.store == 1 { 700 } else { 150 }) {
            self.restarts = r.range(1, 5);
            // What becomes of members and sessions then is not simulated.
            (self.attend_pm, self.sessions_pm) = (0, 0);
        }
    }

    /// As long as a message may have to wait until it is kept, at most: a group before its own, and the answer.
    pub(crate) fn kept_us(&self) -> u64 {
        self.store * 5 * self.store_us
    }
}
