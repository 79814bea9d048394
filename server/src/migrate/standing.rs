//! What lies in Redis: layout, nodes, keys.

use std::{collections::BTreeMap, sync::Arc};

use mahavishnu_core::hub::NodeInfo;
use mahavishnu_driver::links::{
    LinkConfig, Reply,
    redis::{
        LAYOUT, VERSION_MIN,
        names::{KeyKind, Names},
    },
};

use super::client::Client;
use crate::{
    exit::{Exit, Failure},
    out::one_line,
};

/// Redis and what is ours in it.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) names: Names,
}

/// A node that holds a lease.
pub(super) struct Live {
    /// Of its present life: 16 hexadecimal digits.
    pub(super) id: String,
    pub(super) info: NodeInfo,
}

impl Place {
    pub(super) fn open(config: &Arc<LinkConfig>) -> Result<Self, Failure> {
        let client = Client::open(config)?;
        Ok(Self { client, names: Names::new(&config.prefix, config.db) })
    }

    /// The layout that was begun there.
    pub(super) fn layout(&mut self) -> Result<Option<String>, Failure> {
        self.layout_field("version")
    }

    /// What stands in a field of the layout.
    pub(super) fn layout_field(&mut self, field: &str) -> Result<Option<String>, Failure> {
        let key = self.names.layout();
        let reply = self.client.ask(&[b"HGET", key.as_bytes(), field.as_bytes()])?;
        Ok(reply.text().map(one_line))
    }

