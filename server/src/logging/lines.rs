//! Lines on their way to standard output and standard error.
//!
//! Whoever logs never waits: a reader that stalls, a full disk or a closed pipe would stop every shard otherwise. Lines go
//! through a bounded queue to a thread that alone writes. What does not fit is lost, counted, and told in the line's place
//! when there is room again. `tracing-appender` bounds lines and not bytes, and says nothing where lines are missing.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::streams::Std;

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// Bytes that wait for one reader, with what a line takes besides its text. Beyond it lines are lost until half of it is
/// free.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Says on one line that `u64` lines are missing.
pub(super) type Notice = fn(u64) -> Vec<u8>;

/// Both streams. One queue serves both where they are the same file, so that its lines keep their order; otherwise each
/// has its own, so that neither reader waits for the other.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    out: Arc<Queue>,
    err: Arc<Queue>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Takes over what this process has.
    pub(super) fn start(notice: Notice) -> io::Result<Self> {
        let (out, err) = (Std(Stream::Out), Std(Stream::Err));
        let same = is_same(&out, &err);
        Self::over(out, err, same, notice)
    }

    fn over(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        same: bool,
        notice: Notice,
    ) -> io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = || Arc::new(Queue::new(Arc::clone(&dropped)));
        let (first, second) = (queue(), queue());
        let (out, err) = (Sink::new(out), Sink::new(err));
        if same {
            spawn(&first, vec![out, err], notice)?;
            return Ok(Self { out: Arc::clone(&first), err: first, dropped });
        }
        spawn(&first, vec![out], notice)?;
        spawn(&second, vec![err], notice)?;
        Ok(Self { out: first, err: second, dropped })
    }

    /// Puts one line, or several that belong together, into its queue. Never waits for a reader.
    pub(super) fn push(&self, stream: Stream, text: &[u8]) {
        let same = Arc::ptr_eq(&self.out, &self.err);
        let (queue, sink) = match stream {
            Stream::Out => (&self.out, 0),
            Stream::Err => (&self.err, usize::from(same)),
        };
        queue.push(sink, text);
    }

    /// Lines that were lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for `limit` at most.
    pub(super) fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.out.flush(deadline);
        self.err.flush(deadline);
    }
}

/// What is on its way to one reader.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Line>,
    bytes: usize,
    /// Lines lost since the last one that was taken in.
    lost: u64,
    /// The writer is busy with a line that is in no queue any more.
    writing: bool,
}

#[derive(Debug)]
struct Line {
    sink: usize,
    /// Lines that are missing before this one.
    missing: u64,
    text: Box<[u8]>,
}

