//! What a server runs with, told without its secrets: so that others can compare it with what its files say by now.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use aws_lc_rs::{hmac, pbkdf2};
use serde::{Deserialize, Serialize};

use super::{
    Settings,
    check::{Loaded, evaluate},
    reader::{Reload, Variable},
    service::is_file,
    sources::{DOT_ENV, Override, Request, SERVICE, Source, Sources},
    table::table,
    value::MASK,
};
use crate::{
    exit::{Exit, Failure},
    handed,
};

/// Every setting of a running server, secrets and contents of files as digests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InForce {
    /// Mixed into every digest, so that none tells anything to whoever knows those of another server.
    salt: String,
    /// The file of variables, whole; `named` by a flag, else found in the working directory.
    pub(crate) env_file: PathBuf,
    named: bool,
    /// Whether it is one of a fleet's.
    #[serde(default)]
    in_fleet: bool,
    settings: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    /// As in a file, masked if it is secret.
    value: String,
    /// Where it came from, for people.
    origin: String,
    /// By a flag or the environment, which nobody can change from outside.
    fixed: bool,
    /// Of what `value` does not show: a secret, or what is in the file that it names.
    digest: Option<String>,
}

/// A setting that is another one in the file than in the running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// Both in words.
    pub(crate) running: String,
    pub(crate) file: String,
    pub(crate) effect: Effect,
}

/// When what the file says will count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reload,
    Restart,
    /// Never: this of the running server wins.
    Held(String),
}

impl InForce {
    /// What a server has read from `request`. `salt` is of its own.
    pub(crate) fn of(loaded: &Loaded, request: &Request, salt: &str) -> Self {
        let file = request.env_file.clone().unwrap_or_else(|| DOT_ENV.into());
        Self {
            salt: salt.to_owned(),
            env_file: std::path::absolute(&file).unwrap_or(file),
            named: request.env_file.is_some(),
            in_fleet: request.in_fleet,
            settings: entries(loaded, salt),
        }
    }

    /// A salt for [`of`](Self::of).
    pub(crate) fn salt() -> Result<String, Failure> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| Failure::new(Exit::General, format!("no random numbers: {error}")))?;
        Ok(hex(&bytes))
    }

    /// After a reload: what waits for the next start stays.
    pub(crate) fn reloaded(&mut self, fresh: Self) {
        for (variable, (old, new)) in
            table().iter().zip(self.settings.iter_mut().zip(fresh.settings))
        {
            if matches!(variable.reload, Reload::Live) {
                *old = new;
            }
        }
    }

    /// Where `file`, or else the server's own, differs from what the server runs with. With it come the problems that the
    /// file has.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn differences(
        &self,
        file: Option<&Path>,
    ) -> Result<(Vec<Difference>, Vec<String>), Failure> {
        let path = file.unwrap_or(&self.env_file);
        // A .env that is not there says nothing, and may come.
        let absent = file.is_none() && !self.named && path.symlink_metadata().is_err();
        let env_file = Some(if absent { PathBuf::from("/dev/null") } else { path.to_owned() });
        let rows = table();
        let in_fleet = self.in_fleet;
        // Which service it is says how the file is to be read.
        let service = self.overrides().into_iter().filter(|(name, ..)| *name == SERVICE).collect();
        let alone = read(Request { env_file: env_file.clone(), overrides: service, in_fleet })?;
        let whole = read(Request { env_file, overrides: self.overrides(), in_fleet })?;
        let (filed, next) = (entries(&alone, &self.salt), entries(&whole, &self.salt));
        let mut found = Vec::new();
        for (row, (filed, next)) in rows.iter().zip(filed.iter().zip(&next)) {
            // A version of the server that did not know it runs with nothing.
            let Some(running) = self.entry(row) else { continue };
            let given = matches!(alone.origins.get(row.name()), Some(Source::File(_)));
            let (other, effect) = match (running.fixed, row.reload) {
                (true, _) if given && filed.differs(running) => {
                    (filed, Effect::Held(running.origin.clone()))
                }
                (true, _) if running.is_secret() => continue,
                (_, Reload::Live) => (next, Effect::Reload),
                (_, Reload::Restart) => (next, Effect::Restart),
            };
            if other.differs(running) {
                let (running, file) = running.words(other);
                found.push(Difference { name: row.name(), running, file, effect });
            }
        }
        let problems = match self.is_blind() {
            true => Vec::new(),
            false => whole.problems.into_iter().map(|problem| problem.line).collect(),
        };
        Ok((found, problems))
    }

    /// What flags and environment gave it, as far as it may be told: for reading settings as it does.
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let given = |row: &Variable| {
            let entry = self.entry(row)?;
            let tellable = entry.fixed && !entry.value.is_empty() && !entry.is_secret();
            tellable.then(|| (row.name(), "the running server", entry.value.clone()))
        };
        table().iter().filter_map(given).collect()
    }

    /// Whether flags or environment gave it a secret, which is missing elsewhere and is no problem there.
    pub(crate) fn is_blind(&self) -> bool {
        self.settings.iter().any(|entry| entry.fixed && entry.is_secret())
    }

    fn entry(&self, row: &Variable) -> Option<&Entry> {
        self.settings.iter().find(|entry| entry.name == row.name())
    }
}

