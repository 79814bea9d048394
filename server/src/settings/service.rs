//! Which of the family's services a server is, and what follows from that for its settings: their defaults, the names that
//! its variables have besides ours, and the words that mean yes in them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use mahavishnu_core::auth::Policy;
use mahavishnu_profiles::Profile;
use zeroize::Zeroizing;

use super::{
    PREFIX,
    kind::Kind,
    sources::{Given, Source},
    table::table,
};
use crate::{
    exit::{Exit, Failure},
    handed,
};

/// A service, as settings see it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    profile: Arc<Profile>,
    /// Among others in one process: then its ports are those which nobody else of the family has.
    in_fleet: bool,
    /// All names that settings have here besides ours.
    names: BTreeSet<String>,
}

impl Service {
    /// The service that `said` names: a known one by its name, another one by its file. `None`: there is none of this name.
    pub(crate) fn load(
        said: &str,
        working_directory: &Path,
        in_fleet: bool,
    ) -> Result<Option<Self>, Failure> {
        let profile = profile(said, working_directory, "MAHAVISHNU_SERVICE")?;
        Ok(profile.map(|profile| {
            let mut this = Self { profile, in_fleet, names: BTreeSet::new() };
            this.names = table().iter().flat_map(|row| this.spellings(row.names)).collect();
            this
        }))
    }

    /// All that is known of it.
    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Whether a variable is a setting by a name of this service's own.
    pub(super) fn reads(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether it has ours.
    pub(super) fn is_common(&self) -> bool {
        PREFIX.strip_suffix('_') == Some(&*self.profile.environment.prefix)
    }

    /// The service's own names of the variable that has these `names`, the one that counts first in front.
    pub(super) fn spellings(&self, names: &[&str]) -> Vec<String> {
        let of_process =
            |name: &&str| PROCESS.iter().any(|one| name.strip_prefix(PREFIX) == Some(one));
        if self.in_fleet && names.first().is_some_and(of_process) {
            return Vec::new();
        }
        let environment = &self.profile.environment;
        let mut bare = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
        let mut all: Vec<String> = Vec::new();
        for prefix in environment.prefixes() {
            all.extend(bare.clone().map(|name| format!("{prefix}_{name}")));
        }
        let row = bare.next().unwrap_or_default();
        let whole = environment.spellings.get(row).into_iter().flatten();
        let secrets = self.profile.tokens.also_secrets.iter().filter(|_| row == "JWT_SECRET");
        all.extend(whole.chain(secrets).map(ToString::to_string));
        all
    }

    /// What a switch of this service says, in our words, and whether we should have read it otherwise.
    pub(super) fn switch(&self, spelling: &str, text: &str) -> Option<(&'static str, bool)> {
        // Ours are read as ever.
        if spelling.starts_with(PREFIX) {
            return None;
        }
        let yes = self.profile.environment.is_yes(text);
        let differs = super::kind::Bool.parse(text.trim()).is_some_and(|ours| ours != yes);
        Some((if yes { "true" } else { "false" }, differs))
    }

    /// The settings that this service has if nobody says otherwise.
    pub(super) fn defaults(&self) -> BTreeMap<String, Given> {
        let Profile { ports, limits, tokens, .. } = &*self.profile;
        let name: &str = &self.profile.name;
        let (websocket, metrics) = match self.in_fleet {
            true => (ports.websocket_in_fleet(), ports.metrics_in_fleet()),
            false => (ports.websocket, ports.metrics),
        };
        let burst =
            limits.burst.unwrap_or_else(|| limits.messages_per_second.saturating_mul(3) / 2);
        let mut rows: Vec<(&str, Cow<'_, str>)> = vec![
            ("PORT", websocket.to_string().into()),
            ("METRICS_PORT", metrics.to_string().into()),
            ("SERVER_NAME", name.into()),
            ("REDIS_PREFIX", name.into()),
            ("MAX_CONNECTIONS", limits.connections_max.to_string().into()),
            ("MESSAGE_RATE_LIMIT", limits.messages_per_second.to_string().into()),
            ("MESSAGE_BURST", burst.max(1).to_string().into()),
        ];
        if Policy::for_service(name).is_some() {
            rows.push(("AUTH_POLICY", name.into()));
        }
        if self.in_fleet {
            rows.push(("SHARDS", "1".into()));
        }
        if let Some(audience) = &tokens.audience {
            rows.push(("JWT_AUDIENCE", (&**audience).into()));
        }
        let origin = Source::Service(name.into());
        let given = |text: Cow<'_, str>| Given {
            text: Some(Zeroizing::new(text.into_owned())),
            origin: origin.clone(),
        };
        rows.into_iter().map(|(row, text)| (format!("{PREFIX}{row}"), given(text))).collect()
    }
}

/// What a process has once, however many services it has.
const PROCESS: [&str; 5] = ["STATE_DIR", "RUNTIME", "CORE_FILES", "LOG_LEVEL", "LOG_FORMAT"];

/// A service by its name, or by the file that describes it.
pub(crate) struct ServiceProfile;

