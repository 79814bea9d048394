//! This node among the others.

use super::{
    bus::{BusEvent, Calls},
    env::Env,
};

/// What this hub knows of the other nodes, and of its bus as a whole.
#[derive(Debug, Default)]
pub(super) struct Nodes {}

impl Nodes {
    /// Something that the bus has told, of whatever kind.
    pub(super) fn hear(&mut self, _env: &mut Env, _calls: &mut Calls, _event: &BusEvent) {}
}
