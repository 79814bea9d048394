//! What a program tells of its process. A hub knows nothing of it.

use metrics::Recorder;

use super::{
    MEMORY_LIMIT, PROCESS_CPU, PROCESS_FILES, PROCESS_FILES_MAX, PROCESS_MEMORY, PROCESS_START,
    handles::Registry,
};
use crate::config::Config;

/// A process at one moment. What the system does not say is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Whole seconds on processors since it began.
    pub cpu_seconds: Option<u64>,
    /// Bytes of memory that are in RAM.
    pub resident_bytes: Option<u64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
    /// How many of these there may be.
    pub open_files_max: Option<u64>,
    /// When it began, in seconds since 1970.
    pub began: Option<f64>,
}

/// Tells of the process, under the names that client libraries of Prometheus have for it.
pub fn tell_process(recorder: &dyn Recorder, config: &Config, process: &Process) {
    let source = Registry { recorder, server: config.service.label.clone() };
    if let Some(seconds) = process.cpu_seconds {
        source.counter(PROCESS_CPU, &[]).absolute(seconds);
    }
    for (name, value) in [
        (PROCESS_MEMORY, process.resident_bytes.map(|bytes| bytes as f64)),
        (PROCESS_FILES, process.open_files.map(|files| files as f64)),
        (PROCESS_FILES_MAX, process.open_files_max.map(|files| files as f64)),
        (PROCESS_START, process.began),
    ] {
        if let Some(value) = value {
            source.gauge(name, &[]).set(value);
        }
    }
}

/// Tells how much memory the program is to make do with; zero if nobody has said so.
pub fn tell_memory_limit(recorder: &dyn Recorder, config: &Config, bytes: u64) {
    let source = Registry { recorder, server: config.service.label.clone() };
    source.gauge(MEMORY_LIMIT, &[]).set(bytes as f64);
}
