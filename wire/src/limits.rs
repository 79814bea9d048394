//! Every bound of one connection by name: default, unit and what happens when it is reached.

use std::time::Duration;

/// Bounds on bytes, counts and time. All are per connection.
///
/// The defaults suit an untrusted network. A value of zero is never "unlimited": where a bound can be switched off,
/// its type is an `Option` and the field says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of a request head, line and headers together. Default 16 KiB. Over it: 431.
    pub head_bytes_max: usize,
    /// Header fields in a request head. Default 64. Over it: 431.
    pub headers_max: usize,
    /// From accept (or from a request's first byte) until its head and body are complete. Default 10 s.
    /// Over it: 408 if anything came, otherwise the socket is closed silently.
    pub head_timeout: Duration,
    /// Bytes of a request body (`POST /publish`). Default 4 MiB. Over it: 413.
    pub body_bytes_max: usize,
    /// Idle time of a kept HTTP connection between requests. Default 75 s (nginx keeps 60 s). Over it: closed.
    pub http_idle_timeout: Duration,
    /// Bytes of one message, all fragments together. Default 1 MiB. Over it: close 1009.
    pub message_bytes_max: usize,
    /// Bytes that a compressed message may inflate to, per byte that came, once it is over 64 KiB; `message_bytes_max`
    /// bounds it as well. Default 200: text that repeats itself stays below 100. Over it: close 1009.
    pub inflate_ratio_max: u32,
    /// Frames of one message. Default 65,536 (Autobahn 9.* sends that many). Over it: close 1008.
    pub fragments_max: u32,
    /// Pings, pongs and empty fragments per second, with a burst of twice that. Default 200. Over it: close 1008.
    pub control_frames_per_second_max: u32,
    /// A ping is sent after this long without a byte from the peer. Default 20 s. `None`: no pings.
    pub ping_interval: Option<Duration>,
    /// Time for the pong after a ping. Default 20 s. Over it: close 1011.
    pub pong_timeout: Duration,
    /// Time without any byte from the peer, pongs included. Default 300 s. Over it: close 1001. `None`: no such limit.
    pub connection_timeout: Option<Duration>,
    /// From our close frame until the peer's, and from then until its end of stream. Default 5 s. Over it: dropped.
    pub close_timeout: Duration,
    /// Bytes waiting above which the connection is not read any more: a client that does not read its answers cannot
    /// make more of them. Default 64 KiB.
    pub outbox_read_watermark: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            head_timeout: Duration::from_secs(10),
            body_bytes_max: 4 * 1024 * 1024,
            http_idle_timeout: Duration::from_secs(75),
            message_bytes_max: 1024 * 1024,
            inflate_ratio_max: 200,
            fragments_max: 65_536,
            control_frames_per_second_max: 200,
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(20),
            connection_timeout: Some(Duration::from_secs(300)),
            close_timeout: Duration::from_secs(5),
            outbox_read_watermark: 64 * 1024,
        }
    }
}
