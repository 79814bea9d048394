//! Publishers and subscribers that go on whatever happens, and what they say of it in the end: was anything lost, doubled
//! or out of order, and does everybody agree on which event has which number?

mod listener;
mod publisher;
mod report;
mod times;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::{listener::Heard, publisher::Sent};
pub use self::{report::Report, times::Silence};
use crate::wait;

/// Who publishes and who listens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Channels; publishers and listeners take turns at them.
    pub channels: usize,
    /// Subscribers with positions at each node, who recover.
    pub listeners: usize,
    /// Subscribers without, as old clients are, at each node.
    pub plain: usize,
    /// Publishers, who take turns at nodes.
    pub publishers: usize,
    /// Whether they use idempotency keys: then they repeat until it is published, and go on only then.
    pub keys: bool,
    /// Between two messages of one publisher.
    pub pause: Duration,
    /// Where listeners connect instead of the nodes, in the same turns: balancers before them.
    pub entries: Vec<SocketAddr>,
    /// The longest that a listener waits before it connects again, drawn evenly.
    pub back_off: Duration,
    /// What its events are called: others are none of its own.
    pub event: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            channels: 4,
            listeners: 8,
            plain: 2,
            publishers: 4,
            keys: true,
            pause: Duration::from_millis(10),
            entries: Vec::new(),
            back_off: Duration::from_millis(20),
            event: "load".into(),
        }
    }
}

impl Plan {
    /// Two hundred with positions, fifty without, and twenty who publish, two into each channel at different nodes; at
    /// three nodes.
    #[must_use]
    pub fn full() -> Self {
        Self {
            channels: 10,
            listeners: 67,
            plain: 17,
            publishers: 20,
            pause: Duration::from_millis(150),
            ..Self::default()
        }
    }
}

/// A load that runs until [`finish`](Self::finish).
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<Sent>>,
    listeners: Vec<JoinHandle<Heard>>,
}

/// What all threads of a load know.
#[derive(Debug)]
struct Shared {
    nodes: Vec<SocketAddr>,
    /// Where listeners connect.
    entries: Vec<SocketAddr>,
    back_off: Duration,
    event: String,
    /// Publishers are to end.
    enough: AtomicBool,
    /// Listeners are to end.
    over: AtomicBool,
    /// Messages that were published, as far as publishers know.
    stored: AtomicUsize,
    /// Connections that listeners have made.
    connects: AtomicUsize,
    /// Listeners that are subscribed now.
    listening: AtomicUsize,
    /// Events that listeners with positions have had.
    heard: AtomicUsize,
}

impl Shared {
    fn wait_listening(&self, all: usize) {
        let ready = || (self.listening.load(Ordering::SeqCst) == all).then_some(());
        let found = wait::within(PATIENCE, ready);
        assert!(found.is_some(), "{:?} of {all} are subscribed", self.listening);
    }
}

impl Load {
    /// Begins, and returns when everybody is subscribed and something was published.
    pub fn start(nodes: Vec<SocketAddr>, plan: &Plan) -> Self {
        let shared = Arc::new(Shared {
            entries: if plan.entries.is_empty() { nodes.clone() } else { plan.entries.clone() },
            nodes,
            back_off: plan.back_off,
            event: plan.event.clone(),
            enough: AtomicBool::new(false),
            over: AtomicBool::new(false),
            stored: AtomicUsize::new(0),
            connects: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            heard: AtomicUsize::new(0),
        });
        let mut listeners = Vec::new();
        for node in 0..shared.nodes.len() {
            let entry = node % shared.entries.len();
            for number in 0..plan.listeners + plan.plain {
                let (shared, channel) = (Arc::clone(&shared), channel(number % plan.channels));
                let positions = number < plan.listeners;
                let listen = move || listener::listen(&shared, entry, &channel, positions);
                listeners.push(std::thread::spawn(listen));
            }
        }
        let all = listeners.len();
        shared.wait_listening(all);
        let publishers = (0..plan.publishers).map(|number| {
            let (shared, plan) = (Arc::clone(&shared), plan.clone());
            std::thread::spawn(move || publisher::publish(&shared, number, &plan))
        });
        let this = Self { publishers: publishers.collect(), listeners, shared };
        this.wait_for(1);
        this
    }

    /// Times that listeners have connected so far.
    #[must_use]
    pub fn connects(&self) -> usize {
        self.shared.connects.load(Ordering::SeqCst)
    }

    /// Messages that were published so far, as far as publishers know.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.shared.stored.load(Ordering::SeqCst)
    }

    /// Waits until so many more messages are published than now.
    pub fn wait_for(&self, more: usize) {
        let wanted = self.stored() + more;
        let found = wait::within(PATIENCE, || (self.stored() >= wanted).then_some(()));
        assert!(found.is_some(), "only {} of {wanted} were published", self.stored());
    }

    /// Lets it run for a while.
    pub fn run(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Ends publishing, lets everything arrive, and says what has come of it.
    pub fn finish(self) -> Report {
        let now = Instant::now();
        self.finish_timed(now, now).0
    }

    /// The same, and how long nothing was heard from `from` on, and again after `mended`.
    pub fn finish_timed(self, from: Instant, mended: Instant) -> (Report, Silence) {
        let Self { shared, publishers, listeners } = self;
        shared.enough.store(true, Ordering::SeqCst);
        let sent: Vec<_> =
            publishers.into_iter().map(|it| it.join().expect("a publisher")).collect();
        shared.wait_listening(listeners.len());
        // Nothing has come for a while: what has not by now does not.
        let mut quiet = (shared.heard.load(Ordering::SeqCst), Instant::now());
        wait::within(PATIENCE, || {
            let heard = shared.heard.load(Ordering::SeqCst);
            if heard != quiet.0 {
                quiet = (heard, Instant::now());
            }
            (quiet.1.elapsed() > QUIET).then_some(())
        });
        shared.over.store(true, Ordering::SeqCst);
        let heard = listeners.into_iter().map(|it| it.join().expect("a listener"));
        let heard: Vec<_> = heard.collect();
        (Report::new(&sent, &heard), Silence::new(&heard, from, mended))
    }
}

fn channel(number: usize) -> String {
    format!("workflow:{number}")
}

/// No fault lasts so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that has lost its node is back within this.
const QUIET: Duration = Duration::from_secs(2);
