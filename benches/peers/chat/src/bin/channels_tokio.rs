//! Channels on this library's adapter for tokio, as it is without an application's own requests.

use mahavishnu_bench_peers::{Options, Result};
use mahavishnu_tokio::{Server, core::config::Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut config = Config::default();
    config.limits.connections.messages_per_second = None;
    let builder = Server::builder().listen(format!("127.0.0.1:{}", options.port)).config(config);
    builder.start().await?.run_until(std::future::pending::<()>()).await?;
    Ok(())
}
