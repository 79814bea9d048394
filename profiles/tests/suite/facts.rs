//! What the services are called, where they listen, and who may do what there.

use mahavishnu_profiles::{Extra, Profile, Protocol};

/// Name; ports alone and among others: WebSocket, metrics; connections, messages per second; label; server and message of
/// the welcome; its extras; prefix of variables.
type Row = (&'static str, [u16; 4], [u32; 2], [&'static str; 3], &'static [Extra], &'static str);

#[test]
fn the_facts_are_those_of_the_services() {
    use Extra::{RateLimit, Secure, TlsMode};
    let rows: &[Row] = &[
        (
            "mahavishnu",
            [8686, 9090, 8690, 8680],
            [10_000, 100],
            ["mahavishnu", "mahavishnu", "Connected to Mahavishnu orchestration"],
            &[Secure, RateLimit],
            "MAHAVISHNU",
        ),
        (
            "crackerjack",
            [8686, 9091, 8686, 9091],
            [1000, 100],
            ["crackerjack", "crackerjack", "Connected to Crackerjack quality monitoring"],
            &[TlsMode],
            "CRACKERJACK",
        ),
        (
            "akosha",
            [8692, 9093, 8692, 9099],
            [1000, 100],
            ["akosha", "akosha", "Connected to Akosha pattern detection"],
            &[Secure],
            "AKOSHA",
        ),
        (
            "excalidraw",
            [3042, 9097, 3042, 9097],
            [100, 60],
            ["excalidraw", "excalidraw", "Connected to Excalidraw collaboration"],
            &[TlsMode],
            "EXCALIDRAW",
        ),
        (
            "fastblocks",
            [8684, 9096, 8684, 9096],
            [100, 60],
            ["fastblocks", "fastblocks", "Connected to Fastblocks UI update stream"],
            &[TlsMode],
            "FASTBLOCKS",
        ),
        (
            "dhruva",
            [8693, 9098, 8693, 9098],
            [1000, 100],
            ["dhruva", "dhruva", "Connected to Dhara adapter distribution"],
            &[TlsMode],
            "DHRUVA",
        ),
        (
            "session-buddy",
            [8765, 9092, 8765, 9092],
            [100, 100],
            ["session-buddy", "session-buddy", "Connected to Session-Buddy real-time metrics"],
            &[],
            "SESSION_BUDDY",
        ),
    ];
    assert_eq!(Profile::builtins().len(), rows.len());
    for (name, ports, limits, texts, extras, prefix) in rows {
        let profile = Profile::builtin(name).unwrap();
        let found = &profile.ports;
        assert_eq!(
            [found.websocket, found.metrics, found.websocket_in_fleet(), found.metrics_in_fleet()],
            *ports,
            "{name}"
        );
        assert_eq!(
            [profile.limits.connections_max, profile.limits.messages_per_second],
            *limits,
            "{name}"
        );
        assert_eq!(
            [&*profile.label, &*profile.welcome.server, &*profile.welcome.message],
            *texts,
            "{name}"
        );
        assert_eq!(profile.welcome.extras, *extras, "{name}");
        assert_eq!(profile.environment.prefixes().next(), Some(*prefix), "{name}");
        assert_eq!(&*profile.name, *name);
        assert_eq!(profile.protocol == Protocol::SessionBuddy, *name == "session-buddy");
        assert_eq!(Profile::parse(profile.text()).unwrap().text(), profile.text());
    }
}

/// All seven fit on one machine, beside Prometheus and Alertmanager.
#[test]
fn no_two_of_a_fleet_listen_on_one_port() {
    let ports = Profile::builtins()
        .iter()
        .flat_map(|it| [it.ports.websocket_in_fleet(), it.ports.metrics_in_fleet()]);
    let mut ports: Vec<_> = ports.chain([9090, 9093, 9094, 9100, 3000]).collect();
    let all = ports.len();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), all);
}

#[test]
fn names_and_other_names_find_the_same() {
    assert_eq!(Profile::builtin("dhara").unwrap().name, Profile::builtin("dhruva").unwrap().name);
    for name in ["", "Dhruva", "redis", "session_buddy"] {
        assert!(Profile::builtin(name).is_none(), "{name}");
    }
    assert_eq!(
        Profile::builtin("dhruva").unwrap().environment.prefixes().collect::<Vec<_>>(),
        ["DHRUVA", "DHARA"]
    );
}

/// Service, words that mean yes, words that mean no.
#[test]
fn each_service_has_its_own_words_for_yes() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("mahavishnu", &["true", "TRUE"], &["1", "yes", "false", ""]),
        ("crackerjack", &["true", "1", "Yes", "on"], &["false", "0", ""]),
        ("fastblocks", &["true", "1", "anything"], &["False", "0", "no", "off"]),
    ];
    for (service, yes, no) in rows {
        let environment = &Profile::builtin(service).unwrap().environment;
        assert!(yes.iter().all(|word| environment.is_yes(word)), "{service}");
        assert!(!no.iter().any(|word| environment.is_yes(word)), "{service}");
    }
}

