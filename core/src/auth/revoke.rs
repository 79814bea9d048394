//! Tokens that are no longer good although their signature is: by name, by user, by age.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::Claims;

/// Which tokens are revoked: those that fit everything that is said here. At least one of `id`, `user` and
/// `issued_before` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The token of this name (`jti`, RFC 7519 §4.1.7).
    pub id: Option<Box<str>>,
    /// The tokens of this user, as the server knows it: `user_id`, else `sub`.
    pub user: Option<Box<str>>,
    /// Tokens issued before this wall-clock time, and those that do not say when they were.
    pub issued_before: Option<Duration>,
    /// When all these tokens will have expired: from then on the revocation no longer counts. `None`: not known.
    pub until: Option<Duration>,
}

/// Why a revocation is refused. Says what to mend, never what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationError {
    /// Not a JSON object of the four members, with times in whole seconds since the Unix epoch.
    Shape,
    /// It names neither a token, nor a user, nor a time.
    Nothing,
    /// An empty name, or one of more than 256 bytes.
    Name,
    /// There are too many already.
    Full,
}

impl fmt::Display for RevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => {
                "a revocation is a JSON object with jti, user, issued_before or until, times in whole seconds since the epoch"
            }
            Self::Nothing => "a revocation needs jti, user or issued_before",
            Self::Name => "jti and user have 1 to 256 bytes",
            Self::Full => "too many revocations",
        })
    }
}

impl std::error::Error for RevocationError {}

/// A revocation as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    jti: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl Revocation {
    /// Reads one from JSON: `{"jti": …}`, `{"user": …}`, `{"issued_before": …}`, or several of them, and `until`.
    pub fn parse(text: &str) -> Result<Self, RevocationError> {
        // A list of the members' values would pass for them.
        if !text.trim_start().starts_with('{') {
            return Err(RevocationError::Shape);
        }
        let written: Written<'_> =
            serde_json::from_str(text).map_err(|_| RevocationError::Shape)?;
        let this = Self::from(written);
        this.check().map(|()| this)
    }

    /// Reads what [`to_json`](Self::to_json) wrote, whatever it says.
    pub(crate) fn replay(text: &str) -> Option<Self> {
        serde_json::from_str::<Written<'_>>(text).ok().map(Self::from)
    }

    /// The JSON that [`parse`](Self::parse) reads: one line. Times are rounded up to seconds, which changes nothing:
    /// tokens are issued at whole ones.
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = Written {
            jti: self.id.as_deref().map(Cow::Borrowed),
            user: self.user.as_deref().map(Cow::Borrowed),
            issued_before: self.issued_before.map(whole_seconds),
            until: self.until.map(whole_seconds),
        };
        // Writing plain data into memory cannot fail.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Whether it says enough, and not too much.
    pub fn check(&self) -> Result<(), RevocationError> {
        if self.id.is_none() && self.user.is_none() && self.issued_before.is_none() {
            return Err(RevocationError::Nothing);
        }
        let sound = |name: &Option<Box<str>>| {
            name.as_ref().is_none_or(|name| (1..=NAME_BYTES_MAX).contains(&name.len()))
        };
        if sound(&self.id) && sound(&self.user) { Ok(()) } else { Err(RevocationError::Name) }
    }

    /// Whether a token is one of those.
    #[must_use]
    pub fn fits(&self, claims: &Claims) -> bool {
        let named = self.id.is_none() || self.id == claims.id;
        let user = self.user.is_none() || self.user.as_deref() == claims.user.as_deref();
        named && user && self.issued_before.is_none_or(|before| is_older(claims, before))
    }
}

impl From<Written<'_>> for Revocation {
    fn from(written: Written<'_>) -> Self {
        Self {
            id: written.jti.map(|id| id.as_ref().into()),
            user: written.user.map(|user| user.as_ref().into()),
            issued_before: written.issued_before.map(Duration::from_secs),
            until: written.until.map(Duration::from_secs),
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A token that does not say when it was issued may be as old as any.
fn is_older(claims: &Claims, before: Duration) -> bool {
    claims.issued_at.is_none_or(|issued| issued < before)
}

/// The revocations in force, found by name without walking them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    entries: BTreeMap<Key, Entry>,
}

/// Token, user, and whether age counts: what is revoked for good and what is revoked by age do not merge.
type Key = (Option<Box<str>>, Option<Box<str>>, bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    issued_before: Duration,
    /// By the wall clock. Without end: not known.
    until: Duration,
    /// By the steady clock.
    keep_until: Duration,
}

impl Entry {
    fn counts(&self, at: Moment) -> bool {
        at.wall < self.until && at.steady < self.keep_until
    }
}

/// A moment as revocations go by it. What was revoked stays revoked when somebody sets the clock: how long a revocation is
/// kept is measured by a clock that nobody can set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Wall-clock time since the Unix epoch, which decides whether a revocation's own `until` has come. A server gives the
    /// earliest that it may be.
    pub wall: Duration,
    /// Monotonic time since any moment that stays the same.
    pub steady: Duration,
}

