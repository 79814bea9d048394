//! `mahavishnu history`: prints what a server keeps of a channel. Its first half is also that of `tail`.

mod arguments;
mod pages;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    cli::HistoryArgs,
    exit::{Exit, Failure},
    out::{self, one_line},
    publish,
    url::Target,
};

use self::pages::Server;
pub(crate) use self::{
    arguments::{After, Since},
    pages::{Kept, Page},
};

/// Prints the events that are kept.
pub(crate) fn history(args: &HistoryArgs) -> Result<Exit, Failure> {
    let target = Target::from_args(args.client.url.as_deref())?;
    let token = publish::token(args.client.token.as_deref());
    let mut server = Server::new(&target, token.as_deref(), &args.channel)?;
    let mut printed = false;
    let mut wanted = args.after.as_ref().map(|after| after.offset.saturating_add(1));
    let print = |page: &Page| {
        printed |= !page.events.is_empty();
        let first = page.events.first().map(|event| event.offset);
        if let Some((first, wanted)) = first.zip(wanted.take())
            && first > wanted
        {
            out::note(format_args!("gap of {}: no longer kept", first - wanted));
        }
        page.events.iter().try_for_each(|event| {
            out::line(Shown::kept(&args.channel, page.epoch.as_deref(), event).line(args.json)?)
        })
    };
    let has_history = if let Some(after) = &args.after {
        pages::first(&mut server, after, args.limit, print)?
    } else {
        let since = args.since.map(|since| since.moment(Timestamp::now()));
        let page = pages::last(&mut server, args.before, since, args.limit)?;
        page.as_ref().map(print).transpose()?.is_some()
    };
    if !has_history {
        return Err(Failure::new(Exit::General, none_at(&target)));
    }
    if !printed {
        out::note(format_args!("nothing of {:?} is kept there", args.channel));
    }
    Ok(Exit::Ok)
}

/// What to say of a server that has no history.
pub(crate) fn none_at(target: &Target) -> String {
    format!("{}: this server has no history", target.http(""))
}

/// The last `lines` events of a channel, or those since a moment. `None`: the server has no history.
pub(crate) fn past(
    target: &Target,
    token: Option<&str>,
    channel: &str,
    since: Option<Since>,
    lines: Option<u64>,
) -> Result<Option<Page>, Failure> {
    let since = since.map(|since| since.moment(Timestamp::now()));
    pages::last(&mut Server::new(target, token, channel)?, None, since, lines)
}

/// An event of one channel as `history` and `tail` print it.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    pub(crate) channel: &'a str,
    pub(crate) epoch: Option<&'a str>,
    pub(crate) offset: Option<u64>,
    pub(crate) id: Option<&'a str>,
    pub(crate) event: &'a str,
    pub(crate) timestamp: Option<&'a str>,
    pub(crate) data: &'a RawValue,
}

impl<'a> Shown<'a> {
    pub(crate) fn kept(channel: &'a str, epoch: Option<&'a str>, event: &'a Kept) -> Self {
        Self {
            channel,
            epoch,
            offset: Some(event.offset),
            id: Some(&event.id),
            event: &event.event,
            timestamp: Some(&event.timestamp),
            data: &event.data,
        }
    }

    /// The line: time, number, event and data, or JSON.
    pub(crate) fn line(&self, json: bool) -> Result<String, Failure> {
        if json {
            let text = serde_json::to_string(self);
            let text = text.map_err(|error| Failure::new(Exit::General, error.to_string()))?;
            return Ok(one_line(&text));
        }
        let offset = self.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let words = [self.timestamp.unwrap_or("-"), &offset, self.event, self.data.get()];
        Ok(words.map(one_line).join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_people_or_for_programs() {
        let data = RawValue::from_string("{\"n\": 1.10,\n\"x\":2}".into()).unwrap();
        let shown = Shown {
            channel: "c",
            epoch: Some("kq3v7m2xwd"),
            offset: Some(7),
            id: Some("i"),
            event: "e\u{1b}",
            timestamp: Some("2026-01-31T12:00:00.5+00:00"),
            data: &data,
        };
        assert_eq!(
            shown.line(false).unwrap(),
            r#"2026-01-31T12:00:00.5+00:00 7 e\u001b {"n": 1.10, "x":2}"#
        );
        assert_eq!(
            shown.line(true).unwrap(),
            r#"{"channel":"c","epoch":"kq3v7m2xwd","offset":7,"id":"i","event":"e\u001b","timestamp":"2026-01-31T12:00:00.5+00:00","data":{"n": 1.10, "x":2}}"#
        );
        let old = Shown { epoch: None, offset: None, timestamp: None, ..shown };
        assert_eq!(old.line(false).unwrap(), r#"- - e\u001b {"n": 1.10, "x":2}"#);
    }
}
