//! WebSocket as a client uses it: connect, show a token, subscribe, publish, receive, stay.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use mahavishnu_core::{
    entropy::Entropy,
    protocol::{Request, error_code},
    reason::Reason,
};
use serde_json::{Value, json};

use super::{answers, report::Check, served, site::Site};
use crate::{
    cli::VerifyArgs,
    exit::{Exit, Failure},
    out, settings,
    subscribe::{End, Link, News},
    token,
};

/// A connection, and what has come over it that nobody has waited for yet.
pub(super) struct Talk {
    link: Link,
    heard: VecDeque<Value>,
    timeout: Duration,
    asked: u64,
    /// Until the handshake was done.
    took: Duration,
}

impl Talk {
    /// Connects. `forwarded` is a header that pretends to come from a proxy.
    pub(super) fn open(site: &Site, forwarded: Option<IpAddr>) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        let value = forwarded.and_then(|ip| HeaderValue::try_from(ip.to_string()).ok());
        if let Some(value) = value {
            headers.insert("x-forwarded-for", value);
        }
        let begun = Instant::now();
        let entropy = Entropy::new(token::seed()?);
        let link = Link::open_with(&site.target, headers, site.tls.clone(), entropy);
        let link = link.map_err(failure)?;
        let mut talk = Self {
            link,
            heard: VecDeque::new(),
            timeout: site.timeout,
            asked: 0,
            took: Duration::ZERO,
        };
        match talk.link.next(Some(begun + talk.timeout)) {
            Some(News::Open) => talk.took = begun.elapsed(),
            Some(News::Ended(end)) => return Err(failure(end)),
            Some(News::Text(_)) | None => return Err(late("the handshake")),
        }
        Ok(talk)
    }

    /// The address that it goes out from, as this machine sees it.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        self.link.local_address()
    }

    /// Asks, and waits for the answer, which may be an error of the protocol.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Result<Value, Failure> {
        self.asked += 1;
        let id = format!("verify-{}", self.asked);
        self.link.send(&request.to_text(Some(&id)));
        self.wait("an answer", |message| {
            // Who is not let in is told so without a name.
            let code = message.get("error_code").and_then(Value::as_str).unwrap_or_default();
            message.get("correlation_id").and_then(Value::as_str) == Some(&id)
                || [error_code::AUTH_REQUIRED, error_code::AUTH_FAILED].contains(&code)
        })
    }

    /// The first message for which `wanted` holds, of those that have come and then of those that come.
    fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        if let Some(place) = self.heard.iter().position(&wanted)
            && let Some(message) = self.heard.remove(place)
        {
            return Ok(message);
        }
        let until = Instant::now() + self.timeout;
        loop {
            match self.link.next(Some(until)) {
                Some(News::Text(text)) => {
                    let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
                    if wanted(&message) {
                        return Ok(message);
                    }
                    if self.heard.len() < HEARD_MAX {
                        self.heard.push_back(message);
                    }
                }
                Some(News::Ended(end)) => return Err(failure(end)),
                Some(News::Open) => {}
                None => return Err(late(what)),
            }
        }
    }

    /// Says nothing for so long, but for what pings ask for.
    fn hold(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while let Some(news) = self.link.next(Some(until)) {
            if let News::Ended(end) = news {
                return Err(failure(end));
            }
        }
        Ok(())
    }

    /// What the server calls this connection.
    pub(super) fn connection_id(&mut self) -> Option<String> {
        let welcome =
            self.wait("the welcome", |message| message.pointer("/data/connection_id").is_some());
        Some(welcome.ok()?.pointer("/data/connection_id")?.as_str()?.to_owned())
    }

    pub(super) fn finish(mut self) {
        self.link.finish(Reason::Finished);
    }
}

