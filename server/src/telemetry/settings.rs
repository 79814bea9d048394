//! The variables of OpenTelemetry, as its specification reads them: what is not understood is said and then ignored. They are
//! read from where the other settings come from, an env file among them.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};

use http::{Uri, uri::Scheme};
use mahavishnu_core::spans::Sampler;
use percent_encoding::percent_decode_str;

use crate::settings::Secret;

/// What is exported where.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    pub(crate) traces: Option<Target>,
    pub(crate) metrics: Option<Target>,
    /// `OTEL_SERVICE_NAME`.
    pub(super) service: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) attributes: Vec<(String, String)>,
    pub(crate) sampler: Sampler,
    pub(super) batch: Batch,
    pub(super) metric_interval: Duration,
    pub(super) metric_timeout: Duration,
}

/// Where a signal goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(super) url: String,
    pub(super) headers: Vec<(String, Secret)>,
    /// Of one attempt.
    pub(super) timeout: Duration,
    /// Certificates that the collector's is verified with; not set: the system's.
    pub(super) certificate: Option<PathBuf>,
}

impl Target {
    /// Without its query, in which there may be a key.
    pub(super) fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

/// How spans are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// So long a span waits for others at most.
    pub(super) delay: Duration,
    /// So many wait at most; what comes then is dropped.
    pub(super) queue_max: usize,
    /// So many are sent together at most.
    pub(super) batch_max: usize,
    /// All attempts to send a batch together.
    pub(super) timeout: Duration,
}

/// Whether the variable is read here.
pub(crate) fn is_read(name: &str) -> bool {
    let rest = name.strip_prefix("OTEL_");
    rest.is_some_and(|rest| {
        let otlp = rest.strip_prefix("EXPORTER_OTLP_").map(|rest| {
            let rest = rest.strip_prefix("TRACES_").unwrap_or(rest);
            rest.strip_prefix("METRICS_").unwrap_or(rest)
        });
        otlp.map_or_else(|| NAMES.contains(&rest), |rest| OTLP_NAMES.contains(&rest))
    })
}

/// Those that begin with `OTEL_`.
const NAMES: [&str; 13] = [
    "SDK_DISABLED",
    "SERVICE_NAME",
    "RESOURCE_ATTRIBUTES",
    "TRACES_EXPORTER",
    "METRICS_EXPORTER",
    "TRACES_SAMPLER",
    "TRACES_SAMPLER_ARG",
    "BSP_SCHEDULE_DELAY",
    "BSP_MAX_QUEUE_SIZE",
    "BSP_MAX_EXPORT_BATCH_SIZE",
    "BSP_EXPORT_TIMEOUT",
    "METRIC_EXPORT_INTERVAL",
    "METRIC_EXPORT_TIMEOUT",
];

/// Those that begin with `OTEL_EXPORTER_OTLP_`, or that and `TRACES_` or `METRICS_`.
const OTLP_NAMES: [&str; 6] =
    ["ENDPOINT", "HEADERS", "PROTOCOL", "TIMEOUT", "CERTIFICATE", "COMPRESSION"];

impl Telemetry {
    /// `given`: the variables that are set, by their names.
    pub(crate) fn read(given: &BTreeMap<String, String>, warnings: &mut Vec<String>) -> Self {
        let mut reader = Reader { given, warnings };
        let disabled = reader.get("OTEL_SDK_DISABLED");
        let disabled = disabled.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let signal = |reader: &mut Reader<'_>, name: &str| {
            let target = reader.target(name);
            target.filter(|_| !disabled)
        };
        let this = Self {
            traces: signal(&mut reader, "TRACES"),
            metrics: signal(&mut reader, "METRICS"),
            service: reader.get("OTEL_SERVICE_NAME").map(str::to_owned),
            attributes: reader.pairs("OTEL_RESOURCE_ATTRIBUTES"),
            sampler: reader.sampler(),
            batch: Batch {
                delay: reader.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
                queue_max: reader.number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
                batch_max: reader.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
                timeout: reader.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30_000),
            },
            metric_interval: reader.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
            metric_timeout: reader.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
        };
        let batch_max = this.batch.batch_max.min(this.batch.queue_max);
        Self { batch: Batch { batch_max, ..this.batch }, ..this }
    }

    /// Whether anything is exported.
    pub(crate) fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some()
    }
}

