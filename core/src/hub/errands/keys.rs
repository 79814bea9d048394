//! Idempotency keys: a publish that is sent again is answered again, not carried out again.
//!
//! A key belongs to whoever sent it: nobody is answered with what another published, nor kept from a key by one who
//! guesses it. Of an answer only what the request does not say is kept: counts, and positions where they were told. Whoever
//! asks again sends the rest of it along.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use crate::{
    entropy::{KeyedMap, KeyedState},
    hub::{types::Published, visitors::network},
    limits::Publishing,
    time::Instant,
};

/// What is kept of the answer to a publish, by message in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Kept {
    /// How many subscribers each reached, where nothing else was told.
    Counts(Arc<[u32]>),
    /// And where each stands.
    Places(Arc<[Published]>),
}

impl Kept {
    /// Bytes that it takes.
    pub(in crate::hub) fn weight(&self) -> usize {
        match self {
            Self::Counts(counts) => size_of_val(&**counts),
            Self::Places(places) => size_of_val(&**places),
        }
    }
}

/// Whether a request under a key may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Verdict {
    /// First use: carry it out, and say what came of it.
    Fresh,
    /// The first use is not answered yet.
    InProgress,
    /// Answered before: the same answer.
    Answered(Kept),
    /// The key was used for another content.
    Conflict,
}

/// Whose a key is.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) enum Owner<'a> {
    /// A user's, or without one an address's.
    Client(Option<&'a str>, IpAddr),
    /// The embedding application's.
    Application,
    /// Whoever writes into queues of the bus.
    Queue,
}

/// The name under which the hubs know somebody's `key`. Without a user it is the address's: all of this machine's are one,
/// as a client that tries again may come by the other family of addresses.
pub(in crate::hub) fn owned(owner: Owner<'_>, key: &str) -> Box<str> {
    // The length keeps apart what is put together, and the first letter users from addresses.
    let of = |kind: char, owner: &str| format!("{kind}{}:{owner}{key}", owner.len()).into();
    match owner {
        Owner::Client(Some(user), _) => of('u', user),
        Owner::Client(None, address) if address.to_canonical().is_loopback() => of('l', ""),
        Owner::Client(None, address) => of('a', &network(address).to_string()),
        Owner::Application => of('e', ""),
        Owner::Queue => of('q', ""),
    }
}

/// The keys of which this hub is the home.
#[derive(Debug)]
pub(in crate::hub) struct Keys {
    entries: KeyedMap<Arc<str>, Entry>,
    /// Keys in the order of their first use, each with its time.
    order: VecDeque<(Instant, Arc<str>)>,
    /// Memory that they take.
    bytes: usize,
    /// Bytes that metrics know of.
    told: usize,
}

#[derive(Debug)]
struct Entry {
    digest: u64,
    answer: Option<Kept>,
    /// Its request was not carried out: as if it had never come.
    free: bool,
}

impl Entry {
    fn weight(&self, key: &str) -> usize {
        KEY_BYTES + key.len() + self.answer.as_ref().map_or(0, Kept::weight)
    }
}

impl Keys {
    pub(in crate::hub) fn new(keys: KeyedState) -> Self {
        Self { entries: KeyedMap::with_hasher(keys), order: VecDeque::new(), bytes: 0, told: 0 }
    }

    /// Whether a request whose content has this `digest` may be carried out under `key`.
    pub(in crate::hub) fn claim(
        &mut self,
        now: Instant,
        key: &str,
        digest: u64,
        limits: &Publishing,
    ) -> Verdict {
        self.forget(now, limits.idempotency_ttl);
        match self.entries.get_mut(key) {
            Some(entry) if entry.free => {
                (entry.digest, entry.free) = (digest, false);
                Verdict::Fresh
            }
            Some(entry) if entry.digest != digest => Verdict::Conflict,
            Some(Entry { answer: Some(answer), .. }) => Verdict::Answered(answer.clone()),
            Some(_) => Verdict::InProgress,
            None => {
                let key: Arc<str> = key.into();
                self.order.push_back((now, key.clone()));
                let entry = Entry { digest, answer: None, free: false };
                self.bytes += entry.weight(&key);
                self.entries.insert(key, entry);
                self.make_room(limits);
                Verdict::Fresh
            }
        }
    }

