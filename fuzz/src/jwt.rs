//! Tokens: nothing is accepted that was not signed, and of what was signed exactly what the rules allow.
//!
//! Signatures are made and checked here by the `hmac` crate, so that a mistake of the library that the core uses is not
//! its own judge. For tokens that are made from parts the whole result is compared with a naive model.

use std::{fmt::Write as _, sync::LazyLock, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use mahavishnu_core::auth::{Algorithm, Claims, Denied, Grants, KeySet, Pattern, TokenRules};
use serde_json::{Map, Value};

use crate::trace::START_UNIX;

/// Input: a token as text if the first byte is even, otherwise a script that makes one.
pub fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    if first % 2 == 0 {
        let token = String::from_utf8_lossy(rest);
        let accepted = KEYS.verify(&token, START_UNIX, &TokenRules::default()).is_ok();
        assert!(!accepted || is_signed(&token), "accepted {token}");
    } else if let Ok(script) = Script::arbitrary(&mut Unstructured::new(rest)) {
        play(&script);
    }
}

#[derive(Arbitrary, Debug)]
struct Script<'a> {
    header: Header<'a>,
    claims: Body<'a>,
    key: u8,
    hash: Hash,
    /// Changes after signing: where, and by what.
    damage: Vec<(u16, u8)>,
    rules: Rules,
    /// Milliseconds since the usual time.
    later: i16,
}

#[derive(Arbitrary, Debug)]
enum Header<'a> {
    Parts { alg: Alg, kid: Kid, crit: Option<bool> },
    Raw(&'a [u8]),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Alg {
    Hs(Hash),
    None,
    Rs256,
    Es256,
    EdDsa,
    LowerCase,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kid {
    Absent,
    Null,
    Named,
    Public,
    Unknown,
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    Claims(Vec<(Name, Content)>),
    Raw(&'a [u8]),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Name {
    Exp,
    Nbf,
    Iat,
    Aud,
    Iss,
    Sub,
    UserId,
    Permissions,
    Scopes,
    Jti,
}

#[derive(Arbitrary, Debug)]
enum Content {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    /// Seconds from now.
    Soon(i8),
    Float(f64),
    SoonFloat(i8),
    Word(Word),
    Words(Vec<Word>),
    Mixed(Word, i8),
    Object,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Word {
    Empty,
    Ours,
    Other,
    List,
    Long,
}

#[derive(Arbitrary, Debug)]
struct Rules {
    require_exp: bool,
    audience: Option<u8>,
    issuer: bool,
    leeway: u8,
    audience_optional: bool,
}

fn play(script: &Script<'_>) {
    let header = match &script.header {
        Header::Raw(bytes) => bytes.to_vec(),
        Header::Parts { alg, kid, crit } => header_text(*alg, *kid, *crit).into_bytes(),
    };
    let claims = match &script.claims {
        Body::Raw(bytes) => bytes.to_vec(),
        Body::Claims(claims) => claims_text(claims).into_bytes(),
    };
    let message = format!("{}.{}", BASE64.encode(&header), BASE64.encode(&claims));
    let secret = SECRETS[usize::from(script.key) % SECRETS.len()];
    let mut token = format!("{message}.{}", BASE64.encode(sign(script.hash, secret, &message)));
    for (at, by) in script.damage.iter().take(4) {
        token = damage(&token, *at, *by);
    }
    let unix = if script.later < 0 {
        START_UNIX - Duration::from_millis(u64::from(script.later.unsigned_abs()))
    } else {
        START_UNIX + Duration::from_millis(u64::from(script.later.unsigned_abs()))
    };
    let rules = rules(&script.rules);

    let result = KEYS.verify(&token, unix, &rules);

    if result.is_ok() {
        assert!(is_signed(&token), "accepted {token}");
    }
    let Header::Parts { alg, kid, crit } = script.header else { return };
    if !script.damage.is_empty() {
        return;
    }
    if token.len() > rules.token_bytes_max {
        assert_eq!(result, Err(Denied::Malformed));
    } else if let Err(denied) = signature(script, alg, kid, crit.is_some()) {
        assert_eq!(result, Err(denied));
    } else if let Ok(map) = serde_json::from_slice::<Map<String, Value>>(&claims) {
        // The library reads registered claims once more, and refuses a token that repeats one or nests another.
        if result != Err(Denied::Malformed) || !is_doubtful(&script.claims, &map) {
            assert_eq!(result, model(&map, unix, &rules), "{map:?} at {unix:?}");
        }
    } else {
        assert_eq!(result, Err(Denied::Malformed));
    }
}

/// Whether a registered claim is repeated, or is an array or object.
fn is_doubtful(claims: &Body<'_>, map: &Map<String, Value>) -> bool {
    let Body::Claims(claims) = claims else { return true };
    let nested = ["exp", "nbf", "sub", "iss", "aud"]
        .iter()
        .any(|name| map.get(*name).is_some_and(|value| value.is_array() || value.is_object()));
    nested || claims.len() > map.len()
}

/// What the header and the signature of an undamaged token lead to.
fn signature(script: &Script<'_>, alg: Alg, kid: Kid, crit: bool) -> Result<(), Denied> {
    let hash = match alg {
        Alg::None | Alg::LowerCase => return Err(Denied::Algorithm),
        Alg::Hs(hash) => Ok(hash),
        Alg::EdDsa => Err(false),
        Alg::Rs256 | Alg::Es256 => Err(true),
    };
    if crit {
        return Err(Denied::Malformed);
    }
    // Keys in their order: the unnamed secret, the named one, the public one.
    let candidates: &[usize] = match kid {
        Kid::Absent | Kid::Null => &[0, 1, 2],
        Kid::Named => &[1],
        Kid::Public => &[2],
        Kid::Unknown => &[0],
    };
    match hash {
        Ok(hash) if candidates.iter().any(|key| *key < 2) => {
            let key = usize::from(script.key) % SECRETS.len();
            let signed = key < 2 && script.hash == hash && candidates.contains(&key);
            if signed { Ok(()) } else { Err(Denied::Signature) }
        }
        Err(false) if candidates.contains(&2) => Err(Denied::Signature),
        Ok(_) | Err(_) => Err(Denied::Algorithm),
    }
}

/// The claims rules in the order in which they are documented: times, issuer, audience, types.
fn model(
    claims: &Map<String, Value>,
    unix: Duration,
    rules: &TokenRules,
) -> Result<Claims, Denied> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let seconds = number.as_u64().unwrap_or_else(|| {
                number.as_f64().map_or(0, |float| float.max(0.0).trunc() as u64)
            });
            Ok(Some(Duration::from_secs(seconds.min(253_402_300_799))))
        }
        Some(_) => Err(Denied::Claims),
    };
    if time("iat")?.is_some_and(|at| at > unix + rules.leeway) {
        return Err(Denied::IssuedInFuture);
    }
    if time("nbf")?.is_some_and(|at| at > unix + rules.leeway) {
        return Err(Denied::NotYetValid);
    }
    match time("exp")? {
        None if rules.require_exp => return Err(Denied::MissingExpiry),
        Some(at) if unix >= at + rules.leeway => return Err(Denied::Expired),
        Some(_) | None => {}
    }
    if let Some(issuer) = &rules.issuer
        && claims.get("iss") != Some(&Value::from(issuer.as_str()))
    {
        return Err(Denied::Issuer);
    }
    let ours = |value: &Value| rules.audience.iter().flatten().any(|name| value == name.as_str());
    let meant = match claims.get("aud") {
        None | Some(Value::Null) => rules.audience.is_none() || rules.audience_optional,
        Some(Value::Array(names)) => names.iter().all(Value::is_string) && names.iter().any(ours),
        Some(value) => ours(value),
    };
    if !meant {
        return Err(Denied::Audience);
    }
    types(claims, time("exp")?, time("iat")?)
}