struct Reader<'a> {
    given: &'a BTreeMap<String, String>,
    warnings: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    /// An empty variable counts as one that is not set.
    fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.given.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// A variable of the exporter, for one signal or for all, with the name by which it is set.
    fn of_signal(&self, signal: &str, name: &str) -> Option<(String, &'a str)> {
        let names =
            [format!("OTEL_EXPORTER_OTLP_{signal}_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn ignore(&mut self, name: &str, why: &str) {
        let warning = format!("{name}: {why}; ignored");
        // One for all signals is read once for each.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn number<T: FromStr + PartialOrd + From<u8>>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.get(name) else { return default };
        match text.parse::<T>().ok().filter(|number| *number >= T::from(1)) {
            Some(number) => number,
            None => {
                self.ignore(name, "not a whole number from 1");
                default
            }
        }
    }

    fn milliseconds(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_millis(self.number(name, default))
    }

    /// `key=value,key=value`, values with percent signs as in a URL. What is none is left out.
    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let text = self.get(name).unwrap_or_default();
        let mut pairs = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let decoded = |text: &str| {
                let decoded = percent_decode_str(text.trim()).decode_utf8().ok();
                decoded.map(std::borrow::Cow::into_owned)
            };
            let pair = pair.split_once('=').and_then(|(key, value)| {
                Some((decoded(key).filter(|key| !key.is_empty())?, decoded(value)?))
            });
            match pair {
                Some(pair) => pairs.push(pair),
                // It is not repeated: headers have secrets.
                None => self.ignore(name, "has something that is no key=value"),
            }
        }
        pairs
    }

    fn sampler(&mut self) -> Sampler {
        let default = Sampler::default();
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else { return default };
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let arg = self.get("OTEL_TRACES_SAMPLER_ARG");
                let ratio = arg.map_or(Some(1.0), |arg| arg.parse::<f64>().ok());
                ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).unwrap_or_else(|| {
                    self.ignore("OTEL_TRACES_SAMPLER_ARG", "not a number from 0 to 1");
                    1.0
                })
            }
            _ => {
                self.ignore(
                    "OTEL_TRACES_SAMPLER",
                    "use always_on, always_off, traceidratio, or one of these behind parentbased_",
                );
                return default;
            }
        };
        Sampler { ratio, parent_based }
    }

    /// Where a signal goes, if it is wanted: an endpoint is given, or the exporter named.
    fn target(&mut self, signal: &str) -> Option<Target> {
        let exporter = format!("OTEL_{signal}_EXPORTER");
        let named = self.get(&exporter).unwrap_or_default();
        let has = |exporter: &str| named.split(',').any(|one| one.trim() == exporter);
        if has("none") {
            return None;
        }
        if !named.is_empty() && !has("otlp") {
            self.ignore(&exporter, "use otlp or none");
        }
        let wanted = has("otlp");
        let endpoint = self.of_signal(signal, "ENDPOINT");
        if endpoint.is_none() && !wanted {
            return None;
        }
        let (name, endpoint) = endpoint
            .unwrap_or_else(|| ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), "http://localhost:4318"));
        let spoken = self.is_http(signal);
        let url = self.url(signal, &name, endpoint, spoken)?;
        if let Some((name, value)) = self.of_signal(signal, "COMPRESSION")
            && value != "none"
        {
            self.ignore(&name, "nothing is compressed");
        }
        let headers = self.of_signal(signal, "HEADERS").map(|(name, _)| self.pairs(&name));
        let headers = headers.unwrap_or_default().into_iter();
        let timeout = self.of_signal(signal, "TIMEOUT").map(|(name, _)| name);
        let timeout = timeout.unwrap_or_else(|| "OTEL_EXPORTER_OTLP_TIMEOUT".into());
        Some(Target {
            url,
            headers: headers.map(|(name, value)| (name, Secret::new(value))).collect(),
            timeout: self.milliseconds(&timeout, 10_000),
            certificate: self.of_signal(signal, "CERTIFICATE").map(|(_, path)| path.into()),
        })
    }

    /// Whether the protocol is named, and is the one that is spoken here.
    fn is_http(&mut self, signal: &str) -> bool {
        let Some((name, protocol)) = self.of_signal(signal, "PROTOCOL") else { return false };
        let spoken = protocol == "http/protobuf";
        if !spoken {
            self.ignore(&name, "only http/protobuf is spoken here");
        }
        spoken
    }

    fn url(&mut self, signal: &str, name: &str, endpoint: &str, spoken: bool) -> Option<String> {
        let uri = endpoint.parse::<Uri>().ok();
        let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)];
        let uri = uri.filter(|uri| known.contains(&uri.scheme()) && !endpoint.contains('@'));
        let Some((uri, host)) = uri.as_ref().and_then(|uri| Some((uri, uri.host()?))) else {
            // Not shown: a password may be in it.
            self.ignore(name, "not a URL that begins with http:// or https://");
            return None;
        };
        let port = match uri.port_u16() {
            Some(GRPC_PORT) if !spoken => {
                let note = format!(
                    "{name}: port {GRPC_PORT} is OTLP over gRPC; this server speaks OTLP over HTTP and uses port {HTTP_PORT} there"
                );
                if !self.warnings.contains(&note) {
                    self.warnings.push(note);
                }
                Some(HTTP_PORT)
            }
            port => port,
        };
        let scheme = uri.scheme_str().unwrap_or("http");
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let path = match name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
            true => {
                let path = uri.path().trim_end_matches('/');
                format!("{path}/v1/{}", signal.to_ascii_lowercase())
            }
            false => uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        };
        Some(format!("{scheme}://{host}{port}{path}"))
    }
}

