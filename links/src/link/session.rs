//! From a connection to a link that is up, and what it asks for by itself.

use std::time::Duration;

use mahavishnu_core::{
    hub::{BusCommand, BusEvent, LinkEvent},
    time::Now,
};

use super::{
    Link, Phase,
    calls::{Call, What},
    follows::Ask,
    prepare::{self, Findings, Step, Useless, Verdict},
};
use crate::{
    Servers,
    redis::{replies, request, request::Sha, scripts::Script},
    resp::{Arg, Frame, command},
    stats::{Outage, Sent},
};

impl Link {
    /// The first words on a connection.
    pub(super) fn say_hello(&mut self, now: Now) {
        let asking = self.finder.is_asking();
        let Some(pipe) = &mut self.pipe else { return };
        pipe.write(|out| prepare::hello(out, &self.config, self.shard, asking));
        let hello = self.calls.make(What::Hello, 0);
        self.stats.count_command(Sent::Connect);
        self.calls.owe(now.mono, hello);
        if let (true, Servers::Sentinel { master, .. }) = (asking, &self.config.servers) {
            let args = ["SENTINEL".into(), "GET-MASTER-ADDR-BY-NAME".into(), Arg::from(&**master)];
            pipe.write(|out| command(out, &args));
            let primary = self.calls.make(What::Primary, 0);
            self.stats.count_command(Sent::Connect);
            self.calls.owe(now.mono, primary);
        }
    }

    /// Whoever is there has said who it is.
    pub(super) fn greeted(&mut self, now: Now, frame: &Frame) {
        if let Some(pipe) = &mut self.pipe {
            pipe.scrub();
        }
        if self.finder.is_asking() {
            return;
        }
        match prepare::greeted(frame) {
            Ok(findings) => self.prepare(now, findings),
            Err(Useless { outage, cause }) => self.miss(now, outage, &cause),
        }
    }

    /// A Sentinel has said where the primary is.
    pub(super) fn directed(&mut self, now: Now, frame: &Frame) {
        let address = match frame.as_array() {
            Some([host, port]) => replies::text(host).zip(replies::text(port)),
            _ => None,
        };
        let address = address.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = address else {
            return self.miss(now, Outage::Resolve, "it knows no primary of this name");
        };
        let action = self.finder.told(host, port);
        self.close();
        self.fall(now);
        self.go(now, action);
    }

    /// Everything that is done first, in one write.
    pub(super) fn prepare(&mut self, now: Now, mut findings: Findings) {
        let Some(pipe) = &mut self.pipe else { return };
        let (names, db) = (self.requests.names(), self.config.db);
        let mut steps = Vec::new();
        pipe.write(|out| steps = prepare::steps(out, names, db, self.previous.as_ref()));
        findings.expect(steps.len());
        self.phase = Phase::Preparing(Box::new(findings));
        self.owe_steps(now, steps);
    }

    fn owe_steps(&mut self, now: Now, steps: Vec<Step>) {
        for step in steps {
            let call = self.calls.make(What::Prepare(step), 0);
            self.stats.count_command(Sent::Connect);
            self.calls.owe(now.mono, call);
        }
    }

    /// A reply to something that is done first.
    pub(super) fn prepared(&mut self, now: Now, step: Step, frame: &Frame) {
        let Phase::Preparing(findings) = &mut self.phase else { return };
        findings.take(step, frame);
        match findings.judge() {
            Verdict::Open => {}
            Verdict::Found => {
                let Some(pipe) = &mut self.pipe else { return };
                let names = self.requests.names();
                let mut steps = Vec::new();
                pipe.write(|out| steps = prepare::founding(out, names, now));
                findings.expect(steps.len());
                self.owe_steps(now, steps);
            }
            Verdict::Wait => {
                let cause = findings.wait.take().unwrap_or_default();
                let findings = Box::new(findings.again());
                self.phase = Phase::Waiting(findings, now.mono + WAIT);
                self.cause = Some(self.describe(&cause));
            }
            Verdict::Useless(Useless { outage, cause }) => self.miss(now, outage, &cause),
            Verdict::Ready(shas) => self.rise(now, shas),
        }
    }

    /// The link is up.
    fn rise(&mut self, now: Now, shas: Vec<(Script, Sha)>) {
        if let Phase::Preparing(findings) = std::mem::replace(&mut self.phase, Phase::Up(now.mono))
        {
            self.previous = findings.client;
            self.redis = Some(findings.redis);
        }
        for (script, sha) in shas {
            self.requests.loaded(script, sha);
        }
        self.stats.sessions += 1;
        self.events.push_back(BusEvent::Link(LinkEvent::Up { session: self.stats.sessions }));
        self.follows.restart(now.mono, &mut self.entropy);
        self.probes.restart();
        self.control.restart();
        let (link, all) = (self.requests.live_link(), self.requests.live_control());
        let names =
            if self.control.is_told() { vec![link.into(), all.into()] } else { vec![link.into()] };
        self.subscribe(now, "SSUBSCRIBE", &names);
        self.probe(now);
        self.next_tick = now.mono + self.config.limits.probe_interval;
        self.plan_check(now);
    }

