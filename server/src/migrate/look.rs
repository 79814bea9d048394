//! Whether a Redis is fit for servers of this program, for who verifies an installation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mahavishnu_driver::links::{LinkConfig, Reply};

use super::{client::Client, standing::Place};
use crate::{exit::Failure, out::one_line, token};

/// What was seen of a Redis.
pub(crate) struct Look {
    pub(crate) who: String,
    pub(crate) version: String,
    /// Why it cannot be used at all.
    pub(crate) unfit: Option<String>,
    /// `maxmemory-policy` and `appendonly`; `None` where it does not tell this user.
    pub(crate) policy: Option<String>,
    pub(crate) appendonly: Option<String>,
    /// How far its clock is ahead of this machine's, and how far behind.
    pub(crate) apart: [Duration; 2],
    /// Until one question was answered.
    pub(crate) took: Duration,
}

/// Looks at it, and changes nothing.
///
/// # Errors
///
/// It does not answer (2), or refuses the user (6).
pub(crate) fn look(config: &Arc<LinkConfig>) -> Result<Look, Failure> {
    let mut place = Place::open(config)?;
    let unfit = place.unfit();
    let client = &mut place.client;
    let (asked, begun) = (token::unix_now(), Instant::now());
    let time = client.ask(&[b"TIME"])?;
    let (took, answered) = (begun.elapsed(), token::unix_now());
    let number = |reply: &Reply| reply.text().and_then(|text| text.parse::<u64>().ok());
    let [seconds, micros] = time.items() else { return Err(client.odd()) };
    let (Some(seconds), Some(micros)) = (number(seconds), number(micros)) else {
        return Err(client.odd());
    };
    let there = Duration::from_secs(seconds) + Duration::from_micros(micros);
    let apart = [there.saturating_sub(answered), asked.saturating_sub(there)];
    Ok(Look {
        who: client.who().to_owned(),
        version: one_line(client.says("version")),
        unfit,
        policy: configured(client, "maxmemory-policy"),
        appendonly: configured(client, "appendonly"),
        apart,
        took,
    })
}

/// What it is set to, if this user may know.
fn configured(client: &mut Client, name: &str) -> Option<String> {
    let reply = client.ask(&[b"CONFIG", b"GET", name.as_bytes()]).ok()?;
    reply.member(name).map(one_line)
}
