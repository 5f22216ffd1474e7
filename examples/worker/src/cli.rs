//! What it is told, by options or by the environment.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use buttress_outbox::webhook::Secret;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{database::Database, sink, worker};

/// Delivers what a service wrote down, and goes on with what it began.
#[derive(Parser)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl fmt::Debug for Cli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it is told holds secrets.
        f.debug_struct("Cli").finish_non_exhaustive()
    }
}

#[derive(Subcommand)]
enum Command {
    /// Relays messages and runs sagas until it is told to stop.
    Run(RunArgs),
    /// Writes orders, as the service would that this worker stands beside.
    Place(PlaceArgs),
    /// Stands for what is on the other side: takes webhooks, charges and shipments, and says so.
    Sink(SinkArgs),
}

#[derive(Args)]
struct DatabaseArgs {
    /// postgres: Holds a password, so pass it by the environment.
    #[arg(long, env = "WORKER_DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

/// What `run` is told.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Where health and metrics are asked for.
    #[arg(long, env = "WORKER_LISTEN", default_value = "127.0.0.1:9090")]
    pub(crate) listen: SocketAddr,
    /// Where webhooks go.
    #[arg(long, env = "WORKER_WEBHOOK_URL")]
    pub(crate) webhook_url: String,
    /// With what they are signed: whsec_…
    #[arg(long, env = "WORKER_WEBHOOK_SECRET", hide_env_values = true)]
    pub(crate) webhook_secret: String,
    /// Lets webhooks go to addresses that are not public, and in clear text: within a cluster.
    #[arg(long, env = "WORKER_WEBHOOK_PRIVATE")]
    pub(crate) webhook_private: bool,
    /// Where charges and shipments are asked for.
    #[arg(long, env = "WORKER_API_URL")]
    pub(crate) api_url: String,
    /// redis: Where workers tell each other that the service behind is down; each alone without it.
    #[arg(long, env = "WORKER_REDIS_URL", hide_env_values = true)]
    pub(crate) redis_url: Option<String>,
    /// How many sagas it runs at once.
    #[arg(long, env = "WORKER_SAGAS", default_value_t = 64)]
    pub(crate) sagas: usize,
}

#[derive(Args)]
struct PlaceArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How many.
    #[arg(long, default_value_t = 10)]
    orders: u32,
}

#[derive(Args)]
struct SinkArgs {
    #[arg(long, env = "WORKER_LISTEN", default_value = "127.0.0.1:9091")]
    listen: SocketAddr,
    /// With what webhooks are signed.
    #[arg(long, env = "WORKER_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: String,
}

impl Cli {
    /// Does what it was told.
    ///
    /// # Errors
    ///
    /// Something in it cannot work, or the database cannot be prepared.
    pub async fn run(self) -> anyhow::Result<()> {
        let stop = stop()?;
        match self.command {
            Command::Run(args) => {
                let database = Database::connect(&args.database.database_url).await?;
                worker::run(&args, &Arc::new(database), stop).await
            }
            Command::Place(args) => {
                let database = Database::connect(&args.database.database_url).await?;
                for _ in 0..args.orders {
                    let id = database.place(1999).await?;
                    tracing::info!(order = %id, "placed");
                }
                Ok(())
            }
            Command::Sink(args) => {
                let secret = secret(&args.webhook_secret)?;
                sink::serve(args.listen, secret, stop).await
            }
        }
    }
}

/// The secret of webhooks. The error says nothing of what it was.
pub(crate) fn secret(text: &str) -> anyhow::Result<Secret> {
    Secret::parse(text).context("WORKER_WEBHOOK_SECRET is no secret")
}

/// Cancelled by SIGTERM, as a container is stopped, and by Ctrl-C.
fn stop() -> anyhow::Result<CancellationToken> {
    let (stop, told) = (CancellationToken::new(), CancellationToken::clone);
    let told = told(&stop);
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
