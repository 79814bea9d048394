//! Publishing what others have written into queues of the bus.

use super::{
    Hub,
    bus::{BusError, CallId, Taken},
    errands::{Owner, Publisher, Via},
    ingress::Submission,
};

impl Hub {
    /// What came of taking entries out of a queue.
    pub(super) fn on_taken(&mut self, id: CallId, result: Result<Taken, BusError>) {
        self.ingress.on_taken(&mut self.env, id, result);
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
