//! What happened, for people.

use std::fmt::Write;

use mahavishnu_core::{hub::ConnId, reason::Reason};

use crate::{
    clock::{MILLI, Nanos},
    world::Event,
};

/// Lines of text, kept only if somebody wants them.
#[derive(Debug)]
pub(crate) struct Story {
    wanted: bool,
    pub(crate) text: String,
}

impl Story {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, text: String::new() }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub(crate) fn tell(&mut self, at: Nanos, event: &Event) {
        if self.wanted && !matches!(event, Event::Turn(_) | Event::Look | Event::Timer(_)) {
            let _ =
                writeln!(self.text, "{:>10}.{:03} ms  {event:?}", at / MILLI, at % MILLI / 1000);
        }
    }

    pub(crate) fn ended(&mut self, at: Nanos, hub: usize, conn: ConnId, reason: Reason) {
        if self.wanted {
            let index = conn.index();
            let _ =
                writeln!(self.text, "{:>10} ms  hub {hub}: {index} ended: {reason:?}", at / MILLI);
        }
    }

    pub(crate) fn say(&mut self, at: Nanos, text: &str) {
        if self.wanted {
            let _ = writeln!(self.text, "{:>10} ms  {text}", at / MILLI);
        }
    }
}
