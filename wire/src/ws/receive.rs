//! Input: from bytes to events.

use http::{Method, Request, Response};

use super::{
    chunked::{self, Chunked},
    close::PeerClose,
    connection::Connection,
    encode::Opcode,
    event::{Compressed, Event, Payload, Text},
    frame::{self, Assembly, Header, Kind, Rules, Step},
    head::HeadReader,
    http1::{self, Manner},
    mask,
    negotiate::{self, Exchange as Asked, Framing},
    state::{Body, Exchange, Finish, LAST, LastWords, Rest, State},
};
use crate::{limits::Limits, reason::Reason, time::Now};

impl Connection {
    /// The next event out of `wire`, which is advanced past what was used. Call until `None`: then all of `wire` is taken
    /// in; a message or head that is incomplete is copied, everything else was looked at in place.
    ///
    /// While a request waits for its answer, what comes behind it is kept (up to `head_bytes_max` and `body_bytes_max`
    /// together; more ends the connection) and [`wants_read`](Self::wants_read) is false. After `accept`, `respond` or
    /// `refuse` call this again, with what is left of `wire` or with an empty slice: kept input is parsed then. So it is
    /// with requests that were sent ahead while more than `outbox_read_watermark` bytes of answers wait to be read: once
    /// [`is_resumable`](Self::is_resumable) after a flush, call this with an empty slice.
    pub fn receive<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        if !wire.is_empty() && self.is_open() {
            let heard = std::mem::replace(&mut self.since, now.mono);
            self.control_rate.pass(|| now.mono.saturating_duration_since(heard));
        }
        if self.kept().is_some()
            && let Some(event) = self.receive_kept(now, limits)
        {
            return Some(event);
        }
        let event = self.advance(now, limits, wire);
        if event.is_some() {
            return event;
        }
        // Only a request that waits for its answer, or answers that wait for their reader, leave something.
        if !wire.is_empty() {
            self.keep(now, limits, wire);
            *wire = &mut [];
        }
        if self.eof && self.kept().is_none() {
            self.handle_end_of_input(now);
        }
        self.report()
    }

    /// An event out of input that was kept. It cannot borrow from there, so it is copied.
    fn receive_kept(&mut self, now: Now, limits: &Limits) -> Option<Event<'static>> {
        let mut kept = self.rare.as_mut()?.kept.take()?;
        let mut wire = kept.bytes.get_mut(kept.at..).unwrap_or_default();
        let event = self.advance(now, limits, &mut wire).map(Event::into_owned);
        let left = wire.len();
        if left > 0 {
            kept.at = kept.bytes.len() - left;
            self.rare_mut().kept = Some(kept);
        }
        self.tidy();
        event
    }

    fn keep(&mut self, now: Now, limits: &Limits, wire: &[u8]) {
        let kept = self.rare_mut().kept.get_or_insert_default();
        let waiting = kept.bytes.len() - kept.at;
        if waiting + wire.len() > limits.head_bytes_max.saturating_add(limits.body_bytes_max) {
            return self.end(now, Reason::HeadTooLarge, Finish::Drop);
        }
        if kept.at > 0 {
            kept.bytes.drain(..kept.at);
            kept.at = 0;
        }
        kept.bytes.extend_from_slice(wire);
    }

    /// Parses until there is an event or nothing left, or until a request has to be answered first.
    fn advance<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        match &self.state {
            State::Open(_) => self.read_frames(now, limits, wire),
            State::Head(None) if self.is_unread(limits) => None,
            State::Head(_) => self.read_head(now, limits, wire),
            State::Body(_) => self.read_body(now, limits, wire),
            State::Exchange(_) => None,
            State::Shake(_) => self.read_answer(now, limits, wire),
            State::Closing(..) => self.skip_frames(now, limits, wire),
            State::Ended(_) => self.discard(wire),
        }
    }

    /// After the end input is read only so that the kernel does not reset the connection.
    fn discard(&mut self, wire: &mut &mut [u8]) -> Option<Event<'static>> {
        *wire = &mut [];
        self.report()
    }

    /// The peer ended its side and everything before that is parsed.
    fn handle_end_of_input(&mut self, now: Now) {
        match &self.state {
            State::Exchange(_) | State::Ended(_) => {}
            State::Head(None) if self.served => self.end(now, Reason::HttpDone, Finish::Drain),
            State::Head(_) | State::Body(_) => self.end(now, Reason::EofInHead, Finish::Drain),
            State::Shake(_) | State::Open(_) => self.end(now, Reason::Eof, Finish::Drop),
            State::Closing(own, _) => self.end(now, *own, Finish::Drop),
        }
    }
}

