//! What every client must have received.
//!
//! The oracle sees what clients send and get, never the hubs' insides. A publication has one successor in its channel:
//! whoever gets it must get that one next. With offsets it also has one number, the same for everybody, and a subscriber
//! must see the numbers without a hole. Both together mean: no loss, no duplicate, no reordering, unless a gap was
//! announced that accounts for exactly the hole.

mod direct;
mod documents;
mod logs;
mod members;
mod sessions;
mod stored;

use std::{sync::Arc, time::Duration};

use self::{
    direct::Direct, documents::Documents, logs::Log, members::Members, sessions::Sessions,
    stored::Ledger,
};
pub(crate) use self::{
    documents::{Carried, Condition, document},
    logs::{Asked, Gap, Id, Look, Side, Since, Wish},
    members::{Attendance, List},
    sessions::Estate,
    stored::StoredMessage,
};
use crate::{
    clock::{MICRO, MILLI, Nanos, SECOND, START_UNIX},
    message::{self, Delivery, ID_BYTES, Number},
    swarm::{BRIEF_GRACE_MS, Options, channel_names},
};

/// Something that must not happen, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which of the [invariants](crate::INVARIANTS).
    pub invariant: &'static str,
    /// Who and what.
    pub detail: String,
    /// Virtual time, in nanoseconds.
    pub at_nanos: u64,
}

/// What became of a publication, as its publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing yet, or the publisher went before the answer.
    Unknown,
    /// Published to so many subscribers.
    Published(u32),
    /// Refused: nobody may ever get it.
    Refused,
}

#[derive(Clone, Debug)]
struct Publication {
    channel: u16,
    padding: u32,
    publisher: u32,
    sent_at: Nanos,
    /// By the wall clock.
    sent_unix: Duration,
    offset: Option<u64>,
    /// Which life of the channel's numbers it is in, and where; for who has positions.
    place: Option<(u32, u64)>,
    id: Option<[u8; ID_BYTES]>,
    /// The store has it, or had: in this epoch, under this number.
    kept: Option<(Arc<str>, u64)>,
    /// When somebody first got it. A publisher may hear before that it is published.
    seen_at: Option<Nanos>,
    previous: Option<Number>,
    next: Option<Number>,
    receivers: u32,
    /// Those of them that did not get it as something missed.
    live: u32,
    fate: Fate,
}

/// One client's membership of one channel, as the client knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    /// Confirmed, and its end not confirmed.
    pub(crate) on: bool,
    /// The latest of the client's own requests that was answered.
    pub(crate) answered: u64,
    /// When it was confirmed.
    since: Nanos,
    first: Option<Number>,
    pub(crate) last: Option<Number>,
    /// The number that must come next, if it is known.
    expected: Option<u64>,
    /// A gap was announced since `last`.
    gap: bool,
    /// A gap was announced before the first message.
    began_with_gap: bool,
    /// It asked for positions: which life of the channel's numbers.
    pub(crate) log: Option<u32>,
    /// Messages from before the subscription that are promised and have not come.
    pub(crate) promised: u64,
    /// The number of the first message that comes live.
    live_from: u64,
    /// Messages from before the subscription come first, nobody says how many.
    rewound: bool,
}

impl Membership {
    /// Where who has positions stands.
    pub(crate) fn position(&self) -> Option<(u32, u64)> {
        Some((self.log?, self.expected? - 1))
    }
}

/// Knows every publication.
#[derive(Debug)]
pub(crate) struct Oracle {
    options: Options,
    /// Which configuration is in force, or was put in force and is not yet.
    pub(crate) generation: u64,
    publications: Vec<Publication>,
    /// By channel: each life of its numbers that somebody was told of.
    logs: Vec<Vec<Log>>,
    documents: Documents,
    members: Members,
    sessions: Sessions,
    ledger: Ledger,
    direct: Direct,
    /// By channel: how many publications anybody made, refused ones included.
    published: Vec<u64>,
    /// What all of them would count for if they were kept.
    weight: u64,
    names: Arc<[String]>,
    /// Channels of which older messages may be replaced by the newest.
    conflating: Vec<bool>,
    offsets: bool,
    pub(crate) deliveries: u64,
    pub(crate) gaps: u64,
    pub(crate) lost: u64,
    /// Publishers that were told that the server is busy.
    pub(crate) busy: u64,
    pub(crate) violation: Option<Violation>,
    pub(crate) now: Nanos,
    /// The same by the wall clock.
    pub(crate) wall: Duration,
    /// When the wall clock was last set.
    pub(crate) jumped_at: Nanos,
    /// When the brief tokens were revoked.
    pub(crate) revoked_at: Option<Nanos>,
    /// The wall-clock time at which connections with brief tokens end.
    brief_close: Duration,
    /// How long the hubs may take to carry out what they were told.
    slack: Nanos,
    /// The server has been told to stop.
    pub(crate) draining: bool,
}

