//! The server until a signal ends it, on whichever runtime was chosen.

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use mahavishnu_driver::{Runtime, Server, signal::Signal};
use tracing::{Instrument, info, warn};

use super::{
    Fresh, Plan, bind_failure, shard_failure,
    unit::{Listening, Process, Unit},
    watch::{Served, Watch},
};
use crate::{aside::Reading, exit::Failure, logging};

/// Serves on tokio until a signal says stop.
#[cfg(feature = "tokio")]
pub(super) fn on_tokio(process: Process) -> Result<(), Failure> {
    use mahavishnu_tokio::{Tokio, signal::Signals};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::io("runtime", &error))?.block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        Box::pin(serve::<Tokio>(process, async || signals.next().await)).await
    })
}

/// Serves on smol until a signal says stop.
#[cfg(feature = "smol")]
pub(super) fn on_smol(process: Process) -> Result<(), Failure> {
    use mahavishnu_smol::{Smol, signal::Signals};

    // Not `smol::block_on`: this thread would take the reactor, and wake the shards whenever their pollers have something.
    smol::future::block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        Box::pin(serve::<Smol>(process, async || signals.next().await)).await
    })
}

/// `signal` is the next signal. They are taken over already: whoever sees a port open may send one.
async fn serve<R: Runtime>(
    mut process: Process,
    mut signal: impl AsyncFnMut() -> Signal,
) -> Result<(), Failure> {
    let mut servers = start::<R>(&mut process).await?;
    let spans = process.units.iter().map(|unit| unit.span.clone());
    let served: Vec<_> = servers
        .iter()
        .map(Server::handle)
        .zip(spans)
        .map(|(handle, span)| Served { handle, span })
        .collect();
    let mut watch = Watch::new(&process.manager)?;
    announce(&mut process, &servers)?;
    // What is being read for a reload; `again` if one more was asked for meanwhile: what was read may be older.
    let (mut readings, mut again) = (None::<Readings>, false);
    loop {
        let asked = async { Ok(Next::Asked(signal().await)) };
        let failed = async { Err(shard_failure(&any_failed(&mut servers).await)) };
        let read = async {
            match &mut readings {
                Some(readings) => Ok(Next::Read(readings.complete().await)),
                None => pending().await,
            }
        };
        let watched = async { match watch.keep(&served, &process.manager).await {} };
        match first(first(first(asked, failed), read), watched).await? {
            Next::Asked(Signal::Terminate) => break,
            Next::Asked(Signal::Reload) if readings.is_some() => again = true,
            Next::Asked(Signal::Reload) => readings = Some(Readings::start(&process)),
            Next::Read(read) => {
                reload(&mut process, &served, read).await;
                readings = std::mem::take(&mut again).then(|| Readings::start(&process));
            }
        }
    }
    stop(process, servers, served, watch, signal).await
}

/// Starts all servers, or none.
async fn start<R: Runtime>(process: &mut Process) -> Result<Vec<Server<R>>, Failure> {
    let mut servers = Vec::new();
    for unit in &mut process.units {
        let Some(plan) = unit.plan.take() else { continue };
        match listen::<R>(plan).instrument(unit.span.clone()).await {
            Ok(server) => servers.push(server),
            Err(failure) => {
                // Those that run have nobody yet.
                for server in servers {
                    let _ = server.stop().await;
                }
                return Err(unit.running.named(failure));
            }
        }
    }
    Ok(servers)
}

fn announce<R: Runtime>(process: &mut Process, servers: &[Server<R>]) -> Result<(), Failure> {
    let mut all: Vec<Listening> = Vec::new();
    for (unit, server) in process.units.iter_mut().zip(servers) {
        let _entered = unit.span.enter();
        let main = server.local_addrs().collect::<Vec<_>>();
        all.push(unit.running.announce(&main, server.metrics_addr())?);
    }
    if let Some(banner) = &process.banner {
        logging::print(&banner(&all));
    }
    let sockets: Vec<_> = all.iter().map(|one| one.sockets.as_str()).collect();
    process.manager.ready(&sockets.join(", "));
    if let Some(claim) = &mut process.claim {
        claim.announce("").map_err(|error| Failure::io(claim.dir().display(), &error))?;
    }
    Ok(())
}

/// Puts what was read in force: all of it, or, if something is wrong with any part, nothing.
async fn reload(process: &mut Process, served: &[Served], read: Vec<Result<Fresh, Failure>>) {
    let checked = process.units.iter().zip(read).map(|(unit, read)| {
        let _entered = unit.span.enter();
        unit.running.check(read).map_err(|failure| {
            let failure = unit.running.named(failure);
            unit.running.refuse(&failure);
            failure
        })
    });
    let (mut fresh, mut problems) = (Vec::new(), Vec::new());
    for one in checked {
        match one {
            Ok(one) => fresh.push(one),
            Err(failure) => problems.extend(failure.lines),
        }
    }
    if problems.is_empty() {
        for ((unit, one), fresh) in process.units.iter_mut().zip(served).zip(fresh) {
            let fresh = unit.span.in_scope(|| unit.running.accept(fresh));
            let Fresh { loaded, config, redis, in_force } = fresh;
            one.handle.reload(&config).await;
            if let Some(redis) = &redis {
                one.handle.reload_redis(redis).await;
            }
            unit.span.in_scope(|| unit.running.reloaded(loaded, in_force));
        }
    }
    process.tell(&problems);
}

