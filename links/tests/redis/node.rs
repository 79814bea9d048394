//! A link with a driver: a thread of its own, with a socket.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use mahavishnu_core::{
    entropy::Seed,
    hub::{Append, BusState, CallId, Live, NodeId, Retention, Standing, Writer},
    protocol::{Epoch, Position},
    time::Now,
};
use mahavishnu_links::{
    Action, BusCommand, BusEvent, ChannelEvent, Link, LinkConfig, LinkEvent, LinkStats, Secret,
    Servers,
};
use mahavishnu_test_redis::{Kind, Options, Redis};

/// A node with one hub, of which nothing is there but its link.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    input: Sender<Input>,
    events: Receiver<(BusEvent, LinkStats)>,
    /// Events that nobody has waited for yet.
    kept: Vec<BusEvent>,
    pub(crate) stats: LinkStats,
    /// Why the link was away last.
    cause: Option<Arc<str>>,
    thread: Option<JoinHandle<()>>,
    last_call: u64,
}

pub(crate) enum Input {
    Command(BusCommand),
    Full(bool),
    Reload(Arc<LinkConfig>),
    Stop,
}

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const RETENTION: Retention = Retention {
    messages: 100,
    time: Duration::from_secs(300),
    position: Duration::from_secs(86_400),
};

/// Runs a test on every server that is installed.
pub(crate) fn on_each(test: impl Fn(&Redis)) {
    for kind in Kind::all() {
        eprintln!("on {kind}");
        test(&Redis::with(Options::of(kind)));
    }
}

pub(crate) fn config(redis: &Redis) -> LinkConfig {
    let address = redis.address();
    LinkConfig {
        servers: Servers::Single { host: address.ip().to_string().into(), port: address.port() },
        node_name: "test".into(),
        ..LinkConfig::default()
    }
}

pub(crate) fn with_password(redis: &Redis, password: &str) -> LinkConfig {
    LinkConfig { password: Some(Secret::new(password)), ..config(redis) }
}

impl Node {
    /// A node whose link is up.
    pub(crate) fn start(redis: &Redis, id: u64) -> Self {
        let mut this = Self::begin(config(redis), id, 0);
        this.up();
        this
    }

    /// A node whose link begins to look for Redis.
    pub(crate) fn begin(config: LinkConfig, id: u64, shard: u16) -> Self {
        let (input, inputs) = mpsc::channel();
        let (tell, events) = mpsc::channel();
        let id = NodeId(id);
        let thread = std::thread::spawn(move || {
            let seed = Seed::from(id.0);
            let link = Link::new(Arc::new(config), id, shard, seed, now());
            Driver { link, socket: None, tell, inputs }.run();
        });
        let stats = LinkStats::default();
        Self {
            id,
            input,
            events,
            kept: Vec::new(),
            stats,
            cause: None,
            thread: Some(thread),
            last_call: 0,
        }
    }

    pub(crate) fn tell(&self, input: Input) {
        self.input.send(input).expect("a driver that runs");
    }

    pub(crate) fn command(&self, command: BusCommand) {
        self.tell(Input::Command(command));
    }

    pub(crate) fn call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    pub(crate) fn up(&mut self) -> u64 {
        let session = self.wait("up", |event| match event {
            BusEvent::Link(LinkEvent::Up { session }) => Some(*session),
            _ => None,
        });
        self.wait("reconciled", |event| {
            matches!(event, BusEvent::Link(LinkEvent::Reconciled)).then_some(())
        });
        session
    }

    pub(crate) fn down(&mut self) {
        self.wait("down", |event| matches!(event, BusEvent::Link(LinkEvent::Down)).then_some(()));
    }

