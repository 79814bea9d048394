//! One WebSocket connection on one smol socket, for the echo examples: the whole loop around a core that does no I/O.

use std::{
    cell::RefCell,
    future::pending,
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use mahavishnu_core::{
    limits::Limits,
    reason::Reason,
    time::Now,
    tls::{Progress, Session},
    ws::{Accept, Connection, Deflate, Deflater, Event, Flush, Inflater, ReadBuffer},
};
use smol::{Async, Timer, future::or};

/// Limits wide enough for the Autobahn suite, which echoes messages of 16 MiB (9.*) and of 65,536 fragments.
pub(crate) fn limits() -> Limits {
    Limits {
        message_bytes_max: 64 * 1024 * 1024,
        fragments_max: 1 << 20,
        control_frames_per_second_max: 1_000_000,
        ..Limits::default()
    }
}

/// Both clocks now.
pub(crate) fn now() -> Now {
    Now {
        mono: Instant::now(),
        unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    }
}

/// Echoes every message until the connection is over.
pub(crate) async fn echo(
    stream: Async<TcpStream>,
    mut ws: Connection,
    mut tls: Option<Session>,
    shared: &RefCell<Shared>,
) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let limits = &limits();
    // Set anew as rarely as possible, because each time wakes the reactor. It may ring early.
    let (mut timer, mut armed) = (Timer::never(), None);
    loop {
        let mut sink = Sink(stream.get_ref());
        let flush = match &mut tls {
            None => ws.flush(now(), limits, &mut sink),
            Some(tls) => {
                let flush = ws.flush(now(), limits, &mut tls.writer(&mut sink));
                tls.finish(flush, &mut sink)
            }
        };
        match flush {
            Flush::Drained | Flush::Blocked => {}
            // Failing means that the peer is gone, which the next read says.
            Flush::Fin => drop(stream.get_ref().shutdown(Shutdown::Write)),
            Flush::Closed => return Ok(()),
        }
        if let Some(due) = ws.poll_timeout(limits)
            && armed.is_none_or(|at| due < at)
        {
            armed = Some(due);
            timer.set_at(due);
        }
        match wait(&stream, ws.wants_read(limits), flush == Flush::Blocked, &mut timer).await? {
            Ready::Read => {
                read(stream.get_ref(), &mut ws, tls.as_mut(), limits, &mut shared.borrow_mut());
            }
            Ready::Write => {}
            Ready::Timeout => {
                armed = None;
                if ws.poll_timeout(limits).is_some_and(|due| due <= now().mono) {
                    ws.handle_timeout(now(), limits);
                }
            }
        }
    }
}

fn read(
    mut stream: &TcpStream,
    ws: &mut Connection,
    tls: Option<&mut Session>,
    limits: &Limits,
    Shared { scratch, codecs }: &mut Shared,
) {
    match stream.read(scratch) {
        Ok(count) => {
            take_in(ws, tls, codecs, limits, scratch.get_mut(..count).unwrap_or_default());
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        // A reset is an end of the stream like any other.
        Err(_) => take_in(ws, None, codecs, limits, &mut []),
    }
}

enum Ready {
    Read,
    Write,
    Timeout,
}

/// Waits for the first of what is wanted.
async fn wait(
    stream: &Async<TcpStream>,
    read: bool,
    write: bool,
    timer: &mut Timer,
) -> io::Result<Ready> {
    let readable = async {
        if !read {
            pending::<()>().await;
        }
        stream.readable().await.map(|()| Ready::Read)
    };
    let writable = async {
        if !write {
            pending::<()>().await;
        }
        stream.writable().await.map(|()| Ready::Write)
    };
    let timeout = async {
        timer.await;
        Ok(Ready::Timeout)
    };
    or(or(readable, writable), timeout).await
}

/// What connections of one thread share: nothing of a message stays in it.
pub(crate) struct Shared {
    /// What one read brings.
    scratch: ReadBuffer,
    codecs: Codecs,
}

struct Codecs {
    deflater: Deflater,
    inflater: Inflater,
    /// Whether a client's offer is taken up.
    enabled: bool,
}

impl Shared {
    pub(crate) fn new(deflate: bool) -> Self {
        // Every message is worth compressing here: this is for testing.
        let codecs =
            Codecs { deflater: Deflater::new(1, 0), inflater: Inflater::new(), enabled: deflate };
        Self { scratch: ReadBuffer::new(SCRATCH_BYTES), codecs }
    }
}

/// Takes in what one read brought, TLS taken off; nothing is the end of the stream.
fn take_in(
    ws: &mut Connection,
    tls: Option<&mut Session>,
    codecs: &mut Codecs,
    limits: &Limits,
    wire: &mut [u8],
) {
    let Some(tls) = tls.filter(|_| !wire.is_empty()) else {
        return receive(ws, codecs, limits, wire);
    };
    let mut plain = Vec::new();
    let progress = tls.receive(wire, &mut plain);
    if !plain.is_empty() {
        receive(ws, codecs, limits, &mut plain);
    }
    if progress != Progress::More {
        receive(ws, codecs, limits, &mut []);
    }
}

/// Takes in plaintext; nothing is the end of the stream.
fn receive(ws: &mut Connection, codecs: &mut Codecs, limits: &Limits, mut wire: &mut [u8]) {
    let now = now();
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
                let deflate = if *enabled { Deflate::choose(request.headers()) } else { Ok(None) };
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
                Event::Compressed(_) | Event::Accepted(_) | Event::Pong { .. } | Event::Closed(_),
            )
            | None => {}
        }
        next = ws.receive(now, limits, &mut wire);
    }
}

/// A socket as the core writes to it: never waiting.
struct Sink<'s>(&'s TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes read at a time.
const SCRATCH_BYTES: usize = 256 * 1024;