impl Entry {
    fn is_secret(&self) -> bool {
        self.value.contains(MASK)
    }

    fn differs(&self, other: &Self) -> bool {
        // What nobody could read then or now is not compared.
        let content =
            self.digest.is_some() && other.digest.is_some() && self.digest != other.digest;
        self.value != other.value || content
    }

    /// Both for people: of what is secret, only whether it is there.
    fn words(&self, other: &Self) -> (String, String) {
        let word = |entry: &Self| match entry.value.as_str() {
            "" => "not set".to_owned(),
            value => value.to_owned(),
        };
        if self.value != other.value {
            return (word(self), word(other));
        }
        let what = if self.is_secret() { "another one" } else { "other content" };
        (word(self), what.to_owned())
    }
}

fn read(request: Request) -> Result<Loaded, Failure> {
    let nothing = std::iter::empty();
    Ok(evaluate(&Sources::assemble(&request, nothing, Path::new("/nonexistent"))?))
}

/// One for each row of the table.
fn entries(loaded: &Loaded, salt: &str) -> Vec<Entry> {
    let entry = |(name, value): (&'static str, String)| {
        let source = loaded.origins.get(name).unwrap_or(&Source::Default);
        Entry {
            name: name.to_owned(),
            digest: digest(&loaded.settings, name, salt),
            value,
            origin: source.to_string(),
            fixed: matches!(source, Source::Flag(_) | Source::Environment),
        }
    };
    loaded.settings.shown().into_iter().map(entry).collect()
}

