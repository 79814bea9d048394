//! Replays one world, or searches many for one in which something goes wrong.

use std::{
    ops::Range,
    panic,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

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
    /// With --seeds: begins no further seed after this time. `90s`, `10m`, `1h`.
    #[arg(long = "for", value_parser = duration)]
    limit: Option<Duration>,
    /// A seed that takes longer than this has failed: something in it never ends.
    #[arg(long, value_parser = duration, default_value = "5m")]
    patience: Duration,
    /// Runs every world on so many hubs: the same as `--set shards=N`.
    #[arg(long)]
    shards: Option<u64>,
    /// Overrides an option: `name=value`. May be given often.
    #[arg(long, value_parser = assignment)]
    set: Vec<(String, u64)>,
    /// Runs each seed twice and compares the digests of all inputs and outputs.
    #[arg(long)]
    twice: bool,
    /// With --seeds: prints each seed's digest of all inputs and outputs, to compare two versions by.
    #[arg(long)]
    digests: bool,
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
    let mut arguments = Arguments::parse();
    arguments.set.extend(arguments.shards.map(|shards| ("shards".to_owned(), shards)));
    if arguments.invariants {
        INVARIANTS.iter().for_each(|(name, says)| println!("{name:12} {says}"));
        return ExitCode::SUCCESS;
    }
    let watch = Watch::new(arguments.patience);
    let good = match (&arguments.seeds, arguments.seed) {
        (Some(seeds), _) => search(&arguments, seeds.clone(), &watch),
        (None, seed) => replay(&arguments, seed.unwrap_or(0), &watch),
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

fn replay(arguments: &Arguments, seed: u64, watch: &Watch) -> bool {
    watch.begin(seed);
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
    verdict(arguments, &options, &report, watch)
}

fn search(arguments: &Arguments, seeds: Range<u64>, watch: &Watch) -> bool {
    let started = Instant::now();
    let (mut deliveries, mut steps, mut connections, mut busy, mut bad) = (0, 0, 0, 0, 0);
    let mut count = 0;
    let planned = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        if arguments.limit.is_some_and(|limit| started.elapsed() >= limit) {
            println!("time is up after {count} of {planned} seeds");
            break;
        }
        watch.begin(seed);
        count += 1;
        let options = options(arguments, seed);
        let report = run(&options, Wrong::Nothing, false);
        if arguments.digests {
            println!("seed {seed} digest {:016x}", report.digest);
        }
        deliveries += report.deliveries;
        steps += report.steps;
        connections += report.connections;
        busy += report.busy;
        if arguments.keep_going {
            if let Some(violation) = &report.violation {
                bad += 1;
                println!("seed {seed}: {}: {}", violation.invariant, violation.detail);
            }
        } else if !verdict(arguments, &options, &report, watch) {
            return false;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {bad} bad: {connections} connections, {deliveries} deliveries, {busy} times busy, {steps} events in {seconds:.1} s: {:.1} seeds/s, {:.0} deliveries/s, {:.0} events/s",
        count as f64 / seconds,
        deliveries as f64 / seconds,
        steps as f64 / seconds
    );
    bad == 0
}

/// Tells what went wrong, with the smallest world in which it does.
fn verdict(arguments: &Arguments, options: &Options, report: &Report, watch: &Watch) -> bool {
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
    watch.stop();
    // If it is a panic, it was shown once already.
    panic::set_hook(Box::new(|_| ()));
    let (smallest, violation) = shrink(options, violation, 300);
    println!("{}: {}", violation.invariant, violation.detail);
    let base = Options::from_seed(seed).list();
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

/// Ends the process if a seed does not end: a hub that never returns cannot be stopped otherwise.
#[derive(Debug)]
struct Watch {
    seed: Arc<AtomicU64>,
    /// Seconds after `origin`; 0: nothing has begun.
    begun: Arc<AtomicU64>,
    origin: Instant,
}

impl Watch {
    fn new(patience: Duration) -> Self {
        let this = Self { seed: Arc::default(), begun: Arc::default(), origin: Instant::now() };
        let (seed, begun, origin) = (this.seed.clone(), this.begun.clone(), this.origin);
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let begun = Duration::from_secs(begun.load(Ordering::Acquire));
                if !begun.is_zero() && origin.elapsed() > begun + patience {
                    let seed = seed.load(Ordering::Acquire);
                    println!("seed {seed} breaks `end`: it still runs after {patience:?}");
                    std::process::exit(1);
                }
            }
        });
        this
    }

    fn begin(&self, seed: u64) {
        self.seed.store(seed, Ordering::Release);
        self.begun.store(self.origin.elapsed().as_secs() + 1, Ordering::Release);
    }

    /// Making a world smaller takes many runs, and has no limit of its own.
    fn stop(&self) {
        self.begun.store(0, Ordering::Release);
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parse = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = text.split_once("..").ok_or("a range is A..B")?;
    Ok(parse(from)?..parse(to)?)
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a duration is 90s, 10m or 1h".to_owned()),
    };
    let number = digits.parse::<u64>().map_err(|error| error.to_string())?;
    Ok(Duration::from_secs(number.saturating_mul(scale)))
}

fn assignment(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("an option is set by name=value")?;
    Ok((name.to_owned(), value.parse().map_err(|error| format!("{error}"))?))
}
