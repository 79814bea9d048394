//! Documents: files and settings that somebody hands over to be read, and what a proxy puts in front of a request.
//!
//! There are no bytes that steer: every reader gets all of the input, and those of one value each of its lines, too. So a
//! file of the corpus is one that an operator could have.

mod hub;
mod pem;

use std::{fmt, time::Duration};

use mahavishnu_core::{
    auth::{
        Algorithm, Grants, KeySet, Pattern, Policy, PolicyError, Revocation, Rule, TokenRules,
        Verb, check_secret, inspect,
    },
    config::Origin,
    protocol::{Kind, Timestamp, channel_is_valid},
    tls::{Grant, PrivateKey},
};
use serde_json::Value;

use crate::trace::START_UNIX;

/// Input: a document.
pub fn run(document: &[u8]) {
    pem::run(document);
    keys(document);
    let text = String::from_utf8_lossy(document);
    token(&text);
    revocation(&text);
    grants(&text);
    time(document);
    let mut patterns = Vec::new();
    for line in text.lines().take(LINES_MAX) {
        token(line);
        revocation(line);
        grants(line);
        for item in line.split(',') {
            patterns.extend(pattern(item));
            grant(item);
            hub::origin(item, origin(item));
        }
    }
    policy(patterns);
    hub::forwarded(&text);
    hub::proxy_header(document);
    // With a secret in it, what is said about the document does not give it away.
    for document in with_secret(document) {
        pem::say(&document);
        say_keys(&document);
        let text = String::from_utf8_lossy(&document);
        for text in text.lines().take(LINES_MAX).chain([&*text]) {
            told(Revocation::parse(text).err());
            told(Pattern::parse(text).err());
            told(Grant::new(text, Vec::new()).err());
        }
    }
}

fn keys(document: &[u8]) {
    for algorithm in PUBLIC {
        let mut keys = KeySet::new();
        let added = keys.add_pem(Some("a"), algorithm, document);
        assert_eq!(keys.len(), usize::from(added.is_ok()), "a key is added, or an error said");
        if added.is_ok() {
            let secret = keys.add_weak_secret(None, document);
            let is_private = PrivateKey::from_pem(document).is_ok();
            assert!(!is_private, "a private key is no public one");
            assert!(secret.is_err() || !document.trim_ascii_start().starts_with(b"-----BEGIN PUB"));
        }
    }
    let strong = check_secret(document).is_ok();
    let mut keys = KeySet::new();
    let added = keys.add_secret(None, document).is_ok();
    assert!(strong || !added, "a guessable secret is refused");
}

fn say_keys(document: &[u8]) {
    for algorithm in PUBLIC {
        let mut keys = KeySet::new();
        told(keys.add_pem(None, algorithm, document).err());
        hides(&format!("{keys:?}"));
    }
    let mut keys = KeySet::new();
    told(keys.add_secret(None, document).err());
    told(keys.add_weak_secret(None, document).err());
    told(check_secret(document).err());
    hides(&format!("{keys:?}"));
}

fn token(text: &str) {
    if let Some(shown) = inspect(text) {
        assert!(shown["header"].is_object() && shown["claims"].is_object(), "{shown}");
        let parts: Vec<_> = text.trim().split('.').collect();
        assert_eq!(parts.len(), 3, "a token has three parts");
        assert_eq!(inspect(&format!("{}.{}.", parts[0], parts[1])), Some(shown));
    }
    let accepted = KeySet::new().verify(text, START_UNIX, &TokenRules::default());
    assert!(accepted.is_err(), "without keys nothing is a token");
}

fn revocation(text: &str) {
    let Ok(revocation) = Revocation::parse(text) else { return };
    assert_eq!(revocation.check(), Ok(()));
    let written = revocation.to_json();
    assert!(!written.contains(['\n', '\r']), "one line");
    assert_eq!(Revocation::parse(&written), Ok(revocation), "what is written reads back");
}

fn grants(text: &str) {
    let Ok(claim) = serde_json::from_str::<Value>(text) else { return };
    let Some(grants) = Grants::read(Some(&claim)) else { return };
    let all = grants.subscribe.iter().chain(&grants.publish);
    let given: usize = claim
        .as_object()
        .map_or(0, |verbs| verbs.values().filter_map(Value::as_array).map(Vec::len).sum());
    assert_eq!(all.count(), given, "no pattern is lost");
}

fn pattern(text: &str) -> Option<Pattern> {
    let _ = channel_is_valid(text, 256);
    if let Some(kind) = Kind::parse(text) {
        assert_eq!(kind.as_str(), text);
    }
    let pattern = Pattern::parse(text).ok()?;
    assert_eq!(pattern.to_string(), text, "it is written as it was");
    assert!(pattern.covers(&pattern));
    assert!(pattern.fits(text.strip_suffix('*').unwrap_or(text)), "its shortest channel");
    Some(pattern)
}

