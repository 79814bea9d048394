//! Nodes and a load, of which something breaks.

use std::time::{Duration, Instant};

use super::{
    Outage, Row,
    watch::{Watch, moved},
};
use crate::{
    Cluster, Metrics, Server,
    cluster::Setup,
    load::{Load, Plan, Report},
};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Seconds, with patience to match: for every change.
    Small,
    /// The default settings but for how much history there is.
    Full,
}

/// Nodes under load.
#[derive(Debug)]
pub struct Site {
    /// Nodes, Redis, and the ways there.
    pub cluster: Cluster,
    /// What runs meanwhile.
    pub load: Load,
    scale: Scale,
    watch: Watch,
    before: Vec<Metrics>,
    from: Instant,
    mended: Option<Instant>,
    /// What came of a load of somebody else.
    other: Option<Report>,
    settings: Vec<(String, String)>,
}

impl Scale {
    pub(super) fn settings(self) -> Vec<(&'static str, &'static str)> {
        // All of a run.
        let mut settings =
            vec![("SHARDS", "2"), ("HISTORY", "100000/300"), ("HISTORY_CHANNEL_BYTES", "16777216")];
        if self == Self::Small {
            let quick =
                [("REDIS_TIMEOUT", "2"), ("REDIS_CONNECT_TIMEOUT", "1"), ("NODE_LEASE", "3")];
            settings.extend(quick);
        }
        settings
    }

    /// The load that runs meanwhile.
    pub fn plan(self) -> Plan {
        match self {
            // Two publishers in each channel, at different nodes.
            Self::Small => {
                Plan { channels: 2, pause: Duration::from_millis(20), ..Plan::default() }
            }
            Self::Full => Plan::full(),
        }
    }
}

impl Site {
    pub(super) fn start(setup: &Setup<'_>, scale: Scale) -> Self {
        let cluster = Cluster::of(setup);
        let load = Load::start(cluster.addresses(), &scale.plan());
        load.wait_for(50);
        let watch = Watch::start(&cluster.addresses());
        let before = cluster.nodes.iter().map(Server::metrics).collect();
        let from = Instant::now();
        let owned = setup.settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let settings = owned.collect();
        Self { cluster, load, scale, watch, before, from, mended: None, other: None, settings }
    }

    /// Lets it go on for so many seconds, by scale.
    pub(super) fn run(&self, small: u64, full: u64) {
        let seconds = if self.scale == Scale::Small { small } else { full };
        self.load.run(Duration::from_secs(seconds));
    }

    pub(super) fn scale(&self) -> Scale {
        self.scale
    }

    /// As many nodes by the same Redis, with the same settings but for this one.
    pub(super) fn beside(&self, other: (&str, &str)) -> Vec<Server> {
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = settings.chain([other]).collect();
        self.cluster.beside(self.cluster.nodes.len(), &settings)
    }

    /// What was broken is whole now.
    pub(super) fn mended(&mut self) {
        self.mended = Some(Instant::now());
    }

    /// Keeps what came of another load, for the verdict.
    pub(super) fn keep(&mut self, other: Report) {
        self.other = Some(other);
    }

    /// Waits until all is well again, and says what came of it.
    pub(super) fn finish(self, outage: &Outage) -> Row {
        self.cluster.wait_whole();
        self.load.wait_for(100);
        // What comes late by a second is part of it.
        self.load.run(Duration::from_secs(1));
        let after = self.cluster.nodes.iter().map(Server::metrics);
        let moved = moved(&self.before, &after.collect::<Vec<_>>());
        let seen = self.watch.finish();
        let (report, silence) = self.load.finish_timed(self.from, self.mended.unwrap_or(self.from));
        let back = self.mended.map(|_| silence.back);
        Row {
            what: outage.what,
            expected: outage.expected,
            report,
            other: self.other,
            longest: silence.longest,
            back,
            seen,
            moved,
        }
    }
}
