//! The file of revoked tokens, and `mahavishnu token revoke`.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use mahavishnu_core::{
    auth::{self, Moment, Revocation, Revocations},
    limits::Limits,
    reason::Reason,
};
use serde_json::{Map, Value};

use crate::{
    cli::TokenRevokeArgs,
    client,
    exit::{Exit, Failure},
    handed, out, publish, token,
    url::Target,
};

/// Reads a file of revocations: one JSON object a line, as `token revoke` prints them. Empty lines and lines that begin
/// with # are left out. They count as long as they stand there.
pub(crate) fn read(path: &Path) -> Result<Revocations, (Exit, String)> {
    let shown = path.display();
    let text = handed::text(path)?;
    let mut all = Revocations::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: String| (Exit::Configuration, format!("{shown}:{number}: {why}"));
        let revocation = Revocation::parse(line).map_err(|error| {
            wrong(format!("{error}; `mahavishnu token revoke --print` prints such lines"))
        })?;
        all.add(Moment::default(), &revocation, Duration::MAX);
        let max = Limits::default().revocations.revocations_max;
        if all.len() > max {
            return Err(wrong(format!("more than {max} revocations; take out what has expired")));
        }
    }
    Ok(all)
}

/// Revokes tokens on a running server, and prints the line that makes it last in MAHAVISHNU_REVOKED_FILE.
pub(crate) fn revoke(args: &TokenRevokeArgs) -> Result<Exit, Failure> {
    let revocation = revocation(args)?;
    if !args.print {
        let target = Target::from_args(args.client.url.as_deref())?;
        let url = target.http(PATH);
        let token = publish::token(args.client.token.as_deref());
        let (status, answer) = client::post(
            &target,
            PATH,
            token.as_deref(),
            None,
            revocation.to_json().as_bytes(),
            TIMEOUT,
        )?;
        let (exit, note) = outcome(&url, status, &answer)?;
        out::note(note);
        out::line(revocation.to_json())?;
        return Ok(exit);
    }
    out::line(revocation.to_json())?;
    Ok(Exit::Ok)
}

fn revocation(args: &TokenRevokeArgs) -> Result<Revocation, Failure> {
    let fault = |text: &str| Failure::new(Exit::General, text);
    let mut revocation = Revocation {
        id: args.jti.as_deref().map(Box::from),
        user: args.user.as_deref().map(Box::from),
        issued_before: args.issued_before.as_deref().map(moment).transpose()?,
        until: args.until.as_deref().map(moment).transpose()?,
    };
    if let Some(revoked) = &args.revoked {
        let revoked = match revoked.as_str() {
            "-" => token::from_stdin()?,
            given => given.to_owned(),
        };
        let parts = auth::inspect(&revoked).ok_or_else(|| fault("not a token"))?;
        let claims = parts.get("claims").unwrap_or(&Value::Null);
        let id = claims.get("jti").and_then(Value::as_str).ok_or_else(|| {
            fault("the token has no jti: revoke by --user and --issued-before instead")
        })?;
        revocation.id = Some(id.into());
        let expires = claims.get("exp").and_then(Value::as_f64).map(|exp| exp.max(0.0).ceil());
        let expires = expires.map(|exp| Duration::from_secs(exp as u64));
        revocation.until = revocation.until.or(expires);
    }
    let check = revocation.check();
    check.map_err(|error| Failure::new(Exit::General, error.to_string()))?;
    Ok(revocation)
}

/// `now`, seconds since the Unix epoch, or RFC 3339.
fn moment(text: &str) -> Result<Duration, Failure> {
    if text.eq_ignore_ascii_case("now") {
        // A token of this very second is older than the next one.
        return Ok(Duration::from_secs(token::unix_now().as_secs() + 1));
    }
    let seconds = text.parse().ok().or_else(|| {
        let time: Timestamp = text.parse().ok()?;
        u64::try_from(time.as_second()).ok()
    });
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let text =
            format!("{text:?} is no time; use now, seconds since 1970 or 2026-01-31T12:00:00Z");
        Failure::new(Exit::General, text)
    })
}

