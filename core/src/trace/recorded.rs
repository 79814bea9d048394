//! A hub whose calls are noted.

use std::io;

use bytes::Bytes;

use super::record::{Recorder, Script, Tap};
use crate::{
    hub::{
        BusEvent, Command, ConnId, Hub, Output, Peer, ShardId, ShardMessage, StoreEvent, Timeout,
    },
    metrics::Tally,
    reason::Reason,
    spans::Spans,
    time::Now,
    ws::Flush,
};

/// A hub, driven as a [`Hub`] is, that notes each call while recording is on. Off, that costs a comparison for each.
///
/// ```
/// # use std::{sync::Arc, time::{Duration, Instant}};
/// # use mahavishnu_core::{config::Config, entropy::Seed, hub::{Hub, Place}, time::Now};
/// use mahavishnu_core::trace::{Recorded, Writer};
///
/// # let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
/// let config = Arc::new(Config::default());
/// let mut hub = Recorded::new(Hub::new(config, Place::alone(Seed::from(1)), now));
/// assert!(hub.start(now));
/// hub.handle_timeout(now);
/// hub.end_turn(now);
/// assert!(!hub.take().is_empty());
/// ```
#[derive(Debug)]
pub struct Recorded {
    hub: Hub,
    recorder: Option<Box<Recorder>>,
}

impl Recorded {
    /// Recording is off until [`start`](Self::start).
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        Self { hub, recorder: None }
    }

    /// Begins to record; call it on every hub of the process before any input. False, and no record, once there are
    /// connections, and under a configuration with TLS, whose randomness no seed can bring back, or with a bus, whose words
    /// are not noted.
    pub fn start(&mut self, now: Now) -> bool {
        let config = self.hub.config();
        let fresh = self.hub.sockets() == 0 && config.tls.is_none() && config.bus.is_none();
        if fresh {
            let recorder = Recorder::new(now, self.hub.place(), self.hub.config());
            self.recorder = Some(Box::new(recorder));
        }
        fresh
    }

    /// Ends the record: what has been noted and not taken is lost.
    pub fn stop(&mut self) {
        self.recorder = None;
    }

    /// The record's next bytes, for [`Writer::add`](super::Writer::add); empty if recording is off. Best taken once per
    /// turn.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.recorder.as_mut().map(|recorder| recorder.take()).unwrap_or_default()
    }

    /// The hub, to be asked.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    fn note(&mut self, note: impl FnOnce(&mut Recorder)) {
        if let Some(recorder) = &mut self.recorder {
            note(recorder);
        }
    }
}

/// [`Hub`]'s methods, noted.
impl Recorded {
    /// See [`Hub::handle_accept`].
    pub fn handle_accept(&mut self, now: Now, peer: Peer) -> Result<ConnId, Reason> {
        let accepted = self.hub.handle_accept(now, peer);
        self.note(|recorder| recorder.accept(now, peer, accepted.ok()));
        accepted
    }

    /// See [`Hub::handle_bytes`].
    pub fn handle_bytes(&mut self, now: Now, conn: ConnId, wire: &mut [u8]) {
        self.note(|recorder| recorder.bytes(now, conn, wire));
        self.hub.handle_bytes(now, conn, wire);
    }

    /// See [`Hub::handle_eof`].
    pub fn handle_eof(&mut self, now: Now, conn: ConnId) {
        self.note(|recorder| recorder.eof(now, conn));
        self.hub.handle_eof(now, conn);
    }

    /// See [`Hub::handle_io_error`].
    pub fn handle_io_error(&mut self, now: Now, conn: ConnId, kind: io::ErrorKind) {
        self.note(|recorder| recorder.io_error(now, conn));
        self.hub.handle_io_error(now, conn, kind);
    }

    /// See [`Hub::handle_shard`].
    pub fn handle_shard(&mut self, now: Now, from: ShardId, batch: Vec<ShardMessage>) {
        self.note(|recorder| recorder.shard(now, from));
        self.hub.handle_shard(now, from, batch);
    }

    /// See [`Hub::handle_command`]. A configuration with TLS ends the record.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.note(|recorder| recorder.command(now, &command));
        if matches!(&command, Command::Reload(config) if config.tls.is_some()) {
            self.recorder = None;
        }
        self.hub.handle_command(now, command);
    }

    /// See [`Hub::handle_store`].
    pub fn handle_store(&mut self, now: Now, event: StoreEvent) {
        self.note(|recorder| recorder.stored(now, &event));
        self.hub.handle_store(now, event);
    }

    /// See [`Hub::handle_bus`]. It is not noted.
    pub fn handle_bus(&mut self, now: Now, event: BusEvent) {
        self.hub.handle_bus(now, event);
    }

    /// See [`Hub::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.note(|recorder| recorder.timeout(now));
        self.hub.handle_timeout(now);
    }

    /// See [`Hub::poll_output`].
    #[must_use]
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        let output = self.hub.poll_output(now);
        self.note(|recorder| recorder.output(now, output.as_ref()));
        output
    }

    /// See [`Hub::poll_dirty`].
    #[must_use]
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        let conn = self.hub.poll_dirty();
        self.note(|recorder| recorder.dirty(conn));
        conn
    }

    /// See [`Hub::flush`].
    pub fn flush(&mut self, now: Now, conn: ConnId, sink: &mut dyn io::Write) -> Flush {
        let Some(recorder) = &mut self.recorder else { return self.hub.flush(now, conn, sink) };
        let mut tap = Tap::new(sink);
        let flush = self.hub.flush(now, conn, &mut tap);
        let script: Script = tap.into_script();
        recorder.flush(now, conn, script, flush);
        flush
    }

    /// See [`Hub::flush_owned`]. While it records, what is written is copied.
    pub fn flush_owned(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes_max: usize,
        pieces: &mut Vec<Bytes>,
    ) -> Flush {
        if self.recorder.is_none() {
            return self.hub.flush_owned(now, conn, bytes_max, pieces);
        }
        self.flush(now, conn, &mut Pieces { pieces, left: bytes_max.max(1) })
    }

    /// See [`Hub::end_turn`].
    pub fn end_turn(&mut self, now: Now) {
        self.hub.end_turn(now);
        if let Some(recorder) = &mut self.recorder {
            recorder.end_turn(now, self.hub.poll_timeout());
        }
    }

    /// See [`Hub::poll_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        self.hub.poll_timeout()
    }

    /// See [`Hub::take_spans`].
    pub fn take_spans(&mut self) -> Spans {
        self.hub.take_spans()
    }

    /// See [`Hub::tally`].
    pub fn tally(&mut self) -> &mut Tally {
        self.hub.tally()
    }
}

/// Takes copies until they are enough.
struct Pieces<'p> {
    pieces: &'p mut Vec<Bytes>,
    left: usize,
}

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.left = self.left.saturating_sub(bytes.len());
        self.pieces.push(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
