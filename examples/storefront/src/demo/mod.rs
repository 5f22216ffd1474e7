//! The demonstration: a shop on a fresh database, customers, and services that break on purpose.

mod customers;
mod fleet;
mod invariants;
mod report;
mod scenes;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use buttress_outbox::webhook::Secret;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::{customers::Customers, scenes::Scene};
use crate::{
    repository,
    storefront::{Config, Storefront},
};

/// How long the shop may take to settle every order once the services behind it answer again.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// An empty database to use instead of a temporary SQLite file: sqlite:, postgres: or mysql:. One in which there are
    /// orders is refused. What the demonstration writes stays.
    #[arg(long, env = "STOREFRONT_DEMO_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Start so many instances as processes of their own, and break them too: kill, stop, cut off
    /// from their stores.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    instances: Option<u8>,
    /// The Redis of the instances. Its connections are cut; without it, a Redis of the
    /// demonstration's own is killed and restarted, where redis-server is installed.
    #[arg(
        long,
        env = "STOREFRONT_DEMO_REDIS_URL",
        hide_env_values = true,
        requires = "instances"
    )]
    redis_url: Option<String>,
    /// How many seconds things are broken with several instances.
    #[arg(long, default_value_t = 60, requires = "instances", value_parser = clap::value_parser!(u32).range(4..=86_400))]
    seconds: u32,
    /// Repeats the choices of a run with several instances that has told its seed.
    #[arg(long, requires = "instances")]
    seed: Option<u64>,
}

/// Plays all scenes, prints what happened, and fails unless every invariant held.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let database_url = args
        .database_url
        .unwrap_or_else(|| format!("sqlite://{}", folder.path().join("demo.db").display()));
    if repository::has_orders(&database_url).await? {
        bail!("there are orders in this database; the demonstration wants an empty one");
    }
    let Some(instances) = args.instances else {
        return alone(database_url).await;
    };
    let plan = fleet::Plan {
        instances: instances.into(),
        database_url,
        redis_url: args.redis_url,
        time: Duration::from_secs(args.seconds.into()),
        seed: args.seed.unwrap_or_else(rand::random),
    };
    fleet::run(plan, folder).await
}

/// One instance in this process, and the services behind it.
async fn alone(database_url: String) -> anyhow::Result<ExitCode> {
    let storefront = Storefront::start(Config {
        listen: ([127, 0, 0, 1], 0).into(),
        database_url,
        redis_url: None,
        nats_url: None,
        order_rate: scenes::ORDER_RATE,
        drain: Duration::ZERO,
        faults: true,
        webhook_secret: Secret::generate(),
    })
    .await?;

    let customers = Customers::new(storefront.address().into())?;
    let scenes = Scene::all();
    let bar = progress_bar(scenes.iter().map(Scene::requests).sum());
    let mut told = Vec::new();
    for scene in &scenes {
        bar.set_message(scene.title);
        told.push(scene.play(&customers, storefront.registry(), &bar).await?);
    }
    bar.set_message("healed; every order is to be settled");
    customers.heal().await?;
    let settled = customers.wait_until_settled(SETTLED_WITHIN).await?;
    let told_of = customers.wait_until_told(SETTLED_WITHIN).await?;
    bar.finish_and_clear();

    let checks = invariants::check(&customers, &told, settled, told_of).await?;
    let held = checks.iter().all(|check| check.held);
    report::print(&told, &customers.orders().await?, &checks)?;
    storefront.stop().await;
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// On standard error, and only on a terminal: the library sees to both.
fn progress_bar(requests: u64) -> ProgressBar {
    let bar = ProgressBar::new(requests);
    // The template is a constant, and a bar without its own style is a bar all the same.
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos:>4}/{len} {elapsed:>4}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
