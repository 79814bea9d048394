//! One connection, fed in chunks, and everything that comes of it in a form that can be compared.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use mahavishnu_core::{
    reason::Reason,
    time::Now,
    wire::Limits,
    ws::{Accept, Connection, Deflate, Event, Flush, Inflater},
};

/// How a stream is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cuts {
    /// Not at all.
    Whole,
    /// Into single bytes.
    Single,
    /// Into pieces of any size; the same for the same number.
    Seeded(u8),
}

impl Cuts {
    pub(crate) fn of(self, mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut state = match self {
            Self::Whole => return vec![bytes],
            Self::Single => return bytes.chunks(1).collect(),
            Self::Seeded(seed) => u32::from(seed) * 2_654_435 + 1,
        };
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            // xorshift: any sequence will do, as long as it is always the same.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let most = if state & 0x700 == 0 { 300 } else { 20 };
            let (chunk, rest) = bytes.split_at(((state % most) as usize + 1).min(bytes.len()));
            chunks.push(chunk);
            bytes = rest;
        }
        chunks
    }
}

/// What to do about requests and messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Answer after all of a chunk was taken in, not at once: what follows a request has to be kept.
    pub(crate) late: bool,
    /// Refuse requests.
    pub(crate) refuse: bool,
    /// Answer with `Connection: close`.
    pub(crate) close: bool,
    /// Send messages back.
    pub(crate) echo: bool,
}

/// How the life of a connection ends if the stream does not end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer hangs up.
    Eof,
    /// Nothing comes any more.
    Silence,
}

/// A connection, its output and its events.
pub(crate) struct Trace {
    pub(crate) connection: Connection,
    limits: Limits,
    now: Now,
    habits: Habits,
    late: Vec<Event<'static>>,
    inflater: Inflater,
    /// Events in words, the end left out.
    pub(crate) events: Vec<String>,
    /// Why the connection ended.
    pub(crate) end: Option<Reason>,
    pub(crate) written: Vec<u8>,
    /// How much was written before the end.
    pub(crate) before_end: usize,
}

impl Trace {
    pub(crate) fn new(connection: Connection, limits: Limits, habits: Habits) -> Self {
        Self {
            connection,
            limits,
            now: start(),
            habits,
            late: Vec::new(),
            inflater: Inflater::new(),
            events: Vec::new(),
            end: None,
            written: Vec::new(),
            before_end: 0,
        }
    }

    /// Takes in a stream, cut as told.
    pub(crate) fn feed(&mut self, stream: &[u8], cuts: Cuts) {
        for chunk in cuts.of(stream) {
            self.receive(chunk);
            while !self.late.is_empty() {
                for event in std::mem::take(&mut self.late) {
                    self.answer(event);
                }
                self.receive(&[]);
            }
            let _ = self.flush();
        }
    }

    /// Brings the connection to its end and checks that it comes.
    pub(crate) fn finish(&mut self, ending: Ending) {
        if ending == Ending::Eof {
            let event = self.connection.handle_eof(self.now, &self.limits);
            event.into_iter().for_each(|event| self.on_event(event));
            while self.connection.has_buffered_input() {
                self.receive(&[]);
            }
        }
        let mut flush = self.flush();
        for _ in 0..64 {
            if flush == Flush::Closed {
                break;
            }
            let at = self.connection.poll_timeout(&self.limits);
            let at = at.expect("a connection that has not ended has a deadline");
            self.now = self.now.plus(at.saturating_duration_since(self.now.mono));
            let event = self.connection.handle_timeout(self.now, &self.limits);
            event.into_iter().for_each(|event| self.on_event(event));
            flush = self.flush();
        }
        assert_eq!(flush, Flush::Closed, "time brings the end");
        assert!(self.end.is_some(), "the end is reported");
        assert!(!self.connection.wants_read(&self.limits));
    }

    fn receive(&mut self, chunk: &[u8]) {
        let mut bytes = chunk.to_vec();
        let mut wire = &mut bytes[..];
        while let Some(event) = self.connection.receive(self.now, &self.limits, &mut wire) {
            self.on_event(event.into_owned());
        }
        assert!(wire.is_empty(), "everything is taken in");
    }

    fn on_event(&mut self, event: Event<'static>) {
        assert!(self.end.is_none(), "nothing comes after the end");
        if let Event::Compressed(message) = event {
            let mut inflater = std::mem::take(&mut self.inflater);
            let event = self.connection.inflate(self.now, &self.limits, &mut inflater, message);
            let event = event.map(Event::into_owned);
            self.inflater = inflater;
            if let Some(event) = event {
                self.on_event(event);
            }
            return;
        }
        if let Event::Closed(reason) = event {
            self.end = Some(reason);
            self.before_end = self.written.len();
            return;
        }
        self.events.push(describe(&event));
        if self.habits.late { self.late.push(event) } else { self.answer(event) }
    }

    fn answer(&mut self, event: Event<'static>) {
        match event {
            Event::Upgrade(_) | Event::Http(_) if self.habits.refuse => {
                self.connection.refuse(self.now, Reason::NotFound);
            }
            Event::Upgrade(request) => {
                let deflate = Deflate::choose(request.headers()).ok().flatten();
                self.connection.accept(self.now, &Accept { deflate, ..Accept::default() });
            }
            Event::Http(_) => {
                let mut response = Response::new(Bytes::from_static(b"answer"));
                if self.habits.close {
                    let close = http::HeaderValue::from_static("close");
                    response.headers_mut().insert(http::header::CONNECTION, close);
                }
                self.connection.respond(self.now, response);
            }
            Event::Text(text) if self.habits.echo => self.connection.send_text(&text),
            Event::Binary(data) if self.habits.echo => self.connection.send_binary(&data),
            Event::Text(_)
            | Event::Binary(_)
            | Event::Compressed(_)
            | Event::Accepted(_)
            | Event::Pong { .. }
            | Event::Closed(_) => {}
        }
        if self.end.is_none() {
            let _ = self.flush();
        }
    }

    fn flush(&mut self) -> Flush {
        self.connection.flush(self.now, &mut self.written)
    }
}

/// The instant at which every script begins.
pub(crate) fn start() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { mono: *START, unix: START_UNIX }
}

/// The wall-clock time at which every script begins.
pub(crate) const START_UNIX: Duration = Duration::from_secs(1_770_000_000);

fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Upgrade(request) => format!("upgrade {request:?}"),
        Event::Http(request) => {
            let (uri, headers) = (request.uri(), request.headers());
            format!("http {} {uri:?} {headers:?} {:?}", request.method(), &**request.body())
        }
        Event::Text(text) => format!("text {}", &**text),
        Event::Binary(data) => format!("binary {:?}", &**data),
        Event::Compressed(_) => unreachable!("it was inflated"),
        Event::Accepted(response) => format!("accepted {response:?}"),
        Event::Pong { rtt } => format!("pong {rtt:?}"),
        Event::Closed(reason) => format!("closed {reason:?}"),
    }
}
