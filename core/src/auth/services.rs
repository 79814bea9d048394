//! The policies of the known services: who may subscribe where is theirs, who may publish is ours (their servers take
//! no events from clients). Their rules stand in their profiles.

use mahavishnu_profiles::{Access, Profile};

use super::policy::{Pattern, Policy, PolicyError, Rule};

impl Policy {
    /// Mahavishnu's own channels.
    #[must_use]
    pub fn mahavishnu() -> Self {
        // Its profile is built in, and a test reads it: the other one, which opens nothing, never comes.
        Self::for_service("mahavishnu").unwrap_or_else(|| Self {
            full_access: Vec::new(),
            publish_anywhere: Vec::new(),
            rules: Vec::new(),
            normalise: false,
        })
    }

    /// The policy of a service by its name in lower case. `dhara` is another name of `dhruva`. `None`: unknown.
    #[must_use]
    pub fn for_service(name: &str) -> Option<Self> {
        let profile = Profile::builtin(name)?;
        Self::from_access(profile.access.as_ref()?).ok()
    }

    /// The policy that a profile has.
    ///
    /// # Errors
    ///
    /// [`PolicyError`]: too many rules, or a pattern that is none. What [`Profile::parse`] has read has neither.
    pub fn from_access(access: &Access) -> Result<Self, PolicyError> {
        let rule = |rule: &mahavishnu_profiles::AccessRule| {
            let pattern = Pattern::parse(&rule.pattern)?;
            Ok(Rule { pattern, subscribe: rule.subscribe.clone(), publish: rule.publish.clone() })
        };
        let rules = access.rules.iter().map(rule).collect::<Result<_, PolicyError>>()?;
        let policy = Self::new(access.full_access.clone(), access.publish_anywhere.clone(), rules)?;
        Ok(policy.with_lower_case(access.lower_case))
    }

    /// The names that [`for_service`](Self::for_service) knows.
    pub fn services() -> impl Iterator<Item = &'static str> {
        let with_rules = Profile::builtins().iter().filter(|profile| profile.access.is_some());
        with_rules
            .flat_map(|profile| std::iter::once(&profile.name).chain(&profile.aliases))
            .map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{
        Verb::{self, Publish, Subscribe},
        policy::RULES_MAX,
    };

    #[test]
    fn every_policy_is_one_that_could_be_written_by_hand() {
        for name in Policy::services() {
            let policy = Policy::for_service(name).unwrap();
            assert!(policy.rules().len() <= RULES_MAX, "{name}");
            for rule in policy.rules() {
                assert_eq!(
                    Pattern::parse(&rule.pattern.to_string()).as_ref(),
                    Ok(&rule.pattern),
                    "{name}"
                );
            }
        }
        assert_eq!(Policy::for_service("nobody"), None);
        assert_eq!(Policy::for_service("mahavishnu"), Some(Policy::mahavishnu()));
    }

    /// Permission, what for, the channels it opens, the channels it does not.
    #[test]
    fn permissions_open_what_the_services_say() {
        type Row<'a> = (&'a str, &'a str, Verb, &'a [&'a str], &'a [&'a str]);
        let rows: &[Row<'_>] = &[
            (
                "mahavishnu",
                "admin",
                Subscribe,
                &["global", "adapters", "workflow:1", "anything"],
                &[],
            ),
            ("mahavishnu", "admin", Publish, &["global", "workflow:1", "anything"], &[]),
            (
                "mahavishnu",
                "workflow:read",
                Subscribe,
                &["workflow:1"],
                &["pool:1", "global", "workflow"],
            ),
            ("mahavishnu", "workflow:read", Publish, &[], &["workflow:1"]),
            ("mahavishnu", "workflow:write", Publish, &["workflow:1"], &["pool:1", "global"]),
            ("mahavishnu", "workflow:write", Subscribe, &[], &["workflow:1"]),
            ("mahavishnu", "pool:read", Subscribe, &["pool:1"], &["worker:1"]),
            (
                "mahavishnu",
                "worker:read",
                Subscribe,
                &["worker:1", "settle:1", "run:1"],
                &["pool:1", "cross-repo:1"],
            ),
            (
                "mahavishnu",
                "team:read",
                Subscribe,
                &["goal-teams", "goal-teamsX", "goal-teams:ada"],
                &["goal"],
            ),
            ("mahavishnu", "cross_repo:read", Subscribe, &["cross-repo:1"], &["code"]),
            ("mahavishnu", "write", Publish, &["global", "workflow:1", "anything"], &[]),
            ("mahavishnu", "mahavishnu:write", Publish, &["global", "workflow:1"], &[]),
            ("mahavishnu", "write", Subscribe, &[], &["global", "workflow:1"]),
            (
                "mahavishnu",
                "read",
                Subscribe,
                &[],
                &["global", "workflow:1", "symbiotic:ecosystem", "code", "adapters"],
            ),
            (
                "crackerjack",
                "crackerjack:read",
                Subscribe,
                &["quality:p", "test:1"],
                &["coverage", "global"],
            ),
            (
                "crackerjack",
                "Crackerjack: Admin",
                Subscribe,
                &["coverage", "global", "test:1"],
                &[],
            ),
            (
                "akosha",
                "akosha:read",
                Subscribe,
                &["patterns:x", "anomalies", "insights", "metrics"],
                &["global"],
            ),
            (
                "akosha",
                "akosha:read",
                Subscribe,
                &["pattern:x", "anomaly:x", "insight:x"],
                &["metrics:x"],
            ),
            ("akosha", "akosha:admin", Subscribe, &["global"], &[]),
            ("excalidraw", "admin", Subscribe, &[], &["diagram:1", "global"]),
            ("excalidraw", "excalidraw:admin", Subscribe, &["diagram:1", "global"], &[]),
            (
                "excalidraw",
                "excalidraw:read",
                Subscribe,
                &["diagram:1", "cursor:1", "presence:1"],
                &["global"],
            ),
            ("fastblocks", "admin", Subscribe, &[], &["ui:1", "global"]),
            (
                "fastblocks",
                "fastblocks:read",
                Subscribe,
                &["ui:1", "component:1", "state", "states"],
                &["page:1"],
            ),
            (
                "dhruva",
                "dhruva:read",
                Subscribe,
                &["adapter:1", "storage:s3", "distribution"],
                &["global"],
            ),
            ("dhara", "dhara:read", Subscribe, &["adapter:1"], &["global"]),
            ("dhruva", "dhruva:write", Publish, &["adapter:1", "global"], &[]),
        ];
        for (service, permission, verb, open, closed) in rows {
            let policy = Policy::for_service(service).unwrap();
            let access = policy.access(&[*permission]);
            for channel in *open {
                assert!(
                    policy.decide(&access, *verb, channel).allowed,
                    "{service} {permission} {verb:?} {channel}"
                );
            }
            for channel in *closed {
                assert!(
                    !policy.decide(&access, *verb, channel).allowed,
                    "{service} {permission} {verb:?} {channel}"
                );
            }
        }
    }

    #[test]
    fn no_permissions_open_nothing() {
        for name in Policy::services() {
            let policy = Policy::for_service(name).unwrap();
            let access = policy.access::<&str>(&[]);
            for channel in
                ["global", "workflow:1", "test:1", "patterns:x", "diagram:1", "ui:1", "adapter:1"]
            {
                assert!(!policy.decide(&access, Subscribe, channel).allowed, "{name} {channel}");
                assert!(!policy.decide(&access, Publish, channel).allowed, "{name} {channel}");
            }
        }
    }
}
