//! An OpenTelemetry collector as far as a test needs one: it takes OTLP over HTTP, reads it by the official schema, and can
//! refuse, keep silent, or answer slowly.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::ExportMetricsServiceRequest,
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
    trace::v1::Span,
};
use prost::Message;

use crate::wait;

/// What it does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It takes it.
    #[default]
    Takes,
    /// It takes it, and says that it did not want so many of the spans.
    TakesBut(i64),
    /// It answers with this status.
    Answers(u16),
    /// It reads and does not answer.
    Silent,
}

/// A collector on a free port.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    requests: Vec<Request>,
}

/// What it was sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The path.
    pub path: String,
    /// Fields; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Content.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a field, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

impl Collector {
    /// One that takes everything.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<Mutex<State>>::default();
        let own = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = own.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Where it is, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on.
    pub fn set(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// All that it was sent.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// All spans, each with its resource's attributes.
    pub fn spans(&self) -> Vec<(Span, Vec<KeyValue>)> {
        let mut spans = Vec::new();
        for request in self.requests().iter().filter(|request| request.path == "/v1/traces") {
            let read = ExportTraceServiceRequest::decode(&*request.body).expect("OTLP");
            for of_resource in read.resource_spans {
                let resource = of_resource.resource.expect("a resource").attributes;
                let of_scopes = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(of_scopes.map(|span| (span, resource.clone())));
            }
        }
        spans
    }

    /// Waits for a span.
    pub fn span(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        let found = wait::within(wait::DEADLINE, || {
            self.spans().into_iter().map(|(span, _)| span).find(&is)
        });
        found.unwrap_or_else(|| panic!("no {what} among {:#?}", self.spans()))
    }

    /// The metrics of the last request with metrics.
    pub fn metrics(&self) -> Vec<Metric> {
        let requests = self.requests();
        let last = requests.iter().rev().find(|request| request.path == "/v1/metrics");
        let Some(last) = last else { return Vec::new() };
        let read = ExportMetricsServiceRequest::decode(&*last.body).expect("OTLP");
        let scopes = read.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let mood = {
            let mut state = state.lock().expect("nobody panics with it");
            state.requests.push(request);
            state.mood
        };
        let (status, body) = match mood {
            Mood::Takes => (200, Vec::new()),
            Mood::TakesBut(rejected_spans) => {
                let partial_success = Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: "no room".into(),
                });
                (200, ExportTraceServiceResponse { partial_success }.encode_to_vec())
            }
            Mood::Answers(status) => (status, Vec::new()),
            Mood::Silent => continue,
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = [head.as_bytes(), &body].concat();
        if reader.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .ok()
            .filter(|read| *read > 0)
            .map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let field = line()?;
        let Some((name, value)) = field.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length?.1.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body })
}

/// The value of an attribute as text.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// The points of a sum or a gauge.
pub fn points(metric: &Metric) -> Vec<(Vec<KeyValue>, f64)> {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;

    let points = match metric.data.as_ref().expect("data") {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{}: {other:?}", metric.name),
    };
    let value = |value: &Option<Value>| match value.as_ref().expect("a value") {
        Value::AsInt(number) => *number as f64,
        Value::AsDouble(number) => *number,
    };
    points.iter().map(|point| (point.attributes.clone(), value(&point.value))).collect()
}
