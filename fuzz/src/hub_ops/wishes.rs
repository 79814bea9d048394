//! What scripts ask of logs: positions, recovery, the last messages, history.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Where channels stood, as far as any client was told: epoch and offset.
pub(super) type Positions = BTreeMap<String, (String, u64)>;

/// `data` of a subscription. How it is asked for follows from the number of the channel; the first four rounds of numbers ask
/// for nothing, as scripts from before do.
pub(super) fn subscription(which: u8, channel: &str, positions: &Positions) -> Value {
    let round = usize::from(which) / super::rig::CHANNELS.len();
    if round < 4 {
        return json!({ "channel": channel });
    }
    let mut data = json!({ "channel": channel, "positions": true, "strict": round % 7 == 3 });
    match (round % 4, positions.get(channel)) {
        (0, _) => data["rewind"] = json!(round),
        (1 | 2, Some((epoch, offset))) => {
            let offset = (offset + u64::from(round % 5 == 4)).saturating_sub(round as u64 % 6);
            data["recover"] = json!({ "epoch": epoch, "offset": offset });
            if round.is_multiple_of(3) {
                data["rewind"] = json!(3);
            }
        }
        (1, None) => data["recover"] = json!({ "epoch": "0000000000", "offset": round }),
        _ => {}
    }
    if data["recover"].is_null() {
        data["strict"] = json!(false);
    }
    data
}

/// `data` of a request for history, if the number asks for that.
pub(super) fn history(which: u8, channel: &str, positions: &Positions) -> Option<Value> {
    let round = u64::from(which) / super::rig::CHANNELS.len() as u64;
    let mut data = match round {
        0..25 => return None,
        _ => json!({ "channel": channel }),
    };
    if round.is_multiple_of(2) {
        data["limit"] = json!(round % 7);
    }
    match (round % 3, positions.get(channel)) {
        (0, Some((epoch, offset))) => {
            let offset = offset.saturating_sub(round % 5);
            data["after"] = json!({ "epoch": epoch, "offset": offset });
        }
        (1, _) => data["before"] = json!(round % 9),
        _ => {}
    }
    Some(data)
}

/// The same over HTTP.
pub(super) fn get_history(which: u8, channel: &str, positions: &Positions) -> String {
    let data = history(which, channel, positions).unwrap_or_default();
    let mut path = format!("/history?channel={channel}");
    if let Some(limit) = data["limit"].as_u64() {
        path += &format!("&limit={limit}");
    }
    if let Some(before) = data["before"].as_u64() {
        path += &format!("&before={before}");
    }
    if let (Some(epoch), Some(after)) =
        (data["after"]["epoch"].as_str(), data["after"]["offset"].as_u64())
    {
        path += &format!("&epoch={epoch}&after={after}");
    }
    path
}
