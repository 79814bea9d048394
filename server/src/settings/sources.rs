//! Where settings come from: flags win over the process environment, which wins over a file. Nothing is ever written
//! to the process environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::env_file;
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
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
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
}

/// All given variables, best source first.
pub(crate) struct Sources {
    layers: Vec<BTreeMap<String, Given>>,
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
        let flags = request.overrides.iter().map(|(name, flag, value)| {
            (
                (*name).to_owned(),
                Given { text: Some(value.clone().into()), origin: Source::Flag(flag) },
            )
        });
        let environment = environment.filter(|(name, _)| is_ours(name)).map(|(name, value)| {
            (
                name,
                Given {
                    text: value.into_string().ok().map(Zeroizing::new),
                    origin: Source::Environment,
                },
            )
        });
        let file = match &request.env_file {
            Some(path) => read_file(path)?,
            None => {
                let path = working_directory.join(DOT_ENV);
                // A directory of this name is a Python environment; anything else is meant.
                if path.symlink_metadata().is_ok() && !path.is_dir() {
                    read_file(&path)?
                } else {
                    BTreeMap::new()
                }
            }
        };
        Ok(Self { layers: vec![flags.collect(), environment.collect(), file] })
    }

    /// The best value given under one of `names`; within a source an earlier name wins.
    pub(crate) fn find<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a Given)> {
        self.layers
            .iter()
            .find_map(|layer| names.iter().find_map(|name| Some((*name, layer.get(*name)?))))
    }

    /// Names in one source that stand for the same variable but differ in value.
    pub(crate) fn conflicts<'a>(&'a self, names: &'a [&str]) -> Option<(&'a str, &'a str)> {
        self.layers.iter().find_map(|layer| {
            let mut given = names.iter().filter_map(|name| Some((*name, &layer.get(*name)?.text)));
            let (first, value) = given.next()?;
            given.find(|(_, other)| *other != value).map(|(second, _)| (first, second))
        })
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

/// Whether a variable is read, or looked at because it may be misspelt.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(super::PREFIX) || telemetry::is_read(name)
}

/// The variables of a file that are ours. The last of equal names wins, as in a shell.
fn read_file(path: &Path) -> Result<BTreeMap<String, Given>, Failure> {
    let text = handed::text(path).map_err(|refused| Failure::new(refused.exit, refused.text))?;
    let entries = env_file::parse(&text).map_err(|bad| Failure {
        exit: Exit::Configuration,
        // The line itself may hold a secret: only its number is shown.
        lines: bad.iter().map(|bad| Refused::at(path, bad.number, bad.why).text).collect(),
    })?;
    let given = |entry: env_file::Entry| {
        (entry.name, Given { text: Some(entry.value), origin: Source::File(path.to_owned()) })
    };
    Ok(entries.into_iter().map(given).collect())
}

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
        let request =
            Request { env_file: None, overrides: vec![("MAHAVISHNU_A", "--a", "flag".into())] };
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
        let request = Request { env_file: Some(named), overrides: Vec::new() };
        let sources = Sources::assemble(&request, environment(&[]), dir.path()).unwrap();
        assert_eq!(text(&sources, "MAHAVISHNU_A"), None);
        assert_eq!(text(&sources, "MAHAVISHNU_B").as_deref(), Some("named"));
        let missing = Request { env_file: Some(dir.path().join("none")), overrides: Vec::new() };
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
            Some(("MAHAVISHNU_X", "MAHAVISHNU_WS_X"))
        );
        assert_eq!(sources.find(&["MAHAVISHNU_X", "MAHAVISHNU_WS_X"]).unwrap().0, "MAHAVISHNU_X");
    }
}
