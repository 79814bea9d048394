//! Reading a channel's history from a server, page by page.

use std::{fmt::Write, time::Duration};

use jiff::Timestamp;
use mahavishnu_core::reason::Reason;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::After;
use crate::{
    client,
    exit::{Exit, Failure},
    url::Target,
};

/// One event, as the server keeps it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) event: String,
    /// JSON, as it came.
    pub(crate) data: Box<RawValue>,
    pub(crate) timestamp: String,
    pub(crate) offset: u64,
}

/// A part of a channel's history, the oldest event first.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Page {
    /// Which life of the channel's numbers.
    #[serde(default)]
    pub(crate) epoch: Option<String>,
    /// Number of the channel's last event.
    #[serde(default)]
    pub(crate) offset: u64,
    pub(crate) events: Vec<Kept>,
    /// There are further ones in the direction in which was asked.
    #[serde(default)]
    more: bool,
}

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Newest,
    Before(u64),
    After { epoch: &'a str, offset: u64 },
}

/// Whatever answers requests for pages: a server, or a test.
pub(super) trait Source {
    /// One page with at most `limit` events. `None`: the server keeps no history, and knows no such question.
    fn page(&mut self, part: Part<'_>, limit: u64) -> Result<Option<Page>, Failure>;
}

/// A channel's history on a server.
pub(super) struct Server<'a> {
    pub(super) target: &'a Target,
    pub(super) token: Option<&'a str>,
    pub(super) channel: &'a str,
    agent: ureq::Agent,
}

impl<'a> Server<'a> {
    pub(super) fn new(
        target: &'a Target,
        token: Option<&'a str>,
        channel: &'a str,
    ) -> Result<Self, Failure> {
        Ok(Self { target, token, channel, agent: client::agent_for(target, TIMEOUT)? })
    }
}

impl Source for Server<'_> {
    fn page(&mut self, part: Part<'_>, limit: u64) -> Result<Option<Page>, Failure> {
        let url = self.target.http("/history");
        let query = query(self.channel, part, limit);
        let answer = client::get(&self.agent, &format!("{url}?{query}"), self.token);
        // The address without what was asked for is enough for people.
        let (status, body) = answer.map_err(|failure| Failure {
            lines: failure.lines.iter().map(|l| l.replace(&format!("?{query}"), "")).collect(),
            ..failure
        })?;
        read(&url, status, &body)
    }
}

/// The last events, before a number or since a moment if one is given; over `limit` the oldest are left out. `None`: the
/// server has no history.
pub(super) fn last(
    source: &mut impl Source,
    before: Option<u64>,
    since: Option<Timestamp>,
    limit: Option<u64>,
) -> Result<Option<Page>, Failure> {
    let mut part = before.map_or(Part::Newest, Part::Before);
    let mut whole = Page::default();
    loop {
        let have = whole.events.len() as u64;
        let left = limit.map_or(PAGE, |limit| limit.saturating_sub(have).min(PAGE));
        let Some(mut page) = source.page(part, left)? else { return Ok(None) };
        if have > 0 && page.epoch != whole.epoch {
            // Another life of the channel: what is older has gone.
            return Ok(Some(whole));
        }
        let further = page.more.then(|| page.events.first().map(|event| event.offset)).flatten();
        let young = page.events.iter().position(|event| is_since(event, since));
        let old = young.unwrap_or(page.events.len());
        page.events.drain(..old);
        page.events.append(&mut whole.events);
        // Where the channel stood when the first page was read: the newest event is in that one.
        let offset = if have > 0 { whole.offset } else { page.offset };
        whole = Page { offset, ..page };
        let enough = limit.is_some_and(|limit| whole.events.len() as u64 >= limit);
        match further {
            Some(offset) if old == 0 && !enough => part = Part::Before(offset),
            Some(_) | None => return Ok(Some(whole)),
        }
    }
}

