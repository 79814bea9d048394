//! Breaks what can break between nodes and their Redis, under load, and prints what came of it as Markdown.
//!
//! `outages [--runtime tokio|smol] [--small] [--list] [NAME…]`; `scripts/outages` builds what it needs. A NAME is one of
//! the list, or `rolling`. Exits with 1 if anything was lost, doubled or out of order without a word.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use mahavishnu_tests::outages::{Balancer, Drain, Outage, Rolled, Row, Scale, roll};

fn main() -> ExitCode {
    let mut runtimes = vec!["tokio".to_owned(), "smol".to_owned()];
    let (mut scale, mut names) = (Scale::Full, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runtime" => runtimes = vec![arguments.next().expect("--runtime tokio or smol")],
            "--small" => scale = Scale::Small,
            "--list" => {
                Outage::all().for_each(|outage| println!("{}\t{}", outage.name, outage.what));
                return ExitCode::SUCCESS;
            }
            name => names.push(name.to_owned()),
        }
    }
    let rolls = names.is_empty() || names.iter().any(|name| name == "rolling");
    let outages: Vec<_> = match names.as_slice() {
        [] => Outage::all().collect(),
        names => {
            names.iter().filter(|name| *name != "rolling").map(|name| Outage::named(name)).collect()
        }
    };
    let mut is_fine = true;
    for runtime in runtimes {
        if !outages.is_empty() {
            println!("\n{runtime}:\n\n{}", Row::HEAD);
        }
        for outage in &outages {
            is_fine &= run(outage, scale, &runtime);
        }
        if rolls {
            println!("\n{runtime}, rolling restart:\n\n{}", Rolled::HEAD);
            for balancer in [Balancer::Nginx, Balancer::Haproxy] {
                for drain in [Drain::AtOnce, Drain::Gently] {
                    is_fine &= restart(balancer, drain, scale, &runtime);
                }
            }
        }
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints its row; whether nothing was lost.
fn restart(balancer: Balancer, drain: Drain, scale: Scale, runtime: &str) -> bool {
    let settings = [("RUNTIME", runtime)];
    let Ok(rolled) = catch_unwind(|| roll(balancer, drain, scale, &settings)) else {
        println!("| {balancer:?} | FAILED |||||||");
        return false;
    };
    println!("{rolled}");
    let fault = rolled.fault();
    if let Some(fault) = &fault {
        eprintln!("{balancer:?} on {runtime}: {fault}");
    }
    fault.is_none()
}

/// Prints its row; whether all was as it has to be.
fn run(outage: &Outage, scale: Scale, runtime: &str) -> bool {
    if let Some(missing) = outage.missing() {
        println!("| {} | SKIPPED: {missing} is not here |||||||", outage.what);
        return true;
    }
    // What went wrong is on standard error by then.
    let settings = [("RUNTIME", runtime)];
    let Ok(row) = catch_unwind(AssertUnwindSafe(|| outage.run(scale, &settings))) else {
        println!("| {} | FAILED |||||||", outage.what);
        return false;
    };
    println!("{}", row.line());
    let fault = row.fault();
    if let Some(fault) = &fault {
        eprintln!("{} on {runtime}: {fault}", outage.name);
    }
    fault.is_none()
}
