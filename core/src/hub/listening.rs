//! What the bus tells: whose business it is.

use super::{
    Hub,
    bus::{BusEvent, BusState, LinkEvent},
};

impl Hub {
    /// Something the bus tells.
    pub(super) fn on_bus(&mut self, event: BusEvent) {
        match event {
            BusEvent::Link(event) => self.hear_of_link(&event),
            BusEvent::Channel(event) => self.hear_of_channel(event),
            BusEvent::Node(event) => self.hear_of_nodes(&event),
            BusEvent::Visit(event) => self.hear_of_visits(event),
            BusEvent::Attendance(event) => self.hear_of_members(event),
            BusEvent::Taken { id, result } => self.on_taken(id, result),
            BusEvent::Session { id, result } => self.hear_of_session(id, &result),
        }
        self.read_ready();
    }

    /// Whether the bus is there is news for everybody who has to do with it.
    fn hear_of_link(&mut self, event: &LinkEvent) {
        self.tell_of_link(event);
        match event {
            LinkEvent::Up { .. } => self.on_link_up(),
            LinkEvent::Reconciled => self.lead(|hub| hub.nodes.on_reconciled()),
            LinkEvent::Down => self.on_link_down(),
            LinkEvent::State(state) => self.on_link_state(state),
        }
    }

    fn on_link_up(&mut self) {
        self.visits.on_up();
        self.sessions.on_bus_up(&self.env);
        self.lead(Self::on_lease_up);
        self.ingress.on_up(self.env.now.mono);
        self.presence.on_up();
        self.answer_ready();
        self.following.on_up();
        self.appending.on_up();
    }

    fn on_link_down(&mut self) {
        self.visits.on_down();
        let outcomes = self.sessions.on_bus_down(&mut self.env);
        self.on_session_outcomes(outcomes);
        self.lead(Self::on_lease_down);
        self.ingress.on_down();
        self.presence.on_down();
        self.answer_ready();
        self.following.on_down();
        self.appending.on_down();
    }

    fn on_link_state(&mut self, state: &BusState) {
        let full = state.full.is_some();
        self.sessions.on_bus_full(&self.env, full);
        // A lease that was to be renewed meanwhile is.
        self.lead(|_| {});
        // What it had no room for is tried again.
        if !full {
            self.visits.retry();
            self.presence.retry();
            self.answer_ready();
        }
    }
}
