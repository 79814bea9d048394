//! The server on tokio, until a signal ends it.

use mahavishnu_tokio::{
    Server,
    signal::{Signal, Signals},
};
use tokio::runtime::Builder;
use tracing::{info, warn};

use super::{Plan, Running, bind_failure, shard_failure};
use crate::exit::Failure;

/// Serves until a signal says stop.
pub(super) fn run(running: Running, plan: Plan) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("runtime", &error))?;
    let outcome = runtime.block_on(serve(running, plan));
    // After a second signal threads may still be busy: they end with the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(mut running: Running, plan: Plan) -> Result<(), Failure> {
    // Before listening: whoever sees the port open may send a signal.
    let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
    let mut server = listen(plan).await?;
    running.announce(server.local_addr(), server.metrics_addr())?;
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            shard = server.failed() => return Err(shard_failure(shard)),
        };
        match signal {
            Signal::Reload => {
                if let Some((loaded, config)) = running.read_again() {
                    server.handle().reload(&config).await;
                    running.reloaded(loaded);
                }
            }
            Signal::Terminate => break,
        }
    }
    tokio::select! {
        () = server.stop_with(running.drain_plan()) => info!("stopped"),
        () = terminate(&mut signals) => warn!("second signal: ending at once"),
    }
    Ok(())
}

async fn listen(plan: Plan) -> Result<Server, Failure> {
    let mut builder = Server::builder().config(plan.config).listen(&plan.main).shards(plan.shards);
    if let Some((address, render)) = plan.metrics {
        builder = builder.listen_metrics(address, move || render());
    }
    if let Some(recording) = plan.recording {
        builder = builder.record(move |shard, noted| recording.note(shard, noted));
    }
    builder.start().await.map_err(|error| bind_failure(&error, &plan.main))
}

async fn terminate(signals: &mut Signals) {
    while signals.next().await != Signal::Terminate {}
}
