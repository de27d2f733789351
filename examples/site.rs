//! Serves the fixture site until interrupted, for trying Pagebox by hand:
//! `cargo run --example site`, then `pagebox serve --host-loopback PORT`.

#[path = "../tests/common/site.rs"]
#[allow(
    dead_code,
    reason = "each user of the fixture site needs another part of it"
)]
mod site;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let site = site::Site::start().await?;
    println!("fixture site on {}", site.url("/"));
    tokio::signal::ctrl_c().await
}
