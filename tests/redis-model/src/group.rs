//! A primary and its replicas.

use std::{collections::VecDeque, time::Duration};

use crate::{replication::Written, server::Redis, version::Version};

/// A primary, and replicas that hear of its writes later.
///
/// Servers are numbered; each is connected to by itself. Call [`pass`](Self::pass) after whatever was done to one.
#[derive(Debug)]
pub struct Group {
    servers: Vec<Redis>,
    primary: usize,
    lag: Duration,
    /// Replicas hear of the primary.
    linked: bool,
    /// On its way to the replicas, and when it arrives.
    under_way: VecDeque<(Duration, Written)>,
}

impl Group {
    /// A primary, server 0, and so many replicas that hear of each write after this time.
    pub fn new(version: Version, replicas: usize, lag: Duration) -> Self {
        let mut servers: Vec<Redis> = (0..=replicas).map(|_| Redis::new(version)).collect();
        for replica in &mut servers[1..] {
            replica.set_replica(true);
        }
        Self { servers, primary: 0, lag, linked: true, under_way: VecDeque::new() }
    }

    /// A server.
    pub fn server(&mut self, number: usize) -> &mut Redis {
        &mut self.servers[number]
    }

    /// The primary's number: where a name or a Sentinel would lead.
    pub fn primary(&self) -> usize {
        self.primary
    }

    /// Tells replicas what has arrived by now.
    pub fn pass(&mut self, now: Duration) {
        self.collect(now);
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, written)) = self.under_way.pop_front() else { break };
            for (number, server) in self.servers.iter_mut().enumerate() {
                if number != self.primary && server.is_replica() && server.is_running() {
                    server.apply(now, &written);
                }
            }
        }
    }

    /// When [`pass`](Self::pass) is due.
    pub fn due(&self) -> Option<Duration> {
        self.under_way.front().map(|(at, _)| *at)
    }

    fn collect(&mut self, now: Duration) {
        for (number, server) in self.servers.iter_mut().enumerate() {
            let written = server.take_written();
            if number == self.primary && self.linked {
                self.under_way.extend(written.into_iter().map(|it| (now + self.lag, it)));
            }
        }
    }

    /// From now on replicas hear of a write after this time.
    pub fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
    }

    /// Replicas hear nothing more of the primary until they are [linked](Self::link), and what was on its way is lost.
    pub fn unlink(&mut self, now: Duration) {
        self.pass(now);
        self.linked = false;
        self.under_way.clear();
    }

    /// Replicas get all that the primary has, and hear of it again.
    pub fn link(&mut self, now: Duration) {
        self.pass(now);
        self.under_way.clear();
        let data = self.servers[self.primary].data();
        for (number, server) in self.servers.iter_mut().enumerate() {
            if number != self.primary {
                server.set_data(data.clone());
                server.set_replica(true);
            }
        }
        self.linked = true;
    }

    /// The primary is dead, and this replica takes its place with what it has heard. What was on its way is lost.
    pub fn fail_over(&mut self, now: Duration, to: usize) {
        self.servers[self.primary].stop();
        self.split(now, to);
    }

    /// The same, but the old primary goes on for those who do not know better: two primaries, until they are
    /// [joined](Self::join).
    pub fn split(&mut self, now: Duration, to: usize) {
        self.unlink(now);
        self.primary = to;
        self.servers[to].set_replica(false);
    }

    /// All others become replicas of the primary: what they had besides is lost, and their connections are cut, as
    /// Sentinel does it. Those that were stopped start.
    pub fn join(&mut self, now: Duration) {
        for (number, server) in self.servers.iter_mut().enumerate() {
            if number == self.primary {
                continue;
            }
            if server.is_running() {
                server.cut_all();
            } else {
                server.start(crate::Disk::Empty);
            }
        }
        self.link(now);
    }
}
