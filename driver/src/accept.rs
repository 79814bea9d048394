//! Accepting: one shard listens and gives each socket to the shard that has the fewest, those on their way included.

use std::{
    io,
    net::{SocketAddr, TcpStream as StdTcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use mahavishnu_core::hub::{Listener, NO_ADDRESS};
use tracing::warn;

use crate::{
    listen::Open,
    mailbox::Mail,
    poller::{Poller, TcpStream},
    runtime::Runtime,
    shard::Shard,
};

/// Pause where accepting at once again would only repeat what was: no file descriptor is free, or no shard takes sockets in.
const PAUSE: Duration = Duration::from_millis(100);

/// How often failures to accept are told at most.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How long who was accepted has to say what it wants, where who comes later waits for the next server.
pub(crate) const SETTLE: Duration = Duration::from_millis(100);

/// Sockets accepted before those that are there get their turn.
const ACCEPTED_PER_TURN: usize = 64;

/// The listening sockets, until the shard stops listening.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    listeners: Vec<(Open, Listener)>,
    /// The one that is asked next: they take turns.
    next: usize,
    /// Somebody may be waiting at one of them.
    wanted: bool,
    paused_until: Option<Instant>,
    /// When it stops, if that is soon.
    ends: Option<Instant>,
    /// Failures since the last one that was told, and when that was.
    failures: u64,
    told: Option<Instant>,
}

impl Listening {
    pub(crate) fn new<T, W>(
        poller: &Poller<T, W>,
        mut listeners: Vec<(Open, Listener)>,
    ) -> io::Result<Self> {
        for (listener, _) in &mut listeners {
            match listener {
                Open::Tcp(listener) => poller.listen(listener)?,
                Open::Unix(listener, _) => poller.listen_unix(listener)?,
            }
        }
        Ok(Self { listeners, ..Self::default() })
    }

    /// Closes the listening sockets.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Closes the listening sockets at `at`.
    pub(crate) fn stop_at(&mut self, at: Option<Instant>) {
        self.ends = self.ends.into_iter().chain(at).min();
    }

    /// When to try again, if it is not now, or when to stop.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.paused_until.into_iter().chain(self.ends).min()
    }

    /// Whether there is somebody to accept now.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wanted && self.paused_until.is_none()
    }

    /// The next who has come. `None` if nobody is waiting.
    fn accept(&mut self) -> Option<io::Result<(TcpStream, SocketAddr, Listener)>> {
        for _ in 0..self.listeners.len() {
            let place = self.next % self.listeners.len();
            self.next = place + 1;
            let (listener, kind) = self.listeners.get(place)?;
            let accepted = match listener {
                Open::Tcp(listener) => listener.accept(),
                Open::Unix(listener, _) => listener.accept().map(|(stream, _)| {
                    let stream = StdTcpStream::from(OwnedFd::from(stream));
                    (TcpStream::from_std(stream), NO_ADDRESS)
                }),
            };
            match accepted {
                Ok((stream, address)) => return Some(Ok((stream, address, *kind))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// Accepting has failed: it is tried again after a pause, and told now and then.
    fn failed(&mut self, now: Instant, error: &io::Error) {
        self.failures += 1;
        if self.told.is_none_or(|told| now >= told + TOLD_EVERY) {
            warn!(%error, failures = self.failures, "cannot accept");
            (self.told, self.failures) = (Some(now), 0);
        }
        self.pause(now);
    }

    fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + PAUSE);
    }
}

impl<R: Runtime> Shard<R> {
    /// Accepts those who have come.
    pub(crate) fn accept(&mut self) {
        if self.listening.ends.is_some_and(|ends| ends <= self.clock.now().mono) {
            self.listening.stop();
        }
        self.listening.wanted |= self.sockets.takes_newcomers();
        if self.listening.paused_until.is_some_and(|until| until <= self.clock.now().mono) {
            self.listening.paused_until = None;
        }
        if !self.listening.is_waiting() {
            return;
        }
        for _ in 0..ACCEPTED_PER_TURN {
            let Some((index, to)) =
                self.mailboxes.iter().enumerate().min_by_key(|(_, to)| to.load())
            else {
                return;
            };
            if to.is_crowded() {
                return self.listening.pause(self.clock.now().mono);
            }
            match self.listening.accept() {
                Some(Ok((stream, address, kind))) if index != self.index() => {
                    to.expect_socket();
                    to.pass(Mail::Socket(stream, address, kind));
                }
                Some(Ok((stream, address, kind))) => {
                    let _ = self.add(stream, address, kind);
                }
                Some(Err(error)) => {
                    return self.listening.failed(self.clock.now().mono, &error);
                }
                None => {
                    self.listening.wanted = false;
                    return;
                }
            }
        }
    }
}
