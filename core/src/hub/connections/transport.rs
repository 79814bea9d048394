//! What lies between a socket and its connection: nothing, or TLS.

use std::{collections::VecDeque, io};

use bytes::Bytes;

#[cfg(debug_assertions)]
use super::{Conn, slab::Slab};
use super::{Connections, proxy};
use crate::{
    config::{Config, PlainOnTls},
    hub::{
        env::Env,
        types::{ConnId, Listener},
    },
    limits::Limits,
    reason::Reason,
    time::Now,
    tls::{self, Progress, Session},
    ws::{self, Flush},
};

/// How a connection's bytes come from its socket: as they are, unless there is a layer between.
#[derive(Debug, Default)]
pub(super) struct Transport(Option<Box<Layer>>);

#[derive(Debug)]
pub(super) enum Layer {
    /// A header of the PROXY protocol comes first.
    ProxyHeader(proxy::Pending),
    /// TLS is on, and the first byte, which decides, has not come.
    Undecided,
    /// None, where TLS is on: less is allowed.
    InsteadOfTls,
    /// TLS records.
    Tls(Session),
}

impl From<Layer> for Transport {
    fn from(layer: Layer) -> Self {
        Self(Some(Box::new(layer)))
    }
}

impl Transport {
    pub(super) fn layer(&self) -> Option<&Layer> {
        self.0.as_deref()
    }

    pub(super) fn layer_mut(&mut self) -> Option<&mut Layer> {
        self.0.as_deref_mut()
    }

    /// Writes through `write`, which is given the sink for plaintext.
    pub(super) fn flush(
        &mut self,
        socket: &mut dyn io::Write,
        write: impl FnOnce(&mut dyn io::Write) -> Flush,
    ) -> Flush {
        match self.session_mut() {
            None => write(socket),
            Some(session) => {
                let flush = write(&mut session.writer(socket));
                session.finish(flush, socket)
            }
        }
    }

    /// What waits, without borrowing: see [`ws::Connection::flush_owned`]. Records are made anew for each.
    pub(super) fn flush_owned(
        &mut self,
        ws: &mut ws::Connection,
        now: Now,
        bytes_max: usize,
        pieces: &mut Vec<Bytes>,
    ) -> Flush {
        let Some(session) = self.session_mut() else {
            return ws.flush_owned(now, bytes_max, pieces);
        };
        let mut records = Records { bytes: Vec::new(), bytes_max };
        let flush = ws.flush(now, &mut session.writer(&mut records));
        let flush = session.finish(flush, &mut records);
        if !records.bytes.is_empty() {
            pieces.push(records.bytes.into());
        }
        flush
    }

    pub(super) fn wants_write(&self) -> bool {
        self.session().is_some_and(Session::wants_write)
    }

    pub(super) fn wants_read(&self) -> bool {
        self.session().is_none_or(|session| !session.is_holding())
    }

    /// Ciphertext that waits until the hub has time for it.
    pub(super) fn held_bytes(&self) -> usize {
        self.session().map_or(0, Session::held_bytes)
    }

    /// Ciphertext that waits for the socket, at most.
    pub(super) fn buffered_bytes(&self) -> usize {
        if self.wants_write() { tls::BATCH_BYTES } else { 0 }
    }

    fn is_handshaking(&self) -> bool {
        self.session().is_some_and(Session::is_handshaking)
    }

    fn session(&self) -> Option<&Session> {
        match self.layer()? {
            Layer::Tls(session) => Some(session),
            Layer::ProxyHeader(_) | Layer::Undecided | Layer::InsteadOfTls => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        match self.layer_mut()? {
            Layer::Tls(session) => Some(session),
            Layer::ProxyHeader(_) | Layer::Undecided | Layer::InsteadOfTls => None,
        }
    }
}

/// Takes records until there are enough of them.
struct Records {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Records {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() >= self.bytes_max {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// TLS handshakes under way. One costs a hundred times what a message costs, and anybody may begin one.
#[derive(Debug)]
pub(super) struct Handshakes {
    open: usize,
    /// How many this turn may still carry out.
    left: u32,
    /// Connections whose handshake waits for another turn.
    waiting: VecDeque<ConnId>,
    /// Connections in the order in which they began, those that are through or gone among them.
    begun: VecDeque<ConnId>,
}

impl Handshakes {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            open: 0,
            left: limits.tls.tls_handshakes_per_turn,
            waiting: VecDeque::new(),
            begun: VecDeque::new(),
        }
    }

