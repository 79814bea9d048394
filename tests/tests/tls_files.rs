//! Certificates and keys as operators have them: every format, every mistake, and `cert check`.

use std::{path::Path, process::Command};

use mahavishnu_tests::{
    Server,
    certs::{Authority, Files, text},
    foreign::{self, curl},
    server::{self, Done},
};
use serde_json::Value;

/// Runs a subcommand with these settings, named without `MAHAVISHNU_`.
fn run(settings: &[(&str, &str)], args: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| (format!("MAHAVISHNU_{name}"), *value)).collect();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    server::run(dir.path(), &settings, args)
}

fn refuses(settings: &[(&str, &str)], words: &[&str]) {
    let ports = [("PORT", "0"), ("METRICS_PORT", "0")];
    for command in [&["websocket", "start"], &["config", "check"]] {
        let done = run(&[&ports[..], settings].concat(), command);
        assert_eq!(done.code, Some(5), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "one clear line: {done:?}");
        for word in words {
            assert!(done.stderr.contains(word), "{word:?} in {done:?}");
        }
    }
}

fn openssl(args: &[&str]) {
    foreign::text(Command::new("openssl").args(args));
}

fn world() -> (tempfile::TempDir, Authority, Files) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root");
    let files = authority.server("server");
    (dir, authority, files)
}

#[test]
fn keys_of_every_form_are_taken() {
    let (dir, authority, files) = world();
    let at = |name: &str| dir.path().join(name);
    let (sec1, both) = (at("sec1.pem"), at("both.pem"));
    openssl(&["pkey", "-in", text(&files.key), "-traditional", "-out", text(&sec1)]);
    assert!(std::fs::read_to_string(&sec1).unwrap().contains("BEGIN EC PRIVATE KEY"));
    let joined = [&files.certificate, &authority.file, &files.key]
        .map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(&both, joined.concat()).unwrap();
    let (rsa, pkcs1) = (at("rsa.pem"), at("pkcs1.pem"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "90",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-out",
        text(&rsa),
        "-keyout",
        text(&at("rsa8.pem")),
    ]);
    openssl(&["pkey", "-in", text(&at("rsa8.pem")), "-traditional", "-out", text(&pkcs1)]);
    assert!(std::fs::read_to_string(&pkcs1).unwrap().contains("BEGIN RSA PRIVATE KEY"));

    for (certificate, key, trust) in [
        (&files.certificate, Some(&files.key), &authority.file),
        (&files.certificate, Some(&sec1), &authority.file),
        (&both, None, &authority.file),
        (&rsa, Some(&pkcs1), &rsa),
    ] {
        let mut settings = vec![("TLS_ENABLED", "true"), ("CERT_FILE", text(certificate))];
        settings.extend(key.map(|key| ("KEY_FILE", text(key))));
        let server = Server::with(&settings);
        let url = format!("https://{}/health", server.address());
        assert!(curl(&["--cacert", text(trust), &url]).contains("\"healthy\""));
    }
}

#[test]
fn a_mistake_is_one_line_that_names_the_file() {
    let (dir, authority, files) = world();
    let other = authority.server("other");
    let expired = authority.issue("expired", &["localhost"], (-30, -1));
    let early = authority.issue("early", &["localhost"], (2, 30));
    let encrypted = dir.path().join("encrypted.pem");
    openssl(&[
        "pkey",
        "-in",
        text(&files.key),
        "-aes256",
        "-passout",
        "pass:hunter2",
        "-out",
        text(&encrypted),
    ]);
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let (certificate, key) = (text(&files.certificate), text(&files.key));
    for (certificate, key, words) in [
        (certificate, text(&other.key), ["other-key.pem", "does not belong"]),
        (certificate, text(&encrypted), ["encrypted.pem", "is encrypted"]),
        (certificate, certificate, ["server.pem", "is a certificate, not a private key"]),
        (key, key, ["server-key.pem", "is a private key, not a certificate"]),
        (text(&empty), key, ["empty.pem", "has no certificate"]),
        (certificate, text(&empty), ["empty.pem", "has no private key"]),
        (certificate, "/nowhere.pem", ["/nowhere.pem", "No such file"]),
        (text(&expired.certificate), text(&expired.key), ["expired.pem", "expired on"]),
        (text(&early.certificate), text(&early.key), ["early.pem", "not valid before"]),
    ] {
        refuses(&[("TLS_ENABLED", "true"), ("CERT_FILE", certificate), ("KEY_FILE", key)], &words);
    }
    refuses(
        &[&files.settings()[..], &[("VERIFY_CLIENT", "true")]].concat(),
        &["MAHAVISHNU_CA_FILE"],
    );
    let mutual = [("VERIFY_CLIENT", "true"), ("CA_FILE", key)];
    refuses(&[&files.settings()[..], &mutual].concat(), &["MAHAVISHNU_CA_FILE", "server-key.pem"]);
    let two = format!("{certificate},{certificate}");
    refuses(
        &[("TLS_ENABLED", "true"), ("CERT_FILE", &two), ("KEY_FILE", key)],
        &["MAHAVISHNU_KEY_FILE", "each certificate has one key"],
    );
}

