//! The demonstration: a shop on a fresh database, customers, and services that break on purpose.

mod customers;
mod invariants;
mod report;
mod scenes;

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use buttress_outbox::webhook::Secret;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::{customers::Customers, scenes::Scene};
use crate::storefront::{Config, Storefront};

/// How long the shop may take to settle every order once the services behind it answer again.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// A fresh PostgreSQL database to use instead of a temporary SQLite file. Its rows stay.
    #[arg(long, env = "STOREFRONT_DEMO_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

/// Plays all scenes, prints what happened, and fails unless every invariant held.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let database_url = args
        .database_url
        .unwrap_or_else(|| format!("sqlite://{}", folder.path().join("demo.db").display()));
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

    let customers = Customers::new(storefront.address())?;
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
