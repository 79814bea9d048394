//! The command line of `mahavishnu fleet` and `mahavishnu service`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::{FindArgs, StatusArgs, StopArgs},
    settings::{Override, Request},
};

#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Run all services in the foreground until SIGTERM or SIGINT. SIGHUP reloads.
    Start(Box<FleetStartArgs>),
    /// Stop the running fleet and wait until it is gone.
    Stop(StopArgs),
    /// Say of each service whether it is healthy and ready, and how many connections it has. Not all are healthy: exit code 4.
    Status(StatusArgs),
    /// Have the running fleet read its settings again: those of all services, or of none if something is wrong.
    Reload(FindArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Print the services, one a line.
    List(ServiceListArgs),
    /// Print what a service is: its ports, limits, variables, rights, events and requests.
    Show(ServiceShowArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ServiceListArgs {
    /// Print a JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ServiceShowArgs {
    /// Its name, or a file that describes another one.
    pub(crate) service: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the whole file that describes it: what another service's may begin with.
    #[arg(long, conflicts_with = "json")]
    pub(crate) toml: bool,
}

/// Which services.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FleetArgs {
    /// File of variables of all services: MAHAVISHNU_ ones for all of them, and each service's own [default: .env if there is
    /// one]. The environment wins over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Only these services, with commas between [default: all of the family].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Not these services, with commas between.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) except: Vec<String>,
    /// Another service besides, by the file that describes it.
    #[arg(long = "with", value_name = "FILE")]
    pub(crate) services: Vec<PathBuf>,
}

/// Settings of all services of a fleet.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FleetStartArgs {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Directory below which the fleet keeps its PID file and those of its services.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// tokio or smol [default: tokio if this build has it].
    #[arg(long)]
    runtime: Option<String>,
    /// Require a token from every client: true or false [default: false].
    #[arg(long, value_name = "BOOL")]
    auth_enabled: Option<String>,
    /// Address for metrics [default: that of --host].
    #[arg(long, value_name = "HOST")]
    metrics_host: Option<String>,
    /// One port for the metrics of all services, 0 for any [default: each service has one of its own].
    #[arg(long, value_name = "PORT")]
    pub(crate) metrics_port: Option<u16>,
    /// Directory with a history file for each service, NAME.db [default: what each service's own variables say].
    #[arg(long, value_name = "DIR")]
    pub(crate) history_dir: Option<PathBuf>,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL [default: INFO].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl FleetStartArgs {
    /// What the flags say to all services.
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flags = [
            ("MAHAVISHNU_STATE_DIR", "--state-dir", &self.state_dir),
            ("MAHAVISHNU_HOST", "--host", &self.host),
            ("MAHAVISHNU_RUNTIME", "--runtime", &self.runtime),
            ("MAHAVISHNU_AUTH_ENABLED", "--auth-enabled", &self.auth_enabled),
            ("MAHAVISHNU_METRICS_HOST", "--metrics-host", &self.metrics_host),
            ("MAHAVISHNU_LOG_LEVEL", "--log-level", &self.log_level),
            ("MAHAVISHNU_LOG_FORMAT", "--log-format", &self.log_format),
        ];
        let given =
            |(name, flag, value): (_, _, &Option<String>)| Some((name, flag, value.clone()?));
        flags.into_iter().filter_map(given).collect()
    }

    /// What the settings of the process are read from.
    pub(crate) fn common(&self) -> Request {
        let mut overrides = self.overrides();
        // None in particular, whatever the environment says.
        overrides.push(("MAHAVISHNU_SERVICE", "fleet", String::new()));
        Request { env_file: self.fleet.env_file.clone(), overrides, in_fleet: false }
    }
}
