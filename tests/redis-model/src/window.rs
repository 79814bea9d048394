//! Times in which a server refuses what it otherwise does.

/// Why a server refuses what it otherwise does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// It reads its data from disk: `-LOADING`.
    Loading,
    /// It is over `maxmemory`, and nothing may be evicted: `-OOM`.
    Full,
    /// It could not write its data to disk: `-MISCONF`.
    DiskError,
    /// Too few replicas follow: `-NOREPLICAS`.
    NoReplicas,
    /// It serves nothing while it is a replica, as one without its primary: `-MASTERDOWN`.
    Stale,
    /// A script runs for too long: `-BUSY`.
    Busy,
}

/// Those that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    open: std::collections::BTreeSet<Window>,
}

impl Windows {
    pub(crate) fn set(&mut self, window: Window, open: bool) {
        if open {
            self.open.insert(window);
        } else {
            self.open.remove(&window);
        }
    }

    pub(crate) fn has(&self, window: Window) -> bool {
        self.open.contains(&window)
    }
}

impl Window {
    /// What is answered.
    pub(crate) fn error(self) -> &'static str {
        match self {
            Self::Loading => "LOADING Redis is loading the dataset in memory",
            Self::Full => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::DiskError => {
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                 Commands that may modify the data set are disabled, because this instance is configured to report \
                 errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the \
                 Redis logs for details about the RDB error."
            }
            Self::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            Self::Stale => {
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
            }
            Self::Busy => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
        }
    }
}

pub(crate) const READONLY: &str = "READONLY You can't write against a read only replica.";
