//! `mahavishnu publish`: one event through `POST /publish`.

use std::{io::Read, time::Duration};

use mahavishnu_core::protocol::{MessageOptions, publish::PublishMessage};
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
    let data = object(read(&args.data)?)?;
    let body = body(&args.channel, &args.event, &data);
    let token = token(args.client.token.as_deref());
    let key = args.idempotency_key.as_deref();
    let (status, answer) =
        client::post(&target, "/publish", token.as_deref(), key, &body, TIMEOUT)?;
    outcome(&url, status, &answer).and_then(|line| {
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

/// `data` if it is a JSON object. The text itself is sent, so that no number loses its digits on the way.
fn object(data: String) -> Result<String, Failure> {
    let fault =
        |why: String| Failure::new(Exit::General, format!("DATA is not a JSON object: {why}"));
    match serde_json::from_str::<Value>(&data) {
        Ok(Value::Object(_)) => Ok(data),
        Ok(_) => Err(fault("put it into one, for example {\"value\": …}".into())),
        Err(error) => Err(fault(error.to_string())),
    }
}

fn body(channel: &str, event: &str, data: &str) -> Vec<u8> {
    let message = PublishMessage {
        channel: channel.into(),
        event: event.into(),
        data: data.trim(),
        options: MessageOptions::default(),
    };
    let mut body = Vec::new();
    message.write(&mut body);
    body
}

/// The line to print, or why not.
fn outcome(url: &str, status: u16, answer: &str) -> Result<String, Failure> {
    let answer: Map<String, Value> = serde_json::from_str(answer).unwrap_or_default();
    if status == 200 {
        let Some(count) = answer.get("subscribers").and_then(Value::as_u64) else {
            return Err(Failure::new(
                Exit::General,
                format!("{url}: answered, but not as a Mahavishnu server does"),
            ));
        };
        return Ok(format!(
            "published; reached {count} subscriber{}",
            if count == 1 { "" } else { "s" }
        ));
    }
    Err(client::refused("not published", status, &answer))
}

const TIMEOUT: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_must_be_an_object_and_keeps_its_digits() {
        assert_eq!(object(r#"{"n":1.10}"#.into()).as_deref(), Ok(r#"{"n":1.10}"#));
        for bad in ["", "1", "[]", "null", "{", "{}{}"] {
            let failure = object(bad.into()).unwrap_err();
            assert_eq!(failure.lines.len(), 1, "{bad}");
        }
    }

    #[test]
    fn the_body_is_json_whatever_the_names() {
        let value: Value = serde_json::from_slice(&body("a\"b", "e\n", " {\"x\":1} ")).unwrap();
        assert_eq!(
            value,
            serde_json::json!({ "channel": "a\"b", "event": "e\n", "data": { "x": 1 } })
        );
    }

    #[test]
    fn answers_become_one_line_and_a_code() {
        let reached =
            outcome("u", 200, r#"{"status":"published","published":1,"subscribers":1}"#).unwrap();
        assert_eq!(reached, "published; reached 1 subscriber");
        let refused =
            r#"{"status":"error","error_code":"FORBIDDEN","error_message":"Not\nauthorized"}"#;
        let failure = outcome("u", 403, refused).unwrap_err();
        assert_eq!(
            failure,
            Failure::new(Exit::Permission, r"not published: HTTP 403 FORBIDDEN: Not\nauthorized")
        );
        assert_eq!(outcome("u", 502, "<html>").unwrap_err().lines, ["not published: HTTP 502"]);
        assert_eq!(outcome("u", 200, "hello").unwrap_err().exit, Exit::General);
    }
}
