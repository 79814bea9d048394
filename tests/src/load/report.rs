//! What has come of a load.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{
    listener::{Got, Heard},
    publisher::Sent,
};

/// What has come of a load. All counts but the first line are faults or losses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that were published.
    pub stored: usize,
    /// Messages that may have been.
    pub unknown: usize,
    /// Messages that were refused.
    pub refused: usize,
    /// Events that listeners had.
    pub heard: usize,
    /// Times that a listener had to connect again.
    pub reconnects: usize,
    /// The longest that a publisher waited for success.
    pub slowest: Duration,
    /// Events that listeners with positions did not get, and were not told that they do not.
    pub lost: usize,
    /// Events that they did not get and were told so.
    pub told: usize,
    /// Events that a listener without positions did not get though its connection lasted.
    pub plain_lost: usize,
    /// Events that a listener had twice: with positions ever, without on one connection.
    pub doubled: usize,
    /// Events behind a later one of the same publisher, or with a number that is not higher than the last.
    pub reordered: usize,
    /// Refused messages that somebody heard.
    pub heard_though_refused: usize,
    /// Numbers under which two listeners had different events.
    pub disagreed: usize,
    /// Events that were somebody else's.
    pub foreign: usize,
    /// Answers to publishes other than 200, repetitions included; 0 are connections that ended without one.
    pub answers: BTreeMap<u16, usize>,
    /// Why listeners were told, and how often.
    pub causes: BTreeMap<String, usize>,
    /// The first few faults, in words.
    pub examples: Vec<String>,
}

impl Report {
    pub(super) fn new(sent: &[Sent], heard: &[Heard]) -> Self {
        let mut this = Self::default();
        for publisher in sent {
            this.stored += publisher.stored.len();
            this.unknown += publisher.unknown.len();
            this.refused += publisher.refused.len();
            this.slowest = this.slowest.max(publisher.slowest);
            for (status, count) in &publisher.answers {
                *this.answers.entry(*status).or_default() += count;
            }
        }
        for (number, listener) in heard.iter().enumerate() {
            this.heard += listener.events.len();
            this.reconnects += listener.reconnects;
            this.foreign += listener.foreign;
            for told in &listener.told {
                *this.causes.entry(told.why.clone()).or_default() += 1;
            }
            this.look_for_losses(number, sent, listener);
            this.look_at_order(number, listener);
        }
        this.look_for_disagreement(heard);
        this
    }

    /// Panics unless everybody has had everything once, in order, and nobody was told of a loss.
    pub fn assert_perfect(&self) {
        self.assert_honest();
        assert!(self.is_untold(), "{self}");
    }

    /// Panics if anything was lost without a word, doubled, out of order, or heard though it was refused.
    pub fn assert_honest(&self) {
        assert!(self.is_honest(), "{self}");
        assert_eq!(self.disagreed, 0, "{self}");
    }

    /// Nothing was lost without a word, doubled, out of order, heard though it was refused, or somebody else's.
    #[must_use]
    pub fn is_honest(&self) -> bool {
        let faults = [
            self.lost,
            self.plain_lost,
            self.doubled,
            self.reordered,
            self.heard_though_refused,
            self.foreign,
        ];
        faults == [0; 6] && self.stored > 0 && self.heard > 0
    }

