//! What the server answers over HTTP: health, readiness, metrics, and by the way its clock.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::{
    report::Check,
    served,
    site::{Inside, Site},
};
use crate::{
    client,
    exit::{Exit, Failure},
    out, settings, token,
    url::Target,
};

/// An answer, and between which times it was given.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    asked: Duration,
    answered: Duration,
}

impl Answer {
    /// Asks for `url`, with a token if one is given.
    pub(super) fn ask(
        agent: &ureq::Agent,
        url: &str,
        token: Option<&str>,
    ) -> Result<Self, Failure> {
        let asked = token::unix_now();
        let mut request = agent.get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(|error| client::failure(url, &error))?;
        let answered = token::unix_now();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| client::failure(url, &error))?;
        Ok(Self { status, headers, body, asked, answered })
    }

    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok().filter(Value::is_object)
    }
}

/// What `/health` answered, if it did.
pub(super) struct Health {
    answer: Result<Answer, Failure>,
}

impl Health {
    pub(super) fn ask(site: &Site) -> Self {
        Self { answer: Answer::ask(&site.agent(), &site.target.http("/health"), None) }
    }

    /// Whether there is somebody who speaks HTTP.
    pub(super) fn is_there(&self) -> bool {
        self.answer.is_ok()
    }

    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.answer.as_ref().ok().map(|answer| &answer.headers)
    }

    /// Health, readiness and the clock.
    pub(super) fn checks(&self, site: &Site) -> Vec<Check> {
        let answer = match &self.answer {
            Ok(answer) => answer,
            Err(failure) => {
                let remedy = if failure.exit == Exit::NotRunning {
                    "`mahavishnu websocket start`, or give the URL where it listens"
                } else if failure.exit == Exit::Timeout {
                    "is a firewall between, or is the server overloaded?"
                } else {
                    ""
                };
                return vec![Check::failure(HEALTH, failure, remedy)];
            }
        };
        let body = answer.json().filter(|body| body.get("checks").is_some());
        let Some(body) = body.filter(|_| answer.status == 200) else {
            let url = site.target.http("/health");
            let location = answer.headers.get("location").and_then(|to| to.to_str().ok());
            let found = match answer.status {
                200 => format!("{url}: answers, but not as a Mahavishnu server does"),
                status => format!("{url}: HTTP {status}"),
            };
            return vec![Check::fail(HEALTH, found, remedy(answer.status, location))];
        };
        vec![health(&body), ready(site), clock(answer, &body)]
    }
}

fn health(body: &Value) -> Check {
    let status = body.get("status").and_then(Value::as_str).unwrap_or_default();
    let named = |word: &str| -> Vec<&str> {
        let checks = body.get("checks").and_then(Value::as_object).into_iter().flatten();
        checks.filter(|(_, is)| *is == word).map(|(name, _)| name.as_str()).collect()
    };
    let (failing, degraded) = (named("failing"), named("degraded"));
    let number = |name: &str| body.pointer(&format!("/metrics/{name}")).and_then(Value::as_u64);
    let connections = number("active_connections").unwrap_or_default();
    let up = out::span(number("uptime_seconds").unwrap_or_default());
    let numbers = format!("{connections} connections, up {up}");
    if status != "healthy" {
        return Check::fail(
            HEALTH,
            format!("{}, {numbers}", out::one_line(status)),
            "it is being stopped",
        );
    }
    let remedy = "docs/operations.md, \"Trouble\", says what to look at";
    if !failing.is_empty() {
        return Check::fail(HEALTH, format!("failing: {}; {numbers}", failing.join(", ")), remedy);
    }
    if !degraded.is_empty() {
        return Check::warn(
            HEALTH,
            format!("degraded: {}; {numbers}", degraded.join(", ")),
            remedy,
        );
    }
    Check::ok(HEALTH, format!("healthy, {numbers}"))
}

