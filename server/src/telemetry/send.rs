//! Sending to a collector, and what operators are told of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceResponse, trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use tracing::{info, warn};
use ureq::http::HeaderMap;

use super::{
    counts::{Counts, Signal, Why},
    settings::Target,
    threads::Bell,
};
use crate::{
    client,
    exit::{Exit, Failure},
    handed, trust, verify,
};

/// Sends one signal to its collector.
#[derive(Debug)]
pub(super) struct Sender {
    agent: ureq::Agent,
    target: Target,
    signal: Signal,
    /// All attempts to send one request together.
    timeout: Duration,
    counts: Arc<Counts>,
    /// When it was last told that requests do not get through; `None` while they do.
    told: Option<Instant>,
}

/// What became of an attempt.
enum Sent {
    Taken {
        /// Of the items, so many were not.
        rejected: u64,
    },
    /// For good.
    Refused(String),
    /// Perhaps only for now; when to try again, if the collector says so.
    Failed(String, Option<Duration>),
}

impl Sender {
    pub(super) fn new(
        target: &Target,
        signal: Signal,
        timeout: Duration,
        counts: &Arc<Counts>,
    ) -> Result<Self, Failure> {
        // One attempt takes no longer than all of them may.
        let attempt = target.timeout.min(timeout);
        let agent = if target.url.starts_with("https:") {
            let roots = match &target.certificate {
                Some(path) => {
                    const NAME: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
                    let document = handed::bytes(path).map_err(|refused| refused.of(NAME))?;
                    mahavishnu_core::tls::Chain::from_pem(&document).map_err(|error| {
                        let text = format!("{NAME}: {}: {error}", path.display());
                        Failure::new(Exit::Configuration, text)
                    })?
                }
                None => trust::roots()?,
            };
            client::agent_over(verify::client_config(&roots, trust::provider())?, attempt)
        } else {
            client::agent(attempt)
        };
        let target = target.clone();
        Ok(Self { agent, target, signal, timeout, counts: counts.clone(), told: None })
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Sends a request with so many items, again while that may help and time is left, unless the bell rings.
    pub(super) fn send(&mut self, request: &impl Message, items: u64, bell: &Bell) {
        let body = request.encode_to_vec();
        let until = Instant::now() + self.timeout;
        let mut pause = PAUSE_FIRST;
        let (why, cause) = loop {
            match self.attempt(&body) {
                Sent::Taken { rejected } => {
                    let rejected = rejected.min(items);
                    self.counts.exported(self.signal, items - rejected);
                    self.counts.dropped(self.signal, Why::Refused, rejected);
                    return self.tell_up();
                }
                Sent::Refused(cause) => break (Why::Refused, cause),
                Sent::Failed(cause, asked) => {
                    let wait = asked.unwrap_or_else(|| jitter(pause));
                    pause = (pause * 2).min(PAUSE_MAX);
                    if Instant::now() + wait >= until || bell.wait(wait) {
                        break (Why::Unreachable, cause);
                    }
                }
            }
        };
        self.counts.dropped(self.signal, why, items);
        self.tell_down(&cause, items);
    }

    fn attempt(&self, body: &[u8]) -> Sent {
        let mut request = self.agent.post(&self.target.url);
        request = request.header("content-type", "application/x-protobuf");
        request = request.header("user-agent", USER_AGENT);
        for (name, value) in &self.target.headers {
            request = request.header(name, value.reveal());
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            // The library's words would repeat a header that cannot be sent.
            Err(ureq::Error::Http(_)) => {
                return Sent::Refused(
                    "a header of OTEL_EXPORTER_OTLP_HEADERS cannot be sent".into(),
                );
            }
            Err(ureq::Error::Io(error)) => return Sent::Failed(verify::words(&error), None),
            Err(error) => return Sent::Failed(error.to_string(), None),
        };
        let status = response.status().as_u16();
        match status {
            200..=299 => {
                let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
                Sent::Taken { rejected: self.rejected(&body.unwrap_or_default()) }
            }
            // The four that OTLP/HTTP lets a client repeat.
            429 | 502 | 503 | 504 => {
                Sent::Failed(format!("HTTP {status}"), retry_after(response.headers()))
            }
            _ => Sent::Refused(format!("HTTP {status}")),
        }
    }

    /// How many items a collector took in part did not want.
    fn rejected(&self, answer: &[u8]) -> u64 {
        let rejected = match self.signal {
            Signal::Traces => ExportTraceServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_spans),
            Signal::Metrics => ExportMetricsServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_data_points),
        };
        rejected.and_then(|rejected| u64::try_from(rejected).ok()).unwrap_or_default()
    }

    fn tell_up(&mut self) {
        if self.told.take().is_some() {
            info!(
                signal = self.signal.name(),
                url = self.target.shown(),
                "the OpenTelemetry collector takes what it is sent again"
            );
        }
    }

    fn tell_down(&mut self, cause: &str, items: u64) {
        let now = Instant::now();
        let signal = self.signal.name();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY) {
            self.told = Some(now);
            warn!(
                signal,
                url = self.target.shown(),
                cause,
                items,
                "not exported: mahavishnu_otlp_dropped_total counts"
            );
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Between half and all of it, so that servers that lost a collector together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness they do.
    let _ = getrandom::fill(&mut random);
    let part = f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(0.5 + part / 2.0)
}

const USER_AGENT: &str = concat!("mahavishnu/", env!("CARGO_PKG_VERSION"));

/// Between the first attempt and the second, and at most between two.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often it is told that nothing gets through.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// An answer is a few bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
