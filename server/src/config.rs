//! `mahavishnu config check | show | docs`.

use crate::{
    cli::ServerArgs,
    exit::{Exit, Failure},
    memory::Capacity,
    out, redis, settings, tls,
};

/// Says whether a server would start with these settings: every problem and every warning, one line each.
pub(crate) fn check(args: &ServerArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.request())?;
    for warning in &loaded.warnings {
        out::note(format_args!("warning: {warning}"));
    }
    loaded.demand_all()?;
    for warning in tls::load(&loaded.settings, None)?.warnings {
        out::note(format_args!("warning: {warning}"));
    }
    redis::link_config(&loaded)?;
    for warning in Capacity::of(&loaded.settings).warnings(&loaded.settings) {
        out::note(format_args!("warning: {warning}"));
    }
    out::line("configuration ok")?;
    Ok(Exit::Ok)
}

/// Prints every setting as it counts, with its origin. Problems are told too, and decide the exit code.
pub(crate) fn show(args: &ServerArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.request())?;
    out::line(settings::show(&loaded).trim_end())?;
    out::line(format!("# {}", Capacity::of(&loaded.settings).describe()))?;
    loaded.demand_all()?;
    Ok(Exit::Ok)
}

/// Prints the table of variables as Markdown, for the project's documentation.
pub(crate) fn docs() -> Result<Exit, Failure> {
    out::line(settings::docs().trim_end())?;
    Ok(Exit::Ok)
}
