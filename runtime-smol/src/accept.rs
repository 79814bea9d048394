//! Accepting: one shard listens and gives each socket to the shard that has the fewest, those on their way included.

use std::{net::TcpListener, rc::Rc, time::Duration};

use mahavishnu_core::hub::Listener;
use smol::{Async, Task, Timer, future::yield_now};
use tracing::warn;

use crate::{handle::Mail, shard::Shard};

/// Pause where accepting at once again would only repeat what was: no file descriptor is free, or no shard takes sockets in.
const PAUSE: Duration = Duration::from_millis(100);

/// The tasks that accept, until the shard stops listening.
#[derive(Debug, Default)]
pub(crate) struct Listening(Vec<Task<()>>);

impl Listening {
    pub(crate) fn add(&mut self, task: Task<()>) {
        self.0.push(task);
    }

    /// Closes the listening sockets: clients that come now are refused by the operating system and try elsewhere.
    pub(crate) fn stop(&mut self) {
        self.0.clear();
    }
}

/// Accepts until its task is dropped.
pub(crate) async fn run(shard: Rc<Shard>, listener: TcpListener, kind: Listener) {
    let listener = match Async::new_nonblocking(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "cannot listen");
            return;
        }
    };
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept");
                Timer::after(PAUSE).await;
                continue;
            }
        };
        let fewest = || shard.mailboxes.iter().enumerate().min_by_key(|(_, to)| to.load());
        while fewest().is_some_and(|(_, to)| to.is_crowded()) {
            Timer::after(PAUSE).await;
        }
        match fewest() {
            // The reactor serves all threads, so the socket stays registered.
            Some((index, to)) if index != shard.index() => {
                to.expect_socket();
                to.pass(Mail::Socket(stream, address, kind));
            }
            _ => shard.add(stream, address, kind),
        }
        // While sockets queue up, accepting never waits: the others come in between.
        yield_now().await;
    }
}
