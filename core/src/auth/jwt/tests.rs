use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::policy::Policy, super::policy::Verb, vectors, *};

// ---- Signature ----

#[test]
fn tokens_of_another_implementation_are_accepted() {
    let asymmetric = [
        (Algorithm::RS256, vectors::RS256_KEY, vectors::RS256_TOKEN),
        (Algorithm::ES256, vectors::ES256_KEY, vectors::ES256_TOKEN),
        (Algorithm::ES384, vectors::ES384_KEY, vectors::ES384_TOKEN),
        (Algorithm::EdDSA, vectors::EDDSA_KEY, vectors::EDDSA_TOKEN),
    ];
    for (algorithm, pem, token) in asymmetric {
        let mut keys = KeySet::new();
        keys.add_pem(None, algorithm, pem.as_bytes()).unwrap();
        let claims = keys.verify(token, NOW, &TokenRules::default()).unwrap();
        assert_eq!(claims.user.as_deref(), Some("ada"), "{algorithm:?}");
        assert_eq!(claims.permissions, words(&["read"]), "{algorithm:?}");
    }
    let claims = keys().verify(vectors::HS256_TOKEN, NOW, &TokenRules::default()).unwrap();
    assert_eq!(claims.expires, Some(Duration::from_secs(1_770_003_600)));
}

#[test]
fn a_wrong_signature_is_refused() {
    let token =
        sign_with(b"another secret, also thirty-two bytes", None, &json!({ "user_id": "mallory" }));
    assert_eq!(keys().verify(&token, NOW, &TokenRules::default()), Err(Denied::Signature));
}

#[test]
fn changed_claims_are_refused() {
    let (honest, forged) =
        (sign(&json!({ "permissions": ["read"] })), sign(&json!({ "permissions": ["admin"] })));
    let (message, _) = forged.rsplit_once('.').unwrap();
    let (_, signature) = honest.rsplit_once('.').unwrap();
    let token = format!("{message}.{signature}");
    assert_eq!(keys().verify(&token, NOW, &TokenRules::default()), Err(Denied::Signature));
}

