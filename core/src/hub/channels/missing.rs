//! What nobody gets of a channel: its home has found out that messages are lost, or that its numbers begin anew.

use super::{Channels, slow::keep_queued};
use crate::{
    hub::{
        connections::{Cause, Connections, Gap},
        env::Env,
        homes::Form,
        types::ConnId,
    },
    protocol::{self, Envelope, GapPosition, Position},
    ws::{Segment, encode_text},
};

/// Messages of a channel that none of its subscribers gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Missing {
    /// The numbers of the first and the last; `None`: nobody knows how many there were.
    pub(in crate::hub) offsets: Option<(u64, u64)>,
    pub(in crate::hub) cause: Cause,
    /// Where the channel stands behind them.
    pub(in crate::hub) position: Position,
}

impl Missing {
    fn lost(&self) -> Option<u64> {
        self.offsets.map(|(first, last)| last + 1 - first)
    }

    fn gap(&self, channel: u32) -> Gap {
        Gap { channel, lost: self.lost(), offsets: self.offsets, cause: self.cause }
    }
}

impl Channels {
    /// Tells all subscribers of a channel here. Rounds from before have been handed out.
    pub(in crate::hub) fn announce(
        &mut self,
        env: &mut Env,
        connections: &mut Connections,
        index: u32,
        missing: &Missing,
    ) {
        let Some(channel) = self.slots.get_mut(index) else { return };
        channel.next_offset = missing.position.offset + 1;
        channel.epoch = channel.epoch.map(|_| missing.position.epoch);
        for catching in &mut channel.catching {
            let word = word(env, &channel.name, missing, catching.form);
            catching.notice(word);
        }
        let (name, tag) = (channel.name.clone(), channel.tag);
        for form in [Form::Plain, Form::Positioned] {
            let members = channel.members.get(form.index()).map_or(&[][..], Vec::as_slice);
            let position = Some(missing.position).filter(|_| form == Form::Positioned);
            for member in members {
                let Some(id) = connections.id_at(member.conn) else { continue };
                if add_to_gap(connections, id, missing.gap(index)) {
                    continue;
                }
                // What was queued before must not be taken for what comes behind.
                keep_queued(connections, id, tag);
                connections.send_gap(env, id, &name, missing.gap(index), position);
            }
        }
    }
}

/// Who has lost something of the channel already will be told both together. Whether that is so.
fn add_to_gap(connections: &mut Connections, id: ConnId, gap: Gap) -> bool {
    let lossy = connections.get(id).is_some_and(|conn| conn.has_gap_in(gap.channel));
    if lossy && let Some(conn) = connections.edit(id) {
        conn.add_gap(gap, |known| {
            known.extend(gap.lost, gap.offsets);
            known.cause = gap.cause;
        });
    }
    lossy
}

/// The message for those who are still being sent what came before. It is none of the channel's.
fn word(env: &mut Env, channel: &str, missing: &Missing, form: Form) -> Segment {
    let timestamp = env.timestamp();
    let stamp = env.stamp(&timestamp);
    let position = GapPosition { reason: missing.cause.as_str(), position: missing.position };
    let gap = protocol::Gap {
        channel,
        lost: missing.lost(),
        first_offset: missing.offsets.map(|(first, _)| first),
        last_offset: missing.offsets.map(|(_, last)| last),
        position: Some(position).filter(|_| form == Form::Positioned),
    };
    env.scratch.clear();
    Envelope::gap(stamp, gap).write(&mut env.scratch);
    let mut frame = Vec::new();
    encode_text(&mut frame, &env.scratch);
    Segment::new(frame, 0, Segment::NO_TAG, 0)
}
