//! Hostile clients: thousands of connections of every unpleasant kind at once, kept up for a while. What they do to the
//! healthy ones is measured beside them, by `rate`.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Result, handshake::Target, process::Process, socket, stats::ratio};

/// What a connection does to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A request head, one byte after the other.
    SlowHead,
    /// Connects and says nothing.
    Silent,
    /// Bytes that are no protocol at all.
    Noise,
    /// Begins a TLS record and goes on with noise.
    TlsNoise,
    /// The first half of a TLS handshake, then nothing.
    HalfTls,
    /// Half a request head, then a reset.
    HalfHead,
    /// A handshake, then a frame that announces a terabyte.
    Bomb,
    /// A handshake, then pings as fast as they are taken.
    PingFlood,
    /// A handshake with a token that does not verify.
    WrongToken,
    /// A handshake, then a frame that breaks the rules.
    Unmasked,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::SlowHead,
        Self::Silent,
        Self::Noise,
        Self::TlsNoise,
        Self::HalfTls,
        Self::HalfHead,
        Self::Bomb,
        Self::PingFlood,
        Self::WrongToken,
        Self::Unmasked,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SlowHead => "slow head",
            Self::Silent => "silent",
            Self::Noise => "noise",
            Self::TlsNoise => "TLS noise",
            Self::HalfTls => "half a TLS handshake",
            Self::HalfHead => "half a head",
            Self::Bomb => "length bomb",
            Self::PingFlood => "ping flood",
            Self::WrongToken => "wrong token",
            Self::Unmasked => "unmasked frame",
        }
    }

    /// What it sends first.
    fn opening(self, target: &Target, seed: u64) -> Vec<u8> {
        let upgrade = || target.request(None);
        match self {
            Self::SlowHead => b"G".to_vec(),
            Self::Silent => Vec::new(),
            Self::Noise => noise(seed, 512),
            Self::TlsNoise => [&[0x16, 3, 1, 2, 0][..], &noise(seed, 507)].concat(),
            // A ClientHello of 508 bytes, of which the server gets 200.
            Self::HalfTls => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 189]].concat(),
            Self::HalfHead => upgrade().split_at(40).0.to_vec(),
            Self::Bomb => {
                [&upgrade()[..], &[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]].concat()
            }
            Self::PingFlood => upgrade(),
            Self::WrongToken => target.request(Some(FORGED)),
            Self::Unmasked => [&upgrade()[..], &[0x81, 2, b'h', b'i']].concat(),
        }
    }

    /// What it sends each time it is its turn.
    fn next(self, turn: usize) -> &'static [u8] {
        match self {
            Self::SlowHead => {
                SLOW.get(turn % SLOW.len()..).and_then(|rest| rest.get(..1)).unwrap_or(b"x")
            }
            Self::PingFlood => PINGS,
            Self::Silent | Self::Noise | Self::TlsNoise | Self::HalfTls | Self::HalfHead => &[],
            Self::Bomb | Self::WrongToken | Self::Unmasked => &[],
        }
    }
}

/// Keeps up hostile connections.
#[derive(Clone, Debug)]
pub struct Siege {
    /// The server.
    pub target: Target,
    /// Connections at a time. One that the server ends is replaced.
    pub connections: usize,
    /// New connections per second, at most.
    pub opens_per_second: f64,
    /// How long.
    pub length: Duration,
    /// The server's process, for its CPU time and memory.
    pub server: Option<Process>,
    /// Goes into the report.
    pub label: String,
}

impl Siege {
    /// Opens them, keeps them up, and drops them.
    ///
    /// # Errors
    /// The server cannot be reached any more, which is the failure that this is about.
    pub fn run(&self) -> Result<SiegeReport> {
        let cpu_before = self.server.map(Process::cpu_time).transpose()?;
        let started = Instant::now();
        let mut posts: Vec<Post> =
            Kind::ALL.iter().cycle().take(self.connections).map(|kind| Post::new(*kind)).collect();
        let mut report = SiegeReport { label: self.label.clone(), ..SiegeReport::default() };
        let mut scratch = vec![0; 16 << 10];
        let mut opened = 0_u64;
        while started.elapsed() < self.length {
            let mut standing = 0;
            // From where the last round stopped, so that every kind has its turn to open.
            let turn = opened as usize % posts.len().max(1);
            posts.rotate_left(turn);
            for post in &mut posts {
                let may_open =
                    (opened as f64) < started.elapsed().as_secs_f64() * self.opens_per_second;
                if may_open && post.is_due() {
                    opened += 1;
                    post.open(&self.target, opened)?;
                    *report.opened.entry(post.kind.name().into()).or_default() += 1;
                }
                post.act(&mut scratch, &mut report);
                standing += usize::from(post.stream.is_some());
            }
            report.standing_max = report.standing_max.max(standing);
            // So that a slow head is slow, and the machine has time for the others.
            std::thread::sleep(PAUSE);
        }
        report.seconds = started.elapsed().as_secs_f64();
        report.rss_bytes = self.server.map(Process::resident_bytes).transpose()?;
        let cpu = self.server.map(Process::cpu_time).transpose()?.zip(cpu_before);
        let cpu = cpu.map(|(end, begin)| end.saturating_sub(begin).as_secs_f64());
        report.server_cpu_share = cpu.map(|cpu| ratio(cpu, report.seconds));
        Ok(report)
    }
}

