//! How long listeners heard nothing.

use std::time::{Duration, Instant};

use super::listener::Heard;

/// How long listeners with positions heard nothing, and how many came at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// The longest that one of them had to wait for its next event.
    pub longest: Duration,
    /// The latest that one of them had its first event after a given moment.
    pub back: Duration,
    /// The most connections that all listeners made in one second.
    pub peak: usize,
}

impl Silence {
    /// From `from` on; `back` since `mended`.
    pub(super) fn new(heard: &[Heard], from: Instant, mended: Instant) -> Self {
        let mut this = Self::default();
        for listener in heard.iter().filter(|listener| listener.positions) {
            let times: Vec<_> = listener.events.iter().map(|got| got.at).collect();
            let since = times.partition_point(|at| *at < from).saturating_sub(1);
            for pair in times[since..].windows(2) {
                this.longest = this.longest.max(pair[1] - pair[0]);
            }
            if let Some(first) = times.iter().find(|at| **at >= mended) {
                this.back = this.back.max(*first - mended);
            }
        }
        let connected = heard.iter().flat_map(|listener| &listener.connected);
        let mut connected: Vec<_> = connected.copied().filter(|at| *at >= from).collect();
        connected.sort();
        this.peak = most_in_a_second(&connected);
        this
    }
}

/// Of these, in order: the most in any second.
fn most_in_a_second(times: &[Instant]) -> usize {
    let within = |(first, start): (usize, &Instant)| {
        times.partition_point(|at| *at < *start + Duration::from_secs(1)) - first
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{super::listener::Got, *};

    #[test]
    fn silence_is_between_events_and_before_the_first_one_after_the_mending() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let got = |ms| Got {
            connection: 0,
            publisher: 0,
            n: ms,
            id: String::new(),
            position: None,
            at: at(ms),
        };
        let heard = |times: &[u64]| Heard {
            positions: true,
            events: times.iter().copied().map(got).collect(),
            connected: [0, 2000, 2100, 2900, 3050].map(at).into(),
            ..Heard::default()
        };
        let heard = [heard(&[0, 1000, 1100, 4000, 4100]), heard(&[1200, 3500])];
        let silence = Silence::new(&heard, at(1100), at(3000));
        assert_eq!(silence.longest, Duration::from_millis(2900));
        assert_eq!(silence.back, Duration::from_millis(1000));
        // Two listeners' three within a second.
        assert_eq!(silence.peak, 6);
    }
}
