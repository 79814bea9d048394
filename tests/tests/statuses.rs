//! The family's requests for the status of a thing, answered from documents: by one server and by another node.

use mahavishnu_tests::{Client, Cluster, Server, token, token::SECRET};
use serde_json::{Value, json};

const REQUESTS: (&str, &str) = (
    "STATUS_REQUESTS",
    "get_workflow_status=workflow:{workflow_id},get_pool_status=pool:{pool_id}",
);

fn pool(client: &mut Client) -> Value {
    client.request("get_pool_status", json!({ "pool_id": "7" }))
}

fn publish(client: &mut Client, state: &Value) {
    let data = json!({ "channel": "pool:7", "event": "pool.status_changed", "state": state });
    assert_eq!(client.request("publish", data)["data"]["status"], "published");
}

#[test]
fn another_node_knows_the_status() {
    let cluster = Cluster::start(2, &[REQUESTS]);
    let [mut one, mut other] = [0, 1].map(|node| cluster.nodes[node].hello());
    assert_eq!(pool(&mut other)["data"], json!({ "pool_id": "7", "status": "not_found" }));
    for workers in [json!([]), json!(["w1"])] {
        let state = json!({ "status": "active", "workers": workers });
        publish(&mut one, &state);
        let expected = json!({ "pool_id": "7", "status": "active", "workers": workers });
        // It hears of a publish from Redis, in its own time.
        mahavishnu_tests::wait::until("the status", || {
            (pool(&mut other)["data"] == expected).then_some(())
        });
        assert_eq!(pool(&mut one)["data"], expected);
    }
}

#[test]
fn a_status_is_for_who_may_subscribe_and_a_reload_switches_it_on() {
    let auth = [("AUTH_ENABLED", "true"), ("JWT_SECRET", SECRET)];
    let server = Server::with_file(&auth, "");
    let mut reader = server.login(&token::of("ada", &["pool:read"]));
    assert_eq!(pool(&mut reader)["error_code"], "UNKNOWN_REQUEST", "as ever");
    server.reload(&format!("MAHAVISHNU_{}={}\n", REQUESTS.0, REQUESTS.1));
    assert_eq!(pool(&mut reader)["data"]["status"], "not_found");
    let mut root = server.login(&token::of("root", &["admin"]));
    publish(&mut root, &json!({ "status": "active" }));
    assert_eq!(pool(&mut reader)["data"], json!({ "pool_id": "7", "status": "active" }));
    let mut stranger = server.login(&token::of("eve", &["workflow:read"]));
    assert_eq!(pool(&mut stranger)["error_code"], "FORBIDDEN");
}