/// HTTP.
impl Connection {
    fn read_head<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        if wire.is_empty() {
            return None;
        }
        let State::Head(slot) = &mut self.state else { return None };
        let mut fresh = HeadReader::default();
        let reader = slot.as_deref_mut().unwrap_or(&mut fresh);
        let result = reader.receive::<Request<()>>(limits, wire);
        let has_begun = slot.is_none() && !(matches!(result, Ok(None)) && fresh.is_empty());
        if has_begun && self.served {
            // The first request's time runs from accept, a further one's from its first byte.
            self.since = now.mono;
        }
        match result {
            Ok(Some(request)) => self.begin_exchange(now, limits, request, wire),
            Ok(None) => {
                if has_begun {
                    *slot = Some(Box::new(fresh));
                }
                None
            }
            Err(reason) => {
                self.answer_refusal(now, reason, LAST);
                self.discard(wire)
            }
        }
    }

    fn begin_exchange<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        request: Request<()>,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        let manner = Manner {
            keep_alive: negotiate::keeps_alive(&request),
            head_only: request.method() == Method::HEAD,
            version: request.version(),
        };
        let asked = match negotiate::inspect(&request) {
            Ok(Asked::Plain(Framing::Length(length))) if length > limits.body_bytes_max => {
                Err(Reason::BodyTooLarge)
            }
            asked => asked,
        };
        match asked {
            Ok(Asked::Upgrade(key)) => {
                self.state = State::Exchange(Box::new(Exchange { manner, accept_key: Some(key) }));
                Some(Event::Upgrade(Box::new(request)))
            }
            Ok(Asked::Plain(Framing::Length(length))) if length <= wire.len() => {
                let (body, rest) = std::mem::take(wire).split_at_mut(length);
                *wire = rest;
                self.state = State::Exchange(Box::new(Exchange { manner, accept_key: None }));
                Some(Event::Http(Box::new(request.map(|()| Payload::from(&*body)))))
            }
            Ok(Asked::Plain(framing)) => {
                if wire.is_empty() && negotiate::expects_continue(&request) {
                    self.outbox.raw(http1::CONTINUE.to_vec());
                }
                let rest = match framing {
                    Framing::Length(length) => Rest::Bytes(length),
                    Framing::Chunked => Rest::Chunks(Chunked::default()),
                };
                let body = Body { request, manner, rest, bytes: Vec::new() };
                self.state = State::Body(Box::new(body));
                self.read_body(now, limits, wire)
            }
            Err(reason) => {
                self.answer_refusal(now, reason, manner);
                self.discard(wire)
            }
        }
    }

    fn read_body<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        let State::Body(body) = &mut self.state else { return None };
        // A declared length is only a claim: memory follows the bytes that came.
        let complete = match &mut body.rest {
            Rest::Bytes(left) => {
                let taken = chunked::take(wire, *left);
                body.bytes.extend_from_slice(taken);
                *left -= taken.len();
                Ok(*left == 0)
            }
            Rest::Chunks(chunks) => chunks.receive(limits, wire, &mut body.bytes),
        };
        let manner = body.manner;
        match complete {
            Ok(true) => {}
            Ok(false) => return None,
            Err(reason) => {
                self.answer_refusal(now, reason, manner);
                return self.discard(wire);
            }
        }
        let exchange = State::Exchange(Box::new(Exchange { manner, accept_key: None }));
        let State::Body(body) = std::mem::replace(&mut self.state, exchange) else { return None };
        let Body { request, bytes, .. } = *body;
        Some(Event::Http(Box::new(request.map(|()| Payload::from(bytes)))))
    }

    fn read_answer(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &mut [u8],
    ) -> Option<Event<'static>> {
        if wire.is_empty() {
            return None;
        }
        let State::Shake(shake) = &mut self.state else { return None };
        let answer = match shake.reader.receive::<Response<()>>(limits, wire) {
            Ok(Some(answer)) => answer,
            Ok(None) => return None,
            Err(_) => {
                self.end(now, Reason::BadHandshake, Finish::Drain);
                return self.discard(wire);
            }
        };
        match negotiate::check_answer(&answer, &shake.accept_key, &shake.offered, shake.deflate) {
            Ok(deflate) => {
                self.open(now, deflate);
                Some(Event::Accepted(Box::new(answer)))
            }
            Err(reason) => {
                self.rare_mut().last_words = Some(Box::new(LastWords::Refusal(answer)));
                self.end(now, reason, Finish::Drain);
                self.discard(wire)
            }
        }
    }
}

