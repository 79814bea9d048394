//! Reading further back than a home keeps: for those who ask for it, and until they are answered.

use std::time::Duration;

use super::{Following, Phase, Place};
use crate::{hub::env::Env, ws::Segment};

/// What is read of a channel from before its home's log.
#[derive(Debug)]
pub(in crate::hub) struct Reach {
    /// The lowest number that somebody wants.
    pub(in crate::hub) from: u64,
    /// From here on the home has them.
    pub(in crate::hub) until: u64,
    /// What has come: consecutive.
    pub(in crate::hub) parts: Vec<Part>,
    bytes: usize,
}

/// Some of the messages, as subscribers get them.
#[derive(Debug)]
pub(in crate::hub) struct Part {
    pub(in crate::hub) segment: Segment,
    pub(in crate::hub) first: u64,
    /// When the last of them was published.
    pub(in crate::hub) unix: Duration,
}

impl Part {
    pub(in crate::hub) fn next(&self) -> u64 {
        self.first + u64::from(self.segment.messages())
    }
}

impl Following {
    /// The channel is to be read from this number on, up to those that its home has.
    pub(in crate::hub) fn reach(&mut self, place: Place, from: u64, until: u64) {
        let Some(followed) = self.get_mut(place) else { return };
        match &mut followed.reach {
            // Too late for what is being read: whoever wants more asks again.
            Some(reach) if followed.phase != Phase::Queued => reach.until = reach.until.min(until),
            Some(reach) => reach.from = reach.from.min(from),
            None => followed.reach = Some(Reach { from, until, parts: Vec::new(), bytes: 0 }),
        }
    }

    /// Some of it has come. What does not follow what came before takes its place; over the limit all is given up.
    pub(in crate::hub) fn collect(&mut self, env: &Env, place: Place, parts: Vec<Part>) {
        let max = env.config.limits.bus.bus_holes_bytes_max;
        for part in parts {
            let bytes = part.segment.len() + size_of::<Part>();
            let reached = self.reached_bytes;
            let Some(reach) = self.get_mut(place).and_then(|one| one.reach.as_mut()) else {
                return;
            };
            let mut freed = 0;
            if reach.parts.last().is_some_and(|last| last.next() != part.first) {
                freed = std::mem::take(&mut reach.bytes);
                reach.parts.clear();
            }
            if reached - freed + bytes > max {
                let all = freed + std::mem::take(&mut reach.bytes);
                reach.parts = Vec::new();
                // Nothing that comes joins on to this any more.
                reach.until = 0;
                self.reached_bytes -= all;
                return;
            }
            reach.bytes += bytes;
            reach.parts.push(part);
            self.reached_bytes = reached - freed + bytes;
        }
    }

    /// It is over, or of no more use.
    pub(in crate::hub) fn take_reach(&mut self, place: Place) -> Option<Reach> {
        let reach = self.get_mut(place)?.reach.take()?;
        self.reached_bytes -= reach.bytes;
        Some(reach)
    }
}

#[cfg(debug_assertions)]
impl Reach {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
