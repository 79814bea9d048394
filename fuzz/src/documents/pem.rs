//! Certificates, keys and revocation lists.

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use mahavishnu_core::tls::{
    Certified, Chain, Facts, PemError, PrivateKey, RevocationListError, RevocationLists,
};

use super::{hides, told};

pub(super) fn run(document: &[u8]) {
    let twice = [document, b"\n", document].concat();
    chain(document, &twice);
    key(document, &twice);
    lists(document, &twice);
    let _ = Facts::of(document);
}

/// What is said about a document with a secret in it.
pub(super) fn say(document: &[u8]) {
    let chain = Chain::from_pem(document);
    let key = PrivateKey::from_pem(document);
    if let (Ok(chain), Ok(key)) = (&chain, &key) {
        told(Certified::new(chain.clone(), key).err());
    }
    hides(&format!("{chain:?} {key:?}"));
    told(chain.err());
    told(key.err());
    told(RevocationLists::default().add_pem(document).err());
}

fn chain(document: &[u8], twice: &[u8]) {
    let chain = match Chain::from_pem(document) {
        Ok(chain) => chain,
        Err(error) => {
            is_placed(error, document);
            assert!(Chain::from_pem(twice).is_err(), "it is no better twice");
            return;
        }
    };
    assert!(!chain.is_empty());
    let double = Chain::from_pem(twice).expect("two good documents are one");
    assert!(double.iter().eq(chain.iter().chain(chain.iter())), "none is lost, none is new");
    for form in forms(chain.iter()) {
        assert_eq!(Chain::from_pem(&form).as_ref(), Ok(&chain), "{}", form.escape_ascii());
    }
    match chain.facts() {
        Ok(facts) => {
            assert_eq!(facts.len(), chain.len());
            for (facts, der) in facts.iter().zip(chain.iter()) {
                assert_eq!(Facts::of(der).as_ref(), Ok(facts));
                let _ = (facts.weakness(), facts.peculiarities());
                assert!(facts.alternative_names().count() <= facts.names.len());
            }
        }
        Err(place) => assert!((1..=chain.len()).contains(&place), "{place}"),
    }
    if let Some(place) = chain.break_in_order() {
        assert!((1..chain.len()).contains(&place), "the last has no next one: {place}");
    }
    if let Ok(key) = PrivateKey::from_pem(document)
        && let Ok(certified) = Certified::new(chain.clone(), &key)
    {
        assert_eq!(Ok(certified.facts().to_vec()), chain.facts());
    }
}

fn key(document: &[u8], twice: &[u8]) {
    match PrivateKey::from_pem(document) {
        Ok(key) => {
            assert_eq!(format!("{key:?}"), "PrivateKey(..)");
            assert!(PrivateKey::from_pem(twice).is_ok(), "the same key twice is one");
        }
        Err(error) => {
            is_placed(error, document);
            assert!(PrivateKey::from_pem(twice).is_err(), "it is no better twice");
        }
    }
}

fn lists(document: &[u8], twice: &[u8]) {
    let (mut once, mut double) = (RevocationLists::default(), RevocationLists::default());
    match once.add_pem(document) {
        Ok(()) => {
            assert!(!once.is_empty());
            double.add_pem(twice).expect("two good documents are one");
            once.add_pem(document).expect("what can be read can be read again");
            assert_eq!(once.facts(), double.facts(), "none is lost, none is new");
        }
        Err(error) => {
            match error {
                RevocationListError::Pem(error) => is_placed(error, document),
                RevocationListError::Unreadable(place) => assert!(place >= 1),
                RevocationListError::Nothing => {}
                other => panic!("{other:?} is to be judged here"),
            }
            assert!(double.add_pem(twice).is_err(), "it is no better twice");
        }
    }
    if let Ok(chain) = Chain::from_pem(document) {
        let missing = once.missing(&chain);
        assert!(
            missing.is_none() || chain.facts().is_err() || once.facts().len() < 2 * chain.len()
        );
    }
}

/// Lines that an error names are lines of the document.
fn is_placed(error: PemError, document: &[u8]) {
    let lines = 1 + document.iter().filter(|byte| b"\r\n".contains(byte)).count();
    if let PemError::Broken(line, _) = error {
        assert!((1..=lines).contains(&line), "{line} of {lines}");
    }
    if let PemError::SeveralKeys(one, other) = error {
        assert!(1 <= one && one <= other && other <= lines, "{one} {other} of {lines}");
    }
}

/// The same certificates as programs write them: in lines of 64, of Windows, behind a byte order mark, glued together, each
/// on one line, indented, and with notes between them.
fn forms<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut forms = vec![Vec::new(); 6];
    forms[2].extend("\u{feff}".as_bytes());
    for der in certificates {
        let text = BASE64.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).collect();
        let block = |newline: &[u8]| {
            let body = lines.join(newline);
            [
                &b"-----BEGIN CERTIFICATE-----"[..],
                newline,
                &body,
                newline,
                b"-----END CERTIFICATE-----",
            ]
            .concat()
        };
        forms[0].extend([block(b"\n"), b"\n".to_vec()].concat());
        forms[1].extend([block(b"\r\n"), b"\r\n".to_vec()].concat());
        forms[2].extend([block(b"\n"), b"\n".to_vec()].concat());
        forms[3].extend(block(b"\n"));
        forms[4].extend([block(b""), b"\n".to_vec()].concat());
        forms[5].extend([b"a note\n  ", &block(b"\n  ")[..], b"\n"].concat());
    }
    forms
}