/// A field, and a name with at most one `*`.
fn grant(text: &str) {
    let parsed = Grant::new(text, vec!["a".into()]);
    let (word, name) = text.split_once(':').unwrap_or_default();
    let fields = ["dns", "ip", "uri", "email", "cn", "o", "ou"];
    let known = fields.contains(&word.trim().to_ascii_lowercase().as_str());
    let sound = !name.trim().is_empty() && name.matches('*').count() <= 1;
    assert_eq!(parsed.is_ok(), known && sound, "{text:?}");
}

fn policy(patterns: Vec<Pattern>) {
    let count = patterns.len();
    let rules = patterns.iter().map(|pattern| Rule {
        pattern: pattern.clone(),
        subscribe: vec!["a".into()],
        publish: Vec::new(),
    });
    match Policy::new(Vec::new(), Vec::new(), rules.collect()) {
        Ok(policy) => {
            assert_eq!(policy.labels().count(), count + 1);
            let access = policy.access(&["a"]);
            for pattern in patterns {
                let channel = pattern.to_string();
                let channel = channel.strip_suffix('*').unwrap_or(&channel);
                assert!(policy.decide(&access, Verb::Subscribe, channel).allowed, "{channel}");
                assert!(!policy.decide(&access, Verb::Publish, channel).allowed, "{channel}");
            }
        }
        Err(error) => assert_eq!((error, count > 64), (PolicyError::TooManyRules, true)),
    }
}

fn origin(text: &str) -> Option<Origin> {
    let origin = Origin::parse(text);
    let plain = text.split_once("://").is_some_and(|(scheme, host)| {
        let label =
            |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_lowercase());
        ["http", "https"].contains(&scheme) && host.split('.').all(label)
    });
    assert!(!plain || origin.is_some(), "{text:?} is an origin");
    assert_eq!(Origin::parse(&text.to_ascii_uppercase()), origin, "in any case");
    assert_eq!(Origin::parse(&format!(" {text}\t")), origin, "spaces around it mean nothing");
    origin
}

fn time(document: &[u8]) {
    let number = |at: usize| {
        let bytes = document.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let (Some(one), Some(other)) = (number(0), number(8)) else { return };
    // Of the whole range, and of the years that there are.
    for (one, other) in [(one, other), (one >> 26, other >> 26)] {
        let (one, other) = (one.min(other), one.max(other));
        let text = |seconds| Timestamp::from_unix(Duration::from_secs(seconds)).to_string();
        assert!(text(one) <= text(other), "in the order of time: {one} {other}");
        assert_eq!(text(one).len(), 32);
    }
}

/// The document with a secret in front of it, within it and behind it, on lines of its own and in the middle of one.
fn with_secret(document: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let line = document.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let half = document.len() / 2;
    let places = [(0, ""), (0, "\n"), (line, ""), (line, "\n"), (half, ""), (document.len(), "")];
    places.into_iter().map(|(at, end)| {
        let (front, back) = document.split_at(at);
        [front, SECRET.as_bytes(), end.as_bytes(), back].concat()
    })
}

/// What is said about a document does not repeat the secret in it.
fn told<E: fmt::Display + fmt::Debug>(error: Option<E>) {
    if let Some(error) = error {
        hides(&format!("{error} {error:?}"));
    }
}

fn hides(said: &str) {
    let mut parts = SECRET.as_bytes().windows(8);
    let shown = parts.any(|part| said.as_bytes().windows(8).any(|window| window == part));
    assert!(!shown, "repeats what it was given: {said}");
}

/// Could stand in base64, in a name and in a secret, and is part of no message. Its length is a multiple of four, so that it
/// leaves base64 what it was.
const SECRET: &str = "Zk9QxT7vLm3WcR8yHdN5bJ2sGf6U";

const PUBLIC: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS512, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

/// More are read as those before.
const LINES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::{fs, panic::catch_unwind, path::Path};

    use super::*;

    #[test]
    fn an_answer_that_repeats_is_noticed() {
        let text = format!("cannot read {}", &SECRET[5..]);
        assert!(catch_unwind(|| hides(&text)).is_err());
        hides("cannot read it");
    }

    /// Each file of the corpus cut off and with a byte changed, in some places.
    #[test]
    fn what_is_damaged_is_read_or_refused() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/documents");
        let mut files = 0;
        for entry in fs::read_dir(folder).expect("a folder") {
            let document = fs::read(entry.expect("an entry").path()).expect("a file");
            files += 1;
            let step = document.len() / 6 + 1;
            for (at, bits) in
                (files % step..document.len()).step_by(step).zip([1, 0x80, 0x0a, 0xff].repeat(2))
            {
                let mut damaged = document.clone();
                damaged[at] ^= bits;
                run(&damaged);
                run(&document[..at]);
            }
        }
        assert!(files >= 15, "{files} files");
    }
}