impl Kind for ServiceProfile {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        if is_file(text) {
            // Whoever reads it again may stand elsewhere.
            let path = PathBuf::from(text);
            return Some(std::path::absolute(&path).unwrap_or(path).display().to_string());
        }
        Some(Profile::builtin(&text.to_ascii_lowercase())?.name.to_string())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn allowed(&self) -> String {
        let names: Vec<_> = Profile::builtins().iter().map(|profile| &*profile.name).collect();
        format!("one of {}, or a file (.toml) that describes another", names.join(", "))
    }
}

/// Whether a service is named by its file.
pub(crate) fn is_file(said: &str) -> bool {
    said.contains('/') || said.ends_with(".toml")
}

/// The profile that `said` names; errors name the option in which it was `said`.
pub(crate) fn profile(
    said: &str,
    working_directory: &Path,
    option: &str,
) -> Result<Option<Arc<Profile>>, Failure> {
    match is_file(said) {
        false => Ok(Profile::builtin(&said.to_ascii_lowercase())),
        true => read(&working_directory.join(said), option).map(Some),
    }
}

fn read(path: &Path, option: &str) -> Result<Arc<Profile>, Failure> {
    let failure = |exit: Exit, text: String| Failure::new(exit, format!("{option}: {text}"));
    let text = handed::text(path).map_err(|refused| failure(refused.exit, refused.text))?;
    let profile = Profile::parse(&text).map_err(|error| {
        let text = format!("{}: {error}", path.display());
        failure(Exit::Configuration, text)
    })?;
    Ok(Arc::new(profile))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{
        super::check::{Loaded, evaluate},
        super::show,
        super::sources::{Request, Sources},
        *,
    };

    const STRONG: &str = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";

    /// What these variables, by their whole names, come to; `file` is the common one.
    fn load(service: &str, vars: &[(&str, &str)], file: Option<&str>, in_fleet: bool) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let env_file = file.map(|text| {
            let path = dir.path().join("fleet.env");
            std::fs::write(&path, text).unwrap();
            path
        });
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
        let overrides = vec![("MAHAVISHNU_SERVICE", "--service", service.to_owned())];
        let request = Request { env_file, overrides, in_fleet };
        evaluate(&Sources::assemble(&request, vars, dir.path()).unwrap())
    }

    fn lines(loaded: &Loaded) -> Vec<&str> {
        loaded.problems.iter().map(|problem| problem.line.as_str()).collect()
    }

    #[test]
    fn a_service_has_defaults_of_its_own_and_says_so() {
        let loaded = load("crackerjack", &[], None, false);
        assert_eq!(lines(&loaded), [""; 0]);
        assert_eq!(loaded.warnings, [""; 0]);
        let settings = &loaded.settings;
        assert_eq!((settings.port, settings.metrics_port), (8686, 9091));
        assert_eq!((settings.max_connections, settings.message_rate_limit), (1000, Some(100)));
        assert_eq!(
            (&*settings.auth_policy, &*settings.redis_prefix),
            ("crackerjack", "crackerjack")
        );
        let text = show(&loaded);
        for line in [
            "MAHAVISHNU_SERVICE=crackerjack  # --service",
            "MAHAVISHNU_METRICS_PORT=9091  # service crackerjack",
            "MAHAVISHNU_HOST=127.0.0.1  # default",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn what_is_set_wins_and_the_services_own_name_of_it_most() {
        let both = [("CRACKERJACK_PORT", "1"), ("MAHAVISHNU_PORT", "2")];
        assert_eq!(load("crackerjack", &both, None, false).settings.port, 1);
        assert_eq!(load("crackerjack", &both[1..], None, false).settings.port, 2);
        assert_eq!(load("akosha", &both, None, false).settings.port, 2);
        // The environment wins over the file, whatever the names.
        let file = Some("CRACKERJACK_PORT=3\n");
        assert_eq!(load("crackerjack", &both[1..], file, false).settings.port, 2);
        assert_eq!(load("crackerjack", &[], file, false).settings.port, 3);
        let shown = show(&load("crackerjack", &both, None, false));
        assert!(
            shown.contains("MAHAVISHNU_PORT=1  # environment, as CRACKERJACK_PORT\n"),
            "{shown}"
        );
    }

    #[test]
    fn both_spellings_count_and_the_shorter_one_first() {
        let tls =
            |vars: &[(&str, &str)]| load("crackerjack", vars, None, false).settings.tls_enabled;
        assert!(tls(&[("CRACKERJACK_TLS_ENABLED", "true")]));
        assert!(tls(&[("CRACKERJACK_WS_TLS_ENABLED", "true")]));
        let both = [("CRACKERJACK_TLS_ENABLED", "false"), ("CRACKERJACK_WS_TLS_ENABLED", "true")];
        assert!(!tls(&both));
        let warnings = load("crackerjack", &both, None, false).warnings;
        let expected = "CRACKERJACK_TLS_ENABLED and CRACKERJACK_WS_TLS_ENABLED differ: CRACKERJACK_TLS_ENABLED counts";
        assert!(warnings.iter().any(|warning| warning == expected), "{warnings:?}");
        let guide = [("FASTBLOCKS_WS_AUTH_REQUIRED", "true"), ("FASTBLOCKS_WS_JWT_SECRET", STRONG)];
        let loaded = load("fastblocks", &guide, None, false);
        assert!(loaded.settings.auth_enabled && lines(&loaded).is_empty(), "{loaded:?}");
        assert_eq!(load("excalidraw", &[("WEBSOCKET_PORT", "7")], None, false).settings.port, 7);
        assert_eq!(load("dhruva", &[("DHARA_PORT", "7")], None, false).settings.port, 7);
        let shared = [("CRACKERJACK_AUTH_ENABLED", "true"), ("BODAI_SHARED_SECRET", STRONG)];
        assert_eq!(lines(&load("crackerjack", &shared, None, false)), [""; 0]);
        assert_eq!(lines(&load("akosha", &shared, None, false)), [""; 0], "neither is Akosha's");
    }

    #[test]
    fn switches_have_the_services_words() {
        let on = |service: &str, name: &str, word: &str| {
            let loaded = load(service, &[(name, word)], None, false);
            (
                loaded.settings.page,
                loaded.warnings.iter().filter(|line| line.contains("means")).count(),
            )
        };
        // Service, word, what it means, whether that is surprising.
        for (service, word, means, surprises) in [
            ("AKOSHA", "True", true, 0),
            ("AKOSHA", "1", false, 1),
            ("AKOSHA", "anything", false, 0),
            ("CRACKERJACK", "1", true, 0),
            ("CRACKERJACK", "on", true, 0),
            ("CRACKERJACK", "enabled", false, 0),
            ("FASTBLOCKS", "enabled", true, 0),
            ("FASTBLOCKS", "0", false, 0),
        ] {
            let name = format!("{service}_PAGE");
            let read = on(&service.to_ascii_lowercase(), &name, word);
            assert_eq!(read, (means, surprises), "{service} {word}");
        }
        // By our names they are ours.
        assert_eq!(on("akosha", "MAHAVISHNU_PAGE", "1"), (true, 0));
        assert_eq!(lines(&load("akosha", &[("MAHAVISHNU_PAGE", "x")], None, false)).len(), 1);
    }

    #[test]
    fn published_secrets_are_refused() {
        for service in ["crackerjack", "akosha", "fastblocks", "session-buddy"] {
            let prefix = service.replace('-', "_").to_ascii_uppercase();
            let (switch, secret) =
                (format!("{prefix}_AUTH_ENABLED"), format!("{prefix}_JWT_SECRET"));
            let dev = [(&*switch, "true"), (&*secret, "dev-secret-change-in-production")];
            let loaded = load(service, &dev, None, false);
            assert_eq!(loaded.problems.len(), 1, "{service}: {:?}", loaded.problems);
            let real = [(&*switch, "true"), (&*secret, STRONG)];
            assert_eq!(lines(&load(service, &real, None, false)), [""; 0]);
        }
    }

    #[test]
    fn of_a_fleet_each_has_what_only_one_can_have() {
        let file = Some(
            "MAHAVISHNU_PORT=7000\nMAHAVISHNU_HISTORY_FILE=/m.db\nMAHAVISHNU_MESSAGE_RATE_LIMIT=7\nAKOSHA_PORT=7001\n",
        );
        let ports = |service| {
            let loaded = load(service, &[], file, true);
            assert_eq!(loaded.settings.message_rate_limit, Some(7), "meant for all");
            assert_eq!(loaded.settings.shards.resolve(), 1);
            (loaded.settings.port, loaded.settings.history_file.is_some())
        };
        assert_eq!(ports("mahavishnu"), (7000, true));
        assert_eq!(ports("akosha"), (7001, false));
        assert_eq!(ports("crackerjack"), (8686, false));
        assert_eq!(load("mahavishnu", &[], None, true).settings.port, 8690);
    }

    #[test]
    fn a_service_that_does_not_exist_yet_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my-service.toml");
        let text = Profile::builtin("crackerjack").unwrap().text().replace("crackerjack", "mine");
        std::fs::write(&path, text.replace("CRACKERJACK", "MINE")).unwrap();
        let said = path.to_str().unwrap();
        let loaded = load(said, &[("MINE_PORT", "7")], None, false);
        assert_eq!(lines(&loaded), [""; 0]);
        assert_eq!((loaded.settings.port, &*loaded.settings.server_name), (7, "mine"));
        let (policy, filed) = loaded.policy().unwrap();
        assert!(!filed && policy.full_access().iter().any(|word| &**word == "mine:admin"));
        assert_eq!(loaded.policy_name(), "mine");
        std::fs::write(&path, "name = 1\n").unwrap();
        let request = Request {
            overrides: vec![("MAHAVISHNU_SERVICE", "--service", said.to_owned())],
            ..Request::default()
        };
        let failure = Sources::assemble(&request, std::iter::empty(), dir.path()).err().unwrap();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.to_string().contains("my-service.toml: line 1: name"), "{failure}");
    }
}
