//! Deliberate faults between hub and client, to show that the oracle notices.

use crate::frame;

/// One thing done wrong to the frames of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing.
    #[default]
    Nothing,
    /// A publication is left out.
    Drop,
    /// A publication comes twice.
    Duplicate,
    /// Two publications change places.
    Swap,
    /// A letter of a publication is another.
    Alter,
}

/// Strikes once, when the world is in full swing.
#[derive(Debug, Default)]
pub(crate) struct Sabotage {
    wrong: Wrong,
    struck: bool,
    /// Chances let pass, so that others are there who know better.
    chances: u32,
    altered: Vec<u8>,
}

impl Sabotage {
    pub(crate) fn new(wrong: Wrong) -> Self {
        Self { wrong, ..Self::default() }
    }

    /// What the client gets instead, if this is the moment: there are three publications in a row.
    pub(crate) fn strike(&mut self, client: usize, bytes: &[u8]) -> Option<&[u8]> {
        if self.wrong == Wrong::Nothing || self.struck || !client.is_multiple_of(2) {
            return None;
        }
        let mut frames = Vec::new();
        let mut at = 0;
        while let Ok(Some((_, payload, len))) = frame::read(&bytes[at..]) {
            frames.push((at..at + len, crate::message::read_delivery(payload)));
            at += len;
        }
        let same = |a: usize, b: usize| match (&frames[a].1, &frames[b].1) {
            (Some(a), Some(b)) => a.channel == b.channel,
            _ => false,
        };
        let at = (1..frames.len().saturating_sub(1))
            .find(|at| same(at - 1, *at) && same(*at, at + 1))?;
        self.chances += 1;
        if self.chances < CHANCES {
            return None;
        }
        let order: Vec<usize> = match self.wrong {
            Wrong::Drop => (0..frames.len()).filter(|n| *n != at).collect(),
            Wrong::Duplicate => (0..=at).chain(at..frames.len()).collect(),
            Wrong::Swap => (0..at).chain([at + 1, at]).chain(at + 2..frames.len()).collect(),
            Wrong::Alter | Wrong::Nothing => (0..frames.len()).collect(),
        };
        self.altered.clear();
        for n in order {
            let from = self.altered.len();
            self.altered.extend_from_slice(&bytes[frames[n].0.clone()]);
            if n == at && self.wrong == Wrong::Alter {
                let middle = (from + self.altered.len()) / 2;
                self.altered[middle] ^= 1;
            }
        }
        self.altered.extend_from_slice(&bytes[frames.last()?.0.end..]);
        self.struck = true;
        Some(&self.altered)
    }
}

const CHANCES: u32 = 200;
