//! One shard: a thread with a hub, a table of sockets and the turn.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use mahavishnu_core::{
    config::Config,
    hub::{Command, ConnId, Hub, Listener, Output, Peer, Place},
    ws::ReadBuffer,
};
use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::Notify,
    task::spawn_local,
    time::sleep_until,
};
use tracing::debug;

use crate::{
    accept::{self, Listening},
    app::App,
    audit, clock,
    handle::{Inbox, Mail, Mailbox, Waiting},
    socket::{self, Entry, Socket},
};

/// Bytes read from one socket at a time, into one buffer that all sockets of a shard share. A publisher's burst that needs
/// two reads costs every subscriber two writes; but while one socket's bytes are worked on, the others wait.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Mails taken before the shard's other tasks get their turn.
const MAILS_PER_TURN: usize = 256;

/// What a shard's thread is given.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) config: Arc<Config>,
    pub(crate) place: Place,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) inbox: Inbox,
    pub(crate) app: App,
    /// Non-empty on the shard that accepts.
    pub(crate) listeners: Vec<(std::net::TcpListener, Listener)>,
}

/// A shard's state, shared by the tasks on its thread.
#[derive(Debug)]
pub(crate) struct Shard {
    hub: RefCell<Hub>,
    sockets: RefCell<Vec<Option<Entry>>>,
    scratch: RefCell<ReadBuffer>,
    waiting: RefCell<Waiting>,
    turn: Notify,
    drained: Cell<bool>,
    place: Place,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    app: App,
}

/// Runs a shard until it is drained. Called on a thread of its own.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let mut hub = Hub::new(start.config, start.place, clock::now());
        if start.app.handlers.record.is_some() {
            hub.start_recording(clock::now());
        }
        let shard = Rc::new(Shard {
            hub: RefCell::new(hub),
            sockets: RefCell::default(),
            scratch: RefCell::new(ReadBuffer::new(SCRATCH_BYTES)),
            waiting: RefCell::default(),
            turn: Notify::new(),
            drained: Cell::new(false),
            place: start.place,
            mailboxes: start.mailboxes,
            app: start.app,
        });
        let mut listening = Listening::default();
        for (listener, kind) in start.listeners {
            listening.add(spawn_local(accept::run(shard.clone(), listener, kind)));
        }
        spawn_local(take_mail(shard.clone(), start.inbox, listening));
        turns(&shard).await;
    });
    Ok(())
}

