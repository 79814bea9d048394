//! What a request may ask for beyond its first meaning, by further members of `data`. Clients that know none of them pay
//! nothing: these are looked for only if `data` has members that are not known otherwise.

use std::borrow::Cow;

use super::{
    decode::{DecodeError, Incoming, fits},
    json::write_string,
    position::Epoch,
    scan::{Scanner, Value},
};

/// What a subscription asks for besides its channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions<'a> {
    /// `positions`, or `recover`: the answer tells where the channel stands, and events carry their `offset`.
    pub positions: bool,
    /// `recover`: what came after this is to come first.
    pub recover: Option<Recover<'a>>,
    /// `rewind`: so many of the last events are to come first.
    pub rewind: Option<u32>,
    /// `strict`: no subscription without what was asked for.
    pub strict: bool,
    /// `presence`: its JSON, whatever it is.
    pub presence: Option<&'a str>,
    /// `trace`: events that belong to a trace say to which, by `traceparent`. It implies positions; anything but true is
    /// ignored.
    pub trace: bool,
}

/// Where a client left off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recover<'a> {
    /// `epoch`. `None`: not one that any server gives.
    pub epoch: Option<Epoch>,
    /// `offset` of the last event that it has; 0: it has none.
    pub offset: u64,
    /// `id` of that event.
    pub id: Option<Cow<'a, str>>,
}

impl SubscribeOptions<'_> {
    /// Appends them as further members of an object that has one.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // To recover implies positions, and so does to be told of traces.
        if self.positions && self.recover.is_none() && !self.trace {
            out.extend_from_slice(b",\"positions\":true");
        }
        if let Some(recover) = &self.recover {
            out.extend_from_slice(b",\"recover\":{\"epoch\":");
            write_string(out, recover.epoch.as_ref().map_or("", Epoch::as_str));
            out.extend_from_slice(b",\"offset\":");
            out.extend_from_slice(itoa::Buffer::new().format(recover.offset).as_bytes());
            if let Some(id) = &recover.id {
                out.extend_from_slice(b",\"id\":");
                write_string(out, id);
            }
            out.push(b'}');
        }
        if let Some(rewind) = self.rewind {
            out.extend_from_slice(b",\"rewind\":");
            out.extend_from_slice(itoa::Buffer::new().format(rewind).as_bytes());
        }
        if self.strict {
            out.extend_from_slice(b",\"strict\":true");
        }
        if let Some(presence) = self.presence {
            out.extend_from_slice(b",\"presence\":");
            out.extend_from_slice(presence.as_bytes());
        }
        if self.trace {
            out.extend_from_slice(b",\"trace\":true");
        }
    }
}

impl Incoming<'_> {
    /// Whether `data` has members beyond those of every request, so that it may ask for more.
    #[must_use]
    #[inline]
    pub fn has_options(&self) -> bool {
        self.members.more
    }

    /// What a subscription asks for besides its channel. Fails if a member has a value of another type.
    pub fn subscribe_options(&self) -> Result<SubscribeOptions<'_>, DecodeError> {
        match self.data {
            Some(data) if self.members.more => subscribe_options(data),
            _ => Ok(SubscribeOptions::default()),
        }
    }
}

#[cold]
fn subscribe_options(data: &str) -> Result<SubscribeOptions<'_>, DecodeError> {
    const NAMES: &[&str; 6] = &["positions", "recover", "rewind", "strict", "presence", "trace"];
    let [positions, recover, rewind, strict, presence, trace] = members(data, NAMES)?;
    let trace = trace.is_some_and(|trace| trace.get() == "true");
    let recover = fits(recover.map(read_recover).transpose(), RECOVER_RULE)?;
    let rewind = fits(rewind.map(number).transpose(), "rewind must be a whole number")?;
    let positions = fits(positions.map(flag).transpose(), POSITIONS_RULE)?;
    let strict = fits(strict.map(flag).transpose(), "strict must be true or false")?;
    Ok(SubscribeOptions {
        positions: positions.unwrap_or(false) || trace || recover.is_some(),
        recover,
        // A count that no ring can hold is as good as the largest.
        rewind: rewind.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        strict: strict.unwrap_or(false),
        presence: presence.map(Value::get),
        trace,
    })
}

pub(super) const POSITIONS_RULE: &str = "positions must be true or false";
const RECOVER_RULE: &str =
    "recover must have an epoch, a string, and an offset, a whole number; its id is a string";

pub(super) fn read_recover(value: Value<'_>) -> Result<Recover<'_>, DecodeError> {
    let [epoch, offset, id] = members(value.get(), &["epoch", "offset", "id"])?;
    let (Some(epoch), Some(offset)) = (epoch.and_then(Value::string), offset) else {
        return Err(DecodeError::Data);
    };
    let id = id.map(|id| id.string().ok_or(DecodeError::Data)).transpose()?;
    Ok(Recover { epoch: Epoch::parse(&epoch), offset: number(offset)?, id })
}

/// The members of the object `text` that `names` names, by their place in it; those that are null are not there.
pub(super) fn members<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> Result<[Option<Value<'a>>; N], DecodeError> {
    let found = members_or_null(text, names)?;
    Ok(found.map(|member| member.filter(|value| !value.is_null())))
}

/// The same, with those that are null.
pub(super) fn members_or_null<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> Result<[Option<Value<'a>>; N], DecodeError> {
    let mut scanner = Scanner::new(text);
    if scanner.peek() != Some(b'{') {
        return Err(DecodeError::Data);
    }
    let mut found = [None; N];
    let readable = scanner.object(names, |scanner, index| {
        let value = scanner.value()?;
        if let Some(member) = found.get_mut(index) {
            *member = Some(value);
        }
        Ok(())
    })?;
    if readable { Ok(found) } else { Err(DecodeError::Data) }
}

pub(super) fn flag(value: Value<'_>) -> Result<bool, DecodeError> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(DecodeError::Data),
    }
}

