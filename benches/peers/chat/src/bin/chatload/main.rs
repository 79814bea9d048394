//! Members of chat rooms, for any of the chat servers; `scripts/bench-chat` runs it.
//!
//! - `chatload talk --dialect D --port P --pid PID [--rooms N] [--members N] [--window N] [--bytes N] [--seconds N]`: in each
//!   room one member speaks, with so many texts under way. Every delivery is checked, and at the end who is there.
//! - `chatload idle …`: the members join and are silent; what memory each takes of the server.
//! - `chatload direct --how HOW [--texts N] …`: all members hear what the server `direct` sends them by itself.
//! - `chatload table FILE`: a Markdown table of the reports in a file.
//!
//! The first three print one line of JSON, with what `--note KEY=VALUE` adds. Exits with 1 if anything was lost.

#![allow(clippy::print_stdout)]

mod dialect;
mod member;
mod rooms;
mod table;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mahavishnu_bench_peers::Result;
use mahavishnu_benches::process::Process;
use rooms::{Plan, Rooms};
use serde_json::{Map, Value, json};

/// How long the server is warmed up.
const WARM_UP: Duration = Duration::from_millis(500);

struct Options {
    named: BTreeMap<String, String>,
    notes: Map<String, Value>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut this = Self { named: BTreeMap::new(), notes: Map::new() };
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("unknown argument {word}"))?;
            let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            if name == "note" {
                let (key, value) = value.split_once('=').ok_or("--note KEY=VALUE")?;
                this.notes.insert(key.into(), value.into());
            } else {
                this.named.insert(name.into(), value);
            }
        }
        Ok(this)
    }

    fn number(&self, name: &str, default: Option<u64>) -> Result<u64> {
        match (self.named.get(name), default) {
            (Some(text), _) => Ok(text.parse().map_err(|_| format!("--{name} wants a number"))?),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(format!("--{name} is missing").into()),
        }
    }

    fn plan(&self) -> Result<Plan> {
        let count = |name, default| {
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(usize::try_from(
                self.number(name, Some(default))?,
            )?)
        };
        Ok(Plan {
            dialect: self.named.get("dialect").ok_or("--dialect is missing")?.parse()?,
            port: u16::try_from(self.number("port", None)?)?,
            rooms: count("rooms", 10)?,
            members: count("members", 100)?,
            window: self.number("window", Some(1))?,
            bytes: count("bytes", 100)?,
        })
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    if what == "table" {
        let file = words.next().ok_or("chatload table FILE")?;
        print!("{}", table::of(&std::fs::read_to_string(file)?)?);
        return Ok(());
    }
    let options = Options::parse(words)?;
    let process = Process::new(u32::try_from(options.number("pid", None)?)?);
    let (mut report, well) = match what.as_str() {
        "talk" => talk(&options, process)?,
        "idle" => idle(&options, process)?,
        "direct" => direct(&options, process)?,
        _ => return Err("talk, idle, direct or table".into()),
    };
    if let Some(report) = report.as_object_mut() {
        report.insert("kind".into(), what.into());
        report.extend(options.notes);
    }
    println!("{report}");
    if well { Ok(()) } else { Err("something was lost, doubled or out of order".into()) }
}

fn talk(options: &Options, process: Process) -> Result<(Value, bool)> {
    let plan = options.plan()?;
    let mut rooms = Rooms::fill(plan)?;
    rooms.talk(WARM_UP)?;
    rooms.reset()?;
    let (cpu, begun) = (process.cpu_time()?, Instant::now());
    rooms.talk(Duration::from_secs(options.number("seconds", Some(3))?))?;
    let (elapsed, cpu) = (begun.elapsed(), process.cpu_time()?.saturating_sub(cpu));
    let tally = &rooms.tally;
    let (deliveries, idle) = (tally.deliveries, tally.idle.as_secs_f64() / elapsed.as_secs_f64());
    let percentile = |of| tally.latency.value_at_quantile(of) as f64 / 1_000.0;
    let report = json!({
        "rooms": plan.rooms, "members": plan.members, "window": plan.window, "bytes": plan.bytes,
        "seconds": elapsed.as_secs_f64(),
        "deliveries": deliveries,
        "deliveries_per_second": deliveries as f64 / elapsed.as_secs_f64(),
        "cpu_seconds": cpu.as_secs_f64(),
        "deliveries_per_cpu_second": deliveries as f64 / cpu.as_secs_f64().max(0.01),
        "bytes_per_delivery": tally.bytes as f64 / deliveries.max(1) as f64,
        "p50_ms": percentile(0.5), "p99_ms": percentile(0.99),
        "generator_idle": idle,
    });
    let lost = rooms.drain()?;
    let wrong = rooms.roll_call()?;
    let violations = rooms.tally.violations;
    let report =
        with(report, [("lost", lost), ("violations", violations), ("rolls_wrong", wrong as u64)]);
    Ok((report, deliveries > 0 && lost == 0 && violations == 0 && wrong == 0))
}

fn idle(options: &Options, process: Process) -> Result<(Value, bool)> {
    let plan = options.plan()?;
    let before = process.resident_bytes()?;
    let mut rooms = Rooms::fill(plan)?;
    rooms.settle()?;
    let taken = process.resident_bytes()?.saturating_sub(before);
    let members = plan.rooms * plan.members;
    let wrong = rooms.roll_call()?;
    let report = json!({
        "connections": members, "resident_before": before, "rolls_wrong": wrong,
        "bytes_per_connection": taken as f64 / members.max(1) as f64,
    });
    Ok((report, wrong == 0))
}

fn direct(options: &Options, process: Process) -> Result<(Value, bool)> {
    let plan = Plan { rooms: 1, ..options.plan()? };
    let how = options.named.get("how").ok_or("--how is missing")?;
    let texts = options.number("texts", Some(20))?;
    let mut rooms = Rooms::fill(plan)?;
    let mut lost = rooms.ask(how, 1)?;
    rooms.settle()?;
    rooms.reset()?;
    let (cpu, begun) = (process.cpu_time()?, Instant::now());
    lost += rooms.ask(how, texts)?;
    let (elapsed, cpu) = (begun.elapsed().as_secs_f64(), process.cpu_time()?.saturating_sub(cpu));
    let deliveries = rooms.tally.deliveries;
    let report = json!({
        "how": how, "members": plan.members, "texts": texts, "bytes": plan.bytes,
        "seconds": elapsed,
        "deliveries": deliveries,
        "deliveries_per_second": deliveries as f64 / elapsed,
        "cpu_seconds": cpu.as_secs_f64(),
        "nanoseconds_per_delivery": cpu.as_secs_f64() * 1e9 / deliveries.max(1) as f64,
        "bytes_per_delivery": rooms.tally.bytes as f64 / deliveries.max(1) as f64,
        "generator_idle": rooms.tally.idle.as_secs_f64() / elapsed,
    });
    // What comes twice comes after all that was waited for.
    rooms.settle()?;
    let violations = rooms.tally.violations;
    let well = lost == 0 && violations == 0 && deliveries == texts * plan.members as u64;
    Ok((with(report, [("lost", lost), ("violations", violations)]), well))
}

fn with<const N: usize>(mut report: Value, further: [(&str, u64); N]) -> Value {
    if let Some(report) = report.as_object_mut() {
        report.extend(further.map(|(key, value)| (key.to_owned(), value.into())));
    }
    report
}
