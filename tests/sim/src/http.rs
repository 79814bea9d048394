//! The HTTP that clients speak: handshakes, publishing, health.

use serde_json::Value;

use crate::{
    client::{Client, Wishes},
    message::{self, Number},
    oracle::{APPLICATION, Asked as Known, Carried, Fate, Oracle},
    swarm::{Options, channel_name},
};

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// Bytes of all of it.
    pub(crate) len: usize,
}

/// An HTTP request that waits for its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// What it publishes; empty for other requests.
    pub(crate) numbers: Vec<(u64, Number)>,
    pub(crate) body: String,
    pub(crate) key: Option<String>,
    /// Not its first time.
    pub(crate) again: bool,
    /// It reads the document of a channel.
    pub(crate) state: Option<(u64, Known)>,
}

/// Reads an answer, if all of it has come.
pub(crate) fn read(bytes: &[u8]) -> Option<Answer<'_>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        })
        .unwrap_or(0usize);
    let body = bytes.get(end..end + length)?;
    Some(Answer { status, body, len: end + length })
}

pub(crate) fn handshake(token: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "GET /ws HTTP/1.1\r\nHost: simulated\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{token}\r\n"
    )
    .into_bytes()
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: simulated\r\n\r\n").into_bytes()
}

/// Reads a document.
pub(crate) fn get_state(
    client: &mut Client,
    options: &Options,
    oracle: &Oracle,
    wishes: &mut Wishes,
) {
    let channel = client.random.below(options.channels);
    let name = channel_name(channel).replace(':', "%3A");
    let token = authorization(client, options);
    let head = format!("GET /state?channel={name} HTTP/1.1\r\nHost: simulated\r\n{token}\r\n");
    wishes.bytes = head.into_bytes();
    let state = Some((channel, oracle.asked(channel)));
    client.asked = Some(Asked { state, ..Asked::default() });
}

fn authorization(client: &Client, options: &Options) -> String {
    match options.auth {
        1 => {
            let tokens = &client.tokens.by_rights[client.rights as usize];
            format!("Authorization: Bearer {}\r\n", tokens[0])
        }
        _ => String::new(),
    }
}

/// Posts something new, or something again.
pub(crate) fn post(
    client: &mut Client,
    options: &Options,
    oracle: &mut Oracle,
    wishes: &mut Wishes,
) {
    let again = client.random.chance(150) && !client.remembered.is_empty();
    let asked = if again {
        let at = client.random.below(client.remembered.len() as u64) as usize;
        Asked { again: true, ..client.remembered[at].clone() }
    } else {
        compose(client, options, oracle)
    };
    // A request of which the store may keep a part is not repeated: its key may be free, and that part would come twice.
    let whole = asked.numbers.len() == 1 || options.store * options.store_fail_pm == 0;
    if asked.key.is_some() && !asked.again && whole {
        // Servers forget keys, so do clients, and sooner.
        if client.remembered.len() == REMEMBERED_MAX {
            client.remembered.remove(0);
        }
        client.remembered.push(asked.clone());
    }
    let token = authorization(client, options);
    let key =
        asked.key.as_ref().map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: simulated\r\nContent-Type: application/json\r\n{token}{key}Content-Length: {}\r\n\r\n",
        asked.body.len()
    );
    wishes.bytes.extend_from_slice(head.as_bytes());
    wishes.bytes.extend_from_slice(asked.body.as_bytes());
    client.asked = Some(asked);
}

fn compose(client: &mut Client, options: &Options, oracle: &mut Oracle) -> Asked {
    let count = if client.random.chance(500) { 1 } else { client.random.range(1, 5) };
    let publisher = match options.ask_publish {
        1 => APPLICATION as usize,
        _ => client.link.unwrap_or_default(),
    };
    let mut numbers = Vec::new();
    let mut messages = Vec::new();
    for at in 0..count {
        let channel = client.random.below(options.channels);
        let padding = client.random.below(options.padding_max + 1) as usize;
        let number = oracle.publish(channel, padding, publisher);
        let mut data = Vec::new();
        message::write_data(&mut data, channel, number, padding);
        if let Some(carried) = client.carry(options, channel) {
            // Only the first one may have a condition.
            let condition = carried.condition.filter(|_| at == 0);
            let carried = Carried { condition, ..carried };
            oracle.carries(channel, number, carried);
            data.extend_from_slice(client.members_of(oracle, channel, number, carried).as_bytes());
        }
        let data = String::from_utf8_lossy(&data);
        messages.push(format!(
            r#"{{"channel":"{}","event":"e","data":{data}}}"#,
            channel_name(channel)
        ));
        numbers.push((channel, number));
    }
    let key = client.random.chance(400).then(|| format!("{}-{}", client.index, numbers[0].1));
    Asked { numbers, body: format!("[{}]", messages.join(",")), key, ..Asked::default() }
}