fn types(
    claims: &Map<String, Value>,
    expires: Option<Duration>,
    issued_at: Option<Duration>,
) -> Result<Claims, Denied> {
    for name in ["sub", "jti"] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err(Denied::Claims);
        }
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let user = match claims.get("user_id") {
        None | Some(Value::Null) => text("sub").map(str::to_owned),
        Some(Value::String(user)) => Some(user.clone()),
        Some(Value::Number(user)) => Some(user.to_string()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return Err(Denied::Claims),
    };
    let held = |name: &str| claims.get(name).filter(|value| !value.is_null());
    let permissions: Vec<Box<str>> = match held("permissions").or_else(|| held("scopes")) {
        None => Vec::new(),
        Some(Value::String(text)) => text
            .split([' ', ',', '\t', '\n'])
            .filter(|word| !word.is_empty())
            .map(Box::from)
            .collect(),
        Some(Value::Array(words)) => {
            let words = words.iter().map(|word| word.as_str().map(Box::from));
            words.collect::<Option<_>>().ok_or(Denied::Claims)?
        }
        Some(_) => return Err(Denied::Claims),
    };
    if permissions.len() > 100 || permissions.iter().any(|word| word.len() > 256) {
        return Err(Denied::Claims);
    }
    let (user, id) = (user.map(Into::into), text("jti").map(Box::from));
    let grants = grants(claims.get("channels")).ok_or(Denied::Claims)?;
    Ok(Claims { user, permissions, expires, issued_at, id, grants })
}

/// The claim `channels`, by rules written down a second time.
fn grants(claim: Option<&Value>) -> Option<Grants> {
    let members = match claim {
        None | Some(Value::Null) => return Some(Grants::default()),
        Some(claim) => claim.as_object()?,
    };
    let mut grants = Grants::default();
    for (verb, list) in members {
        let into = match verb.as_str() {
            "subscribe" => &mut grants.subscribe,
            "publish" => &mut grants.publish,
            _ => return None,
        };
        for item in list.as_array()? {
            let text = item.as_str().filter(|text| text.len() <= 256)?;
            into.push(Pattern::parse(text).ok()?);
        }
    }
    (grants.subscribe.len() + grants.publish.len() <= 32).then_some(grants)
}

