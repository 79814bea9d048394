//! What comes from Redis.

use std::time::Duration;

use bytes::Bytes;
use mahavishnu_core::{
    hub::{BusCommand, BusError, BusEvent, ChannelEvent, Live, NodeEvent},
    time::Now,
};

use super::{
    CLOSED, Link, answers,
    calls::{Call, What},
    pipe::Fault,
    prepare::Step,
};
use crate::{
    redis::{
        live::{self, ForAll},
        replies::{self, Odd, Refusal},
    },
    resp::{Broken, Frame},
    stats::{ErrorClass, Outage},
};

impl Link {
    /// Takes in all frames that have come.
    pub(super) fn handle_frames(&mut self, now: Now) {
        while let Some(pipe) = &mut self.pipe {
            match pipe.next() {
                Ok(Some(Frame::Push(push))) => self.handle_push(now, &push),
                Ok(Some(frame)) => self.handle_reply(now, &frame),
                Ok(None) => return,
                Err(fault) => self.break_off(now, fault),
            }
        }
    }

    /// Nothing more can come of this connection.
    pub(super) fn break_off(&mut self, now: Now, fault: Fault) {
        match fault {
            Fault::Tls(cause) => self.miss(now, Outage::Tls, &cause),
            Fault::Closed => self.miss(now, Outage::Eof, CLOSED),
            Fault::Resp(Broken::Format) => {
                self.miss(now, Outage::Broken, "it does not speak RESP3")
            }
            Fault::Resp(Broken::Long) => self.miss(now, Outage::Broken, "a reply is too long"),
            Fault::Resp(Broken::Deep) => self.miss(now, Outage::Broken, "a reply is too deep"),
        }
    }

    fn handle_push(&mut self, now: Now, push: &[Frame]) {
        // Nothing was subscribed to before.
        if !self.is_up() {
            return;
        }
        match push.first().and_then(replies::text) {
            Some("smessage") => {
                if let Some((channel, message)) = answers::message(push) {
                    self.handle_message(now, channel, message);
                }
            }
            Some("sunsubscribe") => match self.unsubscribing.checked_sub(1) {
                Some(rest) => self.unsubscribing = rest,
                // A slot has moved: live messages would come no more.
                None => self.miss(now, Outage::Elsewhere, "it has ended a subscription"),
            },
            _ => {}
        }
    }

    fn handle_message(&mut self, now: Now, channel: &str, message: &Bytes) {
        self.stats.live += 1;
        if channel == self.requests.live_link() {
            if let Some(token) = live::probe(message) {
                self.probes.returned(now.mono, token);
            }
        } else if channel == self.requests.live_control() {
            match live::for_all(message) {
                Some(ForAll::Command { before, id, command }) => {
                    self.control.live(before, id, command, &mut self.events);
                }
                Some(ForAll::Told(message)) => {
                    self.events.push_back(BusEvent::Node(NodeEvent::Told { message }));
                }
                None => self.stats.poison += 1,
            }
        } else if let Some(channel) =
            self.requests.names().channel(channel).and_then(|name| self.follows.channel(name))
        {
            let (channel, live) = (channel.clone(), live::live(message));
            self.stats.poison += u64::from(live == Live::Poison);
            self.events.push_back(BusEvent::Channel(ChannelEvent::Live { channel, live }));
        }
    }

    fn handle_reply(&mut self, now: Now, frame: &Frame) {
        let refusal = Refusal::of(frame);
        if let (Some(refusal), Some(What::Marker)) =
            (&refusal, self.calls.front().map(|it| &it.what))
        {
            // Of the subscription, or of the `PING` behind it: without either one is deaf.
            self.count(refusal);
            let outage = outage_of(refusal.class);
            return self.miss(now, outage, &refusal.text);
        }
        let Some(call) = self.calls.take() else {
            return self.miss(now, Outage::Broken, "it answers what was not asked");
        };
        match refusal {
            Some(refusal) => self.refused(now, call, frame, &refusal),
            None => self.answered(now, call, frame),
        }
    }

    fn answered(&mut self, now: Now, call: Call, frame: &Frame) {
        self.calls.settle(&call);
        let fits = match call.what {
            What::Hello => {
                self.greeted(now, frame);
                return;
            }
            What::Primary => {
                self.directed(now, frame);
                return;
            }
            What::Prepare(step) => {
                self.prepared(now, step, frame);
                return;
            }
            What::Marker => Ok(()),
            What::Load(script) => replies::sha(frame).map(|sha| self.requests.loaded(script, sha)),
            What::Bus(command) => self.done(now, &command, frame),
            What::Ask(ask) => match replies::standings(frame, ask.channels.len(), ask.newest) {
                Ok(stands) => {
                    let full = self.full.is_some();
                    self.follows.answered(now.mono, ask, stands, full, &mut self.events);
                    Ok(())
                }
                Err(odd) => {
                    self.follows.refused(ask);
                    Err(odd)
                }
            },
            What::Probe(token) => {
                self.probes.taken(now.mono, token);
                // It was a write.
                self.full = None;
                replies::listeners(frame).map(|_| ())
            }
            What::Commands => match replies::commands(frame) {
                Ok(commands) => {
                    self.control.read(commands, &mut self.events);
                    Ok(())
                }
                Err(odd) => {
                    self.control.failed();
                    Err(odd)
                }
            },
        };
        self.calls.relieve();
        if fits.is_err() {
            self.puzzled(now);
        }
    }

