//! A deterministic simulator of whole servers: hubs, sockets, clients and the application on a virtual clock.
//!
//! Everything about a world follows from one number, its seed: how many hubs, which clients, which faults, when. A run
//! has a phase in which faults happen and only safety is demanded, then it heals and everybody must get what he wants.
//! An [oracle](Violation) knows what every client must have received; the [invariants](INVARIANTS) are named. Two runs
//! of a seed have the same [digest](Report::digest) of all inputs and outputs.
//!
//! ```
//! use mahavishnu_sim::{Options, Wrong, run};
//!
//! let report = run(&Options::from_seed(7), Wrong::Nothing, false);
//! assert_eq!(report.violation, None);
//! ```

#![forbid(unsafe_code)]

mod acts;
mod app;
mod client;
mod clock;
mod cluster;
mod driver;
mod frame;
mod hand;
mod hostile;
mod http;
mod invariants;
mod message;
mod net;
mod oracle;
mod random;
mod recorder;
mod restart;
mod run;
mod sabotage;
mod shrink;
mod store;
mod story;
mod swarm;
mod turn;
mod world;

pub use app::{After, Handlers};
pub use cluster::{ClusterOptions, ClusterReport, Fault, run_cluster};
pub use hand::{Hand, Heard, Line, Setup};
pub use invariants::INVARIANTS;
pub use oracle::Violation;
pub use run::{Report, run};
pub use sabotage::Wrong;
pub use shrink::shrink;
pub use swarm::Options;
pub use turn::turn;
