//! End-to-end tests of the running server, one module per subject. See the crate for the harness.

mod audit;
mod auth;
mod auth_tokens;
mod browser;
mod certificates;
mod channels;
mod clients;
mod dialogues;
mod formats;
mod hostile;
mod http;
mod http_publish;
mod lifecycle;
mod lifecycle_start;
mod limits;
mod limits_slow;
mod memory;
mod metrics;
mod proxies;
mod reasons;
mod recording;
mod shards;
mod subcommands;
mod tls;
mod tls_files;
mod traps;
