//! A server inside another program: broadcasts once a second and answers a request of its own.
//!
//! Run it, then: `wscat -c ws://127.0.0.1:8686` and type
//! `{"type":"request","event":"subscribe","id":"1","data":{"channel":"workflow:42"}}`

use std::time::Duration;

use mahavishnu_tokio::{RequestResult, Server};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .listen("127.0.0.1:8686")
        .on_request("get_pool_status", |request| async move {
            RequestResult::Ok(json!({ "pool_id": request.data.get("pool_id"), "status": "idle" }))
        })
        .authorize_subscribe(|wish| async move { !wish.channel.starts_with("secret:") })
        .on_disconnect(|_, reason| eprintln!("a client left: {}", reason.name()))
        .start()
        .await?;
    let handle = server.handle();
    let work = async {
        for stage in 1..=600 {
            let data = json!({ "workflow_id": "42", "stage_name": format!("stage {stage}") });
            let done = handle.broadcast("workflow:42", "workflow.stage_completed", &data).await;
            if let Err(error) = done {
                eprintln!("not broadcast: {error}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    // Serves until the work is done, and says so if it cannot go on.
    server.run_until(work).await?;
    Ok(())
}
