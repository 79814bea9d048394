//! The poller, driven by hand.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{self, Shutdown, SocketAddr},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use mahavishnu_driver::{
    Runtime,
    poller::{Poller, Read, TcpListener, TcpStream},
};
use socket2::{Domain, SockRef, Socket, Type};

/// A poller whose sockets belong to nobody.
struct Fixture<R: Runtime> {
    poller: Poller<(), R::Waiter>,
    listener: net::TcpListener,
    scratch: Vec<u8>,
}

impl<R: Runtime> Fixture<R> {
    /// Reads `scratch_bytes` at a time.
    fn new(scratch_bytes: usize) -> Self {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { poller: Poller::new().unwrap(), listener, scratch: vec![0; scratch_bytes] }
    }

    /// The peer of a socket that the poller knows as `index`.
    fn connect(&mut self, index: usize) -> net::TcpStream {
        let peer = net::TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        self.poller.add(index, TcpStream::from_std(stream), ()).unwrap();
        // That it can be written to is news too.
        self.poller.look().unwrap();
        peer
    }

    /// Looks until somebody is in line.
    async fn look(&mut self) {
        while self.poller.in_line() == 0 {
            self.poller.ready().await;
            self.poller.look().unwrap();
        }
    }

    /// What becomes of a socket that is to connect.
    async fn outcome(&mut self, index: usize) -> io::Result<bool> {
        while self.poller.next_writable() != Some(index) {
            self.poller.ready().await;
            self.poller.look()?;
        }
        self.poller.get(index).unwrap().is_connected()
    }

    /// Who is read next, and what that brings.
    fn read(&mut self) -> Option<(usize, Read)> {
        let index = self.poller.next_readable()?;
        Some((index, self.poller.read(index, &mut self.scratch)))
    }

    /// As [`read`](Self::read): bytes.
    fn bytes(&mut self) -> (usize, usize) {
        match self.read() {
            Some((index, Read::Bytes(count))) => (index, count),
            other => panic!("no bytes: {other:?}"),
        }
    }
}

pub(crate) fn an_end_that_came_with_data_is_read<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let mut peer = fixture.connect(0);
        peer.write_all(b"bye").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        fixture.look().await;

        assert_eq!(fixture.bytes(), (0, 3));
        assert!(matches!(fixture.read(), Some((0, Read::End))));
        assert!(fixture.read().is_none());
    });
}

pub(crate) fn an_end_is_told_once<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let peer = fixture.connect(0);
        peer.shutdown(Shutdown::Write).unwrap();
        fixture.look().await;
        assert!(matches!(fixture.read(), Some((0, Read::End))));

        // Now both sides have ended, which is an event of its own.
        fixture.poller.get(0).unwrap().finish();
        fixture.poller.ready().await;
        fixture.poller.look().unwrap();

        assert_eq!(fixture.poller.in_line(), 0);
    });
}

pub(crate) fn an_end_behind_data_that_fills_the_buffer_is_read<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(4);
        let mut peer = fixture.connect(0);
        peer.write_all(b"good bye").unwrap();
        drop(peer);
        fixture.look().await;

        assert_eq!([fixture.bytes(), fixture.bytes()], [(0, 4), (0, 4)]);
        assert!(matches!(fixture.read(), Some((0, Read::End))));
    });
}

pub(crate) fn a_reset_is_a_failure<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let peer = fixture.connect(0);
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        fixture.look().await;

        let read = fixture.read();

        let Some((0, Read::Failed(error))) = read else { panic!("{read:?}") };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

pub(crate) fn one_with_much_stands_behind_the_others_after_each_read<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(16);
        let (mut busy, mut quiet) = (fixture.connect(0), fixture.connect(1));
        busy.write_all(&[0; 40]).unwrap();
        quiet.write_all(&[0; 5]).unwrap();
        while fixture.poller.in_line() < 2 {
            fixture.poller.look().unwrap();
        }

        let read = [fixture.bytes(), fixture.bytes(), fixture.bytes(), fixture.bytes()];

        // Which of the two is first is the operating system's to say.
        let mut first = [read[0], read[1]];
        first.sort_unstable();
        assert_eq!((first, read[2], read[3]), ([(0, 16), (1, 5)], (0, 16), (0, 8)));
        assert!(fixture.read().is_none());
    });
}

pub(crate) fn what_comes_during_a_pause_is_read_after_it<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let mut peer = fixture.connect(0);
        peer.write_all(b"one").unwrap();
        fixture.look().await;
        assert_eq!(fixture.bytes(), (0, 3));
        fixture.poller.pause(0);
        peer.write_all(b"three").unwrap();
        fixture.poller.ready().await;
        fixture.poller.look().unwrap();
        assert_eq!(fixture.poller.in_line(), 0);

        fixture.poller.resume(0);

        assert_eq!(fixture.bytes(), (0, 5));
    });
}

pub(crate) fn what_was_left_before_a_pause_is_read_after_it<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(4);
        let mut peer = fixture.connect(0);
        peer.write_all(b"one two").unwrap();
        fixture.look().await;
        assert_eq!(fixture.bytes(), (0, 4));
        fixture.poller.pause(0);
        assert!(fixture.read().is_none());

        fixture.poller.resume(0);

        assert_eq!(fixture.bytes(), (0, 3));
    });
}

