//! A process that serves, and what each of its servers needs to begin.

use std::sync::Arc;

use mahavishnu_core::{
    config::Config,
    metrics::{
        count_dropped_log_lines, count_otlp, count_refused_reloads, tell_memory_limit, tell_process,
    },
};
use tracing::{Span, warn};

use super::{
    Joined, Plan, Render, Running, memory_limit, open_history, record, serve, warn_of_capacity,
};
use crate::{
    aside::{Aside, READ_TIMEOUT},
    exit::{Exit, Failure, plain},
    logging::{self, Log},
    manager::Manager,
    pid::Claim,
    prometheus, redis,
    running::Recorder,
    settings::{InForce, Loaded, Request, Runtime},
    telemetry::{self, Counts, Exporters},
    tls, usage,
};

/// A process that serves: one server, or a fleet of them.
pub(super) struct Process {
    pub(super) units: Vec<Unit>,
    /// Who wants to know how they are.
    pub(super) manager: Manager,
    /// Of the whole, if there are several: each of them has one of its own besides.
    pub(super) claim: Option<Claim>,
    /// What is printed once all of them listen.
    pub(super) banner: Option<Told>,
}

/// Makes what is printed of where servers listen.
pub(super) type Told = Box<dyn Fn(&[Listening]) -> String>;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub(crate) name: String,
    pub(crate) websocket: String,
    pub(crate) metrics: Option<String>,
    pub(crate) auth: bool,
    pub(crate) tls: bool,
    /// Its addresses as they are bound.
    pub(super) sockets: String,
}

impl Process {
    pub(super) fn serve(self, runtime: Runtime) -> Result<Exit, Failure> {
        match runtime {
            #[cfg(feature = "tokio")]
            Runtime::Tokio => serve::on_tokio(self),
            #[cfg(feature = "smol")]
            Runtime::Smol => serve::on_smol(self),
            // Settings that ask for another were refused when they were read.
            #[cfg(not(all(feature = "tokio", feature = "smol")))]
            other => Err(Failure::new(Exit::Configuration, other.missing())),
        }
        .map(|()| Exit::Ok)
    }

    /// Tells whoever asked for a reload what became of it. The service manager first: its own command waits for the other.
    pub(super) fn tell(&mut self, problems: &[String]) {
        self.manager.reloaded(problems.first().map(String::as_str));
        for unit in &mut self.units {
            unit.running.tell(problems.to_vec());
        }
        if let Some(claim) = &mut self.claim {
            tell(claim, problems.to_vec());
        }
    }
}

/// A server of a process.
pub(super) struct Unit {
    pub(super) running: Running,
    /// Gone once it has been started.
    pub(super) plan: Option<Plan>,
    /// In which it logs.
    pub(super) span: Span,
    /// Dropped when the server has ended: then it sends what is left.
    pub(super) _exporters: Exporters,
}

/// What a server gets from its process.
pub(super) struct Place<'a> {
    pub(super) claim: Claim,
    pub(super) log: Log,
    /// What a scrape of the whole process gets.
    pub(super) whole: Option<Render>,
    pub(super) manager: &'a Manager,
    /// Whether there are others.
    pub(super) fleet: bool,
}

impl Unit {
    /// Has all that it needs, but does not listen yet.
    pub(super) fn build(
        request: Request,
        loaded: Loaded,
        mut config: Config,
        place: Place<'_>,
        span: Span,
    ) -> Result<Self, Failure> {
        let Place { claim, log, whole, manager, fleet } = place;
        let entered = span.clone().entered();
        let tls = tls::load(&loaded.settings, Some(claim.dir()))?;
        config.tls = tls.server;
        let redis = redis::link_config(&loaded)?;
        for warning in loaded.warnings.iter().chain(&tls.warnings) {
            warn!("{warning}");
        }
        warn_of_capacity(&loaded.settings);
        let counts = telemetry::counts();
        let exported = loaded.telemetry.is_on().then(|| counts.clone());
        let render = whole.map(|whole| share(whole, &config, exported, fleet));
        let exporters =
            Exporters::start(&loaded.telemetry, &loaded.settings, render.clone(), &counts)?;
        metrics::with_recorder(|recorder| {
            count_refused_reloads(recorder, &config, 0);
            tell_memory_limit(recorder, &config, memory_limit(&loaded.settings));
        });
        let recording = record(&loaded.settings)?;
        if loaded.settings.history_file.is_some() {
            manager.starting("reading the history file");
        }
        let history = open_history(&loaded.settings)?;
        let salt = InForce::salt()?;
        let in_force = InForce::of(&loaded, &request, &salt);
        let recorder = Recorder::new(claim.dir(), in_force);
        let aside = Aside::new(READ_TIMEOUT);
        let lease = loaded.settings.node_lease;
        let joined = redis.clone().map(|redis| Joined { redis, lease });
        let running = Running { request, loaded, joined, recorder, salt, claim, log, aside, fleet };
        let settings = &running.loaded.settings;
        let spans = exporters.spans();
        let plan = Plan::new(settings, config, render, recording);
        let port_names = running.port_names();
        let plan = Plan { history, redis, spans, port_names, ..plan };
        drop(entered);
        Ok(Self { running, plan: Some(plan), span, _exporters: exporters })
    }
}

pub(super) fn tell(claim: &mut Claim, problems: Vec<String>) {
    if let Err(error) = claim.reloaded(problems) {
        warn!("{}: {}", claim.dir().display(), plain(&error));
    }
}

/// What a scrape of the process gets: all servers of it. What is of the process itself is told under the label of `config`.
pub(super) fn exposition(config: Config) -> Result<Render, Failure> {
    let render = prometheus::install()?;
    Ok(Arc::new(move || {
        metrics::with_recorder(|recorder| {
            count_dropped_log_lines(recorder, &config, logging::dropped());
            tell_process(recorder, &config, &usage::now());
        });
        render()
    }))
}

/// What a scrape of one server gets.
pub(super) fn share(
    whole: Render,
    config: &Config,
    exported: Option<Arc<Counts>>,
    fleet: bool,
) -> Render {
    let config = config.clone();
    Arc::new(move || {
        metrics::with_recorder(|recorder| {
            for (which, total) in exported.iter().flat_map(|counts| counts.told()) {
                count_otlp(recorder, &config, which, total);
            }
        });
        match fleet {
            true => prometheus::of_servers(&whole(), &[&config.service.label, FLEET]),
            false => whole(),
        }
    })
}

/// The label `server` of what is told of a process with several servers.
pub(super) const FLEET: &str = "fleet";
