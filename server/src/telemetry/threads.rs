//! The threads that export, and what they are woken by.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use mahavishnu_core::spans::Span;

use super::{
    Source,
    counts::{Counts, Signal, Why},
    metrics as told,
    send::Sender,
    settings::Batch,
    spans, unix_now,
};
use crate::exit::Failure;

/// Spans on their way to the thread that sends them. Whoever puts something in waits for nothing.
#[derive(Debug)]
pub(super) struct Queue {
    notes: mpsc::Sender<Note>,
    /// Spans that wait.
    waiting: Arc<AtomicUsize>,
    max: usize,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Note {
    Spans(Vec<Span>),
    Stop,
}

impl Queue {
    /// As many as there is room for; the rest is counted.
    pub(super) fn put(&self, mut spans: Vec<Span>) {
        let (mut room, wanted) = (0, spans.len());
        let more = |waiting: usize| {
            room = wanted.min(self.max.saturating_sub(waiting));
            (room > 0).then_some(waiting + room)
        };
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        let room = if taken { room } else { 0 };
        self.counts.dropped(Signal::Traces, Why::Queue, (wanted - room) as u64);
        spans.truncate(room);
        // The thread ends with the server, after the shards.
        if room > 0 && self.notes.send(Note::Spans(spans)).is_err() {
            self.counts.dropped(Signal::Traces, Why::Queue, room as u64);
        }
    }
}

/// A thread that exports.
#[derive(Debug)]
pub(super) struct Thread {
    bell: Arc<Bell>,
    queue: Option<mpsc::Sender<Note>>,
    /// Hangs up when it has ended.
    ended: Mutex<Receiver<()>>,
}

impl Thread {
    fn spawn(
        name: &str,
        queue: Option<mpsc::Sender<Note>>,
        run: impl FnOnce(&Bell) + Send + 'static,
    ) -> Result<Self, Failure> {
        let bell = Arc::new(Bell::default());
        let (end, ended) = mpsc::channel();
        let own = bell.clone();
        let run = move || {
            let _end: mpsc::Sender<()> = end;
            run(&own);
        };
        let spawned = thread::Builder::new().name(name.into()).spawn(run);
        spawned.map_err(|error| Failure::io(name, &error))?;
        Ok(Self { bell, queue, ended: Mutex::new(ended) })
    }

    /// What is left is sent, once, and then it ends.
    pub(super) fn stop(&self) {
        self.bell.ring();
        if let Some(queue) = &self.queue {
            // One that has ended already hears nothing.
            let _ = queue.send(Note::Stop);
        }
    }

    /// Waits for the end, but not for long: a collector that does not answer holds nobody up.
    pub(super) fn wait(&self, until: Instant) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Rings once, when the server stops.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Waits for so long. Whether it has rung.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, time, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Sends spans, in batches.
pub(super) fn traces(
    batch: Batch,
    sender: Sender,
    source: &Source,
) -> Result<(Arc<Queue>, Thread), Failure> {
    let (notes, received) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let counts = sender.counts();
    let queue =
        Queue { notes: notes.clone(), waiting: waiting.clone(), max: batch.queue_max, counts };
    let mut batches = Batches { batch, sender, source: source.clone(), waiting, spans: Vec::new() };
    let run = move |bell: &Bell| batches.run(&received, bell);
    Ok((Arc::new(queue), Thread::spawn("otlp-traces", Some(notes), run)?))
}

struct Batches {
    batch: Batch,
    sender: Sender,
    source: Source,
    waiting: Arc<AtomicUsize>,
    spans: Vec<Span>,
}

impl Batches {
    fn run(&mut self, received: &Receiver<Note>, bell: &Bell) {
        let mut due = None;
        loop {
            let note = match due {
                None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => {
                    let wait = Instant::saturating_duration_since(&due, Instant::now());
                    received.recv_timeout(wait)
                }
            };
            match note {
                Ok(Note::Spans(spans)) => {
                    self.spans.extend(spans);
                    while self.spans.len() >= self.batch.batch_max {
                        self.send(bell);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.send(bell),
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    while !self.spans.is_empty() {
                        self.send(bell);
                    }
                    return;
                }
            }
            // The first one waits for others for so long.
            due = match self.spans.is_empty() {
                true => None,
                false => due.or_else(|| Some(Instant::now() + self.batch.delay)),
            };
        }
    }

    fn send(&mut self, bell: &Bell) {
        let rest = self.spans.split_off(self.batch.batch_max.min(self.spans.len()));
        let spans = std::mem::replace(&mut self.spans, rest);
        self.waiting.fetch_sub(spans.len(), Ordering::Relaxed);
        let items = spans.len() as u64;
        self.sender.send(&spans::request(&self.source, spans), items, bell);
    }
}

/// Sends metrics, each time that so long has passed, and at the end.
pub(super) fn metrics(
    every: Duration,
    mut sender: Sender,
    source: Source,
    render: Arc<dyn Fn() -> String + Send + Sync>,
) -> Result<Thread, Failure> {
    let run = move |bell: &Bell| {
        let mut stops = false;
        while !stops {
            stops = bell.wait(every);
            let (request, points) = told::request(&source, unix_now(), &render());
            sender.send(&request, points, bell);
        }
    };
    Thread::spawn("otlp-metrics", None, run)
}
