//! What it is told, by options or by the environment.

use std::{fmt, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    commands::Shop, database::Database, demo, projector, queries::Queries, rebuild,
    traffic::Traffic,
};

/// Orders that are written as rows, told as events, and read from tables that follow.
#[derive(Parser)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl fmt::Debug for Cli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it is told holds a password.
        f.debug_struct("Cli").finish_non_exhaustive()
    }
}

#[derive(Subcommand)]
enum Command {
    /// Gives commands while projectors are killed and the read model is built anew; fails unless
    /// it comes to what the commands come to.
    Demo(DemoArgs),
    /// Gives commands, and ends.
    Sell(SellArgs),
    /// Applies events to the read model until it is told to stop.
    Project(DatabaseArgs),
    /// Builds the read model anew, and ends.
    Rebuild(DatabaseArgs),
    /// Shows the read model, and how far it is behind.
    Show(DatabaseArgs),
}

#[derive(Args)]
struct DatabaseArgs {
    /// sqlite: or postgres: Holds a password, so pass it by the environment.
    #[arg(long, env = demo::URL, hide_env_values = true)]
    database_url: String,
}

impl DatabaseArgs {
    async fn connect(&self) -> anyhow::Result<Database> {
        Database::connect(&self.database_url).await
    }
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// A fresh database to use instead of a temporary SQLite file. Its rows stay.
    #[arg(long, env = demo::URL, hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// How many commands.
    #[arg(long, default_value_t = 600)]
    pub(crate) commands: u64,
}

#[derive(Args)]
struct SellArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How many.
    #[arg(long, default_value_t = 100)]
    commands: u64,
}

impl Cli {
    /// Does what it was told.
    ///
    /// # Errors
    ///
    /// The database is not there, or something in it is not as it must be.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Demo(args) => return demo::run(&args).await,
            Command::Sell(args) => {
                let mut traffic = Traffic::new(Shop::new(args.database.connect().await?));
                for _ in 0..args.commands {
                    traffic.command().await?;
                }
            }
            Command::Project(args) => {
                let mut terminate = signal(SignalKind::terminate()).context("signals")?;
                let stop = async move {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = tokio::signal::ctrl_c() => {}
                    }
                };
                projector::run(&args.connect().await?, stop).await?;
            }
            Command::Rebuild(args) => {
                let rebuilt = rebuild::rebuild(&args.connect().await?).await?;
                demo::report::rebuilt(&rebuilt)?;
            }
            Command::Show(args) => {
                let queries = Queries::new(args.connect().await?);
                demo::report::shown(&queries.customers().await?, queries.lag().await?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
