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
    out, reach,
    url::Target,
};

/// Publishes, and says how many subscribers it reached.
pub(crate) fn publish(args: &PublishArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    if args.data == "-" && args.state.as_deref() == Some("-") {
        let why = "DATA and --state cannot both come from standard input";
        return Err(Failure::new(Exit::General, why));
    }
    let data = object("DATA", read(&args.data)?)?;
    let state = args.state.as_ref().map(|state| object("--state", read(state)?)).transpose()?;
    let options = MessageOptions {
        positions: args.json,
        state: state.as_deref().map(str::trim),
        condition: args.if_offset.map(|offset| Condition { offset, epoch: args.if_epoch }),
        traceparent: None,
    };
    let body = body(&args.channel, &args.event, &data, options);
    let token = token(args.client.token.as_deref());
    let key = args.idempotency_key.as_deref();
    let (status, answer) =
        client::post(&target, "/publish", token.as_deref(), key, &body, TIMEOUT)?;
    let told = outcome(&target, status, &answer, args)?;
    out::line(told.line)?;
    if told.reached == 0 {
        out::note(nobody(&args.channel));
    }
    Ok(Exit::Ok)
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

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    line: String,
    /// How many subscribers.
    reached: u64,
}

/// What to print, or why not.
fn outcome(
    target: &Target,
    status: u16,
    answer: &str,
    args: &PublishArgs,
) -> Result<Told, Failure> {
    let answer: Map<String, Value> = serde_json::from_str(answer).unwrap_or_default();
    if status != 200 {
        let mut failure = client::refused("not published", status, &answer, target.tls);
        match answer.get("error_code").and_then(Value::as_str) {
            Some(error_code::CONFLICT) => failure.exit = Exit::Conflict,
            Some(error_code::FORBIDDEN) => {
                failure.lines.push(reach::forbidden_hint(&args.channel, "publish"));
            }
            Some(_) | None => {}
        }
        return Err(failure);
    }
    let Some(count) = answer.get("subscribers").and_then(Value::as_u64) else {
        return Err(Failure::new(
            Exit::General,
            format!("{}: answered, but not as a Mahavishnu server does", target.http("/publish")),
        ));
    };
    // What became of it is not told by every server.
    let message = answer.get("messages").and_then(|messages| messages.get(0)).cloned();
    let message = message.unwrap_or(Value::Object(answer));
    if args.json {
        return Ok(Told { line: message.to_string(), reached: count });
    }
    let plural = if count == 1 { "" } else { "s" };
    let epoch = message.get("epoch").and_then(Value::as_str).and_then(Epoch::parse);
    let position = match (message.get("offset").and_then(Value::as_u64), epoch) {
        (Some(offset), Some(epoch)) => format!("; offset {offset} in epoch {epoch}"),
        _ => String::new(),
    };
    let line = format!("published; reached {count} subscriber{plural}{position}");
    Ok(Told { line, reached: count })
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

    fn told(status: u16, answer: &str, flags: &[&str]) -> Result<Told, Failure> {
        use clap::Parser as _;

        let words = ["mahavishnu", "publish", "c", "e"];
        let cli = crate::cli::Cli::try_parse_from(words.iter().chain(flags)).unwrap();
        let crate::cli::Command::Publish(args) = cli.command else { panic!("not publish") };
        outcome(&Target::parse("http://h:1").unwrap(), status, answer, &args)
    }

    #[test]
    fn answers_become_one_line_and_a_code() {
        let answer = |message: &str| {
            let rest = r#""status":"published","published":1,"subscribers":1"#;
            format!(r#"{{{rest},"messages":[{message}]}}"#)
        };
        let plain = answer(r#"{"channel":"c","subscribers":1}"#);
        let reached = told(200, &plain, &[]).unwrap();
        assert_eq!(
            reached,
            Told { line: "published; reached 1 subscriber".to_owned(), reached: 1 }
        );
        let message = r#"{"channel":"c","subscribers":1,"epoch":"0123456789","offset":7}"#;
        let placed = told(200, &answer(message), &[]).unwrap().line;
        assert_eq!(placed, "published; reached 1 subscriber; offset 7 in epoch 0123456789");
        let printed = told(200, &answer(message), &["--json"]).unwrap().line;
        assert_eq!(printed.parse::<Value>().unwrap(), message.parse::<Value>().unwrap());
        let conflict = r#"{"status":"error","error_code":"CONFLICT","error_message":"Changed"}"#;
        assert_eq!(told(409, conflict, &[]).unwrap_err().exit, Exit::Conflict);
        let busy = r#"{"status":"error","error_code":"SERVER_ERROR","error_message":"Used"}"#;
        assert_eq!(told(409, busy, &[]).unwrap_err().exit, Exit::General);
        let lines = told(500, "<html>", &[]).unwrap_err().lines;
        assert_eq!(lines, ["not published: HTTP 500"]);
        assert_eq!(told(200, "hello", &[]).unwrap_err().exit, Exit::General);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused = |status, code: &str, message: &str| {
            let answer = json!({ "status": "error", "error_code": code, "error_message": message });
            told(status, &answer.to_string(), &[]).unwrap_err()
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
        let lines = told(426, "{}", &[]).unwrap_err().lines;
        assert!(lines[0].contains("the port speaks TLS: use wss:// or https://"), "{lines:?}");
        let lines = told(502, "<html>", &[]).unwrap_err().lines;
        assert!(lines[0].contains("is the server behind it running?"), "{lines:?}");
    }
}
