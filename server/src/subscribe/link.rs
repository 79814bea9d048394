//! One connection: a blocking socket under the core's WebSocket client.

use std::{
    collections::VecDeque,
    io::{self, Read},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mahavishnu_core::{
    entropy::Entropy,
    reason::{Reason, Retry},
    time::Now,
    wire::Limits,
    ws::{ClientRequest, CloseWhen, Connection, Event, Flush, Inflater, PeerClose},
};
use rustls::ClientConfig;

use super::{End, stream::Stream};
use crate::{
    exit::{Exit, Failure},
    reach, token,
    url::Target,
    verify,
};

/// What a link reports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The handshake is done.
    Open,
    Text(String),
    /// Nothing more will come.
    Ended(End),
}

/// A connection to a server.
pub(crate) struct Link {
    stream: Stream,
    ws: Connection,
    limits: Limits,
    /// The server may compress what it sends; what is sent to it is short and goes as it is.
    inflater: Inflater,
    scratch: Vec<u8>,
    news: VecDeque<News>,
    tls: bool,
    /// The handshake is done.
    is_open: bool,
}

impl Link {
    /// Connects and begins the handshake.
    pub(crate) fn open(target: &Target, entropy: Entropy) -> Result<Self, End> {
        Self::open_with(target, http::HeaderMap::new(), None, entropy)
    }

