//! `mahavishnu websocket start`: settings, state directory, log, metrics and listeners, in that order; then signals.
//!
//! What is here does not wait; `serve.rs` does, on any runtime.

mod fleet;
mod handover;
mod serve;
mod unit;
mod watch;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use mahavishnu_core::{
    config::{Config, PlainOnTls},
    hub::{DrainPlan, ShardId},
    metrics::{count_refused_reloads, tell_memory_limit},
    spans::{Spans, Tracing},
};
use mahavishnu_driver::{ServerFailed, links::LinkConfig};
use mahavishnu_store::{Contents, Store, StoreError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{Span, error, info, warn};

use self::{
    handover::Sockets,
    unit::{Listening, Place, Process, Unit, exposition, tell},
};
use crate::{
    aside::{Aside, Reading},
    banner::{Addresses, Banner},
    cli::ServerArgs,
    config,
    exit::{Exit, Failure, plain},
    logging::{self, Log},
    manager::Manager,
    memory::Capacity,
    pid::{Candidates, Claim},
    record::Recording,
    redis,
    running::Recorder,
    settings::{self, InForce, Loaded, LogFormat, Request, Settings},
    statistics::Statistics,
    tls, translate,
};

pub(crate) use self::fleet::start as start_fleet;

/// Runs the server until it is told to stop.
pub(crate) fn start(args: &ServerArgs) -> Result<Exit, Failure> {
    let manager = Manager::from_environment();
    let started = run(args, manager);
    // It will say that the process has ended, and by which code; this says why.
    started.inspect_err(|failure| {
        if let Some(line) = failure.lines.first() {
            Manager::from_environment().starting(line);
        }
    })
}

fn run(args: &ServerArgs, manager: Manager) -> Result<Exit, Failure> {
    let sockets = Sockets::take()?;
    let mut request = args.request();
    request.overrides.extend(sockets.overrides()?);
    let (loaded, config) = read_all(&request)?;
    let claim = Claim::take(&Candidates::new(loaded.settings.state_dir.as_deref()))?;
    let log = Log::start(loaded.settings.log_format, loaded.settings.log_level)?;
    prepare_process(&loaded.settings);
    let runtime = loaded.settings.runtime;
    let counted = loaded.settings.metrics_enabled || loaded.settings.page;
    let whole = match counted || loaded.telemetry.metrics.is_some() {
        true => Some(exposition(config.clone())?),
        false => None,
    };
    if let Some(warning) = sockets.warning(&loaded.settings) {
        warn!("{warning}");
    }
    let place = Place { claim, log, whole, manager: &manager, fleet: false };
    let mut unit = Unit::build(request, loaded, config, place, Span::none())?;
    unit.plan = unit.plan.map(|plan| Plan { sockets, ..plan });
    Process { units: vec![unit], manager, claim: None, banner: None }.serve(runtime)
}

/// What is said to the system once, before anything else.
fn prepare_process(settings: &Settings) {
    if !settings.core_files {
        forbid_core_files();
    }
    raise_file_limit();
}

/// Everything that a running server holds besides its sockets.
struct Running {
    request: Request,
    loaded: Loaded,
    joined: Option<Joined>,
    /// Before the claim, so that it goes while the directory is still ours.
    recorder: Recorder,
    /// Of the digests in what it writes.
    salt: String,
    claim: Claim,
    log: Log,
    /// Where a reload reads its files.
    aside: Aside,
    /// Whether there are others in this process: then nothing is printed for this one alone.
    fleet: bool,
}

/// What makes a server one of several, as it was at the start.
struct Joined {
    redis: LinkConfig,
    lease: Duration,
}

type Render = Arc<dyn Fn() -> String + Send + Sync>;
type OnSpans = Box<dyn Fn(ShardId, Spans) + Send + Sync>;

/// What a server is built from.
struct Plan {
    config: Config,
    main: String,
    unix: Option<PathBuf>,
    metrics: Option<(String, Render)>,
    /// What an operator changes to have other ports.
    port_names: [String; 2],
    statistics: Statistics,
    /// Those that are open already, in place of these addresses.
    sockets: Sockets,
    shards: u16,
    recording: Option<Recording>,
    history: Option<(Store, Contents)>,
    redis: Option<LinkConfig>,
    spans: Option<OnSpans>,
}

/// What a reload puts in force.
struct Fresh {
    loaded: Loaded,
    config: Config,
    redis: Option<LinkConfig>,
    in_force: InForce,
}

impl Plan {
    fn new(
        settings: &Settings,
        config: Config,
        render: Option<Render>,
        recording: Option<Recording>,
    ) -> Self {
        let metrics_host = settings.metrics_host.as_ref().unwrap_or(&settings.host);
        let memory = Capacity::of(settings).memory;
        let node = config.bus.as_ref().map(|bus| bus.node_name.clone());
        let statistics = Statistics::new(render.clone(), config.policy.labels(), memory, node);
        let render = render.filter(|_| settings.metrics_enabled);
        Self {
            config,
            main: listen_address(&settings.host, settings.port),
            unix: settings.listen_unix.clone(),
            metrics: render
                .map(|render| (listen_address(metrics_host, settings.metrics_port), render)),
            port_names: ["--port".to_owned(), "--metrics-port".to_owned()],
            statistics,
            sockets: Sockets::default(),
            shards: settings.shards.resolve(),
            recording,
            history: None,
            redis: None,
            spans: None,
        }
    }
}

impl Running {
    /// Tells operators and the other subcommands where the server is.
    fn announce(
        &mut self,
        main: &[SocketAddr],
        metrics: Option<SocketAddr>,
    ) -> Result<Listening, Failure> {
        let [first, ..] = main else {
            return Err(Failure::new(Exit::General, "the server does not listen"));
        };
        let settings = &self.loaded.settings;
        let addresses = Addresses::new(settings, *first, metrics);
        let only_tls = settings.tls_enabled && settings.tls_plain == PlainOnTls::Nothing;
        let scheme = if only_tls { "https" } else { "http" };
        let announced = self.claim.announce(&format!("{scheme}://{}", addresses.main));
        announced.map_err(|error| Failure::io(self.claim.dir().display(), &error))?;
        self.write_record();
        if settings.log_format == LogFormat::Text && !self.fleet {
            let program = std::env::args().next().unwrap_or_else(|| "mahavishnu".into());
            let key_file = self.loaded.key_file();
            let banner = Banner {
                program: &program,
                settings,
                addresses: &addresses,
                state_dir: self.claim.dir(),
                key_file: key_file.as_deref(),
            };
            logging::print(&banner.to_string());
        }
        // The first two as this machine reaches them, the others as they are bound.
        let metrics_socket = metrics.map(|metrics| metrics.to_string());
        let unix = settings.listen_unix.iter().map(|path| path.display().to_string());
        let sockets = main.iter().map(ToString::to_string).chain(unix).collect::<Vec<_>>();
        let listening = Listening {
            name: self.name().to_owned(),
            websocket: addresses.main.clone(),
            metrics: addresses.metrics.clone(),
            auth: settings.auth_enabled,
            tls: settings.tls_enabled,
            sockets: sockets.join(", "),
        };
        let metrics = addresses.metrics.as_deref().unwrap_or("off");
        info!(
            address = addresses.main,
            sockets = listening.sockets,
            metrics,
            metrics_socket,
            runtime = settings.runtime.name(),
            tls = settings.tls_enabled,
            auth = settings.auth_enabled,
            shards = settings.shards.resolve(),
            pid = std::process::id(),
            "listening"
        );
        // After the banner: a line that nobody has asked for is not to be the first.
        tell_capacity(settings);
        Ok(listening)
    }

    /// What an operator changes to have other ports.
    fn port_names(&self) -> [String; 2] {
        let prefix = self.loaded.service.as_ref().filter(|_| self.fleet);
        match prefix.map(|service| &service.profile().environment.prefix) {
            Some(prefix) => ["PORT", "METRICS_PORT"].map(|name| format!("{prefix}_{name}")),
            None => ["--port", "--metrics-port"].map(str::to_owned),
        }
    }

    /// What went wrong, with who it was if there are others.
    fn named(&self, failure: Failure) -> Failure {
        match self.fleet {
            true => by(self.name(), failure),
            false => failure,
        }
    }

    /// What it is called among others.
    fn name(&self) -> &str {
        let service = self.loaded.service.as_ref();
        service.map_or("mahavishnu", |service| &service.profile().name)
    }

    /// Begins to read all sources again, certificates included. Files that the log is written to are opened anew first:
    /// whatever else is wrong, somebody may have moved them away.
    /// `reopen`: nobody else of this process does.
    fn read_again(&self, reopen: bool) -> Reading<Fresh> {
        let (request, dir) = (self.request.clone(), self.claim.dir().to_owned());
        let (salt, span) = (self.salt.clone(), Span::current());
        self.aside.start(move || {
            let _entered = span.entered();
            if reopen {
                logging::reopen();
            }
            let (loaded, mut config) = read_all(&request)?;
            let tls = tls::load(&loaded.settings, Some(&dir))?;
            config.tls = tls.server;
            let redis = redis::link_config(&loaded)?;
            for warning in loaded.warnings.iter().chain(&tls.warnings) {
                warn!("{warning}");
            }
            let in_force = InForce::of(&loaded, &request, &salt);
            Ok(Fresh { loaded, config, redis, in_force })
        })
    }

    /// What was read may be in force, unless something is wrong with it.
    fn check(&self, read: Result<Fresh, Failure>) -> Result<Fresh, Failure> {
        read.and_then(|read| self.demand_same_service(read))
            .and_then(|read| self.demand_protection(read))
    }

    /// Something is wrong: that is logged and counted, and the old configuration stays as a whole.
    fn refuse(&self, failure: &Failure) {
        for line in &failure.lines {
            error!("reload: {line}");
        }
        error!(
            audit = "reload",
            by = "SIGHUP",
            "reload refused: the configuration stays as it was"
        );
        if let Ok(config) = translate::core_config(&self.loaded) {
            metrics::with_recorder(|recorder| count_refused_reloads(recorder, &config, 1));
        }
    }

    /// What was read is to be in force.
    fn accept(&self, fresh: Fresh) -> Fresh {
        let changes = settings::changes(&self.loaded, &fresh.loaded);
        if !changes.restart.is_empty() {
            warn!("changed, but not before the next start: {}", changes.restart.join(", "));
        }
        // Of a fleet all have the same.
        self.log.set_level(fresh.loaded.settings.log_level);
        self.keep_telemetry(self.keep_redis(fresh))
    }

    /// Another service would have other ports, labels and documents.
    fn demand_same_service(&self, fresh: Fresh) -> Result<Fresh, Failure> {
        if self.loaded.settings.service == fresh.loaded.settings.service {
            return Ok(fresh);
        }
        let text = "MAHAVISHNU_SERVICE: a reload cannot make another service of this one; restart";
        Err(Failure::new(Exit::Configuration, text))
    }

    /// What a reload cannot change about Redis stays.
    fn keep_redis(&self, mut fresh: Fresh) -> Fresh {
        let both = self.joined.as_ref().zip(fresh.redis.take());
        fresh.redis = both.map(|(joined, fresh)| redis::reloaded(&joined.redis, fresh));
        if let Some((bus, joined)) = fresh.config.bus.as_mut().zip(self.joined.as_ref()) {
            bus.node_name = joined.redis.node_name.clone().into();
            bus.lease = joined.lease;
        }
        fresh
    }

    /// What is exported, and which spans there are, stays as it was at the start.
    fn keep_telemetry(&self, mut fresh: Fresh) -> Fresh {
        let started = &self.loaded.telemetry;
        if fresh.loaded.telemetry_given != self.loaded.telemetry_given {
            warn!("changed, but not before the next start: variables of OpenTelemetry (OTEL_)");
        }
        fresh.config.tracing = started.traces.is_some().then_some(Tracing {
            sampler: started.sampler,
            users: fresh.loaded.settings.trace_users,
        });
        fresh.loaded.telemetry = started.clone();
        fresh
    }

    /// A reload may take protection away only where it says so.
    fn demand_protection(&self, fresh: Fresh) -> Result<Fresh, Failure> {
        let weakened = settings::weakened(&self.loaded, &fresh.loaded);
        if !weakened.lost.is_empty() {
            return Err(Failure { exit: Exit::Configuration, lines: weakened.refusals() });
        }
        if !weakened.said.is_empty() {
            warn!(audit = "reload", "takes protection away: {}", weakened.said.join(", "));
        }
        Ok(fresh)
    }

    /// Tells whoever asked this server for a reload what became of it.
    fn tell(&mut self, problems: Vec<String>) {
        tell(&mut self.claim, problems);
    }

    /// Says in the state directory what is in force. Nobody is served worse without it.
    fn write_record(&self) {
        if let Err(failure) = self.recorder.write() {
            warn!("{failure}");
        }
    }

    /// The configuration read again is in force.
    fn reloaded(&mut self, loaded: Loaded, in_force: InForce) {
        let changes = settings::changes(&self.loaded, &loaded);
        let changed =
            if changes.live.is_empty() { "nothing".to_owned() } else { changes.live.join(", ") };
        info!(audit = "reload", by = "SIGHUP", changed, keys = loaded.keys.len(), "reloaded");
        if changes.live.iter().any(|name| CAPACITY_VARIABLES.contains(name)) {
            warn_of_capacity(&loaded.settings);
            tell_capacity(&loaded.settings);
            if let Ok(config) = translate::core_config(&loaded) {
                let bytes = memory_limit(&loaded.settings);
                metrics::with_recorder(|recorder| tell_memory_limit(recorder, &config, bytes));
            }
        }
        self.loaded = loaded;
        self.recorder.in_force.reloaded(in_force);
        self.write_record();
    }

    /// How to stop.
    fn drain_plan(&self) -> DrainPlan {
        let Settings { drain_notice, drain_window, drain_timeout, .. } = self.loaded.settings;
        let deadline = drain_window.saturating_add(drain_timeout);
        info!(
            notice_seconds = drain_notice.as_secs_f64(),
            deadline_seconds = deadline.as_secs_f64(),
            "stopping"
        );
        DrainPlan { notice: drain_notice, window: drain_window, deadline }
    }
}

/// Reads and checks everything, or tells everything that is wrong.
pub(crate) fn read(request: &Request) -> Result<(Loaded, Config), Failure> {
    let loaded = settings::load(request)?;
    loaded.demand_all()?;
    let config = translate::core_config(&loaded)?;
    Ok((loaded, config))
}

/// The same, and what is wrong with the files that the settings name is told beside what is wrong with the settings.
fn read_all(request: &Request) -> Result<(Loaded, Config), Failure> {
    let loaded = settings::load(request)?;
    config::demand(&loaded)?;
    let config = translate::core_config(&loaded)?;
    Ok((loaded, config))
}

/// Begins to record, if that is wanted.
fn record(settings: &Settings) -> Result<Option<Recording>, Failure> {
    let Some(path) = &settings.record_file else { return Ok(None) };
    let recording = Recording::start(path, settings.record_max_bytes)
        .map_err(|error| Failure::io(path.display(), &error))?;
    warn!(path = %path.display(), "recording everything that clients send, tokens included");
    Ok(Some(recording))
}

/// Opens the file of what is kept over restarts, if there is to be one.
fn open_history(settings: &Settings) -> Result<Option<(Store, Contents)>, Failure> {
    let Some(path) = &settings.history_file else { return Ok(None) };
    let (store, contents) = Store::open(path, settings.history_fsync)
        .map_err(|error| history_failure(&path.display().to_string(), &error))?;
    info!(
        path = %path.display(),
        fsync = settings.history_fsync.as_str(),
        channels = contents.channels.len(),
        sessions = contents.sessions.len(),
        bytes = contents.bytes(),
        "history file"
    );
    if contents.renumbered {
        warn!(
            "the machine was started anew and the history file had not been closed: the newest of it may be missing, so positions begin anew (epoch)"
        );
    }
    Ok(Some((store, contents)))
}

fn history_failure(path: &str, error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::Locked => "; it is another server's, or one is just about to stop",
        StoreError::Damaged(_) => {
            "; to start without what it holds, move it and the files beside it (-wal) away"
        }
        StoreError::NotAStore => {
            "; MAHAVISHNU_HISTORY_FILE is a file of the server's own, which it makes if it is not there"
        }
        StoreError::Version(_) => "; a newer version of the server has written it",
        StoreError::Full | StoreError::Io(_) | StoreError::Order | _ => "",
    };
    Failure::new(Exit::General, format!("{path}: {error}{hint}"))
}

