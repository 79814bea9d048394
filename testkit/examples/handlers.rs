//! A service's own handlers, and their test in virtual time: `cargo test -p mahavishnu-test --example handlers`.

use std::{io, time::Duration};

use mahavishnu_driver::{Builder, Runtime, core::hub::RequestError};
use mahavishnu_test::World;
use serde_json::json;

/// The service, on whatever runtime. `sleep` is that runtime's, or the test's.
fn service<R, S>(
    builder: Builder<R>,
    sleep: impl Fn(Duration) -> S + Clone + Send + Sync + 'static,
) -> Builder<R>
where
    R: Runtime,
    S: Future<Output = ()> + Send,
{
    builder
        .on_request("get_pool_status", move |request| {
            let sleep = sleep.clone();
            async move {
                match request.data.get("pool_id").and_then(|id| id.as_str()) {
                    // Its answer comes from far away.
                    Some("far") => sleep(Duration::from_secs(3)).await,
                    // It is never reached.
                    Some("away") => sleep(Duration::from_secs(24 * 3600)).await,
                    Some(_) => {}
                    None => {
                        let (code, message) =
                            ("INVALID_REQUEST".into(), "pool_id is missing".into());
                        return Err(RequestError { code, message });
                    }
                }
                Ok(json!({ "status": "idle" }))
            }
        })
        .authorize_subscribe(|wish| async move { !wish.channel.starts_with("secret:") })
}

/// On tokio it is `service(Server::builder(), tokio::time::sleep).listen(…).start()`.
fn world(seed: u64) -> io::Result<World> {
    World::with(seed, |builder, clock| service(builder, move |time| clock.sleep(time)))
}

fn main() -> io::Result<()> {
    let mut world = world(1)?;
    let client = world.connect();
    let answer = world.request(client, "get_pool_status", &json!({ "pool_id": "far" }));
    eprintln!("after {:?}: {answer}", world.elapsed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_far_away_is_waited_for() {
        let mut world = world(1).unwrap();
        let client = world.connect();
        let answer = world.request(client, "get_pool_status", &json!({ "pool_id": "far" }));
        assert_eq!(answer["data"]["status"], "idle");
        assert_eq!(world.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn one_that_is_not_reached_is_given_up_after_half_a_minute() {
        let mut world = world(1).unwrap();
        let client = world.connect();
        let answer = world.request(client, "get_pool_status", &json!({ "pool_id": "away" }));
        assert_eq!(answer["error_message"], "No answer in time");
        assert_eq!(world.elapsed(), Duration::from_secs(30));
    }

    #[test]
    fn secrets_are_not_subscribed_to() {
        let mut world = world(1).unwrap();
        let client = world.connect();
        let refused = world.request(client, "subscribe", &json!({ "channel": "secret:1" }));
        assert_eq!(refused["error_code"], "FORBIDDEN");
        world.subscribe(client, "open:1");
        world.run(world.handle().broadcast("open:1", "e", &json!({ "n": 1 }))).unwrap();
        assert_eq!(world.next(client)["data"], json!({ "n": 1 }));
    }
}
