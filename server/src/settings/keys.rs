//! The keys that tokens are signed with, from all their sources, and whether they are worth the name.

use std::{collections::BTreeMap, path::Path};

use mahavishnu_core::auth;
use zeroize::Zeroizing;

use super::{
    Settings,
    reader::{Problem, is_quoted},
    value::{NamedKey, Secret},
};
use crate::{exit::Exit, handed};

/// One HS256 key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The `kid` that tokens name it by. `None`: for tokens that name none.
    pub(crate) kid: Option<String>,
    pub(crate) secret: Secret,
    source: &'static str,
}

impl Key {
    /// The variable that it came from.
    pub(crate) fn source(&self) -> &'static str {
        self.source
    }

    /// Why this key protects nothing, if so. Never shows the key.
    pub(crate) fn fault(&self) -> Option<String> {
        let weak = auth::check_secret(self.secret.reveal().as_bytes()).err()?;
        let which = self.kid.as_ref().map_or_else(String::new, |kid| format!("{kid:?}: "));
        Some(format!("{which}{weak}; `openssl rand -base64 32` makes a real one"))
    }

    /// What looks as if the key had been changed on its way here, if anything does. It counts as it is, because whoever
    /// signs may have got it in the same way. Never shows the key.
    pub(crate) fn doubt(&self) -> Option<String> {
        let secret = self.secret.reveal();
        let what = if secret.starts_with('\u{feff}') {
            "a byte order mark in front"
        } else if secret.ends_with(['\n', '\r']) {
            "a newline at the end (`echo -n` and `printf %s` leave it out)"
        } else if secret.trim() != secret {
            "spaces around it"
        } else if is_quoted(secret) {
            "quotes around it (docker's --env-file keeps them)"
        } else {
            return None;
        };
        let which = self.kid.as_ref().map_or_else(String::new, |kid| format!("{kid:?}: "));
        Some(format!("{which}the key has {what}, which count as part of it: is that meant?"))
    }
}

/// All keys of `settings`, the one without `kid` first, and what is wrong with the file of keys.
pub(crate) fn load(settings: &Settings) -> (Vec<Key>, Vec<Problem>) {
    let plain = settings.jwt_secret.iter().map(|secret| Key {
        kid: None,
        secret: secret.clone(),
        source: "MAHAVISHNU_JWT_SECRET",
    });
    let named = |key: NamedKey, source| Key { kid: Some(key.kid), secret: key.secret, source };
    let listed = settings.jwt_keys.iter().cloned().map(|key| named(key, "MAHAVISHNU_JWT_KEYS"));
    let mut keys: Vec<Key> = plain.chain(listed).collect();
    let mut problems = Vec::new();
    let mut problem = |exit, text: String| {
        problems.push(Problem { name: KEYS_FILE, line: format!("{KEYS_FILE}: {text}"), exit });
    };
    match settings.jwt_keys_file.as_deref().map(read_file) {
        Some(Ok(filed)) => {
            for key in filed {
                if keys.iter().any(|known| known.kid.as_deref() == Some(&key.kid)) {
                    problem(
                        Exit::Configuration,
                        format!("{:?} is in MAHAVISHNU_JWT_KEYS too", key.kid),
                    );
                } else {
                    keys.push(named(key, KEYS_FILE));
                }
            }
        }
        Some(Err((exit, text))) => problem(exit, text),
        None => {}
    }
    (keys, problems)
}

/// A JSON object of kid and secret, in the order of the kids.
fn read_file(path: &Path) -> Result<Vec<NamedKey>, (Exit, String)> {
    let shown = path.display();
    let text = handed::text(path)?;
    let wrong = |detail: String| {
        (Exit::Configuration, format!("{shown}: {detail}; use a JSON object of kid and secret"))
    };
    // The parser's own words may repeat the text, which is secret: only the place is shown.
    let object: BTreeMap<String, Zeroizing<String>> =
        serde_json::from_str(&text).map_err(|error| {
            let what = if error.is_data() { "not what it must be" } else { "not JSON" };
            wrong(format!("{what} at line {} column {}", error.line(), error.column()))
        })?;
    let key = |(kid, secret): (String, Zeroizing<String>)| {
        let sound = !secret.is_empty() && !kid.is_empty();
        sound.then(|| NamedKey { kid, secret: Secret::new(secret.as_str()) })
    };
    object
        .into_iter()
        .map(key)
        .collect::<Option<_>>()
        .ok_or_else(|| wrong("a kid or secret is empty".into()))
}

const KEYS_FILE: &str = "MAHAVISHNU_JWT_KEYS_FILE";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Key {
        Key { kid: None, secret: Secret::new(secret), source: "X" }
    }

    #[test]
    fn weak_keys_are_told_from_strong_ones_without_being_shown() {
        assert_eq!(key("q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu").fault(), None);
        for weak in ["short", "dev-secret-change-in-production", "Your-Generated-Secret-Key-Here"] {
            let fault = key(weak).fault().unwrap();
            assert!(!fault.contains(weak), "{fault}");
        }
        assert!(key("31-bytes-31-bytes-31-bytes-31-b").fault().unwrap().contains("has 31 bytes"));
    }

    #[test]
    fn a_key_that_was_changed_on_its_way_is_doubted_without_being_shown() {
        let strong = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
        assert_eq!(key(strong).doubt(), None);
        for (changed, what) in [
            (format!("{strong}\n"), "a newline at the end"),
            (format!("{strong}\r\n"), "a newline at the end"),
            (format!(" {strong}"), "spaces around it"),
            (format!("\"{strong}\""), "quotes around it"),
            (format!("'{strong}'"), "quotes around it"),
            (format!("\u{feff}{strong}"), "a byte order mark"),
        ] {
            let doubt = key(&changed).doubt().unwrap();
            assert!(doubt.contains(what) && !doubt.contains(strong), "{doubt}");
        }
    }

    #[test]
    fn a_file_of_keys_is_a_json_object_of_texts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        std::fs::write(&path, r#"{"b": "two", "a": "one"}"#).unwrap();
        let keys = read_file(&path).unwrap();
        assert_eq!(keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        for bad in ["", "[]", r#"{"a": 1}"#, r#"{"a": ""}"#, r#"{"a": "hunter2" x}"#] {
            std::fs::write(&path, bad).unwrap();
            let (exit, text) = read_file(&path).unwrap_err();
            assert_eq!(exit, Exit::Configuration);
            assert!(!text.contains("hunter2"), "{text}");
        }
        let (_, text) = read_file(&dir.path().join("none")).unwrap_err();
        assert!(text.ends_with("none: No such file or directory"), "{text}");
    }
}
