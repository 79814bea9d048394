//! The state of a connection, the commands that change it, and time.

use bytes::Bytes;
use http::{Response, header::CONNECTION};

use super::{
    close::PeerClose,
    deflate::Deflate,
    encode::{self, Opcode},
    event::Event,
    head::HeadReader,
    http1::{self, Manner},
    keepalive::{self, Asked, ControlRate, Due},
    negotiate::{self, Accept, ClientRequest},
    outbox::Outbox,
    state::{Ended, Finish, Kept, LAST, LastWords, Rare, Shake, State},
};
use crate::{
    entropy::Entropy,
    limits::Limits,
    reason::Reason,
    time::{Instant, Now},
};

/// One socket's protocol state. 72 bytes, and nothing on the heap while it is open and idle.
#[derive(Debug)]
pub struct Connection {
    pub(super) outbox: Outbox,
    pub(super) state: State,
    /// When the wait began that the state's timeout bounds. While open: when the last byte came.
    pub(super) since: Instant,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) control_rate: ControlRate,
    /// The peer ended its side of the stream.
    pub(super) eof: bool,
    /// A request was answered on this connection.
    pub(super) served: bool,
    /// Whether frames from the peer are masked, as they are if it is the client (RFC 6455 §5.1).
    pub(super) peer_masks: bool,
    /// Bits of the window that the peer keeps for compressed messages; 0 without permessage-deflate.
    pub(super) window_bits: u8,
}

impl Connection {
    /// A server's end of a socket that was just accepted.
    #[must_use]
    pub fn server(now: Now) -> Self {
        Self::new(now, State::Head(None), None)
    }

    /// A client's end of a socket that was just connected; queues the handshake. `entropy` must be this connection's
    /// own: masks are drawn from it.
    #[must_use]
    pub fn client(now: Now, request: ClientRequest, mut entropy: Entropy) -> Self {
        let (head, accept_key) = negotiate::client_head(&request, &mut entropy);
        let shake = Shake {
            reader: HeadReader::default(),
            accept_key,
            offered: request.subprotocols,
            deflate: request.deflate,
        };
        let mut connection = Self::new(now, State::Shake(Box::new(shake)), Some(Box::new(entropy)));
        connection.outbox.raw(head);
        connection
    }

    fn new(now: Now, state: State, masks: Option<Box<Entropy>>) -> Self {
        let mut outbox = Outbox::new();
        outbox.seal(true);
        Self {
            outbox,
            state,
            since: now.mono,
            peer_masks: masks.is_none(),
            rare: masks.map(|masks| Box::new(Rare { masks: Some(masks), ..Rare::default() })),
            control_rate: ControlRate::default(),
            eof: false,
            served: false,
            window_bits: 0,
        }
    }

