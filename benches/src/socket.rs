//! Sockets, polling and pinning: everything here that is about the operating system.

use std::{
    fmt, io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    net::{AddressFamily, SocketType, ipproto, sockopt},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// Readiness of many sockets, level-triggered.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// Reports at most `events_max` sockets per wait.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn new(events_max: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(events_max) })
    }

    /// Watches `socket` for bytes to read and for its end. It is forgotten when closed.
    ///
    /// # Errors
    /// As `epoll_ctl`.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN | epoll::EventFlags::RDHUP)?)
    }

    /// Appends the tokens of ready sockets to `ready`, which is cleared first. A zero timeout returns at once.
    ///
    /// # Errors
    /// As `epoll_wait`; an interruption by a signal is no error.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // A token was a usize when it went in.
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

/// A buffer to read into from many sockets, at the start of a cache line.
///
/// The kernel's copy is several times slower where a buffer begins a few bytes after a page does, because the bytes that
/// it copies usually begin where a page does; and that is where an allocator puts large buffers.
#[derive(Debug)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    /// A buffer with `bytes` of space.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let buffer = vec![0; BEFORE_BYTES + CACHE_LINE_BYTES + bytes];
        let address = buffer.as_ptr().addr() + BEFORE_BYTES;
        let start = BEFORE_BYTES + address.next_multiple_of(CACHE_LINE_BYTES) - address;
        Self { bytes: buffer, start }
    }

    /// What to read into.
    pub fn space(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - (CACHE_LINE_BYTES + BEFORE_BYTES - self.start);
        self.bytes.get_mut(self.start..end).unwrap_or_default()
    }

    /// What a read of `bytes` brought.
    pub fn filled(&mut self, bytes: usize) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + bytes).unwrap_or_default()
    }

    /// The same with up to 64 bytes put before it.
    pub fn filled_after(&mut self, before: &[u8], bytes: usize) -> Option<&mut [u8]> {
        let start = self.start.checked_sub(before.len())?;
        self.bytes.get_mut(start..self.start)?.copy_from_slice(before);
        self.bytes.get_mut(start..self.start + bytes)
    }
}

/// Monotonic and wall-clock nanoseconds from one reading of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    unix_start_ns: u64,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), unix_start_ns: nanos(unix) }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// The wall-clock time, in nanoseconds since the Unix epoch, that belongs to `now_ns`.
    #[must_use]
    pub fn unix_ns(&self, now_ns: u64) -> u64 {
        self.unix_start_ns.saturating_add(now_ns)
    }
}

/// A duration in nanoseconds, saturating after 584 years.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Connects, with the options that keep the generator from disturbing what it measures; non-blocking afterwards.
///
/// # Errors
/// As `socket`, `setsockopt` and `connect`.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, Some(ipproto::TCP))?;
    // The system's default may pace (BBR): a burst of publishes would trickle out over milliseconds.
    sockopt::set_tcp_congestion(&socket, "reno")?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::connect(&socket, &address)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    delay_acks(&stream)?;
    Ok(stream)
}

/// Asks for delayed ACKs. The kernel falls back to quick ones whenever a delayed ACK's timer fires, so this has to be
/// asked again from time to time: see [`ACK_REARM_NS`].
///
/// It still acknowledges every second segment of equal length, so this halves the ACKs and not more; that about
/// doubles the time that the generator has left. Without it a loopback server even *gains* some 10 % when it gathers,
/// because the generator's CPU then frees the server's sent buffers: one more reason to compare within a run only.
///
/// # Errors
/// As `setsockopt`.
pub fn delay_acks(stream: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_tcp_quickack(stream, false)?)
}

/// Makes closing the socket reset the connection, which leaves no TIME_WAIT behind to use up the ports.
///
/// # Errors
/// As `setsockopt`.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// Restricts the calling thread to one CPU.
///
/// # Errors
/// There is no such CPU, or it is not allowed here.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the limit of open files to what the system allows and returns it.
///
/// # Errors
/// As `setrlimit`.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Room in a read buffer before what is read.
const BEFORE_BYTES: usize = 64;
const CACHE_LINE_BYTES: usize = 64;
/// How often a reading socket asks again for delayed ACKs: half of the kernel's 40 ms timer.
pub const ACK_REARM_NS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, net::TcpListener};

    #[test]
    fn a_generator_socket_does_not_pace_and_does_not_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();

        let stream = connect(listener.local_addr().unwrap()).unwrap();

        assert_eq!(sockopt::tcp_congestion(&stream).unwrap(), "reno");
        assert!(stream.nodelay().unwrap());
        assert!(!sockopt::tcp_quickack(&stream).unwrap());
    }

    #[test]
    fn a_read_buffer_begins_with_a_cache_line_and_has_room_before_it() {
        let mut buffer = ReadBuffer::new(1 << 20);

        assert_eq!(buffer.space().as_ptr().addr() % CACHE_LINE_BYTES, 0);
        assert_eq!(buffer.space().len(), 1 << 20);
        buffer.space()[..3].copy_from_slice(b"def");
        assert_eq!(buffer.filled_after(b"abc", 3).unwrap(), b"abcdef");
        assert_eq!(buffer.filled(3), b"def");
        assert!(buffer.filled_after(&[0; 200], 3).is_none());
    }

    #[test]
    fn only_sockets_with_bytes_are_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (quiet, busy) =
            (connect(listener.local_addr().unwrap()), connect(listener.local_addr().unwrap()));
        let (quiet, busy) = (quiet.unwrap(), busy.unwrap());
        let mut poller = Poller::new(8).unwrap();
        poller.add(&quiet, 1).unwrap();
        poller.add(&busy, 2).unwrap();
        let _quiet_peer = listener.accept().unwrap();
        let (mut busy_peer, _) = listener.accept().unwrap();

        busy_peer.write_all(b"x").unwrap();
        let mut ready = Vec::new();
        poller.wait(Duration::from_secs(10), &mut ready).unwrap();

        assert_eq!(ready, vec![2]);
    }
}
