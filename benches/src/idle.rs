//! Connections for their own sake: how fast they open, what they cost the server, and what they hold while idle.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    client::{Client, Setup},
    process::Process,
    socket::{self, Poller},
    stats::ratio,
};

/// Opens connections and keeps them for a while.
#[derive(Clone, Debug)]
pub struct Idle {
    /// How each is opened.
    pub setup: Setup,
    /// How many.
    pub connections: usize,
    /// Handshakes under way at a time.
    pub at_once: usize,
    /// How long they are kept once all are open.
    pub hold: Duration,
    /// The server's process, for its CPU time and memory.
    pub server: Option<Process>,
    /// Goes into the report.
    pub label: String,
}

impl Idle {
    /// Opens all, holds them while answering pings, and drops them.
    ///
    /// # Errors
    /// A connection could not be opened, or ended while held.
    pub fn run(&self) -> Result<ConnectReport> {
        let rss_before = self.server.map(Process::resident_bytes).transpose()?;
        let cpu_before = self.server.map(Process::cpu_time).transpose()?;
        let started = Instant::now();
        let mut clients = self.setup.open(self.connections, self.at_once)?;
        let seconds = started.elapsed().as_secs_f64();
        let cpu_open = self.server.map(Process::cpu_time).transpose()?;
        hold(&mut clients, self.hold)?;
        let cpu_held = self.server.map(Process::cpu_time).transpose()?;
        let rss_held = self.server.map(Process::resident_bytes).transpose()?;
        for client in &clients {
            socket::reset_on_close(client.stream())?;
        }
        let connections = self.connections as f64;
        let used = |end: Option<Duration>, begin: Option<Duration>| {
            end.zip(begin).map(|(end, begin)| end.saturating_sub(begin).as_secs_f64())
        };
        Ok(ConnectReport {
            mode: "idle".to_owned(),
            label: self.label.clone(),
            connections: self.connections,
            seconds,
            connects_per_second: ratio(connections, seconds),
            cpu_us_per_connect: used(cpu_open, cpu_before).map(|cpu| ratio(cpu * 1e6, connections)),
            held_seconds: self.hold.as_secs_f64(),
            cpu_seconds_while_held: used(cpu_held, cpu_open),
            rss_bytes: rss_held,
            rss_bytes_per_connection: rss_held
                .zip(rss_before)
                .map(|(held, before)| ratio(held.saturating_sub(before) as f64, connections)),
            ..ConnectReport::default()
        })
    }
}

/// Opens connections and closes each group as soon as it is open.
#[derive(Clone, Debug)]
pub struct Churn {
    /// How each is opened.
    pub setup: Setup,
    /// How many in all.
    pub connections: usize,
    /// Handshakes under way at a time.
    pub at_once: usize,
    /// The server's process, for its CPU time.
    pub server: Option<Process>,
    /// Goes into the report.
    pub label: String,
}

impl Churn {
    /// Opens and closes all. Time and CPU include the closing handshakes.
    ///
    /// # Errors
    /// A connection could not be opened, or did not end when closed.
    pub fn run(&self) -> Result<ConnectReport> {
        let mut scratch = vec![0; READ_BYTES];
        let cpu_before = self.server.map(Process::cpu_time).transpose()?;
        let started = Instant::now();
        let mut done = 0;
        while done < self.connections {
            let mut clients =
                self.setup.open_group(self.at_once.clamp(1, self.connections - done))?;
            done += clients.len();
            clients.iter_mut().try_for_each(Client::send_close)?;
            clients.iter_mut().try_for_each(|client| client.await_end(&mut scratch))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu = self.server.map(Process::cpu_time).transpose()?.zip(cpu_before);
        let cpu = cpu.map(|(end, begin)| end.saturating_sub(begin).as_secs_f64());
        Ok(ConnectReport {
            mode: "connect".to_owned(),
            label: self.label.clone(),
            connections: self.connections,
            seconds,
            connects_per_second: ratio(self.connections as f64, seconds),
            cpu_us_per_connect: cpu.map(|cpu| ratio(cpu * 1e6, self.connections as f64)),
            rss_bytes: self.server.map(Process::resident_bytes).transpose()?,
            ..ConnectReport::default()
        })
    }
}

/// What opening connections cost. Figures of the server are there if its process was named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectReport {
    /// `idle` or `connect`.
    pub mode: String,
    /// Which server this was, in the caller's words.
    pub label: String,
    /// What was measured, in the caller's words.
    #[serde(default)]
    pub case: String,
    /// Which of several interleaved rounds this was.
    #[serde(default)]
    pub round: u32,
    /// How many were opened.
    pub connections: usize,
    /// How long that took; for `connect` with closing.
    pub seconds: f64,
    /// Per second of that time.
    pub connects_per_second: f64,
    /// The server's CPU time per connection, in microseconds.
    pub cpu_us_per_connect: Option<f64>,
    /// How long they were held.
    pub held_seconds: f64,
    /// The server's CPU time while it held them.
    pub cpu_seconds_while_held: Option<f64>,
    /// Resident memory at the end, connections still open if they were held.
    pub rss_bytes: Option<u64>,
    /// What that grew by since before, per connection.
    pub rss_bytes_per_connection: Option<f64>,
}

impl fmt::Display for ConnectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, label, connections, seconds, connects_per_second, .. } = self;
        let label = if label.is_empty() { "server" } else { label };
        write!(
            f,
            "{mode} {label}: {connections} connections in {seconds:.2} s, {connects_per_second:.0} per second"
        )?;
        if let Some(cpu_us) = self.cpu_us_per_connect {
            write!(f, "\n  server {cpu_us:.1} µs CPU per connection")?;
        }
        if let (Some(rss), Some(each)) = (self.rss_bytes, self.rss_bytes_per_connection) {
            write!(f, "\n  server RSS {} KiB, {each:.0} B per connection", rss / 1024)?;
        }
        if let Some(cpu) = self.cpu_seconds_while_held {
            write!(f, "\n  held {:.1} s, server CPU {cpu:.2} s", self.held_seconds)?;
        }
        Ok(())
    }
}

/// Reads and discards what comes; pings are answered on the way. Sleeps: nothing is measured but the server's use.
fn hold(clients: &mut [Client], time: Duration) -> Result<()> {
    let mut poller = Poller::new(256)?;
    for (token, client) in clients.iter().enumerate() {
        poller.add(client.stream(), token)?;
    }
    let (mut scratch, mut ready) = (vec![0; READ_BYTES], Vec::new());
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        poller.wait(left.min(Duration::from_millis(100)), &mut ready)?;
        for &token in &ready {
            let Some(client) = clients.get_mut(token) else { continue };
            let in_connection = |error| format!("connection {token}: {error}");
            let bytes = client.read(&mut scratch).map_err(in_connection)?;
            client
                .parse(scratch.get(..bytes).unwrap_or_default(), |_, _| Ok(()))
                .map_err(in_connection)?;
        }
    }
}

const READ_BYTES: usize = 64 << 10;
