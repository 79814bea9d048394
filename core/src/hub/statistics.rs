//! Numbers about the server for those who subscribe to [`STATISTICS`]: the application is asked for them once a second while
//! somebody does, and never otherwise.

use std::time::Duration;

use bytes::Bytes;

use super::{Hub, output::Output, questions::is_object, types::Backlog};
use crate::{config::STATISTICS, record, time::Instant};

/// When they are due, at the channel's home.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    /// `None`: nobody subscribes.
    next: Option<Instant>,
    /// The application was asked and has not answered.
    asked: bool,
}

impl Statistics {
    /// Somebody subscribes. The first one need not wait.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next.get_or_insert(now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The application has answered, or failed.
    pub(super) fn answered(&mut self) {
        self.asked = false;
    }
}

impl Hub {
    /// Asks the application, if it is time to. One that takes its time is not asked again meanwhile.
    #[inline]
    pub(super) fn ask_for_statistics(&mut self) {
        let now = self.env.now.mono;
        if self.statistics.next.is_some_and(|at| at <= now) {
            self.ask_for_due_statistics();
        }
    }

    #[cold]
    fn ask_for_due_statistics(&mut self) {
        let wanted = self.env.config.statistics && self.homes.subscribers(STATISTICS) > 0;
        self.statistics.next = wanted.then(|| self.env.now.mono + INTERVAL);
        if wanted && !self.statistics.asked && self.questions.backlog() == Backlog::None {
            self.statistics.asked = true;
            self.outputs.push_back(Output::Statistics);
        }
    }

    /// Tells the subscribers of this process, whatever a bus does: each node has its own numbers. Nothing is kept of them, and
    /// who does not keep up with the last ones need not have the next ones.
    pub(super) fn tell_statistics(&mut self, data: &Bytes) {
        self.statistics.answered();
        let Some(data) = std::str::from_utf8(data).ok().filter(|data| is_object(data)) else {
            return;
        };
        if !self.env.config.statistics || self.peers.full() > 0 {
            return;
        }
        let unix_micros = u64::try_from(self.env.now.unix.as_micros()).unwrap_or(u64::MAX);
        let id = self.env.entropy.uuid();
        let message = record::Message { id, unix_micros, event: EVENT, data, traceparent: None };
        self.seal_channel(STATISTICS);
        if let Some(sealed) = self.homes.announce(&mut self.env, STATISTICS, &[message]) {
            self.peers.charge_all(&self.env, sealed.remote, sealed.plain.segment.len());
            self.send_out(sealed);
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
const EVENT: &str = "stats";