/// Where collectors take OTLP over gRPC, and over HTTP.
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Telemetry, Vec<String>) {
        let given: BTreeMap<_, _> =
            pairs.iter().map(|(name, value)| (format!("OTEL_{name}"), (*value).into())).collect();
        assert!(given.keys().all(|name| is_read(name)), "{given:?}");
        let mut warnings = Vec::new();
        (Telemetry::read(&given, &mut warnings), warnings)
    }

    fn urls(pairs: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let (read, warnings) = read(pairs);
        assert!(warnings.is_empty(), "{warnings:?}");
        (read.traces.map(|target| target.url), read.metrics.map(|target| target.url))
    }

    const ENDPOINT: &str = "EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn nothing_is_exported_unless_an_endpoint_or_an_exporter_is_named() {
        assert_eq!(urls(&[]), (None, None));
        assert_eq!(urls(&[("SERVICE_NAME", "x")]), (None, None));
        assert_eq!(urls(&[(ENDPOINT, "")]), (None, None), "an empty value is none");
        let both =
            |base: &str| (Some(format!("{base}/v1/traces")), Some(format!("{base}/v1/metrics")));
        assert_eq!(urls(&[(ENDPOINT, "http://h:4318")]), both("http://h:4318"));
        assert_eq!(urls(&[(ENDPOINT, "https://h/otlp/")]), both("https://h/otlp"));
        assert_eq!(urls(&[(ENDPOINT, "http://[::1]:1")]), both("http://[::1]:1"));
        let (traces, metrics) = both("http://localhost:4318");
        assert_eq!(urls(&[("TRACES_EXPORTER", "otlp")]), (traces.clone(), None));
        assert_eq!(urls(&[("METRICS_EXPORTER", "otlp")]), (None, metrics));
        let off = [(ENDPOINT, "http://localhost:4318"), ("METRICS_EXPORTER", "none")];
        assert_eq!(urls(&off), (traces, None));
        assert_eq!(urls(&[(ENDPOINT, "http://h:1"), ("SDK_DISABLED", "TRUE")]), (None, None));
    }

    #[test]
    fn a_signals_own_endpoint_is_taken_as_it_stands() {
        let own = ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/in?key=1");
        assert_eq!(urls(&[own]), (Some("http://t:1/in?key=1".into()), None));
        let bare = ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1");
        let expected = (Some("http://t:1/".into()), Some("http://h:2/v1/metrics".into()));
        assert_eq!(urls(&[bare, (ENDPOINT, "http://h:2")]), expected);
    }

    #[test]
    fn the_port_of_grpc_leads_to_the_one_of_http_beside_it() {
        let (telemetry, warnings) = read(&[(ENDPOINT, "http://localhost:4317")]);
        assert_eq!(telemetry.traces.unwrap().url, "http://localhost:4318/v1/traces");
        assert_eq!(telemetry.metrics.unwrap().url, "http://localhost:4318/v1/metrics");
        let [note] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(note.contains("4317") && note.contains("4318"), "{note}");
        let meant = [(ENDPOINT, "http://h:4317"), ("EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        assert_eq!(urls(&meant).0.unwrap(), "http://h:4317/v1/traces");
    }

    #[test]
    fn what_is_not_understood_is_said_and_ignored() {
        for (name, value) in [
            (ENDPOINT, "localhost:4318"),
            (ENDPOINT, "http://user:hunter2@h:1"),
            ("EXPORTER_OTLP_HEADERS", "hunter2"),
            ("EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("EXPORTER_OTLP_TIMEOUT", "10s"),
            ("TRACES_EXPORTER", "zipkin"),
            ("TRACES_SAMPLER", "jaeger_remote"),
            ("BSP_MAX_QUEUE_SIZE", "0"),
            ("METRIC_EXPORT_INTERVAL", "-1"),
        ] {
            let (_, warnings) = read(&[
                ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:1"),
                (ENDPOINT, "http://h:1"),
                (name, value),
            ]);
            let [warning] = &warnings[..] else { panic!("{name}={value}: {warnings:?}") };
            assert!(warning.starts_with(&format!("OTEL_{name}: ")), "{warning}");
            assert!(!warning.contains("hunter2"), "{warning}");
        }
        let arg = [("TRACES_SAMPLER", "traceidratio"), ("TRACES_SAMPLER_ARG", "2")];
        let (telemetry, warnings) = read(&arg);
        assert_eq!((telemetry.sampler.ratio, warnings.len()), (1.0, 1));
    }

    #[test]
    fn headers_and_attributes_are_lists_of_pairs() {
        let pairs = [
            (ENDPOINT, "http://h:1"),
            ("EXPORTER_OTLP_HEADERS", "api-key=a%20b, x = 1,"),
            ("RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,k=a%3Db"),
        ];
        let (telemetry, warnings) = read(&pairs);
        assert_eq!(warnings, Vec::<String>::new());
        let headers = telemetry.traces.unwrap().headers;
        let shown: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        assert_eq!(shown, [("api-key", "a b"), ("x", "1")]);
        let expected = [("deployment.environment.name", "prod"), ("k", "a=b")];
        assert!(telemetry.attributes.iter().map(|(k, v)| (&**k, &**v)).eq(expected));
    }

    #[test]
    fn samplers_have_the_names_of_the_specification() {
        for (name, arg, ratio, parent_based) in [
            ("always_on", "", 1.0, false),
            ("always_off", "", 0.0, false),
            ("traceidratio", "0.25", 0.25, false),
            ("parentbased_always_on", "", 1.0, true),
            ("parentbased_always_off", "", 0.0, true),
            ("parentbased_traceidratio", "", 1.0, true),
        ] {
            let (telemetry, _) = read(&[("TRACES_SAMPLER", name), ("TRACES_SAMPLER_ARG", arg)]);
            assert_eq!(telemetry.sampler, Sampler { ratio, parent_based }, "{name}");
        }
        assert_eq!(read(&[]).0.sampler, Sampler::default());
    }

    #[test]
    fn a_batch_is_no_larger_than_the_queue() {
        let (telemetry, _) = read(&[("BSP_MAX_QUEUE_SIZE", "10")]);
        assert_eq!((telemetry.batch.queue_max, telemetry.batch.batch_max), (10, 10));
    }
}
