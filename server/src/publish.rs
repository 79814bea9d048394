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
    out,
    url::Target,
};

/// Publishes, and says how many subscribers it reached.
pub(crate) fn publish(args: &PublishArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    let url = target.http("/publish");
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
    outcome(&url, status, &answer, args.json).and_then(|line| {
        out::line(line)?;
        Ok(Exit::Ok)
    })
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

/// The line to print, or why not.
fn outcome(url: &str, status: u16, answer: &str, json: bool) -> Result<String, Failure> {
    let answer: Map<String, Value> = serde_json::from_str(answer).unwrap_or_default();
    if status != 200 {
        let mut failure = client::refused("not published", status, &answer);
        if answer.get("error_code").and_then(Value::as_str) == Some(error_code::CONFLICT) {
            failure.exit = Exit::Conflict;
        }
        return Err(failure);
    }
    let Some(count) = answer.get("subscribers").and_then(Value::as_u64) else {
        return Err(Failure::new(
            Exit::General,
            format!("{url}: answered, but not as a Mahavishnu server does"),
        ));
    };
    // What became of it is not told by every server.
    let message = answer.get("messages").and_then(|messages| messages.get(0)).cloned();
    let message = message.unwrap_or(Value::Object(answer));
    if json {
        return Ok(message.to_string());
    }
    let plural = if count == 1 { "" } else { "s" };
    let epoch = message.get("epoch").and_then(Value::as_str).and_then(Epoch::parse);
    let position = match (message.get("offset").and_then(Value::as_u64), epoch) {
        (Some(offset), Some(epoch)) => format!("; offset {offset} in epoch {epoch}"),
        _ => String::new(),
    };
    Ok(format!("published; reached {count} subscriber{plural}{position}"))
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

    #[test]
    fn answers_become_one_line_and_a_code() {
        let answer = |message: &str| {
            let rest = r#""status":"published","published":1,"subscribers":1"#;
            format!(r#"{{{rest},"messages":[{message}]}}"#)
        };
        let plain = answer(r#"{"channel":"c","subscribers":1}"#);
        let reached = outcome("u", 200, &plain, false).unwrap();
        assert_eq!(reached, "published; reached 1 subscriber");
        let message = r#"{"channel":"c","subscribers":1,"epoch":"0123456789","offset":7}"#;
        let placed = outcome("u", 200, &answer(message), false).unwrap();
        assert_eq!(placed, "published; reached 1 subscriber; offset 7 in epoch 0123456789");
        let printed = outcome("u", 200, &answer(message), true).unwrap();
        assert_eq!(printed.parse::<Value>().unwrap(), message.parse::<Value>().unwrap());
        let refused =
            r#"{"status":"error","error_code":"FORBIDDEN","error_message":"Not\nauthorized"}"#;
        let failure = outcome("u", 403, refused, false).unwrap_err();
        assert_eq!(
            failure,
            Failure::new(Exit::Permission, r"not published: HTTP 403 FORBIDDEN: Not\nauthorized")
        );
        let conflict = r#"{"status":"error","error_code":"CONFLICT","error_message":"Changed"}"#;
        assert_eq!(outcome("u", 409, conflict, false).unwrap_err().exit, Exit::Conflict);
        let busy = r#"{"status":"error","error_code":"SERVER_ERROR","error_message":"Used"}"#;
        assert_eq!(outcome("u", 409, busy, false).unwrap_err().exit, Exit::General);
        let lines = outcome("u", 502, "<html>", false).unwrap_err().lines;
        assert_eq!(lines, ["not published: HTTP 502"]);
        assert_eq!(outcome("u", 200, "hello", false).unwrap_err().exit, Exit::General);
    }
}
