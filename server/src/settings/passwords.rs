//! Passwords that this server shows to others, from variables and from files.

use std::path::Path;

use super::{Settings, reader::Problem, value::Secret};
use crate::{exit::Exit, handed};

/// What Redis and its sentinels ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passwords {
    pub(crate) redis: Option<Secret>,
    pub(crate) sentinel: Option<Secret>,
}

impl Passwords {
    /// All of `settings`, and what is wrong with those of files.
    pub(super) fn load(settings: &Settings) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let Settings { redis_password, redis_password_file, .. } = settings;
        let redis = one(REDIS, (redis_password.as_ref(), redis_password_file.as_deref()));
        let Settings { redis_sentinel_password, redis_sentinel_password_file, .. } = settings;
        let given = (redis_sentinel_password.as_ref(), redis_sentinel_password_file.as_deref());
        let sentinel = one(SENTINEL, given);
        let mut sound = |password: Result<Option<Secret>, Problem>| {
            password.unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        };
        (Self { redis: sound(redis), sentinel: sound(sentinel) }, problems)
    }

    /// The one that the variable or the file called `name` has given.
    pub(super) fn of(&self, name: &str) -> Option<&Secret> {
        let is_of = |names: [&str; 2]| names.contains(&name);
        let password = [(REDIS, &self.redis), (SENTINEL, &self.sentinel)];
        password.into_iter().find(|(names, _)| is_of(*names))?.1.as_ref()
    }
}

/// A password that was given by itself, or else in a file; `names` are those of the two variables.
fn one(
    [name, file]: [&'static str; 2],
    given: (Option<&Secret>, Option<&Path>),
) -> Result<Option<Secret>, Problem> {
    let problem = |exit, text: &str| Problem { name: file, line: format!("{file}: {text}"), exit };
    match given {
        (Some(_), Some(_)) => {
            let text = format!("{name} is set, too; unset one of the two");
            Err(problem(Exit::Configuration, &text))
        }
        (password, None) => Ok(password.cloned()),
        (None, Some(path)) => {
            let text = handed::text(path).map_err(|wrong| problem(wrong.exit, &wrong.text))?;
            // Editors and `echo` end a file with one.
            let bare = text
                .strip_suffix('\n')
                .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
            if bare.is_empty() {
                let text = format!("{}: is empty; it is to hold a password", path.display());
                return Err(problem(Exit::Configuration, &text));
            }
            Ok(Some(Secret::new(bare)))
        }
    }
}

const REDIS: [&str; 2] = ["MAHAVISHNU_REDIS_PASSWORD", "MAHAVISHNU_REDIS_PASSWORD_FILE"];
const SENTINEL: [&str; 2] =
    ["MAHAVISHNU_REDIS_SENTINEL_PASSWORD", "MAHAVISHNU_REDIS_SENTINEL_PASSWORD_FILE"];

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use crate::settings::testing::load;

    #[test]
    fn a_file_that_everybody_can_read_is_no_secret_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let file = path.to_str().unwrap();
        std::fs::write(&path, r#"{"a": "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu"}"#).unwrap();
        let needed = [("REDIS_HOST", "r"), ("REDIS_TLS", "true"), ("REDIS_CERT_FILE", file)];
        let sentinels = [("REDIS_SENTINELS", "s"), ("REDIS_SENTINEL_MASTER", "m")];
        for (name, with) in [
            ("JWT_KEYS_FILE", &[][..]),
            ("REDIS_PASSWORD_FILE", &needed[..1]),
            ("REDIS_SENTINEL_PASSWORD_FILE", &sentinels),
            ("REDIS_KEY_FILE", &needed),
        ] {
            for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
                std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                let loaded = load(&[with, &[(name, file)]].concat());
                let start = format!("MAHAVISHNU_{name}: {file}: every user of this machine can");
                let said = loaded.warnings.iter().any(|line| line.starts_with(&start));
                assert_eq!(said, warned, "{name} {mode:o}: {:?}", loaded.warnings);
                let text = loaded.warnings.concat();
                assert!(!text.contains("q8Zt"), "{text}");
            }
        }
    }

    #[test]
    fn a_password_is_given_or_in_a_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let file = path.to_str().unwrap();
        for (name, of) in [("REDIS_PASSWORD", "redis"), ("REDIS_SENTINEL_PASSWORD", "sentinel")] {
            let in_file = format!("{name}_FILE");
            let read = |pairs: &[(&str, &str)]| {
                let loaded = load(pairs);
                let passwords = loaded.passwords.clone();
                let found = if of == "redis" { passwords.redis } else { passwords.sentinel };
                let text = format!("{loaded:?} {:?}", loaded.demand_all());
                assert!(!text.contains("hunter2"), "{text}");
                (found.map(|found| found.reveal().to_owned()), loaded.problems.len())
            };
            assert_eq!(read(&[(name, "hunter2")]), (Some("hunter2".into()), 0));
            for (content, expected) in [
                ("hunter2", "hunter2"),
                ("hunter2\n", "hunter2"),
                ("hunter2\r\n", "hunter2"),
                (" hunter2 \n\n", " hunter2 \n"),
            ] {
                std::fs::write(&path, content).unwrap();
                assert_eq!(read(&[(&in_file, file)]), (Some(expected.into()), 0), "{content:?}");
            }
            assert_eq!(read(&[(&in_file, file), (name, "hunter2")]), (None, 1));
            std::fs::write(&path, "\n").unwrap();
            assert_eq!(read(&[(&in_file, file)]), (None, 1));
            assert_eq!(read(&[(&in_file, "/nonexistent/hunter")]), (None, 1));
        }
    }
}