/// Whether one of the secrets made this signature, by a judge of its own.
fn is_signed(token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else { return false };
    let Ok(signature) = BASE64.decode(signature) else { return false };
    SECRETS[..2].iter().any(|secret| {
        [Hash::Sha256, Hash::Sha384, Hash::Sha512]
            .iter()
            .any(|hash| sign(*hash, secret, message) == signature)
    })
}

fn sign(hash: Hash, secret: &[u8], message: &str) -> Vec<u8> {
    fn with<M: Mac + KeyInit>(secret: &[u8], message: &str) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(secret).expect("any length will do");
        mac.update(message.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }
    match hash {
        Hash::Sha256 => with::<Hmac<sha2::Sha256>>(secret, message),
        Hash::Sha384 => with::<Hmac<sha2::Sha384>>(secret, message),
        Hash::Sha512 => with::<Hmac<sha2::Sha512>>(secret, message),
    }
}

fn header_text(alg: Alg, kid: Kid, crit: Option<bool>) -> String {
    let alg = match alg {
        Alg::Hs(Hash::Sha256) => "HS256",
        Alg::Hs(Hash::Sha384) => "HS384",
        Alg::Hs(Hash::Sha512) => "HS512",
        Alg::None => "none",
        Alg::Rs256 => "RS256",
        Alg::Es256 => "ES256",
        Alg::EdDsa => "EdDSA",
        Alg::LowerCase => "hs256",
    };
    let kid = match kid {
        Kid::Absent => "",
        Kid::Null => r#","kid":null"#,
        Kid::Named => r#","kid":"named""#,
        Kid::Public => r#","kid":"public""#,
        Kid::Unknown => r#","kid":"unknown""#,
    };
    let crit = match crit {
        None => "",
        Some(true) => r#","crit":["b64"],"b64":false"#,
        Some(false) => r#","crit":[]"#,
    };
    format!(r#"{{"typ":"JWT","alg":"{alg}"{kid}{crit}}}"#)
}

fn claims_text(claims: &[(Name, Content)]) -> String {
    let now = START_UNIX.as_secs() as i64;
    let mut text = String::from("{");
    for (at, (name, content)) in claims.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        let name = match name {
            Name::Exp => "exp",
            Name::Nbf => "nbf",
            Name::Iat => "iat",
            Name::Aud => "aud",
            Name::Iss => "iss",
            Name::Sub => "sub",
            Name::UserId => "user_id",
            Name::Permissions => "permissions",
            Name::Scopes => "scopes",
            Name::Jti => "jti",
        };
        let value = match content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::from(*value),
            Content::Int(value) => Value::from(*value),
            Content::Unsigned(value) => Value::from(*value),
            Content::Soon(seconds) => Value::from(now + i64::from(*seconds)),
            // What is no number becomes null.
            Content::Float(value) => Value::from(*value),
            Content::SoonFloat(tenths) => Value::from(now as f64 + f64::from(*tenths) / 10.0),
            Content::Word(word) => Value::from(word_text(*word)),
            Content::Words(words) => words.iter().map(|word| word_text(*word)).collect(),
            Content::Mixed(word, number) => {
                Value::Array(vec![word_text(*word).into(), (*number).into()])
            }
            Content::Object => Value::Object(Map::new()),
        };
        write!(text, r#""{name}":{value}"#).expect("a string takes everything");
    }
    text.push('}');
    text
}

fn word_text(word: Word) -> String {
    match word {
        Word::Empty => String::new(),
        Word::Ours => "ours".to_owned(),
        Word::Other => "other".to_owned(),
        Word::List => "a, b\tc:read".to_owned(),
        Word::Long => "x".repeat(257),
    }
}

fn rules(rules: &Rules) -> TokenRules {
    TokenRules {
        require_exp: rules.require_exp,
        audience: rules.audience.map(|count| match count % 3 {
            0 => Vec::new(),
            1 => vec!["ours".to_owned()],
            _ => vec!["mine".to_owned(), "ours".to_owned()],
        }),
        audience_optional: rules.audience_optional,
        issuer: rules.issuer.then(|| "ours".to_owned()),
        leeway: Duration::from_secs(u64::from(rules.leeway)),
        ..TokenRules::default()
    }
}

/// Changes one character, or drops or doubles one.
fn damage(token: &str, at: u16, by: u8) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let at = usize::from(at) % bytes.len().max(1);
    match by {
        0 if at < bytes.len() => drop(bytes.remove(at)),
        1 if at < bytes.len() => bytes.insert(at, bytes[at]),
        _ => {
            bytes[at] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ "
                [usize::from(by) % 69]
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An unnamed secret, a named one, and one that nobody knows.
const SECRETS: [&[u8]; 3] = [
    b"q7Jm2xVb9TzLr4Wc8YpK5NdH3sFgA6Ue",
    b"another secret, also thirty-two bytes",
    b"a secret that the verifier was never told",
];

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let mut keys = KeySet::new();
    keys.add_secret(None, SECRETS[0]).expect("a strong secret");
    keys.add_secret(Some("named"), SECRETS[1]).expect("a strong secret");
    keys.add_pem(Some("public"), Algorithm::EdDSA, PUBLIC_KEY.as_bytes()).expect("a public key");
    keys
});

/// RFC 8410 §10.1.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
