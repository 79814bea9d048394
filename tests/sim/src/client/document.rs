//! Clients that keep documents: they publish them, build upon what they have seen, and read them.

use super::{Client, Pending, Wishes};
use crate::{
    message,
    oracle::{Carried, Condition, Oracle, document},
    random::Random,
    swarm::{Options, channel_name},
};

/// What such a client knows, beyond the end of its connections.
#[derive(Debug)]
pub(crate) struct Papers {
    /// By channel: log and offset of the document that it has seen last.
    seen: Vec<Option<(u32, u64)>>,
    random: Random,
}

impl Papers {
    pub(super) fn new(options: &Options, index: usize) -> Self {
        let random = Random::new(options.seed, 2_000_000 + index as u64);
        Self { seen: vec![None; options.channels as usize], random }
    }
}

impl Client {
    /// What the next publish carries besides its message, if anything.
    pub(crate) fn carry(&mut self, options: &Options, channel: u64) -> Option<Carried> {
        let Papers { seen, random } = &mut self.papers;
        if !random.chance(options.state_pm) {
            return None;
        }
        let state = match random.below(10) {
            0 => None,
            1 => Some(options.state_bytes.min(1_000) + random.below(40) - 20),
            _ => Some(random.below(60)),
        };
        let condition = match (random.below(10), seen[channel as usize]) {
            (0..3, _) => None,
            (3, _) => Some(Condition { offset: random.below(50), log: None }),
            (4, _) | (_, None) => Some(Condition { offset: 0, log: None }),
            (roll, Some((log, offset))) => {
                Some(Condition { offset, log: (roll < 8).then_some(log) })
            }
        };
        Some(Carried { state, condition })
    }

    /// The members of a publish that say so.
    pub(crate) fn members_of(
        &self,
        oracle: &Oracle,
        channel: u64,
        number: message::Number,
        carried: Carried,
    ) -> String {
        let Carried { state, condition } = carried;
        let mut out = r#","positions":true"#.to_owned();
        if let Some(padding) = state {
            out += &format!(r#","state":{}"#, document(number, padding));
        }
        if let Some(Condition { offset, log }) = condition {
            out += &format!(r#","if_offset":{offset}"#);
            if let Some(log) = log {
                out += &format!(r#","if_epoch":"{}""#, oracle.epoch(channel, log));
            }
        }
        out
    }

    /// It knows of a document, or that there is none.
    pub(crate) fn saw_document(&mut self, channel: u64, place: Option<(u32, u64)>) {
        self.papers.seen[channel as usize] = place;
    }

    /// Reads a document, perhaps.
    pub(super) fn read_perhaps(&mut self, options: &Options, oracle: &Oracle, wishes: &mut Wishes) {
        if self.papers.random.chance(options.state_pm / 5) {
            let channel = self.papers.random.below(options.channels);
            self.read_document(channel, oracle, wishes);
        }
    }

    pub(crate) fn read_document(&mut self, channel: u64, oracle: &Oracle, wishes: &mut Wishes) {
        if self.pending.values().any(|pending| matches!(pending, Pending::State(..))) {
            return;
        }
        let name = channel_name(channel);
        self.ask(
            Pending::State(channel, oracle.asked(channel)),
            |id| message::request("get_state", "channel", &name, id),
            wishes,
        );
    }
}
