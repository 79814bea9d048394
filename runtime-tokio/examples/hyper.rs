//! A job service on hyper and tokio whose clients watch the progress live: hyper has the port, this server the WebSocket
//! connections. The same as `axum.rs` beside it; what differs is the router, which is written by hand here.
//!
//! Run it, then: `curl -X POST http://127.0.0.1:8080/jobs/42`, `wscat -c ws://127.0.0.1:8080/live` and type
//! `{"type":"request","event":"subscribe","id":"1","data":{"channel":"job:42"}}`

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use mahavishnu_tokio::{Handle, Server, bytes::Bytes, hyper::upgrade};
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
    loop {
        let (stream, peer) = listener.accept().await?;
        let handle = handle.clone();
        let service = service_fn(move |request| route(handle.clone(), step, peer, request));
        let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client that goes away is none of ours.
        tokio::spawn(async { drop(serving.with_upgrades().await) });
    }
}

async fn route(
    handle: Handle,
    step: Duration,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let job = path.strip_prefix("/jobs/").and_then(|job| job.parse().ok());
    let response = match (request.method(), job) {
        (&Method::GET, None) if path == "/live" => upgrade(&handle, request, Some(peer)).await,
        (&Method::POST, Some(job)) => begin(handle, step, job),
        _ => status(StatusCode::NOT_FOUND),
    };
    Ok(response.map(Full::new))
}

fn begin(handle: Handle, step: Duration, job: u32) -> Response<Bytes> {
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
    status(StatusCode::ACCEPTED)
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
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
