//! Idempotency keys: a publish that is sent again is answered again, not carried out again.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::{
    entropy::{KeyedMap, KeyedState},
    time::Instant,
};

/// Whether a request under a key may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Verdict {
    /// First use: carry it out, and say what came of it.
    Fresh,
    /// The first use is not answered yet.
    InProgress,
    /// Answered before: the same answer.
    Answered(Bytes),
    /// The key was used for another content.
    Conflict,
}

/// The keys of which this hub is the home.
#[derive(Debug)]
pub(in crate::hub) struct Keys {
    entries: KeyedMap<Box<str>, Entry>,
    /// Keys in the order of their first use, each with its time.
    order: VecDeque<(Instant, Box<str>)>,
}

#[derive(Debug)]
struct Entry {
    digest: u64,
    answer: Option<Bytes>,
    /// Its request was not carried out: as if it had never come.
    free: bool,
}

impl Keys {
    pub(in crate::hub) fn new(keys: KeyedState) -> Self {
        Self { entries: KeyedMap::with_hasher(keys), order: VecDeque::new() }
    }

    /// Whether a request whose content has this `digest` may be carried out under `key`.
    pub(in crate::hub) fn claim(
        &mut self,
        now: Instant,
        key: Box<str>,
        digest: u64,
        max: usize,
        ttl: Duration,
    ) -> Verdict {
        self.forget(now, max, ttl);
        match self.entries.get_mut(&key) {
            Some(entry) if entry.free => {
                (entry.digest, entry.free) = (digest, false);
                Verdict::Fresh
            }
            Some(entry) if entry.digest != digest => Verdict::Conflict,
            Some(Entry { answer: Some(answer), .. }) => Verdict::Answered(answer.clone()),
            Some(_) => Verdict::InProgress,
            None => {
                self.order.push_back((now, key.clone()));
                self.entries.insert(key, Entry { digest, answer: None, free: false });
                Verdict::Fresh
            }
        }
    }

    /// Keeps the answer; without one the key can be used again.
    pub(in crate::hub) fn resolve(&mut self, key: &str, answer: Option<Bytes>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.free = answer.is_none();
            entry.answer = answer;
        }
    }

    fn forget(&mut self, now: Instant, max: usize, ttl: Duration) {
        while let Some((at, _)) = self.order.front() {
            if self.order.len() < max.max(1) && now.saturating_duration_since(*at) < ttl {
                break;
            }
            if let Some((_, key)) = self.order.pop_front() {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, Seed};

    const TTL: Duration = Duration::from_secs(300);

    #[test]
    fn a_key_goes_through_its_life() {
        let mut keys = Keys::new(Entropy::new(Seed::from(1)).hash_keys());
        let now = Instant::now();
        let claim = |keys: &mut Keys, after: u64, digest| {
            keys.claim(now + Duration::from_secs(after), "k".into(), digest, 10, TTL)
        };
        assert_eq!(claim(&mut keys, 0, 1), Verdict::Fresh);
        assert_eq!(claim(&mut keys, 1, 1), Verdict::InProgress);
        keys.resolve("k", Some(Bytes::from_static(b"{}")));
        assert_eq!(claim(&mut keys, 2, 1), Verdict::Answered(Bytes::from_static(b"{}")));
        assert_eq!(claim(&mut keys, 3, 2), Verdict::Conflict);
        assert_eq!(claim(&mut keys, 300, 2), Verdict::Fresh);
    }

    #[test]
    fn a_key_whose_request_was_not_carried_out_is_free_again() {
        let mut keys = Keys::new(Entropy::new(Seed::from(1)).hash_keys());
        let now = Instant::now();
        keys.claim(now, "k".into(), 1, 10, TTL);

        keys.resolve("k", None);

        assert_eq!(keys.claim(now, "k".into(), 2, 10, TTL), Verdict::Fresh);
        assert_eq!(keys.claim(now, "k".into(), 1, 10, TTL), Verdict::Conflict);
        assert_eq!(keys.order.len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut keys = Keys::new(Entropy::new(Seed::from(1)).hash_keys());
        let now = Instant::now();
        for n in 0..100 {
            keys.claim(now, n.to_string().into(), 0, 10, TTL);
        }
        assert!(keys.entries.len() <= 10 && keys.order.len() == keys.entries.len());
    }
}
