//! What a Redis between nodes has done so far, as it says itself.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Sub,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Result, stats::ratio};

/// A Redis that asks for no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    address: SocketAddr,
}

impl Redis {
    /// Names one; nothing is asked yet.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// What it has done since it was started. Asking counts as well.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn counts(&self) -> Result<RedisCounts> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"*2\r\n$4\r\nINFO\r\n$3\r\nall\r\n")?;
        let mut reply = Vec::new();
        let mut chunk = [0; 16 << 10];
        let text = loop {
            if let Some(text) = bulk(&reply)? {
                break text;
            }
            match stream.read(&mut chunk)? {
                0 => return Err("Redis has closed the connection".into()),
                count => reply.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            }
        };
        RedisCounts::of(&text).ok_or_else(|| "Redis says nothing of what it does".into())
    }
}

/// What Redis has done: as counters, or between two looks at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RedisCounts {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// Scripts that were run. Of a node's commands all but subscriptions are scripts.
    pub scripts: u64,
    /// Time within them.
    pub script_seconds: f64,
    /// Commands, those within scripts included.
    pub commands: u64,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
}

impl RedisCounts {
    /// Reads what `INFO all` says.
    fn of(info: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim_end())
        };
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let seconds = |name: &str| field(name)?.parse::<f64>().ok();
        let (mut scripts, mut micros) = (0, 0);
        for line in info.lines().filter_map(|line| line.strip_prefix("cmdstat_evalsha:")) {
            let part = |name: &str| {
                let value = line.split(',').find_map(|part| part.strip_prefix(name))?;
                value.parse::<u64>().ok()
            };
            scripts += part("calls=")?;
            micros += part("usec=")?;
        }
        Some(Self {
            cpu_seconds: seconds("used_cpu_user")? + seconds("used_cpu_sys")?,
            scripts,
            script_seconds: Duration::from_micros(micros).as_secs_f64(),
            commands: number("total_commands_processed")?,
            received_bytes: number("total_net_input_bytes")?,
            sent_bytes: number("total_net_output_bytes")?,
        })
    }
}

impl Sub for RedisCounts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            scripts: self.scripts.saturating_sub(before.scripts),
            script_seconds: self.script_seconds - before.script_seconds,
            commands: self.commands.saturating_sub(before.commands),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
        }
    }
}

impl fmt::Display for RedisCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_seconds, scripts, script_seconds, commands, received_bytes, sent_bytes } =
            self;
        write!(
            f,
            "{cpu_seconds:.2} s CPU, {scripts} scripts in {:.1} ms ({:.1} µs each), {commands} commands, {} KiB in, {} KiB out",
            script_seconds * 1e3,
            ratio(script_seconds * 1e6, *scripts as f64),
            received_bytes / 1024,
            sent_bytes / 1024,
        )
    }
}

/// The text of a reply that is one, once it is there.
fn bulk(reply: &[u8]) -> Result<Option<String>> {
    let Some(end) = memchr::memmem::find(reply, b"\r\n") else { return Ok(None) };
    let (head, rest) = reply.split_at(end);
    let length = head.strip_prefix(b"$").and_then(|digits| std::str::from_utf8(digits).ok());
    let length: Option<usize> = length.and_then(|digits| digits.parse().ok());
    let Some(length) = length else {
        return Err(format!("Redis answers {}", String::from_utf8_lossy(head)).into());
    };
    let text = rest.get(2..length.saturating_add(2));
    Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
}

const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read() {
        let info = "# CPU\r\nused_cpu_sys:1.500000\r\nused_cpu_user:2.250000\r\nused_cpu_user_children:9.0\r\n\
                    # Stats\r\ntotal_commands_processed:700\r\ntotal_net_input_bytes:1000\r\ntotal_net_output_bytes:2000\r\n\
                    # Commandstats\r\ncmdstat_evalsha:calls=100,usec=2500,usec_per_call=25.00,rejected_calls=0\r\n\
                    cmdstat_hset:calls=5,usec=9,usec_per_call=1.80\r\n";

        let counts = RedisCounts::of(info).unwrap();

        assert_eq!((counts.cpu_seconds, counts.script_seconds), (3.75, 0.0025));
        assert_eq!((counts.scripts, counts.commands), (100, 700));
        assert_eq!((counts.received_bytes, counts.sent_bytes), (1000, 2000));
        let later = RedisCounts { scripts: 130, cpu_seconds: 4.0, ..counts };
        assert_eq!(((later - counts).scripts, (later - counts).cpu_seconds), (30, 0.25));
        assert_eq!(RedisCounts::of("# CPU\r\n"), None);
    }

    #[test]
    fn a_reply_is_read_once_it_is_there() {
        assert_eq!(bulk(b"$5\r\nab").unwrap(), None);
        assert_eq!(bulk(b"$5\r").unwrap(), None);
        assert_eq!(bulk(b"$5\r\nabcde\r\n").unwrap().as_deref(), Some("abcde"));
        assert!(bulk(b"-NOAUTH no\r\n").is_err());
    }
}
