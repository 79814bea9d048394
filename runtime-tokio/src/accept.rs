//! Accepting: one shard listens and gives each socket to the shard that has the fewest, those on their way included.

use std::{rc::Rc, time::Duration};

use mahavishnu_core::hub::Listener;
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use tracing::warn;

use crate::{handle::Mail, shard::Shard};

/// Pause where accepting at once again would only repeat what was: no file descriptor is free, or no shard takes sockets in.
const PAUSE: Duration = Duration::from_millis(100);

/// The tasks that accept, until the shard stops listening.
#[derive(Debug, Default)]
pub(crate) struct Listening(Vec<JoinHandle<()>>);

impl Listening {
    pub(crate) fn add(&mut self, task: JoinHandle<()>) {
        self.0.push(task);
    }

    /// Closes the listening sockets: clients that come now are refused by the operating system and try elsewhere.
    pub(crate) fn stop(&mut self) {
        self.0.drain(..).for_each(|task| task.abort());
    }
}

/// Accepts until it is aborted.
pub(crate) async fn run(shard: Rc<Shard>, listener: std::net::TcpListener, kind: Listener) {
    let listener = match TcpListener::from_std(listener) {
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
                sleep(PAUSE).await;
                continue;
            }
        };
        let fewest = || shard.mailboxes.iter().enumerate().min_by_key(|(_, to)| to.load());
        while fewest().is_some_and(|(_, to)| to.is_crowded()) {
            sleep(PAUSE).await;
        }
        match fewest() {
            Some((index, to)) if index != shard.index() => match stream.into_std() {
                Ok(stream) => {
                    to.expect_socket();
                    to.pass(Mail::Socket(stream, address, kind));
                }
                Err(error) => warn!(%error, "socket lost"),
            },
            _ => shard.add(stream, address, kind),
        }
    }
}