impl Queue {
    fn new(dropped: Arc<AtomicU64>) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), dropped }
    }

    fn push(&self, sink: usize, text: &[u8]) {
        let size = text.len() + size_of::<Line>();
        let mut state = self.lock();
        // Once it is full it has to be half empty: else each line that is read would bring a notice of its own.
        let max = if state.lost > 0 { QUEUE_BYTES_MAX / 2 } else { QUEUE_BYTES_MAX };
        if state.bytes + size > max {
            state.lost += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += size;
        let missing = std::mem::take(&mut state.lost);
        state.waiting.push_back(Line { sink, missing, text: text.into() });
        drop(state);
        self.filled.notify_one();
    }

    /// The next line; with nothing to say but that lines are missing, an empty one.
    fn next(&self) -> Line {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.bytes -= line.text.len() + size_of::<Line>();
                state.writing = true;
                return line;
            }
            if state.lost > 0 {
                state.writing = true;
                return Line {
                    sink: 0,
                    missing: std::mem::take(&mut state.lost),
                    text: Box::default(),
                };
            }
            state.writing = false;
            self.emptied.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn flush(&self, deadline: Instant) {
        let mut state = self.lock();
        while state.writing || !state.waiting.is_empty() || state.lost > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.emptied.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(queue: &Arc<Queue>, sinks: Vec<Sink>, notice: Notice) -> io::Result<()> {
    let queue = Arc::clone(queue);
    thread::Builder::new().name("log".into()).spawn(move || write(&queue, sinks, notice)).map(drop)
}

/// Writes line by line, for as long as the process runs.
fn write(queue: &Queue, mut sinks: Vec<Sink>, notice: Notice) {
    // Lines that are missing and of which nobody was told yet.
    let mut missing = 0;
    loop {
        let line = queue.next();
        missing += line.missing;
        let Some(sink) = sinks.get_mut(line.sink) else { continue };
        if missing > 0 && sink.put(&notice(missing)).is_ok() {
            missing = 0;
        }
        // After what was not told nothing may follow as if nothing were missing.
        if !line.text.is_empty() && (missing > 0 || sink.put(&line.text).is_err()) {
            missing += 1;
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One of the two, unbuffered.
struct Sink {
    writer: Box<dyn Write + Send>,
    /// The last line broke off.
    torn: bool,
}

impl Sink {
    fn new(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Box::new(writer), torn: false }
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        if self.torn {
            self.put_bytes(b"\n")?;
            self.torn = false;
        }
        self.put_bytes(text)
    }

    fn put_bytes(&mut self, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            match self.writer.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the other end may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether both end in the same file, pipe or terminal.
fn is_same(one: &Std, other: &Std) -> bool {
    use std::os::unix::fs::MetadataExt;

    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes what it is told to, one answer for each call; then whatever comes.
    struct Scripted {
        answers: Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.answers.recv() {
                Ok(answer) => answer?.min(bytes.len()),
                Err(_) => bytes.len(),
            };
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Rig {
        lines: Lines,
        answers: Sender<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    fn rig() -> Rig {
        let (answers, receiver) = channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let sink = Scripted { answers: receiver, written: Arc::clone(&written) };
        let notice = |count| format!("<{count} missing>\n").into_bytes();
        let lines = Lines::over(sink, io::sink(), false, notice).unwrap();
        Rig { lines, answers, written }
    }

    impl Rig {
        /// Everything, once the reader reads without end.
        fn end(self) -> String {
            drop(self.answers);
            self.lines.flush(Duration::from_secs(20));
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_is_told_how_many_in_their_place() {
        let rig = rig();
        let long = format!("{}\n", "x".repeat(999));
        for _ in 0..2000 {
            rig.lines.push(Stream::Out, long.as_bytes());
        }
        let dropped = rig.lines.dropped();
        assert!((900..1100).contains(&dropped), "{dropped}");
        rig.lines.push(Stream::Out, b"lost as well\n");

        let Rig { lines, answers, written } = rig;
        drop(answers);
        lines.flush(Duration::from_secs(20));
        lines.push(Stream::Out, b"flows again\n");
        lines.flush(Duration::from_secs(20));

        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with(&format!("<{} missing>\nflows again\n", dropped + 1)));
        assert_eq!(text.lines().count() as u64, 2000 - dropped + 2);
    }

    #[test]
    fn a_reader_that_stalls_does_not_hold_up_the_other_stream() {
        let rig = rig();
        rig.lines.push(Stream::Out, b"stuck\n");
        rig.lines.push(Stream::Err, b"goes\n");
        let begun = Instant::now();
        rig.lines.err.flush(begun + Duration::from_secs(20));
        assert!(begun.elapsed() < Duration::from_secs(10));
        rig.end();
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_stalls() {
        let rig = rig();
        rig.lines.push(Stream::Out, b"stuck\n");
        let begun = Instant::now();
        rig.lines.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(rig.end(), "stuck\n");
    }

    #[test]
    fn a_disk_that_is_full_for_a_while_leaves_whole_lines_and_their_number() {
        let rig = rig();
        let full = || Err(io::Error::from_raw_os_error(28));
        // The first breaks off, the second does not come to it: the notice cannot be written either.
        for answer in [Ok(2), full(), full()] {
            rig.answers.send(answer).unwrap();
        }
        rig.lines.push(Stream::Out, b"first\n");
        rig.lines.push(Stream::Out, b"second\n");
        rig.lines.push(Stream::Out, b"third\n");
        let lines = rig.lines.clone();
        assert_eq!(rig.end(), "fi\n<2 missing>\nthird\n");
        assert_eq!(lines.dropped(), 2);
    }

    #[test]
    fn what_is_interrupted_or_would_block_goes_on() {
        let rig = rig();
        for answer in [
            Ok(1),
            Err(io::ErrorKind::Interrupted.into()),
            Err(io::ErrorKind::WouldBlock.into()),
            Ok(1),
        ] {
            rig.answers.send(answer).unwrap();
        }
        rig.lines.push(Stream::Out, b"whole\n");
        let lines = rig.lines.clone();
        assert_eq!(rig.end(), "whole\n");
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn one_file_for_both_keeps_their_order() {
        #[derive(Clone, Default)]
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let file = Shared::default();
        let lines = Lines::over(file.clone(), file.clone(), true, |_| Vec::new()).unwrap();
        let mut expected = Vec::new();
        for number in 0..100 {
            let text = format!("{number}\n");
            lines.push(if number % 3 == 0 { Stream::Err } else { Stream::Out }, text.as_bytes());
            expected.extend_from_slice(text.as_bytes());
        }
        lines.flush(Duration::from_secs(20));
        assert_eq!(*file.0.lock().unwrap(), expected);
    }
}
