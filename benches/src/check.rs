//! Checks every delivery against what was published, and knows what is still under way.
//!
//! Each subscriber must get the messages of the run in order, each once, each unchanged. A copy that is the expected
//! one is recognised by comparing it with the message itself at the place where the last copy had it; only a copy that
//! is not is looked at closely, to say what is wrong with it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    message::{self, Answer, HEAD_BYTES, TAIL},
    stats::Latency,
};

/// The messages under way and the verdict so far.
#[derive(Debug)]
pub struct Ledger {
    /// A ring: message `n` is at `n % slots.len()` until all subscribers have it.
    slots: Vec<Slot>,
    subscribers: u32,
    published: u64,
    /// Messages below this have reached everyone, or were given up as lost.
    completed: u64,
    deliveries: u64,
    unrelated: u64,
    /// Where in a subscriber's frame the data object was last found.
    data_at: usize,
    data_bytes: usize,
    padding: Vec<u8>,
    frame_bytes_min: usize,
    frame_bytes_max: usize,
    violations: Violations,
    missing: HashSet<(u32, u64)>,
    run: Run,
    /// When the read that is being looked at came back.
    arrived_ns: u64,
    latency: Latency,
}

impl Ledger {
    /// Nothing published yet. `data` is any message's data object; `in_flight_max` bounds the messages under way.
    #[must_use]
    pub fn new(subscribers: u32, in_flight_max: usize, data: &[u8]) -> Self {
        let slots = vec![Slot::default(); in_flight_max.max(1).next_power_of_two()];
        let padding = data
            .get(HEAD_BYTES..data.len().saturating_sub(TAIL.len()))
            .unwrap_or_default()
            .to_vec();
        Self {
            slots,
            subscribers,
            published: 0,
            completed: 0,
            deliveries: 0,
            unrelated: 0,
            data_at: 0,
            data_bytes: data.len(),
            padding,
            frame_bytes_min: usize::MAX,
            frame_bytes_max: 0,
            violations: Violations::default(),
            missing: HashSet::new(),
            run: Run::default(),
            arrived_ns: 0,
            latency: Latency::new(),
        }
    }

    /// Notes that the message with this data object was handed to the socket. Latency counts from `since_ns`.
    /// The caller keeps to the number in flight that it announced.
    pub fn publish(&mut self, data: &[u8], since_ns: u64) {
        let index = self.index(self.published);
        if let (Some(slot), Some(head)) =
            (self.slots.get_mut(index), data.first_chunk::<HEAD_BYTES>())
        {
            *slot = Slot { head: *head, delivered: 0, since_ns };
        }
        self.published += 1;
    }

    /// Takes a frame's payload that `subscriber` got, who has seen all messages below `next`.
    ///
    /// # Errors
    /// The server sent an error message; its text.
    #[inline]
    pub fn deliver(
        &mut self,
        subscriber: u32,
        next: &mut u64,
        payload: &[u8],
        wire_bytes: usize,
    ) -> Result<(), String> {
        let index = self.index(*next);
        let expected = *next < self.published
            && self
                .slots
                .get(index)
                .is_some_and(|slot| self.is_copy_at(self.data_at, slot, payload))
            && !(u64::from(subscriber) ^ *next).is_multiple_of(FULL_CHECK_EVERY);
        if !expected {
            return self.inspect(subscriber, next, payload, wire_bytes);
        }
        self.accept(next, wire_bytes);
        Ok(())
    }

    /// Must precede the `deliver` calls of a read, whose copies all arrived at `now_ns`.
    pub fn begin_read(&mut self, now_ns: u64) {
        self.arrived_ns = now_ns;
    }

    /// Must follow the `deliver` calls of a read.
    pub fn end_read(&mut self) {
        self.begin_run(0);
        self.run.copies = 0;
    }

    /// Gives up on all that is under way: what has not arrived counts as lost.
    pub fn abandon(&mut self) {
        while self.completed < self.published {
            let delivered =
                self.slots.get(self.index(self.completed)).map_or(0, |slot| slot.delivered);
            let lost = u64::from(self.subscribers.saturating_sub(delivered));
            self.violations.lost += lost;
            let text = format!(
                "message {} did not reach {lost} of {} subscribers",
                self.completed, self.subscribers
            );
            self.violations.note(text);
            self.completed += 1;
        }
    }

