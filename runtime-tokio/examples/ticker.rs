//! A price ticker: who reads too slowly gets the newest price and none of those before it, and who comes gets the last one at
//! once.
//!
//! Run it, then: `wscat -c ws://127.0.0.1:8686` and type
//! `{"type":"request","event":"subscribe","id":"1","data":{"channel":"price:ACME"}}`

use std::time::Duration;

use mahavishnu_tokio::{
    Builder, Handle, Server, TryError,
    core::{
        auth::Pattern,
        config::{Config, History, Keep, Publishing, SlowPolicy, SlowReaders},
    },
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = service(Server::builder())?.listen("127.0.0.1:8686").start().await?;
    tokio::spawn(tick(server.handle(), Duration::from_millis(100)));
    server.run_until(tokio::signal::ctrl_c()).await?;
    Ok(())
}

fn service(builder: Builder) -> Result<Builder, Box<dyn std::error::Error>> {
    let prices = Pattern::parse("price:*")?;
    let config = Config {
        // From the moment at which a subscriber's socket is full until it has room again, one price of each channel waits
        // for it: the newest. By default it would be closed once 1 MiB waits.
        slow_readers: SlowReaders {
            rules: vec![(prices.clone(), SlowPolicy::Latest)],
            ..SlowReaders::default()
        },
        // One price of each channel is kept, for an hour, and sent first to whoever subscribes.
        history: History {
            rules: vec![(prices.clone(), Keep { messages: 1, time: Duration::from_secs(3600) })],
            rewind: vec![(prices, 1)],
            ..History::default()
        },
        publishing: Publishing::ApplicationOnly,
        ..Config::default()
    };
    Ok(builder.config(config))
}

/// Tells prices until the server has stopped.
async fn tick(handle: Handle, pause: Duration) {
    let mut every = tokio::time::interval(pause);
    for count in 0_u32.. {
        every.tick().await;
        for symbol in ["ACME", "INIT"] {
            // No market, only ups and downs.
            let data = json!({ "symbol": symbol, "cents": 4200 + count * 37 % 100 });
            match handle.try_broadcast(&format!("price:{symbol}"), "price.changed", &data) {
                Ok(()) => {}
                // The server has more to do than it can: the next price will do.
                Err(TryError::Full) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
#[path = "../../driver/tests/beside/client.rs"]
mod client;

#[cfg(test)]
mod tests {
    use super::{client::Client, *};

    #[test]
    fn a_slow_reader_gets_the_newest_price_and_a_newcomer_the_last() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let builder = service(Server::builder()).unwrap().listen("127.0.0.1:0");
        let server = runtime.block_on(builder.start()).unwrap();
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let acme = json!({ "channel": "price:ACME" });
        let mut slow = Client::connect(address, "/");
        slow.request("subscribe", &acme);
        // More than sockets hold, while it reads nothing.
        let note = "x".repeat(16 * 1024);
        let all = 2_000;
        runtime.block_on(async {
            for cents in 1..=all {
                let data = json!({ "symbol": "ACME", "cents": cents, "note": note });
                let done = handle.broadcast("price:ACME", "price.changed", &data).await.unwrap();
                assert_eq!(done.subscribers, 1, "it stays");
            }
        });
        let (mut got, mut last) = (0, 0);
        while last < all {
            let (event, data) = slow.event();
            let cents = data["cents"].as_u64().unwrap();
            assert!(event == "price.changed" && cents > last, "{event} {cents} after {last}");
            (got, last) = (got + 1, cents);
        }
        assert!(got < all * 3 / 4, "{got} of {all}");

        let mut late = Client::connect(address, "/");
        late.request("subscribe", &acme);
        assert_eq!(late.event().1["cents"], all);
        runtime.spawn(tick(handle, Duration::from_millis(1)));
        for client in [&mut slow, &mut late] {
            assert_eq!(client.event().1["symbol"], "ACME");
        }
        drop((slow, late));
        runtime.block_on(server.stop()).unwrap();
    }
}
