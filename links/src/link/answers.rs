//! What a hub is told of its commands.

use bytes::Bytes;
use mahavishnu_core::hub::{
    AppendError, AttendanceEvent, BusCommand, BusError, BusEvent, ChannelEvent, NodeEvent,
    VisitEvent,
};

use crate::{
    redis::replies::{self, Odd},
    resp::Frame,
};

/// It was not done, or perhaps not. `None`: that is not told.
pub(super) fn failed(command: &BusCommand, error: BusError) -> Option<BusEvent> {
    Some(match command {
        BusCommand::Follow { .. }
        | BusCommand::Unfollow { .. }
        | BusCommand::Quit { .. }
        | BusCommand::Tell { .. } => return None,
        BusCommand::Beat { .. } => BusEvent::Node(NodeEvent::BeatFailed),
        BusCommand::Append(append) => BusEvent::Channel(ChannelEvent::Appended {
            id: append.id,
            result: Err(AppendError::Bus(error)),
        }),
        BusCommand::Announce { id, .. } => {
            BusEvent::Channel(ChannelEvent::Announced { id: *id, result: Err(error) })
        }
        BusCommand::Control { id, .. } => {
            BusEvent::Node(NodeEvent::Controlled { id: *id, result: Err(error) })
        }
        BusCommand::Read { id, .. } => {
            BusEvent::Channel(ChannelEvent::Page { id: *id, result: Err(error) })
        }
        BusCommand::Heal(heal) => {
            BusEvent::Channel(ChannelEvent::Healed { id: heal.id, result: Err(error) })
        }
        BusCommand::Fork { id, .. } => {
            BusEvent::Channel(ChannelEvent::Healed { id: *id, result: Err(error) })
        }
        BusCommand::Visit(change) => {
            BusEvent::Visit(VisitEvent::Visited { id: change.id, result: Err(error) })
        }
        BusCommand::Visits { id, .. } => {
            BusEvent::Visit(VisitEvent::Visits { id: *id, result: Err(error) })
        }
        BusCommand::Take(take) => BusEvent::Taken { id: take.id, result: Err(error) },
        BusCommand::Attend(change) => {
            BusEvent::Attendance(AttendanceEvent::Attended { id: change.id, result: Err(error) })
        }
        BusCommand::Members { id, .. } => {
            BusEvent::Attendance(AttendanceEvent::Members { id: *id, result: Err(error) })
        }
        BusCommand::Session(call) => BusEvent::Session { id: call.id, result: Err(error) },
    })
}

/// Redis has done it, or has found that it is otherwise. `None`: that is not told.
pub(super) fn done(command: &BusCommand, reply: &Frame) -> Result<Option<BusEvent>, Odd> {
    Ok(Some(match command {
        BusCommand::Follow { .. } | BusCommand::Unfollow { .. } => return Err(Odd),
        BusCommand::Append(append) => BusEvent::Channel(ChannelEvent::Appended {
            id: append.id,
            result: replies::appended(reply)?,
        }),
        BusCommand::Announce { id, .. } => BusEvent::Channel(ChannelEvent::Announced {
            id: *id,
            result: Ok(replies::listeners(reply)?),
        }),
        BusCommand::Control { id, .. } => {
            BusEvent::Node(NodeEvent::Controlled { id: *id, result: replies::controlled(reply)? })
        }
        BusCommand::Read { id, .. } => {
            BusEvent::Channel(ChannelEvent::Page { id: *id, result: Ok(replies::page(reply)?) })
        }
        BusCommand::Heal(heal) => BusEvent::Channel(ChannelEvent::Healed {
            id: heal.id,
            result: Ok(replies::moved(reply)?),
        }),
        BusCommand::Fork { id, .. } => {
            BusEvent::Channel(ChannelEvent::Healed { id: *id, result: Ok(replies::moved(reply)?) })
        }
        BusCommand::Beat { .. } => match replies::beat(reply)? {
            Some(nodes) => BusEvent::Node(NodeEvent::Beat { nodes: nodes.there, gone: nodes.gone }),
            None => BusEvent::Node(NodeEvent::LeaseLost),
        },
        BusCommand::Quit { .. } | BusCommand::Tell { .. } => {
            replies::listeners(reply)?;
            return Ok(None);
        }
        BusCommand::Visit(change) => BusEvent::Visit(VisitEvent::Visited {
            id: change.id,
            result: Ok(replies::visited(reply)?),
        }),
        BusCommand::Visits { id, .. } => {
            BusEvent::Visit(VisitEvent::Visits { id: *id, result: Ok(replies::visits(reply)?) })
        }
        BusCommand::Take(take) => {
            BusEvent::Taken { id: take.id, result: Ok(replies::taken(reply)?) }
        }
        BusCommand::Attend(change) => BusEvent::Attendance(AttendanceEvent::Attended {
            id: change.id,
            result: Ok(replies::attended(reply)?),
        }),
        BusCommand::Members { id, .. } => BusEvent::Attendance(AttendanceEvent::Members {
            id: *id,
            result: Ok(replies::members(reply)?),
        }),
        BusCommand::Session(call) => {
            BusEvent::Session { id: call.id, result: Ok(replies::session(&call.what, reply)?) }
        }
    }))
}

/// The channel and what was published to it, if that is what a push is.
pub(super) fn message(push: &[Frame]) -> Option<(&str, &Bytes)> {
    match push {
        [_, channel, message] => Some((replies::text(channel)?, message.as_bytes()?)),
        _ => None,
    }
}
