//! What clients did, as a list that any driver can be given: the differential run.
//!
//! A script is played one step after the other: each waits until the server has taken it in and written what follows. The
//! order in which a core gets its inputs is then the script's, whatever drives it, and so are the bytes that come out.

use std::{collections::BTreeMap, time::Duration};

use mahavishnu_core::{
    hub::ConnId,
    trace::{Input, Kind, Trace},
};

use crate::{Raw, rig::Rig};

/// One thing that a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next client connects.
    Connect,
    /// A client, by the order of connecting, sends bytes.
    Send(usize, Vec<u8>),
    /// A client ends its half.
    Finish(usize),
}

/// What clients did, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Script {
    /// The clients' side of a trace. Sockets that failed are taken for ones that were ended.
    #[must_use]
    pub fn of(trace: &[u8]) -> Self {
        let trace = Trace::new(trace).expect("a trace");
        let mut clients: BTreeMap<ConnId, usize> = BTreeMap::new();
        let mut finished = Vec::new();
        let mut steps = Vec::new();
        for Input { conn, kind, .. } in trace.inputs() {
            let next = clients.len();
            let client = *clients.entry(conn).or_insert(next);
            match kind {
                Kind::Accept(_) => steps.push(Step::Connect),
                Kind::Bytes(bytes) => steps.push(Step::Send(client, bytes.to_vec())),
                Kind::Eof | Kind::IoError => {
                    if !finished.contains(&client) {
                        finished.push(client);
                        steps.push(Step::Finish(client));
                    }
                }
            }
        }
        Self { steps }
    }

    /// A client connects. Returns its number.
    pub fn connect(&mut self) -> usize {
        self.steps.push(Step::Connect);
        self.steps.iter().filter(|step| **step == Step::Connect).count() - 1
    }

    /// A client sends bytes.
    pub fn send(&mut self, client: usize, bytes: impl Into<Vec<u8>>) {
        self.steps.push(Step::Send(client, bytes.into()));
    }

    /// A client ends its half.
    pub fn finish(&mut self, client: usize) {
        self.steps.push(Step::Finish(client));
    }

    /// Plays it to a server that nobody else talks to, and whose deadlines are far away. Returns what each client received,
    /// to the last byte that the server wrote.
    #[must_use]
    pub fn play(&self, rig: &Rig) -> Vec<Vec<u8>> {
        let mut clients: Vec<Raw> = Vec::new();
        let (mut sockets, mut sent) = (0, 0);
        for step in &self.steps {
            match step {
                Step::Connect => {
                    clients.push(rig.raw());
                    sockets += 1;
                }
                Step::Send(client, bytes) => {
                    clients[*client].write(bytes);
                    sent += bytes.len() as u64;
                }
                Step::Finish(client) => {
                    clients[*client].finish();
                    sockets -= 1;
                }
            }
            // A turn hands its counts over when everything is written.
            rig.expect_sockets(sockets);
            rig.expect_count("mahavishnu_received_bytes_total", &[], sent);
        }
        let mut received = vec![Vec::new(); clients.len()];
        rig.until("every byte", || {
            for (all, client) in received.iter_mut().zip(&mut clients) {
                all.extend(client.read_for(Duration::from_millis(1)).0);
            }
            let count: usize = received.iter().map(Vec::len).sum();
            (rig.count("mahavishnu_sent_bytes_total", &[]) == count as u64).then_some(())
        });
        received
    }
}

/// `bytes` without what depends on when and where the server runs, and on nothing that clients do:
///
/// - the digits of timestamps (`2026-02-02T02:40:00.000000+00:00`, `2026-02-02T02:40:00Z`);
/// - the digits of `uptime_seconds` in `/health`;
/// - the digits of the label that the harness gives each server.
///
/// All else, ids among it, follows from the seed and the inputs. Nothing changes its length.
#[must_use]
pub fn masked_times(bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    for at in 0..bytes.len() {
        let rest = &bytes[at..];
        let digits = if fits(rest, b"dddd-dd-ddTdd:dd:dd.dddddd") {
            26
        } else if fits(rest, b"dddd-dd-ddTdd:dd:dd") {
            19
        } else if rest.starts_with(UPTIME) {
            let number = rest[UPTIME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            UPTIME.len() + number.count()
        } else if fits(rest, b"\"server-dddddd\"") {
            15
        } else {
            0
        };
        for byte in &mut masked[at..at + digits] {
            if byte.is_ascii_digit() {
                *byte = b'0';
            }
        }
    }
    masked
}

/// `d` stands for a digit, the rest for itself.
fn fits(bytes: &[u8], shape: &[u8]) -> bool {
    let same = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    bytes.len() >= shape.len() && bytes.iter().zip(shape).all(same)
}

const UPTIME: &[u8] = b"\"uptime_seconds\":";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_and_the_label_are_masked() {
        let text = br#"{"id":"2026-0123","timestamp":"2026-11-22T09:46:14.123456+00:00","server":"server-000042","n":7,"uptime_seconds":12}HTTP/1.1 2025-02-11T10:30:00Z"#;
        let expected = br#"{"id":"2026-0123","timestamp":"0000-00-00T00:00:00.000000+00:00","server":"server-000000","n":7,"uptime_seconds":00}HTTP/1.1 0000-00-00T00:00:00Z"#;
        assert_eq!(masked_times(text), expected);
    }
}
