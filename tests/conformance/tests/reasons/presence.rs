//! Who may not be in a channel, or not be told who is.

use mahavishnu_conformance::Backend;
use mahavishnu_core::reason::Reason;
use serde_json::json;

use super::is_error;
use crate::bodies::presence::rooms;

pub(crate) fn presence_off(backend: Backend, reason: Reason) {
    let rig = backend.start(rooms);
    let mut client = rig.hello();
    let watch = json!({ "channel": "pool:1", "presence": "watch" });
    is_error(&client.request("subscribe", watch), reason);
    rig.expect_error_counted(reason);
    is_error(&client.request("get_presence", json!({ "channel": "pool:1" })), reason);
}

pub(crate) fn presence_info(backend: Backend, reason: Reason) {
    let rig = backend.start(rooms);
    let mut client = rig.hello();
    let wish =
        |bytes| json!({ "channel": "room:1", "presence": { "info": { "x": "x".repeat(bytes) } } });
    is_error(&client.request("subscribe", wish(1_024)), reason);
    rig.expect_error_counted(reason);
    assert_eq!(client.request("subscribe", wish(1_000))["data"]["presence"]["count"], 1);
}

pub(crate) fn presence_full(backend: Backend, reason: Reason) {
    let rig = backend.start(|config| {
        rooms(config);
        config.limits.presence.presence_members_max = 1;
    });
    let wish = json!({ "channel": "room:1", "presence": true });
    let mut first = rig.hello();
    assert_eq!(first.request("subscribe", &wish)["data"]["status"], "subscribed");
    let mut second = rig.hello();
    is_error(&second.request("subscribe", &wish), reason);
    rig.expect_error_counted(reason);
    // It does not subscribe at all.
    assert_eq!(rig.broadcast("room:1", &json!({})), 1);
    first.unsubscribe("room:1");
    assert_eq!(second.request("subscribe", &wish)["data"]["status"], "subscribed");
}
