//! Who else is there: the nodes that have a lease.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::info::NodeInfo;
use crate::{
    hub::bus::{Node, NodeId},
    time::Instant,
};

/// A node that has a lease, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Member {
    pub(in crate::hub) id: NodeId,
    pub(in crate::hub) info: Arc<NodeInfo>,
}

/// The nodes that have a lease, as a hub knows them.
#[derive(Debug)]
pub(in crate::hub) struct Members {
    /// By their names.
    all: Arc<[Member]>,
    /// Their names alone.
    ids: Arc<[NodeId]>,
}

impl Default for Members {
    fn default() -> Self {
        Self { all: Arc::new([]), ids: Arc::new([]) }
    }
}

impl Members {
    pub(in crate::hub) fn all(&self) -> &Arc<[Member]> {
        &self.all
    }

    pub(in crate::hub) fn ids(&self) -> &Arc<[NodeId]> {
        &self.ids
    }

    pub(in crate::hub) fn len(&self) -> usize {
        self.all.len()
    }

    pub(in crate::hub) fn has(&self, node: NodeId) -> bool {
        self.ids.binary_search(&node).is_ok()
    }

    /// What a node calls itself.
    pub(in crate::hub) fn name_of(&self, node: NodeId) -> Option<&str> {
        let place = self.ids.binary_search(&node).ok()?;
        self.all.get(place).map(|member| &*member.info.name)
    }

    /// These are there from now on. Those that were and are not any more.
    pub(in crate::hub) fn replace(&mut self, all: Arc<[Member]>) -> Vec<NodeId> {
        if *all != *self.all {
            self.all = all;
        }
        let same = self.all.iter().map(|member| member.id).eq(self.ids.iter().copied());
        if same {
            return Vec::new();
        }
        let ids: Arc<[NodeId]> = self.all.iter().map(|member| member.id).collect();
        let before = std::mem::replace(&mut self.ids, ids);
        before.iter().copied().filter(|id| !self.has(*id)).collect()
    }

    /// Connections on all nodes but this one, by what they said last.
    pub(in crate::hub) fn connections_elsewhere(&self, own: NodeId) -> u64 {
        let others = self.all.iter().filter(|member| member.id != own);
        others.map(|member| member.info.connections).fold(0, u64::saturating_add)
    }
}

/// Reads whom the bus names, in the order of their names, `max` at most.
pub(in crate::hub) fn read(nodes: &[Node], max: usize) -> Arc<[Member]> {
    let named = nodes.iter().map(|node| (node.id, &node.info)).collect::<BTreeMap<_, _>>();
    let member =
        |(id, info): (NodeId, &bytes::Bytes)| Member { id, info: Arc::new(NodeInfo::parse(info)) };
    named.into_iter().take(max).map(member).collect()
}

/// When each of the others was heard of last by what nodes tell all others. Who has a lease and is not heard has a bus that
/// takes what it says and does not deliver it, or does not deliver to this node.
#[derive(Debug, Default)]
pub(in crate::hub) struct Hearing(BTreeMap<NodeId, Instant>);

impl Hearing {
    /// These are there. Of one that is new it counts as heard.
    pub(in crate::hub) fn expect(&mut self, members: &Members, own: NodeId, now: Instant) {
        self.0.retain(|id, _| *id != own && members.has(*id));
        for id in members.ids().iter().filter(|id| **id != own) {
            self.0.entry(*id).or_insert(now);
        }
    }

    /// What was said until now could not be heard: all count as heard.
    pub(in crate::hub) fn begin_anew(&mut self, now: Instant) {
        self.0.values_mut().for_each(|heard| *heard = now);
    }

    /// One has said that it is there.
    pub(in crate::hub) fn hear(&mut self, node: NodeId, now: Instant) {
        if let Some(heard) = self.0.get_mut(&node) {
            *heard = now;
        }
    }

    /// So many have not been heard for this time.
    pub(in crate::hub) fn silent(&self, now: Instant, time: Duration) -> usize {
        let silent = |heard: &&Instant| now.saturating_duration_since(**heard) > time;
        self.0.values().filter(silent).count()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(id: u64, connections: u64) -> Node {
        let info = NodeInfo { connections, ..NodeInfo::default() };
        Node { id: NodeId(id), info: info.to_json().into() }
    }

    #[test]
    fn who_is_named_no_more_has_gone() {
        let mut members = Members::default();
        assert!(members.replace(read(&[node(3, 1), node(1, 2)], 9)).is_empty());
        assert_eq!(**members.ids(), [NodeId(1), NodeId(3)]);
        assert_eq!(members.connections_elsewhere(NodeId(1)), 1);

        let gone = members.replace(read(&[node(3, 5), node(4, 5), node(4, 6)], 9));

        assert_eq!((gone, members.len()), (vec![NodeId(1)], 2));
        assert!(members.has(NodeId(4)) && !members.has(NodeId(1)));
    }

    #[test]
    fn so_many_are_known() {
        let nodes: Vec<_> = (0..10).map(|id| node(id, 0)).collect();
        assert_eq!(read(&nodes, 4).len(), 4);
    }

    #[test]
    fn who_has_a_lease_and_is_not_heard_is_silent() {
        let (mut members, mut hearing, start) =
            (Members::default(), Hearing::default(), Instant::now());
        members.replace(read(&[node(1, 0), node(2, 0)], 9));
        hearing.expect(&members, NodeId(1), start);
        assert_eq!(hearing.silent(start + 10 * SECOND, 10 * SECOND), 0);
        assert_eq!(hearing.silent(start + 11 * SECOND, 10 * SECOND), 1);

        hearing.hear(NodeId(2), start + 5 * SECOND);
        hearing.hear(NodeId(9), start + 5 * SECOND);
        hearing.expect(&members, NodeId(1), start + 6 * SECOND);

        assert_eq!(hearing.silent(start + 11 * SECOND, 10 * SECOND), 0);
        hearing.begin_anew(start + 40 * SECOND);
        assert_eq!(hearing.silent(start + 50 * SECOND, 10 * SECOND), 0);
        assert_eq!(hearing.silent(start + 51 * SECOND, 10 * SECOND), 1);
        members.replace(read(&[node(1, 0)], 9));
        hearing.expect(&members, NodeId(1), start + 60 * SECOND);
        assert_eq!(hearing.silent(start + 90 * SECOND, 10 * SECOND), 0);
    }
}
