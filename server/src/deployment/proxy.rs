//! A proxy before the server: whether clients' addresses come through it, and the headers that it is to add.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use mahavishnu_core::protocol::Request;
use serde_json::Value;

use super::{
    answers::{Answer, Health},
    report::Check,
    site::Site,
    talk::Talk,
};
use crate::{exit::Failure, out};

/// Addresses of clients, and headers for browsers.
pub(super) fn checks(site: &Site, health: &Health) -> Vec<Check> {
    let headers = health.headers();
    let proxy = headers.and_then(proxy_of);
    vec![addresses(site, proxy.as_deref()), browsers(site, headers, proxy.as_deref())]
}

/// What a proxy says of itself. The server says nothing of that kind.
fn proxy_of(headers: &HeaderMap) -> Option<String> {
    let named = ["via", "server"].into_iter().find_map(|name| headers.get(name));
    named.and_then(|value| value.to_str().ok()).map(out::one_line)
}

/// Which address the server takes this client for.
fn addresses(site: &Site, proxy: Option<&str>) -> Check {
    let before = proxy.map_or_else(String::new, |proxy| format!("behind {proxy}: "));
    let Some(token) = site.token.as_ref().filter(|_| !site.is_mutual) else {
        return without_token(site, proxy);
    };
    match seen(site, token) {
        Ok(Some((seen, local))) => judge(&before, seen, local, proxy.is_some()),
        Ok(None) => without_token(site, proxy),
        Err(failure) => Check::failure(ADDRESSES, &failure, ""),
    }
}

/// What the server says of a connection of ours that pretends to come from elsewhere, and where it comes from. `None`: the
/// token is not for asking that.
fn seen(site: &Site, token: &str) -> Result<Option<(IpAddr, IpAddr)>, Failure> {
    let mut talk = Talk::open(site, Some(PRETENDED))?;
    let answer = talk.ask(&Request::Auth { token })?;
    let user = answer.pointer("/data/user_id").and_then(Value::as_str);
    let (Some(user), Some(id), Some(local)) = (user, talk.connection_id(), talk.local_address())
    else {
        return Ok(None);
    };
    let query: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = site.target.http(&format!("/connections?user={query}"));
    let answer = Answer::ask(&site.agent(), &url, Some(token))?;
    talk.finish();
    let Some(body) = answer.json().filter(|_| answer.status == 200) else { return Ok(None) };
    let listed = body.get("connections").and_then(Value::as_array).into_iter().flatten();
    let ours = listed.into_iter().find(|one| one.get("connection_id").is_some_and(|of| *of == *id));
    let address = ours.and_then(|one| one.get("address")?.as_str());
    Ok(address.and_then(ip).zip(Some(local)))
}

/// With a port or without, in brackets or not.
fn ip(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let ip = text.parse().ok().or_else(with_port);
    ip.map(|ip: IpAddr| ip.to_canonical())
}

fn judge(before: &str, seen: IpAddr, local: IpAddr, proxied: bool) -> Check {
    let local = local.to_canonical();
    if seen == PRETENDED {
        if local.is_loopback() {
            let found =
                format!("{before}X-Forwarded-For is used, and this machine is a trusted proxy");
            return Check::ok(ADDRESSES, found);
        }
        let found =
            format!("{before}the server believes what a client writes into X-Forwarded-For");
        let remedy = "the proxy has to add to it ($proxy_add_x_forwarded_for), and MAHAVISHNU_TRUSTED_PROXIES to name proxies alone";
        return Check::fail(ADDRESSES, found, remedy);
    }
    let remedy = "MAHAVISHNU_TRUSTED_PROXIES has to name the proxy, and the proxy to send X-Forwarded-For: else limits by address hold for all clients together";
    if proxied && local.is_loopback() {
        let found = format!(
            "{before}the server takes this client for {seen}, and does not use X-Forwarded-For"
        );
        return Check::warn(ADDRESSES, found, remedy);
    }
    if seen == local {
        return Check::ok(ADDRESSES, format!("{before}the server knows this client as {seen}"));
    }
    let found = format!(
        "{before}the server takes this client, which is {local}, for {seen}: right if addresses are translated between"
    );
    Check::warn(ADDRESSES, found, remedy)
}

/// By the settings alone.
fn without_token(site: &Site, proxy: Option<&str>) -> Check {
    let Some(proxy) = proxy else {
        return Check::skipped(
            ADDRESSES,
            "no proxy says that it is there; a token with full access would tell",
        );
    };
    let Some(inside) = &site.inside else {
        return Check::skipped(ADDRESSES, format!("behind {proxy}: give a token with full access"));
    };
    let settings = &inside.loaded.settings;
    if !settings.trusted_proxies.is_empty() {
        let found = format!(
            "behind {proxy}: MAHAVISHNU_TRUSTED_PROXIES is set; a token with full access would tell whether it holds"
        );
        return Check::skipped(ADDRESSES, found);
    }
    let limits = settings.rate_limit.is_some() || settings.max_connections_per_address.is_some();
    let remedy = "set MAHAVISHNU_TRUSTED_PROXIES to the proxy's address";
    match limits {
        true => Check::fail(
            ADDRESSES,
            format!("behind {proxy}: limits by address hold for all clients together"),
            remedy,
        ),
        false => Check::warn(
            ADDRESSES,
            format!("behind {proxy}: the server knows clients by the proxy's address"),
            remedy,
        ),
    }
}

/// What the guide wants a public site to send.
fn browsers(site: &Site, headers: Option<&HeaderMap>, proxy: Option<&str>) -> Check {
    let (Some(headers), Some(_), true) = (headers, proxy, site.target.tls) else {
        return Check::skipped(HEADERS, "only of a proxy that terminates TLS");
    };
    let missing: Vec<_> = WANTED.into_iter().filter(|name| !headers.contains_key(*name)).collect();
    if missing.is_empty() {
        return Check::ok(HEADERS, WANTED.join(", "));
    }
    let found = format!("missing: {}", missing.join(", "));
    Check::warn(
        HEADERS,
        found,
        "deploy/nginx/mahavishnu-websocket.conf has them (add_header … always)",
    )
}

const ADDRESSES: &str = "addresses";
const HEADERS: &str = "headers";

/// Kept for documents (RFC 5737): nobody has it.
const PRETENDED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const WANTED: [&str; 3] =
    ["strict-transport-security", "x-content-type-options", "x-frame-options"];

#[cfg(test)]
mod tests {
    use super::{super::report::Outcome, *};

    #[test]
    fn who_the_server_takes_a_client_for_tells_whether_headers_are_used() {
        let [me, here, proxy] =
            ["192.0.2.7", "127.0.0.1", "10.0.0.1"].map(|text| ip(text).unwrap());
        for (seen, local, proxied, outcome) in [
            (me, me, true, Outcome::Ok),
            (me, me, false, Outcome::Ok),
            (here, here, false, Outcome::Ok),
            (PRETENDED, here, true, Outcome::Ok),
            (PRETENDED, me, true, Outcome::Fail),
            (here, here, true, Outcome::Warn),
            (proxy, me, true, Outcome::Warn),
            (proxy, me, false, Outcome::Warn),
        ] {
            let check = judge("", seen, local, proxied);
            assert_eq!(check.outcome, outcome, "{seen} {local} {proxied}: {check:?}");
        }
    }

    #[test]
    fn addresses_are_told_with_a_port_or_without() {
        for (text, expected) in [
            ("192.0.2.7:50112", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:db8::1]:5", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(ip(text), expected.parse().ok(), "{text}");
        }
        assert_eq!(ip("unix:"), None);
    }
}