    fn done(&mut self, now: Now, command: &BusCommand, frame: &Frame) -> Result<(), Odd> {
        match answers::done(command, frame) {
            Ok(event) => {
                if let (
                    BusCommand::Append(append),
                    Some(BusEvent::Channel(ChannelEvent::Appended { result: Ok(made), .. })),
                ) = (command, &event)
                    && !made.repeated
                {
                    self.follows.renewed(now.mono, &append.channel, append.retention);
                }
                self.events.extend(event);
                Ok(())
            }
            Err(odd) => {
                self.answer(command, BusError::Unknown);
                Err(odd)
            }
        }
    }

    /// A reply of a shape that it should not have. Should there be several, then this is not what it was taken for.
    fn puzzled(&mut self, now: Now) {
        self.stats.poison += 1;
        let (count, since) = self.odd;
        let fresh = now.mono.saturating_duration_since(since) > ODD_TIME;
        self.odd = if fresh { (1, now.mono) } else { (count + 1, since) };
        if self.odd.0 >= ODD_MAX {
            self.odd = (0, now.mono);
            self.miss(now, Outage::Poison, "its replies are not what was asked for");
        }
    }

    fn count(&mut self, refusal: &Refusal) {
        if let Some(count) = self.stats.errors.get_mut(refusal.class as usize) {
            *count += 1;
        }
    }

    /// Redis has answered with an error.
    fn refused(&mut self, now: Now, call: Call, frame: &Frame, refusal: &Refusal) {
        if !is_optional(&call.what) {
            self.count(refusal);
        }
        match call.what {
            What::Hello | What::Primary => {
                self.calls.settle(&call);
                let outage = if refusal.class == ErrorClass::Poison {
                    Outage::Refused
                } else {
                    outage_of(refusal.class)
                };
                self.miss(now, outage, &refusal.text);
            }
            What::Prepare(step) => {
                self.calls.settle(&call);
                self.prepared(now, step, frame);
            }
            What::Bus(_)
            | What::Ask(_)
            | What::Marker
            | What::Probe(_)
            | What::Commands
            | What::Load(_) => {
                self.refused_when_up(now, call, refusal);
            }
        }
    }

    fn refused_when_up(&mut self, now: Now, mut call: Call, refusal: &Refusal) {
        match refusal.class {
            ErrorClass::Script if call.repeats < REPEATS_MAX => {
                call.repeats += 1;
                self.repeat(now, call);
            }
            ErrorClass::Wait => self.calls.park(now.mono, call),
            ErrorClass::Elsewhere | ErrorClass::Refused => {
                self.give_up(call, BusError::Away);
                self.miss(now, outage_of(refusal.class), &refusal.text);
            }
            ErrorClass::Full => {
                self.full = refusal.full();
                self.give_up(call, BusError::Full);
            }
            ErrorClass::Script | ErrorClass::Poison => {
                let internal = !matches!(call.what, What::Bus(_));
                self.give_up(call, BusError::Failed);
                if internal {
                    self.puzzled(now);
                }
            }
        }
    }

    /// Redis has forgotten the script of a call.
    fn repeat(&mut self, now: Now, call: Call) {
        if let Some(script) = Self::script(&call.what)
            && !self.calls.is_loading(script)
        {
            let load = self.calls.make(What::Load(script), 0);
            self.write(now, load);
        }
        self.send(now, call);
    }

    /// A call was not done, and is not asked for again.
    fn give_up(&mut self, call: Call, error: BusError) {
        self.calls.settle(&call);
        match call.what {
            What::Bus(command) => self.answer(&command, error),
            What::Ask(ask) => self.follows.refused(ask),
            What::Probe(token) => self.probes.refused(token),
            What::Commands => self.control.failed(),
            What::Marker | What::Load(_) | What::Hello | What::Primary | What::Prepare(_) => {}
        }
    }
}

/// Whether it is as well if Redis refuses it: rights may be few, and Redis older than a command.
fn is_optional(what: &What) -> bool {
    use Step::{Eviction, Info, Kill, NoEvict, Other, OutputBuffer};
    matches!(what, What::Prepare(Kill | Info | NoEvict | Other | Eviction | OutputBuffer))
}

/// What becomes of a connection on which something that it needs is answered so.
fn outage_of(class: ErrorClass) -> Outage {
    match class {
        ErrorClass::Elsewhere | ErrorClass::Wait => Outage::Elsewhere,
        ErrorClass::Refused => Outage::Refused,
        ErrorClass::Script | ErrorClass::Full | ErrorClass::Poison => Outage::Poison,
    }
}

/// Replies of a shape that they should not have, in such a time, before the connection is given up.
const ODD_MAX: u32 = 3;
const ODD_TIME: Duration = Duration::from_secs(60);
/// How often a call is repeated because its script was forgotten.
const REPEATS_MAX: u8 = 3;
