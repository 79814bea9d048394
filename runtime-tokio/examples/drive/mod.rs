//! One WebSocket connection on one tokio socket, for the echo examples: the whole loop around a core that does no I/O.

use std::{
    cell::RefCell,
    io::{self, IoSlice, Write},
    net::Shutdown,
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mahavishnu_core::{
    limits::Limits,
    reason::Reason,
    time::Now,
    tls::{Progress, Session},
    ws::{Accept, Connection, Deflate, Deflater, Event, Flush, Inflater, ReadBuffer},
};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream, time::sleep_until};

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
    stream: TcpStream,
    mut ws: Connection,
    mut tls: Option<Session>,
    shared: &RefCell<Shared>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let limits = &limits();
    let mut timer = pin!(sleep_until(far_away().into()));
    loop {
        let mut sink = Sink(&stream);
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
            Flush::Fin => drop(SockRef::from(&stream).shutdown(Shutdown::Write)),
            Flush::Closed => return Ok(()),
        }
        if let Some(due) = ws.poll_timeout(limits)
            && due < timer.deadline().into_std()
        {
            timer.as_mut().reset(due.into());
        }
        tokio::select! {
            biased;
            ready = stream.readable(), if ws.wants_read(limits) => {
                ready?;
                read(&stream, &mut ws, tls.as_mut(), limits, &mut shared.borrow_mut());
            }
            ready = stream.writable(), if flush == Flush::Blocked => ready?,
            () = &mut timer => {
                // Deadlines move on as bytes come: the timer may have been set for one that was left behind.
                if ws.poll_timeout(limits).is_some_and(|due| due <= Instant::now()) {
                    ws.handle_timeout(now(), limits);
                }
                timer.as_mut().reset(far_away().into());
            }
        }
    }
}

fn read(
    stream: &TcpStream,
    ws: &mut Connection,
    tls: Option<&mut Session>,
    limits: &Limits,
    Shared { scratch, codecs }: &mut Shared,
) {
    match stream.try_read(scratch) {
        Ok(count) => {
            if count < scratch.len() {
                // The socket is empty. Said here, it need not be found out by a read that brings nothing.
                let emptied = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                drop(stream.try_io(Interest::READABLE, emptied));
            }
            take_in(ws, tls, codecs, limits, scratch.get_mut(..count).unwrap_or_default());
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        // A reset is an end of the stream like any other.
        Err(_) => take_in(ws, None, codecs, limits, &mut []),
    }
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
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Bytes read at a time.
const SCRATCH_BYTES: usize = 256 * 1024;
