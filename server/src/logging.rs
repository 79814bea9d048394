//! Log lines: text or JSON, at a level that a reload can change.
//!
//! Warnings and errors go to stderr, all else to stdout, so that a service manager's two files are what their names
//! say.

use std::io;

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    fmt::{self, writer::MakeWriterExt},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::{
    exit::{Exit, Failure},
    settings::{LogFormat, LogLevel},
};

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
}

impl Log {
    /// Starts logging. Called once.
    pub(crate) fn start(format: LogFormat, level: LogLevel) -> Result<Self, Failure> {
        let (filter, handle) = reload::Layer::new(filter(level));
        let writer = io::stderr.with_max_level(Level::WARN).or_else(io::stdout);
        // Its own errors would go to stderr by a macro that panics when stderr is gone.
        let layer = fmt::layer().log_internal_errors(false).with_writer(writer);
        let registry = tracing_subscriber::registry().with(filter);
        match format {
            // Colours would be escape codes in a file.
            LogFormat::Text => registry.with(layer.with_ansi(false).with_target(false)).try_init(),
            LogFormat::Json => {
                registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
            }
        }
        .map_err(|error| Failure::new(Exit::General, format!("logging cannot start: {error}")))?;
        Ok(Self { level: handle })
    }

    /// Changes the level from now on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // Fails only if the subscriber is gone, and with it the log.
        let _ = self.level.reload(filter(level));
    }
}

/// Python's CRITICAL is above ERROR; here nothing is, so both let errors through.
fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_let_through_what_their_names_say() {
        assert!(filter(LogLevel::Debug) >= Level::DEBUG);
        assert!(filter(LogLevel::Debug) < Level::TRACE);
        assert!(filter(LogLevel::Warning) >= Level::WARN);
        assert!(filter(LogLevel::Warning) < Level::INFO);
        assert!(filter(LogLevel::Critical) >= Level::ERROR);
        assert!(filter(LogLevel::Critical) < Level::WARN);
    }
}
