//! Who is in channels on other nodes: what the bus tells of them, and what it is told of those here.

use super::{
    Hub,
    bus::{AttendanceEvent, NodeId},
    follow::Parked,
    looks::Query,
};

impl Parked {
    /// Whether it is about who is in the channel.
    fn is_about_presence(&self) -> bool {
        matches!(self, Self::Join { presence: Some(_), .. }) || self.is_about_members_only()
    }

    /// Whether it is about that and nothing else.
    pub(super) fn is_about_members_only(&self) -> bool {
        matches!(self, Self::Look { look, .. } if matches!(look.query, Query::Presence(_)))
    }
}

impl Hub {
    /// What the bus tells of channels' members.
    pub(super) fn hear_of_members(&mut self, event: AttendanceEvent) {
        let env = &mut self.env;
        match event {
            AttendanceEvent::Attended { id, result } => self.presence.on_attended(env, id, result),
            AttendanceEvent::Members { id, result } => self.presence.on_members(env, id, result),
        }
        self.answer_ready();
    }

    /// Who waited for a channel's members need not wait any more.
    pub(super) fn answer_ready(&mut self) {
        while let Some(parked) = self.presence.next_ready() {
            let known = self.known_of(parked.channel());
            self.answer_now(parked, known);
        }
    }

    /// Somebody is interested in a channel that is followed: perhaps in its members, too.
    pub(super) fn prepare_presence(&mut self, parked: &Parked) {
        if parked.is_about_presence() && self.env.config.has_presence(parked.channel()) {
            self.presence.prepare(&self.env, &parked.channel().into());
        }
    }

    /// Lets somebody wait for a channel's members. Given back if that is of no use.
    pub(super) fn wait_for_members(&mut self, parked: Parked) -> Option<Parked> {
        if parked.is_about_presence() {
            self.presence.park(&self.env, parked)
        } else {
            Some(parked)
        }
    }

    /// Tells the bus who has come and gone, and asks it who is there.
    pub(super) fn tell_members(&mut self) {
        if self.presence.is_bus_ready() {
            let (own, alive) = (self.nodes.node(), self.alive());
            self.presence.tell_bus(&mut self.env, &mut self.calls, own, &alive);
        }
    }

    /// Who is there, and who has gone.
    pub(super) fn take_roll_of_members(&mut self, gone: &[NodeId]) {
        let (own, ids) = (self.nodes.node(), self.nodes.ids().clone());
        self.presence.take_roll(&mut self.env, own, &ids, gone);
    }
}
