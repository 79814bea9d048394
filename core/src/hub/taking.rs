//! Publishing what others have written into queues of the bus.

use super::{
    Hub,
    bus::{BusError, BusEvent, CallId, Taken},
    errands::{Owner, Publisher, Via},
    ingress::Submission,
};

impl Hub {
    /// Something the bus has told, as far as it is about queues.
    pub(super) fn hear_of_queues(&mut self, event: &BusEvent) {
        if self.ingress.is_empty() {
            return;
        }
        let now = self.env.now.mono;
        match event {
            BusEvent::Up { .. } => self.ingress.on_up(now),
            BusEvent::Down => self.ingress.on_down(),
            BusEvent::Taken { id, result } => self.on_taken(*id, result),
            BusEvent::Reconciled
            | BusEvent::State(_)
            | BusEvent::Standing { .. }
            | BusEvent::Live { .. }
            | BusEvent::Appended { .. }
            | BusEvent::Announced { .. }
            | BusEvent::Page { .. }
            | BusEvent::Healed { .. }
            | BusEvent::Beat { .. }
            | BusEvent::BeatFailed
            | BusEvent::LeaseLost
            | BusEvent::Control { .. }
            | BusEvent::Told { .. }
            | BusEvent::Visited { .. }
            | BusEvent::Visits { .. }
            | BusEvent::Attended { .. }
            | BusEvent::Members { .. }
            | BusEvent::Session { .. } => {}
        }
    }

    fn on_taken(&mut self, id: CallId, result: &Result<Taken, BusError>) {
        self.ingress.on_taken(&mut self.env, id, result.clone());
        if self.drain.has_begun() {
            self.check_drained();
        }
    }

    /// Asks for entries, and publishes those that are there.
    pub(super) fn ingest(&mut self) {
        if self.ingress.is_empty() {
            return;
        }
        let has_room = !self.appending.is_half_full(&self.env);
        self.ingress.take(&self.env, &mut self.calls, has_room);
        while let Some((slot, submission)) = self.ingress.next(&self.env) {
            self.publish_taken(slot, submission);
        }
    }

    fn publish_taken(&mut self, slot: u64, submission: Submission) {
        let Submission { publication, key } = submission;
        let mut publications = vec![publication];
        let key = key.map(|key| self.key_use(Owner::Queue, &key, &publications));
        let mut publisher = Publisher { key, ..Via::Queue(slot).plainly() };
        if self.env.spans.is_some() {
            self.trace_publish(&mut publisher, None, &mut publications);
        }
        self.publish(publisher, publications);
    }
}
