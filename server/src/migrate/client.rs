//! Redis, asked one question after the other: every one of them answered within a time, or given up.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use mahavishnu_core::time::Now;
use mahavishnu_driver::links::{Asked, ErrorClass, Inquiry, LinkConfig, Reply, Servers};

use crate::{
    dial,
    exit::{Exit, Failure, plain},
    out::one_line,
    token,
};

/// A connection to Redis, or to a Sentinel.
pub(super) struct Client {
    inquiry: Inquiry,
    stream: TcpStream,
    timeout: Duration,
    /// Who is asked, for people.
    who: String,
    greeting: Reply,
}

impl Client {
    /// Connects, by way of Sentinels if there are some, and selects the database.
    ///
    /// # Errors
    ///
    /// Nobody answers in time (2), or the user is refused (6).
    pub(super) fn open(config: &Arc<LinkConfig>) -> Result<Self, Failure> {
        let mut client = match &config.servers {
            Servers::Single { host, port } => Self::dial(config, Asked::Redis, host, *port)?,
            Servers::Sentinel { addresses, master, .. } => {
                let (host, port) = primary(config, addresses, master)?;
                Self::dial(config, Asked::Redis, &host, port)?
            }
        };
        client.ask(&[b"SELECT", config.db.to_string().as_bytes()])?;
        Ok(client)
    }

    fn dial(
        config: &Arc<LinkConfig>,
        asked: Asked,
        host: &str,
        port: u16,
    ) -> Result<Self, Failure> {
        let (kind, connect_timeout, timeout) = match asked {
            Asked::Redis => ("Redis", config.connect_timeout, config.timeout),
            Asked::Sentinel => {
                let timeout = config.limits.sentinel_timeout;
                ("Sentinel", timeout, timeout)
            }
        };
        let who = match host.contains(':') {
            true => format!("{kind} at [{host}]:{port}"),
            false => format!("{kind} at {host}:{port}"),
        };
        let failed = |error: &io::Error| away(&who, &plain(error));
        let stream = dial::connect(host, port, connect_timeout).map_err(|e| failed(&e))?;
        // A question is one write, and is not to wait.
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        let now = Now { mono: Instant::now(), unix: token::unix_now() };
        let inquiry = Inquiry::new(config, asked, host, now).map_err(|cause| away(&who, &cause))?;
        let mut this = Self { inquiry, stream, timeout, who, greeting: Reply::Nothing };
        this.greeting = this.exchange()?;
        if let Reply::Error(class, text) = &this.greeting {
            return Err(match *class == ErrorClass::Poison {
                // Who does not know HELLO is older than all that we know.
                true => Failure::new(Exit::Configuration, this.told(text)),
                false => this.refused(*class, text),
            });
        }
        Ok(this)
    }

    /// Who is asked, for people.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    /// What it says of itself under this name: `server`, `version`, `mode`, `role`.
    pub(super) fn says(&self, name: &str) -> &str {
        self.greeting.member(name).unwrap_or_default()
    }

    /// Asks something, and waits for what is answered.
    ///
    /// # Errors
    ///
    /// Nothing is answered in time (2), or that it may not be (6), or that it cannot be.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        self.inquiry.ask(words);
        let reply = self.exchange()?;
        if let Reply::Error(class, text) = &reply {
            return Err(self.refused(*class, text));
        }
        Ok(reply)
    }

    /// What was answered is not what was asked for.
    pub(super) fn odd(&self) -> Failure {
        Failure::new(Exit::General, self.told("an answer that it should not give"))
    }

    fn exchange(&mut self) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.timeout;
        loop {
            self.write(deadline)?;
            match self.inquiry.reply() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => self.read(deadline)?,
                Err(cause) => return Err(away(&self.who, &cause)),
            }
        }
    }

    fn write(&mut self, deadline: Instant) -> Result<(), Failure> {
        while !self.inquiry.transmit().is_empty() {
            let left = self.left(deadline)?;
            let sent = self.stream.set_write_timeout(Some(left));
            match sent.and_then(|()| self.stream.write(self.inquiry.transmit())) {
                Ok(0) => return Err(away(&self.who, CLOSED)),
                Ok(count) => self.inquiry.transmitted(count),
                Err(error) => self.heed(&error)?,
            }
        }
        Ok(())
    }

    fn read(&mut self, deadline: Instant) -> Result<(), Failure> {
        let left = self.left(deadline)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        match self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut chunk)) {
            Ok(0) => Err(away(&self.who, CLOSED)),
            Ok(count) => {
                let bytes = chunk.get(..count).unwrap_or_default();
                self.inquiry.receive(bytes).map_err(|cause| away(&self.who, &cause))
            }
            Err(error) => self.heed(&error),
        }
    }

    fn left(&self, deadline: Instant) -> Result<Duration, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = self.timeout.as_secs_f64();
            return Err(away(&self.who, &format!("no answer within {seconds} s")));
        }
        Ok(left)
    }

    /// What does not end the connection is tried again until the deadline.
    fn heed(&self, error: &io::Error) -> Result<(), Failure> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        if [Interrupted, TimedOut, WouldBlock].contains(&error.kind()) {
            return Ok(());
        }
        Err(away(&self.who, &plain(error)))
    }

    fn refused(&self, class: ErrorClass, text: &str) -> Failure {
        let exit = match class {
            ErrorClass::Wait => Exit::NotRunning,
            ErrorClass::Refused => Exit::Permission,
            ErrorClass::Elsewhere => Exit::Configuration,
            ErrorClass::Script | ErrorClass::Full | ErrorClass::Poison => Exit::General,
        };
        Failure::new(exit, self.told(text))
    }

    fn told(&self, text: &str) -> String {
        format!("{}: {}", self.who, one_line(text))
    }
}

/// Where the primary is, from the first Sentinel that knows.
fn primary(
    config: &Arc<LinkConfig>,
    sentinels: &[(Box<str>, u16)],
    master: &str,
) -> Result<(String, u16), Failure> {
    let mut failure = Failure::new(Exit::Configuration, "no Sentinel is named");
    for (host, port) in sentinels {
        let asked = Client::dial(config, Asked::Sentinel, host, *port).and_then(|mut client| {
            let question: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()];
            let reply = client.ask(&question)?;
            let [host, port] = reply.items() else {
                let text = client.told("it knows no primary of this name");
                return Err(Failure::new(Exit::Configuration, text));
            };
            let address = host.text().zip(port.text().and_then(|port| port.parse().ok()));
            let (host, port) = address.ok_or_else(|| client.odd())?;
            Ok((host.to_owned(), port))
        });
        match asked {
            Ok(address) => return Ok(address),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn away(who: &str, cause: &str) -> Failure {
    Failure::new(Exit::NotRunning, format!("{who}: {cause}"))
}

const CLOSED: &str = "it has closed the connection";
/// Read at once.
const CHUNK_BYTES: usize = 16 << 10;
