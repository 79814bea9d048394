//! What operators are told of refusals: one line for each kind, at once, and then one a minute with how many there were.
//! Without it nobody would see at the usual level that clients are refused, and with a line for each anybody could fill the
//! log.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use mahavishnu_core::{
    metrics::{Needed, Refusal},
    reason::Reason,
};
use tracing::info;

/// How often a kind is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Kinds of refusals at a time. Beyond it those of one reason are counted together, whatever permission was missing.
const KINDS_MAX: usize = 256;

/// All shards tell of the same: the log is the process' own.
static BOARD: Mutex<Board> = Mutex::new(Board { kinds: BTreeMap::new() });

/// Takes what a shard has refused, tells what is due, and says when something will be. A shard that is waited for is to call
/// this again then, with nothing.
pub(crate) fn tell(now: Instant, refusals: Vec<Refusal>) -> Option<Instant> {
    let mut board = BOARD.lock().unwrap_or_else(PoisonError::into_inner);
    for refusal in refusals {
        board.add(refusal);
    }
    let lines = board.take_due(now);
    let due = board.due();
    drop(board);
    for line in lines {
        line.log();
    }
    due
}

/// A reason, and for a permission that is missing which.
type Key = (Reason, Option<Needed>);

#[derive(Debug, Default)]
struct Board {
    kinds: BTreeMap<Key, Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    /// When this was last told. `None`: it is news.
    told: Option<Instant>,
    /// How many there were since.
    count: u64,
    /// Where the last one came from.
    last: Option<IpAddr>,
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    key: Key,
    count: u64,
    last: Option<IpAddr>,
    /// In how long there were so many; `None`: in this moment.
    within: Option<Duration>,
}

impl Board {
    fn add(&mut self, refusal: Refusal) {
        let Refusal { reason, count, last, needs } = refusal;
        let mut key = (reason, needs);
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&key) {
            key.1 = None;
        }
        let kind = self.kinds.entry(key).or_default();
        kind.count += count;
        kind.last = last.or(kind.last);
    }

    /// Kinds of which nothing was refused for so long are forgotten: the next one is news again.
    fn take_due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.kinds.retain(|key, kind| {
            let ago = kind.told.map(|told| now.saturating_duration_since(told));
            if ago.is_some_and(|ago| ago < TOLD_EVERY) {
                return true;
            }
            let count = std::mem::take(&mut kind.count);
            if count > 0 {
                lines.push(Line { key: key.clone(), count, last: kind.last, within: ago });
                kind.told = Some(now);
            }
            count > 0
        });
        lines
    }

    /// When [`take_due`](Self::take_due) has something to tell, or to forget.
    fn due(&self) -> Option<Instant> {
        self.kinds.values().filter_map(|kind| kind.told).min().map(|told| told + TOLD_EVERY)
    }
}

impl Line {
    fn log(&self) {
        let (reason, needs) = &self.key;
        let last = self.last.map(|last| last.to_string());
        let last = last.as_deref();
        let count = self.count;
        let seconds = self.within.map(|within| within.as_secs());
        let pattern = needs.as_ref().map(|needs| needs.pattern.as_deref().unwrap_or("-"));
        let needs = needs.as_ref().map(|needs| &*needs.any_of);
        let (reason, why) = (reason.name(), reason.row().text);
        info!(reason, count, seconds, last, pattern, needs, why, "refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason, needs: Option<&str>) -> Refusal {
        let needs = needs.map(|any_of| Needed { pattern: None, any_of: any_of.into() });
        Refusal { reason, count: 3, last: Some(IpAddr::from([10, 0, 0, 1])), needs }
    }

    fn counts(lines: &[Line]) -> Vec<(Reason, u64, Option<u64>)> {
        let of = |line: &Line| (line.key.0, line.count, line.within.map(|within| within.as_secs()));
        lines.iter().map(of).collect()
    }

    #[test]
    fn each_kind_is_told_at_once_and_then_once_a_minute_with_its_count() {
        let mut board = Board::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(board.due(), None);
        board.add(refusal(Reason::Decode, None));
        assert_eq!(counts(&board.take_due(at(0))), [(Reason::Decode, 3, None)]);
        for second in 1..60 {
            board.add(refusal(Reason::Decode, None));
            assert_eq!(board.take_due(at(second)), [], "{second}");
        }
        board.add(refusal(Reason::AuthFailed, None));
        assert_eq!(
            counts(&board.take_due(at(59))),
            [(Reason::AuthFailed, 3, None)],
            "another kind"
        );
        assert_eq!(board.due(), Some(at(60)));
        assert_eq!(counts(&board.take_due(at(60))), [(Reason::Decode, 177, Some(60))]);
        assert_eq!(board.due(), Some(at(119)));
    }

    #[test]
    fn what_has_stopped_is_forgotten_and_then_news() {
        let mut board = Board::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        board.add(refusal(Reason::Decode, None));
        board.take_due(at(0));
        assert_eq!(board.take_due(at(60)), []);
        assert_eq!((board.kinds.len(), board.due()), (0, None));
        board.add(refusal(Reason::Decode, None));
        assert_eq!(counts(&board.take_due(at(61))), [(Reason::Decode, 3, None)]);
    }

    #[test]
    fn kinds_are_bounded() {
        let mut board = Board::default();
        for number in 0..1_000 {
            board.add(refusal(Reason::SubscribeForbidden, Some(&number.to_string())));
        }
        assert_eq!(board.kinds.len(), KINDS_MAX + 1);
        let lines = board.take_due(Instant::now());
        let counted: u64 = lines.iter().map(|line| line.count).sum();
        assert_eq!(counted, 3_000, "none is lost");
    }
}
