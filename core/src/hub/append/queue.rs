//! One channel's messages that wait for the bus.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    hub::{
        bus::{Basis, CallId, Once, Retention, TakenFrom},
        storing::Waiting,
    },
    protocol::{Condition, Epoch, Position},
    reason::Reason,
    time::Instant,
};

/// A message that waits.
#[derive(Debug)]
pub(in crate::hub) struct Pending {
    pub(in crate::hub) waiting: Waiting,
    pub(in crate::hub) since: Instant,
    /// Published once, whoever publishes it again where.
    pub(in crate::hub) once: Option<Box<Once>>,
    /// The channel's document follows from it.
    pub(in crate::hub) folds: bool,
}

impl Pending {
    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let once = self.once.as_ref().map_or(0, |once| size_of::<Once>() + once.key.len());
        self.waiting.weight() + once
    }

    /// It needs an append of its own.
    pub(in crate::hub) fn is_alone(&self) -> bool {
        let options = self.waiting.publication.options.as_ref();
        self.once.is_some()
            || options.is_some_and(|options| {
                options.state.is_some() || options.condition.is_some() || options.taken.is_some()
            })
    }
}

/// An append that was sent and is not answered, or is to be sent again.
#[derive(Debug)]
pub(in crate::hub) struct UnderWay {
    pub(in crate::hub) id: CallId,
    /// Nobody waits for it any more if it is empty.
    pub(in crate::hub) round: Vec<Pending>,
    pub(in crate::hub) count: u32,
    pub(in crate::hub) records: Bytes,
    pub(in crate::hub) kind: Kind,
    /// Id of the first message.
    pub(in crate::hub) first_id: Uuid,
    /// It was sent at least once of which nobody knows what became.
    pub(in crate::hub) tried: bool,
    /// Of messages that came since it was first sent not all were heard: those with numbers up to this were.
    pub(in crate::hub) missed: Option<u64>,
    /// Where its first message was when it was heard before the answer.
    pub(in crate::hub) heard: Option<Position>,
    /// When it was first sent.
    pub(in crate::hub) sent: Instant,
}

/// How messages are sent.
#[derive(Debug)]
pub(in crate::hub) enum Kind {
    /// They are numbered and kept.
    Append(Box<Round>),
    /// They are not.
    Announce,
}

/// What an append carries besides its messages.
#[derive(Debug)]
pub(in crate::hub) struct Round {
    pub(in crate::hub) epoch: Epoch,
    pub(in crate::hub) retention: Retention,
    pub(in crate::hub) state: Option<Bytes>,
    pub(in crate::hub) condition: Option<Condition>,
    /// What the document was folded from, if it was.
    pub(in crate::hub) basis: Option<Basis>,
    /// How often it was folded anew.
    pub(in crate::hub) refolds: u32,
    pub(in crate::hub) once: Option<Once>,
    pub(in crate::hub) taken: Option<Box<TakenFrom>>,
}

impl UnderWay {
    /// What the bus is told of messages that were put back, if this may be one of them; `top`: the last that is here.
    pub(in crate::hub) fn again(&self, top: u64) -> Option<u64> {
        self.tried.then(|| self.missed.unwrap_or(top).min(top))
    }

    /// Bytes that it takes besides those of its messages.
    pub(super) fn own_bytes(&self) -> usize {
        let folded = match &self.kind {
            Kind::Append(round) if round.basis.is_some() => {
                round.state.as_ref().map_or(0, Bytes::len)
            }
            Kind::Append(_) | Kind::Announce => 0,
        };
        self.records.len() + folded
    }

    pub(super) fn weight(&self) -> usize {
        self.own_bytes() + self.round.iter().map(Pending::weight).sum::<usize>()
    }
}

/// A channel's messages.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) next: VecDeque<Pending>,
    pub(super) under_way: Option<UnderWay>,
    /// The channel's document, as the bus has told or was given it, for the next one to be folded from.
    pub(super) known: Option<Box<Known>>,
    state: State,
    /// When the oldest of them has waited long enough.
    pub(super) due: (Instant, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is among those of which something may be sent.
    Ready,
    /// The bus has not answered.
    Sent,
    /// It waits until something has changed.
    Waiting,
}

impl Queue {
    pub(super) fn new(first: Pending, due: (Instant, u64)) -> Self {
        Self { next: [first].into(), under_way: None, known: None, state: State::Ready, due }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether nobody knows what became of what is under way.
    pub(super) fn is_unsure(&self) -> bool {
        self.state != State::Sent && self.under_way.as_ref().is_some_and(|sent| sent.tried)
    }

    /// The next messages, as many as make a round.
    pub(super) fn take(&mut self, round_bytes_max: usize) -> Vec<Pending> {
        let (mut bytes, mut count) = (0, 0);
        let folds = self.next.front().is_some_and(|first| first.folds);
        for pending in &self.next {
            bytes += pending.waiting.publication.weight();
            let alone = pending.is_alone();
            let is_other = alone || pending.folds != folds || bytes > round_bytes_max;
            if count > 0 && is_other {
                break;
            }
            count += 1;
            if alone {
                break;
            }
        }
        self.next.drain(..count).collect()
    }

    /// Something is under way, the same as before or this.
    pub(super) fn send(&mut self, fresh: Option<UnderWay>) {
        if fresh.is_some() {
            self.under_way = fresh;
        }
        self.state = State::Sent;
    }

    pub(super) fn wait(&mut self) {
        self.state = State::Waiting;
    }

    pub(super) fn wake(&mut self) {
        self.state = State::Ready;
    }

    /// Since when the oldest message waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let under_way = self.under_way.iter().flat_map(|under_way| &under_way.round);
        under_way.chain(&self.next).next().map(|pending| pending.since)
    }

    /// Takes out what has waited for so long, with what is to be said of it; the bytes that it took.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        time: Duration,
    ) -> (usize, Vec<(Waiting, Reason)>) {
        let (mut freed, mut expired) = (0, Vec::new());
        let over = |pending: &Pending| pending.since + time <= now;
        if let Some(under_way) = self.under_way.as_mut().filter(|sent| sent.round.iter().any(over))
        {
            let unsure = self.state == State::Sent || under_way.tried;
            let reason = if unsure { Reason::BusUnknown } else { Reason::BusAway };
            for pending in std::mem::take(&mut under_way.round) {
                freed += pending.weight();
                expired.push((pending.waiting, reason));
            }
            if self.state != State::Sent {
                freed += under_way.own_bytes();
                self.under_way = None;
            }
        }
        while self.next.front().is_some_and(over)
            && let Some(pending) = self.next.pop_front()
        {
            freed += pending.weight();
            expired.push((pending.waiting, Reason::BusAway));
        }
        (freed, expired)
    }

    #[cfg(debug_assertions)]
    pub(super) fn weight(&self) -> usize {
        let next = self.next.iter().map(Pending::weight).sum::<usize>();
        let known = self.known.as_ref().map_or(0, |known| known.weight());
        next + self.under_way.as_ref().map_or(0, UnderWay::weight) + known
    }
}

/// A channel's document, and the message that it came with. `None`: it has none.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Known(pub(in crate::hub) Option<(Position, Bytes)>);

impl Known {
    pub(in crate::hub) fn basis(&self) -> Basis {
        self.0.as_ref().map_or(Basis::Nothing, |(at, _)| Basis::Document(*at))
    }

    pub(in crate::hub) fn json(&self) -> Option<&str> {
        let (_, json) = self.0.as_ref()?;
        std::str::from_utf8(json).ok()
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.0.as_ref().map_or(0, |(_, json)| json.len())
    }
}