    pub(super) fn end_turn(&mut self, limits: &Limits) {
        self.left = limits.tls.tls_handshakes_per_turn;
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, transport: &Transport) {
        if transport.is_handshaking() {
            self.open -= 1;
        }
    }

    /// What is counted equals what there is.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, slots: &Slab<Box<Conn>>) {
        let conns = slots.indices().filter_map(|index| slots.get(index));
        let open = conns.filter(|conn| conn.transport.is_handshaking()).count();
        assert_eq!(self.open, open, "TLS handshakes under way");
    }
}

/// What is to be done with bytes that come from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Path {
    /// The connection takes them in as they are.
    Plain,
    /// A header of the PROXY protocol is taken off their front: see [`Connections::take_proxy_header`].
    ProxyHeader,
    /// The first of them says which of the other two it is: see [`Connections::decide`].
    Undecided,
    /// They are decrypted: see [`Connections::decrypt`].
    Tls,
}

impl Connections {
    /// How a new connection's bytes come from its socket.
    pub(super) fn transport_of(config: &Config, listener: Listener) -> Transport {
        match listener {
            Listener::Main if config.tls.is_some() => Layer::Undecided.into(),
            Listener::Main | Listener::Metrics | Listener::Adopted => Transport::default(),
        }
    }

    /// What is to be done with the next bytes of a connection.
    pub(in crate::hub) fn path(&self, id: ConnId) -> Path {
        match self.get(id).and_then(|conn| conn.transport.layer()) {
            None | Some(Layer::InsteadOfTls) => Path::Plain,
            Some(Layer::ProxyHeader(_)) => Path::ProxyHeader,
            Some(Layer::Undecided) => Path::Undecided,
            Some(Layer::Tls(_)) => Path::Tls,
        }
    }

    /// Decides what lies between socket and connection from now on. A reason if the connection is to end; `too_fast`
    /// says that its address asks for too many handshakes.
    pub(in crate::hub) fn decide(
        &mut self,
        env: &Env,
        id: ConnId,
        handshake: bool,
        too_fast: bool,
    ) -> Option<Reason> {
        let config = &env.config;
        let conn = self.edit(id)?;
        let loopback = conn.is_loopback();
        let (layer, refusal) = match (&config.tls, config.plain_on_tls) {
            // Switched off since this connection came.
            (None, _) => (None, None),
            (Some(_), _) if too_fast => (Some(Layer::InsteadOfTls), Some(Reason::TlsHandshakeRate)),
            (Some(_), PlainOnTls::Loopback) if loopback && !handshake => (None, None),
            (Some(_), PlainOnTls::Nothing) if !handshake => {
                (Some(Layer::InsteadOfTls), Some(Reason::TlsOnly))
            }
            (Some(_), _) if !handshake => (Some(Layer::InsteadOfTls), None),
            (Some(tls), _) => match Session::new(tls) {
                Some(session) => (Some(Layer::Tls(session)), None),
                None => (Some(Layer::InsteadOfTls), Some(Reason::Internal)),
            },
        };
        conn.transport = layer.map(Transport::from).unwrap_or_default();
        if conn.transport.is_handshaking() {
            self.handshakes.open += 1;
            self.handshakes.begun.push_back(id);
        }
        refusal
    }

    /// Where there are too many handshakes, the one that began first is to go: an honest one is over in a few round trips,
    /// and whoever begins thousands and ends none must not keep the others out.
    pub(in crate::hub) fn handshake_over(&mut self, limits: &Limits) -> Option<ConnId> {
        let max = limits.tls.tls_handshakes_max.max(1);
        while self.handshakes.open >= max
            && let Some(oldest) = self.handshakes.begun.pop_front()
        {
            if self.is_handshaking(oldest) {
                return Some(oldest);
            }
        }
        if self.handshakes.begun.len() >= 2 * max {
            let begun = std::mem::take(&mut self.handshakes.begun);
            let rest = begun.into_iter().filter(|id| self.is_handshaking(*id)).collect();
            self.handshakes.begun = rest;
        }
        None
    }

