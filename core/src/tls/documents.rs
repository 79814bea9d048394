//! PEM as people hand it over: each case goes through the readers of chains, keys and revocation lists. It is read as its
//! author meant it, or refused with a line; nothing gets lost.

use rcgen::KeyPair;

use super::{testing::Authority, *};

/// Two certificates, a key, and a revocation list, PEM.
struct Samples {
    certificates: [String; 2],
    key: String,
    list: String,
}

impl Samples {
    fn new() -> Self {
        let root = Authority::new("root");
        let issued = root.issue(&["a.example"]);
        Self {
            certificates: [issued.certificate, root.pem()],
            key: issued.key,
            list: root.list(&[]),
        }
    }

    /// A sample of each reader's, and how that reader gets along with it: how many it reads.
    fn readers(&self) -> [(&str, Read); 3] {
        [
            (&self.certificates[0], |pem| Chain::from_pem(pem).map(|chain| chain.len())),
            (&self.key, |pem| PrivateKey::from_pem(pem).map(|_| 1)),
            (&self.list, |pem| {
                let mut lists = RevocationLists::default();
                match lists.add_pem(pem) {
                    Ok(()) => Ok(lists.facts().len()),
                    Err(RevocationListError::Pem(error)) => Err(error),
                    Err(other) => panic!("{other}"),
                }
            }),
        ]
    }
}

type Read = fn(&[u8]) -> Result<usize, PemError>;
type Change = fn(&str) -> Vec<u8>;

#[test]
fn harmless_differences_are_read() {
    let cases: [(&str, Change); 15] = [
        ("as it is", |pem| pem.into()),
        ("CR LF", |pem| pem.replace('\n', "\r\n").into()),
        ("CR alone", |pem| pem.replace('\n', "\r").into()),
        ("no final newline", |pem| pem.trim_end().into()),
        ("byte order mark", |pem| format!("\u{feff}{pem}").into()),
        ("indented", |pem| {
            pem.lines().map(|line| format!("    {line}\n")).collect::<String>().into()
        }),
        ("spaces behind lines", |pem| pem.replace('\n', " \t\n").into()),
        ("empty lines between", |pem| pem.replace('\n', "\n\n").into()),
        ("all on one line", |pem| pem.trim_end().replace('\n', " ").into()),
        ("all on one line without spaces", |pem| pem.replace('\n', "").into()),
        ("quoted", |pem| format!("\"{}\"\n", pem.trim_end()).into()),
        ("text before", |pem| format!("Bag Attributes\n    friendlyName: x -- y\n{pem}").into()),
        ("text behind", |pem| format!("{pem}the END, begin again\n").into()),
        ("another block, commented out", |pem| {
            let off: String = pem.lines().map(|line| format!("# {line}\n")).collect();
            format!("{off}{pem}").into()
        }),
        ("parameters before", |pem| {
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{pem}")
                .into()
        }),
    ];
    let samples = Samples::new();
    for (name, change) in cases {
        for (pem, read) in samples.readers() {
            assert_eq!(read(&change(pem)), Ok(1), "{name}: {pem}");
        }
    }
}

#[test]
fn blocks_that_are_joined_without_a_newline_are_all_read() {
    let Samples { certificates: [one, other], key, list } = Samples::new();
    for glue in ["", " ", "\u{feff}", "\"\"", "\n", "\r"] {
        let joined = format!("{}{glue}{other}", one.trim_end());
        let chain = Chain::from_pem(joined.as_bytes()).unwrap();
        assert_eq!(chain.len(), 2, "{glue:?}");
        let alone = [&one, &other].map(|pem| Chain::from_pem(pem.as_bytes()).unwrap());
        assert!(chain.iter().eq(alone.iter().flat_map(Chain::iter)), "in order");
        let joined = format!("{}{glue}{key}", one.trim_end());
        assert_eq!(PrivateKey::from_pem(joined.as_bytes()).map(drop), Ok(()), "{glue:?}");
        let mut lists = RevocationLists::default();
        lists.add_pem(format!("{}{glue}{list}", list.trim_end()).as_bytes()).unwrap();
        assert_eq!(lists.facts().len(), 2, "{glue:?}");
    }
}