/// Connection, authentication, a round trip, and a silence.
pub(super) fn checks(site: &Site, args: &VerifyArgs) -> Vec<Check> {
    if site.is_mutual {
        return vec![Check::skipped(WEBSOCKET, served::MUTUAL)];
    }
    let mut talk = match Talk::open(site, None) {
        Ok(talk) => talk,
        Err(failure) => {
            let status = failure.to_string().split("HTTP ").nth(1).map(|rest| rest.parse());
            let remedy = match status {
                Some(Ok(status)) => answers::remedy(status, None),
                _ => "what is between must pass WebSocket on, and not close it".to_owned(),
            };
            return vec![Check::failure(WEBSOCKET, &failure, &remedy)];
        }
    };
    let took = ms(talk.took);
    let mut checks = vec![Check::ok(WEBSOCKET, format!("{}: open in {took}", site.target.ws()))];
    let channel = args.channel.clone().unwrap_or_else(|| {
        let unique = token::seed().map(|seed| Entropy::new(seed).uuid().to_string());
        format!("workflow:verify-{}", unique.unwrap_or_default())
    });
    let (authentication, may_go_on) = authentication(site, &mut talk, &channel);
    checks.push(authentication);
    if !may_go_on {
        checks.push(Check::skipped(ROUND_TRIP, "not as long as we are not let in"));
        checks.push(Check::skipped(IDLE, "not as long as we are not let in"));
        return checks;
    }
    let (trip, subscribed) = round_trip(&mut talk, &channel);
    checks.push(trip);
    checks.push(idle(&mut talk, args.idle, subscribed.then_some(&channel)));
    talk.finish();
    checks
}

/// Whether clients need a token, and whether ours is one. True if one may go on.
fn authentication(site: &Site, talk: &mut Talk, channel: &str) -> (Check, bool) {
    let stranger = Talk::open(site, None).and_then(|mut stranger| {
        let answer = stranger.ask(&Request::Subscribe { channel });
        stranger.finish();
        answer
    });
    let needed = match stranger {
        Ok(answer) => code(&answer) == error_code::AUTH_REQUIRED,
        Err(failure) if failure.exit == Exit::Permission => true,
        Err(failure) => return (Check::failure(AUTHENTICATION, &failure, ""), false),
    };
    let Some(token) = &site.token else {
        if needed {
            let found = "clients need a token, and none was given: --token or MAHAVISHNU_TOKEN";
            return (Check::ok(AUTHENTICATION, found), false);
        }
        return (open_to_all(site), true);
    };
    let answer = match talk.ask(&Request::Auth { token }) {
        Ok(answer) => answer,
        Err(failure) => return (Check::failure(AUTHENTICATION, &failure, ""), false),
    };
    let user = answer.pointer("/data/user_id").and_then(Value::as_str);
    match (answer.get("type").and_then(Value::as_str), needed) {
        (Some("response"), true) => {
            let user = user.map_or_else(String::new, |user| format!(", of {user:?}"));
            (
                Check::ok(AUTHENTICATION, format!("clients need a token; ours is accepted{user}")),
                true,
            )
        }
        (_, false) => (open_to_all(site), true),
        (_, true) => {
            let found = format!("our token is refused: {}", said(&answer));
            let remedy = "`mahavishnu token inspect` with the server's settings says why";
            (Check::fail(AUTHENTICATION, found, remedy), false)
        }
    }
}

fn open_to_all(site: &Site) -> Check {
    if settings::is_loopback(&site.target.host) {
        let found = "off: clients need no token, on an address of this machine alone";
        return Check::ok(AUTHENTICATION, found);
    }
    let found = "off: whoever reaches this address may subscribe to everything";
    let remedy = "MAHAVISHNU_AUTH_ENABLED=true and a secret: `mahavishnu init` writes both";
    Check::warn(AUTHENTICATION, found, remedy)
}

