//! A service manager: what it is told, and the sockets that it hands over and keeps.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    binary,
    server::{Process, base_env, started},
    wait,
};

/// A notify socket, as systemd has one.
#[derive(Debug)]
pub struct Notified {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

/// What one datagram says: its lines.
#[derive(Debug)]
pub struct Told(String);

impl Notified {
    /// Listens.
    #[expect(clippy::new_without_default, reason = "it opens a socket")]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the socket");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(wait::DEADLINE)).expect("it is ours");
        Self { dir, socket }
    }

    /// `NOTIFY_SOCKET`.
    pub fn path(&self) -> String {
        self.dir.path().join("notify").display().to_string()
    }

    /// The next that has this line; what comes before is passed over.
    pub fn expect(&self, line: &str) -> Told {
        loop {
            let told = self.next().unwrap_or_else(|| panic!("was not told {line}"));
            if told.has(line) {
                return told;
            }
        }
    }

    /// The next one. `None`: there is none in time.
    fn next(&self) -> Option<Told> {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(Told(String::from_utf8(bytes[..count].to_vec()).expect("it is text")))
    }

    /// All that have come and were not looked at.
    pub fn all(&self) -> Vec<Told> {
        self.socket.set_nonblocking(true).expect("it is ours");
        let all = std::iter::from_fn(|| self.next()).collect();
        self.socket.set_nonblocking(false).expect("it is ours");
        all
    }
}

impl Told {
    /// Whether this is one of its lines.
    pub fn has(&self, line: &str) -> bool {
        self.0.lines().any(|one| one == line)
    }

    /// What it says for `name`. Panics if it says nothing.
    pub fn value(&self, name: &str) -> &str {
        let mut values = self.0.lines().filter_map(|line| line.split_once('='));
        let found = values.find(|(one, _)| *one == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.0)).1
    }
}

/// Listening sockets that are handed to one server after the other, and stay open between.
#[derive(Debug)]
pub struct Sockets {
    main: TcpListener,
    metrics: TcpListener,
}

impl Sockets {
    /// Listens at two free ports of loopback.
    #[expect(clippy::new_without_default, reason = "it opens sockets")]
    pub fn new() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        Self { main: listen(), metrics: listen() }
    }

    /// Where clients come.
    pub fn main(&self) -> SocketAddr {
        self.main.local_addr().expect("it listens")
    }

    /// Where those come who collect metrics.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics.local_addr().expect("it listens")
    }

    /// Starts a server with both, named as their socket units name them.
    pub fn start(&self, dir: &Path, settings: &[(&str, &str)]) -> Process {
        let fd = |listener: &TcpListener| listener.try_clone().expect("it is ours").into();
        start_with(dir, settings, fd(&self.main), fd(&self.metrics), "main:metrics")
    }
}

/// Starts a server that is handed these two. A shell gives them their numbers, and makes itself the server, whose process
/// must be the one that the variables name.
pub fn start_with(
    dir: &Path,
    settings: &[(&str, &str)],
    first: OwnedFd,
    second: OwnedFd,
    names: &str,
) -> Process {
    let script = "LISTEN_PID=$$ exec \"$0\" websocket start 3<&0 4<&1 0</dev/null 1>&2";
    let mut command = Command::new("sh");
    command.args(["-euc", script]).arg(binary::path()).env_clear().envs(base_env(dir));
    command.envs(settings.iter().copied()).env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    started(command.current_dir(dir).stdin(first).stdout(second))
}

/// A server whose log goes where somebody else has opened files.
#[derive(Debug)]
pub struct Logged {
    child: Child,
    dir: PathBuf,
}

impl Logged {
    /// Starts it on free ports, with its state in `dir`.
    pub fn start(dir: &Path, settings: &[(&str, &str)], out: File, err: File) -> Self {
        let mut command = Command::new(binary::path());
        command.args(["websocket", "start"]).env_clear().envs(base_env(dir));
        command.env("MAHAVISHNU_PORT", "0").env("MAHAVISHNU_METRICS_PORT", "0");
        command.envs(settings.iter().copied()).current_dir(dir).stdin(Stdio::null());
        let child = command.stdout(out).stderr(err).spawn().expect("the binary can be run");
        Self { child, dir: dir.to_owned() }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says where it listens.
    pub fn wait_ready(&self) -> SocketAddr {
        wait::until("its address", || {
            let text = std::fs::read_to_string(self.dir.join("mahavishnu_websocket.lock")).ok()?;
            let notes: serde_json::Value = serde_json::from_str(&text).ok()?;
            notes["url"].as_str()?.strip_prefix("http://")?.parse().ok()
        })
    }

    /// Sends a signal that ends it in order, and waits.
    pub fn stop(&mut self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has an id"), signal).expect("it is ours");
        let code = wait::until("its end", || self.child.try_wait().expect("it is ours"));
        assert!(code.success(), "{code}");
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One thread of a process that is kept from running while the others go on, until this is dropped.
#[derive(Debug)]
pub struct Held(Child);

impl Held {
    /// Holds the thread of this name, as a debugger does.
    pub fn thread(pid: u32, name: &str) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let is_it = |path: &PathBuf| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let task = tasks.flatten().map(|entry| entry.path()).find(is_it);
        let task = task.unwrap_or_else(|| panic!("no thread {name}"));
        let script = binary::workspace().join("tests/clients/python/hold_thread.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(task.file_name().expect("a number"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("python3 can be run");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it is text");
        assert_eq!(line, "held\n", "the thread cannot be held: ptrace must be allowed");
        Self(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The end of its input lets the thread go.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
