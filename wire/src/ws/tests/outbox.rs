//! The outbox against a model made of plain bytes.

use std::{collections::VecDeque, io::IoSlice};

use proptest::prelude::*;

use super::*;

fn segment(tag: u32, payloads: &[Vec<u8>]) -> Segment {
    let mut bytes = Vec::new();
    let mut last = 0;
    for payload in payloads {
        last = bytes.len() as u32;
        encode_frame(&mut bytes, Opcode::Binary, payload, None);
    }
    Segment::new(bytes, payloads.len() as u32, tag, last)
}

fn pong(number: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, Opcode::Pong, &[number], None);
    frame
}

/// Takes up to `bytes` from the outbox the way `flush` does.
fn write(outbox: &mut Outbox, bytes: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = outbox.chunks(&mut slices);
    assert!(filled == 1 || !outbox.is_single() || outbox.is_empty(), "{filled}");
    let mut taken = Vec::new();
    for slice in &slices[..filled] {
        taken.extend_from_slice(&slice[..slice.len().min(bytes - taken.len())]);
    }
    let head = outbox.head();
    assert!(head.starts_with(&taken[..taken.len().min(head.len())]));
    outbox.consume(taken.len());
    taken
}

fn drain(outbox: &mut Outbox) -> Vec<u8> {
    let mut out = Vec::new();
    while !outbox.is_empty() {
        out.extend(write(outbox, 997));
    }
    out
}

/// One message as the model sees it.
#[derive(Clone, Debug)]
struct Entry {
    tag: u32,
    /// Messages of one segment or buffer have the same.
    chunk: usize,
    frame: Vec<u8>,
}

/// The same rules over single frames: what is written moves from the front of `queue` to `expected`.
#[derive(Debug, Default)]
struct Model {
    queue: VecDeque<Entry>,
    chunks: usize,
    /// Bytes of the first frame that are written.
    sent: usize,
    /// The first chunk, if any byte of it is written.
    begun: Option<usize>,
    /// Data that was written.
    written: Vec<u8>,
}

impl Model {
    fn push(&mut self, tag: u32, payloads: &[Vec<u8>]) {
        self.chunks += 1;
        for payload in payloads {
            let mut frame = Vec::new();
            encode_frame(&mut frame, Opcode::Binary, payload, None);
            self.queue.push_back(Entry { tag, chunk: self.chunks, frame });
        }
    }

    fn replace(&mut self, tag: u32, payloads: &[Vec<u8>]) -> Option<u32> {
        let old = |entry: &Entry| entry.tag == tag && Some(entry.chunk) != self.begun;
        let place = self.queue.iter().rposition(old)?;
        let chunk = self.queue[place].chunk;
        let before = self.queue.len();
        let mut frame = Vec::new();
        encode_frame(&mut frame, Opcode::Binary, payloads.last().unwrap(), None);
        self.queue[place] = Entry { tag, chunk, frame };
        let mut at = 0;
        let begun = self.begun;
        self.queue.retain(|entry| {
            at += 1;
            at - 1 == place || entry.tag != tag || Some(entry.chunk) == begun
        });
        Some((before - self.queue.len() + payloads.len()) as u32)
    }

    fn clear(&mut self) -> u32 {
        let kept = usize::from(self.sent > 0);
        let dropped = self.queue.len() - kept;
        self.queue.truncate(kept);
        if kept == 0 {
            self.begun = None;
        }
        dropped as u32
    }

