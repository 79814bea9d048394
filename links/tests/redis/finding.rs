//! Finding Redis: names, Sentinels, TLS.

use std::{io::Write, net::TcpListener, path::PathBuf, time::Duration};

use mahavishnu_links::{LinkConfig, Outage, Servers, tls::Client};
use mahavishnu_test_redis::{Options, Redis, Sentinel};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::node::{Node, at, config, epoch};

#[test]
fn a_name_is_looked_up() {
    let redis = Redis::start();
    let servers = Servers::Single { host: "localhost".into(), port: redis.port() };
    let mut a = Node::begin(LinkConfig { servers, ..config(&redis) }, 1, 0);
    a.up();
    let servers = Servers::Single { host: "no.such.host.invalid".into(), port: 1 };
    let mut b = Node::begin(LinkConfig { servers, ..config(&redis) }, 2, 0);
    b.state("why not", |state| state.cause.is_some());
    assert!(b.stats.outages[Outage::Resolve as usize] > 0);
}

/// The primary dies, Sentinels make its replica the primary, and the link finds it.
#[test]
fn sentinels_know_where_the_primary_is() {
    let mut primary = Redis::start();
    let replica = Redis::with(Options::default().replica_of(&primary));
    replica.wait_synced();
    let sentinels: Vec<_> = (0..3).map(|_| Sentinel::start("main", &primary, 2, 500)).collect();
    for sentinel in &sentinels {
        sentinel.wait_for_others("main", 1, 2);
    }
    let mut addresses: Vec<(Box<str>, u16)> = sentinels
        .iter()
        .map(|sentinel| (sentinel.address().ip().to_string().into(), sentinel.address().port()))
        .collect();
    // One that is not there.
    addresses.insert(0, ("127.0.0.1".into(), 1));
    let sentinel = |master: &str| LinkConfig {
        servers: Servers::Sentinel {
            addresses: addresses.clone(),
            master: master.into(),
            username: None,
            password: None,
        },
        ..config(&primary)
    };
    let mut a = Node::begin(sentinel("main"), 1, 0);
    a.up();
    let founded = a.follow("c", epoch(1)).position.epoch;
    let append = a.new_append("c", "r");
    a.append(append).unwrap();
    let mut b = Node::begin(sentinel("other"), 2, 0);
    b.state("why not", |state| {
        state.cause.as_ref().is_some_and(|cause| cause.contains("no primary of this name"))
    });

    primary.ask(&["WAIT", "1", "5000"]);
    primary.kill();
    a.down();
    a.up();
    sentinels[0].wait_primary("main", replica.port());
    let append = a.new_append("c", "r");
    assert_eq!(a.append(append).unwrap().first, at(founded, 2));
}

/// Something that listens and is not Redis.
#[test]
fn what_is_not_redis_is_told_from_it() {
    let redis = Redis::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let servers = Servers::Single { host: "127.0.0.1".into(), port };
    let mut a = Node::begin(LinkConfig { servers, ..config(&redis) }, 1, 0);
    a.state("why not", |state| {
        state.cause.as_ref().is_some_and(|cause| cause.contains("does not speak RESP3"))
    });
    server.join().expect("a server");
}

struct Certificates {
    _dir: tempfile::TempDir,
    authority: String,
    certificate: PathBuf,
    key: PathBuf,
    authority_file: PathBuf,
}

fn certificates(name: &str) -> Certificates {
    let dir = tempfile::tempdir().expect("a folder");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate of its own name for one that is signed by itself.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("its folder is ours");
        path
    };
    Certificates {
        authority: issuer.pem(),
        certificate: file("certificate.pem", &certificate.pem()),
        key: file("key.pem", &key.serialize_pem()),
        authority_file: file("authority.pem", &issuer.pem()),
        _dir: dir,
    }
}

fn tls(redis: &Redis, client: Client) -> LinkConfig {
    let address = redis.tls_address();
    let servers = Servers::Single { host: address.ip().to_string().into(), port: address.port() };
    LinkConfig { servers, tls: Some(client), ..config(redis) }
}

#[test]
fn redis_speaks_tls() {
    let ours = certificates("redis.example");
    let options = Options::default().tls(&ours.certificate, &ours.key, Some(&ours.authority_file));
    let redis = Redis::with(options);
    let read = |path: &PathBuf| std::fs::read(path).expect("a file");
    let (certificate, key) = (read(&ours.certificate), read(&ours.key));
    let own = Some((&certificate[..], &key[..]));
    let authority = ours.authority.as_bytes();

    let client = Client::new(authority, own, Some("redis.example")).expect("a client");
    let mut a = Node::begin(tls(&redis, client), 1, 0);
    a.up();
    a.follow("c", epoch(1));
    // More than fits in what TLS keeps at a time, there and back.
    let records: &'static str = "x".repeat(1 << 20).leak();
    let append = a.new_append("c", records);
    a.append(append).unwrap();
    assert_eq!(a.read("c", 0, 0).unwrap().entries[0].records, records.as_bytes());

    let refused = |client: Result<Client, _>, part: &str| {
        let mut b = Node::begin(tls(&redis, client.expect("a client")), 2, 1);
        b.state(part, |state| state.cause.as_ref().is_some_and(|cause| cause.contains(part)));
        assert!(b.stats.outages[Outage::Tls as usize] + b.stats.outages[Outage::Eof as usize] > 0);
    };
    refused(Client::new(authority, own, Some("other.example")), "certificate is refused");
    refused(Client::new(authority, own, None), "certificate is refused");
    let other = certificates("redis.example");
    refused(
        Client::new(other.authority.as_bytes(), own, Some("redis.example")),
        "certificate is refused",
    );
    refused(Client::new(authority, None, Some("redis.example")), "Redis");
    // In plain to a port that speaks TLS, and the other way round.
    let mut plain =
        tls(&redis, Client::new(authority, own, Some("redis.example")).expect("a client"));
    plain.tls = None;
    let mut c = Node::begin(plain, 3, 0);
    c.state("why not", |state| state.cause.is_some());
    let mut wrong = config(&redis);
    wrong.connect_timeout = Duration::from_millis(500);
    wrong.tls = Some(Client::new(authority, own, Some("redis.example")).expect("a client"));
    let mut d = Node::begin(wrong, 4, 0);
    d.state("why not", |state| state.cause.is_some());
}