/// The first events after a place, to the newest. False if the server has no history.
pub(super) fn first(
    source: &mut impl Source,
    after: &After,
    limit: Option<u64>,
    mut each: impl FnMut(&Page) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let (mut epoch, mut offset) = (after.epoch.clone(), after.offset);
    let mut left = limit.unwrap_or(u64::MAX);
    loop {
        let part = Part::After { epoch: &epoch, offset };
        let Some(page) = source.page(part, left.min(PAGE))? else { return Ok(false) };
        each(&page)?;
        left = left.saturating_sub(page.events.len() as u64);
        let Some(last) = page.events.last().filter(|_| page.more && left > 0) else {
            return Ok(true);
        };
        offset = last.offset;
        epoch = page.epoch.unwrap_or(epoch);
    }
}

/// Whether an event is not older than that; one whose time cannot be read is not.
fn is_since(event: &Kept, since: Option<Timestamp>) -> bool {
    let time = event.timestamp.parse::<Timestamp>().ok();
    since.zip(time).is_none_or(|(since, time)| time >= since)
}

fn query(channel: &str, part: Part<'_>, limit: u64) -> String {
    let mut query = format!("channel={}&limit={limit}", escaped(channel));
    // Writing to a string cannot fail.
    let _ = match part {
        Part::Newest => Ok(()),
        Part::Before(offset) => write!(query, "&before={offset}"),
        Part::After { epoch, offset } => {
            write!(query, "&epoch={}&after={offset}", escaped(epoch))
        }
    };
    query
}

/// Percent-encoded: all but what never needs it (RFC 3986 §2.3).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => {
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

fn read(url: &str, status: u16, body: &str) -> Result<Option<Page>, Failure> {
    match status {
        200 => serde_json::from_str(body).map(Some).map_err(|_| {
            let text = format!("{url}: answered, but not as a Mahavishnu server does");
            Failure::new(Exit::General, text)
        }),
        404 | 426 if !wants_tls(body) => Ok(None),
        _ => {
            let answer: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
            Err(client::refused("no history", status, &answer, url.starts_with("https://")))
        }
    }
}

/// Servers that know nothing of history answer with the same status as a port that wants TLS.
fn wants_tls(body: &str) -> bool {
    let answer: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    answer.values().any(|value| value == Reason::TlsRequired.name())
}