    /// Forgets the latencies so far, and starts to measure.
    pub fn reset_latency(&mut self) {
        self.latency = Latency::new();
    }

    /// Messages handed out so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Messages that have not reached everyone.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.published - self.completed
    }

    /// Copies that arrived, each as it should.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Frames that are no copy of a message: welcomes, events of others.
    #[must_use]
    pub fn unrelated(&self) -> u64 {
        self.unrelated
    }

    /// The shortest and longest frame that carried a message, header included. Zero: none came.
    #[must_use]
    pub fn frame_bytes(&self) -> (usize, usize) {
        (self.frame_bytes_min.min(self.frame_bytes_max), self.frame_bytes_max)
    }

    /// Latencies since the last reset.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Everything that went wrong.
    #[must_use]
    pub fn violations(&self) -> &Violations {
        &self.violations
    }

    fn index(&self, sequence: u64) -> usize {
        // The length is a power of two.
        sequence as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn is_copy_at(&self, at: usize, slot: &Slot, payload: &[u8]) -> bool {
        let tail_at = at + self.data_bytes - TAIL.len();
        payload.get(at..at + HEAD_BYTES).is_some_and(|head| head == slot.head)
            && payload.get(tail_at..tail_at + TAIL.len()) == Some(TAIL)
    }

    #[inline]
    fn accept(&mut self, next: &mut u64, wire_bytes: usize) {
        let index = self.index(*next);
        let subscribers = self.subscribers;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.delivered += 1;
            let (since_ns, complete) = (slot.since_ns, slot.delivered == subscribers);
            if since_ns == self.run.since_ns {
                self.run.copies += 1;
            } else {
                self.begin_run(since_ns);
            }
            if complete {
                self.advance();
            }
        }
        self.deliveries += 1;
        *next += 1;
        self.frame_bytes_min = self.frame_bytes_min.min(wire_bytes);
        self.frame_bytes_max = self.frame_bytes_max.max(wire_bytes);
    }

    /// Records the copies gathered so far, and begins with one of another publish.
    fn begin_run(&mut self, since_ns: u64) {
        let Run { since_ns: before_ns, copies } =
            std::mem::replace(&mut self.run, Run { since_ns, copies: 1 });
        self.latency.record(self.arrived_ns.saturating_sub(before_ns), copies);
    }

    fn advance(&mut self) {
        while self.completed < self.published
            && self
                .slots
                .get(self.index(self.completed))
                .is_some_and(|slot| slot.delivered >= self.subscribers)
        {
            self.completed += 1;
        }
    }

    /// The slow way for a frame that is not, or not obviously, the expected copy.
    #[cold]
    fn inspect(
        &mut self,
        subscriber: u32,
        next: &mut u64,
        payload: &[u8],
        wire_bytes: usize,
    ) -> Result<(), String> {
        let Some((at, sequence)) = message::locate(payload) else {
            return match Answer::of(payload) {
                Answer::Refused(text) => Err(text),
                Answer::Done | Answer::Unrelated => {
                    self.unrelated += 1;
                    Ok(())
                }
            };
        };
        if sequence >= self.published {
            self.violations.invented += 1;
            self.violations.note(format!(
                "subscriber {subscriber} got message {sequence}, which was never published"
            ));
            return Ok(());
        }
        if sequence < *next {
            self.late(subscriber, sequence);
            return Ok(());
        }
        self.skip(subscriber, next, sequence);
        let verbatim = self
            .slots
            .get(self.index(sequence))
            .is_some_and(|slot| self.is_copy_at(at, slot, payload));
        if verbatim {
            self.data_at = at;
        }
        let padding_at = at + HEAD_BYTES;
        let intact = if verbatim {
            payload.get(padding_at..padding_at + self.padding.len()) == Some(&self.padding)
        } else {
            // Written anew by the server, or damaged: only the padding can be compared, as a whole JSON string.
            memchr::memmem::find(payload, &[b"\"", self.padding.as_slice(), b"\""].concat())
                .is_some()
        };
        if !intact {
            self.violations.damaged += 1;
            self.violations
                .note(format!("subscriber {subscriber} got message {sequence} changed or cut"));
        }
        self.accept(next, wire_bytes);
        Ok(())
    }

    /// A copy of a message that is behind the subscriber: a repetition, or one that was overtaken.
    fn late(&mut self, subscriber: u32, sequence: u64) {
        if self.missing.remove(&(subscriber, sequence)) {
            self.violations.lost -= 1;
            self.violations.reordered += 1;
            self.violations
                .note(format!("subscriber {subscriber} got message {sequence} after a later one"));
        } else {
            self.violations.duplicated += 1;
            self.violations.note(format!("subscriber {subscriber} got message {sequence} again"));
        }
    }

    /// Counts messages that the subscriber did not get before `sequence` as lost, so that the run goes on.
    fn skip(&mut self, subscriber: u32, next: &mut u64, sequence: u64) {
        if *next < sequence {
            self.violations.note(format!(
                "subscriber {subscriber} got message {sequence} but expected {next}"
            ));
        }
        while *next < sequence {
            self.violations.lost += 1;
            self.missing.insert((subscriber, *next));
            let index = self.index(*next);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.delivered += 1;
            }
            *next += 1;
        }
        self.advance();
    }
}

