//! The two forms of a channel's messages: as everybody gets them, and with their offset for who asked for positions.

use std::ops::RangeInclusive;

use crate::{
    protocol::TraceParent,
    ws::{Segment, encode_text_parts},
};

/// In which form a subscriber takes a channel's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) enum Form {
    /// The nine fields.
    #[default]
    Plain,
    /// With a tenth, `offset`.
    Positioned,
}

impl Form {
    #[cfg(debug_assertions)]
    pub(in crate::hub) const ALL: [Self; 2] = [Self::Plain, Self::Positioned];

    pub(in crate::hub) fn index(self) -> usize {
        self as usize
    }
}

/// Appends the messages of `segment`, of which the first has number `first`, whose numbers are `wanted`, in `form`.
/// `numbered`: the segment has them with their offsets. How many there were, and where the last one begins.
pub(super) fn append(
    out: &mut Vec<u8>,
    (segment, first, numbered): (&Segment, u64, bool),
    wanted: RangeInclusive<u64>,
    form: Form,
) -> (u32, usize) {
    let (mut messages, mut last) = (0, out.len());
    for (frame, number) in segment.frames().zip(first..) {
        if !wanted.contains(&number) {
            continue;
        }
        (messages, last) = (messages + 1, out.len());
        match (form, numbered) {
            (Form::Plain, false) | (Form::Positioned, true) => {
                out.extend_from_slice(frame.bytes());
            }
            (Form::Positioned, false) => {
                let payload = frame.payload();
                let body = payload.strip_suffix(b"}").unwrap_or(payload);
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(number).as_bytes();
                encode_text_parts(out, &[body, OFFSET, digits, b"}"]);
            }
            (Form::Plain, true) => {
                let payload = frame.payload();
                let digits = itoa::Buffer::new().format(number).len();
                let end = payload.len().saturating_sub(OFFSET.len() + digits + 1);
                encode_text_parts(out, &[payload.get(..end).unwrap_or_default(), b"}"]);
            }
        }
    }
    (messages, last)
}

/// A whole segment in another form.
pub(super) fn convert(segment: &Segment, first: u64, numbered: bool, form: Form) -> Segment {
    if numbered == (form == Form::Positioned) {
        return segment.clone();
    }
    let room = segment.len() + segment.messages() as usize * (OFFSET.len() + DIGITS);
    let mut frames = Vec::with_capacity(room);
    let (messages, last) = append(&mut frames, (segment, first, numbered), first..=u64::MAX, form);
    Segment::new(frames, messages, Segment::NO_TAG, u32::try_from(last).unwrap_or(u32::MAX))
}

/// Messages of a round that belong to a trace, by their place in it, and which.
pub(in crate::hub) type Traces = Vec<(u32, TraceParent)>;

/// A whole segment, whose messages say which trace they belong to, if any.
pub(in crate::hub) fn traced(segment: &Segment, traces: &Traces) -> Segment {
    let room = segment.len() + traces.len() * (TRACE.len() + TraceParent::LEN + DIGITS);
    let (mut frames, mut last) = (Vec::with_capacity(room), 0);
    let mut traces = traces.iter().peekable();
    for (frame, place) in segment.frames().zip(0..) {
        last = frames.len();
        match traces.next_if(|(of, _)| *of == place) {
            None => frames.extend_from_slice(frame.bytes()),
            Some((_, parent)) => {
                let payload = frame.payload();
                let body = payload.strip_suffix(b"}").unwrap_or(payload);
                let mut text = Vec::with_capacity(TraceParent::LEN);
                parent.write(&mut text);
                encode_text_parts(&mut frames, &[body, TRACE, &text, b"\"}"]);
            }
        }
    }
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    Segment::new(frames, segment.messages(), Segment::NO_TAG, last)
}

/// What stands before a trace, behind everything else of the message.
const TRACE: &[u8] = b",\"traceparent\":\"";

/// What stands before the number, at the end of the message: see [`Envelope`](crate::protocol::Envelope).
const OFFSET: &[u8] = b",\"offset\":";

/// Digits of the largest number; the header may grow by as much as the rest.
const DIGITS: usize = 20 + 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        protocol::{Envelope, Stamp, Timestamp},
        ws::encode_text,
    };

    /// Messages as a home encodes them, with or without their offsets.
    fn round(lengths: &[usize], first: u64, numbered: bool) -> Segment {
        let timestamp = Timestamp::from_unix(Duration::from_secs(1_770_000_000));
        let (mut frames, mut last) = (Vec::new(), 0);
        for (len, number) in lengths.iter().zip(first..) {
            let data = format!("{{\"x\":\"{}\"}}", "y".repeat(*len));
            let stamp =
                Stamp { id: uuid::Uuid::from_u128(u128::from(number)), timestamp: &timestamp };
            let mut text = Vec::new();
            Envelope::broadcast(stamp, "c", "e", &data, numbered.then_some(number))
                .write(&mut text);
            last = frames.len();
            encode_text(&mut frames, &text);
        }
        Segment::new(frames, lengths.len() as u32, Segment::NO_TAG, last as u32)
    }

    proptest! {
        #[test]
        fn each_form_is_made_of_the_other(
            lengths in prop::collection::vec(prop_oneof![0usize..300, 65_000usize..66_000], 1..6),
            first in prop_oneof![1u64..200, Just(9_999_999_998), (u64::MAX - 10)..(u64::MAX - 6)],
        ) {
            let (plain, numbered) = (round(&lengths, first, false), round(&lengths, first, true));
            for (segment, is) in [(&plain, false), (&numbered, true)] {
                for (form, expected) in [(Form::Plain, &plain), (Form::Positioned, &numbered)] {
                    let made = convert(segment, first, is, form);
                    prop_assert_eq!(made.bytes(), expected.bytes());
                    prop_assert_eq!((made.messages(), made.last()), (expected.messages(), expected.last()));
                    let rest = lengths.len() / 2;
                    let mut out = b"before".to_vec();
                    let (messages, last) = append(&mut out, (segment, first, is), first + rest as u64..=u64::MAX, form);
                    prop_assert_eq!(messages as usize, lengths.len() - rest);
                    let tail: usize = expected.frames().take(rest).map(|frame| frame.bytes().len()).sum();
                    prop_assert_eq!(&out[6..], &expected.bytes()[tail..]);
                    prop_assert_eq!(last - 6, expected.last() as usize - tail);
                }
            }
        }
    }

    #[test]
    fn a_trace_is_the_last_member_of_the_messages_that_have_one() {
        let parent = TraceParent { trace: [1; 16], span: [2; 8], sampled: true };
        for lengths in [&[1, 65_530, 3][..], &[120, 65_400]] {
            let plain = round(lengths, 7, true);
            let last = lengths.len() as u32 - 1;
            let made = traced(&plain, &vec![(0, parent), (last, parent)]);
            assert_eq!(made.messages(), plain.messages());
            for ((frame, before), place) in made.frames().zip(plain.frames()).zip(0..) {
                let (text, before) = (frame.payload(), before.payload());
                if place != 0 && place != last {
                    assert_eq!(text, before);
                    continue;
                }
                let message: serde_json::Value = serde_json::from_slice(text).unwrap();
                assert_eq!(message["traceparent"], parent.to_string());
                assert_eq!(&text[..before.len() - 1], &before[..before.len() - 1]);
            }
            let tail = made.frames().last().unwrap().bytes().len();
            assert_eq!(made.last() as usize, made.len() - tail);
        }
    }
}
