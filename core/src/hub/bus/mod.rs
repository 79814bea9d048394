//! What a hub and a bus tell each other, so that several nodes are one server: every node hears what is published on any
//! of them, in one order. The bus itself is outside, and behind it Redis; a hub without one is alone.
//!
//! A driver that has a bus carries out each [`Output::Bus`](super::Output::Bus) in order, and hands over what the bus tells
//! by [`Hub::handle_bus`](super::Hub::handle_bus), in order. Each hub has a bus of its own: a connection of its own, on
//! which answers and live messages come in the order in which they happened there.

mod calls;
mod command;
mod event;
mod presence;
mod session;
mod take;
mod visit;

pub(super) use self::calls::Calls;
pub use self::{
    command::{
        Append, Basis, BusCommand, CallId, Heal, HealEntry, NodeId, Once, Retention, Writer,
    },
    event::{
        AppendError, Appended, AttendanceEvent, BusError, BusEvent, BusState, ChannelEvent,
        LinkEvent, Live, Moved, Node, NodeEvent, Page, PageEntry, Standing, VisitEvent,
    },
    presence::{
        PresenceAbsence, PresenceChange, PresenceChanged, PresenceEnd, PresenceEntry,
        PresenceMember, PresenceMembers, PresenceMove, PresenceNews,
    },
    session::{
        SessionAnswer, SessionCall, SessionClaimed, SessionHeld, SessionKey, SessionRenewed,
        SessionState, SessionWish,
    },
    take::{IngressEntry, IngressOwner, Take, Taken, TakenFrom},
    visit::{Alive, Visit, VisitChange, VisitName, Visited, Visits},
};