/// Subscribes, publishes and receives, as far as it is permitted. True if it is subscribed.
fn round_trip(talk: &mut Talk, channel: &str) -> (Check, bool) {
    let choose = "give a channel that the token is for by --channel; `mahavishnu explain` says what it may do";
    let subscribed = match talk.ask(&Request::Subscribe { channel }) {
        Ok(answer) if is_response(&answer) => true,
        Ok(answer) => {
            let found = format!("not subscribed to {channel:?}: {}", said(&answer));
            return (Check::warn(ROUND_TRIP, found, choose), false);
        }
        Err(failure) => return (Check::failure(ROUND_TRIP, &failure, ""), false),
    };
    let begun = Instant::now();
    let nonce = token::unix_now().as_nanos().to_string();
    let data = json!({ "verify": nonce }).to_string();
    let request = Request::Publish { channel, event: "deployment.verified", data: &data };
    let answer = match talk.ask(&request) {
        Ok(answer) => answer,
        Err(failure) => return (Check::failure(ROUND_TRIP, &failure, ""), subscribed),
    };
    if code(&answer) == error_code::FORBIDDEN {
        let found = format!(
            "subscribed to {channel:?}; publishing there is not permitted, so nothing was sent"
        );
        return (Check::ok(ROUND_TRIP, found), subscribed);
    }
    if !is_response(&answer) {
        let found = format!("not published: {}", said(&answer));
        return (Check::fail(ROUND_TRIP, found, "the server's log says more"), subscribed);
    }
    let event = talk.wait("the event", |message| {
        message.pointer("/data/verify").and_then(Value::as_str) == Some(&nonce)
    });
    match event {
        Ok(_) => {
            let found = format!("subscribed, published, received in {}", ms(begun.elapsed()));
            (Check::ok(ROUND_TRIP, found), subscribed)
        }
        Err(failure) => {
            let remedy = "several servers behind one address need one Redis: docs/cluster.md";
            (Check::failure(ROUND_TRIP, &failure, remedy), false)
        }
    }
}

/// Whether what is between lets a connection be on which only pings go. `channel` is subscribed to.
fn idle(talk: &mut Talk, seconds: Option<f64>, channel: Option<&String>) -> Check {
    let Some(seconds) = seconds else {
        let why =
            "--idle 90 keeps a connection silent for so long, longer than most proxies' timeouts";
        return Check::skipped(IDLE, why);
    };
    let Some(channel) = channel else { return Check::skipped(IDLE, "not without a subscription") };
    let held = talk.hold(Duration::from_secs_f64(seconds));
    let held = held.and_then(|()| talk.ask(&Request::Unsubscribe { channel }));
    match held {
        Ok(_) => Check::ok(IDLE, format!("still open after {seconds} s of silence")),
        Err(failure) => {
            let remedy = "the proxy's timeouts must exceed MAHAVISHNU_PING_INTERVAL (20 s): proxy_read_timeout and proxy_send_timeout 3600s";
            let found = format!("gone within {seconds} s of silence: {failure}");
            Check::fail(IDLE, found, remedy)
        }
    }
}

fn is_response(answer: &Value) -> bool {
    answer.get("type").is_some_and(|kind| kind == "response")
}

fn code(answer: &Value) -> &str {
    answer.get("error_code").and_then(Value::as_str).unwrap_or_default()
}

/// An error of the protocol in words.
fn said(answer: &Value) -> String {
    let text = answer.get("error_message").and_then(Value::as_str).unwrap_or_default();
    out::one_line(&format!("{}: {text}", code(answer)))
}

fn failure(end: End) -> Failure {
    match end {
        End::Done => Failure::new(Exit::General, "closed"),
        End::Lost(exit, text) => Failure::new(exit, text),
        End::Fatal(failure) => failure,
    }
}

fn late(what: &str) -> Failure {
    Failure::new(Exit::Timeout, format!("{what} did not come in time"))
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

const WEBSOCKET: &str = "websocket";
const AUTHENTICATION: &str = "authentication";
const ROUND_TRIP: &str = "round-trip";
const IDLE: &str = "idle";

/// Events of others that may come meanwhile. More are forgotten.
const HEARD_MAX: usize = 1000;
