//! The demonstration with several instances: processes that are killed and stopped, stores that are
//! cut off, services that fail, and customers who go on meanwhile.

mod checks;
mod crowd;
mod freshness;
mod instances;
mod scenes;
mod stores;

use std::{
    io::Write as _,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use buttress_core::Clock;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

use self::{
    crowd::{Crowd, Saw},
    instances::Instances,
    scenes::{Breaker, Rated, Scene},
    stores::Stores,
};
use super::{
    SETTLED_WITHIN,
    customers::{Addresses, Customers},
    invariants::Check,
    report,
};

/// How many orders a second one customer may place: so few that a slow machine, too, is too fast.
const ORDER_RATE: u32 = 3;

/// What the user chose.
pub(super) struct Plan {
    pub(super) instances: usize,
    pub(super) database_url: String,
    pub(super) redis_url: Option<String>,
    /// How long things are broken, in all.
    pub(super) time: Duration,
    pub(super) seed: u64,
}

/// Plays all scenes with several instances, and prints what happened. The logs of the instances
/// stay in the folder if something was broken.
pub(super) async fn run(plan: Plan, folder: TempDir) -> anyhow::Result<ExitCode> {
    let redis_url = plan.redis_url.as_deref();
    let (stores, places) = Stores::new(plan.instances, &plan.database_url, redis_url).await?;
    let stores = Arc::new(stores);
    let addresses = Addresses::of(plan.instances);
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).context("no folder for logs")?;
    let instances = Instances::new(&logs, places, addresses.clone())?;
    // All at once, as a first roll-out does.
    let starts = (0..instances.count()).map(|number| instances.start(number, true));
    futures_util::future::try_join_all(starts).await?;

    let customers = Arc::new(Customers::new(addresses)?);
    // Before any order, so that the starting stock is known.
    customers.set_stock("p40", 3).await?;
    let crowd = Crowd::new(Arc::clone(&customers), Arc::clone(&stores));
    let mut rng = StdRng::seed_from_u64(plan.seed);
    crowd.begin(&mut rng);
    let mut breaker = Breaker {
        instances: &instances,
        stores: &stores,
        crowd: &crowd,
        rng: StdRng::seed_from_u64(rng.random()),
        clock: Clock::tokio(),
        rated: Rated::default(),
    };
    let scenes = Scene::all(&stores);
    let each = plan.time / u32::try_from(scenes.len()).unwrap_or(u32::MAX);
    let bar = progress_bar(scenes.len());
    for (number, scene) in scenes.iter().enumerate() {
        bar.set_message(scene.title());
        crowd.scene(number);
        breaker.play(*scene, each).await?;
        breaker.heal().await?;
        bar.inc(1);
    }
    bar.set_message("healed; every order is to be settled");
    let rated = breaker.rated;
    crowd.end().await;
    let settled = customers.wait_until_settled(SETTLED_WITHIN).await?;
    let told_of = customers.wait_until_told(SETTLED_WITHIN).await?;
    bar.finish_and_clear();

    let checks = checks::check(&crowd, &instances, rated, (settled, told_of)).await?;
    let held = checks.iter().all(|check| check.held);
    print(&plan, (&scenes, &crowd), &instances, &checks).await?;
    for number in 0..instances.count() {
        instances.kill(number).await;
    }
    if held {
        return Ok(ExitCode::SUCCESS);
    }
    let kept = folder.keep();
    let mut out = std::io::stdout().lock();
    writeln!(out, "The logs of the instances are in {}", kept.display())?;
    Ok(ExitCode::FAILURE)
}

async fn print(
    plan: &Plan,
    (scenes, crowd): (&[Scene], &Crowd),
    instances: &Instances,
    checks: &[Check],
) -> anyhow::Result<()> {
    let orders = crowd.customers.orders().await?;
    let mut saw = report::table(&[
        "while",
        "orders",
        "no answer",
        "replays",
        "changes",
        "reads",
    ]);
    for (number, scene) in scenes.iter().enumerate() {
        let Saw {
            orders,
            unanswered,
            replayed,
            changes,
            reads,
        } = crowd.saw(number);
        let orders = orders
            .iter()
            .map(|(status, count)| format!("{count} × {status}"));
        saw.add_row([
            scene.title().to_owned(),
            orders.collect::<Vec<_>>().join(", "),
            unanswered.to_string(),
            replayed.to_string(),
            changes.to_string(),
            reads.to_string(),
        ]);
    }
    let (seen, done) = (instances.seen(), &crowd.stores.done);
    let scheme = plan.database_url.split(':').next().unwrap_or_default();
    let database = if crowd.stores.has_network() {
        "its connections are cut"
    } else {
        "a file: nothing to cut"
    };
    let mut broken = report::table(&["what was done", "times"]);
    for (what, times) in [
        ("an instance was killed", seen.killed),
        ("an instance was stopped", seen.stopped),
        (
            "a line to the database was disturbed",
            done.database.load(Ordering::Relaxed),
        ),
        (
            "a line to Redis was disturbed",
            done.redis.load(Ordering::Relaxed),
        ),
        (
            "Redis was killed",
            done.redis_restarts.load(Ordering::Relaxed),
        ),
    ] {
        broken.add_row([what.to_owned(), times.to_string()]);
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\n{} instances; {scheme}, {database}; Redis: {}",
        plan.instances,
        crowd.stores.redis_is()
    )?;
    writeln!(out, "\nWhat the customers saw\n{saw}")?;
    writeln!(out, "\nWhat was broken\n{broken}")?;
    writeln!(
        out,
        "\nWhat became of their orders\n{}",
        report::ends(&orders)
    )?;
    writeln!(out, "\nWhat must hold\n{}", report::held(checks))?;
    writeln!(
        out,
        "\n{} The choices were those of --seed {}",
        report::verdict(checks),
        plan.seed
    )?;
    Ok(())
}

/// On standard error, and only on a terminal: the library sees to both.
fn progress_bar(scenes: usize) -> ProgressBar {
    let bar = ProgressBar::new(scenes as u64);
    // The template is a constant, and a bar without its own style is a bar all the same.
    if let Ok(style) = ProgressStyle::with_template("{bar:16} {pos}/{len} {elapsed:>4}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
