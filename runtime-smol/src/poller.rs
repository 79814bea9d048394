//! Many sockets behind one file that smol waits for as for a single socket: [`mahavishnu_driver::poller`] on smol.
//!
//! ```
//! use std::{io::{self, Write}, net::TcpStream as Client};
//! use mahavishnu_smol::poller::{Poller, Read, TcpListener};
//!
//! # fn main() -> io::Result<()> {
//! # smol::block_on(async {
//! let mut poller = Poller::new()?;
//! let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
//! poller.listen(&mut listener)?;
//! let _client = Client::connect(listener.local_addr()?)?.write_all(b"hello")?;
//! while !poller.takes_newcomers() {
//!     poller.ready().await;
//!     poller.look()?;
//! }
//! let (stream, address) = listener.accept()?;
//! poller.add(0, stream, address)?;
//! # Ok(())
//! # })
//! # }
//! ```

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use mahavishnu_driver::Descriptor;
use smol::{Async, Timer};

pub use mahavishnu_driver::poller::{Read, Socket, TcpListener, TcpStream};

/// The sockets of one task. `T` is what each belongs to.
pub type Poller<T> = mahavishnu_driver::poller::Poller<T, Waiter>;

/// How a task on smol waits for a poller and for a moment.
#[derive(Debug)]
pub struct Waiter {
    descriptor: Async<Descriptor>,
    alarm: Timer,
}

impl mahavishnu_driver::Waiter for Waiter {
    fn new(descriptor: Descriptor) -> io::Result<Self> {
        Ok(Self { descriptor: Async::new_nonblocking(descriptor)?, alarm: Timer::never() })
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // The method that is a future itself would allocate, so that several tasks can wait.
        let _ = ready!(self.descriptor.poll_readable(context));
        Poll::Ready(())
    }

    fn set_alarm(&mut self, at: Instant) {
        self.alarm.set_at(at);
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.alarm).poll(context).map(drop)
    }
}
