//! Files that people hand over, as they really are, compared with what OpenSSL reads of them.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::Place;

/// A certificate, its authority's, and its key.
fn made() -> [String; 3] {
    let mut params = CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    [own.signed_by(&key, &root).unwrap().pem(), root.pem(), key.serialize_pem()]
}

/// How many certificates `cert check` finds in a chain; `None` if it refuses the file.
fn ours(place: &Place, chain: &str, key: &str) -> Option<usize> {
    place.write("chain.pem", chain);
    place.write("key.pem", key);
    let done = place.run("cert check --json --cert chain.pem --key key.pem");
    match done.code {
        0 => {
            let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
            Some(report["certificates"][0]["chain"].as_array().unwrap().len())
        }
        5 => {
            assert!(done.err.contains("chain.pem: "), "{done:?}");
            None
        }
        _ => panic!("{done:?}"),
    }
}

/// How many OpenSSL finds.
fn openssl(chain: &str) -> Option<usize> {
    let mut child = Command::new("openssl")
        .args(["crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may give up before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(chain.as_bytes());
    let bag = child.wait_with_output().unwrap();
    if !bag.status.success() {
        return None;
    }
    let mut child = Command::new("openssl")
        .args(["pkcs7", "-print_certs"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bag.stdout).unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    Some(text.matches("BEGIN CERTIFICATE").count())
}

#[test]
fn certificates_that_are_joined_without_a_newline_are_all_read() {
    let [own, root, key] = made();
    let joined = format!("{}{root}", own.trim_end());
    assert!(joined.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
    assert_eq!(ours(&Place::new(), &joined, &key), Some(2));
    assert_ne!(openssl(&joined), Some(2), "it is no measure here");
}

#[test]
fn what_openssl_reads_is_read_whole() {
    let [own, root, key] = made();
    let both = format!("{own}{root}");
    let place = Place::new();
    let forms = [
        both.clone(),
        both.replace('\n', "\r\n"),
        both.trim_end().to_owned(),
        both.replace('\n', " \n"),
        format!("subject=CN = x\n{own}\nissuer=CN = y\n\n{root}text"),
        format!("{key}{both}"),
        format!("{own}{key}{root}"),
        format!("# -----BEGIN CERTIFICATE-----\n{both}"),
        both.replace("CERTIFICATE", "X509 CERTIFICATE"),
        format!("\u{feff}{both}"),
    ];
    for form in forms {
        assert_eq!(openssl(&form), Some(2), "{form}");
        assert_eq!(ours(&place, &form, &key), Some(2), "{form}");
    }
}

#[test]
fn what_openssl_refuses_or_loses_is_read_whole_or_refused() {
    let [own, root, key] = made();
    let both = |root: &str| format!("{own}{root}");
    let place = Place::new();
    for (form, read) in [
        (both(&root.replacen("-----\n", "-----\nName: x\n\n", 1)), Some(2)),
        (both(&root.replace('\n', "\n  ")), Some(2)),
        (both(&root.replacen("-----BEGIN", "  -----BEGIN", 1)), Some(2)),
        (both(&root.to_lowercase()), None),
        (both(&root.replacen("-----", "----", 1)), None),
        (both(&root[..root.len() / 2]), None),
        (both(&root.replace("-----END", "")), None),
        (both(root.split_once('\n').unwrap().1), None),
    ] {
        assert_ne!(openssl(&form), Some(2), "OpenSSL is no measure here: {form}");
        assert_eq!(ours(&place, &form, &key), read, "{form}");
    }
}

#[test]
fn nothing_is_expanded_in_an_env_file() {
    let place = Place::new();
    for (line, shown) in [
        ("pa$word", "pa$word"),
        ("pa$", "pa$"),
        ("pa$$word", "pa$$word"),
        ("\"a$b c\"", "a$b c"),
        ("\"a$HOME\"", "a$HOME"),
        ("${HOME}", "${HOME}"),
        ("'a$b'", "a$b"),
    ] {
        place.write("z.env", &format!("MAHAVISHNU_SERVER_NAME={line}\n"));
        let done = place.run("config show --env-file z.env").expect(0);
        let expected = format!("MAHAVISHNU_SERVER_NAME='{shown}'  # z.env");
        assert!(done.out.lines().any(|line| line == expected), "{line}: {}", done.out);
    }
}

#[test]
fn a_token_is_good_for_a_key_with_a_dollar_sign() {
    let secret = "0123456789abcdefGHIJKLMNOPQRSTUV$Tail";
    let place = Place::new();
    place.write("z.env", &format!("MAHAVISHNU_JWT_SECRET={secret}\n"));
    let token =
        place.run("token create --env-file z.env --user u").expect(0).last_line().to_owned();
    let given = [("MAHAVISHNU_JWT_SECRET", secret), ("MAHAVISHNU_TOKEN", token.as_str())];
    place.run_with("token inspect", &given).expect(0);
    let cut = [("MAHAVISHNU_JWT_SECRET", &secret[..32]), ("MAHAVISHNU_TOKEN", token.as_str())];
    assert_ne!(place.run_with("token inspect", &cut).code, 0);
}

#[test]
fn foreign_lines_of_an_env_file_are_passed_over() {
    let place = Place::new();
    place.write("e.env", "FOO=bar baz\n; note\n[x]\nMAHAVISHNU_PORT=21000\nBAR='it\n");
    let done = place.run("config show --env-file e.env").expect(0);
    assert!(done.out.contains("MAHAVISHNU_PORT=21000  # e.env\n"), "{}", done.out);
    place.write("e.env", "FOO=bar baz\nMAHAVISHNU_PORT: 21000\n");
    let done = place.run("config check --env-file e.env").expect(5);
    assert_eq!(done.err, "mahavishnu: e.env:2: not a NAME=value line\n");
}

#[test]
fn trusted_certificates_are_read_as_all_files() {
    let [own, root, _] = made();
    let place = Place::new();
    let publish = |file: &Path| {
        let variables = [("SSL_CERT_FILE", file.to_str().unwrap())];
        place.run_with("publish --url https://127.0.0.1:1 c e {}", &variables)
    };
    let pipe = place.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let cut = place.write("cut.pem", &format!("{root}{}", &own[..own.len() / 2]));
    for (file, why) in [
        (place.path(), "is a directory"),
        (&pipe, "is a pipe"),
        (&place.path().join("none"), "No such file"),
        (&place.write("empty", ""), "has no certificate"),
        (&cut, "has no END line"),
    ] {
        let done = publish(file).expect(5);
        let start = format!("mahavishnu: SSL_CERT_FILE: {}: ", file.display());
        assert!(done.err.starts_with(&start) && done.err.contains(why), "{done:?}");
    }
    // Read, so that only the server is missing.
    let glued = place.write("glued.pem", &format!("{}{root}", own.trim_end()));
    assert!(!publish(&glued).err.contains("SSL_CERT_FILE"));
}

#[test]
fn a_key_that_was_changed_on_its_way_is_warned_about() {
    let secret = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
    for (changed, what) in [
        (format!("{secret}\n"), "a newline at the end"),
        (format!("\"{secret}\""), "quotes around it"),
    ] {
        let variables =
            [("MAHAVISHNU_JWT_SECRET", changed.as_str()), ("MAHAVISHNU_AUTH_ENABLED", "true")];
        let done = Place::new().run_with("config check", &variables).expect(0);
        let start = format!("warning: MAHAVISHNU_JWT_SECRET: the key has {what}");
        assert!(done.err.starts_with(&start) && !done.err.contains(secret), "{done:?}");
    }
}
