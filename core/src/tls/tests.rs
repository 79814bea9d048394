use super::{testing::Authority, *};

#[test]
fn documents_are_told_apart() {
    let issued = Authority::new("root").issue(&["a.example"]);
    let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
    let chain = |pem| Chain::from_pem(pem).map(|chain| chain.len());
    let both = [certificate, key].concat();
    assert_eq!(chain(certificate), Ok(1));
    assert_eq!(chain(&both), Ok(1), "a key beside the certificate does no harm");
    assert_eq!(chain(key), Err(PemError::KeyInstead));
    assert_eq!(chain(b"hello"), Err(PemError::NoCertificate));
    let torn = issued.certificate.replace("-----END", "");
    assert_eq!(chain(torn.as_bytes()), Err(PemError::Broken(1, PemFault::Unfinished)));

    let key_of = |pem| PrivateKey::from_pem(pem).map(drop);
    assert_eq!(key_of(key), Ok(()));
    assert_eq!(key_of(&both), Ok(()));
    assert_eq!(key_of(certificate), Err(PemError::CertificateInstead));
    assert_eq!(key_of(b""), Err(PemError::NoKey));
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        assert_eq!(key_of(encrypted.as_bytes()), Err(PemError::Encrypted));
    }
}

#[test]
fn a_key_must_belong_to_its_certificate() {
    let root = Authority::new("root");
    let (one, other) = (root.issue(&["a.example"]), root.issue(&["b.example"]));
    let chain = Chain::from_pem(one.certificate.as_bytes()).unwrap();
    let key = PrivateKey::from_pem(other.key.as_bytes()).unwrap();
    assert_eq!(Certified::new(chain, &key).unwrap_err(), CertifiedError::Mismatch);
}

#[test]
fn a_certificate_is_read() {
    let issued = Authority::new("root").issue(&["Ws.example", "127.0.0.1", "::1"]);
    let certified = issued.certified();
    let facts = &certified.facts()[0];
    let names: Vec<_> = facts.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["dns:ws.example", "ip:127.0.0.1", "ip:::1", "cn:Ws.example"]);
    assert_eq!(facts.key, Key::Ecdsa(256));
    assert_eq!((facts.weakness(), facts.is_authority, facts.self_issued), (None, false, false));
    assert!(facts.subject.contains("Ws.example") && facts.issuer.contains("root"), "{facts:?}");
    // 2026-01-01 and 2027-01-01.
    assert_eq!(
        (facts.not_before.as_secs(), facts.not_after.as_secs()),
        (1_767_225_600, 1_798_761_600)
    );
    assert!(facts.is_valid_at(facts.not_after) && !facts.is_valid_at(facts.not_after * 2));
}

#[test]
fn a_chain_in_the_wrong_order_is_found() {
    let (root, stranger) = (Authority::new("root"), Authority::new("stranger"));
    let issued = root.issue(&["a.example"]);
    let with = |further: String| {
        let pem = issued.certificate.clone() + &further;
        Chain::from_pem(pem.as_bytes()).unwrap().break_in_order()
    };
    assert_eq!(with(String::new()), None);
    assert_eq!(with(root.pem()), None);
    assert_eq!(with(stranger.pem()), Some(1));
    assert_eq!(with(root.pem() + &stranger.pem()), Some(2));
    // The same name does not make the same authority.
    assert_eq!(with(Authority::new("root").pem()), Some(1));
}

#[test]
fn nothing_shows_a_key() {
    let issued = Authority::new("root").issue(&["a.example"]);
    let shown =
        format!("{:?} {:?}", issued.certified(), PrivateKey::from_pem(issued.key.as_bytes()));
    let secret: String = issued.key.lines().nth(1).unwrap().chars().take(20).collect();
    assert!(!shown.contains(&secret) && shown.contains("PrivateKey(..)"));
}

#[test]
fn an_applications_own_configuration_is_taken_unless_it_speaks_something_else() {
    let issued = Authority::new("root").issue(&["a.example"]);
    let from = |change: fn(&mut rustls::ServerConfig)| {
        let mut config = issued.config();
        change(&mut config);
        Server::from_config(config.into(), Vec::new()).map(|server| server.expires())
    };
    assert_eq!(from(|_| {}), Ok(None));
    assert_eq!(from(|config| config.alpn_protocols = vec![b"http/1.1".to_vec()]), Ok(None));
    let both = |config: &mut rustls::ServerConfig| {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    };
    assert_eq!(from(both), Err(ServerError::Protocol));
    assert_eq!(from(|config| config.max_early_data_size = 1), Err(ServerError::EarlyData));

    let facts = issued.certified().facts().to_vec();
    let expires = facts[0].not_after;
    let server = Server::from_config(issued.config().into(), facts).unwrap();
    assert_eq!(server.expires(), Some(expires));
}
