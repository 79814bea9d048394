//! Load generator and raw reference server for Mahavishnu.
//!
//! Two programs are built from here, neither of which shares code with the product:
//!
//! - `loadgen` drives a server over real sockets and checks every delivery: sequence, order, duplicates, length.
//! - `rawloop` is the bound to compare with: an epoll loop that does nothing but copy frames from a publisher to
//!   subscribers. What the product loses against it is what the product costs.
//!
//! # What a measurement on this code may be trusted for
//!
//! The generator is one thread that never sleeps while it measures. Three things distort a loopback benchmark, and it
//! avoids them: a sleeping reader makes the server pay a wake-up interrupt per message (so it polls with a zero
//! timeout); a reader that acknowledges each segment at once makes the server process a bare ACK per send (so it asks
//! for delayed ones); and a congestion control that paces (BBR) spreads a burst over time (so its sockets use Reno).
//!
//! Throughput on a shared machine varies with whatever else runs there. The server's CPU time per delivery, taken
//! from `/proc`, varies much less: compare by that first, and only with `rawloop` in the same interleaved run.

pub use mahavishnu_framing as frame;

pub mod check;
pub mod client;
pub mod cluster;
pub mod echo;
pub mod fanout;
pub mod handshake;
pub mod idle;
pub mod message;
pub mod process;
pub mod rawloop;
pub mod recover;
pub mod redis;
pub mod restart;
pub mod siege;
pub mod socket;
pub mod stats;
pub mod summary;
pub mod transport;

/// What went wrong, in words for the person at the terminal. A tool needs no finer distinction: it stops.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a run or of a step of it.
pub type Result<T> = std::result::Result<T, Error>;
