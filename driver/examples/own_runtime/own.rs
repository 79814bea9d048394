//! A runtime of plain threads: a future has a thread, which sleeps in poll(2) until there is something to do for it.

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Instant,
};

use mahavishnu_driver::{Descriptor, Runtime, Waiter};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{Errno, read, write},
};

/// The runtime: there is nothing to keep, threads are the operating system's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own;

impl Runtime for Own {
    type Waiter = Watch;

    fn current() -> io::Result<Self> {
        Ok(Self)
    }

    fn run<T>(shard: impl Future<Output = T>) -> io::Result<T> {
        let bell = Arc::new(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let waker = Waker::from(bell.clone());
        let mut future = pin!(shard);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(output);
            }
            SLEEP.take().until_something_happens(&bell)?;
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Without a thread it is a handler that does not answer, and the server knows what to do about those.
        let _ = thread::Builder::new().spawn(|| Self::run(task));
    }
}

/// What a thread's future waits for besides its waker, said anew each time that it is polled.
#[derive(Default)]
struct Sleep {
    descriptor: Option<Rc<Descriptor>>,
    until: Option<Instant>,
}

thread_local! {
    static SLEEP: RefCell<Sleep> = RefCell::default();
}

impl Sleep {
    fn until_something_happens(&self, bell: &Bell) -> io::Result<()> {
        let time = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let rings = PollFd::new(&bell.0, PollFlags::IN);
        let woken = match &self.descriptor {
            Some(descriptor) => {
                poll(&mut [rings, PollFd::new(descriptor, PollFlags::IN)], time.as_ref())
            }
            None => poll(&mut [rings], time.as_ref()),
        };
        // It may not have rung.
        let _ = read(&bell.0, &mut [0; 8]);
        match woken {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for a poller and a moment, by telling the thread to.
#[derive(Debug)]
pub(crate) struct Watch {
    descriptor: Rc<Descriptor>,
    alarm: Option<Instant>,
}

impl Waiter for Watch {
    fn new(descriptor: Descriptor) -> io::Result<Self> {
        Ok(Self { descriptor: Rc::new(descriptor), alarm: None })
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        let look = &mut [PollFd::new(&self.descriptor, PollFlags::IN)];
        if poll(look, Some(&Timespec::default())) != Ok(0) {
            return Poll::Ready(());
        }
        SLEEP.with_borrow_mut(|sleep| sleep.descriptor = Some(self.descriptor.clone()));
        Poll::Pending
    }

    fn set_alarm(&mut self, at: Instant) {
        self.alarm = Some(at);
    }

    fn poll_alarm(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.alarm.is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready(());
        }
        SLEEP.with_borrow_mut(|sleep| sleep.until = self.alarm);
        Poll::Pending
    }
}

/// Wakes a thread that sleeps.
struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Full means that it rings already.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }
}
