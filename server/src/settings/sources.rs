//! Where settings come from: flags win over the process environment, which wins over a file, which wins over what the
//! service has by itself. Nothing is ever written to the process environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    env_file::{self, Own},
    service::Service,
};
use crate::{
    exit::{Exit, Failure},
    handed::{self, Refused},
    telemetry,
};

/// What a variable was given as, and where.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// `None`: not UTF-8. It may be a secret.
    pub(crate) text: Option<Zeroizing<String>>,
    pub(crate) origin: Source,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(&'static str),
    Environment,
    File(PathBuf),
    /// What this service has, if nobody says otherwise.
    Service(Arc<str>),
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A flag that stands for a variable: the variable's full name, the flag, its value.
pub(crate) type Override = (&'static str, &'static str, String);

/// What to read. Kept by a running server, which reads the same sources again on SIGHUP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// `--env-file`. Without it `.env` in the working directory is read if it is there.
    pub(crate) env_file: Option<PathBuf>,
    pub(crate) overrides: Vec<Override>,
    /// Whether it is one of a fleet's: see [`Service::load`] and [`is_shared`].
    pub(crate) in_fleet: bool,
}

/// All given variables, best source first.
pub(crate) struct Sources {
    layers: Vec<BTreeMap<String, Given>>,
    service: Option<Service>,
}

impl Sources {
    /// Reads what `request` names. Fails if a file cannot be read or parsed.
    pub(crate) fn read(request: &Request) -> Result<Self, Failure> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self::assemble(request, environment, Path::new("."))
    }

    /// [`Self::read`] with the environment and the working directory as arguments.
    pub(crate) fn assemble(
        request: &Request,
        environment: impl Iterator<Item = (String, OsString)>,
        working_directory: &Path,
    ) -> Result<Self, Failure> {
        let flags: BTreeMap<_, _> = request
            .overrides
            .iter()
            .map(|(name, flag, value)| {
                let given = Given { text: Some(value.clone().into()), origin: Source::Flag(flag) };
                ((*name).to_owned(), given)
            })
            .collect();
        let environment = environment.map(|(name, value)| {
            let text = value.into_string().ok().map(Zeroizing::new);
            (name, Given { text, origin: Source::Environment })
        });
        let mut environment: BTreeMap<_, _> = environment.collect();
        let dot_env = working_directory.join(DOT_ENV);
        // A directory of this name is a Python environment; anything else is meant.
        let is_file = || dot_env.symlink_metadata().is_ok() && !dot_env.is_dir();
        let path = request.env_file.clone().or_else(|| is_file().then(|| dot_env.clone()));
        let text = path.as_deref().map(read_file).transpose()?;
        let entries = |own: Own<'_>| match path.as_deref().zip(text.as_ref()) {
            Some((path, text)) => parse_file(path, text, own),
            None => Ok(BTreeMap::new()),
        };
        let mut file = entries(&|_| false)?;
        let said = [&flags, &environment, &file].into_iter().find_map(|layer| layer.get(SERVICE));
        let said = said.and_then(|given| given.text.as_ref());
        let service = match said.filter(|text| !text.is_empty()) {
            Some(said) => Service::load(said, working_directory, request.in_fleet)?,
            None => None,
        };
        let of_service = |name: &str| service.as_ref().is_some_and(|service| service.reads(name));
        if service.is_some() {
            // Once more: now it is known which other names are settings.
            file = entries(&of_service)?;
        }
        environment.retain(|name, _| is_ours(name) || of_service(name));
        if request.in_fleet {
            // What only one of them can have is not meant for all.
            let own = service.as_ref().is_some_and(Service::is_common);
            let keep = |name: &String| own || of_service(name) || is_shared(name);
            environment.retain(|name, _| keep(name));
            file.retain(|name, _| keep(name));
        }
        let defaults = service.iter().flat_map(Service::defaults).collect();
        Ok(Self { layers: vec![flags, environment, file, defaults], service })
    }

    /// The service that these are the settings of, if they name one.
    pub(crate) fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// The best value given under one of `names`; within a source the service's own name wins, and then an earlier one.
    pub(crate) fn find<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a Given)> {
        let own = self.own_names(names);
        let own = own.iter().map(String::as_str).collect::<Vec<_>>();
        let get = |layer: &'a BTreeMap<String, Given>, name: &str| {
            layer.get_key_value(name).map(|(name, given)| (name.as_str(), given))
        };
        self.layers
            .iter()
            .find_map(|layer| own.iter().chain(names).find_map(|name| get(layer, name)))
    }

    /// Names in one source that stand for the same variable but differ in value.
    pub(crate) fn conflicts(&self, names: &[&str]) -> Option<(String, String)> {
        let own = self.own_names(names);
        let own = own.iter().map(String::as_str).collect::<Vec<_>>();
        // A service's own name is meant to win over the common one.
        [own.as_slice(), names].into_iter().find_map(|names| {
            self.layers.iter().find_map(|layer| {
                let mut given =
                    names.iter().filter_map(|name| Some((*name, &layer.get(*name)?.text)));
                let (first, value) = given.next()?;
                let (second, _) = given.find(|(_, other)| *other != value)?;
                Some((first.to_owned(), second.to_owned()))
            })
        })
    }

    fn own_names(&self, names: &[&str]) -> Vec<String> {
        self.service.as_ref().map(|service| service.spellings(names)).unwrap_or_default()
    }

    /// The variables of OpenTelemetry that were given, by name.
    pub(crate) fn telemetry(&self) -> BTreeMap<String, Given> {
        let found = |name: &str| Some((name.to_owned(), self.find(&[name])?.1.clone()));
        self.names().filter(|name| telemetry::is_read(name)).filter_map(found).collect()
    }

    /// Every name that was given, once.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let all: std::collections::BTreeSet<_> =
            self.layers.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
        all.into_iter()
    }
}

