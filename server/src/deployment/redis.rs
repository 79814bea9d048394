//! Redis behind the server: whether it answers, is fit, keeps what it is given, and has the same time.

use std::sync::Arc;

use super::{
    answers,
    report::{Check, Outcome},
    site::Site,
};
use crate::{exit::Exit, migrate, redis};

/// One check of all that.
pub(super) fn check(site: &Site) -> Check {
    let Some(inside) = &site.inside else { return Check::skipped(REDIS, Site::outside()) };
    let config = match redis::link_config(&inside.loaded) {
        Ok(Some(config)) => Arc::new(config),
        Ok(None) => {
            return Check::skipped(REDIS, "MAHAVISHNU_REDIS_HOST is not set: one server alone");
        }
        Err(failure) => return Check::failure(REDIS, &failure, ""),
    };
    let look = match migrate::look(&config) {
        Ok(look) => look,
        Err(failure) => {
            let remedy = if failure.exit == Exit::Permission {
                "MAHAVISHNU_REDIS_USERNAME and _PASSWORD; docs/configuration.md lists the rights"
            } else {
                "is it up, and do MAHAVISHNU_REDIS_HOST and _PORT name it?"
            };
            return Check::failure(REDIS, &failure, remedy);
        }
    };
    let who = &look.who;
    if let Some(why) = &look.unfit {
        return Check::fail(REDIS, format!("{who}: {why}"), "docs/cluster.md says what is needed");
    }
    let [ahead, behind] = look.apart;
    let clock = answers::judge_clock(REDIS, "Redis' clock", ahead, behind);
    if clock.outcome != Outcome::Ok {
        return Check { found: format!("{who}: {}", clock.found), ..clock };
    }
    let mut doubts = Vec::new();
    if let Some(policy) = look.policy.as_deref().filter(|policy| *policy != "noeviction") {
        doubts.push(format!(
            "maxmemory-policy is {policy}: short of memory it drops messages and positions"
        ));
    }
    if look.appendonly.as_deref() == Some("no") {
        doubts.push("appendonly is no: after a restart it has lost what it kept".to_owned());
    }
    let ms = look.took.as_secs_f64() * 1000.0;
    let version = &look.version;
    if !doubts.is_empty() {
        let remedy = "`redis-cli CONFIG SET maxmemory-policy noeviction` or `appendonly yes`, and the same in redis.conf";
        return Check::warn(
            REDIS,
            format!("{who}, version {version}: {}", doubts.join("; ")),
            remedy,
        );
    }
    let unknown = if look.policy.is_none() { "; it does not say its maxmemory-policy" } else { "" };
    Check::ok(REDIS, format!("{who}, version {version}, answers in {ms:.1} ms{unknown}"))
}

const REDIS: &str = "redis";