/// Of what the value of a setting does not show, if there is something.
fn digest(settings: &Settings, name: &str, salt: &str) -> Option<String> {
    let secret = match name {
        "MAHAVISHNU_JWT_SECRET" => settings.jwt_secret.as_ref(),
        "MAHAVISHNU_REDIS_PASSWORD" => settings.redis_password.as_ref(),
        "MAHAVISHNU_REDIS_SENTINEL_PASSWORD" => settings.redis_sentinel_password.as_ref(),
        "MAHAVISHNU_JWT_KEYS" => {
            let keys = settings.jwt_keys.iter();
            let keys: Vec<_> = keys.map(|key| slow(key.secret.reveal().as_bytes(), salt)).collect();
            return (!keys.is_empty()).then(|| keys.concat());
        }
        _ => None,
    };
    if let Some(secret) = secret {
        return Some(slow(secret.reveal().as_bytes(), salt));
    }
    let one = |path: &Option<PathBuf>| path.iter().cloned().collect();
    let files: Vec<PathBuf> = match name {
        "MAHAVISHNU_SERVICE" => {
            settings.service.iter().filter(|said| is_file(said)).map(PathBuf::from).collect()
        }
        "MAHAVISHNU_CERT_FILE" => settings.cert_file.clone(),
        "MAHAVISHNU_KEY_FILE" => settings.key_file.clone(),
        "MAHAVISHNU_CA_FILE" => one(&settings.ca_file),
        "MAHAVISHNU_CRL_FILE" => settings.crl_file.clone(),
        "MAHAVISHNU_JWT_KEYS_FILE" => one(&settings.jwt_keys_file),
        "MAHAVISHNU_POLICY_FILE" => one(&settings.policy_file),
        "MAHAVISHNU_REVOKED_FILE" => one(&settings.revoked_file),
        "MAHAVISHNU_REDIS_PASSWORD_FILE" => one(&settings.redis_password_file),
        "MAHAVISHNU_REDIS_SENTINEL_PASSWORD_FILE" => one(&settings.redis_sentinel_password_file),
        "MAHAVISHNU_REDIS_CA_FILE" => one(&settings.redis_ca_file),
        "MAHAVISHNU_REDIS_CERT_FILE" => one(&settings.redis_cert_file),
        "MAHAVISHNU_REDIS_KEY_FILE" => one(&settings.redis_key_file),
        _ => Vec::new(),
    };
    let password = name.ends_with("_PASSWORD_FILE");
    let of = |path: &PathBuf| {
        let bytes = handed::bytes(path).ok()?;
        Some(if password { slow(&bytes, salt) } else { quick(&bytes, salt) })
    };
    let digests: Option<Vec<String>> = files.iter().map(of).collect();
    digests.filter(|digests| !digests.is_empty()).map(|digests| digests.concat())
}

/// For what could be guessed: each guess takes as long as this.
fn slow(secret: &[u8], salt: &str) -> String {
    let mut out = [0u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt.as_bytes(), secret, &mut out);
    hex(&out)
}

