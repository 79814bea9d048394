//! The alerts of `deploy/prometheus`: each leads to a section of the runbook that is there, is fired by a test of
//! `promtool`, and asks of families that are in the table. `tests/tests/monitoring.rs` runs Prometheus on them.

use std::{collections::BTreeSet, path::Path};

use mahavishnu_core::metrics::{FAMILIES, Type};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const RULES: &str = "deploy/prometheus/alerts/mahavishnu.yml";

/// An alert's name, and the lines that follow it.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let parts = rules.split("- alert: ").skip(1);
    parts.map(|part| part.split_once('\n').unwrap()).collect()
}

fn named(rules: &str) -> BTreeSet<&str> {
    alerts(rules).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_alert_has_a_section_of_the_runbook() {
    let (rules, book) = (read(RULES), read("docs/runbook.md"));
    let sections: BTreeSet<_> = book.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(named(&rules), sections);
    let repository = env!("CARGO_PKG_REPOSITORY");
    for (name, rest) in alerts(&rules) {
        let anchor = name.to_lowercase();
        let link = format!("runbook_url: \"{repository}/blob/main/docs/runbook.md#{anchor}\"\n");
        assert!(rest.contains(&link), "{name} leads elsewhere than to {link}");
        for key in ["severity:", "summary:", "description:", "for:"] {
            assert_eq!(rest.matches(key).count(), 1, "{name}: {key}");
        }
    }
}

#[test]
fn every_alert_is_fired_by_a_test_and_not_fired_by_another() {
    let rules = read(RULES);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/tests");
    let mut tests = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for test in text.split("  - name: ").skip(1) {
            let (title, body) = test.split_once('\n').unwrap();
            let fires = body.contains(&format!(
                "exp_samples:\n          - labels: '{{alertname=\"{}\"}}'",
                title.split(' ').next().unwrap()
            ));
            assert!(fires || body.contains("exp_samples: []"), "{title} expects something else");
            assert_eq!(fires, title.ends_with(" fires"), "{title}");
            tests.insert(title.to_owned());
        }
    }
    let expected = named(&rules)
        .into_iter()
        .flat_map(|name| [format!("{name} fires"), format!("{name} does not fire")]);
    assert_eq!(tests, expected.collect());
}

#[test]
fn alerts_ask_of_families_that_there_are() {
    let rules = read(RULES);
    let mut seen = 0;
    for (name, rest) in alerts(&rules) {
        let expression = rest.split("        for:").next().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let prefixes = ["websocket_", "mahavishnu_", "process_"];
        let jobs = ["mahavishnu_websocket"];
        for word in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))) {
            if jobs.contains(&word) {
                continue;
            }
            let known = FAMILIES.iter().any(|family| match family.kind {
                Type::Histogram => word.strip_suffix("_bucket") == Some(family.name),
                Type::Counter | Type::Gauge => word == family.name,
            });
            assert!(known, "{name}: {word}");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen}");
}
