//! What lies between a socket and its connection: nothing, or TLS.

use std::{collections::VecDeque, io, sync::Arc};

use super::{
    Hub,
    conn::Conn,
    forwarded::is_trusted,
    proxy::Pending,
    types::{ConnId, Listener},
};
use crate::{
    config::PlainOnTls,
    limits::Limits,
    reason::Reason,
    time::Now,
    tls::{self, Identity, Progress, Session},
    ws::{self, Flush},
};

/// How a connection's bytes come from its socket: as they are, unless there is a layer between.
#[derive(Debug, Default)]
pub(crate) struct Transport(Option<Box<Layer>>);

#[derive(Debug)]
pub(crate) enum Layer {
    /// A header of the PROXY protocol comes first.
    ProxyHeader(Pending),
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
    pub(crate) fn layer(&self) -> Option<&Layer> {
        self.0.as_deref()
    }

    pub(crate) fn layer_mut(&mut self) -> Option<&mut Layer> {
        self.0.as_deref_mut()
    }

    /// Writes through `write`, which is given the sink for plaintext.
    pub(crate) fn flush(
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

    pub(crate) fn wants_write(&self) -> bool {
        self.session().is_some_and(Session::wants_write)
    }

    pub(crate) fn wants_read(&self) -> bool {
        self.session().is_none_or(|session| !session.is_holding())
    }

    /// Ciphertext that waits until the hub has time for it.
    pub(crate) fn held_bytes(&self) -> usize {
        self.session().map_or(0, Session::held_bytes)
    }

    /// Ciphertext that waits for the socket, at most.
    pub(crate) fn buffered_bytes(&self) -> usize {
        if self.wants_write() { tls::BATCH_BYTES } else { 0 }
    }

    fn is_shaking(&self) -> bool {
        self.session().is_some_and(Session::is_shaking)
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

/// TLS handshakes under way. One costs a hundred times what a message costs, and anybody may begin one.
#[derive(Debug)]
pub(crate) struct Handshakes {
    open: usize,
    /// How many this turn may still carry out.
    left: u32,
    /// Connections whose handshake waits for another turn.
    waiting: VecDeque<ConnId>,
    /// Connections in the order in which they began, those that are through or gone among them.
    begun: VecDeque<ConnId>,
}

impl Handshakes {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            open: 0,
            left: limits.tls.tls_handshakes_per_turn,
            waiting: VecDeque::new(),
            begun: VecDeque::new(),
        }
    }

    pub(crate) fn end_turn(&mut self, limits: &Limits) {
        self.left = limits.tls.tls_handshakes_per_turn;
    }

    pub(crate) fn is_anyone_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    #[cfg(all(test, feature = "tls"))]
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, transport: &Transport) {
        if transport.is_shaking() {
            self.open -= 1;
        }
    }
}

impl Hub {
    pub(crate) fn transport_of(&self, listener: Listener) -> Transport {
        match listener {
            Listener::Main if self.config.tls.is_some() => Layer::Undecided.into(),
            Listener::Main | Listener::Metrics => Transport::default(),
        }
    }

    /// Whether `wire` is what the connection is to read. Its first byte decides: a TLS record of a handshake begins with
    /// 22 (RFC 8446 §5.1), a request with a letter.
    pub(crate) fn is_plain(&mut self, now: Now, id: ConnId, wire: &[u8]) -> bool {
        let Some(conn) = self.conn(id) else { return true };
        match (conn.transport.layer(), wire.first()) {
            (None | Some(Layer::ProxyHeader(_) | Layer::InsteadOfTls), _)
            | (Some(Layer::Undecided), None) => true,
            (Some(Layer::Tls(_)), _) => false,
            (Some(Layer::Undecided), Some(first)) => {
                self.decide(now, id, *first == HANDSHAKE);
                self.conn(id).is_none_or(|conn| conn.transport.session().is_none())
            }
        }
    }