    /// Data bytes were written.
    fn wrote(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let front = &self.queue[0];
            let take = bytes.min(front.frame.len() - self.sent);
            self.written.extend_from_slice(&front.frame[self.sent..self.sent + take]);
            bytes -= take;
            self.sent += take;
            self.begun = Some(front.chunk);
            if self.sent == front.frame.len() {
                let chunk = front.chunk;
                self.queue.pop_front();
                self.sent = 0;
                if self.queue.front().is_none_or(|next| next.chunk != chunk) {
                    self.begun = None;
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.queue.iter().map(|entry| entry.frame.len()).sum::<usize>() - self.sent
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(u32, Vec<Vec<u8>>),
    Append(Vec<u8>),
    Replace(u32, Vec<Vec<u8>>),
    Urgent,
    Clear,
    Take,
    Write(usize),
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..12),
        2 => prop::collection::vec(any::<u8>(), 120..140),
        1 => Just(vec![1; 66_000]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let tagged = || (0u32..3, prop::collection::vec(payload(), 1..5));
    prop_oneof![
        4 => tagged().prop_map(|(tag, payloads)| Op::Push(tag, payloads)),
        3 => payload().prop_map(Op::Append),
        2 => tagged().prop_map(|(tag, payloads)| Op::Replace(tag, payloads)),
        3 => Just(Op::Urgent),
        1 => Just(Op::Clear),
        6 => prop_oneof![1usize..20, 1usize..70_000].prop_map(Op::Write),
        2 => Just(Op::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is queued when, and however little the socket takes: whole frames come out, data in the model's order,
    /// control frames in their own order and never inside a frame, and the counters are right.
    #[test]
    fn the_outbox_behaves_like_its_model(ops in prop::collection::vec(op(), 1..60)) {
        let (mut outbox, mut model) = (Outbox::new(), Model::default());
        let mut written = Vec::new();
        let (mut urgents, mut accepted, mut dropped) = (0u8, 0, 0);
        for op in ops {
            match op {
                Op::Push(tag, payloads) => {
                    outbox.push(&segment(tag, &payloads));
                    accepted += payloads.len();
                    model.push(tag, &payloads);
                }
                Op::Append(payload) => {
                    outbox.append(|out| encode_frame(out, Opcode::Binary, &payload, None));
                    accepted += 1;
                    model.push(Segment::NO_TAG, &[payload]);
                }
                Op::Replace(tag, payloads) => {
                    let expected = model.replace(tag, &payloads);
                    let result = outbox.replace(&segment(tag, &payloads));
                    prop_assert_eq!(result, expected);
                    if let Some(lost) = result {
                        accepted += payloads.len();
                        dropped += lost as usize;
                    }
                }
                Op::Urgent => {
                    outbox.urgent(pong(urgents));
                    urgents += 1;
                }
                Op::Clear => {
                    let lost = outbox.clear_data();
                    prop_assert_eq!(lost, model.clear());
                    dropped += lost as usize;
                }
                Op::Take => {
                    let (before, head) = (outbox.bytes(), outbox.head().to_vec());
                    let piece = outbox.take().unwrap_or_default();
                    prop_assert_eq!(&head, &piece);
                    written.extend(piece);
                    model.wrote(before - outbox.bytes());
                }
                Op::Write(bytes) => {
                    let before = outbox.bytes();
                    written.extend(write(&mut outbox, bytes));
                    model.wrote(before - outbox.bytes());
                }
            }
            prop_assert_eq!(outbox.bytes(), model.bytes());
            prop_assert_eq!(outbox.is_empty(), outbox.head().is_empty());
            prop_assert!(outbox.messages() as usize >= model.queue.len());
            prop_assert!(outbox.own_bytes() <= outbox.bytes() + 3 * usize::from(urgents));
        }
        written.extend(drain(&mut outbox));
        model.wrote(model.bytes());

        let out = frames(&written);
        let pongs: Vec<u8> = out.iter().filter(|(first, _)| *first == PONG).map(|(_, payload)| payload[0]).collect();
        prop_assert_eq!(pongs, (0..urgents).collect::<Vec<_>>());
        let messages = out.iter().filter(|(first, _)| *first == BINARY).count();
        prop_assert_eq!(messages, accepted - dropped);
        let mut data = Vec::new();
        for (_, payload) in out.iter().filter(|(first, _)| *first == BINARY) {
            encode_frame(&mut data, Opcode::Binary, payload, None);
        }
        prop_assert!(data == model.written, "data in the model's order");
        prop_assert_eq!((outbox.bytes(), outbox.messages(), outbox.own_bytes()), (0, 0, 0));
        outbox.urgent(pong(urgents));
        drain(&mut outbox);
        prop_assert!(outbox.holds_nothing());
    }
}

#[test]
fn a_segment_is_shared_not_copied() {
    let mut outbox = Outbox::new();
    let shared = segment(1, &[b"abc".to_vec()]);
    outbox.push(&shared);
    assert_eq!(outbox.head().as_ptr(), shared.bytes().as_ptr());
}

#[test]
fn what_is_taken_is_shared_too() {
    for count in 1..5 {
        let mut outbox = Outbox::new();
        let segments: Vec<_> = (0..count).map(|tag| segment(tag, &[b"abc".to_vec()])).collect();
        segments.iter().for_each(|segment| outbox.push(segment));
        write(&mut outbox, 2);
        for (at, segment) in segments.iter().enumerate() {
            let piece = outbox.take().unwrap();
            let begun = if at == 0 { 2 } else { 0 };
            assert_eq!(piece.as_ptr(), segment.bytes()[begun..].as_ptr(), "{count}: {at}");
            assert_eq!(piece, segment.bytes()[begun..]);
        }
        assert_eq!((outbox.take(), outbox.bytes()), (None, 0));
    }
}

#[test]
fn replies_in_a_row_are_one_piece() {
    let mut outbox = Outbox::new();
    for number in 0..10 {
        outbox.append(|out| encode_frame(out, Opcode::Binary, &[number], None));
    }
    assert!(outbox.is_single());
    assert_eq!((outbox.head().len(), outbox.messages(), outbox.own_bytes()), (30, 10, 30));
}

#[test]
fn a_control_frame_waits_for_the_end_of_the_frame_in_progress_only() {
    let mut outbox = Outbox::new();
    outbox.push(&segment(1, &[b"first".to_vec(), b"second".to_vec()]));
    let mut out = write(&mut outbox, 3);
    outbox.urgent(pong(0));
    out.extend(drain(&mut outbox));
    let order: Vec<u8> = frames(&out).iter().map(|(first, _)| *first).collect();
    assert_eq!(order, [BINARY, PONG, BINARY]);
}

#[test]
fn nothing_overtakes_or_drops_an_http_head() {
    let mut outbox = Outbox::new();
    outbox.raw(b"HTTP/1.1 101 \r\n\r\n".to_vec());
    outbox.push(&segment(1, &[b"data".to_vec()]));
    let mut out = write(&mut outbox, 4);
    outbox.urgent(pong(0));
    assert_eq!(outbox.clear_data(), 1);
    out.extend(drain(&mut outbox));
    assert_eq!(out, [&b"HTTP/1.1 101 \r\n\r\n"[..], &pong(0)].concat());
}

#[test]
fn a_sealed_outbox_takes_no_data() {
    let mut outbox = Outbox::new();
    outbox.seal(true);
    outbox.push(&segment(1, &[b"data".to_vec()]));
    outbox.append(|out| out.push(0));
    assert_eq!(outbox.replace(&segment(1, &[b"data".to_vec()])), None);
    assert!(outbox.is_empty());
}

#[test]
fn nothing_is_not_queued() {
    let mut outbox = Outbox::new();
    outbox.append(|_| {});
    outbox.push(&Segment::new(Vec::new(), 1, 1, 0));
    assert!(outbox.is_empty());
    assert_eq!(outbox.messages(), 0);
}

#[test]
fn replacing_leaves_what_belongs_to_no_channel() {
    let mut outbox = Outbox::new();
    outbox.append(|out| encode_frame(out, Opcode::Binary, b"reply", None));
    assert_eq!(outbox.replace(&segment(Segment::NO_TAG, &[b"data".to_vec()])), None);
    assert_eq!(outbox.messages(), 1);
}

#[test]
fn a_turn_of_two_channels_or_of_replies_leaves_nothing_behind() {
    let mut outbox = Outbox::new();
    for _ in 0..3 {
        outbox.push(&segment(1, &[b"a".to_vec()]));
        outbox.push(&segment(2, &[b"b".to_vec()]));
        assert_eq!((outbox.private_bytes(), outbox.messages()), (0, 2));
        drain(&mut outbox);
        assert!(outbox.holds_nothing());

        outbox.append(|out| encode_frame(out, Opcode::Binary, b"reply", None));
        outbox.append(|out| encode_frame(out, Opcode::Binary, b"reply", None));
        assert_eq!((outbox.private_bytes(), outbox.messages()), (14, 2));
        drain(&mut outbox);
        assert!(outbox.holds_nothing());
    }
}

#[test]
fn what_a_turn_of_several_channels_needs_stays_until_the_next_ping() {
    let mut outbox = Outbox::new();
    for tag in 0..3 {
        outbox.push(&segment(tag, &[b"data".to_vec()]));
    }
    drain(&mut outbox);
    assert!(!outbox.holds_nothing() && outbox.is_empty());
    assert!((1..=8 * 64).contains(&outbox.private_bytes()), "{}", outbox.private_bytes());
    outbox.urgent(pong(0));
    drain(&mut outbox);
    assert!(outbox.holds_nothing());
}

#[test]
fn a_slow_socket_leaves_nothing_behind() {
    let mut outbox = Outbox::new();
    outbox.append(|out| encode_frame(out, Opcode::Binary, b"reply", None));
    write(&mut outbox, 3);
    for tag in 0..3 {
        outbox.push(&segment(tag, &[b"data".to_vec()]));
    }
    assert!(outbox.private_bytes() > 4 + 3 * 32, "{}", outbox.private_bytes());
    drain(&mut outbox);
    assert!(outbox.holds_nothing());
}

#[test]
fn a_seal_holds_whatever_is_queued() {
    let fill: [fn(&mut Outbox); 5] = [
        |_| {},
        |outbox| outbox.push(&segment(1, &[b"a".to_vec()])),
        |outbox| (0..2).for_each(|tag| outbox.push(&segment(tag, &[b"a".to_vec()]))),
        |outbox| outbox.append(|out| encode_frame(out, Opcode::Binary, b"a", None)),
        |outbox| (0..3).for_each(|tag| outbox.push(&segment(tag, &[b"a".to_vec()]))),
    ];
    for (case, fill) in fill.into_iter().enumerate() {
        let mut outbox = Outbox::new();
        fill(&mut outbox);
        let before = outbox.messages();
        for (sealed, more) in [(true, 0), (false, 2)] {
            outbox.seal(sealed);
            outbox.push(&segment(7, &[b"b".to_vec()]));
            outbox.append(|out| encode_frame(out, Opcode::Binary, b"c", None));
            assert_eq!(outbox.messages(), before + more, "{case}");
            if sealed {
                drain(&mut outbox);
                outbox.push(&segment(7, &[b"b".to_vec()]));
                assert!(outbox.is_empty(), "{case}: written out, it is sealed all the same");
                outbox.seal(false);
                fill(&mut outbox);
            }
        }
    }
}

#[test]
fn what_is_kept_is_not_replaced() {
    let mut outbox = Outbox::new();
    outbox.push(&segment(1, &[b"kept".to_vec()]));
    outbox.keep(1);
    assert_eq!(outbox.replace(&segment(1, &[b"data".to_vec()])), None);
    outbox.push(&segment(1, &[b"old".to_vec()]));
    assert_eq!(outbox.replaceable(1), 5);
    assert_eq!(outbox.replace(&segment(1, &[b"new".to_vec()])), Some(1));
    let out = drain(&mut outbox);
    assert_eq!(frames(&out), [(BINARY, b"kept".to_vec()), (BINARY, b"new".to_vec())]);
}

#[test]
fn what_is_dropped_of_a_channel_is_not_begun() {
    let mut outbox = Outbox::new();
    outbox.push(&segment(1, &[b"begun".to_vec()]));
    let mut out = write(&mut outbox, 2);
    assert_eq!((outbox.drop_tag(1), outbox.drop_older(1)), (0, 0));
    outbox.push(&segment(1, &[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]));
    outbox.push(&segment(2, &[b"d".to_vec()]));
    assert_eq!((outbox.drop_older(1), outbox.messages()), (2, 3));
    assert_eq!((outbox.drop_tag(2), outbox.messages()), (1, 2));
    out.extend(drain(&mut outbox));
    assert_eq!(frames(&out), [(BINARY, b"begun".to_vec()), (BINARY, b"c".to_vec())]);
    assert!(outbox.holds_nothing());
}

#[test]
fn a_drained_outbox_gives_its_memory_back() {
    let mut outbox = Outbox::new();
    for tag in 0..100 {
        outbox.push(&segment(tag, &[b"data".to_vec()]));
    }
    drain(&mut outbox);
    assert!(outbox.capacity() <= 8);
}