    /// The same with further headers, and with TLS for servers that `tls` takes, if it is given.
    pub(crate) fn open_with(
        target: &Target,
        headers: http::HeaderMap,
        tls: Option<Arc<ClientConfig>>,
        entropy: Entropy,
    ) -> Result<Self, End> {
        let lost = |error: &io::Error| {
            let (exit, why) = reach::unreached(error, target.tls);
            End::Lost(exit, why)
        };
        let stream = target.connect(CONNECT_TIMEOUT).map_err(|error| lost(&error))?;
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)))
            .map_err(|error| lost(&error))?;
        let stream =
            if target.tls { Stream::secure(stream, target, tls)? } else { Stream::Plain(stream) };
        let limits = Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            inflate_ratio_max: INFLATE_RATIO_MAX,
            ..Limits::default()
        };
        let request = ClientRequest {
            host: target.authority(),
            path: if target.path.is_empty() { "/".to_owned() } else { target.path.clone() },
            headers,
            subprotocols: Vec::new(),
            deflate: true,
        };
        let ws = Connection::client(now(), request, entropy);
        Ok(Self {
            stream,
            ws,
            limits,
            inflater: Inflater::new(),
            scratch: vec![0; SCRATCH_BYTES],
            news: VecDeque::new(),
            tls: target.tls,
            is_open: false,
        })
    }

    /// The address that it goes out from.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.stream.socket().local_addr().ok().map(|address| address.ip())
    }

    /// Queues a text message; [`next`](Self::next) writes it.
    pub(crate) fn send(&mut self, text: &str) {
        self.ws.send_text(text);
    }

    /// Waits for news. `None` at `until`.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Option<News> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            self.write();
            if !self.news.is_empty() {
                continue;
            }
            let now = now().mono;
            if until.is_some_and(|until| until <= now) {
                return None;
            }
            let deadline = [self.ws.poll_timeout(&self.limits), until].into_iter().flatten().min();
            // Zero would mean "no timeout" to the socket.
            let wait = deadline.map(|at| at.saturating_duration_since(now).max(WAIT_MIN));
            self.read(wait);
        }
    }

    /// Says goodbye, and waits a little for the server to do the same.
    pub(crate) fn finish(&mut self, reason: Reason) {
        self.ws.close(now(), reason, CloseWhen::AfterData);
        let until = Instant::now() + GOODBYE;
        while let Some(news) = self.next(Some(until)) {
            if matches!(news, News::Ended(_)) {
                break;
            }
        }
    }

    fn write(&mut self) {
        match self.ws.flush(now(), &mut self.stream) {
            Flush::Drained => {}
            // The timeout of a blocking socket.
            Flush::Blocked => {
                self.ended(End::Lost(Exit::General, "the server does not read".into()))
            }
            Flush::Fin => {
                self.stream.end();
            }
            Flush::Closed => {
                let event = self.ws.handle_eof(now(), &self.limits);
                self.take(event);
                let end = self.ending();
                self.ended(end);
            }
        }
    }

    fn read(&mut self, wait: Option<Duration>) {
        let result = self
            .stream
            .socket()
            .set_read_timeout(wait)
            .and_then(|()| self.stream.read(&mut self.scratch));
        match result {
            Ok(0) => self.eof(),
            Ok(n) => self.bytes(n),
            Err(error) if WAITED.contains(&error.kind()) => {
                let event = self.ws.handle_timeout(now(), &self.limits);
                self.take(event);
            }
            // The last word of TLS says why: that the server wants a certificate, for one.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.ended(End::Fatal(Failure::new(Exit::General, verify::words(&error))));
            }
            Err(_) => self.eof(),
        }
    }

    fn eof(&mut self) {
        let event = self.ws.handle_eof(now(), &self.limits);
        self.take(event);
        let end = self.ending();
        self.ended(end);
    }

    fn bytes(&mut self, n: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut wire = scratch.get_mut(..n).unwrap_or_default();
        while let Some(event) = self.ws.receive(now(), &self.limits, &mut wire) {
            self.take(Some(event));
        }
        self.scratch = scratch;
    }

    fn take(&mut self, event: Option<Event<'_>>) {
        match event {
            Some(Event::Accepted(_)) => {
                self.is_open = true;
                self.news.push_back(News::Open);
            }
            Some(Event::Text(text)) => self.news.push_back(News::Text(text.into_string())),
            // The goodbye, if there is one, is still to be written, so the end is told when the socket is done with.
            Some(Event::Closed(_)) => {
                let _ = self.ws.flush(now(), &mut self.stream);
                let end = self.ending();
                self.ended(end);
            }
            Some(Event::Compressed(message)) => {
                let inflater = &mut self.inflater;
                if let Some(Event::Text(text)) =
                    self.ws.inflate(now(), &self.limits, inflater, message)
                {
                    self.news.push_back(News::Text(text.into_string()));
                }
            }
            Some(Event::Binary(_) | Event::Pong { .. } | Event::Upgrade(_) | Event::Http(_))
            | None => {}
        }
    }

    /// Tells the end once.
    fn ended(&mut self, end: End) {
        if !self.news.iter().any(|news| matches!(news, News::Ended(_))) {
            self.news.push_back(News::Ended(end));
        }
    }

    fn ending(&self) -> End {
        let status = self.ws.refused_with().map(|response| response.status().as_u16());
        let how = How { tls: self.tls, is_open: self.is_open };
        classify(self.ws.reason().unwrap_or(Reason::Eof), self.ws.peer_close(), status, how)
    }
}

/// What the connection was when it ended.
#[derive(Clone, Copy, Debug)]
struct How {
    tls: bool,
    /// The handshake was done.
    is_open: bool,
}

/// Whether another try makes sense after a connection that ended like this.
fn classify(reason: Reason, close: Option<&PeerClose>, status: Option<u16>, how: How) -> End {
    let lost = |text: String| End::Lost(Exit::General, text);
    let fatal = |exit, text: String| End::Fatal(Failure::new(exit, text));
    if let Some(status) = status {
        let hint = reach::hint(status, how.tls);
        let text = format!("the server refused the handshake: HTTP {status}{hint}");
        return match status {
            401 | 403 => fatal(Exit::Permission, text),
            408 | 429 | 500.. => lost(text),
            _ => fatal(Exit::General, text),
        };
    }
    if let Some(close) = close {
        let code = close.code.map_or_else(|| "without a code".to_owned(), |code| code.to_string());
        let text = format!("closed by the server: {code} {}", close.text).trim_end().to_owned();
        return match close.code {
            // A wrong or expired token stays what it is.
            Some(1008) => fatal(Exit::Permission, text),
            Some(1002 | 1003 | 1007 | 1009 | 1010) => fatal(Exit::General, text),
            _ => lost(text),
        };
    }
    if !how.is_open {
        return if matches!(reason, Reason::Eof | Reason::Io) {
            lost(reach::unanswered(how.tls))
        } else if reason == Reason::HeadTimeout {
            lost(reach::LATE.to_owned())
        } else {
            fatal(Exit::General, reach::no_http(how.tls))
        };
    }
    let row = reason.row();
    let text = if row.text.is_empty() { "connection lost".to_owned() } else { row.text.to_owned() };
    match row.retry {
        Retry::Never => fatal(Exit::General, text),
        Retry::Now | Retry::Later | Retry::Done => lost(text),
    }
}