impl Revocations {
    /// Nothing is revoked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. It counts until its own `until`, at most for `keep`. Those that were kept for so long are forgotten; those
    /// whose `until` has come only when there are more than a thousand: the wall clock may yet be set back.
    pub fn add(&mut self, now: Moment, revocation: &Revocation, keep: Duration) {
        let crowded = self.entries.len() >= FORGOTTEN_FROM;
        self.entries.retain(|_, entry| match crowded {
            true => entry.counts(now),
            false => now.steady < entry.keep_until,
        });
        let until = revocation.until.map(whole_seconds).map_or(Duration::MAX, Duration::from_secs);
        let keep_until = now.steady.saturating_add(keep);
        let issued_before = revocation.issued_before.unwrap_or_default();
        let key =
            (revocation.id.clone(), revocation.user.clone(), revocation.issued_before.is_some());
        let entry = self.entries.entry(key).or_insert(Entry { issued_before, until, keep_until });
        entry.issued_before = entry.issued_before.max(issued_before);
        entry.until = entry.until.max(until);
        entry.keep_until = entry.keep_until.max(keep_until);
    }

    /// Whether a token is revoked.
    #[must_use]
    pub fn has(&self, now: Moment, claims: &Claims) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let user: Option<Box<str>> = claims.user.as_deref().map(Box::from);
        let id = claims.id.clone();
        let mut names = vec![(None, None)];
        names.extend(id.clone().map(|id| (Some(id), None)));
        names.extend(user.clone().map(|user| (None, Some(user))));
        names.extend(id.zip(user).map(|(id, user)| (Some(id), Some(user))));
        names.into_iter().any(|(id, user)| {
            let by_name = self.entries.get(&(id.clone(), user.clone(), false));
            let by_age = self.entries.get(&(id, user, true));
            by_name.is_some_and(|entry| entry.counts(now))
                || by_age
                    .is_some_and(|entry| entry.counts(now) && is_older(claims, entry.issued_before))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// So many are kept although the wall clock says that their time is over.
const FORGOTTEN_FROM: usize = 1024;

/// Bytes of a token's or user's name.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment =
        Moment { wall: Duration::from_secs(1_770_000_000), steady: Duration::from_secs(500) };
    const DAY: Duration = Duration::from_secs(86_400);

    fn claims(user: &str, id: Option<&str>, issued: Option<u64>) -> Claims {
        Claims {
            user: Some(user.into()),
            id: id.map(Box::from),
            issued_at: issued.map(Duration::from_secs),
            ..Claims::default()
        }
    }

    #[test]
    fn each_way_to_name_tokens_finds_them() {
        let ada = claims("ada", Some("t1"), Some(100));
        for (text, fits) in [
            (r#"{"jti":"t1"}"#, true),
            (r#"{"jti":"t2"}"#, false),
            (r#"{"user":"ada"}"#, true),
            (r#"{"user":"eve"}"#, false),
            (r#"{"issued_before":101}"#, true),
            (r#"{"issued_before":100}"#, false),
            (r#"{"user":"ada","issued_before":101}"#, true),
            (r#"{"user":"ada","issued_before":100}"#, false),
            (r#"{"user":"eve","jti":"t1"}"#, false),
        ] {
            let revocation = Revocation::parse(text).unwrap();
            let mut all = Revocations::new();
            all.add(NOW, &revocation, DAY);
            assert_eq!((revocation.fits(&ada), all.has(NOW, &ada)), (fits, fits), "{text}");
        }
    }

    #[test]
    fn a_token_of_unknown_age_is_old() {
        let revocation = Revocation::parse(r#"{"issued_before":1}"#).unwrap();
        assert!(revocation.fits(&claims("ada", None, None)));
    }

    /// On both clocks.
    fn after(time: Duration) -> Moment {
        Moment { wall: NOW.wall + time, steady: NOW.steady + time }
    }

    #[test]
    fn a_revocation_is_forgotten_in_time() {
        let second = Duration::from_secs(1);
        let ada = claims("ada", None, Some(100));
        let mut all = Revocations::new();
        all.add(NOW, &Revocation::parse(r#"{"user":"ada","until":1770000010}"#).unwrap(), DAY);
        assert!(all.has(after(9 * second), &ada));
        assert!(!all.has(after(10 * second), &ada));
        all.add(NOW, &Revocation::parse(r#"{"user":"ada"}"#).unwrap(), DAY);
        assert!(all.has(after(DAY - second), &ada));
        assert!(!all.has(after(DAY), &ada));
        all.add(after(DAY), &Revocation::parse(r#"{"user":"eve"}"#).unwrap(), DAY);
        assert_eq!(all.len(), 1, "what is over makes room");
    }

    #[test]
    fn a_wall_clock_that_leaps_deletes_nothing() {
        let ada = claims("ada", Some("t1"), None);
        for text in [
            r#"{"jti":"t1"}"#,
            r#"{"user":"ada"}"#,
            r#"{"issued_before":1770000000}"#,
            r#"{"jti":"t1","until":1770000600}"#,
            r#"{"jti":"t1","until":1}"#,
        ] {
            for leap in [0, 1, 1_770_000_000 + 40 * 86_400, u64::MAX] {
                let mut all = Revocations::new();
                let back = if text.ends_with(":1}") { Duration::ZERO } else { NOW.wall };
                all.add(NOW, &Revocation::parse(text).unwrap(), DAY);
                let leapt = Moment { wall: Duration::from_secs(leap), ..NOW };
                all.add(leapt, &Revocation::parse(r#"{"user":"eve"}"#).unwrap(), DAY);
                assert!(all.has(Moment { wall: back, ..NOW }, &ada), "{text} {leap}");
            }
        }
    }

    #[test]
    fn what_is_over_by_the_wall_clock_makes_room_when_there_is_much() {
        let mut all = Revocations::new();
        for n in 0..FORGOTTEN_FROM + 10 {
            let text = format!(r#"{{"jti":"{n}","until":1770000001}}"#);
            all.add(NOW, &Revocation::parse(&text).unwrap(), DAY);
        }
        assert_eq!(all.len(), FORGOTTEN_FROM + 10);
        let forever = Revocation::parse(r#"{"user":"eve"}"#).unwrap();
        all.add(after(Duration::from_secs(1)), &forever, DAY);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn what_says_too_little_or_something_else_is_refused() {
        let long = format!(r#"{{"jti":"{}"}}"#, "x".repeat(257));
        for (text, error) in [
            ("{}", RevocationError::Nothing),
            (r#"{"until":5}"#, RevocationError::Nothing),
            (r#"{"usr":"ada"}"#, RevocationError::Shape),
            (r#"{"user":5}"#, RevocationError::Shape),
            (r#"{"issued_before":-1}"#, RevocationError::Shape),
            (r#"{"issued_before":1.5}"#, RevocationError::Shape),
            (r#"["t1"]"#, RevocationError::Shape),
            ("", RevocationError::Shape),
            (r#"{"jti":""}"#, RevocationError::Name),
            (&long, RevocationError::Name),
        ] {
            assert_eq!(Revocation::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for text in [
            r#"{"jti":"a\"b"}"#,
            r#"{"user":"ada","issued_before":7,"until":9}"#,
            r#"{"issued_before":0}"#,
        ] {
            assert_eq!(Revocation::parse(text).unwrap().to_json(), text);
        }
    }

    proptest! {
        /// Looking entries up by name gives what trying one after the other gives.
        #[test]
        fn the_list_agrees_with_its_entries(
            entries in prop::collection::vec(
                (prop::option::of("[ab]"), prop::option::of("[ab]"), prop::option::of(0u64..4)), 0..6,
            ),
            user in "[abc]", id in prop::option::of("[abc]"), issued in prop::option::of(0u64..4),
        ) {
            let revocations: Vec<Revocation> = entries
                .into_iter()
                .map(|(id, user, before)| Revocation {
                    id: id.map(Into::into),
                    user: user.map(Into::into),
                    issued_before: before.map(Duration::from_secs),
                    until: None,
                })
                .filter(|revocation| revocation.check().is_ok())
                .collect();
            let mut all = Revocations::new();
            revocations.iter().for_each(|revocation| all.add(NOW, revocation, DAY));
            let claims = claims(&user, id.as_deref(), issued);

            let expected = revocations.iter().any(|revocation| revocation.fits(&claims));

            prop_assert_eq!(all.has(NOW, &claims), expected);
        }
    }
}