/// A whole number that is not negative.
pub(super) fn number(value: Value<'_>) -> Result<u64, DecodeError> {
    value.get().parse().map_err(|_| DecodeError::Data)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Request, decode_text};

    fn options(data: &str) -> Result<SubscribeOptions<'static>, DecodeError> {
        let text = format!(r#"{{"type":"request","event":"subscribe","data":{data}}}"#);
        let text: &'static str = text.leak();
        let incoming: &'static Incoming<'static> = Box::leak(Box::new(decode_text(text).unwrap()));
        incoming.subscribe_options()
    }

    #[test]
    fn without_further_members_there_are_none() {
        for data in [r#"{"channel":"c"}"#, "{}", r#"{"room":"c","component_id":"5"}"#] {
            assert_eq!(options(data), Ok(SubscribeOptions::default()), "{data}");
        }
    }

    #[test]
    fn each_is_read() {
        let epoch = Epoch::from_random(7);
        let data = format!(
            r#"{{"channel":"c","strict":true,"rewind":10,"recover":{{"epoch":"{epoch}","offset":97,"id":"x"}}}}"#
        );
        let recover = Recover { epoch: Some(epoch), offset: 97, id: Some("x".into()) };
        let expected = SubscribeOptions {
            positions: true,
            recover: Some(recover),
            rewind: Some(10),
            strict: true,
            presence: None,
            trace: false,
        };
        assert_eq!(options(&data), Ok(expected));
        let positions = SubscribeOptions { positions: true, ..SubscribeOptions::default() };
        assert_eq!(options(r#"{"channel":"c","positions":true}"#), Ok(positions));
        let presence = SubscribeOptions { presence: Some(r#"{"info":{}}"#), ..<_>::default() };
        assert_eq!(options(r#"{"channel":"c","presence":{"info":{}}}"#), Ok(presence));
        let traced = SubscribeOptions { positions: true, trace: true, ..<_>::default() };
        assert_eq!(options(r#"{"channel":"c","trace":true}"#), Ok(traced));
        // Clients that have such a member already mean something else by it.
        for other in ["false", "1", r#""on""#, "{}"] {
            let data = format!(r#"{{"channel":"c","trace":{other}}}"#);
            assert_eq!(options(&data), Ok(SubscribeOptions::default()), "{other}");
        }
    }

    #[test]
    fn null_is_nothing_and_unknown_members_are_ignored() {
        let data = r#"{"channel":"c","positions":null,"recover":null,"rewind":null,"x":[1]}"#;
        assert_eq!(options(data), Ok(SubscribeOptions::default()));
    }

    #[test]
    fn an_epoch_of_another_making_is_an_epoch_that_nobody_gave() {
        let read = options(r#"{"recover":{"epoch":"?","offset":1}}"#).unwrap();
        assert_eq!(read.recover.unwrap().epoch, None);
    }

    #[test]
    fn values_of_other_types_are_refused() {
        for member in [
            r#""positions":1"#,
            r#""rewind":"10""#,
            r#""rewind":-1"#,
            r#""rewind":1.5"#,
            r#""strict":"yes""#,
            r#""recover":true"#,
            r#""recover":{"offset":1}"#,
            r#""recover":{"epoch":"0123456789"}"#,
            r#""recover":{"epoch":5,"offset":1}"#,
            r#""recover":{"epoch":"0123456789","offset":-1}"#,
            r#""recover":{"epoch":"0123456789","offset":18446744073709551616}"#,
            r#""recover":{"epoch":"0123456789","offset":1,"id":5}"#,
        ] {
            let name = member.split('"').nth(1).unwrap_or_default();
            let refused = options(&format!("{{{member}}}")).unwrap_err();
            assert!(
                matches!(refused, DecodeError::Member(rule) if rule.starts_with(name)),
                "{member}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_server_reads_what_a_client_writes(
            positions: bool,
            recover: Option<(u64, u64, Option<String>)>,
            rewind: Option<u32>,
            strict: bool,
            presence in prop::option::of(prop_oneof![Just("true"), Just(r#"{"info":{"a":[1]}}"#)]),
            trace: bool,
        ) {
            let recover = recover.map(|(bits, offset, id)| Recover {
                epoch: Some(Epoch::from_random(bits)),
                offset,
                id: id.map(Cow::Owned),
            });
            let positions = positions || recover.is_some() || trace;
            let options = SubscribeOptions { positions, recover, rewind, strict, presence, trace };

            let request = Request::SubscribeWith { channel: "c\"", options: &options };

            let text = request.to_text(Some("1"));
            let read = decode_text(&text).unwrap();
            prop_assert_eq!(read.subscribe_options(), Ok(options.clone()));
            let asked = matches!(read.intent(), crate::protocol::Intent::Subscribe { .. });
            prop_assert!(asked, "{}", text);
        }
    }

    #[test]
    fn an_epoch_that_nobody_gave_is_written_as_one() {
        let recover = Some(Recover { epoch: None, offset: 3, id: None });
        let options = SubscribeOptions { recover, ..SubscribeOptions::default() };
        let text = Request::SubscribeWith { channel: "c", options: &options }.to_text(None);
        assert_eq!(
            text,
            r#"{"type":"request","event":"subscribe","data":{"channel":"c","recover":{"epoch":"","offset":3}}}"#
        );
        let read = decode_text(&text).unwrap();
        assert_eq!(read.subscribe_options().unwrap().recover, options.recover);
    }
}
