//! What a service manager is told of the server: sd_notify(3).
//!
//! By the plain datagram: `sd-notify` 0.5 knows no abstract addresses, which containers use, and waits for a manager that
//! does not read.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::exit::plain;

/// The service manager, if there is one that wants to be told.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
    /// What the server does at present.
    doing: String,
    /// What is worth to be known besides.
    note: Option<String>,
}

impl Manager {
    /// Finds it in the environment.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self::find(variable, std::process::id())
    }

    fn find(variable: impl Fn(&str) -> Option<String>, own: u32) -> Self {
        let socket = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            let opened = address(&name).and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(SEND_TIMEOUT))?;
                Ok((socket, address))
            });
            opened.map_err(|error| warn!("NOTIFY_SOCKET cannot be used: {}", plain(&error))).ok()
        });
        let meant = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
        let micros = variable("WATCHDOG_USEC").filter(|_| meant).and_then(|text| text.parse().ok());
        let watchdog = micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        Self {
            watchdog: watchdog.filter(|_| socket.is_some()),
            socket,
            doing: String::new(),
            note: None,
        }
    }

    /// How often it wants to hear of the server. `None`: there is no manager, or it does not care.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.socket.as_ref()?;
        // Four signs in its time, so that it takes more than one late one to be taken for dead.
        let often = self.watchdog.map(|limit| (limit / 4).clamp(INTERVAL_MIN, STATUS_INTERVAL));
        Some(often.unwrap_or(STATUS_INTERVAL))
    }

    /// The start goes on.
    pub(crate) fn starting(&self, what: &str) {
        self.send(&[&status(what)]);
    }

    /// The server listens at `addresses`.
    pub(crate) fn ready(&mut self, addresses: &str) {
        self.doing = format!("listening on {addresses}");
        self.send(&["READY=1", &status(&self.doing)]);
    }

    /// A reload has begun.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        // The moment tells it which of its requests this is the answer to.
        let moment = format!("MONOTONIC_USEC={micros}");
        self.send(&["RELOADING=1", &moment, &status("reading the settings again")]);
    }

    /// A reload is over: `refused` says what is wrong.
    pub(crate) fn reloaded(&mut self, refused: Option<&str>) {
        self.note = refused.map(|why| format!("the last reload was refused: {why}"));
        self.send(&["READY=1", &status(&self.described())]);
    }

    /// The server is about to end, within `limit`.
    pub(crate) fn stopping(&mut self, limit: Duration, sockets: usize) {
        self.doing = "stopping".to_owned();
        self.note = None;
        let words = format!("stopping: {}, {} s at most", held(sockets), limit.as_secs_f64());
        let micros = limit.saturating_add(STOP_MARGIN).as_micros();
        let patience = format!("EXTEND_TIMEOUT_USEC={micros}");
        self.send(&["STOPPING=1", &patience, &status(&words)]);
    }

    /// All shards have taken a turn since the last time.
    pub(crate) fn alive(&self, sockets: usize) {
        let status = status(&format!("{}; {}", self.described(), held(sockets)));
        match self.watchdog {
            Some(_) => self.send(&["WATCHDOG=1", &status]),
            None => self.send(&[&status]),
        }
    }

    fn described(&self) -> String {
        self.note.iter().fold(self.doing.clone(), |text, note| format!("{text}; {note}"))
    }

    fn send(&self, lines: &[&str]) {
        let Some((socket, address)) = &self.socket else { return };
        let text = lines.join("\n");
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            let what = lines.first().copied().unwrap_or_default();
            warn!("the service manager was not told {what:?}: {}", plain(&error));
        }
    }
}

/// Where it listens. A name that begins with `@` is an abstract one.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "an unknown kind of address")),
    }
}

/// One line, however many there are in it.
fn status(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = line.char_indices().nth(STATUS_CHARS_MAX).map_or(line.len(), |(at, _)| at);
    format!("STATUS={}", line.get(..end).unwrap_or_default())
}

fn held(sockets: usize) -> String {
    format!("{sockets} socket{}", if sockets == 1 { "" } else { "s" })
}

/// How long a manager that does not read is waited for, by a thread that has little else to do.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the status line is refreshed if nothing has to be more often.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// What the end of the process takes besides the drain.
const STOP_MARGIN: Duration = Duration::from_secs(10);
const STATUS_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn manager(pairs: &[(&str, &str)]) -> Manager {
        let map: HashMap<_, _> = pairs.iter().copied().collect();
        Manager::find(|name| map.get(name).map(|text| (*text).to_owned()), 7)
    }

    fn listening() -> (tempfile::TempDir, UnixDatagram, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").display().to_string();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (dir, socket, path)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_watchdog_is_meant_for_this_process_or_nobody() {
        let (_dir, _socket, path) = listening();
        let with = |pairs: &[(&str, &str)]| {
            let all: Vec<_> = [("NOTIFY_SOCKET", &*path)].iter().chain(pairs).copied().collect();
            manager(&all).interval()
        };
        assert_eq!(manager(&[("WATCHDOG_USEC", "1000000")]).interval(), None);
        assert_eq!(with(&[]), Some(STATUS_INTERVAL));
        assert_eq!(with(&[("WATCHDOG_USEC", "1000000")]), Some(Duration::from_millis(250)));
        let pair = [("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")];
        assert_eq!(with(&pair), Some(Duration::from_millis(250)));
        let other = [("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")];
        assert_eq!(with(&other), Some(STATUS_INTERVAL));
        assert_eq!(with(&[("WATCHDOG_USEC", "x")]), Some(STATUS_INTERVAL));
        assert_eq!(with(&[("WATCHDOG_USEC", "600000000")]), Some(STATUS_INTERVAL));
    }

    #[test]
    fn all_that_is_told_is_lines_of_one_datagram() {
        let (_dir, socket, path) = listening();
        let mut told = manager(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "1000000")]);
        told.ready("127.0.0.1:1");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=listening on 127.0.0.1:1");
        told.reloading();
        let text = heard(&socket);
        let moment = text.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(text.starts_with("RELOADING=1\n") && moment.parse::<u64>().unwrap() > 0, "{text}");
        told.reloaded(Some("PORT:\nno"));
        let refused = "listening on 127.0.0.1:1; the last reload was refused: PORT: no";
        assert_eq!(heard(&socket), format!("READY=1\nSTATUS={refused}"));
        told.alive(1);
        assert_eq!(heard(&socket), format!("WATCHDOG=1\nSTATUS={refused}; 1 socket"));
        told.reloaded(None);
        assert_eq!(heard(&socket), "READY=1\nSTATUS=listening on 127.0.0.1:1");
        told.stopping(Duration::from_secs(5), 2);
        let expected =
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=stopping: 2 sockets, 5 s at most";
        assert_eq!(heard(&socket), expected);
        told.alive(0);
        assert_eq!(heard(&socket), "WATCHDOG=1\nSTATUS=stopping; 0 sockets");
    }

    #[test]
    fn an_abstract_address_is_one_too() {
        let name = format!("mahavishnu-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]).starting("x");
        assert_eq!(heard(&socket), "STATUS=x");
        assert_eq!(manager(&[("NOTIFY_SOCKET", "vsock:2:1")]).interval(), None);
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(status("a\r\nb"), "STATUS=a  b");
        assert_eq!(status(&"ü".repeat(1000)).chars().count(), "STATUS=".len() + STATUS_CHARS_MAX);
    }
}
