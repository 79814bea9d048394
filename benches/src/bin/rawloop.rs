//! The raw reference server: see the library's module `rawloop`.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::atomic::AtomicBool,
};

use clap::Parser;
use mahavishnu_benches::{
    Result,
    rawloop::{Mode, RawLoop},
    socket,
};

/// Copies a publisher's frames (path /pub) to all subscribers (path /sub), without any checks.
#[derive(Debug, Parser)]
#[command(name = "rawloop")]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one, which is printed.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Sends the frames of one round of the loop to each subscriber at once.
    #[arg(long)]
    batch: bool,
    /// Sends every frame back to where it came from.
    #[arg(long, conflicts_with = "batch")]
    echo: bool,
    /// Pins the loop to this CPU.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is closed too.
            let _ = writeln!(std::io::stderr(), "rawloop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    socket::raise_open_files()?;
    if let Some(cpu) = arguments.cpu {
        socket::pin_to_cpu(cpu)?;
    }
    let mode = match (arguments.batch, arguments.echo) {
        (_, true) => Mode::Echo,
        (true, false) => Mode::Batch,
        (false, false) => Mode::Send,
    };
    let mut server = RawLoop::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)), mode)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", server.local_addr()?)?;
    stdout.flush()?;
    server.run(&AtomicBool::new(false))
}
