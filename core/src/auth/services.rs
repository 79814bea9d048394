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

struct Service {
    names: &'static [&'static str],
    full_access: &'static [&'static str],
    publish_anywhere: &'static [&'static str],
    /// Pattern, permissions to subscribe, permissions to publish. Without permissions: listed for its metric label.
    rules: &'static [(&'static str, &'static [&'static str], &'static [&'static str])],
    normalise: bool,
}

impl Service {
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

const MAHAVISHNU: &Service = &Service {
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

const SERVICES: &[&Service] = &[
    MAHAVISHNU,
    &Service {
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
    &Service {
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
    &Service {
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
    &Service {
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
    &Service {
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