/// What must not happen, counted in copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violations {
    /// Never arrived.
    pub lost: u64,
    /// Arrived more than once.
    pub duplicated: u64,
    /// Arrived after a later message.
    pub reordered: u64,
    /// Arrived with other content or another length.
    pub damaged: u64,
    /// Arrived though never published.
    pub invented: u64,
    /// The first few, in words.
    pub examples: Vec<String>,
}

impl Violations {
    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [self.lost, self.duplicated, self.reordered, self.damaged, self.invented] == [0; 5]
    }

    /// Takes in those of another part of the same run.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
        self.invented += other.invented;
        for example in &other.examples {
            self.note(example.clone());
        }
    }

    pub(crate) fn note(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Slot {
    head: [u8; HEAD_BYTES],
    delivered: u32,
    since_ns: u64,
}

impl Default for Slot {
    fn default() -> Self {
        Self { head: [0; HEAD_BYTES], delivered: 0, since_ns: 0 }
    }
}

/// Copies in the current read that have the same latency: they are recorded together.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    since_ns: u64,
    copies: u64,
}

/// One copy in so many has its padding compared, of each message and for each subscriber.
const FULL_CHECK_EVERY: u64 = 16;
const EXAMPLES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Template;

    struct Bench {
        template: Template,
        ledger: Ledger,
        next: [u64; 2],
    }

    impl Bench {
        fn new(publishes: u64) -> Self {
            let mut template = Template::bare(100).unwrap();
            let mut ledger = Ledger::new(2, 64, template.data());
            for sequence in 0..publishes {
                template.stamp(sequence, sequence);
                ledger.publish(template.data(), sequence);
            }
            Self { template, ledger, next: [0; 2] }
        }

        fn envelope(&mut self, sequence: u64) -> Vec<u8> {
            self.template.stamp(sequence, sequence);
            [br#"{"data":"#, self.template.data(), b"}"].concat()
        }

        fn deliver(&mut self, subscriber: usize, sequence: u64) {
            let payload = self.envelope(sequence);
            self.deliver_payload(subscriber, &payload);
        }

        fn deliver_payload(&mut self, subscriber: usize, payload: &[u8]) {
            let next = &mut self.next[subscriber];
            self.ledger.deliver(subscriber as u32, next, payload, payload.len() + 2).unwrap();
        }

        fn violations(&self) -> [u64; 5] {
            let Violations { lost, duplicated, reordered, damaged, invented, .. } =
                *self.ledger.violations();
            [lost, duplicated, reordered, damaged, invented]
        }
    }

    #[test]
    fn a_faultless_run_has_no_violation_and_completes_when_the_last_has_it() {
        let mut bench = Bench::new(40);
        for sequence in 0..40 {
            bench.deliver(0, sequence);
        }
        assert_eq!(bench.ledger.in_flight(), 40);

        for sequence in 0..40 {
            bench.deliver(1, sequence);
            assert_eq!(bench.ledger.in_flight(), 39 - sequence);
        }

        assert!(bench.ledger.violations().is_empty());
        assert_eq!(bench.ledger.deliveries(), 80);
        assert_eq!(bench.ledger.frame_bytes(), (111, 111));
    }

    #[test]
    fn a_gap_is_a_loss_and_the_run_goes_on() {
        let mut bench = Bench::new(3);
        bench.deliver(0, 0);
        bench.deliver(0, 2);
        for sequence in 0..3 {
            bench.deliver(1, sequence);
        }

        assert_eq!(bench.violations(), [1, 0, 0, 0, 0]);
        assert_eq!(bench.ledger.in_flight(), 0);
        assert_eq!(
            bench.ledger.violations().examples,
            ["subscriber 0 got message 2 but expected 1"]
        );
    }

    #[test]
    fn a_repetition_is_a_duplicate_even_when_nothing_else_is_expected() {
        let mut bench = Bench::new(2);
        bench.deliver(0, 0);
        bench.deliver(0, 0);
        bench.deliver(0, 1);
        bench.deliver(0, 1);

        assert_eq!(bench.violations(), [0, 2, 0, 0, 0]);
        assert_eq!(bench.ledger.deliveries(), 2);
    }

    #[test]
    fn an_overtaken_message_is_a_reordering_and_no_loss() {
        let mut bench = Bench::new(3);
        for sequence in [0, 2, 1] {
            bench.deliver(0, sequence);
        }

        assert_eq!(bench.violations(), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_cut_message_is_damaged() {
        let mut bench = Bench::new(1);
        let mut payload = bench.envelope(0);
        payload.drain(80..90);
        bench.deliver_payload(0, &payload);

        assert_eq!(bench.violations(), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn one_changed_byte_is_seen_within_sixteen_subscribers() {
        let mut template = Template::bare(100).unwrap();
        let mut ledger = Ledger::new(16, 1, template.data());
        template.stamp(0, 0);
        ledger.publish(template.data(), 0);
        let mut payload = template.data().to_vec();
        payload[70] ^= 1;

        for subscriber in 0..16 {
            ledger.deliver(subscriber, &mut 0, &payload, payload.len()).unwrap();
        }

        assert_eq!(ledger.violations().damaged, 1);
    }

    #[test]
    fn a_message_never_published_is_seen() {
        let mut bench = Bench::new(1);
        bench.deliver(0, 0);
        bench.deliver(0, 1);

        assert_eq!(bench.violations(), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn an_old_message_in_a_reused_slot_is_a_duplicate() {
        let mut template = Template::bare(100).unwrap();
        let mut ledger = Ledger::new(1, 1, template.data());
        let mut next = 0;
        template.stamp(0, 0);
        ledger.publish(template.data(), 0);
        for _ in 0..2 {
            ledger.deliver(0, &mut next, template.data(), 102).unwrap();
        }

        assert_eq!((ledger.violations().duplicated, next), (1, 1));
    }

    #[test]
    fn what_never_arrives_is_lost_when_given_up() {
        let mut bench = Bench::new(3);
        bench.deliver(0, 0);

        bench.ledger.abandon();

        assert_eq!(bench.violations(), [5, 0, 0, 0, 0]);
        assert_eq!(bench.ledger.in_flight(), 0);
    }

    #[test]
    fn data_written_anew_by_the_server_is_accepted() {
        let mut bench = Bench::new(1);
        bench.template.stamp(0, 0);
        let text = String::from_utf8(bench.template.data().to_vec())
            .unwrap()
            .replace(',', ", ")
            .replace(':', ": ");
        bench.deliver_payload(0, text.as_bytes());

        assert!(bench.ledger.violations().is_empty(), "{:?}", bench.ledger.violations());
        assert_eq!(bench.next[0], 1);
    }

    #[test]
    fn other_messages_are_counted_apart_and_errors_stop_the_run() {
        let mut bench = Bench::new(1);
        bench.deliver_payload(0, br#"{"type":"event","event":"session.created"}"#);

        assert_eq!(bench.ledger.unrelated(), 1);
        let error =
            br#"{"type":"error","error_code":"RATE_LIMIT_EXCEEDED","error_message":"slow down"}"#;
        let refused = bench.ledger.deliver(0, &mut 0, error, 80).unwrap_err();
        assert_eq!(refused, "RATE_LIMIT_EXCEEDED: slow down");
    }

    #[test]
    fn latency_counts_every_copy_from_its_publish() {
        let mut bench = Bench::new(3); // published at 0, 1 and 2 ns
        bench.ledger.begin_read(1_000_000);
        for sequence in 0..3 {
            bench.deliver(0, sequence);
        }
        bench.ledger.end_read();

        assert_eq!(bench.ledger.latency().copies(), 3);
        assert!((bench.ledger.latency().summary().p50_us - 1_000.0).abs() < 2.0);
    }
}