    pub(in crate::hub) fn is_handshaking(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|conn| conn.transport.is_handshaking())
    }

    /// The connection is given up, whatever still comes of its handshake.
    pub(in crate::hub) fn stop_handshake(&mut self, id: ConnId) {
        let Some(conn) = self.edit(id) else { return };
        if let Some(session) = conn.transport.session_mut()
            && session.is_handshaking()
        {
            session.give_up();
            self.handshakes.open -= 1;
        }
    }

    /// Ciphertext came in. Whether it is kept for another turn, as a part of a handshake that this one has no time for.
    pub(in crate::hub) fn postpones(&mut self, id: ConnId, wire: &[u8]) -> bool {
        let busy = self.handshakes.left == 0;
        let Some(session) = self.edit(id).and_then(|conn| conn.transport.session_mut()) else {
            return false;
        };
        let postponed = session.is_handshaking() && (busy || session.is_holding());
        if postponed {
            let first = !session.is_holding();
            session.hold(wire);
            if first {
                self.handshakes.waiting.push_back(id);
            }
        }
        postponed
    }

    /// TLS handshakes under way.
    #[cfg(all(test, feature = "tls"))]
    pub(in crate::hub) fn handshakes(&self) -> usize {
        self.handshakes.open
    }

    /// Whether a handshake waits for its turn.
    pub(in crate::hub) fn is_handshake_waiting(&self) -> bool {
        !self.handshakes.waiting.is_empty()
    }

    /// The next handshake that waited, if this turn has time for one.
    pub(in crate::hub) fn next_handshake(&mut self) -> Option<ConnId> {
        if self.handshakes.left == 0 { None } else { self.handshakes.waiting.pop_front() }
    }

    /// Lets the TLS session take `wire` in, and sees to the count of handshakes.
    pub(in crate::hub) fn decrypt(
        &mut self,
        env: &mut Env,
        id: ConnId,
        wire: &[u8],
        plain: &mut Vec<u8>,
    ) -> Progress {
        if let Some(tls) = &env.config.tls {
            tls.set_time(env.now.unix);
        }
        let Some(conn) = self.edit(id) else { return Progress::More };
        let Some(session) = conn.transport.session_mut() else { return Progress::More };
        if !session.is_handshaking() {
            return session.receive(wire, plain);
        }
        let progress = session.receive(wire, plain);
        // An answer, and no dribble of bytes, is what costs.
        let answered = session.wants_write();
        let over = !session.is_handshaking();
        if session.is_established() {
            let (identity, resumed) = (session.identity(), session.is_resumed());
            conn.secure = true;
            if let Some(identity) = identity {
                conn.rare_mut().identity = Some(identity);
            }
            env.tally.handshake(resumed);
        }
        self.handshakes.open -= usize::from(over);
        self.handshakes.left = self.handshakes.left.saturating_sub(u32::from(answered));
        progress
    }

    /// The buffer for what is decrypted, empty, for the time in which that is being dealt with.
    pub(in crate::hub) fn take_plaintext(&mut self) -> Vec<u8> {
        let mut plain = std::mem::take(&mut self.plaintext);
        plain.clear();
        plain
    }

    pub(in crate::hub) fn put_plaintext(&mut self, plain: Vec<u8>) {
        if plain.capacity() <= PLAINTEXT_KEPT_MAX {
            self.plaintext = plain;
        }
    }

    /// Whether this connection, without TLS where TLS is on, may ask for `/health` and nothing else.
    pub(in crate::hub) fn is_restricted(&self, id: ConnId) -> bool {
        let layer = self.get(id).and_then(|conn| conn.transport.layer());
        matches!(layer, Some(Layer::InsteadOfTls))
    }

    pub(in crate::hub) fn is_by_revoked_certificate(&self, config: &Config, id: ConnId) -> bool {
        let identity = self.get(id).and_then(|conn| conn.rare().identity.as_ref());
        identity.zip(config.tls.as_ref()).is_some_and(|(identity, tls)| tls.revokes(identity))
    }
}

/// Content type of a handshake record, the first byte of a connection over TLS (RFC 8446 §5.1). A request begins with a
/// letter.
pub(in crate::hub) const HANDSHAKE: u8 = 22;

/// A larger buffer is given back after use.
const PLAINTEXT_KEPT_MAX: usize = 128 * 1024;