/// What went wrong with a service of a fleet.
pub(crate) fn by(name: &str, failure: Failure) -> Failure {
    let lines = failure.lines.into_iter().map(|line| format!("{name}: {line}"));
    Failure { exit: failure.exit, lines: lines.collect() }
}

/// Half a server would look healthy and serve nobody: whoever supervises it starts a whole one.
fn shard_failure(error: &ServerFailed) -> Failure {
    Failure::new(Exit::General, error.to_string())
}

/// A listener that could not be had, with what to do about it. `main` tells which of the two it was.
fn bind_failure(error: &io::Error, main: &str, port_names: &[String; 2]) -> Failure {
    let text = plain(error);
    if text.starts_with('/') {
        let hint = if error.kind() == io::ErrorKind::AddrInUse {
            "; another program listens there"
        } else if error.kind() == io::ErrorKind::AlreadyExists {
            "; remove it, or choose another MAHAVISHNU_LISTEN_UNIX"
        } else {
            "; MAHAVISHNU_LISTEN_UNIX is a path in a directory that the server may write to"
        };
        return Failure::new(Exit::General, format!("cannot listen on {text}{hint}"));
    }
    let [port, metrics_port] = port_names;
    let option = if text.starts_with(&format!("{main}: ")) { port } else { metrics_port };
    let (exit, hint) = if error.kind() == io::ErrorKind::AddrInUse {
        (
            Exit::General,
            format!("; another program listens there: stop it or choose another {option}"),
        )
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        (Exit::Permission, format!("; choose a {option} above 1023"))
    } else if error.kind() == io::ErrorKind::NotFound {
        (Exit::Configuration, format!("; {HOST_HINT}"))
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        (Exit::General, format!("; this machine has no such address: {HOST_HINT}"))
    } else {
        (Exit::General, String::new())
    };
    Failure::new(exit, format!("cannot listen on {text}{hint}"))
}

