//! `mahavishnu fleet start | status | stop | reload`: all services of the family in one process.
//!
//! Each is a server with settings of its own: its service's, under its own names of variables, and those that the
//! environment and a common file say for all. What runs them is `start/fleet.rs`.

pub(crate) mod arguments;
mod status;

use std::{collections::BTreeMap, path::Path};

use mahavishnu_profiles::Profile;

pub(crate) use self::status::status;
use crate::{
    cli::{FindArgs, FleetArgs, FleetStartArgs, StopArgs},
    control,
    exit::{Exit, Failure},
    pid::Candidates,
    settings::{self, Loaded, Override, Request, Settings, is_file, overlap},
};

/// Ends the fleet with SIGTERM and waits until it has gone.
pub(crate) fn stop(args: &StopArgs) -> Result<Exit, Failure> {
    control::stop_in(&candidates(&args.find)?, args)
}

/// Has the fleet read all its settings again, and says what became of it.
pub(crate) fn reload(args: &FindArgs) -> Result<Exit, Failure> {
    control::reload_in(&candidates(args)?)
}

/// Where a fleet's directory may be.
fn candidates(args: &FindArgs) -> Result<Candidates, Failure> {
    Ok(control::candidates(&settings::load(&args.request())?)?.below(DIRECTORY))
}

/// A service that is to run, and what its settings are read from.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) request: Request,
}

/// The services that these flags mean, in the order of the family.
pub(crate) fn chosen(args: &FleetStartArgs) -> Result<Vec<Chosen>, Failure> {
    let known: Vec<_> =
        Profile::builtins().iter().map(|profile| profile.name.to_string()).collect();
    let FleetArgs { only, except, services, .. } = &args.fleet;
    let listed = |flag: &str, names: &[String]| -> Result<Vec<String>, Failure> {
        let known = |name: &String| match Profile::builtin(&name.to_ascii_lowercase()) {
            Some(profile) => Ok(profile.name.to_string()),
            None => {
                let text = format!("{flag}: no service {name:?}; use some of {}", known.join(", "));
                Err(Failure::new(Exit::Configuration, text))
            }
        };
        names.iter().map(known).collect()
    };
    let (only, except) = (listed("--only", only)?, listed("--except", except)?);
    let wanted =
        |name: &&String| (only.is_empty() || only.contains(name)) && !except.contains(name);
    let others = services.iter().map(|file| file.display().to_string());
    let named = known.iter().filter(wanted).cloned().chain(others);
    let chosen: Vec<_> = named.map(|said| choose(args, &said)).collect::<Result<_, _>>()?;
    if chosen.is_empty() {
        let text = "no service is left: see --only and --except";
        return Err(Failure::new(Exit::Configuration, text));
    }
    Ok(chosen)
}

fn choose(args: &FleetStartArgs, said: &str) -> Result<Chosen, Failure> {
    let path = if is_file(said) || said.contains('.') { absolute(said) } else { said.to_owned() };
    let mut overrides: Vec<Override> = args.overrides();
    overrides.push(("MAHAVISHNU_SERVICE", "fleet", path));
    let mut request = Request { env_file: args.fleet.env_file.clone(), overrides, in_fleet: true };
    // A file says itself what it is called.
    let name = match is_file(said) {
        false => said.to_owned(),
        true => match settings::load(&request)?.service {
            Some(service) => service.profile().name.to_string(),
            None => said.to_owned(),
        },
    };
    if let Some(dir) = &args.history_dir {
        let file = dir.join(format!("{name}.db")).display().to_string();
        request.overrides.push(("MAHAVISHNU_HISTORY_FILE", "--history-dir", file));
    }
    Ok(Chosen { name, request })
}

fn absolute(said: &str) -> String {
    let path = Path::new(said);
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// What two services cannot both have.
pub(crate) fn demand_apart(services: &[(String, &Loaded)]) -> Result<(), Failure> {
    let mut lines = ports_apart(services);
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for (name, loaded) in services {
        let Settings { redis_prefix, redis_db, history_file, .. } = &loaded.settings;
        let redis = loaded.settings.has_redis();
        let prefix = redis.then(|| format!("REDIS_PREFIX {redis_prefix:?} in database {redis_db}"));
        let file = history_file.as_ref().map(|path| format!("HISTORY_FILE {}", path.display()));
        let label = loaded.service.as_ref().map(|service| &service.profile().label);
        let label = label.map(|label| format!("label {label:?} of metrics"));
        for what in [prefix, file, label].into_iter().flatten() {
            match taken.get(&what) {
                Some(first) => lines.push(format!("{name}: {what} is {first}'s already")),
                None => {
                    taken.insert(what, name);
                }
            }
        }
    }
    if lines.is_empty() { Ok(()) } else { Err(Failure { exit: Exit::Configuration, lines }) }
}

fn ports_apart(services: &[(String, &Loaded)]) -> Vec<String> {
    let mut taken: Vec<(String, u16, String)> = Vec::new();
    let mut lines = Vec::new();
    for (name, loaded) in services {
        let settings = &loaded.settings;
        let prefix = loaded.service.as_ref().map(|service| &service.profile().environment.prefix);
        let prefix = prefix.map_or("MAHAVISHNU", |prefix| prefix);
        let metrics_host = settings.metrics_host.as_ref().unwrap_or(&settings.host);
        let metrics = settings.metrics_enabled.then_some((metrics_host, settings.metrics_port));
        let both = [Some((&settings.host, settings.port)), metrics];
        for ((host, port), row) in
            both.into_iter().zip(["PORT", "METRICS_PORT"]).filter_map(|(at, row)| Some((at?, row)))
        {
            let variable = format!("{prefix}_{row}");
            let clash = |(other, taken, _): &&(String, u16, String)| {
                port != 0 && *taken == port && overlap(other, host)
            };
            match taken.iter().find(clash) {
                Some((_, _, first)) => lines.push(format!(
                    "{name}: {variable} is {port}, and so is {first}; set one of them to another port"
                )),
                None => taken.push((host.clone(), port, variable)),
            }
        }
    }
    lines
}

/// Below a state directory: that of the fleet. In it each service has one of its own, by its name.
pub(crate) const DIRECTORY: &str = "fleet";
