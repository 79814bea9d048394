//! `mahavishnu token create | inspect`.

use std::{
    io::Read,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use mahavishnu_core::{
    auth::{self, KeySet, TokenSpec},
    entropy::{Entropy, Seed},
};
use serde_json::Value;

use crate::{
    cli::{Lifetime, TokenCreateArgs, TokenInspectArgs},
    exit::{Exit, Failure},
    out, publish,
    settings::{self, KEY_VARIABLES, Key, Loaded, Request, Secret, Service},
};

/// Makes a token. Only the token goes to standard output.
pub(crate) fn create(args: &TokenCreateArgs) -> Result<Exit, Failure> {
    let loaded = loaded(args.env_file.clone(), args.service.clone())?;
    let key = signing_key(&loaded, args.secret.as_deref(), args.kid.as_deref())?;
    if let Err(weak) = auth::check_secret(key.secret.reveal().as_bytes()) {
        out::note(format_args!(
            "warning: {weak}; a server that requires authentication refuses to start with it"
        ));
    }
    let expires_in = match args.expires_in {
        Some(Lifetime::Never) => None,
        Some(Lifetime::Seconds(seconds)) => Some(Duration::from_secs(seconds)),
        None => Some(loaded.settings.jwt_expiry),
    };
    for warning in unknown_permissions(&loaded, &args.permissions) {
        out::note(format_args!("warning: {warning}"));
    }
    let now = unix_now();
    let permissions: Vec<&str> = args.permissions.iter().map(String::as_str).collect();
    let id = Entropy::new(seed()?).uuid().to_string();
    let audience = loaded.settings.jwt_audience.first().map(String::as_str);
    let service = loaded.service.as_ref().map(Service::profile);
    let own_issuer = service.and_then(|profile| profile.tokens.issuer.as_deref());
    let spec = TokenSpec {
        user: Some(&args.user),
        permissions: &permissions,
        issued_at: now,
        expires_in,
        kid: key.kid.as_deref(),
        id: Some(&id),
        audience,
        issuer: loaded.settings.jwt_issuer.as_deref().or(own_issuer),
    };
    let token = auth::issue(key.secret.reveal().as_bytes(), &spec)
        .map_err(|error| Failure::new(Exit::General, format!("no token made: {error}")))?;
    for line in create_notes(&args.user, &permissions, now, expires_in) {
        out::note(line);
    }
    if let (true, Err(denied)) =
        (!loaded.keys.is_empty(), key_set(&loaded.keys)?.verify(&token, now, &loaded.token_rules()))
    {
        out::note(format_args!("warning: a server with these settings refuses it: {denied}"));
    }
    out::line(token)?;
    Ok(Exit::Ok)
}

/// Shows a token and says whether a server with these settings accepts it.
pub(crate) fn inspect(args: &TokenInspectArgs) -> Result<Exit, Failure> {
    let token = match args.token.as_deref() {
        Some("-") => from_stdin()?,
        given => publish::token(given).ok_or_else(|| {
            Failure::new(
                Exit::General,
                "no token: give it as argument, by - or in MAHAVISHNU_TOKEN",
            )
        })?,
    };
    let loaded = loaded(args.env_file.clone(), args.service.clone())?;
    let parts = auth::inspect(&token).ok_or_else(|| Failure::new(Exit::General, "not a token"))?;
    let now = unix_now();
    for (title, name) in [("header", "header"), ("claims", "claims")] {
        let part = parts.get(name).unwrap_or(&Value::Null);
        out::line(format_args!("{title}: {part:#}"))?;
    }
    let claims = parts.get("claims").unwrap_or(&Value::Null);
    for line in times(claims, now) {
        out::line(line)?;
    }
    if loaded.keys.is_empty() {
        out::line("not verified: there is no key; set MAHAVISHNU_JWT_SECRET")?;
        return Ok(Exit::Ok);
    }
    match key_set(&loaded.keys)?.verify(&token, now, &loaded.token_rules()) {
        Ok(_) => {
            out::line("valid")?;
            Ok(Exit::Ok)
        }
        Err(denied) => {
            out::line(format_args!("invalid: {denied}"))?;
            Ok(Exit::General)
        }
    }
}

/// The token on standard input: its last line, so that the output of `create` can be piped in.
pub(crate) fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::io("standard input", &error))?;
    Ok(text.trim().lines().last().unwrap_or_default().trim().to_owned())
}