#[test]
fn what_is_wrong_with_a_revocation_list_is_one_line() {
    let (dir, authority, files) = world();
    let other = Authority::new(dir.path(), "other");
    let mutual =
        [&files.settings()[..], &[("VERIFY_CLIENT", "true"), ("CA_FILE", text(&authority.file))]]
            .concat();
    let with = |list: &Path, words: &[&str]| {
        refuses(&[&mutual[..], &[("CRL_FILE", text(list))]].concat(), words);
    };
    with(
        &authority.revoke("expired", &[], -1),
        &["expired.pem", "the list of CN=root", "expired on"],
    );
    with(&other.revoke("foreign", &[], 9), &["foreign.pem", "has no list of CN=root"]);
    with(&authority.file, &["root.pem", "has no revocation list"]);
    with(Path::new("/nowhere.pem"), &["/nowhere.pem", "No such file"]);
}

#[test]
fn a_key_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, _authority, files) = world();
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::with(&files.settings());
    server.expect_log("every user of this machine can read this key");
}

#[test]
fn cert_check_tells_everything_and_its_exit_code_the_verdict() {
    let (dir, authority, files) = world();
    let check = |files: &Files, args: &[&str]| {
        let named =
            ["cert", "check", "--cert", text(&files.certificate), "--key", text(&files.key)];
        run(&[], &[&named[..], args].concat())
    };
    let done = check(&files, &["--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let one = &report["certificates"][0];
    assert_eq!(
        (&report["status"], &one["key_matches"], &one["chain_in_order"]),
        (&"valid".into(), &true.into(), &true.into())
    );
    assert_eq!(one["names"], serde_json::json!(["dns:localhost", "ip:127.0.0.1"]));
    assert!((364..=365).contains(&one["days_left"].as_i64().unwrap()), "{one}");
    assert_eq!(one["key"], "ECDSA P-256");
    let text_of = check(&files, &[]).stdout;
    for words in [
        "server.pem: valid",
        "subject   CN=localhost",
        "issuer    CN=root",
        "days left",
        "the key file matches",
        "1 certificate, in order",
    ] {
        assert!(text_of.contains(words), "{words:?} in {text_of}");
    }

    assert_eq!(check(&files, &["--min-days", "366"]).code, Some(9));
    let soon = authority.issue("soon", &["localhost"], (-1, 10));
    assert_eq!(check(&soon, &[]).code, Some(9));
    assert_eq!(check(&soon, &["--min-days", "5"]).code, Some(0));

    let expired = authority.issue("expired", &["localhost"], (-30, -1));
    let mixed = Files { certificate: files.certificate.clone(), key: soon.key };
    let disordered =
        Files { certificate: dir.path().join("disordered.pem"), key: files.key.clone() };
    let stranger = Authority::new(dir.path(), "stranger");
    let chain =
        [&files.certificate, &stranger.file].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(&disordered.certificate, chain.concat()).unwrap();
    let weak =
        Files { certificate: dir.path().join("weak.pem"), key: dir.path().join("weak-key.pem") };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:1024",
        "-nodes",
        "-days",
        "90",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-out",
        text(&weak.certificate),
        "-keyout",
        text(&weak.key),
    ]);
    for (files, words) in [
        (&expired, "expired on"),
        (&mixed, "the key file does not match"),
        (&disordered, "is not signed by the next one"),
        (&weak, "less than 2048 bits"),
    ] {
        let done = check(files, &[]);
        assert_eq!(done.code, Some(10), "{done:?}");
        assert!(done.stdout.contains(words), "{words:?} in {done:?}");
    }
}

#[test]
fn cert_check_takes_the_servers_settings() {
    let (_dir, _authority, files) = world();
    assert_eq!(run(&files.settings(), &["cert", "check"]).code, Some(0));
    let done = run(&[], &["cert", "check"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.stderr.contains("MAHAVISHNU_CERT_FILE"), "{done:?}");
}
