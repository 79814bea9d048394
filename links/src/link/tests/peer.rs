//! Redis by hand: reads what a link writes, and answers what a test says.

#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    entropy::Seed,
    hub::{Append, BusCommand, BusEvent, CallId, LinkEvent, NodeId, Retention, Writer},
    protocol::Epoch,
    time::{Instant, Now},
};

use crate::{Action, Link, LinkConfig, link::Phase};

pub(super) struct Peer {
    pub(super) link: Link,
    pub(super) now: Now,
    /// Commands that were read and not looked at.
    commands: Vec<Vec<String>>,
}

pub(super) const RETENTION: Retention = Retention {
    messages: 100,
    time: Duration::from_secs(300),
    position: Duration::from_secs(86_400),
};

pub(super) const HELLO: &str = "%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";

impl Peer {
    pub(super) fn new(config: LinkConfig) -> Self {
        let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
        let link = Link::new(Arc::new(config), NodeId(1), 0, Seed::from(7), now);
        Self { link, now, commands: Vec::new() }
    }

    /// One whose link is up and has told all that there is.
    pub(super) fn up() -> Self {
        Self::up_with(LinkConfig::default())
    }

    pub(super) fn up_with(config: LinkConfig) -> Self {
        let mut this = Self::new(config);
        this.rise();
        this.events();
        this
    }

    /// Answers everything until the link is up and has told all that there is.
    pub(super) fn rise(&mut self) {
        assert!(matches!(self.actions()[..], [.., Action::Connect { .. }]));
        self.link.handle_connected(self.now);
        self.prepare();
        // Its own channel and the first probe.
        assert_eq!(self.next()[..2], ["SSUBSCRIBE", "mahavishnu:0:{n}:link:0000000000000001.0"]);
        self.answer("PING", "$1\r\ns\r\n");
        let token = self.next().pop().expect("a token");
        self.reply(":1\r\n");
        self.push("mahavishnu:0:{n}:link:0000000000000001.0", &format!("P{token}"));
        assert!(self.next().contains(&"64".into()), "what all nodes were told");
        self.reply("*2\r\n$3\r\n0-0\r\n$1\r\n0\r\n");
    }

    pub(super) fn prepare(&mut self) {
        self.answer("HELLO", HELLO);
        self.prepare_with("$1\r\n1\r\n");
    }

    /// Answers everything that is done first; this is the version of what lies there.
    pub(super) fn prepare_with(&mut self, layout: &str) {
        loop {
            let command = self.next();
            let reply = match command[0].as_str() {
                "ROLE" => "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n",
                "HGET" => layout,
                "SCRIPT" => "$40\r\n0123456789012345678901234567890123456789\r\n",
                "CONFIG" => "%0\r\n",
                _ => "+OK\r\n",
            };
            self.reply(reply);
            if command[0] == "CONFIG" && command[2] == "client-output-buffer-limit" {
                return;
            }
        }
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.link.poll_action()).collect()
    }

    pub(super) fn events(&mut self) -> Vec<BusEvent> {
        std::iter::from_fn(|| self.link.poll_event()).collect()
    }

    /// Events but those that say how the bus does.
    pub(super) fn news(&mut self) -> Vec<BusEvent> {
        self.events()
            .into_iter()
            .filter(|event| !matches!(event, BusEvent::Link(LinkEvent::State(_))))
            .collect()
    }

    /// Reads what the link has written.
    pub(super) fn read(&mut self) {
        let bytes = self.link.transmit().to_vec();
        self.link.transmitted(bytes.len());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = number(&mut rest, b'*');
            let mut command = Vec::new();
            for _ in 0..count {
                let length = number(&mut rest, b'$');
                command.push(String::from_utf8_lossy(&rest[..length]).into_owned());
                rest = &rest[length + 2..];
            }
            self.commands.push(command);
        }
    }

    /// All commands that were written.
    pub(super) fn all(&mut self) -> Vec<Vec<String>> {
        self.read();
        std::mem::take(&mut self.commands)
    }

    /// The next command.
    pub(super) fn next(&mut self) -> Vec<String> {
        self.read();
        assert!(!self.commands.is_empty(), "nothing was written");
        self.commands.remove(0)
    }

    /// The next command, which has to begin so, is answered.
    pub(super) fn answer(&mut self, verb: &str, reply: &str) {
        let command = self.next();
        assert_eq!(command[0], verb, "{command:?}");
        self.reply(reply);
    }

    pub(super) fn reply(&mut self, bytes: &str) {
        self.link.handle_bytes(self.now, &mut bytes.as_bytes().to_vec());
    }

    pub(super) fn push(&mut self, channel: &str, message: &str) {
        let (channel_bytes, message_bytes) = (channel.len(), message.len());
        self.reply(&format!(
            ">3\r\n$8\r\nsmessage\r\n${channel_bytes}\r\n{channel}\r\n${message_bytes}\r\n{message}\r\n"
        ));
    }

    /// Time goes by, and the link is called when it wants to be.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(at) = self.link.poll_timeout().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.now.mono);
            self.now = self.now.plus(step);
            self.link.handle_timeout(self.now);
        }
        let step = end.saturating_duration_since(self.now.mono);
        self.now = self.now.plus(step);
    }

    /// Time goes by until the pause is over.
    pub(super) fn until_it_connects(&mut self) {
        while matches!(self.link.phase, Phase::Paused(_)) {
            self.wait(Duration::from_millis(1));
        }
    }

    /// The same, and every probe comes back.
    pub(super) fn live(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 500 {
            self.wait(Duration::from_millis(500));
            for command in self.all() {
                let channel = "mahavishnu:0:{n}:link:0000000000000001.0";
                match command[..] {
                    [.., ref to, ref token] if to == channel => {
                        let token = format!("P{token}");
                        self.reply(":1\r\n");
                        self.push(channel, &token);
                    }
                    [.., ref max] if max == "64" => self.reply("*2\r\n$3\r\n0-0\r\n$1\r\n0\r\n"),
                    _ => panic!("{command:?}"),
                }
            }
        }
    }

    pub(super) fn command(&mut self, command: BusCommand) {
        self.link.handle_command(self.now, command);
    }

    pub(super) fn follow(&mut self, channel: &str) {
        let command =
            BusCommand::Follow { channel: channel.into(), epoch: epoch(), retention: RETENTION };
        self.command(command);
    }

    pub(super) fn append(&mut self, id: u64) {
        self.command(append(id));
    }
}

fn number(rest: &mut &[u8], kind: u8) -> usize {
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a line");
    assert_eq!(rest[0], kind);
    let number = std::str::from_utf8(&rest[1..end]).expect("text").parse().expect("a number");
    *rest = &rest[end + 2..];
    number
}

pub(super) fn append(id: u64) -> BusCommand {
    BusCommand::Append(Box::new(Append {
        id: CallId(id),
        writer: Writer { node: NodeId(1), shard: 0 },
        channel: "c".into(),
        count: 1,
        records: Bytes::from(format!("record {id}")),
        known: None,
        again: None,
        epoch: epoch(),
        retention: RETENTION,
        state: None,
        condition: None,
        basis: None,
        once: None,
        taken: None,
    }))
}

pub(super) fn epoch() -> Epoch {
    Epoch::from_random(1)
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
