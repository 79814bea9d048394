//! Connections whose handshake another part of the program has read: a router of HTTP, which hands the socket over.
//!
//! The hub gets the request as if it had come from the socket, and what it answers is kept until the socket is there.

use std::{
    collections::HashMap,
    fmt, io,
    net::{SocketAddr, TcpStream as StdTcpStream},
    os::fd::OwnedFd,
};

use async_channel::Sender;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use mahavishnu_core::{
    hub::{ConnId, Listener, NO_ADDRESS, Peer},
    reason::Reason,
    ws::Flush,
};
use tracing::debug;

use crate::{
    handle::Handle,
    mailbox::{Mail, Mailbox},
    owner::{Owner, place},
    poller::TcpStream,
    runtime::Runtime,
    shard::Shard,
};

/// Bytes of an answer to a handshake that are kept. One that is longer is no answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Fields in an answer.
const FIELDS_MAX: usize = 64;

/// Why a connection was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// The core takes no socket now, as it would refuse one that it is offered by a listener.
    Refused(Reason),
    /// The core has given it up before there was an answer.
    Unanswered,
    /// It is no socket that can be waited for.
    NoSocket(io::ErrorKind),
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason.row().text),
            Self::Unanswered => f.write_str("the server has given the connection up"),
            Self::NoSocket(kind) => write!(f, "the socket cannot be used: {kind}"),
            Self::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for AdoptError {}

/// A handshake that the server has answered, and whose socket it does not have yet. Dropped before
/// [`attach`](Self::attach), the connection ends as one whose socket has failed.
#[derive(Debug)]
#[must_use = "the connection ends unless its socket is attached"]
pub struct Adoption {
    response: Response<Bytes>,
    conn: ConnId,
    mailbox: Mailbox,
    /// Its socket is still to come.
    waits: bool,
}

impl Adoption {
    /// What the client is to be answered: 101 with `Sec-WebSocket-Accept` and what was agreed on, or a refusal with its
    /// body.
    #[must_use]
    pub fn response(&self) -> &Response<Bytes> {
        &self.response
    }

    /// Whether the handshake is accepted. Only then there is something to [`attach`](Self::attach).
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }

    /// The connection, as handlers know it.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Gives the connection its socket, over which [`response`](Self::response) has gone out. `early` is what was read from
    /// it behind the request, which is usually nothing. A socket of TCP or a Unix socket, of std or of anything that
    /// becomes an [`OwnedFd`]; it is made non-blocking. A stream that is none, such as TLS, needs a bridge: the adapters
    /// have one.
    ///
    /// Nothing happens if the handshake was refused or the server has closed the connection meanwhile: the socket closes.
    ///
    /// # Errors
    ///
    /// [`AdoptError::NoSocket`] or [`AdoptError::Stopped`].
    pub async fn attach(
        mut self,
        socket: impl Into<OwnedFd>,
        early: Bytes,
    ) -> Result<(), AdoptError> {
        let stream = stream_of(socket.into())?;
        if !std::mem::take(&mut self.waits) {
            return Ok(());
        }
        let sent = self.mailbox.send(Mail::Attach(self.conn, stream, early)).await;
        sent.then_some(()).ok_or(AdoptError::Stopped)
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if self.waits {
            self.mailbox.pass(Mail::Abandon(self.conn));
        }
    }
}

/// A stream socket of any family: reading, writing and shutting down are the same for all, so one type does for all.
pub(crate) fn stream_of(socket: OwnedFd) -> Result<TcpStream, AdoptError> {
    let stream = StdTcpStream::from(socket);
    stream.set_nonblocking(true).map_err(|error| AdoptError::NoSocket(error.kind()))?;
    Ok(TcpStream::from_std(stream))
}

impl Handle {
    /// Puts a WebSocket handshake to the server that another part of the program has read, a router of HTTP for example,
    /// and says how it is to be answered. Then [`Adoption::attach`] gives the server the socket. What the server looks at is
    /// method, path, query and headers, and it judges them as those of its own listeners: Host, Origin, token, limits.
    /// `peer` is the client's address; `None` if it has none or nobody knows it: then no limit by address holds for it.
    /// TLS was the router's business.
    ///
    /// A request that is no handshake is answered with 426, and so is one over HTTP/2.
    ///
    /// It waits while the shard has too many commands to take. If the future is dropped nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`AdoptError`].
    pub fn adopt<'h, B>(
        &'h self,
        request: &Request<B>,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = Result<Adoption, AdoptError>> + Send + use<'h, B> {
        // The body, which may be of a kind that stays on its thread, is left out of the future.
        let head = head_of(request);
        async move {
            let mailbox = self.least_loaded()?;
            let (tell, told) = async_channel::bounded(1);
            if !mailbox.send(Mail::Adopt(Box::new(Ask { head, peer, tell }))).await {
                return Err(AdoptError::Stopped);
            }
            // What asks is dropped with the shard.
            let Answer { conn, response } =
                told.recv().await.map_err(|_| AdoptError::Stopped)??;
            let waits = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            Ok(Adoption { response, conn, mailbox: mailbox.clone(), waits })
        }
    }

    /// Takes over a socket from which another part of the program has read the bytes `read`: all of the handshake's head or
    /// the beginning of it, and nothing that it has answered. The server writes the answer itself, refusals too. Otherwise
    /// as [`adopt`](Self::adopt).
    ///
    /// # Errors
    ///
    /// [`AdoptError::NoSocket`] or [`AdoptError::Stopped`]. A server that takes no socket now closes it.
    pub async fn adopt_socket(
        &self,
        socket: impl Into<OwnedFd>,
        read: Bytes,
        peer: Option<SocketAddr>,
    ) -> Result<(), AdoptError> {
        let stream = stream_of(socket.into())?;
        let sent = self.least_loaded()?.send(Mail::Adopted(stream, read, peer)).await;
        sent.then_some(()).ok_or(AdoptError::Stopped)
    }

    fn least_loaded(&self) -> Result<&Mailbox, AdoptError> {
        self.mailboxes.iter().min_by_key(|mailbox| mailbox.load()).ok_or(AdoptError::Stopped)
    }
}