    /// The peer ended its side of the stream, or the socket failed. Requests that came whole are still answered: if
    /// [`has_buffered_input`](Self::has_buffered_input), go on with [`receive`](Self::receive) and an empty slice.
    pub fn handle_eof(&mut self, now: Now, limits: &Limits) -> Option<Event<'static>> {
        self.eof = true;
        let mut nothing: &'static mut [u8] = &mut [];
        self.receive(now, limits, &mut nothing)
    }

    /// Time has passed. Harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Now, limits: &Limits) -> Option<Event<'static>> {
        if self.poll_timeout(limits).is_none_or(|at| at > now.mono) {
            return None;
        }
        match &mut self.state {
            State::Head(None) if self.served => {
                // An answer that was not taken in all that time is given up with the connection.
                let finish = if self.outbox.is_empty() { Finish::Drain } else { Finish::Drop };
                self.end(now, Reason::KeepAliveTimeout, finish);
            }
            State::Head(None) => self.end(now, Reason::HeadTimeout, Finish::Drop),
            State::Head(Some(_)) | State::Body(_) => {
                self.answer_refusal(now, Reason::HeadTimeout, LAST)
            }
            State::Exchange(_) => {}
            State::Shake(_) => self.end(now, Reason::HeadTimeout, Finish::Drop),
            State::Open(_) => match self.next_sign(limits) {
                Some((_, Due::Ping)) => self.ping(now),
                Some((_, Due::PongTimeout)) => self.fail(now, Reason::PongTimeout),
                Some((_, Due::IdleTimeout)) => self.fail(now, Reason::IdleTimeout),
                None => {}
            },
            State::Closing(..) => self.end(now, Reason::CloseTimeout, Finish::Drop),
            State::Ended(ended) => ended.finish = Finish::Drop,
        }
        self.report()
    }

    /// Accepts an upgrade request: 101. Call [`receive`](Self::receive) next, with an empty slice if nothing is at hand.
    /// Ignored unless [`Event::Upgrade`] is waiting for its answer.
    pub fn accept(&mut self, now: Now, accept: &Accept<'_>) {
        let State::Exchange(exchange) = &self.state else { return };
        let Some(key) = &exchange.accept_key else { return };
        let head = http1::switching_protocols(key, accept);
        self.outbox.raw(head);
        self.open(now, accept.deflate);
    }

    /// Answers an HTTP request. Whether the connection is kept depends on the request and on `Connection: close` in
    /// `response`. Call [`receive`](Self::receive) next, with an empty
    /// slice if nothing is at hand. Ignored unless a request is waiting for its answer.
    pub fn respond(&mut self, now: Now, response: Response<Bytes>) {
        let State::Exchange(exchange) = &self.state else { return };
        let mut manner = exchange.manner;
        if negotiate::has_token(response.headers(), &CONNECTION, "close") {
            manner.keep_alive = false;
        }
        self.write_response(response, manner);
        if manner.keep_alive {
            self.state = State::Head(None);
            self.served = true;
            self.since = now.mono;
        } else {
            self.end(now, Reason::HttpDone, Finish::Drain);
        }
    }

    /// Answers an HTTP or upgrade request by `reason`'s row in the table of reasons, then ends the connection. A reason
    /// without an HTTP status ends it without an answer. Ignored once it speaks WebSocket or has ended.
    pub fn refuse(&mut self, now: Now, reason: Reason) {
        let manner = match &self.state {
            State::Exchange(exchange) => exchange.manner,
            State::Head(_) | State::Body(_) => LAST,
            State::Shake(_) | State::Open(_) | State::Closing(..) | State::Ended(_) => return,
        };
        self.answer_refusal(now, reason, manner);
    }

    /// Queues a ping now instead of after `ping_interval`. Its answer is [`Event::Pong`]. Ignored unless open.
    pub fn ping(&mut self, now: Now) {
        if self.is_open() {
            let asked = Asked::after(self.asked(), now);
            self.rare_mut().asked = Some(asked);
            self.control(Opcode::Ping, &asked.payload());
        }
    }

    /// What waits to be written, for pushing shared segments.
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl Connection {
    /// The soonest instant at which [`handle_timeout`](Self::handle_timeout) has something to do: head, body and HTTP idle
    /// timeouts, pings and their pongs, the connection timeout, close and linger deadlines.
    #[must_use]
    pub fn poll_timeout(&self, limits: &Limits) -> Option<Instant> {
        let wait = match &self.state {
            State::Head(None) if self.served => limits.http_idle_timeout,
            State::Head(_) | State::Body(_) | State::Shake(_) => limits.head_timeout,
            State::Exchange(_) | State::Ended(Ended { finish: Finish::Drop, .. }) => return None,
            State::Open(_) => return self.next_sign(limits).map(|(at, _)| at),
            // The last answer may be long and the client slow.
            State::Ended(ended) if ended.http && !self.outbox.is_empty() => {
                limits.http_idle_timeout
            }
            State::Closing(..) | State::Ended(_) => limits.close_timeout,
        };
        Some(self.since + wait)
    }

    /// What waits to be written.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Bytes of memory for input of which the end has not come: a head, a body, a message, requests behind one that is
    /// being answered.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        let part = match &self.state {
            State::Open(None) | State::Closing(_, None) | State::Head(None) => 0,
            State::Exchange(_) | State::Shake(_) | State::Ended(_) => 0,
            State::Head(Some(reader)) => reader.capacity(),
            State::Body(body) => body.bytes.capacity(),
            State::Open(Some(assembly)) | State::Closing(_, Some(assembly)) => assembly.capacity(),
        };
        part + self.kept().map_or(0, |kept| kept.bytes.capacity())
    }

    /// Whether messages can be sent: the handshake is done and nobody has begun to close.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the connection speaks HTTP: no handshake was accepted, and it has not ended.
    #[must_use]
    pub fn is_http(&self) -> bool {
        match &self.state {
            State::Head(_) | State::Body(_) | State::Exchange(_) | State::Shake(_) => true,
            State::Open(_) | State::Closing(..) | State::Ended(_) => false,
        }
    }

    /// Whether a request was answered and no further one has begun.
    #[must_use]
    pub fn is_idle_http(&self) -> bool {
        self.served && matches!(self.state, State::Head(None))
    }

    /// Bits of the window that the peer keeps for compressed messages, 8 to 15; 0 if permessage-deflate was not agreed
    /// on.
    #[must_use]
    pub fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// Messages that were queued and dropped to make way for a close frame, over the connection's life. What the
    /// [`outbox`](Self::outbox) holds when the socket is dropped comes on top.
    #[must_use]
    pub fn messages_dropped(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.messages_dropped)
    }

    /// Whether the socket should be read. False while a request waits for its answer, while more than
    /// `outbox_read_watermark` bytes of answers wait to be read by the peer, and while requests that were sent ahead wait
    /// for that.
    #[must_use]
    pub fn wants_read(&self, limits: &Limits) -> bool {
        match &self.state {
            _ if self.eof => false,
            State::Exchange(_) | State::Ended(Ended { finish: Finish::Drop, .. }) => false,
            State::Closing(..) | State::Ended(_) => true,
            State::Head(_) => !self.is_unread(limits) && self.kept().is_none(),
            State::Body(_) | State::Shake(_) | State::Open(_) => !self.is_unread(limits),
        }
    }

    /// Whether requests that were sent ahead wait no longer for answers to be read: call [`receive`](Self::receive) with
    /// an empty slice. Only a flush can make this true.
    #[must_use]
    pub fn is_resumable(&self, limits: &Limits) -> bool {
        matches!(self.state, State::Head(_)) && self.kept().is_some() && !self.is_unread(limits)
    }

    /// Whether a request waits for its answer: [`accept`](Self::accept), [`respond`](Self::respond) or
    /// [`refuse`](Self::refuse).
    #[must_use]
    pub fn owes_answer(&self) -> bool {
        matches!(self.state, State::Exchange(_))
    }

    /// Whether [`receive`](Self::receive) has something to do even with an empty slice, once no request waits for its
    /// answer any more: input was kept, or the end is to be reported.
    #[must_use]
    pub fn has_buffered_input(&self) -> bool {
        match &self.state {
            State::Ended(ended) => !ended.is_reported,
            State::Head(_)
            | State::Body(_)
            | State::Exchange(_)
            | State::Shake(_)
            | State::Open(_)
            | State::Closing(..) => self.eof || self.kept().is_some(),
        }
    }

    /// Whether the socket is to be dropped, whatever it still takes.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(self.state, State::Ended(Ended { finish: Finish::Drop, .. }))
    }

    /// Why the connection ended, or is about to.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match &self.state {
            State::Closing(reason, _) | State::Ended(Ended { reason, .. }) => Some(*reason),
            State::Head(_)
            | State::Body(_)
            | State::Exchange(_)
            | State::Shake(_)
            | State::Open(_) => None,
        }
    }

    /// The peer's close frame, once it came.
    #[must_use]
    pub fn peer_close(&self) -> Option<&PeerClose> {
        match self.last_words() {
            Some(LastWords::Close(close)) => Some(close),
            Some(LastWords::Refusal(_)) | None => None,
        }
    }

    /// Client role: the head of the answer by which the server refused the handshake.
    #[must_use]
    pub fn refused_with(&self) -> Option<&Response<()>> {
        match self.last_words() {
            Some(LastWords::Refusal(response)) => Some(response),
            Some(LastWords::Close(_)) | None => None,
        }
    }
}

