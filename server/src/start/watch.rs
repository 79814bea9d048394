//! Signs of life: that the thread which heeds signals runs, and that all shards take turns.

use std::{convert::Infallible, future::pending, thread, time::Duration};

use async_channel::{Receiver, bounded};
use mahavishnu_driver::{Handle, Pulse};
use tracing::{Span, error, warn};

use super::serve::first;
use crate::{exit::Failure, manager::Manager};

/// Looks now and then whether the servers are alive, and tells the service manager only if it is.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None`: nobody wants to know.
    ticks: Option<Receiver<()>>,
    interval: Duration,
    /// A question that not all shards have answered yet.
    pulse: Option<Vec<Pulse>>,
    /// Times that it was asked for in vain.
    late: u32,
}

/// A server that runs.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) handle: Handle,
    /// In which it logs.
    pub(super) span: Span,
}

impl Served {
    fn tell_missing(&self, seconds: f64, shards: &[u16]) {
        if !shards.is_empty() {
            let _entered = self.span.enter();
            error!(seconds, "no turn was taken by shards {shards:?}");
        }
    }
}

/// What was waited for.
enum Event {
    Tick,
    Complete,
}

impl Watch {
    /// Looks as often as the manager wants to hear.
    pub(super) fn new(manager: &Manager) -> Result<Self, Failure> {
        let interval = manager.interval();
        let ticks = interval.map(tick).transpose();
        let ticks = ticks.map_err(|error| Failure::io("thread for the watchdog", &error))?;
        Ok(Self { ticks, interval: interval.unwrap_or_default(), pulse: None, late: 0 })
    }

    /// Goes on for ever. It may be given up and called again.
    pub(super) async fn keep(&mut self, served: &[Served], manager: &Manager) -> Infallible {
        loop {
            let ticks = &self.ticks;
            let tick = async {
                match ticks {
                    Some(ticks) if ticks.recv().await.is_ok() => Event::Tick,
                    Some(_) | None => pending().await,
                }
            };
            let complete = async {
                match &mut self.pulse {
                    Some(pulses) => {
                        for pulse in pulses {
                            pulse.complete().await;
                        }
                    }
                    None => pending().await,
                }
                Event::Complete
            };
            match first(complete, tick).await {
                Event::Complete => {
                    self.pulse = None;
                    if std::mem::take(&mut self.late) > 1 {
                        warn!("all shards take turns again");
                    }
                    manager.alive(served.iter().map(|one| one.handle.sockets()).sum());
                }
                Event::Tick => match &mut self.pulse {
                    None => {
                        self.pulse = Some(served.iter().map(|one| one.handle.pulse()).collect())
                    }
                    Some(pulses) => {
                        self.late += 1;
                        let seconds = (self.interval * self.late).as_secs_f64();
                        // Once is what a busy machine does.
                        if self.late > 1 {
                            for (one, pulse) in served.iter().zip(pulses) {
                                one.tell_missing(seconds, &pulse.missing());
                            }
                        }
                    }
                },
            }
        }
    }
}

/// A thread that does nothing but to say that time has gone by: neither runtime's clock has to be had for it.
fn tick(interval: Duration) -> std::io::Result<Receiver<()>> {
    let (tell, ticks) = bounded(1);
    let run = move || {
        // Full: whoever is to look has not looked at the last one yet.
        while !tell.is_closed() {
            thread::sleep(interval);
            let _ = tell.try_send(());
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(run)?;
    Ok(ticks)
}