#[test]
fn what_is_broken_is_refused_with_its_line() {
    let cases: [(&str, Change, usize, PemFault); 15] = [
        ("END is missing", |pem| upto(pem, "-----END").into(), 3, PemFault::Unfinished),
        ("cut in the middle", |pem| pem[..pem.len() / 2].into(), 3, PemFault::Unfinished),
        ("BEGIN is missing", |pem| from(pem, "\n").into(), 0, PemFault::EndAlone),
        ("END of another", |pem| pem.replace("END ", "END OLD ").into(), 0, PemFault::OtherEnd),
        ("a line is lost", |pem| without_line(pem, 2).into(), 3, PemFault::Der),
        ("letters are lost", |pem| pem.replacen("\nM", "\n", 1).into(), 3, PemFault::Base64),
        ("lower case", |pem| pem.to_lowercase().into(), 3, PemFault::Begin),
        ("label in lower case", |pem| pem.replace("BEGIN ", "BEGIN x").into(), 3, PemFault::Begin),
        ("four dashes", |pem| pem.replacen("-----", "----", 1).into(), 3, PemFault::Begin),
        ("long dashes", |pem| pem.replace("-----", "\u{2014}-").into(), 3, PemFault::Begin),
        ("a name before it", |pem| format!("key: {pem}").into(), 3, PemFault::Before),
        ("quoted as mail", |pem| pem.replace("-----B", "> -----B").into(), 3, PemFault::Before),
        (
            "written breaks",
            |pem| pem.trim_end().replace('\n', "\\n").into(),
            3,
            PemFault::WrittenBreaks,
        ),
        ("another letter", |pem| pem.replacen("\nM", "\n*", 1).into(), 4, PemFault::Letter),
        ("a NUL", |pem| pem.replacen("\nM", "\nM\0", 1).into(), 4, PemFault::Letter),
    ];
    let samples = Samples::new();
    for (name, change, line, fault) in cases {
        for (pem, read) in samples.readers() {
            let document = [b"one\r\ntwo\n", change(pem).as_slice()].concat();
            // 0: the last line.
            let last = 2 + pem.lines().count() - usize::from(fault == PemFault::EndAlone);
            let line = if line == 0 { last } else { line };
            assert_eq!(read(&document), Err(PemError::Broken(line, fault)), "{name}: {pem}");
            // Nor does it get lost behind a good one.
            let behind = [pem.as_bytes(), change(pem).as_slice()].concat();
            assert!(
                matches!(read(&behind), Err(PemError::Broken(_, at)) if at == fault),
                "{name}: {pem}"
            );
        }
    }
}

#[test]
fn wherever_a_document_is_cut_nothing_gets_lost() {
    let Samples { certificates: [one, other], .. } = Samples::new();
    let one = one.trim_end();
    let both = format!("{one}{}", other.trim_end());
    for cut in 0..=both.len() {
        let read = Chain::from_pem(&both.as_bytes()[..cut]).map(|chain| chain.len());
        if cut == both.len() {
            assert_eq!(read, Ok(2));
        } else if (one.len()..=one.len() + 5).contains(&cut) {
            assert_eq!(read, Ok(1), "{cut}");
        } else if cut > 5 {
            assert!(matches!(read, Err(PemError::Broken(..))), "{cut}: {read:?}");
        } else {
            assert_eq!(read, Err(PemError::NoCertificate), "{cut}");
        }
    }
}

#[test]
fn whatever_letter_is_missing_nothing_gets_lost() {
    let Samples { certificates: [one, other], .. } = Samples::new();
    for glue in ["", "\n"] {
        let both = format!("{}{glue}{other}", one.trim_end());
        let whole = Chain::from_pem(both.as_bytes()).unwrap();
        for at in 0..both.len() {
            let mut missing = both.clone().into_bytes();
            let letter = missing.remove(at);
            match Chain::from_pem(&missing) {
                Ok(chain) => assert!(letter == b'\n' && chain == whole, "{at}"),
                Err(error) => assert!(letter != b'\n', "{at}: {error}"),
            }
        }
    }
}

#[test]
fn other_formats_are_told_by_name() {
    let samples = Samples::new();
    for (pem, read) in samples.readers() {
        let wide: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&wide), Err(PemError::Utf16));
        assert_eq!(read(&[&[0xff, 0xfe], wide.as_slice()].concat()), Err(PemError::Utf16));
        assert_eq!(read(b"\x30\x82\x01\x00\x30"), Err(PemError::Binary));
    }
    let [one, _] = &samples.certificates;
    let trusted = one.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let bag = "-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n";
    let chain = |pem: String| Chain::from_pem(pem.as_bytes()).map(|chain| chain.len());
    assert_eq!(chain(trusted), Err(PemError::Broken(1, PemFault::Trusted)));
    assert_eq!(chain(bag.to_owned()), Err(PemError::Broken(1, PemFault::Pkcs7)));
    assert_eq!(
        chain(one.replace("CERTIFICATE", "X509 CERTIFICATE")),
        Ok(1),
        "OpenSSL's older name"
    );
}

#[test]
fn of_two_keys_none_is_chosen() {
    let Samples { key, .. } = Samples::new();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let read = |pem: String| PrivateKey::from_pem(pem.as_bytes()).map(drop);
    let line = 1 + key.lines().count();
    assert_eq!(read(format!("{key}{other}")), Err(PemError::SeveralKeys(1, line)));
    assert_eq!(read(format!("{key}{key}")), Ok(()), "the same one twice");
    let foreign = key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY");
    assert_eq!(read(foreign), Err(PemError::OtherKey));
}

fn upto<'a>(text: &'a str, part: &str) -> &'a str {
    text.split_once(part).unwrap().0
}

fn from<'a>(text: &'a str, part: &str) -> &'a str {
    text.split_once(part).unwrap().1
}

fn without_line(text: &str, number: usize) -> String {
    text.lines()
        .zip(1..)
        .filter(|(_, at)| *at != number)
        .map(|(line, _)| format!("{line}\n"))
        .collect()
}
