//! Each way in which a file can be handed over goes through every reader of the program: read as its author meant it, or
//! refused with its path.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::{
    exit::{Exit, Failure},
    policy::PolicyFile,
    revoked,
    settings::{self, Request, testing::load},
    tls,
};

/// A file of one kind, and its reader.
struct Reader {
    name: &'static str,
    good: String,
    /// Whether an empty file says something: that there is nothing.
    may_be_empty: bool,
    read: Box<Read>,
}

type Read = dyn Fn(&Path) -> Result<(), Failure>;

fn readers(dir: &Path) -> Vec<Reader> {
    let pair = |(exit, text)| Failure::new(exit, text);
    let mut readers = vec![
        Reader {
            name: "env",
            good: "# note\nMAHAVISHNU_PORT=1\nMAHAVISHNU_HOST=::1\n".into(),
            may_be_empty: true,
            read: Box::new(|path| {
                let request = Request {
                    env_file: Some(path.into()),
                    overrides: Vec::new(),
                    ..Request::default()
                };
                let loaded = settings::load(&request)?;
                let whole = [8686, 1].contains(&loaded.settings.port);
                assert!(whole && !loaded.settings.host.contains('\r'), "{:?}", loaded.settings);
                Ok(())
            }),
        },
        Reader {
            name: "policy",
            good: "# note\n[mahavishnu]\nfull_access = [\"root\"]\n".into(),
            may_be_empty: true,
            read: Box::new(move |path| PolicyFile::read(path).map(drop).map_err(pair)),
        },
        Reader {
            name: "revoked",
            good: "# note\n{\"user\":\"eve\"}\n".into(),
            may_be_empty: true,
            read: Box::new(move |path| revoked::read(path).map(drop).map_err(pair)),
        },
        Reader {
            name: "keys",
            good: "{\n\"a\": \"q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu\"\n}\n".into(),
            may_be_empty: false,
            read: Box::new(|path| {
                let loaded = load(&[("JWT_KEYS_FILE", path.to_str().unwrap())]);
                loaded.demand_all()?;
                assert_eq!(loaded.keys.len(), 1);
                Ok(())
            }),
        },
    ];
    readers.extend(tls_readers(dir));
    readers
}

/// One for each of the files of TLS, the others being good.
fn tls_readers(dir: &Path) -> Vec<Reader> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &root).unwrap();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2000, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&root).unwrap().pem().unwrap();
    let files = [
        ("CERT_FILE", own.pem()),
        ("KEY_FILE", key.serialize_pem()),
        ("CA_FILE", root.pem()),
        ("CRL_FILE", list),
    ];
    let good: Vec<(&str, PathBuf)> =
        files.iter().map(|(name, text)| (*name, written(dir, name, text.as_bytes()))).collect();
    let reader = |(name, good_text): (&'static str, String)| {
        let good = good.clone();
        let read = move |path: &Path| {
            let mut settings = vec![("TLS_ENABLED", "true"), ("VERIFY_CLIENT", "true")];
            for (other, good) in &good {
                let path = if *other == name { path } else { good };
                settings.push((other, path.to_str().unwrap()));
            }
            let loaded = load(&settings);
            loaded.demand_all()?;
            tls::load(&loaded.settings, None).map(drop)
        };
        Reader { name, good: good_text, may_be_empty: false, read: Box::new(read) }
    };
    files.into_iter().map(reader).collect()
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn harmless_differences_are_read_by_every_reader() {
    let dir = tempfile::tempdir().unwrap();
    for Reader { name, good, read, .. } in readers(dir.path()) {
        let changes: [(&str, String); 6] = [
            ("as it is", good.clone()),
            ("CR LF", good.replace('\n', "\r\n")),
            ("no final newline", good.trim_end().to_owned()),
            ("byte order mark", format!("\u{feff}{good}")),
            ("byte order mark and CR LF", format!("\u{feff}{}", good.replace('\n', "\r\n"))),
            ("empty lines around", format!("\n\n{good}\n\n")),
        ];
        for (change, text) in changes {
            let path = written(dir.path(), "changed", text.as_bytes());
            read(&path).unwrap_or_else(|failure| panic!("{name}, {change}: {failure}"));
            let link = dir.path().join("link");
            let _ = std::fs::remove_file(&link);
            symlink(&path, &link).unwrap();
            read(&link).unwrap_or_else(|failure| panic!("{name}, {change}, link: {failure}"));
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_every_reader_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let large = dir.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(super::BYTES_MAX + 1).unwrap();
    for Reader { name, good, may_be_empty, read } in readers(dir.path()) {
        let utf_16 =
            |unit: fn(u16) -> [u8; 2]| -> Vec<u8> { good.encode_utf16().flat_map(unit).collect() };
        let marked = [&[0xff, 0xfe], utf_16(u16::to_le_bytes).as_slice()].concat();
        let cases = [
            ("a directory", dir.path().to_owned(), "is a directory"),
            ("a pipe", pipe.clone(), "is a pipe"),
            ("a device", "/dev/zero".into(), "is no regular file"),
            ("nothing", dir.path().join("none"), "No such file or directory"),
            ("large", large.clone(), "has more than 64 MiB"),
            ("UTF-16", written(dir.path(), "a", &marked), "is UTF-16"),
            ("bare UTF-16", written(dir.path(), "b", &utf_16(u16::to_le_bytes)), "is UTF-16"),
            ("DER", written(dir.path(), "c", b"\x30\x82\x00\x01\x00"), ""),
            ("nothing in it", written(dir.path(), "d", b""), ""),
        ];
        for (case, path, why) in cases {
            if case == "nothing in it" && may_be_empty {
                read(&path).unwrap();
                continue;
            }
            let failure = read(&path).expect_err(case);
            assert_eq!(failure.exit, Exit::Configuration, "{name}, {case}: {failure}");
            assert_eq!(failure.lines.len(), 1, "{name}, {case}: {failure}");
            let line = &failure.lines[0];
            let has = line.contains(path.to_str().unwrap()) && line.contains(why);
            assert!(has, "{name}, {case}: {line}");
        }
    }
}
