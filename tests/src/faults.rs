//! A network between a node and its Redis that can be slow, held up, cut, or lose one end.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A TCP proxy. Ends when dropped, and with it all that is connected through it.
#[derive(Debug)]
pub struct Faults {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    weather: Weather,
    is_over: bool,
    calls: Vec<Call>,
}

/// What the network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Everything arrives, so much later.
    Fair(Duration),
    /// Nothing arrives, and nothing is lost: it comes when this is over, as TCP sends again what was not acknowledged.
    Held,
    /// So many bytes a second, each way of each connection.
    Slow(u64),
    /// What comes from the target stays with it: nobody takes it.
    Choked,
    /// Nothing arrives ever again these ways, of what is connected or comes now, and nobody is told.
    Lossy(Ways),
    /// Who is connected is reset, and so is who comes.
    Cut,
}

/// Whether it concerns what goes to the target, and what comes from it.
type Ways = [bool; 2];

/// One connection: its two ends, and whether what goes to the target and what comes from it is lost.
#[derive(Debug)]
struct Call {
    ends: [TcpStream; 2],
    is_lost: [Arc<AtomicBool>; 2],
}

impl Call {
    fn lose(&self, ways: Ways) {
        for (is_lost, _) in self.is_lost.iter().zip(ways).filter(|(_, way)| *way) {
            is_lost.store(true, Ordering::SeqCst);
        }
    }
}

impl Faults {
    /// A way to `target`, on a free port of this machine.
    #[must_use]
    pub fn before(target: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State {
            target,
            weather: Weather::Fair(Duration::ZERO),
            is_over: false,
            calls: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || accept(&listener, &shared));
        Self { address, state, acceptor: Some(acceptor) }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything arrives at once again. What was held comes now; what was lost stays lost, with its connection.
    pub fn mend(&self) {
        self.lock().weather = Weather::Fair(Duration::ZERO);
    }

    /// Everything arrives, so much later, each way.
    pub fn delay(&self, delay: Duration) {
        self.lock().weather = Weather::Fair(delay);
    }

    /// Nothing arrives until [`mend`](Self::mend), and then all of it: a partition that heals. New connections are made and
    /// stay silent.
    pub fn hold(&self) {
        self.lock().weather = Weather::Held;
    }

    /// Nothing arrives any more on what is connected, and neither end is told, nor on what is connected before
    /// [`mend`](Self::mend): a firewall that has forgotten, a cable that was pulled.
    pub fn drop_all(&self) {
        self.lose([true, true]);
    }

    /// The same for what goes to the target alone.
    pub fn drop_there(&self) {
        self.lose([true, false]);
    }

    /// The same for what comes from the target alone.
    pub fn drop_back(&self) {
        self.lose([false, true]);
    }

    fn lose(&self, ways: Ways) {
        let mut state = self.lock();
        state.weather = Weather::Lossy(ways);
        state.calls.iter().for_each(|call| call.lose(ways));
    }

    /// Everything arrives, at so many bytes a second, each way of each connection.
    pub fn slow(&self, bytes: u64) {
        self.lock().weather = Weather::Slow(bytes);
    }

    /// What the target says is not taken from it, until [`mend`](Self::mend): it has to keep it.
    pub fn choke(&self) {
        self.lock().weather = Weather::Choked;
    }

    /// Ends the far end of all connections without telling the near one, as a machine does that lost its power. New
    /// connections are as before.
    pub fn half_open(&self) {
        for call in &self.lock().calls {
            call.lose([true, true]);
            let _ = call.ends[1].shutdown(Shutdown::Both);
        }
    }

    /// Resets all connections, and all that come before [`mend`](Self::mend).
    pub fn cut(&self) {
        let mut state = self.lock();
        state.weather = Weather::Cut;
        state.reset();
    }

    /// Resets all connections, once.
    pub fn reset(&self) {
        self.lock().reset();
    }

    /// Connections from now on go there: another server behind the same name.
    pub fn redirect(&self, target: SocketAddr) {
        self.lock().target = target;
    }

    /// Connections that have come so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().calls.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        {
            let mut state = self.lock();
            state.is_over = true;
            state.reset();
        }
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

impl State {
    fn reset(&self) {
        for end in self.calls.iter().flat_map(|call| &call.ends) {
            reset(end);
        }
    }
}

/// Closes a socket that others hold too, without a goodbye if the system lets it.
fn reset(socket: &TcpStream) {
    // Bytes that were not read make the system send a reset.
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    for near in listener.incoming() {
        let near = near.expect("a connection");
        let (target, weather, is_over) = {
            let state = lock(state);
            (state.target, state.weather, state.is_over)
        };
        if is_over {
            return;
        }
        if weather == Weather::Cut {
            reset(&near);
            continue;
        }
        let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
            reset(&near);
            continue;
        };
        for end in [&near, &far] {
            end.set_nodelay(true).expect("it is a socket");
        }
        let is_lost = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let call = Call { ends: [twin(&near), twin(&far)], is_lost: is_lost.clone() };
        {
            // Before anything goes through: whoever sees that something does may change what becomes of the rest.
            let mut state = lock(state);
            // It may have changed since: who was asked to lose everything loses this too.
            if let Weather::Lossy(ways) = state.weather {
                call.lose(ways);
            }
            state.calls.push(call);
        }
        for ((from, to), is_lost) in [(&near, &far), (&far, &near)].into_iter().zip(&is_lost) {
            let (chunks, kept) = channel();
            let is_far = std::ptr::eq(from, &far);
            let (from, to, reading) = (twin(from), twin(to), Arc::clone(state));
            std::thread::spawn(move || read(from, is_far, &reading, &chunks));
            let (state, is_lost) = (Arc::clone(state), Arc::clone(is_lost));
            std::thread::spawn(move || write(to, &state, &is_lost, &kept));
        }
    }
}

