//! What a driver tells of its store.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Histogram, Recorder};

use super::{STORE_COMMITS, STORE_DURATION, STORE_ERRORS, handles::Registry};

/// Where a store's counts meet the `metrics` facade. One for each store.
pub struct StoreMetrics {
    commits: Counter,
    failed_commits: Counter,
    failed_syncs: Counter,
    duration: Histogram,
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreMetrics(..)")
    }
}

impl StoreMetrics {
    /// Registers every series with `recorder`, for the server of this name.
    #[must_use]
    pub fn new(recorder: &dyn Recorder, server: Arc<str>) -> Self {
        let source = Registry { recorder, server };
        Self {
            commits: source.counter(STORE_COMMITS, &[]),
            failed_commits: source.counter(STORE_ERRORS, &[("operation", "commit")]),
            failed_syncs: source.counter(STORE_ERRORS, &[("operation", "sync")]),
            duration: source.histogram(STORE_DURATION, &[]),
        }
    }

    /// Groups that were committed, or not, and what could not be forced to the disk, before there was a recorder. How long
    /// each took is not known any more.
    pub fn catch_up(&self, committed: u64, failed: u64, syncs_failed: u64) {
        self.commits.increment(committed);
        self.failed_commits.increment(failed);
        self.failed_syncs.increment(syncs_failed);
    }

    /// A group was committed, or not, after so long.
    pub fn committed(&self, kept: bool, took: Duration) {
        if kept {
            self.commits.increment(1)
        } else {
            self.failed_commits.increment(1)
        }
        self.duration.record(took.as_secs_f64());
    }

    /// What was committed could not be forced to the disk.
    pub fn sync_failed(&self) {
        self.failed_syncs.increment(1);
    }
}
