//! `mahavishnu service list | show`: what the services of the family are, as servers have it.

use std::{path::Path, sync::Arc};

use mahavishnu_profiles::{AccessRule, Event, Extra, Profile, Protocol, Request};
use serde_json::{Value, json};

use crate::{
    cli::{ServiceListArgs, ServiceShowArgs},
    exit::{Exit, Failure},
    out,
    settings::{Service, is_file},
};

/// Prints a line for each service.
pub(crate) fn list(args: &ServiceListArgs) -> Result<Exit, Failure> {
    if args.json {
        for profile in Profile::builtins() {
            out::line(facts(profile))?;
        }
        return Ok(Exit::Ok);
    }
    let heads =
        ["NAME", "WEBSOCKET", "METRICS", "IN A FLEET", "CONNECTIONS", "MESSAGES/S", "VARIABLES"];
    let rows = Profile::builtins().iter().map(|profile| {
        let Profile { name, ports, limits, environment, .. } = &**profile;
        let prefixes: Vec<_> = environment.prefixes().map(|prefix| format!("{prefix}_")).collect();
        [
            name.to_string(),
            ports.websocket.to_string(),
            ports.metrics.to_string(),
            format!("{}, {}", ports.websocket_in_fleet(), ports.metrics_in_fleet()),
            limits.connections_max.to_string(),
            limits.messages_per_second.to_string(),
            prefixes.join(", "),
        ]
    });
    for line in out::columns(std::iter::once(heads.map(str::to_owned)).chain(rows)) {
        out::line(line)?;
    }
    Ok(Exit::Ok)
}

/// Prints all that is known of one.
pub(crate) fn show(args: &ServiceShowArgs) -> Result<Exit, Failure> {
    let profile = find(&args.service)?;
    if args.toml {
        out::line(profile.text().trim_end())?;
    } else if args.json {
        out::line(whole(&profile))?;
    } else {
        out::line(text(&profile).trim_end())?;
    }
    Ok(Exit::Ok)
}

fn find(said: &str) -> Result<Arc<Profile>, Failure> {
    if let Some(service) = Service::load(said, Path::new("."), false)? {
        return Ok(service.profile().clone());
    }
    let names: Vec<_> = Profile::builtins().iter().map(|profile| &*profile.name).collect();
    let text = match is_file(said) {
        true => format!("{said}: describes no service"),
        false => format!("no service {said:?}; use one of {}, or a file (.toml)", names.join(", ")),
    };
    Err(Failure::new(Exit::Configuration, text))
}

/// What a list has of it.
fn facts(profile: &Profile) -> Value {
    let Profile {
        name, aliases, title, label, channels, welcome, ports, limits, environment, ..
    } = profile;
    json!({
        "name": name,
        "aliases": aliases,
        "title": title,
        "label": label,
        "protocol": match profile.protocol {
            Protocol::Family => "family",
            Protocol::SessionBuddy => "session-buddy",
        },
        "channels": channels,
        "welcome": {
            "server": welcome.server,
            "message": welcome.message,
            "extras": welcome.extras.iter().map(|extra| word(*extra)).collect::<Vec<_>>(),
        },
        "ports": {
            "websocket": ports.websocket,
            "metrics": ports.metrics,
            "fleet_websocket": ports.websocket_in_fleet(),
            "fleet_metrics": ports.metrics_in_fleet(),
        },
        "limits": {
            "connections_max": limits.connections_max,
            "messages_per_second": limits.messages_per_second,
        },
        "prefixes": environment.prefixes().collect::<Vec<_>>(),
    })
}

fn whole(profile: &Profile) -> Value {
    let access = profile.access.as_ref().map(|access| {
        let rule = |rule: &AccessRule| {
            json!({ "pattern": rule.pattern, "subscribe": rule.subscribe, "publish": rule.publish })
        };
        json!({
            "full_access": access.full_access,
            "publish_anywhere": access.publish_anywhere,
            "lower_case": access.lower_case,
            "rules": access.rules.iter().map(rule).collect::<Vec<_>>(),
        })
    });
    let tokens = &profile.tokens;
    let event = |event: &Event| {
        let rooms: Vec<_> = event.rooms.iter().map(ToString::to_string).collect();
        let fields: Vec<_> = event.fields.iter().map(|field| &*field.name).collect();
        json!({ "name": event.name, "rooms": rooms, "fields": fields })
    };
    let request = |request: &Request| {
        let documents = request.documents.iter().map(|(_, channel)| channel.to_string());
        let documents: Vec<_> = documents.collect();
        json!({ "event": request.event, "key": request.key, "documents": documents })
    };
    let rest = json!({
        "tokens": {
            "issuer": tokens.issuer, "audience": tokens.audience, "permissions": tokens.permissions,
        },
        "access": access,
        "events": profile.events.iter().map(event).collect::<Vec<_>>(),
        "requests": profile.requests.iter().map(request).collect::<Vec<_>>(),
    });
    match (facts(profile), rest) {
        (Value::Object(mut all), Value::Object(rest)) => {
            all.extend(rest);
            Value::Object(all)
        }
        (facts, _) => facts,
    }
}

