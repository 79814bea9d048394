//! Signs of life: when to ask for one, when to give up, and how many are too many.

use std::time::{Duration, Instant};

use crate::{limits::Limits, time::Now};

/// Keep-alive of one open connection. Every byte from the peer is a sign of life.
#[derive(Debug)]
pub(super) struct KeepAlive {
    /// When the last byte came.
    heard: Instant,
    /// When the ping went out that is not answered yet.
    asked: Option<Instant>,
    /// Pings sent: the payload of the latest.
    pings: u32,
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

impl KeepAlive {
    pub(super) fn new(now: Now) -> Self {
        Self { heard: now.mono, asked: None, pings: 0 }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, now: Now) {
        self.heard = now.mono;
    }

    /// A ping goes out: its payload.
    pub(super) fn ask(&mut self, now: Now) -> [u8; 4] {
        self.pings = self.pings.wrapping_add(1);
        self.asked = Some(now.mono);
        self.pings.to_be_bytes()
    }

    /// A pong came: the round-trip time if it answers the latest ping. Others may come unasked (RFC 6455 §5.5.3).
    pub(super) fn answered(&mut self, now: Now, payload: &[u8]) -> Option<Duration> {
        if payload != self.pings.to_be_bytes() {
            return None;
        }
        self.asked.take().map(|asked| now.mono.saturating_duration_since(asked))
    }

    /// The soonest deadline and what it is for.
    pub(super) fn next(&self, limits: &Limits) -> Option<(Instant, Due)> {
        let life = match (self.asked, limits.ping_interval) {
            // A slow upload may delay the pong: its bytes count as well.
            (Some(asked), _) => {
                Some((asked.max(self.heard) + limits.pong_timeout, Due::PongTimeout))
            }
            (None, Some(interval)) => Some((self.heard + interval, Due::Ping)),
            (None, None) => None,
        };
        let idle =
            limits.connection_timeout.map(|timeout| (self.heard + timeout, Due::IdleTimeout));
        // At the same instant the end comes first: no ping to a connection that is given up.
        life.into_iter().chain(idle).min_by_key(|(at, due)| (*at, *due == Due::Ping))
    }
}

/// A token bucket for frames that cost their sender next to nothing: `control_frames_per_second_max`, with a burst of
/// twice that. Kept as the instant at which the bucket will be full again, so it needs no refilling.
#[derive(Debug, Default)]
pub(super) struct ControlRate {
    full_at: Option<Instant>,
}

impl ControlRate {
    /// Counts one frame; false if there are too many.
    pub(super) fn admit(&mut self, now: Now, limits: &Limits) -> bool {
        let cost = SECOND / limits.control_frames_per_second_max.max(1);
        let full_at = self.full_at.map_or(now.mono, |at| at.max(now.mono)) + cost;
        self.full_at = Some(full_at);
        full_at.saturating_duration_since(now.mono) <= BURST
    }
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
        let mut life = KeepAlive::new(start);
        life.heard(start.plus(Duration::from_secs(5)));
        assert_eq!(life.next(&limits), Some((start.mono + Duration::from_secs(25), Due::Ping)));

        life.ask(start.plus(Duration::from_secs(25)));
        assert_eq!(
            life.next(&limits),
            Some((start.mono + Duration::from_secs(35), Due::PongTimeout))
        );

        life.heard(start.plus(Duration::from_secs(30)));
        assert_eq!(
            life.next(&limits),
            Some((start.mono + Duration::from_secs(40), Due::PongTimeout))
        );
    }

    #[test]
    fn only_the_latest_ping_has_a_round_trip() {
        let start = start();
        let mut life = KeepAlive::new(start);
        assert_eq!(life.answered(start, &[0; 4]), None, "unasked");
        let first = life.ask(start);
        let second = life.ask(start.plus(SECOND));
        let later = start.plus(SECOND * 3);
        assert_eq!(life.answered(later, &first), None);
        assert_eq!(life.answered(later, &second), Some(SECOND * 2));
        assert_eq!(life.answered(later, &second), None, "twice");
    }

    #[test]
    fn without_pings_only_idleness_counts() {
        let start = start();
        let limits = Limits { ping_interval: None, ..limits() };
        let life = KeepAlive::new(start);
        assert_eq!(
            life.next(&limits),
            Some((start.mono + Duration::from_secs(300), Due::IdleTimeout))
        );
        let limits = Limits { connection_timeout: None, ..limits };
        assert_eq!(life.next(&limits), None);
    }

    #[test]
    fn a_burst_of_two_seconds_passes_and_refills() {
        let start = start();
        let limits = Limits { control_frames_per_second_max: 10, ..Limits::default() };
        let mut rate = ControlRate::default();
        assert_eq!((0..100).take_while(|_| rate.admit(start, &limits)).count(), 20);

        let later = start.plus(SECOND * 2);
        assert_eq!(
            (0..100).take_while(|_| rate.admit(later, &limits)).count(),
            19,
            "the refused one was counted"
        );
    }
}
