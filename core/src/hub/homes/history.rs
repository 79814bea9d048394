//! Answers to `get_history`.

use super::{Homes, home::Home};
use crate::{
    hub::{
        env::Env,
        looks::{Range, Side},
    },
    protocol::{self, write_string},
    reason::Reason,
    ws::Frame,
};

impl Homes {
    /// Reads a channel's log. Its present round is sealed. Who reads is told a position, so that a channel of which something
    /// is kept is founded by that.
    pub(in crate::hub) fn history(
        &mut self,
        env: &mut Env,
        channel: &str,
        range: Range,
    ) -> Result<Box<str>, Reason> {
        let index = match self.names.get(channel) {
            Some(&index) => Some(index),
            None => self.found_unheard(env, channel),
        };
        if let Some(home) = index.and_then(|index| self.slots.get_mut(index)) {
            home.told = true;
        }
        if let Some(index) = index {
            self.trim(env, index);
        }
        let result = match (index.and_then(|index| self.slots.get(index)), range.side) {
            (Some(home), _) => home.history(range),
            (None, Side::After(_)) => Err(Reason::NotRecovered),
            (None, Side::Before(_) | Side::Last) => Ok(answer(channel, None, &[], false)),
        };
        self.make_room(env);
        result
    }
}

impl Home {
    fn history(&self, range: Range) -> Result<Box<str>, Reason> {
        let (oldest, top) = (self.log.oldest(), self.log.top);
        let mut events = Vec::new();
        let more = match range.side {
            Side::After(after) if after.epoch != self.log.epoch || after.offset > top => {
                return Err(Reason::NotRecovered);
            }
            Side::After(after) => {
                let from = (after.offset + 1).max(oldest);
                let messages = self.messages(from);
                take(messages, range, &mut events) < (top + 1).saturating_sub(from)
            }
            Side::Before(before) => self.newest(before.min(top + 1), range, &mut events),
            Side::Last => self.newest(top + 1, range, &mut events),
        };
        Ok(answer(&self.name, Some(self), &events, more))
    }

    /// The newest messages before `end`, oldest first. Whether there are more before them.
    fn newest(&self, end: u64, range: Range, events: &mut Vec<u8>) -> bool {
        let oldest = self.log.oldest();
        let wanted = end.saturating_sub(u64::from(range.limit)).max(oldest);
        // How far back the bytes reach is known only from their end.
        let (mut first, mut bytes) = (end, 0);
        for entry in self.log.back_from(end.saturating_sub(1)) {
            let frames: Vec<_> = (entry.first..).zip(entry.segment.frames()).collect();
            for (number, frame) in frames.into_iter().rev() {
                if number >= end {
                    continue;
                }
                bytes += frame.payload().len();
                if number < wanted || (bytes > range.bytes && first < end) {
                    let count = (end - first) as usize;
                    take(
                        self.messages(first).take(count),
                        Range { bytes: usize::MAX, ..range },
                        events,
                    );
                    return first > oldest;
                }
                first = number;
            }
        }
        let count = (end - first) as usize;
        take(self.messages(first).take(count), Range { bytes: usize::MAX, ..range }, events);
        first > oldest
    }

    fn messages(&self, from: u64) -> impl Iterator<Item = (u64, Frame<'_>)> {
        let rounds = self.log.from(from);
        let messages = rounds.flat_map(|entry| (entry.first..).zip(entry.segment.frames()));
        messages.skip_while(move |(number, _)| *number < from)
    }
}

/// Writes as many messages as the range allows. How many.
fn take<'m>(
    messages: impl Iterator<Item = (u64, Frame<'m>)>,
    range: Range,
    events: &mut Vec<u8>,
) -> u64 {
    let mut taken = 0;
    for (number, frame) in messages {
        let text = std::str::from_utf8(frame.payload()).unwrap_or_default();
        let full = events.len() + text.len() > range.bytes && taken > 0;
        if taken == u64::from(range.limit) || full {
            break;
        }
        if taken > 0 {
            events.push(b',');
        }
        if !protocol::write_history_event(events, text, number) {
            break;
        }
        taken += 1;
    }
    taken
}

fn answer(channel: &str, home: Option<&Home>, events: &[u8], more: bool) -> Box<str> {
    let mut json = Vec::with_capacity(events.len() + channel.len() + 128);
    begin_answer(&mut json, channel, home, home.map_or(0, |home| home.log.top));
    json.extend_from_slice(b",\"events\":[");
    json.extend_from_slice(events);
    json.extend_from_slice(if more { b"],\"more\":true}" } else { b"],\"more\":false}" });
    String::from_utf8(json).unwrap_or_default().into()
}

/// What answers about a channel begin with: its name, its epoch if anything is known of it, and a number.
pub(super) fn begin_answer(json: &mut Vec<u8>, channel: &str, home: Option<&Home>, offset: u64) {
    json.extend_from_slice(b"{\"channel\":");
    write_string(json, channel);
    json.extend_from_slice(b",\"epoch\":");
    match home {
        Some(home) => write_string(json, home.log.epoch.as_str()),
        None => json.extend_from_slice(b"null"),
    }
    json.extend_from_slice(b",\"offset\":");
    json.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
}
