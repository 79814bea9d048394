//! Signals of the operating system, as a server takes them.

use std::{future::pending, io};

use async_signal::Signal as Kind;
use smol::stream::StreamExt;

pub use mahavishnu_driver::signal::Signal;

/// The signals of this process, from now on.
#[derive(Debug)]
pub struct Signals(async_signal::Signals);

impl Signals {
    /// Takes the signals over from their default actions. May be called anywhere.
    pub fn new() -> io::Result<Self> {
        async_signal::Signals::new([Kind::Term, Kind::Int, Kind::Hup]).map(Self)
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        loop {
            match self.0.next().await {
                Some(Ok(Kind::Term | Kind::Int)) => return Signal::Terminate,
                Some(Ok(Kind::Hup)) => return Signal::Reload,
                // Nothing else was asked for, and an error says only that the next one has to be waited for.
                Some(Ok(_) | Err(_)) => {}
                None => pending().await,
            }
        }
    }
}