/// A request as it would have come over HTTP/1.1, without what would announce a body: there is none.
fn head_of<B>(request: &Request<B>) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\n", request.method()).into_bytes();
    let mut field = |name: &HeaderName, value: &[u8]| {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = request.uri().authority()
    {
        field(&header::HOST, authority.as_str().as_bytes());
    }
    let of_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];
    for (name, value) in request.headers().iter().filter(|(name, _)| !of_body.contains(name)) {
        field(name, value.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A handshake for a shard.
#[derive(Debug)]
pub(crate) struct Ask {
    head: Vec<u8>,
    peer: Option<SocketAddr>,
    tell: Tell,
}

type Tell = Sender<Result<Answer, AdoptError>>;

/// The answer to one.
#[derive(Debug)]
pub(crate) struct Answer {
    conn: ConnId,
    response: Response<Bytes>,
}

/// Connections of a shard whose sockets are still to come. There are no more than the hub has connections.
#[derive(Debug, Default)]
pub(crate) struct Adopting(HashMap<ConnId, Waiting>);

/// What a connection is written to until its socket is there: it takes the answer to the handshake, and nothing that follows.
#[derive(Debug)]
struct Waiting {
    answer: Vec<u8>,
    /// `None` once it was told.
    tell: Option<Tell>,
}

impl<R: Runtime> Shard<R> {
    /// A handshake without its socket.
    pub(crate) fn adopt(&mut self, ask: Ask) {
        let Ask { mut head, peer, tell } = ask;
        match self.hub.handle_accept(self.clock.now(), Peer::new(peer, Listener::Adopted)) {
            Ok(conn) => {
                self.adopting.0.insert(conn, Waiting { answer: Vec::new(), tell: Some(tell) });
                self.hub.handle_bytes(self.clock.now(), conn, &mut head);
            }
            Err(reason) => {
                debug!(reason = reason.name(), "adoption refused");
                // Whoever asked may have stopped waiting.
                let _ = tell.try_send(Err(AdoptError::Refused(reason)));
            }
        }
        self.count_sockets();
    }

    /// A socket of which somebody has read the beginning.
    pub(crate) fn adopt_socket(
        &mut self,
        stream: TcpStream,
        read: Bytes,
        peer: Option<SocketAddr>,
    ) {
        let address = peer.unwrap_or(NO_ADDRESS);
        if let Some(conn) = self.add(stream, address, Listener::Adopted) {
            self.take_early(conn, read);
        }
    }

    /// The socket of an adopted connection. One that the connection has not lived to see is closed.
    pub(crate) fn attach(&mut self, conn: ConnId, stream: TcpStream, early: Bytes) {
        if self.adopting.0.remove(&conn).is_none() {
            return;
        }
        // As with those that are accepted.
        let _ = stream.set_nodelay(true);
        if let Err(error) = self.sockets.add(place(conn), stream, Owner::Conn(conn)) {
            debug!(%error, "socket lost");
            return self.fail(conn, &error);
        }
        self.take_early(conn, early);
        // What was held back goes out, and no edge would announce that there is room.
        self.write(self.clock.now(), conn);
    }

    fn take_early(&mut self, conn: ConnId, early: Bytes) {
        if !early.is_empty() {
            self.hub.handle_bytes(self.clock.now(), conn, &mut Vec::from(early));
        }
        if !self.hub.hub().wants_read(conn) {
            self.sockets.pause(place(conn));
        }
    }

    /// Nobody will give it a socket.
    pub(crate) fn abandon(&mut self, conn: ConnId) {
        if self.adopting.0.remove(&conn).is_some() {
            let kind = io::ErrorKind::ConnectionAborted;
            self.hub.handle_io_error(self.clock.now(), conn, kind);
            self.count_sockets();
        }
    }

    /// Takes what a connection without a socket has to say. Nothing if it is none of these.
    #[cold]
    pub(crate) fn flush_adopted(&mut self, conn: ConnId) {
        let now = self.clock.now();
        let Some(waiting) = self.adopting.0.get_mut(&conn) else { return };
        let flush = self.hub.flush(now, conn, waiting);
        let over = matches!(flush, Flush::Closed | Flush::Fin);
        let (was_told, mut wanted) = (waiting.tell.is_none(), true);
        if let Some(response) = waiting.response(over).filter(|_| !was_told) {
            wanted = waiting.told(Ok(Answer { conn, response }));
        } else if over && !was_told {
            let _ = waiting.told(Err(AdoptError::Unanswered));
        }
        let refused = waiting.tell.is_none() && !waiting.is_accepted();
        match flush {
            Flush::Closed => {
                self.adopting.0.remove(&conn);
                self.count_sockets();
            }
            _ if !wanted => self.abandon(conn),
            // A client that is refused has nothing more to say here: whoever read the request has its socket.
            Flush::Fin => self.hub.handle_eof(now, conn),
            Flush::Drained | Flush::Blocked if refused && !was_told => {
                self.hub.handle_eof(now, conn)
            }
            Flush::Drained | Flush::Blocked => {}
        }
    }
}

impl Waiting {
    fn is_accepted(&self) -> bool {
        self.answer.starts_with(SWITCHING)
    }

    /// Where the head ends, if it has come whole.
    fn head_end(&self) -> Option<usize> {
        self.answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
    }

    /// The answer, if it has come whole. `over`: no more will come.
    fn response(&self, over: bool) -> Option<Response<Bytes>> {
        let body = self.answer.get(self.head_end()?..)?;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        head.parse(&self.answer).ok()?;
        let mut headers = HeaderMap::new();
        for field in head.headers {
            headers.append(
                HeaderName::from_bytes(field.name.as_bytes()).ok()?,
                HeaderValue::from_bytes(field.value).ok()?,
            );
        }
        let length = headers.remove(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let whole = self.is_accepted() || over || length.is_some_and(|length| body.len() >= length);
        let mut response = Response::new(Bytes::copy_from_slice(body));
        *response.status_mut() = StatusCode::from_u16(head.code?).ok()?;
        *response.headers_mut() = headers;
        whole.then_some(response)
    }

    /// Tells who asked. Whether that one still waits.
    fn told(&mut self, answer: Result<Answer, AdoptError>) -> bool {
        self.tell.take().is_some_and(|tell| tell.try_send(answer).is_ok())
    }
}

impl io::Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.answer.len();
        let room = ANSWER_BYTES_MAX.saturating_sub(before).min(bytes.len());
        self.answer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        // What follows is for the socket.
        if self.is_accepted()
            && let Some(end) = self.head_end()
        {
            self.answer.truncate(end);
        }
        match self.answer.len() - before {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How an answer begins that accepts a handshake.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn waiting() -> Waiting {
        Waiting { answer: Vec::new(), tell: None }
    }

    fn written(chunk: usize, bytes: &[u8]) -> Waiting {
        let mut waiting = waiting();
        for part in bytes.chunks(chunk) {
            if !matches!(waiting.write(part), Ok(count) if count == part.len()) {
                break;
            }
        }
        waiting
    }

    #[test]
    fn a_head_is_written_as_it_would_have_come() {
        let request = Request::get("http://example.com/live?a=1")
            .header("Upgrade", "websocket")
            .header("Content-Length", "7")
            .header("X-Bytes", HeaderValue::from_bytes(b"\xff").unwrap())
            .body(())
            .unwrap();
        let expected = b"GET /live?a=1 HTTP/1.1\r\nhost: example.com\r\nupgrade: websocket\r\nx-bytes: \xff\r\n\r\n";
        assert_eq!(head_of(&request), expected);
    }

    #[test]
    fn an_acceptance_is_taken_to_the_end_of_its_head_however_it_is_cut() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n";
        for chunk in 1..100 {
            let mut waiting = written(chunk, &[&head[..], b"\x81\x02hi"].concat());
            assert_eq!(waiting.answer, head, "{chunk}");
            assert_eq!(waiting.write(b"x").unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let response = waiting.response(false).unwrap();
            assert_eq!((response.status().as_u16(), response.headers().len()), (101, 1));
        }
    }

    #[test]
    fn a_refusal_is_whole_with_its_body() {
        let head = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\n";
        assert!(written(7, head.as_bytes()).response(false).is_none());
        assert!(written(7, format!("{head}abc").as_bytes()).response(false).is_none());
        let response = written(7, format!("{head}abcd").as_bytes()).response(false).unwrap();
        assert_eq!((response.status().as_u16(), &response.body()[..]), (401, &b"abcd"[..]));
        assert!(response.headers().is_empty());
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let waiting = written(1000, &vec![b'x'; 2 * ANSWER_BYTES_MAX]);
        assert_eq!(waiting.answer.len(), ANSWER_BYTES_MAX);
        assert!(waiting.response(true).is_none());
    }
}
