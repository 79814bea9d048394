//! `mahavishnu publish`: one event through `POST /publish`.

use std::{io::Read, time::Duration};

use mahavishnu_core::protocol::{
    Condition, Epoch, MessageOptions, error_code, publish::PublishMessage,
};
use serde_json::{Map, Value};

use crate::{
    cli::PublishArgs,
    client,
    exit::{Exit, Failure},
    members::{self, Told},
    out, reach,
    url::Target,
};

/// Publishes, and says how many subscribers it reached.
pub(crate) fn publish(args: &PublishArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    let from_input = |word: &Option<String>| word.as_deref() == Some("-");
    let data = if args.service.is_some() { &args.event } else { &args.data };
    if from_input(data) && from_input(&args.state) {
        let why = "DATA and --state cannot both come from standard input";
        return Err(Failure::new(Exit::General, why));
    }
    let told = told(args)?;
    let state = args.state.as_ref().map(|state| object("--state", read(state)?)).transpose()?;
    let options = MessageOptions {
        positions: args.json,
        state: state.as_deref().map(str::trim),
        condition: args.if_offset.map(|offset| Condition { offset, epoch: args.if_epoch }),
        traceparent: None,
    };
    let body = told.body(options)?;
    let token = token(args.client.token.as_deref());
    let key = args.idempotency_key.as_deref();
    let (status, answer) =
        client::post(&target, "/publish", token.as_deref(), key, &body, TIMEOUT)?;
    for became in outcome(&target, status, &answer, (&told, args.json))? {
        out::line(&became.line)?;
        if became.reached == 0 {
            out::note(nobody(&became.channel));
        }
    }
    Ok(Exit::Ok)
}

/// What is to be published.
fn told(args: &PublishArgs) -> Result<Told, Failure> {
    let event = args.event.as_deref().unwrap_or_default();
    let Some(service) = &args.service else {
        let data = object("DATA", read(args.data.as_deref().unwrap_or("{}"))?)?;
        return Ok(Told {
            event: event.into(),
            channels: vec![args.channel.as_str().into()],
            data,
        });
    };
    if args.data.is_some() {
        let why = "with --service there is no CHANNEL: EVENT, then DATA";
        return Err(Failure::new(Exit::General, why));
    }
    // The words are one fewer.
    let data = if event.is_empty() { "{}" } else { event };
    members::event(service, &args.channel, &object("DATA", read(data)?)?, &args.fields)
}

impl Told {
    /// The body of the request: one message, or one for each channel.
    fn body(&self, options: MessageOptions<'_>) -> Result<Vec<u8>, Failure> {
        let Self { event, channels, data } = self;
        match &channels[..] {
            [channel] => Ok(body(channel, event, data, options)),
            _ if options.state.is_some() || options.condition.is_some() => {
                let why = "the event goes to several channels: a document is one channel's";
                Err(Failure::new(Exit::General, why))
            }
            several => {
                let each = several.iter().map(|channel| body(channel, event, data, options));
                let messages = each.collect::<Vec<_>>().join(&b","[..]);
                Ok([b"{\"messages\":[", &messages[..], b"]}"].concat())
            }
        }
    }
}

/// For whoever expected somebody to listen.
fn nobody(channel: &str) -> String {
    format!(
        "nobody is subscribed to {channel:?} at this server: names are the same to the letter, `*` stands for nothing, and of several nodes each counts its own"
    )
}

/// The token given by flag, else by environment.
pub(crate) fn token(flag: Option<&str>) -> Option<String> {
    let given = flag.map(str::to_owned).or_else(|| std::env::var("MAHAVISHNU_TOKEN").ok());
    given.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// DATA as given, from standard input (`-`), or from a file (`@FILE`).
fn read(data: &str) -> Result<String, Failure> {
    if data == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::io("standard input", &error))?;
        return Ok(text);
    }
    match data.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| Failure::io(path, &error)),
        None => Ok(data.to_owned()),
    }
}

/// `text` if it is a JSON object. It is sent as it is, so that no number loses its digits on the way.
fn object(what: &str, text: String) -> Result<String, Failure> {
    let fault =
        |why: String| Failure::new(Exit::General, format!("{what} is not a JSON object: {why}"));
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => Err(fault("put it into one, for example {\"value\": …}".into())),
        Err(error) => Err(fault(error.to_string())),
    }
}

