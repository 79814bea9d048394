//! `mahavishnu fleet start`: a server for each service, in one process with one log.

use mahavishnu_core::config::{Config, Service};
use tracing::error_span;

use super::{
    by,
    handover::Sockets,
    listen_address, prepare_process, read_all,
    unit::{FLEET, Listening, Place, Process, Told, Unit, exposition},
};
use crate::{
    cli::FleetStartArgs,
    exit::{Exit, Failure},
    fleet::{self, Chosen, DIRECTORY},
    logging::Log,
    manager::Manager,
    memory, out,
    pid::{Candidates, Claim},
    settings::{self, Loaded, LogFormat},
};

/// Runs all services until they are told to stop.
pub(crate) fn start(args: &FleetStartArgs) -> Result<Exit, Failure> {
    run(args, Manager::from_environment()).inspect_err(|failure| {
        if let Some(line) = failure.lines.first() {
            Manager::from_environment().starting(line);
        }
    })
}

fn run(args: &FleetStartArgs, manager: Manager) -> Result<Exit, Failure> {
    let sockets = Sockets::take()?;
    if !sockets.main.is_empty() || !sockets.unix.is_empty() || sockets.metrics.is_some() {
        let text = "a fleet opens its sockets itself (LISTEN_FDS): disable the socket units";
        return Err(Failure::new(Exit::Configuration, text));
    }
    let common = settings::load(&args.common())?;
    common.demand_sound(&COMMON)?;
    let common = common.settings;
    let chosen = fleet::chosen(args)?;
    memory::share_among(chosen.len());
    let all = read_each(&chosen)?;
    let claims = Candidates::new(common.state_dir.as_deref()).below(DIRECTORY);
    let claim = Claim::take(&claims)?;
    let log = Log::start(common.log_format, common.log_level)?;
    prepare_process(&common);
    let whole = exposition(Config {
        service: Service { label: FLEET.into(), ..Service::default() },
        ..Config::default()
    })?;
    let mut units = Vec::new();
    for (Chosen { name, request }, (loaded, config)) in chosen.into_iter().zip(all) {
        let place = Place {
            claim: Claim::take(&Candidates::new(Some(&claim.dir().join(&name))))?,
            log: log.clone(),
            whole: Some(whole.clone()),
            manager: &manager,
            fleet: true,
        };
        let span = error_span!("service", server = name.as_str());
        let built = Unit::build(request, loaded, config, place, span);
        units.push(built.map_err(|failure| by(&name, failure))?);
    }
    if let Some(port) = args.metrics_port {
        let host = common.metrics_host.as_ref().unwrap_or(&common.host);
        let mut place = Some((listen_address(host, port), whole));
        for plan in units.iter_mut().filter_map(|unit| unit.plan.as_mut()) {
            plan.metrics = place.take();
            plan.port_names[1] = "--metrics-port".to_owned();
        }
    }
    let one_metrics_port = args.metrics_port.is_some();
    let banner = move |all: &[Listening]| banner(all, one_metrics_port);
    let banner: Option<Told> = match common.log_format {
        LogFormat::Text => Some(Box::new(banner)),
        LogFormat::Json => None,
    };
    Process { units, manager, claim: Some(claim), banner }.serve(common.runtime)
}

/// The settings of each. What is wrong with any is told in one go.
fn read_each(chosen: &[Chosen]) -> Result<Vec<(Loaded, Config)>, Failure> {
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for Chosen { name, request } in chosen {
        match read_all(request) {
            Ok(read) => all.push(read),
            Err(failure) => failures.push(by(name, failure)),
        }
    }
    if failures.is_empty() {
        let units: Vec<_> = chosen
            .iter()
            .zip(&all)
            .map(|(chosen, (loaded, _))| (chosen.name.clone(), loaded))
            .collect();
        failures.extend(fleet::demand_apart(&units).err());
    }
    let Some(first) = failures.first() else { return Ok(all) };
    let alike = failures.iter().all(|failure| failure.exit == first.exit);
    let exit = if alike { first.exit } else { Exit::Configuration };
    Err(Failure { exit, lines: failures.into_iter().flat_map(|failure| failure.lines).collect() })
}

/// What an operator sees first.
fn banner(all: &[Listening], one_metrics_port: bool) -> String {
    let heads = ["SERVICE", "WEBSOCKET", "METRICS", "TOKENS"].map(str::to_owned);
    let shared =
        all.first().and_then(|first| first.metrics.as_deref()).filter(|_| one_metrics_port);
    let rows = all.iter().map(|one| {
        let scheme = if one.tls { "wss" } else { "ws" };
        let metrics = one.metrics.as_deref().or(shared);
        [
            one.name.clone(),
            format!("{scheme}://{}", one.websocket),
            metrics.map_or_else(|| "off".to_owned(), |at| format!("http://{at}/metrics")),
            if one.auth { "required" } else { "not required" }.to_owned(),
        ]
    });
    let lines = out::columns(std::iter::once(heads).chain(rows));
    let count = all.len();
    let services = if count == 1 { "service" } else { "services" };
    format!(
        "\nMahavishnu {}: a fleet of {count} {services} is up.\n\n  {}\n\n`mahavishnu fleet status` shows them. Ctrl-C stops them.\n\n",
        env!("CARGO_PKG_VERSION"),
        lines.join("\n  ")
    )
}

/// Settings of the process, which no service has for itself.
const COMMON: [&str; 7] = [
    "MAHAVISHNU_STATE_DIR",
    "MAHAVISHNU_HOST",
    "MAHAVISHNU_METRICS_HOST",
    "MAHAVISHNU_RUNTIME",
    "MAHAVISHNU_CORE_FILES",
    "MAHAVISHNU_LOG_LEVEL",
    "MAHAVISHNU_LOG_FORMAT",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(name: &str, metrics: Option<&str>) -> Listening {
        Listening {
            name: name.to_owned(),
            websocket: "127.0.0.1:1".to_owned(),
            metrics: metrics.map(str::to_owned),
            auth: name == "akosha",
            tls: name == "akosha",
            sockets: String::new(),
        }
    }

    #[test]
    fn the_banner_has_a_line_for_each_service() {
        let all = [listening("akosha", Some("127.0.0.1:9")), listening("dhruva", None)];
        let text = banner(&all, false);
        for line in [
            "  akosha   wss://127.0.0.1:1  http://127.0.0.1:9/metrics  required",
            "  dhruva   ws://127.0.0.1:1   off                         not required",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{text}");
        }
        let text = banner(&all, true);
        assert_eq!(text.matches("http://127.0.0.1:9/metrics").count(), 2, "{text}");
    }
}