    /// Nobody was told that something is missing, and of every message it is known that it was published.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        (self.told, self.causes.len(), self.unknown) == (0, 0, 0)
    }

    fn fault(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }

    fn look_for_losses(&mut self, number: usize, sent: &[Sent], listener: &Heard) {
        let got: BTreeSet<_> = listener.events.iter().map(|got| (got.publisher, got.n)).collect();
        let of_it = sent.iter().filter(|sent| sent.channel == listener.channel);
        let mut missing = Vec::new();
        for sent in of_it {
            let all = sent.stored.iter().map(|n| (sent.publisher, *n));
            missing.extend(all.filter(|message| !got.contains(message)));
            let heard = sent.refused.iter().filter(|n| got.contains(&(sent.publisher, **n)));
            for n in heard {
                self.heard_though_refused += 1;
                self.fault(format!("listener {number}: {n} of {} was refused", sent.publisher));
            }
        }
        if missing.is_empty() {
            return;
        }
        if !listener.positions {
            // Between two connections an old client misses what is published.
            if listener.reconnects == 0 && listener.told.is_empty() {
                self.plain_lost += missing.len();
                self.fault(format!("plain listener {number} lost {missing:?}"));
            }
            return;
        }
        let known = listener.told.iter().map(|told| told.lost).sum::<Option<u64>>();
        if known.is_none_or(|known| missing.len() as u64 <= known) {
            self.told += missing.len();
        } else {
            self.lost += missing.len();
            let text = format!("listener {number} lost {missing:?}, told {:?}", listener.told);
            self.fault(text);
        }
    }

    fn look_at_order(&mut self, number: usize, listener: &Heard) {
        let mut seen = BTreeSet::new();
        // Without positions, each connection by itself.
        let life = |got: &Got| if listener.positions { 0 } else { got.connection };
        for got in &listener.events {
            if !seen.insert((life(got), got.publisher, got.n)) {
                self.doubled += 1;
                self.fault(format!("listener {number} had twice {got:?}"));
            }
        }
        let mut last = BTreeMap::new();
        for got in &listener.events {
            let before = last.insert((life(got), got.publisher), got.n);
            if before.is_some_and(|before| before > got.n) {
                self.reordered += 1;
                self.fault(format!("listener {number} had {before:?} before {got:?}"));
            }
        }
        for pair in listener.events.windows(2) {
            if let [Got { position: Some(before), .. }, Got { position: Some(after), .. }] = pair
                && before.0 == after.0
                && before.1 >= after.1
            {
                self.reordered += 1;
                self.fault(format!("listener {number} had {before:?} before {after:?}"));
            }
        }
    }

    fn look_for_disagreement(&mut self, heard: &[Heard]) {
        let mut known: BTreeMap<(&str, &(String, u64)), &str> = BTreeMap::new();
        let mut found = Vec::new();
        for listener in heard {
            for got in &listener.events {
                let Some(position) = &got.position else { continue };
                let id = known.entry((&listener.channel, position)).or_insert(&got.id);
                if *id != got.id {
                    found.push(format!("{position:?} is {id} and {}", got.id));
                }
            }
        }
        self.disagreed = found.len();
        found.into_iter().for_each(|text| self.fault(text));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#?}")
    }
}

const EXAMPLES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::{super::listener::Told, *};

    fn got(n: u64, offset: u64) -> Got {
        let position = Some(("e".to_owned(), offset));
        let at = std::time::Instant::now();
        Got { connection: 0, publisher: 0, n, id: format!("id{n}"), position, at }
    }

    fn sent(stored: &[u64]) -> Sent {
        Sent { channel: "a".into(), stored: stored.to_vec(), ..Sent::default() }
    }

    fn heard(events: Vec<Got>) -> Heard {
        Heard { channel: "a".into(), positions: true, events, ..Heard::default() }
    }

    fn report(sent: Sent, heard: Heard) -> Report {
        Report::new(&[sent], &[heard])
    }

    #[test]
    fn what_is_as_it_should_be_is_no_fault() {
        report(sent(&[1, 2]), heard(vec![got(1, 5), got(2, 6)])).assert_perfect();
    }

    #[test]
    fn every_fault_is_seen() {
        let events = || vec![got(1, 5), got(3, 7)];
        assert_eq!(report(sent(&[1, 2, 3]), heard(events())).lost, 1);
        let told = |lost| Heard { told: vec![Told { lost, why: "w".into() }], ..heard(events()) };
        for (lost, expected) in [(Some(1), (0, 1)), (None, (0, 1)), (Some(0), (1, 0))] {
            let report = report(sent(&[1, 2, 3]), told(lost));
            assert_eq!((report.lost, report.told), expected, "{lost:?}");
        }
        let plain = |events| Heard { positions: false, ..heard(events) };
        assert_eq!(report(sent(&[1, 2, 3]), plain(events())).plain_lost, 1);
        let twice = vec![got(1, 5), got(1, 6)];
        assert_eq!(report(sent(&[1]), heard(twice.clone())).doubled, 1);
        assert_eq!(report(sent(&[1]), plain(twice)).doubled, 1);
        assert_eq!(report(sent(&[1, 2]), heard(vec![got(2, 5), got(1, 6)])).reordered, 1);
        assert_eq!(report(sent(&[1, 2]), heard(vec![got(1, 5), got(2, 5)])).reordered, 1);
        let foreign = Heard { foreign: 1, ..heard(vec![got(1, 5)]) };
        assert!(!report(sent(&[1]), foreign).is_honest());
        let refused = Sent { refused: vec![2], ..sent(&[1]) };
        let report = report(refused, heard(vec![got(1, 5), got(2, 6)]));
        assert_eq!(report.heard_though_refused, 1);
    }

    #[test]
    fn two_events_under_one_number_are_seen() {
        let both = [heard(vec![got(1, 5)]), heard(vec![got(2, 5)])];
        assert_eq!(Report::new(&[sent(&[1, 2])], &both).disagreed, 1);
    }
}