fn ready(site: &Site) -> Check {
    if site.is_mutual {
        return Check::skipped(READY, served::MUTUAL);
    }
    let url = site.target.http("/ready");
    let answer = match Answer::ask(&site.agent(), &url, None) {
        Ok(answer) => answer,
        Err(failure) => return Check::failure(READY, &failure, ""),
    };
    let Some(body) = answer.json().filter(|body| body.get("checks").is_some()) else {
        return Check::fail(
            READY,
            format!("{url}: HTTP {}", answer.status),
            remedy(answer.status, None),
        );
    };
    let number = |name: &str| body.pointer(&format!("/connections/{name}")).and_then(Value::as_u64);
    let (open, max) = (number("open").unwrap_or_default(), number("max").unwrap_or_default());
    let room = format!("{open} of {max} connections");
    if answer.status != 200 {
        let checks = body.get("checks").and_then(Value::as_object).into_iter().flatten();
        let failing: Vec<_> =
            checks.filter(|(_, is)| *is == "failing").map(|(name, _)| name.as_str()).collect();
        let found = format!("takes no new clients: {} ({room})", failing.join(", "));
        return Check::fail(
            READY,
            found,
            "capacity: raise MAHAVISHNU_MAX_CONNECTIONS, or what bounds it; certificate: renew it; redis: bring it back",
        );
    }
    let bound = body.pointer("/connections/bound").and_then(Value::as_str);
    if bound == Some("files") {
        let found = format!("{room}: fewer than MAHAVISHNU_MAX_CONNECTIONS, because of open files");
        return Check::warn(READY, found, "raise `ulimit -Hn`, or LimitNOFILE in the unit");
    }
    // Whoever waits for the last tenth finds out too late.
    if open.saturating_mul(10) >= max.saturating_mul(9) {
        return Check::warn(
            READY,
            format!("{room}: nearly full"),
            "raise MAHAVISHNU_MAX_CONNECTIONS, or add a node",
        );
    }
    Check::ok(READY, format!("takes new clients, {room}"))
}

/// How far the server's clock is from this one. Its time has whole seconds, so anything within one is no difference.
fn clock(answer: &Answer, body: &Value) -> Check {
    let text = body.get("timestamp").and_then(Value::as_str);
    let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let Some(time) = time.and_then(|time| u64::try_from(time.as_second()).ok()) else {
        return Check::skipped(CLOCK, "the server does not tell its time");
    };
    apart(CLOCK, "the server's clock", [time, time + 1].map(Duration::from_secs), answer)
}

/// A clock that showed something between `shown` when it was asked.
fn apart(name: &'static str, whose: &str, shown: [Duration; 2], answer: &Answer) -> Check {
    let [from, to] = shown;
    let ahead = from.saturating_sub(answer.answered);
    let behind = answer.asked.saturating_sub(to);
    judge_clock(name, whose, ahead, behind)
}

/// What it means that a clock is so much ahead, or so much behind.
pub(super) fn judge_clock(
    name: &'static str,
    whose: &str,
    ahead: Duration,
    behind: Duration,
) -> Check {
    let (by, way) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
    if by < CLOCK_WARN {
        return Check::ok(name, format!("{whose} agrees with this machine's"));
    }
    let found = format!("{whose} is {} {way} this machine's", out::span(by.as_secs()));
    let remedy = "tokens count by these clocks: set them by NTP (`timedatectl set-ntp true`)";
    match by < CLOCK_FAIL {
        true => Check::warn(name, found, remedy),
        false => Check::fail(name, found, remedy),
    }
}

/// The families that dashboards and alerts rest on.
pub(super) fn metrics(site: &Site, given: Option<&str>) -> Check {
    let target = match (given, &site.inside) {
        (Some(url), _) => Target::parse(url).map_err(|failure| failure.to_string()),
        (None, Some(inside)) => beside(inside),
        (None, None) => Err("give --metrics URL, as Prometheus reaches it".to_owned()),
    };
    let target = match target {
        Ok(target) => target,
        Err(why) => return Check::skipped(METRICS, why),
    };
    let path = if target.path.is_empty() { "/metrics" } else { "" };
    let url = target.http(path);
    let agent = match client::agent_for(&target, site.timeout) {
        Ok(agent) => agent,
        Err(failure) => return Check::failure(METRICS, &failure, ""),
    };
    let answer = match Answer::ask(&agent, &url, None) {
        Ok(answer) => answer,
        Err(failure) => {
            let remedy = "MAHAVISHNU_METRICS_HOST and MAHAVISHNU_METRICS_PORT say where it listens";
            return Check::failure(METRICS, &failure, remedy);
        }
    };
    if answer.status != 200 {
        return Check::fail(
            METRICS,
            format!("{url}: HTTP {}", answer.status),
            remedy(answer.status, None),
        );
    }
    let has = |family: &&str| answer.body.contains(&format!("# TYPE {family} "));
    let missing: Vec<_> = FAMILIES.iter().copied().filter(|family| !has(family)).collect();
    if !missing.is_empty() {
        let found = format!("{url}: without {}", missing.join(", "));
        return Check::fail(METRICS, found, "is it the metrics port of a Mahavishnu server?");
    }
    let series =
        answer.body.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    Check::ok(METRICS, format!("{url}: {series} series"))
}