/// What to tell and how to end, or why it was not done.
fn outcome(url: &str, status: u16, answer: &str) -> Result<(Exit, String), Failure> {
    let answer: Map<String, Value> = serde_json::from_str(answer).unwrap_or_default();
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    if status == 200 {
        let Some(closed) = number("closed") else {
            let text = format!("{url}: answered, but not as a Mahavishnu server does");
            return Err(Failure::new(Exit::General, text));
        };
        let plural = if closed == 1 { "" } else { "s" };
        let how_far = match (number("nodes"), number("confirmed")) {
            (Some(nodes), Some(confirmed)) if confirmed < nodes => format!(
                " on {confirmed} of {nodes} nodes; the others have not confirmed it in time and follow as soon as they hear of it"
            ),
            (Some(nodes), Some(_)) => {
                format!(" on all {nodes} nodes, and on those that come later")
            }
            _ => " until the next restart".to_owned(),
        };
        let text = format!("revoked{how_far}; closed {closed} connection{plural}. {FOR_GOOD}");
        return Ok((Exit::Ok, text));
    }
    let told = answer.get("error_message").and_then(Value::as_str);
    let is = |reason: Reason| {
        let row = reason.row();
        row.status == Some(status) && told == Some(row.text)
    };
    let follows = if is(Reason::RevokedHere) {
        "not yet on the others: Redis is away, and that node tells them when it is back, unless it is stopped before. \
         To have it elsewhere now, ask each node (--url)"
    } else if is(Reason::NodesUntold) {
        "not on the others, which it will not tell: Redis is away, and too much waits for it already. Ask each node (--url), \
         or again when Redis is back"
    } else {
        return Err(client::refused("not revoked", status, &answer, url.starts_with("https://")));
    };
    let text = format!("revoked on the node that was asked, and {follows}. {FOR_GOOD}");
    Ok((Exit::Timeout, text))
}

const FOR_GOOD: &str = "For good: this line in MAHAVISHNU_REVOKED_FILE";

const PATH: &str = "/revoke";
const TIMEOUT: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> TokenRevokeArgs {
        TokenRevokeArgs {
            client: crate::cli::ClientArgs { url: None, token: None },
            revoked: None,
            jti: None,
            user: None,
            issued_before: None,
            until: None,
            print: true,
        }
    }

    #[test]
    fn times_are_now_seconds_or_a_date() {
        assert_eq!(moment("1770000000"), Ok(Duration::from_secs(1_770_000_000)));
        assert_eq!(moment("2026-02-02T02:40:00Z"), Ok(Duration::from_secs(1_770_000_000)));
        assert!(moment("now").unwrap() > Duration::from_secs(1_770_000_000));
        for bad in ["", "yesterday", "-5", "1.5", "1960-01-01T00:00:00Z"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_names_itself() {
        // {"jti":"t1","exp":1770000000}
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiJ0MSIsImV4cCI6MTc3MDAwMDAwMH0.x";
        let revocation = revocation(&TokenRevokeArgs { revoked: Some(token.into()), ..args() });
        assert_eq!(revocation.unwrap().to_json(), r#"{"jti":"t1","until":1770000000}"#);
    }

    #[test]
    fn what_became_of_it_is_told_and_where() {
        let told = |status, answer: &str| outcome("http://x/revoke", status, answer);
        let alone = told(200, r#"{"status":"revoked","closed":1}"#).unwrap();
        let expected = "revoked until the next restart; closed 1 connection. For good: this line in MAHAVISHNU_REVOKED_FILE";
        assert_eq!(alone, (Exit::Ok, expected.to_owned()));
        let (exit, all) = told(200, r#"{"closed":0,"nodes":3,"confirmed":3}"#).unwrap();
        assert!(
            exit == Exit::Ok && all.contains(" on all 3 nodes") && all.contains(" 0 connections")
        );
        let (exit, some) = told(200, r#"{"closed":2,"nodes":3,"confirmed":2}"#).unwrap();
        assert!(
            exit == Exit::Ok && some.contains(" on 2 of 3 nodes; the others have not"),
            "{some}"
        );

        let row = Reason::RevokedHere.row();
        let body =
            |text: &str| format!(r#"{{"error_code":"SERVER_ERROR","error_message":"{text}"}}"#);
        let (exit, here) = told(503, &body(row.text)).unwrap();
        assert_eq!((exit, row.status), (Exit::Timeout, Some(503)));
        assert!(here.starts_with("revoked on the node that was asked, and not yet on the others"));
        let (exit, untold) = told(503, &body(Reason::NodesUntold.row().text)).unwrap();
        assert_eq!(exit, Exit::Timeout);
        let expected = "revoked on the node that was asked, and not on the others, which it will";
        assert!(untold.starts_with(expected) && untold.ends_with(FOR_GOOD), "{untold}");
        let busy = told(503, &body("Server busy")).unwrap_err();
        assert_eq!(busy.to_string(), "not revoked: HTTP 503 SERVER_ERROR: Server busy");
        assert!(told(200, "{}").is_err());
    }

    #[test]
    fn nothing_cannot_be_revoked() {
        assert!(revocation(&args()).is_err());
        // {"exp":1}: no name.
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.x";
        let failure = revocation(&TokenRevokeArgs { revoked: Some(token.into()), ..args() });
        assert!(failure.unwrap_err().to_string().contains("has no jti"));
    }

    #[test]
    fn a_file_has_one_revocation_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.jsonl");
        std::fs::write(&path, "# left the company\n{\"user\":\"eve\"}\n\n{\"jti\":\"t1\"}\n")
            .unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        std::fs::write(&path, "{\"user\":\"eve\"}\n{\"usr\":\"eve\"}\n").unwrap();
        let (exit, line) = read(&path).unwrap_err();
        assert_eq!(exit, Exit::Configuration);
        assert!(line.contains("revoked.jsonl:2: a revocation is a JSON object"), "{line}");
    }
}
