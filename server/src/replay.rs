//! `mahavishnu replay FILE`: runs a recording again, on this build's core, and says whether the same comes out.

use std::{sync::Arc, time::Instant};

use mahavishnu_core::trace::{self, Mismatch};

use crate::{
    cli::ReplayArgs,
    exit::{Exit, Failure},
    out, start,
};

/// Replays a recording. The settings must be those under which it was made.
pub(crate) fn replay(args: &ReplayArgs) -> Result<Exit, Failure> {
    let (_, config) = start::read(&args.server.request())?;
    let trace =
        std::fs::read(&args.file).map_err(|error| Failure::io(args.file.display(), &error))?;
    let report = trace::replay(&trace, &[Arc::new(config)], Instant::now())
        .map_err(|mismatch| failure(args, &mismatch))?;
    if report.cut_short {
        out::note("the recording breaks off; what is there was replayed");
    }
    out::line(format_args!(
        "the same comes out: {} calls on {} shards in {:.3} s, {} connections, {} bytes in, {} bytes out",
        report.calls,
        report.shards,
        report.duration.as_secs_f64(),
        report.connections,
        report.received_bytes,
        report.sent_bytes,
    ))?;
    Ok(Exit::Ok)
}

fn failure(args: &ReplayArgs, mismatch: &Mismatch) -> Failure {
    let exit = if matches!(mismatch, Mismatch::Configuration { .. }) {
        Exit::Configuration
    } else {
        Exit::General
    };
    let hint = match mismatch {
        Mismatch::Configuration { .. } => "; replay with the settings that were in force",
        Mismatch::NotATrace | Mismatch::Damaged { .. } | Mismatch::Differs { .. } => "",
    };
    Failure::new(exit, format!("{}: {mismatch}{hint}", args.file.display()))
}
