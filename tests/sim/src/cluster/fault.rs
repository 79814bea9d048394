//! What goes wrong.

use std::time::Duration;

use mahavishnu_redis_model::{Disk, OutputLimit, Redis, Window};

use super::world::{Event, World};
use crate::clock::{MILLI, Nanos, SECOND};

/// Something that goes wrong with Redis, a link or a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Redis starts again with all data.
    RestartKept,
    /// Redis starts again without any.
    RestartEmpty,
    /// Redis starts again with what it had a while ago.
    RestartOlder,
    /// A replica that lags takes the primary's place.
    Failover,
    /// A replica takes its place, and the primary goes on for those who are connected to it.
    Split,
    /// Everything is deleted.
    FlushAll,
    /// One key is deleted.
    Evict,
    /// Scripts are forgotten.
    ScriptFlush,
    /// Redis is a replica for a while.
    ReadOnly,
    /// Redis loads its data for a while.
    Loading,
    /// Redis is over its memory for a while.
    Full,
    /// Redis cannot write its disk for a while.
    DiskError,
    /// Redis stands still, and does later what it was told.
    Pause,
    /// Redis cuts who reads slowly.
    OutputLimit,
    /// Another password is wanted for a while.
    Password,
    /// Redis' clock is set.
    Clock,
    /// All links are slow for a while.
    Slow,
    /// The connection of a link is cut.
    Cut,
    /// Nothing comes through the connections of a process any more, and none can be made for a while.
    Dark,
    /// What a link has sent arrives much later, whatever becomes of its connection.
    Stuck,
    /// A process ends, and another one is started.
    Kill,
    /// A process stands still.
    Freeze,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::RestartKept,
        Self::RestartEmpty,
        Self::RestartOlder,
        Self::Failover,
        Self::Split,
        Self::FlushAll,
        Self::Evict,
        Self::ScriptFlush,
        Self::ReadOnly,
        Self::Loading,
        Self::Full,
        Self::DiskError,
        Self::Pause,
        Self::OutputLimit,
        Self::Password,
        Self::Clock,
        Self::Slow,
        Self::Cut,
        Self::Dark,
        Self::Stuck,
        Self::Kill,
        Self::Freeze,
    ];

    /// As an option.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RestartKept => "restart_kept",
            Self::RestartEmpty => "restart_empty",
            Self::RestartOlder => "restart_older",
            Self::Failover => "failover",
            Self::Split => "split",
            Self::FlushAll => "flush_all",
            Self::Evict => "evict",
            Self::ScriptFlush => "script_flush",
            Self::ReadOnly => "read_only",
            Self::Loading => "loading",
            Self::Full => "full",
            Self::DiskError => "disk_error",
            Self::Pause => "pause",
            Self::OutputLimit => "output_limit",
            Self::Password => "password",
            Self::Clock => "clock",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::Dark => "dark",
            Self::Stuck => "stuck",
            Self::Kill => "kill",
            Self::Freeze => "freeze",
        }
    }

    /// How often in a world, at most.
    pub(super) fn most(self) -> u64 {
        match self {
            Self::Cut | Self::Evict => 10,
            Self::Failover | Self::Split => 1,
            _ => 3,
        }
    }

    /// What Redis had acknowledged may be gone.
    pub(super) fn loses_data(self) -> bool {
        matches!(
            self,
            Self::RestartEmpty
                | Self::RestartOlder
                | Self::Failover
                | Self::Split
                | Self::FlushAll
                | Self::Evict
        )
    }
}

