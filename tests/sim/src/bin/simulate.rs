//! Replays one world, or searches many for one in which something goes wrong.

use std::{ops::Range, process::ExitCode, time::Instant};

use clap::Parser;
use mahavishnu_sim::{INVARIANTS, Options, Report, Wrong, run, shrink};

#[derive(Debug, Parser)]
#[command(about = "Simulates whole servers from a seed and checks every invariant")]
struct Arguments {
    /// Replays the world of one seed and tells its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Searches the worlds of many seeds: `A..B`.
    #[arg(long, value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Overrides an option: `name=value`. May be given often.
    #[arg(long, value_parser = assignment)]
    set: Vec<(String, u64)>,
    /// Runs each seed twice and compares the digests of all inputs and outputs.
    #[arg(long)]
    twice: bool,
    /// With --seed: tells every event.
    #[arg(long)]
    verbose: bool,
    /// Fan-out without faults instead of what the seed says.
    #[arg(long)]
    fan_out: bool,
    /// Searches on after a violation, without shrinking.
    #[arg(long)]
    keep_going: bool,
    /// Lists the invariants.
    #[arg(long)]
    invariants: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.invariants {
        INVARIANTS.iter().for_each(|(name, says)| println!("{name:12} {says}"));
        return ExitCode::SUCCESS;
    }
    let good = match (&arguments.seeds, arguments.seed) {
        (Some(seeds), _) => search(&arguments, seeds.clone()),
        (None, seed) => replay(&arguments, seed.unwrap_or(0)),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(arguments: &Arguments, seed: u64) -> Options {
    let mut options =
        if arguments.fan_out { Options::fan_out(seed) } else { Options::from_seed(seed) };
    for (name, value) in &arguments.set {
        assert!(options.set(name, *value), "no option is called {name}");
    }
    options
}

fn replay(arguments: &Arguments, seed: u64) -> bool {
    let options = options(arguments, seed);
    println!("{options}");
    let started = Instant::now();
    let report = run(&options, Wrong::Nothing, arguments.verbose);
    let seconds = started.elapsed().as_secs_f64();
    print!("{}", report.story);
    println!(
        "digest {:016x}: {} events and {:.1} s in the world, {} connections, {} deliveries, {} gaps; {seconds:.3} s here, {:.0} deliveries/s",
        report.digest,
        report.steps,
        report.nanos as f64 / 1e9,
        report.connections,
        report.deliveries,
        report.gaps,
        report.deliveries as f64 / seconds
    );
    verdict(arguments, &options, &report)
}

fn search(arguments: &Arguments, seeds: Range<u64>) -> bool {
    let started = Instant::now();
    let (mut deliveries, mut steps, mut connections, mut bad) = (0, 0, 0, 0);
    let count = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        let options = options(arguments, seed);
        let report = run(&options, Wrong::Nothing, false);
        deliveries += report.deliveries;
        steps += report.steps;
        connections += report.connections;
        if arguments.keep_going {
            if let Some(violation) = &report.violation {
                bad += 1;
                println!("seed {seed}: {}: {}", violation.invariant, violation.detail);
            }
        } else if !verdict(arguments, &options, &report) {
            return false;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {bad} bad: {connections} connections, {deliveries} deliveries, {steps} events in {seconds:.1} s: {:.1} seeds/s, {:.0} deliveries/s, {:.0} events/s",
        count as f64 / seconds,
        deliveries as f64 / seconds,
        steps as f64 / seconds
    );
    bad == 0
}

/// Tells what went wrong, with the smallest world in which it does.
fn verdict(arguments: &Arguments, options: &Options, report: &Report) -> bool {
    let seed = options.seed;
    if arguments.twice {
        let again = run(options, Wrong::Nothing, false);
        if again.digest != report.digest {
            println!("seed {seed}: two runs differ: {:016x}, {:016x}", report.digest, again.digest);
            return false;
        }
    }
    let Some(violation) = &report.violation else { return true };
    println!(
        "seed {seed} breaks `{}` after {:.3} ms: {}",
        violation.invariant,
        violation.at_nanos as f64 / 1e6,
        violation.detail
    );
    if arguments.seed.is_some() && !arguments.set.is_empty() {
        return false;
    }
    println!("{options}\nmaking it smaller...");
    let (smallest, violation) = shrink(options, violation, 300);
    println!("{}: {}", violation.invariant, violation.detail);
    let base = self::options(arguments, seed).list();
    let changed: Vec<String> = smallest
        .list()
        .iter()
        .zip(base)
        .filter(|(now, before)| **now != *before)
        .map(|((name, value), _)| format!("--set {name}={value}"))
        .collect();
    println!("simulate --verbose --seed {seed} {}", changed.join(" "));
    false
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parse = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = text.split_once("..").ok_or("a range is A..B")?;
    Ok(parse(from)?..parse(to)?)
}

fn assignment(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("an option is set by name=value")?;
    Ok((name.to_owned(), value.parse().map_err(|error| format!("{error}"))?))
}
