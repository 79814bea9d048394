//! An outbox that is written from without borrowing: the same bytes go out, at the same places, as from one that is flushed.

use mahavishnu_core::ws::{Opcode, Outbox, Segment, encode_frame};

/// Input: two bytes for each operation, what and how much.
pub fn run(input: &[u8]) {
    let (mut flushed, mut taken) = (Outbox::new(), Outbox::new());
    for (at, &[what, size]) in input.as_chunks::<2>().0.iter().take(OPERATIONS_MAX).enumerate() {
        let (tag, size) = (u32::from(what >> 6), usize::from(size));
        let segment = segment(tag, size, 1 + usize::from(what >> 3) % 4);
        for outbox in [&mut flushed, &mut taken] {
            match what % 8 {
                0 => outbox.push(&segment),
                1 => {
                    outbox.append(|frames| encode_frame(frames, Opcode::Text, &payload(size), None))
                }
                2 => drop(outbox.replace(&segment)),
                3 => outbox.urgent(control(at)),
                4 => drop(outbox.drop_older(tag)),
                5 => drop(outbox.clear_data()),
                _ => {}
            }
        }
        if what % 8 == 6 {
            // A socket that takes a part: the same part of both.
            let part = size.min(taken.head().len());
            assert_eq!(write(&mut taken, part), write(&mut flushed, part));
        }
        if what % 8 == 7 {
            take(&mut flushed, &mut taken);
        }
        assert_eq!(flushed.head(), taken.head());
        assert_eq!(flushed.bytes(), taken.bytes());
        assert_eq!(flushed.own_bytes(), taken.own_bytes());
        assert_eq!(flushed.messages(), taken.messages());
    }
    while !taken.is_empty() {
        take(&mut flushed, &mut taken);
    }
    assert!(flushed.is_empty() && taken.take().is_none());
}

/// One piece of the one, and as many bytes of the other.
fn take(flushed: &mut Outbox, taken: &mut Outbox) {
    let head = taken.head().to_vec();
    let piece = taken.take().unwrap_or_default();
    assert_eq!(piece, head, "a piece is what would have been written next");
    assert_eq!(piece, write(flushed, piece.len()));
}

fn write(outbox: &mut Outbox, bytes: usize) -> Vec<u8> {
    let written = outbox.head().get(..bytes).expect("no more than the head").to_vec();
    outbox.consume(bytes);
    written
}

fn segment(tag: u32, size: usize, messages: usize) -> Segment {
    let (mut frames, mut last) = (Vec::new(), 0);
    for number in 0..messages {
        last = frames.len() as u32;
        encode_frame(&mut frames, Opcode::Text, &payload(size + number), None);
    }
    Segment::new(frames, messages as u32, tag, last)
}

fn payload(size: usize) -> Vec<u8> {
    vec![b'x'; size * 3]
}

fn control(number: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, Opcode::Pong, &[number as u8], None);
    frame
}

const OPERATIONS_MAX: usize = 1024;
