//! Runs one hot case, for callgrind: `instructions NAME` prints how many operations were measured. Without a name:
//! the names, and what an operation is.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    process::ExitCode,
};

use mahavishnu_microbenches::hot::CASES;

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let Some(name) = std::env::args().nth(1) else {
        for case in CASES {
            writeln!(out, "{}\t{}", case.name, case.operation)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    match CASES.iter().find(|case| case.name == name) {
        Some(case) => {
            writeln!(out, "{}", (case.run)())?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            writeln!(io::stderr(), "instructions: there is no case {name}")?;
            Ok(ExitCode::from(2))
        }
    }
}
