//! Who waits until a channel is known here: subscriptions and questions.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Following, Place};
use crate::{
    hub::{
        env::Env, homes::Wish, looks::Look, peers::Joiner, presence::Attendance, types::ShardId,
    },
    time::Instant,
};

/// What came from a hub and waits.
#[derive(Debug)]
pub(in crate::hub) enum Parked {
    Join {
        from: ShardId,
        channel: Arc<str>,
        member: Joiner,
        wish: Option<Box<Wish>>,
        presence: Option<Box<Attendance>>,
    },
    Look {
        from: ShardId,
        look: Box<Look>,
    },
}

impl Parked {
    pub(in crate::hub) fn channel(&self) -> &str {
        match self {
            Self::Join { channel, .. } => channel,
            Self::Look { look, .. } => &look.channel,
        }
    }

    pub(in crate::hub) fn weight(&self) -> usize {
        let own = match self {
            Self::Join { wish, presence, .. } => {
                let presence = presence.as_ref().map_or(0, |presence| presence.weight());
                presence + wish.as_ref().map_or(0, |_| size_of::<Wish>())
            }
            Self::Look { look, .. } => {
                size_of::<Look>() + look.channel.len() + look.looker.weight()
            }
        };
        size_of::<(Instant, Self)>() + own
    }
}

/// Those who wait for one channel, in the order in which they came.
#[derive(Debug, Default)]
pub(in crate::hub) struct Waits {
    queue: VecDeque<(Instant, Parked)>,
    bytes: usize,
    /// It is in the line of those that wait.
    in_line: bool,
}

impl Waits {
    #[cfg(debug_assertions)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Following {
    /// Lets somebody wait. Given back if there is no room.
    pub(in crate::hub) fn park(
        &mut self,
        env: &Env,
        place: Place,
        parked: Parked,
    ) -> Result<(), Parked> {
        let bytes = parked.weight();
        let full = self.parked_bytes + bytes > env.config.limits.bus.bus_waiting_bytes_max;
        let until =
            env.now.mono + env.config.bus.as_ref().map_or(Duration::ZERO, |bus| bus.queue_time);
        match self.get_mut(place) {
            Some(followed) if !full => {
                followed.waits.queue.push_back((until, parked));
                followed.waits.bytes += bytes;
                let begins = !std::mem::replace(&mut followed.waits.in_line, true);
                self.parked_bytes += bytes;
                if begins {
                    self.waiting.push_back((until, place));
                }
                Ok(())
            }
            _ => Err(parked),
        }
    }

    /// Whether anybody waits for a channel.
    pub(in crate::hub) fn is_awaited(&self, place: Place) -> bool {
        self.get(place).is_some_and(|followed| !followed.waits.is_empty())
    }

    /// The next who waited, as the channel is known now.
    pub(in crate::hub) fn next_parked(&mut self, place: Place) -> Option<Parked> {
        let waits = &mut self.get_mut(place)?.waits;
        let (_, parked) = waits.queue.pop_front()?;
        let bytes = parked.weight();
        waits.bytes -= bytes;
        self.parked_bytes -= bytes;
        Some(parked)
    }

    /// The next who has waited for long enough.
    pub(in crate::hub) fn next_overdue(&mut self, now: Instant) -> Option<(Place, Parked)> {
        while let Some((_, place)) = self.waiting.front().copied().filter(|(at, _)| *at <= now) {
            let Some(followed) = self.get_mut(place) else {
                self.waiting.pop_front();
                continue;
            };
            match followed.waits.queue.front().map(|(until, _)| *until) {
                Some(until) if until <= now => {
                    return self.next_parked(place).map(|parked| (place, parked));
                }
                Some(until) => {
                    self.waiting.pop_front();
                    self.waiting.push_back((until, place));
                }
                None => {
                    followed.waits.in_line = false;
                    self.waiting.pop_front();
                }
            }
        }
        None
    }
}
