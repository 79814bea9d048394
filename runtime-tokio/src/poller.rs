//! Many sockets behind one file that tokio waits for as for a single socket: [`mahavishnu_driver::poller`] on tokio.
//!
//! ```
//! use std::{io::{self, Write}, net::TcpStream as Client};
//! use mahavishnu_tokio::poller::{Poller, Read, TcpListener};
//!
//! # fn main() -> io::Result<()> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
//! # runtime.block_on(async {
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
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Sleep, sleep_until},
};

pub use mahavishnu_driver::poller::{Read, Socket, TcpListener, TcpStream};

/// The sockets of one task. `T` is what each belongs to. [`Poller::new`] is called within a runtime with I/O, and with time
/// where [`Poller::ready_by`] is given a deadline.
pub type Poller<T> = mahavishnu_driver::poller::Poller<T, Waiter>;

/// How a task on tokio waits for a poller and for a moment.
#[derive(Debug)]
pub struct Waiter {
    descriptor: AsyncFd<Descriptor>,
    /// One for all waits, from the first alarm on.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl mahavishnu_driver::Waiter for Waiter {
    fn new(descriptor: Descriptor) -> io::Result<Self> {
        Ok(Self { descriptor: watch(descriptor)?, alarm: None })
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if let Ok(mut guard) = ready!(self.descriptor.poll_read_ready(context)) {
            guard.clear_ready();
        }
        Poll::Ready(())
    }

    fn set_alarm(&mut self, at: Instant) {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().reset(at.into()),
            None => self.alarm = Some(Box::pin(sleep_until(at.into()))),
        }
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for types that give away a file which they do not own; this one owns it"
)]
fn watch(descriptor: Descriptor) -> io::Result<AsyncFd<Descriptor>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