/// Service, full access, and its rules as pattern, who may subscribe, who may publish.
#[test]
fn the_rights_are_those_of_the_services() {
    type Rule = (&'static str, &'static str, &'static str);
    let rows: &[(&str, &[&str], &[Rule])] = &[
        (
            "mahavishnu",
            &["admin"],
            &[
                ("workflow:*", "workflow:read", "workflow:write"),
                ("pool:*", "pool:read", "pool:write"),
                ("worker:*", "worker:read", "worker:write"),
                ("goal-teams*", "team:read", "team:write"),
                ("settle:*", "worker:read", "worker:write"),
                ("run:*", "worker:read", "worker:write"),
                ("cross-repo:*", "cross_repo:read", "cross_repo:write"),
                ("global", "", ""),
                ("adapters", "", ""),
                ("code", "", ""),
                ("symbiotic:ecosystem", "", ""),
            ],
        ),
        (
            "crackerjack",
            &["admin", "crackerjack:admin"],
            &[
                ("quality:*", "crackerjack:read", ""),
                ("test:*", "crackerjack:read", ""),
                ("coverage", "", ""),
                ("global", "", ""),
            ],
        ),
        (
            "akosha",
            &["admin", "akosha:admin"],
            &[
                ("patterns:*", "akosha:read", ""),
                ("anomalies", "akosha:read", ""),
                ("insights", "akosha:read", ""),
                ("metrics", "akosha:read", ""),
                ("pattern:*", "akosha:read", ""),
                ("anomaly:*", "akosha:read", ""),
                ("insight:*", "akosha:read", ""),
            ],
        ),
        // `admin` is none here, nor of the next.
        (
            "excalidraw",
            &["excalidraw:admin"],
            &[
                ("diagram:*", "excalidraw:read", ""),
                ("cursor:*", "excalidraw:read", ""),
                ("presence:*", "excalidraw:read", ""),
                ("global", "", ""),
            ],
        ),
        (
            "fastblocks",
            &["fastblocks:admin"],
            &[
                ("ui:*", "fastblocks:read", ""),
                ("component:*", "fastblocks:read", ""),
                ("state*", "fastblocks:read", ""),
                ("page:*", "", ""),
                ("global", "", ""),
            ],
        ),
        (
            "dhruva",
            &["dhruva:admin", "dhara:admin"],
            &[
                ("adapter:*", "dhruva:read dhara:read", ""),
                ("storage:*", "dhruva:read dhara:read", ""),
                ("distribution", "dhruva:read dhara:read", ""),
                ("global", "", ""),
            ],
        ),
        (
            "session-buddy",
            &["admin", "session-buddy:admin"],
            &[("skills", "session-buddy:read", "")],
        ),
    ];
    for (service, full, rules) in rows {
        let profile = Profile::builtin(service).unwrap();
        let access = profile.access.as_ref().unwrap();
        assert_eq!(
            access.full_access.iter().map(|it| &**it).collect::<Vec<_>>(),
            *full,
            "{service}"
        );
        assert_eq!(access.lower_case, *service == "crackerjack");
        let found: Vec<_> = access
            .rules
            .iter()
            .map(|rule| {
                (rule.pattern.to_string(), rule.subscribe.join(" "), rule.publish.join(" "))
            })
            .collect();
        let wanted: Vec<_> = rules
            .iter()
            .map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned()))
            .collect();
        assert_eq!(found, wanted, "{service}");
        // Everything that it broadcasts goes to a channel that one of its rules is about.
        for room in profile.events.iter().flat_map(|event| &event.rooms) {
            let channel = room.fill("x");
            let fits = |pattern: &str| match pattern.strip_suffix('*') {
                Some(beginning) => channel.starts_with(beginning),
                None => *channel == *pattern,
            };
            assert!(access.rules.iter().any(|rule| fits(&rule.pattern)), "{service}: {channel}");
        }
    }
}

#[test]
fn other_members_of_a_subscription_mean_channels() {
    let profile = Profile::builtin("fastblocks").unwrap();
    for (member, channel) in
        [("component_id", Some("component:7")), ("page_id", Some("page:7")), ("channel", None)]
    {
        assert_eq!(profile.channel_of(member, "7").as_deref(), channel);
    }
}

#[test]
fn secrets_of_published_code_are_refused() {
    for profile in Profile::builtins() {
        let secrets = &profile.tokens.refused_secrets;
        assert_eq!(&*secrets[0], "dev-secret-change-in-production", "{}", profile.name);
    }
    let crackerjack = Profile::builtin("crackerjack").unwrap();
    assert_eq!(crackerjack.tokens.audience.as_deref(), Some("crackerjack"));
    assert_eq!(&*crackerjack.tokens.also_secrets[0], "BODAI_SHARED_SECRET");
}