    /// The first event that fits. What was before it is not waited for any more.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&BusEvent) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while !self.kept.is_empty() {
                if let Some(found) = pick(&self.kept.remove(0)) {
                    return found;
                }
            }
            self.receive(deadline.saturating_duration_since(Instant::now()), what);
        }
    }

    /// The first event that fits, wherever it is: those before and behind it can still be waited for.
    pub(crate) fn find<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&BusEvent) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            while let Some(event) = self.kept.get(seen) {
                if let Some(found) = pick(event) {
                    self.kept.remove(seen);
                    return found;
                }
                seen += 1;
            }
            self.receive(deadline.saturating_duration_since(Instant::now()), what);
        }
    }

    /// All events of so much time.
    pub(crate) fn gather(&mut self, time: Duration) -> Vec<BusEvent> {
        let deadline = Instant::now() + time;
        while let Ok((event, stats)) =
            self.events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.kept.push(event);
            self.stats = stats;
        }
        std::mem::take(&mut self.kept)
    }

    fn receive(&mut self, wait: Duration, what: &str) {
        let (event, stats) = self.events.recv_timeout(wait).unwrap_or_else(|_| {
            panic!("{what} did not come: {:?}; the link has counted {:?}", self.cause, self.stats)
        });
        if let BusEvent::Link(LinkEvent::State(BusState { cause: Some(cause), .. })) = &event {
            self.cause = Some(cause.clone());
        }
        self.kept.push(event);
        self.stats = stats;
    }

    pub(crate) fn state(
        &mut self,
        what: &str,
        mut fits: impl FnMut(&BusState) -> bool,
    ) -> BusState {
        self.wait(what, |event| match event {
            BusEvent::Link(LinkEvent::State(state)) if fits(state) => Some(state.clone()),
            _ => None,
        })
    }

    pub(crate) fn follow(&mut self, channel: &str, epoch: Epoch) -> Standing {
        self.command(BusCommand::Follow { channel: channel.into(), epoch, retention: RETENTION });
        self.standing(channel)
    }

    pub(crate) fn standing(&mut self, channel: &str) -> Standing {
        self.find("a standing", |event| match event {
            BusEvent::Channel(ChannelEvent::Standing { channel: of, standing, .. })
                if **of == *channel =>
            {
                Some(*standing)
            }
            _ => None,
        })
    }

    pub(crate) fn live(&mut self, channel: &str) -> Live {
        self.find("a live message", |event| match event {
            BusEvent::Channel(ChannelEvent::Live { channel: of, live }) if **of == *channel => {
                Some(live.clone())
            }
            _ => None,
        })
    }

    /// An append, to be changed as a test wants it.
    pub(crate) fn new_append(&mut self, channel: &str, records: &'static str) -> Append {
        Append {
            id: self.call(),
            writer: Writer { node: self.id, shard: 0 },
            channel: channel.into(),
            count: 1,
            records: Bytes::from_static(records.as_bytes()),
            known: None,
            again: None,
            epoch: epoch(99),
            retention: RETENTION,
            state: None,
            condition: None,
            basis: None,
            once: None,
            taken: None,
        }
    }

    pub(crate) fn append(&mut self, append: Append) -> AppendResult {
        let id = append.id;
        self.command(BusCommand::Append(Box::new(append)));
        self.appended(id)
    }

    pub(crate) fn appended(&mut self, id: CallId) -> AppendResult {
        self.find("an append's answer", |event| match event {
            BusEvent::Channel(ChannelEvent::Appended { id: of, result }) if *of == id => {
                Some(result.clone())
            }
            _ => None,
        })
    }

    /// Everything that is kept of a channel behind a number.
    pub(crate) fn read(&mut self, channel: &str, after: u64, bytes_max: usize) -> PageResult {
        let id = self.call();
        self.command(BusCommand::Read { id, channel: channel.into(), after, bytes_max });
        self.find("a page", |event| match event {
            BusEvent::Channel(ChannelEvent::Page { id: of, result }) if *of == id => {
                Some(result.clone())
            }
            _ => None,
        })
    }
}

pub(crate) type AppendResult =
    Result<mahavishnu_core::hub::Appended, mahavishnu_core::hub::AppendError>;
pub(crate) type PageResult = Result<mahavishnu_core::hub::BusPage, mahavishnu_core::hub::BusError>;

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.input.send(Input::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the driver has panicked");
        }
    }
}

pub(crate) fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

pub(crate) fn at(epoch: Epoch, offset: u64) -> Position {
    Position { epoch, offset }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    Now { mono: Instant::now(), unix }
}

struct Driver {
    link: Link,
    socket: Option<TcpStream>,
    tell: Sender<(BusEvent, LinkStats)>,
    inputs: Receiver<Input>,
}

impl Driver {
    fn run(mut self) {
        let mut buffer = vec![0; 16 << 10];
        while !self.link.is_over() {
            let mut idle = !self.take_inputs();
            idle &= !self.read(&mut buffer);
            if self.link.poll_timeout().is_some_and(|at| at <= Instant::now()) {
                self.link.handle_timeout(now());
            }
            self.act();
            self.write();
            while let Some(event) = self.link.poll_event() {
                // A test that has seen enough hears no more.
                let _ = self.tell.send((event, self.link.stats().clone()));
            }
            if idle {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
    }

    fn take_inputs(&mut self) -> bool {
        let mut some = false;
        loop {
            let input = match self.inputs.try_recv() {
                Ok(input) => input,
                Err(TryRecvError::Empty) => return some,
                Err(TryRecvError::Disconnected) => Input::Stop,
            };
            some = true;
            match input {
                Input::Command(command) => self.link.handle_command(now(), command),
                Input::Full(full) => self.link.set_full(now(), full),
                Input::Reload(config) => self.link.reload(now(), config),
                Input::Stop => {
                    self.link.stop(now());
                    return some;
                }
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let Some(socket) = self.socket.as_mut().filter(|_| self.link.wants_read()) else {
            return false;
        };
        match socket.read(buffer) {
            Ok(0) => {
                self.socket = None;
                self.link.handle_eof(now());
            }
            Ok(count) => self.link.handle_bytes(now(), &mut buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => {
                self.socket = None;
                self.link.handle_failed(now(), error.kind());
            }
        }
        true
    }

    fn act(&mut self) {
        while let Some(action) = self.link.poll_action() {
            match action {
                Action::Resolve { host, port } => {
                    let found = (&*host, port).to_socket_addrs();
                    let found = found.map(Iterator::collect).map_err(|error| error.kind());
                    self.link.handle_resolved(now(), found);
                }
                Action::Connect { address } => {
                    match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
                        Ok(socket) => {
                            socket.set_nonblocking(true).expect("a socket");
                            socket.set_nodelay(true).expect("a socket");
                            self.socket = Some(socket);
                            self.link.handle_connected(now());
                        }
                        Err(error) => self.link.handle_failed(now(), error.kind()),
                    }
                }
                Action::Close => self.socket = None,
            }
        }
    }

    fn write(&mut self) {
        while let Some(socket) = &mut self.socket
            && !self.link.transmit().is_empty()
        {
            match socket.write(self.link.transmit()) {
                Ok(count) => self.link.transmitted(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Reading will tell.
                Err(_) => return,
            }
        }
    }
}
