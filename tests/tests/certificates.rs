//! Certificates as people make them: what `cert check` says of each, whether a server starts with it, and whether our
//! clients, curl and Python take it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use mahavishnu_tests::{
    Server,
    certs::{Authority, text},
    foreign::{self, python},
    server::{self, Done},
};

/// A certificate, its key, and what a client is to trust.
struct Made {
    dir: tempfile::TempDir,
    trusted: PathBuf,
}

impl Made {
    fn by(make: impl FnOnce(&Path) -> &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trusted = dir.path().join(make(dir.path()));
        Self { dir, trusted }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn check(&self) -> Done {
        let args = ["cert", "check", "--cert", &self.at("c.pem"), "--key", &self.at("k.pem")];
        server::run(self.dir.path(), &[], &args)
    }

    fn server(&self) -> Server {
        let (certificate, key) = (self.at("c.pem"), self.at("k.pem"));
        let settings = [("TLS_ENABLED", "true"), ("CERT_FILE", &*certificate), ("KEY_FILE", &*key)];
        Server::with(&settings)
    }

    /// What a start says that comes to nothing.
    fn refused(&self) -> Done {
        let (certificate, key) = (self.at("c.pem"), self.at("k.pem"));
        let settings = [
            ("MAHAVISHNU_TLS_ENABLED", "true"),
            ("MAHAVISHNU_CERT_FILE", &*certificate),
            ("MAHAVISHNU_KEY_FILE", &*key),
            ("MAHAVISHNU_PORT", "0"),
            ("MAHAVISHNU_METRICS_PORT", "0"),
        ];
        server::run(self.dir.path(), &settings, &["websocket", "start"])
    }
}

/// Runs openssl in a directory, with arguments as one would type them; `'` groups.
fn openssl(dir: &Path, line: &str) {
    let command = format!("cd '{}' && openssl {line}", dir.display());
    foreign::text(Command::new("bash").args(["-ec", &command]));
}

const SAN: &str = "-addext subjectAltName=DNS:localhost,IP:127.0.0.1";

/// One that signs itself, as tutorials have it. More options come before the names.
fn self_signed(dir: &Path, key: &str, options: &str) -> &'static str {
    let line = format!(
        "req -x509 -newkey {key} -nodes -days 90 -keyout k.pem -out c.pem -subj /CN=localhost {options}"
    );
    openssl(dir, &line);
    "c.pem"
}

/// An authority and a certificate that it signed, with these lines of extensions.
fn signed(dir: &Path, extensions: &str) -> &'static str {
    openssl(
        dir,
        "req -x509 -newkey rsa:2048 -nodes -days 90 -keyout ca-key.pem -out ca.pem -subj '/CN=our authority'",
    );
    openssl(dir, "req -newkey rsa:2048 -nodes -keyout k.pem -out request.pem -subj /CN=localhost");
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    let file = if extensions.is_empty() { "" } else { "-extfile extensions" };
    let line = format!(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 90 -out c.pem {file}"
    );
    openssl(dir, &line);
    "ca.pem"
}

/// What each client says of a server at `host`: nothing if it is taken.
fn clients(made: &Made, server: &Server, host: &str) -> [String; 4] {
    let port = server.address().port();
    let (https, wss) = (format!("https://{host}:{port}"), format!("wss://{host}:{port}"));
    let trusted = made.trusted.display().to_string();
    let run = |args: &[&str]| {
        let done = server::run(made.dir.path(), &[("SSL_CERT_FILE", &trusted)], args);
        if done.code == Some(0) { String::new() } else { done.stderr }
    };
    let published = run(&["publish", "--url", &https, "workflow:1", "e", "{}"]);
    // A listener whom somebody publishes to until it has heard enough.
    let heard = if published.is_empty() {
        let settings = [("SSL_CERT_FILE", &*trusted)];
        let args = ["subscribe", "--url", &wss, "--count", "1", "workflow:2"];
        let mut listener = server::spawn_in(made.dir.path(), &settings, &args);
        while listener.is_running() {
            run(&["publish", "--url", &https, "workflow:2", "e", "{}"]);
        }
        let done = listener.finish();
        assert!(
            done.stderr.contains(&format!("subscribed to \"workflow:2\" at {wss}")),
            "{done:?}"
        );
        if done.code == Some(0) { String::new() } else { done.stderr }
    } else {
        run(&["subscribe", "--url", &wss, "--no-reconnect", "workflow:2"])
    };
    let health = format!("{https}/health");
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--cacert", &trusted, &health])
        .output()
        .unwrap();
    let curl = if curl.status.success() {
        String::new()
    } else {
        String::from_utf8_lossy(&curl.stderr).into_owned()
    };
    let python = python("tls_health.py", &[&https, &trusted]);
    let python = if python.trim() == "ok" { String::new() } else { python };
    [published, heard, curl, python]
}

