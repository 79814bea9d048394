//! One connection, with TLS or without, that sends back what it gets.

use std::{io::Write, time::Instant};

use mahavishnu_core::{
    reason::Reason,
    time::Now,
    tls::{Progress, Session},
    wire::Limits,
    ws::{Accept, Connection, Deflate, Deflater, Event, Flush, Inflater},
};

pub(crate) struct Peer {
    ws: Connection,
    tls: Option<Session>,
    /// When it is looked at next.
    due: Option<Instant>,
}

/// What connections of one thread share for compressing: nothing of a message stays in it.
pub(crate) struct Codecs {
    deflater: Deflater,
    inflater: Inflater,
    /// Whether a client's offer is taken up.
    enabled: bool,
}

impl Codecs {
    pub(crate) fn new(enabled: bool) -> Self {
        // Every message is worth compressing here: this is for testing.
        Self { deflater: Deflater::new(1, 0), inflater: Inflater::new(), enabled }
    }
}

impl Peer {
    pub(crate) fn new(ws: Connection, tls: Option<Session>) -> Self {
        Self { ws, tls, due: None }
    }

    pub(crate) fn wants_read(&self, limits: &Limits) -> bool {
        self.ws.wants_read(limits)
    }

    /// Writes what `sink` takes.
    pub(crate) fn flush(&mut self, now: Now, mut sink: impl Write) -> Flush {
        match &mut self.tls {
            None => self.ws.flush(now, &mut sink),
            Some(tls) => {
                let flush = self.ws.flush(now, &mut tls.writer(&mut sink));
                tls.finish(flush, &mut sink)
            }
        }
    }

    /// When it wants to be looked at, if that is sooner than was agreed.
    pub(crate) fn look_sooner(&mut self, limits: &Limits) -> Option<Instant> {
        let due = self.ws.poll_timeout(limits)?;
        if self.due.is_some_and(|agreed| agreed <= due) {
            return None;
        }
        self.due = Some(due);
        Some(due)
    }

    /// Looks whether a deadline has passed, if `agreed` is when it was to be looked at. Deadlines move on as bytes come, so
    /// it may have been left behind.
    pub(crate) fn look(&mut self, agreed: Instant, now: Now, limits: &Limits) -> bool {
        if self.due != Some(agreed) {
            return false;
        }
        self.due = None;
        if self.ws.poll_timeout(limits).is_some_and(|due| due <= now.mono) {
            self.ws.handle_timeout(now, limits);
        }
        true
    }

    /// Takes in what one read brought, TLS taken off.
    pub(crate) fn take_in(
        &mut self,
        now: Now,
        codecs: &mut Codecs,
        limits: &Limits,
        wire: &mut [u8],
    ) {
        let Some(tls) = &mut self.tls else {
            return self.receive(now, codecs, limits, wire);
        };
        let mut plain = Vec::new();
        let progress = tls.receive(wire, &mut plain);
        if !plain.is_empty() {
            self.receive(now, codecs, limits, &mut plain);
        }
        if progress != Progress::More {
            self.end(now, codecs, limits);
        }
    }

    /// The peer will send no more.
    pub(crate) fn end(&mut self, now: Now, codecs: &mut Codecs, limits: &Limits) {
        self.receive(now, codecs, limits, &mut []);
    }

    /// Takes in plaintext; nothing is the end of the stream.
    fn receive(&mut self, now: Now, codecs: &mut Codecs, limits: &Limits, mut wire: &mut [u8]) {
        let ws = &mut self.ws;
        let mut next = if wire.is_empty() {
            ws.handle_eof(now, limits)
        } else {
            ws.receive(now, limits, &mut wire)
        };
        while let Some(event) = next {
            let Codecs { deflater, inflater, enabled } = codecs;
            let event = if let Event::Compressed(message) = event {
                ws.inflate(now, limits, inflater, message)
            } else {
                Some(event)
            };
            match event {
                Some(Event::Upgrade(request)) => {
                    let deflate =
                        if *enabled { Deflate::choose(request.headers()) } else { Ok(None) };
                    match deflate {
                        Ok(deflate) => ws.accept(now, &Accept { deflate, ..Accept::default() }),
                        Err(reason) => ws.refuse(now, reason),
                    }
                }
                Some(Event::Http(_)) => ws.refuse(now, Reason::UpgradeRequired),
                Some(Event::Text(text)) if !*enabled => ws.forward_text(text),
                Some(Event::Binary(payload)) if !*enabled => ws.forward_binary(payload),
                Some(Event::Text(text)) => ws.send_text_deflated(deflater, text.as_bytes()),
                Some(Event::Binary(payload)) => ws.send_binary_deflated(deflater, &payload),
                Some(
                    Event::Compressed(_)
                    | Event::Accepted(_)
                    | Event::Pong { .. }
                    | Event::Closed(_),
                )
                | None => {}
            }
            next = ws.receive(now, limits, &mut wire);
        }
    }
}
