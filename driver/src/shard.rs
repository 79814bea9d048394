//! One shard: a thread with a hub, its sockets and the turn.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Instant,
};

use async_channel::Sender;
use mahavishnu_core::{
    config::Config,
    hub::{Command, ConnId, Handler, Hub, Listener, Output, Peer, Place, ShardId, StoreEvent},
    metrics::{Metrics, describe},
    trace::Recorded,
    ws::ReadBuffer,
};
use mahavishnu_links::LinkConfig;
use tracing::{debug, error, warn};

use crate::{
    accept::{Listening, SETTLE},
    adopt::Adopting,
    app::{App, guard},
    audit,
    clock::Clock,
    link::Wire,
    listen::Open,
    mailbox::{Inbox, Mail, Mailbox, Waiting},
    owner::{Owner, place},
    poller::{Poller, TcpStream},
    recorder::with_installed,
    refusals,
    resolve::Resolver,
    runtime::Runtime,
    stepped::Time,
    store::ToStore,
};

/// Bytes read from one socket at a time, into one buffer that all sockets of a shard share. A publisher's burst that needs
/// two reads costs every subscriber two writes; but while one socket's bytes are worked on, the others wait.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Mails taken before the sockets get their turn.
const MAILS_PER_TURN: usize = 256;

/// A wall clock that was set by less is not worth a warning.
const NOTEWORTHY_LEAP: std::time::Duration = std::time::Duration::from_secs(5);

/// What a shard's thread is given.
#[derive(Debug)]
pub(crate) struct Start<R: Runtime> {
    pub(crate) config: Arc<Config>,
    pub(crate) place: Place,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) inbox: Inbox,
    pub(crate) app: App<R>,
    /// Non-empty on the shard that accepts.
    pub(crate) listeners: Vec<(Open, Listener)>,
    /// Somebody else keeps them open when the server stops.
    pub(crate) listeners_stay: bool,
    pub(crate) store: Option<ToStore>,
    /// What an earlier run has kept.
    pub(crate) kept: Vec<StoreEvent>,
    /// Where Redis is, and who looks names up.
    pub(crate) redis: Option<(Arc<LinkConfig>, Resolver)>,
    /// The clock, if it is not the machine's.
    pub(crate) time: Option<Time>,
}

/// A shard's state.
#[derive(Debug)]
pub(crate) struct Shard<R: Runtime> {
    pub(crate) hub: Recorded,
    metrics: Metrics,
    /// The recorder has not panicked.
    counts: bool,
    /// It was told what is counted, by the first shard.
    described: bool,
    /// The link's, and those of connections by their indices.
    pub(crate) sockets: Poller<Owner, R::Waiter>,
    pub(crate) scratch: ReadBuffer,
    pub(crate) listening: Listening,
    pub(crate) adopting: Adopting,
    listeners_stay: bool,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) clock: Clock,
    pub(crate) place: Place,
    /// The link to Redis, if there is one.
    pub(crate) wire: Option<Wire>,
    inbox: Inbox,
    waiting: Waiting,
    /// Who is told at the end of the turn that there was one.
    pulses: Vec<Sender<()>>,
    /// As many mails were taken as a turn takes: there may be more.
    has_mail: bool,
    drained: bool,
    /// When a drain is over whatever happens.
    pub(crate) drained_by: Option<Instant>,
    app: App<R>,
    store: Option<ToStore>,
    /// When the log is to be told of refusals that it was not told of at once.
    refusals_due: Option<Instant>,
}

/// Runs a shard until it is drained. Called on a thread of its own.
pub(crate) fn run<R: Runtime>(start: Start<R>) -> io::Result<()> {
    R::run(serve(start))?
}

/// The same as a future, which is polled where it began.
pub(crate) async fn serve<R: Runtime>(start: Start<R>) -> io::Result<()> {
    Shard::new(start)?.serve().await
}

impl<R: Runtime> Shard<R> {
    fn new(start: Start<R>) -> io::Result<Self> {
        let clock = Clock::new(start.time);
        let now = clock.now();
        let mut hub = Recorded::new(Hub::new(start.config, start.place, now));
        if start.app.records() {
            hub.start(now);
        }
        let sockets = Poller::new()?;
        let listening = Listening::new(&sockets, start.listeners)?;
        let wire =
            start.redis.map(|(config, resolver)| Wire::new(config, resolver, start.place, now));
        let mut this = Self {
            hub,
            clock,
            wire,
            metrics: Metrics::new(),
            counts: true,
            described: false,
            sockets,
            scratch: ReadBuffer::new(SCRATCH_BYTES),
            listening,
            adopting: Adopting::default(),
            listeners_stay: start.listeners_stay,
            mailboxes: start.mailboxes,
            inbox: start.inbox,
            waiting: Waiting::default(),
            pulses: Vec::new(),
            has_mail: false,
            drained: false,
            drained_by: None,
            place: start.place,
            app: start.app,
            store: start.store,
            refusals_due: None,
        };
        for event in start.kept {
            this.hub.handle_store(now, event);
        }
        this.record_metrics();
        Ok(this)
    }

