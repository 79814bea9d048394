//! The same is done to the model and to each real server that is installed, and everything that comes back has to be
//! the same. `DIFFERENTIAL_CASES` says how many runs there are on each (30), `DIFFERENTIAL_SEED` with which one they
//! begin.

mod arguments;
mod dice;
mod generate;
mod normal;
mod pair;
mod plan;
mod scripts;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use mahavishnu_redis_model::Redis as Model;
use mahavishnu_test_redis::{Kind, Options, Redis, Value, encode};

use crate::{
    generate::Generator,
    pair::{Difference, Pair, Sabotage},
    plan::Step,
};

/// Steps of a run.
const STEPS: usize = 150;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_model_answers_as_every_server_does() {
    let (first, cases) = (setting("DIFFERENTIAL_SEED", 1), setting("DIFFERENTIAL_CASES", 30));
    thread::scope(|scope| {
        for kind in Kind::all() {
            scope.spawn(move || {
                let server = Redis::with(Options::of(kind));
                for seed in first..first + cases {
                    if let Err(text) = try_seed(&server, seed, &|_, _| {}) {
                        panic!("{kind}, seed {seed}:\n{text}");
                    }
                }
                println!("{kind}: seeds {first}..{}", first + cases);
            });
        }
    });
}

#[test]
fn a_model_that_is_wrong_is_noticed() {
    let server = Redis::start();
    let sabotages: [(&str, Sabotage<'_>); 3] = [
        ("keys that are lost", &|model, step| {
            if step == 60 {
                let keys: Vec<Vec<u8>> = model.keys(0).map(<[u8]>::to_vec).collect();
                for key in keys {
                    model.evict(0, &key);
                }
            }
        }),
        ("scripts that are forgotten", &|model, step| {
            if step == 80 {
                model.flush_scripts();
            }
        }),
        ("a clock that is set", &|model, step| {
            if step == 70 {
                model.jump_clock(-600_000);
            }
        }),
    ];
    for (what, sabotage) in sabotages {
        let noticed = (1..20).find_map(|seed| draw(&server, seed, sabotage).1);
        let found = noticed.unwrap_or_else(|| panic!("{what}: nobody noticed"));
        println!("{what}: step {}, {}", found.step, found.text);
    }
}

#[test]
fn a_difference_is_told_in_few_steps() {
    let server = Redis::start();
    // What newer servers do.
    let sabotage: Sabotage<'_> = &|model, _| model.set_pushes_first(false);
    let found = (1..20).find_map(|seed| {
        let (steps, found) = draw(&server, seed, sabotage);
        found.map(|found| shrink(&server, &steps, found.text, sabotage).0)
    });
    let steps = found.expect("somebody hears himself in one of twenty runs");
    assert!(steps.len() <= 4, "{steps:#?}");
}

/// One run, and if it finds a difference, the fewest steps that do.
fn try_seed(server: &Redis, seed: u64, sabotage: Sabotage<'_>) -> Result<(), String> {
    let (steps, found) = draw(server, seed, sabotage);
    let Some(found) = found else { return Ok(()) };
    let steps = &steps[..=found.step];
    let (fewest, text) = shrink(server, steps, found.text, sabotage);
    let shown: Vec<String> = fewest.iter().map(|step| format!("  {step:?}")).collect();
    Err(format!("{} of {} steps:\n{}\n{text}", fewest.len(), steps.len(), shown.join("\n")))
}

/// Draws a run and makes it, up to the first difference.
fn draw(server: &Redis, seed: u64, sabotage: Sabotage<'_>) -> (Vec<Step>, Option<Difference>) {
    let keys = generate::keys();
    let mut generator = Generator::new(seed);
    let mut pair = Pair::new(server);
    let mut steps: Vec<Step> = Vec::new();
    let mut next = generator.first();
    loop {
        for step in next {
            let at = steps.len();
            sabotage(&mut pair.model, at);
            let made = pair.step(&step, &keys);
            steps.push(step);
            if let Err(text) = made {
                return (steps, Some(Difference { step: at, text }));
            }
        }
        if steps.len() >= STEPS {
            break;
        }
        let now = pair.now();
        next = generator.next(&mut |command| ask(&mut pair.model, now, command));
    }
    for step in generator.last() {
        let at = steps.len();
        let made = pair.step(&step, &keys);
        steps.push(step);
        if let Err(text) = made {
            return (steps, Some(Difference { step: at, text }));
        }
    }
    (steps, None)
}

/// What the model answers to somebody who takes no part in the run.
fn ask(model: &mut Model, now: std::time::Duration, command: &[&str]) -> Option<String> {
    let peer = "127.0.0.1:8".parse().expect("an address");
    let observer = model.connect(now, peer).expect("it runs");
    model.receive(now, observer, &encode(command));
    let bytes = model.take(observer);
    model.closed(now, observer);
    match Value::parse(&bytes).expect("an answer").0 {
        Value::Bulk(text) => Some(String::from_utf8_lossy(&text).into_owned()),
        _ => None,
    }
}

/// Leaves out steps as long as there is a difference.
fn shrink(
    server: &Redis,
    steps: &[Step],
    text: String,
    sabotage: Sabotage<'_>,
) -> (Vec<Step>, String) {
    let (mut steps, mut text) = (steps.to_vec(), text);
    let mut size = steps.len() / 2;
    while size > 0 {
        let (before, mut at) = (steps.len(), 0);
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match replay(server, &fewer, sabotage) {
                Some(found) => {
                    fewer.truncate(found.step + 1);
                    (steps, text) = (fewer, found.text);
                }
                None => at += size,
            }
        }
        if size > 1 || steps.len() == before {
            size /= 2;
        }
    }
    (steps, text)
}

fn replay(server: &Redis, steps: &[Step], sabotage: Sabotage<'_>) -> Option<Difference> {
    let keys = generate::keys();
    let mut pair = Pair::new(server);
    for (at, step) in steps.iter().enumerate() {
        sabotage(&mut pair.model, at);
        let made = catch_unwind(AssertUnwindSafe(|| pair.step(step, &keys)));
        if let Ok(Err(text)) = made {
            return Some(Difference { step: at, text });
        }
        if made.is_err() {
            break;
        }
    }
    None
}