    fn decide(&mut self, now: Now, id: ConnId, handshake: bool) {
        let loopback = self.conn(id).is_some_and(Conn::is_loopback);
        let shakes = handshake && self.config.tls.is_some();
        let too_fast = shakes && !self.may_shake(now, id);
        if shakes && !too_fast {
            self.make_room_to_shake(now);
        }
        let (layer, refusal) = match (&self.config.tls, self.config.plain_on_tls) {
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
        let transport = layer.map(Transport::from).unwrap_or_default();
        if transport.is_shaking() {
            self.handshakes.open += 1;
            self.handshakes.begun.push_back(id);
        }
        let Some((conn, _)) = self.conn_mut(id) else { return };
        conn.transport = transport;
        match refusal {
            // There is nothing to be told, and nothing to wait for.
            Some(reason @ Reason::TlsHandshakeRate) => self.abandon(now, id, reason),
            Some(reason) => self.cut(now, id, reason),
            None => {}
        }
    }

    /// Whether a handshake is worth its cost, by the address that it is asked from. Behind a proxy that will name the client
    /// only in the request, nothing is known yet.
    fn may_shake(&mut self, now: Now, id: ConnId) -> bool {
        let Some(conn) = self.conn(id) else { return false };
        let address = conn.ip;
        let unnamed = is_trusted(address, &self.config.trusted_proxies);
        unnamed || self.visitors.may_shake(now, address, &self.config.limits)
    }

    /// Where there are too many handshakes, the one that began first goes: an honest one is over in a few round trips, and
    /// whoever begins thousands and ends none must not keep the others out.
    fn make_room_to_shake(&mut self, now: Now) {
        let max = self.config.limits.tls.tls_handshakes_max.max(1);
        while self.handshakes.open >= max
            && let Some(oldest) = self.handshakes.begun.pop_front()
        {
            if self.is_shaking(oldest) {
                self.cut(now, oldest, Reason::TlsHandshakesMax);
                self.stop_shaking(oldest);
            }
        }
        if self.handshakes.begun.len() >= 2 * max {
            let begun = std::mem::take(&mut self.handshakes.begun);
            let rest = begun.into_iter().filter(|id| self.is_shaking(*id)).collect();
            self.handshakes.begun = rest;
        }
    }

    fn is_shaking(&self, id: ConnId) -> bool {
        self.conn(id).is_some_and(|conn| conn.transport.is_shaking())
    }

    /// The connection is given up, whatever still comes of its handshake.
    pub(crate) fn stop_shaking(&mut self, id: ConnId) {
        let Some((conn, _)) = self.conn_mut(id) else { return };
        if let Some(session) = conn.transport.session_mut()
            && session.is_shaking()
        {
            session.give_up();
            self.handshakes.open -= 1;
        }
    }

    /// Ciphertext came in. A handshake that this turn has no time for waits for the next.
    pub(crate) fn decrypt(&mut self, now: Now, id: ConnId, wire: &[u8]) {
        let busy = self.handshakes.left == 0;
        let Some((conn, _)) = self.conn_mut(id) else { return };
        let Some(session) = conn.transport.session_mut() else { return };
        if session.is_shaking() && (busy || session.is_holding()) {
            let first = !session.is_holding();
            session.hold(wire);
            if first {
                self.handshakes.waiting.push_back(id);
            }
            self.measure(id);
            self.make_room_to_take_in(now);
            return;
        }
        self.feed(now, id, wire);
    }

    /// Handshakes that waited.
    pub(crate) fn go_on_shaking(&mut self, now: Now) {
        while self.handshakes.left > 0
            && let Some(id) = self.handshakes.waiting.pop_front()
        {
            self.feed(now, id, &[]);
            // The driver may have stopped reading; a flush tells it to go on.
            if self.conn(id).is_some() {
                self.mark_dirty(id.index);
            }
        }
    }

    fn feed(&mut self, now: Now, id: ConnId, wire: &[u8]) {
        if let Some(tls) = &self.config.tls {
            tls.set_time(now.unix);
        }
        let mut plain = std::mem::take(&mut self.plaintext);
        plain.clear();
        let shaking = self.is_shaking(id);
        let progress = self.advance(id, wire, &mut plain);
        if shaking && self.is_by_revoked_certificate(id) {
            // The handshake began before the list came.
            plain.clear();
            self.cut(now, id, Reason::CertificateRevoked);
        }
        if !plain.is_empty() {
            self.pump(now, id, &mut plain);
        }
        if plain.capacity() <= PLAINTEXT_KEPT_MAX {
            self.plaintext = plain;
        }
        match progress {
            Progress::More => {}
            Progress::Ended => self.handle_eof(now, id),
            Progress::Failed => {
                let established = self.conn(id).is_some_and(|conn| conn.secure);
                let reason = if established { Reason::TlsRecord } else { Reason::TlsHandshake };
                self.cut(now, id, reason);
            }
        }
        self.settle(id);
    }

    /// Lets the session take `wire` in, and sees to the count of handshakes.
    fn advance(&mut self, id: ConnId, wire: &[u8], plain: &mut Vec<u8>) -> Progress {
        let Some((conn, _)) = self.conn_mut(id) else { return Progress::More };
        let Some(session) = conn.transport.session_mut() else { return Progress::More };
        if !session.is_shaking() {
            return session.receive(wire, plain);
        }
        let progress = session.receive(wire, plain);
        // An answer, and no dribble of bytes, is what costs.
        let answered = session.wants_write();
        let over = !session.is_shaking();
        let established = session.is_established();
        let resumed = session.is_resumed();
        if established {
            conn.secure = true;
            if let Some(identity) = session.identity() {
                conn.aside.put().identity = Some(identity);
            }
            self.tally.handshake(resumed);
        }
        self.handshakes.open -= usize::from(over);
        self.handshakes.left = self.handshakes.left.saturating_sub(u32::from(answered));
        progress
    }

    /// Whether this connection, without TLS where TLS is on, may ask for `/health` and nothing else.
    pub(crate) fn is_restricted(&self, id: ConnId) -> bool {
        let layer = self.conn(id).and_then(|conn| conn.transport.layer());
        matches!(layer, Some(Layer::InsteadOfTls))
    }

    /// Ends a connection whose bytes are of no use: nothing that it waits for is answered.
    pub(crate) fn cut(&mut self, now: Now, id: ConnId, reason: Reason) {
        let Some((conn, limits)) = self.conn_mut(id) else { return };
        conn.ws.close(now, limits, reason, ws::CloseWhen::AtOnce);
        self.retire(now, id, reason);
        self.settle(id);
        self.mark_dirty(id.index);
    }

    pub(crate) fn is_by_revoked_certificate(&self, id: ConnId) -> bool {
        let identity = self.conn(id).and_then(|conn| conn.aside.get().identity.as_ref());
        identity.zip(self.config.tls.as_ref()).is_some_and(|(identity, tls)| tls.revokes(identity))
    }

    /// Who the client is by its certificate.
    pub(crate) fn identity(&self, id: ConnId) -> Option<Arc<Identity>> {
        self.conn(id)?.aside.get().identity.clone()
    }
}

/// Content type of a handshake record.
const HANDSHAKE: u8 = 22;

/// A larger buffer is given back after use.
const PLAINTEXT_KEPT_MAX: usize = 128 * 1024;
