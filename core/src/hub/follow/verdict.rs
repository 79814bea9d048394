//! What a page of the bus says about what is here.

use uuid::Uuid;

use crate::{
    hub::{
        bus::{Page, PageEntry},
        homes::Anchor,
    },
    protocol::{Epoch, Position},
    record,
};

/// A page whose records were read.
#[derive(Debug)]
pub(in crate::hub) struct Judged<'p> {
    pub(in crate::hub) verdict: Verdict,
    /// Its rounds: the number of the first message, how many there are, and they, unless they are none.
    pub(in crate::hub) rounds: Vec<Round<'p>>,
}

/// A round of a page.
#[derive(Debug)]
pub(in crate::hub) struct Round<'p> {
    pub(in crate::hub) first: u64,
    pub(in crate::hub) last: u64,
    /// `None`: it is nothing that a subscriber could be sent.
    pub(in crate::hub) messages: Option<Vec<record::Message<'p>>>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Verdict {
    /// The bus has what is here, or more.
    Follows,
    /// The bus has less.
    Lost,
    /// The bus has something else under the same number.
    Diverged,
    /// The channel's numbers are others.
    Other,
    /// Nothing was known here yet.
    Fresh,
}

/// Judges a page that was read from before the last message here on. `id` says what is known of the ids of messages, `past`
/// where an epoch ended that is known to be over.
pub(in crate::hub) fn judge<'p>(
    anchor: &Anchor,
    page: &'p Page,
    id: impl Fn(u64) -> Option<Uuid>,
    past: impl Fn(Epoch) -> Option<u64>,
) -> Judged<'p> {
    let rounds: Vec<_> = page.entries.iter().filter_map(round).collect();
    let own = anchor.position;
    let bus = page.standing.map(|standing| standing.position);
    let over = bus.filter(|bus| bus.epoch != own.epoch).and_then(|bus| past(bus.epoch));
    let was_healed = page.standing.is_some_and(|standing| standing.mark != 0);
    let verdict = match bus {
        _ if !anchor.agreed => Verdict::Fresh,
        None => Verdict::Lost,
        // An epoch that is over comes back with an older bus. If something was published under it since, others are in it:
        // who puts the own one in its place loses that, and they in turn would put back theirs.
        // So it is if somebody has put it back: for him the own one is over, and each would put away the other's for ever.
        Some(_) if over.is_some() && was_healed => Verdict::Diverged,
        Some(bus) if over.is_some_and(|last| bus.offset <= last) => Verdict::Lost,
        Some(_) if over.is_some() => Verdict::Diverged,
        Some(bus) if has_begun_anew(bus, own) => Verdict::Lost,
        Some(bus) if bus.epoch != own.epoch => Verdict::Other,
        Some(_) if rounds.iter().any(|round| round.differs(own, &id)) => Verdict::Diverged,
        Some(bus) if bus.offset < own.offset => Verdict::Lost,
        Some(_) => Verdict::Follows,
    };
    Judged { verdict, rounds }
}

/// Nothing was published under the epoch of the bus: it knew nothing any more, and has begun anew for somebody who follows.
pub(in crate::hub) fn has_begun_anew(bus: Position, own: Position) -> bool {
    bus.epoch != own.epoch && bus.offset == 0 && own.offset > 0
}

/// Messages of a record, if it is one and has as many as it should.
pub(in crate::hub) fn messages(records: &[u8], count: u32) -> Option<Vec<record::Message<'_>>> {
    let messages: Result<Vec<_>, _> = record::decode(records).ok()?.collect();
    messages.ok().filter(|messages| messages.len() as u64 == u64::from(count))
}

/// `None`: it has no numbers that there can be.
fn round(entry: &PageEntry) -> Option<Round<'_>> {
    let PageEntry { first, count, records } = entry;
    let last = last(*first, *count)?;
    Some(Round { first: *first, last, messages: messages(records, *count) })
}

/// Number of the last message of a round; `None`: there can be no such round.
pub(in crate::hub) fn last(first: u64, count: u32) -> Option<u64> {
    let more = u64::from(count.checked_sub(1)?);
    first.checked_add(more).filter(|last| first > 0 && *last <= OFFSET_MAX)
}

impl<'p> Round<'p> {
    /// Its messages with higher numbers than this. `None`: they are none.
    pub(in crate::hub) fn beyond(&self, top: u64) -> Option<&[record::Message<'p>]> {
        let known = usize::try_from((top + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.messages.as_ref()?.get(known..)
    }

    /// The id of one of its messages.
    pub(in crate::hub) fn id_of(&self, number: u64) -> Option<Uuid> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some(self.messages.as_ref()?.get(index)?.id)
    }

    /// Whether one of its messages is another than the one of its number here.
    fn differs(&self, own: Position, id: &impl Fn(u64) -> Option<Uuid>) -> bool {
        let messages = self.messages.iter().flatten().zip(self.first..);
        let mut known = messages.filter(|(_, number)| *number <= own.offset);
        known.any(|(message, number)| id(number).is_some_and(|id| id != message.id))
    }
}

/// Numbers beyond are none: a bus computes with them, and not all of them compute with 64 bits.
const OFFSET_MAX: u64 = 100_000_000_000_000;
