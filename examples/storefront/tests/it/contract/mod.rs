//! The contract, sentence by sentence, by a client that knows nothing but the page: on each database, alone and as
//! several instances with Redis, which it asks in turn.
//!
//! A check is named for what the page says. Each constellation is started once; in the end an instance of it is
//! killed, replaced, and told to stop.

mod client;
mod dashboard;
mod faults;
mod invariants;
mod life;
mod orders;
mod products;
mod queries;
mod refusals;
mod shapes;
mod told;

use std::panic::AssertUnwindSafe;

use buttress_testkit::{left_out::LeftOut, redis};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{LocalBoxFuture, join_all},
    stream,
};
use tokio::sync::Mutex;

use self::life::Constellation;
use crate::shop::Database;

#[tokio::test]
async fn the_contract_is_kept_alone_on_each_database() {
    let mut each = vec![Constellation::in_a_folder("SQLite")];
    let servers = Database::servers().await.into_iter();
    each.extend(servers.map(|database| match database {
        Database::Postgres(_) => Constellation::on("PostgreSQL", database, 1, None),
        _ => Constellation::on("MariaDB", database, 1, None),
    }));
    join_all(each.into_iter().map(keeps_the_contract)).await;
}

#[tokio::test]
async fn the_contract_is_kept_by_several_instances_with_redis_on_each_database() {
    if let Err(missing) = redis::find() {
        LeftOut::new("several instances with Redis", missing.to_string()).register();
        return;
    }
    // One for each: a shop's keys are the same in all of them.
    let each = Database::each().await.into_iter().map(|database| {
        let redis = Some(redis::Server::start().unwrap());
        match database {
            Database::Sqlite(_) => Constellation::on("SQLite x2", database, 2, redis),
            Database::Postgres(_) => Constellation::on("PostgreSQL x3", database, 3, redis),
            Database::MySql(_) => Constellation::on("MariaDB x2", database, 2, redis),
        }
    });
    let each: Vec<_> = each.collect();
    join_all(each.into_iter().map(keeps_the_contract)).await;
}

/// While nothing is broken everything is in a hurry, and there are as many instances as a machine has to bear: one
/// constellation at a time. What is broken is mostly waited for.
static IN_A_HURRY: Mutex<()> = Mutex::const_new(());

async fn keeps_the_contract(constellation: Constellation) {
    let hurry = IN_A_HURRY.lock().await;
    let (mut running, shop) = constellation.start().await;
    let mut broken = run(products::at_first(&shop)).await;
    // No check is alone in the shop.
    let quiet = [
        shapes::all(&shop),
        refusals::all(&shop),
        queries::all(&shop),
        products::all(&shop),
        orders::all(&shop),
        told::all(&shop),
    ];
    broken.extend(run(quiet.into_iter().flatten().collect()).await);
    drop(hurry);
    broken.extend(run(faults::all(&shop)).await);
    if running.shares_redis() {
        broken.extend(run(dashboard::all(&shop)).await);
    }
    let shop = running.is_killed_replaced_and_told_to_stop(&shop).await;
    broken.extend(run(invariants::all(&shop)).await);
    assert!(broken.is_empty(), "{}: {broken:#?}", shop.name);
    running.close().await;
}

/// What the page says, and how it is looked at.
type Checks<'a> = Vec<(&'static str, LocalBoxFuture<'a, ()>)>;

/// The checks of these names, of that shop.
macro_rules! checks {
    ($shop:expr; $($check:ident),* $(,)?) => {
        vec![$((stringify!($check), futures_util::FutureExt::boxed_local($check($shop)))),*]
    };
}
use checks;

/// A few side by side. One that fails says so, and the others go on; gives the names of those that failed.
async fn run(checks: Checks<'_>) -> Vec<&'static str> {
    let each = checks.into_iter().map(|(name, check)| async move {
        let kept = AssertUnwindSafe(check).catch_unwind().await;
        kept.err().map(|_| name)
    });
    let broken = stream::iter(each).buffer_unordered(4);
    broken.filter_map(async |name| name).collect().await
}