async fn stop<R: Runtime>(
    mut process: Process,
    servers: Vec<Server<R>>,
    served: Vec<Served>,
    mut watch: Watch,
    mut signal: impl AsyncFnMut() -> Signal,
) -> Result<(), Failure> {
    let (mut stopping, mut limit) = (Vec::new(), Duration::ZERO);
    for (unit, server) in process.units.iter().zip(servers) {
        let plan = unit.span.in_scope(|| unit.running.drain_plan());
        limit = limit.max(plan.notice.saturating_add(plan.deadline));
        let stop = async move {
            server.stop_with(plan).await.map_err(|error| shard_failure(&error))?;
            info!("stopped");
            Ok(())
        };
        stopping.push(Box::pin(stop.instrument(unit.span.clone())) as Stopping<'_>);
    }
    process.manager.stopping(limit, served.iter().map(|one| one.handle.sockets()).sum());
    let end = async {
        while signal().await != Signal::Terminate {}
        warn!("second signal: ending at once");
        Ok(())
    };
    let watched = async { match watch.keep(&served, &process.manager).await {} };
    first(first(all(stopping), end), watched).await
}

type Stopping<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// Waits for all, and says what was wrong with the first one that something was wrong with.
async fn all(mut stopping: Vec<Stopping<'_>>) -> Result<(), Failure> {
    let mut result = Ok(());
    poll_fn(|context| {
        stopping.retain_mut(|one| match one.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                let before = std::mem::replace(&mut result, Ok(()));
                result = before.and(ended);
                false
            }
        });
        if stopping.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    result
}

/// Waits until one of the servers ends by itself.
async fn any_failed<R: Runtime>(servers: &mut [Server<R>]) -> mahavishnu_driver::ServerFailed {
    let mut failed: Vec<_> = servers.iter_mut().map(|server| Box::pin(server.failed())).collect();
    poll_fn(|context| {
        let polled = failed.iter_mut().map(|one| one.as_mut().poll(context));
        polled.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// What a running process has to see to.
enum Next {
    Asked(Signal),
    Read(Vec<Result<Fresh, Failure>>),
}

/// What is read for a reload: a part for each server.
struct Readings(Vec<Part>);

/// What reads, and what it has read once it has.
type Part = (Reading<Fresh>, Option<Result<Fresh, Failure>>);

impl Readings {
    fn start(process: &Process) -> Self {
        process.manager.reloading();
        let read = |(index, unit): (usize, &Unit)| -> Part {
            (unit.span.in_scope(|| unit.running.read_again(index == 0)), None)
        };
        Self(process.units.iter().enumerate().map(read).collect())
    }

    /// All parts, once all are there. May be given up and called again before.
    async fn complete(&mut self) -> Vec<Result<Fresh, Failure>> {
        for (reading, result) in &mut self.0 {
            if result.is_none() {
                *result = Some(reading.result().await);
            }
        }
        std::mem::take(&mut self.0).into_iter().filter_map(|(_, result)| result).collect()
    }
}

async fn listen<R: Runtime>(plan: Plan) -> Result<Server<R>, Failure> {
    let mut builder = Server::builder().config(plan.config).shards(plan.shards);
    if plan.sockets.main.is_empty() {
        builder = builder.listen(&plan.main);
    }
    for listener in plan.sockets.main {
        builder = builder.listen_at(listener);
    }
    for listener in plan.sockets.unix {
        builder = builder.listen_unix_at(listener);
    }
    if let Some(path) = plan.unix {
        builder = builder.listen_unix(path, Some(UNIX_MODE));
    }
    builder = match (plan.metrics, plan.sockets.metrics) {
        (Some((_, render)), Some(listener)) => {
            builder.listen_metrics_at(listener, move || render())
        }
        (Some((address, render)), None) => builder.listen_metrics(address, move || render()),
        (None, _) => builder,
    };
    let statistics = plan.statistics;
    builder = builder.statistics(move || statistics.tell());
    if let Some(recording) = plan.recording {
        builder = builder.record(move |shard, noted| recording.note(shard, noted));
    }
    if let Some((store, contents)) = plan.history {
        builder = builder.store(store, contents.into_events());
    }
    if let Some(tell) = plan.spans {
        builder = builder.on_spans(tell);
    }
    if let Some(redis) = plan.redis {
        builder = builder.redis(redis);
    }
    builder.start().await.map_err(|error| bind_failure(&error, &plan.main, &plan.port_names))
}

/// Who may connect at a Unix socket: its user, and its group, which is how operators let a proxy in.
const UNIX_MODE: u32 = 0o660;

/// What is over first; `one` if both are.
pub(super) async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Pending => other.as_mut().poll(context),
        ready => ready,
    })
    .await
}
