//! End-to-end tests of the running server, one module per subject. See the crate for the harness.

/// Each test on the runtime of this run: continuous integration has a run for each.
macro_rules! on_its_runtime {
    ($($body:ident,)*) => {
        mod on_its_runtime { $(#[test] fn $body() { super::$body(&crate::runtime()); })* }
    };
}

mod audit;
mod auth;
mod auth_tokens;
mod boards;
mod browser;
mod bus_metrics;
mod certificates;
mod channels;
mod clients;
mod cluster;
mod cluster_presence;
mod cluster_sessions;
mod dialogues;
mod draining;
mod fleet;
mod fleet_tools;
mod formats;
mod guide;
mod heads;
mod hostile;
mod http;
mod http_publish;
mod ingress;
mod installed;
mod lifecycle;
mod lifecycle_start;
mod limits;
mod limits_slow;
mod log_rotation;
mod memory;
mod metrics;
mod migrate;
mod monitoring;
mod old_clients;
mod outages;
mod page;
mod proxies;
mod proxies_shipped;
mod reaching_back;
mod reasons;
mod recording;
mod recovering;
mod redis;
mod service_manager;
mod services;
mod session_buddy;
mod shards;
mod soak;
mod statuses;
mod subcommands;
mod telemetry;
mod tls;
mod tls_files;
mod traps;
mod verify;
mod verify_scripts;
mod watching;

/// What `MAHAVISHNU_TEST_SETTINGS` says, or the server's default.
fn runtime() -> String {
    let settings = std::env::var("MAHAVISHNU_TEST_SETTINGS").unwrap_or_default();
    let said = settings.split(',').find_map(|it| it.trim().strip_prefix("RUNTIME="));
    said.unwrap_or("tokio").to_owned()
}