/// One connection and its replacements.
#[derive(Debug)]
struct Post {
    kind: Kind,
    stream: Option<TcpStream>,
    turn: usize,
    opened: Option<Instant>,
}

impl Post {
    fn new(kind: Kind) -> Self {
        Self { kind, stream: None, turn: 0, opened: None }
    }

    /// Whether it has to be opened. Not at once when it was just sent away: the others want to be there too.
    fn is_due(&self) -> bool {
        self.stream.is_none() && self.opened.is_none_or(|at| at.elapsed() > REPLACED_AFTER)
    }

    fn open(&mut self, target: &Target, seed: u64) -> Result<()> {
        let mut stream = socket::connect(target.address)
            .map_err(|error| format!("the server takes no connection: {error}"))?;
        socket::reset_on_close(&stream)?;
        // Whatever the socket does not take is lost: this is no client that minds.
        let _ = stream.write(&self.kind.opening(target, seed));
        self.turn = 0;
        self.opened = Some(Instant::now());
        self.stream = (self.kind != Kind::HalfHead).then_some(stream);
        Ok(())
    }

    /// Reads what the server says, goes on, and lets go of a connection that the server has ended.
    fn act(&mut self, scratch: &mut [u8], report: &mut SiegeReport) {
        let Some(stream) = &mut self.stream else { return };
        self.turn += 1;
        let ended = match stream.read(scratch) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        if ended {
            *report.ended.entry(self.kind.name().into()).or_default() += 1;
            self.stream = None;
            return;
        }
        report.sent_bytes += stream.write(self.kind.next(self.turn)).unwrap_or(0) as u64;
    }
}

/// What happened. By kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiegeReport {
    /// Which server this was, in the caller's words.
    pub label: String,
    /// How long it lasted.
    pub seconds: f64,
    /// Connections opened.
    pub opened: BTreeMap<String, u64>,
    /// Connections that the server ended.
    pub ended: BTreeMap<String, u64>,
    /// Most that stood at one time.
    pub standing_max: usize,
    /// Bytes of floods and slow heads.
    pub sent_bytes: u64,
    /// The server's CPU time by the time that passed, healthy clients' part included.
    pub server_cpu_share: Option<f64>,
    /// The server's memory at the end.
    pub rss_bytes: Option<u64>,
}

impl fmt::Display for SiegeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened: u64 = self.opened.values().sum();
        let standing = self.standing_max;
        write!(
            f,
            "siege: {opened} connections in {:.1} s, at most {standing} at a time",
            self.seconds
        )?;
        if let (Some(cpu), Some(rss)) = (self.server_cpu_share, self.rss_bytes) {
            write!(f, "\n  server CPU {:.0} %, RSS {} KiB", cpu * 100.0, rss / 1024)?;
        }
        for (kind, opened) in &self.opened {
            let ended = self.ended.get(kind).copied().unwrap_or(0);
            write!(f, "\n  {kind}: {opened} opened, {ended} ended by the server")?;
        }
        Ok(())
    }
}

/// Bytes that look random and are the same in each run (xorshift).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| step()).take(length).collect()
}

/// Well-formed, signed by nobody.
const FORGED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoibWFsbG9yeSIsImV4cCI6NDEwMjQ0NDgwMH0.\
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const SLOW: &[u8] = b"ET / HTTP/1.1\r\nHost: slow\r\nX-Filler: ";

/// Masked pings without payload, as many as a flood sends at once.
const PINGS: &[u8] = &[
    0x89, 0x80, 1, 2, 3, 4, 0x89, 0x80, 1, 2, 3, 4, 0x89, 0x80, 1, 2, 3, 4, 0x89, 0x80, 1, 2, 3, 4,
];

const PAUSE: Duration = Duration::from_millis(10);
const REPLACED_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn every_kind_knocks_and_is_replaced_when_it_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends every connection at once.
        thread::spawn(move || listener.incoming().for_each(drop));
        let siege = Siege {
            target: Target { address, authority: "x".into(), path: "/".into(), tls: false },
            connections: Kind::ALL.len(),
            opens_per_second: 1000.0,
            length: REPLACED_AFTER + Duration::from_millis(300),
            server: None,
            label: String::new(),
        };

        let report = siege.run().unwrap();

        assert_eq!(report.opened.len(), Kind::ALL.len(), "{report}");
        assert!(report.opened.values().all(|count| *count > 1), "{report}");
        assert!(report.ended.len() >= Kind::ALL.len() - 1, "{report}");
    }
}