/// The server answered a request of an HTTP client.
pub(crate) fn on_answer(
    client: &mut Client,
    options: &Options,
    answer: &Answer<'_>,
    oracle: &mut Oracle,
) {
    let who = client.index;
    let Some(asked) = client.asked.take() else {
        // A timeout is answered though nothing was asked.
        if answer.status != 408 {
            oracle.fail("answers", || format!("client {who}: {} unasked", answer.status));
        }
        return;
    };
    if let Some((channel, known)) = asked.state {
        return on_state(client, options, (channel, known), answer, oracle);
    }
    if asked.numbers.is_empty() {
        if answer.status != 200 && answer.status != 404 {
            oracle.fail("answers", || format!("client {who}: {} for a GET", answer.status));
        }
        return;
    }
    let allowed = asked.numbers.iter().all(|(channel, _)| client.may_publish(options, *channel));
    let permitted = match answer.status {
        200 => allowed,
        403 => !allowed || options.ask_publish == 1,
        _ => true,
    };
    if !permitted {
        oracle.fail("permission", || format!("client {who}: {} for {}", answer.status, asked.body));
    }
    if answer.status == 503 && says(answer, "Server busy") {
        oracle.busy += 1;
    }
    match answer.status {
        200 => on_published(&asked, answer.body, oracle, who),
        503 if !asked.again && asked.numbers.len() > 1 && says(answer, "could not be kept") => {
            oracle.refused_in_part(&asked.numbers);
            client.remembered.retain(|known| known.key != asked.key);
        }
        // Whatever is refused is refused as a whole. A repeated one may have been carried out before.
        403 | 409 | 413 | 429 | 503 | 504 if !asked.again => {
            let first = asked.numbers[0].1;
            match answer.status {
                409 => oracle.conflict(first, who),
                413 if !asked.numbers.iter().any(|(_, number)| oracle.is_too_big(*number)) => {
                    oracle.malformed(first, who);
                }
                _ => {}
            }
            asked.numbers.iter().for_each(|(_, number)| oracle.answered(*number, Fate::Refused));
            client.remembered.retain(|known| known.key != asked.key);
        }
        403 | 408 | 409 | 413 | 429 | 503 | 504 => {}
        status => oracle.fail("answers", || format!("client {who}: {status} for a publish")),
    }
}

fn says(answer: &Answer<'_>, what: &str) -> bool {
    answer.body.windows(what.len()).any(|text| text == what.as_bytes())
}

fn on_published(asked: &Asked, body: &[u8], oracle: &mut Oracle, who: usize) {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = answer["messages"].as_array().cloned().unwrap_or_default();
    if messages.len() != asked.numbers.len() {
        return oracle.fail("answers", || format!("client {who}: {answer}"));
    }
    for ((channel, number), message) in asked.numbers.iter().zip(&messages) {
        if message["channel"] != oracle.name(*channel) {
            return oracle.fail("answers", || format!("client {who}: {answer}"));
        }
        let subscribers = message["subscribers"].as_u64().unwrap_or(u64::MAX) as u32;
        oracle.answered(*number, Fate::Published(subscribers));
        if oracle.carried(*number).is_some() {
            oracle.set(*number, message, who);
        }
    }
}

/// A document was read, or was not.
fn on_state(
    client: &mut Client,
    options: &Options,
    (channel, known): (u64, Known),
    answer: &Answer<'_>,
    oracle: &mut Oracle,
) {
    let who = client.index;
    let allowed = client.may_subscribe(options, channel);
    let permitted = match answer.status {
        200 => allowed,
        403 => !allowed || options.ask_subscribe == 1,
        _ => true,
    };
    if !permitted {
        oracle.fail("permission", || format!("client {who}: {} for {channel}", answer.status));
    }
    match answer.status {
        200 => {
            let told: Value = serde_json::from_slice(answer.body).unwrap_or_default();
            let place = oracle.state(channel, known, &told, who);
            client.saw_document(channel, place);
        }
        403 | 408 | 429 | 503 | 504 => {}
        status => oracle.fail("answers", || format!("client {who}: {status} for a document")),
    }
}

/// Requests that a client may send again.
const REMEMBERED_MAX: usize = 8;