    /// Why no node of this program can use this Redis, whatever lies in it.
    pub(super) fn unfit(&self) -> Option<String> {
        let (version, mode, role) =
            (self.client.says("version"), self.client.says("mode"), self.client.says("role"));
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < VERSION_MIN) {
            let version = one_line(version);
            return Some(format!("version {version}: {VERSION_MIN}.0 or later is needed"));
        }
        if mode != "standalone" {
            return Some(format!("mode {}: only standalone servers are supported", one_line(mode)));
        }
        (role != "master").then(|| format!("a {}: nodes need its primary", one_line(role)))
    }

    /// Nodes that hold a lease by Redis' clock, by their names.
    pub(super) fn live(&mut self) -> Result<Vec<Live>, Failure> {
        let time = self.client.ask(&[b"TIME"])?;
        let number = |reply: &Reply| reply.text().and_then(|text| text.parse::<u64>().ok());
        let [seconds, micros] = time.items() else { return Err(self.client.odd()) };
        let (Some(seconds), Some(micros)) = (number(seconds), number(micros)) else {
            return Err(self.client.odd());
        };
        let after = format!("({}", seconds * 1_000 + micros / 1_000);
        let leases = self.names.leases();
        let range: [&[u8]; 7] = [
            b"ZRANGEBYSCORE",
            leases.as_bytes(),
            after.as_bytes(),
            b"+inf",
            b"LIMIT",
            b"0",
            NODES_MAX,
        ];
        let there = self.client.ask(&range)?;
        let key = self.names.nodes();
        let mut nodes = Vec::new();
        for id in there.items().iter().filter_map(Reply::text) {
            let reply = self.client.ask(&[b"HGET", key.as_bytes(), id.as_bytes()])?;
            let info = NodeInfo::parse(reply.text().unwrap_or_default().as_bytes());
            nodes.push(Live { id: one_line(id), info });
        }
        nodes.sort_by(|a, b| (&a.info.name, &a.id).cmp(&(&b.info.name, &b.id)));
        Ok(nodes)
    }

    /// How many keys of each kind there are. While Redis makes its table of keys larger or smaller it may tell some twice.
    pub(super) fn count(&mut self) -> Result<Counts, Failure> {
        let mut counts = Counts::default();
        self.scan(|_, keys| {
            keys.iter().for_each(|(kind, _)| counts.add(*kind, 1));
            Ok(())
        })?;
        Ok(counts)
    }

    /// Unlinks all keys, the layout last: what is broken off is done by doing it again.
    pub(super) fn unlink(&mut self) -> Result<Counts, Failure> {
        let mut counts = Counts::default();
        self.scan(|client, keys| {
            let mut by_kind = BTreeMap::<KeyKind, Vec<&[u8]>>::new();
            for (kind, key) in keys.iter().filter(|(kind, _)| *kind != KeyKind::Layout) {
                by_kind.entry(*kind).or_default().push(key);
            }
            for (kind, keys) in by_kind {
                let reply = client.ask(&[&[&b"UNLINK"[..]], &*keys].concat())?;
                counts.add(kind, unlinked(client, &reply)?);
            }
            Ok(())
        })?;
        let layout = self.names.layout();
        let reply = self.client.ask(&[b"UNLINK", layout.as_bytes()])?;
        counts.add(KeyKind::Layout, unlinked(&self.client, &reply)?);
        Ok(counts)
    }

    /// Goes through all of our keys, some of them at a time.
    fn scan(
        &mut self,
        mut each: impl FnMut(&mut Client, &[(KeyKind, Vec<u8>)]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let pattern = self.names.pattern();
        let mut cursor = "0".to_owned();
        loop {
            let step: [&[u8]; 6] =
                [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_KEYS];
            let reply = self.client.ask(&step)?;
            let [next, keys] = reply.items() else { return Err(self.client.odd()) };
            let keys: Vec<_> = keys.items().iter().filter_map(|key| self.ours(key)).collect();
            if !keys.is_empty() {
                each(&mut self.client, &keys)?;
            }
            cursor = next.text().ok_or_else(|| self.client.odd())?.to_owned();
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    fn ours(&self, key: &Reply) -> Option<(KeyKind, Vec<u8>)> {
        let Reply::Text(key) = key else { return None };
        Some((self.names.kind(key)?, key.to_vec()))
    }
}

fn unlinked(client: &Client, reply: &Reply) -> Result<u64, Failure> {
    reply.number().and_then(|count| u64::try_from(count).ok()).ok_or_else(|| client.odd())
}

/// Numbers of keys by their kinds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<KeyKind, u64>);

impl Counts {
    fn add(&mut self, kind: KeyKind, count: u64) {
        if count > 0 {
            *self.0.entry(kind).or_default() += count;
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: u64 = self.0.values().sum();
        write!(f, "{all}")?;
        for (place, (kind, count)) in self.0.iter().enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            write!(f, "{before}{count} {}", word(*kind))?;
        }
        Ok(())
    }
}

fn word(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Layout => "layout",
        KeyKind::Nodes => "nodes",
        KeyKind::Control => "control",
        KeyKind::Probe => "probe",
        KeyKind::Owner => "owner",
        KeyKind::Meta => "meta",
        KeyKind::Log => "log",
        KeyKind::Document => "document",
        KeyKind::Once => "idempotency",
        KeyKind::User => "user",
        KeyKind::Presence => "presence",
        KeyKind::Session => "session",
        KeyKind::Other => "other",
    }
}

/// Why a program cannot use this layout.
pub(super) fn foreign(layout: &str) -> Failure {
    let text = format!("layout {layout} lies there, and this program knows {LAYOUT}");
    Failure::new(Exit::Configuration, text)
}

/// More nodes are not told: Redis has room for that many links.
const NODES_MAX: &[u8] = b"10000";
/// So many keys Redis looks at in one step.
const SCAN_KEYS: &[u8] = b"1000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_by_kind() {
        let mut counts = Counts::default();
        assert_eq!(counts.to_string(), "0");
        counts.add(KeyKind::Log, 2);
        counts.add(KeyKind::Meta, 3);
        counts.add(KeyKind::User, 0);
        counts.add(KeyKind::Log, 1);
        assert_eq!(counts.to_string(), "6: 3 meta, 3 log");
    }
}
