//! The command line, and the environment that may stand in for it.

use std::{env::VarError, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context;
use buttress_outbox::webhook::Secret;
use clap::{Args, Parser, Subcommand, builder::BoolishValueParser};
use tokio_util::sync::CancellationToken;

use crate::{
    demo,
    service::OrderRate,
    storefront::{Config, Storefront},
    telemetry,
};

/// Where the secret of the webhooks stands, if it is not to be a new one.
const WEBHOOK_SECRET: &str = "STOREFRONT_WEBHOOK_SECRET";

/// A small shop behind HTTP, made of the Buttress crates.
#[derive(Debug, Parser)]
#[command(name = "storefront", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Starts the shop on a fresh database, breaks the services behind it, and shows what happened.
    Demo(demo::DemoArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "STOREFRONT_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// sqlite: and a path (created when missing), postgres: or mysql:. Holds a password? Then pass it by
    /// the environment, where other users cannot read it.
    #[arg(
        long,
        env = "STOREFRONT_DATABASE_URL",
        default_value = "sqlite://storefront.db",
        hide_env_values = true
    )]
    database_url: String,
    /// redis: and a host. With it several instances share the rates of their clients and what
    /// their breakers see; while it is away each goes by its own.
    #[arg(long, env = "STOREFRONT_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// nats: and a host, with JetStream. With it events go to the subscriber through a stream, and
    /// without it straight to it; while NATS is away they wait in the outbox.
    #[arg(long, env = "STOREFRONT_NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// Send traces to the OpenTelemetry collector there (`http://127.0.0.1:4318`, say), by OTLP over
    /// HTTP, as protobuf.
    #[arg(long, env = "STOREFRONT_OTLP", hide_env_values = true)]
    otlp: Option<String>,
    /// How many orders a second one client may place; twice as many at once.
    #[arg(
        long,
        env = "STOREFRONT_ORDER_RATE",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(OrderRate::HIGHEST))
    )]
    order_rate: u32,
    /// After a stop signal, answer 503 on /readyz for so many milliseconds before the listener
    /// closes.
    #[arg(long, env = "STOREFRONT_DRAIN_MS", default_value_t = 0)]
    drain_ms: u64,
    /// Mount POST /faults, by which anybody can break the services behind the shop.
    #[arg(long, env = "STOREFRONT_FAULTS", value_parser = BoolishValueParser::new())]
    faults: bool,
}

/// Runs the program. Exits with 0 after a graceful stop, and after a demo whose invariants held.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let (purpose, otlp) = match &cli.command {
        Command::Serve(args) => (false, args.otlp.clone()),
        Command::Demo(_) => (true, None),
    };
    let ended = telemetry::start(purpose, otlp.as_deref()).and_then(|exporting| {
        let ended = started(cli.command);
        // Last, and outside of the runtime: by then every span has ended.
        drop(exporting);
        ended
    });
    match ended {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = %buttress_core::Chain(error.as_ref()), "the storefront ends");
            ExitCode::FAILURE
        }
    }
}

fn started(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        Command::Serve(args) => runtime.block_on(serve(args)),
        Command::Demo(args) => runtime.block_on(demo::run(args)),
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    // Listened for from the beginning, so that a stop during the start is not missed.
    let signal = stop_signal()?;
    let config = Config {
        listen: args.listen,
        database_url: args.database_url,
        redis_url: args.redis_url,
        nats_url: args.nats_url,
        order_rate: args.order_rate,
        drain: Duration::from_millis(args.drain_ms),
        faults: args.faults,
        webhook_secret: webhook_secret()?,
    };
    let storefront = Storefront::start(config).await?;
    announce(storefront.address());
    signal.cancelled().await;
    tracing::info!("stopping");
    storefront.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The secret of the webhooks to the subscriber: from the environment alone, where other users
/// cannot read it. Without one each process makes its own, for its own subscriber.
fn webhook_secret() -> anyhow::Result<Secret> {
    match std::env::var(WEBHOOK_SECRET) {
        Ok(text) => Secret::parse(&text).with_context(|| format!("{WEBHOOK_SECRET} is no secret")),
        Err(VarError::NotPresent) => Ok(Secret::generate()),
        Err(VarError::NotUnicode(_)) => anyhow::bail!("{WEBHOOK_SECRET} is no secret"),
    }
}

/// The one line on standard output. Nobody may be reading it, and that is not our failure.
fn announce(address: SocketAddr) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
}

/// Cancelled by SIGTERM or Ctrl-C.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}
