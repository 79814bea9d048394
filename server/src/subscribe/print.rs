//! Lines for events, from a subscription and from history alike.

use mahavishnu_core::protocol::{Epoch, write_string};
use serde_json::value::RawValue;

use super::dialogue::Event;
use crate::{
    exit::Failure,
    history::{Kept, Page, Shown},
    out::{self, one_line},
};

/// What a line consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Channel, event and data; with `offsets` the number behind the channel.
    Words { offsets: bool },
    /// The whole message.
    Message,
    /// As `mahavishnu history` prints it.
    Log { json: bool },
}

/// Prints events, and counts down.
pub(super) struct Printer {
    form: Form,
    left: Option<u64>,
}

impl Printer {
    /// Until `left` events are printed, if that is named.
    pub(super) fn new(form: Form, left: Option<u64>) -> Self {
        Self { form, left }
    }

    /// `message` is the whole of what came, of which `event` is the gist.
    pub(super) fn event(&mut self, message: &str, event: &Event) -> Result<(), Failure> {
        let line = match self.form {
            Form::Words { offsets } => words(event, offsets),
            Form::Message => one_line(message),
            Form::Log { json } => {
                let data: Option<&RawValue> = serde_json::from_str(&event.data).ok();
                let shown = Shown {
                    channel: &event.channel,
                    epoch: event.epoch.as_ref().map(Epoch::as_str),
                    offset: event.offset,
                    id: event.id.as_deref(),
                    event: &event.name,
                    timestamp: event.timestamp.as_deref(),
                    data: data.unwrap_or(RawValue::NULL),
                };
                shown.line(json)?
            }
        };
        self.print(&line)
    }

    /// An event that was kept, in the same form.
    pub(super) fn kept(&mut self, channel: &str, page: &Page, kept: &Kept) -> Result<(), Failure> {
        let line = match self.form {
            Form::Words { offsets } => {
                let event = Event {
                    channel: channel.to_owned(),
                    name: kept.event.clone(),
                    data: kept.data.get().to_owned(),
                    offset: Some(kept.offset),
                    ..Event::default()
                };
                words(&event, offsets)
            }
            Form::Message => one_line(&message(channel, kept)),
            Form::Log { json } => Shown::kept(channel, page.epoch.as_deref(), kept).line(json)?,
        };
        self.print(&line)
    }

    fn print(&mut self, line: &str) -> Result<(), Failure> {
        out::line(line)?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(())
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

fn words(event: &Event, offsets: bool) -> String {
    let (channel, name, data) =
        (one_line(&event.channel), one_line(&event.name), one_line(&event.data));
    match (offsets, event.offset) {
        (true, Some(offset)) => format!("{channel} {offset} {name} {data}"),
        (true, None) => format!("{channel} - {name} {data}"),
        (false, _) => format!("{channel} {name} {data}"),
    }
}

/// The message that a subscriber got or would have got.
fn message(channel: &str, kept: &Kept) -> String {
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, before: &[u8], text: &str| {
        out.extend_from_slice(before);
        write_string(out, text);
    };
    text(&mut out, b"{\"id\":", &kept.id);
    text(&mut out, b",\"correlation_id\":null,\"type\":\"event\",\"event\":", &kept.event);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(kept.data.get().as_bytes());
    text(&mut out, b",\"timestamp\":", &kept.timestamp);
    text(&mut out, b",\"room\":", channel);
    let rest = format!(",\"error_code\":null,\"error_message\":null,\"offset\":{}}}", kept.offset);
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_event_looks_as_it_did_when_it_came() {
        let live = r#"{"id":"481f728a","correlation_id":null,"type":"event","event":"e","data":{"n":1.10},"timestamp":"2026-01-31T12:00:00.5+00:00","room":"a\"b","error_code":null,"error_message":null,"offset":7}"#;
        let kept = Kept {
            id: "481f728a".into(),
            event: "e".into(),
            data: RawValue::from_string(r#"{"n":1.10}"#.into()).unwrap(),
            timestamp: "2026-01-31T12:00:00.5+00:00".into(),
            offset: 7,
        };
        assert_eq!(message("a\"b", &kept), live);
    }

    #[test]
    fn a_number_stands_behind_the_channel_if_it_is_wanted() {
        let event = |offset| Event {
            channel: "c".into(),
            name: "e".into(),
            data: "{}".into(),
            offset,
            ..Event::default()
        };
        assert_eq!(words(&event(Some(7)), true), "c 7 e {}");
        assert_eq!(words(&event(None), true), "c - e {}");
        assert_eq!(words(&event(Some(7)), false), "c e {}");
    }
}
