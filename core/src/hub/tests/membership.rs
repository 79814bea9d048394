//! Membership under any order of events, against a plain model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Connect { shard: usize },
    Subscribe { client: usize, channel: u8 },
    Unsubscribe { client: usize, channel: u8 },
    HangUp { client: usize },
    Publish { shard: usize, channel: u8 },
}

fn step(shards: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..shards).prop_map(|shard| Step::Connect { shard }),
        4 => (0usize..8, 0u8..5).prop_map(|(client, channel)| Step::Subscribe { client, channel }),
        3 => (0usize..8, 0u8..5).prop_map(|(client, channel)| Step::Unsubscribe { client, channel }),
        1 => (0usize..8).prop_map(|client| Step::HangUp { client }),
        4 => (0..shards, 0u8..5).prop_map(|(shard, channel)| Step::Publish { shard, channel }),
    ]
}

/// A client, its channels and what it must get.
type Modelled = (Client, BTreeSet<u8>, Vec<u64>);

/// Every subscriber in the model, and nobody else, gets each message once and in order.
fn agree(shards: u16, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(shards, unlimited());
    let mut clients: Vec<Option<Modelled>> = Vec::new();
    let mut next = 0;
    for step in steps {
        match step {
            Step::Connect { shard } if clients.len() < 8 => {
                clients.push(Some((rig.connect(shard), BTreeSet::new(), Vec::new())));
            }
            Step::Connect { .. } => {}
            Step::Subscribe { client, channel } | Step::Unsubscribe { client, channel } => {
                let on = matches!(step, Step::Subscribe { .. });
                let Some(Some((client, channels, _))) = clients.get_mut(client) else { continue };
                let event = if on { "subscribe" } else { "unsubscribe" };
                rig.send(client, &json!({"type": "request", "event": event, "data": {"channel": channel.to_string()}}));
                if on {
                    channels.insert(channel);
                } else {
                    channels.remove(&channel);
                }
            }
            Step::HangUp { client } => {
                let Some(slot) = clients.get_mut(client) else { continue };
                let Some((client, _, expected)) = slot.take() else { continue };
                prop_assert_eq!(client.take_numbers(), expected);
                rig.hang_up(&client);
                prop_assert!(client.is_closed());
            }
            Step::Publish { shard, channel } => {
                next += 1;
                rig.publish(shard, &channel.to_string(), next);
                rig.run();
                for (_, channels, expected) in clients.iter_mut().flatten() {
                    if channels.contains(&channel) {
                        expected.push(next);
                    }
                }
            }
        }
    }
    for slot in &mut clients {
        if let Some((client, _, expected)) = slot.take() {
            prop_assert_eq!(client.take_numbers(), expected);
            rig.hang_up(&client);
        }
    }
    rig.assert_empty();
    Ok(())
}

proptest! {
    #[test]
    fn one_hub_agrees_with_the_model(steps in prop::collection::vec(step(1), 1..80)) {
        agree(1, steps)?;
    }

    #[test]
    fn three_hubs_agree_with_the_model(steps in prop::collection::vec(step(3), 1..80)) {
        agree(3, steps)?;
    }
}