    /// Waits for something to do, then does all of it at once.
    async fn serve(mut self) -> io::Result<()> {
        let mut next = None;
        while !self.drained {
            // Nothing else runs on this thread, so there is nobody to give way to while there is something to do.
            let waits = self.is_idle();
            if waits {
                let deadlines = [next, self.listening.deadline()];
                let deadline = deadlines.into_iter().flatten().min();
                self.wait(deadline.map(|at| self.clock.real(at))).await;
            }
            if let Some(missed) = self.clock.excuse(next) {
                warn!(
                    shard = self.place.shard.0,
                    seconds = missed.as_secs_f64(),
                    "did not run: deadlines wait for so long"
                );
            }
            let has_mail = self.take_mail();
            self.look_at_backlog();
            self.sockets.look()?;
            if !waits && !has_mail && self.is_idle() {
                // One more look that brought nothing is nothing to take a turn for.
                continue;
            }
            self.write_on();
            self.read_all();
            if self.hub.hub().gathers() {
                self.sockets.look()?;
                self.read_all();
            }
            // Behind reading, however long that took: a deadline must not end who has not been read once.
            self.accept();
            next = self.turn();
        }
        self.part_from_redis().await?;
        self.let_hear().await
    }

    fn is_idle(&self) -> bool {
        let stirred = self.wire.as_ref().is_some_and(Wire::is_stirred);
        self.sockets.is_idle() && !self.has_mail && !self.listening.is_waiting() && !stirred
    }