impl Connection {
    /// The handshake is done.
    pub(super) fn open(&mut self, now: Now, deflate: Option<Deflate>) {
        self.state = State::Open(None);
        self.window_bits = deflate.map_or(0, Deflate::window_bits);
        self.since = now.mono;
        self.outbox.seal(false);
    }

    /// Whether the peer has left so many answers unread that no further ones are made.
    pub(super) fn is_unread(&self, limits: &Limits) -> bool {
        self.outbox.own_bytes() > limits.outbox_read_watermark
    }

    /// The final event, the first time it is asked for after the end.
    pub(super) fn report(&mut self) -> Option<Event<'static>> {
        let State::Ended(ended) = &mut self.state else { return None };
        if std::mem::replace(&mut ended.is_reported, true) {
            None
        } else {
            Some(Event::Closed(ended.reason))
        }
    }

    /// Queues a control frame, masked if we are the client.
    pub(super) fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        let frame = self.control_frame(opcode, payload);
        self.outbox.urgent(frame);
    }

    pub(super) fn control_frame(&mut self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode::encode_frame(&mut frame, opcode, payload, self.mask());
        frame
    }

    /// Answers by the table of reasons, as far as it has an answer, and ends.
    pub(super) fn answer_refusal(&mut self, now: Now, reason: Reason, manner: Manner) {
        if let Some(response) = http1::refusal(reason) {
            self.write_response(response, Manner { keep_alive: false, ..manner });
        }
        self.end(now, reason, Finish::Drain);
    }

    fn write_response(&mut self, response: Response<Bytes>, manner: Manner) {
        let mut head = http1::response_head(&response, manner);
        let has_body = http1::has_body(response.status()) && !manner.head_only;
        let body = if has_body { response.into_body() } else { Bytes::new() };
        if body.len() <= COPIED_BODY_MAX {
            head.extend_from_slice(&body);
            self.outbox.raw(head);
        } else {
            self.outbox.raw(head);
            self.outbox.raw_shared(body);
        }
    }
}

/// What is there only now and then.
impl Connection {
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives its memory back if there is nothing in it.
    pub(super) fn tidy(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    pub(super) fn asked(&self) -> Option<Asked> {
        self.rare.as_ref()?.asked
    }

    pub(super) fn kept(&self) -> Option<&Kept> {
        self.rare.as_ref()?.kept.as_ref()
    }

    fn last_words(&self) -> Option<&LastWords> {
        self.rare.as_ref()?.last_words.as_deref()
    }

    /// The mask of a client's next frame.
    pub(super) fn mask(&mut self) -> Option<[u8; 4]> {
        self.rare.as_mut()?.masks.as_mut().map(|masks| masks.mask())
    }

    fn next_sign(&self, limits: &Limits) -> Option<(Instant, Due)> {
        keepalive::next(self.since, self.asked(), limits)
    }
}

/// Bodies up to this size are copied behind their head, so that an answer is one write.
const COPIED_BODY_MAX: usize = 4096;