/// Bytes with the time at which they are due; none are the end.
type Chunk = (Instant, Vec<u8>);

/// Takes what one end says. A delay keeps nothing waiting behind it.
fn read(mut from: TcpStream, is_far: bool, state: &Mutex<State>, chunks: &Sender<Chunk>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        while is_far && lock(state).weather == Weather::Choked && !lock(state).is_over {
            std::thread::sleep(Duration::from_millis(1));
        }
        let count = from.read(&mut buffer).unwrap_or(0);
        let delay = match lock(state).weather {
            Weather::Fair(delay) => delay,
            Weather::Held
            | Weather::Slow(_)
            | Weather::Choked
            | Weather::Lossy(_)
            | Weather::Cut => Duration::ZERO,
        };
        let chunk = (Instant::now() + delay, buffer[..count].to_vec());
        if chunks.send(chunk).is_err() || count == 0 {
            return;
        }
    }
}

/// Says it at the other end when it is due, and while nothing is held.
fn write(mut to: TcpStream, state: &Mutex<State>, is_lost: &AtomicBool, chunks: &Receiver<Chunk>) {
    for (due, bytes) in chunks {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        while lock(state).weather == Weather::Held && !lock(state).is_over {
            std::thread::sleep(Duration::from_millis(1));
        }
        if is_lost.load(Ordering::SeqCst) {
            continue;
        }
        let is_written = bytes.chunks(PIECE).all(|piece| {
            pace(state, piece.len());
            to.write_all(piece).is_ok()
        });
        if bytes.is_empty() || !is_written {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// Waits for as long as so many bytes take.
fn pace(state: &Mutex<State>, bytes: usize) {
    let weather = lock(state).weather;
    if let Weather::Slow(rate) = weather {
        std::thread::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64));
    }
}

/// So many bytes go out together where they take their time.
const PIECE: usize = 1024;

fn twin(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be cloned")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics while it is locked")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// Somebody who sends back what it gets, and a way there.
    fn echo() -> Faults {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut from = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut from, &mut stream);
                });
            }
        });
        Faults::before(address)
    }

    fn connect(faults: &Faults) -> TcpStream {
        let stream = TcpStream::connect(faults.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Says something and takes the answer.
    fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"word")?;
        stream.read_exact(&mut [0; 4])
    }

    fn says_nothing(stream: &mut TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = exchange(stream).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }

    #[test]
    fn what_is_held_comes_later() {
        let faults = echo();
        let mut stream = connect(&faults);
        exchange(&mut stream).unwrap();
        faults.hold();
        says_nothing(&mut stream);
        faults.mend();
        stream.read_exact(&mut [0; 4]).unwrap();
        exchange(&mut stream).unwrap();
    }

    #[test]
    fn what_is_delayed_comes_late_and_in_order() {
        let faults = echo();
        let mut stream = connect(&faults);
        faults.delay(Duration::from_millis(50));
        let start = Instant::now();
        stream.write_all(b"one").unwrap();
        stream.write_all(b"two").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"onetwo");
        assert!(start.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn what_is_dropped_never_comes_and_newcomers_do_after_mending() {
        let faults = echo();
        let mut before = connect(&faults);
        exchange(&mut before).unwrap();
        faults.drop_all();
        says_nothing(&mut before);
        let mut during = connect(&faults);
        // The kernel has taken it; it counts from when the way has.
        crate::wait::until("a newcomer", || (faults.lock().calls.len() >= 2).then_some(()));
        says_nothing(&mut during);
        faults.mend();
        says_nothing(&mut before);
        says_nothing(&mut during);
        exchange(&mut connect(&faults)).unwrap();
    }

    #[test]
    fn one_way_may_be_lost_alone() {
        for (lose, arrives) in [(Faults::drop_there as fn(&Faults), 0), (Faults::drop_back, 4)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let faults = Faults::before(listener.local_addr().unwrap());
            let mut near = connect(&faults);
            let (mut far, _) = listener.accept().unwrap();
            far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            // One byte each way: it is connected through.
            near.write_all(b"a").unwrap();
            far.read_exact(&mut [0]).unwrap();
            lose(&faults);
            near.write_all(b"word").unwrap();
            far.write_all(b"word").unwrap();
            assert_eq!(far.read(&mut [0; 8]).unwrap_or(0), arrives);
            near.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert_eq!(near.read(&mut [0; 8]).unwrap_or(0), 4 - arrives);
        }
    }

    #[test]
    fn what_is_slow_arrives_bit_by_bit() {
        let faults = echo();
        let mut stream = connect(&faults);
        faults.slow(20_000);
        let start = Instant::now();
        stream.write_all(&[7; 2_000]).unwrap();
        stream.read_exact(&mut [0; 2_000]).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(150));
        faults.mend();
        exchange(&mut stream).unwrap();
    }

    #[test]
    fn what_nobody_takes_stays_where_it_is() {
        let faults = echo();
        let mut stream = connect(&faults);
        exchange(&mut stream).unwrap();
        faults.choke();
        // One that was being waited for may still come.
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let owed = (0..2).filter(|_| exchange(&mut stream).is_err()).count();
        assert!(owed > 0);
        faults.mend();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_exact(&mut vec![0; 4 * owed]).unwrap();
    }

    #[test]
    fn a_half_open_connection_says_nothing_and_a_new_one_does() {
        let faults = echo();
        let mut stream = connect(&faults);
        exchange(&mut stream).unwrap();
        faults.half_open();
        says_nothing(&mut stream);
        exchange(&mut connect(&faults)).unwrap();
    }

    #[test]
    fn who_is_cut_off_is_told_and_so_are_those_who_come() {
        let faults = echo();
        let mut stream = connect(&faults);
        exchange(&mut stream).unwrap();
        faults.cut();
        assert!(exchange(&mut stream).is_err());
        assert!(exchange(&mut connect(&faults)).is_err());
        faults.mend();
        let mut stream = connect(&faults);
        exchange(&mut stream).unwrap();
        faults.reset();
        assert!(exchange(&mut stream).is_err());
        exchange(&mut connect(&faults)).unwrap();
    }
}