/// The keys as the core wants them. Weak ones verify here too: whether they may be used is decided elsewhere.
pub(crate) fn key_set(keys: &[Key]) -> Result<KeySet, Failure> {
    let mut set = KeySet::new();
    for key in keys {
        set.add_weak_secret(key.kid.as_deref(), key.secret.reveal().as_bytes()).map_err(
            |error| Failure::new(Exit::Configuration, format!("{}: {error}", key.source())),
        )?;
    }
    Ok(set)
}

/// 32 bytes of the operating system's randomness.
pub(crate) fn seed() -> Result<Seed, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::General, format!("no randomness: {error}")))?;
    Ok(Seed(bytes))
}

/// Time since the Unix epoch.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn loaded(
    env_file: Option<std::path::PathBuf>,
    service: Option<String>,
) -> Result<Loaded, Failure> {
    let service = service.map(|service| ("MAHAVISHNU_SERVICE", "--service", service));
    let overrides = service.into_iter().collect();
    let loaded = settings::load(&Request { env_file, overrides, ..Request::default() })?;
    loaded.demand_sound(
        &[
            KEY_VARIABLES,
            &[
                "MAHAVISHNU_SERVICE",
                "MAHAVISHNU_JWT_EXPIRY",
                "MAHAVISHNU_JWT_AUDIENCE",
                "MAHAVISHNU_JWT_ISSUER",
            ],
        ]
        .concat(),
    )?;
    Ok(loaded)
}

/// What the token will be signed with.
struct SigningKey {
    kid: Option<String>,
    secret: Secret,
}

fn signing_key(
    loaded: &Loaded,
    secret: Option<&str>,
    kid: Option<&str>,
) -> Result<SigningKey, Failure> {
    if let Some(secret) = secret {
        return Ok(SigningKey { kid: kid.map(str::to_owned), secret: Secret::new(secret) });
    }
    let found = match kid {
        Some(kid) => loaded.keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
        None => loaded.keys.first(),
    };
    found.map(|key| SigningKey { kid: key.kid.clone(), secret: key.secret.clone() }).ok_or_else(
        || {
            let text = match kid {
                Some(kid) => format!("no key {kid:?} in MAHAVISHNU_JWT_KEYS or its file"),
                None => "no secret to sign with: set MAHAVISHNU_JWT_SECRET (or give --secret)"
                    .to_owned(),
            };
            Failure::new(Exit::Configuration, text)
        },
    )
}

fn create_notes(
    user: &str,
    permissions: &[&str],
    now: Duration,
    expires_in: Option<Duration>,
) -> Vec<String> {
    let may =
        if permissions.is_empty() { "no permissions".to_owned() } else { permissions.join(", ") };
    let until = expires_in.map_or_else(
        || "it never expires".to_owned(),
        |expires_in| {
            let at = now.as_secs().saturating_add(expires_in.as_secs());
            format!("it expires in {} ({})", out::span(expires_in.as_secs()), instant(at))
        },
    );
    vec![format!("token for {user:?} with {may}; {until}")]
}