/// How somebody makes a certificate, and what comes of it.
struct Case {
    name: &'static str,
    make: fn(&Path) -> &'static str,
    /// Code of `cert check`, and a part of what it says.
    check: (i32, &'static str),
    /// Our clients' refusal has these words; none: they take it.
    ours: &'static str,
    /// Whether curl and Python take it.
    others: (bool, bool),
}

const CASES: &[Case] = &[
    Case {
        name: "req -x509, RSA: an authority's own",
        make: |dir| self_signed(dir, "rsa:2048", SAN),
        check: (0, "is an authority's own (CA:TRUE)"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "req -x509, P-256",
        make: |dir| self_signed(dir, "ec -pkeyopt ec_paramgen_curve:prime256v1", SAN),
        check: (0, "ECDSA P-256"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "req -x509, P-384",
        make: |dir| self_signed(dir, "ec -pkeyopt ec_paramgen_curve:secp384r1", SAN),
        check: (0, "ECDSA P-384"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "req -x509, P-521",
        make: |dir| self_signed(dir, "ec -pkeyopt ec_paramgen_curve:secp521r1", SAN),
        check: (0, "ECDSA P-521"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "req -x509, Ed25519",
        make: |dir| self_signed(dir, "ed25519", SAN),
        check: (0, "Ed25519"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "req -x509, CA:FALSE",
        make: |dir| {
            let options = format!("{SAN} -addext basicConstraints=critical,CA:FALSE");
            self_signed(dir, "rsa:2048", &options)
        },
        check: (0, "the key file matches"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "req -x509 without alternative names",
        make: |dir| self_signed(dir, "rsa:2048", ""),
        check: (0, "has no alternative names: browsers, Go and rustls refuse it"),
        ours: "has no alternative names (subjectAltName)",
        others: (true, true),
    },
    Case {
        name: "signed by an authority, as mkcert does",
        make: |dir| {
            signed(dir, "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        },
        check: (0, "1 certificate, in order"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "signed, with its authority in the file, PKCS#1",
        make: |dir| {
            let trusted = signed(dir, "subjectAltName=DNS:localhost\n");
            openssl(dir, "pkey -traditional -in k.pem -out old.pem");
            std::fs::rename(dir.join("old.pem"), dir.join("k.pem")).unwrap();
            assert!(std::fs::read_to_string(dir.join("k.pem")).unwrap().contains("BEGIN RSA"));
            let chain = ["c.pem", "ca.pem"].map(|n| std::fs::read_to_string(dir.join(n)).unwrap());
            std::fs::write(dir.join("c.pem"), chain.concat()).unwrap();
            trusted
        },
        check: (0, "2 certificates, in order"),
        ours: "",
        others: (true, true),
    },
    Case {
        name: "for clients only",
        make: |dir| signed(dir, "subjectAltName=DNS:localhost\nextendedKeyUsage=clientAuth\n"),
        check: (0, "is not for servers"),
        ours: "is not for servers (its extended key usage names other purposes)",
        others: (false, false),
    },
    Case {
        name: "signed, and an authority besides",
        make: |dir| signed(dir, "subjectAltName=DNS:localhost\nbasicConstraints=CA:TRUE\n"),
        check: (0, "is an authority's own (CA:TRUE)"),
        ours: "is not itself among those that are trusted; name its file by SSL_CERT_FILE",
        others: (true, true),
    },
    Case {
        name: "for another name",
        make: |dir| signed(dir, "subjectAltName=DNS:other.example\n"),
        check: (0, "dns:other.example"),
        ours: "is for dns:other.example, not for localhost; use one of its names",
        others: (false, false),
    },
    Case {
        name: "signed by somebody else",
        make: |dir| {
            signed(dir, "subjectAltName=DNS:localhost\n");
            std::fs::create_dir(dir.join("other")).unwrap();
            signed(&dir.join("other"), "subjectAltName=DNS:localhost\n");
            "other/ca.pem"
        },
        check: (0, "1 certificate, in order"),
        ours: "certificate",
        others: (false, false),
    },
    Case {
        name: "like the one that is trusted, but made by somebody else",
        make: |dir| {
            std::fs::create_dir(dir.join("other")).unwrap();
            self_signed(&dir.join("other"), "rsa:2048", SAN);
            self_signed(dir, "rsa:2048", SAN);
            "other/c.pem"
        },
        check: (0, "is an authority's own (CA:TRUE)"),
        ours: "is not itself among those that are trusted",
        others: (false, false),
    },
    Case {
        name: "trusted itself, for another name",
        make: |dir| self_signed(dir, "rsa:2048", "-addext subjectAltName=DNS:other.example"),
        check: (0, "dns:other.example"),
        ours: "not for localhost; use one of its names in the URL",
        others: (false, false),
    },
];

#[test]
fn certificates_as_people_make_them_are_taken_or_refused_in_words() {
    for case in CASES {
        let made = Made::by(case.make);
        let check = made.check();
        let name = case.name;
        assert_eq!(check.code, Some(case.check.0), "{name}: {check:?}");
        assert!(check.stdout.contains(case.check.1), "{name}: {check:?}");
        let server = made.server();
        let [published, subscribed, curl, python] = clients(&made, &server, "localhost");
        for ours in [&published, &subscribed] {
            assert_eq!(ours.is_empty(), case.ours.is_empty(), "{name}: {ours}");
            assert!(ours.contains(case.ours), "{name}: {ours}");
            // The names that a library has for it are not words.
            assert!(!ours.contains("Other(") && !ours.contains("CaUsed"), "{name}: {ours}");
        }
        assert_eq!((curl.is_empty(), python.is_empty()), case.others, "{name}: {curl}{python}");
    }
}

/// A name, how it is made, the code of `cert check`, and words of the remedy.
type Useless = (&'static str, fn(&Path), i32, &'static str);

#[test]
fn what_no_server_can_use_is_refused_with_a_remedy() {
    let cases: [Useless; 9] = [
        (
            "x509 -req without extensions",
            |dir| {
                signed(dir, "");
            },
            10,
            "is of an X.509 version before 3, which cannot be used; make one of version 3",
        ),
        (
            "secp256k1",
            |dir| {
                self_signed(dir, "ec -pkeyopt ec_paramgen_curve:secp256k1", SAN);
            },
            10,
            "(the certificate's is ECDSA secp256k1); use RSA of 2048 to 8192 bits, ECDSA on P-256",
        ),
        (
            "Ed448",
            |dir| {
                self_signed(dir, "ed448", SAN);
            },
            10,
            "(the certificate's is Ed448); use RSA of 2048 to 8192 bits, ECDSA on P-256",
        ),
        (
            "a critical extension",
            |dir| {
                let options = format!("{SAN} -addext 1.2.3.4=critical,DER:0500");
                self_signed(dir, "ed25519", &options);
            },
            10,
            "has a critical extension that no client knows",
        ),
        (
            "another key",
            |dir| {
                self_signed(dir, "rsa:2048", SAN);
                openssl(dir, "genpkey -algorithm ed25519 -out k.pem");
            },
            10,
            "does not belong to the certificate",
        ),
        (
            "an encrypted key",
            |dir| {
                self_signed(dir, "rsa:2048", SAN);
                openssl(dir, "pkey -aes256 -passout pass:secret -in k.pem -out e.pem");
                std::fs::rename(dir.join("e.pem"), dir.join("k.pem")).unwrap();
            },
            10,
            "openssl pkey",
        ),
        (
            "RSA with 1024 bits",
            |dir| {
                self_signed(dir, "rsa:1024", SAN);
            },
            10,
            "2048",
        ),
        (
            "DSA",
            |dir| {
                openssl(dir, "dsaparam -out p.pem 2048");
                openssl(dir, "gendsa -out k.pem p.pem");
                let line =
                    format!("req -x509 -new -key k.pem -out c.pem -subj /CN=localhost {SAN}");
                openssl(dir, &line);
            },
            10,
            "P-256",
        ),
        (
            "expired",
            |dir| {
                openssl(dir, "genpkey -algorithm ed25519 -out k.pem");
                let line = format!(
                    "req -new -key k.pem -out r.pem -subj /CN=localhost {SAN} && openssl x509 -req -in r.pem -signkey k.pem -copy_extensions copy -days -1 -out c.pem"
                );
                openssl(dir, &line);
            },
            10,
            "expired on",
        ),
    ];
    for (name, make, code, words) in cases {
        let made = Made::by(|dir| {
            make(dir);
            "c.pem"
        });
        let check = made.check();
        assert_eq!(check.code, Some(code), "{name}: {check:?}");
        assert!(check.stdout.contains(words), "{name}: {check:?}");
        let start = made.refused();
        assert_eq!(start.code, Some(5), "{name}: {start:?}");
        assert!(start.stderr.contains(words), "{name}: {start:?}");
    }
}

/// A server of OpenSSL, which shows whatever it is given.
struct Foreign(Child, u16);

impl Foreign {
    fn new(certificate: &Path, key: &Path) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", text(certificate)])
            .args(["-key", text(key)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let place = lines.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.to_owned()));
        let port = place.and_then(|place| place.rsplit(':').next()?.parse().ok());
        // What it says is taken until it ends.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, port.expect("it says where it listens"))
    }

    /// What `publish` and `subscribe` say of it.
    fn heard(&self, trusted: &Path) -> [String; 2] {
        let dir = tempfile::tempdir().unwrap();
        let (https, wss) =
            (format!("https://localhost:{}", self.1), format!("wss://localhost:{}", self.1));
        [
            &["publish", "--url", &https, "a", "e", "{}"][..],
            &["subscribe", "--url", &wss, "--no-reconnect", "a"],
        ]
        .map(|args| server::run(dir.path(), &[("SSL_CERT_FILE", text(trusted))], args).stderr)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its bytes are what it is known by, and all but its signature is verified as ever. A server that would not start with
/// such a certificate is played by another.
#[test]
fn a_certificate_that_is_trusted_itself_is_good_for_its_time_and_its_use_only() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    self_signed(dir.path(), "ed25519", SAN);
    let twin = format!("req -new -x509 -key k.pem -days 9 -out twin.pem -subj /CN=localhost {SAN}");
    openssl(dir.path(), &twin);
    let clients = format!(
        "req -new -x509 -key k.pem -days 9 -out clients.pem -subj /CN=localhost {SAN} -addext extendedKeyUsage=clientAuth"
    );
    openssl(dir.path(), &clients);
    let old = "req -new -key k.pem -out r.pem -subj /CN=localhost && openssl x509 -req -in r.pem -signkey k.pem -days 9 -out old.pem";
    openssl(dir.path(), old);
    let authority = Authority::new(dir.path(), "authority");
    let expired = authority.issue("expired", &["localhost"], (-30, -1));
    let early = authority.issue("early", &["localhost"], (2, 30));
    let key = at("k.pem");
    for (certificate, key, trusted, words) in [
        (at("twin.pem"), &key, at("c.pem"), "is not itself among those that are trusted"),
        (at("clients.pem"), &key, at("clients.pem"), "is not for servers"),
        (at("old.pem"), &key, at("old.pem"), "is of X.509 version 1"),
        (expired.certificate.clone(), &expired.key, expired.certificate, "expired on "),
        (early.certificate.clone(), &early.key, early.certificate, "is not valid before "),
    ] {
        let foreign = Foreign::new(&certificate, key);
        for said in foreign.heard(&trusted) {
            assert!(said.contains("the server's certificate ") && said.contains(words), "{said}");
        }
    }
    let stranger = authority.server("stranger");
    let server = Server::with(&stranger.settings());
    let url = format!("https://localhost:{}", server.address().port());
    let trusted = [("SSL_CERT_FILE", text(&stranger.certificate))];
    // Its authority need not be known.
    let done = server::run(dir.path(), &trusted, &["publish", "--url", &url, "a", "e", "{}"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}