    /// Waits until a socket, a mail or a moment makes a turn worth taking.
    pub(crate) async fn wait(&mut self, deadline: Option<Instant>) {
        let Self { sockets, inbox, .. } = self;
        poll_fn(|context| {
            let rings = sockets.poll_ready(context).is_ready()
                || inbox.poll_mail(context).is_ready()
                || sockets.poll_alarm(context, deadline).is_ready();
            if rings { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        inbox.mute();
    }

    /// Takes commands, sockets and other shards' messages. Whether there were any.
    pub(crate) fn take_mail(&mut self) -> bool {
        for taken in 0..MAILS_PER_TURN {
            let Some(mail) = self.inbox.take() else {
                self.has_mail = false;
                return taken > 0;
            };
            self.open_mail(mail);
        }
        // However much there is from inside, the application gets a word in.
        if let Some(mail) = self.inbox.take_command() {
            self.open_mail(mail);
        }
        self.has_mail = true;
        true
    }

    /// A socket was accepted for this shard. `None` if it is over already.
    pub(crate) fn add(
        &mut self,
        stream: TcpStream,
        address: SocketAddr,
        listener: Listener,
    ) -> Option<ConnId> {
        // Small messages must not wait for each other (Nagle); a socket without the option still works.
        let _ = stream.set_nodelay(true);
        let accepted = self.hub.handle_accept(self.clock.now(), Peer { address, listener });
        if let Err(reason) = accepted {
            debug!(%address, reason = reason.name(), "socket refused");
        }
        let conn = accepted.ok().filter(|conn| {
            let added = self.sockets.add(place(*conn), stream, Owner::Conn(*conn));
            if let Err(error) = &added {
                debug!(%address, %error, "socket lost");
                self.fail(*conn, error);
            }
            added.is_ok()
        });
        self.count_sockets();
        conn
    }

    pub(crate) fn count_sockets(&self) {
        if let Some(own) = self.own_mailbox() {
            own.sockets.store(self.hub.hub().sockets(), Ordering::Relaxed);
        }
    }

    /// This shard's number.
    pub(crate) fn index(&self) -> usize {
        usize::from(self.place.shard.0)
    }

    fn own_mailbox(&self) -> Option<&Mailbox> {
        self.mailboxes.get(self.index())
    }

    fn open_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Command(mut command) => {
                if let Command::Drain(plan) = &mut command
                    && !self.hub.hub().is_draining()
                {
                    if self.listeners_stay && self.drained_by.is_none() && !plan.deadline.is_zero()
                    {
                        // Who comes now waits for the next server; who has come is served still.
                        self.listening.stop_at(self.clock.now().mono.checked_add(plan.notice));
                        plan.notice = plan.notice.saturating_add(SETTLE);
                    }
                    // One too far away for the clock is no end.
                    let by =
                        self.clock.instant().checked_add(plan.notice.saturating_add(plan.deadline));
                    self.drained_by = self.drained_by.into_iter().chain(by).min();
                }
                self.hub.handle_command(self.clock.now(), command);
                self.heed_drain();
            }
            Mail::Broadcast(publication, answer) => {
                let id = Some(self.waiting.add(answer));
                self.hub.handle_command(self.clock.now(), Command::Publish { id, publication });
            }
            Mail::Revoke(revocation, answer) => {
                let id = Some(self.waiting.add(answer));
                self.hub.handle_command(self.clock.now(), Command::Revoke { id, revocation });
            }
            Mail::Look(channel, look, seen) => {
                let id = self.waiting.add_look(seen);
                self.hub.handle_command(self.clock.now(), Command::Look { id, channel, look });
            }
            Mail::Sessions { of, limit, after, answer } => {
                let id = self.waiting.add_page(answer);
                let command = Command::Sessions { id, of, limit, after };
                self.hub.handle_command(self.clock.now(), command);
            }
            Mail::EndSessions(of, answer) => {
                let id = Some(self.waiting.add(answer));
                self.hub.handle_command(self.clock.now(), Command::EndSessions { id, of });
            }
            Mail::About(about, outcome) => {
                let id = self.waiting.add_outcome(outcome);
                self.hub.handle_command(self.clock.now(), about.into_command(id));
            }
            Mail::SendEverywhere(user, message, answer) => {
                let id = Some(self.waiting.add(answer));
                let command = Command::SendEverywhere { id, user, message };
                self.hub.handle_command(self.clock.now(), command);
            }
            Mail::Dismiss(whom, how, answer) => {
                let id = Some(self.waiting.add(answer));
                self.hub.handle_command(self.clock.now(), Command::Dismiss { id, whom, how });
            }
            Mail::Socket(stream, address, listener) => {
                let _ = self.add(stream, address, listener);
                if let Some(own) = self.own_mailbox() {
                    own.took_socket();
                }
            }
            Mail::Adopt(ask) => self.adopt(*ask),
            Mail::Attach(conn, stream, early) => self.attach(conn, stream, early),
            Mail::Abandon(conn) => self.abandon(conn),
            Mail::Adopted(stream, read, peer) => self.adopt_socket(stream, read, peer),
            Mail::Resolved(number, resolved) => {
                let now = self.clock.now();
                if let Some(wire) = &mut self.wire {
                    wire.resolved(now, number, resolved);
                }
            }
            Mail::Redis(config) => {
                let now = self.clock.now();
                if let Some(wire) = &mut self.wire {
                    wire.reload(now, config);
                }
            }
            Mail::Pulse(tell) => self.pulses.push(tell),
            Mail::Shard(from, batch) => self.hub.handle_shard(self.clock.now(), from, batch),
            Mail::Store(events) => {
                for event in events {
                    self.hub.handle_store(self.clock.now(), event);
                }
            }
        }
    }

    /// Who stops listens no more: clients that come now are refused by the operating system and try elsewhere.
    fn heed_drain(&mut self) {
        if self.hub.hub().is_draining() {
            self.listening.stop();
        }
    }

    /// One turn: timers, outputs, one write for each connection that has something, and one for Redis; see the core's
    /// contract and the link's. Returns when the next timer is due.
    fn turn(&mut self) -> Option<Instant> {
        self.wind_link();
        let now = self.clock.now();
        self.hub.handle_timeout(now);
        self.heed_drain();
        loop {
            while let Some(output) = self.hub.poll_output(now) {
                self.carry_out(output);
            }
            let mut flushed = false;
            while let Some(conn) = self.hub.poll_dirty() {
                flushed = true;
                self.flush(now, conn);
            }
            if !flushed {
                break;
            }
        }
        self.flush_link();
        self.hub.end_turn(self.clock.now());
        self.tell_refusals();
        self.record_metrics();
        if self.app.traces() {
            let spans = self.hub.take_spans();
            self.app.tell_spans(self.place.shard, spans);
        }
        if self.app.records() && self.app.record(self.place.shard, &self.hub.take()) {
            self.hub.stop();
            self.hub.handle_command(self.clock.now(), Command::Failed(Handler::Record));
        }
        for tell in self.pulses.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = tell.try_send(());
        }
        let hub = self.hub.poll_timeout().map(|next| next.at);
        let link = self.wire.as_ref().and_then(Wire::deadline);
        hub.into_iter().chain(link).chain(self.refusals_due).min()
    }

    /// Tells the log what was refused: at once, or when it may be told again.
    fn tell_refusals(&mut self) {
        let tally = self.hub.tally();
        let now = self.clock.now().mono;
        if tally.has_refusals() {
            self.refusals_due = refusals::tell(now, tally.take_refusals());
        } else if self.refusals_due.is_some_and(|due| due <= now) {
            self.refusals_due = refusals::tell(now, Vec::new());
        }
    }