fn quick(bytes: &[u8], salt: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    hex(hmac::sign(&key, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Some hundredths of a second, once for each secret and start or reload.
const ROUNDS: NonZeroU32 = match NonZeroU32::new(100_000) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::load;

    const ONE: &str = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
    const OTHER: &str = "a8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";

    /// A server that was started with a file and with flags of these texts.
    struct Started {
        dir: tempfile::TempDir,
        running: InForce,
    }

    impl Started {
        fn new(file: &str, flags: &[(&'static str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.env");
            std::fs::write(&path, file).unwrap();
            let overrides =
                flags.iter().map(|(name, value)| (*name, "--flag", (*value).to_owned()));
            let overrides = overrides.collect();
            let request = Request { env_file: Some(path), overrides, ..Request::default() };
            let loaded = read(request.clone()).unwrap();
            let running = InForce::of(&loaded, &request, &InForce::salt().unwrap());
            Self { dir, running }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// The differences after the file has become this, as lines.
        fn lines(&self, file: &str) -> Vec<String> {
            std::fs::write(self.path("x.env"), file).unwrap();
            // As another process reads it.
            let text = serde_json::to_string(&self.running).unwrap();
            let running: InForce = serde_json::from_str(&text).unwrap();
            let (found, _) = running.differences(None).unwrap();
            found
                .iter()
                .map(|one| {
                    let bare = one.name.trim_start_matches("MAHAVISHNU_");
                    format!("{bare}: {} | {} | {:?}", one.running, one.file, one.effect)
                })
                .collect()
        }
    }

    #[test]
    fn values_differ_by_what_counts_and_not_by_how_it_is_written() {
        let file = "MAHAVISHNU_LOG_LEVEL=INFO\nMAHAVISHNU_SHARDS=2\n";
        let started = Started::new(file, &[("MAHAVISHNU_PORT", "1")]);
        assert_eq!(started.lines(file), [""; 0]);
        assert_eq!(
            started.lines("MAHAVISHNU_LOG_LEVEL=info\nMAHAVISHNU_SHARDS=2\nMAHAVISHNU_PORT=1"),
            [""; 0]
        );
        assert_eq!(
            started.lines("MAHAVISHNU_LOG_LEVEL=DEBUG\nMAHAVISHNU_SHARDS=3\nMAHAVISHNU_PORT=2\n"),
            [
                "PORT: 1 | 2 | Held(\"--flag\")",
                "SHARDS: 2 | 3 | Restart",
                "LOG_LEVEL: INFO | DEBUG | Reload",
            ]
        );
        assert_eq!(started.lines(""), ["SHARDS: 2 | auto | Restart"]);
    }

    #[test]
    fn secrets_are_compared_and_never_told() {
        let line = |secret: &str| format!("MAHAVISHNU_JWT_SECRET={secret}\n");
        let started = Started::new(&line(ONE), &[]);
        assert_eq!(started.lines(&line(ONE)), [""; 0]);
        let told = started.lines(&line(OTHER));
        assert_eq!(told, [format!("JWT_SECRET: {MASK} | another one | Reload")]);
        assert_eq!(started.lines(""), [format!("JWT_SECRET: {MASK} | not set | Reload")]);
        let text = serde_json::to_string(&started.running).unwrap();
        assert!(!text.contains(ONE), "{text}");
        let again = Started::new(&line(ONE), &[]);
        let digest = |of: &InForce| of.settings.iter().find_map(|entry| entry.digest.clone());
        assert_ne!(digest(&started.running), digest(&again.running), "salted");
    }

    #[test]
    fn a_secret_of_the_running_server_alone_is_no_problem_of_the_file() {
        let flags = [("MAHAVISHNU_JWT_SECRET", ONE), ("MAHAVISHNU_AUTH_ENABLED", "true")];
        let started = Started::new("", &flags);
        assert_eq!(started.lines(""), [""; 0]);
        let (_, problems) = started.running.differences(None).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let held = started.lines(&format!("MAHAVISHNU_JWT_SECRET={OTHER}\n"));
        assert_eq!(held, [format!("JWT_SECRET: {MASK} | another one | Held(\"--flag\")")]);
    }

    #[test]
    fn what_is_in_a_file_that_a_setting_names_counts_too() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("p.toml");
        std::fs::write(&policy, "[mahavishnu]\nfull_access = [\"root\"]\n").unwrap();
        let line = format!("MAHAVISHNU_POLICY_FILE={}\n", policy.display());
        let started = Started::new(&line, &[]);
        assert_eq!(started.lines(&line), [""; 0]);
        std::fs::write(&policy, "[mahavishnu]\nfull_access = [\"boss\"]\n").unwrap();
        let expected = format!("POLICY_FILE: {} | other content | Reload", policy.display());
        assert_eq!(started.lines(&line), [expected]);
    }

    #[test]
    fn a_reload_changes_what_it_can() {
        let mut started = Started::new("MAHAVISHNU_SHARDS=2\nMAHAVISHNU_LOG_LEVEL=INFO\n", &[]);
        let file = "MAHAVISHNU_SHARDS=3\nMAHAVISHNU_LOG_LEVEL=ERROR\n";
        let fresh = Started::new(file, &[]).running;
        started.running.reloaded(fresh);
        assert_eq!(started.lines(file), ["SHARDS: 2 | 3 | Restart"]);
    }

    #[test]
    fn a_file_with_problems_says_so() {
        let started = Started::new("", &[]);
        std::fs::write(started.path("x.env"), "MAHAVISHNU_PORT=http\n").unwrap();
        let (found, problems) = started.running.differences(None).unwrap();
        assert!(found.is_empty(), "{found:?}");
        assert!(
            problems[0].starts_with("MAHAVISHNU_PORT: \"http\" is not allowed"),
            "{problems:?}"
        );
        assert!(load(&[]).problems.is_empty());
        std::fs::remove_file(started.path("x.env")).unwrap();
        assert!(started.running.differences(None).is_err(), "it was named");
    }
}
