//! A job service on axum whose clients watch the progress live: axum has the port, this server the WebSocket connections.
//!
//! Run it, then: `curl -X POST http://127.0.0.1:8080/jobs/42`, `wscat -c ws://127.0.0.1:8080/live` and type
//! `{"type":"request","event":"subscribe","id":"1","data":{"channel":"job:42"}}`

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, Request, State},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use mahavishnu_tokio::{Handle, Server, hyper::upgrade};
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // It listens nowhere itself.
    let server = Server::builder().start().await?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let serving = serve(listener, server.handle(), Duration::from_secs(1));
    server.run_until(serving).await?;
    Ok(())
}

async fn serve(listener: TcpListener, handle: Handle, step: Duration) -> io::Result<()> {
    let router = Router::new()
        .route("/live", get(live))
        .route("/jobs/{job}", post(begin))
        .with_state((handle, step));
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
}

type Shared = State<(Handle, Duration)>;

async fn live(
    State((handle, _)): Shared,
    peer: ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    upgrade(&handle, request, Some(peer.0)).await.map(Body::from)
}

async fn begin(State((handle, step)): Shared, Path(job): Path<u32>) -> StatusCode {
    tokio::spawn(async move {
        let channel = format!("job:{job}");
        for percent in (0..=100).step_by(25) {
            let data = json!({ "job": job, "percent": percent });
            if let Err(error) = handle.broadcast(&channel, "job.progress", &data).await {
                eprintln!("not told: {error}");
            }
            tokio::time::sleep(step).await;
        }
    });
    StatusCode::ACCEPTED
}

#[cfg(test)]
#[path = "../../driver/tests/beside/mod.rs"]
mod beside;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_watched_where_the_job_was_begun() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(Server::builder().start()).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = runtime.spawn(serve(listener, server.handle(), Duration::from_millis(5)));
        beside::watches_a_job(address, &server.handle());
        serving.abort();
        runtime.block_on(server.stop()).unwrap();
    }
}