    /// Hands what the hub has counted to the recorder that the application has installed.
    fn record_metrics(&mut self) {
        let now = self.clock.now().mono;
        let Self { hub, wire, metrics, counts: true, described, place, .. } = self else { return };
        // The recorder is the application's, too.
        let recorded = guard(|| {
            with_installed(|recorder| {
                if !std::mem::replace(described, true) && place.shard == ShardId(0) {
                    describe(recorder);
                }
                metrics.record(recorder, now, hub.tally());
                if let Some(wire) = wire {
                    wire.record_metrics(recorder, &hub.hub().config().service.label);
                }
            })
        });
        if recorded.is_err() {
            error!(
                shard = self.place.shard.0,
                "the recorder of metrics panicked: this shard gives it nothing more"
            );
            self.counts = false;
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Shard { to, batch } => {
                if let Some(mailbox) = self.mailboxes.get(usize::from(to.0)) {
                    mailbox.pass(Mail::Shard(self.place.shard, batch));
                }
            }
            Output::Done { id, result } => self.waiting.done(id, result),
            Output::Looked { id, result } => self.waiting.seen(id, result),
            Output::Sessions { id, page } => self.waiting.paged(id, page),
            Output::Handled { id, result } => self.waiting.handled(id, result),
            Output::Audit { audit, result } => audit::log(&audit, result),
            Output::ClockSet { by, forward } => {
                let (seconds, direction) =
                    (by.as_secs_f64(), if forward { "forward" } else { "back" });
                // Less is what clocks do by themselves.
                if by >= NOTEWORTHY_LEAP {
                    warn!(
                        seconds,
                        direction,
                        "the wall clock was set, or this process or machine has slept: tokens are judged by the new time, revocations stay"
                    );
                } else {
                    debug!(seconds, direction, "the wall clock was corrected");
                }
            }
            Output::ManyChannels { user, address, channels } => {
                warn!(
                    shard = self.place.shard.0,
                    user = user.as_deref(),
                    %address,
                    channels,
                    "refused one channel more to who has many: few are left"
                );
            }
            // Only a configuration that names a store brings them about.
            Output::Store(command) => {
                if let Some(store) = &self.store {
                    store.send(self.place.shard, command);
                }
            }
            // Only a configuration that names a bus brings them about.
            Output::Bus(command) => {
                let now = self.clock.now();
                if let Some(wire) = &mut self.wire {
                    wire.command(now, command);
                }
            }
            Output::Drained => self.drained = true,
            Output::Connected { conn, peer, ref user, ref identity, .. } => {
                let certificate = identity.as_ref().map(|identity| &*identity.subject);
                debug!(shard = self.place.shard.0, conn = conn.index(), %peer, authenticated = user.is_some(), certificate, "open");
                self.app.ask(output);
            }
            Output::Disconnected { conn, reason } => {
                debug!(
                    shard = self.place.shard.0,
                    conn = conn.index(),
                    reason = reason.name(),
                    "closed"
                );
                self.app.ask(output);
            }
            Output::Metrics { .. } | Output::Statistics => {
                // Whoever asks gets what has been counted until now.
                self.record_metrics();
                self.app.ask(output);
            }
            Output::Request { .. }
            | Output::Authorize { .. }
            | Output::Subscribed { .. }
            | Output::Unsubscribed { .. }
            | Output::Authenticate { .. }
            | Output::Refreshed { .. } => self.app.ask(output),
        }
    }

    /// Tells the hub what the application has no room for.
    fn look_at_backlog(&mut self) {
        let bytes_max = self.hub.hub().config().limits.requests.handlers_bytes_max;
        if let Some(backlog) = self.app.new_backlog(bytes_max) {
            debug!(shard = self.place.shard.0, ?backlog, "application");
            self.hub.handle_command(self.clock.now(), Command::Backlog(backlog));
        }
    }

    /// Waits until the application has heard of every end, or until the drain's deadline: what it has not heard by the
    /// time that the process ends it does not hear.
    async fn let_hear(&mut self) -> io::Result<()> {
        self.app.wait_for_notices();
        while self.app.has_to_hear() && self.drained_by.is_some_and(|by| self.clock.instant() < by)
        {
            let Self { sockets, inbox, app, drained_by, .. } = &mut *self;
            poll_fn(|context| {
                // First the mail, whose bell is rung when the last one is through.
                let rings = inbox.poll_mail(context).is_ready()
                    || !app.has_to_hear()
                    || sockets.poll_ready(context).is_ready()
                    || sockets.poll_alarm(context, *drained_by).is_ready();
                if rings { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            // Whoever has sent it is told that the shard has ended.
            while self.inbox.take().is_some() {}
            self.sockets.look()?;
        }
        Ok(())
    }
}
