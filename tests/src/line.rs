//! A line between clients and a server: it can be listened to, and it can be cut.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
};

use mahavishnu_framing::{FrameError, FrameReader, OP_CLOSE, OP_TEXT, apply_mask};

use crate::raw::{Frame, op};

/// A TCP proxy. Ends when dropped, and with it all that is connected through it.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    is_silent: bool,
    is_over: bool,
    calls: Vec<Call>,
}

/// One connection, and what was said over it so far.
#[derive(Debug)]
struct Call {
    ends: [TcpStream; 2],
    /// Whether nothing is carried any more.
    is_lost: bool,
    /// Bytes of the client, of the server.
    said: [Vec<u8>; 2],
}

impl Line {
    /// A line to a server, on a free port of this machine.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || accept(&listener, server, &shared));
        Self { address, state, acceptor: Some(acceptor) }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `ws://host:port` of its beginning.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends all connections without a word, whatever is under way on them, and lets nobody through until
    /// [`mend`](Self::mend).
    pub fn cut(&self) {
        let mut state = lock(&self.state);
        state.is_cut = true;
        state.hang_up();
    }

    /// Carries nothing any more, and ends nothing: neither side is told, as when a network is gone. So it is with who comes
    /// before [`mend`](Self::mend).
    pub fn fall_silent(&self) {
        let mut state = lock(&self.state);
        state.is_silent = true;
        state.calls.iter_mut().for_each(|call| call.is_lost = true);
    }

    /// Lets clients through again that come from now on.
    pub fn mend(&self) {
        let mut state = lock(&self.state);
        state.is_cut = false;
        state.is_silent = false;
    }

    /// How many have come through so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        lock(&self.state).calls.len()
    }

    /// What was said on each connection so far: by the client, by the server.
    #[must_use]
    pub fn said(&self) -> Vec<[Vec<u8>; 2]> {
        lock(&self.state).calls.iter().map(|call| call.said.clone()).collect()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.hang_up();
        }
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

impl State {
    fn hang_up(&self) {
        for end in self.calls.iter().flat_map(|call| &call.ends) {
            // One that is over cannot be ended again.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, state: &Arc<Mutex<State>>) {
    for client in listener.incoming() {
        let client = client.expect("a connection");
        let mut shared = lock(state);
        if shared.is_over {
            return;
        }
        if shared.is_cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(server) else { continue };
        for end in [&client, &server] {
            end.set_nodelay(true).expect("it is a socket");
        }
        let place = shared.calls.len();
        for (side, from, to) in [(0, &client, &server), (1, &server, &client)] {
            let (from, to, state) = (twin(from), twin(to), Arc::clone(state));
            std::thread::spawn(move || carry(from, to, &state, place, side));
        }
        let is_lost = shared.is_silent;
        shared.calls.push(Call { ends: [client, server], is_lost, said: Default::default() });
    }
}

/// Carries bytes one way until either end is gone.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &Mutex<State>, place: usize, side: usize) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        {
            let call = &mut lock(state).calls[place];
            if call.is_lost {
                continue;
            }
            call.said[side].extend_from_slice(&chunk[..count]);
        }
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    if !lock(state).calls[place].is_lost {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// The messages and close frames behind the head of what one side said.
#[must_use]
pub fn messages(said: &[u8]) -> Vec<String> {
    let head = said.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let mut messages = Vec::new();
    let mut reader = FrameReader::new(1 << 24);
    let read = reader.feed::<FrameError>(&said[head + 4..], |frame| {
        let mut payload = frame.payload.to_vec();
        if let Some(key) = frame.mask {
            apply_mask(key, &mut payload);
        }
        messages.push(match (frame.fin, frame.opcode) {
            (true, OP_TEXT) => String::from_utf8(payload).expect("text is UTF-8"),
            (true, OP_CLOSE) => {
                let (code, reason) = Frame { first: op::CLOSE, payload }.close();
                format!("close {code} {reason}").trim_end().to_owned()
            }
            (fin, opcode) => format!("frame {fin} {opcode} {payload:?}"),
        });
        Ok(())
    });
    read.expect("frames");
    messages
}

fn twin(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be cloned")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics while it is locked")
}