impl Oracle {
    pub(crate) fn new(options: &Options) -> Self {
        let conflates = |channel| match options.slow_policy {
            2 => true,
            3 => channel % 3 == 2,
            _ => false,
        };
        let channels = options.channels as usize;
        Self {
            options: options.clone(),
            generation: 0,
            publications: Vec::new(),
            logs: (0..channels).map(|_| Vec::new()).collect(),
            documents: Documents::default(),
            members: Members::default(),
            sessions: Sessions::default(),
            ledger: Ledger::default(),
            direct: Direct::default(),
            published: vec![0; channels],
            weight: 0,
            names: channel_names(options.channels),
            conflating: (0..options.channels).map(conflates).collect(),
            offsets: options.offsets == 1,
            deliveries: 0,
            gaps: 0,
            lost: 0,
            busy: 0,
            violation: None,
            now: 0,
            wall: START_UNIX,
            jumped_at: 0,
            revoked_at: None,
            brief_close: options.brief_end() + Duration::from_millis(BRIEF_GRACE_MS),
            slack: SECOND
                + 4 * MICRO * (options.turn_us + options.link_us)
                + MICRO * options.kept_us()
                + MILLI * options.stalled_ms(),
            draining: false,
        }
    }

    pub(crate) fn name(&self, channel: u64) -> &str {
        &self.names[channel as usize]
    }

    /// Someone is about to publish.
    pub(crate) fn publish(&mut self, channel: u64, padding: usize, publisher: usize) -> Number {
        self.published[channel as usize] += 1;
        let most = message::frame_bytes(
            self.name(channel),
            channel,
            Number::MAX,
            padding as u64,
            Some(u64::MAX),
        );
        self.weight += most + 128;
        self.publications.push(Publication {
            channel: channel as u16,
            padding: padding as u32,
            publisher: publisher as u32,
            sent_at: self.now,
            sent_unix: self.wall,
            offset: None,
            place: None,
            id: None,
            kept: None,
            seen_at: None,
            previous: None,
            next: None,
            receivers: 0,
            live: 0,
            fate: Fate::Unknown,
        });
        (self.publications.len() - 1) as Number
    }

    /// A publisher was answered.
    pub(crate) fn answered(&mut self, number: Number, fate: Fate) {
        let publication = &mut self.publications[number as usize];
        let receivers = publication.receivers;
        publication.fate = fate;
        if fate == Fate::Refused && receivers > 0 {
            self.fail("refused", || format!("{number} was refused and reached {receivers}"));
        }
        match fate {
            Fate::Published(_) => self.check_stored(number, "answered"),
            Fate::Refused => {
                self.refused(number);
                self.check_not_stored(number);
            }
            Fate::Unknown => {}
        }
    }

    /// Whether nobody will ever get it.
    pub(crate) fn is_refused(&self, number: Number) -> bool {
        self.publications[number as usize].fate == Fate::Refused
    }

    /// A subscription was confirmed that asked for nothing.
    pub(crate) fn joined(&self, member: &mut Membership, channel: u64) {
        if !member.on {
            *member = Membership {
                on: true,
                since: self.now,
                answered: member.answered,
                rewound: self.options.rewinds(channel) > 0,
                ..Membership::default()
            };
        }
    }

    /// A subscription goes on with what is published from now on.
    pub(crate) fn rejoined(&self, member: &mut Membership) {
        let answered = member.answered;
        *member = Membership { on: true, since: self.now, answered, ..Membership::default() };
    }

