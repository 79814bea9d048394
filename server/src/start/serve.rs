//! The server until a signal ends it, on whichever runtime was chosen.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    task::Poll,
};

use mahavishnu_driver::{Runtime, Server, signal::Signal};
use tracing::{info, warn};

use super::{Fresh, Plan, Running, bind_failure, shard_failure, watch::Watch};
use crate::{aside::Reading, exit::Failure};

/// Serves on tokio until a signal says stop.
#[cfg(feature = "tokio")]
pub(super) fn on_tokio(running: Running, plan: Plan) -> Result<(), Failure> {
    use mahavishnu_tokio::{Tokio, signal::Signals};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::io("runtime", &error))?.block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        Box::pin(serve::<Tokio>(running, plan, async || signals.next().await)).await
    })
}

/// Serves on smol until a signal says stop.
#[cfg(feature = "smol")]
pub(super) fn on_smol(running: Running, plan: Plan) -> Result<(), Failure> {
    use mahavishnu_smol::{Smol, signal::Signals};

    // Not `smol::block_on`: this thread would take the reactor, and wake the shards whenever their pollers have something.
    smol::future::block_on(async {
        let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        Box::pin(serve::<Smol>(running, plan, async || signals.next().await)).await
    })
}

/// `signal` is the next signal. They are taken over already: whoever sees the port open may send one.
async fn serve<R: Runtime>(
    mut running: Running,
    plan: Plan,
    mut signal: impl AsyncFnMut() -> Signal,
) -> Result<(), Failure> {
    let mut server = listen::<R>(plan).await?;
    let (main, handle) = (server.local_addrs().collect::<Vec<_>>(), server.handle());
    let mut watch = Watch::new(&running.manager)?;
    running.announce(&main, server.metrics_addr())?;
    // What is being read for a reload; `again` if one more was asked for meanwhile: what was read may be older.
    let (mut reading, mut again) = (None, false);
    loop {
        let asked = async { Ok(Next::Asked(signal().await)) };
        let failed = async { Err(shard_failure(&server.failed().await)) };
        let read = async {
            match &reading {
                Some(reading) => Ok(Next::Read(Box::new(Reading::result(reading).await))),
                None => pending().await,
            }
        };
        let watched = async { match watch.keep(&handle, &running.manager).await {} };
        match first(first(first(asked, failed), read), watched).await? {
            Next::Asked(Signal::Terminate) => break,
            Next::Asked(Signal::Reload) if reading.is_some() => again = true,
            Next::Asked(Signal::Reload) => reading = Some(running.read_again()),
            Next::Read(read) => {
                if let Some(Fresh { loaded, config, redis, in_force }) = running.judge(*read) {
                    handle.reload(&config).await;
                    if let Some(redis) = &redis {
                        handle.reload_redis(redis).await;
                    }
                    running.reloaded(loaded, in_force);
                }
                reading = std::mem::take(&mut again).then(|| running.read_again());
            }
        }
    }
    let plan = running.drain_plan(handle.sockets());
    let stop = async {
        server.stop_with(plan).await.map_err(|error| shard_failure(&error))?;
        info!("stopped");
        Ok(())
    };
    let end = async {
        while signal().await != Signal::Terminate {}
        warn!("second signal: ending at once");
        Ok(())
    };
    let watched = async { match watch.keep(&handle, &running.manager).await {} };
    first(first(stop, end), watched).await
}

/// What a running server has to see to.
enum Next {
    Asked(Signal),
    Read(Box<Result<Fresh, Failure>>),
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
    builder.start().await.map_err(|error| bind_failure(&error, &plan.main))
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
