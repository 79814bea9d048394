//! The server on smol, until a signal ends it.

use mahavishnu_smol::{
    Server,
    signal::{Signal, Signals},
};
use smol::future::{block_on, or};
use tracing::{info, warn};

use super::{Plan, Running, bind_failure, shard_failure};
use crate::exit::Failure;

/// Serves until a signal says stop.
pub(super) fn run(running: Running, plan: Plan) -> Result<(), Failure> {
    // Not `smol::block_on`: this thread would take the reactor, and wake the shards whenever their pollers have something.
    block_on(serve(running, plan))
}

async fn serve(mut running: Running, plan: Plan) -> Result<(), Failure> {
    // Before listening: whoever sees the port open may send a signal.
    let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
    let mut server = listen(plan).await?;
    running.announce(server.local_addr(), server.metrics_addr())?;
    loop {
        let signal = async { Ok(signals.next().await) };
        let failed = async { Err(shard_failure(server.failed().await)) };
        match or(signal, failed).await? {
            Signal::Reload => {
                if let Some((loaded, config)) = running.read_again() {
                    server.handle().reload(&config).await;
                    running.reloaded(loaded);
                }
            }
            Signal::Terminate => break,
        }
    }
    let stop = async {
        server.stop_with(running.drain_plan()).await;
        info!("stopped");
    };
    let end = async {
        terminate(&mut signals).await;
        warn!("second signal: ending at once");
    };
    or(stop, end).await;
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
