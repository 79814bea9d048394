//! `mahavishnu explain`: what a token may do with a channel, and which rule says so, by the code that decides it.

use mahavishnu_core::{
    auth::{Claims, Moment, Policy, Verb, Why},
    config::{Publishing, WhileAway},
};

use crate::{
    cli::ExplainArgs,
    control,
    exit::{Exit, Failure},
    out,
    pid::{self, Found},
    publish,
    settings::{self, Loaded},
    theirs, token, translate,
};

/// Prints token and rules, and as last line whether it is allowed. Denied: exit code 6.
pub(crate) fn explain(args: &ExplainArgs) -> Result<Exit, Failure> {
    let loaded = settings_in_question(args)?;
    loaded.demand_all()?;
    let verb = match args.verb.as_str() {
        "publish" => Verb::Publish,
        _ => Verb::Subscribe,
    };
    if verb == Verb::Publish && loaded.settings.publishing == Publishing::ApplicationOnly {
        return denied("nobody from outside publishes here (MAHAVISHNU_PUBLISHING=application)");
    }
    if let (Verb::Publish, Some(line)) = (verb, without_redis(&loaded, &args.channel)?) {
        out::line(line)?;
    }
    let Some(text) = publish::token(args.token.as_deref()) else {
        return without_token(&loaded, verb);
    };
    let config = translate::core_config(&loaded)?;
    if config.auth.keys.is_empty() {
        let text = "no key to verify the token with: set MAHAVISHNU_JWT_SECRET";
        return Err(Failure::new(Exit::Configuration, text));
    }
    let now = token::unix_now();
    // As long as leeway lets a token in, so long does its revocation count.
    let wall = now.saturating_sub(config.auth.rules.leeway);
    let moment = Moment { wall, ..Moment::default() };
    let claims = match config.auth.keys.verify(&text, now, &config.auth.rules) {
        Ok(claims) if config.auth.revoked.has(moment, &claims) => {
            return denied("the token is in MAHAVISHNU_REVOKED_FILE");
        }
        Ok(claims) => claims,
        Err(refused) => return denied(&refused.to_string()),
    };
    for line in about(&loaded, &claims) {
        out::line(line)?;
    }
    let access = config.policy.access(&claims.permissions);
    let decision = config.policy.decide_with(&access, &claims.grants, verb, &args.channel);
    let why = reason(&config.policy, &claims, verb, &args.channel, decision.why);
    if decision.allowed {
        out::line(format_args!("allowed: {why}"))?;
        return Ok(Exit::Ok);
    }
    out::line(format_args!("it takes: {}", config.policy.needs(verb, &args.channel)))?;
    denied(&why)
}

/// Those that the flags name, if they name any. Otherwise those of the server that runs here; and if none does, those of this
/// shell. Which it was is told beside the answer.
fn settings_in_question(args: &ExplainArgs) -> Result<Loaded, Failure> {
    let request = args.server.request();
    let own = settings::load(&request)?;
    let is_named = |(name, ..): &settings::Override| *name != "MAHAVISHNU_STATE_DIR";
    if request.env_file.is_some() || request.overrides.iter().any(is_named) {
        return Ok(own);
    }
    let candidates = control::candidates(&own)?;
    match pid::find(&candidates)? {
        Found::Running { dir, server: Some(server), .. } => match theirs::settings_of(&server) {
            Ok(loaded) => {
                let (pid, dir) = (server.pid, dir.display());
                out::note(format_args!(
                    "by the settings of the server that runs (pid {pid}, {dir}); what was changed since its last reload is not in force yet"
                ));
                Ok(loaded)
            }
            Err(why) => {
                let pid = server.pid;
                out::note(format_args!(
                    "a server runs (pid {pid}), but {why}; by the settings of this shell"
                ));
                Ok(own)
            }
        },
        Found::Running { .. } | Found::Stale { .. } | Found::Nothing => {
            out::note(format_args!(
                "no server runs here, so by the settings of this shell; {}",
                control::looked(&candidates)
            ));
            Ok(own)
        }
    }
}

/// What becomes of publishes to a channel while Redis is away, if there is to be one.
fn without_redis(loaded: &Loaded, channel: &str) -> Result<Option<String>, Failure> {
    let Some(bus) = translate::core_config(loaded)?.bus else { return Ok(None) };
    let what = match bus.while_away.of(channel) {
        WhileAway::Queue => format!("wait, {} s at most", bus.queue_time.as_secs_f64()),
        WhileAway::Refuse => "are refused".to_owned(),
        WhileAway::Local => "reach subscribers of their server alone".to_owned(),
    };
    Ok(Some(format!("while Redis is away: publishes {what}")))
}

fn denied(why: &str) -> Result<Exit, Failure> {
    out::line(format_args!("denied: {why}"))?;
    Ok(Exit::Permission)
}

/// A client that shows no token.
fn without_token(loaded: &Loaded, verb: Verb) -> Result<Exit, Failure> {
    let why = match verb {
        _ if loaded.settings.auth_enabled => return denied("clients need a token here"),
        Verb::Subscribe => "without authentication everyone may subscribe",
        Verb::Publish if loaded.settings.allow_remote_publish => {
            "without authentication everyone may publish (MAHAVISHNU_ALLOW_REMOTE_PUBLISH)"
        }
        Verb::Publish => {
            "without authentication clients on the server's machine may publish, others not"
        }
    };
    out::line(format_args!("allowed: {why}"))?;
    Ok(Exit::Ok)
}

fn about(loaded: &Loaded, claims: &Claims) -> [String; 2] {
    let user =
        claims.user.as_deref().map_or_else(|| "nobody".to_owned(), |user| format!("{user:?}"));
    let held = match claims.permissions.as_slice() {
        [] => "no permissions".to_owned(),
        held => held.join(", "),
    };
    let own = claims.grants.subscribe.len() + claims.grants.publish.len();
    let own = if own == 0 { String::new() } else { format!(" and {own} channel patterns") };
    let service = loaded.policy_name();
    let filed = loaded.policy().is_some_and(|(_, filed)| filed);
    let origin = match &loaded.settings.policy_file {
        Some(path) if filed => path.display().to_string(),
        _ => "built in".to_owned(),
    };
    [format!("token: {user} with {held}{own}"), format!("policy: {service} ({origin})")]
}

/// The deciding rule in words.
fn reason(policy: &Policy, claims: &Claims, verb: Verb, channel: &str, why: Why) -> String {
    let doing = match verb {
        Verb::Subscribe => "subscribe",
        Verb::Publish => "publish",
    };
    match why {
        Why::FullAccess => format!("full_access, which is {}", list(policy.full_access())),
        Why::PublishAnywhere => {
            format!("publish_anywhere, which is {}", list(policy.publish_anywhere()))
        }
        Why::Rule(index) => {
            let Some(rule) = policy.rules().get(index) else { return String::new() };
            let needed = match verb {
                Verb::Subscribe => &rule.subscribe,
                Verb::Publish => &rule.publish,
            };
            let pattern = &rule.pattern;
            match needed.as_slice() {
                [] => format!(
                    "rule {} ({pattern}) lets nobody {doing} but those with full access",
                    index + 1
                ),
                needed => format!("rule {} ({pattern}) lets {} {doing}", index + 1, list(needed)),
            }
        }
        Why::NoRule => format!("no rule is about {channel:?}, so only full access opens it"),
        Why::Token(index) => {
            let pattern = claims.grants.of(verb).get(index).map(ToString::to_string);
            format!("the token's own pattern {}", pattern.unwrap_or_default())
        }
    }
}

fn list(words: &[Box<str>]) -> String {
    words.join(" or ")
}
