//! One thread's tasks, its timers and the moments that shards wait for, in virtual time.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use mahavishnu_driver::{Descriptor, Runtime, Time, Waiter};

/// The runtime of a [`World`](crate::World): tasks run when the world does, on its thread.
#[derive(Clone, Debug)]
pub struct Virtual(Arc<Shared>);

/// What the world, its tasks and its shards have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) time: Time,
    /// Tasks that can go on, in the order in which they were woken.
    ready: Mutex<VecDeque<Arc<Task>>>,
    timers: Mutex<Timers>,
    /// When each shard wants to be woken.
    alarms: Mutex<BTreeMap<u64, Instant>>,
    waiters: AtomicU64,
    /// Counts the looks that shards are to take at their sockets.
    looks: AtomicU64,
}

/// Those who sleep, by when they wake; those of one moment in the order in which they went to sleep.
#[derive(Debug, Default)]
struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    sleepers: BTreeMap<u64, Waker>,
    next: u64,
}

type Future = Pin<Box<dyn std::future::Future<Output = ()> + Send>>;

/// A task of the application.
struct Task {
    /// `None` when it is over.
    future: Mutex<Option<Future>>,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            let shared = self.shared.clone();
            lock(&shared.ready).push_back(self);
        }
    }
}

thread_local! {
    /// The world that is being built or run on this thread.
    static CURRENT: RefCell<Option<Virtual>> = const { RefCell::new(None) };
}

impl Virtual {
    pub(crate) fn new() -> Self {
        let this = Self(Arc::new(Shared {
            time: Time::new(START),
            ready: Mutex::default(),
            timers: Mutex::default(),
            alarms: Mutex::default(),
            waiters: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        }));
        CURRENT.set(Some(this.clone()));
        this
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Runs what can go on until nothing can. Whether anything did.
    pub(crate) fn run_tasks(&self) -> bool {
        let mut ran = false;
        loop {
            let Some(task) = lock(&self.0.ready).pop_front() else { return ran };
            ran = true;
            task.queued.store(false, Ordering::SeqCst);
            let Some(mut future) = lock(&task.future).take() else { continue };
            let waker = Waker::from(task.clone());
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                *lock(&task.future) = Some(future);
            }
        }
    }

    /// Every shard looks at its sockets once when it is polled next.
    pub(crate) fn look(&self) {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
    }

    /// The next moment that somebody waits for.
    pub(crate) fn next(&self) -> Option<Instant> {
        let alarm = lock(&self.0.alarms).values().min().copied();
        let timer = lock(&self.0.timers).heap.peek().map(|Reverse((at, _))| *at);
        alarm.into_iter().chain(timer).min()
    }

    /// Wakes those whose moment has come.
    pub(crate) fn ring(&self) {
        let now = self.0.time.now().mono;
        loop {
            let mut timers = lock(&self.0.timers);
            let Some(&Reverse((at, number))) = timers.heap.peek().filter(|entry| entry.0.0 <= now)
            else {
                return;
            };
            let _ = (timers.heap.pop(), at);
            let sleeper = timers.sleepers.remove(&number);
            drop(timers);
            if let Some(sleeper) = sleeper {
                sleeper.wake();
            }
        }
    }
}

/// No code of the application runs under a lock.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime for Virtual {
    type Waiter = Watch;

    fn current() -> io::Result<Self> {
        CURRENT.with_borrow(Clone::clone).ok_or_else(|| io::Error::other(OUTSIDE))
    }

    fn run<T>(_: impl std::future::Future<Output = T>) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, OUTSIDE))
    }

    fn spawn(&self, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let future = Mutex::new(Some(Box::pin(task) as Future));
        let task = Task { future, queued: AtomicBool::new(false), shared: self.0.clone() };
        Arc::new(task).wake();
    }
}

/// How a shard waits: the world looks for it.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    number: u64,
    /// The last look that it was told to take.
    looked: AtomicU64,
    alarm: Option<Instant>,
    /// Keeps the poller's file.
    _descriptor: Descriptor,
}

impl Waiter for Watch {
    fn new(descriptor: Descriptor) -> io::Result<Self> {
        let shared = Virtual::current()?.0;
        let number = shared.waiters.fetch_add(1, Ordering::SeqCst);
        let looked = AtomicU64::new(0);
        Ok(Self { shared, number, looked, alarm: None, _descriptor: descriptor })
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        let looks = self.shared.looks.load(Ordering::SeqCst);
        match self.looked.swap(looks, Ordering::SeqCst) {
            before if before == looks => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    fn set_alarm(&mut self, at: Instant) {
        self.alarm = Some(at);
        lock(&self.shared.alarms).insert(self.number, at);
    }

    fn poll_alarm(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.alarm.is_none_or(|at| at > self.shared.time.now().mono) {
            return Poll::Pending;
        }
        self.alarm = None;
        lock(&self.shared.alarms).remove(&self.number);
        Poll::Ready(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.shared.alarms).remove(&self.number);
    }
}

/// The world's clock, for code under test: what waits by it waits in virtual time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(pub(crate) Virtual);

impl Clock {
    /// Virtual time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.0.time.elapsed()
    }

    /// Waits for so long.
    #[must_use = "nothing sleeps unless it is waited for"]
    pub fn sleep(&self, time: Duration) -> Sleep {
        let until = self.0.0.time.now().mono.checked_add(time);
        Sleep { shared: self.0.0.clone(), until, number: None }
    }

    /// Runs a task beside the world's others.
    pub fn spawn(&self, task: impl std::future::Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

/// Somebody who sleeps, see [`Clock::sleep`].
#[derive(Debug)]
pub struct Sleep {
    shared: Arc<Shared>,
    /// `None`: for ever.
    until: Option<Instant>,
    number: Option<u64>,
}

impl std::future::Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        if until <= self.shared.time.now().mono {
            return Poll::Ready(());
        }
        let shared = self.shared.clone();
        let mut timers = lock(&shared.timers);
        let number = *self.number.get_or_insert_with(|| {
            timers.next += 1;
            let number = timers.next;
            timers.heap.push(Reverse((until, number)));
            number
        });
        timers.sleepers.insert(number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = mem::take(&mut self.number) {
            let sleeper = lock(&self.shared.timers).sleepers.remove(&number);
            drop(sleeper);
        }
    }
}

/// What who needs a world is told.
const OUTSIDE: &str = "a server on `Virtual` is made by `World::new`, which runs its shards, too";

/// When each world begins: 2026-02-02, 02:40 UTC.
const START: Duration = Duration::from_secs(1_770_000_000);