pub(crate) fn a_blocked_socket_is_told_when_it_has_room<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let mut peer = fixture.connect(0);
        let socket = fixture.poller.get_mut(0).unwrap();
        let mut written = 0;
        let error = loop {
            match socket.stream().write(&[0; 65536]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        socket.block();
        fixture.poller.look().unwrap();
        assert_eq!(fixture.poller.next_writable(), None);

        peer.read_exact(&mut vec![0; written]).unwrap();
        while fixture.poller.get(0).unwrap().is_blocked() {
            fixture.poller.ready().await;
            fixture.poller.look().unwrap();
        }

        assert_eq!(fixture.poller.next_writable(), Some(0));
        assert_eq!(fixture.poller.next_writable(), None);
    });
}

pub(crate) fn every_arrival_is_announced<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let mut peers = [fixture.connect(0), fixture.connect(1)];
        for round in 0..100 {
            let index = round % 2;
            peers[index].write_all(b"x").unwrap();
            fixture.look().await;
            assert_eq!(fixture.bytes(), (index, 1));
        }
    });
}

pub(crate) fn a_wait_that_is_given_up_loses_nothing<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let mut peer = fixture.connect(0);
        while !fixture.poller.is_idle() {
            fixture.poller.look().unwrap();
        }
        {
            let mut wait = pin!(fixture.poller.ready());
            let waits = poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_pending()));
            let _ = waits.await;
            peer.write_all(b"x").unwrap();
        }

        fixture.look().await;

        assert_eq!(fixture.bytes(), (0, 1));
    });
}

pub(crate) fn an_index_is_free_again_after_its_socket<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let mut gone = fixture.connect(0);
        gone.write_all(b"x").unwrap();
        fixture.look().await;
        assert_eq!(fixture.poller.remove(0), Some(()));
        let mut peer = fixture.connect(0);
        assert!(fixture.read().is_none(), "that was the other's");

        peer.write_all(b"yes").unwrap();
        fixture.look().await;

        assert_eq!(fixture.bytes(), (0, 3));
        assert_eq!(gone.read(&mut [0; 8]).unwrap_or_default(), 0, "still open");
    });
}

pub(crate) fn a_socket_tells_when_it_is_connected<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        let address = fixture.listener.local_addr().unwrap();
        fixture.poller.connect(3, address, ()).unwrap();
        assert!(fixture.poller.get(3).unwrap().is_blocked());

        assert!(fixture.outcome(3).await.unwrap());

        let (mut peer, _) = fixture.listener.accept().unwrap();
        fixture.poller.get(3).unwrap().stream().write_all(b"one").unwrap();
        peer.read_exact(&mut [0; 3]).unwrap();
        peer.write_all(b"four").unwrap();
        fixture.look().await;
        assert_eq!(fixture.bytes(), (3, 4));
    });
}

pub(crate) fn a_socket_tells_why_it_is_not_connected<R: Runtime>() {
    run::<R>(async {
        let mut fixture = Fixture::<R>::new(64);
        // Bound and not listening, so that nobody else gets the port.
        let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        nobody.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = nobody.local_addr().unwrap().as_socket().unwrap();
        fixture.poller.connect(0, address, ()).unwrap();

        let error = fixture.outcome(0).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        fixture.poller.remove(0);
        assert_eq!(fixture.poller.next_writable(), None);
    });
}

pub(crate) fn a_socket_that_has_found_itself_is_refused<R: Runtime>() {
    run::<R>(async {
        // A port that nobody listens at and that is given out again: Linux connects the socket to itself.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.connect(&socket.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut fixture = Fixture::<R>::new(64);
        fixture.poller.add(0, TcpStream::from_std(socket.into()), ()).unwrap();

        let error = fixture.poller.get(0).unwrap().is_connected().unwrap_err();

        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

pub(crate) fn newcomers_are_announced_once<R: Runtime>() {
    run::<R>(async {
        let mut poller = Poller::<(), R::Waiter>::new().unwrap();
        let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        poller.listen(&mut listener).unwrap();
        assert!(!poller.takes_newcomers());
        let _peer = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        poller.ready().await;
        poller.look().unwrap();

        assert!(poller.takes_newcomers());

        assert!(listener.accept().is_ok());
        poller.look().unwrap();
        assert!(!poller.takes_newcomers());
    });
}

/// How much more is allocated for 110 waits than for 10.
pub(crate) fn allocations_of_100_waits<R: Runtime>() -> u64 {
    let allocations = |waits: usize| {
        let counted = allocation_counter::measure(|| {
            run::<R>(async {
                let mut fixture = Fixture::<R>::new(64);
                let mut peer = fixture.connect(0);
                for _ in 0..waits {
                    peer.write_all(b"x").unwrap();
                    while fixture.poller.in_line() == 0 {
                        // A deadline that moves on, as those of connections do.
                        let deadline = Instant::now() + Duration::from_secs(3_600);
                        fixture.poller.ready_by(Some(deadline)).await;
                        fixture.poller.look().unwrap();
                    }
                    assert_eq!(fixture.bytes(), (0, 1));
                }
            });
        });
        counted.count_total
    };
    // What the runtime itself takes when it is new on a thread.
    allocations(10);

    let few = allocations(10);
    allocations(110) - few
}

/// Runs a test as a shard runs.
fn run<R: Runtime>(test: impl Future<Output = ()>) {
    R::run(test).unwrap();
}
