//! The policies of the known services: who may subscribe where is theirs, who may publish is ours (their servers take
//! no events from clients).

use super::policy::{Pattern, Policy, Rule};

impl Policy {
    /// Mahavishnu's own channels.
    #[must_use]
    pub fn mahavishnu() -> Self {
        MAHAVISHNU.policy()
    }

    /// The policy of a service by its name in lower case. `dhara` is another name of `dhruva`. `None`: unknown.
    #[must_use]
    pub fn for_service(name: &str) -> Option<Self> {
        let service = SERVICES.iter().find(|service| service.names.contains(&name))?;
        Some(service.policy())
    }

    /// The names that [`for_service`](Self::for_service) knows.
    pub fn services() -> impl Iterator<Item = &'static str> {
        SERVICES.iter().flat_map(|service| service.names).copied()
    }
}

struct ServiceRules {
    names: &'static [&'static str],
    full_access: &'static [&'static str],
    publish_anywhere: &'static [&'static str],
    /// Pattern, permissions to subscribe, permissions to publish. Without permissions: listed for its metric label.
    rules: &'static [(&'static str, &'static [&'static str], &'static [&'static str])],
    normalise: bool,
}

impl ServiceRules {
    fn policy(&self) -> Policy {
        let list = |words: &[&str]| words.iter().map(|word| Box::from(*word)).collect();
        let rules = self.rules.iter().map(|(pattern, subscribe, publish)| Rule {
            pattern: Pattern::known(pattern),
            subscribe: list(subscribe),
            publish: list(publish),
        });
        Policy {
            full_access: list(self.full_access),
            publish_anywhere: list(self.publish_anywhere),
            rules: rules.collect(),
            normalise: self.normalise,
        }
    }
}

const MAHAVISHNU: &ServiceRules = &ServiceRules {
    names: &["mahavishnu"],
    full_access: &["admin"],
    publish_anywhere: &["write", "mahavishnu:write"],
    rules: &[
        ("workflow:*", &["workflow:read"], &["workflow:write"]),
        ("pool:*", &["pool:read"], &["pool:write"]),
        ("worker:*", &["worker:read"], &["worker:write"]),
        ("goal-teams*", &["team:read"], &["team:write"]),
        ("settle:*", &["worker:read"], &["worker:write"]),
        ("run:*", &["worker:read"], &["worker:write"]),
        ("cross-repo:*", &["cross_repo:read"], &["cross_repo:write"]),
        ("global", &[], &[]),
        ("adapters", &[], &[]),
        ("code", &[], &[]),
        ("symbiotic:ecosystem", &[], &[]),
    ],
    normalise: false,
};

const SERVICES: &[&ServiceRules] = &[
    MAHAVISHNU,
    &ServiceRules {
        names: &["crackerjack"],
        full_access: &["admin", "crackerjack:admin"],
        publish_anywhere: &["write", "crackerjack:write"],
        rules: &[
            ("quality:*", &["crackerjack:read"], &[]),
            ("test:*", &["crackerjack:read"], &[]),
            ("coverage", &[], &[]),
            ("global", &[], &[]),
        ],
        normalise: true,
    },
    &ServiceRules {
        names: &["akosha"],
        full_access: &["admin", "akosha:admin"],
        publish_anywhere: &["write", "akosha:write"],
        rules: &[
            // The rooms it broadcasts to, which its own rules forget.
            ("patterns:*", &["akosha:read"], &[]),
            ("anomalies", &["akosha:read"], &[]),
            ("insights", &["akosha:read"], &[]),
            ("metrics", &["akosha:read"], &[]),
            // The rooms of its rules.
            ("pattern:*", &["akosha:read"], &[]),
            ("anomaly:*", &["akosha:read"], &[]),
            ("insight:*", &["akosha:read"], &[]),
        ],
        normalise: false,
    },
    &ServiceRules {
        names: &["excalidraw"],
        full_access: &["excalidraw:admin"],
        publish_anywhere: &["write", "excalidraw:write"],
        rules: &[
            ("diagram:*", &["excalidraw:read"], &[]),
            ("cursor:*", &["excalidraw:read"], &[]),
            ("presence:*", &["excalidraw:read"], &[]),
            ("global", &[], &[]),
        ],
        normalise: false,
    },
    &ServiceRules {
        names: &["fastblocks"],
        full_access: &["fastblocks:admin"],
        publish_anywhere: &["write", "fastblocks:write"],
        rules: &[
            ("ui:*", &["fastblocks:read"], &[]),
            ("component:*", &["fastblocks:read"], &[]),
            ("state*", &["fastblocks:read"], &[]),
            ("page:*", &[], &[]),
            ("global", &[], &[]),
        ],
        normalise: false,
    },
    &ServiceRules {
        names: &["dhruva", "dhara"],
        full_access: &["dhruva:admin", "dhara:admin"],
        publish_anywhere: &["write", "dhruva:write", "dhara:write"],
        rules: &[
            ("adapter:*", &["dhruva:read", "dhara:read"], &[]),
            ("storage:*", &["dhruva:read", "dhara:read"], &[]),
            ("distribution", &["dhruva:read", "dhara:read"], &[]),
            ("global", &[], &[]),
        ],
        normalise: false,
    },
];

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
        assert_eq!(Policy::for_service("session-buddy"), None);
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