/// Where the server of this machine has its metrics.
fn beside(inside: &Inside) -> Result<Target, String> {
    let settings = &inside.loaded.settings;
    if !settings.metrics_enabled {
        return Err("MAHAVISHNU_METRICS_ENABLED is false".to_owned());
    }
    if settings.metrics_port == 0 {
        return Err("MAHAVISHNU_METRICS_PORT is 0, any port: give --metrics URL".to_owned());
    }
    let host = settings::reachable(settings.metrics_host.as_ref().unwrap_or(&settings.host));
    Ok(Target { host, port: settings.metrics_port, tls: false, path: String::new() })
}

/// What a status says of who is in between.
pub(super) fn remedy(status: u16, location: Option<&str>) -> String {
    let text = match status {
        301 | 302 | 307 | 308 => match location {
            Some(location) => {
                return format!("it redirects; verify {} instead", out::one_line(location));
            }
            None => "it redirects; give the URL that it leads to",
        },
        200 | 400 | 404 | 426 => {
            "a proxy has to pass the path and the upgrade on: proxy_http_version 1.1, and the headers Upgrade $http_upgrade and Connection \"upgrade\""
        }
        401 => "give a token by --token or MAHAVISHNU_TOKEN",
        403 => "somebody in between, or MAHAVISHNU_ALLOWED_ORIGINS, forbids it",
        421 => "MAHAVISHNU_ALLOWED_HOSTS has to have the name in this URL",
        429 => "a limit by address was met: MAHAVISHNU_RATE_LIMIT, or limit_req of the proxy",
        502..=504 => {
            "the proxy does not reach the server: is its upstream the server's address, is the server up?"
        }
        _ => "the log of the server, or of the proxy before it, says why",
    };
    text.to_owned()
}

const HEALTH: &str = "health";
const READY: &str = "ready";
const CLOCK: &str = "clock";
const METRICS: &str = "metrics";

/// Half of the leeway that tokens have by default is lost.
const CLOCK_WARN: Duration = Duration::from_secs(2);
/// All of it is: tokens made there are refused here.
const CLOCK_FAIL: Duration = Duration::from_secs(5);
/// A server with very many channels has some MiB of metrics.
const BODY_BYTES_MAX: u64 = 64 << 20;

const FAMILIES: [&str; 8] = [
    "websocket_connections_total",
    "websocket_connections_active",
    "websocket_messages_total",
    "websocket_broadcast_total",
    "websocket_broadcast_duration_seconds",
    "websocket_connection_errors_total",
    "websocket_message_errors_total",
    "websocket_latency_seconds",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::report::Outcome, *};

    #[test]
    fn clocks_that_differ_by_more_than_the_leeway_fail() {
        let at = Duration::from_secs;
        let judged = |shown: u64| {
            let answer = Answer {
                status: 200,
                headers: HeaderMap::new(),
                body: String::new(),
                asked: Duration::from_millis(1_000_900),
                answered: Duration::from_millis(1_001_100),
            };
            apart(CLOCK, "it", [at(shown), at(shown + 1)], &answer)
        };
        for (shown, outcome) in [
            (1000, Outcome::Ok),
            (1001, Outcome::Ok),
            (1002, Outcome::Ok),
            (1004, Outcome::Warn),
            (997, Outcome::Warn),
            (1007, Outcome::Fail),
            (900, Outcome::Fail),
        ] {
            assert_eq!(judged(shown).outcome, outcome, "{shown}: {:?}", judged(shown));
        }
        assert!(judged(900).found.contains("1 min 39 s behind"), "{:?}", judged(900));
        assert!(judged(1007).found.contains("5 s ahead of"), "{:?}", judged(1007));
    }

    #[test]
    fn health_is_as_good_as_its_worst_check() {
        let of = |status: &str, redis: &str| {
            let metrics = json!({ "active_connections": 3, "uptime_seconds": 61 });
            health(&json!({ "status": status, "checks": { "redis": redis }, "metrics": metrics }))
        };
        assert_eq!(
            of("healthy", "passing"),
            Check::ok(HEALTH, "healthy, 3 connections, up 1 min 1 s")
        );
        assert_eq!(of("healthy", "degraded").outcome, Outcome::Warn);
        assert_eq!(of("healthy", "failing").outcome, Outcome::Fail);
        assert_eq!(of("draining", "passing").outcome, Outcome::Fail);
    }
}
