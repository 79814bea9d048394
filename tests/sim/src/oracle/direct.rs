//! What the application sends to connections, and hears of their subscriptions.

use std::collections::{BTreeMap, BTreeSet};

use mahavishnu_core::hub::{ConnId, Sent};

use super::Oracle;

/// What is known of messages for connections, and of who subscribes.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// By link.
    lines: BTreeMap<usize, Line>,
    /// Who is in which channel, as the application has heard.
    heard: BTreeSet<(ConnId, String)>,
}

/// Messages for one connection.
#[derive(Debug, Default)]
struct Line {
    /// The number of the last that was sent; from 1.
    sent: u64,
    /// The last that came.
    got: u64,
    /// Handed to the connection, as the application was told, and not come.
    reached: BTreeSet<u64>,
    /// Passed over by one that came behind, before the application was told of them.
    passed: BTreeSet<u64>,
    /// Lost, as the application was told.
    lost: BTreeSet<u64>,
}

impl Oracle {
    /// The application sends to the connection of a link. The message's number.
    pub(crate) fn direct(&mut self, link: usize) -> u64 {
        let line = self.direct.lines.entry(link).or_default();
        line.sent += 1;
        line.sent
    }

    /// What the application was told of a message. `None`: the connection was gone.
    pub(crate) fn direct_told(&mut self, link: usize, number: u64, sent: Option<Sent>) {
        let line = self.direct.lines.entry(link).or_default();
        let reached = sent.is_some_and(|sent| sent.reached == 1);
        let valid = sent.is_none_or(|sent| sent.reached + sent.slow == 1);
        if reached && line.passed.contains(&number) || !valid {
            self.fail("direct", || format!("{number} for link {link} was passed over: {sent:?}"));
        } else if reached && number > line.got {
            line.reached.insert(number);
        } else if !reached {
            line.lost.insert(number);
        }
    }

    /// A message came.
    pub(crate) fn direct_came(&mut self, link: usize, number: u64, who: usize) {
        let line = self.direct.lines.entry(link).or_default();
        line.reached.remove(&number);
        let passed = line.reached.first().copied().filter(|first| *first < number);
        if number <= line.got || number > line.sent || line.lost.contains(&number) {
            let (got, sent) = (line.got, line.sent);
            return self.fail("direct", || {
                format!("client {who} got {number} behind {got}, {sent} were sent")
            });
        }
        if let Some(passed) = passed {
            return self.fail("direct", || format!("client {who} got {number} before {passed}"));
        }
        line.passed.extend(line.got + 1..number);
        line.got = number;
    }

    /// All that has reached a connection must have come by now.
    pub(crate) fn direct_owed(&mut self, link: usize, who: usize) {
        let owed = self.direct.lines.get(&link).and_then(|line| line.reached.first().copied());
        if let Some(owed) = owed {
            self.fail("direct", || format!("client {who} has not got {owed}"));
        }
    }

    /// The application hears of a subscription.
    pub(crate) fn heard_in(&mut self, conn: ConnId, channel: &str) {
        if !self.direct.heard.insert((conn, channel.to_owned())) {
            self.fail("heard", || format!("{conn:?} came to {channel} twice"));
        }
    }

    /// The application hears of its end.
    pub(crate) fn heard_out(&mut self, conn: ConnId, channel: &str) {
        if !self.direct.heard.remove(&(conn, channel.to_owned())) {
            self.fail("heard", || format!("{conn:?} left {channel} and had not come"));
        }
    }

    /// The channels of a connection, as the application has heard.
    pub(crate) fn heard_of(&self, conn: ConnId) -> BTreeSet<&str> {
        let of = self.direct.heard.iter().filter(|(heard, _)| *heard == conn);
        of.map(|(_, channel)| channel.as_str()).collect()
    }

    /// A connection has ended: it has left all of its channels before.
    pub(crate) fn heard_end(&mut self, conn: ConnId) {
        if let Some(channel) = self.heard_of(conn).first().map(|channel| (*channel).to_owned()) {
            self.fail("heard", || format!("{conn:?} has ended in {channel}"));
        }
    }

    /// The process has ended, and nobody was told. What it has sent may still come.
    pub(crate) fn heard_nothing_more(&mut self) {
        self.direct.heard.clear();
    }
}
