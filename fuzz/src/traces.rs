//! Traces: files that somebody hands over to be read, and to be run again.
//!
//! A first byte that is even: what follows is the chunks of a file. Odd: it is records of one hub, behind the one that every
//! trace begins with, so that they are run.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use mahavishnu_core::{
    config::Config,
    entropy::Seed,
    hub::{Hub, Place, ShardId},
    trace::{Kind, Recorded, Trace, Writer, replay},
};

use crate::trace::start;

/// Input: see above.
pub fn run(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let file = match how % 2 {
        0 => [&writer().into_inner(), rest].concat(),
        _ => {
            let mut writer = writer();
            writer.add(ShardId(0), &[&BEGINNING, rest].concat()).expect("memory takes everything");
            writer.into_inner()
        }
    };
    if let Ok(trace) = Trace::new(&file) {
        assert!(trace.shards() <= SHARDS_MAX, "more hubs than a file of this size may claim");
        let inputs = trace.inputs();
        assert!(inputs.is_sorted_by_key(|input| input.at), "in the order of time");
        let bytes = inputs.iter().map(|input| match input.kind {
            Kind::Bytes(bytes) => bytes.len(),
            Kind::Accept(_) | Kind::Eof | Kind::IoError => 0,
        });
        assert!(bytes.sum::<usize>() <= file.len(), "more came than the file has");
    }
    let config = Arc::new(CONFIG.clone());
    if let Ok(report) = replay(&file, &[config], start().mono) {
        assert!(report.received_bytes <= file.len() as u64, "more was given than the file has");
        assert!(report.duration <= Duration::from_nanos(u64::MAX), "a time that a record has");
    }
}

fn writer() -> Writer<Vec<u8>> {
    Writer::new(Vec::new()).expect("memory takes everything")
}

static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// The record with which a hub's part begins.
static BEGINNING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hub = Hub::new(Arc::new(CONFIG.clone()), Place::alone(Seed::from(1)), start());
    let mut hub = Recorded::new(hub);
    assert!(hub.start(start()), "a hub without connections can be recorded");
    hub.take()
});

/// What a trace may claim, however small it is.
const SHARDS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use mahavishnu_core::hub::{Listener, Peer};

    use super::*;

    /// Without this the target would only ever see traces that are refused.
    #[test]
    fn what_a_hub_notes_is_run() {
        let config = Arc::new(CONFIG.clone());
        let hub = Hub::new(config.clone(), Place::alone(Seed::from(1)), start());
        let mut hub = Recorded::new(hub);
        assert!(hub.start(start()));
        assert_eq!(hub.take(), *BEGINNING);
        let peer =
            Peer { address: "127.0.0.1:1".parse().expect("an address"), listener: Listener::Main };
        let conn = hub.handle_accept(start(), peer).expect("room");
        let mut request = *b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        hub.handle_bytes(start(), conn, &mut request);
        while hub.poll_output(start()).is_some() {}
        while let Some(conn) = hub.poll_dirty() {
            let _ = hub.flush(start(), conn, &mut Vec::new());
        }
        hub.end_turn(start());
        let noted = hub.take();
        let mut writer = writer();
        writer.add(ShardId(0), &[&BEGINNING[..], &noted[..]].concat()).expect("memory");
        let report = replay(&writer.into_inner(), &[config], start().mono).expect("the same again");
        assert_eq!((report.connections, report.received_bytes), (1, request.len() as u64));
        let input = [&[1], &noted[..]].concat();
        run(&input);
        // Each byte damaged, and each beginning.
        for at in 1..input.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut damaged = input.clone();
                damaged[at] ^= bits;
                run(&damaged);
            }
            run(&input[..at]);
        }
    }
}