fn text(profile: &Profile) -> String {
    let Profile { name, title, ports, limits, welcome, environment, tokens, .. } = profile;
    let also = |others: &[u16]| match others {
        [] => String::new(),
        others => {
            let others: Vec<_> = others.iter().map(ToString::to_string).collect();
            format!("; its documents name {} too", others.join(", "))
        }
    };
    let prefixes: Vec<_> = environment.prefixes().map(|prefix| format!("{prefix}_")).collect();
    let extras: Vec<_> = welcome.extras.iter().map(|extra| word(*extra)).collect();
    let mut rows = vec![
        ("name", list_of(std::iter::once(name).chain(&profile.aliases))),
        (
            "websocket",
            format!(
                "{}, in a fleet {}{}",
                ports.websocket,
                ports.websocket_in_fleet(),
                also(&ports.also_websocket)
            ),
        ),
        (
            "metrics",
            format!(
                "{}, in a fleet {}{}",
                ports.metrics,
                ports.metrics_in_fleet(),
                also(&ports.also_metrics)
            ),
        ),
        ("label", profile.label.to_string()),
        (
            "welcome",
            format!("{} {:?} {}", welcome.server, welcome.message, extras.join(" "))
                .trim_end()
                .to_owned(),
        ),
        (
            "limits",
            format!(
                "{} connections, {} messages per second",
                limits.connections_max, limits.messages_per_second
            ),
        ),
        ("variables", format!("{}, then MAHAVISHNU_", prefixes.join(", "))),
    ];
    let other: Vec<_> = environment
        .spellings
        .iter()
        .map(|(row, names)| format!("{row} as {}", list_of(names)))
        .collect();
    if !other.is_empty() {
        rows.push(("", other.join("; ")));
    }
    if let Some(audience) = &tokens.audience {
        rows.push(("audience", format!("{audience}, or none")));
    }
    if !profile.channels.is_empty() {
        rows.push(("channels", list_of(&profile.channels)));
    }
    if let Some(access) = &profile.access {
        rows.push(("full access", list_of(&access.full_access)));
        rows.push(("publish", list_of(&access.publish_anywhere)));
    }
    let rows = rows.into_iter().map(|(name, value)| [name.to_owned(), value]);
    let mut text = format!("{title}\n\n");
    section(&mut text, "", out::columns(rows));
    let rules = profile.access.iter().flat_map(|access| &access.rules).map(rule);
    section(&mut text, "Rights: channels, who may subscribe, who may publish", out::columns(rules));
    section(
        &mut text,
        "Events: name, channels, members of the data",
        out::columns(profile.events.iter().map(event)),
    );
    section(
        &mut text,
        "Requests: name, key, documents that answer",
        out::columns(profile.requests.iter().map(request)),
    );
    text
}

fn section(text: &mut String, heading: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    if !heading.is_empty() {
        text.push_str(&format!("\n{heading}\n"));
    }
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
}

fn rule(rule: &AccessRule) -> [String; 3] {
    let who = |permissions: &[Box<str>]| match permissions {
        [] => "-".to_owned(),
        permissions => list_of(permissions),
    };
    [rule.pattern.to_string(), who(&rule.subscribe), who(&rule.publish)]
}

fn event(event: &Event) -> [String; 3] {
    let rooms: Vec<_> = event.rooms.iter().map(ToString::to_string).collect();
    let mut fields: Vec<_> = event
        .fields
        .iter()
        .map(
            |field| {
                if field.required { field.name.to_string() } else { format!("[{}]", field.name) }
            },
        )
        .collect();
    if event.more {
        fields.push("…".to_owned());
    }
    [event.name.to_string(), rooms.join(", "), fields.join(", ")]
}

fn request(request: &Request) -> [String; 3] {
    let documents: Vec<_> =
        request.documents.iter().map(|(_, channel)| channel.to_string()).collect();
    let key = request.key.as_deref().unwrap_or("-");
    [request.event.to_string(), key.to_owned(), documents.join(", ")]
}

fn list_of<'a>(words: impl IntoIterator<Item = &'a Box<str>>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| &**word).collect();
    words.join(", ")
}

fn word(extra: Extra) -> &'static str {
    match extra {
        Extra::Secure => "secure",
        Extra::RateLimit => "rate_limit",
        Extra::TlsMode => "tls_mode",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_shown_in_words_and_in_json() {
        for profile in Profile::builtins() {
            let text = text(profile);
            assert!(text.starts_with(&*profile.title), "{text}");
            assert!(text.contains(&profile.ports.websocket.to_string()), "{text}");
            for event in &profile.events {
                assert!(text.contains(&*event.name), "{text}");
            }
            let whole = whole(profile);
            assert_eq!(whole["name"], *profile.name);
            assert_eq!(whole["events"].as_array().unwrap().len(), profile.events.len());
        }
        assert_eq!(&*find("Dhara").unwrap().name, "dhruva");
        let failure = find("nobody").unwrap_err();
        assert!(failure.to_string().contains("use one of mahavishnu"), "{failure}");
        let failure = find("./none.toml").unwrap_err();
        assert!(failure.to_string().contains("No such file"), "{failure}");
    }
}
