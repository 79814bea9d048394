//! A server on a runtime of one's own: `own.rs` is all that it takes. The conformance suite runs on it too.
//!
//! `cargo run -p mahavishnu-driver --example own_runtime`, then `wscat -c ws://127.0.0.1:8686` and type
//! `{"type":"request","event":"subscribe","id":"1","data":{"channel":"clock"}}`

mod own;

use std::{error::Error, thread, time::Duration};

use mahavishnu_driver::{Runtime, Server};
use own::Own;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    Own::run(async {
        let server = Server::<Own>::builder().listen("127.0.0.1:8686").start().await?;
        for second in 1..=600 {
            server.handle().broadcast("clock", "tick", &json!({ "second": second })).await?;
            // Nobody else is on this thread.
            thread::sleep(Duration::from_secs(1));
        }
        server.stop().await?;
        Ok(())
    })?
}