const HOST_HINT: &str = "MAHAVISHNU_HOST (or METRICS_HOST) is an address of this machine or a name of it, 0.0.0.0 for all of IPv4, or :: for all";

fn listen_address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A core file would hold keys, tokens and whatever is being published. Its size limit is lowered for good.
fn forbid_core_files() {
    // It can always be lowered.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Says how much is taken on at most, and why.
fn tell_capacity(settings: &Settings) {
    info!("{}", Capacity::of(settings).describe());
}

/// Says which settings that cannot bear out.
fn warn_of_capacity(settings: &Settings) {
    for warning in Capacity::of(settings).warnings(settings) {
        warn!("{warning}");
    }
}

/// As a metric: zero if there is none.
fn memory_limit(settings: &Settings) -> u64 {
    Capacity::of(settings).memory.unwrap_or_default()
}

/// What decides it.
const CAPACITY_VARIABLES: [&str; 5] = [
    "MAHAVISHNU_MEMORY_LIMIT",
    "MAHAVISHNU_MAX_CONNECTIONS",
    "MAHAVISHNU_TLS_ENABLED",
    "MAHAVISHNU_OUTBOX_BYTES",
    "MAHAVISHNU_MAX_MESSAGE_BYTES",
];

/// Takes all file descriptors that this process may have: each connection needs one. [`Capacity`] counts on them.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused only if somebody lowered the maximum in between.
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_cannot_be_had_is_one_line_with_advice() {
        let names = ["--port".to_owned(), "--metrics-port".to_owned()];
        let failed = |kind, text: &str| {
            bind_failure(&io::Error::new(kind, text.to_owned()), "127.0.0.1:1", &names)
        };
        let used =
            failed(io::ErrorKind::AddrInUse, "127.0.0.1:1: Address already in use (os error 98)");
        let expected = "cannot listen on 127.0.0.1:1: Address already in use; another program listens there: stop it or choose another --port";
        assert_eq!(used, Failure::new(Exit::General, expected));
        let unix = failed(io::ErrorKind::AlreadyExists, "/run/m: it is there and no socket");
        let expected = "cannot listen on /run/m: it is there and no socket; remove it, or choose another MAHAVISHNU_LISTEN_UNIX";
        assert_eq!(unix, Failure::new(Exit::General, expected));
        let metrics =
            failed(io::ErrorKind::AddrInUse, "127.0.0.1:10: Address already in use (os error 98)");
        assert!(metrics.to_string().ends_with("--metrics-port"), "{metrics}");
        let denied =
            failed(io::ErrorKind::PermissionDenied, "127.0.0.1:1: Permission denied (os error 13)");
        assert_eq!(denied.exit, Exit::Permission);
        let nobody = failed(io::ErrorKind::NotFound, "x.invalid:1: Name or service not known");
        assert_eq!(nobody.exit, Exit::Configuration);
        assert!(
            nobody.to_string().contains("x.invalid:1: Name or service not known; "),
            "{nobody}"
        );
    }

    #[test]
    fn ipv6_addresses_are_bracketed() {
        assert_eq!(listen_address("::1", 1), "[::1]:1");
        assert_eq!(listen_address("localhost", 1), "localhost:1");
    }
}
