//! What signals of the operating system ask of a server. Each adapter has `Signals`, which waits for them.

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and stop.
    Terminate,
    /// SIGHUP: read the configuration again.
    Reload,
}
