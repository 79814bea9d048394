//! Which servers are installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A server program, by its name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `redis` or `valkey`.
    pub name: &'static str,
    /// Its version: major, minor, patch.
    pub version: (u32, u32, u32),
    program: PathBuf,
}

impl Kind {
    /// All that are installed, the oldest Redis first. Panics if there is none.
    pub fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Kind>> = OnceLock::new();
        ALL.get_or_init(|| {
            let dir = environment().join("redis");
            let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| {
                panic!("{}: {error}; run scripts/setup-tests", dir.display())
            });
            let mut all: Vec<Self> = entries
                .map(|entry| entry.expect("a folder that can be read").path().join("redis-server"))
                .filter(|program| program.is_file())
                .map(Self::of)
                .collect();
            all.sort_by_key(|kind| (kind.name, kind.version));
            assert!(!all.is_empty(), "no server in {}: run scripts/setup-tests", dir.display());
            all
        })
    }

    /// The oldest Redis that is installed.
    pub fn redis() -> Self {
        Self::named("redis")
    }

    /// The oldest Valkey that is installed.
    pub fn valkey() -> Self {
        Self::named("valkey")
    }

    /// A Redis from before 7.0, which is none of [`all`](Self::all).
    pub fn too_old() -> Self {
        let program = environment().join("old-redis/redis-server");
        assert!(program.is_file(), "{}: run scripts/setup-tests", program.display());
        Self::of(program)
    }

    fn named(name: &str) -> Self {
        let found = Self::all().iter().find(|kind| kind.name == name);
        found.unwrap_or_else(|| panic!("no {name} is installed: run scripts/setup-tests")).clone()
    }

    /// It has been built with TLS.
    pub fn has_tls(&self) -> bool {
        // The builds of PyPI are without.
        self.program.canonicalize().is_ok_and(|program| program.starts_with("/usr"))
    }

    /// Its file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn of(program: PathBuf) -> Self {
        let output = Command::new(&program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = if text.starts_with("Valkey") { "valkey" } else { "redis" };
        let version = text.split_once("v=").and_then(|(_, rest)| rest.split_whitespace().next());
        let mut numbers = version.unwrap_or_default().split('.').map(|part| {
            part.parse().unwrap_or_else(|_| panic!("{}: no version in {text:?}", program.display()))
        });
        let mut next = || numbers.next().unwrap_or_default();
        Self { name, version: (next(), next(), next()), program }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{} {major}.{minor}.{patch}", self.name)
    }
}

/// Where `scripts/setup-tests` has put what it installs.
fn environment() -> PathBuf {
    std::env::var_os("MAHAVISHNU_TEST_ENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-env"),
        PathBuf::from,
    )
}
