//! A Redis without sockets, clock and threads, for simulated worlds.
//!
//! Connections are pipes of bytes, time is an argument, and everything is deterministic. Scripts are executed as they
//! are shipped, by the Lua that Redis has within it. What goes wrong with a Redis are methods: restarts, windows in
//! which it refuses, pauses, replicas that lag. A differential test runs the same commands here and on real servers,
//! and wants the same answers.
//!
//! ```
//! use std::time::Duration;
//! use mahavishnu_redis_model::{Redis, Version};
//!
//! let mut redis = Redis::new(Version::REDIS_7_0);
//! let peer = "10.0.0.1:5000".parse().unwrap();
//! let connection = redis.connect(Duration::ZERO, peer).unwrap();
//! redis.receive(Duration::ZERO, connection, b"*1\r\n$4\r\nPING\r\n");
//! assert_eq!(redis.take(connection), b"+PONG\r\n");
//! ```

#![forbid(unsafe_code)]

mod clock;
mod command;
mod connection;
mod data;
mod fault;
mod front;
mod group;
mod number;
mod replication;
mod reply;
mod request;
mod script;
mod server;
mod store;
mod version;
mod window;

pub use self::{
    connection::{ConnId, OutputLimit},
    data::Data,
    fault::Disk,
    group::Group,
    replication::Written,
    script::sha1 as script_name,
    server::Redis,
    version::Version,
    window::Window,
};