fn body(channel: &str, event: &str, data: &str, options: MessageOptions<'_>) -> Vec<u8> {
    let (channel, event, data) = (channel.into(), event.into(), data.trim());
    let mut body = Vec::new();
    PublishMessage { channel, event, data, options }.write(&mut body);
    body
}

/// What became of one message.
#[derive(Debug, PartialEq, Eq)]
struct Became {
    channel: Box<str>,
    line: String,
    /// How many subscribers.
    reached: u64,
}

/// What to print of each message, or why there is none.
fn outcome(
    target: &Target,
    status: u16,
    answer: &str,
    (told, json): (&Told, bool),
) -> Result<Vec<Became>, Failure> {
    let mut answer: Map<String, Value> = serde_json::from_str(answer).unwrap_or_default();
    let channels = &told.channels;
    if status != 200 {
        let mut failure = client::refused("not published", status, &answer, target.tls);
        match answer.get("error_code").and_then(Value::as_str) {
            Some(error_code::CONFLICT) => failure.exit = Exit::Conflict,
            Some(error_code::FORBIDDEN) => {
                let hints =
                    channels.iter().map(|channel| reach::forbidden_hint(channel, "publish"));
                failure.lines.extend(hints);
            }
            Some(_) | None => {}
        }
        return Err(failure);
    }
    // What became of each is not told by every server.
    let messages = match answer.remove("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(_) | None => vec![Value::Object(answer.clone())],
    };
    // Of one message it is enough to know what became of all.
    let all = answer.get("subscribers").filter(|_| channels.len() == 1);
    let became = channels.iter().zip(&messages).map(|(channel, message)| {
        let reached = message.get("subscribers").or(all).and_then(Value::as_u64)?;
        Some(became(channel, message, reached, (channels.len() > 1, json)))
    });
    let became: Option<Vec<_>> = became.collect();
    became.filter(|all| !all.is_empty()).ok_or_else(|| {
        let url = target.http("/publish");
        Failure::new(Exit::General, format!("{url}: answered, but not as a Mahavishnu server does"))
    })
}

/// `several`: the line says which channel.
fn became(channel: &str, message: &Value, reached: u64, (several, json): (bool, bool)) -> Became {
    let channel = Box::from(channel);
    if json {
        return Became { channel, line: message.to_string(), reached };
    }
    let plural = if reached == 1 { "" } else { "s" };
    let epoch = message.get("epoch").and_then(Value::as_str).and_then(Epoch::parse);
    let position = match (message.get("offset").and_then(Value::as_u64), epoch) {
        (Some(offset), Some(epoch)) => format!("; offset {offset} in epoch {epoch}"),
        _ => String::new(),
    };
    let place = if several { format!(" to {channel}") } else { String::new() };
    let line = format!("published{place}; reached {reached} subscriber{plural}{position}");
    Became { channel, line, reached }
}