/// Frames.
impl Connection {
    fn rules(&self) -> Rules {
        Rules { masked: self.peer_masks, deflate: self.window_bits > 0 }
    }

    fn read_frames<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &'w mut [u8],
    ) -> Option<Event<'w>> {
        let rules = self.rules();
        while !wire.is_empty() {
            let State::Open(slot) = &mut self.state else { return self.discard(wire) };
            let whole = if slot.is_none() { take_whole(limits, rules, wire) } else { Ok(None) };
            let event = match whole {
                Ok(Some((header, payload))) => self.read_whole(now, limits, header, payload),
                Ok(None) => self.read_part(now, limits, rules, wire),
                Err(reason) => Err(reason),
            };
            match event {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(reason) => {
                    self.fail(now, reason);
                    return self.discard(wire);
                }
            }
        }
        self.report()
    }

    /// A frame that came in one piece and is a whole message or a control frame: nothing is copied.
    fn read_whole<'w>(
        &mut self,
        now: Now,
        limits: &Limits,
        header: Header,
        payload: &'w [u8],
    ) -> Result<Option<Event<'w>>, Reason> {
        if header.is_compressed {
            let kind = if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
            return Ok(Some(Event::Compressed(Compressed::new(kind, Payload::from(payload)))));
        }
        match header.opcode {
            Opcode::Text => {
                let text = std::str::from_utf8(payload).map_err(|_| Reason::BadUtf8)?;
                Ok(Some(Event::Text(Text::from(text))))
            }
            Opcode::Binary => Ok(Some(Event::Binary(Payload::from(payload)))),
            Opcode::Continuation => Err(Reason::UnexpectedContinuation),
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.read_control(now, limits, header.opcode, payload)
            }
        }
    }

    /// A part of a frame, a fragment, or a frame between fragments.
    fn read_part(
        &mut self,
        now: Now,
        limits: &Limits,
        rules: Rules,
        wire: &mut &mut [u8],
    ) -> Result<Option<Event<'static>>, Reason> {
        let State::Open(slot) = &mut self.state else { return Ok(None) };
        let assembly = slot.get_or_insert_default();
        let step = assembly.receive(limits, rules, wire)?;
        if assembly.is_idle() {
            *slot = None;
        }
        match step {
            Step::More => Ok(None),
            Step::Empty if self.control_rate.admit(limits) => Ok(None),
            Step::Empty => Err(Reason::ControlFlood),
            Step::Control(opcode, payload) => self.read_control(now, limits, opcode, &payload),
            Step::Compressed(kind, payload) => {
                Ok(Some(Event::Compressed(Compressed::new(kind, Payload::from(payload)))))
            }
            Step::Message(Kind::Binary, payload, headroom) => {
                Ok(Some(Event::Binary(Payload::with_headroom(payload, headroom))))
            }
            Step::Message(Kind::Text, payload, headroom) => {
                let text = String::from_utf8(payload).map_err(|_| Reason::BadUtf8)?;
                Ok(Some(Event::Text(Text::with_headroom(text, headroom))))
            }
        }
    }

    fn read_control(
        &mut self,
        now: Now,
        limits: &Limits,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Reason> {
        if opcode == Opcode::Close {
            self.answer_close(now, payload)?;
            return Ok(self.report());
        }
        if !self.control_rate.admit(limits) {
            return Err(Reason::ControlFlood);
        }
        if opcode == Opcode::Ping {
            // RFC 6455 §5.5.3 would let us answer only the latest; peers rather expect one answer each.
            self.control(Opcode::Pong, payload);
            return Ok(None);
        }
        let rtt = self.asked().and_then(|asked| asked.answered(now, payload));
        if rtt.is_some() {
            self.rare_mut().asked = None;
            self.tidy();
        }
        Ok(rtt.map(|rtt| Event::Pong { rtt }))
    }

    /// The peer closes first: its code goes back behind what is queued (RFC 6455 §5.5.1).
    fn answer_close(&mut self, now: Now, payload: &[u8]) -> Result<(), Reason> {
        let close = PeerClose::parse(payload)?;
        let code = close.code.map(u16::to_be_bytes);
        let frame = self.control_frame(Opcode::Close, code.as_ref().map_or(&[], |code| code));
        self.outbox.raw(frame);
        self.rare_mut().last_words = Some(Box::new(LastWords::Close(close)));
        self.end(now, Reason::PeerClosed, Finish::Drain);
        Ok(())
    }

    /// Our close frame is queued: only the peer's is of interest.
    fn skip_frames(
        &mut self,
        now: Now,
        limits: &Limits,
        wire: &mut &mut [u8],
    ) -> Option<Event<'static>> {
        let rules = self.rules();
        while !wire.is_empty() {
            let State::Closing(own, slot) = &mut self.state else { break };
            let own = *own;
            let assembly = slot.get_or_insert_with(Assembly::discarding);
            let step = assembly.receive(limits, rules, wire);
            if assembly.is_idle() {
                *slot = None;
            }
            match step {
                Ok(Step::Control(Opcode::Close, payload)) => {
                    let close = PeerClose::parse(&payload).ok();
                    let last_words = close.map(|close| Box::new(LastWords::Close(close)));
                    self.rare_mut().last_words = last_words;
                    self.end(now, own, Finish::Drain);
                    return self.discard(wire);
                }
                Ok(
                    Step::More
                    | Step::Empty
                    | Step::Message(..)
                    | Step::Compressed(..)
                    | Step::Control(..),
                ) => {}
                Err(_) => {
                    self.end(now, own, Finish::Drain);
                    return self.discard(wire);
                }
            }
        }
        None
    }
}

/// Takes a frame off `wire` that is there completely and is a message or control frame by itself, unmasked in place.
/// `None` leaves `wire` as it is.
fn take_whole<'w>(
    limits: &Limits,
    rules: Rules,
    wire: &mut &'w mut [u8],
) -> Result<Option<(Header, &'w [u8])>, Reason> {
    let Some(header) = frame::parse(wire, rules)? else { return Ok(None) };
    match header.opcode {
        // No message is in progress. Said before its size is looked at, as it is for a frame that comes in parts.
        Opcode::Continuation => return Err(Reason::UnexpectedContinuation),
        Opcode::Text | Opcode::Binary => {
            frame::check_size(limits, header.is_compressed, 0, header.length)?;
        }
        Opcode::Close | Opcode::Ping | Opcode::Pong => {}
    }
    let Ok(length) = usize::try_from(header.length) else { return Ok(None) };
    if !header.is_final || wire.len() - header.size < length {
        return Ok(None);
    }
    let (frame, rest) = std::mem::take(wire).split_at_mut(header.size + length);
    *wire = rest;
    let (_, payload) = frame.split_at_mut(header.size);
    if rules.masked {
        let _ = mask::apply(header.key, payload);
    }
    Ok(Some((header, payload)))
}