    /// Keeps the answer to the request of this `digest`; without one the key can be used again.
    pub(in crate::hub) fn resolve(
        &mut self,
        key: &str,
        digest: u64,
        answer: Option<Kept>,
        limits: &Publishing,
    ) {
        // The key may have been forgotten since, and claimed anew.
        let asked = |entry: &&mut Entry| entry.digest == digest && entry.answer.is_none();
        if let Some(entry) = self.entries.get_mut(key).filter(asked) {
            let before = entry.weight(key);
            entry.free = answer.is_none();
            entry.answer = answer;
            self.bytes = self.bytes + entry.weight(key) - before;
            self.make_room(limits);
        }
    }

    /// How much more is held than when this was last asked, without what has expired.
    #[inline]
    pub(in crate::hub) fn end_turn(&mut self, now: Instant, ttl: Duration) -> i64 {
        if self.order.is_empty() && self.told == self.bytes {
            return 0;
        }
        self.forget(now, ttl);
        let before = std::mem::replace(&mut self.told, self.bytes);
        self.bytes as i64 - before as i64
    }

    /// Forgets what has expired.
    fn forget(&mut self, now: Instant, ttl: Duration) {
        while let Some((at, _)) = self.order.front()
            && now.saturating_duration_since(*at) >= ttl
        {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest until the others are within their bounds.
    fn make_room(&mut self, limits: &Publishing) {
        // The newest stays: whatever is kept of one request is bounded by what a request may hold.
        while self.order.len() > limits.idempotency_keys_max.max(1)
            || (self.bytes > limits.idempotency_bytes_max && self.order.len() > 1)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.weight(&key);
        }
        if self.order.is_empty() && self.order.capacity() > KEPT {
            self.order = VecDeque::new();
            self.entries.shrink_to_fit();
        }
    }

    /// What is counted equals what there is.
    #[cfg(debug_assertions)]
    pub(in crate::hub) fn check(&self) {
        let weight = |(_, key): &(Instant, Arc<str>)| self.entries.get(key).map(|e| e.weight(key));
        let bytes: usize = self.order.iter().filter_map(weight).sum();
        assert_eq!(self.bytes, bytes, "memory of idempotency keys");
        assert_eq!(self.entries.len(), self.order.len(), "idempotency keys");
    }
}

/// What a key takes beside its text and its answer: its places in the table, half of which may be empty, and in the order
/// of first use, and what the allocator adds to two blocks.
const KEY_BYTES: usize = 160;

/// Places whose memory is kept when no key is left.
const KEPT: usize = 64;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, Seed};

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn limits() -> Publishing {
        Publishing { idempotency_keys_max: 10, ..Publishing::default() }
    }

    fn keys() -> Keys {
        Keys::new(Entropy::new(Seed::from(1)).hash_keys())
    }

    fn counts(n: usize) -> Option<Kept> {
        Some(Kept::Counts(vec![7; n].into()))
    }

    #[test]
    fn a_key_goes_through_its_life() {
        let mut keys = keys();
        let now = Instant::now();
        let claim = |keys: &mut Keys, after: u64, digest| {
            keys.claim(now + Duration::from_secs(after), "k", digest, &limits())
        };
        assert_eq!(claim(&mut keys, 0, 1), Verdict::Fresh);
        assert_eq!(claim(&mut keys, 1, 1), Verdict::InProgress);
        keys.resolve("k", 1, counts(2), &limits());
        assert_eq!(claim(&mut keys, 2, 1), Verdict::Answered(Kept::Counts([7, 7].into())));
        assert_eq!(claim(&mut keys, 3, 2), Verdict::Conflict);
        assert_eq!(claim(&mut keys, 300, 2), Verdict::Fresh);
    }

    #[test]
    fn a_key_whose_request_was_not_carried_out_is_free_again() {
        let mut keys = keys();
        let now = Instant::now();
        keys.claim(now, "k", 1, &limits());

        keys.resolve("k", 1, None, &limits());

        assert_eq!(keys.claim(now, "k", 2, &limits()), Verdict::Fresh);
        assert_eq!(keys.claim(now, "k", 1, &limits()), Verdict::Conflict);
        assert_eq!(keys.order.len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut keys = keys();
        let now = Instant::now();
        for n in 0..100 {
            keys.claim(now, &n.to_string(), 0, &limits());
        }
        assert!(keys.entries.len() <= 10 && keys.order.len() == keys.entries.len());
    }

    #[test]
    fn what_is_kept_of_answers_is_weighed_and_the_oldest_goes() {
        let mut keys = keys();
        let now = Instant::now();
        let limits = Publishing { idempotency_bytes_max: 10_000, ..Publishing::default() };
        for n in 0..100u64 {
            keys.claim(now, &n.to_string(), n, &limits);
            keys.resolve(&n.to_string(), n, counts(1_000), &limits);
            assert!(keys.bytes <= 10_000, "{}", keys.bytes);
            keys.check();
        }
        assert_eq!(
            keys.claim(now, "99", 99, &limits),
            Verdict::Answered(Kept::Counts(vec![7; 1_000].into()))
        );
        assert_eq!(keys.claim(now, "0", 0, &limits), Verdict::Fresh, "forgotten");
        let told = keys.end_turn(now, limits.idempotency_ttl);
        assert_eq!(told, keys.bytes as i64);
        assert_eq!(keys.end_turn(now + limits.idempotency_ttl, limits.idempotency_ttl), -told);
        assert_eq!((keys.bytes, keys.entries.len()), (0, 0));
    }

    #[test]
    fn an_answer_that_comes_after_its_key_was_forgotten_is_nobody_elses() {
        let mut keys = keys();
        let (now, one) = (Instant::now(), Publishing { idempotency_keys_max: 1, ..limits() });
        keys.claim(now, "k", 1, &one);
        keys.claim(now, "other", 1, &one);
        keys.claim(now, "k", 2, &one);

        keys.resolve("k", 1, counts(1), &one);

        assert_eq!(keys.claim(now, "k", 2, &one), Verdict::InProgress);
    }

    #[test]
    fn a_key_belongs_to_its_user_or_else_to_its_address() {
        let far: IpAddr = [192, 0, 2, 1].into();
        let near: IpAddr = [192, 0, 2, 2].into();
        let v6 = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        let of = |owner, key: &str| owned(owner, key);
        let owned = |user, address, key| of(Owner::Client(user, address), key);
        let all = [
            of(Owner::Application, "k"),
            owned(Some("ada"), far, "k"),
            owned(Some("adak"), far, ""),
            owned(Some(""), far, "adak"),
            owned(Some("192.0.2.1"), far, "k"),
            owned(Some("a9:192.0.2.1"), far, "k"),
            owned(None, far, "k"),
            owned(None, near, "k"),
            owned(None, v6(1), "k"),
            owned(None, LOCAL, "k"),
            owned(Some("127.0.0.1"), LOCAL, "k"),
            owned(Some("l"), LOCAL, "k"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{one} twice");
        }
        assert_eq!(owned(Some("ada"), far, "k"), owned(Some("ada"), near, "k"), "wherever from");
        assert_eq!(owned(None, v6(1), "k"), owned(None, v6(2), "k"), "one network");
        let loopback = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(owned(None, LOCAL, "k"), owned(None, loopback, "k"), "one machine");
    }
}