    /// An event came. `who` is for the report.
    pub(crate) fn delivered(
        &mut self,
        members: &mut [Membership],
        event: Delivery<'_>,
        who: usize,
    ) {
        self.deliveries += 1;
        let (number, channel) = (event.number, event.channel);
        let Some(found) = self.publications.get(number as usize) else {
            return self.fail("content", || format!("client {who}: {number} was never published"));
        };
        let name = self.names.get(channel as usize).map(String::as_bytes);
        if u64::from(found.channel) != channel
            || found.padding as usize != event.padding
            || name != Some(event.room)
        {
            return self
                .fail("content", || format!("client {who}: {event:?} is not what was sent"));
        }
        let Some(member) = members.get_mut(channel as usize).filter(|member| member.on) else {
            return self.fail("membership", || {
                format!("client {who} got {number} of channel {channel} without being subscribed")
            });
        };
        let live = !member.rewound && event.offset.is_none_or(|at| at >= member.live_from);
        self.reached(number, who);
        self.check_offset(member, event, who);
        self.check_neighbours(member, number, who);
        let publication = &mut self.publications[number as usize];
        publication.live += u32::from(live);
        if *publication.id.get_or_insert(*event.id) != *event.id {
            return self.fail("agreement", || format!("client {who}: {number} has another id"));
        }
        if let Fate::Published(subscribers) = publication.fate
            && publication.live > subscribers
        {
            let receivers = publication.live;
            self.fail("reach", || {
                format!("{number} went to {subscribers} subscribers and {receivers} got it")
            });
        }
        member.first.get_or_insert(number);
        member.last = Some(number);
        member.gap = false;
    }

    /// Somebody got it, as it was published or later.
    fn reached(&mut self, number: Number, who: usize) {
        let publication = &mut self.publications[number as usize];
        publication.receivers += 1;
        publication.seen_at.get_or_insert(self.now);
        if publication.fate == Fate::Refused {
            self.fail("refused", || format!("client {who} got {number}, which was refused"));
        }
        self.check_stored(number, "delivered");
    }

    /// Somebody whose token is the brief one got this: it must have been published before the token's end. While the
    /// wall clock is being set, nobody can say what is before what.
    pub(crate) fn check_rights(&mut self, number: Number, who: usize) {
        let Some(found) = self.publications.get(number as usize) else { return };
        let (sent_at, sent_unix) = (found.sent_at, found.sent_unix);
        if self.revoked_at.is_some_and(|revoked| sent_at > revoked + self.slack) {
            return self.fail("rights", || {
                format!("client {who} got {number}, sent at {sent_at}, with a revoked token")
            });
        }
        let close = self.brief_close + Duration::from_nanos(self.slack);
        if sent_unix > close && (self.jumped_at == 0 || sent_at > self.jumped_at + self.slack) {
            self.fail("rights", || {
                format!("client {who} got {number}, sent at {sent_unix:?}, with an expired token")
            });
        }
    }

    /// The number in the channel: one for everybody, and the next of what came before.
    fn check_offset(&mut self, member: &mut Membership, event: Delivery<'_>, who: usize) {
        if event.offset.is_some() != (self.offsets || member.log.is_some()) {
            let log = member.log;
            return self.fail("content", || format!("client {who}, positions {log:?}: {event:?}"));
        }
        let Some(offset) = event.offset.filter(|offset| *offset > 0) else { return };
        if let Some(log) = member.log {
            self.agree(event.channel, log, offset, (event.number, event.id), who);
        }
        let known = *self.publications[event.number as usize].offset.get_or_insert(offset);
        if known != offset {
            return self.fail("duplicate", || {
                format!("{} has the number {known}, and {offset} for client {who}", event.number)
            });
        }
        // What was promised is not replaced by what is newer.
        let conflated = self.conflating[event.channel as usize] && member.promised == 0;
        member.promised = member.promised.saturating_sub(1);
        let expected = member.expected.unwrap_or(offset);
        if offset < expected || (offset > expected && !conflated) {
            let name = if offset < expected { "order" } else { "loss" };
            self.fail(name, || {
                format!(
                    "client {who}, channel {}: number {expected} was due, {offset} (n={}) came after n={:?}",
                    event.channel, event.number, member.last
                )
            });
        }
        member.expected = Some(offset + 1);
    }

