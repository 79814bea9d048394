//! OpenTelemetry: traces and metrics to a collector, over OTLP (HTTP with protobuf), by the environment variables that every
//! program with OpenTelemetry knows. Without an endpoint there is nothing of it: no thread, no queue, no span.
//!
//! A shard puts a turn's spans into a bounded queue and goes on; a thread for each signal does all else. What finds no room,
//! and what the collector does not take, is counted and gone.
//!
//! The messages are those of `opentelemetry-proto`, and `ureq`, which the subcommands use, carries them. The SDK's own
//! exporters make spans where the work is done, which a core without a clock cannot, and do not take metrics that were
//! counted elsewhere.

mod attributes;
mod counts;
mod metrics;
mod send;
mod settings;
mod spans;
mod threads;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mahavishnu_core::{hub::ShardId, spans::Spans};
use opentelemetry_proto::tonic::{
    common::v1::{InstrumentationScope, KeyValue},
    resource::v1::Resource,
};
use rustix::system::uname;
use tracing::info;

use self::{
    attributes::{int, text},
    counts::{Signal, Why},
    send::Sender,
    settings::Target,
    threads::{Queue, Thread},
};
pub(crate) use self::{
    counts::Counts,
    settings::{Telemetry, is_read},
};
use crate::{exit::Failure, settings::Settings};

/// What exports, while the server runs. Dropped, it sends what is left, for a moment at most.
#[derive(Debug)]
pub(crate) struct Exporters {
    traces: Option<Arc<Queue>>,
    threads: Vec<Thread>,
    counts: Arc<Counts>,
}

impl Exporters {
    /// Nothing if no signal is wanted. `render`: the metrics, as a scrape has them.
    pub(crate) fn start(
        telemetry: &Telemetry,
        settings: &Settings,
        render: Option<Arc<dyn Fn() -> String + Send + Sync>>,
        counts: &Arc<Counts>,
    ) -> Result<Self, Failure> {
        let source = Source::new(telemetry, settings);
        let mut this = Self { traces: None, threads: Vec::new(), counts: counts.clone() };
        if let Some(target) = &telemetry.traces {
            let sender = Sender::new(target, Signal::Traces, telemetry.batch.timeout, counts)?;
            let (queue, thread) = threads::traces(telemetry.batch, sender, &source)?;
            (this.traces, this.threads) = (Some(queue), vec![thread]);
        }
        if let Some((target, render)) = telemetry.metrics.as_ref().zip(render) {
            let sender = Sender::new(target, Signal::Metrics, telemetry.metric_timeout, counts)?;
            let every = telemetry.metric_interval;
            this.threads.push(threads::metrics(every, sender, source, render)?);
        }
        if telemetry.is_on() {
            let url =
                |target: &Option<Target>| target.as_ref().map(|target| target.shown().to_owned());
            let (traces, metrics) = (url(&telemetry.traces), url(&telemetry.metrics));
            info!(traces, metrics, "exporting by OpenTelemetry");
        }
        Ok(this)
    }

    /// Where shards put their spans, if they are wanted.
    pub(crate) fn spans(&self) -> Option<Box<dyn Fn(ShardId, Spans) + Send + Sync>> {
        let queue = self.traces.clone()?;
        let counts = self.counts.clone();
        Some(Box::new(move |_, spans| {
            counts.dropped(Signal::Traces, Why::Turn, spans.dropped);
            queue.put(spans.ended);
        }))
    }
}

impl Drop for Exporters {
    fn drop(&mut self) {
        // All are told before the first is waited for.
        self.threads.iter().for_each(Thread::stop);
        let until = std::time::Instant::now() + END_TIMEOUT;
        self.threads.iter().for_each(|thread| thread.wait(until));
    }
}

/// Counts for the exposition; the same whether anything is exported or not.
pub(crate) fn counts() -> Arc<Counts> {
    Arc::default()
}

/// Who exports.
#[derive(Clone, Debug)]
struct Source {
    resource: Resource,
    scope: InstrumentationScope,
    /// Since when metrics are counted.
    started: Duration,
}

impl Source {
    fn new(telemetry: &Telemetry, settings: &Settings) -> Self {
        let mut instance = [0; 16];
        // Without it, instances on one machine are told apart by their process ids.
        let _ = getrandom::fill(&mut instance);
        let instance = u128::from_ne_bytes(instance);
        let host = uname().nodename().to_string_lossy().into_owned();
        let node = settings.node_name.clone().filter(|_| settings.has_redis());
        let own = [
            text("service.name", telemetry.service.as_deref().unwrap_or(&settings.server_name)),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &node.unwrap_or_else(|| format!("{instance:032x}"))),
            text("host.name", &host),
            int("process.pid", i64::from(std::process::id())),
            text("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let given = telemetry.attributes.iter().map(|(name, value)| text(name, value));
        // OTEL_SERVICE_NAME wins over what OTEL_RESOURCE_ATTRIBUTES says, which wins over what is found out here.
        let mut seen = BTreeSet::new();
        let named = telemetry.service.is_some().then(|| own.first().cloned()).flatten();
        let all = named.into_iter().chain(given).chain(own);
        let attributes: Vec<KeyValue> = all.filter(|one| seen.insert(one.key.clone())).collect();
        Self {
            resource: Resource { attributes, ..Resource::default() },
            scope: InstrumentationScope {
                name: env!("CARGO_PKG_NAME").into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..InstrumentationScope::default()
            },
            started: unix_now(),
        }
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The schema of the attributes' names.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// How long the end of the server waits for the collector.
const END_TIMEOUT: Duration = Duration::from_secs(2);
