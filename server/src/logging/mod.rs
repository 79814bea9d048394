//! Log lines: text or JSON, at a level that a reload can change.
//!
//! Warnings and errors go to stderr, all else to stdout, so that a service manager's two files are what their names
//! say. Nobody waits for either: see [`lines`].

mod lines;
mod streams;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tracing::{Event, Level, error, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    Registry,
    fmt::{
        self, FmtContext, FormatEvent, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
        writer::MakeWriterExt,
    },
    layer::{Layer, SubscriberExt},
    registry::{LookupSpan, Scope},
    reload,
    util::SubscriberInitExt,
};

use self::{
    lines::{Lines, Notice, Stream},
    streams::Files,
};
use crate::{
    exit::{Exit, Failure, plain},
    settings::{LogFormat, LogLevel},
};

/// The log of this process.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
}

impl Log {
    /// Starts logging. Called once; panics are log lines from then on.
    pub(crate) fn start(format: LogFormat, level: LogLevel) -> Result<Self, Failure> {
        let failure = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::General, format!("logging cannot start: {error}"))
        };
        let notice: Notice = match format {
            LogFormat::Text => |count| notice(LogFormat::Text, count),
            LogFormat::Json => |count| notice(LogFormat::Json, count),
        };
        let lines = Lines::start(notice).map_err(|error| failure(&error))?;
        let lines = LINES.get_or_init(|| lines);
        FILES.get_or_init(Files::find);
        let (filter, handle) = reload::Layer::new(filter(level));
        let writer = (|| To(lines, Stream::Err))
            .with_max_level(Level::WARN)
            .or_else(|| To(lines, Stream::Out));
        tracing_subscriber::registry()
            .with(filter)
            .with(layer(format, writer))
            .try_init()
            .map_err(|error| failure(&error))?;
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let backtrace = (backtrace.status() == BacktraceStatus::Captured)
                .then(|| tracing::field::display(&backtrace));
            let thread = std::thread::current();
            error!(thread = thread.name(), backtrace, "{panic}");
        }));
        Ok(Self { level: handle })
    }

    /// Changes the level from now on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // Fails only if the subscriber is gone, and with it the log.
        let _ = self.level.reload(filter(level));
    }
}

/// Text that is no log line, for standard output: the banner.
pub(crate) fn print(text: &str) {
    match LINES.get() {
        Some(lines) => lines.push(Stream::Out, text.as_bytes()),
        // Nobody may be reading.
        None => drop(io::stdout().write_all(text.as_bytes())),
    }
}

/// A line of the end, for standard error.
pub(crate) fn note(text: &str) {
    match LINES.get() {
        Some(lines) => lines.push(Stream::Err, text.as_bytes()),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Opens the files anew that the log is written to, if they were moved away: rotation. Waits for their filesystem.
pub(crate) fn reopen() {
    for reopened in FILES.get().map(Files::reopen).unwrap_or_default() {
        match reopened {
            Ok(path) => info!(path = %path.display(), "log file opened anew"),
            Err((path, error)) => error!(
                path = %path.display(),
                error = plain(&error),
                "the log file cannot be opened anew: the old one is written to"
            ),
        }
    }
}

/// Lines that were lost because nobody read them, or because they could not be written.
pub(crate) fn dropped() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

/// Before the process ends: what was logged gets out, unless nobody reads it.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_TIMEOUT);
    }
}

/// A line on its way: the formatter writes it at once.
struct To(&'static Lines, Stream);

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(self.1, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn layer<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Its own errors would go to stderr by a macro that panics when stderr is gone.
    let layer = fmt::layer().log_internal_errors(false).with_writer(writer);
    match format {
        // Colours would be escape codes in a file.
        LogFormat::Text => layer.with_ansi(false).with_target(false).boxed(),
        LogFormat::Json => {
            let json = layer.json().flatten_event(true).with_current_span(false);
            json.with_span_list(false).map_event_format(WithSpans).boxed()
        }
    }
}

/// JSON lines in which what spans say, the `server` of a fleet's, is a member like any other.
struct WithSpans<F>(F);

impl<S, F> FormatEvent<S, JsonFields> for WithSpans<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    F: FormatEvent<S, JsonFields>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let spans = context.event_scope().into_iter().flat_map(Scope::from_root);
        for span in spans {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            let members = fields.and_then(|fields| fields.strip_prefix('{')?.strip_suffix('}'));
            let object = line.trim_end().strip_suffix('}').map(str::len);
            if let Some((members, end)) = members.filter(|text| !text.is_empty()).zip(object) {
                let members = format!(",{members}}}\n");
                line.truncate(end);
                line.push_str(&members);
            }
        }
        writer.write_str(&line)
    }
}

/// The line that stands where `lost` lines are missing, whatever the level.
fn notice(format: LogFormat, lost: u64) -> Vec<u8> {
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let kept = Kept::default();
    let writer = kept.clone();
    let registry = tracing_subscriber::registry()
        .with(LevelFilter::WARN)
        .with(layer(format, move || writer.clone()));
    tracing::subscriber::with_default(registry, || {
        warn!(lost, "log lines are missing here: they were not read, or could not be written");
    });
    std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The log of the server that this process is; none in other subcommands, whose readers may well be waited for.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Where its files were at the start.
static FILES: OnceLock<Files> = OnceLock::new();

/// How long the end waits for a reader of the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

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
    fn missing_lines_are_told_in_the_format_of_the_log() {
        let text = String::from_utf8(notice(LogFormat::Text, 7)).unwrap();
        assert!(text.contains(" WARN log lines are missing here"), "{text}");
        assert!(text.ends_with(" lost=7\n"), "{text}");
        let json: serde_json::Value = serde_json::from_slice(&notice(LogFormat::Json, 7)).unwrap();
        assert_eq!((json["level"].as_str(), json["lost"].as_u64()), (Some("WARN"), Some(7)));
    }

    #[test]
    fn what_a_span_says_is_a_member_of_the_line() {
        let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = kept.clone();
        #[derive(Clone)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer = move || Sink(sink.clone());
        let registry = tracing_subscriber::registry().with(layer(LogFormat::Json, writer));
        tracing::subscriber::with_default(registry, || {
            info!(port = 1, "alone");
            tracing::error_span!("service", server = "akosha").in_scope(|| info!(port = 2, "one"));
        });
        let text = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((lines[0]["port"].as_u64(), lines[0].get("server")), (Some(1), None));
        assert_eq!(
            (lines[1]["port"].as_u64(), lines[1]["server"].as_str()),
            (Some(2), Some("akosha"))
        );
        assert_eq!((lines[1].get("span"), lines[1]["message"].as_str()), (None, Some("one")));
    }

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
