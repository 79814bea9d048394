//! What can break between nodes and their Redis, done to three nodes under load, and what came of it.
//!
//! `scripts/outages` runs all of it and prints the table of `docs/cluster.md`; the short ones are tests too.

mod network;
mod nodes;
mod redis;
mod rolling;
mod row;
mod site;
mod watch;

pub use self::{
    rolling::{Balancer, Drain, Rolled, roll},
    row::Row,
    site::{Scale, Site},
    watch::Seen,
};
use crate::cluster::Setup;

/// Something that breaks.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, in words.
    pub what: &'static str,
    /// What has to come of it.
    pub expected: Expected,
    prepare: fn(&mut Setup<'_>),
    happen: fn(&mut Site),
}

/// What has to come of an outage. In all of them nothing is lost without a word, doubled, out of order, or heard though it
/// was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nobody is told of a loss either, and in the end all is published.
    Nothing,
    /// Who misses something is told.
    Told,
    /// The same, and until then there may be two events under one number: there were two Redises.
    Parted,
}

impl Outage {
    /// All, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        [redis::OUTAGES, network::OUTAGES, nodes::OUTAGES].into_iter().flatten()
    }

    /// The one of this name. Panics if there is none.
    pub fn named(name: &str) -> &'static Self {
        Self::all().find(|outage| outage.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// What has to be installed for it and is not.
    pub fn missing(&self) -> Option<String> {
        let mut setup = Setup::default();
        (self.prepare)(&mut setup);
        let library = setup.variables.iter().find(|(name, _)| *name == "LD_PRELOAD")?.1;
        (!std::path::Path::new(library).exists()).then(|| library.to_owned())
    }

    /// Does it to three nodes under load, and says what came of it.
    pub fn run(&self, scale: Scale, settings: &[(&str, &str)]) -> Row {
        let mut setup = Setup { size: 3, settings: scale.settings(), ..Setup::default() };
        setup.settings.extend(settings);
        (self.prepare)(&mut setup);
        let mut site = Site::start(&setup, scale);
        (self.happen)(&mut site);
        site.finish(self)
    }
}

/// Nodes, their Redis and the ways there as they always are.
fn as_usual(_: &mut Setup<'_>) {}