const TIMEOUT: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_must_be_an_object_and_keeps_its_digits() {
        assert_eq!(object("DATA", r#"{"n":1.10}"#.into()).as_deref(), Ok(r#"{"n":1.10}"#));
        for bad in ["", "1", "[]", "null", "{", "{}{}"] {
            let failure = object("DATA", bad.into()).unwrap_err();
            assert_eq!(failure.lines.len(), 1, "{bad}");
        }
    }

    #[test]
    fn the_body_is_json_whatever_the_names() {
        let options = MessageOptions::default();
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(
            read(&body("a\"b", "e\n", " {\"x\":1} ", options)),
            json!({ "channel": "a\"b", "event": "e\n", "data": { "x": 1 } })
        );
        let condition = Some(Condition { offset: 7, epoch: Epoch::parse("0123456789") });
        let options = MessageOptions {
            positions: true,
            state: Some(r#"{"n":1.10}"#),
            condition,
            traceparent: None,
        };
        assert_eq!(
            read(&body("c", "e", "{}", options)),
            json!({
                "channel": "c", "event": "e", "data": {}, "positions": true,
                "state": { "n": 1.10 }, "if_offset": 7, "if_epoch": "0123456789"
            })
        );
    }

    fn became(status: u16, answer: &str, flags: &[&str]) -> Result<Became, Failure> {
        use clap::Parser as _;

        let words = ["mahavishnu", "publish", "c", "e"];
        let cli = crate::cli::Cli::try_parse_from(words.iter().chain(flags)).unwrap();
        let crate::cli::Command::Publish(args) = cli.command else { panic!("not publish") };
        let target = Target::parse("http://h:1").unwrap();
        let mut all = outcome(&target, status, answer, (&told(&args).unwrap(), args.json))?;
        Ok(all.remove(0))
    }

    #[test]
    fn answers_become_one_line_and_a_code() {
        let answer = |message: &str| {
            let rest = r#""status":"published","published":1,"subscribers":1"#;
            format!(r#"{{{rest},"messages":[{message}]}}"#)
        };
        let plain = answer(r#"{"channel":"c","subscribers":1}"#);
        let reached = became(200, &plain, &[]).unwrap();
        assert_eq!((&*reached.line, reached.reached), ("published; reached 1 subscriber", 1));
        let message = r#"{"channel":"c","subscribers":1,"epoch":"0123456789","offset":7}"#;
        let placed = became(200, &answer(message), &[]).unwrap().line;
        assert_eq!(placed, "published; reached 1 subscriber; offset 7 in epoch 0123456789");
        let printed = became(200, &answer(message), &["--json"]).unwrap().line;
        assert_eq!(printed.parse::<Value>().unwrap(), message.parse::<Value>().unwrap());
        let conflict = r#"{"status":"error","error_code":"CONFLICT","error_message":"Changed"}"#;
        assert_eq!(became(409, conflict, &[]).unwrap_err().exit, Exit::Conflict);
        let busy = r#"{"status":"error","error_code":"SERVER_ERROR","error_message":"Used"}"#;
        assert_eq!(became(409, busy, &[]).unwrap_err().exit, Exit::General);
        let lines = became(500, "<html>", &[]).unwrap_err().lines;
        assert_eq!(lines, ["not published: HTTP 500"]);
        assert_eq!(became(200, "hello", &[]).unwrap_err().exit, Exit::General);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused = |status, code: &str, message: &str| {
            let answer = json!({ "status": "error", "error_code": code, "error_message": message });
            became(status, &answer.to_string(), &[]).unwrap_err()
        };
        let failure = refused(403, "FORBIDDEN", "Not\nauthorized");
        assert_eq!(failure.exit, Exit::Permission);
        assert_eq!(failure.lines.len(), 2, "{failure}");
        assert_eq!(failure.lines[0], r"not published: HTTP 403 FORBIDDEN: Not\nauthorized");
        assert!(failure.lines[1].starts_with("`mahavishnu explain --channel c --verb publish`"));
        let failure = refused(401, "AUTH_REQUIRED", "Authentication required");
        assert!(failure.to_string().ends_with("(give a token by --token or MAHAVISHNU_TOKEN)"));
        let failure = refused(401, "AUTH_FAILED", "Invalid or expired token");
        assert!(failure.to_string().contains("`mahavishnu token inspect`"), "{failure}");
        let lines = became(426, "{}", &[]).unwrap_err().lines;
        assert!(lines[0].contains("the port speaks TLS: use wss:// or https://"), "{lines:?}");
        let lines = became(502, "<html>", &[]).unwrap_err().lines;
        assert!(lines[0].contains("is the server behind it running?"), "{lines:?}");
    }

    #[test]
    fn an_event_of_several_channels_says_what_became_of_each() {
        let fields =
            ["team_id=1", "team_name=a", "goal=g", "mode=m", "user_id=u"].map(str::to_owned);
        let told = members::event("mahavishnu", "team.created", "{}", &fields).unwrap();
        let body = told.body(MessageOptions::default()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let channels: Vec<_> = body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["channel"].as_str().unwrap())
            .collect();
        assert_eq!(channels, ["goal-teams", "goal-teams:u"]);
        let answer = r#"{"status":"published","messages":[{"subscribers":2},{"subscribers":0}]}"#;
        let target = Target::parse("http://h:1").unwrap();
        let all = outcome(&target, 200, answer, (&told, false)).unwrap();
        assert_eq!(all[0].line, "published to goal-teams; reached 2 subscribers");
        assert_eq!((&*all[1].channel, all[1].reached), ("goal-teams:u", 0));
        let state = MessageOptions { state: Some("{}"), ..MessageOptions::default() };
        assert!(told.body(state).is_err());
    }
}
