//! What a link counts, and what Redis says of itself.

use std::time::Duration;

use crate::redis::scripts::Script;

/// What a link has counted since it was made. It only grows, but for what is said to be a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Times that everything was there.
    pub sessions: u64,
    /// Connections and attempts that ended, by [`Outage`] in its order.
    pub outages: [u64; Outage::COUNT],
    /// Errors that Redis answered with, by [`ErrorClass`] in its order.
    pub errors: [u64; ErrorClass::COUNT],
    /// Commands sent, by [`Sent`] in its order.
    pub commands: [u64; Sent::COUNT],
    /// Live messages that came.
    pub live: u64,
    /// Probes that were not back in time.
    pub probes_lost: u64,
    /// What was to be told to all nodes and was not, because too much was under way.
    pub dropped: u64,
    /// Live messages and entries that nobody of this version would write.
    pub poison: u64,
    /// Bytes that went to the socket.
    pub sent_bytes: u64,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Level: bytes of commands that wait to be sent or answered.
    pub command_bytes: usize,
    /// Level: channels that are followed.
    pub followed: usize,
}

impl LinkStats {
    pub(crate) fn count_command(&mut self, sent: Sent) {
        if let Some(count) = self.commands.get_mut(sent.index()) {
            *count += 1;
        }
    }
}

/// What was sent to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A script was run.
    Script(Script),
    /// Something is followed, or no more.
    Subscribe,
    /// A script that Redis had forgotten.
    Load,
    /// What makes a connection one that can be used.
    Connect,
}

impl Sent {
    /// How many there are.
    pub const COUNT: usize = Script::COUNT + 3;

    /// All, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [Self::Subscribe, Self::Load, Self::Connect];
        Script::ALL.into_iter().map(Self::Script).chain(others)
    }

    fn index(self) -> usize {
        match self {
            Self::Script(script) => script as usize,
            Self::Subscribe => Script::COUNT,
            Self::Load => Script::COUNT + 1,
            Self::Connect => Script::COUNT + 2,
        }
    }

    /// As a label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Script(script) => script.name(),
            Self::Subscribe => "subscribe",
            Self::Load => "load",
            Self::Connect => "connect",
        }
    }
}

/// Why a connection, or the attempt to make one, came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The name was not resolved.
    Resolve,
    /// No connection was made.
    Connect,
    /// TLS was not agreed on, or broke.
    Tls,
    /// Redis closed it.
    Eof,
    /// The socket failed.
    Io,
    /// Something was owed, and nothing came.
    Timeout,
    /// Probes were taken and did not come back.
    Probe,
    /// It is not the primary, or no longer.
    Elsewhere,
    /// Redis refuses: password, rights, number of clients, version, layout.
    Refused,
    /// Those were not bytes of Redis.
    Broken,
    /// Too much that Redis should not have said.
    Poison,
    /// The configuration changed.
    Reload,
}

impl Outage {
    /// How many there are.
    pub const COUNT: usize = 12;

    /// All, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Eof,
        Self::Io,
        Self::Timeout,
        Self::Probe,
        Self::Elsewhere,
        Self::Refused,
        Self::Broken,
        Self::Poison,
        Self::Reload,
    ];

    /// As a label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Eof => "eof",
            Self::Io => "io",
            Self::Timeout => "timeout",
            Self::Probe => "probe",
            Self::Elsewhere => "elsewhere",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Poison => "poison",
            Self::Reload => "reload",
        }
    }
}

/// What an error of Redis means, by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// `NOSCRIPT`: scripts are loaded again.
    Script,
    /// `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN`, `BUSY`: it is asked again a little later.
    Wait,
    /// `READONLY`, `UNBLOCKED`, `MOVED`, `ASK`: another one is the primary.
    Elsewhere,
    /// `OOM`, `MISCONF`, `NOREPLICAS`: nothing is written at present.
    Full,
    /// `NOAUTH`, `WRONGPASS`, `NOPERM`, `DENIED` and the like: it does not pass by itself.
    Refused,
    /// Anything else: this command failed.
    Poison,
}

impl ErrorClass {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// All, in order.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Script, Self::Wait, Self::Elsewhere, Self::Full, Self::Refused, Self::Poison];

    /// As a label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Wait => "wait",
            Self::Elsewhere => "elsewhere",
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Poison => "poison",
        }
    }
}

/// What Redis said of itself when it was last connected to: for warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisInfo {
    /// `redis` or `valkey`, as it calls itself.
    pub server: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// `maxmemory-policy`: anything but `noeviction` may take away positions and history. `None`: it is not told.
    pub eviction: Option<Box<str>>,
    /// `client-output-buffer-limit` of pub/sub: bytes at once, bytes for some time, that time. A link that is owed more is
    /// cut off. `None`: it is not told.
    pub output_buffer: Option<(u64, u64, Duration)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_list_is_in_its_order_and_has_a_label_of_its_own() {
        let mut labels: Vec<_> = Sent::all().map(Sent::label).collect();
        assert!(Sent::all().map(Sent::index).eq(0..Sent::COUNT));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Sent::COUNT);
        assert!(Outage::ALL.iter().map(|it| *it as usize).eq(0..Outage::COUNT));
        assert!(ErrorClass::ALL.iter().map(|it| *it as usize).eq(0..ErrorClass::COUNT));
    }
}