/// Waits for something to do, then does all of it at once.
async fn turns(shard: &Rc<Shard>) {
    let mut next = None;
    while !shard.drained.get() {
        tokio::select! {
            biased;
            () = shard.turn.notified() => {}
            () = until(next) => {}
        }
        if shard.with_hub(|hub| hub.gathers()) {
            // The runtime looks for what has come before it goes on here.
            tokio::task::yield_now().await;
        }
        next = shard.turn();
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// Takes commands, sockets and other shards' messages.
async fn take_mail(shard: Rc<Shard>, mut inbox: Inbox, mut listening: Listening) {
    loop {
        let mail = tokio::select! {
            Some(mail) = inbox.internal.recv() => mail,
            Some(mail) = inbox.commands.recv() => mail,
            else => return,
        };
        shard.open_mail(mail, &mut listening);
        for _ in 1..MAILS_PER_TURN {
            let Ok(mail) = inbox.internal.try_recv().or_else(|_| inbox.commands.try_recv()) else {
                break;
            };
            shard.open_mail(mail, &mut listening);
        }
        shard.wake();
        // The turn, and the readers, come before the next mails.
        tokio::task::yield_now().await;
    }
}

impl Shard {
    /// Asks for a turn. It runs after the tasks that are ready now.
    pub(crate) fn wake(&self) {
        self.turn.notify_one();
    }

    pub(crate) fn with_hub<T>(&self, act: impl FnOnce(&mut Hub) -> T) -> T {
        act(&mut self.hub.borrow_mut())
    }

    pub(crate) fn with_scratch<T>(&self, act: impl FnOnce(&mut Hub, &mut [u8]) -> T) -> T {
        act(&mut self.hub.borrow_mut(), &mut self.scratch.borrow_mut())
    }

    pub(crate) fn socket(&self, conn: ConnId) -> Option<Rc<Socket>> {
        self.sockets.borrow().get(conn.index())?.as_ref().map(|entry| entry.socket.clone())
    }

    pub(crate) fn with_entry(&self, conn: ConnId, act: impl FnOnce(&mut Entry)) {
        if let Some(Some(entry)) = self.sockets.borrow_mut().get_mut(conn.index()) {
            act(entry);
        }
    }

    /// The connection is over: its tasks end and the socket is closed.
    pub(crate) fn forget(&self, conn: ConnId) {
        let entry = self.sockets.borrow_mut().get_mut(conn.index()).and_then(Option::take);
        drop(entry);
        self.count_sockets();
    }

    /// A socket was accepted for this shard.
    pub(crate) fn add(self: &Rc<Self>, stream: TcpStream, address: SocketAddr, listener: Listener) {
        // Small messages must not wait for each other (Nagle); a socket without the option still works.
        let _ = stream.set_nodelay(true);
        let accepted =
            self.with_hub(|hub| hub.handle_accept(clock::now(), Peer { address, listener }));
        match accepted {
            Ok(conn) => {
                let entry = socket::open(self, conn, stream);
                let mut sockets = self.sockets.borrow_mut();
                if sockets.len() <= conn.index() {
                    sockets.resize_with(conn.index() + 1, || None);
                }
                if let Some(slot) = sockets.get_mut(conn.index()) {
                    *slot = Some(entry);
                }
            }
            Err(reason) => debug!(%address, reason = reason.name(), "socket refused"),
        }
        self.count_sockets();
        self.wake();
    }

    fn count_sockets(&self) {
        let count = self.hub.borrow().sockets();
        if let Some(own) = self.own_mailbox() {
            own.sockets.store(count, Ordering::Relaxed);
        }
    }

    fn took_socket(&self) {
        if let Some(own) = self.own_mailbox() {
            own.took_socket();
        }
    }

    /// This shard's number.
    pub(crate) fn index(&self) -> usize {
        usize::from(self.place.shard.0)
    }

    fn own_mailbox(&self) -> Option<&Mailbox> {
        self.mailboxes.get(self.index())
    }

    fn open_mail(self: &Rc<Self>, mail: Mail, listening: &mut Listening) {
        match mail {
            Mail::Command(command) => {
                if matches!(command, Command::Drain(_)) {
                    listening.stop();
                }
                self.with_hub(|hub| hub.handle_command(clock::now(), command));
            }
            Mail::Broadcast(publication, answer) => {
                let id = Some(self.waiting.borrow_mut().add(answer));
                self.with_hub(|hub| {
                    hub.handle_command(clock::now(), Command::Publish { id, publication })
                });
            }
            Mail::Revoke(revocation, answer) => {
                let id = Some(self.waiting.borrow_mut().add(answer));
                self.with_hub(|hub| {
                    hub.handle_command(clock::now(), Command::Revoke { id, revocation })
                });
            }
            Mail::Socket(stream, address, listener) => {
                match TcpStream::from_std(stream) {
                    Ok(stream) => self.add(stream, address, listener),
                    Err(error) => debug!(%address, %error, "socket lost"),
                }
                self.took_socket();
            }
            Mail::Shard(from, batch) => {
                self.with_hub(|hub| hub.handle_shard(clock::now(), from, batch))
            }
        }
    }

    /// One turn: timers, outputs, one write for each connection that has something; see the core's contract. Returns
    /// when the next timer is due.
    fn turn(self: &Rc<Self>) -> Option<Instant> {
        let now = clock::now();
        self.with_hub(|hub| hub.handle_timeout(now));
        loop {
            while let Some(output) = self.with_hub(|hub| hub.poll_output(now)) {
                self.carry_out(output);
            }
            let mut flushed = false;
            while let Some(conn) = self.with_hub(Hub::poll_dirty) {
                flushed = true;
                socket::flush(self, now, conn);
            }
            if !flushed {
                break;
            }
        }
        self.with_hub(|hub| {
            hub.end_turn(clock::now());
            if let Some(record) = &self.app.handlers.record {
                record(self.place.shard, &hub.take_recording());
            }
            hub.poll_timeout()
        })
    }

    fn carry_out(self: &Rc<Self>, output: Output) {
        match output {
            Output::Shard { to, batch } => {
                if let Some(mailbox) = self.mailboxes.get(usize::from(to.0)) {
                    mailbox.pass(Mail::Shard(self.place.shard, batch));
                }
            }
            Output::Done { id, result } => self.waiting.borrow_mut().done(id, result),
            Output::Audit { audit, result } => audit::log(&audit, result),
            Output::Drained => self.drained.set(true),
            Output::Connected { conn, peer, ref user, ref identity } => {
                let certificate = identity.as_ref().map(|identity| &*identity.subject);
                debug!(shard = self.place.shard.0, conn = conn.index(), %peer, authenticated = user.is_some(), certificate, "open");
                self.ask(output);
            }
            Output::Disconnected { conn, reason } => {
                debug!(
                    shard = self.place.shard.0,
                    conn = conn.index(),
                    reason = reason.name(),
                    "closed"
                );
                self.ask(output);
            }
            Output::Request { .. } | Output::Authorize { .. } | Output::Metrics { .. } => {
                self.ask(output)
            }
        }
    }

    fn ask(&self, output: Output) {
        if let Some(own) = self.own_mailbox() {
            self.app.ask(output, own);
        }
    }
}
