//! Requests: heads, bodies, pipelines of them, upgrades.
//!
//! However the bytes are cut, the same requests come out of them and the same answers go back; what is refused is
//! refused for an enumerated reason, and what is incomplete waits and then ends. Two things may differ by the cut:
//!
//! - `100 Continue` is sent only to a client whose body has not begun to come.
//! - What cannot become a head is *noticed early* where a chunk ends, on a best-effort basis: a head that breaks two
//!   rules can be refused for either, and one that is never completed may be refused or waited for.

use mahavishnu_core::{reason::Reason, wire::Limits, ws::Connection};
use tungstenite::handshake::derive_accept_key;

use crate::trace::{Cuts, Ending, Habits, Trace, start};

/// Input: a byte that chooses the cuts, a byte of flags, then the stream.
pub fn run(input: &[u8]) {
    let Some((&[seed, flags], stream)) = input.split_first_chunk::<2>() else { return };
    let whole = trace(stream, Cuts::Whole, flags);
    check(&whole, flags);
    compare(&whole, &trace(stream, Cuts::Seeded(seed), flags));
    if stream.len() <= 2048 {
        compare(&whole, &trace(stream, Cuts::Single, flags));
    }
}

fn trace(stream: &[u8], cuts: Cuts, flags: u8) -> Trace {
    let limits = limits(flags);
    let connection = Connection::server(start());
    // With small limits what is kept behind a request depends on the cuts, so there requests are answered at once.
    let late = flags & LATE != 0 && flags & SMALL == 0;
    let habits =
        Habits { late, refuse: flags & REFUSE != 0, close: flags & CLOSE != 0, echo: false };
    let mut trace = Trace::new(connection, limits, habits);
    trace.feed(stream, cuts);
    trace.finish(if flags & SILENCE != 0 { Ending::Silence } else { Ending::Eof });
    trace
}

fn limits(flags: u8) -> Limits {
    if flags & SMALL == 0 {
        return Limits::default();
    }
    Limits {
        head_bytes_max: 256,
        headers_max: 8,
        body_bytes_max: 64,
        message_bytes_max: 64,
        fragments_max: 4,
        ..Limits::default()
    }
}

fn compare(one: &Trace, other: &Trace) {
    assert_eq!(one.events, other.events);
    let (first, second) = (one.end.expect("an end"), other.end.expect("an end"));
    if first == second {
        assert_eq!(without_continue(&one.written), without_continue(&other.written));
        return;
    }
    for reason in [first, second] {
        assert!(NOTICED_EARLY.contains(&reason), "{first:?} or {second:?}");
    }
    // The refusal comes last; what was answered before is the same.
    assert_eq!(
        without_continue(&one.written[..one.before_end]),
        without_continue(&other.written[..other.before_end])
    );
}

/// Every request is answered once, an accepted upgrade with the right proof.
fn check(trace: &Trace, flags: u8) {
    let written = without_continue(&trace.written);
    let heads = http_part(&written).windows(9).filter(|window| *window == b"HTTP/1.1 ").count();
    let end = trace.end.expect("an end");
    let upgraded = trace.events.iter().any(|event| event.starts_with("upgrade"));
    let asked =
        trace.events.iter().filter(|e| e.starts_with("http ") || e.starts_with("upgrade ")).count();
    if end != Reason::HeadTimeout && end != Reason::NotFound {
        let refused = !upgraded && end.row().status.is_some();
        assert_eq!(heads, asked + usize::from(refused), "{end:?}");
    }
    if upgraded && flags & REFUSE == 0 {
        let key =
            trace.events.iter().find_map(|event| event.split_once("\"sec-websocket-key\": \""));
        let (_, rest) = key.expect("a handshake has a key");
        let (key, _) = rest.split_once('"').expect("a value in quotes");
        let proof = derive_accept_key(key.as_bytes());
        assert!(written.windows(proof.len()).any(|window| window == proof.as_bytes()));
    }
}

/// What was written up to and with the acceptance of an upgrade: frames may repeat anything that the client sent.
fn http_part(written: &[u8]) -> &[u8] {
    let begin = written.windows(13).position(|window| window == b"HTTP/1.1 101 ");
    let rest = &written[begin.unwrap_or(written.len())..];
    let end = rest.windows(4).position(|window| window == b"\r\n\r\n");
    &written[..written.len() - rest.len() + end.map_or(rest.len(), |end| end + 4)]
}

fn without_continue(written: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(CONTINUE) {
            rest = after;
        } else {
            kept.push(*first);
            rest = after;
        }
    }
    kept
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Ends that depend on how much of a bad head was there when it was looked at.
const NOTICED_EARLY: &[Reason] = &[
    Reason::BadRequest,
    Reason::HeadTooLarge,
    Reason::UriTooLong,
    Reason::HttpVersion,
    Reason::EofInHead,
    Reason::HeadTimeout,
];

const SMALL: u8 = 1;
const LATE: u8 = 2;
const REFUSE: u8 = 4;
const CLOSE: u8 = 8;
const SILENCE: u8 = 16;
