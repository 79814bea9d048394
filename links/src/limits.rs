//! What bounds a link.

use std::time::Duration;

/// What bounds a link. The defaults are what the server uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Bytes of commands that wait to be sent or answered: 16 MiB. Beyond it, commands that are answered are answered with
    /// [`BusError::Full`](mahavishnu_core::hub::BusError::Full). A single command of any size passes if nothing else is
    /// under way.
    pub command_bytes_max: usize,
    /// Commands that wait to be sent or answered: 65,536. Beyond it as above.
    pub commands_max: usize,
    /// Bytes of a reply or a live message, 64 MiB: what is longer is not Redis, and the connection is given up.
    pub reply_bytes_max: usize,
    /// Replies within replies, 8: as above.
    pub reply_depth_max: usize,
    /// Names in one `SSUBSCRIBE`, 512, when many channels are followed again.
    pub batch_names_max: usize,
    /// Bytes of names in one `SSUBSCRIBE`, 64 KiB.
    pub batch_bytes_max: usize,
    /// Batches under way, 4: Redis has other links to serve.
    pub batches_max: usize,
    /// Bytes of a channel's last round that come along with where it stands when many channels are followed again, 4 KiB. A
    /// longer round is read by itself.
    pub newest_bytes_max: usize,
    /// Bytes of one command to all nodes, 64 KiB. A longer one fails.
    pub control_bytes_max: usize,
    /// Addresses of one name that are tried, 16.
    pub addresses_max: usize,
    /// Between two probes, 1 s. Also how often it is told how the bus does.
    pub probe_interval: Duration,
    /// A probe that has not come back after this time, though Redis has taken it, ends the connection: 10 s.
    pub probe_timeout: Duration,
    /// How often it is asked where all followed channels stand, 30 s, ± half.
    pub standing_interval: Duration,
    /// How long a Sentinel may take, 300 ms.
    pub sentinel_timeout: Duration,
    /// The longest pause between two attempts to connect, 5 s; also the pause after a refusal that does not pass by itself.
    pub backoff_max: Duration,
    /// How long a connection has to last for the next pause to be short again, 10 s.
    pub backoff_reset: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            command_bytes_max: 16 << 20,
            commands_max: 65_536,
            reply_bytes_max: 64 << 20,
            reply_depth_max: 8,
            batch_names_max: 512,
            batch_bytes_max: 64 << 10,
            batches_max: 4,
            newest_bytes_max: 4 << 10,
            control_bytes_max: 64 << 10,
            addresses_max: 16,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(10),
            standing_interval: Duration::from_secs(30),
            sentinel_timeout: Duration::from_millis(300),
            backoff_max: Duration::from_secs(5),
            backoff_reset: Duration::from_secs(10),
        }
    }
}