    /// Whoever got the one before must get this one next, and a publisher's messages come in its order.
    fn check_neighbours(&mut self, member: &Membership, number: Number, who: usize) {
        let Some(last) = member.last else { return };
        if last == number {
            return self.fail("duplicate", || format!("client {who} got {number} twice"));
        }
        let channel = usize::from(self.publications[number as usize].channel);
        if self.conflating[channel] || member.gap {
            return;
        }
        let next = *self.publications[last as usize].next.get_or_insert(number);
        let previous = *self.publications[number as usize].previous.get_or_insert(last);
        if next != number || previous != last {
            return self.fail("order", || {
                format!("client {who} got {number} after {last}; others got {next} after {last} or {previous} before {number}")
            });
        }
        let publisher = |number: Number| self.publications[number as usize].publisher;
        if publisher(last) == publisher(number) && number < last && publisher(last) != APPLICATION {
            self.fail("order", || {
                format!("client {who} got {number} after {last}, against their publisher's order")
            });
        }
    }

    /// A gap was announced: `lost` messages, from the first to the last number.
    pub(crate) fn gap(&mut self, member: &mut Membership, channel: u64, gap: Gap<'_>, who: usize) {
        let Gap { lost, first, last, .. } = gap;
        self.gaps += 1;
        self.lost += lost;
        if !member.on {
            return self.fail("membership", || format!("a gap for client {who}, not subscribed"));
        }
        self.check_gap(member, channel, gap, who);
        let numbered = self.offsets || member.log.is_some();
        let due = if numbered { member.expected } else { None };
        if lost != (last + 1).saturating_sub(first) && due.is_none_or(|due| due == first) {
            return self.fail("gap", || format!("client {who}: lost {lost} of {first}..={last}"));
        }
        let conflated = self.conflating[channel as usize] && member.promised == 0;
        if due.is_some_and(|due| if conflated { due > first } else { due != first }) {
            return self.fail("gap", || {
                format!("client {who}: number {due:?} was due, the gap begins at {first}")
            });
        }
        member.promised = member.promised.saturating_sub(lost);
        member.expected = numbered.then_some(last + 1);
        member.gap = true;
        member.began_with_gap |= member.first.is_none();
    }

    /// Nothing that was published after the subscription was confirmed is missing before the first message: called
    /// once everything has come.
    pub(crate) fn check_beginning(&mut self, member: &Membership, who: usize) {
        let Some(first) = member.first else { return };
        let channel = usize::from(self.publications[first as usize].channel);
        if self.conflating[channel] {
            return;
        }
        let mut at = first;
        for _ in 0..64 {
            let Some(previous) = self.publications[at as usize].previous else { return };
            let sent_at = self.publications[previous as usize].sent_at;
            if sent_at > member.since && !member.began_with_gap {
                let since = member.since;
                return self.fail("loss", || {
                    format!("client {who}, subscribed since {since}, missed {previous}, sent {sent_at}, before {first}")
                });
            }
            at = previous;
        }
    }

    pub(crate) fn fail(&mut self, invariant: &'static str, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, detail: detail(), at_nanos: self.now });
        }
    }
}

/// Publishes by command have no order among each other: they enter at any hub.
pub(crate) const APPLICATION: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is noticed when somebody with a brief token gets what was published this long after its end.
    fn after(end: impl Fn(&mut Oracle)) -> Option<&'static str> {
        let mut oracle = Oracle::new(&Options::fan_out(1));
        end(&mut oracle);
        let number = oracle.publish(0, 0, 0);
        oracle.check_rights(number, 0);
        oracle.violation.map(|violation| violation.invariant)
    }

    #[test]
    fn what_comes_with_a_token_that_has_ended_is_noticed() {
        assert_eq!(after(|_| {}), None);
        assert_eq!(after(|oracle| oracle.wall = oracle.brief_close), None);
        let late = |oracle: &mut Oracle| oracle.wall = oracle.brief_close + Duration::from_secs(9);
        assert_eq!(after(late), Some("rights"));
        let revoked = |oracle: &mut Oracle| {
            oracle.revoked_at = Some(1);
            oracle.now = 9 * SECOND;
        };
        assert_eq!(after(revoked), Some("rights"));
    }

    #[test]
    fn while_the_clock_is_set_nothing_is_certain() {
        let jumped = |oracle: &mut Oracle| {
            oracle.wall = oracle.brief_close + Duration::from_secs(86_400);
            (oracle.jumped_at, oracle.now) = (5 * SECOND, 5 * SECOND + 1);
        };
        assert_eq!(after(jumped), None);
    }
}