    /// When it is next asked where everything stands: between a half and one and a half of the time, so that nodes that
    /// came up together do not ask together.
    pub(super) fn plan_check(&mut self, now: Now) {
        let interval = self.config.limits.standing_interval;
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        self.next_check = now.mono + interval / 2 + Duration::from_nanos(self.entropy.below(nanos));
    }

    pub(super) fn probe(&mut self, now: Now) {
        if let Some(token) = self.probes.begin(now.mono, &mut self.entropy) {
            let call = self.calls.make(What::Probe(token), 0);
            self.send(now, call);
        }
    }

    /// Asks where channels stand, as many batches at a time as may be.
    pub(super) fn ask_standings(&mut self, now: Now) {
        while self.is_up() {
            let Some(ask) = self.follows.next_ask(&self.config.limits, &mut self.entropy) else {
                break;
            };
            if ask.subscribe {
                let names = self.requests.names();
                let names: Vec<_> =
                    ask.channels.iter().map(|channel| names.live(channel)).collect();
                self.subscribe(now, "SSUBSCRIBE", &names);
            }
            let call = self.calls.make(What::Ask(ask), 0);
            self.send(now, call);
        }
    }

    /// Asks what was told to all nodes, if that is not known.
    pub(super) fn ask_commands(&mut self, now: Now) {
        if self.is_up() && self.control.is_due() {
            let call = self.calls.make(What::Commands, 0);
            self.send(now, call);
        }
    }

    /// All that was to be told is told.
    pub(super) fn reconcile(&mut self) {
        if self.is_up() && !self.reconciled && self.follows.is_told() && self.control.is_current() {
            self.reconciled = true;
            self.events.push_back(BusEvent::Link(LinkEvent::Reconciled));
        }
    }

    /// Not answered but by a push for each name, or by an error: which one that would be, a `PING` tells.
    pub(super) fn subscribe(&mut self, now: Now, verb: &'static str, names: &[String]) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut args = vec![Arg::from(verb)];
        args.extend(names.iter().map(Arg::from));
        let begin = pipe.write(|out| {
            command(out, &args);
            command(out, &["PING".into(), "s".into()]);
        });
        let mut marker = self.calls.make(What::Marker, 0);
        marker.begin = begin;
        self.stats.count_command(Sent::Subscribe);
        self.calls.owe(now.mono, marker);
    }

    pub(super) fn unsubscribe(&mut self, now: Now, channel: &str) {
        self.unsubscribing += 1;
        let name = self.requests.names().live(channel);
        self.subscribe(now, "SUNSUBSCRIBE", &[name]);
    }

    /// Writes what a call asks for, unless something is waited for.
    pub(super) fn send(&mut self, now: Now, call: Call) {
        if self.calls.is_parked() {
            self.calls.park(now.mono, call);
        } else {
            self.write(now, call);
        }
    }

    /// Writes what a call asks for.
    pub(super) fn write(&mut self, now: Now, mut call: Call) {
        let Some(pipe) = &mut self.pipe else { return };
        let requests = &self.requests;
        if !self.calls.is_owed() {
            self.heard = now.mono;
        }
        call.begin = match &call.what {
            What::Bus(command) => {
                let renew = matches!(command, BusCommand::Append(append)
                    if self.follows.is_renewal_due(now.mono, &append.channel, append.retention));
                pipe.write(|out| requests.bus(out, command, renew))
            }
            What::Ask(Ask { channels, found, newest, .. }) => {
                let newest = newest.then_some(self.config.limits.newest_bytes_max);
                match found {
                    Some(with) => pipe.write(|out| requests.found(out, channels, with, newest)),
                    None => pipe.write(|out| requests.standing(out, channels, newest)),
                }
            }
            What::Probe(token) => pipe.write(|out| requests.probe(out, *token)),
            What::Commands => {
                let after = self.control.after();
                pipe.write(|out| requests.commands(out, after, COMMANDS_MAX))
            }
            What::Load(script) => pipe
                .write(|out| command(out, &["SCRIPT".into(), "LOAD".into(), script.text().into()])),
            // Written by whoever makes them.
            What::Marker | What::Hello | What::Primary | What::Prepare(_) => return,
        };
        let sent = Self::script(&call.what).map_or(Sent::Load, Sent::Script);
        self.stats.count_command(sent);
        self.calls.owe(now.mono, call);
    }

    /// The script that a call runs.
    pub(super) fn script(what: &What) -> Option<Script> {
        match what {
            What::Bus(command) => request::script(command),
            What::Ask(ask) if ask.found.is_some() => Some(Script::Found),
            What::Ask(_) => Some(Script::Standing),
            What::Probe(_) => Some(Script::Probe),
            What::Commands => Some(Script::Commands),
            What::Marker | What::Load(_) | What::Hello | What::Primary | What::Prepare(_) => None,
        }
    }
}

/// Before Redis is asked again whether it is ready.
const WAIT: Duration = Duration::from_millis(200);
/// Of what was told to all nodes, so many entries are read at a time.
const COMMANDS_MAX: u32 = 64;
