//! Reads what it is told, and does it.

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use worker::cli::Cli;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Cli::parse().run().await
}