/// Permissions that open nothing, because no rule is about them.
fn unknown_permissions(loaded: &Loaded, permissions: &[String]) -> Vec<String> {
    let service = loaded.policy_name();
    let Some((policy, _)) = loaded.policy() else { return Vec::new() };
    let known = policy.permissions();
    // As the policy takes them.
    let normal = |text: &str| match policy.is_lower_case() {
        true => text.replace(' ', "").to_ascii_lowercase(),
        false => text.to_owned(),
    };
    let unknown = permissions.iter().filter(|given| !known.contains(&normal(given).as_str()));
    let warning = |given: &String| {
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(&normal(given), known), known))
            .min()
            .filter(|(distance, _)| *distance <= (given.chars().count() / 3).min(3));
        let hint = match nearest {
            Some((_, known)) => format!("did you mean {known:?}?"),
            None => format!("it has {}", known.join(", ")),
        };
        format!(
            "the policy {service} has no permission {given:?}, so that it opens nothing there; {hint}"
        )
    };
    unknown.map(warning).collect()
}

/// The times of a token in words.
fn times(claims: &Value, now: Duration) -> Vec<String> {
    let now = now.as_secs();
    // Fractions are allowed (RFC 7519 §2): they are cut off here.
    let time = |name| {
        claims
            .get(name)
            .and_then(Value::as_f64)
            .filter(|value| *value >= 0.0)
            .map(|value| value as u64)
    };
    let relative = |at: u64| match at.checked_sub(now) {
        Some(0) => "now".to_owned(),
        Some(ahead) => format!("in {}", out::span(ahead)),
        None => format!("{} ago", out::span(now - at)),
    };
    let mut lines = Vec::new();
    if let Some(at) = time("iat") {
        lines.push(format!("issued: {} ({})", instant(at), relative(at)));
    }
    if let Some(at) = time("nbf") {
        lines.push(format!("not before: {} ({})", instant(at), relative(at)));
    }
    lines.push(match time("exp") {
        Some(at) if at <= now => format!("expired: {} ({})", instant(at), relative(at)),
        Some(at) => format!("expires: {} ({})", instant(at), relative(at)),
        None => "expires: never".to_owned(),
    });
    lines
}

/// A moment as RFC 3339 in UTC, or its number if it is beyond all calendars.
fn instant(unix_seconds: u64) -> String {
    let time =
        i64::try_from(unix_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| unix_seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_770_000_000);

    #[test]
    fn a_permission_that_opens_nothing_is_told_with_what_was_meant() {
        let told = |pairs: &[(&str, &str)], given: &str| {
            unknown_permissions(&settings::testing::load(pairs), &[given.to_owned()])
        };
        assert_eq!(told(&[], "workflow:read"), [""; 0]);
        assert_eq!(told(&[], "admin"), [""; 0]);
        let [near] = &told(&[], "workflow:reed")[..] else { panic!("one warning") };
        assert!(near.ends_with("opens nothing there; did you mean \"workflow:read\"?"), "{near}");
        let [far] = &told(&[], "everything")[..] else { panic!("one warning") };
        assert!(far.contains("; it has ") && far.contains("workflow:read"), "{far}");
        let other = told(&[("AUTH_POLICY", "crackerjack")], "workflow:read");
        assert!(other[0].starts_with("the policy crackerjack has no permission"), "{other:?}");
    }

    #[test]
    fn times_are_told_in_words() {
        let lines = times(&json!({ "iat": 1_769_999_940, "exp": 1_770_003_600.5 }), NOW);
        assert_eq!(
            lines,
            ["issued: 2026-02-02T02:39:00Z (1 min ago)", "expires: 2026-02-02T03:40:00Z (in 1 h)"]
        );
        assert_eq!(
            times(&json!({ "exp": 1_770_000_000 }), NOW),
            ["expired: 2026-02-02T02:40:00Z (now)"]
        );
        assert_eq!(times(&json!({}), NOW), ["expires: never"]);
        assert_eq!(times(&json!({ "exp": "soon" }), NOW), ["expires: never"]);
        assert!(
            times(&json!({ "exp": 1e300 }), NOW)[0].starts_with("expires: 18446744073709551615")
        );
    }
}