impl World {
    /// It happens.
    pub(super) fn strike(&mut self, fault: Fault) {
        if self.healing {
            return;
        }
        self.struck[fault as usize] += 1;
        self.story.say(self.clock.nanos, &format!("FAULT {fault:?}"));
        let time = self.faulting.below(self.options.fault_ms * MILLI) + MILLI;
        let node = self.faulting.below(self.nodes.len() as u64) as usize;
        match fault {
            Fault::RestartKept => self.restart_redis(Disk::Kept, time),
            Fault::RestartEmpty => self.restart_redis(Disk::Empty, time),
            Fault::RestartOlder => {
                let older = std::mem::take(&mut self.older);
                self.restart_redis(older.map_or(Disk::Empty, Disk::Older), time);
            }
            Fault::Failover | Fault::Split => {
                let (now, to) = (self.time(), 1 - self.redis.primary());
                if self.failed_over {
                    return;
                }
                self.failed_over = true;
                match fault {
                    Fault::Failover => self.redis.fail_over(now, to),
                    _ => self.redis.split(now, to),
                }
                self.undo_after(time, fault);
            }
            Fault::FlushAll => self.primary().flush_all(),
            Fault::Evict => {
                let keys: Vec<Vec<u8>> = self.primary().keys(0).map(<[u8]>::to_vec).collect();
                if !keys.is_empty() {
                    let key = &keys[self.faulting.below(keys.len() as u64) as usize];
                    self.primary().evict(0, key);
                    self.oracle.evict(key);
                }
            }
            Fault::ScriptFlush => self.primary().flush_scripts(),
            Fault::ReadOnly => {
                self.primary().set_replica(true);
                self.undo_after(time, fault);
            }
            Fault::Loading => self.open_window(Window::Loading, time, fault),
            Fault::Full => self.open_window(Window::Full, time, fault),
            Fault::DiskError => self.open_window(Window::DiskError, time, fault),
            Fault::Pause => {
                self.primary().pause();
                self.undo_after(time, fault);
            }
            Fault::OutputLimit => {
                let limit = OutputLimit { hard: 2_000, soft: 0, time: Duration::ZERO };
                self.each_server(|server| server.set_output_limit(limit));
                self.undo_after(time, fault);
            }
            Fault::Password => {
                self.each_server(|server| {
                    server.set_password(Some("another"));
                    server.cut_all();
                });
                self.undo_after(time, fault);
            }
            Fault::Clock => {
                let by = self.faulting.range(0, 40_000) as i64 - 20_000;
                self.each_server(|server| server.jump_clock(by));
            }
            Fault::Slow => {
                self.slow_until = self.clock.nanos + time;
            }
            Fault::Cut => {
                let shard = self.faulting.below(self.options.shards) as usize;
                self.cut_link(node, shard);
            }
            Fault::Dark => self.darken(node, self.clock.nanos + time),
            Fault::Stuck => {
                let shard = self.faulting.below(self.options.shards) as usize;
                let late = self.clock.nanos + time + 6 * SECOND;
                let wire = &mut self.nodes[node].hubs[shard].wire;
                wire.up_at = wire.up_at.max(late);
            }
            Fault::Kill => self.kill(node, time),
            Fault::Freeze => {
                let process = &mut self.nodes[node];
                process.frozen_until = process.frozen_until.max(self.clock.nanos + 2 * time);
                self.agenda.plan(process.frozen_until, Event::Thaw(node));
            }
        }
    }

    fn open_window(&mut self, window: Window, time: Nanos, fault: Fault) {
        self.primary().set_window(window, true);
        self.undo_after(time, fault);
    }

    fn undo_after(&mut self, time: Nanos, fault: Fault) {
        self.agenda.plan(self.clock.nanos + time, Event::Undo(fault));
    }

    /// It is over.
    pub(super) fn undo(&mut self, fault: Fault) {
        let now = self.time();
        match fault {
            Fault::RestartKept | Fault::RestartEmpty | Fault::RestartOlder => {
                if let Some(disk) = self.disk.take() {
                    self.primary().start(disk);
                }
            }
            Fault::Failover | Fault::Split => self.redis.join(now),
            Fault::ReadOnly => self.primary().set_replica(false),
            Fault::Loading => self.each_server(|it| it.set_window(Window::Loading, false)),
            Fault::Full => self.each_server(|it| it.set_window(Window::Full, false)),
            Fault::DiskError => self.each_server(|it| it.set_window(Window::DiskError, false)),
            Fault::Pause => self.each_server(|it| it.resume(now)),
            Fault::OutputLimit => {
                self.each_server(|it| it.set_output_limit(OutputLimit::default()));
            }
            Fault::Password => self.each_server(|it| it.set_password(Some(PASSWORD))),
            _ => {}
        }
    }

    /// Everything that lasts is over.
    pub(super) fn end_faults(&mut self) {
        for fault in Fault::ALL {
            let again = matches!(fault, Fault::Failover | Fault::Split) && !self.failed_over;
            if !again {
                self.undo(fault);
            }
        }
        self.slow_until = 0;
        for node in 0..self.nodes.len() {
            self.nodes[node].dark_until = 0;
            self.nodes[node].frozen_until = 0;
            self.thaw(node);
        }
    }

    fn restart_redis(&mut self, disk: Disk, time: Nanos) {
        if self.disk.is_none() {
            self.primary().stop();
            self.disk = Some(disk);
            self.undo_after(time, Fault::RestartKept);
        }
    }

    fn primary(&mut self) -> &mut Redis {
        let primary = self.redis.primary();
        self.redis.server(primary)
    }

    pub(super) fn each_server(&mut self, mut change: impl FnMut(&mut Redis)) {
        (0..SERVERS).for_each(|number| change(self.redis.server(number)));
    }
}

/// What links know.
pub(super) const PASSWORD: &str = "the password of simulated worlds";
/// A primary and a replica.
pub(super) const SERVERS: usize = 2;
