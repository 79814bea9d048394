//! The family's public tools, as their operators run them, against all services in one process: what they ask is in
//! `tests/clients/python/fleet_tools.py`, and `scripts/verify_deployment.py` is the one that ships.

use std::process::Command;

use mahavishnu_tests::{
    binary,
    fleet::{Fleet, SERVICES},
    foreign, token,
};
use serde_json::{Value, json};

/// Services with the family's messages: Session-Buddy has its own.
fn family() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES.into_iter().filter(|(service, _)| *service != "session-buddy")
}

fn targets<'a>(
    fleet: &'a Fleet,
    services: impl Iterator<Item = (&'static str, &'static str)> + 'a,
) -> Vec<String> {
    let target = |(service, _): (&str, &str)| {
        let (main, metrics) = (fleet.address(service), fleet.metrics_address(service));
        format!("{service}={}:{}", main.port(), metrics.port())
    };
    services.map(target).collect()
}

fn tool(what: &str, targets: &[String], tokens: &[String]) -> (Option<i32>, Value) {
    let mut args = vec![what];
    args.extend(targets.iter().map(String::as_str));
    args.push("--token");
    args.extend(tokens.iter().map(String::as_str));
    let output = foreign::python_command("fleet_tools.py", &args).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), report)
}

fn with_auth() -> Fleet {
    let secrets = SERVICES.map(|(_, prefix)| (format!("{prefix}_JWT_SECRET"), token::SECRET));
    let pairs: Vec<_> = secrets.iter().map(|(name, secret)| (name.as_str(), *secret)).collect();
    Fleet::start(&["--auth-enabled", "true"], &pairs, "")
}

#[test]
fn the_health_check_is_green_with_and_without_tokens() {
    for fleet in [Fleet::start(&[], &[], ""), with_auth()] {
        let (code, report) = tool("health", &targets(&fleet, family()), &[]);
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report.as_object().unwrap().len(), SERVICES.len() - 1);
    }
    let nowhere = ["crackerjack=1:1".to_owned()];
    assert_eq!(tool("health", &nowhere, &[]).0, Some(2));
}

#[test]
fn the_verification_is_green_with_and_without_tokens() {
    let fleet = Fleet::start(&[], &[], "");
    let (code, report) = tool("deployment", &targets(&fleet, SERVICES.into_iter()), &[]);
    assert_eq!(code, Some(0), "{report}");
    for (service, _) in SERVICES {
        assert_eq!(report[service]["server"], service, "{report}");
    }
    drop(fleet);
    let fleet = with_auth();
    let of = |(service, _): (&str, &str)| {
        let token = token::of("ops", &[&format!("{service}:read")]);
        format!("{service}={token}")
    };
    let tokens: Vec<_> = family().map(of).collect();
    let (code, report) = tool("deployment", &targets(&fleet, family()), &tokens);
    assert_eq!(code, Some(0), "{report}");
    for (service, _) in family() {
        assert_eq!(report[service]["welcome"], "session.created", "{report}");
    }
}

/// The script that ships, for each service; its exit code says that at least four fifths of the checks pass.
#[test]
fn the_script_that_ships_verifies_each_service() {
    let fleet = Fleet::start(&[], &[], "");
    for (service, _) in family() {
        let (main, metrics) = (fleet.address(service), fleet.metrics_address(service));
        let output = Command::new("python3")
            .arg(binary::workspace().join("scripts/verify_deployment.py"))
            .args(["--json", "--port", &main.port().to_string()])
            .args(["--metrics-port", &metrics.port().to_string()])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{service}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed = |check: &&Value| check["outcome"] == json!("failed");
        let failed: Vec<_> = report["checks"].as_array().unwrap().iter().filter(failed).collect();
        assert!(failed.is_empty(), "{service}: {failed:?}");
    }
}
