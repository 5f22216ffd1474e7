//! Reads the configuration, listens, and stops when it is told to.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use gateway::config::Config;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A reverse proxy with a limit for each client, retries within a budget, hedges, and a breaker for
/// each upstream.
#[derive(Parser)]
struct Cli {
    /// The configuration.
    #[arg(long, env = "GATEWAY_CONFIG")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let config = Config::read(&Cli::parse().config)?;
    let service = gateway::router(&config)?.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
        .context("serving")
}