fn now() -> Now {
    Now { mono: Instant::now(), unix: token::unix_now() }
}

/// How a blocking socket says that nothing came.
const WAITED: [io::ErrorKind; 3] =
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const WAIT_MIN: Duration = Duration::from_millis(1);
const GOODBYE: Duration = Duration::from_secs(1);
const SCRATCH_BYTES: usize = 64 * 1024;
/// The server may have been given a higher limit than ours would be by default.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// DEFLATE cannot do better than 1,032 bytes for one, and whom one subscribes to one trusts that far.
const INFLATE_RATIO_MAX: u32 = 1_100;

#[cfg(test)]
mod tests {
    use super::*;

    fn close(code: u16) -> Option<PeerClose> {
        Some(PeerClose { code: Some(code), text: "why".into() })
    }

    fn is_fatal(end: &End) -> bool {
        matches!(end, End::Fatal(_))
    }

    const OPEN: How = How { tls: false, is_open: true };
    const SHUT: How = How { tls: false, is_open: false };

    #[test]
    fn what_a_restart_mends_is_tried_again() {
        for code in [1000, 1001, 1011, 1012, 1013, 4000] {
            let end = classify(Reason::PeerClosed, close(code).as_ref(), None, OPEN);
            assert_eq!(end, End::Lost(Exit::General, format!("closed by the server: {code} why")));
        }
        assert!(!is_fatal(&classify(Reason::Eof, None, None, OPEN)));
        assert!(!is_fatal(&classify(Reason::PongTimeout, None, None, OPEN)));
        for status in [429, 500, 502, 503] {
            assert!(
                !is_fatal(&classify(Reason::BadHandshake, None, Some(status), SHUT)),
                "{status}"
            );
        }
    }

    #[test]
    fn what_stays_wrong_is_not() {
        let denied = classify(Reason::PeerClosed, close(1008).as_ref(), None, OPEN);
        assert_eq!(
            denied,
            End::Fatal(Failure::new(Exit::Permission, "closed by the server: 1008 why"))
        );
        assert!(is_fatal(&classify(Reason::PeerClosed, close(1009).as_ref(), None, OPEN)));
        for status in [200, 301, 400, 401, 403, 404, 426] {
            assert!(
                is_fatal(&classify(Reason::BadHandshake, None, Some(status), SHUT)),
                "{status}"
            );
        }
        assert!(is_fatal(&classify(Reason::Masked, None, None, OPEN)));
    }

    #[test]
    fn a_server_that_wants_tls_is_told_from_one_that_is_gone() {
        let words = |reason, status, how| match classify(reason, None, status, how) {
            End::Lost(_, text) => text,
            End::Fatal(failure) => failure.to_string(),
            End::Done => String::new(),
        };
        assert!(words(Reason::HandshakeRefused, Some(426), SHUT).contains("use wss://"));
        assert!(words(Reason::Eof, None, SHUT).contains("if it speaks TLS, use wss://"));
        assert!(words(Reason::BadRequest, None, SHUT).contains("does not speak HTTP"));
        assert_eq!(words(Reason::Eof, None, OPEN), "connection lost");
        assert!(!words(Reason::Eof, None, How { tls: true, ..SHUT }).contains("use wss://"));
    }
}
