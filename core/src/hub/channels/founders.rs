//! Whose channels are whose: while there is room anybody may found any number, and one service with one token may have
//! nearly all. The last ones are for those who have few.

use std::time::Duration;

use crate::{
    entropy::{KeyedMap, KeyedState},
    hub::visitors::Who,
    limits,
    time::Instant,
};

/// Users, and addresses of connections without one, by the channels that they were the first here to subscribe to. A channel
/// stays with its founder as long as it has subscribers here.
#[derive(Debug)]
pub(in crate::hub) struct Founders {
    /// No entry is zero, so there are at most as many as channels.
    held: KeyedMap<Who, u32>,
    /// When it was last said who was refused.
    told: Option<Instant>,
}

impl Founders {
    pub(in crate::hub) fn new(keys: KeyedState) -> Self {
        Self { held: KeyedMap::with_hasher(keys), told: None }
    }

    /// Whether one more of `total` channels may be founded.
    pub(in crate::hub) fn may(
        &self,
        limits: &limits::Channels,
        shards: u16,
        total: usize,
        who: &Who,
    ) -> bool {
        let reserved = limits.channels_reserved.min(limits.channels_max / 10);
        let share = limits.channels_share_max.div_ceil(usize::from(shards.max(1)));
        total < limits.channels_max - reserved || (self.held(who) as usize) < share
    }

    pub(in crate::hub) fn held(&self, who: &Who) -> u32 {
        self.held.get(who).copied().unwrap_or_default()
    }

    pub(in crate::hub) fn add(&mut self, who: Who) {
        *self.held.entry(who).or_default() += 1;
    }

    pub(in crate::hub) fn leave(&mut self, who: &Who) {
        if let Some(held) = self.held.get_mut(who) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(who);
            }
        }
    }

    /// Whether it is said now who was refused: once a minute.
    pub(in crate::hub) fn tells(&mut self, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < TOLD_EVERY;
        let tells = self.told.as_ref().is_none_or(|at| !recent(at));
        if tells {
            self.told = Some(now);
        }
        tells
    }

    /// Every count equals what it counts.
    #[cfg(debug_assertions)]
    pub(in crate::hub) fn check<'w>(&self, founders: impl Iterator<Item = &'w Who>) {
        let mut counts = Self::new(*self.held.hasher());
        founders.for_each(|who| counts.add(who.clone()));
        assert_eq!(self.held, counts.held, "channels by founder");
    }
}

/// Who is refused can bring that about as often as he likes.
const TOLD_EVERY: Duration = Duration::from_secs(60);
