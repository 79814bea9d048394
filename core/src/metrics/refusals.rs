//! What was refused, for the log: how often, whom last, and what it would have taken. Counts alone: nothing that came in.

use std::net::IpAddr;

use crate::{auth::Verb, config::Config, reason::Reason};

/// Refusals of one kind since they were last taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// Where the last one came from, if it came from a client.
    pub last: Option<IpAddr>,
    /// What was missing, if it was a permission: the pattern of the policy, and what would have been enough.
    pub needs: Option<Needed>,
}

/// A permission that was missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// The pattern of the rule that decided; `None`: no rule is about the channel.
    pub pattern: Option<Box<str>>,
    /// The permissions, with "or" between.
    pub any_of: Box<str>,
}

/// Which rule of the policy has refused what: one of its rules, or as many as it has for none of them.
pub(crate) type Forbidden = (Verb, usize);

/// What a hub has refused since the log was last told. Bounded by the table of reasons and the rules of a policy.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    reason: Reason,
    rule: Option<Forbidden>,
    count: u64,
    last: Option<IpAddr>,
}

impl Refusals {
    /// One more.
    #[cold]
    pub(super) fn note(&mut self, reason: Reason, last: Option<IpAddr>, rule: Option<Forbidden>) {
        if NO_REFUSALS.contains(&reason) {
            return;
        }
        let known = self.0.iter_mut().find(|entry| entry.reason == reason && entry.rule == rule);
        match known {
            Some(entry) => {
                entry.count += 1;
                entry.last = last.or(entry.last);
            }
            None => self.0.push(Entry { reason, rule, count: 1, last }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes them out, in the words of the policy under which they were refused.
    pub(super) fn take<'a>(&'a mut self, config: &'a Config) -> impl Iterator<Item = Refusal> + 'a {
        self.0.drain(..).map(|Entry { reason, rule, count, last }| {
            let needs = rule.map(|(verb, rule)| {
                let needs = config.policy.needs_of(verb, Some(rule));
                let pattern = needs.pattern.map(|pattern| pattern.to_string().into());
                Needed { pattern, any_of: needs.to_string().into() }
            });
            Refusal { reason, count, last, needs }
        })
    }
}

/// Counted as errors, but done by the other side or by the network.
const NO_REFUSALS: [Reason; 4] =
    [Reason::Eof, Reason::Io, Reason::SendFailed, Reason::CloseTimeout];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Policy;

    #[test]
    fn one_entry_for_each_kind_however_many_there_are() {
        let config =
            Config { policy: Policy::for_service("mahavishnu").unwrap(), ..Config::default() };
        let mut refusals = Refusals::default();
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let rule = config.policy.label("workflow:1");
        let none = config.policy.label("nobody's");
        for turn in 0..100 {
            refusals.note(Reason::Decode, address(turn), None);
            refusals.note(Reason::SubscribeForbidden, address(1), Some((Verb::Subscribe, rule)));
            refusals.note(Reason::SubscribeForbidden, None, Some((Verb::Subscribe, none)));
            refusals.note(Reason::Eof, address(1), None);
        }
        let taken: Vec<_> = refusals.take(&config).collect();
        assert_eq!(taken.len(), 3, "{taken:?}");
        assert!(taken.iter().all(|refusal| refusal.count == 100), "{taken:?}");
        assert_eq!((taken[0].last, &taken[0].needs), (address(99), &None));
        let needs = |at: usize| taken[at].needs.clone().unwrap();
        assert_eq!(needs(1).pattern.as_deref(), Some("workflow:*"));
        assert!(needs(1).any_of.contains("workflow:read"), "{taken:?}");
        assert_eq!(needs(2).pattern, None);
        assert!(refusals.is_empty());
    }
}
