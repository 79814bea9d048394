//! Who may do what: `explain`, `policy show`, `token revoke`, and the files they read.

use crate::support::{Place, SECRET, Server, eventually};

const KEYED: (&str, &str) = ("MAHAVISHNU_JWT_SECRET", SECRET);

fn token(place: &Place, arguments: &str) -> String {
    place.run_with(&format!("token create {arguments}"), &[KEYED]).expect(0).last_line().to_owned()
}

#[test]
fn explain_names_the_rule_that_decides() {
    let place = Place::new();
    let ada = token(&place, "--user ada --permission workflow:read");
    let variables = [KEYED, ("MAHAVISHNU_TOKEN", &*ada)];
    for (arguments, code, last) in [
        ("--channel workflow:1", 0, "allowed: rule 1 (workflow:*) lets workflow:read subscribe"),
        (
            "--channel workflow:1 --verb publish",
            6,
            "denied: rule 1 (workflow:*) lets workflow:write publish",
        ),
        ("--channel pool:1", 6, "denied: rule 2 (pool:*) lets pool:read subscribe"),
        (
            "--channel global",
            6,
            "denied: rule 8 (global) lets nobody subscribe but those with full access",
        ),
        ("--channel x", 6, "denied: no rule is about \"x\", so only full access opens it"),
    ] {
        let done = place.run_with(&format!("explain {arguments}"), &variables).expect(code);
        assert_eq!(done.last_line(), last);
        assert!(done.out.contains("token: \"ada\" with workflow:read\n"), "{}", done.out);
        assert!(done.out.contains("policy: mahavishnu (built in)\n"), "{}", done.out);
        assert!(!done.out.contains(&ada) && !done.err.contains(&ada));
    }
    let admin = token(&place, "--user bob --permission admin");
    let done =
        place.run_with(&format!("explain --channel global --token {admin}"), &[KEYED]).expect(0);
    assert_eq!(done.last_line(), "allowed: full_access, which is admin");
}

#[test]
fn explain_refuses_tokens_as_the_server_does() {
    let place = Place::new();
    let other = [("MAHAVISHNU_JWT_SECRET", "another-secret-of-thirty-two-bytes")];
    let foreign = place.run_with("token create --user ada", &other).expect(0);
    let foreign = foreign.last_line();
    let done =
        place.run_with(&format!("explain --channel a --token {foreign}"), &[KEYED]).expect(6);
    assert_eq!(done.last_line(), "denied: the token's signature is wrong");
    let done = place.run(&format!("explain --channel a --token {foreign}")).expect(5);
    assert!(done.err.contains("no key to verify the token with"), "{}", done.err);
    let line = place.run("token revoke --print --user ada").expect(0).out;
    let file = place.write("revoked.jsonl", &line);
    let variables = [KEYED, ("MAHAVISHNU_REVOKED_FILE", file.to_str().unwrap())];
    let ada = token(&place, "--user ada --permission admin");
    let done = place.run_with(&format!("explain --channel a --token {ada}"), &variables).expect(6);
    assert_eq!(done.last_line(), "denied: the token is in MAHAVISHNU_REVOKED_FILE");
}

#[test]
fn without_a_token_explain_says_what_anyone_may_do() {
    let place = Place::new();
    place.run("explain --channel a").expect(0);
    let auth = [KEYED, ("MAHAVISHNU_AUTH_ENABLED", "true")];
    let done = place.run_with("explain --channel a", &auth).expect(6);
    assert_eq!(done.last_line(), "denied: clients need a token here");
}

#[test]
fn a_policy_that_is_shown_can_be_edited_and_used() {
    let place = Place::new();
    let shown = place.run("policy show").expect(0).out;
    assert!(
        shown.contains("[mahavishnu]\n") && shown.contains("pattern = \"workflow:*\""),
        "{shown}"
    );
    let edited = shown.replace("\"workflow:read\"", "\"jobs\"");
    let file = place.write("policy.toml", &edited);
    let variables = [KEYED, ("MAHAVISHNU_POLICY_FILE", file.to_str().unwrap())];
    let ada = token(&place, "--user ada --permission jobs");
    let done = place
        .run_with(&format!("explain --channel workflow:1 --token {ada}"), &variables)
        .expect(0);
    assert!(
        done.out.contains(&format!("policy: mahavishnu ({})\n", file.display())),
        "{}",
        done.out
    );
    assert_eq!(done.last_line(), "allowed: rule 1 (workflow:*) lets jobs subscribe");
    assert_eq!(place.run_with("policy show --built-in", &variables).expect(0).out, shown);
    let all = place.run("policy show --all").expect(0).out;
    assert!(all.contains("[[excalidraw.rule]]"), "{all}");
}

#[test]
fn a_mistake_in_the_policy_is_one_line_with_its_place() {
    let place = Place::new();
    let file = place.write("policy.toml", "[mahavishnu]\n[[mahavishnu.rule]]\npattern = \"a*b\"\n");
    let variables = [("MAHAVISHNU_POLICY_FILE", file.to_str().unwrap())];
    let done = place.run_with("config check", &variables).expect(5);
    let start = format!("mahavishnu: MAHAVISHNU_POLICY_FILE: {}:3: ", file.display());
    assert!(done.err.starts_with(&start) && done.err.lines().count() == 1, "{}", done.err);
}

#[test]
fn a_revocation_closes_refuses_and_can_be_kept() {
    let place = Place::new();
    let file = place.write("revoked.jsonl", "# none yet\n");
    let variables = [KEYED, ("MAHAVISHNU_REVOKED_FILE", file.to_str().unwrap())];
    let server = Server::start(&place, "--auth-enabled true", &variables);
    let admin = token(&place, "--user bob --permission admin");
    let eve = token(&place, "--user eve --permission write");
    let url = ("MAHAVISHNU_URL", &*server.url);
    let as_eve = [url, ("MAHAVISHNU_TOKEN", &*eve)];
    let as_admin = [url, ("MAHAVISHNU_TOKEN", &*admin)];
    place.run_with("publish c e", &as_eve).expect(0);
    let refused = place.run_with("token revoke --user bob", &as_eve).expect(6);
    assert!(refused.err.contains("HTTP 403 FORBIDDEN"), "{}", refused.err);
    assert_eq!(refused.out, "", "no line for the file");

    let done = place.run_with(&format!("token revoke {eve}"), &as_admin).expect(0);

    assert!(done.err.contains("closed 0 connections"), "{}", done.err);
    place.run_with("publish c e", &as_eve).expect(6);
    place.run_with("publish c e", &as_admin).expect(0);
    // For good: after a restart the line in the file is what counts.
    std::fs::write(&file, &done.out).unwrap();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let again = Server::start(&place, "--auth-enabled true", &variables);
    let as_eve = [("MAHAVISHNU_URL", &*again.url), ("MAHAVISHNU_TOKEN", &*eve)];
    place.run_with("publish c e", &as_eve).expect(6);
    std::fs::write(&file, "").unwrap();
    place.run("websocket reload").expect(0);
    eventually("the reload", || {
        place.log().contains("changed=\"MAHAVISHNU_REVOKED_FILE\"").then_some(())
    });
    place.run_with("publish c e", &as_eve).expect(0);
}

#[test]
fn what_names_no_token_is_not_revoked() {
    let place = Place::new();
    for arguments in ["", "--until now", "nonsense", "--issued-before yesterday"] {
        let done = place.run(&format!("token revoke --print {arguments}")).expect(1);
        assert_eq!(done.out, "", "{arguments}");
    }
}
