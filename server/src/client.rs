//! The HTTP client of the subcommands, and its errors in an operator's words.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use serde_json::{Map, Value};
use ureq::unversioned::{
    resolver::DefaultResolver,
    transport::{Connector, TcpConnector},
};

use crate::{
    connector::Secure,
    exit::{Exit, Failure},
    reach, trust,
    url::Target,
};

/// A client that answers within `timeout` and goes straight to the server: a proxy would hide what it is asked for.
pub(crate) fn agent(timeout: Duration) -> ureq::Agent {
    config(timeout).into()
}

/// [`agent`] for `target`, which may want TLS.
pub(crate) fn agent_for(target: &Target, timeout: Duration) -> Result<ureq::Agent, Failure> {
    if !target.tls {
        return Ok(agent(timeout));
    }
    Ok(agent_over(trust::client_config()?, timeout))
}

/// [`agent`] for servers that `tls` takes.
pub(crate) fn agent_over(tls: Arc<ClientConfig>, timeout: Duration) -> ureq::Agent {
    let connector = ().chain(TcpConnector::default()).chain(Secure(tls));
    ureq::Agent::with_parts(config(timeout), connector, DefaultResolver::default())
}

fn config(timeout: Duration) -> ureq::config::Config {
    let config = ureq::Agent::config_builder().timeout_global(Some(timeout));
    let config = config.http_status_as_error(false).proxy(None);
    config.max_redirects(0).max_redirects_will_error(false).build()
}

/// Posts JSON, with a token and an idempotency key if they are given. Returns status and body of the answer.
pub(crate) fn post(
    target: &Target,
    path: &str,
    token: Option<&str>,
    key: Option<&str>,
    body: &[u8],
    timeout: Duration,
) -> Result<(u16, String), Failure> {
    let url = &target.http(path);
    let mut request =
        agent_for(target, timeout)?.post(url).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let mut response = request.send(body).map_err(|error| unsent(url, &error))?;
    let status = response.status().as_u16();
    let answer = response.body_mut().read_to_string().map_err(|error| failure(url, &error))?;
    Ok((status, answer))
}

/// Asks for `path` with its query, with a token if one is given. Returns status and body of the answer.
pub(crate) fn get(
    agent: &ureq::Agent,
    url: &str,
    token: Option<&str>,
) -> Result<(u16, String), Failure> {
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut response = request.call().map_err(|error| unsent(url, &error))?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    Ok((status, body.map_err(|error| failure(url, &error))?))
}

/// Why a request got no answer. The library's words would repeat a header that cannot be sent, which may be the token.
fn unsent(url: &str, error: &ureq::Error) -> Failure {
    match matches!(error, ureq::Error::Http(_)) {
        true => Failure::new(
            Exit::General,
            "the token or the key has characters that no header may have",
        ),
        false => failure(url, error),
    }
}

/// A refusal of the server in one line, with the exit code that its status calls for. `tls`: whether it was asked over TLS.
pub(crate) fn refused(what: &str, status: u16, answer: &Map<String, Value>, tls: bool) -> Failure {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let exit = match status {
        401 | 403 => Exit::Permission,
        408 | 504 => Exit::Timeout,
        _ => Exit::General,
    };
    let code = text("error_code").map_or_else(String::new, |code| format!(" {code}"));
    let message = text("error_message")
        .map_or_else(String::new, |message| format!(": {}", message.escape_debug()));
    let hint = match text("error_code") {
        Some(code) => reach::token_hint(code),
        None => reach::hint(status, tls),
    };
    Failure::new(exit, format!("{what}: HTTP {status}{code}{message}{hint}"))
}

/// What became of a request that got no answer.
pub(crate) fn failure(url: &str, error: &ureq::Error) -> Failure {
    let tls = url.starts_with("https://");
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are words of the library's own")]
    let (exit, why) = match error {
        ureq::Error::Io(error) => reach::unreached(error, tls),
        ureq::Error::Timeout(_) => (Exit::Timeout, reach::LATE.to_owned()),
        ureq::Error::Protocol(_) => (Exit::General, reach::no_http(tls)),
        ureq::Error::HostNotFound => {
            (Exit::General, "the name has no address; is it spelt right?".to_owned())
        }
        error => (Exit::General, error.to_string()),
    };
    Failure::new(exit, format!("{url}: {why}"))
}

/// A page of history is bounded by a quarter of what the server lets wait for one client.
const ANSWER_BYTES_MAX: u64 = 128 << 20;