#[test]
fn algorithm_none_is_refused() {
    // {"alg":"none"} and {"alg":"NONE"} over {"user_id":"mallory"}, with and without a signature.
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOT05FIn0"] {
        for signature in ["", "AAAA"] {
            let token = format!("{header}.eyJ1c2VyX2lkIjoibWFsbG9yeSJ9.{signature}");
            assert_eq!(keys().verify(&token, NOW, &TokenRules::default()), Err(Denied::Algorithm));
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let mut keys = KeySet::new();
    keys.add_pem(None, Algorithm::RS256, vectors::RS256_KEY.as_bytes()).unwrap();
    assert_eq!(
        keys.verify(vectors::CONFUSED_TOKEN, NOW, &TokenRules::default()),
        Err(Denied::Algorithm)
    );
}

#[test]
fn a_public_key_verifies_its_one_algorithm_only() {
    let mut keys = KeySet::new();
    keys.add_pem(None, Algorithm::RS512, vectors::RS256_KEY.as_bytes()).unwrap();
    assert_eq!(
        keys.verify(vectors::RS256_TOKEN, NOW, &TokenRules::default()),
        Err(Denied::Algorithm)
    );
}

#[test]
fn curves_and_short_moduli_do_not_pass_for_others() {
    let mut keys = KeySet::new();
    for (algorithm, pem) in [
        (Algorithm::ES256, vectors::ES384_KEY),
        (Algorithm::ES384, vectors::ES256_KEY),
        (Algorithm::RS256, vectors::SMALL_RSA_KEY),
    ] {
        assert!(keys.add_pem(None, algorithm, pem.as_bytes()).is_err(), "{algorithm:?}");
    }
}

#[test]
fn hs384_and_hs512_are_accepted_too() {
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let claims = json!({ "user_id": "ada" });
        let token = jsonwebtoken::encode(
            &Header::new(algorithm),
            &claims,
            &EncodingKey::from_secret(SECRET),
        )
        .unwrap();
        assert!(keys().verify(&token, NOW, &TokenRules::default()).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let signed = sign(&json!({}));
    let long = format!("{signed}{}", "A".repeat(9000));
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.e30.e30",
        "ﬀ.ﬀ.ﬀ",
        "eyJhbGciOiJIUzI1NiJ9.e30",
        &long,
    ] {
        assert_eq!(
            keys().verify(token, NOW, &TokenRules::default()),
            Err(Denied::Malformed),
            "{token:.20}"
        );
    }
}

#[test]
fn an_unknown_critical_header_is_refused() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".to_owned()]);
    let token =
        jsonwebtoken::encode(&header, &json!({}), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(keys().verify(&token, NOW, &TokenRules::default()), Err(Denied::Malformed));
}

// ---- Keys by name ----

#[test]
fn keys_are_rotated_by_name() {
    let (old, new) = (b"the old secret of thirty-two bytes", b"the new secret of thirty-two bytes");
    let mut keys = KeySet::new();
    keys.add_secret(Some("old"), old).unwrap();
    keys.add_secret(Some("new"), new).unwrap();
    let verify = |kid, secret: &[u8]| {
        keys.verify(&sign_with(secret, kid, &json!({})), NOW, &TokenRules::default()).err()
    };

    assert_eq!(verify(Some("old"), old), None);
    assert_eq!(verify(Some("new"), new), None);
    assert_eq!(verify(Some("old"), new), Some(Denied::Signature), "a name binds to its key");
    assert_eq!(verify(Some("older"), old), Some(Denied::UnknownKey));
    assert_eq!(verify(None, new), None, "a token without a name is tried with every key");
}

#[test]
fn keys_without_a_name_are_tried_in_order() {
    let second = b"a second secret of thirty-two bytes";
    let mut keys = keys();
    keys.add_secret(None, second).unwrap();
    for kid in [None, Some("whatever")] {
        assert!(
            keys.verify(&sign_with(second, kid, &json!({})), NOW, &TokenRules::default()).is_ok(),
            "{kid:?}"
        );
    }
}

#[test]
fn without_keys_nothing_verifies() {
    let denied = KeySet::new().verify(&sign(&json!({})), NOW, &TokenRules::default());
    assert_eq!(denied, Err(Denied::UnknownKey));
}

// ---- Time ----

#[test]
fn a_token_expires_at_the_very_second() {
    let token = sign(&json!({ "exp": 100 }));
    let at =
        |millis| keys().verify(&token, Duration::from_millis(millis), &TokenRules::default()).err();
    assert_eq!(at(99_999), None);
    assert_eq!(at(100_000), Some(Denied::Expired));
    assert_eq!(at(100_001), Some(Denied::Expired));
}

#[test]
fn nbf_and_iat_must_have_come() {
    for (claim, denied) in [("nbf", Denied::NotYetValid), ("iat", Denied::IssuedInFuture)] {
        let token = sign(&json!({ claim: 100 }));
        let at = |millis| {
            keys().verify(&token, Duration::from_millis(millis), &TokenRules::default()).err()
        };
        assert_eq!(at(99_999), Some(denied));
        assert_eq!(at(100_000), None);
    }
}

#[test]
fn leeway_applies_to_all_three() {
    let rules = TokenRules { leeway: Duration::from_secs(10), ..TokenRules::default() };
    let verify =
        |claims: Value| keys().verify(&sign(&claims), Duration::from_secs(100), &rules).err();
    assert_eq!(verify(json!({ "exp": 91, "nbf": 110, "iat": 110 })), None);
    assert_eq!(verify(json!({ "exp": 90 })), Some(Denied::Expired));
    assert_eq!(verify(json!({ "nbf": 111 })), Some(Denied::NotYetValid));
    assert_eq!(verify(json!({ "iat": 111 })), Some(Denied::IssuedInFuture));
}

#[test]
fn expiry_may_be_required() {
    let rules = TokenRules { require_exp: true, ..TokenRules::default() };
    assert_eq!(keys().verify(&sign(&json!({})), NOW, &rules), Err(Denied::MissingExpiry));
    assert_eq!(verify(json!({})).unwrap().expires, None, "by default it is not");
}

#[test]
fn fractions_are_cut_off() {
    let claims = verify(json!({ "exp": 1_770_000_001.999, "iat": 1_769_999_999.999 })).unwrap();
    assert_eq!(claims.expires, Some(Duration::from_secs(1_770_000_001)));
    assert_eq!(claims.issued_at, Some(Duration::from_secs(1_769_999_999)));
}

#[test]
fn extreme_times_neither_panic_nor_wrap() {
    for far in [json!(u64::MAX), json!(1e300), json!(i64::MAX)] {
        let expires = verify(json!({ "exp": far })).unwrap().expires.unwrap();
        assert!(NOW < expires && expires.as_secs() <= YEAR_9999_END);
        assert_eq!(verify(json!({ "nbf": far })), Err(Denied::NotYetValid));
        assert_eq!(verify(json!({ "iat": far })), Err(Denied::IssuedInFuture));
    }
    for past in [json!(i64::MIN), json!(-1e300), json!(-0.5), json!(0)] {
        assert_eq!(verify(json!({ "exp": past })), Err(Denied::Expired));
        assert!(verify(json!({ "nbf": past, "iat": past })).is_ok());
    }
    let token = sign(&json!({ "exp": 1 }));
    assert_eq!(keys().verify(&token, Duration::MAX, &TokenRules::default()), Err(Denied::Expired));
}

#[test]
fn times_are_numbers() {
    for claim in ["exp", "nbf", "iat"] {
        for value in [json!("100"), json!(null), json!(true), json!([100])] {
            assert!(verify(json!({ claim: value })).is_err(), "{claim} {value}");
        }
        assert_eq!(verify(json!({ claim: "4000000000" })), Err(Denied::Claims));
    }
}

// ---- Audience, issuer, subject ----

#[test]
fn any_audience_is_refused_unless_it_is_ours() {
    let ours = TokenRules {
        audience: Some(vec!["mahavishnu".into(), "akosha".into()]),
        ..TokenRules::default()
    };
    let cases = [
        (json!({}), true, false),
        (json!({ "aud": null }), true, false),
        (json!({ "aud": "akosha" }), false, true),
        (json!({ "aud": ["elsewhere", "akosha"] }), false, true),
        (json!({ "aud": "elsewhere" }), false, false),
        (json!({ "aud": "" }), false, false),
        (json!({ "aud": [] }), false, false),
        (json!({ "aud": ["akosha", 5] }), false, false),
        (json!({ "aud": 5 }), false, false),
        (json!({ "aud": { "akosha": true } }), false, false),
    ];
    for (claims, by_default, with_ours) in cases {
        let token = sign(&claims);
        assert_eq!(
            keys().verify(&token, NOW, &TokenRules::default()).is_ok(),
            by_default,
            "{claims}"
        );
        assert_eq!(keys().verify(&token, NOW, &ours).is_ok(), with_ours, "{claims}");
    }
    assert_eq!(verify(json!({ "aud": "akosha" })), Err(Denied::Audience));
}

#[test]
fn an_audience_may_be_left_out_where_that_is_allowed() {
    let rules = TokenRules {
        audience: Some(vec!["crackerjack".into()]),
        audience_optional: true,
        ..TokenRules::default()
    };
    for (claims, fits) in [
        (json!({}), true),
        (json!({ "aud": "crackerjack" }), true),
        (json!({ "aud": "elsewhere" }), false),
        (json!({ "aud": [] }), false),
    ] {
        assert_eq!(keys().verify(&sign(&claims), NOW, &rules).is_ok(), fits, "{claims}");
    }
}

#[test]
fn an_issuer_counts_only_if_one_is_asked_for() {
    let rules = TokenRules { issuer: Some("crackerjack".into()), ..TokenRules::default() };
    for (claims, fits) in [
        (json!({ "iss": "crackerjack" }), true),
        (json!({ "iss": "other" }), false),
        (json!({ "iss": ["crackerjack"] }), false),
        (json!({}), false),
    ] {
        let expected = if fits { None } else { Some(Denied::Issuer) };
        assert_eq!(keys().verify(&sign(&claims), NOW, &rules).err(), expected, "{claims}");
        assert!(verify(claims).is_ok());
    }
}

#[test]
fn sub_and_jti_are_strings() {
    for claim in ["sub", "jti"] {
        for value in [json!(5), json!(null), json!(true)] {
            assert_eq!(verify(json!({ claim: value })), Err(Denied::Claims), "{claim} {value}");
        }
        assert!(verify(json!({ claim: ["ada"] })).is_err(), "{claim}");
    }
    assert_eq!(verify(json!({ "jti": "t-1" })).unwrap().id.as_deref(), Some("t-1"));
}

#[test]
fn the_user_is_user_id_or_else_sub() {
    let user = |claims| verify(claims).unwrap().user;
    assert_eq!(user(json!({ "user_id": "ada", "sub": "grace" })).as_deref(), Some("ada"));
    assert_eq!(user(json!({ "sub": "grace" })).as_deref(), Some("grace"));
    assert_eq!(user(json!({ "user_id": null, "sub": "grace" })).as_deref(), Some("grace"));
    assert_eq!(user(json!({ "user_id": 42 })).as_deref(), Some("42"));
    assert_eq!(user(json!({})), None);
    assert_eq!(verify(json!({ "user_id": ["ada"] })), Err(Denied::Claims));
}

// ---- Permissions ----

#[test]
fn permissions_are_whole_words_in_either_claim_and_form() {
    let permissions = |claims| verify(claims).unwrap().permissions;
    assert_eq!(
        permissions(json!({ "permissions": ["pool:read", "admin"] })),
        words(&["pool:read", "admin"])
    );
    assert_eq!(permissions(json!({ "scopes": ["read"] })), words(&["read"]));
    assert_eq!(permissions(json!({ "permissions": [], "scopes": ["admin"] })), words(&[]));
    assert_eq!(permissions(json!({ "permissions": null, "scopes": ["read"] })), words(&["read"]));
    assert_eq!(
        permissions(json!({ "permissions": "pool:read, worker:read  x,,y" })),
        words(&["pool:read", "worker:read", "x", "y"])
    );
    assert_eq!(permissions(json!({})), words(&[]));
}

#[test]
fn a_permission_inside_another_word_grants_nothing() {
    let claims = verify(json!({ "permissions": "superadministrator unworkflow:reader" })).unwrap();
    let policy = Policy::mahavishnu();
    let access = policy.access(&claims.permissions);
    assert!(!policy.decide(&access, Verb::Subscribe, "workflow:1").allowed);
    assert!(!policy.decide(&access, Verb::Subscribe, "global").allowed);
}

#[test]
fn permissions_are_few_short_strings() {
    for value in
        [json!(5), json!({ "admin": true }), json!(["read", 5]), json!(["read", null]), json!(true)]
    {
        assert_eq!(verify(json!({ "permissions": value })), Err(Denied::Claims), "{value}");
    }
    assert!(verify(json!({ "permissions": vec!["x"; 100] })).is_ok());
    assert_eq!(verify(json!({ "permissions": vec!["x"; 101] })), Err(Denied::Claims));
    assert!(verify(json!({ "permissions": ["x".repeat(256)] })).is_ok());
    assert_eq!(verify(json!({ "permissions": ["x".repeat(257)] })), Err(Denied::Claims));
}

// ---- Everything at once ----

proptest! {
    /// Times against their definition, in whole seconds and milliseconds.
    #[test]
    fn times_agree_with_their_definition(
        exp in prop::option::of(0_u64..20), nbf in prop::option::of(0_u64..20), iat in prop::option::of(0_u64..20),
        leeway in 0_u64..5, now in 0_u64..25_000,
    ) {
        let mut claims = json!({});
        for (name, value) in [("exp", exp), ("nbf", nbf), ("iat", iat)] {
            if let Some(value) = value {
                claims[name] = json!(value);
            }
        }
        let rules = TokenRules { leeway: Duration::from_secs(leeway), ..TokenRules::default() };

        let valid = keys().verify(&sign(&claims), Duration::from_millis(now), &rules).is_ok();

        let later = |time: Option<u64>| time.is_some_and(|time| time * 1000 > now + leeway * 1000);
        let expired = exp.is_some_and(|exp| exp * 1000 + leeway * 1000 <= now);
        prop_assert_eq!(valid, !later(nbf) && !later(iat) && !expired);
    }

    #[test]
    fn no_text_is_a_token_and_none_panics(text in ".{0,200}") {
        prop_assert!(keys().verify(&text, NOW, &TokenRules::default()).is_err());
    }

    #[test]
    fn no_change_of_a_byte_goes_unnoticed(at in 0_usize..100, to in "[A-Za-z0-9_-]") {
        let token = vectors::HS256_TOKEN;
        let mut changed = token.to_owned();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        prop_assert!(keys().verify(&changed, NOW, &TokenRules::default()).is_err());
    }
}

const SECRET: &[u8] = b"q7Jm2xVb9TzLr4Wc8YpK5NdH3sFgA6Ue";
const NOW: Duration = Duration::from_millis(1_770_000_000_250);

fn keys() -> KeySet {
    let mut keys = KeySet::new();
    keys.add_secret(None, SECRET).unwrap();
    keys
}

fn verify(claims: Value) -> Result<Claims, Denied> {
    keys().verify(&sign(&claims), NOW, &TokenRules::default())
}

fn sign(claims: &Value) -> String {
    sign_with(SECRET, None, claims)
}

fn sign_with(secret: &[u8], kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn words(words: &[&str]) -> Vec<Box<str>> {
    words.iter().map(|word| Box::from(*word)).collect()
}
