//! Signs of life: when to ask for one, when to give up, and how many are too many.

use std::time::Duration;

use crate::{
    limits::Limits,
    time::{Instant, Now},
};

/// A ping that is not answered yet, or the latest of several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Instant,
    /// Which of them it is: its payload.
    number: u32,
}

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing came for `ping_interval`.
    Ping,
    /// Nothing came for `pong_timeout` after a ping.
    PongTimeout,
    /// Nothing came for `connection_timeout`.
    IdleTimeout,
}

impl Asked {
    /// A ping goes out, maybe while another is not answered.
    pub(super) fn after(before: Option<Self>, now: Now) -> Self {
        Self { at: now.mono, number: before.map_or(0, |before| before.number).wrapping_add(1) }
    }

    pub(super) fn payload(self) -> [u8; 4] {
        self.number.to_be_bytes()
    }

    /// A pong came: the round-trip time if it answers the latest ping. Others may come unasked (RFC 6455 §5.5.3).
    pub(super) fn answered(self, now: Now, payload: &[u8]) -> Option<Duration> {
        (payload == self.payload()).then(|| now.mono.saturating_duration_since(self.at))
    }
}

/// The soonest deadline of an open connection, and what it is for. Every byte from the peer is a sign of life: the last
/// one was `heard` then.
pub(super) fn next(
    heard: Instant,
    asked: Option<Asked>,
    limits: &Limits,
) -> Option<(Instant, Due)> {
    let life = match (asked, limits.ping_interval) {
        // A slow upload may delay the pong: its bytes count as well.
        (Some(asked), _) => Some((asked.at.max(heard) + limits.pong_timeout, Due::PongTimeout)),
        (None, Some(interval)) => Some((heard + interval, Due::Ping)),
        (None, None) => None,
    };
    let idle = limits.connection_timeout.map(|timeout| (heard + timeout, Due::IdleTimeout));
    // At the same instant the end comes first: no ping to a connection that is given up.
    life.into_iter().chain(idle).min_by_key(|(at, due)| (*at, *due == Due::Ping))
}

/// A token bucket for frames that cost their sender next to nothing: `control_frames_per_second_max`, with a burst of
/// twice that. Kept as the time until it is full again, counted from the last byte that came, so that it takes four
/// bytes and nobody has to see to it while nothing comes.
#[derive(Debug, Default)]
pub(super) struct ControlRate {
    full_in_ns: u32,
}

impl ControlRate {
    /// So much later than the last byte there are further ones.
    pub(super) fn pass(&mut self, silence: impl FnOnce() -> Duration) {
        if self.full_in_ns > 0 {
            self.full_in_ns = self.full_in_ns.saturating_sub(nanoseconds(silence()));
        }
    }

    /// Counts one frame; false if there are too many.
    pub(super) fn admit(&mut self, limits: &Limits) -> bool {
        let cost = SECOND / limits.control_frames_per_second_max.max(1);
        self.full_in_ns = self.full_in_ns.saturating_add(nanoseconds(cost));
        self.full_in_ns <= nanoseconds(BURST)
    }
}

/// As many as four bytes hold: four seconds. A burst and one frame more take three.
fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

const SECOND: Duration = Duration::from_secs(1);

/// At the permitted rate twice a second's frames take two seconds.
const BURST: Duration = Duration::from_secs(2);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    fn start() -> Now {
        Now { mono: Instant::now(), unix: Duration::ZERO }
    }

    fn limits() -> Limits {
        Limits {
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(10),
            connection_timeout: Some(Duration::from_secs(300)),
            ..Limits::default()
        }
    }

    #[test]
    fn a_ping_is_due_after_silence_and_its_pong_soon_after() {
        let (start, limits) = (start(), limits());
        let heard = start.mono + SECOND * 5;
        assert_eq!(next(heard, None, &limits), Some((heard + SECOND * 20, Due::Ping)));

        let asked = Asked::after(None, start.plus(SECOND * 25));
        let due = Some((start.mono + SECOND * 35, Due::PongTimeout));
        assert_eq!(next(heard, Some(asked), &limits), due);

        let heard = start.mono + SECOND * 30;
        let due = Some((start.mono + SECOND * 40, Due::PongTimeout));
        assert_eq!(next(heard, Some(asked), &limits), due);
    }

    #[test]
    fn only_the_latest_ping_has_a_round_trip() {
        let start = start();
        let first = Asked::after(None, start);
        let second = Asked::after(Some(first), start.plus(SECOND));
        let later = start.plus(SECOND * 3);
        assert_eq!(second.answered(later, &first.payload()), None);
        assert_eq!(second.answered(later, &second.payload()), Some(SECOND * 2));
        assert_eq!(second.answered(later, b""), None);
    }

    #[test]
    fn without_pings_only_idleness_counts() {
        let heard = start().mono;
        let limits = Limits { ping_interval: None, ..limits() };
        assert_eq!(next(heard, None, &limits), Some((heard + SECOND * 300, Due::IdleTimeout)));
        let limits = Limits { connection_timeout: None, ..limits };
        assert_eq!(next(heard, None, &limits), None);
    }

    #[test]
    fn a_burst_of_two_seconds_passes_and_refills() {
        let limits = Limits { control_frames_per_second_max: 10, ..Limits::default() };
        let mut rate = ControlRate::default();
        assert_eq!((0..100).take_while(|_| rate.admit(&limits)).count(), 20);

        rate.pass(|| SECOND * 2);
        assert_eq!(
            (0..100).take_while(|_| rate.admit(&limits)).count(),
            19,
            "the refused one was counted"
        );
    }

    #[test]
    fn a_burst_at_the_lowest_rate_fits_its_four_bytes() {
        let limits = Limits { control_frames_per_second_max: 1, ..Limits::default() };
        let mut rate = ControlRate::default();
        assert_eq!((0..100).take_while(|_| rate.admit(&limits)).count(), 2);

        rate.pass(|| SECOND * 2);
        assert!(rate.admit(&limits));
        assert!(!rate.admit(&limits), "what was refused took its time as well");
        rate.pass(|| Duration::MAX);
        assert_eq!((0..100).take_while(|_| rate.admit(&limits)).count(), 2);
    }
}