/// Events in one answer; the server may give fewer.
const PAGE: u64 = 1_000;
const TIMEOUT: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use super::*;

    /// Events `1..=top`, one a minute, of which those up to `forgotten` are gone; in pages of at most three.
    struct Log {
        top: u64,
        forgotten: u64,
        asked: u64,
        /// From this page on the channel is another one.
        reborn: u64,
    }

    impl Log {
        fn of(forgotten: u64, top: u64) -> Self {
            Self { top, forgotten, asked: 0, reborn: u64::MAX }
        }
    }

    impl Source for Log {
        fn page(&mut self, part: Part<'_>, limit: u64) -> Result<Option<Page>, Failure> {
            self.asked += 1;
            let limit = limit.min(3);
            let (first, last, more) = match part {
                Part::Newest | Part::Before(_) => {
                    let last = match part {
                        Part::Before(offset) => offset - 1,
                        Part::Newest | Part::After { .. } => self.top,
                    };
                    let first = (last + 1).saturating_sub(limit).max(self.forgotten + 1);
                    (first, last, first > self.forgotten + 1)
                }
                Part::After { offset, .. } => {
                    let first = offset.max(self.forgotten) + 1;
                    let last = (first + limit - 1).min(self.top);
                    (first, last, last < self.top)
                }
            };
            let events = (first..=last).map(|offset| Kept {
                id: offset.to_string(),
                event: "e".into(),
                data: RawValue::from_string("{}".into()).unwrap(),
                timestamp: format!("2026-01-31T12:{offset:02}:00.5+00:00"),
                offset,
            });
            let epoch = if self.asked < self.reborn { "one" } else { "two" };
            let events = events.collect();
            Ok(Some(Page { epoch: Some(epoch.into()), offset: self.top, events, more }))
        }
    }

    fn whole(
        source: &mut Log,
        before: Option<u64>,
        since: Option<Timestamp>,
        limit: Option<u64>,
    ) -> Page {
        last(source, before, since, limit).unwrap().unwrap()
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.offset).collect()
    }

    #[test]
    fn pages_back_to_the_beginning_are_the_whole() {
        for (forgotten, top) in [(0, 0), (0, 1), (0, 3), (0, 10), (4, 10), (9, 10), (10, 10)] {
            let page = whole(&mut Log::of(forgotten, top), None, None, None);
            assert_eq!(offsets(&page), (forgotten + 1..=top).collect::<Vec<_>>());
            assert_eq!(page.offset, top);
        }
        let page = whole(&mut Log::of(0, 10), Some(5), None, None);
        assert_eq!(offsets(&page), [1, 2, 3, 4]);
    }

    #[test]
    fn no_more_is_asked_for_than_is_wanted() {
        let mut log = Log::of(0, 59);
        assert_eq!(offsets(&whole(&mut log, None, None, Some(4))), [56, 57, 58, 59]);
        assert_eq!(log.asked, 2);
        let since = "2026-01-31T12:55:00Z".parse().ok();
        let mut log = Log::of(0, 59);
        let page = whole(&mut log, None, since, None);
        assert_eq!(offsets(&page), [55, 56, 57, 58, 59]);
        assert_eq!(log.asked, 2);
        assert_eq!(offsets(&whole(&mut log, None, since, Some(2))), [58, 59]);
        let later = "2026-02-01T00:00:00Z".parse().ok();
        let page = whole(&mut Log::of(0, 59), None, later, None);
        assert_eq!((offsets(&page), page.offset), (vec![], 59));
    }

    #[test]
    fn another_life_of_the_channel_is_not_put_before_this_one() {
        let mut log = Log { reborn: 2, ..Log::of(0, 10) };
        let page = whole(&mut log, None, None, None);
        assert_eq!((offsets(&page), page.epoch.as_deref()), (vec![8, 9, 10], Some("one")));
    }

    #[test]
    fn pages_forward_are_the_whole_from_there() {
        let after = |offset| After { epoch: "one".into(), offset };
        let read = |log: &mut Log, offset, limit| {
            let mut all = Vec::new();
            let each = |page: &Page| {
                all.extend(offsets(page));
                Ok(())
            };
            first(log, &after(offset), limit, each).unwrap();
            all
        };
        assert_eq!(read(&mut Log::of(0, 10), 0, None), (1..=10).collect::<Vec<_>>());
        assert_eq!(read(&mut Log::of(4, 10), 6, None), [7, 8, 9, 10]);
        assert_eq!(read(&mut Log::of(0, 10), 2, Some(4)), [3, 4, 5, 6]);
        assert_eq!(read(&mut Log::of(0, 10), 10, None), [0_u64; 0]);
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(
            query("größe:a+b c&d", Part::Newest, 5),
            "channel=gr%C3%B6%C3%9Fe%3Aa%2Bb%20c%26d&limit=5"
        );
        assert_eq!(query("c", Part::Before(7), 1), "channel=c&limit=1&before=7");
        let after = Part::After { epoch: "a&b", offset: 7 };
        assert_eq!(query("c", after, 1), "channel=c&limit=1&epoch=a%26b&after=7");
    }

    #[test]
    fn answers_are_pages_or_say_why_not() {
        let body = r#"{"channel":"c","epoch":"kq3v7m2xwd","offset":9,"events":[{"id":"i","event":"e","data":{"n":1.10},"timestamp":"t","offset":9}],"more":false}"#;
        let page = read("u", 200, body).unwrap().unwrap();
        assert_eq!((page.epoch.as_deref(), page.offset, page.more), (Some("kq3v7m2xwd"), 9, false));
        assert_eq!(page.events[0].data.get(), r#"{"n":1.10}"#);
        assert_eq!(read("u", 200, "{}").unwrap_err().exit, Exit::General);
        assert!(read("u", 404, "").unwrap().is_none());
        let refused = r#"{"status":"error","error_code":"FORBIDDEN","error_message":"No."}"#;
        let failure = read("u", 403, refused).unwrap_err();
        assert_eq!(failure, Failure::new(Exit::Permission, "no history: HTTP 403 FORBIDDEN: No."));
    }
}
