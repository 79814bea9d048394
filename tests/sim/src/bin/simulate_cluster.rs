//! Replays one world of several processes, or searches many for one in which something goes wrong.

use std::{
    collections::BTreeMap,
    ops::Range,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use mahavishnu_sim::{ClusterOptions, ClusterReport, run_cluster};

#[derive(Debug, Parser)]
#[command(
    about = "Simulates several processes and the Redis between them, and checks what clients are told"
)]
struct Arguments {
    /// Replays the world of one seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Searches the worlds of many seeds: `A..B`.
    #[arg(long, value_parser = range)]
    seeds: Option<Range<u64>>,
    /// With --seeds: begins no further seed after so many seconds.
    #[arg(long = "for")]
    seconds: Option<u64>,
    /// Overrides an option, or how often a fault happens: `name=value`. May be given often.
    #[arg(long, value_parser = assignment)]
    set: Vec<(String, u64)>,
    /// Without any fault but those that are set.
    #[arg(long)]
    calm: bool,
    /// Runs each seed twice and compares the digests.
    #[arg(long)]
    twice: bool,
    /// With --seed: tells what happened.
    #[arg(long)]
    verbose: bool,
    /// Searches on after a violation.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seeds.clone().unwrap_or_else(|| {
        let seed = arguments.seed.unwrap_or(0);
        seed..seed + 1
    });
    let started = Instant::now();
    let (mut count, mut bad) = (0u64, 0u64);
    let mut sums = Sums::default();
    for seed in seeds {
        if arguments.seconds.is_some_and(|limit| started.elapsed() >= Duration::from_secs(limit)) {
            println!("time is up after {count} seeds");
            break;
        }
        let options = options(&arguments, seed);
        let report = run_cluster(&options, arguments.verbose);
        count += 1;
        sums.add(&report);
        print!("{}", report.story);
        if arguments.twice && run_cluster(&options, false).digest != report.digest {
            println!("seed {seed}: another digest\n{options}");
            return ExitCode::FAILURE;
        }
        if let Some(violation) = &report.violation {
            bad += 1;
            let ms = violation.at_nanos / 1_000_000;
            println!(
                "seed {seed} breaks `{}` at {ms} ms: {}",
                violation.invariant, violation.detail
            );
            println!("{options}");
            if !arguments.keep_going {
                break;
            }
        }
    }
    println!("{count} seeds, {bad} bad, {:.1} s; {sums:?}", started.elapsed().as_secs_f64());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What happened in all worlds together.
#[derive(Debug, Default)]
struct Sums {
    deliveries: u64,
    answers: [u64; 3],
    gaps: [u64; 2],
    recoveries: [u64; 2],
    queued: [u64; 2],
    resumed: [u64; 2],
    sessions: u64,
    steps: u64,
    seconds: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl Sums {
    fn add(&mut self, report: &ClusterReport) {
        fn all<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.deliveries += report.deliveries;
        all(&mut self.answers, &report.answers);
        all(&mut self.gaps, &report.gaps);
        all(&mut self.recoveries, &report.recoveries);
        all(&mut self.queued, &report.queued);
        all(&mut self.resumed, &report.resumed);
        self.sessions += report.sessions;
        self.steps += report.steps;
        self.seconds += report.nanos / 1_000_000_000;
        for (name, count) in &report.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }
}

fn options(arguments: &Arguments, seed: u64) -> ClusterOptions {
    let mut options =
        if arguments.calm { ClusterOptions::calm(seed) } else { ClusterOptions::from_seed(seed) };
    for (name, value) in &arguments.set {
        assert!(options.set(name, *value), "no option is called {name}");
    }
    options
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("a range is A..B")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    Ok(number(from)?..number(to)?)
}

fn assignment(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("an assignment is name=value")?;
    let value = value.parse().map_err(|_| format!("{value} is no number"))?;
    Ok((name.to_owned(), value))
}