/// Whether what a variable says in the common sources of a fleet is meant for all its services: all but names, ports and
/// files, of which each has its own.
pub(super) fn is_shared(name: &str) -> bool {
    let bare = name.strip_prefix(super::PREFIX).unwrap_or(name);
    !OF_ONE.contains(&bare)
}

/// Whether a variable is read, or looked at because it may be misspelt.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(super::PREFIX) || telemetry::is_read(name)
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    handed::text(path).map_err(|refused| Failure::new(refused.exit, refused.text))
}

/// The variables of a file that are ours. The last of equal names wins, as in a shell.
fn parse_file(path: &Path, text: &str, own: Own<'_>) -> Result<BTreeMap<String, Given>, Failure> {
    let entries = env_file::parse(text, own).map_err(|bad| Failure {
        exit: Exit::Configuration,
        // The line itself may hold a secret: only its number is shown.
        lines: bad.iter().map(|bad| Refused::at(path, bad.number, bad.why).text).collect(),
    })?;
    let given = |entry: env_file::Entry| {
        (entry.name, Given { text: Some(entry.value), origin: Source::File(path.to_owned()) })
    };
    Ok(entries.into_iter().map(given).collect())
}

/// What names the service.
pub(crate) const SERVICE: &str = "MAHAVISHNU_SERVICE";

/// What one service of a fleet has and no other.
const OF_ONE: [&str; 13] = [
    "LISTEN_UNIX",
    "PORT",
    "METRICS_PORT",
    "SERVER_NAME",
    "AUTH_POLICY",
    "JWT_AUDIENCE",
    "JWT_ISSUER",
    "STATUS_REQUESTS",
    "REDIS_PREFIX",
    "INGRESS_STREAM",
    "INGRESS_LIST",
    "HISTORY_FILE",
    "RECORD_FILE",
];

/// The file in the working directory that counts if none is named.
pub(crate) const DOT_ENV: &str = ".env";

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn text(sources: &Sources, name: &str) -> Option<String> {
        sources
            .find(&[name])
            .and_then(|(_, given)| given.text.as_ref().map(|text| text.to_string()))
    }

    #[test]
    fn flags_win_over_environment_which_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(".env"),
            "MAHAVISHNU_A=file\nMAHAVISHNU_B=file\nMAHAVISHNU_C='file'\nPATH=x\n",
        )
        .unwrap();
        let request = Request {
            env_file: None,
            overrides: vec![("MAHAVISHNU_A", "--a", "flag".into())],
            in_fleet: false,
        };
        let vars = environment(&[("MAHAVISHNU_A", "env"), ("MAHAVISHNU_B", "env"), ("HOME", "/")]);
        let sources = Sources::assemble(&request, vars, dir.path()).unwrap();
        assert_eq!(text(&sources, "MAHAVISHNU_A").as_deref(), Some("flag"));
        assert_eq!(text(&sources, "MAHAVISHNU_B").as_deref(), Some("env"));
        assert_eq!(text(&sources, "MAHAVISHNU_C").as_deref(), Some("file"));
        assert_eq!(sources.names().count(), 3);
    }

    #[test]
    fn a_named_file_replaces_dot_env_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".env"), "MAHAVISHNU_A=dot\n").unwrap();
        let named = dir.path().join("production.env");
        std::fs::write(&named, "\u{feff}export MAHAVISHNU_B=\"named\" # note\n").unwrap();
        let request = Request { env_file: Some(named), overrides: Vec::new(), in_fleet: false };
        let sources = Sources::assemble(&request, environment(&[]), dir.path()).unwrap();
        assert_eq!(text(&sources, "MAHAVISHNU_A"), None);
        assert_eq!(text(&sources, "MAHAVISHNU_B").as_deref(), Some("named"));
        let missing = Request {
            env_file: Some(dir.path().join("none")),
            overrides: Vec::new(),
            in_fleet: false,
        };
        let failure = Sources::assemble(&missing, environment(&[]), dir.path()).err().unwrap();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.lines[0].ends_with("none: No such file or directory"), "{failure}");
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(".env"),
            "MAHAVISHNU_A=1\n\nMAHAVISHNU_JWT_SECRET='top' secret\n",
        )
        .unwrap();
        let failure =
            Sources::assemble(&Request::default(), environment(&[]), dir.path()).err().unwrap();
        assert_eq!(failure.lines.len(), 1);
        assert!(failure.lines[0].contains(".env:3:"), "{failure}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }

    #[test]
    fn two_spellings_with_different_values_are_a_conflict() {
        let vars = environment(&[("MAHAVISHNU_X", "1"), ("MAHAVISHNU_WS_X", "2")]);
        let sources =
            Sources::assemble(&Request::default(), vars, Path::new("/nonexistent")).unwrap();
        assert_eq!(
            sources.conflicts(&["MAHAVISHNU_X", "MAHAVISHNU_WS_X"]),
            Some(("MAHAVISHNU_X".to_owned(), "MAHAVISHNU_WS_X".to_owned()))
        );
        assert_eq!(sources.find(&["MAHAVISHNU_X", "MAHAVISHNU_WS_X"]).unwrap().0, "MAHAVISHNU_X");
    }
}
