//! What a client hears of the application: messages for it alone, and channels that it did not ask for.

use serde_json::Value;

use super::{Client, Phase};
use crate::{
    acts::{DIRECT, TICK},
    oracle::Oracle,
};

impl Client {
    /// An event of the application's. False if it is none.
    pub(super) fn on_applications(&mut self, message: &Value, oracle: &mut Oracle) -> bool {
        let (who, room) = (self.index, message["room"].as_str().unwrap_or_default());
        let number = message["data"]["n"].as_u64().unwrap_or_default();
        match message["event"].as_str().unwrap_or_default() {
            DIRECT => {
                if !message["room"].is_null() || self.phase == Phase::Greeting {
                    oracle.fail("direct", || format!("client {who} got {message}"));
                }
                oracle.direct_came(self.link.unwrap_or_default(), number, who);
            }
            TICK => match self.granted.get_mut(room) {
                Some(last) if *last < number => *last = number,
                last => oracle.fail("membership", || {
                    format!("client {who} got {number} of {room} behind {last:?}")
                }),
            },
            "channel.subscribed" => {
                if self.granted.insert(room.to_owned(), 0).is_some() {
                    oracle.fail("heard", || format!("client {who} came to {room} twice"));
                }
            }
            "channel.withdrawn" => {
                if self.granted.remove(room).is_none() {
                    oracle.fail("heard", || format!("client {who} was not in {room}"));
                }
            }
            "channel.gap" => {
                let channel = message["data"]["channel"].as_str().unwrap_or_default();
                return self.granted.contains_key(channel);
            }
            "session.closing" => {
                if message["data"]["retry"] != "never" {
                    oracle.fail("content", || format!("client {who} got {message}"));
                }
            }
            _ => return false,
        }
        true
    }
}
