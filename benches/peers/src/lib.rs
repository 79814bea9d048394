//! What the Rust peers have in common: their command line, the listening socket and the roles of connections.
//!
//! Connections under `/pub` publish, those under `/sub` get what is published, all others only exist; with `--echo`
//! every message goes back to where it came from. All of it on one thread.

use std::{error::Error, future::Future, io, net::Ipv4Addr};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

/// What went wrong, in words.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Send every message back instead of fanning it out.
    pub echo: bool,
    /// Write all that waits before flushing once, and read into a small buffer.
    pub drained: bool,
}

impl Options {
    /// Reads `--port PORT`, `--echo` and `--drained`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut this = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--port" => this.port = arguments.next().ok_or("--port wants a number")?.parse()?,
                "--echo" => this.echo = true,
                "--drained" => this.drained = true,
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(this)
    }
}

/// What a connection is for, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its messages go to all subscribers.
    Publisher,
    /// Gets them.
    Subscriber,
    /// Its messages come back.
    Echo,
    /// Is there.
    Idle,
}

impl Role {
    /// The role of a connection with this path.
    #[must_use]
    pub fn of(path: &str, options: Options) -> Self {
        match path {
            _ if options.echo => Self::Echo,
            "/pub" => Self::Publisher,
            "/sub" => Self::Subscriber,
            _ => Self::Idle,
        }
    }
}

/// Accepts for ever, with a task for each connection, all on this thread.
///
/// # Errors
/// The command line is wrong or the port is taken.
pub fn serve<F>(connection: impl Fn(TcpStream, Options) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let options = Options::parse(std::env::args().skip(1))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        loop {
            let stream = accept(&listener).await?;
            let serving = connection(stream, options);
            tokio::spawn(async move {
                // A benchmark's clients end connections as they like; what they miss, they report themselves.
                drop(serving.await);
            });
        }
    })
}

/// Without Nagle's algorithm, as all the other servers have it.
async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Messages that a subscriber may be behind before it loses some: more than any benchmark has under way.
pub const BACKLOG_MESSAGES: usize = 4096;
/// Longest message that is taken, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_line_is_read() {
        let options = parse("--port 9001 --drained").ok();

        assert_eq!(options, Some(Options { port: 9001, echo: false, drained: true }));
        assert!(parse("--port").is_err());
        assert!(parse("--loud").is_err());
    }

    #[test]
    fn the_path_tells_the_role_unless_all_is_echoed() {
        let fan_out = Options::default();
        let echo = Options { echo: true, ..fan_out };

        assert_eq!(Role::of("/pub", fan_out), Role::Publisher);
        assert_eq!(Role::of("/sub", fan_out), Role::Subscriber);
        assert_eq!(Role::of("/", fan_out), Role::Idle);
        assert_eq!(Role::of("/sub", echo), Role::Echo);
    }
}
