//! `token create | inspect`.

use crate::support::{Done, Place, SECRET};

const KEYED: &[(&str, &str)] = &[("MAHAVISHNU_JWT_SECRET", SECRET)];

#[test]
fn what_create_makes_inspect_finds_valid() {
    let place = Place::new();
    let made = place
        .run_with(
            "token create --user ada --permission workflow:read --permission admin --expires-in 60",
            KEYED,
        )
        .expect(0);
    assert_eq!(made.out.lines().count(), 1, "the token alone: {}", made.out);
    assert!(
        made.err.starts_with("token for \"ada\" with workflow:read, admin; it expires in 1 min ("),
        "{}",
        made.err
    );

    let seen = place.run_on("token inspect -", KEYED, &made.out).expect(0);

    assert_eq!(seen.last_line(), "valid");
    for part in [
        "\"alg\": \"HS256\"",
        "\"user_id\": \"ada\"",
        "\"sub\": \"ada\"",
        "\"workflow:read\",\n",
        "expires: ",
        "issued: ",
    ] {
        assert!(seen.out.contains(part), "{part} in {}", seen.out);
    }
}

#[test]
fn a_foreign_or_expired_token_is_said_to_be_invalid() {
    let place = Place::new();
    let made = place.run_with("token create --user ada", KEYED).expect(0);
    let token = made.last_line();
    let other = [
        ("MAHAVISHNU_JWT_SECRET", "another-secret-of-thirty-two-bytes"),
        ("MAHAVISHNU_TOKEN", token),
    ];
    assert_eq!(
        place.run_with("token inspect", &other).expect(1).last_line(),
        "invalid: the token's signature is wrong"
    );

    // {"alg":"HS256"} {"exp":1}
    let expired =
        place.run_with("token inspect eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.x", &[]).expect(0);
    assert!(expired.out.contains("expired: 1970-01-01T00:00:01Z ("), "{}", expired.out);
    assert_eq!(expired.last_line(), "not verified: there is no key; set MAHAVISHNU_JWT_SECRET");
}

#[test]
fn without_a_secret_nothing_is_made() {
    let done = Place::new().run("token create --user ada").expect(5);
    assert_eq!(
        done.err,
        "mahavishnu: no secret to sign with: set MAHAVISHNU_JWT_SECRET (or give --secret)\n"
    );
    assert_eq!(done.out, "");
}

#[test]
fn the_secret_may_be_in_dot_env_and_problems_elsewhere_do_not_matter() {
    let place = Place::new();
    place.write(".env", &format!("MAHAVISHNU_JWT_SECRET={SECRET}\nMAHAVISHNU_PORT=http\n"));
    place.run("token create --user ada").expect(0);
}

#[test]
fn a_weak_secret_signs_with_a_warning() {
    let done = Place::new()
        .run("token create --user ada --secret dev-secret-change-in-production")
        .expect(0);
    assert!(
        done.err.starts_with("warning: the secret is a well-known placeholder"),
        "{}",
        done.err
    );
    assert!(!done.err.contains("dev-secret"), "{}", done.err);
}

#[test]
fn keys_are_chosen_by_kid() {
    let place = Place::new();
    let file = place.write("keys.json", r#"{"old": "vT4yK8pQ2sW6xZ0bN3mJ7hG1fD5cR9aL"}"#);
    let keys = format!("new:{SECRET}");
    let variables = [
        ("MAHAVISHNU_JWT_KEYS", keys.as_str()),
        ("MAHAVISHNU_JWT_KEYS_FILE", file.to_str().unwrap()),
    ];
    for kid in ["new", "old"] {
        let made =
            place.run_with(&format!("token create --user ada --kid {kid}"), &variables).expect(0);
        let seen = place.run_on("token inspect -", &variables, &made.out).expect(0);
        assert!(seen.out.contains(&format!("\"kid\": \"{kid}\"")), "{}", seen.out);
    }
    let done = place.run_with("token create --user ada --kid none", &variables).expect(5);
    assert_eq!(done.err, "mahavishnu: no key \"none\" in MAHAVISHNU_JWT_KEYS or its file\n");
}

#[test]
fn a_configured_audience_and_issuer_are_in_the_token() {
    let place = Place::new();
    let variables = [KEYED[0], ("MAHAVISHNU_JWT_AUDIENCE", "a,b"), ("MAHAVISHNU_JWT_ISSUER", "i")];
    let made = place.run_with("token create --user ada", &variables).expect(0);
    assert_eq!(
        place.run_on("token inspect -", &variables, &made.out).expect(0).last_line(),
        "valid"
    );
}

#[test]
fn a_token_that_this_server_would_refuse_is_warned_about() {
    let variables = [KEYED[0], ("MAHAVISHNU_JWT_REQUIRE_EXP", "true")];
    let done =
        Place::new().run_with("token create --user ada --expires-in never", &variables).expect(0);
    assert!(
        done.err.ends_with(
            "warning: a server with these settings refuses it: the token has no expiry\n"
        ),
        "{}",
        done.err
    );
}

#[test]
fn what_is_no_token_is_said_to_be_none() {
    let place = Place::new();
    let text = |done: Done| done.err;
    assert_eq!(text(place.run("token inspect nonsense").expect(1)), "mahavishnu: not a token\n");
    assert!(text(place.run("token inspect").expect(1)).starts_with("mahavishnu: no token: "));
}
